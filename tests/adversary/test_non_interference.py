"""Whether training failed shows in nothing that leaves a peer, but in the sum.

Two rounds with the same ticket, but for serial, nonce and model; training fails in one of them, for a reason
that lies in the data. All that leaves the peer once its data is touched is compared, field by field.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from smpcfl.flower.client import mod
from smpcfl.flower.shared.records import message_bytes
from smpcfl.net import wire
from smpcfl.net.kinds import KINDS
from smpcfl.peer.agent import PeerAgent
from smpcfl.protocol import trailer
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.ledger import Ledger
from smpcfl.protocol.messages import Answer, Call
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.release import FIRST_MS
from smpcfl.protocol.ticket import EVALUATE, TRAIN
from support.apps import App, Arrays, Called, Mods, fresh_model, step, trains_first
from support.deployed import LONG_S, Deployed
from support.evaluations import Evaluates
from support.forge import round_of
from support.network import random_addend
from support.unchecked import check, removed

pytestmark = pytest.mark.sockets

PEERS, VICTIM, INPUTS = 5, 0, 12
EVERYONE = tuple(range(PEERS))
ONE_EVALUATION = check(Ledger, "check_evaluation", Reason.SECOND_EVALUATION)
SECRET = "12345 patients of ward 7"


# -- apps that fail -------------------------------------------------------------------------------------


def crash(app: App, message: Message, model: Arrays) -> Message:
    raise ValueError(SECRET)


def leave(app: App, message: Message, model: Arrays) -> Message:
    sys.exit(SECRET)


def own_error(app: App, message: Message, model: Arrays) -> Message:
    return Message(Error(99, SECRET), reply_to=message)


def nan_loss(app: App, message: Message, model: Arrays) -> Message:
    return app.reply(message, model, float("nan"), 0)


def nan_model(app: App, message: Message, model: Arrays) -> Message:
    return app.reply(
        message, {name: value * np.float32("nan") for name, value in model.items()}, 1, 0
    )


def other_shapes(app: App, message: Message, model: Arrays) -> Message:
    return app.reply(message, {name: value[:-1] for name, value in model.items()}, 1, 0)


def no_model(app: App, message: Message, model: Arrays) -> Message:
    return Message(RecordDict({SECRET: ArrayRecord({"a": Array(np.zeros(3))})}), reply_to=message)


def no_time(app: App, message: Message, model: Arrays) -> Message:
    raise AssertionError("it is endless")


def unwritable(app: App, message: Message, model: Arrays) -> Message:
    """What it keeps is more than Flower can write, which it does after the upload."""
    app.context.state["kept"] = ConfigRecord({"loss": 2**64})
    return app.reply(message, model, 1.0, 0)


def one_record(app: App, message: Message, model: Arrays) -> Message:
    """The app is the same: it is a record of its data that makes it diverge."""
    app.x[0, 0] = np.inf
    model, loss, correct = step(model, app.x, app.y)
    return app.reply(message, model, loss, correct)


FAILURES: dict[str, Callable[[App, Message, Arrays], Message]] = {
    "raises": crash,
    "exits": leave,
    "error": own_error,
    "NaN loss": nan_loss,
    "NaN model": nan_model,
    "shapes": other_shapes,
    "no model": no_model,
    "endless": no_time,
    "state": unwritable,
    "one record": one_record,
}
# What counts in a sum all the same: a loss of no number is no metric, and an evaluation brings no model.
COUNTS = {TRAIN: {"NaN loss"}, EVALUATE: {"NaN loss", "NaN model", "shapes", "one record"}}


@dataclass
class Fails(App):
    kind: str = "raises"

    def __call__(self, message: Message, context: Context) -> Message:
        self.runs += 1
        self.context = context
        if self.endless:
            self.over.wait()
        arrays = message.content.array_records["arrays"]
        model = {name: array.numpy() for name, array in arrays.items()}
        return FAILURES[self.kind](self, message, model)


# -- all that leaves the peer ---------------------------------------------------------------------------


@dataclass
class Seen:
    """`form` is what has to be the same; `sent` every byte of it that could tell something."""

    form: dict[str, Any] = field(default_factory=dict)
    sent: list[bytes] = field(default_factory=list)
    called: Called | None = None
    contributors: int = 0


def form_of(reply: Message) -> list[Any]:
    """Records in order, each with its fields, types and lengths; and what goes around them, but for times."""
    about = reply.metadata
    nodes = about.src_node_id, about.dst_node_id
    found: list[Any] = [reply.has_error(), about.message_type, about.group_id, about.run_id, nodes]
    if reply.has_error():
        return [*found, reply.error.code, reply.error.reason]
    for name, record in reply.content.items():
        found.append((name, type(record).__name__))
        for key, value in record.items():
            if isinstance(value, Array):
                found.append((key, value.dtype, value.shape, value.stype, len(value.data)))
            else:
                found.append((key, type(value), len(value) if isinstance(value, bytes) else None))
    return [*found, message_bytes(reply)]


def content_of(reply: Message) -> list[bytes]:
    found = [repr(reply.metadata).encode()]
    if not reply.has_error():
        for name, record in reply.content.items():
            for key, value in record.items():
                data = value.data if isinstance(value, Array) else repr(value).encode()
                found += [name.encode(), key.encode(), data]
    return found


def samples(net: Deployed) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every series of the victim's registry, but for times, and for phases that are over by then."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in net.peer(VICTIM).metrics.registry.collect()
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_seconds_sum"))
        and sample.labels.get("phase") not in ("exchange", "ready")
    }


def moved(before: dict[Any, float], after: dict[Any, float]) -> dict[Any, float]:
    """By how much, of the series that did, a new one among them even if it is zero."""
    return {
        key: value - before.get(key, 0.0)
        for key, value in after.items()
        if key not in before or value != before[key]
    }


async def settled(net: Deployed, done: Callable[[PeerRound], bool]) -> None:
    """Until all are that far, and no call is under way."""
    await net.until(lambda: all(done(round_of(net, index)) for index in EVERYONE))
    while calls := [task for peer in net.peers.values() for task in peer.agent._calls]:
        await asyncio.wait(calls, timeout=LONG_S)


async def one_round(
    net: Deployed, mods: Mods, app: App, model: Arrays, earlier_ms: int, task: str
) -> Seen:
    """With `app` on the victim. Its data is touched only once the round is ready; from there all is kept."""
    victim, name = net.peer(VICTIM), net.cohort[VICTIM]
    signed = mods.ticket(model, task=task)
    for other in net.cohort:
        await mods.offer(other, signed)
    net.signed, net.uploads = signed, {}
    net.rounds = {peer: net.peers[peer].agent.round_of(signed.ticket.digest) for peer in net.cohort}
    await settled(net, lambda round_: round_.all_count)
    seen, calls, answers, replies = Seen(), [], [], []
    send, unmask = victim.link.send, net.unmask

    async def sends(call: Call, count: Callable[[int], None]) -> Any:
        kind = KINDS[type(call.message)]
        raw = kind.request.write(call.message).SerializeToString()
        calls.append((kind.method, call.to, len(raw)))
        seen.sent.append(raw)
        return await send(call, count)

    def asks(index: int) -> Callable[..., Any]:
        """Another peer's calls: what the victim replies to them leaves it too."""
        ask = net.peer(index).link.send

        async def asked(call: Call, count: Callable[[int], None]) -> Any:
            found = await ask(call, count)
            if call.to == name:
                kind = KINDS[type(call.message)]
                raw = b"" if found is None else kind.reply.write(found).SerializeToString()
                replies.append((index, kind.method, len(raw)))
                seen.sent.append(raw)
            return found

        return asked

    async def unmasks(to: int, message: Any, caller: Any = None) -> Any:
        found = await unmask(to, message, caller)
        if to == VICTIM:
            assert isinstance(found, Answer)
            raw = wire.answer_to_proto(found).SerializeToString()
            answers.append(len(raw))
            seen.sent.append(raw)
        return found

    victim.agent.floors.left(task, earlier_ms, signed.ticket.deadlines.training_ms)
    before = samples(net)
    with ExitStack() as stack:
        stack.enter_context(patch.object(victim.link, "send", sends))
        stack.enter_context(patch.object(net, "unmask", unmasks))
        for index in EVERYONE[1:]:
            stack.enter_context(patch.object(net.peer(index).link, "send", asks(index)))
        message = mods.message(signed, model, message_type=task)
        seen.called = await mods.ask(name, app, message)
        found = mods.take(signed, {name: seen.called})[name]
        seen.form["reply"] = form_of(found.reply)
        seen.sent += content_of(found.reply)
        if not found.reply.has_error():
            rng = np.random.default_rng(2)
            for other in net.cohort[1:]:
                net.rounds[other].begin(signed.ticket.model_digest, signed.ticket.config_digest)
                net.addends[other] = random_addend(net.ticket.layout, rng)
            await net.upload(net.cohort[1:])
            loot, refusals = await net.show(dict.fromkeys(EVERYONE, EVERYONE))
            assert not refusals
            await settled(
                net, lambda round_: all(round_._of[i].agreed_to for i in round_.neighbours)
            )
            total = loot.sum_of(EVERYONE)
            assert total is not None
            counters = trailer.decode(total.wide[-trailer.LENGTH :], PEERS)
            seen.contributors = counters.contributors
    seen.form |= {"calls": calls, "answers": answers, "replies": sorted(replies)}
    seen.form["series"] = moved(before, samples(net))
    return seen


