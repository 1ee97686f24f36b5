"""What a service waits for."""

from __future__ import annotations

import asyncio

import pytest

from smpcfl.waiting import until_stop


async def wait_and_note(stop: asyncio.Event, seen: list[str]) -> None:
    await stop.wait()
    seen.append("ended in order")


async def test_a_task_that_fails_stops_the_service_with_its_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stop, seen = asyncio.Event(), list[str]()

    async def fail() -> None:
        raise RuntimeError("no such table")

    async def end() -> None: ...

    tasks = [asyncio.create_task(work) for work in (end(), wait_and_note(stop, seen), fail())]
    with pytest.raises(RuntimeError, match="no such table"):
        await until_stop(stop, tasks)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert seen == ["ended in order"]
    assert "fail failed, and so the service ends: RuntimeError('no such table')" in caplog.text


async def test_a_task_that_ends_does_not_stop_the_service() -> None:
    stop = asyncio.Event()

    async def end() -> None: ...

    waiting = asyncio.create_task(until_stop(stop, [asyncio.create_task(end())]))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    stop.set()
    await waiting
