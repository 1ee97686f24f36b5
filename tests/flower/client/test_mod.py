"""What leaves a peer through Flower whatever its app does: a vector of one form, and no word of its data."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.supercore.task_identity import TaskIdentity

from smpc.v1 import local_pb2, messages_pb2
from smpcfl.flower.client import mod
from smpcfl.flower.client.training_worker import in_worker
from smpcfl.flower.shared.records import (
    RECORD,
    VECTOR,
    arrays_of,
    content_digest,
    identity_of,
    to_numpy,
    to_record,
    upload_of,
)
from smpcfl.net import wire
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.quantise import ModelShape, decode_update, encode_failure, model_digest
from smpcfl.protocol.ring import RingVector, signed
from smpcfl.protocol.summed_metrics import MetricNames
from smpcfl.protocol.ticket import EVALUATE, Deadlines, SignedTicket
from smpcfl.protocol.trailer import LENGTH, Trailer
from support.enrolled import Deployment
from support.network import make_ticket

ENTRIES = 200
MODEL = {"w": np.zeros(ENTRIES, np.float32)}
TICKET = make_ticket(3, body=ENTRIES).ticket
App = Callable[[Message, Context], Message]


class Agent:
    """An agent that admits every ticket; it hears what stays on the peer. Its masks are none."""

    def __init__(self) -> None:
        self.reply = local_pb2.BeginReply(peer="a")
        self.begun: list[tuple[Any, ...]] = []
        self.trained: list[tuple[int, str]] = []  # how long it took, why it failed
        self.unreported: list[str] = []  # why there are no metrics
        self.vectors: list[bytes] = []

    simulated = False

    def of(self, context: Context) -> Agent:
        return self

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def identity(self, node: int = 0) -> Any:
        return SimpleNamespace(peer="a", instance=b"1", modes=("seeded",))

    def begin(self, *given: Any) -> local_pb2.BeginReply:
        self.begun.append(given[1:])
        return self.reply

    def frozen(self, ticket_digest: bytes) -> tuple[bytes, bytes]:
        return b"meta", b"frozen"

    def masks(
        self, ticket_digest: bytes, training_ms: int, failure: str, unreported: str
    ) -> tuple[Agent, bytes]:
        self.trained.append((training_ms, failure))
        self.unreported.append(unreported)
        return self, b"meta"

    def apply(self, addend: RingVector) -> RingVector:
        return addend

    def freeze(self, ticket_digest: bytes, vector: bytes) -> int:
        self.vectors.append(vector)
        return 7

    def report(self, **_: float) -> None:
        pass


class Clock:
    """Stands still; how long was slept is noted."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.now = 5.0

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture(autouse=True)
def flower_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's messages carry the run that their process belongs to."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    made = Agent()
    monkeypatch.setattr(mod, "AgentClient", made)
    return made


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(mod, "time", made)
    return made


@pytest.fixture
def message() -> Message:
    ticket = wire.ticket_to_proto(make_ticket(3, body=ENTRIES)).SerializeToString()
    content = RecordDict(
        {
            RECORD: ConfigRecord({"ticket": ticket}),
            "arrays": ArrayRecord({name: Array(value) for name, value in MODEL.items()}),
            "config": ConfigRecord({"lr": 0.1}),
        }
    )
    return Message(content, dst_node_id=1, message_type=MessageType.TRAIN)


def new_context(node: int = 1, run: int = 17) -> Context:
    return Context(run, node, {"partition-id": 3}, RecordDict(), {"lr": 0.5})


def reply_with(message: Message, moved: float = 0.1234567, **metrics: float) -> Message:
    content = RecordDict(
        {
            "arrays": ArrayRecord({k: Array(v + np.float32(moved)) for k, v in MODEL.items()}),
            "metrics": MetricRecord(metrics),
        }
    )
    return Message(content, reply_to=message)


def trains(message: Message, _: Context) -> Message:
    return reply_with(message, **{"num-examples": 50, "loss": 0.5})


