"""One round at the aggregator, over honest peers in memory: its sum, what it withstands, what voids it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)

from smpcfl.flower.server.clipping import Clipping
from smpcfl.flower.server.lineup import Chosen
from smpcfl.flower.server.lineup_groups import Part
from smpcfl.flower.server.secure_round import Outcome, Plan, SecureRound
from smpcfl.flower.server.service_link import Server
from smpcfl.flower.server.summed_round import SummedRound
from smpcfl.flower.shared.records import RECORD, VECTOR, content_digest, to_record, vector_record
from smpcfl.protocol import quantise
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.ledger import Ledger
from smpcfl.protocol.summed_metrics import MetricNames
from smpcfl.protocol.ticket import ADDITIVE, SEEDED, TRAIN, Deadlines
from support.flower_peers import APP, P2P_BYTES, UNMASK_BYTES, FlowerPeers, MakePeers, ticket_of
from support.network import peer_ids

GIVEN: dict[str, npt.NDArray[Any]] = {
    "w": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "n": np.array(7),
}
CLIPPING = Clipping(clip=1.0, weight_cap=100)


@dataclass
class Bench:
    """Rounds over one model, each with the peers that are there; `last` is the newest of them."""

    peers: FlowerPeers
    server: Server
    last: SecureRound = field(init=False)

    def run(self, mode: str = SEEDED, given: dict[str, npt.NDArray[Any]] = GIVEN) -> Outcome:
        content = RecordDict({"arrays": to_record(given), "config": ConfigRecord({"lr": 0.1})})
        messages = [
            Message(content=content, message_type=MessageType.TRAIN, dst_node_id=node)
            for node in self.peers.nodes
        ]
        plan = Plan(
            task=TRAIN,
            mode=mode,
            number=3,
            given=given,
            summed=given,
            content_digest=content_digest(content, MessageType.TRAIN, {}),
            app=bytes.fromhex(APP),
            width=16,
            clipping=CLIPPING,
            deadlines=Deadlines(),
            metrics=MetricNames(),
            weighted_by="num-examples",
        )
        chosen = Chosen.of(self.peers.nodes)
        whole = SummedRound(
            self.server, plan, [Part(self.server.ledger, len(chosen.cohort), chosen=chosen)]
        )
        (self.last,) = whole.rounds
        # Of whoever is lost it is known at once: so no verdict here depends on a clock.
        gone = {node for node, peer in self.peers.nodes.items() if peer in self.peers.lost}
        messages_to = {message.metadata.dst_node_id: message for message in messages}
        outcome = whole.run(
            self.peers, messages_to.__getitem__, None, 60.0, lambda missing, late: missing <= gone
        )
        if (error := whole._errors[0]) is not None:
            raise error
        return outcome

    @property
    def reported(self) -> list[str]:
        """Reasons that the service was told of."""
        return [event.refusal.reason for event in self.peers.reported if event.HasField("refusal")]


@pytest.fixture
def bench(make_peers: MakePeers, tmp_path: Path) -> Bench:
    return bench_of(make_peers(5), tmp_path)


def bench_of(peers: FlowerPeers, folder: Path) -> Bench:
    for number, peer in enumerate(peers.nodes.values()):
        peers.steps[peer] = 0.05 * (number + 1)
        peers.examples[peer] = 20 * (number + 1)
    return Bench(peers, Server(folder / "aggregator", peers.aggregator, "", Ledger(), run=9))


def assert_mean(bench: Bench, outcome: Outcome, *names: str) -> None:
    """The model is `GIVEN` and the mean step of these peers, weighted by examples up to the cap."""
    weights = [min(bench.peers.examples[name], CLIPPING.weight_cap) for name in names]
    step = np.average([bench.peers.steps[name] for name in names], weights=weights)
    # Each peer is rounded by less than one unit of the ring.
    ticket = bench.last.signed.ticket
    unit = ticket.clip / ticket.quantiser.span * len(ticket.cohort) * ticket.weight_cap
    np.testing.assert_allclose(
        outcome.model["w"], GIVEN["w"] + step, atol=len(names) * unit / sum(weights) + 1e-6
    )
    assert outcome.model["w"].dtype == np.float32
    assert outcome.model["n"] == 7
    assert outcome.trailer is not None
    assert outcome.trailer.examples == sum(bench.peers.examples[name] for name in names)


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
def test_a_whole_round_gives_the_weighted_mean(mode: str, bench: Bench) -> None:
    bench.peers.examples[peer_ids(5)[4]] = 1000  # above the cap: it weighs 100
    outcome = bench.run(mode)
    assert_mean(bench, outcome, *peer_ids(5))
    assert (outcome.cohort, outcome.survivors, outcome.contributors) == (5, 5, 5)
    assert outcome.trailer is not None
    assert outcome.trailer.capped == 1
    assert not bench.last.silent
    assert bench.reported == []
    assert outcome.bytes_p2p == 5 * (2 * P2P_BYTES if mode == SEEDED else P2P_BYTES)
    assert outcome.bytes_up > 5 * 500
    assert outcome.bytes_down > 5 * 500
    phases = {"train", "sum", "unmask"} if mode == SEEDED else {"train", "sum"}
    assert outcome.phase_seconds.keys() == phases


def test_weights_beyond_the_cap_void_the_round(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several groups such weights together would be beyond what an integer holds."""
    monkeypatch.setattr(quantise, "min", lambda examples, cap: examples, raising=False)
    bench.peers.examples[peer_ids(5)[0]] = 2**40
    with pytest.raises(RemoteError) as error:
        bench.run()
    assert error.value.reason is Reason.BAD_TRAILER


