"""Steps that block, in worker threads, for callers who may be cancelled at any wait, and more than once.

A client leaves, a time is over, a session is ended, the server stops: each cancels the task that serves a call, and one
may come while the task still cleans up after the other. What the engine has opened is closed all the same, and not
before its worker has left it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

_INTERRUPT_SECONDS = 0.05


class Closable(Protocol):
    """What has to be closed by who made it."""

    def close(self) -> None: ...


T = TypeVar("T")
C = TypeVar("C", bound=Closable)


async def settled(running: asyncio.Future[Any], interrupt: Callable[[], None]) -> None:
    """Until a worker's step is over, which is interrupted again and again: one interrupt may come too early.

    Who is cancelled here waits on, and hears of it at the next wait: what stands between may close what the step used.
    What the step raised counts as seen.
    """
    running.add_done_callback(_seen)
    cancelled = False
    while not running.done():
        interrupt()
        try:
            await asyncio.wait([running], timeout=_INTERRUPT_SECONDS)
        except asyncio.CancelledError:
            cancelled = True
    task = asyncio.current_task()
    if cancelled and task is not None:
        task.uncancel()  # it was counted when it came
        task.cancel()


def _seen(running: asyncio.Future[Any]) -> None:
    if not running.cancelled():
        running.exception()


async def step(
    pool: ThreadPoolExecutor, interrupt: Callable[[], None], work: Callable[..., T], *arguments: object
) -> T:
    """What the work gives. Who is cancelled meanwhile leaves when no worker is in it any more."""
    running = asyncio.get_running_loop().run_in_executor(pool, work, *arguments)
    try:
        # Shielded, for cancelling the future would hide that its worker is still at it.
        return await asyncio.shield(running)
    finally:
        await settled(running, interrupt)


async def opened(pool: ThreadPoolExecutor, make: Callable[..., C], *arguments: object) -> C:
    """What ``make`` gives, which its caller closes; if that is gone by then, it is closed here."""
    return await taken(pool.submit(make, *arguments))


async def taken(making: Future[C]) -> C:
    """What another thread makes, for its caller to close; if that is gone by then, it is closed here."""
    try:
        return await asyncio.wrap_future(making)
    except asyncio.CancelledError:
        making.add_done_callback(_close_unwanted)
        raise


def _close_unwanted(made: Future[C]) -> None:
    if not made.cancelled() and made.exception() is None:
        made.result().close()


async def closed(pool: ThreadPoolExecutor, close: Callable[[], None]) -> None:
    """Closes in a worker thread, also for one who is cancelled."""
    await asyncio.shield(asyncio.get_running_loop().run_in_executor(pool, close))