# -- whatever the app does, the reply has one form ----------------------------------------------------------


def crash(message: Message, _: Context) -> Message:
    raise ValueError("12345 patients of ward 7")


def leave(message: Message, _: Context) -> Message:
    raise SystemExit("12345 patients")


def another_shape(message: Message, _: Context) -> Message:
    reply = reply_with(message, **{"num-examples": 5})
    reply.content["arrays"] = ArrayRecord({"w": Array(np.zeros(7, np.float32))})
    return reply


APPS: dict[str, tuple[App, str]] = {
    "crash": (crash, "ValueError: 12345 patients"),
    "exit": (leave, "SystemExit: 12345 patients"),
    "own error": (lambda m, _: Message(Error(99, "ward 7"), reply_to=m), "ward 7"),
    "another shape": (another_shape, "'w' has shape"),
    "diverged": (lambda m, _: reply_with(m, float("nan"), **{"num-examples": 5}), "nan at entry"),
    "nothing": (lambda m, _: Message(RecordDict(), reply_to=m), "one MetricRecord with"),
    "no weight": (lambda m, _: reply_with(m, examples=5), "one MetricRecord with 'num-examples'"),
    "no examples": (lambda m, _: reply_with(m, **{"num-examples": 0}), "num-examples is 0"),
    "NaN examples": (lambda m, _: reply_with(m, **{"num-examples": np.nan}), "num-examples is nan"),
}


def form_of(reply: Message) -> Any:
    """All of a reply but the vector's contents."""
    assert not reply.has_error()
    meta, vector, p2p_bytes = upload_of(reply)
    return meta, len(vector), p2p_bytes, {k: list(v) for k, v in reply.content.items()}


@pytest.mark.parametrize("name", APPS)
def test_a_training_that_fails_is_a_masked_zero_and_why_stays_on_the_peer(
    name: str, message: Message, agent: Agent
) -> None:
    app, detail = APPS[name]
    reply = mod.secure_mod(message, new_context(), app)
    assert agent.vectors == [encode_failure(TICKET.layout, 3).tobytes()]
    assert upload_of(reply)[1] == agent.vectors[0]
    ((_, failure),) = agent.trained
    assert detail in failure
    assert form_of(reply) == form_of(mod.secure_mod(message, new_context(), trains))
    assert agent.trained[1][1] == ""
    assert agent.vectors[1] != agent.vectors[0]


@pytest.fixture
def endless() -> Iterator[App]:
    end = threading.Event()

    def app(message: Message, context: Context) -> Message:
        end.wait()
        context.state["late"] = ConfigRecord({"much": "too late"})
        return trains(message, context)

    yield app
    end.set()


def test_a_training_beyond_the_tickets_deadline_is_given_up(
    message: Message, agent: Agent, endless: App, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Deadlines, "training_ms", 0)
    context = new_context()
    reply = mod.secure_mod(message, context, endless)
    assert upload_of(reply)[1] == encode_failure(TICKET.layout, 3).tobytes()
    assert "outlasted" in agent.trained[0][1]
    assert clock.slept == [0.0]
    assert not context.state


def test_what_the_app_remembers_is_kept_where_it_trained(message: Message, agent: Agent) -> None:
    def remembers(message: Message, context: Context) -> Message:
        context.state["epochs"] = ConfigRecord({"done": 1})
        return trains(message, context)

    def fails(message: Message, context: Context) -> Message:
        remembers(message, context)
        raise ValueError

    context = new_context()
    mod.secure_mod(message, context, fails)
    assert not context.state
    mod.secure_mod(message, context, remembers)
    assert context.state["epochs"] == ConfigRecord({"done": 1})


# -- before anything runs -----------------------------------------------------------------------------------


def never(message: Message, _: Context) -> Message:
    pytest.fail("trained")


def test_the_agent_is_told_what_the_app_would_see_before_it_runs(
    message: Message, agent: Agent
) -> None:
    mod.secure_mod(message, new_context(), trains)
    content = content_digest(message.content, MessageType.TRAIN, {"lr": 0.5})
    assert agent.begun == [(model_digest(MODEL), content, 17)]


