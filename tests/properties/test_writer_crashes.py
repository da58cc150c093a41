"""The process may die, or a step may fail, at any point of a commit: what was acknowledged is there, once, in order.

The writer tells each step of a commit to a hook. Here the hook copies the files as they are at that moment, as a kill
would leave them, and ends the run; the writer is then opened on the copy, and the publishers go on as they would after
a broken connection: they send again what was not acknowledged.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flightsql_server.data.commit import Lane, Receipt, Update
from flightsql_server.data.conform import conform
from flightsql_server.data.datasets import MARKET_DATA
from flightsql_server.data.ingest import Writer
from flightsql_server.data.watermark import WATERMARK, Watermark
from flightsql_server.engine import DuckDBOptions, open_engine
from flightsql_server.engine.duckdb import DuckDBEngine, DuckDBTransaction
from flightsql_server.errors import DiskFull
from flightsql_server.metrics import Metrics
from flightsql_server.model import Engine, SessionOptions
from tests.conftest import examples
from tests.properties.dying import Dying, Killed

STEPS = ("taken", "begun", "history", "latest", "producers", "commit", "committed", "noted", "acknowledged")
_START = datetime(2026, 1, 5, 12, tzinfo=UTC)
_NAMES = [*MARKET_DATA.schema.names, "_change"]


@dataclass
class Sent:
    """One batch as its publisher knows it. ``receipt``: what the publisher was told, None: nothing yet."""

    publisher: int
    number: int
    rows: list[dict[str, Any]]
    receipt: Receipt | None = None


class Desk(Dying):
    """Publishers, a writer without its thread, and files that may be copied away under it at any step."""

    def __init__(self, opener: Any = open_engine) -> None:
        self._opener = opener
        self.folder = Path(mkdtemp(prefix="desk-"))
        self.metrics = Metrics()
        self.sent: list[Sent] = []
        self.waiting: list[tuple[Sent, Update]] = []
        self.lanes: dict[int, Lane] = {}
        self.rows = 0
        self.days = 0
        self._open()

    def _open(self) -> None:
        self.engine: Engine = self._opener(self.folder, DuckDBOptions(threads=1, log_bytes=0))
        self.writer = Writer(
            self.engine, {"market_data": MARKET_DATA}, self.metrics, watermark=Watermark(self.folder / WATERMARK),
            at=self._at,
        )  # fmt: skip
        self.writer.open()

    def close(self) -> None:
        self.writer.stop()
        self.engine.close()
        shutil.rmtree(self.folder)

    def publish(self, publisher: int, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self.rows += 1
            row["volume"] = self.rows  # no two rows are alike, so that each can be found again
        number = sum(one.publisher == publisher for one in self.sent)
        self.sent.append(Sent(publisher, number, rows))
        self._send(self.sent[-1])

    def _send(self, one: Sent) -> None:
        schema = pa.schema([*MARKET_DATA.schema, pa.field("_change", pa.string())])
        batch = conform(pa.RecordBatch.from_pylist(one.rows, schema=schema), MARKET_DATA)
        lane = self.lanes.setdefault(one.publisher, Lane())
        update = Update(MARKET_DATA, batch, lane, ("feed", f"p{one.publisher}"), one.number)
        self.writer.submit(update)
        self.waiting.append((one, update))

    def commit(self) -> None:
        """What the writer's thread does, and then what the publishers do with what they are told."""
        with mock.patch.object(time, "time_ns", return_value=int((_START.timestamp() + self.days * 86_400) * 1e9)):
            try:
                self.writer.commit_waiting()
            except Killed:
                self._learn()
                self.writer.stop()
                self.engine.close()
                shutil.rmtree(self.folder)
                assert self.left is not None
                self.folder = self.left
                self._open()
                self._resume()
                return
        self._learn()
        self._resume()

    def _learn(self) -> None:
        """Publishers hear what was settled before the end."""
        for one, update in self.waiting:
            if update.done.done() and update.done.exception() is None:
                one.receipt = update.done.result()

    def _resume(self) -> None:
        """Publishers whose stream broke open another and send again, in order, what they have not heard of."""
        broken = {one.publisher for one, update in self.waiting if not update.done.done() or update.done.exception()}
        self.waiting = []
        for publisher in broken:
            self.lanes[publisher] = Lane()
        for one in self.sent:
            if one.publisher in broken and one.receipt is None:
                self._send(one)

    def restart(self) -> None:
        self.writer.stop()
        self.engine.close()
        self._open()
        for publisher in {one.publisher for one, _ in self.waiting}:
            self.lanes[publisher] = Lane()
        self.waiting = []
        for one in self.sent:
            if one.receipt is None:
                self._send(one)

    def read(self, sql: str) -> list[dict[str, Any]]:
        stream = self.engine.open(sql, SessionOptions(), 2_048)
        try:
            rows: list[dict[str, Any]] = []
            while (batch := stream.read()) is not None:
                rows += batch.to_pylist()
            return rows
        finally:
            stream.close()

    def check(self) -> None:
        """The promise, against nothing but what the publishers know and what the tables say."""
        history = self.read("SELECT * FROM main.market_data_history ORDER BY _seq")
        assert [row["_seq"] for row in history] == list(range(1, len(history) + 1)), "_seq is dense"
        place = {row["volume"]: row["_seq"] for row in history}
        assert len(place) == len(history), "every row is there once"
        for one in self.sent:
            found = [place[row["volume"]] for row in one.rows if row["volume"] in place]
            assert len(found) in (0, len(one.rows)), "a batch is there whole or not at all"
            assert found == list(range(found[0], found[0] + len(found))) if found else True, "and in one piece"
            if one.receipt is not None:
                assert len(found) == len(one.rows), "what was acknowledged is there"
                if not one.receipt.duplicate and one.rows:
                    assert (one.receipt.first_seq, one.receipt.last_seq) == (found[0], found[-1])
        for publisher in range(3):
            order = [place[row["volume"]] for one in self.sent if one.publisher == publisher for row in one.rows
                     if row["volume"] in place]  # fmt: skip
            assert order == sorted(order), "a publisher's order is kept"
        assert self.writer.versions["market_data"] == len(history)
        latest = self.read("SELECT symbol, volume FROM main.market_data")
        assert {row["symbol"]: row["volume"] for row in latest} == _latest(history)
        assert len(latest) == len({row["symbol"] for row in latest})


