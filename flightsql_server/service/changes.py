"""Statements that change something, and every statement of a transaction: run once, before the caller is answered.

What they return waits under a handle (``results.py``), so that a ticket only ever fetches and never runs anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import TypeVar

import pyarrow as pa

from flightsql_server.data.conform import conform
from flightsql_server.data.datasets import Dataset, engine_type
from flightsql_server.data.ingest import Lane, Update, Writer
from flightsql_server.errors import (
    DiskFull,
    InvalidTransaction,
    LimitReached,
    ResultTooLarge,
    UnsupportedFeature,
)
from flightsql_server.metrics import Metrics
from flightsql_server.model import (
    BEGIN,
    COMMIT,
    DATASET,
    ROLLBACK,
    ROWS,
    TABLES,
    Call,
    Catalog,
    Changed,
    Engine,
    UserTransaction,
)
from flightsql_server.service import parameters
from flightsql_server.service.admission import Admission, timed
from flightsql_server.service.catalog import CurrentCatalog
from flightsql_server.service.plans import COUNT, Inside, Plans, Prepared
from flightsql_server.service.profiles import in_profile
from flightsql_server.service.results import Results
from flightsql_server.service.transactions import Open, Transactions

T = TypeVar("T")
_DISK_CHECK_SECONDS = 0.25


class Changes:
    """Runs what changes something. Belongs to one event loop; engine work goes to ``pool``."""

    def __init__(
        self,
        engine: Engine,
        catalog: CurrentCatalog,
        plans: Plans,
        transactions: Transactions,
        writer: Writer,
        datasets: Mapping[str, Dataset],
        pool: ThreadPoolExecutor,
        admission: Admission,
        metrics: Metrics,
        *,
        seconds: float,
        staged_rows: int,
        results: Results,
        has_disk: Callable[[], bool],
    ) -> None:
        """``has_disk`` tells whether the disk has more free than is kept in reserve."""
        self._engine = engine
        self._catalog = catalog
        self._plans = plans
        self.transactions = transactions
        self._writer = writer
        self._datasets = datasets
        self._pool = pool
        self._admission = admission
        self._metrics = metrics
        self._seconds = seconds
        self._staged_rows = staged_rows
        self._has_disk = has_disk
        self.results = results

    async def prepare(self, call: Call, text: str, types: tuple[pa.DataType, ...] | None, one: Open | None) -> Prepared:
        """The statement as it stands in this transaction, or outside of any."""
        if one is None or one.inside is None:
            return await self._plans.prepare(call, text, types)
        async with one.lock:
            return await self._plans.prepare(call, text, types, one.inside)

    async def run(
        self, call: Call, prepared: Prepared, rows: Sequence[parameters.Bound], one: Open | None
    ) -> tuple[int, pa.Table]:
        """Runs a change, or any statement of a transaction, once for each row of parameters.

        Gives the number of rows it touched (of a query: its rows), and what it returns.
        """
        effect = prepared.plan.effect
        if effect in (BEGIN, COMMIT, ROLLBACK):
            await self._control(call, effect, one)
            return 0, COUNT.empty_table()
        async with self._timed(call):
            if effect == DATASET:
                return await self._insert(call, prepared, rows, one)
            if one is None:
                return await self._alone(call, prepared, rows)
            async with self._inside(one):
                return await self._step(one, prepared, rows)

    # ---- transactions

    async def end(self, one: Open, *, commit: bool) -> None:
        """Commits or rolls back; what can't be committed is rolled back and told."""
        async with one.lock:
            try:
                if commit:
                    one.check()
                    await self._commit(one)
            except BaseException:
                await self.transactions.close(one, "rollback")
                raise
            await self.transactions.close(one, "commit" if commit else "rollback")

    async def _control(self, call: Call, effect: str, one: Open | None) -> None:
        if effect == BEGIN:
            if one is not None:
                raise InvalidTransaction("There is a transaction already.", hint="Commit it or roll it back.")
            await self.transactions.begin(call, for_session=True)
        elif one is None:
            raise InvalidTransaction("There is no transaction.", hint="Begin one first.")
        else:
            await self.end(one, commit=effect == COMMIT)

    async def _commit(self, one: Open) -> None:
        if one.staged:
            lane = Lane()
            updates = [Update(self._datasets[name], batch, lane) for name, batch in one.staged]
            done = self._writer.submit_together(updates)
            await asyncio.wrap_future(done)
        await self.in_pool(one.work.commit)
        if one.inside is not None:
            await self.in_pool(self._catalog.refresh)

    @asynccontextmanager
    async def _inside(self, one: Open) -> AsyncIterator[None]:
        """Holds the transaction for one statement; a statement that fails takes the whole of it along."""
        async with one.lock:
            one.check()
            try:
                yield
            except BaseException:
                one.failed = True
                raise
            finally:
                one.used = time.monotonic()

    async def _step(self, one: Open, prepared: Prepared, rows: Sequence[parameters.Bound]) -> tuple[int, pa.Table]:
        """One statement of a transaction; its result is read to the end before the next may run."""
        plan = prepared.plan
        if not plan.effect:
            table = await self._watched(one.work, lambda: self._read(one.work, prepared, rows[0]))
            return table.num_rows, table
        one.hold(ROWS)
        changed = await self._watched(one.work, lambda: _change(one.work, prepared, rows))
        if plan.effect == TABLES:
            await self._look_inside(one)
        return self._told(prepared, changed)

    async def _look_inside(self, one: Open) -> None:
        """The transaction has changed tables: from now on its statements see what it sees."""
        tables = await self.in_pool(one.work.user_tables)
        one.inside = Inside(one.work, self._catalog.with_tables(tables))

    # ---- changes

    @asynccontextmanager
    async def _own(self, call: Call) -> AsyncIterator[UserTransaction]:
        """A transaction for one statement alone; what the block has not committed is rolled back."""
        work = await self.in_pool(lambda: self._engine.begin(call.options))
        try:
            yield work
        finally:
            await self.in_pool(work.close)

    async def _alone(self, call: Call, prepared: Prepared, rows: Sequence[parameters.Bound]) -> tuple[int, pa.Table]:
        """A change that commits by itself: all of its rows or none."""

        def begin_and_run(work: UserTransaction) -> Changed:
            changed = _change(work, prepared, rows)
            work.commit()
            return changed

        async with self._admission.slot(), self._own(call) as work:
            changed = await self._watched(work, lambda: begin_and_run(work))
        if prepared.plan.effect == TABLES:
            await self.in_pool(self._catalog.refresh)
        return self._told(prepared, changed)

    def _told(self, prepared: Prepared, changed: Changed) -> tuple[int, pa.Table]:
        self._metrics.changed_rows.inc(changed.count)
        if changed.returned is None:
            return changed.count, _counted(changed.count)
        return changed.count, changed.returned.cast(prepared.schema)

    def _read(self, work: UserTransaction, prepared: Prepared, bound: parameters.Bound) -> pa.Table:
        batches, size = [], 0
        for batch in work.read(prepared.sql, bound.values, prepared.batch_rows):
            size += batch.nbytes
            if not self.results.has_room(size):
                raise ResultTooLarge(
                    "The result is too large for a transaction, where it is read to the end first.",
                    hint="Ask for less, or ask outside of the transaction.",
                )
            batches.append(in_profile(batch, prepared.schema) if prepared.cast else batch)
        return pa.Table.from_batches(batches, prepared.schema)

    async def append(
        self,
        call: Call,
        one: Open | None,
        step: Callable[[UserTransaction, Catalog], Awaitable[tuple[int, bool]]],
    ) -> int:
        """Runs ``step``, which appends rows to a table of the user's own, as one change; gives how many there were.

        It is given the transaction and the catalog as it is there, and tells the count and whether it made a table.
        """
        async with self._timed(call):
            if one is not None:
                async with self._inside(one):
                    one.hold(ROWS)
                    catalog = self._catalog.current if one.inside is None else one.inside.catalog
                    count, made = await step(one.work, catalog)
                    if made:
                        await self._look_inside(one)
                    return count
            async with self._admission.slot(), self._own(call) as work:
                count, made = await step(work, self._catalog.current)
                await self.in_pool(work.commit)
        if made:
            await self.in_pool(self._catalog.refresh)
        return count

    # ---- rows for live datasets

    async def _insert(
        self, call: Call, prepared: Prepared, rows: Sequence[parameters.Bound], one: Open | None
    ) -> tuple[int, pa.Table]:
        """INSERT into a live dataset: the rows of its query go to the writer, now or when the transaction commits."""
        assert prepared.plan.target is not None
        dataset = self._datasets[prepared.plan.target.name]
        query = replace(prepared, sql=_fitting(prepared, dataset), cast=False)

        def read(work: UserTransaction) -> list[pa.RecordBatch]:
            batches: list[pa.RecordBatch] = []
            count = 0
            for bound in rows:
                for batch in work.read(query.sql, bound.values, query.batch_rows):
                    count += batch.num_rows
                    self._check_staged(count)  # the writer takes them together, so they wait in memory
                    batches.append(batch)
            return [conform(batch, dataset) for batch in batches if batch.num_rows]

        if one is None:
            async with self._own(call) as work:
                batches = await self._watched(work, lambda: read(work))
            lane = Lane()
            updates = [Update(dataset, batch, lane) for batch in batches]
            if updates:
                await asyncio.wrap_future(self._writer.submit_together(updates))
        else:
            async with self._inside(one):
                one.hold(DATASET)
                batches = await self._watched(one.work, lambda: read(one.work))
                self._stage(one, dataset, batches)
        count = sum(batch.num_rows for batch in batches)
        return count, _counted(count)

    async def hold_back(self, one: Open, dataset: Dataset, batches: Sequence[pa.RecordBatch]) -> None:
        """Rows for a live dataset that come by an ingest inside of a transaction."""
        async with self._inside(one):
            one.hold(DATASET)
            self._stage(one, dataset, batches)

    def _stage(self, one: Open, dataset: Dataset, batches: Sequence[pa.RecordBatch]) -> None:
        """Holds rows back until the transaction commits; LimitReached when there are too many."""
        staged = sum(batch.num_rows for _, batch in one.staged) + sum(batch.num_rows for batch in batches)
        self._check_staged(staged)
        one.staged += [(dataset.name, batch) for batch in batches]

    def _check_staged(self, rows: int) -> None:
        if rows > self._staged_rows:
            self._metrics.limit("transaction.staged_rows")
            raise LimitReached(
                f"A transaction holds back {self._staged_rows} rows at most.", hint="Commit in smaller parts."
            )

    # ---- threads and time

    def _timed(self, call: Call) -> AbstractAsyncContextManager[None]:
        seconds = min(self._seconds, call.options.statement_timeout_seconds or self._seconds)
        return timed(self._metrics, seconds, "Change less at a time.")

    async def _watched(self, work: UserTransaction, step: Callable[[], T]) -> T:
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
            while not running.done():
                work.cancel()
                await asyncio.wait([running], timeout=0.05)
            if not running.cancelled():
                running.exception()

    def _check_disk(self) -> None:
        if not self._has_disk():
            self._metrics.limit("ingest.reserve_bytes")
            raise DiskFull("The server's disk is nearly full.", hint="Try again when there is room.")

    async def in_pool(self, step: Callable[[], T]) -> T:
        """Runs the step in a worker thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, step)


def _counted(count: int) -> pa.Table:
    """What a change answers that returns no rows."""
    return pa.table([pa.array([count], pa.int64())], schema=COUNT)


def _change(work: UserTransaction, prepared: Prepared, rows: Sequence[parameters.Bound]) -> Changed:
    plan = prepared.plan
    if plan.effect == TABLES and plan.target is not None:
        work.make_schema(plan.target.schema)
    return work.change(prepared.sql, [bound.values for bound in rows], returning=bool(plan.describe))


def _fitting(prepared: Prepared, dataset: Dataset) -> str:
    """The query for a dataset's rows under the dataset's names, cast where SQL would cast and nothing is lost.

    A text becomes what it stands for, and a number a float; all else stays as it is, for ``conform`` to judge.
    """
    columns, schema = prepared.plan.columns, prepared.schema
    if len(columns) != len(schema):
        raise UnsupportedFeature(
            f"The INSERT gives {len(schema)} values for {len(columns)} columns.", hint="Give one for each column."
        )
    given = [f"c{i}" for i in range(len(columns))]
    parts = []
    for column in dataset.columns:
        name = '"' + column.name + '"'
        sql_type = engine_type(column.type)
        if column.name not in columns:
            parts.append(f"CAST(NULL AS {sql_type}) AS {name}")
            continue
        place = columns.index(column.name)
        type_ = schema.field(place).type
        text = pa.types.is_string(type_) and not pa.types.is_string(column.type)
        number = pa.types.is_floating(column.type) and (pa.types.is_decimal(type_) or pa.types.is_integer(type_))
        null = pa.types.is_null(type_)
        naive = pa.types.is_date(type_) and pa.types.is_timestamp(column.type)
        parts.append(f"CAST({given[place]} AS {sql_type}) AS {name}" if text or number or null or naive
                     else f"{given[place]} AS {name}")  # fmt: skip
    return f"SELECT {', '.join(parts)} FROM ({prepared.sql}) AS given({', '.join(given)})"
