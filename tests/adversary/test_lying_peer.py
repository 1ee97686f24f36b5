"""A lying peer: the round completes without it, or is void with its name, and no wrong sum passes for right.

The builds without a check name the wrong peer, or end in a wrong sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from smpcfl.protocol import announcement as announcement_module
from smpcfl.protocol import exchange_round as exchange_module
from smpcfl.protocol import survivors as survivors_module
from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.announcement import sign_announcement
from smpcfl.protocol.dealing import Secrets
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.messages import Answer, Exchange
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.receipts import Receipts
from support.liars import LIAR, NAME, PEERS, Outcome, Patient, outcome, refused, with_liar
from support.network import Network, make_ticket
from support.two_faced import TwoFaced, TwoFacedToFew
from support.unchecked import check, removed
from support.weakened import BadDealer, BadPairDealer, ZeroKey, one_is

# -- bad shares, as a dealer ----------------------------------------------------------------------------


class BadToOne(PeerRound):
    """Deals one holder shares that are not those announced, after it has committed to the others."""

    holder = 6

    def _deal(self, entropy: Callable[[int], bytes]) -> Secrets:
        secrets = super()._deal(entropy)
        wrong = replace(secrets.dealt[self.holder], self_share=Secret(bytes(33)))
        secrets.dealt[self.holder] = wrong
        return secrets


def test_the_dealer_of_a_bad_share_is_named_by_its_holder() -> None:
    network = with_liar(BadToOne)
    assert outcome(network) == "right"
    assert refused(network) == {(Reason.BAD_SHARE, NAME)}


def test_a_holder_that_takes_any_share_is_named_in_its_dealers_place() -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exchange_module, "check_dealt", lambda *_: None)
        network = with_liar(BadToOne)
        outcome(network)
    assert refused(network) == {(Reason.BAD_SHARE, PEERS[BadToOne.holder])}


SECRETS = [
    pytest.param(BadDealer, {}, "_self_key", id="self"),
    pytest.param(BadPairDealer, {NAME: "train"}, "_pair_keys", id="pair"),
]


@pytest.mark.parametrize(("kind", "lost", "where"), SECRETS)
def test_shares_of_another_secret_than_the_one_announced(
    kind: type[PeerRound], lost: dict[str, str], where: str
) -> None:
    assert outcome(with_liar(kind, lost=lost)) == (Reason.BAD_COMMITMENT, NAME)
    with removed(check(AggregatorRound, where, Reason.BAD_COMMITMENT)):
        network = with_liar(kind, lost=lost)
        assert network.run() != network.expected()


class WrongCommitment(PeerRound):
    """Commits to another self seed than the one that it shares and masks with."""

    def _deal(self, entropy: Callable[[int], bytes]) -> Secrets:
        secrets, true = super()._deal(entropy), self.announcement
        self.announcement = sign_announcement(
            self.ticket, self.me, true.public_key, bytes(32), true.shares_root, self._signer
        )
        return secrets


def test_a_wrong_commitment_voids_the_round_with_its_name() -> None:
    assert outcome(with_liar(WrongCommitment)) == (Reason.BAD_COMMITMENT, NAME)
    # By itself it spoils nothing: it is the only sign of shares that do not give the mask's seed.
    with removed(check(AggregatorRound, "_self_key", Reason.BAD_COMMITMENT)):
        assert outcome(with_liar(WrongCommitment)) == "right"


# -- bad shares, as a holder ----------------------------------------------------------------------------


class BadHolder(PeerRound):
    """Shows shares that it was not dealt."""

    def answer(self, now: float) -> Answer | None:
        answer = super().answer(now)
        if answer is None:
            return None
        shown = [replace(item, share=Secret(bytes(33))) for item in answer.self_shares]
        return replace(answer, self_shares=tuple(shown))


def with_bad_holder() -> tuple[Network, Outcome]:
    # The first to answer, so that its share would be among those that are used.
    network = Patient(make_ticket(8), round_class=one_is(PEERS[0], BadHolder))
    return network, outcome(network)


def test_the_holder_of_a_bad_share_is_named_and_not_needed() -> None:
    network, result = with_bad_holder()
    assert result == "right"
    assert refused(network) == {(Reason.BAD_SHARE, PEERS[0])}


def test_an_aggregator_that_takes_any_share_names_the_dealer_in_the_holders_place() -> None:
    with removed(check(AggregatorRound, "_check_share", Reason.BAD_SHARE)):
        _, result = with_bad_holder()
    assert result == (Reason.BAD_COMMITMENT, PEERS[1])


# -- different public keys for different neighbours -----------------------------------------------------


def two_faced(kind: type[PeerRound] = TwoFaced) -> Network:
    """It vanishes before it uploads, so its pair secret is asked for."""
    return with_liar(kind, lost={NAME: "train"})


@pytest.mark.parametrize("kind", [TwoFaced, TwoFacedToFew])
def test_a_peer_with_two_public_keys_is_ready_for_nobody(kind: type[PeerRound]) -> None:
    network = two_faced(kind)
    assert outcome(network) == "right"
    assert network.survivors == [peer for peer in PEERS if peer != NAME]
    assert all(LIAR not in u.header.counts for u in network.uploads.values())
    assert refused(network) == {(Reason.EQUIVOCATION, NAME)}
    named_by = {peer for peer, _ in network.errors}
    assert named_by >= set(PEERS) - {NAME}


@contextmanager
def all_that_was_announced_counts() -> Iterator[None]:
    """Receipts are not looked at: who announced something is ready, with what came first."""
    ready = patch.object(
        Receipts, "is_ready", lambda self, dealer: dealer in self.announcements.first
    )
    first = patch.object(Receipts, "announcement", lambda self, i: self.announcements.first[i])
    with ready, first:
        yield


def test_two_public_keys_end_in_a_wrong_sum_where_nothing_looks_for_them() -> None:
    """Receipts, the comparison of headers at either end, and the recovered key: all four are out."""
    with (
        all_that_was_announced_counts(),
        patch.object(survivors_module, "_conflicts", lambda headers: []),
        removed(
            check(survivors_module, "_check_announcements", Reason.BAD_HEADER),
            check(AggregatorRound, "_pair_keys", Reason.BAD_COMMITMENT),
            check(AggregatorRound, "answer", Reason.BAD_SHARE),
        ),
    ):
        network = two_faced()
        total = network.run()
    assert total != network.expected()


# -- a public key that gives everyone the same mask -----------------------------------------------------


def test_a_public_key_of_small_order_is_refused_at_once() -> None:
    network = with_liar(ZeroKey)
    assert outcome(network) == "right"
    assert (Reason.MALFORMED, NAME) in refused(network)
    assert NAME not in network.survivors


def test_a_public_key_of_small_order_that_is_taken_lets_nobody_mask() -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(announcement_module, "check_public_key", lambda *_: None)
        assert outcome(with_liar(ZeroKey)) == (Reason.TOO_FEW_SURVIVORS, "")


# -- ready without exchange -----------------------------------------------------------------------------


class ReadyAtOnce(PeerRound):
    """Deals no share to anybody, and says of all that they count."""

    def exchange(self, sender: str, message: Exchange, now: float) -> Exchange:
        raise RemoteError(Reason.DEADLINE)

    def calls(self, now: float) -> list[Any]:
        return [call for call in super().calls(now) if not isinstance(call.message, Exchange)]

    def _says(self, index: int) -> bool:
        return True


def ready_at_once() -> Network:
    """It vanishes once all count it."""
    return with_liar(ReadyAtOnce, lost={NAME: "train"})


def test_ready_without_exchange_counts_for_nobody() -> None:
    network = ready_at_once()
    assert outcome(network) == "right"
    assert NAME not in network.survivors
    assert all(LIAR not in u.header.counts for u in network.uploads.values())


def test_ready_without_exchange_voids_a_round_that_takes_its_word() -> None:
    with all_that_was_announced_counts():
        assert outcome(ready_at_once()) == (Reason.TOO_FEW_ANSWERS, "")
