"""Messages and files that claim to be huge: refused before room is made for what they claim."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from smpc.v1 import messages_pb2 as pb
from smpcfl.flower.shared.records import RECORD, VECTOR, upload_of
from smpcfl.net import wire
from smpcfl.protocol.encoding import VERSION
from smpcfl.protocol.errors import LocalError, ProtocolError, Reason, RemoteError
from smpcfl.protocol.messages import Survivors
from smpcfl.protocol.survivors import check_origin
from smpcfl.protocol.ticket import MAX_COHORT, pack_bitmap, unpack_bitmap
from smpcfl.runs.checkpoint import Checkpoint
from support.network import keyring_of, make_ticket

TICKET = make_ticket(256).ticket
ROOM = 1 << 20  # bytes, far below what each of these claims


def assert_refused(run: Callable[[], object], *, room: int = ROOM) -> ProtocolError:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError) as caught:
            run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < room
    return caught.value


def test_a_survivor_set_with_more_headers_than_peers() -> None:
    bitmap = b"\xff" * 32
    header = pb.CompactHeader(
        sender=1, announcement_hash=bytes(32), counting=bitmap, signature=bytes(64)
    )
    others = [pb.Counting(index=i, announcement_hash=bytes(32)) for i in range(256)]
    many = pb.Survivors(survivors=bitmap, headers=[header] * 7000, others=others)
    error = assert_refused(lambda: wire.survivors_from_proto(many, TICKET))
    assert "headers; expected <= 256, found 7000" in str(error)


def test_an_answer_of_a_million_shares() -> None:
    share = pb.ShownShare(share=bytes(33), sibling=bytes(32))
    many = pb.Answer(ticket_digest=bytes(32), self_shares=[share] * 1_000_000)
    assert_refused(lambda: wire.answer_from_proto(many))


def test_a_ticket_for_a_million_peers() -> None:
    many = pb.SignedTicket(ticket=pb.Ticket(version=VERSION, cohort=["peer"] * 1_000_000))
    error = assert_refused(lambda: wire.ticket_from_proto(many))
    assert f"cohort; expected <= {MAX_COHORT}" in str(error)


@pytest.mark.parametrize("body", [2**29, 2**32 - 1, 2**40])
def test_a_ticket_for_a_vector_that_nobody_has_room_for(body: int) -> None:
    assert_refused(lambda: replace(TICKET, body=body, width=64))


def test_a_bitmap_of_another_length() -> None:
    assert_refused(lambda: unpack_bitmap(b"\xff" * 100_000, 256))


@pytest.mark.parametrize("index", [256, 2**31, 2**40, -1])
def test_a_survivor_far_beyond_the_cohort(index: int) -> None:
    assert_refused(lambda: pack_bitmap((1, index), 256))


def test_the_origin_of_a_survivor_set_beyond_the_cohort() -> None:
    assert_refused(lambda: Survivors(TICKET.digest, (2**31,), (), bytes(32), bytes(64)))
    survivors = Survivors(TICKET.digest, (2**16 - 1,), (), bytes(32), bytes(64))
    assert_refused(lambda: check_origin(TICKET, keyring_of(()), survivors))


def test_an_array_whose_header_claims_more_than_there_is() -> None:
    data = bytearray(Array(np.zeros(3, np.uint8)).data)
    claim = b"'shape': (%d,), }" % 2**32
    start = data.index(b"'shape': (3,)")
    data[start : start + len(claim)] = claim  # into the header's padding
    vector = Array(dtype="uint8", shape=(3,), stype="numpy.ndarray", data=bytes(data))
    content = RecordDict(
        {
            RECORD: ConfigRecord({"meta": b"m", "p2p-bytes": 1}),
            VECTOR: ArrayRecord({VECTOR: vector}),
        }
    )
    reply = type("Reply", (), {"content": content})
    error = assert_refused(lambda: upload_of(reply))  # type: ignore[arg-type]
    assert isinstance(error, RemoteError)
    assert error.reason is Reason.MALFORMED


def test_a_checkpoint_of_more_than_its_file() -> None:
    header = json.dumps({"arrays": [["a", "<f8", [2**40]]]}).encode()
    data = b"smpcfl checkpoint 1\n" + len(header).to_bytes(8, "big") + header
    error = assert_refused(lambda: Checkpoint.decode(data + hashlib.sha256(data).digest()))
    assert isinstance(error, LocalError)


def test_what_a_refusal_quotes_is_one_short_line() -> None:
    error = RemoteError(
        Reason.MALFORMED, "mode", found="x\n12:00:00 INFO\x1b[31m all is well" * 99999
    )
    assert len(str(error)) <= 300
    assert str(error).isprintable()
