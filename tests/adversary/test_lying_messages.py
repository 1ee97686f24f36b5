"""A lying peer's messages: garbage, replayed, in somebody else's name, withheld, of the wrong length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from smpcfl.protocol import peer_round as peer_module
from smpcfl.protocol import survivors as survivors_module
from smpcfl.protocol import trailer
from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.announcement import Announcement
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import (
    Agreement,
    Exchange,
    Header,
    Survivors,
    Upload,
    header_bytes,
)
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.ring import Layout, RingVector
from support.forge import agreement, round_of, sent, survivors
from support.liars import LIAR, NAME, PEERS, Patient, outcome, refused, with_liar
from support.network import Network, make_ticket
from support.unchecked import check, removed
from support.weakened import Unmasked

# -- masks that do not match ----------------------------------------------------------------------------


class OtherMasks(PeerRound):
    """Masks with another self seed than the one that it dealt and committed to."""

    def masks(self, *arguments: Any, **options: Any) -> Any:
        masks, header = super().masks(*arguments, **options)
        return replace(masks, self_key=type(masks.self_key)(bytes(32))), header


@pytest.mark.parametrize("kind", [OtherMasks, Unmasked])
def test_masks_that_do_not_match_void_the_round(kind: type[PeerRound]) -> None:
    # Whose they are cannot be told: nobody sees a single update. The counters come out wrong.
    assert outcome(with_liar(kind)) == (Reason.BAD_TRAILER, "")
    with removed(check(trailer, "decode", Reason.BAD_TRAILER)):
        assert outcome(with_liar(kind)) == "wrong"


class PoisonedBody(PeerRound):
    """Adds to its update what it likes, and leaves the counters as they are."""

    def masks(self, *arguments: Any, **options: Any) -> Any:
        masks, header = super().masks(*arguments, **options)
        return Poison(masks), header


class Poison:
    def __init__(self, masks: Any) -> None:
        self.masks = masks

    def apply(self, addend: RingVector) -> RingVector:
        return self.masks.apply(RingVector.of(addend.body + addend.body.dtype.type(1), addend.wide))


def test_a_poisoned_update_is_a_sum_like_any_other() -> None:
    """What the protocol cannot tell, and the threat model says so."""
    assert outcome(with_liar(PoisonedBody)) == "wrong"


# -- a partial sum of the wrong length, and two of them -------------------------------------------------


def uploading(change: Callable[[Upload], Upload]) -> tuple[Network, list[tuple[Reason, str]]]:
    """One peer's upload is changed on its way; the round goes on with what the aggregator takes."""
    network = Network(make_ticket(8)).until("upload")
    network.aggregator = AggregatorRound(
        network.signed, network.signer_of("aggregator"), network.keyring
    )
    refusals = []
    for peer, upload in network.uploads.items():
        try:
            network.aggregator.upload(peer, change(upload) if peer == NAME else upload)
        except RemoteError as error:
            refusals.append((error.reason, error.peer))
    return network, refusals


def cut_to_length(self: Layout, raw: bytes, sender: str = "") -> RingVector:
    raw = raw[: self.nbytes].ljust(self.nbytes, b"\x00")
    split = self.body * self.width // 8
    return RingVector.of(np.frombuffer(raw[:split], self.dtype), np.frombuffer(raw[split:], "<u8"))


@pytest.mark.parametrize("change", [lambda v: v[:-1], lambda v: v + b"\x00", lambda v: b""])
def test_a_partial_sum_of_the_wrong_length(change: Callable[[bytes], bytes]) -> None:
    def wrong(upload: Upload) -> Upload:
        return replace(upload, vector=change(upload.vector))

    network, refusals = uploading(wrong)
    assert refusals == [(Reason.WRONG_LENGTH, NAME)]
    assert network.unmask() == network.expected()
    assert NAME not in network.survivors


def test_a_partial_sum_cut_to_length_gives_a_wrong_sum() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Layout, "parse", cut_to_length)
        network, refusals = uploading(lambda upload: replace(upload, vector=upload.vector[:-40]))
        assert not refusals
        assert network.unmask() != network.expected()


# -- a header that leaves out one who counted on it ----------------------------------------------------


class HidesOne(PeerRound):
    """Strips the lowest neighbour from its header and the mask with it from its partial sum."""

    def masks(self, *arguments: Any, **options: Any) -> Any:
        masks, true = super().masks(*arguments, **options)
        fewer = true.counting[1:]
        hidden = true.masked_failure
        signed = header_bytes(true.ticket_digest, self.me, true.announcement_hash, fewer, hidden)
        return replace(masks, minus=masks.minus[1:]), replace(
            true, counting=fewer, signature=self._signer(signed)
        )


def test_of_a_pair_that_does_not_list_each_other_one_is_left_out() -> None:
    assert outcome(with_liar(HidesOne)) == "right"


def test_a_one_sided_pair_spoils_the_sum_where_neither_end_looks_for_it() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(survivors_module, "_conflicts", lambda headers: [])
        network = with_liar(HidesOne)
        with pytest.raises(RemoteError) as error:
            network.run()  # the peers look for it as well, so that it is not the aggregator's choice
        assert error.value.reason is Reason.TOO_FEW_ANSWERS
        assert (Reason.ONE_SIDED_PAIR, "") in refused(network)
        with removed(check(peer_module, "check_survivors", Reason.ONE_SIDED_PAIR)):
            network = with_liar(HidesOne)
            assert network.run() != network.expected()


