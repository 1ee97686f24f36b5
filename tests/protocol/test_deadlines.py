"""Every deadline ends in a decision, no clock is asked for in the past, and a closed round is empty."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smpcfl.protocol.additive import AdditivePeerRound
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import AdditiveShare, Agreement, Exchange, Ready
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.phases import Phase
from smpcfl.protocol.receipts import ListRequest
from smpcfl.protocol.ticket import ADDITIVE, SEEDED
from support.forge import agreement, round_of, sent, survivors
from support.invariants import secrets_in
from support.network import Network, Round, entropy_from, make_ticket, peer_ids

PEERS = peer_ids(8)
MODES = [SEEDED, ADDITIVE]
UNMASK_S = 160.0


# -- closed rounds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["start", "exchange", "ready", "upload"])
@pytest.mark.parametrize("mode", MODES)
def test_a_closed_round_holds_no_secret(mode: str, stage: str) -> None:
    network = Network(make_ticket(8, mode=mode)).until(stage)
    round_ = network.rounds[PEERS[0]]
    assert secrets_in(round_)
    round_.close()
    assert not secrets_in(round_)
    assert round_.frozen is None
    round_.close()  # and may be closed again
    assert round_.phase is Phase.CLOSED


def test_a_closed_round_holds_no_answer() -> None:
    network = Network(make_ticket(8))
    network.run()
    round_ = round_of(network, 0)
    assert secrets_in(round_)
    round_.close()
    assert not secrets_in(round_)


@pytest.mark.parametrize("mode", MODES)
def test_the_unmask_deadline_closes_the_round(mode: str) -> None:
    network = Network(make_ticket(8, mode=mode)).until("upload")
    round_ = network.rounds[PEERS[0]]
    assert round_.calls(UNMASK_S) == []
    assert round_.phase is Phase.CLOSED
    assert round_.next_event(UNMASK_S) is None
    assert not secrets_in(round_)


def test_no_agreement_is_sent_after_the_unmask_deadline() -> None:
    network = Network(make_ticket(8)).until("upload")
    message = survivors(network, tuple(range(8)))
    in_time, late = round_of(network, 0), round_of(network, 1)
    for round_ in (in_time, late):
        round_.survivors(message, network.now)
    assert {type(call.message) for call in in_time.calls(network.now)} == {Agreement}
    assert late.calls(UNMASK_S) == []


def test_a_reply_that_comes_after_the_close_leaves_no_secret() -> None:
    network = Network(make_ticket(8)).until("start")
    round_ = round_of(network, 0)
    call = next(c for c in round_.calls(0.0) if c.to == PEERS[5])
    assert isinstance(call.message, Exchange)
    reply = round_of(network, 5).exchange(PEERS[0], call.message, 0.0)
    round_.close()
    with contextlib.suppress(RemoteError):
        round_.answered(call, reply, 1.0)
    assert not secrets_in(round_)


def closed_calls(network: Network) -> dict[str, Callable[[PeerRound], Any]]:
    """Everything that can be asked of peer 5, right but for the round being closed."""
    other = Network(make_ticket(8)).until("start")
    exchange = sent(round_of(other, 0), Exchange, 5, 0.0)
    ready = round_of(Network(make_ticket(8)).until("ready"), 2)._ready_for(5, 0)
    question = ListRequest(network.ticket.digest, 5, 1, ())
    message = survivors(network, range(8))
    now = network.now
    return {
        "exchange": lambda r: r.exchange(PEERS[0], exchange, now),
        "ready": lambda r: r.ready(PEERS[2], ready, now),
        "question": lambda r: r.show_list(PEERS[2], question, now),
        "survivors": lambda r: r.survivors(message, now),
        "agreement": lambda r: r.agreement(agreement(network, 1, message)),
        "freeze": lambda r: r.freeze(bytes(84), now),
    }


@pytest.mark.parametrize(
    "name", ["exchange", "ready", "question", "survivors", "agreement", "freeze"]
)
def test_a_closed_round_refuses(name: str) -> None:
    network = Network(make_ticket(8)).until("upload")
    act, round_ = closed_calls(network)[name], round_of(network, 5)
    act_before = closed_calls(network)["agreement"]
    act_before(round_)  # the messages themselves are good
    round_.close()
    with pytest.raises(RemoteError) as error:
        act(round_)
    assert error.value.reason is Reason.ROUND_CLOSED
    assert round_.phase is Phase.CLOSED


@pytest.mark.parametrize("mode", MODES)
def test_a_closed_round_gives_out_no_masks_and_calls_nobody(mode: str) -> None:
    network = Network(make_ticket(8, mode=mode)).until("ready")
    round_ = network.rounds[PEERS[0]]
    round_.close()
    round_.begin(bytes(32), bytes(32))
    with pytest.raises(RemoteError):
        round_.masks(network.now)
    assert round_.calls(network.now) == []
    assert round_.next_event(network.now) is None


def test_a_closed_round_answers_nothing() -> None:
    network = Network(make_ticket(8))
    network.run()
    round_ = round_of(network, 0)
    assert round_.answer(network.now) is not None
    round_.close()
    with pytest.raises(RemoteError) as error:
        round_.answer(network.now)
    assert error.value.reason is Reason.ROUND_CLOSED


@pytest.mark.parametrize("method", ["survivors", "answer"])
def test_a_round_closed_between_agree_and_unmask_refuses(method: str) -> None:
    network = Network(make_ticket(8)).until("upload")
    round_, message = round_of(network, 0), survivors(network, range(8))
    round_.survivors(message, network.now)
    round_.close()
    ask = {
        "survivors": lambda: round_.survivors(message, network.now),
        "answer": lambda: round_.answer(network.now),
    }
    with pytest.raises(RemoteError):
        ask[method]()


def test_no_share_is_shown_for_the_first_time_after_the_unmask_deadline() -> None:
    network = Network(make_ticket(8)).until("upload")
    round_, message = round_of(network, 0), survivors(network, range(8))
    round_.survivors(message, network.now)
    for j in range(1, 8):
        round_.agreement(agreement(network, j, message))
    with pytest.raises(RemoteError):
        round_.answer(UNMASK_S + 1)


def test_what_comes_at_the_deadline_itself_is_too_late() -> None:
    network = Network(make_ticket(8)).until("start")
    exchange, round_ = sent(round_of(network, 0), Exchange, 5, 0.0), round_of(network, 5)
    with pytest.raises(RemoteError, match="deadline; expected < 120000 ms, found 120000"):
        round_.exchange(PEERS[0], exchange, 120.0)
    begun = round_of(network, 4)
    with pytest.raises(RemoteError, match="training; expected < 40000 ms, found 40000"):
        begun.begin(bytes(32), bytes(32), 40.0)
    with pytest.raises(RemoteError, match="found 40001"):
        begun.begin(bytes(32), bytes(32), 40.001)
    begun.begin(bytes(32), bytes(32), 39.999)
    with pytest.raises(RemoteError, match="second_training"):
        begun.begin(bytes(32), bytes(32), 39.9995)


# -- decisions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["start", "exchange", "ready"])
@pytest.mark.parametrize("mode", MODES)
def test_whoever_did_not_upload_abstains_at_the_upload_deadline(mode: str, stage: str) -> None:
    network = Network(make_ticket(8, mode=mode)).until(stage)
    for round_ in network.rounds.values():
        with pytest.raises(RemoteError) as error:
            round_.masks_available(120.0)
        assert error.value.reason is Reason.TOO_FEW_COUNTING
        assert round_.phase is Phase.ABSTAINED


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["newer ticket", "unmask deadline"])
def test_a_closed_round_says_that_there_will_be_no_masks(mode: str, how: str) -> None:
    network = Network(make_ticket(8, mode=mode)).until("ready")
    round_ = network.rounds[PEERS[0]]
    if how == "newer ticket":
        round_.close()
    with pytest.raises(RemoteError):
        round_.masks_available(network.now if how == "newer ticket" else UNMASK_S)


def test_an_abstaining_peer_still_agrees_and_answers() -> None:
    network = Network(make_ticket(8)).until("ready")
    network.uploads = {}
    for peer in PEERS[1:]:
        network.mask(peer)
    network.now = 120.0
    round_ = round_of(network, 0)
    with pytest.raises(RemoteError):
        round_.masks_available(network.now)
    message = survivors(network, range(1, 8))
    round_.survivors(message, network.now)
    for j in range(1, 8):
        round_.agreement(agreement(network, j, message))
    answer = round_.answer(network.now)
    assert answer is not None
    assert len(answer.self_shares) == 7


@st.composite
def troubled(draw: st.DrawFn) -> Network:
    pairs = [(a, b) for a in PEERS[:5] for b in PEERS[:5] if a != b]
    return Network(
        make_ticket(5, mode=draw(st.sampled_from(MODES))),
        seed=draw(st.integers(0, 999)),
        lost=draw(st.dictionaries(st.sampled_from(PEERS[:5]), st.just("exchange"), max_size=2)),
        cut=draw(st.sets(st.sampled_from(pairs), max_size=8)),
        unheard=draw(st.sets(st.sampled_from(pairs), max_size=8)),
        cheap=True,
    )


@settings(max_examples=60, deadline=None)
@given(troubled(), st.lists(st.floats(0.01, 30), min_size=1, max_size=40))
def test_the_next_event_is_never_past_and_every_round_ends(
    network: Network, steps: list[float]
) -> None:
    network.start()
    network._lose("exchange")
    network.now = 0.0
    for step in [*steps, UNMASK_S]:
        network.pump()
        for peer in network.alive:
            event = network.rounds[peer].next_event(network.now)
            assert event is None or event >= network.now
            assert (event is None) == (network.rounds[peer].phase is Phase.CLOSED)
        network.now += step
    network.pump()
    for peer in network.alive:
        assert network.rounds[peer].phase is Phase.CLOSED
        assert network.rounds[peer].next_event(network.now) is None


def deadline_after(now: float) -> float:
    return next(at for at in (20.0, 40.0, 120.0, 140.0, 160.0) if at > now)


def idle_event(round_: Round, now: float) -> float | None:
    """The next event where there is nothing to send and nothing in flight."""
    assert round_.calls(now) == []
    return round_.next_event(now)


@pytest.mark.parametrize(
    ("mode", "stage"),
    [
        (ADDITIVE, "exchange"),
        (ADDITIVE, "ready"),
        (ADDITIVE, "upload"),
        (SEEDED, "ready"),
        (SEEDED, "upload"),
    ],
)
def test_an_idle_round_sleeps_until_a_deadline(mode: str, stage: str) -> None:
    network = Network(make_ticket(5, mode=mode)).until(stage)
    for round_ in network.rounds.values():
        event = idle_event(round_, network.now)
        assert event is not None
        assert event >= deadline_after(network.now)


def test_an_additive_round_that_abstained_sleeps_until_a_deadline() -> None:
    network = Network(make_ticket(3, mode=ADDITIVE), lost={PEERS[2]: "exchange"})
    network.until("exchange")
    assert idle_event(network.rounds[PEERS[0]], 125.0) == deadline_after(125.0)


def test_a_call_that_nobody_takes_is_made_again_until_the_deadline() -> None:
    network = Network(make_ticket(3), lost={PEERS[2]: "exchange"}).until("start")
    network._lose("exchange")
    network.now, made = 0.0, []
    round_ = round_of(network, 0)
    while network.now < 121:
        calls = round_.calls(network.now)
        made += [network.now for c in calls if c.to == PEERS[2] and isinstance(c.message, Exchange)]
        for call in calls:
            round_.failed(call, network.now)
        event = round_.next_event(network.now)
        assert event is not None
        network.now = max(event, network.now + 0.25)
    assert len(made) > 30
    assert made[-1] > 115


def test_a_retry_that_falls_due_between_calls_and_next_event_is_not_slept_over() -> None:
    network = Network(make_ticket(3)).until("start")
    round_ = round_of(network, 0)
    for call in round_.calls(0.0):
        round_.failed(call, 0.0)  # due again at 0.25
    assert round_.calls(0.249) == []
    event = round_.next_event(0.251)
    assert event is not None
    assert event < 1.0


def test_unknown_tickets_are_offered_at_once() -> None:
    network = Network(make_ticket(3)).until("start")
    round_ = round_of(network, 0)
    call = round_.calls(0.0)[0]
    round_.failed(call, 0.0, Reason.UNKNOWN_TICKET)
    (offer,) = round_.calls(0.0)
    assert (offer.to, offer.message) == (call.to, network.signed)
    round_.failed(offer, 0.0, Reason.UNKNOWN_TICKET)
    assert round_.calls(0.0) == []


def test_a_higher_id_offers_the_ticket_to_a_lower_one_that_does_not_call() -> None:
    network = Network(make_ticket(3)).until("start")
    round_ = round_of(network, 2)
    assert round_.calls(2.99) == []
    assert [c.message for c in round_.calls(3.0)] == [network.signed] * 2


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
def test_who_has_the_ticket_from_the_aggregator_offers_it_before_anything_else(mode: str) -> None:
    network = Network(make_ticket(3, mode=mode)).until("start")
    peer, sign = PEERS[1], network.signer_of(PEERS[1])
    round_: Round = (
        AdditivePeerRound(network.signed, peer, sign, entropy_from(0), spread=0.0)
        if mode == ADDITIVE
        else PeerRound(
            network.signed,
            peer,
            network.policy,
            sign,
            network.keyring,
            entropy_from(0),
            spread=0.0,
        )
    )
    offers = round_.calls(0.0)
    assert [(c.to, c.message) for c in offers] == [
        (p, network.signed) for p in network.ticket.cohort if p != peer
    ]
    assert round_.calls(0.0) == []
    round_.answered(offers[1], None, 0.1)
    (call,) = round_.calls(0.1)
    assert call.to == PEERS[2]
    assert isinstance(call.message, Exchange | AdditiveShare)
    round_.failed(offers[0], 0.1)
    assert round_.calls(0.34) == []
    (again,) = round_.calls(0.35)
    assert again == offers[0]


def test_ready_messages_stop_once_the_survivors_are_known() -> None:
    network = Network(make_ticket(8)).until("exchange")
    network.uploads = Network(make_ticket(8)).until("upload").uploads
    round_ = round_of(network, 0)
    round_._frozen = b"upload"  # as if; only what is sent next matters here
    round_.survivors(survivors(network, range(8)), network.now)
    kinds = {type(c.message) for c in round_.calls(network.now + 9)}
    assert kinds == {Agreement}
    assert Ready not in kinds


def test_who_is_offered_the_ticket_offers_it_no_more() -> None:
    network = Network(make_ticket(3)).until("start")
    peer = PEERS[1]
    round_ = PeerRound(
        network.signed,
        peer,
        network.policy,
        network.signer_of(peer),
        network.keyring,
        entropy_from(0),
        spread=0.5,
    )
    assert round_.calls(0.49) == []
    round_.offered()
    (call,) = round_.calls(0.49)
    assert isinstance(call.message, Exchange)