def test_a_refusal_runs_nothing_and_says_why(
    message: Message, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RemoteError(Reason.STALE_SERIAL)

    monkeypatch.setattr(agent, "begin", refuse)
    reply = mod.secure_mod(message, new_context(), never)
    assert reply.error.code == mod.ERROR_CODE
    assert "stale_serial" in str(reply.error.reason)
    assert not agent.trained


def test_what_is_frozen_is_sent_again_and_nothing_trained(message: Message, agent: Agent) -> None:
    agent.reply = local_pb2.BeginReply(peer="a", frozen=True)
    reply = mod.secure_mod(message, new_context(), never)
    assert upload_of(reply) == (b"meta", b"frozen", 0)
    assert not agent.trained


def test_a_record_of_ours_with_more_than_the_ticket_is_refused(
    message: Message, agent: Agent
) -> None:
    cast(ConfigRecord, message.content[RECORD])["hint"] = 3
    reply = mod.secure_mod(message, new_context(), never)
    assert "malformed" in str(reply.error.reason)
    assert not agent.begun


def test_a_ticket_of_another_version_is_refused_as_such_also_where_the_record_has_more(
    message: Message, agent: Agent
) -> None:
    proto = messages_pb2.SignedTicket(ticket=messages_pb2.Ticket(version=3, mode="mesh"))
    ours = ConfigRecord({"ticket": proto.SerializeToString(), "hint": 3})
    message.content[RECORD] = ours
    reply = mod.secure_mod(message, new_context(), never)
    assert str(reply.error.reason).startswith(
        "other_protocol: this ticket is of protocol version 3, this peer (smpcfl "
    )
    assert len(agent.begun) == 1, "the agent has not counted it"


# -- metrics ------------------------------------------------------------------------------------------------

NAMED = MetricNames((("loss", 0), ("recall", 2)))
VALUES = {"loss": 0.5, "recall": [0.25, 0.75]}


def message_with(
    ticket: SignedTicket, model: dict[str, Any] = MODEL, kind: str = MessageType.TRAIN
) -> Message:
    ours = ConfigRecord({"ticket": wire.ticket_to_proto(ticket).SerializeToString()})
    content = RecordDict({RECORD: ours, "arrays": to_record(model), "config": ConfigRecord()})
    return Message(content, dst_node_id=1, message_type=kind)


def ticket_for(metrics: MetricNames, **changes: Any) -> SignedTicket:
    changes = {"body": ENTRIES, "wide": metrics.words + LENGTH, "metrics": metrics, **changes}
    return make_ticket(3, **changes)


def added(agent: Agent, ticket: SignedTicket) -> tuple[RingVector, Trailer]:
    """What the peer sent, and its own trailer."""
    vector = ticket.ticket.layout.parse(agent.vectors[-1], "a")
    return vector, Trailer(*signed(vector.wide[-LENGTH:]).tolist())


@pytest.mark.parametrize("metrics", [NAMED, MetricNames(open=True)])
def test_every_number_that_the_app_reports_is_in_the_sum(
    metrics: MetricNames, agent: Agent
) -> None:
    ticket = ticket_for(metrics)
    reported: Any = {"num-examples": 20, **VALUES}
    mod.secure_mod(message_with(ticket), new_context(), lambda m, _: reply_with(m, **reported))
    vector, trailer = added(agent, ticket)
    assert (trailer.contributors, trailer.reporters, trailer.examples) == (1, 1, 20)
    assert metrics.decode(vector.wide[: metrics.words], 1, 20) == VALUES
    assert agent.unreported == [""]


@pytest.mark.parametrize("metrics", [NAMED, MetricNames(open=True)])
def test_a_metric_that_comes_later_than_the_names_stays_on_the_peer_which_says_so(
    metrics: MetricNames, agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    reported: Any = {"num-examples": 20, **VALUES, "f1": 0.5}
    ticket = ticket_for(metrics)
    mod.secure_mod(message_with(ticket), new_context(), lambda m, _: reply_with(m, **reported))
    assert added(agent, ticket)[1].reporters == 1
    assert ("metrics ['f1'] stay on this peer" in caplog.text) is not metrics.open


@pytest.mark.parametrize(
    ("reported", "why"),
    [
        ({}, "metric 'loss' is missing"),
        ({**VALUES, "loss": float("nan")}, "metric 'loss' is nan"),
        ({**VALUES, "recall": [0.1]}, "metric 'recall' has another length"),
        ({**VALUES, "loss": 1e300}, "too large"),
    ],
)
def test_a_metric_that_is_none_hides_them_all_and_not_the_update(
    reported: dict[str, Any], why: str, agent: Agent
) -> None:
    ticket = ticket_for(NAMED)
    given = {"num-examples": 20, **reported}
    for _ in range(2):
        reply = mod.secure_mod(
            message_with(ticket), new_context(), lambda m, _: reply_with(m, **given)
        )
        assert form_of(reply)
    assert why in agent.unreported[-1]
    assert agent.trained[-1][1] == "", "the training did not fail"
    one, other = (ticket.ticket.layout.parse(item, "a") for item in agent.vectors)
    vector, trailer = added(agent, ticket)
    assert (trailer.contributors, trailer.reporters) == (1, 0)
    assert vector.body.any()
    words = slice(0, NAMED.words)
    assert not np.array_equal(one.wide[words], other.wide[words]), "noise"


@pytest.mark.parametrize("key", ["num-examples", "batches"])
def test_what_weighs_an_update_is_what_the_ticket_says(key: str, agent: Agent) -> None:
    ticket = ticket_for(MetricNames(), weighted_by=key)
    given: Any = {"num-examples": 20, "batches": 3}
    mod.secure_mod(message_with(ticket), new_context(), lambda m, _: reply_with(m, **given))
    assert added(agent, ticket)[1].examples == given[key]


# -- evaluation ---------------------------------------------------------------------------------------------

EVALUATION = ticket_for(NAMED, task=EVALUATE, body=0)


def evaluates(message: Message, _: Context) -> Message:
    assert message.metadata.message_type == MessageType.EVALUATE
    assert np.array_equal(arrays_of(message.content)["w"], MODEL["w"])
    metrics: Any = {"num-examples": 20, **VALUES}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


def test_an_evaluation_uploads_metrics_alone(agent: Agent) -> None:
    message = message_with(EVALUATION, kind=MessageType.EVALUATE)
    mod.secure_mod(message, new_context(), evaluates)
    vector, trailer = added(agent, EVALUATION)
    assert vector.body.size == 0
    assert (trailer.contributors, trailer.reporters, trailer.examples) == (1, 1, 20)
    assert NAMED.decode(vector.wide[: NAMED.words], 1, 20) == VALUES


def test_an_evaluation_that_fails_is_a_masked_zero(agent: Agent) -> None:
    message = message_with(EVALUATION, kind=MessageType.EVALUATE)
    mod.secure_mod(message, new_context(), crash)
    assert agent.vectors == [encode_failure(EVALUATION.ticket.layout, 3).tobytes()]


@pytest.mark.parametrize(
    ("ticket", "kind"),
    [
        (EVALUATION, MessageType.TRAIN),
        (ticket_for(NAMED), MessageType.EVALUATE),
        (EVALUATION, MessageType.QUERY),
    ],
)
def test_a_ticket_is_for_one_task(ticket: SignedTicket, kind: str, agent: Agent) -> None:
    reply = mod.secure_mod(message_with(ticket, kind=kind), new_context(), never)
    assert f"with a ticket to {ticket.ticket.task}" in str(reply.error.reason)
    assert not agent.begun


# -- any model ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        {"w": np.array(1.5, np.float32), "steps": np.array(7, np.int64)},
        {"w": np.zeros((0, 3), np.float32), "half": np.ones(3, np.float16)},
        {"double": np.ones(2), "mask": np.array([True, False])},
    ],
    ids=["0-d", "empty", "others"],
)
def test_arrays_of_any_shape_and_number_are_trained(model: dict[str, Any], agent: Agent) -> None:
    layout = ModelShape.of(model).layout(16)
    ticket = make_ticket(3, body=layout.body, wide=layout.wide)

    def app(message: Message, _: Context) -> Message:
        given = arrays_of(message.content)
        assert {name: (a.dtype, a.shape) for name, a in given.items()} == {
            name: (a.dtype, a.shape) for name, a in model.items()
        }
        content = {"arrays": to_record(given), "metrics": MetricRecord({"num-examples": 5})}
        return Message(RecordDict(content), reply_to=message)

    mod.secure_mod(message_with(ticket, model), new_context(), app)
    assert agent.trained[0][1] == ""
    total = ticket.ticket.layout.parse(agent.vectors[0], "a")
    found, _ = decode_update(ticket.ticket.quantiser, model, total, 1)
    for name, array in model.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert isinstance(found[name], np.ndarray)


