"""Every metric of smpcfl, declared in this one file.

Each carries the label `mode`, bound once by `Metrics(mode)`. Counters whose labels are all known
beforehand start at zero, so that their first increment is an increase; any other series appears
when it is first written, so that a process shows only what it measures.

A number that belongs to one peer's data (its examples, loss, correct predictions) is never a
metric: `model_accuracy` and `model_loss` are those of the global model.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from threading import Thread
from typing import Generic, TypeAlias, TypeVar
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..protocol.ticket import MODES
from .config import cannot_listen
from .log import not_delivered

# When a series was first written is when a phase ended, to the millisecond.
disable_created_metrics()  # type: ignore[no-untyped-call]

PHASES = ("exchange", "ready", "train", "upload", "agree", "unmask", "sum", "evaluate")
OUTCOMES = ("complete", "void")
DIRECTIONS = ("in", "out")
CHANNELS = ("flower", "p2p", "unmask")
CONNECTIONS = ("peer", "flower", "registry")
VIA = ("mdns", "registry")

_RPC_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROUND_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800)

Values: TypeAlias = tuple[str, ...] | None
"""The values that a label may take; None: bounded by the caller (an enum, the RPC methods)."""

M = TypeVar("M", bound=MetricWrapperBase)


class Family(Generic[M]):
    """One metric under its full name, with `mode` bound and the values of its labels checked."""

    def __init__(self, metric: M, name: str, mode: str, labels: Mapping[str, Values]) -> None:
        self.metric = metric
        self.name = name
        self.mode = mode
        self.values: dict[str, Values] = {"mode": tuple(MODES), **labels}

    def labels(self, **labels: str) -> M:
        """The series with these labels (all but `mode`); ValueError for an undeclared one."""
        for label, value in labels.items():
            allowed = self.values.get(label, ())
            if allowed is not None and value not in allowed:
                raise ValueError(f"{self.name}: undeclared label {label}={value!r}")
        return self.metric.labels(mode=self.mode, **labels)


class CounterFamily(Family[Counter]):
    """A counter, written with `inc`."""

    def inc(self, amount: float = 1, /, **labels: str) -> None:
        """Add `amount` (>= 0)."""
        self.labels(**labels).inc(amount)

    def start_at_zero(self, **values: Iterable[str]) -> None:
        """Show every combination of these values as 0 before it first happens."""
        for combination in product(*values.values()):
            self.labels(**dict(zip(values, combination, strict=True)))


class GaugeFamily(Family[Gauge]):
    """A gauge, written with `set`."""

    def set(self, value: float, /, **labels: str) -> None:
        """Set to `value`, in the metric's unit."""
        self.labels(**labels).set(value)


class HistogramFamily(Family[Histogram]):
    """A histogram of seconds, written with `observe` or `time`."""

    def observe(self, seconds: float, /, **labels: str) -> None:
        """Record one duration in seconds."""
        self.labels(**labels).observe(seconds)

    def time(self, **labels: str) -> AbstractContextManager[object]:
        """Record how long the `with` block takes, whether or not it raises."""
        return self.labels(**labels).time()