async def both(
    folder: Path, kind: str, seed: int, records: int, number: int, fails_first: bool, task: str
) -> tuple[Seen, Seen]:
    """A round in which the victim's training (or evaluation) succeeds, and one in which it fails.

    `number`: of the release step that both leave at.
    """
    rng = np.random.default_rng(seed)
    latest = FIRST_MS * 2 ** (number / 2) / 1000
    within = [float(rng.uniform(latest / 2**0.5, latest)) for _ in range(2)]
    if kind == "endless":  # and so is the other, almost
        within = [700.0, 700.0]
    x = rng.normal(size=(records, INPUTS)).astype(np.float32)
    y = rng.integers(0, 10, records)
    good = Evaluates(x, y, seconds=within[0])
    bad = Fails(x.copy(), y, rng.uniform(0, latest), kind == "endless", kind=kind)
    results: dict[bool, Seen] = {}
    try:
        # Models that nobody trains on are evaluated here, more of them than the ledger lets pass in an hour.
        async with Deployed(folder, PEERS) as net:
            with Mods(net) as mods, removed(*[ONE_EVALUATION] * (task == EVALUATE)):
                # Once before, so that no connection is new.
                first = fresh_model(INPUTS, seed=seed)
                await one_round(net, mods, Evaluates(x, y), first, 0, task)
                for failing in (fails_first, not fails_first):
                    model = fresh_model(INPUTS, seed=seed + 1 + failing)
                    app = bad if failing else good
                    earlier = int(within[1] * 1000)
                    results[failing] = await one_round(net, mods, app, model, earlier, task)
    finally:
        bad.over.set()
    return results[False], results[True]


