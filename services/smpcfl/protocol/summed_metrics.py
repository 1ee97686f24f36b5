"""What an app reports beside its model, as 64-bit words that are summed (docs/protocol.md, section 4).

A value is multiplied by the peer's number of examples, as in plain Flower's weighted mean, and lies in two
words in units of 2^-40. A ticket lists names and lengths, or has room for names that the aggregator does not
know yet: then each peer adds the text of its own ones, which can be read in the sum if all are the same.

A peer that lacks a value, or has NaN, adds noise: then nobody can read the sum. So metrics are everybody's or
nobody's, and no model can be crafted on which all but one have nothing to report.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .encoding import Item
from .errors import LocalError, Reason, RemoteError
from .ring import WIDE, Elements

Value: TypeAlias = float | list[float]
Values: TypeAlias = Mapping[str, Value]

MOST_NUMBERS = 64
MOST_NAME = 64  # characters
_UNIT_BITS = 40
_LOW_BITS = 48  # of a value's first word: a sum over 2^15 peers has room
_LETTERS = 6  # bytes of text in a word, for the same reason
_TEXT = 1020  # bytes
_TEXT_WORDS = 1 + _TEXT // _LETTERS  # and one of its hash


@dataclass(frozen=True)
class MetricNames:
    """Which values each peer adds: the `numbers` of each name, 0 for a single value; sorted by name.

    `open`: the names are not known yet, and `named` is empty.
    """

    named: tuple[tuple[str, int], ...] = ()
    open: bool = False

    def __post_init__(self) -> None:
        """RemoteError(MALFORMED) for what no honest aggregator asks for."""
        names = [name for name, _ in self.named]
        good = (
            names == sorted(set(names))
            and all(0 < len(name) <= MOST_NAME and _is_text(name) for name in names)
            and all(0 <= length <= MOST_NUMBERS for _, length in self.named)
            and self.numbers <= MOST_NUMBERS
            and not (self.open and self.named)
        )
        if not good:
            raise RemoteError(
                Reason.MALFORMED,
                "metrics of the ticket",
                expected=f"<= {MOST_NUMBERS} numbers",
                found=self.numbers,
            )

    @property
    def numbers(self) -> int:
        return sum(max(length, 1) if length >= 0 else 0 for _, length in self.named)

    @property
    def canonical(self) -> Item:
        return [list(self.named), int(self.open)]

    @property
    def words(self) -> int:
        """How many 64-bit words they take in a vector."""
        return _TEXT_WORDS + 2 * MOST_NUMBERS if self.open else 2 * self.numbers

    @classmethod
    def of(cls, values: Values) -> MetricNames:
        """LocalError for more than fit, or no numbers."""
        named = tuple(
            (name, len(value) if isinstance(value, list) else 0)
            for name, value in sorted(values.items())
        )
        empty = [name for name, value in values.items() if isinstance(value, list) and not value]
        if empty:
            raise LocalError(f"metric {empty[0]!r} is an empty list")
        long = [name for name, _ in named if not 0 < len(name) <= MOST_NAME]
        if long:
            raise LocalError(f"metric name {long[0]!r}: 1 to {MOST_NAME} characters")
        try:
            return cls(named)
        except RemoteError as error:
            raise LocalError(f"too many metrics: at most {MOST_NUMBERS} numbers") from error

    def encode(self, values: Values, examples: int, cohort: int) -> Elements:
        """One peer's words. LocalError, naming the metric, for one that is missing, NaN or too large."""
        found = MetricNames.of(values)
        if not self.open:
            for name, length in self.named:
                if name not in values:
                    raise LocalError(f"metric {name!r} is missing")
                if dict(found.named)[name] != length:
                    raise LocalError(
                        f"metric {name!r} has another length than the ticket's {length}"
                    )
        wanted = found if self.open else self
        words = np.zeros(self.words, WIDE)
        flat = [
            number
            for name, _ in wanted.named
            for number in _numbers(name, values[name], examples, cohort)
        ]
        for place, number in enumerate(flat):
            words[2 * place] = number & ((1 << _LOW_BITS) - 1)
            words[2 * place + 1] = (number >> _LOW_BITS) & (2**64 - 1)
        if self.open:
            words[-_TEXT_WORDS:] = _letters(found)
        return words

    def left_out(self, values: Values) -> list[str]:
        """The names in `values` that are not summed, in order; none while the names are open."""
        return [] if self.open else sorted(values.keys() - dict(self.named).keys())

    def noise(self, entropy: Callable[[int], bytes]) -> Elements:
        """The words of a peer that has nothing to report: nobody can read the sum."""
        return np.frombuffer(entropy(8 * self.words), WIDE).copy()

    def decode(self, total: Elements, peers: int, examples: int) -> dict[str, Value]:
        """The weighted means over `peers`, all of which reported. LocalError if their names differ."""
        known = self
        if self.open:
            known = _read_names(total[-_TEXT_WORDS:], peers)
        low = total[0 : 2 * known.numbers : 2]
        high = total[1 : 2 * known.numbers : 2].view("<i8")
        means = iter(
            ((int(h) << _LOW_BITS) + int(lo)) / (examples << _UNIT_BITS)
            for lo, h in zip(low, high, strict=True)
        )
        return {
            name: [next(means) for _ in range(length)] if length else next(means)
            for name, length in known.named
        }


def _numbers(name: str, given: Value, examples: int, cohort: int) -> list[int]:
    bound = (2**63 - 1) // cohort
    result = []
    for number in given if isinstance(given, list) else [given]:
        try:
            value = float(number)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise LocalError(f"metric {name!r} is {value}")
        # Exact whatever its size: a float is a fraction.
        above, below = value.as_integer_ratio()
        units = (2 * above * examples * 2**_UNIT_BITS + below) // (2 * below)
        if abs(units >> _LOW_BITS) >= bound:
            raise LocalError(f"metric {name!r} is {value}, over {examples} examples: too large")
        result.append(units)
    return result


def _letters(metrics: MetricNames) -> Elements:
    """The text of the names, and a hash of it first; LocalError if it is too long."""
    text = _text(metrics)
    pieces = [_hash(text), *(text[at : at + _LETTERS] for at in range(0, _TEXT, _LETTERS))]
    return np.array([int.from_bytes(piece, "little") for piece in pieces], WIDE)


def _text(metrics: MetricNames) -> bytes:
    text = json.dumps([list(item) for item in metrics.named], separators=(",", ":")).encode()
    if len(text) > _TEXT:
        raise LocalError(f"the names of the metrics take {len(text)} bytes, at most {_TEXT} fit")
    return text.ljust(_TEXT)


def _read_names(total: Elements, peers: int) -> MetricNames:
    differ = LocalError("the peers report metrics of different names")
    means = [divmod(int(word), peers) for word in total]
    if any(rest or mean >= 1 << 8 * _LETTERS for mean, rest in means):
        raise differ
    pieces = [mean.to_bytes(_LETTERS, "little") for mean, _ in means]
    text = b"".join(pieces[1:])
    if pieces[0] != _hash(text):
        raise differ
    try:
        named = json.loads(text.decode("ascii"))
        found = MetricNames(tuple((str(name), int(length)) for name, length in named))
        same = _text(found) == text  # one peer can put any text here, where it knows the others'
    except (RemoteError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise differ from error
    if not same:
        raise differ
    return found


def _is_text(name: str) -> bool:
    """Whether it can be signed and sent: half a surrogate pair cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _hash(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()[:_LETTERS]
