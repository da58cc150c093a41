"""Queries that are run anew when what they read has changed: joins, aggregates, views, whatever reads the clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from flightsql_server.data import deltas
from flightsql_server.errors import InvalidParameter, LimitReached
from flightsql_server.metrics import Metrics
from flightsql_server.model import Engine, ResultStream
from flightsql_server.service import profiles
from flightsql_server.service.admission import Admission, timed
from flightsql_server.service.channels import Channel, Describe, LiveEncoderFactory, LiveLimits
from flightsql_server.service.plans import Prepared
from flightsql_server.service.ring import Piece
from flightsql_server.service.steps import step

# How often a query is run anew whose tables don't tell when they change, or that asks for the time.
_POLL_SECONDS = 1.0


class RefreshedChannel(Channel):
    """The answers of a query, one after the other. ``seq`` counts those that differed from the one before.

    With a key the rows that changed are told, else the whole answer. At most one run in ``interval_seconds``.
    """

    kind = "refreshed"

    def __init__(
        self, engine: Engine, pool: ThreadPoolExecutor, admission: Admission, metrics: Metrics,
        versions: Mapping[str, int], inputs: frozenset[str], polls: bool, interval_seconds: float, seconds: float,
        prepared: Prepared, key: Sequence[int], compression: str | None, make_encoder: LiveEncoderFactory,
        describe: Describe, limits: LiveLimits,
    ) -> None:  # fmt: skip
        super().__init__(prepared, key, compression, make_encoder, describe, limits)
        self.inputs = inputs
        self.answer: Piece | None = None
        self._engine = engine
        self._pool = pool
        self._admission = admission
        self._metrics = metrics
        self._evaluations = metrics.live_evaluations.labels("refreshed")
        self._versions = versions
        self._polls = polls
        self._interval = interval_seconds
        self._seconds = seconds
        self._changed = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._work())

    def touched(self, dataset: str) -> None:
        """The dataset has changed."""
        if dataset in self.inputs:
            self._changed.set()

    async def _work(self) -> None:
        try:
            while not self.closed:
                self._changed.clear()
                started = time.monotonic()
                await self._refresh()
                await asyncio.sleep(max(0.0, self._interval - (time.monotonic() - started)))
                try:
                    async with asyncio.timeout(_POLL_SECONDS if self._polls else None):
                        await self._changed.wait()
                except TimeoutError:
                    pass
        except Exception as error:
            self.fail(error)

    async def _refresh(self) -> None:
        versions = tuple(sorted((name, self._versions[name]) for name in self.inputs))
        async with timed(self._metrics, self._seconds, "Ask for less."), self._admission.slot():
            stream = self._engine.open(self.prepared.sql, self.prepared.options, self.prepared.batch_rows)
            table = await self._read(stream)
        self._evaluations.inc()
        loop = asyncio.get_running_loop()
        piece = await loop.run_in_executor(self._pool, self._compare, table, versions)
        revision = self.seq + 1
        if self.answer is None or piece is not None:
            self.answer = Piece(revision, revision, self._rows(table), whole=True, versions=versions)
            if piece is not None:
                self.ring.append(piece, await loop.run_in_executor(self._pool, self.encoded, piece))
            self.seq = revision  # not before: who looks meanwhile would take what is not there yet for told
        self.wake()

    async def _read(self, stream: ResultStream) -> pa.Table:
        """All rows of the answer, in the types that are sent."""
        batches, rows = [], 0
        try:
            while (batch := await step(self._pool, stream.cancel, stream.read)) is not None:
                rows += batch.num_rows
                if rows > self.limits.refresh_rows:
                    self._metrics.limit("live.refresh_rows")
                    raise LimitReached(
                        f"The answer has more than {self.limits.refresh_rows} rows, the most that is worked out again "
                        "and again.",
                        hint="Ask for less, or subscribe to the rows of one dataset.",
                    )
                batches.append(profiles.in_profile(batch, self.prepared.schema) if self.prepared.cast else batch)
        finally:
            stream.close()
        return pa.Table.from_batches(batches, self.prepared.schema)

    def _compare(self, table: pa.Table, versions: tuple[tuple[str, int], ...]) -> Piece | None:
        """What differs from the answer before; None: nothing."""
        if self.answer is None:
            return None
        place = self.seq + 1
        old = self.answer.rows.select(range(len(self.prepared.schema)))
        if not self.key:
            new = self._rows(table)
            same = new.num_rows == self.answer.rows.num_rows and new.equals(self.answer.rows)
            return None if same else Piece(place, place, new, whole=True, versions=versions)
        try:
            rows, gone = deltas.difference(old, table.cast(old.schema), self.key)
        except KeyError:
            raise InvalidParameter(
                "Two rows of the answer have the same key, so that changes can't be told by it.",
                hint="Name as key the columns that tell rows apart, or leave it out for whole answers.",
            ) from None
        if not rows.num_rows:
            return None
        seq = pa.nulls(rows.num_rows, pa.int64())
        return Piece(place, place, deltas.with_changes(rows, gone, self.key, seq), versions=versions)

    def _rows(self, table: pa.Table) -> pa.Table:
        """The answer with the columns that a subscription adds."""
        plain = table.cast(pa.schema([*self.schema][: len(self.prepared.schema)]))
        return deltas.all_upserts(plain, None)

    def catch_up(self, position: int, upto: int) -> Piece | None:
        return self.answer

    def close(self) -> None:
        super().close()
        self._task.cancel()
