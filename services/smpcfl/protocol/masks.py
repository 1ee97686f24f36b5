"""What an agent hands to the ClientApp: the mask of one update, given out once."""

from __future__ import annotations

from dataclasses import dataclass, field

from .keystream import Secret, add_keystreams
from .ring import Raw, RingVector


@dataclass(frozen=True)
class SeededMasks:
    """y_i = q_i + F(b_i) + Σ F(s_ij), j above i, − Σ F(s_ij), j below i (over counting j)."""

    self_key: Secret
    plus: tuple[Secret, ...] = field(repr=False)
    minus: tuple[Secret, ...] = field(repr=False)

    def apply(self, addend: RingVector) -> RingVector:
        """In place; returns it."""
        add_keystreams(addend, (self.self_key, *self.plus), self.minus)
        return addend


@dataclass(frozen=True)
class AdditiveMasks:
    """Shares received minus shares given: what turns the residual into the partial sum."""

    vector: Raw = field(repr=False)

    def apply(self, addend: RingVector) -> RingVector:
        """In place; returns it. RemoteError(WRONG_LENGTH) if this mask is not as long."""
        addend += addend.layout.parse(self.vector)
        return addend
