"""Who may run now: a bounded number of statements, a bounded queue behind them, a bounded wait."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from flightsql_server.errors import QueueFull, StatementTimeout
from flightsql_server.metrics import Metrics


@asynccontextmanager
async def timed(metrics: Metrics, seconds: float, hint: str, limit: str = "query.seconds") -> AsyncIterator[None]:
    """The block may take so many seconds; StatementTimeout, with the hint, when it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        metrics.limit(limit)
        metrics.statements_stopped.labels("timeout").inc()
        raise StatementTimeout(f"The statement took longer than {seconds:g} seconds.", hint=hint) from error


@dataclass(slots=True)
class _Turns:
    """The statements of one principal: how many run, and who waits, each with the number that may run beside it."""

    running: int = 0
    waiting: deque[tuple[asyncio.Future[None], int]] = field(default_factory=deque)

    def pass_on(self) -> None:
        """Lets those go on who wait and whose turn it is."""
        while self.waiting:
            turn, most = self.waiting[0]
            if not turn.done():
                if self.running >= most:
                    return
                self.running += 1
                turn.set_result(None)
            self.waiting.popleft()


class Admission:
    """Slots for statements that run or stream. Belongs to one event loop."""

    def __init__(self, metrics: Metrics, *, concurrent: int, queue: int, queue_seconds: float) -> None:
        self._metrics = metrics
        self._semaphore = asyncio.Semaphore(concurrent)
        self._queue = queue
        self._queue_seconds = queue_seconds
        self._waiting = 0
        self._turns: dict[str, _Turns] = {}

    @asynccontextmanager
    async def turn(self, principal: str, most: int) -> AsyncIterator[None]:
        """While the block runs it is one of the ``most`` statements that the principal may run; 0: any number.

        Those above it wait outside of the queue that all share, so that nobody fills it for others. QueueFull when as
        many of the principal wait as that queue holds, or the wait is too long.
        """
        turns = self._turns.setdefault(principal, _Turns())
        try:
            if most and (turns.running >= most or turns.waiting):
                await self._wait_for_turn(turns, most)
            else:
                turns.running += 1
            try:
                yield
            finally:
                turns.running -= 1
                turns.pass_on()
        finally:
            if not turns.running and not turns.waiting:
                self._turns.pop(principal, None)

    async def _wait_for_turn(self, turns: _Turns, most: int) -> None:
        if len(turns.waiting) >= self._queue:
            self._metrics.limit("role.concurrent")
            raise QueueFull(f"{most} of your statements run, and too many wait.", hint="Wait for one of them.")
        started = time.perf_counter()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        turns.waiting.append((turn, most))
        try:
            async with asyncio.timeout(self._queue_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                turns.running -= 1  # it was let go on just then
            turn.cancel()
            turns.pass_on()
            if isinstance(error, TimeoutError):
                self._metrics.limit("role.concurrent")
                raise QueueFull(
                    f"{most} statements of yours run, as many as your roles allow, and none has ended.",
                    hint="Read the results that are open to their end, or close them.",
                ) from error
            raise
        finally:
            self._metrics.stage_seconds.labels("queue").observe(time.perf_counter() - started)

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
