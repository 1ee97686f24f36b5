"""The client mod as Flower's SuperNode calls it, over a real agent's socket, around an app of a user's.

What is not real is the mod's clock: an app says how long it takes, and nothing waits for a release.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp.typing import ClientAppCallable
from flwr.supercore.task_identity import TaskIdentity

from smpcfl.flower.client import mod, training_worker
from smpcfl.flower.client.agent_client import AgentClient
from smpcfl.flower.shared import records
from smpcfl.flower.shared.records import RECORD, arrays_of, content_digest, to_numpy
from smpcfl.flower.shared.records import upload_of as parts_of
from smpcfl.net import wire
from smpcfl.protocol.digests import config_digest
from smpcfl.protocol.errors import LocalError
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.quantise import ModelShape, encode_update, model_digest
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.summed_metrics import MetricNames
from smpcfl.protocol.ticket import TRAIN, Deadlines, SignedTicket, Ticket
from support.deployed import LONG_S, Deployed
from support.deployed_peer import APPS

T = TypeVar("T")
Arrays = dict[str, npt.NDArray[Any]]
RUN = 1  # Flower's number of it
# So long that no machine is too slow for them.
PATIENT = Deadlines(1_000_000, 1_100_000, 2_000_000, 2_100_000, 2_200_000, 2_300_000)


@dataclass
class App:
    """What a Flower user writes: softmax regression by gradient descent, on images x (n, m), labels y (n,).

    It knows nothing of smpcfl. `seconds`: how long it takes; `endless`: it never returns.
    """

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    seconds: float = 1.0
    endless: bool = False
    epochs: Callable[[Message, Context], int] = lambda message, context: 1
    runs: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def __call__(self, message: Message, context: Context) -> Message:
        self.runs += 1
        if self.endless:
            self.over.wait()
        model = to_numpy(message.content.array_records["arrays"])
        loss, correct = 0.0, 0
        for _ in range(self.epochs(message, context)):
            model, loss, correct = step(model, self.x, self.y)
        return self.reply(message, model, loss, correct)

    def reply(self, message: Message, model: Arrays, loss: float, correct: int) -> Message:
        metrics = {"num-examples": len(self.y), "loss": loss, "correct": correct}
        arrays = ArrayRecord({name: Array(value) for name, value in model.items()})
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)})
        return Message(content, reply_to=message)


class Fails(App):
    """Trains, and raises then."""

    def reply(self, message: Message, model: Arrays, loss: float, correct: int) -> Message:
        raise ValueError


def made_up(inputs: int, seed: int = 1) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Data for an App: 40 images of so many inputs, and their labels."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(40, inputs)).astype(np.float32), rng.integers(0, 10, 40)


def step(
    model: Arrays, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], rate: float = 0.5
) -> tuple[Arrays, float, int]:
    """One step down the gradient: the new model, the mean loss before it, and the correct predictions."""
    with np.errstate(all="ignore"):
        logits = x @ model["weight"] + model["bias"]
        logits = logits - logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        odds /= odds.sum(axis=1, keepdims=True)
        rows = np.arange(len(y))
        loss = float(-np.log(odds[rows, y] + np.float32(1e-9)).mean())
        correct = int((odds.argmax(axis=1) == y).sum())
        odds[rows, y] -= 1
        slope = {"weight": x.T @ odds / len(y), "bias": odds.mean(axis=0)}
        new = {
            name: (value - np.float32(rate) * slope[name]).astype(np.float32)
            for name, value in model.items()
        }
    return new, loss, correct


def fresh_model(inputs: int, classes: int = 10, seed: int | None = None) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "weight": (0.01 * rng.normal(size=(inputs, classes))).astype(np.float32),
        "bias": np.zeros(classes, np.float32),
    }


@dataclass
class _Here:
    """Whose ClientApp process this thread stands for."""

    socket: str
    app: Any
    now: float = 0.0
    limit_s: float = 0.0
    addend: RingVector | None = None


class _Now(threading.local):
    here: _Here


_now = _Now()


class _Client(AgentClient):
    """Takes the socket of this thread's peer: in a process of its own the environment names the only one.

    The environment cannot say it here: gRPC's threads read it (getenv) while they connect, and a change
    at that moment is a segmentation fault.
    """

    def __init__(self) -> None:
        super().__init__(_now.here.socket)


class _Time:
    """In place of the module `time`, in the mod."""

    perf_counter = staticmethod(time.perf_counter)

    @staticmethod
    def monotonic() -> float:
        return _now.here.now

    @staticmethod
    def sleep(seconds: float) -> None:
        _now.here.now += seconds


def _in_worker(work: Callable[[], T], seconds: float) -> tuple[T | None, str]:
    """As ever, but it takes what the app says, not what the machine needs."""
    here, app = _now.here, _now.here.app

    def there() -> T:
        _now.here = here
        return work()

    here.limit_s = seconds
    takes = getattr(app, "seconds", 1.0)
    late = getattr(app, "endless", False) or takes > seconds
    done, why = training_worker.in_worker(there, 0.0 if late else LONG_S)
    here.now += seconds if late else takes
    done = None if late else done  # however fast this machine is
    return done, why


def _encode_update(*arguments: Any, **options: Any) -> RingVector:
    found = encode_update(*arguments, **options)
    _now.here.addend = found.copy()  # which the masks will be added to
    return found


@dataclass
class Called:
    """What one call of the mod came to. `left_s`: when the reply left, after the call; `addend`: q_i.

    `limit_s`: how long training might have taken.
    """

    reply: Message
    left_s: float
    limit_s: float
    addend: RingVector | None

    @property
    def refusal(self) -> str:
        return str(self.reply.error.reason) if self.reply.has_error() else ""


class Mods:
    """The mods of all peers of `net`. A context manager: within it, the mod's clock is the app's."""

    def __init__(self, net: Deployed) -> None:
        self.net = net
        self._stack = ExitStack()

    def __enter__(self) -> Mods:
        for name in ("_task_id", "_run_id", "_node_id"):
            self._enter(patch.object(TaskIdentity, name, 1))
        self._enter(patch.object(mod, "AgentClient", _Client))
        self._enter(patch.object(mod, "time", _Time))
        self._enter(patch.object(mod, "in_worker", _in_worker))
        self._enter(patch.object(mod, "encode_update", _encode_update))
        return self

    def _enter(self, manager: AbstractContextManager[Any]) -> None:
        self._stack.enter_context(manager)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def ticket(
        self,
        model: Arrays,
        *,
        beside: Mapping[str, Any] | None = None,
        run_config: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> SignedTicket:
        """A fresh one that digests this model, the records beside it, and the run's configuration."""
        width, task = changes.get("width", 16), changes.get("task", TRAIN)
        words = changes.get("metrics", MetricNames()).words
        layout = ModelShape.of(model if task == TRAIN else {}).layout(width, words)
        content = content_digest(self._content(None, model, beside), task, dict(run_config or {}))
        given = {
            "model_digest": model_digest(model),
            "config_digest": config_digest(content, APPS[RUN]),
            "body": layout.body,
            "wide": layout.wide,
            "weight_cap": 1024,
            "deadlines": PATIENT,
        }
        return self.net.make_ticket(**{**given, **changes})

    def message(
        self,
        signed: SignedTicket,
        model: Arrays,
        *,
        beside: Mapping[str, Any] | None = None,
        model_name: str = "arrays",
        message_type: str = MessageType.TRAIN,
    ) -> Message:
        """As the aggregator sends it; whether it is what the ticket digests is up to the caller."""
        content = self._content(signed, model, beside, model_name)
        return Message(content, dst_node_id=1, message_type=message_type)

    def _content(
        self,
        signed: SignedTicket | None,
        model: Arrays,
        beside: Mapping[str, Any] | None,
        model_name: str = "arrays",
    ) -> RecordDict:
        arrays = ArrayRecord({name: Array(value) for name, value in model.items()})
        given = {"config": ConfigRecord({"lr": 0.5})} if beside is None else dict(beside)
        content = RecordDict({model_name: arrays, **given})
        if signed is not None:
            ticket = wire.ticket_to_proto(signed).SerializeToString()
            content[RECORD] = ConfigRecord({"ticket": ticket})
        return content

    def call(
        self,
        name: str,
        app: Any,
        message: Message,
        *,
        run: int = RUN,
        run_config: Mapping[str, Any] | None = None,
    ) -> Called:
        """Blocks: for a thread."""
        folder = self.net.folder / str(self.net.cohort.index(name))
        here = _now.here = _Here(str(folder / "run" / "agent.sock"), app)
        context = Context(run, 1, {"partition-id": 0}, RecordDict(), dict(run_config or {}))
        reply = mod.secure_mod(message, context, app)
        return Called(reply, here.now, here.limit_s, here.addend)

    async def ask(self, name: str, app: Any, message: Message, **options: Any) -> Called:
        """`call`, while the agents go on."""
        return await asyncio.to_thread(self.call, name, app, message, **options)

    async def offer(self, name: str, signed: SignedTicket) -> None:
        """`name` hears of the ticket from another peer, and its app has not been asked yet."""
        to = self.net.cohort.index(name)
        other = self.net.peer(to - 1).own
        await self.net.stub(other, to).Offer(wire.ticket_to_proto(signed), timeout=LONG_S)

    async def train(
        self, signed: SignedTicket, apps: Mapping[str, Any], message: Callable[[str], Message]
    ) -> dict[str, Called]:
        """All of `apps`, by peer, at once; what they upload is with the aggregator of `net`."""
        found = await asyncio.gather(
            *(self.ask(name, app, message(name)) for name, app in apps.items())
        )
        return self.take(signed, dict(zip(apps, found, strict=True)))

    def take(self, signed: SignedTicket, called: dict[str, Called]) -> dict[str, Called]:
        """What the aggregator gets of these."""
        net = self.net
        net.signed, net.uploads, net.addends = signed, {}, {}
        for name, item in called.items():
            if not item.reply.has_error():
                meta, vector, _ = parts_of(item.reply)
                net.uploads[name] = wire.upload_from(meta, vector)
                net.rounds[name] = net.peers[name].agent.round_of(signed.ticket.digest)
                if item.addend is not None:
                    net.addends[name] = item.addend
        return called


