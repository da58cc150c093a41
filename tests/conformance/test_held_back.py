"""Rows for live datasets that are held back until a change is whole: as many as the setting says and no more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pytest
from adbc_driver_manager import Error as DriverError

from flightsql_server.data.datasets import MARKET_DATA
from tests.conformance.clients import metric
from tests.faults.watching import server_with
from tests.running import RunningServer

MOST = 1_000
_HIT = 'flightsql_limits_hit_total{limit="transaction.staged_rows"}'
_INSERT = "INSERT INTO market_data (symbol, timestamp) SELECT 'H' || range, now() FROM range({})"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with server_with(tmp_path_factory.mktemp("held"), transaction_staged_rows=MOST, query_seconds=20) as server:
        yield server


def _stored(server: RunningServer) -> int:
    with server.connect("admin") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM market_data_history")
        (row,) = cursor.fetchall()
        return int(row[0])


def _manual(server: RunningServer) -> flight_sql.Connection:
    return flight_sql.connect(server.url, db_kwargs={"username": "admin", "password": "admin"}, autocommit=False)


def _quotes(rows: int) -> pa.RecordBatch:
    none = pa.nulls(rows, pa.float64())
    times = pa.array([datetime.now(UTC)] * rows, pa.timestamp("us", "UTC"))
    columns = [pa.array([f"I{n}" for n in range(rows)]), none, none, none, pa.nulls(rows, pa.int64()), times]
    return pa.RecordBatch.from_arrays(columns, schema=MARKET_DATA.schema)


def test_an_insert_of_too_many_rows_stops_reading_and_stores_none(own: RunningServer) -> None:
    """Also one that would never end: its rows would fill the memory."""
    with own.connect("admin") as connection, connection.cursor() as cursor:
        before, hits = _stored(own), metric(own, _HIT)
        for count in (MOST + 1, 10**12):
            with pytest.raises(DriverError, match="53400"):
                cursor.execute(_INSERT.format(count))
        assert (_stored(own), metric(own, _HIT)) == (before, hits + 2)
        cursor.execute(_INSERT.format(MOST))
        assert _stored(own) == before + MOST


def test_a_transaction_counts_all_its_statements_together(own: RunningServer) -> None:
    before = _stored(own)
    with _manual(own) as connection, connection.cursor() as cursor:
        cursor.execute(_INSERT.format(MOST // 2))
        with pytest.raises(DriverError, match="53400"):
            cursor.execute(_INSERT.format(MOST // 2 + 1))
        connection.rollback()
        assert _stored(own) == before
        cursor.execute(_INSERT.format(MOST))
        connection.commit()
    assert _stored(own) == before + MOST


def test_an_ingest_in_a_transaction_is_cut_off_while_it_comes(own: RunningServer) -> None:
    """A hundred batches are not gathered first: the stream is refused at the batch that is too much."""
    before = _stored(own)
    sent = 0

    def endless() -> Iterator[pa.RecordBatch]:
        nonlocal sent
        batch = _quotes(MOST // 10)
        for _ in range(100_000):
            sent += batch.num_rows
            yield batch

    with _manual(own) as connection, connection.cursor() as cursor:
        reader = pa.RecordBatchReader.from_batches(MARKET_DATA.schema, endless())
        with pytest.raises(DriverError, match="53400"):
            cursor.adbc_ingest("market_data", reader, mode="append")
        assert sent < 100_000 * MOST // 10
        connection.rollback()
        assert cursor.adbc_ingest("market_data", pa.Table.from_batches([_quotes(MOST)]), mode="append") == MOST
        connection.commit()
    assert _stored(own) == before + MOST
