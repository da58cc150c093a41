"""From SQL text to a statement that is ready to run: plan, check, describe; and what is remembered of that.

The planner says what may run; the engine says what it would read, and the two must agree. Plan and schema are kept
together.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import pyarrow as pa
from flightsql_auth.policies import OPERATIONS_SCHEMA, Grants, LivePolicies, temporary_schema

from flightsql_server import planner
from flightsql_server.errors import InternalError, PlanningTimeout, StatementTooComplex, UserError
from flightsql_server.metrics import Metrics
from flightsql_server.model import (
    CHANGED_ROW,
    DATASET,
    Call,
    Catalog,
    Engine,
    Plan,
    SessionOptions,
    TableName,
    UserTransaction,
)
from flightsql_server.service import profiles, templates
from flightsql_server.service.caches import BoundedCache
from flightsql_server.service.catalog import CurrentCatalog

log = logging.getLogger(__name__)
T = TypeVar("T")

Operations = Callable[[], Awaitable[Mapping[str, Sequence[tuple[str | int | None, ...]]]]]
"""Gives the rows of the tables of ``ops`` as they are now."""

EXPLAINED = pa.schema([pa.field("explain_key", pa.string()), pa.field("explain_value", pa.string())])
"""The columns in which the engine explains a query."""

COUNT = pa.schema([pa.field("count", pa.int64(), False)])
"""The columns of what a change answers when it is sent as a query: how many rows it touched."""

_OPERATIONS = re.compile(rf"\b{OPERATIONS_SCHEMA}\b", re.IGNORECASE)
_KEPT = "was made before for this very text, and is used again"
_BATCH_BYTES = 3_900_000
_ROW_GROUP = 122_880
_PARTS = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that is ready to run: what it reads, the SQL that runs, the schema that is sent; and for whom it was
    planned, by what they may do.
    """

    plan: Plan
    sql: str
    schema: pa.Schema
    cast: bool
    batch_rows: int
    options: SessionOptions
    grants: Grants
    changes: str = ""
    """Of a subscription that is told row by row: the query that asks the rows that have changed."""


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
        policies: LivePolicies,
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
        self._metrics = metrics
        self._seconds = {stage: metrics.stage_seconds.labels(stage) for stage in ("plan", "describe")}

    async def prepare(
        self,
        call: Call,
        text: str,
        parameters: tuple[pa.DataType, ...] | None = None,
        inside: Inside | None = None,
        live: bool = False,
    ) -> Prepared:
        """The statement, planned for this caller and described by the engine; raises the error family.

        ``parameters`` are the types of the values that are bound; None: none are yet, and types are guessed.
        ``inside``: the transaction that has changed tables itself, so that only it can tell what there is. ``live``:
        the text is a query that is subscribed to, whether it says so itself or not. A plan that was made before for the
        same text, rights and settings is used again, without leaving the loop.
        """
        entry = call.entry
        entry.claim()
        entry.event, entry.statement, entry.dialect = entry.event or "statement", text, call.dialect
        entry.policy, entry.parameter_types = self._policies.version, parameters or ()
        found = await self._prepared(call, text, parameters, inside, live)
        plan = found.plan
        entry.understood, entry.reads = True, plan.tables
        entry.writes = () if plan.target is None else (plan.target,)
        return found

    async def _prepared(
        self,
        call: Call,
        text: str,
        parameters: tuple[pa.DataType, ...] | None,
        inside: Inside | None,
        live: bool,
    ) -> Prepared:
        catalog = self._catalog.current if inside is None else inside.catalog
        grants = self._grants(call, text, catalog)
        key = (text, *plan_key(call, grants), self._policies.version, catalog.version, parameters, live)
        found = self._plans.get(key)
        if found is not None:
            return found
        operations = await self._operations() if _asks_for_operations(call, text, grants) else None
        short = len(text) <= self._planner_limits.sql_bytes
        inner = planner.explained(text) if short else None
        alone = operations is not None or not short or inner is not None or live or planner.subscribed(text)
        shape = None if alone else templates.shape_of(text)
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
                live=live,
                kept=_KEPT if inner is not None and self._plans.get((inner, *key[1:])) is not None else "",
            )
            found = await self._in_pool(lambda: self._prepare(request, call, inside))
            if inside is None and shape is not None and found.plan.values:
                await self._learn(shape, key[1:], request, call, found)
        if operations is None and inner is None:
            self._plans.put(key, found)
        return found

    def _grants(self, call: Call, text: str, catalog: Catalog) -> Grants:
        """What the caller may do. Its session counts only if it has temporary tables or is about to make one, so that
        sessions share their plans.
        """
        own = temporary_schema(call.principal.session_id) if call.principal.session_id else ""
        if own not in catalog.temporary_schemas and "temp" not in text.lower():
            own = ""
        return self._policies.grants(call.principal.roles, call.principal.name, own, call.principal.claims)

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
        try:
            plan = planner.plan(request, self._planner_limits)
        except (StatementTooComplex, PlanningTimeout) as error:
            self._metrics.limit("sql.planning_seconds" if isinstance(error, PlanningTimeout) else error.limit)
            raise
        planned = time.perf_counter()

        def describe(sql: str) -> pa.Schema:
            try:
                return self._engine.describe(sql, call.options) if inside is None else inside.work.describe(sql)
            except UserError as error:
                if not error.word:
                    raise
                tables = [request.catalog.tables[name] for name in plan.tables if name in request.catalog.tables]
                columns = {column.name for table in tables for column in table.columns}
                raise planner.pointed(error, request.text, request.dialect, columns) from error

        changes = bool(plan.effect) and plan.effect != DATASET and not plan.is_explained
        text = plan.reads if changes else plan.sql
        if text:
            tables = self._engine.tables_of(text) if inside is None else inside.work.tables_of(text)
            _check_tables(plan, request.catalog, tables)
        sql, text = plan.sql, plan.describe if changes else plan.sql
        schema = schema_of_sql = describe(text) if text else COUNT
        if plan.is_explained:
            schema = EXPLAINED
        elif not changes:
            sql = profiles.wrap_sql(call.wire_profile, plan.sql, schema)
            if sql is not plan.sql:
                schema = describe(sql)
        asked = ""
        if plan.live is not None:
            numbered = schema_of_sql.append(pa.field(CHANGED_ROW, pa.int64()))
            asked = profiles.wrap_sql(call.wire_profile, plan.live.sql, numbered)
        wire = profiles.wire_schema(call.wire_profile, schema)
        self._seconds["plan"].observe(planned - started)
        self._seconds["describe"].observe(time.perf_counter() - planned)
        same = wire.equals(schema)
        return Prepared(plan, sql, wire, not same, _batch_rows(wire), call.options, request.grants, asked)

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def plan_key(call: Call, grants: Grants) -> tuple[Hashable, ...]:
    """What a plan depends on beside its text: all of the caller's that planning may look at."""
    options = call.options
    chosen = (options.schema, options.time_zone, options.max_rows)
    return (call.dialect, *chosen, call.wire_profile, call.principal.name, grants)


def _asks_for_operations(call: Call, text: str, grants: Grants) -> bool:
    """Whether the text may name a table of ``ops`` that the caller may read: its rows then go with the request."""
    if call.options.schema != OPERATIONS_SCHEMA and _OPERATIONS.search(text) is None:
        return False
    tables = planner.operations_tables()
    return any(grants.allows("select", schema=table.schema, name=table.name, dataset=None) for table in tables)


def _check_tables(plan: Plan, catalog: Catalog, tables: frozenset[TableName]) -> None:
    """Stops a statement that reads what the planner did not allow: a defect of ours, never the user's fault."""
    named = (*plan.tables, *plan.policy_tables)
    seen = [catalog.tables[name] for name in named if name in catalog.tables]
    allowed = {*named, plan.target}
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
