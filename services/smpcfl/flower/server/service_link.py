"""The ServerApp's link to the aggregator's service: its identity and state folder, and where to report."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
from flwr.app import Message
from flwr.serverapp import Grid

from smpc.v1 import local_pb2 as pb
from smpc.v1 import local_pb2_grpc as pb_grpc

from ...base.ledger_file import open_ledger
from ...base.log_events import fields_of
from ...base.repeats import Repeats
from ...base.state import State
from ...net import certificates, rpc, versions
from ...net.certificates import Identity, IdentityError
from ...net.versions import Spoken
from ...protocol.draw import Group
from ...protocol.errors import LocalError, RemoteError
from ...protocol.ledger import Ledger
from ...protocol.signing import Signer
from ...protocol.ticket import MODES
from ...reports.record import RoundRecord, line
from ...runs.run_events import encodable, record_to_proto
from . import probe
from .drawn_groups import DrawnGroups
from .next_serial import next_serial
from .nodes import PeerNodes, names_of
from .peer_calls import PeerCalls
from .progress import Progress
from .replies import Lost, ask_all
from .seen import SeenUpdates
from .unmasking import Unmasking

STATE_VARIABLE = "SMPCFL_AGGREGATOR_STATE"
REGISTRY_VARIABLE = "SMPCFL_REGISTRY"
SEEN_VARIABLE = "SMPCFL_KEEP_SEEN"
_NAMES_S = 15.0
_REPLIED_S = 0.25


_carried: set[int] = set()


@dataclass
class Server:
    """What the ServerApp needs of the aggregator's service: its identity, and where to report."""

    state: Path
    own: Identity | None
    registry: str
    ledger: Ledger
    run: int = 0
    progress: Progress | None = None
    rounds: int | None = None
    drawn: DrawnGroups | None = None
    seen: SeenUpdates | None = None
    _replied: float = 0.0  # time.monotonic()

    @classmethod
    def load(cls, mode: str, flower_run: str) -> Server:
        """Sends this process's warnings to the service from now on.

        LocalError if the ServerApp was not started by `smpcfl aggregator`.
        """
        folder = os.environ.get(STATE_VARIABLE)
        if not folder:
            raise LocalError(
                f"{STATE_VARIABLE} is not set: start the SuperLink with `smpcfl aggregator`"
            )
        state = Path(folder)
        own = None
        if MODES[mode].secure:
            own = certificates.load(state, certificates.load_ca(State(state).ca))
            if own is None:
                raise LocalError(
                    f"no valid certificate in {state}: start `smpcfl aggregator` again"
                )
        registry = os.environ.get(REGISTRY_VARIABLE, "registry:9200")
        ledger = open_ledger(State(state).ledger)
        # A plain `flwr run` goes by Flower's number, unless its app starts more than one training.
        run = int(flower_run) if int(flower_run) not in _carried else secrets.randbits(63)
        _carried.add(int(flower_run))
        drawn = None if own is None else DrawnGroups(own, registry, state)
        seen = SeenUpdates(State(state).seen) if os.environ.get(SEEN_VARIABLE) == "on" else None
        server = cls(state, own, registry, ledger, run, drawn=drawn, seen=seen)
        server.forward_log()
        progress = Progress.of(state, flower_run)
        return replace(server, run=progress.run, progress=progress) if progress else server

    def forward_log(self) -> None:
        """Of this process, from now on."""
        own_log = logging.getLogger("smpcfl")
        own_log.setLevel(logging.INFO)
        if not any(isinstance(handler, _Forward) for handler in own_log.handlers):
            own_log.addHandler(_Forward(self))

    # -- what a round needs -----------------------------------------------------------------------

    @property
    def signer(self) -> Signer:
        """Of the aggregator; only in a secure mode there is one."""
        assert self.own is not None
        return self.own.signer

    def nodes(self, least: int) -> PeerNodes | None:
        """Which of Flower's nodes is which peer; None where nobody has to say. `least`: of PeerNodes."""
        return PeerNodes(self.own.ca, least=least) if self.own is not None else None

    def names(self, grid: Grid, nodes: Iterable[int]) -> tuple[dict[int, str], list[float]]:
        """See `names_of`; of nobody where the CA is not known."""
        try:
            ca = certificates.load_ca(State(self.state).ca)
        except (OSError, IdentityError):
            return {}, []
        return names_of(grid, nodes, ca, _NAMES_S)

    def next_serial(self) -> int:
        """For a ticket: above all before."""
        return next_serial(State(self.state).serial)

    def unmasking(self) -> Unmasking:
        """For one round."""
        assert self.own is not None
        calls = PeerCalls(self.report)
        return Unmasking(self.own, self.registry, self.state, self.refused, calls)

    def ask(
        self,
        grid: Grid,
        messages: Iterable[Message],
        timeout: float,
        use: Callable[[int, Message], object],
        grace: float | None,
        lost: Lost = lambda missing, late: False,
    ) -> set[int]:
        """See `ask_all`."""
        return ask_all(grid, messages, timeout, use, grace, lost)

    # -- what it reports --------------------------------------------------------------------------

    def announce(self, rounds: int, done: int) -> None:
        """Reports to the service that a run starts, or goes on after round `done`."""
        self.rounds = rounds
        self.report(pb.RunEvent(start=pb.RunStart(run=self.run, rounds=rounds, done=done)))

    def begins(
        self, number: int, phase: str, cohort: Iterable[str] = (), survivors: Iterable[str] = ()
    ) -> None:
        """Reports to the service that a phase of round `number` begins."""
        names = {"cohort": list(cohort), "survivors": list(survivors)}
        self.report(
            pb.RunEvent(phase=pb.RoundPhase(run=self.run, round=number, phase=phase, **names))
        )

    def replied(self, count: int, of: int) -> None:
        """Reports to the service how many peers have replied in this round: the last one, and some before."""
        now = time.monotonic()
        if count == of or now - self._replied >= _REPLIED_S:
            self._replied = now
            self.report(pb.RunEvent(replies=pb.Replies(count=count)))

    def record(self, record: RoundRecord) -> None:
        """Prints the record, and hands it to the service: for its log and its metrics."""
        print(line(record, self.rounds), flush=True)
        self.report(pb.RunEvent(record=record_to_proto(record)))

    def refused(self, error: RemoteError) -> None:
        """Has the service count it: this process has no metrics."""
        self.report(pb.RunEvent(refusal=pb.Refusal(reason=error.reason.value)))

    def groups(self) -> tuple[Group, ...]:
        """Of the newest draw; none where the deployment is too small for groups. Waits for the first draw."""
        return self.drawn.now() if self.drawn is not None else ()

    def ledger_of(self, group: Group) -> Ledger:
        """What was done in this group."""
        assert self.drawn is not None
        return self.drawn.ledger(group)

    def probe(self, peers: Iterable[str]) -> dict[str, bytes]:
        """Of these peers, those whose agent answers, each with its instance."""
        assert self.own is not None
        # Before each round: the service renews the certificate, which this process may outlive.
        if (kept := certificates.load(self.state, self.own.ca)) is not None:
            self.own.certificate = kept.certificate
        calls = PeerCalls(self.report)
        return asyncio.run(probe.instances(self.own, self.registry, self.state, peers, calls))

    def other_protocols(self) -> dict[str, Spoken]:
        """Peers that take no ticket of this version, as the service last heard of them from the registry."""
        return versions.kept_others(State(self.state).roster)

    def report(self, event: pb.RunEvent) -> None:
        try:
            with rpc.local_channel(str(State(self.state).socket("rounds"))) as channel:
                pb_grpc.RoundsStub(channel).Record(event, timeout=5.0)
        except grpc.RpcError as error:
            # Not `log.warning`: it would come back here.
            print(f"the aggregator's service does not take events: {error}", flush=True)


class _Forward(logging.Handler):
    """To the aggregator's service, whose log the operator reads, and to whoever follows the run.

    Flower takes what a ServerApp prints for `flwr log`, and `smpcfl run` shows that.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(logging.INFO)
        self._server = server
        self._repeats = Repeats(time.monotonic)

    def emit(self, record: logging.LogRecord) -> None:
        for shown in self._repeats.take(record):
            self._tell(shown)

    def _tell(self, record: logging.LogRecord) -> None:
        text = encodable(record.getMessage())
        # It may quote what a peer sent, which must not drive the terminal.
        shown = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
        print(f"warning: {shown}" if record.levelno > logging.INFO else shown, flush=True)
        line = pb.LogLine(
            level=record.levelno,
            text=text,
            event=getattr(record, "event", ""),
            **fields_of(record),
        )
        self._server.report(pb.RunEvent(line=line))
