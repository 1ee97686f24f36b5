"""The arithmetic of docs/protocol.md once more, from its text and with other code: no line of it is smpcfl's.

What the files say is held against this and against the code, so that a mistake in one shows.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SHARE_PRIME = 2**256 + 297
FAILURE_PRIME = 2**61 - 1
Vector = tuple[list[int], list[int]]
"""Elements of the body and of the wide part."""


# -- section 2 ----------------------------------------------------------------------------------------


def canonical(domain: str, *items: Any) -> bytes:
    return b"".join(map(_item, ("smpcfl/v2/" + domain, *items)))


def _item(item: Any) -> bytes:
    if isinstance(item, bool | int):
        return b"i" + (int(item) % 2**72).to_bytes(9, "big")
    if isinstance(item, float):
        return struct.pack(">cd", b"f", item)
    if isinstance(item, list | tuple):
        return struct.pack(">cQ", b"l", len(item)) + b"".join(map(_item, item))
    tag, raw = (b"s", item.encode()) if isinstance(item, str) else (b"b", bytes(item))
    return struct.pack(">cQ", tag, len(raw)) + raw


def digest(domain: str, *items: Any) -> bytes:
    return hashlib.sha256(canonical(domain, *items)).digest()


def bitmap(members: Iterable[int], size: int) -> bytes:
    raw = bytearray(math.ceil(size / 8))
    for member in members:
        raw[member // 8] |= 1 << member % 8
    return bytes(raw)


# -- sections 6 and 8 ---------------------------------------------------------------------------------


def hkdf(material: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, 32 bytes: one block of output."""
    prk = hmac.digest(salt, material, "sha256")
    return hmac.digest(prk, info + b"\x01", "sha256")


def self_key(self_seed: bytes, ticket_digest: bytes, peer: str) -> bytes:
    return hkdf(self_seed, ticket_digest, canonical("self mask", peer))


