"""Who may run now: a bounded number of statements, a bounded queue behind them, a bounded wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from flightsql_server.errors import QueueFull, StatementTimeout
from flightsql_server.metrics import Metrics


@asynccontextmanager
async def timed(metrics: Metrics, seconds: float, hint: str) -> AsyncIterator[None]:
    """The block may take so many seconds; StatementTimeout, with the hint, when it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        metrics.limit("query.seconds")
        metrics.statements_stopped.labels("timeout").inc()
        raise StatementTimeout(f"The statement took longer than {seconds:g} seconds.", hint=hint) from error


class Admission:
    """Slots for statements that run or stream. Belongs to one event loop."""

    def __init__(self, metrics: Metrics, *, concurrent: int, queue: int, queue_seconds: float) -> None:
        self._metrics = metrics
        self._semaphore = asyncio.Semaphore(concurrent)
        self._queue = queue
        self._queue_seconds = queue_seconds
        self._waiting = 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Holds a slot for the block; QueueFull when the queue is full or the wait too long."""
        if self._semaphore.locked():
            await self._wait()
        else:
            await self._semaphore.acquire()
        self._metrics.queries_running.inc()
        try:
            yield
        finally:
            self._metrics.queries_running.dec()
            self._semaphore.release()

    async def _wait(self) -> None:
        if self._waiting >= self._queue:
            self._metrics.limit("query.queue")
            raise QueueFull("Too many statements are waiting already.", hint="Try again in a moment.")
        started = time.perf_counter()
        self._waiting += 1
        self._metrics.queries_waiting.set(self._waiting)
        try:
            await asyncio.wait_for(self._semaphore.acquire(), self._queue_seconds)
        except TimeoutError as error:
            self._metrics.limit("query.queue_seconds")
            raise QueueFull("The statement waited too long for its turn.", hint="Try again in a moment.") from error
        finally:
            self._waiting -= 1
            self._metrics.queries_waiting.set(self._waiting)
            self._metrics.stage_seconds.labels("queue").observe(time.perf_counter() - started)
