"""Shamir's threshold sharing of 32-byte secrets (Shamir, "How to share a secret", CACM 1979).

The field is Z_p with p = 2^256 + 297, the least prime above 2^256, so that every 32-byte secret is
an element and a share takes 33 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import mul

from .errors import LocalError, Reason, RemoteError
from .keystream import Secret

PRIME = 2**256 + 297
SHARE_BYTES = 33
# Of Horner's rule, before the value is reduced: `x` is small, and a division slow.
_STEPS = 32
_DRAW_BYTES = 48  # 128 bits more than the field: the bias of the reduction is below 2^-127


def split(
    secret: bytes, threshold: int, holders: int, entropy: Callable[[int], bytes]
) -> list[Secret]:
    """Shares for holders 1..`holders`, any `threshold` of which give `secret` back.

    `secret`: 32 bytes. Returns `holders` shares of 33 bytes; the one at index h is f(h + 1).
    """
    if not 1 <= threshold <= holders:
        raise LocalError(f"threshold {threshold} is not between 1 and {holders} holders")
    if len(secret) != 32:
        raise LocalError(f"a shared secret has 32 bytes, not {len(secret)}")
    coefficients = [int.from_bytes(secret, "big")]
    for _ in range(threshold - 1):
        coefficients.append(int.from_bytes(entropy(_DRAW_BYTES), "big") % PRIME)
    values = evaluate(coefficients, holders, PRIME)
    return [Secret(value.to_bytes(SHARE_BYTES, "big")) for value in values]


def combine(shares: Mapping[int, bytes]) -> Secret:
    """The secret from shares keyed by holder number (from 1); all that are given are used.

    Raises RemoteError(BAD_SHARE) where the shares cannot be those of a 32-byte secret.
    """
    secret = at_zero({x: int.from_bytes(share, "big") for x, share in shares.items()}, PRIME)
    if secret >> 256:
        raise RemoteError(Reason.BAD_SHARE, "the shares give no 32-byte secret")
    return Secret(secret.to_bytes(32, "big"))


def evaluate(coefficients: Sequence[int], holders: int, prime: int) -> list[int]:
    """A polynomial, its constant term first, at 1 to `holders`, modulo `prime`."""
    values, downwards = [], coefficients[::-1]
    for x in range(1, holders + 1):
        value = 0
        for start in range(0, len(downwards), _STEPS):
            for coefficient in downwards[start : start + _STEPS]:
                value = value * x + coefficient
            value %= prime
        values.append(value)
    return values


def at_zero(points: Mapping[int, int], prime: int) -> int:
    """The value at 0 of the polynomial of least degree through `points`, modulo `prime` (Lagrange)."""
    products = map(mul, points.values(), _weights(tuple(points), prime))
    return int(sum(products)) % prime


# Many secrets of a round are found from shares of the same holders.
@lru_cache(maxsize=16)
def _weights(places: tuple[int, ...], prime: int) -> list[int]:
    """What the values at these places are multiplied with."""
    weights = []
    for x in places:
        numerator = denominator = 1
        for other in places:
            if other != x:
                numerator = numerator * other % prime
                denominator = denominator * (other - x) % prime
        weights.append(numerator * pow(denominator, -1, prime) % prime)
    return weights
