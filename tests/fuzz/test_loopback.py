"""Raw bytes to every method of a peer through real gRPC and TLS, during a round that then completes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from smpcfl.net import rpc, wire
from smpcfl.net.callers import Callers
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.ticket import SignedTicket
from support.deployed import Deployed

from .budget import SEED, TOTAL, rng_of
from .live import REQUESTS, UNLIMITED
from .mutate import mutant
from .onslaught import of_corpus

pytestmark = pytest.mark.sockets

COUNT = min(TOTAL // 100, 5000)  # each takes a millisecond
DECLARED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.DEADLINE_EXCEEDED)


async def test_raw_bytes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Five, of which one may be lost: an agreement that was made up in the name of the second peer stands with
    # the first one, which then lacks its true one.
    async with Deployed(tmp_path, 5, callers=Callers(UNLIMITED)) as net:
        signed, rng = net.make_ticket(), rng_of("loopback")
        seeds = of_corpus(REQUESTS, signed.ticket.digest)
        seeds["Offer"] = [*seeds["Offer"], wire.ticket_to_proto(signed).SerializeToString()]
        running = asyncio.create_task(_round(net, signed))
        channels = [net.channel(caller, 0) for caller in (net.peer(1).own, net.aggregator)]
        for number in range(COUNT):
            method = rng.choice(list(REQUESTS))
            data = mutant(rng, seeds[method], fields=True)
            try:
                await _call(rng.choice(channels), method, data)
            except grpc.aio.AioRpcError as error:
                if rpc.reason_of(error) is None and error.code() not in DECLARED:
                    what = f"FUZZ_SEED={SEED}, input {number}, {method} of {data.hex()}"
                    raise AssertionError(f"{what}: {error.code()} {error.details()}") from error
        assert await running == net.true_sum(net.cohort)
    assert "held back" not in caplog.text  # everything was looked at
    assert "Traceback" not in caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def _round(net: Deployed, signed: SignedTicket) -> RingVector:
    await net.begin(signed)
    await net.upload()
    return await net.finish()


async def _call(channel: grpc.aio.Channel, method: str, data: bytes, seconds: float = 0.5) -> None:
    path = f"/smpc.v1.Peer/{method}"
    if method == "Share":

        async def stream() -> AsyncIterator[bytes]:
            yield data

        try:
            await channel.stream_unary(path)(stream(), timeout=seconds)
        except asyncio.CancelledError:
            # gRPC cancels a stream of its own accord if the call ends while it is still being written.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
    else:
        await channel.unary_unary(path)(data, timeout=seconds)


async def test_what_is_no_message_is_refused_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Deployed(tmp_path, 3) as net:
        channel = net.channel(net.peer(1).own, 0)
        for method in REQUESTS:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _call(channel, method, b"\xff" * 10, 20.0)
            assert rpc.reason_of(caught.value) is Reason.MALFORMED
    assert "Traceback" not in caplog.text


async def test_a_request_larger_than_any_of_ours(tmp_path: Path) -> None:
    async with Deployed(tmp_path, 3) as net:
        channel = net.channel(net.peer(1).own, 0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _call(channel, "Ready", bytes(2 << 20), 20.0)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
