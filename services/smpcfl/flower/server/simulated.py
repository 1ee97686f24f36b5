"""In Flower's simulation engine: what the aggregator's service and the peers are elsewhere is the hub here.

The engine runs the ServerApp as a thread of its own process, beside which the hub has another one, and
ClientApps one after another in a few actors.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
import time
from atexit import register as at_exit
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace, TracebackType
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from flwr.app import Message
from flwr.serverapp import Grid

from smpc.v1 import local_pb2 as pb
from smpc.v1 import messages_pb2, peer_pb2

from ...base.log_events import LogEvent, about
from ...net import hub_socket, rpc, wire
from ...protocol.aggregator_round import AggregatorRound
from ...protocol.draw import Group
from ...protocol.errors import Reason, RemoteError
from ...protocol.ledger import Ledger
from ...protocol.signing import KeyTable, Signer
from ...reports.record import RoundRecord
from ...simulation import run_folder
from ...simulation.hub import Hub
from ...simulation.hub_process import SWITCH_S, HubProcess
from ..shared.records import config_of
from .grid_around import GridAround
from .nodes import PeerNodes, Probe
from .quick_delivery import deliver_quickly
from .replies import Lost
from .service_link import Server
from .unmasking import Unmasking

log = logging.getLogger("smpcfl.flower")
_POLL_S = 0.1
_ON_THEIR_WAY = 100  # messages: for each that the engine delivers, it goes through all of them


def server_of(grid: Grid, mode: str) -> Server:
    """What a ServerApp with this grid has in place of others. LocalError if it was not started by us."""
    inner = _innermost(grid)
    # No deployment has a grid of this kind: it is the engine's own memory.
    if type(inner).__name__ != "InMemoryGrid":
        return Server.load(mode, str(grid.run.run_id))
    deliver_quickly(inner.state, inner.get_node_ids())
    return SimulatedServer.start(grid, mode)


def _innermost(grid: Any) -> Any:
    while isinstance(grid, GridAround):
        grid = grid._grid
    return grid


@dataclass
class SimulatedServer(Server):
    """Nothing is kept on disk that outlives the run, but what `smpcfl simulate` shows."""

    hub: Hub = field(kw_only=True)
    members: KeyTable = field(default_factory=KeyTable)
    serial: int = 0
    ledgers: dict[tuple[int, int], Ledger] = field(default_factory=dict)

    @classmethod
    def start(cls, grid: Grid, mode: str) -> SimulatedServer:
        """Starts the hub of this run, and says what it is."""
        run = grid.run
        # The engine, too, hands each message through several threads, beside those that compute.
        sys.setswitchinterval(SWITCH_S)
        lost = run_folder.lost()
        print(run_folder.SAID, flush=True)
        process = HubProcess(run.run_id, mode, bytes.fromhex(run.fab_hash), lost=lost)
        at_exit(_remove, run.run_id, process)
        folder = hub_socket.folder_of(run.run_id)
        server = cls(folder, None, "", Ledger(), run.run_id, hub=process.hub)
        server.forward_log()
        return server

    # -- what a round needs -----------------------------------------------------------------------

    @property
    def signer(self) -> Signer:
        return self.hub.sign

    def nodes(self, least: int) -> PeerNodes | None:
        return cast(PeerNodes, _VirtualNodes(self))

    def names(self, grid: Grid, nodes: Iterable[int]) -> tuple[dict[int, str], list[float]]:
        return {}, []

    def next_serial(self) -> int:
        self.serial = max(self.serial + 1, int(time.time() * 1000))
        return self.serial

    def groups(self) -> tuple[Group, ...]:
        return self.hub.groups()

    def ledger_of(self, group: Group) -> Ledger:
        return self.ledgers.setdefault((group.draw, group.group), Ledger())

    def unmasking(self) -> Unmasking:
        return cast(Unmasking, _HubUnmasking(self))

    def probe(self, peers: Iterable[str]) -> dict[str, bytes]:
        return dict.fromkeys(peers, b"")

    def ask(
        self,
        grid: Grid,
        messages: Iterable[Message],
        timeout: float,
        use: Callable[[int, Message], object],
        grace: float | None,
        lost: Lost = lambda missing, late: False,
    ) -> set[int]:
        """Waits for all: the engine lets each ClientApp come to its end, one after another."""
        waiting, found = list(messages), set[int]()
        self._open(waiting)
        total, out = len(waiting), dict[str, int]()
        while waiting or out:
            batch, waiting = (
                waiting[: _ON_THEIR_WAY - len(out)],
                waiting[_ON_THEIR_WAY - len(out) :],
            )
            keys = grid.push_messages(batch)
            out |= zip(keys, (m.metadata.dst_node_id for m in batch), strict=True)
            for reply in grid.pull_messages(out):
                node = out.pop(reply.metadata.reply_to_message_id)
                use(node, reply)
                found.add(node)
            run_folder.show_progress(len(found), total)
            if out:
                time.sleep(_POLL_S)
        return found

    def _open(self, messages: Iterable[Message]) -> None:
        """Lets the exchanges of a round begin, in the order in which its ClientApps will."""
        records = (config_of(message.content) for message in messages)
        for ticket in dict.fromkeys(record["ticket"] for record in records if record is not None):
            proto = wire.parse(messages_pb2.SignedTicket, cast(bytes, ticket))
            self.hub.open(wire.ticket_from_proto(proto))

    # -- what it reports --------------------------------------------------------------------------

    def record(self, record: RoundRecord) -> None:
        super().record(record)
        costs = self.hub.costs()
        if costs.peers:
            print(f"  {costs.text()}", flush=True)
        run_folder.add(record.to_members(), asdict(costs))

    def report(self, event: pb.RunEvent) -> None:
        """There is no service to hear of it."""


def _remove(flower_run: int, process: HubProcess) -> None:
    process.close()
    shutil.rmtree(hub_socket.folder_of(flower_run), ignore_errors=True)


class _VirtualNodes:
    """In place of PeerNodes: nobody has to say who it is, and nobody is away between two rounds."""

    trip_s = None

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server

    def present(self, grid: Grid, probe: Probe) -> dict[int, str]:
        while len(nodes := list(grid.get_node_ids())) < run_folder.peers():
            time.sleep(_POLL_S)
        peers = self._server.hub.join(nodes)
        if not self._server.members.keys.keys() >= set(peers.values()):
            self._server.members = KeyTable(
                {
                    name: cast(EllipticCurvePublicKey, load_der_public_key(raw))
                    for name, raw in self._server.hub.public_keys().items()
                }
            )
        return peers

    def ask(self, grid: Grid) -> None:
        pass

    def lost(self, nodes: set[int], probe: Probe) -> bool:
        return False

    def missed(self, nodes: Iterable[int]) -> None:
        pass


class _HubUnmasking:
    """In place of Unmasking: asks all peers of a round at once, and takes as many answers as it needs."""

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server
        self._hub = server.hub
        self.bytes_in = 0
        self.bytes_out = 0
        self.p2p_bytes: dict[str, int] = {}
        self.reasons: Counter[Reason] = Counter()
        self.directory = SimpleNamespace(members=server.members)

    async def __aenter__(self) -> _HubUnmasking:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def another(self) -> _HubUnmasking:
        return _HubUnmasking(self._server)

    async def refresh(self) -> bool:
        return True

    async def run(self, state: AggregatorRound) -> None:
        message = state.survivors()
        self.bytes_out = len(state.ticket.cohort) * rpc.size(
            wire.survivors_to_proto(message, state.ticket)
        )
        answers = await asyncio.to_thread(self._hub.unmask, message)
        self.p2p_bytes = self._hub.p2p_bytes(state.ticket.digest)
        self._hub.close(state.ticket.digest)
        for peer, answer in answers.items():
            if isinstance(answer, RemoteError):
                self.reasons[answer.reason] += 1
                log.warning(
                    "%s does not unmask: %s",
                    peer,
                    answer,
                    extra=about(LogEvent.NOT_UNMASKED, peer=peer),
                )
                continue
            reply = peer_pb2.UnmaskReply(
                answer=wire.answer_to_proto(answer), p2p_bytes=self.p2p_bytes[peer]
            )
            self.bytes_in += rpc.size(reply)
            try:
                state.answer(peer, answer)
            except RemoteError as error:
                log.warning(
                    "the answer of %s is left out: %s",
                    peer,
                    error,
                    extra=about(LogEvent.NOT_UNMASKED, peer=peer),
                )
                self._server.refused(error)
            if state.enough():
                return
