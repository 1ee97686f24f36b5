"""Channels to peers: which address is called, and when another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc.aio
import pytest
import pytest_asyncio

from smpc.v1 import peer_pb2 as pb
from smpc.v1 import peer_pb2_grpc as pb_grpc
from smpcfl.net import rpc
from smpcfl.net.certificates import Role
from smpcfl.net.dial import NoAddress, PeerChannels
from support.enrolled import Deployment

pytestmark = pytest.mark.sockets

NOBODY = ["127.0.0.1:1", "127.0.0.1:2"]


class Answers(pb_grpc.PeerServicer):
    async def Identify(self, request: pb.Empty, context: object) -> pb.Certificate:
        return pb.Certificate(instance=b"here")


class Dialled:
    """Peer b really listens at `address`; where it is said to be, the test writes into `said`."""

    def __init__(self, channels: PeerChannels, said: list[str], address: str) -> None:
        self.channels, self.said, self.address = channels, said, address

    async def answers(self) -> bool:
        channel = self.channels.to("peer-b")
        try:
            await pb_grpc.PeerStub(channel).Identify(pb.Empty(), timeout=5)
        except grpc.aio.AioRpcError:
            return False
        return True


@pytest_asyncio.fixture
async def dialled(tmp_path: Path) -> AsyncIterator[Dialled]:
    deployment = Deployment(tmp_path)
    own, other = (deployment.identity(Role.PEER, name) for name in ("peer-a", "peer-b"))
    server, said = rpc.new_server(), list[str]()
    pb_grpc.add_PeerServicer_to_server(Answers(), server)
    port = rpc.bind(server, "127.0.0.1", 0, other.server_credentials(), "port")
    directory = SimpleNamespace(addresses=lambda peer: said)
    async with AsyncExitStack() as stack:
        await server.start()
        stack.push_async_callback(server.stop, 0)
        channels = PeerChannels(own, cast(Any, directory))
        stack.push_async_callback(channels.close_all)
        yield Dialled(channels, said, f"127.0.0.1:{port}")


async def test_every_address_is_tried(dialled: Dialled) -> None:
    dialled.said += [*NOBODY, dialled.address]
    for _ in NOBODY:
        assert not await dialled.answers()
        assert dialled.channels.failed("peer-b", dialled.channels.to("peer-b"))
    assert await dialled.answers()


async def test_after_all_have_failed_the_likeliest_is_next(dialled: Dialled) -> None:
    dialled.said += [dialled.address, *NOBODY]
    for more in (True, True, False) * 2:
        assert dialled.channels.failed("peer-b", dialled.channels.to("peer-b")) is more
    assert await dialled.answers()


async def test_a_channel_that_another_call_replaced_is_not_blamed(dialled: Dialled) -> None:
    dialled.said += [NOBODY[0], dialled.address]
    old = dialled.channels.to("peer-b")
    assert dialled.channels.failed("peer-b", old)
    new = dialled.channels.to("peer-b")
    assert dialled.channels.failed("peer-b", old)
    assert dialled.channels.to("peer-b") is new


async def test_a_peer_that_moved_is_called_where_it_is(dialled: Dialled) -> None:
    dialled.said[:] = NOBODY
    gone = dialled.channels.to("peer-b")
    dialled.said[:] = [dialled.address]
    assert dialled.channels.to("peer-b") is not gone
    assert await dialled.answers()


async def test_a_channel_is_kept(dialled: Dialled) -> None:
    dialled.said[:] = [dialled.address]
    assert dialled.channels.to("peer-b") is dialled.channels.to("peer-b")


async def test_a_peer_of_unknown_address_is_named(dialled: Dialled) -> None:
    with pytest.raises(NoAddress, match="no address of peer-b is known"):
        dialled.channels.to("peer-b")