def same(one: Seen, other: Seen) -> None:
    for key in one.form:
        assert one.form[key] == other.form[key], key
    assert one.called is not None
    assert other.called is not None
    assert at_step(one.called) == at_step(other.called), "time"
    assert not any(SECRET.encode() in raw for raw in other.sent)


def at_step(called: Called) -> float | str:
    """When it left: at the deadline, or how many seconds after the start."""
    return "deadline" if called.left_s >= called.limit_s else round(called.left_s, 6)


def run(*arguments: Any) -> tuple[Seen, Seen]:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(both(Path(folder), *arguments))


def every_kind(test: Callable[..., None]) -> Callable[..., None]:
    """Each at least once, whatever is drawn."""
    for kind in FAILURES:
        given_ = {"kind": kind, "seed": 1, "records": 40, "number": 3, "fails_first": False}
        test = example(**given_, task=TRAIN)(test)
    return example(**given_, task=EVALUATE)(test)


@every_kind
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(sorted(FAILURES)),
    seed=st.integers(0, 2**31),
    records=st.integers(1, 300),
    number=st.integers(1, 12),
    fails_first=st.booleans(),
    task=st.sampled_from([TRAIN, EVALUATE]),
)
def test_a_training_that_fails_looks_like_one_that_does_not(
    kind: str, seed: int, records: int, number: int, fails_first: bool, task: str
) -> None:
    good, bad = run(kind, seed, records, number, fails_first, task)
    same(good, bad)
    assert good.form["calls"]
    assert good.form["replies"]
    # The sum tells, and it alone.
    failed = kind not in COUNTS[task]
    assert (good.contributors, bad.contributors) == (PEERS, PEERS - failed)


# -- and where it does not hold, it is seen -------------------------------------------------------------


def test_an_error_in_the_reply_is_seen() -> None:
    with patch.object(mod, "_train", trains_first):
        good, bad = run("raises", 1, 40, 3, False, TRAIN)
    with pytest.raises(AssertionError, match="reply"):
        same(good, bad)


def test_a_reply_that_leaves_when_training_ends_is_seen() -> None:
    with patch.object(mod, "release_ms", lambda training, earlier: training):
        good, bad = run("raises", 1, 40, 3, False, TRAIN)
    with pytest.raises(AssertionError, match="time"):
        same(good, bad)


def test_a_failure_that_is_counted_is_seen() -> None:
    masks = PeerAgent.masks

    async def counting(self: PeerAgent, digest: bytes, released_ms: int, *, failed: bool) -> Any:
        if failed:
            self._metrics.rejected.inc(reason="bad_trailer")
        return await masks(self, digest, released_ms, failed=failed)

    with patch.object(PeerAgent, "masks", counting):
        good, bad = run("raises", 1, 40, 3, False, TRAIN)
    with pytest.raises(AssertionError, match="series"):
        same(good, bad)
