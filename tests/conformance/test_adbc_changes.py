"""Changes through the stock ADBC driver off the usual way: not prepared, not read to the end, of rare types."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pytest
from adbc_driver_manager import AdbcStatement, NotSupportedError

from tests.running import RunningServer, running_server


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture
def cursor(own: RunningServer) -> Iterator[flight_sql.Cursor]:
    with own.connect("maker") as connection, connection.cursor() as made:
        made.execute("CREATE OR REPLACE TABLE notes (id INT PRIMARY KEY, note VARCHAR, price DECIMAL(28,8))")
        yield made


def _manual(server: RunningServer) -> flight_sql.Connection:
    return flight_sql.connect(server.url, db_kwargs={"username": "maker", "password": "maker"}, autocommit=False)


def _rows(cursor: flight_sql.Cursor, sql: str = "SELECT * FROM notes ORDER BY id") -> list[tuple[object, ...]]:
    cursor.execute(sql)
    return list(cursor.fetchall())


@pytest.mark.covers("adbc", "StatementQuery", "StatementUpdate", "TicketStatementQuery")
def test_a_text_that_was_not_prepared_runs_as_well(own: RunningServer, cursor: flight_sql.Cursor) -> None:
    """The driver's cursor prepares whatever it runs; its bindings to other languages leave that to their users."""
    with own.connect("maker") as connection, AdbcStatement(connection.adbc_connection) as statement:
        statement.set_sql_query("INSERT INTO notes VALUES (1, 'a', 0), (2, 'b', 0)")
        assert statement.execute_update() == 2
        statement.set_sql_query("SELECT id FROM notes ORDER BY id")
        stream, _ = statement.execute_query()
        assert pa.RecordBatchReader.from_stream(stream).read_all().to_pydict() == {"id": [1, 2]}
        statement.set_sql_query("DELETE FROM notes RETURNING id")
        stream, _ = statement.execute_query()
        assert pa.RecordBatchReader.from_stream(stream).read_all().num_rows == 2
    assert _rows(cursor) == []


# ---- results that nobody has read


def test_a_change_that_nobody_fetched_is_rolled_back(own: RunningServer, cursor: flight_sql.Cursor) -> None:
    """It happened when it was executed, in the transaction, and goes with it."""
    with _manual(own) as connection, connection.cursor() as inside:
        inside.execute("INSERT INTO notes VALUES (1, 'a', 0) RETURNING id")
        connection.rollback()
        inside.execute("INSERT INTO notes VALUES (2, 'b', 0)")
        connection.rollback()
    assert _rows(cursor) == []


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_cursor_is_read_on_after_its_transaction_has_ended(
    own: RunningServer, cursor: flight_sql.Cursor, end: str
) -> None:
    with _manual(own) as connection, connection.cursor() as inside:
        inside.execute("INSERT INTO notes SELECT range, 'n', 0 FROM range(100000)")
        inside.execute("SELECT id FROM notes ORDER BY id")
        reader = inside.fetch_record_batch()
        first = reader.read_next_batch()
        getattr(connection, end)()
        rest = [batch.num_rows for batch in reader]
    assert first.num_rows + sum(rest) == 100_000
    assert _rows(cursor, "SELECT count(*) FROM notes") == [(100_000 if end == "commit" else 0,)]


# ---- rows in bulk


def test_durations_and_wide_decimals_go_in_exactly_or_not_at_all(cursor: flight_sql.Cursor) -> None:
    seconds = pa.table({"d": pa.array([3, None, -1], pa.duration("s"))})
    assert cursor.adbc_ingest("durations", seconds, mode="replace") == 3
    cursor.execute("SELECT d FROM durations")
    found = cursor.fetch_arrow_table().column("d").to_pylist()
    assert [None if one is None else (one.months, one.days, one.nanoseconds) for one in found] == [
        (0, 0, 3_000_000_000),
        None,
        (0, 0, -1_000_000_000),
    ]
    fits = pa.table({"w": pa.array([Decimal("1.50"), None], pa.decimal256(30, 2))})
    assert cursor.adbc_ingest("wide", fits, mode="replace") == 2
    assert _rows(cursor, "SELECT w FROM wide") == [(Decimal("1.50"),), (None,)]
    wider = pa.table({"w": pa.array([Decimal("1.5")], pa.decimal256(60, 1))})
    with pytest.raises(NotSupportedError, match=r"\[0A000\].*decimal256\(60, 1\)"):
        cursor.adbc_ingest("wide", wider, mode="replace")
    assert _rows(cursor, "SELECT count(*) FROM wide") == [(2,)]


def test_a_temporary_table_is_replaced_as_often_as_it_is_sent(own: RunningServer) -> None:
    with own.connect("maker") as connection, connection.cursor() as cursor:
        for number in range(3):
            rows = pa.table({"n": [number] * (number + 1)})
            assert cursor.adbc_ingest("passing", rows, mode="replace", temporary=True) == number + 1
            assert _rows(cursor, "SELECT n FROM passing") == [(number,)] * (number + 1)
