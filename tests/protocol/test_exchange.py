"""Exchange and the one upload, from one peer's side: what it takes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from smpcfl.protocol.announcement import Dealt
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.masks import AdditiveMasks, SeededMasks
from smpcfl.protocol.messages import Exchange, Header, ReadyReply
from smpcfl.protocol.phases import Phase
from smpcfl.protocol.ticket import ADDITIVE
from support.forge import round_of, sent, twin
from support.network import Network, Round, make_ticket, peer_ids
from support.weakened import ZeroKey, one_is

PEERS = peer_ids(8)
MODEL = CONFIG = bytes(32)


@pytest.fixture
def network() -> Network:
    return Network(make_ticket(8)).until("start")


def masks_of(round_: Round, now: float) -> tuple[SeededMasks | AdditiveMasks, Header]:
    """As the ClientApp gets them that was given what the ticket says."""
    round_.begin(MODEL, CONFIG)
    return round_.masks(now)


def refused(error: pytest.ExceptionInfo[RemoteError], reason: Reason, peer: str = "") -> bool:
    return error.value.reason is reason and (not peer or error.value.peer == peer)


# -- exchange ---------------------------------------------------------------------------------------


def test_a_repeated_exchange_gives_the_same_answer(network: Network) -> None:
    message = sent(round_of(network, 0), Exchange, 5, 0.0)
    receiver = round_of(network, 5)
    first = receiver.exchange(PEERS[0], message, 0.0)
    assert receiver.exchange(PEERS[0], message, 7.0) == first


def test_exchange_goes_upwards_alone(network: Network) -> None:
    own = round_of(network, 0).exchange
    message = round_of(network, 5).exchange(
        PEERS[0], sent(round_of(network, 0), Exchange, 5, 0.0), 0.0
    )
    with pytest.raises(RemoteError) as error:
        own(PEERS[5], message, 0.0)
    assert refused(error, Reason.MALFORMED, PEERS[5])


def test_a_stranger_is_not_in_the_cohort(network: Network) -> None:
    message = sent(round_of(network, 0), Exchange, 5, 0.0)
    with pytest.raises(RemoteError) as error:
        round_of(network, 5).exchange("stranger", message, 0.0)
    assert refused(error, Reason.NOT_IN_COHORT)


def test_a_peer_is_no_neighbour_of_its_own(network: Network) -> None:
    message = sent(round_of(network, 0), Exchange, 5, 0.0)
    with pytest.raises(RemoteError) as error:
        round_of(network, 5).exchange(PEERS[5], message, 0.0)
    assert refused(error, Reason.NOT_A_NEIGHBOUR)


def test_two_announcements_are_equivocation(network: Network) -> None:
    receiver = round_of(network, 5)
    receiver.exchange(PEERS[0], sent(round_of(network, 0), Exchange, 5, 0.0), 0.0)
    with pytest.raises(RemoteError) as error:
        receiver.exchange(PEERS[0], sent(twin(network, PEERS[0]), Exchange, 5, 0.0), 0.0)
    assert refused(error, Reason.EQUIVOCATION, PEERS[0])


def test_anothers_announcement_is_malformed(network: Network) -> None:
    message = sent(round_of(network, 1), Exchange, 5, 0.0)
    with pytest.raises(RemoteError) as error:
        round_of(network, 5).exchange(PEERS[0], message, 0.0)
    assert refused(error, Reason.MALFORMED, PEERS[0])


def test_an_announcement_of_another_ticket_is_refused(network: Network) -> None:
    other = Network(make_ticket(8, serial=2)).until("start")
    with pytest.raises(RemoteError) as error:
        round_of(network, 5).exchange(PEERS[0], sent(round_of(other, 0), Exchange, 5, 0.0), 0.0)
    assert refused(error, Reason.UNKNOWN_TICKET)


def test_a_forged_announcement_is_refused(network: Network) -> None:
    message = sent(round_of(network, 0), Exchange, 5, 0.0)
    forged = replace(message.announcement, signature=bytes(64))
    with pytest.raises(RemoteError) as error:
        round_of(network, 5).exchange(PEERS[0], replace(message, announcement=forged), 0.0)
    assert refused(error, Reason.BAD_SIGNATURE, PEERS[0])


FORGED = Secret(bytes(33))
WRONG_SHARES: dict[str, Callable[[Dealt, Dealt], Dealt]] = {
    "self share": lambda mine, other: replace(mine, self_share=FORGED),
    "pair share": lambda mine, other: replace(mine, pair_share=FORGED),
    "swapped": lambda mine, other: replace(
        mine, self_share=mine.pair_share, pair_share=mine.self_share
    ),
    "path": lambda mine, other: replace(mine, path=(bytes(16), *mine.path[1:])),
    "short path": lambda mine, other: replace(mine, path=mine.path[:-1]),
    "long path": lambda mine, other: replace(mine, path=(*mine.path, bytes(16))),
    "no path": lambda mine, other: replace(mine, path=()),
    "another holder's": lambda mine, other: other,
}


@pytest.mark.parametrize("wrong", WRONG_SHARES.values(), ids=WRONG_SHARES.keys())
def test_a_share_that_was_not_announced_names_the_dealer(
    network: Network, wrong: Callable[[Dealt, Dealt], Dealt]
) -> None:
    calls = {call.to: call.message for call in round_of(network, 0).calls(0.0)}
    good, other = calls[PEERS[5]], calls[PEERS[6]]
    assert isinstance(good, Exchange)
    assert isinstance(other, Exchange)
    receiver = round_of(network, 5)
    with pytest.raises(RemoteError) as error:
        receiver.exchange(PEERS[0], replace(good, dealt=wrong(good.dealt, other.dealt)), 5.0)
    assert refused(error, Reason.BAD_SHARE, PEERS[0])
    assert not receiver._of[0].dealt
    receiver.exchange(PEERS[0], good, 5.0)
    assert receiver._of[0].dealt == good.dealt  # the right ones are still taken


def test_a_bad_share_in_a_reply_is_refused_and_asked_for_again(network: Network) -> None:
    caller, other = round_of(network, 0), round_of(network, 5)
    call = next(call for call in caller.calls(0.0) if call.to == PEERS[5])
    assert isinstance(call.message, Exchange)
    reply = other.exchange(PEERS[0], call.message, 0.0)
    with pytest.raises(RemoteError) as error:
        caller.answered(call, replace(reply, dealt=call.message.dealt), 0.0)
    assert refused(error, Reason.BAD_SHARE, PEERS[5])
    assert not caller._of[5].dealt
    assert sent(caller, Exchange, 5, 5.0) == call.message


def test_a_reply_of_another_kind_is_a_failed_call(network: Network) -> None:
    caller = round_of(network, 0)
    call = next(call for call in caller.calls(0.0) if call.to == PEERS[5])
    for reply in (None, ReadyReply()):
        with pytest.raises(RemoteError) as error:
            caller.answered(call, reply, 0.0)
        assert refused(error, Reason.MALFORMED, PEERS[5])
    assert isinstance(sent(caller, Exchange, 5, 9.0), Exchange)


def test_exchange_is_taken_until_the_upload_deadline(network: Network) -> None:
    message = sent(round_of(network, 0), Exchange, 5, 0.0)
    round_of(network, 5).exchange(PEERS[0], message, 119.999)
    with pytest.raises(RemoteError) as error:
        round_of(network, 5).exchange(PEERS[0], message, 120.0)
    assert refused(error, Reason.DEADLINE)


def test_one_public_key_of_small_order_does_not_stop_an_honest_peer() -> None:
    kind = one_is(PEERS[7], ZeroKey)
    network = Network(make_ticket(8), round_class=kind).until("exchange")
    network.ready()
    network.now = network.ticket.deadlines.exchange / 1000
    network.pump()
    network.now = network.ticket.deadlines.ready / 1000
    network.pump()
    honest = round_of(network, 0)
    assert honest.masks_available(network.now)
    masks_of(honest, network.now)


def test_an_additive_share_of_another_round_is_refused() -> None:
    old = Network(make_ticket(3, mode=ADDITIVE)).until("start")
    new = Network(make_ticket(3, mode=ADDITIVE, serial=2)).until("start")
    late = next(c for c in old.rounds[PEERS[0]].calls(0.0) if c.to == PEERS[1])
    with pytest.raises(RemoteError) as error:
        new.handle(PEERS[1], PEERS[0], late.message)
    assert refused(error, Reason.UNKNOWN_TICKET)


@pytest.mark.parametrize("how", ["closed", "abstained"])
def test_an_additive_share_that_comes_too_late_is_refused(how: str) -> None:
    network = Network(make_ticket(3, mode=ADDITIVE)).until("start")
    call = next(c for c in network.rounds[PEERS[0]].calls(0.0) if c.to == PEERS[1])
    if how == "closed":
        network.rounds[PEERS[1]].close()
    else:
        network.now = 120.0
    with pytest.raises(RemoteError) as error:
        network.handle(PEERS[1], PEERS[0], call.message)
    assert refused(error, Reason.ROUND_CLOSED)


def test_an_additive_share_of_ones_own_is_refused() -> None:
    network = Network(make_ticket(3, mode=ADDITIVE)).until("start")
    call = network.rounds[PEERS[0]].calls(0.0)[0]
    with pytest.raises(RemoteError) as error:
        network.handle(PEERS[0], PEERS[0], call.message)
    assert refused(error, Reason.NOT_A_NEIGHBOUR)


def test_a_repeated_additive_share_counts_once() -> None:
    network = Network(make_ticket(3, mode=ADDITIVE)).until("start")
    for call in network.rounds[PEERS[0]].calls(0.0):
        network.handle(call.to, PEERS[0], call.message)
        network.handle(call.to, PEERS[0], call.message)
        network.rounds[PEERS[0]].failed(call, 0.0)  # so that it comes a third time
    for step in (network.exchange, network.ready, network.upload):
        step()
    assert network.unmask() == network.expected()


# -- masks and the one upload -----------------------------------------------------------------------


@pytest.fixture
def ready() -> Network:
    return Network(make_ticket(8)).until("ready")


def test_masks_need_every_neighbour_or_the_ready_deadline() -> None:
    network = Network(make_ticket(8), lost={PEERS[7]: "ready"}).until("exchange")
    network._lose("ready")
    network.pump()
    peer = round_of(network, 0)
    assert not peer.masks_available(39.999)
    with pytest.raises(RemoteError) as error:
        masks_of(peer, 39.999)
    assert refused(error, Reason.WRONG_PHASE)
    assert peer.masks_available(40.0)


@pytest.mark.parametrize("mode", ["seeded", ADDITIVE])
def test_masks_are_given_out_once(mode: str) -> None:
    ready = Network(make_ticket(8, mode=mode)).until("ready")
    peer = ready.rounds[PEERS[0]]
    masks_of(peer, ready.now)
    for _ in range(2):
        with pytest.raises(RemoteError) as error:
            peer.masks(ready.now)
        assert refused(error, Reason.MASKS_SPENT)
    peer.freeze(bytes(ready.ticket.layout.nbytes), ready.now)
    with pytest.raises(RemoteError) as error:
        masks_of(peer, ready.now)
    assert refused(error, Reason.MASKS_SPENT)


def test_masks_are_not_given_out_after_an_abstention_either(ready: Network) -> None:
    peer = round_of(ready, 0)
    masks_of(peer, ready.now)
    peer.calls(120.0)
    assert peer.phase is Phase.ABSTAINED
    with pytest.raises(RemoteError):
        masks_of(peer, 120.0)


@pytest.mark.parametrize(
    ("model", "config", "reason"),
    [
        (b"\x01" * 32, CONFIG, Reason.MODEL_MISMATCH),
        (b"", CONFIG, Reason.MODEL_MISMATCH),
        (MODEL, b"\x01" * 32, Reason.CONFIG_MISMATCH),
    ],
)
@pytest.mark.parametrize("mode", ["seeded", ADDITIVE])
def test_another_model_or_configuration_is_not_trained_on_gets_no_masks_and_spends_none(
    model: bytes, config: bytes, reason: Reason, mode: str
) -> None:
    network = Network(make_ticket(8, mode=mode)).until("ready")
    peer = network.rounds[PEERS[0]]
    with pytest.raises(RemoteError) as error:
        peer.begin(model, config)
    assert refused(error, reason)
    with pytest.raises(RemoteError) as error:
        peer.masks(network.now)
    assert refused(error, Reason.WRONG_PHASE)
    peer.begin(MODEL, CONFIG)
    with pytest.raises(RemoteError) as error:
        peer.begin(MODEL, CONFIG)
    assert error.value.reason is Reason.SECOND_TRAINING
    peer.masks(network.now)


def test_the_header_names_who_counts(ready: Network) -> None:
    peer = round_of(ready, 3)
    _, header = masks_of(peer, ready.now)
    header.check(ready.ticket, ready.keyring)
    assert header.announcement_hash == peer.announcement.hash
    assert header.counts == {j: round_of(ready, j).announcement.hash for j in range(8) if j != 3}


@pytest.mark.parametrize("mode", ["seeded", ADDITIVE])
def test_the_frozen_upload_is_kept_and_no_other_taken(mode: str) -> None:
    network = Network(make_ticket(8, mode=mode)).until("upload")
    peer = network.rounds[PEERS[0]]
    vector = network.uploads[PEERS[0]].vector
    assert peer.frozen == vector
    peer.freeze(vector, network.now)
    with pytest.raises(RemoteError) as error:
        peer.freeze(bytes(len(vector)), network.now)
    assert refused(error, Reason.MASKS_SPENT)
    assert peer.frozen == vector


@pytest.mark.parametrize("mode", ["seeded", ADDITIVE])
def test_nothing_is_frozen_before_it_is_masked(mode: str) -> None:
    network = Network(make_ticket(8, mode=mode)).until("ready")
    with pytest.raises(RemoteError) as error:
        network.rounds[PEERS[0]].freeze(bytes(network.ticket.layout.nbytes), network.now)
    assert refused(error, Reason.WRONG_PHASE)


@pytest.mark.parametrize("mode", ["seeded", ADDITIVE])
def test_nothing_is_frozen_after_the_upload_deadline(mode: str) -> None:
    network = Network(make_ticket(8, mode=mode)).until("ready")
    peer = network.rounds[PEERS[0]]
    masks_of(peer, network.now)
    with pytest.raises(RemoteError):
        peer.freeze(bytes(network.ticket.layout.nbytes), 120.0)
    assert peer.phase is Phase.ABSTAINED
    assert peer.frozen is None


@pytest.mark.parametrize("mode", ["seeded", ADDITIVE])
@pytest.mark.parametrize("off", [-1, 2])
def test_a_vector_of_another_length_than_the_tickets_is_not_frozen(mode: str, off: int) -> None:
    network = Network(make_ticket(8, mode=mode)).until("ready")
    peer = network.rounds[PEERS[0]]
    masks_of(peer, network.now)
    with pytest.raises(RemoteError) as error:
        peer.freeze(bytes(network.ticket.layout.nbytes + off), network.now)
    assert refused(error, Reason.WRONG_LENGTH, PEERS[0])
    peer.freeze(bytes(network.ticket.layout.nbytes), network.now)


def test_a_peer_with_too_few_that_count_abstains() -> None:
    lost = dict.fromkeys(PEERS[5:], "exchange")
    network = Network(make_ticket(8), lost=lost).until("ready")
    peer = round_of(network, 0)
    assert not peer.masks_available(119.9)
    with pytest.raises(RemoteError) as error:
        peer.masks_available(120.0)
    assert refused(error, Reason.TOO_FEW_COUNTING)
    assert peer.phase is Phase.ABSTAINED


def test_training_begins_before_the_ready_deadline_or_not_at_all(network: Network) -> None:
    """Whose message comes later would have less time to train than the others."""
    peer = round_of(network, 0)
    with pytest.raises(RemoteError) as error:
        peer.begin(MODEL, CONFIG, network.ticket.deadlines.ready / 1000)
    assert error.value.reason is Reason.DEADLINE
    peer.begin(MODEL, CONFIG, network.ticket.deadlines.ready / 1000 - 0.001)
    peer._frozen = b"its upload"
    peer.begin(MODEL, CONFIG, network.ticket.deadlines.train / 1000)  # to send that once more
