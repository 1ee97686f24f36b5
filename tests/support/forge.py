"""Messages that an aggregator or a peer with its own key, and an intent, can make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from smpcfl.protocol import failures
from smpcfl.protocol.announcement import Announcement
from smpcfl.protocol.messages import (
    Agreement,
    Header,
    PeerMessage,
    Survivors,
    agreement_bytes,
    header_bytes,
    headers_digest,
    survivors_bytes,
)
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.signing import AGGREGATOR
from smpcfl.protocol.survivors import survivors_digest
from support.network import Network, Round, entropy_from

Message = TypeVar("Message", bound=PeerMessage)


def seeded(round_: Round) -> PeerRound:
    assert isinstance(round_, PeerRound)
    return round_


def round_of(network: Network, index: int) -> PeerRound:
    return seeded(network.rounds[network.ticket.cohort[index]])


def sent(round_: Round, kind: type[Message], to: int, now: float) -> Message:
    """The message of this kind that `round_` wants to send to cohort index `to` now."""
    peer = round_.ticket.cohort[to]
    found = [c.message for c in round_.calls(now) if c.to == peer and isinstance(c.message, kind)]
    assert len(found) == 1
    return found[0]


def header(
    network: Network,
    sender: int,
    counting: Iterable[int],
    *,
    ticket_digest: bytes | None = None,
    own: bytes | None = None,
    others: dict[int, bytes] | None = None,
    signer: str | None = None,
) -> Header:
    """A header of `sender`, signed by it or by `signer`; hashes are the true ones unless given."""

    def hash_of(index: int) -> bytes:
        return round_of(network, index).announcement.hash

    digest = ticket_digest or network.ticket.digest
    named = tuple((j, (others or {}).get(j) or hash_of(j)) for j in sorted(counting))
    own = own or hash_of(sender)
    sign = network.signer_of(signer or network.ticket.cohort[sender])
    hidden = failures.hide(False, round_of(network, sender)._open_secrets().failure_mask)
    signature = sign(header_bytes(digest, sender, own, named, hidden))
    return Header(digest, sender, own, named, signature, hidden)


def headers_of(network: Network, members: Sequence[int]) -> list[Header]:
    """The headers that came with uploads."""
    return [network.uploads[network.ticket.cohort[i]].header for i in members]


def survivors(
    network: Network,
    members: Sequence[int],
    headers: Sequence[Header] | None = None,
    *,
    signer: str = AGGREGATOR,
) -> Survivors:
    """A survivor set as the aggregator would sign it."""
    headers = headers_of(network, members) if headers is None else headers
    digest = headers_digest(headers)
    signed = survivors_bytes(network.ticket, members, digest)
    signature = network.signer_of(signer)(signed)
    return Survivors(network.ticket.digest, tuple(members), tuple(headers), digest, signature)


def agreement(
    network: Network,
    index: int,
    message: Survivors,
    *,
    signer: str | None = None,
    earlier: bytes = b"",
) -> Agreement:
    """`earlier`: the other set over this model that it says it agreed to."""
    digest = survivors_digest(network.ticket, message)
    sign = network.signer_of(signer or network.ticket.cohort[index])
    total = round_of(network, index)._failure_sum(message.survivors)
    signed = agreement_bytes(network.ticket.digest, digest, index, total, earlier)
    return Agreement(network.ticket.digest, digest, index, sign(signed), total, earlier)


def second_announcement(network: Network, index: int, seed: object = "second") -> Announcement:
    """Another announcement by the same peer for the same ticket."""
    peer = network.ticket.cohort[index]
    return twin(network, peer, seed).announcement


def twin(network: Network, peer: str, seed: object = "second") -> PeerRound:
    """The same peer once more, with other secrets."""
    return PeerRound(
        network.signed,
        peer,
        network.policy,
        network.signer_of(peer),
        network.keyring,
        entropy_from(seed),
    )