def public_key(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def pair_key(private: bytes, public: bytes, ticket_digest: bytes, me: str, other: str) -> bytes:
    key = X25519PrivateKey.from_private_bytes(private)
    shared = key.exchange(X25519PublicKey.from_public_bytes(public))
    info = canonical("pair mask", min(me, other), max(me, other))
    return hkdf(shared, ticket_digest, info)


def commitment(self_seed: bytes, ticket_digest: bytes, peer: str) -> bytes:
    return digest("self commitment", ticket_digest, peer, self_seed)


def keystream(key: bytes, width: int, body: int, wide: int) -> Vector:
    """AES-256 of the counters 0, 1, 2 ..., each a block of 16 bytes big-endian."""
    size = body * width // 8 + wide * 8
    counters = b"".join(block.to_bytes(16, "big") for block in range(size // 16 + 1))
    cipher = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()
    return elements(cipher.update(counters)[:size], width, body)


def elements(raw: bytes, width: int, body: int) -> Vector:
    step, end = width // 8, body * width // 8
    return _read(raw[:end], step), _read(raw[end:], 8)


def _read(raw: bytes, size: int) -> list[int]:
    return [int.from_bytes(raw[at : at + size], "little") for at in range(0, len(raw), size)]


def joined(vector: Vector, width: int) -> bytes:
    body, wide = vector
    return b"".join(x.to_bytes(width // 8, "little") for x in body) + b"".join(
        x.to_bytes(8, "little") for x in wide
    )


def added(one: Vector, other: Vector, width: int, sign: int = 1) -> Vector:
    body = [(a + sign * b) % 2**width for a, b in zip(one[0], other[0], strict=True)]
    return body, [(a + sign * b) % 2**64 for a, b in zip(one[1], other[1], strict=True)]


# -- sharing --------------------------------------------------------------------------------------------


def drawn(entropy: bytes, size: int, prime: int) -> list[int]:
    parts = [entropy[at : at + size] for at in range(0, len(entropy), size)]
    return [int.from_bytes(part, "big") % prime for part in parts]


def polynomial(coefficients: Sequence[int], x: int, prime: int) -> int:
    return sum(c * pow(x, power, prime) for power, c in enumerate(coefficients)) % prime


def at_zero(points: Mapping[int, int], prime: int) -> int:
    total = 0
    for x, y in points.items():
        term = y
        for other in points:
            if other != x:
                term = term * other * pow(other - x, prime - 2, prime) % prime
        total += term
    return total % prime


def share_hash(kind: str, holder: int, share: bytes) -> bytes:
    return digest("share", kind, holder, share)


def leaf(self_hash: bytes, pair_hash: bytes) -> bytes:
    return digest("merkle leaf", self_hash, pair_hash)[:16]


def root(leaves: Sequence[bytes]) -> bytes:
    """From the top down: halves of a tree whose size is a power of two."""
    size = 1
    while size < len(leaves):
        size *= 2
    padded = list(leaves) + [digest("merkle empty")[:16]] * (size - len(leaves))
    if size == 1:
        return padded[0]
    return digest("merkle node", root(padded[: size // 2]), root(padded[size // 2 :]))[:16]


def climb(node: bytes, index: int, path: Sequence[bytes]) -> bytes:
    for height, sibling in enumerate(path):
        pair = (sibling, node) if index >> height & 1 else (node, sibling)
        node = digest("merkle node", *pair)[:16]
    return node


# -- sections 3 and 4 -----------------------------------------------------------------------------------


def span(width: int, cohort: int) -> int:
    return min(2 ** (width - 1) - 1 - cohort, 2**52)


FRACTION = {16: 16, 32: 32, 64: 8}


def single(value: float) -> float:
    """The nearest float32."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def quantised(
    one: Mapping[str, Any], update: list[float], examples: int, rounding: bytes, narrow: bool
) -> list[int]:
    """Of section 4; Python's floats are IEEE doubles as well. `narrow`: computed in float32."""
    width, fraction = one["width"], FRACTION[one["width"]]
    largest = max(map(abs, update), default=0.0)
    weight = min(examples, one["weight_cap"]) / (one["cohort"] * one["weight_cap"])
    scale = span(width, one["cohort"]) * weight / max(one["clip"], largest) * 2.0**fraction
    chance, _ = keystream(rounding, fraction, len(update), 0)
    nearest = single if narrow else float
    return [
        (round(nearest(x * nearest(scale))) + u >> fraction) % 2**width
        for x, u in zip(update, chance, strict=True)
    ]


def block(count: int) -> int:
    size = 1
    while 2 * size <= min(count / 32, 2**16):
        size *= 2
    return size


def _columns(values: list[float], size: int) -> list[list[float]]:
    """Of the matrix with `size` rows that has these row by row, each transformed."""
    wide = len(values) // size
    return [
        [
            sum(values[i * wide + k] * (-1) ** (i & j).bit_count() for i in range(size))
            for j in range(size)
        ]
        for k in range(wide)
    ]


def _flipped(values: list[float], key: bytes) -> list[float]:
    bits, _ = keystream(key, 8, -(-len(values) // 8), 0)
    return [-x if bits[i // 8] >> (i % 8) & 1 else x for i, x in enumerate(values)]


def rotated(one: Mapping[str, Any], update: list[float], clip: float) -> list[int]:
    """Of section 4, eight bits; only for updates that no step rounds."""
    size, cap, examples = block(len(update)), one["weight_cap"], one["examples"]
    weight = min(examples, cap) / (one["cohort"] * cap)
    rms = math.sqrt(sum(x * x for x in update) / len(update))
    shrink = min(1.0, clip / (8 * weight * rms)) if rms else 1.0
    scale = single(weight * 127 / clip / math.sqrt(size) * shrink)
    y = [single(x * scale) for x in update]
    y += [0.0] * (-len(y) % size)
    columns = _columns(_flipped(y, bytes.fromhex(one["signs"])), size)
    rows = [columns[k][j] for j in range(size) for k in range(len(columns))]
    chance, _ = keystream(bytes.fromhex(one["rounding"]), 16, len(rows), 0)
    return [(round(x * 2**16) + u >> 16) % 256 for x, u in zip(rows, chance, strict=True)]


def unrotated(
    one: Mapping[str, Any], total: list[int], count: int, weight: int, clip: float
) -> tuple[list[float], float]:
    """The mean, and the clip that fits, of three that contributed."""
    size = block(count)
    words = [float(two_s_complement(x, 8)) for x in total]
    columns = _columns(words, size)
    rows = [columns[k][j] for j in range(size) for k in range(len(columns))]
    per_weight = one["cohort"] * one["weight_cap"] / weight
    unit = clip / 127 * per_weight / math.sqrt(size)
    mean = [x * unit for x in _flipped(rows, bytes.fromhex(one["signs"]))[:count]]
    wide = len(words) // size
    loudest = max(
        math.sqrt(sum(words[i * wide + k] ** 2 for i in range(size)) / size) for k in range(wide)
    )
    return mean, 8 * loudest * clip / 127 * one["cohort"] / 3


def dequantised(one: Mapping[str, Any], total: list[int], weight: int) -> list[float]:
    unit = (
        one["clip"]
        / span(one["width"], one["cohort"])
        * (one["cohort"] * one["weight_cap"] / weight)
    )
    return [two_s_complement(x, one["width"]) * unit for x in total]


def two_s_complement(value: int, width: int) -> int:
    return value - 2**width if value >> (width - 1) else value


def half_up(total: int, weight: int) -> int:
    return (2 * total + weight) // (2 * weight)


TRAILER = "peers contributors reporters weight examples clipped roomy capped"


def units(value: float, examples: int) -> int:
    """Half up; exact, as a double is a fraction."""
    return math.floor(Fraction(value) * examples * 2**40 + Fraction(1, 2))


def metric_words(values: Mapping[str, Any], examples: int) -> list[int]:
    """Of named values, each a number or a list of them."""
    words = []
    for name in sorted(values):
        for value in values[name] if isinstance(values[name], list) else [values[name]]:
            high, low = divmod(units(value, examples), 2**48)
            words += [low, high % 2**64]
    return words


def open_words(values: Mapping[str, Any], examples: int) -> list[int]:
    """Room for 64 numbers, then the hash of the names' text, then the text."""
    words = metric_words(values, examples)
    text = names_text({n: len(v) if isinstance(v, list) else 0 for n, v in values.items()}).ljust(
        1020, b" "
    )
    pieces = [hashlib.sha256(text).digest()[:6]]
    pieces += [text[6 * place : 6 * place + 6] for place in range(170)]
    return words + [0] * (128 - len(words)) + [int.from_bytes(piece, "little") for piece in pieces]


def names_text(lengths: Mapping[str, int]) -> bytes:
    parts = [f'["{_escaped(name)}",{lengths[name]}]' for name in sorted(lengths)]
    return ("[" + ",".join(parts) + "]").encode("ascii")


def _escaped(name: str) -> str:
    short = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r"}
    short |= {"\t": "\\t", "\f": "\\f", "\b": "\\b"}
    text = ""
    for letter in name:
        if letter in short or " " <= letter <= "~":
            text += short.get(letter, letter)
            continue
        wide = letter.encode("utf-16-be").hex()
        text += "".join("\\u" + wide[at : at + 4] for at in range(0, len(wide), 4))
    return text


def metric_means(named: Iterable[Sequence[Any]], words: Sequence[int], examples: int) -> Any:
    """By name, from the words of a sum."""
    numbers = [
        float(Fraction(two_s_complement(high, 64) * 2**48 + low, examples * 2**40))
        for low, high in zip(words[::2], words[1::2], strict=False)
    ]
    found: dict[str, Any] = {}
    for name, length in named:
        found[name] = numbers[:length] if length else numbers[0]
        del numbers[: length or 1]
    return found


def metric_names(words: Sequence[int], peers: int) -> list[list[Any]]:
    """From the last 171 of the words of a sum, where all peers' names are the same."""
    pieces = [(word // peers).to_bytes(6, "little") for word in words]
    text = b"".join(pieces[1:])
    assert pieces[0] == hashlib.sha256(text).digest()[:6]
    return list(json.loads(text))


def release_ms(training_ms: int, earlier_ms: int) -> int:
    steps = (round(2000 * math.sqrt(2.0) ** j) for j in range(64))
    return next(step for step in steps if step >= max(training_ms, earlier_ms))


# -- what is signed ---------------------------------------------------------------------------------------

TICKET = (
    "run round serial nonce mode cohort threshold width clip weight_cap body wide min_survivors"
)
DEADLINES = "exchange ready train upload agree unmask"


def ticket(fields: Mapping[str, Any]) -> bytes:
    deadlines = [fields["deadlines"][name] for name in DEADLINES.split()]
    metrics = [fields["metrics"]["named"], int(fields["metrics"]["open"])]
    ends = [fields["model_digest"], fields["config_digest"], fields["task"], fields["weighted_by"]]
    ends += [metrics, *(fields[name] for name in ("arrays", "draw", "group", "version"))]
    return canonical("ticket", *(fields[name] for name in TICKET.split()), deadlines, *ends)


def cut(peers: Iterable[str], group_size: int, draw: Callable[[int], bytes]) -> list[list[str]]:
    order = sorted(peers)
    for last in range(len(order) - 1, 0, -1):
        while (found := int.from_bytes(draw(8), "big")) >= 2**64 - 2**64 % (last + 1):
            pass
        other = found % (last + 1)
        order[last], order[other] = order[other], order[last]
    groups = len(order) // group_size
    return [sorted(order[place] for place in range(i, len(order), groups)) for i in range(groups)]


def group(fields: Mapping[str, Any]) -> bytes:
    names = ["draw", "issued", "expires", "roster", "left_out", "cohort_digest", "group", "groups"]
    items = [fields[name] for name in names]
    items[5] = bytes.fromhex(items[5])
    members = [[peer, bytes.fromhex(key)] for peer, key in fields["members"]]
    return canonical("draw", bytes.fromhex(fields["ca"]), *items, members)


def announcement(fields: Mapping[str, Any]) -> bytes:
    names = "ticket_digest dealer public_key commitment shares_root"
    return canonical("announcement", *(fields[name] for name in names.split()))


def receipt(
    ticket_digest: bytes, size: int, holder: int, number: int, listed: Mapping[int, bytes]
) -> bytes:
    hashes = b"".join(listed[dealer] for dealer in sorted(listed))
    return canonical("receipt", ticket_digest, holder, number, bitmap(listed, size), hashes)


def header(fields: Mapping[str, Any]) -> bytes:
    names = "ticket_digest sender announcement_hash counting masked_failure"
    return canonical("header", *(fields[name] for name in names.split()))


def agreement(fields: Mapping[str, Any]) -> bytes:
    total = -1 if fields["failure_sum"] is None else fields["failure_sum"]
    ends = (fields["peer"], total, fields["earlier"])
    return canonical("agreement", fields["ticket_digest"], fields["survivors_digest"], *ends)


def survivors(ticket_digest: bytes, size: int, chosen: Iterable[int], headers: bytes) -> bytes:
    return canonical("survivors", ticket_digest, bitmap(chosen, size), headers)


# -- section 9 ------------------------------------------------------------------------------------------


def chosen(threshold: int, headers: Mapping[int, Mapping[str, Any]]) -> list[int]:
    """The survivors, from headers by sender."""
    listed = {i: dict(item["counting"]) for i, item in headers.items()}
    own = {i: item["announcement_hash"] for i, item in headers.items()}

    def mutual(i: int, j: int) -> bool:
        return listed[i].get(j) == own[j] and listed[j].get(i) == own[i]

    lots = [[header(item), item["signature"]] for _, item in sorted(headers.items())]
    seed, left = digest("ties", lots), set(headers)
    while left:
        degree = {i: sum(mutual(i, j) for j in left - {i}) for i in left}
        goes = {
            i
            for i in left
            for j in left - {i}
            if (j in listed[i] or i in listed[j]) and not mutual(i, j)
        }
        first: dict[int, tuple[int, bytes]] = {}
        for i in sorted(left):
            for k, named in listed[i].items():
                if k not in left and first.setdefault(k, (i, named))[1] != named:
                    goes |= {i, first[k][0]}
        goes = goes or {i for i in left if degree[i] < threshold}
        if not goes and sum(left <= {i, *listed[i]} for i in headers) <= threshold:
            goes = {j for i in left for j in left - {i, *listed[i]}}
        if not goes:
            break
        left.remove(min(goes, key=lambda i: (degree[i], digest("tie", seed, i))))
    return sorted(left)