def test_the_ticket_says_what_the_round_is_of(bench: Bench) -> None:
    bench.run()
    (ticket,) = {ticket_of(message).ticket for message in bench.peers.asked}
    assert (ticket.run, ticket.round, ticket.mode) == (9, 3, SEEDED)
    assert ticket.cohort == peer_ids(5)
    assert (ticket.threshold, ticket.min_survivors) == (3, 4)
    assert (ticket.clip, ticket.weight_cap, ticket.width) == (1.0, 100, 16)
    assert ticket.deadlines == Deadlines()


def test_each_round_has_a_fresh_ticket(bench: Bench) -> None:
    bench.run()
    first = bench.last.signed.ticket
    bench.run()
    second = bench.last.signed.ticket
    assert second.serial > first.serial
    assert second.nonce != first.nonce


@pytest.mark.parametrize("phase", ["exchange", "train", "upload"])
def test_a_peer_lost_before_its_upload_is_not_in_the_mean(phase: str, bench: Bench) -> None:
    lost = peer_ids(5)[1]
    bench.peers.lost = {lost: phase}
    outcome = bench.run()
    assert_mean(bench, outcome, *(peer for peer in peer_ids(5) if peer != lost))
    assert (outcome.cohort, outcome.survivors) == (5, 4)
    assert bench.last.silent == {2}
    assert outcome.lost == {lost: "no reply"}


def test_a_peer_lost_after_its_upload_is_in_the_mean(bench: Bench) -> None:
    bench.peers.lost = {peer_ids(5)[1]: "agree"}
    assert_mean(bench, bench.run(), *peer_ids(5))
    assert not bench.last.silent


def test_one_peer_more_than_is_tolerated_voids_the_round(bench: Bench) -> None:
    bench.peers.lost = dict.fromkeys(peer_ids(5)[:2], "train")
    with pytest.raises(RemoteError) as error:
        bench.run()
    assert error.value.reason is Reason.TOO_FEW_SURVIVORS
    void = bench.last.void(str(error.value))
    assert "3 of 5 uploaded" in void.reason
    assert "expected >= 4" in void.reason
    assert (void.replies, void.model, void.trailer) == ([], {}, None)
    assert void.lost == dict.fromkeys(peer_ids(5)[:2], "no reply")
    assert bench.last.silent == {1, 2}


