"""Masks used twice, seeds that can be guessed, and public keys that are not who they seem."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from smpcfl.peer import agent as agent_module
from smpcfl.protocol import announcement as announcement_module
from smpcfl.protocol.announcement import Announcement
from smpcfl.protocol.base_round import BaseRound
from smpcfl.protocol.encoding import canonical
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.keystream import Secret, commitment
from smpcfl.protocol.messages import (
    Exchange,
    PeerMessage,
    Ready,
    ReadyReply,
)
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.receipts import ListReply
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.shamir import combine
from support.attacker import Loot, show
from support.forge import round_of
from support.network import Network, Round, entropy_from, make_ticket, peer_ids
from support.unchecked import check, removed
from support.weakened import MasksTwice

PEERS = peer_ids(8)
EVERYONE = tuple(range(8))
VICTIM = 0

# -- a peer made to mask twice with the same secrets ----------------------------------------------------


def masked_twice(kind: type[PeerRound]) -> RingVector | Reason:
    """The ClientApp is sent the round again, and has not learnt anything in the second attempt."""
    network = Network(make_ticket(8), round_class=kind).until("upload")
    layout = network.ticket.layout
    first = layout.parse(network.uploads[PEERS[VICTIM]].vector)
    try:
        masks, _ = round_of(network, VICTIM).masks(network.now)
    except RemoteError as error:
        return error.reason
    assert first - masks.apply(layout.zeros()) == network.addends[PEERS[VICTIM]]
    return first - masks.apply(layout.zeros())


def test_two_updates_under_one_mask_differ_by_the_updates() -> None:
    assert isinstance(masked_twice(MasksTwice), RingVector)


def test_masks_are_given_out_once() -> None:
    assert masked_twice(PeerRound) is Reason.MASKS_SPENT


def another_upload() -> Reason | None:
    """The ClientApp that has its masks uploads one update, and then another."""
    network = Network(make_ticket(8)).until("upload")
    vector = network.uploads[PEERS[VICTIM]].vector
    try:
        round_of(network, VICTIM).freeze(bytes(len(vector)), network.now)
    except RemoteError as error:
        return error.reason
    return None


def test_the_first_upload_is_the_only_one() -> None:
    assert another_upload() is Reason.MASKS_SPENT
    with removed(check(BaseRound, "freeze", Reason.MASKS_SPENT)):
        assert another_upload() is None


# -- seeds that can be guessed --------------------------------------------------------------------------

BITS = 8


def guessable(seed: object) -> Callable[[int], bytes]:
    """Bytes of `BITS` bits of entropy."""
    draw = entropy_from(seed)

    def entropy(count: int) -> bytes:
        return draw(BITS // 8).ljust(count, b"\x00")

    return entropy


@dataclass
class Guessable(Network):
    def _round(self, peer: str, **options: float | None) -> Round:
        signer, entropy = self.signer_of(peer), guessable((self.seed, peer))
        return PeerRound(self.signed, peer, self.policy, signer, self.keyring, entropy)


def guess(network: Network) -> Loot:
    """Tries all seeds of `BITS` bits against what the victim announced: no share is needed."""
    loot, announced = Loot(network), round_of(network, VICTIM).announcement
    for number in range(2**BITS):
        raw = Secret(number.to_bytes(BITS // 8, "big").ljust(32, b"\x00"))
        if commitment(raw, network.ticket.digest, PEERS[VICTIM]) == announced.commitment:
            loot.seeds[VICTIM] = raw
        key = X25519PrivateKey.from_private_bytes(raw)
        if key.public_key().public_bytes_raw() == announced.public_key:
            loot.keys[VICTIM] = key
    return loot


def test_seeds_of_few_bits_bare_the_victim_without_one_share() -> None:
    assert guess(Guessable(make_ticket(8)).until("upload")).bares([VICTIM])


def test_seeds_of_256_bits_are_not_guessed() -> None:
    assert guess(Network(make_ticket(8)).until("upload")).sum_of([VICTIM]) is None


def test_each_secret_is_drawn_with_its_full_length() -> None:
    drawn: list[int] = []

    def entropy(count: int) -> bytes:
        drawn.append(count)
        return bytes([len(drawn)]) * count

    network = Network(make_ticket(8))
    signer = network.signer_of(PEERS[0])
    round_ = PeerRound(network.signed, PEERS[0], network.policy, signer, network.keyring, entropy)
    secrets = round_._secrets
    assert secrets is not None
    assert drawn[:2] == [32, 32]
    assert secrets.private.private_bytes_raw() == b"\x01" * 32
    assert secrets.self_seed == b"\x02" * 32
    # And t - 1 coefficients for each of the two, longer than the field so as not to be biased.
    threshold = network.ticket.threshold
    assert drawn[2 : -threshold - 1] == [48] * 2 * (threshold - 1)
    # And the mask of the failure and its t coefficients, again longer than their field of 61 bits.
    assert drawn[-threshold - 1 :] == [24] * (threshold + 1)


def test_the_agent_draws_them_from_the_systems_generator() -> None:
    tree = ast.parse(inspect.getsource(agent_module))
    made = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    sources = {
        n.func.id: [ast.unparse(a) for a in n.args if "random" in ast.unparse(a)]
        for n in made
        if isinstance(n.func, ast.Name) and n.func.id in ("PeerRound", "AdditivePeerRound")
    }
    assert sources == {"PeerRound": ["os.urandom"], "AdditivePeerRound": ["os.urandom"]}


def test_no_share_short_of_the_threshold_says_anything() -> None:
    network = Network(make_ticket(8)).until("exchange")
    secrets = round_of(network, VICTIM)._secrets
    assert secrets is not None
    held = {n: dealt.self_share for n, dealt in enumerate(secrets.dealt.values(), 1)}
    enough = dict(list(held.items())[: network.ticket.threshold])
    assert combine(enough) == secrets.self_seed
    # With one share less, every value of the missing one gives another secret: all are as likely.
    del enough[1]
    found = set()
    for guessed in range(64):
        try:
            found.add(bytes(combine({**enough, 1: guessed.to_bytes(33, "big")})))
        except RemoteError:
            continue  # beyond 32 bytes: one in 2^247
    assert len(found) == 64


# -- substituted public keys ----------------------------------------------------------------------------

MALLORY = X25519PrivateKey.from_private_bytes(b"\x4d" * 32)


class Substituting(Network):
    """Whoever carries the victim's messages puts a key of its own in place of everyone else's."""

    def handle(self, to: str, sender: str, message: PeerMessage) -> PeerMessage | None:
        if to == PEERS[VICTIM]:
            message = substituted(message)
        reply = super().handle(to, sender, message)
        return substituted(reply) if sender == PEERS[VICTIM] and reply is not None else reply


def substituted(message: Any) -> Any:
    if isinstance(message, Exchange):
        return replace(message, announcement=with_key(message.announcement))
    if isinstance(message, Ready | ReadyReply) and message.announcement is not None:
        return replace(message, announcement=with_key(message.announcement))
    if isinstance(message, ListReply):
        return ListReply(tuple(with_key(item) for item in message.announcements))
    return message


def with_key(item: Announcement) -> Announcement:
    return replace(item, public_key=MALLORY.public_key().public_bytes_raw())


def without_the_key(domain: str, *items: Any) -> bytes:
    """What announcements sign and hash, less the public key: all else is bound as it was."""
    if domain == "announcement":
        items = (*items[:2], *items[3:])
    return canonical(domain, *items)


def substituting() -> tuple[Network, Loot]:
    network = Substituting(make_ticket(8)).until("exchange")
    network.ready()
    for deadline in (network.ticket.deadlines.exchange, network.ticket.deadlines.ready):
        network.now = deadline / 1000
        network.pump()
    for peer in PEERS:
        network.mask(peer)
    loot, _ = show(network, dict.fromkeys(EVERYONE, EVERYONE if uploaded(network) else range(1, 8)))
    loot.keys.update(dict.fromkeys(range(1, 8), MALLORY))
    return network, loot


def uploaded(network: Network) -> bool:
    return PEERS[VICTIM] in network.uploads


def test_substituted_keys_bare_the_victim_where_announcements_do_not_bind_them() -> None:
    with patch.object(announcement_module, "canonical", without_the_key):
        network, loot = substituting()
        assert not network.errors
        assert loot.bares([VICTIM])


def test_substituted_keys_are_noticed() -> None:
    network, loot = substituting()
    assert not uploaded(network)
    # The victim takes none of them, so nobody counts for it and it has no masks to give.
    refused = [error for peer, error in network.errors if peer == PEERS[VICTIM]]
    assert {error.reason for error in refused if isinstance(error, RemoteError)} == {
        Reason.BAD_SIGNATURE
    }
    assert loot.sum_of([VICTIM]) is None