def test_several_array_records_are_one_model(agent: Agent) -> None:
    given = {"arrays/w": np.ones(4, np.float32), "control/w": np.zeros(4, np.float32)}
    layout = ModelShape.of(given).layout(16)
    ticket = make_ticket(3, body=layout.body, wide=layout.wide)
    message = message_with(ticket, {"w": given["arrays/w"]})
    message.content["control"] = to_record({"w": given["control/w"]})

    def app(message: Message, _: Context) -> Message:
        assert list(message.content.array_records) == ["arrays", "control"]
        content = RecordDict(dict(message.content.array_records))
        content["metrics"] = MetricRecord({"num-examples": 5})
        return Message(content, reply_to=message)

    mod.secure_mod(message, new_context(), app)
    assert agent.trained[0][1] == ""
    assert agent.begun[0][0] == model_digest(given)


# -- a part of the model -------------------------------------------------------------------------------------

WHOLE = {"base": np.ones(3, np.float32), "lora_a": np.zeros(4, np.float32)}
NO_METRICS = MetricNames()


def replies_with(*records: str, **more: Any) -> App:
    """An app that adds 0.5 to each array of these records, or has `more` arrays."""

    def app(message: Message, _: Context) -> Message:
        trained = {
            key: to_record({name: a + a.dtype.type(0.5) for name, a in to_numpy(record).items()})
            for key, record in message.content.array_records.items()
            if key in records
        }
        if more:
            trained["arrays"] = to_record(more)
        content: Any = {**trained, "metrics": MetricRecord({"num-examples": 5})}
        return Message(RecordDict(content), reply_to=message)

    return app