def trains_first(
    agent: AgentClient,
    ours: ConfigRecord,
    message: Message,
    context: Context,
    call_next: ClientAppCallable,
) -> Message:
    """The mod as it was: trains, then has the digests checked, and says in the clear which failed."""
    ticket, proto = _ticket_of(ours)
    given = arrays_of(message.content)
    content = content_digest(message.content, message.metadata.message_type, context.run_config)
    try:
        reply = call_next(message, context)
        addend, unreported = mod._addend(ticket, given, reply, Secret(bytes(32)))
        if unreported:
            raise LocalError(unreported)
    except Exception as error:
        raise LocalError("training failed on this peer: the reason is in its own log") from error
    agent.begin(proto, model_digest(given), content, context.run_id)
    masks, meta = agent.masks(ticket.digest, 1000, "", "")
    vector = masks.apply(addend).tobytes()
    return mod._upload_reply(message, meta, vector, agent.freeze(ticket.digest, vector))


def _ticket_of(ours: ConfigRecord) -> tuple[Ticket, Any]:
    proto = wire.parse(mod.messages_pb2.SignedTicket, bytes(ours["ticket"]))  # type: ignore[arg-type]
    return wire.ticket_from_proto(proto).ticket, proto


def only_configuration(content: RecordDict, message_type: str, run_config: Any) -> bytes:
    """The content digest as it was: over configuration records, sorted, and nothing else."""
    del message_type, run_config
    found = content.config_records
    return records.content_digest(RecordDict({name: found[name] for name in sorted(found)}), "", {})
