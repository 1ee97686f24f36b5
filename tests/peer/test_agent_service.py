"""The agent's socket for its ClientApp: what a round's upload may be, and what is refused by which reason."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest

from smpc.v1 import local_pb2 as pb
from smpcfl.net import rpc, wire
from smpcfl.net.node_proof import check_proof, node_bytes
from smpcfl.protocol.errors import Reason
from support.deployed import LONG_S, Deployed, DeployedPeer, beginning, outcome

pytestmark = pytest.mark.sockets


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with Deployed(tmp_path, 3) as net:
        yield net


@pytest.fixture
def peer(net: Deployed) -> DeployedPeer:
    return net.peer(0)


async def frozen(peer: DeployedPeer, digest: bytes) -> list[pb.UploadChunk]:
    request = pb.FrozenRequest(ticket_digest=digest)
    return [chunk async for chunk in peer.app.Frozen(request, timeout=LONG_S)]


# -- who it is ---------------------------------------------------------------------------------------------


async def test_it_says_who_it_is_and_proves_it_for_the_node_that_is_asked(
    net: Deployed, peer: DeployedPeer
) -> None:
    found = await peer.app.Identity(pb.IdentityRequest(node=7), timeout=LONG_S)
    assert (found.peer, list(found.modes)) == (net.cohort[0], list(net.policy.modes))
    signed = node_bytes(7, found.instance)
    assert (
        check_proof(found.certificate, signed, found.signature, net.enrolled.ca).name == found.peer
    )


# -- begin -------------------------------------------------------------------------------------------------


async def test_a_round_begins_once_and_has_nothing_frozen_yet(
    net: Deployed, peer: DeployedPeer
) -> None:
    asked = beginning(net.make_ticket())
    reply = await peer.app.Begin(asked, timeout=LONG_S)
    assert (reply.frozen, reply.given_seed) == (False, False)
    assert await outcome(peer.app.Begin(asked, timeout=LONG_S)) is Reason.SECOND_TRAINING


async def test_a_ticket_of_another_version_is_refused_by_name_and_leaves_no_trace(
    net: Deployed, peer: DeployedPeer
) -> None:
    asked = beginning(net.make_ticket())
    asked.ticket.ticket.version = 3
    highest = peer.agent._serials.highest
    with pytest.raises(grpc.aio.AioRpcError, match="this ticket is of protocol version 3") as error:
        await peer.app.Begin(asked, timeout=LONG_S)
    assert rpc.reason_of(error.value) is Reason.OTHER_PROTOCOL
    assert peer.rejected(Reason.OTHER_PROTOCOL) == 1
    assert (peer.agent._serials.highest, peer.agent._round) == (highest, None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"flower_run": 3}, Reason.CONFIG_MISMATCH),  # no app was verified for it
        ({"flower_run": 2}, Reason.CONFIG_MISMATCH),  # it is of another app than the ticket says
        ({"content_digest": bytes([1]) * 32}, Reason.CONFIG_MISMATCH),
        ({"model_digest": bytes(32)}, Reason.MODEL_MISMATCH),
    ],
)
async def test_what_differs_from_the_ticket_does_not_begin(
    changes: dict[str, object], reason: Reason, net: Deployed, peer: DeployedPeer
) -> None:
    asked = beginning(net.make_ticket(), **changes)
    assert await outcome(peer.app.Begin(asked, timeout=LONG_S)) is reason
    assert peer.rejected(reason) == 1


# -- masks and the upload ----------------------------------------------------------------------------------


async def test_why_training_failed_is_in_this_peers_log_alone(
    net: Deployed, peer: DeployedPeer, caplog: pytest.LogCaptureFixture
) -> None:
    await net.begin()
    with caplog.at_level(logging.WARNING, "smpcfl.peer"):
        _, meta = await net.masks(peer.own.name, failure="ValueError: ward 7")
    assert "training failed, and a zero is sent: ValueError: ward 7" in caplog.text
    assert b"ward 7" not in meta


async def test_an_upload_is_frozen_and_read_back_as_it_was(
    net: Deployed, peer: DeployedPeer
) -> None:
    await net.begin()
    digest, name = net.ticket.digest, peer.own.name
    assert await outcome(_first(peer, digest)) is Reason.WRONG_PHASE
    masks, meta = await net.masks(name)
    vector = masks.apply(net.addends[name].copy()).tobytes()
    await net.freeze(name, vector)
    chunks = await frozen(peer, digest)
    assert b"".join(chunk.vector for chunk in chunks) == vector
    assert chunks[0].meta.SerializeToString() == meta
    again = await peer.app.Begin(beginning(net.signed), timeout=LONG_S)
    assert again.frozen
    assert wire.upload_from(meta, vector).header.sender == net.ticket.index(name)


async def _first(peer: DeployedPeer, digest: bytes) -> pb.UploadChunk:
    return (await frozen(peer, digest))[0]


async def test_a_vector_of_another_length_is_refused_and_the_right_one_is_taken_later(
    net: Deployed, peer: DeployedPeer
) -> None:
    await net.begin()
    masks, _ = await net.masks(peer.own.name)
    vector = masks.apply(net.addends[peer.own.name].copy()).tobytes()
    for wrong in (vector + b"\0", vector[:-1]):
        assert await outcome(net.freeze(peer.own.name, wrong)) is Reason.WRONG_LENGTH
    await net.freeze(peer.own.name, vector)


async def test_a_stream_of_nothing_or_of_no_round_is_refused(peer: DeployedPeer) -> None:
    nothing = peer.app.Freeze(iter(()), timeout=LONG_S)
    assert await outcome(nothing) is Reason.MALFORMED
    strange = [pb.FreezeChunk(ticket_digest=bytes(32), vector=b"1")]
    assert await outcome(peer.app.Freeze(iter(strange), timeout=LONG_S)) is Reason.UNKNOWN_TICKET
    assert await outcome(_first(peer, bytes(32))) is Reason.UNKNOWN_TICKET


# -- report ------------------------------------------------------------------------------------------------


async def test_bytes_are_in_the_peers_own_metrics_and_no_times_are(peer: DeployedPeer) -> None:
    """How long masking takes tells how busy training keeps the machine, past its deadline too."""
    for _ in range(2):
        request = pb.ReportRequest(bytes_in=100, bytes_out=40)
        await peer.app.Report(request, timeout=LONG_S)

    def value(name: str, **labels: str) -> float | None:
        found = {"mode": "seeded", **labels}
        return peer.metrics.registry.get_sample_value(f"smpcfl_{name}", found)

    assert value("bytes_total", direction="in", channel="flower") == 200
    assert value("bytes_total", direction="out", channel="flower") == 80
    names = {sample.name for family in peer.metrics.registry.collect() for sample in family.samples}
    assert not {name for name in names if "duration" in name}