def test_a_peer_whose_training_fails_survives_and_weighs_nothing(bench: Bench) -> None:
    failing, *others = peer_ids(5)
    bench.peers.failing = {failing}
    outcome = bench.run()
    assert_mean(bench, outcome, *others)
    assert (outcome.survivors, outcome.contributors) == (5, 4)


def test_where_training_fails_on_nearly_all_nobody_answers(bench: Bench) -> None:
    """Else the sum would be one peer's update."""
    bench.peers.failing = set(peer_ids(5)[1:])
    with pytest.raises(RemoteError) as error:
        bench.run()
    assert error.value.reason is Reason.TOO_FEW_CONTRIBUTORS
    assert "the log of each of them says why" in str(error.value)
    outcome = bench.last.outcome
    assert (outcome.unmask_up, outcome.unmask_down) == UNMASK_BYTES, "it was asked all the same"


def test_too_few_answers_void_the_round(bench: Bench) -> None:
    bench.peers.lost = dict.fromkeys(peer_ids(5)[:3], "agree")
    with pytest.raises(RemoteError) as error:
        bench.run()
    assert error.value.reason is Reason.TOO_FEW_ANSWERS
    assert "0 peers answered" in str(error.value), "two are too few to agree"


def test_in_additive_any_lost_peer_voids_the_round(bench: Bench) -> None:
    bench.peers.lost = {peer_ids(5)[0]: "upload"}
    with pytest.raises(RemoteError) as error:
        bench.run(ADDITIVE)
    assert error.value.reason is Reason.TOO_FEW_SURVIVORS
    assert "expected >= 5, found 4" in str(error.value)


# -- replies that are none ------------------------------------------------------------------------


def other_content(**records: Any) -> Callable[[Message], Message]:
    def alter(reply: Message) -> Message:
        for name, record in records.items():
            reply.content[{"ours": RECORD, "vector": VECTOR}[name]] = record
        return reply

    return alter


def bit_flipped(reply: Message) -> Message:
    ours = reply.content.config_records[RECORD]
    meta = bytearray(ours["meta"])  # type: ignore[arg-type]
    meta[-1] ^= 1
    ours["meta"] = bytes(meta)
    return reply


def as_plain_flower(reply: Message) -> Message:
    for name in list(reply.content):
        del reply.content[name]
    reply.content["arrays"] = ArrayRecord({"w": Array(np.zeros((2, 3), np.float32))})
    reply.content["metrics"] = MetricRecord({"num-examples": 10})
    return reply


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (as_plain_flower, Reason.MALFORMED),
        (bit_flipped, Reason.BAD_SIGNATURE),
        (other_content(ours=ConfigRecord({"meta": b"\xff" * 9, "p2p-bytes": 1})), Reason.MALFORMED),
        (other_content(vector=vector_record(bytes(7))), Reason.WRONG_LENGTH),
    ],
    ids=["plain", "flipped", "garbage", "short"],
)
def test_a_reply_that_is_no_upload_costs_its_peer_alone(
    alter: Callable[[Message], Message], reason: Reason, bench: Bench
) -> None:
    liar, *others = peer_ids(5)
    bench.peers.altered = {liar: alter}
    outcome = bench.run()
    assert_mean(bench, outcome, *others)
    assert outcome.lost.keys() == {liar}
    assert outcome.lost[liar].startswith(f"left out: {reason}")
    assert bench.reported == [reason]
    assert not bench.last.silent, "it did reply"


class Recorder:
    """Keeps the content of one reply, and gives it in place of another's."""

    content: RecordDict

    def keep(self, reply: Message) -> Message:
        self.content = reply.content
        return reply

    def repeat(self, reply: Message) -> Message:
        ours, vector = self.content[RECORD], self.content[VECTOR]
        return other_content(ours=ours, vector=vector)(reply)


