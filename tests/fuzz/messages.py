"""Targets: what comes over the wire, and the arithmetic and the state that takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from smpc.v1 import messages_pb2 as pb
from smpcfl.net import wire
from smpcfl.net.kinds import KINDS
from smpcfl.protocol import merkle, shamir, trailer
from smpcfl.protocol.admission import Admission
from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.ring import WIDE, Layout
from smpcfl.protocol.signing import AGGREGATOR
from smpcfl.protocol.ticket import pack_bitmap, unpack_bitmap
from support.network import signer_of

from .budget import Target
from .recorded import corpus, played

BITS = 13  # a bitmap that does not fill its last byte


def targets() -> list[Target]:
    seen, network = corpus(), played()
    ticket = network.ticket

    def of_wire(kind: str, share: float, read: Callable[[Any], object]) -> Target:
        def run(data: bytes) -> None:
            read(wire.parse(getattr(pb, kind), data))

        return Target(f"wire.{kind}", share, run, seen[kind], fields=True)

    def announcement(message: pb.Announcement) -> None:
        wire.announcement_from_proto(message, ticket.digest).check(ticket, network.keyring)

    def signed_ticket(message: pb.SignedTicket) -> None:
        signed = wire.ticket_from_proto(message)
        admission = Admission(ticket.cohort[0], network.policy, network.keyring)
        admission.check(signed, highest_serial=0, running=None, now_ms=1000)
        assert len(signed.ticket.neighbours) == len(signed.ticket.cohort)

    def upload(data: bytes) -> None:
        state = AggregatorRound(network.signed, signer_of(AGGREGATOR), network.keyring)
        state.upload(ticket.cohort[0], wire.upload_from(data, bytes(ticket.layout.nbytes)))

    def answer(message: pb.Answer) -> None:
        aggregator = network.aggregator
        aggregator._answered.clear()
        aggregator.answer(ticket.cohort[0], wire.answer_from_proto(message))

    rows = (row for row in KINDS.values() if not row.streams)
    codecs = {c.proto.DESCRIPTOR.name: c for row in rows for c in (row.request, row.reply)}
    del codecs["SignedTicket"], codecs["Empty"]  # that is below, and this has no fields

    return [
        of_wire("SignedTicket", 60, signed_ticket),
        of_wire("Announcement", 40, announcement),
        *(
            of_wire(name, 280 / len(codecs), lambda m, read=codec.read: read(m, ticket.digest))
            for name, codec in codecs.items()
        ),
        of_wire("Header", 60, lambda m: wire.header_from_proto(m).check(ticket, network.keyring)),
        of_wire("Survivors", 50, lambda m: wire.survivors_from_proto(m, ticket)),
        of_wire("Answer", 30, answer),
        Target("aggregator.upload", 30, upload, seen["UploadMeta"], fields=True),
        *(_ring(width) for width in (16, 32, 64)),
        Target("trailer", 30, _trailer, [np.arange(8, dtype=WIDE).tobytes()]),
        Target("bitmap", 30, _bitmap, [pack_bitmap((0, 3, 12), BITS)]),
        Target("merkle", 20, _path, [bytes(16 * 4)]),
        Target("shamir", 20, _combine, [b"".join(shamir.split(bytes(32), 3, 4, bytes))]),
    ]


def _ring(width: int) -> Target:
    layout = Layout(width, 3, 8)

    def run(data: bytes) -> None:
        assert layout.parse(data).tobytes() == data

    return Target(f"ring.{width}", 10, run, [bytes(layout.nbytes)])


def _trailer(data: bytes) -> None:
    found = trailer.decode(np.frombuffer(data.ljust(64, b"\0")[:64], WIDE), 3)
    assert found.peers == 3


def _bitmap(data: bytes) -> None:
    assert pack_bitmap(unpack_bitmap(data, BITS), BITS) == data


def _path(data: bytes) -> None:
    size = merkle.NODE_BYTES
    pieces = [data[place : place + size] for place in range(0, len(data), size)]
    assert len(merkle.root_from(bytes(size), len(data), pieces)) == size


def _combine(data: bytes) -> None:
    pieces = [data[place : place + 33] for place in range(0, min(len(data), 300), 33)]
    shares = {number: Secret(piece) for number, piece in enumerate(pieces, 1)}
    assert len(shamir.combine(shares)) == 32
