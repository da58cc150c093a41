"""From a prepared query to rows: run under a slot, a deadline and the limits.

A small result of versioned tables is kept as the bytes that went out, until one of its tables changes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import pyarrow as pa

from flightsql_server.errors import ResultTooLarge
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call, Engine, TableName
from flightsql_server.service import profiles
from flightsql_server.service.admission import Admission, timed
from flightsql_server.service.caches import BoundedCache, Encoded
from flightsql_server.service.catalog import CurrentCatalog
from flightsql_server.service.parameters import NOTHING, Bound
from flightsql_server.service.plans import Plans, Prepared

log = logging.getLogger(__name__)
T = TypeVar("T")

# The first step of a statement goes on until it has so much: a small result then takes one hop to a worker thread.
_FIRST_STEP_BYTES = 256 * 1024


class Encoder(Protocol):
    """Batches of one schema → serialised messages; the wire's room brings it."""

    def schema_message(self) -> bytes: ...
    def encode(self, batch: pa.RecordBatch) -> Iterator[bytes]: ...


EncoderFactory = Callable[[pa.Schema, str | None], Encoder]
Send = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class StatementLimits:
    """See the ``query`` and ``cache`` sections of the settings; 0 rows or bytes: no limit."""

    seconds: float = 600.0
    result_rows: int = 0
    result_bytes: int = 0
    row_bytes: int = 64 * 1024 * 1024
    cached_result_bytes: int = 256 * 1024


class Statements:
    """The statements' room. Its coroutines belong to one event loop; engine work goes to ``pool``.

    ``versions`` gives the number of the last commit of each dataset, and is read anew for each look-up.
    """

    def __init__(
        self,
        engine: Engine,
        catalog: CurrentCatalog,
        plans: Plans,
        pool: ThreadPoolExecutor,
        admission: Admission,
        metrics: Metrics,
        versions: Mapping[str, int],
        *,
        limits: StatementLimits,
        results: BoundedCache[Encoded],
        newest: int = 1_000,
    ) -> None:
        self._engine = engine
        self._catalog = catalog
        self.prepare = plans.prepare
        self._pool = pool
        self._admission = admission
        self._metrics = metrics
        self._versions = versions
        self._limits = limits
        self._results = results
        # The newest answer to each question, whatever has changed since: for sessions that take one of a certain age.
        self._newest: BoundedCache[tuple[Encoded, float]] = BoundedCache("newest", metrics, entries=newest)
        self._seconds = {stage: metrics.stage_seconds.labels(stage) for stage in ("first_rows", "stream")}

    async def run(
        self, call: Call, prepared: Prepared, make_encoder: EncoderFactory, send: Send, bound: Bound = NOTHING
    ) -> int:
        """Sends schema and rows through ``send``; gives the number of rows.

        The statement's seconds count until the last message is sent, so a reader that stalls is cut off as well. The
        statement is interrupted when this coroutine is cancelled or fails.
        """
        key = self._result_key(prepared, call.compression, bound)
        if key is not None:
            kept = self._results.get(key) or self._stale(key, call.options.max_staleness_ms)
            if kept is not None:
                for message in kept.messages:
                    await send(message)
                return kept.rows
        seconds = min(self._limits.seconds, call.options.statement_timeout_seconds or self._limits.seconds)
        try:
            async with timed(self._metrics, seconds, "Ask for less."), self._admission.slot():
                return await self._run(call, prepared, make_encoder, send, key, bound)
        except asyncio.CancelledError:
            self._metrics.statements_stopped.labels("client_gone").inc()
            raise

    async def _run(
        self,
        call: Call,
        prepared: Prepared,
        make_encoder: EncoderFactory,
        send: Send,
        key: tuple[object, ...] | None,
        bound: Bound,
    ) -> int:
        running = _Running(self._engine, prepared, bound, make_encoder(prepared.schema, call.compression))
        started = time.perf_counter()
        step = self._submit(running.first)
        sent = 0
        try:
            # Shielded, for cancelling the future would hide that its worker is still in the statement.
            messages = await asyncio.shield(step)
            self._seconds["first_rows"].observe(time.perf_counter() - started)
            if running.ended and key is not None:
                self._keep(key, messages, running.rows)
            while True:
                sent += sum(map(len, messages))
                self._check_size(running.rows, sent, max(map(len, messages), default=0))
                # The next rows are made while these are on their way.
                last = running.ended
                if not last:
                    step = self._submit(running.next)
                for message in messages:
                    await send(message)
                if last:
                    break
                messages = await asyncio.shield(step)
            self._seconds["stream"].observe(time.perf_counter() - started)
            if call.compression and running.saved_bytes > 0:
                self._metrics.saved_bytes.labels(call.compression).inc(running.saved_bytes)
            return running.rows
        finally:
            await self._stop(running, step)

    async def _stop(self, running: _Running, step: asyncio.Future[list[bytes]]) -> None:
        """Ends the statement; while a worker is in it, interrupts until the worker comes back."""
        while not step.done():
            running.cancel()
            await asyncio.wait([step], timeout=0.05)
        running.close()
        if not step.cancelled():
            step.exception()

    def _check_size(self, rows: int, sent: int, longest: int) -> None:
        if longest > self._limits.row_bytes:
            self._metrics.limit("query.row_bytes")
            raise ResultTooLarge("A row of the result is too long to be sent.", hint="Select shorter values.")
        if self._limits.result_rows and rows > self._limits.result_rows:
            self._metrics.limit("query.result_rows")
            raise ResultTooLarge(f"The result has more than {self._limits.result_rows} rows.", hint="Add a LIMIT.")
        if self._limits.result_bytes and sent > self._limits.result_bytes:
            self._metrics.limit("query.result_bytes")
            raise ResultTooLarge(f"The result has more than {self._limits.result_bytes} bytes.", hint="Ask for less.")

    def _result_key(self, prepared: Prepared, compression: str | None, bound: Bound) -> tuple[object, ...] | None:
        """What the bytes of a result depend on; None when they depend on more than can be named."""
        plan = prepared.plan
        if plan.volatile or not self._limits.cached_result_bytes:
            return None
        versions = []
        for name in plan.tables:
            version = self._version(name)
            if version is None:
                return None
            versions.append(version)
        options = prepared.options
        question = (prepared.sql, options.time_zone, options.max_rows, prepared.schema, compression, bound.content)
        return (*question, tuple(versions))

    def _version(self, name: TableName) -> int | None:
        table = self._catalog.current.tables.get(name)
        return self._versions.get(table.dataset) if table is not None and table.dataset is not None else None

    def _keep(self, key: tuple[object, ...], messages: list[bytes], rows: int) -> None:
        size = sum(map(len, messages))
        if size <= self._limits.cached_result_bytes:
            encoded = Encoded(tuple(messages), rows)
            self._results.put(key, encoded, size)
            self._newest.put(key[:-1], (encoded, time.monotonic()))

    def _stale(self, key: tuple[object, ...], max_staleness_ms: int) -> Encoded | None:
        """An answer of before the last change, if the session takes one so old."""
        found = self._newest.get(key[:-1]) if max_staleness_ms else None
        if found is None or (time.monotonic() - found[1]) * 1000 > max_staleness_ms:
            return None
        return found[0]

    def _submit(self, work: Callable[[], list[bytes]]) -> asyncio.Future[list[bytes]]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work)


