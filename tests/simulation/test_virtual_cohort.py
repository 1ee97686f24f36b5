"""Rounds of virtual peers, whose ClientApps run one after another: the sum is exact, whoever is lost."""

from __future__ import annotations

import pytest

from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.ticket import ADDITIVE, SEEDED, Deadlines
from smpcfl.simulation import hub as hub_module
from smpcfl.simulation.virtual_cohort import ABSENT, LOST_AT, NO_ANSWER, NO_UPLOAD
from support.virtual import Simulated


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
@pytest.mark.parametrize("n", [3, 8, 20])
def test_the_sum_is_exact_although_no_two_clients_run_beside_each_other(mode: str, n: int) -> None:
    simulated = Simulated(n, mode=mode)
    signed = simulated.ticket()
    total = simulated.finish(simulated.train(signed))
    assert not simulated.errors
    assert len(simulated.survivors) == n
    assert total.tobytes() == simulated.true_sum(signed).tobytes()


def losing(simulated: Simulated, monkeypatch: pytest.MonkeyPatch, **when: str) -> None:
    """These peers, by the last digit of their id, in each round."""
    lost = {f"peer-0000{digit.removeprefix('p')}": at for digit, at in when.items()}
    monkeypatch.setattr(hub_module.Hub, "lost_in", lambda self, run, number: lost)


@pytest.mark.parametrize("first", LOST_AT)
@pytest.mark.parametrize("second", LOST_AT)
def test_lost_peers_cost_nothing_but_their_own_part(
    first: str, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated = Simulated(8)
    losing(simulated, monkeypatch, p2=first, p5=second)
    signed = simulated.ticket()
    total = simulated.finish(simulated.train(signed))
    gone = {f"peer-0000{i}" for i, when in ((2, first), (5, second)) if when != NO_ANSWER}
    assert simulated.errors.keys() == gone
    assert set(simulated.survivors) == set(simulated.names.values()) - gone
    assert total.tobytes() == simulated.true_sum(signed).tobytes()
    assert not {"peer-00002", "peer-00005"} & simulated.answers.keys(), "they are gone"


def test_what_a_lost_peers_client_is_told_names_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = Simulated(8)
    losing(simulated, monkeypatch, p2=ABSENT, p5=NO_UPLOAD)
    simulated.train(simulated.ticket())
    texts = {name: str(error) for name, error in simulated.errors.items()}
    assert texts == {
        "peer-00002": "round_closed: lost before the exchange",
        "peer-00005": "round_closed: lost before its upload",
    }


def test_beyond_what_is_tolerated_the_round_is_void(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = Simulated(8)
    losing(simulated, monkeypatch, p1=ABSENT, p2=ABSENT, p5=ABSENT)
    with pytest.raises(RemoteError) as raised:
        simulated.finish(simulated.train(simulated.ticket()))
    assert raised.value.reason is Reason.TOO_FEW_SURVIVORS
    reasons = {error.reason for error in simulated.errors.values()}
    assert reasons == {Reason.ROUND_CLOSED, Reason.TOO_FEW_COUNTING}, "the others abstain at once"


def test_too_few_that_agree_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = Simulated(8)
    losing(simulated, monkeypatch, p1=NO_ANSWER, p2=NO_ANSWER, p5=NO_ANSWER)
    state = simulated.train(simulated.ticket())
    with pytest.raises(RemoteError):
        simulated.finish(state)
    assert len(simulated.answers) == 5
    for answer in simulated.answers.values():
        assert isinstance(answer, RemoteError)
        assert answer.reason is Reason.TOO_FEW_AGREEMENTS


def test_a_lost_peer_voids_additive(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = Simulated(5, mode=ADDITIVE)
    losing(simulated, monkeypatch, p2=ABSENT)
    with pytest.raises(RemoteError):
        simulated.finish(simulated.train(simulated.ticket()))
    assert len(simulated.errors) == 5


def test_a_peer_has_no_second_training(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = Simulated(5)
    signed = simulated.ticket()
    hub, model = simulated.hub, signed.ticket.model_digest
    hub.begin(1, signed, model, bytes(32))
    with pytest.raises(RemoteError) as raised:
        hub.begin(1, signed, model, bytes(32))
    assert raised.value.reason is Reason.SECOND_TRAINING


def test_an_upload_is_frozen_and_resent() -> None:
    simulated = Simulated(5)
    signed = simulated.ticket()
    simulated.train(signed)
    round_ = simulated.hub.begin(3, signed, signed.ticket.model_digest, bytes(32))
    assert round_.frozen is not None
    assert simulated.hub.round_of(3, signed.ticket.digest).frozen == round_.frozen


def test_a_peer_that_refuses_the_ticket_says_why_and_is_missing_to_the_others() -> None:
    simulated = Simulated(5)
    late = Deadlines(1, 2, 3, 4, 5, 2 * 3_600_000)
    simulated.train(simulated.ticket(deadlines=late))
    reasons = {error.reason for error in simulated.errors.values()}
    assert reasons == {Reason.POLICY_RANGE}
    assert len(simulated.errors) == 5


def test_no_deadline_passes_while_clients_are_waited_for() -> None:
    """However short: the peers' time goes on only as far as what they are asked for has to wait."""
    simulated = Simulated(5)
    signed = simulated.ticket(deadlines=Deadlines(20, 40, 60, 80, 100, 120))
    total = simulated.finish(simulated.train(signed))
    assert total.tobytes() == simulated.true_sum(signed).tobytes()


def test_a_round_that_is_over_has_no_secrets() -> None:
    simulated = Simulated(5)
    first = simulated.ticket()
    simulated.train(first)
    simulated.train(simulated.ticket())
    with pytest.raises(RemoteError) as raised:
        simulated.hub.round_of(1, first.ticket.digest)
    assert raised.value.reason is Reason.UNKNOWN_TICKET
