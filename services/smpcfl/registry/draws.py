"""The registry's draws: one a day, or by its operator's hand; on disk before anybody is told."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from smpc.v1 import registry_pb2 as pb

from ..base.files import StorageError, write_private
from ..base.log_events import LogEvent, about
from ..base.state import State
from ..net.kept_draw import ca_digest, group_from_proto, group_to_proto
from ..protocol.draw import SignedGroup, make_groups, may_be_cut
from ..protocol.errors import LocalError
from ..protocol.signing import signer

log = logging.getLogger("smpcfl.registry")
SETTLED_S = 30.0
"""So long nobody new has to come before the first draw: whoever comes after it waits for the next one."""
EARLY_S = 3600
"""Before a draw expires the next one is made: nobody has to wait for it."""
_ASK_S = 0.2


class Draws:
    """The newest draw, in the registry's folder `state`. StorageError if its file is damaged.

    Only `keep` makes one, which no caller of the registry reaches. `key` and `ca` are the CA's; `clock`:
    seconds since the epoch.
    """

    def __init__(
        self,
        state: Path,
        key: ec.EllipticCurvePrivateKey,
        ca: x509.Certificate,
        group_size: int,
        *,
        clock: Callable[[], float] = time.time,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.group_size = group_size
        self._paths = State(state)
        self._key = key
        self._ca = ca
        self._clock = clock
        self._entropy = entropy
        self._newest = pb.DrawReply()
        self._group_of: dict[str, pb.SignedGroup] = {}
        self._go_by(read(self._paths.draw))
        self._seen: set[str] = set()
        self._last_came = clock()
        self._said = ""  # why there is no draw

    @property
    def number(self) -> int:
        """0 if there was no draw yet."""
        return int(self._newest.draw)

    def told(self, peer: str) -> pb.DrawReply:
        """What `peer` gets to know: the newest draw's number, and its own group if it has one."""
        own = self._group_of.get(peer)
        return pb.DrawReply(draw=self._newest.draw, groups=[own] if own else [])

    def told_all(self) -> pb.DrawReply:
        """What the aggregator gets to know: all groups."""
        return self._newest

    def keep(self, living: Collection[str], enrolled: Callable[[], Mapping[str, bytes]]) -> bool:
        """Draws if it is time, or the operator asks; True if it did. To be called every second.

        `living`: who is on the roster; `enrolled`: the fingerprint of the key of everyone who could be.
        """
        now = self._clock()
        if not self._seen.issuperset(living):  # one that comes and goes holds nothing up
            self._last_came = now
            self._seen.update(living)
        if self._paths.draw_wanted.exists():
            self._paths.draw_wanted.unlink()
        elif not self._is_due(len(living), now):
            return False
        try:
            self._draw(living, enrolled(), int(now))
        except LocalError as error:
            if str(error) != self._said:
                log.warning("no draw: %s", error, extra=about(LogEvent.NOT_DRAWN))
            self._said = str(error)
            return False
        self._said = ""
        return True

    def _is_due(self, living: int, now: float) -> bool:
        expires = min((group.expires for group in self._newest.groups), default=0)
        if not may_be_cut(living, self.group_size) or now < expires - EARLY_S:
            return False
        return now < expires or now >= self._last_came + SETTLED_S

    def _draw(self, living: Collection[str], enrolled: Mapping[str, bytes], now: int) -> None:
        if not isinstance(self._key.curve, ec.SECP256R1):
            raise LocalError("draws are signed by the CA, whose key has to be on P-256 for that")
        groups = make_groups(
            enrolled,
            living,
            ca=ca_digest(self._ca),
            # Above the last one even where the folder was restored from before it.
            draw=max(self.number + 1, now),
            issued=now,
            group_size=self.group_size,
            entropy=self._entropy,
        )
        sign = signer(self._key)
        signed = [group_to_proto(SignedGroup(item, sign(item.signed_bytes))) for item in groups]
        reply = pb.DrawReply(draw=groups[0].draw, groups=signed)
        write_private(self._paths.draw, reply.SerializeToString())
        self._go_by(reply)
        absent = len(set(enrolled) - set(living)) - groups[0].left_out
        log.info(
            "draw %d: %d peers in %d groups of %d to %d, %d left out",
            reply.draw,
            groups[0].drawn,
            len(groups),
            min(len(group.members) for group in groups),
            max(len(group.members) for group in groups),
            groups[0].left_out,
            extra=about(LogEvent.DRAWN),
        )
        if absent:
            log.warning(
                "%d peers are in the draw and not here: more than 5 %% are away, and no more may be left out."
                " Revoke those that do not come back (`smpcfl revoke`), or draw again when they are here"
                " (`smpcfl draw`)",
                absent,
                extra=about(LogEvent.DRAWN),
            )

    def _go_by(self, reply: pb.DrawReply) -> None:
        self._newest = reply
        self._group_of = {member.peer: group for group in reply.groups for member in group.members}


def read(path: Path) -> pb.DrawReply:
    """The draw kept there, an empty one if there is none. StorageError if the file is damaged."""
    try:
        reply = pb.DrawReply.FromString(path.read_bytes())
        for group in reply.groups:
            group_from_proto(group)
    except FileNotFoundError:
        return pb.DrawReply()
    except Exception as error:
        raise StorageError(
            f"{path} is damaged ({error}): it holds the newest draw; restore it, or remove it to draw anew"
        ) from error
    return reply


def draw_by_hand(state: Path, patience_s: float = 10.0) -> pb.DrawReply:
    """Has the registry that keeps its state in `state` draw now; the draw. LocalError if it does not."""
    paths = State(state)
    before = read(paths.draw).draw
    write_private(paths.draw_wanted, b"")
    latest = time.monotonic() + patience_s
    while (found := read(paths.draw)).draw == before:
        if time.monotonic() > latest:
            paths.draw_wanted.unlink(missing_ok=True)
            raise LocalError(
                f"no draw within {patience_s:g} s: its log says why, if the registry runs"
            )
        time.sleep(_ASK_S)
    return found
