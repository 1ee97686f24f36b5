"""The ClientApp's calls to its agent, over a Unix socket: what it gets, or says where it gets nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from smpc.v1 import local_pb2 as pb
from smpc.v1 import local_pb2_grpc as pb_grpc
from smpc.v1 import messages_pb2
from smpcfl.flower.client.agent_client import VARIABLE, AgentClient
from smpcfl.net import rpc
from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from smpcfl.protocol.masks import AdditiveMasks, SeededMasks

META = messages_pb2.UploadMeta(header=messages_pb2.Header(sender=3))
DIGEST = b"d" * 32
KEY = b"k" * 32


class Agent(pb_grpc.AgentServicer):
    """Answers as scripted; `refusal` is a reason and a text."""

    def __init__(self, socket: str) -> None:
        self.masks: list[pb.MasksChunk] = []
        self.asked: list[Any] = []
        self.refusal: tuple[str, str] | None = None
        self.server = grpc.server(futures.ThreadPoolExecutor(1))
        pb_grpc.add_AgentServicer_to_server(self, self.server)
        self.server.add_insecure_port(f"unix:{socket}")
        self.server.start()

    def Begin(self, request: pb.BeginRequest, context: grpc.ServicerContext) -> pb.BeginReply:
        if self.refusal is not None:
            reason, text = self.refusal
            context.set_trailing_metadata(((rpc._REASON, reason),))
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, text)
        self.asked.append(request)
        return pb.BeginReply(floor_ms=5)

    def Masks(self, request: pb.MasksRequest, context: Any) -> Iterator[pb.MasksChunk]:
        self.asked.append(request)
        yield from self.masks

    def Frozen(self, request: pb.FrozenRequest, context: Any) -> Iterator[pb.UploadChunk]:
        yield pb.UploadChunk(meta=META, vector=b"ab")
        yield pb.UploadChunk(vector=b"cd")

    def Freeze(self, requests: Iterator[pb.FreezeChunk], context: Any) -> pb.FreezeReply:
        self.asked = list(requests)
        return pb.FreezeReply(p2p_bytes=7)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    socket = str(tmp_path / "a.sock")
    monkeypatch.setenv(VARIABLE, socket)
    started = Agent(socket)
    yield started
    started.server.stop(None).wait()


def begin(client: AgentClient) -> pb.BeginReply:
    return client.begin(messages_pb2.SignedTicket(signature=b"s"), b"m", b"c", 9)


@pytest.mark.sockets
def test_a_round_is_begun_with_what_the_app_was_given(agent: Agent) -> None:
    with AgentClient() as client:
        assert begin(client).floor_ms == 5
    (request,) = agent.asked
    assert (request.ticket.signature, request.model_digest) == (b"s", b"m")
    assert (request.content_digest, request.flower_run) == (b"c", 9)


@pytest.mark.sockets
def test_the_masks_of_a_seeded_round_are_keys(agent: Agent) -> None:
    agent.masks = [pb.MasksChunk(meta=META, self_key=KEY, plus=[b"p" * 32], minus=[])]
    with AgentClient() as client:
        masks, meta = client.masks(DIGEST, 1500, "it diverged", "")
    assert isinstance(masks, SeededMasks)
    assert meta == META.SerializeToString()
    (request,) = agent.asked
    assert (request.ticket_digest, request.released_ms) == (DIGEST, 1500)
    assert request.failure == "it diverged"


@pytest.mark.sockets
def test_the_masks_of_an_additive_round_come_in_pieces(agent: Agent) -> None:
    agent.masks = [pb.MasksChunk(meta=META, vector=b"ab"), pb.MasksChunk(vector=b"cd")]
    with AgentClient() as client:
        masks, meta = client.masks(DIGEST, 1500, "", "no loss")
    assert masks == AdditiveMasks(b"abcd")
    assert meta == META.SerializeToString()


@pytest.mark.sockets
def test_an_upload_is_frozen_in_pieces_and_comes_back_whole(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "CHUNK_BYTES", 2)
    with AgentClient() as client:
        assert client.freeze(DIGEST, b"abcde") == 7
        assert client.frozen(DIGEST) == (META.SerializeToString(), b"abcd")
    assert [chunk.vector for chunk in agent.asked] == [b"ab", b"cd", b"e"]


@pytest.mark.sockets
def test_a_refusal_keeps_the_agents_reason_and_its_very_text(agent: Agent) -> None:
    """The aggregator reads how long to wait from it."""
    agent.refusal = ("too_many_tickets", "too_many_tickets: again in 5 s; expected <= 1")
    with pytest.raises(RemoteError) as error, AgentClient() as client:
        begin(client)
    assert error.value.reason is Reason.TOO_MANY_TICKETS
    assert str(error.value) == "too_many_tickets: again in 5 s; expected <= 1"


@pytest.mark.sockets
def test_what_grpc_says_of_a_failure_stays_in_the_peers_own_log(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    agent.refusal = ("no reason of ours", "4194305 bytes of 4194304")
    with pytest.raises(LocalError) as error, AgentClient() as client:
        begin(client)
    assert str(error.value) == "this peer's agent does not answer: its own log says why"
    assert "4194305 bytes" in caplog.text


@pytest.mark.sockets
def test_an_app_that_fails_is_not_blamed_on_the_agent(agent: Agent) -> None:
    with pytest.raises(ZeroDivisionError), AgentClient():
        raise ZeroDivisionError


def test_a_client_app_without_an_agent_says_how_to_have_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(LocalError, match=r"has no agent; start its SuperNode with `smpcfl peer`"):
        AgentClient()
