"""The aggregator's round: what it takes, whom it names, and when it gives up."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.messages import Agreement, Answer, ShownShare, Upload
from smpcfl.protocol.signing import AGGREGATOR
from smpcfl.protocol.ticket import ADDITIVE
from support.forge import header, round_of, second_announcement, seeded
from support.network import Network, make_ticket, peer_ids
from support.weakened import BadDealer, BadPairDealer, one_is

PEERS = peer_ids(8)


@pytest.fixture
def network() -> Network:
    return Network(make_ticket(8)).until("upload")


def fresh(network: Network) -> AggregatorRound:
    return AggregatorRound(network.signed, network.signer_of(AGGREGATOR), network.keyring)


# -- uploads ----------------------------------------------------------------------------------------


def others(index: int, *, but: tuple[int, ...] = ()) -> list[int]:
    return [j for j in range(8) if j != index and j not in but]


Change = Callable[[Network, Upload], Upload]
BAD_UPLOADS: list[tuple[str, Change, Reason]] = [
    ("short", lambda n, u: replace(u, vector=u.vector[:-1]), Reason.WRONG_LENGTH),
    ("long", lambda n, u: replace(u, vector=u.vector + b"\x00"), Reason.WRONG_LENGTH),
    ("empty", lambda n, u: replace(u, vector=b""), Reason.WRONG_LENGTH),
    ("another's upload", lambda n, u: n.uploads[PEERS[1]], Reason.BAD_HEADER),
    ("no announcement", lambda n, u: replace(u, announcement=None), Reason.BAD_HEADER),
    (
        "second announcement",
        lambda n, u: replace(u, announcement=second_announcement(n, 0)),
        Reason.BAD_HEADER,
    ),
    (
        "forged announcement",
        lambda n, u: replace(
            u, announcement=replace(round_of(n, 0).announcement, signature=bytes(64))
        ),
        Reason.BAD_SIGNATURE,
    ),
    (
        "forged header",
        lambda n, u: replace(u, header=header(n, 0, others(0), signer=PEERS[1])),
        Reason.BAD_SIGNATURE,
    ),
    (
        "another round's header",
        lambda n, u: replace(u, header=header(n, 0, others(0), ticket_digest=bytes(31) + b"1")),
        Reason.UNKNOWN_TICKET,
    ),
    (
        "too few count",
        lambda n, u: replace(u, header=header(n, 0, [1, 2, 3, 4])),
        Reason.TOO_FEW_COUNTING,
    ),
]


@pytest.mark.parametrize(
    ("change", "reason"), [b[1:] for b in BAD_UPLOADS], ids=[b[0] for b in BAD_UPLOADS]
)
def test_a_bad_upload_is_refused_and_its_sender_named(
    network: Network, change: Change, reason: Reason
) -> None:
    aggregator, good = fresh(network), network.uploads[PEERS[0]]
    with pytest.raises(RemoteError) as error:
        aggregator.upload(PEERS[0], change(network, good))
    assert error.value.reason is reason
    assert error.value.peer in (PEERS[0], "")
    aggregator.upload(PEERS[0], good)  # the right one still counts
    assert aggregator.uploaded == [PEERS[0]]


def test_an_upload_under_anothers_announcement_is_refused(network: Network) -> None:
    other = round_of(network, 1).announcement
    stolen = header(network, 0, others(0), own=other.hash)
    with pytest.raises(RemoteError):
        fresh(network).upload(
            PEERS[0], replace(network.uploads[PEERS[0]], header=stolen, announcement=other)
        )


def test_a_strangers_upload_is_refused(network: Network) -> None:
    with pytest.raises(RemoteError) as error:
        fresh(network).upload("stranger", network.uploads[PEERS[0]])
    assert error.value.reason is Reason.NOT_IN_COHORT


def test_a_header_that_counts_somebody_outside_the_cohort_is_refused(network: Network) -> None:
    lists = header(network, 0, (*others(0), 8), others={8: bytes(32)})
    with pytest.raises(RemoteError) as error:
        fresh(network).upload(PEERS[0], replace(network.uploads[PEERS[0]], header=lists))
    assert error.value.reason is Reason.NOT_A_NEIGHBOUR


@pytest.mark.parametrize("mode", ["seeded", ADDITIVE])
def test_the_same_upload_may_come_again_but_no_other(mode: str) -> None:
    network = Network(make_ticket(8, mode=mode)).until("upload")
    upload = network.uploads[PEERS[0]]
    network.aggregator.upload(PEERS[0], upload)
    with pytest.raises(RemoteError) as error:
        network.aggregator.upload(PEERS[0], replace(upload, vector=bytes(len(upload.vector))))
    assert error.value.reason is Reason.EQUIVOCATION
    assert error.value.peer == PEERS[0]


@pytest.mark.parametrize("mode", ["seeded", ADDITIVE])
def test_no_upload_is_taken_once_the_survivors_are_fixed(mode: str) -> None:
    network = Network(make_ticket(8, mode=mode)).until("upload")
    network.aggregator.fix_survivors()
    with pytest.raises(RemoteError) as error:
        network.aggregator.upload(PEERS[0], network.uploads[PEERS[0]])
    assert error.value.reason is Reason.DEADLINE


def test_survivors_are_not_told_before_they_are_fixed(network: Network) -> None:
    with pytest.raises(RemoteError) as error:
        network.aggregator.survivors()
    assert error.value.reason is Reason.WRONG_PHASE


@pytest.mark.parametrize("direction", [(0, 1), (1, 0), (3, 6)])
def test_of_a_one_sided_pair_exactly_one_is_left_out(direction: tuple[int, int]) -> None:
    lists, not_back = (PEERS[i] for i in direction)
    network = Network(make_ticket(8)).until("ready")
    # As where one heard that the pair counts for the other, and its reply to that was lost.
    round_of(network, direction[1])._of[direction[0]].says = False
    network.now = network.ticket.deadlines.ready / 1000
    network.upload()
    counts = {p: network.uploads[p].header.counts for p in (lists, not_back)}
    assert direction[1] in counts[lists]
    assert direction[0] not in counts[not_back]
    total = network.unmask()
    assert len({lists, not_back} - set(network.survivors)) == 1
    assert set(PEERS) - set(network.survivors) <= {lists, not_back}
    assert total == network.expected()


def test_too_few_uploads_void_the_round(network: Network) -> None:
    aggregator = fresh(network)
    for peer in PEERS[:5]:
        aggregator.upload(peer, network.uploads[peer])
    with pytest.raises(RemoteError) as error:
        aggregator.fix_survivors()
    assert error.value.reason is Reason.TOO_FEW_SURVIVORS


class Dropped:
    """In place of a file: nothing is kept, and nothing may be wanted."""

    def __setitem__(self, index: int, vector: Any) -> None:
        pass

    def __getitem__(self, index: int) -> bytes:
        raise AssertionError("an upload is wanted again")


def test_no_upload_is_kept_once_it_is_summed(network: Network) -> None:
    signer = network.signer_of(AGGREGATOR)
    aggregator = AggregatorRound(network.signed, signer, network.keyring, Dropped())
    for peer in PEERS:
        vector = memoryview(bytes(network.uploads[peer].vector))
        held = weakref.ref(vector)
        aggregator.upload(peer, replace(network.uploads[peer], vector=vector))
        del vector
        assert held() is None
    assert aggregator.fix_survivors() == list(PEERS)


def test_an_upload_of_no_survivor_is_taken_off_once(network: Network) -> None:
    aggregator = fresh(network)
    for peer in PEERS:
        aggregator.upload(peer, network.uploads[peer])
    assert aggregator.fix_survivors(PEERS[1:]) == list(PEERS[1:])
    with pytest.raises(RemoteError) as error:
        aggregator.fix_survivors(PEERS[1:])
    assert error.value.reason is Reason.WRONG_PHASE
    masked = network.ticket.layout.zeros()
    for peer in PEERS[1:]:
        masked += network.ticket.layout.parse(network.uploads[peer].vector)
    assert aggregator._sum == masked


# -- answers ----------------------------------------------------------------------------------------


def answers_of(network: Network) -> dict[str, Answer]:
    """Survivors fixed, agreed to, and what every peer answers."""
    network.aggregator.fix_survivors()
    for round_ in network.rounds.values():
        seeded(round_).survivors(network.aggregator.survivors(), network.now)
    network.pump((Agreement,))
    answers = {p: seeded(r).answer(network.now) for p, r in network.rounds.items()}
    return {peer: answer for peer, answer in answers.items() if answer is not None}


@pytest.fixture
def dropped() -> Network:
    """Peer 7 is gone after ready, so both kinds of share are asked for."""
    return Network(make_ticket(8), lost={PEERS[7]: "train"}).until("upload")


def first_share(answer: Answer, kind: str, **change: Any) -> Answer:
    shares: tuple[ShownShare, ...] = getattr(answer, f"{kind}_shares")
    return replace(answer, **{f"{kind}_shares": (replace(shares[0], **change), *shares[1:])})


BAD_ANSWERS: list[tuple[str, Callable[[Answer], Answer], Reason]] = [
    ("self share", lambda a: first_share(a, "self", share=Secret(bytes(33))), Reason.BAD_SHARE),
    ("pair share", lambda a: first_share(a, "pair", share=Secret(bytes(33))), Reason.BAD_SHARE),
    ("sibling", lambda a: first_share(a, "self", sibling=bytes(32)), Reason.BAD_SHARE),
    ("path", lambda a: first_share(a, "self", path=()), Reason.BAD_SHARE),
    ("another dealer", lambda a: first_share(a, "self", dealer=2), Reason.BAD_SHARE),
    ("not asked", lambda a: first_share(a, "self", dealer=7), Reason.BAD_SHARE),
    ("not in the cohort", lambda a: first_share(a, "self", dealer=99), Reason.BAD_SHARE),
    (
        "kinds swapped",
        lambda a: replace(a, self_shares=a.pair_shares, pair_shares=a.self_shares),
        Reason.BAD_SHARE,
    ),
    ("its own", lambda a: first_share(a, "self", dealer=0), Reason.NOT_A_NEIGHBOUR),
    ("another's answer", lambda a: replace(a, holder=1), Reason.MALFORMED),
    ("another round's", lambda a: replace(a, ticket_digest=bytes(32)), Reason.MALFORMED),
]


@pytest.mark.parametrize(
    ("change", "reason"), [b[1:] for b in BAD_ANSWERS], ids=[b[0] for b in BAD_ANSWERS]
)
def test_a_holder_of_a_wrong_share_is_named(
    dropped: Network, change: Callable[[Answer], Answer], reason: Reason
) -> None:
    answers = answers_of(dropped)
    for _ in range(2):  # it stays refused, and nothing of it is kept
        with pytest.raises(RemoteError) as error:
            dropped.aggregator.answer(PEERS[0], change(answers[PEERS[0]]))
        assert error.value.reason is reason
        assert error.value.peer == PEERS[0]
    for peer, answer in answers.items():
        dropped.aggregator.answer(peer, answer)
    assert dropped.aggregator.total() == total_of(dropped)


def total_of(network: Network) -> Any:
    network.survivors = [p for p in network.ticket.cohort if p in network.aggregator.uploaded]
    return network.expected()


@pytest.mark.parametrize("change", ["second", "not dropped"])
def test_an_announcement_that_nobody_listed_is_refused(dropped: Network, change: str) -> None:
    answers = answers_of(dropped)
    wrong = (
        second_announcement(dropped, 7) if change == "second" else round_of(dropped, 1).announcement
    )
    answer = replace(answers[PEERS[0]], announcements=(wrong,), pair_shares=())
    with pytest.raises(RemoteError) as error:
        dropped.aggregator.answer(PEERS[0], answer)
    assert error.value.reason is Reason.BAD_SHARE
    assert error.value.peer == PEERS[0]


def test_a_holder_that_spoils_an_announcement_is_named_itself(dropped: Network) -> None:
    answer = answers_of(dropped)[PEERS[0]]
    spoilt = tuple(replace(item, signature=bytes(64)) for item in answer.announcements)
    with pytest.raises(RemoteError) as error:
        dropped.aggregator.answer(PEERS[0], replace(answer, announcements=spoilt))
    assert error.value.peer == PEERS[0]


def test_exactly_the_threshold_of_answers_is_enough(dropped: Network) -> None:
    # Of a survivor's shares the survivor holds none, so t + 1 survivors have t for each other.
    answers = answers_of(dropped)
    for count, peer in enumerate(sorted(answers)[:6], 1):
        assert not dropped.aggregator.enough()
        with pytest.raises(RemoteError) as error:
            dropped.aggregator.total()
        assert error.value.reason is Reason.TOO_FEW_ANSWERS
        assert error.value.found == max(count - 2, 0)
        dropped.aggregator.answer(peer, answers[peer])
        assert count <= 6
    assert dropped.aggregator.enough()
    assert dropped.aggregator.total() == total_of(dropped)


@pytest.mark.parametrize("chosen", [(1, 2, 3, 4, 5, 6), (0, 2, 3, 4, 5, 6), (0, 1, 2, 3, 5, 6)])
def test_which_peers_answer_does_not_matter(dropped: Network, chosen: tuple[int, ...]) -> None:
    answers = answers_of(dropped)
    for index in reversed(chosen):
        dropped.aggregator.answer(PEERS[index], answers[PEERS[index]])
    assert dropped.aggregator.total() == total_of(dropped)


def test_a_repeated_answer_changes_nothing(dropped: Network) -> None:
    answers = answers_of(dropped)
    for peer, answer in [*answers.items(), *answers.items()]:
        dropped.aggregator.answer(peer, answer)
    assert dropped.aggregator.total() == total_of(dropped)


@pytest.mark.parametrize(
    ("kind", "lost"), [(BadDealer, {}), (BadPairDealer, {PEERS[4]: "train"})], ids=["self", "pair"]
)
def test_a_bad_dealer_is_named_and_no_holder(kind: type[BadDealer], lost: dict[str, str]) -> None:
    network = Network(make_ticket(8), lost=lost, round_class=one_is(PEERS[4], kind))
    with pytest.raises(RemoteError) as error:
        network.run()
    assert error.value.reason is Reason.BAD_COMMITMENT
    assert error.value.peer == PEERS[4]


@pytest.mark.parametrize(
    ("kind", "lost"), [(BadDealer, {PEERS[4]: "train"}), (BadPairDealer, {})], ids=["self", "pair"]
)
def test_a_bad_secret_that_is_not_needed_does_no_harm(
    kind: type[BadDealer], lost: dict[str, str]
) -> None:
    network = Network(make_ticket(8), lost=lost, round_class=one_is(PEERS[4], kind))
    assert network.run() == network.expected()
