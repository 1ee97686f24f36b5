"""Whole runs of a strategy over honest peers in memory, at `start`: what a user's ServerApp sees of them."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MetricRecord,
)
from flwr.serverapp.strategy import FedAvg, FedAvgM, FedMedian, Result, Strategy

from smpcfl.base.waiting import Reminder
from smpcfl.flower import SecureStrategy
from smpcfl.flower.server.clipping import Clipping
from smpcfl.flower.server.uneven import uneven
from smpcfl.flower.shared.records import to_numpy, to_record
from smpcfl.protocol.errors import LocalError
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ticket import ADDITIVE, HOUR_MS, NORMAL, SEEDED, Ticket
from support.flower_peers import EXAMPLES, FlowerPeers, MakePeers, ticket_of
from support.network import peer_ids

ROUNDS = 2
STEP = 0.5
FIVE = peer_ids(5)
PATIENT_S = 100.0  # for the last replies: nothing here may have to wait for it


@pytest.fixture
def five(make_peers: MakePeers) -> FlowerPeers:
    return training(make_peers(5))


@pytest.fixture
def ten(make_peers: MakePeers) -> FlowerPeers:
    return training(make_peers(10))


def training(peers: FlowerPeers) -> FlowerPeers:
    peers.steps = dict.fromkeys(peers.nodes.values(), STEP)
    return peers


def averaging(**options: Any) -> FedAvg:
    return FedAvg(**{"fraction_evaluate": 0.0, **options})


class Run:
    """A run of `rounds`, made at once. `before[number]` is done between the rounds."""

    def __init__(
        self,
        peers: FlowerPeers,
        inner: Strategy | None = None,
        *,
        rounds: int = ROUNDS,
        before: dict[int, Callable[[], None]] | None = None,
        **options: Any,
    ) -> None:
        self._peers = peers
        self.models: list[Any] = []

        def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
            self.models.append(to_numpy(arrays)["w"])
            (before or {}).get(number + 1, lambda: None)()
            return MetricRecord({"accuracy": number / 10, "loss": 1.0 - number / 10})

        self.strategy = SecureStrategy(inner or averaging(), **{"mode": SEEDED, **options})
        initial = ArrayRecord({"w": Array(np.zeros(4, np.float32))})
        config = ConfigRecord({"lr": 0.1})
        self.result: Result = self.strategy.start(
            peers, initial, num_rounds=rounds, train_config=config, evaluate_fn=evaluate
        )

    @property
    def tickets(self) -> list[Ticket]:
        """One for each try at a round."""
        found = {ticket_of(m).ticket.serial: ticket_of(m).ticket for m in self._peers.asked}
        return list(found.values())

    @property
    def outcomes(self) -> list[str]:
        return [record.outcome for record in self.strategy.records]

    @property
    def reasons(self) -> list[str]:
        return [record.reason for record in self.strategy.records]

    def steps(self) -> list[float]:
        """By how much each round moved the model."""
        return [round(float((new - old).mean()), 2) for old, new in pairwise(self.models)]


def refusing(text: str = "policy_members") -> Callable[[Message], Message]:
    return lambda reply: Message(Error(17, text), reply_to=reply)


def refuse(peers: FlowerPeers, names: Iterable[str]) -> Callable[[], None]:
    def script() -> None:
        peers.altered = dict.fromkeys(names, refusing())

    return script


# -- a whole run ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE, NORMAL])
def test_each_round_moves_the_model_by_the_mean_step(mode: str, five: FlowerPeers) -> None:
    five.steps = dict(zip(FIVE, (0.1, 0.2, 0.3, 0.4, 1.0), strict=True))
    five.examples = dict(zip(FIVE, (10, 10, 10, 10, 60), strict=True))
    run = Run(five, mode=mode)
    assert run.outcomes == ["complete"] * ROUNDS
    assert run.steps() == [0.7, 0.7]
    np.testing.assert_array_equal(to_numpy(run.result.arrays)["w"], run.models[-1])
    assert [len(message.content) for message in five.asked] == [2 if mode == NORMAL else 3] * 10


def test_a_run_is_recorded_and_reported_to_the_service(five: FlowerPeers) -> None:
    run = Run(five)
    assert [(r.round, r.cohort, r.survivors, r.dropouts) for r in run.strategy.records] == [
        (1, 5, 5, 0),
        (2, 5, 5, 0),
    ]
    first = run.strategy.records[0]
    assert (first.mode, first.accuracy, first.loss) == (SEEDED, 0.1, 0.9)
    assert first.train_loss == pytest.approx(1.0, abs=1e-3)
    assert min(first.bytes_up, first.bytes_down, first.bytes_p2p) > 0
    assert {record.run for record in run.strategy.records} == {t.run for t in run.tickets}
    assert first.plain_bytes > 500
    told = [
        event
        for event in five.reported
        if event.WhichOneof("event") in ("start", "phase", "record")
    ]
    assert [event.phase.phase or event.WhichOneof("event") for event in told] == [
        "start",
        *(("train", "unmask", "sum", "record") * 2),
    ]
    began, unmasked = (event.phase for event in told[1:3])
    assert len(began.cohort) == 5
    assert list(unmasked.survivors) == list(began.cohort)
    assert run.result.evaluate_metrics_serverapp.keys() == {0, 1, 2}


def test_the_inner_strategy_sees_one_client_with_all_examples(five: FlowerPeers) -> None:
    seen: list[list[Message]] = []

    class Watching(FedAvg):
        def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
            seen.append(list(replies))
            return super().aggregate_train(server_round, seen[-1])

    five.weighted_by = "images"
    five.policy = replace(five.policy, weighted_by=("images",))
    run = Run(five, Watching(fraction_evaluate=0.0, weighted_by_key="images"), rounds=1)
    ((reply,),) = seen
    assert dict(reply.content["metrics"]) == {
        "images": 5 * EXAMPLES,
        "train_loss": 1.0,
    }
    assert run.steps() == [STEP]
    assert "train_loss" in run.result.train_metrics_clientapp[1]


def test_a_strategy_with_a_memory_of_its_own_has_it(five: FlowerPeers) -> None:
    inner = FedAvgM(fraction_evaluate=0.0, server_momentum=0.5)
    assert Run(five, inner).steps() == [STEP, 1.5 * STEP]


def test_a_seed_goes_to_the_peers_with_the_ticket(five: FlowerPeers) -> None:
    Run(five, rounds=1, seed=7)
    assert {message.content.config_records["smpcfl"]["seed"] for message in five.asked} == {7}


# -- training that fails on all ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
def test_a_run_in_which_training_fails_on_all_ends_after_two_rounds(
    mode: str, five: FlowerPeers
) -> None:
    five.failing = set(FIVE)
    with pytest.raises(LocalError, match=r"^the first 2 rounds are void.*training failed on"):
        Run(five, rounds=9, mode=mode)
    assert [event.record.outcome for event in five.reported if event.HasField("record")] == [
        "void",
        "void",
    ]
    assert len(five.asked) == 2 * 5, "and in additive no round is tried again for that"


def test_in_normal_one_of_the_errors_is_shown(five: FlowerPeers) -> None:
    def fail() -> None:
        five.altered = dict.fromkeys(FIVE, refusing("ValueError: no column 'age'"))

    fail()
    with pytest.raises(LocalError, match="all 5 peers failed, one of them: ValueError: no column"):
        Run(five, rounds=9, mode=NORMAL, before={2: fail})


def test_one_bad_round_or_one_after_a_good_one_ends_nothing(five: FlowerPeers) -> None:
    five.failing = set(FIVE)

    def fail() -> None:
        five.failing = set(FIVE)

    def mend() -> None:
        five.failing = set()

    run = Run(five, rounds=5, before={2: mend, 3: fail})
    assert run.outcomes == ["void", "complete", "void", "void", "void"]


# -- a part of the model ----------------------------------------------------------------------------


def start_with_a_part(peers: FlowerPeers, inner: Strategy, mode: str, *arrays: str) -> Result:
    peers.part = {"lora_a", "lora_b"}
    initial = {"base": np.ones(3, np.float32), "lora_a": np.zeros(4, np.float32)}
    initial |= {"lora_b": np.full((2, 2), 3.0)}
    strategy = SecureStrategy(inner, mode=mode, arrays=arrays)
    result = strategy.start(peers, to_record(initial), num_rounds=ROUNDS)
    assert [record.outcome for record in strategy.records] == ["complete"] * ROUNDS
    return result


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE, NORMAL])
def test_a_part_that_the_clients_reply_with_is_averaged(mode: str, five: FlowerPeers) -> None:
    result = start_with_a_part(five, averaging(), mode, "lora*")
    found = to_numpy(result.arrays)
    assert found.keys() == {"lora_a", "lora_b"}, "as plain Flower's FedAvg leaves the rest out"
    np.testing.assert_allclose(found["lora_a"], ROUNDS * STEP, atol=1e-2)
    np.testing.assert_allclose(found["lora_b"], 3.0 + ROUNDS * STEP, atol=1e-2)


def test_a_strategy_that_keeps_the_rest_sends_the_whole_model_each_time(five: FlowerPeers) -> None:
    class Adapting(FedAvg):
        def configure_train(
            self, server_round: int, arrays: ArrayRecord, *rest: Any
        ) -> Iterable[Message]:
            self.whole = arrays
            return super().configure_train(server_round, arrays, *rest)

        def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
            arrays, metrics = super().aggregate_train(server_round, replies)
            return arrays and ArrayRecord({**self.whole, **arrays}), metrics

    inner = Adapting(fraction_evaluate=0.0)
    found = to_numpy(start_with_a_part(five, inner, SEEDED, "lora_a", "lora_b").arrays)
    assert list(found) == ["base", "lora_a", "lora_b"]
    np.testing.assert_array_equal(found["base"], 1.0)
    np.testing.assert_allclose(found["lora_b"], 3.0 + ROUNDS * STEP, atol=1e-2)
    assert {ticket_of(m).ticket.arrays for m in five.asked} == {("lora_a", "lora_b")}


def test_a_part_that_no_array_is_named_after_ends_the_run(five: FlowerPeers) -> None:
    with pytest.raises(LocalError, match=r"no array of the model is named 'lorra\*'; it has base,"):
        start_with_a_part(five, averaging(), SEEDED, "lorra*")


# -- lost peers ---------------------------------------------------------------------------------------


def test_a_lost_peer_is_left_out_and_is_not_in_the_next_round(five: FlowerPeers) -> None:
    five.join("peer-9")
    five.lost = {FIVE[0]: "train"}
    run = Run(five, grace_s=PATIENT_S)
    assert run.outcomes == ["complete"] * 2
    assert [(r.cohort, r.survivors, r.dropouts) for r in run.strategy.records] == [
        (6, 5, 1),
        (5, 5, 0),
    ]
    assert [FIVE[0] in ticket.cohort for ticket in run.tickets] == [True, False]
    while_missing = [asked for asked in five.probed if asked == [FIVE[0]]]
    assert len(while_missing) >= 2, "its agent is asked, and once more before it is given up"


def test_a_silent_peer_that_no_probe_reaches_is_left_out_of_the_next_round(
    five: FlowerPeers,
) -> None:
    """As behind a firewall: that its agent does not answer says nothing, that it sent no upload does."""
    del five.agents[FIVE[0]]
    five.lost = {FIVE[0]: "train"}
    five.policy = Policy(min_cohort=4)
    # Four of five are two thirds, and three are not: waiting ends once the other four have replied.
    run = Run(five, min_peers=4, grace_s=0.0)
    assert run.outcomes == ["complete"] * 2
    assert [ticket.cohort for ticket in run.tickets] == [FIVE, FIVE[1:]]


def test_in_additive_a_round_is_run_again_without_the_lost(five: FlowerPeers) -> None:
    five.join("peer-9")
    five.lost = {FIVE[0]: "train"}
    run = Run(five, mode=ADDITIVE, rounds=1, grace_s=PATIENT_S)
    assert [len(ticket.cohort) for ticket in run.tickets] == [6, 5]
    assert [ticket.round for ticket in run.tickets] == [1, 1]
    assert [(r.outcome, r.cohort) for r in run.strategy.records] == [("complete", 5)]


@pytest.mark.parametrize(("mode", "tries"), [(SEEDED, 1), (ADDITIVE, 3)])
def test_a_round_that_stays_void_is_given_up(mode: str, tries: int, five: FlowerPeers) -> None:

    def refuse_each(message: Message) -> Message:
        five.altered = dict.fromkeys(FIVE, refuse_each)
        return refusing("config_mismatch")(message)

    five.altered = dict.fromkeys(FIVE, refuse_each)
    run = Run(five, mode=mode)
    assert run.outcomes == ["void"] * ROUNDS
    assert len(run.tickets) == ROUNDS * tries
    assert all("5 of 5 peers refused: config_mismatch" in reason for reason in run.reasons)
    assert run.steps() == [0.0, 0.0]


def test_where_all_refuse_for_a_limit_of_their_own_the_run_ends_at_once(five: FlowerPeers) -> None:
    five.policy = Policy(modes=(NORMAL,))
    with pytest.raises(LocalError, match="all 5 peers refuse: policy_mode"):
        Run(five)


# -- after a void round ---------------------------------------------------------------------------------


def test_a_void_round_changes_nothing_and_the_next_one_asks_the_same(five: FlowerPeers) -> None:
    run = Run(five, rounds=3, before={2: refuse(five, FIVE[:2])})
    assert run.outcomes == ["complete", "void", "complete"]
    assert run.reasons[1].startswith("too_few_survivors: 3 of 5 uploaded")
    assert run.reasons[1].endswith("; 2 of 5 peers refused: policy_members")
    assert run.steps() == [STEP, 0.0, STEP]
    assert five.asked_rounds == [1, 2, 2], "peers train under one configuration over one model"
    _, second, third = run.tickets
    assert (second.clip, second.weight_cap) == (third.clip, third.weight_cap)
    assert second.config_digest == third.config_digest
    assert second.serial < third.serial


def test_over_a_model_that_did_not_move_the_next_round_asks_the_same(five: FlowerPeers) -> None:
    five.steps = {}
    run = Run(five, clipping=Clipping(1.0, 100))
    assert run.outcomes == ["complete"] * 2
    assert run.steps() == [0.0, 0.0]
    assert five.asked_rounds == [1, 1]
    assert [(ticket.clip, ticket.weight_cap) for ticket in run.tickets] == [(1.0, 100)] * 2


@pytest.mark.parametrize(("step", "clip"), [(1.5, 2.0), (0.7, 1.0), (0.1, 0.75)])
def test_clip_and_cap_follow_what_was_counted(step: float, clip: float, five: FlowerPeers) -> None:
    five.steps = dict.fromkeys(FIVE, step)
    five.examples = dict.fromkeys(FIVE, 150)
    run = Run(five, clipping=Clipping(1.0, 100))
    assert [(t.clip, t.weight_cap) for t in run.tickets] == [(1.0, 100), (clip, 200)]


def test_with_eight_bits_the_clip_follows_the_sum_itself(five: FlowerPeers) -> None:
    five.steps, five.examples = dict.fromkeys(FIVE, 1.5), dict.fromkeys(FIVE, 1000)
    run = Run(five, rounds=6, width=8)
    assert run.outcomes == ["complete"] * 6
    first, *others = run.tickets
    assert (first.width, first.clip) == (8, 0.25)  # the model is zero
    # Each fits eight deviations of the sum before, and a sum of five is scaled up to five times what fits.
    assert all(0.25 < ticket.clip < 8 * 1.5 * 1.2 for ticket in others)
    assert run.steps()[0] < 0.5
    assert run.steps()[-1] == pytest.approx(1.5, abs=0.2)


def test_with_eight_bits_an_array_that_drowns_the_others_is_named(
    five: FlowerPeers, caplog: pytest.LogCaptureFixture
) -> None:
    before = {"w": np.zeros(900, np.float32), "var": np.ones(60), "n": np.array([1])}
    after = {"w": np.full(900, 0.001, np.float32), "var": np.full(60, 3.0), "n": np.array([9])}
    assert uneven(before, after) == {"var": pytest.approx(2000, rel=1e-3)}
    assert uneven(before, before) == uneven({}, {}) == {}
    run = Run(five, width=8)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            run.strategy._grid._warn_of_uneven(before, after)  # type: ignore[union-attr]
    assert [text for text in caplog.messages if "'var' changed 2000 times" in text] == [
        caplog.messages[-1]
    ]


def test_with_eight_bits_a_void_round_has_the_same_clip_once_more(five: FlowerPeers) -> None:
    run = Run(five, width=8, before={1: void_at_agree(five, 3), 2: back(five)})
    assert run.outcomes == ["void", "complete"]
    assert len({ticket.clip for ticket in run.tickets}) == 1


def test_a_width_that_there_is_not_is_named() -> None:
    with pytest.raises(LocalError, match="width is 12: choose one of 8, 16, 32, 64"):
        SecureStrategy(averaging(), mode=SEEDED, width=12)


def void_at_agree(peers: FlowerPeers, stay: int) -> Callable[[], None]:
    """The round's survivors are fixed, all but the last `stay` vanish, and are back after it."""

    def script() -> None:
        peers.lost = dict.fromkeys(list(peers.nodes.values())[:-stay], "agree")

    return script