def test_an_upload_of_another_round_is_left_out(bench: Bench) -> None:
    liar, *others = peer_ids(5)
    recorder = Recorder()
    bench.peers.altered = {liar: recorder.keep}
    bench.run()
    bench.server = replace(bench.server, ledger=Ledger())  # over one model a second set is refused
    bench.peers.ledgers.clear()
    bench.peers.altered = {liar: recorder.repeat}
    assert_mean(bench, bench.run(), *others)
    assert len(bench.reported) == 1


def test_an_upload_of_another_peer_is_left_out(bench: Bench) -> None:
    victim, liar, *others = peer_ids(5)
    recorder = Recorder()
    bench.peers.altered = {victim: recorder.keep, liar: recorder.repeat}
    assert_mean(bench, bench.run(), victim, *others)
    assert bench.reported == [Reason.BAD_HEADER]


def refusing(text: str) -> Callable[[Message], Message]:
    def alter(reply: Message) -> Message:
        return Message(Error(17, text), reply_to=reply)

    return alter


def test_a_refusal_is_no_upload_and_nothing_to_report(bench: Bench) -> None:
    refuser, *others = peer_ids(5)
    bench.peers.altered = {refuser: refusing("policy_cohort: cohort too small")}
    assert_mean(bench, bench.run(), *others)
    assert bench.reported == []


def test_a_void_round_says_why_most_peers_refused(bench: Bench) -> None:
    one, two, three, *_ = peer_ids(5)
    bench.peers.altered = {
        **dict.fromkeys([one, three], refusing("policy_cohort: cohort too small")),
        two: refusing("policy_mode"),
    }
    with pytest.raises(RemoteError) as error:
        bench.run()
    reason = bench.last.void(str(error.value)).reason
    assert reason.endswith("; 2 of 5 peers refused: policy_cohort: cohort too small")


@pytest.mark.parametrize(
    ("texts", "wait_s"),
    [
        (["too_many_tickets: again in 5 s", "too_many_tickets: again in 70 s; expected"], 70),
        (["too_many_tickets: again in 999999 s"], 3600),
        (["too_many_tickets: again soon", "policy_mode: again in 5 s"], 0),
    ],
)
def test_how_long_to_wait_is_the_longest_that_a_peer_asks_for_up_to_an_hour(
    texts: list[str], wait_s: float, bench: Bench
) -> None:
    peers = peer_ids(5)
    texts = [*texts, *["policy_mode"] * (2 - len(texts))]
    bench.peers.altered = {peer: refusing(text) for peer, text in zip(peers, texts, strict=False)}
    with pytest.raises(RemoteError):
        bench.run()
    assert bench.last.void("").wait_s == wait_s


# -- the aggregator's own ledger --------------------------------------------------------------------


def test_another_survivor_set_too_near_an_earlier_one_is_never_asked_for(bench: Bench) -> None:
    """The aggregator keeps the rule of peers itself: a sum that nobody answers only loses time."""
    bench.run()
    bench.peers.lost = {peer_ids(5)[0]: "train"}
    with pytest.raises(RemoteError) as error:
        bench.run()
    assert error.value.reason is Reason.CONFLICTING_SURVIVORS
    assert "1 apart" in str(error.value)
    assert bench.peers.rounds[-1].uploads, "it came to uploads, and to no answer"


def test_the_same_sum_may_be_asked_for_again(bench: Bench) -> None:
    bench.run()
    assert_mean(bench, bench.run(), *peer_ids(5))


def test_larger_cohorts_lose_more(make_peers: MakePeers, tmp_path: Path) -> None:
    bench = bench_of(make_peers(8), tmp_path)
    gone = peer_ids(8)[2:4]
    bench.peers.lost = {gone[0]: "exchange", gone[1]: "upload"}
    assert_mean(bench, bench.run(), *(peer for peer in peer_ids(8) if peer not in gone))
