"""The peers of one ticket, in memory: they exchange at once, in a time of their own.

In a deployment all ClientApps run beside each other. Here a few actors run them one after another, and the
last may begin minutes after the first. So nobody's deadlines follow the clock of the machine. The exchange
between the peers, for which no ClientApp is needed, happens when the first of them begins, up to the moment
before the ready deadline; each ClientApp begins at that moment, whenever that is, and from then on each peer
has a time of its own, which goes on only as far as what it is asked for has to wait for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from ..net import rpc
from ..net.agent_wire import Round
from ..net.kinds import KINDS
from ..protocol.errors import Reason, RemoteError
from ..protocol.masks import AdditiveMasks, SeededMasks
from ..protocol.messages import Answer, Call, Header, PeerMessage, Survivors
from ..protocol.peer_round import PeerRound
from ..protocol.ticket import SignedTicket
from .virtual_peer import VirtualPeer

ABSENT = "before the exchange"
NO_UPLOAD = "before its upload"
NO_ANSWER = "before the unmasking"
LOST_AT = (ABSENT, NO_UPLOAD, NO_ANSWER)
"""When a peer may be lost in a round."""
_MOMENT_S = 0.001


class VirtualCohort:
    """One round. `peers`: those of the ticket's cohort that there are; `lost`: when, of those that get lost.

    Each of the others has the ticket, or is in `refused` with its reason. Whoever calls a method holds
    `lock`, but for `close`, which takes it.
    """

    def __init__(
        self,
        ticket: SignedTicket,
        peers: Iterable[VirtualPeer],
        lost: Mapping[str, str],
        now_ms: int,
    ) -> None:
        self.lock = threading.Lock()
        self.ticket = ticket.ticket
        self.lost = dict(lost)
        self.refused: dict[str, RemoteError] = {}
        self._peers: dict[str, VirtualPeer] = {}  # those that are still there
        self._opened: list[VirtualPeer] = []
        self._times: dict[str, float] = {}  # seconds since they had the ticket
        for peer in peers:
            if self.lost.get(peer.name) == ABSENT:
                continue
            try:
                peer.open_round(ticket, now_ms, spread=not self._peers)
            except RemoteError as error:
                self.refused[peer.name] = error
                continue
            self._peers[peer.name] = peer
            self._opened.append(peer)
            self._times[peer.name] = 0.0
        self._pass_until(self.ticket.deadlines.ready / 1000 - _MOMENT_S)

    # -- time -------------------------------------------------------------------------------------

    def _pass_until(self, latest: float) -> None:
        """Everything that happens between the peers up to `latest`, in seconds after they had the ticket."""
        now = 0.0
        while now < latest:
            self._deliver(self._peers)
            due = [self._round(name).next_event(now) for name in self._peers]
            now = min([latest, *(at + _MOMENT_S for at in due if at is not None)])
            self._times = dict.fromkeys(self._times, now)
        self._deliver(self._peers)

    def _deliver(self, names: Iterable[str]) -> None:
        """Until none of the peers has anything to send, beginning with these."""
        awake = list(names)
        while awake:
            touched: dict[str, None] = {}
            for name in awake:
                for call in self._round(name).calls(self._times[name]):
                    self._make(name, call)
                    touched |= {name: None, call.to: None}
            awake = [name for name in touched if name in self._peers]

    def _make(self, name: str, call: Call) -> None:
        round_, now = self._round(name), self._times[name]
        kind = KINDS[type(call.message)]
        if call.to not in self._peers:
            round_.failed(call, now)
            return
        self._peers[name].sent(kind.size(call.message))
        try:
            reply = self._take(call.to, name, call.message)
            self._peers[call.to].sent(rpc.size(kind.reply.write(reply)))
            round_.answered(call, reply, now)
        except RemoteError as error:
            round_.failed(call, now, error.reason)

    def _take(self, name: str, sender: str, message: PeerMessage) -> PeerMessage | None:
        if isinstance(message, SignedTicket):
            self._round(name).offered()
            return None
        return self._round(name).handle(sender, message, self._times[name])

    def _round(self, name: str) -> Round:
        found = self._peers[name].round
        if found is None:
            raise RemoteError(Reason.ROUND_CLOSED, peer=name)
        return found

    # -- for ClientApps ---------------------------------------------------------------------------

    def round_of(self, name: str) -> Round:
        """RemoteError if this peer does not take part, or was lost before now."""
        if name in self.refused:
            raise self.refused[name]
        if name not in self._peers:
            raise RemoteError(Reason.ROUND_CLOSED, f"lost {self.lost.get(name, ABSENT)}")
        return self._round(name)

    def begin(self, name: str, model_digest: bytes, config_digest: bytes) -> Round:
        """As the agent does it: RemoteError if nothing may be trained."""
        round_ = self.round_of(name)
        round_.begin(model_digest, config_digest, self._times[name])
        return round_

    def masks(self, name: str, *, failed: bool) -> tuple[SeededMasks | AdditiveMasks, Header]:
        """The round's masks. If neighbours are missing, at this peer's ready deadline.

        RemoteError if this peer is lost before its upload, or has to abstain.
        """
        round_, deadlines = self.round_of(name), self.ticket.deadlines
        if self.lost.get(name) == NO_UPLOAD:
            del self._peers[name]
            round_ = self.round_of(name)  # which says so
        for at_ms in (0, deadlines.ready, deadlines.upload):
            self._times[name] = max(self._times[name], at_ms / 1000)
            if round_.masks_available(self._times[name]):
                break
        return round_.masks(self._times[name], failed=failed)

    def freeze(self, name: str, vector: bytes) -> int:
        """Freezes the upload. Bytes that the peer has sent to others in this round."""
        self.round_of(name).freeze(vector, self._times[name])
        return self._peers[name].round_bytes

    # -- for the aggregator -----------------------------------------------------------------------

    def unmask(self, message: Survivors) -> dict[str, Answer | RemoteError]:
        """What each peer that is there answers, by peer id, after they all heard of these survivors."""
        for name in self.lost:
            self._peers.pop(name, None)
        found: dict[str, Answer | RemoteError] = {}
        for name in self._peers:
            try:
                self._seeded(name).survivors(message, self._times[name])
            except RemoteError as error:
                found[name] = error
        self._deliver(self._peers)
        for name in self._peers.keys() - found.keys():
            found[name] = self._answer(name)
        return found

    def _answer(self, name: str) -> Answer | RemoteError:
        """At the agree deadline, if too few others agreed."""
        try:
            if (answer := self._seeded(name).answer(self._times[name])) is not None:
                return answer
            self._times[name] = self.ticket.deadlines.agree / 1000
            answer = self._seeded(name).answer(self._times[name])
            assert answer is not None, "at the deadline there is an answer, or a refusal"
            return answer
        except RemoteError as error:
            return error

    def _seeded(self, name: str) -> PeerRound:
        round_ = self._round(name)
        if not isinstance(round_, PeerRound):
            raise RemoteError(Reason.POLICY_MODE, found=self.ticket.mode)
        return round_

    def p2p_bytes(self) -> dict[str, int]:
        """Sent in this round by each peer that is still there."""
        return {name: peer.round_bytes for name, peer in self._peers.items()}

    def close(self) -> None:
        """Wipes all secrets of the round, in which nobody takes part from then on."""
        with self.lock:
            self._peers.clear()
            for peer in self._opened:
                peer.close_round()
