"""From SQL text to a statement that is ready to run: plan, check, describe; and what is remembered of that.

The planner says what may run; the engine says what it would read, and the two must agree. Plan and schema are kept
together.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import pyarrow as pa
from flightsql_auth.policies import Policies

from flightsql_server import planner
from flightsql_server.errors import InternalError, UserError
from flightsql_server.metrics import Metrics
from flightsql_server.model import DATASET, Call, Catalog, Engine, Plan, SessionOptions, TableName, UserTransaction
from flightsql_server.service import profiles, templates
from flightsql_server.service.caches import BoundedCache
from flightsql_server.service.catalog import CurrentCatalog

log = logging.getLogger(__name__)
T = TypeVar("T")

Operations = Callable[[], Awaitable[Mapping[str, Sequence[tuple[str | int | None, ...]]]]]
"""Gives the rows of the tables of ``ops`` as they are now."""

COUNT = pa.schema([pa.field("count", pa.int64(), False)])
"""The columns of what a change answers when it is sent as a query: how many rows it touched."""

_BATCH_BYTES = 3_900_000
_ROW_GROUP = 122_880
_PARTS = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60)


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
class Inside:
    """A transaction that sees other tables than everybody: its connection, and the catalog as it is there."""

    work: UserTransaction
    catalog: Catalog


class Plans:
    """Makes and remembers plans. Its coroutines belong to one event loop; planning goes to ``pool``."""

    def __init__(
        self,
        engine: Engine,
        catalog: CurrentCatalog,
        policies: Policies,
        pool: ThreadPoolExecutor,
        metrics: Metrics,
        *,
        server_version: str,
        planner_limits: planner.PlannerLimits,
        plans: BoundedCache[Prepared],
        shapes: BoundedCache[Family],
        operations: Operations,
    ) -> None:
        self._engine = engine
        self._catalog = catalog
        self._policies = policies
        self._pool = pool
        self._server_version = server_version
        self._planner_limits = planner_limits
        self._plans = plans
        self._shapes = shapes
        self._marks = templates.Marks()
        self._operations = operations
        self._seconds = {stage: metrics.stage_seconds.labels(stage) for stage in ("plan", "describe")}

    async def prepare(
        self,
        call: Call,
        text: str,
        parameters: tuple[pa.DataType, ...] | None = None,
        inside: Inside | None = None,
    ) -> Prepared:
        """The statement, planned for this caller and described by the engine; raises the error family.

        ``parameters`` are the types of the values that are bound; None: none are yet, and types are guessed.
        ``inside``: the transaction that has changed tables itself, so that only it can tell what there is. A plan that
        was made before for the same text, rights and settings is used again, without leaving the loop.
        """
        grants = self._policies.grants(call.principal.roles, call.principal.name)
        catalog = self._catalog.current if inside is None else inside.catalog
        key = (
            text,
            call.dialect,
            call.options.schema,
            call.options.time_zone,
            call.options.max_rows,
            call.wire_profile,
            call.principal.name,
            grants,
            self._policies.version,
            catalog.version,
            parameters,
        )
        found = self._plans.get(key)
        if found is not None:
            return found
        operations = await self._operations() if grants.admin and "ops" in text.lower() else None
        shape = templates.shape_of(text) if operations is None and len(text) <= self._planner_limits.sql_bytes else None
        if shape is not None:
            found = self._fill(shape, key[1:])
        if found is None:
            request = planner.Request(
                text=text,
                dialect=call.dialect,
                principal_name=call.principal.name,
                grants=grants,
                catalog=catalog,
                schema=call.options.schema,
                time_zone=call.options.time_zone,
                server_version=self._server_version,
                backend_dialect=self._engine.capabilities.dialect,
                parameters=parameters,
                operations=operations,
            )
            found = await self._in_pool(lambda: self._prepare(request, call, inside))
            if inside is None and shape is not None and found.plan.values:
                await self._learn(shape, key[1:], request, call, found)
        if operations is None:
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

    def _prepare(self, request: planner.Request, call: Call, inside: Inside | None) -> Prepared:
        started = time.perf_counter()
        plan = planner.plan(request, self._planner_limits)
        planned = time.perf_counter()

        def describe(sql: str) -> pa.Schema:
            return self._engine.describe(sql, call.options) if inside is None else inside.work.describe(sql)

        changes = bool(plan.effect) and plan.effect != DATASET
        text = plan.reads if changes else plan.sql
        if text:
            tables = self._engine.tables_of(text) if inside is None else inside.work.tables_of(text)
            _check_tables(plan, request.catalog, tables)
        sql, text = plan.sql, plan.describe if changes else plan.sql
        schema = describe(text) if text else COUNT
        if not changes:
            sql = profiles.wrap_sql(call.wire_profile, plan.sql, schema)
            if sql is not plan.sql:
                schema = describe(sql)
        wire = profiles.wire_schema(call.wire_profile, schema)
        self._seconds["plan"].observe(planned - started)
        self._seconds["describe"].observe(time.perf_counter() - planned)
        return Prepared(plan, sql, wire, not wire.equals(schema), _batch_rows(wire), call.options)

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _check_tables(plan: Plan, catalog: Catalog, tables: frozenset[TableName]) -> None:
    """Stops a statement that reads what the planner did not allow: a defect of ours, never the user's fault."""
    seen = [catalog.tables[name] for name in plan.tables if name in catalog.tables]
    allowed = {*plan.tables, plan.target}
    surplus = [name for name in tables - allowed if not any(table.is_part(name) for table in seen)]
    if surplus:
        log.error("the engine reads %s, which the planner did not see", sorted(map(str, surplus)))
        raise InternalError()


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
