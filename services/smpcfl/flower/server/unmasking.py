"""Agree and unmask: asks every peer of the cohort until the sum can be unmasked."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import grpc
import grpc.aio

from smpc.v1 import messages_pb2 as pb
from smpc.v1 import peer_pb2_grpc as pb_grpc

from ...base.log_events import LogEvent, about
from ...base.state import State
from ...net import rpc, wire
from ...net.certificates import Identity
from ...net.dial import NoAddress, PeerChannels
from ...net.directory import Directory
from ...protocol.aggregator_round import AggregatorRound
from ...protocol.errors import Reason, RemoteError
from .peer_calls import PeerCalls

log = logging.getLogger("smpcfl.aggregator")
_RETRY_S = 1.0


class Unmasking:
    """For one cohort. Counts the bytes of the unmask channel, and what peers say of theirs.

    `refused` hears of each answer that is left out; `reasons` are those of peers that do not answer.
    """

    def __init__(
        self,
        own: Identity,
        registry: str,
        state: Path,
        refused: Callable[[RemoteError], None],
        calls: PeerCalls,
    ) -> None:
        self._own = own
        self._registry = registry
        self._cache = State(state).roster
        self._refused = refused
        self._peer_calls = calls
        self.bytes_in = 0
        self.bytes_out = 0
        self.p2p_bytes: dict[str, int] = {}
        self.reasons: Counter[Reason] = Counter()
        self.directory: Directory
        self._channels: PeerChannels

    async def __aenter__(self) -> Unmasking:
        # gRPC's channels belong to the running event loop.
        self.directory = Directory(self._own, self._registry, self._cache)
        self._channels = PeerChannels(self._own, self.directory)
        self._peer_calls.open(self.directory)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._peer_calls.look()
        await self._channels.close_all()
        await self.directory.close()
        self._peer_calls.close()

    def another(self) -> Unmasking:
        """For another group at the same time: with the same channels, and counts of its own."""
        other = Unmasking(self._own, self._registry, Path(), self._refused, self._peer_calls)
        other.directory, other._channels = self.directory, self._channels
        return other

    async def refresh(self) -> bool:
        """The registry's roster; the kept one, and False, if the registry is down."""
        try:
            await self.directory.lookup()
        except grpc.aio.AioRpcError as error:
            log.warning(
                "no registry (%s): using the roster kept from before",
                error.details(),
                extra=about(LogEvent.REGISTRY_AWAY),
            )
            return False
        return True

    async def run(self, state: AggregatorRound) -> None:
        """Until there are enough answers, or nobody is left to ask, or the unmask deadline."""
        deadlines = state.ticket.deadlines
        seconds = (deadlines.unmask - deadlines.upload) / 1000
        request = wire.survivors_to_proto(state.survivors(), state.ticket)
        asked = {
            asyncio.create_task(self._ask(state, request, peer)) for peer in state.ticket.cohort
        }
        latest = asyncio.get_running_loop().time() + seconds
        while asked and not state.enough():
            left = latest - asyncio.get_running_loop().time()
            if left <= 0:
                break
            done, asked = await asyncio.wait(
                asked, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    async def _ask(self, state: AggregatorRound, request: pb.Survivors, peer: str) -> None:
        seconds = (state.ticket.deadlines.unmask - state.ticket.deadlines.upload) / 1000
        while True:
            try:
                channel = self._channels.to(peer)
            except NoAddress as error:
                log.warning("%s", error, extra=about(LogEvent.NOT_UNMASKED, peer=peer))
                return
            try:
                self.bytes_out += rpc.size(request)
                with self._peer_calls.call("Unmask"):
                    reply = await pb_grpc.PeerStub(channel).Unmask(request, timeout=seconds)
                self.bytes_in += rpc.size(reply)
                self.p2p_bytes[peer] = reply.p2p_bytes
                state.answer(peer, wire.answer_from_proto(reply.answer))
                return
            except grpc.aio.AioRpcError as error:
                if (reason := rpc.reason_of(error)) is not None:
                    self.reasons[reason] += 1
                    log.warning(
                        "%s does not unmask: %s",
                        peer,
                        error.details(),
                        extra=about(LogEvent.NOT_UNMASKED, peer=peer),
                    )
                    return
                log.info(
                    "%s does not answer: %s",
                    peer,
                    error.details(),
                    extra=about(LogEvent.NOT_UNMASKED, peer=peer),
                )
                if not self._channels.failed(peer, channel):
                    await asyncio.sleep(_RETRY_S)
            except RemoteError as error:
                log.warning(
                    "the answer of %s is left out: %s",
                    peer,
                    error,
                    extra=about(LogEvent.NOT_UNMASKED, peer=peer),
                )
                self._refused(error)
                return
