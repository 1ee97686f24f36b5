"""How many trainings failed: counted by the peers, before any of them unmasks (docs/protocol.md, section 9).

Each peer i deals a random r_i, threshold t + 1 of all n, itself included, and its header carries f_i − r_i,
with f_i = 1 if its vector is a zero. An agreement carries the sum of its sender's shares of r_i over the
survivors. So t + 1 agreements open Σ f_i and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from .shamir import at_zero, evaluate

PRIME = 2**61 - 1
_DRAW_BYTES = 24  # 131 bits more than the field: the bias of the reduction is below 2^-130


def draw(entropy: Callable[[int], bytes]) -> int:
    """A uniform element of the field."""
    return int.from_bytes(entropy(_DRAW_BYTES), "big") % PRIME


def split(secret: int, threshold: int, peers: int, entropy: Callable[[int], bytes]) -> list[int]:
    """Shares of `secret` for cohort indices 0 to `peers` - 1; any `threshold` + 1 give it back."""
    coefficients = [secret, *(draw(entropy) for _ in range(threshold))]
    return evaluate(coefficients, peers, PRIME)


def hide(failed: bool, secret: int) -> int:
    """f_i − r_i, for the header."""
    return (int(failed) - secret) % PRIME


def opened(hidden: Iterable[int], sums: Mapping[int, int]) -> int:
    """Σ f_i over the survivors, from their `hidden` values and t + 1 `sums` of shares by cohort index."""
    masks = at_zero({index + 1: value for index, value in sums.items()}, PRIME)
    return (sum(hidden) + masks) % PRIME
