"""From SQL text to rows: plan, describe, check, cache; then run under a slot, a deadline and the limits.

The planner says what may run; the engine says what it would read, and the two must agree. Plan and schema are kept
together. A small result of versioned tables is kept as the bytes that went out, until one of its tables changes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import pyarrow as pa
from flightsql_auth.policies import Policies

from flightsql_server import planner
from flightsql_server.errors import InternalError, ResultTooLarge, StatementTimeout, UserError
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call, Catalog, Engine, Plan, SessionOptions, TableName
from flightsql_server.service import profiles, templates
from flightsql_server.service.admission import Admission
from flightsql_server.service.caches import BoundedCache, Encoded
from flightsql_server.service.parameters import NOTHING, Bound

log = logging.getLogger(__name__)
T = TypeVar("T")

# The first step of a statement goes on until it has so much: a small result then takes one hop to a worker thread.
_FIRST_STEP_BYTES = 256 * 1024
_BATCH_BYTES = 3_900_000
_ROW_GROUP = 122_880
_PARTS = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60)


class Encoder(Protocol):
    """Batches of one schema → serialised messages; the wire's room brings it."""

    def schema_message(self) -> bytes: ...
    def encode(self, batch: pa.RecordBatch) -> Iterator[bytes]: ...


EncoderFactory = Callable[[pa.Schema, str | None], Encoder]
Send = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that is ready to run: what it reads, the SQL that runs, the schema that is sent."""

    plan: Plan
    sql: str
    schema: pa.Schema
    cast: bool
    batch_rows: int
    options: SessionOptions


@dataclass(frozen=True, slots=True)
class Family:
    """The texts of one shape: the literals of the one that was planned last, which of them are free, its template."""

    values: tuple[str, ...]
    free: tuple[int, ...]
    prepared: Prepared
    template: templates.Template | None = None

    def fits(self, shape: templates.Shape) -> bool:
        """Whether the shape's text differs from the one that was planned in free values only."""
        return all(
            mine == other or slot in self.free
            for slot, (mine, other) in enumerate(zip(self.values, shape.values, strict=True))
        )


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
        catalog: Catalog,
        policies: Policies,
        pool: ThreadPoolExecutor,
        admission: Admission,
        metrics: Metrics,
        versions: Mapping[str, int],
        *,
        server_version: str,
        planner_limits: planner.PlannerLimits,
        limits: StatementLimits,
        plans: BoundedCache[Prepared],
        shapes: BoundedCache[Family],
        results: BoundedCache[Encoded],
    ) -> None:
        self._engine = engine
        self._catalog = catalog
        self._policies = policies
        self._pool = pool
        self._admission = admission
        self._metrics = metrics
        self._versions = versions
        self._server_version = server_version
        self._planner_limits = planner_limits
        self._limits = limits
        self._plans = plans
        self._shapes = shapes
        self._marks = templates.Marks()
        self._results = results
        self._seconds = {
            stage: metrics.stage_seconds.labels(stage) for stage in ("plan", "describe", "first_rows", "stream")
        }

    @property
    def catalog(self) -> Catalog:
        """The catalog as it is now."""
        return self._catalog

    async def prepare(self, call: Call, text: str, parameters: tuple[pa.DataType, ...] | None = None) -> Prepared:
        """The statement, planned for this caller and described by the engine; raises the error family.

        ``parameters`` are the types of the values that are bound; None: none are yet, and types are guessed.
        A plan that was made before for the same text, rights and settings is used again, without leaving the loop.
        """
        grants = self._policies.grants(call.principal.roles)
        key = (
            text,
            call.dialect,
            call.options.schema,
            call.options.time_zone,
            call.wire_profile,
            call.principal.name,
            grants,
            self._policies.version,
            self._catalog.version,
            parameters,
        )
        found = self._plans.get(key)
        if found is not None:
            return found
        shape = templates.shape_of(text) if len(text) <= self._planner_limits.sql_bytes else None
        if shape is not None:
            found = self._fill(shape, key[1:])
        if found is None:
            request = planner.Request(
                text=text,
                dialect=call.dialect,
                principal_name=call.principal.name,
                grants=grants,
                catalog=self._catalog,
                schema=call.options.schema or "main",
                time_zone=call.options.time_zone,
                server_version=self._server_version,
                backend_dialect=self._engine.capabilities.dialect,
                parameters=parameters,
            )
            found = await self._in_pool(lambda: self._prepare(request, call))
            if shape is not None and found.plan.values:
                await self._learn(shape, key[1:], request, call, found)
        self._plans.put(key, found)
        return found

    def _fill(self, shape: templates.Shape, rights: tuple[Hashable, ...]) -> Prepared | None:
        """The statement from the template of its shape, where there is one for its other literals."""
        family = self._shapes.get((shape.pieces, rights))
        if family is None or family.template is None or not family.fits(shape):
            return None
        return replace(family.prepared, sql=family.template.fill(shape.values))

    async def _learn(
        self,
        shape: templates.Shape,
        rights: tuple[Hashable, ...],
        request: planner.Request,
        call: Call,
        found: Prepared,
    ) -> None:
        """Remembers the shape; when it comes a second time with other values, makes its template."""
        key = (shape.pieces, rights)
        free = tuple(slot for slot, value in enumerate(shape.values) if value in found.plan.values)
        family = Family(shape.values, free, found)
        known = self._shapes.get(key)
        if known is not None and known.fits(shape) and known.template is None:
            template = await self._in_pool(lambda: self._template(shape, free, request, call, found))
            family = replace(family, template=template)
        self._shapes.put(key, family)

    def _template(
        self, shape: templates.Shape, free: tuple[int, ...], request: planner.Request, call: Call, found: Prepared
    ) -> templates.Template | None:
        """Plans the text with marks for its values; None unless that gives the very plan found, once filled in."""
        values = tuple(self._marks.mark(slot) if slot in free else text for slot, text in enumerate(shape.values))
        try:
            plan = planner.plan(replace(request, text=shape.with_values(values)), self._planner_limits)
        except UserError:
            return None
        cut = self._marks.cut(profiles.wrap_sql(call.wire_profile, plan.sql, found.schema), free)
        if cut is None or (plan.tables, plan.volatile) != (found.plan.tables, found.plan.volatile):
            return None
        template = templates.Template(*cut)
        return template if template.fill(shape.values) == found.sql else None

    def _prepare(self, request: planner.Request, call: Call) -> Prepared:
        started = time.perf_counter()
        plan = planner.plan(request, self._planner_limits)
        planned = time.perf_counter()
        self._check_tables(plan)
        schema = self._engine.describe(plan.sql, call.options)
        sql = profiles.wrap_sql(call.wire_profile, plan.sql, schema)
        if sql is not plan.sql:
            schema = self._engine.describe(sql, call.options)
        wire = profiles.wire_schema(call.wire_profile, schema)
        self._seconds["plan"].observe(planned - started)
        self._seconds["describe"].observe(time.perf_counter() - planned)
        return Prepared(plan, sql, wire, not wire.equals(schema), _batch_rows(wire), call.options)

    def _check_tables(self, plan: Plan) -> None:
        """Stops a statement that reads what the planner did not allow: a defect of ours, never the user's fault."""
        seen = [self._catalog.tables[name] for name in plan.tables if name in self._catalog.tables]
        surplus = [
            name
            for name in self._engine.tables_of(plan.sql) - frozenset(plan.tables)
            if not any(table.is_part(name) for table in seen)
        ]
        if surplus:
            log.error("the engine reads %s, which the planner did not see", sorted(map(str, surplus)))
            raise InternalError()

    async def run(
        self, call: Call, prepared: Prepared, make_encoder: EncoderFactory, send: Send, bound: Bound = NOTHING
    ) -> int:
        """Sends schema and rows through ``send``; gives the number of rows.

        The statement's seconds count until the last message is sent, so a reader that stalls is cut off as well. The
        statement is interrupted when this coroutine is cancelled or fails.
        """
        key = self._result_key(prepared, call.compression, bound)
        if key is not None:
            kept = self._results.get(key)
            if kept is not None:
                for message in kept.messages:
                    await send(message)
                return kept.rows
        try:
            async with asyncio.timeout(self._limits.seconds), self._admission.slot():
                return await self._run(call, prepared, make_encoder, send, key, bound)
        except TimeoutError as error:
            self._metrics.limit("query.seconds")
            self._metrics.statements_stopped.labels("timeout").inc()
            raise StatementTimeout(
                f"The statement took longer than {self._limits.seconds:g} seconds.", hint="Ask for less."
            ) from error
        except asyncio.CancelledError:
            self._metrics.statements_stopped.labels("client_gone").inc()
            raise

    async def _run(
        self,
        call: Call,
        prepared: Prepared,
        make_encoder: EncoderFactory,
        send: Send,
        key: object | None,
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
        return (prepared.sql, prepared.options.time_zone, prepared.schema, compression, bound.content, tuple(versions))

    def _version(self, name: TableName) -> int | None:
        table = self._catalog.tables.get(name)
        return self._versions.get(table.dataset) if table is not None and table.dataset is not None else None

    def _keep(self, key: object, messages: list[bytes], rows: int) -> None:
        size = sum(map(len, messages))
        if size <= self._limits.cached_result_bytes:
            self._results.put(key, Encoded(tuple(messages), rows), size)

    def _submit(self, work: Callable[[], list[bytes]]) -> asyncio.Future[list[bytes]]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


class _Running:
    """One statement in the hands of the worker threads, one at a time. ``ended``: the last row has been read."""

    def __init__(self, engine: Engine, prepared: Prepared, bound: Bound, encoder: Encoder) -> None:
        self._prepared = prepared
        self._encoder = encoder
        self._stream = engine.open(prepared.sql, prepared.options, prepared.batch_rows, bound.values)
        self.rows = 0
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
        if batch is None:
            self.ended = True
            return []
        self.rows += batch.num_rows
        if self._prepared.cast:
            batch = batch.cast(self._prepared.schema)
        return list(self._encoder.encode(batch))

    def cancel(self) -> None:
        self._stream.cancel()

    def close(self) -> None:
        self._stream.close()


def _batch_rows(schema: pa.Schema) -> int:
    """Rows of a batch that will come close to the largest message; strings are taken for 16 bytes on average.

    Batches end where the engine's row groups end, so the row group is divided into equal parts.
    """
    width = sum(field.type.bit_width / 8 if _is_fixed(field.type) else 20 for field in schema)
    parts = next((n for n in _PARTS if width * _ROW_GROUP / n <= _BATCH_BYTES), _PARTS[-1])
    return _ROW_GROUP // parts


def _is_fixed(type_: pa.DataType) -> bool:
    try:
        return bool(type_.bit_width)
    except ValueError:
        return False
