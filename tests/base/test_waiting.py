"""What a service waits for."""

from __future__ import annotations

import asyncio

import pytest

from smpcfl.base.waiting import Reminder, or_stop, until_stop


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


async def test_a_stop_ends_work_that_has_not_come_to_its_end() -> None:
    stop, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.create_task(or_stop(stop, work()))
    await asyncio.sleep(0)
    stop.set()
    assert await waiting is None
    assert ended.is_set()


async def test_work_that_ends_before_the_stop_gives_its_result_or_its_error() -> None:
    async def work(error: Exception | None) -> int:
        if error:
            raise error
        return 3

    assert await or_stop(asyncio.Event(), work(None)) == 3
    with pytest.raises(ValueError, match="no"):
        await or_stop(asyncio.Event(), work(ValueError("no")))


def test_a_reminder_is_due_at_once_and_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([1000.0, 1005.0, 1009.9, 1010.0, 1012.0])
    monkeypatch.setattr("smpcfl.base.waiting.time.monotonic", lambda: next(now))
    reminder = Reminder()
    assert [reminder.is_due() for _ in range(5)] == [True, False, False, True, False]