def back(peers: FlowerPeers, but: Iterable[str] = ()) -> Callable[[], None]:
    def script() -> None:
        peers.agents |= {peer: b"1" for peer in peers.nodes.values() if peer not in but}

    return script


def test_after_a_void_round_the_sum_is_over_the_same_peers(
    ten: FlowerPeers, caplog: pytest.LogCaptureFixture
) -> None:
    """One peer more in it would be that peer's update, to whoever had both."""
    caplog.set_level(logging.WARNING)

    def come_back_with_another() -> None:
        back(ten)()
        ten.join("peer-new")

    run = Run(ten, rounds=3, before={1: void_at_agree(ten, 2), 2: come_back_with_another})
    assert run.reasons[0].startswith("too_few_answers")
    first, second, third = run.tickets
    assert second.cohort == first.cohort == peer_ids(10)
    assert third.cohort == (*peer_ids(10), "peer-new"), "over another model it is free again"
    assert run.outcomes == ["void", "complete", "complete"]
    assert "1 of 11 peers sit out" in caplog.text


def test_after_a_void_round_that_a_peer_was_lost_in_all_of_them_are_asked_for_the_same_sum(
    make_peers: MakePeers,
) -> None:
    """Seven of eight survived and agreed. Over seven alone nobody takes part; with the eighth, over them."""
    eight = training(make_peers(8))
    lost = peer_ids(8)[3]

    def script() -> None:
        eight.lost = {lost: "train", **dict.fromkeys(peer_ids(8)[4:], "unmask")}

    run = Run(eight, rounds=3, before={1: script, 2: back(eight)}, grace_s=PATIENT_S)
    assert run.reasons[0].startswith("too_few_answers")
    assert run.outcomes == ["void", "complete", "complete"]
    assert [record.survivors for record in run.strategy.records[1:]] == [7, 8]
    assert [len(ticket.cohort) for ticket in run.tickets] == [8, 8, 8]


