"""The hub: the agents of all virtual peers in one process, with a network in memory between them."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from cryptography.hazmat.primitives.asymmetric import ec

from ..net.agent_wire import Round
from ..protocol.digests import config_digest
from ..protocol.draw import GROUP_SIZE, Group, make_groups, may_be_cut
from ..protocol.errors import Reason, RemoteError
from ..protocol.masks import AdditiveMasks, SeededMasks
from ..protocol.messages import Answer, Header, Survivors
from ..protocol.policy import Policy
from ..protocol.signing import AGGREGATOR, signer
from ..protocol.ticket import SignedTicket
from .costs import Costs, RoundCosts
from .virtual_cohort import LOST_AT, VirtualCohort
from .virtual_peer import PublicKeys, VirtualPeer

_NO_CA = bytes(32)


class Hub:
    """`app`: SHA-256 of the app's bundle, as Flower's run has it; `lost`: the share of peers lost each round.

    `seed` chooses who is lost, and when; from twice `group_size` peers on there are groups. The methods may
    be called from any thread.
    """

    def __init__(
        self,
        mode: str,
        app: bytes,
        *,
        lost: float = 0.0,
        seed: int = 0,
        group_size: int = GROUP_SIZE,
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self.signer = signer(key)
        self.keys = PublicKeys({AGGREGATOR: key.public_key()})
        self.lock = threading.RLock()
        # As `smpcfl demo` has them: one operator runs all of these.
        self.policy = Policy(modes=(mode,), min_cohort=3, tickets_per_hour=10**6, weighted_by=())
        self._app = app
        self._lost = lost
        self._seed = seed
        self._group_size = group_size
        self._groups: tuple[Group, ...] = ()
        self._by_node: dict[int, VirtualPeer] = {}
        self._by_name: dict[str, VirtualPeer] = {}
        self._cohorts: dict[bytes, VirtualCohort] = {}
        self._lost_when: Counter[str] = Counter()

    # -- who is there -----------------------------------------------------------------------------

    def join(self, nodes: Iterable[int]) -> dict[int, str]:
        """Peer ids by Flower's nodes, of which new ones get an agent."""
        with self.lock:
            for node in sorted(set(nodes) - self._by_node.keys()):
                name = f"peer-{len(self._by_node):05d}"
                peer = VirtualPeer(node, name, self.policy, self.keys, self._needs_groups)
                self._by_node[node] = self._by_name[name] = peer
            return {node: self._by_node[node].name for node in nodes}

    def _needs_groups(self) -> bool:
        return may_be_cut(len(self._by_name), self._group_size)

    def peer(self, node: int) -> VirtualPeer:
        """RemoteError if no agent of this node was ever asked for."""
        found = self._by_node.get(node)
        if found is None:
            raise RemoteError(Reason.NOT_IN_COHORT, "no virtual peer on this node", found=node)
        return found

    def groups(self) -> tuple[Group, ...]:
        """Those of the newest draw, which is made anew where a peer is in none, or after its time.

        None where there are too few peers for two groups. What the registry does in a deployment, and tells
        each peer of its own group, is done here.
        """
        with self.lock:
            if not self._needs_groups():
                return ()
            now = int(time.time())
            last = self._groups[0] if self._groups else None
            if last is None or now >= last.expires or last.drawn < len(self._by_name):
                enrolled = {name: peer.fingerprint for name, peer in self._by_name.items()}
                groups = make_groups(
                    enrolled,
                    enrolled,
                    ca=_NO_CA,
                    draw=last.draw + 1 if last is not None else 1,
                    issued=now,
                    group_size=self._group_size,
                    entropy=os.urandom,
                )
                for group in groups:
                    for name in group.cohort:
                        self._by_name[name].learn(group)
                self._groups = tuple(groups)
            return self._groups

    # -- for ClientApps ---------------------------------------------------------------------------

    def begin(
        self, node: int, ticket: SignedTicket, model_digest: bytes, content_digest: bytes
    ) -> Round:
        """The round, in which this peer may train now. The first of a round has it take place.

        RemoteError if the peer refuses, or was lost before.
        """
        with self.lock:
            name = self.peer(node).name
            digest = ticket.ticket.digest
            if digest not in self._cohorts:
                self._open(ticket)
            return self._cohorts[digest].begin(
                name, model_digest, config_digest(content_digest, self._app)
            )

    def _open(self, ticket: SignedTicket) -> None:
        members = [self._by_name[name] for name in ticket.ticket.cohort if name in self._by_name]
        busy = {peer.name for peer in members}
        for digest, cohort in list(self._cohorts.items()):
            if not busy.isdisjoint(cohort.ticket.cohort):
                cohort.close()
                del self._cohorts[digest]
        if not self._cohorts:
            self.keys.forget()
        lost = self.lost_in(ticket.ticket.run, ticket.ticket.round)
        opened = VirtualCohort(ticket, members, lost, int(time.time() * 1000))
        self._cohorts[ticket.ticket.digest] = opened
        self._lost_when.update(lost[peer] for peer in ticket.ticket.cohort if peer in lost)

    def lost_in(self, run: int, number: int) -> Mapping[str, str]:
        """When which peers are lost in round `number`: the same in its training and its evaluation."""

        def drawn(name: str) -> bytes:
            return hashlib.sha256(f"{self._seed}/{run}/{number}/{name}".encode()).digest()

        order = sorted(self._by_name, key=drawn)
        chosen = order[: round(self._lost * len(order))]
        return {name: LOST_AT[drawn(name)[-1] % len(LOST_AT)] for name in chosen}

    def round_of(self, node: int, ticket_digest: bytes) -> Round:
        """RemoteError if the peer has no such round, or was lost in it."""
        with self.lock:
            return self._cohort(ticket_digest).round_of(self.peer(node).name)

    def masks(
        self, node: int, ticket_digest: bytes, *, failed: bool
    ) -> tuple[Round, SeededMasks | AdditiveMasks, Header]:
        """The masks of the round; RemoteError if there never will be any. `failed`: training did."""
        with self.lock:
            name, cohort = self.peer(node).name, self._cohort(ticket_digest)
            masks, header = cohort.masks(name, failed=failed)
            return cohort.round_of(name), masks, header

    def freeze(self, node: int, ticket_digest: bytes, vector: bytes) -> int:
        """Freezes the upload; the bytes that its peer has sent to others in this round."""
        with self.lock:
            return self._cohort(ticket_digest).freeze(self.peer(node).name, vector)

    def _cohort(self, ticket_digest: bytes) -> VirtualCohort:
        if ticket_digest not in self._cohorts:
            raise RemoteError(Reason.UNKNOWN_TICKET)
        return self._cohorts[ticket_digest]

    # -- for the ServerApp ------------------------------------------------------------------------

    def unmask(self, message: Survivors) -> dict[str, Answer | RemoteError]:
        """What each peer that is there answers, by peer id."""
        with self.lock:
            return self._cohort(message.ticket_digest).unmask(message)

    def p2p_bytes(self, ticket_digest: bytes) -> dict[str, int]:
        """Sent to other peers in this round, by each peer that is still there."""
        with self.lock:
            return self._cohort(ticket_digest).p2p_bytes()

    def close(self, ticket_digest: bytes) -> None:
        """The round is over: its secrets and uploads go."""
        with self.lock:
            if (cohort := self._cohorts.pop(ticket_digest, None)) is not None:
                cohort.close()

    def costs(self) -> RoundCosts:
        """Since this was last asked."""
        with self.lock:
            spent = [peer.costs for peer in self._by_name.values() if peer.costs.verified]
            found = RoundCosts.of(spent, self._lost_when)
            for peer in self._by_name.values():
                peer.costs = Costs()
            self._lost_when.clear()
            return found
