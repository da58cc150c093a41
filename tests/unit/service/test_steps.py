"""A caller may be cancelled twice: what the engine opened is closed, and never while a worker is in it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor

import pytest

from flightsql_server.service.steps import closed, opened, settled, step


class Statement:
    """Reads until it is interrupted, and then a little longer."""

    def __init__(self) -> None:
        self.begun, self.interrupted, self.may_end = threading.Event(), threading.Event(), threading.Event()
        self.reading = self.closed = False

    def read(self) -> str:
        self.reading = True
        self.begun.set()
        assert self.interrupted.wait(10)
        assert self.may_end.wait(10)
        self.reading = False
        return "rows"

    def cancel(self) -> None:
        self.interrupted.set()

    def close(self) -> None:
        assert not self.reading, "a worker is in it"
        self.closed = True


async def _cancelled_twice(task: asyncio.Task[None], statement: Statement) -> None:
    await asyncio.to_thread(statement.begun.wait)
    task.cancel()
    await asyncio.to_thread(statement.interrupted.wait)
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done(), "it waits for the worker"
    statement.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _main(serve: Callable[[], Coroutine[None, None, None]], statement: Statement) -> None:
    await _cancelled_twice(asyncio.create_task(serve()), statement)


def test_what_a_step_used_is_closed_after_it_by_one_who_is_cancelled_twice() -> None:
    statement = Statement()

    async def serve() -> None:
        try:
            await step(pool, statement.cancel, statement.read)
        finally:
            await closed(pool, statement.close)

    with ThreadPoolExecutor(2) as pool:
        asyncio.run(asyncio.wait_for(_main(serve, statement), 20))
    assert statement.closed


def test_a_second_cancelling_is_heard_of_after_the_cleaning() -> None:
    """One who has an answer to give in spite of a first cancelling still learns of the second."""
    statement, cleaned = Statement(), []

    async def serve() -> None:
        running = asyncio.get_running_loop().run_in_executor(pool, statement.read)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.shield(running)
        await settled(running, statement.cancel)
        cleaned.append(running.result())
        await asyncio.sleep(10)

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(asyncio.wait_for(_main(serve, statement), 20))
    assert cleaned == ["rows"]


def test_a_time_limit_during_a_cleaning_is_still_a_time_limit() -> None:
    statement = Statement()

    async def serve() -> None:
        running = asyncio.get_running_loop().run_in_executor(pool, statement.read)
        async with asyncio.timeout(0.1):
            asyncio.get_running_loop().call_later(0.3, statement.may_end.set)
            await settled(running, statement.cancel)
            await asyncio.sleep(10)

    with ThreadPoolExecutor(1) as pool, pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(serve(), 20))


def test_what_comes_to_be_after_its_caller_has_gone_is_closed() -> None:
    statement, may_begin = Statement(), threading.Event()

    def make() -> Statement:
        statement.begun.set()
        assert may_begin.wait(10)
        return statement

    async def main() -> None:
        task = asyncio.create_task(opened(pool, make))
        await asyncio.to_thread(statement.begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not statement.closed
        may_begin.set()

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(asyncio.wait_for(main(), 20))
    assert statement.closed
