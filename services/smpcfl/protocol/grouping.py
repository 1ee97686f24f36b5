"""What a peer goes by where its deployment is cut into groups: which draw it takes, and tickets under it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .draw import LEFT_OUT, Group
from .errors import Reason, RemoteError
from .ticket import Ticket


def check_group(group: Group, ca: bytes, newest: int, now_s: float) -> None:
    """RemoteError unless a group, whose signature is good, is one to go by from now on.

    `ca`: SHA-256 of the deployment's CA certificate; `newest`: number of the draw that it takes the place of.
    """
    if group.ca != ca:
        raise RemoteError(Reason.BAD_SIGNATURE, "a draw of another deployment")
    if group.draw < newest:
        raise RemoteError(Reason.STALE_DRAW, expected=f">= {newest}", found=group.draw)
    if now_s >= group.expires:
        raise RemoteError(Reason.EXPIRED_DRAW, "check the clock", found=group.draw)
    if group.left_out * LEFT_OUT > group.roster:
        raise RemoteError(
            Reason.TOO_MANY_LEFT_OUT,
            "of the registry's roster, in its draw",
            expected=f"<= 1 of {LEFT_OUT}, of {group.roster}",
            found=group.left_out,
        )


@dataclass
class Drawn:
    """The newest draw that a party has seen. `number`: 0 for none; `groups`: those of it that it was told."""

    number: int = 0
    groups: tuple[Group, ...] = ()

    def group_of(self, peer: str) -> Group | None:
        return next((group for group in self.groups if peer in group.cohort), None)


@dataclass(frozen=True)
class Grouping:
    """Which tickets peer `me` follows.

    `drawn`: the newest draw that it has seen. `needed`: whether its own roster is as large as two groups.
    `fingerprint_of`: SHA-256 of the key that it knows of a peer, None if it knows none.
    """

    me: str = ""
    drawn: Drawn = field(default_factory=Drawn)
    needed: Callable[[], bool] = lambda: False
    fingerprint_of: Callable[[str], bytes | None] = lambda peer: None

    def check(self, ticket: Ticket, now_s: float) -> None:
        """RemoteError unless the ticket's cohort is the one that the draws leave no choice about."""
        newest = self.drawn
        own = newest.group_of(self.me)
        if not ticket.draw:
            self._check_ungrouped(own, now_s)
            return
        if ticket.draw < newest.number:
            raise RemoteError(
                Reason.STALE_DRAW, expected=f"draw {newest.number}", found=ticket.draw
            )
        if own is None or ticket.draw > newest.number:
            raise RemoteError(
                Reason.UNKNOWN_DRAW,
                "the registry has told this peer of no group of its own in that draw",
                expected=f"draw {newest.number}",
                found=ticket.draw,
            )
        if now_s >= own.expires:
            raise RemoteError(Reason.EXPIRED_DRAW, found=ticket.draw)
        if ticket.group != own.group or ticket.cohort != own.cohort:
            raise RemoteError(
                Reason.NOT_THE_GROUP,
                "the cohort has to be exactly this peer's group",
                expected=f"group {own.group} of {len(own.cohort)} peers",
                found=f"group {ticket.group} of {len(ticket.cohort)}",
            )
        for peer, drawn in own.members:
            known = self.fingerprint_of(peer)
            if known is not None and known != drawn:
                raise RemoteError(
                    Reason.WRONG_KEY,
                    "another key than in the draw",
                    peer=peer,
                    expected=drawn.hex(),
                    found=known.hex(),
                )

    def _check_ungrouped(self, own: Group | None, now_s: float) -> None:
        if self.needed() or (own is not None and now_s < own.expires):
            raise RemoteError(
                Reason.NO_DRAW,
                "this deployment is large enough for groups, and the ticket is for none: where the registry"
                " has drawn, peers that came later wait for its next draw",
            )
