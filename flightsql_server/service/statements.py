"""From a prepared query to rows: run under a slot, a deadline and the limits.

A small result of versioned tables is kept as the bytes that went out, until one of its tables changes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import pyarrow as pa

from flightsql_server.errors import ResultTooLarge
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call, Engine, TableName
from flightsql_server.service import profiles
from flightsql_server.service.admission import Admission, timed
from flightsql_server.service.bounds import Bounds, StatementLimits, bounds
from flightsql_server.service.caches import BoundedCache, Encoded
from flightsql_server.service.catalog import CurrentCatalog
from flightsql_server.service.parameters import NOTHING, Bound
from flightsql_server.service.plans import Plans, Prepared
from flightsql_server.service.steps import settled

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
        self._newest: BoundedCache[tuple[tuple[object, ...], float]] = BoundedCache("newest", metrics, entries=newest)
        self._seconds = {stage: metrics.stage_seconds.labels(stage) for stage in ("first_rows", "stream")}

    async def run(
        self, call: Call, prepared: Prepared, make_encoder: EncoderFactory, send: Send, bound: Bound = NOTHING
    ) -> int:
        """Sends schema and rows through ``send``; gives the number of rows.

        The statement's seconds count until the last message is sent, so a reader that stalls is cut off as well. The
        statement is interrupted when this coroutine is cancelled or fails.
        """
        key = self._result_key(call, prepared, bound)
        role = prepared.grants.limits
        most = bounds(self._limits, role, call.options)
        if key is not None:
            kept = self._results.get(key) or self._stale(key, call.options.max_staleness_ms)
            if kept is not None:
                # It may have been made for somebody who is given more.
                most.check(self._metrics, kept.rows, sum(map(len, kept.messages)))
                for message in kept.messages:
                    await send(message)
                return kept.rows
        async with (
            timed(self._metrics, most.seconds, "Ask for less.", most.seconds_name),
            self._admission.turn(call.principal.name, role.concurrent),
            self._admission.slot(),
        ):
            return await self._run(call, prepared, make_encoder, send, key, bound, most)

    async def _run(
        self,
        call: Call,
        prepared: Prepared,
        make_encoder: EncoderFactory,
        send: Send,
        key: tuple[object, ...] | None,
        bound: Bound,
        most: Bounds,
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
                self._check_length(max(map(len, messages), default=0))
                most.check(self._metrics, running.rows, sent)
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
        await settled(step, running.cancel)
        running.close()

    def _check_length(self, longest: int) -> None:
        if longest > self._limits.row_bytes:
            self._metrics.limit("query.row_bytes")
            raise ResultTooLarge("A row of the result is too long to be sent.", hint="Select shorter values.")

    def _result_key(self, call: Call, prepared: Prepared, bound: Bound) -> tuple[object, ...] | None:
        """What the bytes of a result depend on; None when they depend on more than can be named."""
        plan = prepared.plan
        if plan.volatile or not self._limits.cached_result_bytes:
            return None
        versions = []
        for name in (*plan.tables, *plan.policy_tables):
            version = self._version(name)
            if version is None:
                return None
            versions.append(version)
        options = prepared.options
        # Schemas are equal that differ in metadata alone, so the profile counts as well.
        wire = (prepared.schema, call.wire_profile, call.compression)
        return (prepared.sql, options.time_zone, options.max_rows, *wire, bound.content, tuple(versions))

    def _version(self, name: TableName) -> int | None:
        table = self._catalog.current.tables.get(name)
        return self._versions.get(table.dataset) if table is not None and table.dataset is not None else None

    def _keep(self, key: tuple[object, ...], messages: list[bytes], rows: int) -> None:
        size = sum(map(len, messages))
        if size <= self._limits.cached_result_bytes:
            before = self._newest.put(key[:-1], (key, time.monotonic()))
            if before is not None and before[0] != key:
                self._results.discard(before[0])  # versions only rise: nobody asks for it again
            self._results.put(key, Encoded(tuple(messages), rows), size)

    def _stale(self, key: tuple[object, ...], max_staleness_ms: int) -> Encoded | None:
        """An answer of before the last change, if the session takes one so old."""
        found = self._newest.get(key[:-1]) if max_staleness_ms else None
        if found is None or (time.monotonic() - found[1]) * 1000 > max_staleness_ms:
            return None
        return self._results.get(found[0])

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