class _BeforeScrape(Collector):
    """No metric: what is to be done before those that are registered after it are read."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def collect(self) -> Iterable[Metric]:
        for call in tuple(self.calls):
            call()
        return ()


class Metrics:
    """All metrics of one process in one mode; attributes are the names without prefix and unit.

    `registry` defaults to a new one, which shows the process's CPU and memory as well. What is in
    `before_scrape` is called by whoever scrapes, in a thread of its own. ValueError for an unknown mode.
    """

    def __init__(self, mode: str, registry: CollectorRegistry | None = None) -> None:
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}, expected one of {', '.join(MODES)}")
        if registry is None:
            registry = CollectorRegistry()
            registry.register(_Process())
        self.mode = mode
        self.registry = registry
        before = _BeforeScrape()
        self.before_scrape = before.calls
        registry.register(before)
        self.families: list[CounterFamily | GaugeFamily | HistogramFamily] = []

        self.model_accuracy = self._gauge(
            "smpcfl_model_accuracy", "Accuracy of the global model on held-out data, 0 to 1"
        )
        self.model_loss = self._gauge(
            "smpcfl_model_loss", "Loss of the global model on held-out data"
        )
        self.round = self._gauge("smpcfl_round", "Number of the current round")
        self.rounds_left = self._gauge(
            "smpcfl_rounds_left", "Rounds of the current training run still to come"
        )
        self.rounds = self._counter(
            "smpcfl_rounds_total", "Rounds that ended, by outcome", outcome=OUTCOMES
        )
        self.void_rounds = self._counter(
            "smpcfl_void_rounds_total", "Rounds that ended void, by reason", reason=None
        )
        self.failed_trainings = self._counter(
            "smpcfl_failed_trainings_total",
            "Survivors whose training failed, over all complete rounds; nobody learns which",
        )
        self.group_rounds = self._counter(
            "smpcfl_group_rounds_total",
            "Groups' parts of rounds that ended, by outcome",
            outcome=OUTCOMES,
        )
        self.suspected = self._gauge(
            "smpcfl_suspected_peers",
            "Peers whose groups keep ending void while others complete; the log names them",
        )
        self.round_duration = self._histogram(
            "smpcfl_round_duration_seconds", "Time from ticket to sum", _ROUND_BUCKETS_S
        )
        self.phase_duration = self._histogram(
            "smpcfl_phase_duration_seconds", "Time by phase", _ROUND_BUCKETS_S, phase=PHASES
        )
        self.deadline = self._gauge(
            "smpcfl_deadline_seconds",
            "Deadlines of the current round, after its ticket was first seen",
            phase=PHASES,
        )
        self.bytes = self._counter(
            "smpcfl_bytes_total",
            "Payload: bytes of messages, as protobuf with gRPC's frame, and of Flower's messages as their"
            " objects and an envelope; TLS, HTTP and acknowledgements not included",
            direction=DIRECTIONS,
            channel=CHANNELS,
        )
        self.wire_bytes = self._counter(
            "smpcfl_wire_bytes_total",
            "On the wire: bytes that this service's TCP connections carried, TLS, HTTP and gRPC's"
            " acknowledgements included, headers of TCP and IP not; absent where the system does not tell",
            zero=False,
            direction=DIRECTIONS,
            connection=CONNECTIONS,
        )
        self.peer_round_bytes = self._gauge(
            "smpcfl_peer_round_bytes",
            "Bytes of messages of one peer in the last round, as the mean over its cohort",
            direction=DIRECTIONS,
            channel=CHANNELS,
        )
        self.plain_update = self._gauge(
            "smpcfl_plain_update_bytes", "What one peer's update would take in the clear"
        )
        self.flower_seconds = self._gauge(
            "smpcfl_flower_seconds",
            "What a message through Flower took although there was nothing to do",
        )
        self.rpc_duration = self._histogram(
            "smpcfl_rpc_duration_seconds",
            "Time of one gRPC call, by method and outcome",
            _RPC_BUCKETS_S,
            method=None,
            outcome=None,
        )
        self.cohort_peers = self._gauge("smpcfl_cohort_peers", "Peers in the cohort of the round")
        self.withstood = self._gauge(
            "smpcfl_withstood_colluders",
            "Peers of the round's cohort that may collude with the aggregator and learn the sum only",
        )
        self.survivors = self._gauge(
            "smpcfl_survivors", "Peers whose partial sum counted in the last round"
        )
        self.contributors = self._gauge(
            "smpcfl_contributors", "Survivors of the last round whose training succeeded"
        )
        self.dropouts = self._counter(
            "smpcfl_dropouts_total", "Peers of a cohort lost, by phase", phase=PHASES
        )
        self.rejected = self._counter(
            "smpcfl_rejected_total", "Messages rejected, by reason", reason=None
        )
        self.peers_discovered = self._gauge(
            "smpcfl_peers_discovered",
            "Peers known, a peer itself included, by how they were found",
            via=VIA,
        )
        self.certificate_expiry = self._gauge(
            "smpcfl_certificate_expiry_timestamp_seconds",
            "When this process' certificate expires unless it is renewed, seconds since the epoch",
        )
        self.roster_peers = self._gauge("smpcfl_roster_peers", "Peers in the registry's roster")
        self.build_info = self._gauge(
            "smpcfl_build_info", "Always 1; the label has the version", version=None
        )
        self.build_info.set(1, version=_package_version())

    def serve(self, host: str, port: int) -> tuple[WSGIServer, Thread]:
        """Serve /metrics from a daemon thread; port 0 takes a free one (`server.server_port`).

        PortInUse if the port is taken; ConfigError if it cannot be bound otherwise.
        """
        try:
            server, thread = start_http_server(port, host, self.registry)
        except OSError as error:
            raise cannot_listen(host, port, "metrics-port", error) from error
        server.handle_error = not_delivered  # type: ignore[method-assign]
        return server, thread

    def _counter(
        self, name: str, text: str, *, zero: bool = True, **labels: Values
    ) -> CounterFamily:
        """`zero`: shown from the start, if all values of its labels are known."""
        metric = Counter(name, text, ("mode", *labels), registry=self.registry)
        family = CounterFamily(metric, name, self.mode, labels)
        known = {label: values for label, values in labels.items() if values is not None}
        if zero and known == labels:
            family.start_at_zero(**known)
        self.families.append(family)
        return family

    def _gauge(self, name: str, text: str, **labels: Values) -> GaugeFamily:
        metric = Gauge(name, text, ("mode", *labels), registry=self.registry)
        family = GaugeFamily(metric, name, self.mode, labels)
        self.families.append(family)
        return family

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], **labels: Values
    ) -> HistogramFamily:
        metric = Histogram(name, text, ("mode", *labels), registry=self.registry, buckets=buckets)
        family = HistogramFamily(metric, name, self.mode, labels)
        self.families.append(family)
        return family


class _Process(Collector):
    """CPU and memory of this process. Not its open files: one of them is a ClientApp that trains."""

    def __init__(self) -> None:
        self._all = ProcessCollector(registry=None)

    def collect(self) -> Iterable[Metric]:
        return [metric for metric in self._all.collect() if "fds" not in metric.name]


def _package_version() -> str:
    try:
        return version("smpcfl")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
