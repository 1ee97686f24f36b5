"""How many calls one caller may make."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from smpcfl.net import callers
from smpcfl.net.callers import Allowance, Callers
from smpcfl.protocol.errors import Reason, RemoteError

ALLOWANCE = Allowance(in_flight=3, burst=10, per_second=2.0, pause_s=0.0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def admitted(callers: Callers, name: str, tries: int) -> int:
    count = 0
    for _ in range(tries):
        with contextlib.suppress(RemoteError):
            async with callers.admit(name):
                count += 1
    return count


async def test_a_burst_and_then_a_rate() -> None:
    clock = Clock()
    callers = Callers(ALLOWANCE, clock)
    assert await admitted(callers, "a", 100) == 10
    clock.now = 3.0
    assert await admitted(callers, "a", 100) == 6
    clock.now = 1000.0
    assert await admitted(callers, "a", 100) == 10


async def test_one_caller_takes_nothing_from_another() -> None:
    callers = Callers(ALLOWANCE, Clock())
    await admitted(callers, "a", 1000)
    assert await admitted(callers, "b", 5) == 5


async def test_calls_at_a_time() -> None:
    callers = Callers(ALLOWANCE, Clock())
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(callers.admit("a"))
        with pytest.raises(RemoteError) as caught:
            await stack.enter_async_context(callers.admit("a"))
        assert caught.value.reason is Reason.RATE_LIMITED
        await stack.enter_async_context(callers.admit("b"))
    assert await admitted(callers, "a", 1) == 1


async def test_a_call_that_fails_or_is_cancelled_is_over() -> None:
    callers = Callers(Allowance(in_flight=1, burst=100), Clock())
    for error in (ValueError, asyncio.CancelledError):
        with pytest.raises(error):
            async with callers.admit("a"):
                raise error
    assert await admitted(callers, "a", 1) == 1


async def test_whoever_calls_too_often_waits_for_the_refusal() -> None:
    callers = Callers(Allowance(burst=1, pause_s=60.0), Clock())
    assert await admitted(callers, "a", 1) == 1
    waiting = asyncio.create_task(admitted(callers, "a", 1))
    assert await admitted(callers, "b", 1) == 1
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait({waiting})


async def test_a_flood_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    callers = Callers(ALLOWANCE, clock)
    await admitted(callers, "a", 1000)
    assert caplog.text.count("a calls too often") == 1
    clock.now = 100.0
    await admitted(callers, "a", 1000)
    assert caplog.text.count("a calls too often") == 2


async def test_only_so_many_callers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "_KEPT", 5)
    clock = Clock()
    found = Callers(ALLOWANCE, clock)
    for number in range(5):
        await admitted(found, f"peer-{number}", 10)
    clock.now = 4.0
    await admitted(found, "peer-0", 10)
    clock.now = 8.0
    assert await admitted(found, "peer-5", 10) == 10
    assert set(found._callers) == {"peer-0", "peer-5"}
    assert await admitted(found, "peer-0", 10) == 8