# -- in somebody else's name ----------------------------------------------------------------------------


def anothers_upload() -> tuple[Network, list[tuple[Reason, str]]]:
    """What the liar uploads is its neighbour's upload, header and all."""
    network = Network(make_ticket(8)).until("upload")
    return uploading(lambda upload: network.uploads[PEERS[5]])


def test_anothers_upload_is_refused_and_not_needed() -> None:
    network, refusals = anothers_upload()
    assert refusals == [(Reason.BAD_HEADER, NAME)]
    assert network.unmask() == network.expected()


def forged_upload(upload: Upload) -> Upload:
    """Its own header, with another signature: what whoever is not that peer can make."""
    return replace(upload, header=replace(upload.header, signature=bytes(64)))


def test_an_upload_that_its_peer_did_not_sign() -> None:
    network, refusals = uploading(forged_upload)
    assert refusals == [(Reason.BAD_SIGNATURE, NAME)]
    with removed(check(Header, "check", "check_signature")):
        network, refusals = uploading(forged_upload)
    assert not refusals
    assert NAME in network.aggregator.uploaded


def anothers_announcement() -> tuple[PeerRound, RemoteError | None]:
    """Peer 1 calls peer 5 with the announcement and the shares of peer 0."""
    network = Network(make_ticket(8)).until("start")
    message, receiver = sent(round_of(network, 0), Exchange, 5, 0.0), round_of(network, 5)
    try:
        receiver.exchange(PEERS[1], message, 0.0)
    except RemoteError as error:
        return receiver, error
    return receiver, None


def test_anothers_announcement_is_not_taken_for_ones_own() -> None:
    receiver, error = anothers_announcement()
    assert error is not None
    assert (error.reason, error.peer) == (Reason.MALFORMED, PEERS[1])
    assert not receiver._of.held
    with removed(check(PeerRound, "_know", Reason.MALFORMED)):
        receiver, error = anothers_announcement()
    assert error is None
    assert receiver._of[1].dealt is not None, "as if 1 had dealt what 0 did"


# -- a replayed exchange --------------------------------------------------------------------------------


def replayed() -> Network:
    """One peer's exchange of the round before comes again before its new one."""
    old = Network(make_ticket(8)).until("start")
    network = Patient(make_ticket(8, serial=2))
    network.start()
    for call in round_of(old, LIAR).calls(0.0):
        try:
            network.handle(call.to, NAME, call.message)
        except RemoteError as error:
            network.errors.append((call.to, error))
    for step in (network.exchange, network.ready, network.upload):
        step()
    return network


def test_a_replayed_exchange_is_refused_and_costs_nothing() -> None:
    network = replayed()
    assert refused(network) == {(Reason.UNKNOWN_TICKET, "")}
    assert network.unmask() == network.expected()
    assert len(network.survivors) == 8


def test_a_replay_makes_an_honest_peer_a_liar_where_announcements_name_no_round() -> None:
    with removed(check(Announcement, "check", Reason.UNKNOWN_TICKET)):
        network = replayed()
    assert (Reason.EQUIVOCATION, NAME) in refused(network)


# -- agreements, withheld and false ---------------------------------------------------------------------


class Withholding(PeerRound):
    """Agrees with nobody."""

    def calls(self, now: float) -> list[Any]:
        return [call for call in super().calls(now) if not isinstance(call.message, Agreement)]


def test_one_withheld_agreement_costs_nothing() -> None:
    assert outcome(with_liar(Withholding)) == "right"


def test_too_many_withheld_agreements_void_the_round_and_show_no_share() -> None:
    def withhold(signed: Any, me: str, *rest: Any) -> PeerRound:
        return (Withholding if me in PEERS[:3] else PeerRound)(signed, me, *rest)

    network = Patient(make_ticket(8), round_class=withhold)  # type: ignore[arg-type]
    assert outcome(network) == (Reason.TOO_FEW_ANSWERS, "")
    answered = [peer for peer in PEERS if round_of(network, PEERS.index(peer))._answer is not None]
    assert answered == list(
        PEERS[:3]
    )  # who has the five agreements of the others, and they are too few


def false_agreement() -> list[RemoteError]:
    """The liar agrees with one neighbour to one set, and then to another."""
    network = Network(make_ticket(8)).until("upload")
    receiver, errors = round_of(network, 0), []
    for members in (range(8), range(7)):
        try:
            receiver.agreement(agreement(network, LIAR, survivors(network, members)))
        except RemoteError as error:
            errors.append(error)
    return errors


def test_a_peer_that_agrees_to_two_sets_is_named() -> None:
    errors = false_agreement()
    assert [(error.reason, error.peer) for error in errors] == [(Reason.EQUIVOCATION, NAME)]
    with removed(check(PeerRound, "agreement", Reason.EQUIVOCATION)):
        errors = false_agreement()
    assert not errors


class AnotherSet(PeerRound):
    """Agrees to a set of its own making, which the aggregator did not sign."""

    def survivors(self, message: Survivors, now: float) -> None:
        super().survivors(message, now)
        assert self._agreement is not None
        self._agreement = replace(self._agreement, survivors_digest=bytes(32))


def test_a_false_agreement_is_none() -> None:
    assert outcome(with_liar(AnotherSet)) == "right"
