"""Calls with bad requests, by anybody, to the services of a live round."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from smpcfl.net import wire

from .budget import HANG_S, SEED
from .live import (
    OUTSIDER,
    REQUESTS,
    STREAMED,
    Aborted,
    Context,
    Live,
    aggregator_context,
    peer_context,
    streamed,
)
from .mutate import mutant
from .recorded import corpus, played

_TURNS = 4  # of the event loop; whoever has no reply by then waits, as it may


def of_corpus(methods: Mapping[str, Any], ticket_digest: bytes) -> dict[str, list[bytes]]:
    """The kept messages of another round, by method; as they are, and naming this ticket instead."""
    kept, other = corpus(), played().ticket.digest
    found = {method: kept.get(proto.DESCRIPTOR.name, []) for method, proto in methods.items()}
    return {
        method: messages
        + [
            raw.replace(other, ticket_digest).replace(wire.tag(other), wire.tag(ticket_digest))
            for raw in messages
        ]
        for method, messages in found.items()
    }


async def call(handle: Any, request: Any, context: Context, what: str) -> None:
    """AssertionError unless it ends as a call may: with a reply, a declared refusal, or waiting."""
    began = time.process_time()
    task = asyncio.ensure_future(_outcome(handle(request, context)))
    for _ in range(_TURNS):
        await asyncio.sleep(0)
        if task.done():
            break
    else:
        task.cancel()
        await asyncio.wait({task})
    error = None if task.cancelled() else task.exception()
    if error is not None and not (isinstance(error, Aborted) and error.declared):
        raise AssertionError(f"FUZZ_SEED={SEED}, {what}: {error!r}") from error
    assert time.process_time() - began < HANG_S, f"FUZZ_SEED={SEED}, {what}: it took too long"


async def _outcome(reply: Any) -> None:
    if hasattr(reply, "__aiter__"):
        async for _ in reply:
            pass
    else:
        await reply


async def bad_calls(
    rng: random.Random,
    count: int,
    services: Sequence[Any],
    methods: Mapping[str, Any],
    seeds: Mapping[str, list[bytes]],
    contexts: Sequence[Context],
    suited: Mapping[str, Sequence[Context]] | None = None,
    only: Collection[str] = (),
) -> int:
    """Calls `count` times; returns that. What is no message is refused before: here it only counts.

    Three of four callers are such that the method is meant for them, where `suited` says which; of the
    methods in `only` all are.
    """
    names = list(methods)
    for number in range(count):
        method = rng.choice(names)
        chunks = [
            mutant(rng, seeds.get(method, []), fields=True)
            for _ in range(rng.choice((0, 1, 1, 3)) if method in STREAMED else 1)
        ]
        try:
            requests = [methods[method].FromString(chunk) for chunk in chunks]
        except DecodeError:
            continue
        request = streamed(*requests) if method in STREAMED else requests[0]
        what = f"input {number}, {method} of {[chunk.hex() for chunk in chunks]}"
        fits = suited is not None and (method in only or rng.random() < 0.75)
        among = suited[method] if suited is not None and fits else contexts
        await call(getattr(rng.choice(services), method), request, rng.choice(among), what)
    return count


def anybody(live: Live) -> list[Context]:
    """Of all roles."""
    strangers = [
        Context(OUTSIDER),
        Context(),
        Context("x.peer.smpcfl", "y.peer.smpcfl"),
        Context("registry.registry.smpcfl"),
    ]
    return [*(peer_context(peer) for peer in live.peers), *strangers, aggregator_context()]


async def attack(
    live: Live,
    rng: random.Random,
    count: int,
    contexts: Sequence[Context] | None = None,
    *,
    own: Collection[str] = (),
) -> int:
    """By those with `contexts` alone, or by anybody.

    `own`: calls in which a peer's word for itself counts. They come from others than peers, as not all peers
    can lie and a round complete.
    """
    peers = [peer_context(peer) for peer in live.peers]
    suited = dict.fromkeys(REQUESTS, peers) | {"Unmask": [aggregator_context()]}
    suited |= {method: [aggregator_context(), Context(OUTSIDER)] for method in own}
    seeds = {
        method: kept + live.seen.get(method, [])[-6:]
        for method, kept in of_corpus(REQUESTS, live.ticket.digest).items()
    }
    services = list(live.services.values())
    if contexts is not None:
        return await bad_calls(rng, count, services, REQUESTS, seeds, contexts)
    return await bad_calls(rng, count, services, REQUESTS, seeds, anybody(live), suited, own)
