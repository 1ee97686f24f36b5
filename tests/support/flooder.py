"""A peer with a good certificate that calls the others as fast as it can, until its input ends.

python -m support.flooder FOLDER PEER=ADDRESS... ; FOLDER has its key, its certificate, ca.pem and a ticket.
Says `flooding` once it does, and at the end how many calls it made.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio

from smpc.v1 import messages_pb2 as messages
from smpc.v1 import peer_pb2 as pb
from smpc.v1 import peer_pb2_grpc as pb_grpc
from smpcfl.base.state import State
from smpcfl.net import certificates, wire
from smpcfl.net.certificates import Role, tls_name
from smpcfl.net.ready_wire import ready_to_proto
from smpcfl.protocol.messages import Ready
from smpcfl.protocol.receipts import Receipt

CHANNELS = 8  # connections to each of the others
UNDER_WAY = 1000  # calls
AT_A_TIME = 16  # calls on each
_CALL_S = 5.0


async def main(folder: Path, addresses: dict[str, str]) -> None:
    own = certificates.load(folder, certificates.load_ca(State(folder).ca))
    assert own is not None
    offer = messages.SignedTicket.FromString((folder / "ticket").read_bytes())
    channels = [
        grpc.aio.secure_channel(
            address,
            own.channel_credentials(),
            [
                ("grpc.ssl_target_name_override", tls_name(Role.PEER, peer)),
                ("grpc.use_local_subchannel_pool", 1),  # a connection of its own
            ],
        )
        for peer, address in addresses.items()
        for _ in range(CHANNELS)
    ]
    made = 0

    async def keep_calling(channel: grpc.aio.Channel, worker: int) -> None:
        nonlocal made
        calls = _calls(channel, offer)
        while True:
            with contextlib.suppress(grpc.RpcError):
                await calls[worker % len(calls)](made)
            made += 1
            if made == UNDER_WAY:
                print("flooding", flush=True)

    workers = [
        asyncio.create_task(keep_calling(channel, worker))
        for channel in channels
        for worker in range(AT_A_TIME)
    ]
    over = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    done, _ = await asyncio.wait({over, *workers}, return_when=asyncio.FIRST_COMPLETED)
    if over not in done:
        traceback.print_exception(done.pop().exception())
        sys.stderr.flush()
        os._exit(1)  # the thread that reads would wait on
    for task in workers:
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    print(made, flush=True)


def _calls(channel: grpc.aio.Channel, offer: messages.SignedTicket) -> list:  # type: ignore[type-arg]
    """Replays, what is not signed, what is no message, streams that never end, and calls half made."""
    stub = pb_grpc.PeerStub(channel)
    digest = wire.ticket_from_proto(offer).ticket.digest
    tag = wire.tag(digest)
    ready = ready_to_proto(Ready(digest, Receipt(0, 1, (0, 1, 2), bytes(64))))
    agreement = messages.Agreement(ticket=tag, survivors_digest=bytes(32), signature=bytes(64))
    raw = channel.unary_unary("/smpc.v1.Peer/Exchange")
    half = channel.stream_unary("/smpc.v1.Peer/Ready")  # a request that never comes

    async def endless() -> AsyncIterator[pb.ShareChunk]:
        yield pb.ShareChunk(ticket_digest=digest)
        await asyncio.Event().wait()

    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    return [
        lambda number: stub.Offer(offer, timeout=_CALL_S),
        lambda number: stub.Ready(ready, timeout=_CALL_S),
        lambda number: stub.Agree(agreement, timeout=_CALL_S),
        lambda number: raw(number.to_bytes(4, "big") * 100, timeout=_CALL_S),
        lambda number: stub.Identify(pb.Empty(), timeout=_CALL_S),
        lambda number: stub.Share(endless(), timeout=_CALL_S),
        lambda number: half(nothing(), timeout=_CALL_S),
    ]


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), dict(item.split("=") for item in sys.argv[2:])))