def back_without(peers: FlowerPeers, gone: str) -> Callable[[], None]:
    def script() -> None:
        back(peers)()
        del peers.agents[gone]

    return script


def test_where_no_other_sum_is_far_enough_whoever_is_missing_is_waited_for(
    make_peers: MakePeers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    six, waits = training(make_peers(6)), iter(range(50))
    gone = peer_ids(6)[5]

    def sleep(seconds: float) -> None:
        assert len(six.rounds) == 1 or not caplog.text
        if next(waits) == 3:
            back(six)()

    monkeypatch.setattr("time.sleep", sleep)
    run = Run(six, before={1: void_at_agree(six, 2), 2: back_without(six, gone)})
    assert run.outcomes == ["void", "complete"]
    assert f"over others enough: waiting for {gone}" in caplog.text


# -- waiting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
def test_peers_that_take_no_more_tickets_are_waited_for_and_no_round_is_lost(
    mode: str, five: FlowerPeers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    five.policy = Policy(modes=(mode,), tickets_per_hour=1)
    run = Run(five, mode=mode, rounds=3)
    assert run.outcomes == ["complete"] * 3
    assert run.steps() == [STEP] * 3
    assert five.asked_rounds == [1, 2, 2, 3, 3]
    assert sum(five.slept) * 1000 >= 2 * HOUR_MS
    assert "SMPCFL_TICKETS_PER_HOUR): round 2 is run again in 3600 s" in caplog.text


def test_a_round_that_is_complete_without_them_is_not_run_again(five: FlowerPeers) -> None:
    def refuse_one() -> None:
        five.altered = {FIVE[0]: refusing("too_many_tickets: again in 100 s")}

    run = Run(five, before={1: refuse_one})
    assert run.outcomes == ["complete"] * 2
    assert not five.slept
    assert len(run.tickets) == 2


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE, NORMAL])
def test_a_run_waits_until_enough_peers_are_there(
    mode: str,
    make_peers: MakePeers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    peers = training(make_peers(4))
    waits = iter(range(3))

    def sleep(seconds: float) -> None:
        assert not peers.asked, "nothing is sent before"
        if next(waits) == 2:
            peers.join("peer-late")

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr(Reminder, "EVERY_S", math.inf)
    run = Run(peers, mode=mode, rounds=1)
    assert [(r.outcome, r.cohort) for r in run.strategy.records] == [("complete", 5)]
    assert caplog.text.count("waiting for peers: 4 of 5 are there") == 1


# -- which nodes the inner strategy chooses ---------------------------------------------------------------


def test_a_fraction_of_the_peers_is_the_cohort(ten: FlowerPeers) -> None:
    run = Run(ten, averaging(fraction_train=0.7))
    assert [len(ticket.cohort) for ticket in run.tickets] == [7, 7]
    assert [record.cohort for record in run.strategy.records] == [7, 7]


def test_a_fraction_of_too_few_is_raised_to_min_peers_and_says_so_once(
    ten: FlowerPeers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    run = Run(ten, averaging(fraction_train=0.3))
    assert run.outcomes == ["complete"] * 2
    assert [len(ticket.cohort) for ticket in run.tickets] == [5, 5]
    assert caplog.text.count("the strategy samples 3 clients: raised to min_peers, which is 5") == 1


def test_a_node_that_is_no_peer_gets_no_message(five: FlowerPeers) -> None:
    five.join("peer-stranger")
    five.deny = {"peer-stranger"}
    run = Run(five)
    assert [ticket.cohort for ticket in run.tickets] == [FIVE] * 2


# -- normal ---------------------------------------------------------------------------------------------


def test_in_normal_a_reply_with_an_error_is_left_out(five: FlowerPeers) -> None:
    five.steps = dict(zip(FIVE, (9.0, 0.1, 0.2, 0.3, 0.4), strict=True))
    five.altered = {FIVE[0]: refusing("no data")}
    run = Run(five, mode=NORMAL, rounds=1)
    assert run.steps() == [0.25]
    assert [(r.cohort, r.survivors, r.outcome) for r in run.strategy.records] == [
        (5, 4, "complete")
    ]


def test_in_normal_a_round_without_any_reply_is_void(five: FlowerPeers) -> None:
    five.altered = dict.fromkeys(FIVE, refusing("no data"))
    run = Run(five, mode=NORMAL, rounds=2)
    assert run.outcomes == ["void", "complete"]
    assert run.reasons == ["too_few_contributors: all 5 peers failed, one of them: no data", ""]
    assert run.steps() == [0.0, STEP]


# -- what cannot work is refused at once ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mode": "plain"}, "unknown mode 'plain': choose one of seeded, additive, normal"),
        ({"min_peers": 2}, "min_peers is 2: a sum of two is no secret, at least 3"),
        (
            {"strategy": FedMedian(fraction_evaluate=0.0)},
            "FedMedian looks at single updates, which nobody sees here: of their mean it makes another model"
            " than of the updates; use a strategy that averages, such as FedAvg",
        ),
    ],
    ids=["mode", "min_peers", "FedMedian"],
)
@pytest.mark.usefixtures("make_peers")  # in a ServerApp's process
def test_what_cannot_work_is_refused_at_construction(options: dict[str, Any], text: str) -> None:
    with pytest.raises(LocalError) as error:
        SecureStrategy(**{"strategy": averaging(), **options})
    assert str(error.value) == text


def test_in_normal_any_strategy_and_two_peers_are_fine() -> None:
    assert not SecureStrategy(FedMedian(), mode=NORMAL, min_peers=2).settings.secure


def test_the_mode_is_the_deployments_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SecureStrategy(averaging()).settings.mode == SEEDED
    monkeypatch.setenv("SMPCFL_MODE", ADDITIVE)
    assert SecureStrategy(averaging()).settings.mode == ADDITIVE
    assert SecureStrategy(averaging(), mode=SEEDED).settings.mode == SEEDED


class Saving(FedAvg):
    def set_save_path(self, path: str) -> None:
        self.path = path


def test_what_the_wrapped_strategy_has_of_its_own_is_there(make_peers: MakePeers) -> None:
    make_peers(5)
    strategy = SecureStrategy(Saving())
    strategy.set_save_path("outputs")
    assert strategy.inner.path == strategy.path == "outputs"  # type: ignore[attr-defined]
    strategy.path = "elsewhere"
    assert strategy.inner.path == "elsewhere"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="'Saving' object has no attribute 'set_pat'"):
        strategy.set_pat("outputs")
    assert not hasattr(strategy, "strategy")
    assert isinstance(copy.deepcopy(strategy), SecureStrategy)