PART = {"lora_a": np.full(4, 0.5, np.float32)}


def test_a_part_of_the_model_is_uploaded_alone(agent: Agent) -> None:
    ticket = ticket_for(NO_METRICS, body=4, arrays=("lora_a",))
    mod.secure_mod(message_with(ticket, WHOLE), new_context(), replies_with(**PART))
    assert agent.trained[0][1] == ""
    assert agent.begun[0][0] == model_digest(WHOLE)
    vector, _ = added(agent, ticket)
    only = {"lora_a": WHOLE["lora_a"]}
    found, _ = decode_update(ticket.ticket.quantiser, only, vector, 1)
    np.testing.assert_allclose(found["lora_a"], 0.5, atol=1e-2)
    assert found.keys() == {"lora_a"}


@pytest.mark.parametrize(
    ("arrays", "reply", "why"),
    [
        ((), PART, r"lacks the arrays \['base'\].*arrays=\['lora\*'\]"),
        (("lora_a",), WHOLE, r"has \['base'\] besides"),
        (("base",), PART, r"lacks the arrays \['base'\]"),
    ],
)
def test_a_reply_with_another_part_adds_nothing_and_the_peer_sees_which(
    arrays: tuple[str, ...], reply: dict[str, Any], why: str, agent: Agent
) -> None:
    body = sum(a.size for name, a in WHOLE.items() if not arrays or name in arrays)
    ticket = ticket_for(NO_METRICS, body=body, arrays=arrays)
    mod.secure_mod(message_with(ticket, WHOLE), new_context(), replies_with(**reply))
    assert added(agent, ticket)[1].contributors == 0
    assert re.search(why, agent.trained[0][1])


