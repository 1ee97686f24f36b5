"""The hub: the agents of all virtual peers in one process, with a network in memory between them."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ..net.agent_wire import Round
from ..protocol.digests import config_digest
from ..protocol.draw import GROUP_SIZE, Group, make_groups, may_be_cut
from ..protocol.errors import Reason, RemoteError
from ..protocol.masks import AdditiveMasks, SeededMasks
from ..protocol.messages import Answer, Header, Survivors
from ..protocol.policy import Policy
from ..protocol.signing import AGGREGATOR, signer
from ..protocol.ticket import SignedTicket, Ticket
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
        self.sign = signer(key)
        """As the aggregator."""
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
        # Exchanges take place one after another, beside the training of peers that have theirs behind them.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="cohorts")
        self._cohorts: dict[bytes, tuple[Ticket, Future[VirtualCohort]]] = {}
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

    def public_keys(self) -> dict[str, bytes]:
        """Of all peers that joined, and of the aggregator, by name: DER SubjectPublicKeyInfo."""
        with self.lock:
            return {
                name: key.public_bytes(
                    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
                )
                for name, key in self.keys.keys.items()
            }

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
        """The round, in which this peer may train now, once its exchange has taken place.

        RemoteError if the peer refuses, or was lost before.
        """
        name = self.peer(node).name
        self.open(ticket)
        cohort = self._cohort(ticket.ticket.digest)
        with cohort.lock:
            return cohort.begin(name, model_digest, config_digest(content_digest, self._app))

    def open(self, ticket: SignedTicket) -> None:
        """Has the round's exchange take place, after those asked for before, if nobody asked for it yet."""
        with self.lock:
            asked = ticket.ticket
            if asked.digest in self._cohorts:
                return
            members = [self._by_name[name] for name in asked.cohort if name in self._by_name]
            busy = {peer.name for peer in members}
            before = [
                digest
                for digest, (other, _) in self._cohorts.items()
                if not busy.isdisjoint(other.cohort)
            ]
            ended = [self._cohorts.pop(digest)[1] for digest in before]
            alone = not self._cohorts
            lost = self.lost_in(asked.run, asked.round)
            self._lost_when.update(lost[peer] for peer in asked.cohort if peer in lost)

            def exchange() -> VirtualCohort:
                for cohort in ended:
                    _close(cohort)
                if alone:
                    self.keys.forget()
                return VirtualCohort(ticket, members, lost, int(time.time() * 1000))

            self._cohorts[asked.digest] = asked, self._worker.submit(exchange)

    def lost_in(self, run: int, number: int) -> Mapping[str, str]:
        """When which peers are lost in round `number`: the same in its training and its evaluation."""

        def drawn(name: str) -> bytes:
            return hashlib.sha256(f"{self._seed}/{run}/{number}/{name}".encode()).digest()

        order = sorted(self._by_name, key=drawn)
        chosen = order[: round(self._lost * len(order))]
        return {name: LOST_AT[drawn(name)[-1] % len(LOST_AT)] for name in chosen}

    def round_of(self, node: int, ticket_digest: bytes) -> Round:
        """RemoteError if the peer has no such round, or was lost in it."""
        cohort = self._cohort(ticket_digest)
        with cohort.lock:
            return cohort.round_of(self.peer(node).name)

    def masks(
        self, node: int, ticket_digest: bytes, *, failed: bool
    ) -> tuple[Round, SeededMasks | AdditiveMasks, Header]:
        """The masks of the round; RemoteError if there never will be any. `failed`: training did."""
        name, cohort = self.peer(node).name, self._cohort(ticket_digest)
        with cohort.lock:
            masks, header = cohort.masks(name, failed=failed)
            return cohort.round_of(name), masks, header

    def freeze(self, node: int, ticket_digest: bytes, vector: bytes) -> int:
        """Freezes the upload; the bytes that its peer has sent to others in this round."""
        cohort = self._cohort(ticket_digest)
        with cohort.lock:
            return cohort.freeze(self.peer(node).name, vector)

    def _cohort(self, ticket_digest: bytes) -> VirtualCohort:
        """After its exchange."""
        with self.lock:
            if ticket_digest not in self._cohorts:
                raise RemoteError(Reason.UNKNOWN_TICKET)
            _, cohort = self._cohorts[ticket_digest]
        return cohort.result()

    # -- for the ServerApp ------------------------------------------------------------------------

    def unmask(self, message: Survivors) -> dict[str, Answer | RemoteError]:
        """What each peer that is there answers, by peer id."""
        cohort = self._cohort(message.ticket_digest)

        def unmask() -> dict[str, Answer | RemoteError]:
            with cohort.lock:
                return cohort.unmask(message)

        # One after another: while one cohort does so, the aggregator is busy with the answers of another.
        return self._worker.submit(unmask).result()

    def p2p_bytes(self, ticket_digest: bytes) -> dict[str, int]:
        """Sent to other peers in this round, by each peer that is still there."""
        cohort = self._cohort(ticket_digest)
        with cohort.lock:
            return cohort.p2p_bytes()

    def close(self, ticket_digest: bytes) -> None:
        """The round is over: its secrets and uploads go."""
        with self.lock:
            found = self._cohorts.pop(ticket_digest, None)
        if found is not None:
            _close(found[1])

    def costs(self) -> RoundCosts:
        """Since this was last asked."""
        with self.lock:
            spent = [peer.costs for peer in self._by_name.values() if peer.costs.verified]
            found = RoundCosts.of(spent, self._lost_when)
            for peer in self._by_name.values():
                peer.costs = Costs()
            self._lost_when.clear()
            return found


def _close(cohort: Future[VirtualCohort]) -> None:
    """Once its exchange is over; one that failed has nothing to wipe."""
    if cohort.exception() is None:
        cohort.result().close()
