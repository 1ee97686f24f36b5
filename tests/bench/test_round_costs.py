"""Whole rounds in memory: their sums are exact or there is none, and their bytes are those of the wire."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from smpc.v1 import peer_pb2
from smpcfl.bench.round_costs import PHASES, MemoryRound, play
from smpcfl.net import ready_wire, wire
from smpcfl.net.rpc import FRAME_BYTES
from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.errors import RemoteError
from smpcfl.protocol.messages import Agreement, Exchange, Ready, ReadyReply
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.signing import AGGREGATOR, KeyTable
from smpcfl.protocol.ticket import ADDITIVE, SEEDED
from support.network import Network, make_ticket

SIGNATURE = bytes(64)


@pytest.mark.parametrize("phase", PHASES)
def test_whoever_has_uploaded_counts_and_nobody_else(
    phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded: list[str] = []
    take = AggregatorRound.upload

    def taking(self: AggregatorRound, peer: str, upload: object) -> None:
        uploaded.append(peer)
        take(self, peer, upload)

    monkeypatch.setattr(AggregatorRound, "upload", taking)
    figures = play(SEEDED, 6, 20, lost={2: phase})  # it checks the sum itself
    cohort = list(figures.ticket.cohort)
    if phase not in ("agree", "unmask"):
        cohort.pop(2)
    assert uploaded == cohort
    assert figures.survivors == len(cohort)


def test_more_lost_than_a_round_withstands_give_no_figures() -> None:
    with pytest.raises(RemoteError):
        play(SEEDED, 6, 20, lost={0: "upload", 1: "exchange", 2: "train"})


def test_a_round_with_a_wrong_sum_gives_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    right = AggregatorRound.total
    monkeypatch.setattr(AggregatorRound, "total", lambda self: one_more(right(self)))
    with pytest.raises(RuntimeError, match="not the sum"):
        play(SEEDED, 5, 10)


def one_more(vector: Any) -> Any:
    vector.body[0] += 1
    return vector


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
def test_the_aggregators_part_can_be_repeated(mode: str) -> None:
    round_ = MemoryRound(mode, 5, 20)
    round_.run()
    expected = round_.expected(round_.ticket.cohort)
    assert expected.body.any()
    assert round_.aggregate() == round_.aggregate() == expected


def framed(message: Any) -> int:
    return int(message.ByteSize()) + FRAME_BYTES


def test_the_bytes_of_a_seeded_round_are_those_of_its_messages_on_the_wire() -> None:
    """Against the same round played by the network of the tests."""
    n, body = 5, 30
    network = Network(make_ticket(n, body=body))
    network.run()
    ticket = network.ticket
    rounds = [network.rounds[peer] for peer in ticket.cohort]
    figures = play(SEEDED, n, body)

    uploads = sum(
        wire.upload_meta_to_proto(upload.header, upload.announcement).ByteSize()
        + len(upload.vector)
        for upload in network.uploads.values()
    )
    assert figures.sent["upload"] * n == uploads

    empty, least, most = framed(peer_pb2.Empty()), 0, 0
    # That the pair counts is said with the receipts, or in a call of its own.
    more = framed(ready_wire.ready_to_proto(Ready(ticket.digest, counts=True, has=1)))
    more += framed(ready_wire.ready_reply_to_proto(ReadyReply(counts=True)))
    for low, high in combinations(range(n), 2):
        a, b = rounds[low], rounds[high]
        assert isinstance(a, PeerRound)
        assert isinstance(b, PeerRound)
        both = framed(wire.exchange_to_proto(Exchange(a.announcement, dealt(a, high))))
        both += framed(wire.exchange_to_proto(Exchange(b.announcement, dealt(b, low))))
        both += framed(ready_wire.ready_to_proto(Ready(ticket.digest, a._receipts.own)))
        reply = ReadyReply(b._receipts.own)
        counting = replace(reply, counts=True)
        for index in (low, high):
            agreement = Agreement(ticket.digest, bytes(32), index, SIGNATURE, failure_sum=1)
            both += framed(wire.agreement_to_proto(agreement)) + empty
        least += both + framed(ready_wire.ready_reply_to_proto(reply))
        most += both + framed(ready_wire.ready_reply_to_proto(counting)) + more
    assert least <= figures.sent["p2p"] * n <= most
    assert most - least < 0.03 * least

    unmask = unmask_in = 0
    for round_ in rounds:
        assert isinstance(round_, PeerRound)
        answer = round_.answer(network.now)
        assert answer is not None
        # Counted after the exchange: a number of the same length on the wire.
        spent = int(figures.sent["p2p"])
        unmask += framed(peer_pb2.UnmaskReply(answer=wire.answer_to_proto(answer), p2p_bytes=spent))
        survivors = network.aggregator.survivors()
        unmask_in += framed(wire.survivors_to_proto(survivors, ticket))
    assert figures.sent["unmask"] * n == unmask
    assert figures.unmask_in * n == unmask_in


def dealt(round_: PeerRound, index: int) -> Any:
    assert round_._secrets is not None
    return round_._secrets.dealt[index]


def test_the_bytes_of_an_additive_round_are_full_size_shares_in_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smpcfl.net.rpc.CHUNK_BYTES", 100)
    figures = play(ADDITIVE, 5, 80)  # 160 bytes, and 64 of trailer
    digest = bytes(32)
    chunks = [
        peer_pb2.ShareChunk(ticket_digest=digest, data=bytes(100)),
        peer_pb2.ShareChunk(data=bytes(100)),
        peer_pb2.ShareChunk(data=bytes(24)),
    ]
    each = sum(framed(chunk) for chunk in chunks) + framed(peer_pb2.Empty())
    assert figures.sent["p2p"] == 4 * each
    assert figures.sent["unmask"] == figures.unmask_in == 0


def test_the_timed_peer_and_the_aggregator_check_every_signature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each once, and its own and what comes from its signer over TLS not at all."""
    checked: list[str] = []
    verify = KeyTable.verify

    def recording(self: KeyTable, name: str, message: bytes, signature: bytes) -> bool:
        checked.append(name)
        assert verify(self, name, message, signature)
        return True

    monkeypatch.setattr(KeyTable, "verify", recording)
    figures = play(SEEDED, 5, 20)
    n = 5
    # The peer: ticket, announcements, receipts, survivors, headers. The aggregator: header and
    # announcement of each.
    assert figures.verified == 1 + (n - 1) + (n - 1) + 1 + (n - 1)
    assert len(checked) == figures.verified + 2 * n
    assert checked.count(AGGREGATOR) == 2


@pytest.mark.parametrize(("n", "most_bytes", "most_verified"), [(8, 650, 25), (32, 650, 100)])
def test_what_a_neighbour_costs_hardly_depends_on_how_many_there_are(
    n: int, most_bytes: int, most_verified: int
) -> None:
    """At 100, which takes a while, it is 610 bytes and 299 signatures (docs/benchmarks.md)."""
    figures = play(SEEDED, n, 10)
    assert figures.neighbour_bytes <= most_bytes
    assert figures.verified <= most_verified