def test_a_part_that_the_model_lacks_is_refused_before_anything_runs(agent: Agent) -> None:
    ticket = ticket_for(NO_METRICS, body=4, arrays=("lora_b",))
    reply = mod.secure_mod(message_with(ticket, WHOLE), new_context(), never)
    assert "lacks the arrays ['lora_b']" in str(reply.error.reason)
    assert not agent.begun


def test_one_of_several_records_may_be_the_part(agent: Agent) -> None:
    ticket = ticket_for(NO_METRICS, body=4, arrays=("adapter/w",))
    message = message_with(ticket, {"w": np.ones(3, np.float32)})
    message.content["adapter"] = to_record({"w": np.zeros(4, np.float32)})
    mod.secure_mod(message, new_context(), replies_with("adapter"))
    assert agent.trained[0][1] == ""
    assert added(agent, ticket)[1].contributors == 1


# -- what the app is shown ----------------------------------------------------------------------------------


def seen_by(message: Message, context: Context) -> tuple[Message, Context]:
    seen: list[tuple[Message, Context]] = []

    def app(message: Message, context: Context) -> Message:
        seen.append((message, context))
        return trains(message, context)

    mod.secure_mod(message, context, app)
    return seen[0]


def test_the_app_sees_nothing_that_the_aggregator_could_choose_for_it_alone(
    message: Message, agent: Agent
) -> None:
    """Neither numbers of nodes, runs and messages, nor how the model was serialised."""
    other = Message(
        RecordDict(dict(message.content)), dst_node_id=99, message_type=MessageType.TRAIN, ttl=12.0
    )
    longer = io.BytesIO()
    np.lib.format.write_array(longer, MODEL["w"], version=(2, 0))
    other.content["arrays"] = ArrayRecord(
        {"w": Array("float32", (ENTRIES,), "numpy.ndarray", longer.getvalue())}
    )
    assert other.content["arrays"].object_id != message.content["arrays"].object_id
    other.metadata.__dict__["_group_id"] = "hint"
    one, one_context = seen_by(message, new_context())
    two, two_context = seen_by(other, new_context(node=99, run=3))
    hidden = ("run_id", "message_id", "src_node_id", "dst_node_id", "group_id", "ttl")
    for name in (*hidden, "reply_to_message_id", "message_type"):
        assert getattr(one.metadata, name) == getattr(two.metadata, name), name
    assert one.metadata.run_id == TICKET.run
    for seen, context in ((one, one_context), (two, two_context)):
        assert list(seen.content) == ["arrays", "config"], "our own record is not shown"
        assert (context.run_id, context.node_id) == (TICKET.run, seen.metadata.dst_node_id)
        assert context.run_config == {"lr": 0.5}
        assert context.node_config == {"partition-id": 3}
    assert one.content.object_id == two.content.object_id


# -- when it leaves -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begun", "wait_s"),
    [
        ({}, 2.0),
        ({"floor_ms": 40_000}, 45.255),  # that failed at once, and leaves as if it had not
        ({"floor_ms": 99_000}, 45.255),  # the last step within the ticket's 60 s
    ],
)
def test_an_upload_leaves_at_a_step_and_nobody_is_told_before(
    begun: dict[str, int], wait_s: float, message: Message, agent: Agent, clock: Clock
) -> None:
    told: list[int] = []

    def sleep(seconds: float) -> None:
        clock.slept.append(seconds)
        told.append(len(agent.trained))

    clock.sleep = sleep  # type: ignore[method-assign]
    agent.reply = local_pb2.BeginReply(peer="a", **begun)
    for app in (trains, crash):
        mod.secure_mod(message, new_context(), app)
    assert clock.slept == pytest.approx([wait_s, wait_s])
    assert told == [0, 1]


