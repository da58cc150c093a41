"""The threads that change something for callers, and how long each caller may keep one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from flightsql_auth.limits import Limits

from flightsql_server.errors import DiskFull
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call, UserTransaction
from flightsql_server.service.admission import Admission, timed
from flightsql_server.service.bounds import Bounds, StatementLimits, bounds
from flightsql_server.service.steps import settled

T = TypeVar("T")
_DISK_CHECK_SECONDS = 0.25


class Workers:
    """Steps of a change go to the pool's threads, watched from the event loop that this belongs to."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        admission: Admission,
        metrics: Metrics,
        limits: StatementLimits,
        has_disk: Callable[[], bool],
    ) -> None:
        """``has_disk`` tells whether the disk has more free than is kept in reserve."""
        self._pool = pool
        self._admission = admission
        self._metrics = metrics
        self._limits = limits
        self._has_disk = has_disk
        self.slot = admission.slot

    @asynccontextmanager
    async def within(self, call: Call, limits: Limits) -> AsyncIterator[Bounds]:
        """Holds one of the caller's turns for the block, which may take as long as a statement may."""
        most = bounds(self._limits, limits, call.options)
        async with (
            timed(self._metrics, most.seconds, "Change less at a time.", most.seconds_name),
            self._admission.turn(call.principal.name, limits.concurrent),
        ):
            yield most

    async def watched(self, work: UserTransaction, step: Callable[[], T]) -> T:
        """Runs the step in a worker thread; when this task is cancelled the engine is interrupted until it is back.

        So it is when what it writes takes the disk's reserve: DiskFull.
        """
        self._check_disk()
        running = asyncio.get_running_loop().run_in_executor(self._pool, step)
        try:
            while not running.done():
                await asyncio.wait([running], timeout=_DISK_CHECK_SECONDS)
                if not running.done():
                    self._check_disk()
            return running.result()
        finally:
            await settled(running, work.cancel)

    def _check_disk(self) -> None:
        if not self._has_disk():
            self._metrics.limit("ingest.reserve_bytes")
            raise DiskFull("The server's disk is nearly full.", hint="Try again when there is room.")

    async def in_pool(self, step: Callable[[], T]) -> T:
        """Runs the step in a worker thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, step)