def _latest(history: list[dict[str, Any]]) -> dict[str, int]:
    """What stands after all of history: the newest row of each symbol, unless that is a delete."""
    newest: dict[str, dict[str, Any]] = {}
    for row in history:
        before = newest.get(row["symbol"])
        if before is None or row["timestamp"] >= before["timestamp"]:
            newest[row["symbol"]] = row
    return {symbol: row["volume"] for symbol, row in newest.items() if row["_change"] == "upsert"}


_ROW = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from("ABC"),
        "bid_price": st.just(1.0),
        "ask_price": st.none(),
        "last_price": st.none(),
        "volume": st.just(0),
        "timestamp": st.integers(0, 4).map(lambda seconds: _START + timedelta(seconds=seconds)),
        "_change": st.sampled_from(["upsert", "upsert", "upsert", "delete"]),
    }
)


class Crashes(RuleBasedStateMachine):
    """Publishers publish, the writer commits, steps fail, the process dies, days pass."""

    @initialize()
    def begin(self) -> None:
        self.desk = Desk()

    @rule(publisher=st.integers(0, 2), rows=st.lists(_ROW, max_size=4))
    def publish(self, publisher: int, rows: list[dict[str, Any]]) -> None:
        self.desk.publish(publisher, [dict(row) for row in rows])

    @rule()
    def commit(self) -> None:
        self.desk.commit()

    @rule(step=st.sampled_from(STEPS))
    def die(self, step: str) -> None:
        self.desk.step, self.desk.failure = step, Killed()
        self.desk.commit()
        self.desk.step = None

    @rule(step=st.sampled_from(STEPS[1:7]), failure=st.sampled_from([DiskFull("full"), OSError("input/output error")]))
    def fail(self, step: str, failure: Exception) -> None:
        self.desk.step, self.desk.failure = step, failure
        self.desk.commit()
        self.desk.step = None

    @rule()
    def fold(self) -> None:
        self.desk.engine.tidy()

    @rule()
    def restart(self) -> None:
        self.desk.restart()

    @rule()
    def next_day(self) -> None:
        self.desk.days += 1

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "desk"):
            self.desk.check()

    def teardown(self) -> None:
        if hasattr(self, "desk"):
            self.desk.commit()
            self.desk.check()
            assert all(one.receipt is not None for one in self.desk.sent), "all is acknowledged in the end"
            self.desk.close()


@pytest.mark.scaled
def test_whatever_dies_or_fails_nothing_acknowledged_is_lost() -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run = Crashes.TestCase
    run.settings = settings(max_examples=examples(500), stateful_step_count=15, suppress_health_check=checks)
    run().runTest()


class _Forgetful(DuckDBEngine):
    """An engine whose commits do not happen."""

    @contextmanager
    def transaction(self) -> Iterator[DuckDBTransaction]:
        connection = self._file.cursor()
        connection.begin()
        try:
            yield DuckDBTransaction(connection)
        finally:
            connection.rollback()
            connection.close()


def test_the_check_would_notice_a_commit_that_does_not_happen() -> None:
    """Without this the test above might be one that can't fail."""
    desk = Desk()
    try:
        row = {"symbol": "A", "bid_price": 1.0, "ask_price": None, "last_price": None, "timestamp": _START}
        desk.publish(0, [{**row, "_change": "upsert"}])
        desk.commit()
        desk.check()
        desk.engine.close()
        desk._opener = _Forgetful
        desk.engine = _Forgetful(desk.folder, DuckDBOptions(threads=1))
        desk.writer._engine = desk.engine
        desk.publish(0, [{**row, "_change": "upsert"}])
        desk.commit()
        with pytest.raises(AssertionError, match="acknowledged"):
            desk.check()
    finally:
        desk.close()
