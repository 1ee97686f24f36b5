"""Known answers of keys, keystreams and shares."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from smpcfl.protocol import failures, shamir
from smpcfl.protocol.keystream import Secret, commitment, expand, pair_key, self_key
from smpcfl.protocol.masks import SeededMasks
from smpcfl.protocol.ring import Layout
from vectors.files import (
    LOCAL,
    Json,
    case,
    hexes,
    number,
    numbers,
    refused,
    topic,
)
from vectors.given import (
    Tape,
    five,
    layout_json,
    some,
    vector_json,
)

_P = 2**255 - 19
_ORDER_8 = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"
_SMALL = {
    "0": bytes(32).hex(),
    "1": (1).to_bytes(32, "little").hex(),
    "of order 8": _ORDER_8,
    "of order 8, the other": "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "p - 1": (_P - 1).to_bytes(32, "little").hex(),
    "p": _P.to_bytes(32, "little").hex(),
    "p + 1": (_P + 1).to_bytes(32, "little").hex(),
}


def keys() -> Json:
    ticket = five().ticket
    seed, one, two = some("self seed", 32), some("x25519 alpha", 32), some("x25519 bravo", 32)
    publics = {
        raw: X25519PrivateKey.from_private_bytes(raw).public_key().public_bytes_raw()
        for raw in (one, two)
    }
    given = {"self_seed": seed.hex(), "ticket_digest": ticket.digest.hex(), "peer": "alpha"}
    vectors = [
        case("public", f"of {name}", {"private": raw.hex()}, {"public": publics[raw].hex()})
        for name, raw in (("alpha", one), ("bravo", two))
    ]
    vectors += [
        case(
            "self_key", "alpha", given, {"key": bytes(self_key(seed, ticket.digest, "alpha")).hex()}
        ),
        case(
            "commitment", "alpha", given, {"hash": commitment(seed, ticket.digest, "alpha").hex()}
        ),
    ]
    for name, private, public, me, other in (
        ("from the lower id", one, publics[two], "alpha", "bravo"),
        ("from the higher id", two, publics[one], "bravo", "alpha"),
        ("unused top bit of the public key", one, _top_bit(publics[two]), "alpha", "bravo"),
    ):
        key = pair_key(
            X25519PrivateKey.from_private_bytes(private), public, ticket.digest, me, other
        )
        vectors.append(
            case(
                "pair_key", name, _pair(private, public.hex(), me, other), {"key": bytes(key).hex()}
            )
        )
    bad = [
        refused("pair_key", f"public key {name}", _pair(one, public, "alpha", "bravo"), "malformed")
        for name, public in _SMALL.items()
    ]
    bad.append(
        refused("pair_key", "31 bytes", _pair(one, "09" * 31, "alpha", "bravo"), "malformed")
    )
    right = given | {"hash": commitment(seed, ticket.digest, "alpha").hex()}
    for name, change in {
        "another seed": {"self_seed": some("another seed", 32).hex()},
        "another peer": {"peer": "bravo"},
        "another ticket": {"ticket_digest": some("another ticket", 32).hex()},
    }.items():
        bad.append(refused("commitment", name, right | change, "bad_commitment"))
    return topic("Keys of masks, and the commitment to the self seed.", "6 and 8", vectors, bad)


def _top_bit(public: bytes) -> bytes:
    return public[:-1] + bytes([public[-1] | 128])


def _pair(private: bytes, public: str, me: str, other: str) -> Json:
    digest_ = five().ticket.digest.hex()
    return {
        "private": private.hex(),
        "public": public,
        "ticket_digest": digest_,
        "me": me,
        "other": other,
    }


def keystream() -> Json:
    vectors = []
    layouts = [(16, 8, 1), (16, 3, 2), (32, 5, 1), (64, 3, 1), (16, 0, 1), (32, 4, 0), (16, 133, 0)]
    for number_, (width, body, wide) in enumerate(layouts):
        key, layout = some(f"stream {number_}", 32), Layout(width, body, wide)
        vectors.append(
            case(
                "expand",
                f"{body} of {width} bits, {wide} of 64",
                {"key": key.hex(), "layout": layout_json(layout)},
                {"nbytes": layout.nbytes, **vector_json(expand(Secret(key), layout))},
            )
        )
    for width in (8, 16, 32, 64):
        layout = Layout(width, 4, 2)
        addend = layout.parse(some(f"addend {width}", layout.nbytes))
        own = some("own", 32)
        plus, minus = [some("plus 1", 32), some("plus 2", 32)], [some("minus 1", 32)]
        masks = SeededMasks(Secret(own), tuple(map(Secret, plus)), tuple(map(Secret, minus)))
        vectors.append(
            case(
                "mask",
                f"{width} bits",
                {
                    "layout": layout_json(layout),
                    "addend": addend.tobytes().hex(),
                    "self_key": own.hex(),
                    "plus": hexes(plus),
                    "minus": hexes(minus),
                },
                {"bytes": masks.apply(addend.copy()).tobytes().hex()},
            )
        )
    layout = layout_json(Layout(16, 3, 1))
    bad = [
        refused("parse", "a byte short", {"layout": layout, "bytes": "00" * 13}, "wrong_length"),
        refused("parse", "a byte long", {"layout": layout, "bytes": "00" * 15}, "wrong_length"),
        refused("parse", "empty", {"layout": layout, "bytes": ""}, "wrong_length"),
        refused(
            "layout", "4 bits", {"layout": {"width": 4, "body": 1, "wide": 1}, "bytes": ""}, LOCAL
        ),
    ]
    what = "Keystreams as vectors of every width, and a vector with its masks."
    return topic(what, "3 and 8", vectors, bad)


def shamir_() -> Json:
    small = (1).to_bytes(48, "big")
    cases = {
        "3 of 4": (some("secret", 32), 3, 4, some("coefficients", 96)),
        "1 of 3, which is the secret itself": (some("secret", 32), 1, 3, b""),
        "4 of 4": (some("secret 4", 32), 4, 4, some("coefficients 4", 144)),
        "zero": (bytes(32), 2, 3, some("coefficients 0", 48)),
        "a share that needs its 33rd byte": (b"\xff" * 32, 2, 2, small),
        "draws above the prime": (some("secret", 32), 2, 3, b"\xff" * 48),
    }
    vectors = []
    for name, (secret, threshold, holders, entropy) in cases.items():
        tape = Tape(entropy)
        shares = shamir.split(secret, threshold, holders, tape)
        assert not tape.left
        vectors.append(
            case(
                "split",
                name,
                {
                    "secret": secret.hex(),
                    "threshold": threshold,
                    "holders": holders,
                    "entropy": entropy.hex(),
                },
                {"shares": hexes(bytes(share) for share in shares)},
            )
        )
    one, most = "00" * 32 + "01", shamir.PRIME - 1
    bad = [
        refused("combine", "a sum of 2^256", {"shares": {"1": "01" + "00" * 32}}, "bad_share"),
        refused(
            "combine",
            "a line through -1 at zero",
            {"shares": {"1": "00" * 33, "2": one}},
            "bad_share",
        ),
        refused(
            "combine",
            "the largest element",
            {"shares": {"1": most.to_bytes(33, "big").hex()}},
            "bad_share",
        ),
        refused(
            "split",
            "more than there are holders",
            {"secret": "00" * 32, "threshold": 4, "holders": 3, "entropy": "00" * 192},
            LOCAL,
        ),
        refused(
            "split",
            "no threshold",
            {"secret": "00" * 32, "threshold": 0, "holders": 3, "entropy": ""},
            LOCAL,
        ),
        refused(
            "split",
            "a secret of 31 bytes",
            {"secret": "00" * 31, "threshold": 1, "holders": 3, "entropy": ""},
            LOCAL,
        ),
    ]
    return topic("Shamir's sharing modulo 2^256 + 297, shares of 33 bytes.", "6", vectors, bad)


def failures_() -> Json:
    vectors = []
    for name, entropy in {
        "any": some("failure", 24),
        "zero": bytes(24),
        "the prime, which is zero": failures.PRIME.to_bytes(24, "big"),
        "all ones": b"\xff" * 24,
    }.items():
        drawn = failures.draw(Tape(entropy))
        vectors.append(case("draw", name, {"entropy": entropy.hex()}, {"element": number(drawn)}))
    secrets, entropies = [0, 1, failures.PRIME - 1, 123_456_789_012_345_678], []
    shares = []
    for place, secret in enumerate(secrets):
        entropy = some(f"failure coefficients {place}", 72)
        entropies.append(entropy)
        shares.append(failures.split(secret, 3, 5, Tape(entropy)))
        vectors.append(
            case(
                "split",
                f"of {secret}",
                {"secret": number(secret), "threshold": 3, "peers": 5, "entropy": entropy.hex()},
                {"shares": numbers(shares[-1])},
            )
        )
    failed = [False, True, False, True]
    hidden = []
    for secret, flag in zip(secrets, failed, strict=True):
        hidden.append(failures.hide(flag, secret))
        vectors.append(
            case(
                "hide",
                f"{'failed' if flag else 'trained'}, {secret}",
                {"failed": flag, "secret": number(secret)},
                {"masked_failure": number(hidden[-1])},
            )
        )
    for holders in ((0, 1, 2, 3), (0, 2, 3, 4), (1, 2, 3, 4)):
        sums = {j: sum(dealt[j] for dealt in shares) % failures.PRIME for j in holders}
        vectors.append(
            case(
                "opened",
                f"two of four failed, sums of {', '.join(map(str, holders))}",
                {
                    "hidden": numbers(hidden),
                    "sums": {str(j): number(value) for j, value in sums.items()},
                },
                {"failed": failures.opened(hidden, sums)},
            )
        )
    what = "How many trainings failed, shared over the field of 2^61 - 1; peers by cohort index."
    return topic(what, "9", vectors)


TOPICS = {"keys": keys, "keystream": keystream, "shamir": shamir_, "failures": failures_}
