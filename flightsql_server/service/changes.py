"""Statements that change something, and every statement of a transaction: run once, before the caller is answered.

What they return waits under a handle (``results.py``), so that a ticket only ever fetches and never runs anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pyarrow as pa
from flightsql_auth.limits import Limits
from flightsql_auth.restrictions import Writing

from flightsql_server.data.conform import conform
from flightsql_server.data.datasets import Dataset
from flightsql_server.data.ingest import Lane, Update, Writer
from flightsql_server.errors import InvalidTransaction, LimitReached
from flightsql_server.metrics import Metrics
from flightsql_server.model import (
    BEGIN,
    COMMIT,
    DATASET,
    EXPLAIN_ANALYZE,
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
from flightsql_server.service.admission import Admission
from flightsql_server.service.bounds import Bounds, StatementLimits
from flightsql_server.service.catalog import CurrentCatalog
from flightsql_server.service.inserts import fitting
from flightsql_server.service.plans import COUNT, Inside, Plans, Prepared
from flightsql_server.service.profiles import in_profile
from flightsql_server.service.results import Result, Results
from flightsql_server.service.steps import closed, opened
from flightsql_server.service.temporary import TemporaryTables
from flightsql_server.service.transactions import Open, Transactions
from flightsql_server.service.workers import Workers
from flightsql_server.service.write_checks import WriteChecks


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
        limits: StatementLimits,
        staged_rows: int,
        results: Results,
        temporary: TemporaryTables,
        write_checks: WriteChecks,
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
        self._workers = Workers(pool, admission, metrics, limits, has_disk)
        self.in_pool = self._workers.in_pool
        self._metrics = metrics
        self._staged_rows = staged_rows
        self.results = results
        self.temporary = temporary
        self.write_checks = write_checks

    async def prepare(self, call: Call, text: str, types: tuple[pa.DataType, ...] | None, one: Open | None) -> Prepared:
        """The statement as it stands in this transaction, or outside of any."""
        if one is None or one.inside is None:
            return await self._plans.prepare(call, text, types)
        async with one.lock:
            return await self._plans.prepare(call, text, types, one.inside)

    async def run(
        self, call: Call, prepared: Prepared, rows: Sequence[parameters.Bound], one: Open | None
    ) -> tuple[int, Result]:
        """Runs a change, or any statement of a transaction, once for each row of parameters.

        Gives the number of rows it touched (of a query: its rows), and what it returns.
        """
        effect = prepared.plan.effect
        if effect in (BEGIN, COMMIT, ROLLBACK):
            await self._control(call, effect, one)
            return 0, self.results.gather(COUNT, ())
        if prepared.plan.target is not None:
            self.temporary.note(call.principal.session_id, prepared.plan.target.schema)
        async with self._workers.within(call, prepared.grants.limits) as most:
            if effect == DATASET:
                return await self._insert(call, prepared, rows, one)
            if prepared.plan.is_explained:
                return await self._explain(call, prepared, rows[0], one)
            if one is None:
                return await self._alone(call, prepared, rows, most)
            async with self._inside(one):
                return await self._step(one, prepared, rows, most)

    # ---- transactions

    async def end(self, call: Call, one: Open, *, commit: bool) -> None:
        """Commits or rolls back; what can't be committed is rolled back and told."""
        async with one.lock:
            try:
                if commit:
                    one.check()
                    await self._commit(call, one)
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
            await self.end(call, one, commit=effect == COMMIT)

    async def _commit(self, call: Call, one: Open) -> None:
        if one.staged:
            lane = Lane()
            updates = []
            for name, batch, writing in one.staged:
                check = self.write_checks.of(call, name, writing)  # as the policy is now
                updates.append(Update(self._datasets[name], batch, lane, guard=check))
            await asyncio.wrap_future(self._writer.submit_together(updates))
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

    async def _step(
        self, one: Open, prepared: Prepared, rows: Sequence[parameters.Bound], most: Bounds
    ) -> tuple[int, Result]:
        """One statement of a transaction; its result is read to the end before the next may run."""
        plan = prepared.plan
        if not plan.effect:
            found = await self._workers.watched(one.work, lambda: self._read(one.work, prepared, rows[0], most))
            return found.table.num_rows, found
        one.hold(ROWS)
        changed = await self._workers.watched(one.work, lambda: self._change(one.work, prepared, rows, most))
        if plan.effect == TABLES:
            await self._look_inside(one)
        return await self._told(prepared, changed)

    async def _look_inside(self, one: Open) -> None:
        """The transaction has changed tables: from now on its statements see what it sees."""
        tables = await self.in_pool(one.work.user_tables)
        one.inside = Inside(one.work, self._catalog.with_tables(tables))

    # ---- changes

    @asynccontextmanager
    async def _own(self, call: Call) -> AsyncIterator[UserTransaction]:
        """A transaction for one statement alone; what the block has not committed is rolled back."""
        work = await opened(self._pool, self._engine.begin, call.options)
        try:
            yield work
        finally:
            await closed(self._pool, work.close)

    async def _alone(
        self, call: Call, prepared: Prepared, rows: Sequence[parameters.Bound], most: Bounds
    ) -> tuple[int, Result]:
        """A change that commits by itself: all of its rows or none."""

        def begin_and_run(work: UserTransaction) -> Changed:
            changed = self._change(work, prepared, rows, most)
            work.commit()
            return changed

        async with self._workers.slot(), self._own(call) as work:
            changed = await self._workers.watched(work, lambda: begin_and_run(work))
        if prepared.plan.effect == TABLES:
            await self.in_pool(self._catalog.refresh)
        return await self._told(prepared, changed)

    def _change(
        self, work: UserTransaction, prepared: Prepared, rows: Sequence[parameters.Bound], most: Bounds
    ) -> Changed:
        plan = prepared.plan
        if plan.effect == TABLES and plan.target is not None:
            work.make_schema(plan.target.schema)
        changed = work.change(prepared.sql, [bound.values for bound in rows], returning=bool(plan.describe))
        if changed.returned is not None:
            most.check(self._metrics, changed.returned.num_rows, changed.returned.nbytes)
        return changed

    async def _told(self, prepared: Prepared, changed: Changed) -> tuple[int, Result]:
        self._metrics.changed_rows.inc(changed.count)
        if changed.returned is None:
            return changed.count, self._counted(changed.count)
        returned, schema = changed.returned, prepared.schema
        return changed.count, await self.in_pool(
            lambda: self.results.gather(schema, returned.cast(schema).to_batches())
        )

    def _counted(self, count: int) -> Result:
        """What a change answers that returns no rows."""
        return self.results.gather(COUNT, [pa.record_batch([pa.array([count], pa.int64())], schema=COUNT)])

    def _read(self, work: UserTransaction, prepared: Prepared, bound: parameters.Bound, most: Bounds) -> Result:
        rows = work.read(prepared.sql, bound.values, prepared.batch_rows)
        batches = most.checked(self._metrics, rows, prepared.options.max_rows)
        if prepared.cast:
            batches = (in_profile(batch, prepared.schema) for batch in batches)
        return self.results.gather(prepared.schema, batches)

    async def _explain(
        self, call: Call, prepared: Prepared, bound: parameters.Bound, one: Open | None
    ) -> tuple[int, Result]:
        """How the engine runs a query; nothing is kept of the query's own rows."""
        analyze = prepared.plan.effect == EXPLAIN_ANALYZE

        def explain(work: UserTransaction) -> Result:
            table = work.explain(prepared.sql, bound.values, analyze=analyze)
            return self.results.gather(prepared.schema, table.cast(prepared.schema).to_batches())

        if one is not None:
            async with self._inside(one):
                found = await self._workers.watched(one.work, lambda: explain(one.work))
        else:
            async with self._workers.slot(), self._own(call) as work:
                found = await self._workers.watched(work, lambda: explain(work))
        return found.table.num_rows, found

    async def append(
        self,
        call: Call,
        limits: Limits,
        one: Open | None,
        schema: str,
        step: Callable[[UserTransaction, Catalog], Awaitable[tuple[int, bool]]],
    ) -> int:
        """Runs ``step``, which appends rows to a table of the user's ``schema``, as one change; gives how many.

        It is given the transaction and the catalog as it is there, and tells the count and whether it made a table.
        """
        self.temporary.note(call.principal.session_id, schema)
        async with self._workers.within(call, limits):
            if one is not None:
                async with self._inside(one):
                    one.hold(ROWS)
                    catalog = self._catalog.current if one.inside is None else one.inside.catalog
                    count, made = await step(one.work, catalog)
                    if made:
                        await self._look_inside(one)
                    return count
            async with self._workers.slot(), self._own(call) as work:
                count, made = await step(work, self._catalog.current)
                await self.in_pool(work.commit)
        if made:
            await self.in_pool(self._catalog.refresh)
        return count

    # ---- rows for live datasets

    async def _insert(
        self, call: Call, prepared: Prepared, rows: Sequence[parameters.Bound], one: Open | None
    ) -> tuple[int, Result]:
        """INSERT into a live dataset: the rows of its query go to the writer, now or when the transaction commits."""
        assert prepared.plan.target is not None
        dataset = self._datasets[prepared.plan.target.name]
        query = replace(prepared, sql=fitting(prepared, dataset), cast=False)
        check = self.write_checks.of(call, dataset.name, "insert")

        def read(work: UserTransaction) -> list[pa.RecordBatch]:
            batches: list[pa.RecordBatch] = []
            count = 0
            for bound in rows:
                for batch in work.read(query.sql, bound.values, query.batch_rows):
                    count += batch.num_rows
                    self._check_staged(count)  # the writer takes them together, so they wait in memory
                    batches.append(batch)
            found = [conform(batch, dataset) for batch in batches if batch.num_rows]
            if check is not None:
                for batch in found:
                    check.at_the_door(batch)
            return found

        if one is None:
            async with self._own(call) as work:
                batches = await self._workers.watched(work, lambda: read(work))
            lane = Lane()
            updates = [Update(dataset, batch, lane, guard=check) for batch in batches]
            if updates:
                await asyncio.wrap_future(self._writer.submit_together(updates))
        else:
            async with self._inside(one):
                one.hold(DATASET)
                batches = await self._workers.watched(one.work, lambda: read(one.work))
                self._stage(one, dataset, batches, "insert")
        count = sum(batch.num_rows for batch in batches)
        return count, self._counted(count)

    async def hold_back(
        self, call: Call, limits: Limits, one: Open, dataset: Dataset, batches: AsyncIterator[pa.RecordBatch]
    ) -> int:
        """Rows for a live dataset that come by an ingest inside of a transaction; gives how many there were."""
        count = 0
        check = self.write_checks.of(call, dataset.name, "ingest")

        def fit(batch: pa.RecordBatch) -> pa.RecordBatch:
            fitting = conform(batch, dataset)
            if check is not None:
                check.at_the_door(fitting)
            return fitting

        async with self._workers.within(call, limits), self._inside(one):
            one.hold(DATASET)
            async for batch in batches:
                if batch.num_rows:
                    self._stage(one, dataset, [await self.in_pool(partial(fit, batch))], "ingest")
                    count += batch.num_rows
        return count

    def _stage(self, one: Open, dataset: Dataset, batches: Sequence[pa.RecordBatch], writing: Writing) -> None:
        """Holds rows back until the transaction commits; LimitReached when there are too many."""
        staged = sum(batch.num_rows for _, batch, _ in one.staged) + sum(batch.num_rows for batch in batches)
        self._check_staged(staged)
        one.staged += [(dataset.name, batch, writing) for batch in batches]

    def _check_staged(self, rows: int) -> None:
        if rows > self._staged_rows:
            self._metrics.limit("transaction.staged_rows")
            raise LimitReached(
                f"A transaction holds back {self._staged_rows} rows at most.", hint="Commit in smaller parts."
            )
