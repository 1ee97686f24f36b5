"""A Flower grid whose nodes are honest peers in memory: they reply as the mod and the agent of each would."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from flwr.app import ConfigRecord, Error, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from smpc.v1 import local_pb2, messages_pb2
from smpcfl.base.state import State
from smpcfl.flower.client import mod
from smpcfl.flower.client.mod import Arrays
from smpcfl.flower.shared.records import (
    ERROR_CODE,
    RECORD,
    VECTOR,
    arrays_of,
    config_of,
    content_digest,
    vector_record,
    with_arrays,
)
from smpcfl.net import certificates, wire
from smpcfl.net.certificates import Role
from smpcfl.net.node_proof import node_bytes
from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.digests import config_digest
from smpcfl.protocol.draw import Group
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.grouping import Drawn
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.ledger import Ledger
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.quantise import model_digest
from smpcfl.protocol.signing import AGGREGATOR, KeyTable, Signer, signer
from smpcfl.protocol.ticket import ADDITIVE, SEEDED, SignedTicket
from support.drawn import drawn
from support.enrolled import Deployment
from support.network import peer_ids
from support.remembering import Remembering

APP = "ab" * 32
EXAMPLES = 30
METRICS = {"train_loss": 1.0}
P2P_BYTES = 100  # that each peer says it sent to others before its upload, and as many after it
UNMASK_BYTES = 70, 90  # of a round: in, out


class FlowerPeers(Grid):
    """`count` peers of a deployment in `folder`, on the nodes 1, 2, ... Scripts go in the attributes.

    `lost[peer]` is the phase (of `Network`) at which the peer vanishes from the next round; `altered[peer]`
    changes its reply on the way. Training adds `steps[peer]` to each float, on `examples[peer]` examples, and
    fails on the `failing`. Apps reply with the arrays named in `part` alone, if it names any. Apps report
    `METRICS`, or `metrics[peer]`. A message without a ticket is answered as plain Flower does.
    """

    def __init__(self, count: int, folder: Path) -> None:
        self.deployment = Deployment(folder / "deployment")
        self.aggregator = self.deployment.identity(Role.AGGREGATOR, AGGREGATOR)
        self.nodes: dict[int, str] = {}
        self.agents: dict[str, bytes] = {}  # those that are there, each with its instance
        self.lost: dict[str, str] = {}
        self.altered: dict[str, Callable[[Message], Message]] = {}
        self.steps: dict[str, float] = {}
        self.examples: dict[str, int] = {}
        self.failing: set[str] = set()
        self.part: set[str] = set()
        self.metrics: dict[str, Any] = {}
        self.weighted_by = "num-examples"
        self.deny: set[str] = set()  # they do not say who they are
        self.policy = Policy(modes=(SEEDED, ADDITIVE))
        self.ledgers: dict[str, Ledger] = {}
        self.now_ms = int(time.time() * 1000)
        self.slept: list[float] = []
        self.rounds: list[Remembering] = []
        self.probed: list[list[str]] = []
        self.asked: list[Message] = []  # the train messages
        self.asked_rounds: list[int] = []  # `server-round` in their configuration, once a try
        self.groups: tuple[Group, ...] = ()  # of the draw, if the deployment is cut into groups
        self.reported: list[local_pb2.RunEvent] = []  # by the ServerApp, to its service
        self._certificates: dict[str, bytes] = {}
        self._replies: dict[str, Message] = {}
        self._run = Run.create_empty(1)
        self._run.fab_hash = APP
        for peer in peer_ids(count):
            self.join(peer)

    def join(self, peer: str) -> None:
        self.nodes[len(self.nodes) + 1] = peer
        self.agents[peer] = b"1"
        self._certificates[peer] = self.deployment.certificate(Role.PEER, peer)

    def keep_state(self, folder: Path) -> None:
        """As the aggregator's service leaves its state folder for a ServerApp."""
        folder.mkdir(parents=True, exist_ok=True)
        certificates.save(folder, self.aggregator)
        State(folder).ca.write_bytes(certificates.pem(self.deployment.ca))

    # -- Flower's Grid --------------------------------------------------------------------------

    @property
    def run(self) -> Run:
        return self._run

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        keys, training = [], {}
        for message in messages:
            key = f"message-{time.monotonic_ns()}-{message.metadata.dst_node_id}"
            message.metadata.__dict__["_message_id"] = key
            keys.append(key)
            ours = config_of(message.content)
            if ours is not None and "identify" in ours:
                self._replies[key] = self._identity(message)
            else:
                training[self.nodes[message.metadata.dst_node_id]] = message
        if training:
            self.asked += training.values()
            configs = next(iter(training.values())).content.config_records
            self.asked_rounds.append(configs["config"].get("server-round", 0))  # type: ignore[arg-type]
            plain = config_of(next(iter(training.values())).content) is None
            answer = self._train_plainly if plain else self._train_groups
            for peer, reply in answer(training).items():
                self._replies[training[peer].metadata.message_id] = reply
        return keys

    def _train_groups(self, messages: dict[str, Message]) -> dict[str, Message]:
        """Each cohort, which has a ticket of its own, for itself."""
        cohorts: dict[bytes, dict[str, Message]] = {}
        for peer, message in messages.items():
            cohorts.setdefault(ticket_of(message).ticket.digest, {})[peer] = message
        replies: dict[str, Message] = {}
        lost, self.lost = self.lost, {}
        for cohort in cohorts.values():
            self.lost = {peer: phase for peer, phase in lost.items() if peer in cohort}
            replies |= self._train(cohort)
        self.lost = {}
        return replies

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [self._replies[key] for key in message_ids if key in self._replies]

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    def create_message(self, *_: Any, **__: Any) -> Message:
        raise NotImplementedError

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """As Flower's does, where all reply at once: push, then pull."""
        return self.pull_messages(self.push_messages(messages))

    # -- the peers ------------------------------------------------------------------------------

    def probe(self, peers: Iterable[str]) -> dict[str, bytes]:
        self.probed.append(list(peers))
        return {peer: self.agents[peer] for peer in self.probed[-1] if peer in self.agents}

    def sleep(self, seconds: float) -> None:
        """In place of `time.sleep`: time passes for the peers alone."""
        assert len(self.slept) < 1000, "nothing comes of this waiting"
        self.slept.append(seconds)
        self.now_ms += int(seconds * 1000)

    def _identity(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        peer = self.nodes[node]
        if peer in self.deny:
            return Message(Error(ERROR_CODE, "no agent"), reply_to=message)
        instance = self.agents.get(peer, b"1")
        answer = {
            "start": instance,
            "certificate": self._certificates[peer],
            "signature": self._signer_of(peer)(node_bytes(node, instance)),
        }
        return Message(RecordDict({RECORD: ConfigRecord(answer)}), reply_to=message)

    def _signer_of(self, name: str) -> Signer:
        return signer(self.deployment.key(name))

    def _train_plainly(self, messages: dict[str, Message]) -> dict[str, Message]:
        replies = {}
        for peer, message in messages.items():
            replies[peer] = Message(self._app(peer, message), reply_to=message)
        return self._sent(replies)

    def _train(self, messages: dict[str, Message]) -> dict[str, Message]:
        """The replies, by peer, of those that give one."""
        for message in messages.values():
            assert content_of(message) == content_of(next(iter(messages.values())))
        signed = ticket_of(next(iter(messages.values())))
        away = set(signed.ticket.cohort) - messages.keys()
        round_ = self._network(signed)
        round_.lost |= dict.fromkeys(away, "ticket")
        self.rounds.append(round_)
        for peer in round_.lost:
            self.agents.pop(peer, None)
        round_.start()
        round_.alive &= round_.rounds.keys()  # whoever refuses is missing to the others
        round_.exchange()
        round_.ready()
        for peer in round_.rounds.keys() - round_.failing:
            round_.addends[peer] = self._addend(round_, peer, messages[peer])
        round_.upload()
        replies = {
            peer: Message(Error(ERROR_CODE, str(error)), reply_to=messages[peer])
            for peer, error in round_.errors
            if peer not in round_.uploads and peer not in round_.lost
        }
        for peer, upload in round_.uploads.items():
            if peer in round_.alive:
                meta = wire.upload_meta_to_proto(upload.header, upload.announcement)
                ours = {"meta": meta.SerializeToString(), "p2p-bytes": P2P_BYTES}
                content = {RECORD: ConfigRecord(ours), VECTOR: vector_record(upload.vector)}
                replies[peer] = Message(RecordDict(content), reply_to=messages[peer])
        return self._sent(replies)

    def _sent(self, replies: dict[str, Message]) -> dict[str, Message]:
        for peer in [peer for peer in self.altered if peer in replies]:
            replies[peer] = self.altered.pop(peer)(replies[peer])
        return replies

    def _network(self, signed: SignedTicket) -> Remembering:
        lost, self.lost = self.lost, {}
        round_ = Remembering(
            signed,
            lost=lost,
            failing=self.failing & set(signed.ticket.cohort),
            policy=self.policy,
            ledgers=self.ledgers,
            now_ms=self.now_ms,
            drawn=drawn(self.groups) if self.groups else Drawn(),
        )
        names = (*self._certificates, AGGREGATOR)
        round_.keyring = KeyTable({name: self.deployment.key(name).public_key() for name in names})
        round_.signer_of = self._signer_of
        return round_

    def _addend(self, round_: Remembering, peer: str, message: Message) -> Any:
        """As the mod makes it, after the checks of the mod and of the agent."""
        ticket = round_.ticket
        given = arrays_of(message.content)
        content = content_digest(message.content, message.metadata.message_type, {})
        assert ticket.model_digest == model_digest(given)
        assert ticket.config_digest == config_digest(content, bytes.fromhex(APP))
        reply = SimpleNamespace(content=self._app(peer, message))
        addend, _ = mod._addend(
            ticket, given, cast(Any, reply), Secret(bytes([ticket.index(peer)]) * 32)
        )
        return addend

    def _app(self, peer: str, message: Message) -> RecordDict:
        """What the ClientApp replies with."""
        examples = {self.weighted_by: self.examples.get(peer, EXAMPLES)}
        metrics = MetricRecord({**examples, **self.metrics.get(peer, METRICS)})
        if message.metadata.message_type == MessageType.EVALUATE:
            return RecordDict({"metrics": metrics})
        trained = with_arrays(message.content, self._trained(peer, arrays_of(message.content)))
        return RecordDict({**trained.array_records, "metrics": metrics})

    def _trained(self, peer: str, given: Arrays) -> Arrays:
        step = self.steps.get(peer, 0.0)
        return {
            k: a + a.dtype.type(step) if a.dtype.kind == "f" else a
            for k, a in given.items()
            if not self.part or k in self.part
        }

    # -- agree and unmask -----------------------------------------------------------------------

    def unmasking(self, *_: Any) -> Unmasking:
        """In place of `smpcfl.flower.server.unmasking.Unmasking`."""
        return Unmasking(self)


class Unmasking:
    """Asks the peers of the last round in memory."""

    def __init__(self, peers: FlowerPeers) -> None:
        self._peers = peers
        self.bytes_in = self.bytes_out = 0
        self.p2p_bytes: dict[str, int] = {}
        self.reasons: Counter[Reason] = Counter()
        self.directory = SimpleNamespace(members=self)

    def verify(self, *signed: Any) -> bool:
        """By the keys of those who take part; all of them know every key."""
        return self._peers.rounds[-1].keyring.verify(*signed)

    async def __aenter__(self) -> Unmasking:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def refresh(self) -> bool:
        return True

    async def run(self, state: AggregatorRound) -> None:
        (round_,) = (
            round_ for round_ in self._peers.rounds if round_.ticket.digest == state.ticket.digest
        )
        round_.aggregator = state
        round_.answer()
        self.bytes_in, self.bytes_out = UNMASK_BYTES
        self.reasons.update(error.reason for _, error in round_.errors)
        self.p2p_bytes = dict.fromkeys(round_.alive, 2 * P2P_BYTES)

    def another(self) -> Unmasking:
        return Unmasking(self._peers)


def ticket_of(message: Message) -> SignedTicket:
    ours = config_of(message.content)
    assert ours is not None
    return wire.ticket_from_proto(
        wire.parse(messages_pb2.SignedTicket, bytes(ours["ticket"]))  # type: ignore[arg-type]
    )


def content_of(message: Message) -> bytes:
    """What is the same in the train messages of one round."""
    kind = message.metadata.message_type
    return content_digest(message.content, kind, {}) + ticket_of(message).ticket.digest


MakePeers = Callable[[int], FlowerPeers]
