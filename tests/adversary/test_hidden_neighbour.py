"""A header that hides one neighbour of the liar's choice: which of the two goes is a coin it cannot throw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from smpcfl.protocol import survivors
from smpcfl.protocol.encoding import digest
from smpcfl.protocol.messages import Header, header_bytes
from smpcfl.protocol.survivors import choose_survivors
from support.network import Network, make_ticket

PEERS, LIAR, VICTIM = 8, 4, 6
ROUNDS = 200
# Hoeffding: as far from half as this with probability 2·exp(-2·48²/200) < 2e-10.
BOUND = 48


def hides(net: Network, header: Header) -> Header:
    """The liar's header without the victim."""
    fewer = tuple(item for item in header.counting if item[0] != VICTIM)
    signed = header_bytes(
        header.ticket_digest,
        header.sender,
        header.announcement_hash,
        fewer,
        header.masked_failure,
    )
    signature = net.signer_of(net.ticket.cohort[header.sender])(signed)
    return replace(header, counting=fewer, signature=signature)


def evictions() -> tuple[int, int]:
    """In how many rounds the victim is left out, and in how many the liar."""
    honest = Network(make_ticket(PEERS)).until("upload")
    victim = liar = 0
    for number in range(ROUNDS):
        headers = {}
        for upload in honest.uploads.values():
            # As in another round: another announcement and another failure mask of each peer.
            header = upload.header
            headers[header.sender] = replace(
                header, masked_failure=int.from_bytes(digest("mask", number, header.sender)[:7])
            )
        headers[LIAR] = hides(honest, headers[LIAR])
        chosen = choose_survivors(honest.ticket, headers)
        assert len(chosen) == PEERS - 1
        victim += VICTIM not in chosen
        liar += LIAR not in chosen
    return victim, liar


@contextmanager
def by_place() -> Iterator[None]:
    """The tie goes by the place in the cohort, as it did: whoever is further back goes."""

    def ordered(domain: str, *rest: Any) -> bytes:
        return bytes([PEERS - rest[-1]]) if domain == "tie" else digest(domain, *rest)

    with patch.object(survivors, "digest", ordered):
        yield


def test_by_place_a_liar_evicts_whom_it_likes_of_those_behind_it() -> None:
    with by_place():
        assert evictions() == (ROUNDS, 0)


def test_of_the_two_either_goes_by_a_coin_that_the_liar_cannot_throw() -> None:
    victim, liar = evictions()
    assert victim + liar == ROUNDS
    assert abs(victim - ROUNDS / 2) <= BOUND


def test_the_coin_turns_with_what_others_send() -> None:
    """With all of its own header fixed, the liar does not know the outcome."""
    net = Network(make_ticket(PEERS)).until("upload")
    headers = {upload.header.sender: upload.header for upload in net.uploads.values()}
    headers[LIAR] = hides(net, headers[LIAR])
    gone = set()
    for number in range(64):
        headers[0] = replace(headers[0], masked_failure=number)
        gone |= headers.keys() - choose_survivors(net.ticket, headers).keys()
    assert gone == {LIAR, VICTIM}