class _Running:
    """One statement in the hands of the worker threads, one at a time. ``ended``: the last row has been read."""

    def __init__(self, engine: Engine, prepared: Prepared, bound: Bound, encoder: Encoder) -> None:
        self._prepared = prepared
        self._encoder = encoder
        self._stream = engine.open(prepared.sql, prepared.options, prepared.batch_rows, bound.values)
        self.rows = 0
        self.saved_bytes = 0
        self.ended = False

    def first(self) -> list[bytes]:
        """Schema and first rows, until they are worth a step of their own or the result has ended."""
        messages = [self._encoder.schema_message()]
        size = 0
        while not self.ended and size < _FIRST_STEP_BYTES:
            more = self.next()
            size += sum(map(len, more))
            messages += more
        return messages

    def next(self) -> list[bytes]:
        """The next batch's messages; empty at the end."""
        batch = self._stream.read()
        most = self._prepared.options.max_rows
        if batch is not None and most:
            batch = batch.slice(0, most - self.rows)
        if batch is None or (most and self.rows >= most):
            self.ended = True
            return []
        self.rows += batch.num_rows
        if self._prepared.cast:
            batch = profiles.in_profile(batch, self._prepared.schema)
        messages = list(self._encoder.encode(batch))
        self.saved_bytes += batch.nbytes - sum(map(len, messages))
        return messages

    def cancel(self) -> None:
        self._stream.cancel()

    def close(self) -> None:
        self._stream.close()