def test_how_long_training_took_is_told_to_the_agent_alone(
    message: Message, agent: Agent, clock: Clock
) -> None:
    def slow(message: Message, context: Context) -> Message:
        clock.now += 30.0
        return trains(message, context)

    mod.secure_mod(message, new_context(), slow)
    assert [ms for ms, _ in agent.trained] == [32_000]
    assert clock.slept == pytest.approx([2.0])  # 32 s is the step after 30


def test_a_virtual_peer_has_any_time_and_does_not_wait(
    message: Message, agent: Agent, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shares a few cores with all others, so the clock says nothing; nor is there anybody to tell."""
    monkeypatch.setattr(agent, "simulated", True)
    limits = []

    def worker(work: Callable[[], Any], seconds: float) -> Any:
        limits.append(seconds)
        return in_worker(work, seconds)

    monkeypatch.setattr(mod, "in_worker", worker)
    mod.secure_mod(message, new_context(), trains)
    assert limits == [threading.TIMEOUT_MAX]
    assert not clock.slept
    assert agent.trained == [(0, "")]


# -- the rounding's randomness ------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [True, False])
def test_the_aggregator_gives_the_seed_only_where_the_operator_lets_it(
    allowed: bool, message: Message, agent: Agent
) -> None:
    cast(ConfigRecord, message.content[RECORD])["seed"] = 5
    agent.reply = local_pb2.BeginReply(peer="a", given_seed=allowed)
    for _ in range(2):
        mod.secure_mod(message, new_context(), trains)
    assert (agent.vectors[0] == agent.vectors[1]) is allowed


# -- at the aggregator ------------------------------------------------------------------------------

GOOD = {"meta": b"m", "p2p-bytes": 7}
BYTES = Array(np.zeros(3, np.uint8))


def upload(fields: dict[str, Any], vector: Array | None = BYTES) -> Message:
    ask = Message(RecordDict(), dst_node_id=1, message_type=MessageType.TRAIN)
    content = RecordDict({RECORD: ConfigRecord(fields)})
    if vector is not None:
        content[VECTOR] = ArrayRecord({VECTOR: vector})
    return Message(content, reply_to=ask)


def test_an_upload_is_read() -> None:
    assert upload_of(upload(GOOD)) == (b"m", bytes(3), 7)


@pytest.mark.parametrize(
    ("fields", "vector"),
    [
        ({"meta": b"m"}, BYTES),
        ({**GOOD, "p2p-bytes": "7"}, BYTES),
        ({**GOOD, "p2p-bytes": float("nan")}, BYTES),
        ({**GOOD, "meta": "m"}, BYTES),
        ({**GOOD, "meta": 2**40}, BYTES),
        (GOOD, None),
        (GOOD, Array(np.zeros(3, np.float32))),
        (GOOD, Array("uint8", (3,), "numpy.ndarray", b"no array")),
    ],
)
def test_any_other_upload_is_refused_and_nothing_else_happens(
    fields: dict[str, Any], vector: Array | None
) -> None:
    with pytest.raises(RemoteError) as error:
        upload_of(upload(fields, vector))
    assert error.value.reason is Reason.MALFORMED


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"start": b"1"},
        {"start": 1, "certificate": b"1", "signature": b"1"},
        {"start": b"1", "certificate": 2**40, "signature": b"1"},
        {"start": b"1", "certificate": b"1", "signature": b"1"},
    ],
)
def test_a_node_that_is_no_peer_is_refused(fields: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RemoteError) as error:
        identity_of(upload(fields), 1, Deployment(tmp_path).ca)
    assert error.value.reason in (Reason.MALFORMED, Reason.BAD_SIGNATURE)
