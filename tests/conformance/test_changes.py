"""Changes and transactions through the stock ADBC driver: exactly once, with right counts, all or nothing."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_manager import Error as DriverError
from adbc_driver_manager import OperationalError, ProgrammingError

from flightsql_server.protocol import flight_sql_pb2 as wire
from flightsql_server.protocol.actions import packed
from tests.running import RunningServer, add_users, running_server

_NOTES = "CREATE OR REPLACE TABLE notes (id INT PRIMARY KEY, note VARCHAR, price DECIMAL(28,8))"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture
def cursor(own: RunningServer) -> Iterator[flight_sql.Cursor]:
    with own.connect("maker") as connection, connection.cursor() as made:
        made.execute(_NOTES)
        yield made


def _rows(cursor: flight_sql.Cursor, sql: str = "SELECT * FROM notes ORDER BY id") -> list[tuple[object, ...]]:
    cursor.execute(sql)
    return list(cursor.fetchall())


# ---- changes


def test_counts_are_told(cursor: flight_sql.Cursor) -> None:
    counts = []
    for sql in (
        "INSERT INTO notes VALUES (1, 'a', 1.5), (2, 'b', NULL)",
        "UPDATE notes SET note = 'z'",
        "DELETE FROM notes WHERE id = 1",
    ):
        cursor.execute(sql)
        counts.append(cursor.rowcount)
    assert counts == [2, 2, 1]
    assert _rows(cursor) == [(2, "z", None)]


def test_a_change_happens_once_although_nothing_is_fetched(cursor: flight_sql.Cursor) -> None:
    cursor.execute("INSERT INTO notes VALUES (1, 'a', 0)")
    cursor.execute("INSERT INTO notes VALUES (2, 'b', 0) RETURNING id")  # never fetched
    assert [row[0] for row in _rows(cursor)] == [1, 2]


def test_returned_rows_come_back_and_can_be_fetched_again(own: RunningServer, cursor: flight_sql.Cursor) -> None:
    """A ticket of a change fetches what is there already: it never runs anything again, whoever holds it."""
    cursor.execute("INSERT INTO notes VALUES (1, 'a', 1.25), (2, 'b', 2.5) RETURNING id, price * 2 AS twice")
    assert cursor.fetchall() == [(1, Decimal("2.50000000")), (2, Decimal("5.00000000"))]
    with own.connect("maker") as connection, connection.cursor() as first:
        partitions, schema = first.adbc_execute_partitions("INSERT INTO notes VALUES (3, 'c', 0) RETURNING id")
        assert schema is None or schema.names == ["id"]
        with own.connect("maker") as again, again.cursor() as second:
            for _ in range(2):
                second.adbc_read_partition(partitions[0])
                assert second.fetchall() == [(3,)]
        with own.connect("admin") as foreign, foreign.cursor() as third, pytest.raises(DriverError, match="26000"):
            third.adbc_read_partition(partitions[0])
    assert len(_rows(cursor)) == 3


@pytest.mark.covers("adbc", "PreparedStatementUpdate")
def test_many_rows_are_one_change(cursor: flight_sql.Cursor) -> None:
    cursor.executemany("INSERT INTO notes VALUES (?, ?, ?)", [(n, None, Decimal(n)) for n in range(100)])
    assert cursor.rowcount == 100
    with pytest.raises(ProgrammingError, match=r"\[23505\]"):
        cursor.executemany("INSERT INTO notes VALUES (?, ?, ?)", [(200, "x", None), (5, "twice", None)])
    assert _rows(cursor, "SELECT count(*), count(note) FROM notes") == [(100, 0)]


def test_null_is_null_and_decimals_are_exact(cursor: flight_sql.Cursor) -> None:
    exact = Decimal("99999999999.99999999")
    cursor.execute("INSERT INTO notes VALUES (?, ?, ?)", (1, None, exact))
    assert _rows(cursor, "SELECT note IS NULL, price FROM notes") == [(True, exact)]


def test_tables_are_made_changed_and_dropped(cursor: flight_sql.Cursor) -> None:
    for sql in (
        "CREATE TABLE kept AS SELECT 1 AS a",
        "ALTER TABLE kept ADD COLUMN b VARCHAR",
        "UPDATE kept SET b = 'x'",
        "ALTER TABLE kept RENAME TO renamed",
    ):
        cursor.execute(sql)
    assert _rows(cursor, "SELECT * FROM renamed") == [(1, "x")]
    with pytest.raises(ProgrammingError, match=r"\[42P01\]"):
        cursor.execute("SELECT * FROM kept")
    cursor.execute("DROP TABLE renamed")
    with pytest.raises(ProgrammingError, match=r"\[42P07\]"):
        cursor.execute("CREATE TABLE notes (a INT)")


def test_tables_are_their_owner_s_alone(own: RunningServer, cursor: flight_sql.Cursor) -> None:
    with own.connect("reader") as connection, connection.cursor() as other:
        for sql in ("SELECT * FROM u_maker.notes", "SELECT * FROM notes"):
            with pytest.raises(ProgrammingError, match=r"\[42P01\]"):
                other.execute(sql)
        other.execute("SELECT table_name FROM information_schema.tables WHERE table_schema LIKE 'u\\_%' ESCAPE '\\'")
        assert other.fetchall() == []
        with pytest.raises(ProgrammingError, match=r"\[42501\]"):
            other.execute("CREATE TABLE mine (a INT)")
    with own.connect("admin") as connection, connection.cursor() as admin:
        assert _rows(admin, "SELECT * FROM u_maker.notes") == []
        with pytest.raises(ProgrammingError, match=r"\[42501\]"):
            admin.execute("INSERT INTO u_maker.notes VALUES (1, 'a', 0)")


def test_metadata_knows_them(own: RunningServer, cursor: flight_sql.Cursor) -> None:
    with own.connect("maker") as connection:
        schema = connection.adbc_get_table_schema("notes", db_schema_filter="u_maker")
        assert [(field.name, field.type, field.nullable) for field in schema] == [
            ("id", pa.int32(), False),
            ("note", pa.string(), True),
            ("price", pa.decimal128(28, 8), True),
        ]
        found = connection.adbc_get_objects(depth="tables", table_name_filter="notes").read_all().to_pylist()
        assert [
            schema["db_schema_name"] for schema in found[0]["catalog_db_schemas"] if schema["db_schema_tables"]
        ] == ["u_maker"]


# ---- rows for live datasets


def test_insert_into_a_live_dataset_goes_through_the_writer(own: RunningServer) -> None:
    with own.connect("feed") as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO market_data VALUES ('SQL', 1, 2.5, NULL, 7, '2026-01-01 00:00:00')")
        assert cursor.rowcount == 1
        cursor.execute("SELECT bid_price, volume, timestamp FROM market_data WHERE symbol = 'SQL'")
        assert cursor.fetchall() == [(1.0, 7, datetime(2026, 1, 1, tzinfo=UTC))]
        cursor.execute("SELECT count(*), min(_change) FROM market_data_history WHERE symbol = 'SQL'")
        assert cursor.fetchone() == (1, "upsert")
        cursor.execute("INSERT INTO market_data (symbol, timestamp) VALUES (?, ?)", ("BND", datetime.now(UTC)))
        assert cursor.rowcount == 1
        with pytest.raises(ProgrammingError, match=r"\[22023\].*null"):
            cursor.execute("INSERT INTO market_data (symbol) VALUES ('SQL')")
        for sql in ("UPDATE market_data SET volume = 1", "DELETE FROM market_data"):
            with pytest.raises(OperationalError, match=r"\[25006\].*_change"):
                cursor.execute(sql)
    with (
        own.connect("reader") as connection,
        connection.cursor() as other,
        pytest.raises(DriverError, match=r"\[42501"),
    ):
        other.execute("INSERT INTO market_data (symbol, timestamp) VALUES ('X', now())")


def test_a_transaction_hands_its_rows_over_when_it_commits(own: RunningServer) -> None:
    insert = "INSERT INTO market_data (symbol, timestamp) VALUES ('STAGED{}', now())"
    with own.connect("feed") as connection, connection.cursor() as cursor, own.connect("reader") as other:
        for end, expected in (("ROLLBACK", 0), ("COMMIT", 2)):
            cursor.execute("BEGIN")
            for number in (1, 2):
                cursor.execute(insert.format(number))
            assert _rows(cursor, "SELECT count(*) FROM market_data WHERE symbol LIKE 'STAGED%'") == [(0,)]
            cursor.execute(end)
            with other.cursor() as reading:
                assert _rows(reading, "SELECT count(*) FROM market_data WHERE symbol LIKE 'STAGED%'") == [(expected,)]


# ---- transactions


def _manual(server: RunningServer) -> flight_sql.Connection:
    return flight_sql.connect(server.url, db_kwargs={"username": "maker", "password": "maker"}, autocommit=False)


@pytest.mark.covers("adbc", "BeginTransaction", "EndTransaction")
def test_rollback_and_commit(own: RunningServer, cursor: flight_sql.Cursor) -> None:
    with _manual(own) as connection, connection.cursor() as inside:
        inside.execute("INSERT INTO notes VALUES (1, 'a', 0)")
        assert _rows(inside, "SELECT id FROM notes") == [(1,)]
        assert _rows(cursor) == []
        connection.rollback()
        assert _rows(inside, "SELECT id FROM notes") == []
        inside.execute("INSERT INTO notes VALUES (2, 'b', 0)")
        inside.adbc_ingest("bulk", pa.table({"a": [1, 2]}), mode="create")
        assert _rows(inside, "SELECT sum(a) FROM bulk") == [(3,)]
        connection.commit()
        assert _rows(cursor, "SELECT id FROM notes") == [(2,)]
        inside.execute("DROP TABLE bulk")
        connection.commit()


def test_two_transactions_of_one_user_live_side_by_side(own: RunningServer, cursor: flight_sql.Cursor) -> None:
    """In the rival's server the second one aborted the first, and ids meant nothing."""
    with _manual(own) as one, _manual(own) as other, one.cursor() as first, other.cursor() as second:
        first.execute("INSERT INTO notes VALUES (1, 'first', 0)")
        second.execute("INSERT INTO notes VALUES (2, 'second', 0)")
        assert _rows(first, "SELECT id FROM notes") == [(1,)]
        assert _rows(second, "SELECT id FROM notes") == [(2,)]
        one.rollback()
        other.commit()
    assert _rows(cursor, "SELECT id FROM notes") == [(2,)]


def test_two_changes_of_one_row_do_not_both_win(own: RunningServer, cursor: flight_sql.Cursor) -> None:
    cursor.execute("INSERT INTO notes VALUES (1, 'a', 0)")
    with _manual(own) as one, _manual(own) as other, one.cursor() as first, other.cursor() as second:
        first.execute("UPDATE notes SET note = 'first'")
        with pytest.raises(DriverError, match=r"\[40001\]"):
            second.execute("UPDATE notes SET note = 'second'")
        with pytest.raises(DriverError, match=r"\[25000\].*[Rr]oll it back"):
            second.execute("SELECT 1")
        other.rollback()
        one.commit()
    assert _rows(cursor, "SELECT note FROM notes") == [("first",)]


def test_a_feed_goes_on_beside_an_open_transaction(own: RunningServer, cursor: flight_sql.Cursor) -> None:
    """An idle tab with an open change must not stop ingest."""
    with _manual(own) as connection, connection.cursor() as inside, own.connect("feed") as feed:
        inside.execute("INSERT INTO notes VALUES (1, 'open', 0)")
        with feed.cursor() as feeding:
            feeding.execute("INSERT INTO market_data (symbol, timestamp) VALUES ('BESIDE', now())")
            assert feeding.rowcount == 1
        assert _rows(inside, "SELECT note FROM notes") == [("open",)]
        connection.rollback()


def test_begin_and_commit_as_statements(own: RunningServer, cursor: flight_sql.Cursor) -> None:
    cursor.execute("BEGIN")
    cursor.execute("INSERT INTO notes VALUES (1, 'a', 0)")
    with pytest.raises(OperationalError, match=r"\[25000\]"):
        cursor.execute("BEGIN")
    with own.connect("maker") as connection, connection.cursor() as other:
        assert _rows(other) == []
        with pytest.raises(OperationalError, match=r"\[25000\].*no transaction"):
            other.execute("COMMIT")
    cursor.execute("COMMIT")
    assert len(_rows(cursor)) == 1


def test_the_two_kinds_of_change_do_not_mix(own: RunningServer) -> None:
    with own.connect("admin") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE TABLE mixed (a INT)")
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO mixed VALUES (1)")
        with pytest.raises(OperationalError, match=r"\[25000\]"):
            cursor.execute("INSERT INTO market_data (symbol, timestamp) VALUES ('MIXED', now())")
        cursor.execute("ROLLBACK")
        assert _rows(cursor, "SELECT count(*) FROM mixed") == [(0,)]


def _act(server: RunningServer, user: str, name: str, body: bytes) -> list[bytes]:
    client, options = server.flight(user)
    with client:
        return [result.body.to_pybytes() for result in client.do_action(flight.Action(name, body), options)]


@pytest.mark.covers("pyarrow", "BeginTransaction")
@pytest.mark.parametrize("name", ["EndTransaction"])
def test_ids_that_mean_nothing_are_refused(own: RunningServer, name: str) -> None:
    with pytest.raises(pa.ArrowException, match=r"25P01"):
        _act(own, "maker", name, packed(wire.ActionEndTransactionRequest(transaction_id=b"nothing", action=1)))
    begun = _act(own, "maker", "BeginTransaction", packed(wire.ActionBeginTransactionRequest()))
    mine = begun[0][-16:]
    with pytest.raises(pa.ArrowException, match=r"25P01"):  # of another session, though the same user's
        _act(own, "maker", name, packed(wire.ActionEndTransactionRequest(transaction_id=mine, action=1)))


def test_idle_transactions_and_lost_sessions_roll_back(tmp_path: Path) -> None:
    add_users(tmp_path)
    config = tmp_path / "idle.toml"
    config.write_text('[transaction]\nidle_seconds = 1.0\n[roles.maker]\nselect = ["*"]\ncreate = true\n')
    server = RunningServer(tmp_path, "--config", str(config))
    try:
        with server.connect("maker") as connection, connection.cursor() as cursor:
            cursor.execute(_NOTES)
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO notes VALUES (1, 'idle', 0)")
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and _metric(server, "flightsql_transactions ") != 0:
                time.sleep(0.2)
            with pytest.raises(OperationalError, match=r"\[25000\]"):
                cursor.execute("COMMIT")
            assert _rows(cursor) == []
        assert _metric(server, 'flightsql_transactions_ended_total{how="idle"}') == 1
    finally:
        server.stop()


def _metric(server: RunningServer, name: str) -> float:
    with urllib.request.urlopen(f"{server.http}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return float(next((line.rsplit(" ", 1)[1] for line in lines if line.startswith(name)), "0"))


def test_a_change_outlives_a_restart_and_a_transaction_does_not(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        client, options = server.flight("maker")
        for sql in (
            _NOTES,
            "INSERT INTO notes VALUES (1, 'kept', 0)",
            "BEGIN",
            "INSERT INTO notes VALUES (2, 'lost', 0)",
        ):
            command = packed(wire.CommandStatementQuery(query=sql))
            client.get_flight_info(flight.FlightDescriptor.for_command(command), options)
        server.kill()
        client.close()
    with running_server(tmp_path) as server, server.connect("maker") as connection, connection.cursor() as cursor:
        assert [row[0] for row in _rows(cursor)] == [1]


def test_statements_of_one_transaction_run_in_turn(own: RunningServer, cursor: flight_sql.Cursor) -> None:
    """Two cursors that share a transaction wait for each other, and neither's rows are cut off."""
    with _manual(own) as connection, connection.cursor() as first, connection.cursor() as second:
        first.execute("SELECT * FROM range(100000)")
        wrong: list[BaseException] = []

        def other() -> None:
            try:
                second.execute("INSERT INTO notes VALUES (1, 'a', 0)")
            except BaseException as error:
                wrong.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(30)
        assert not wrong
        assert first.fetch_arrow_table().num_rows == 100_000
        connection.rollback()


# ---- whole tables


def test_ingest_in_every_mode(own: RunningServer) -> None:
    rows = pa.table({"a": pa.array([1, None], pa.int64()), "s": pa.array(["x", "y"]).dictionary_encode()})
    with own.connect("maker") as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS loaded")
        with pytest.raises(DriverError, match=r"\[42P01\]"):
            cursor.adbc_ingest("loaded", rows, mode="append")
        for mode in ("create", "append", "create_append"):
            assert cursor.adbc_ingest("loaded", rows, mode=mode) == rows.num_rows
        with pytest.raises(DriverError, match=r"\[42P07\]"):
            cursor.adbc_ingest("loaded", rows, mode="create")
        assert _rows(cursor, "SELECT count(*) FROM loaded") == [(3 * rows.num_rows,)]
        cursor.adbc_ingest("loaded", rows, mode="replace", db_schema_name="u_maker", catalog_name="desk")
        cursor.execute("SELECT * FROM loaded")
        assert cursor.fetch_arrow_table().to_pydict() == rows.to_pydict()
        with pytest.raises(DriverError, match=r"\[42501\]"):
            cursor.adbc_ingest("loaded", rows, mode="append", db_schema_name="main")
        with pytest.raises(DriverError, match=r"before its first message"):  # the driver sends nothing then
            cursor.adbc_ingest("loaded", rows.slice(0, 0), mode="append")


@pytest.mark.covers("pyarrow", "StatementIngest")
def test_a_table_without_rows_is_made_from_its_schema(own: RunningServer) -> None:
    options_of = wire.CommandStatementIngest.TableDefinitionOptions
    modes = options_of(if_not_exist=1, if_exists=3)
    command = packed(wire.CommandStatementIngest(table="empty", table_definition_options=modes))
    client, options = own.flight("maker")
    with client:
        schema = pa.schema([pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.list_(pa.string()))])
        writer, reader = client.do_put(flight.FlightDescriptor.for_command(command), schema, options)
        writer.done_writing()
        assert reader.read().to_pybytes() in (b"", b"\x08\x00")
        writer.close()
    with own.connect("maker") as connection:
        found = connection.adbc_get_table_schema("empty", db_schema_filter="u_maker")
        assert [(field.name, field.nullable) for field in found] == [("a", False), ("b", True)]


def test_rows_ingested_into_a_live_dataset_wait_for_the_commit(own: RunningServer) -> None:
    quote = {"symbol": "INGESTED", "bid_price": 1.0, "ask_price": None, "last_price": None, "volume": 1}
    rows = pa.Table.from_pylist([{**quote, "timestamp": datetime.now(UTC)}])
    login = {"username": "feed", "password": "feed"}
    count = "SELECT count(*) FROM market_data WHERE symbol = 'INGESTED'"
    with flight_sql.connect(own.url, db_kwargs=login, autocommit=False) as connection, connection.cursor() as cursor:
        rows = rows.set_column(1, "bid_price", pa.array([1.0]))
        rows = rows.set_column(2, "ask_price", pa.nulls(1, pa.float64()))
        rows = rows.set_column(3, "last_price", pa.nulls(1, pa.float64()))
        assert cursor.adbc_ingest("market_data", rows, mode="append") == 1
        connection.rollback()
        assert _rows(cursor, count) == [(0,)]
        assert cursor.adbc_ingest("market_data", rows, mode="append") == 1
        connection.commit()
        assert _rows(cursor, count) == [(1,)]


def test_ingest_changes_nothing_silently(own: RunningServer) -> None:
    """Decimals went through floats in the rival's server, dictionaries came out as their printed form."""
    exact = pa.table(
        {
            "d": pa.array([Decimal("12345678901234567890.1234567891")], pa.decimal128(38, 10)),
            "s": pa.array(["a"]).dictionary_encode(),
            "t": pa.array([10**18 + 1], pa.timestamp("ns")),
            "b": pa.array([b"\x00\xff"]),
        }
    )
    with own.connect("maker") as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("exact", exact, mode="replace")
        cursor.execute("SELECT * FROM exact")
        found = cursor.fetch_arrow_table()
        assert found.to_pydict() == exact.to_pydict()
        assert found.schema.types == [pa.decimal128(38, 10), pa.string(), pa.timestamp("ns"), pa.binary()]
        with pytest.raises(DriverError, match=r"\[22023\]"):
            cursor.adbc_ingest("exact", pa.table({"d": ["text"], "s": ["a"]}), mode="append")
        assert _rows(cursor, "SELECT count(*) FROM exact") == [(1,)]


# ---- views


def test_a_view_shows_what_its_reader_may_see(own: RunningServer, cursor: flight_sql.Cursor) -> None:
    """A view is read under the rights of who asks, so it shows nobody what they could not read without it."""
    cursor.execute("INSERT INTO notes VALUES (1, 'a', 1.5), (2, 'b', 2.5)")
    cursor.execute("CREATE OR REPLACE VIEW cheap AS SELECT id, upper(note) AS note FROM notes WHERE price < 2")
    cursor.execute("CREATE OR REPLACE VIEW twice AS SELECT c.id * 2 AS double FROM cheap c JOIN notes USING (id)")
    assert _rows(cursor, "SELECT * FROM cheap") == [(1, "A")]
    assert _rows(cursor, "SELECT x.double FROM twice AS x, range(2)") == [(2,), (2,)]
    cursor.execute("INSERT INTO notes VALUES (3, 'c', 0.5)")
    assert _rows(cursor, "SELECT count(*) FROM cheap") == [(2,)]
    with own.connect("maker") as connection:
        found = connection.adbc_get_objects(depth="tables", table_types_filter=["VIEW"]).read_all().to_pylist()
        names = [table["table_name"] for s in found[0]["catalog_db_schemas"] for table in s["db_schema_tables"]]
        assert names == ["cheap", "twice"]
    with own.connect("reader") as connection, connection.cursor() as other, pytest.raises(DriverError, match="42P01"):
        other.execute("SELECT * FROM u_maker.cheap")
    for sql in ("INSERT INTO cheap VALUES (1, 'x')", "CREATE VIEW cheap AS SELECT 1 AS n"):
        with pytest.raises(DriverError):
            cursor.execute(sql)
    cursor.execute("DROP VIEW twice")
    cursor.execute("DROP VIEW cheap")
    with pytest.raises(ProgrammingError, match=r"\[42P01\]"):
        cursor.execute("SELECT * FROM cheap")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT list_transform([1, 2], x -> x + (1)) AS l, list_filter([3], lambda y: (y) > 1) AS f",
        "SELECT [x * (x) FOR x IN list_transform([[1]], x -> list_sum(list_transform(x, y -> y + 1)))] AS l",
        "SELECT symbol FROM market_data TABLESAMPLE 100 PERCENT",
    ],
)
def test_a_view_gives_what_its_query_gives(cursor: flight_sql.Cursor, query: str) -> None:
    """The engine keeps a view in words of its own, which must be read again."""
    cursor.execute(f"CREATE OR REPLACE VIEW reread AS {query}")
    assert sorted(_rows(cursor, "SELECT * FROM reread")) == sorted(_rows(cursor, query))
    cursor.execute("DROP VIEW reread")


def test_a_view_of_live_data_is_live(own: RunningServer, cursor: flight_sql.Cursor) -> None:
    cursor.execute("CREATE OR REPLACE VIEW seen AS SELECT symbol FROM market_data_history WHERE symbol = 'VIEWED'")
    with own.connect("feed") as connection, connection.cursor() as feeding:
        for expected in (1, 2):
            feeding.execute("INSERT INTO market_data (symbol, timestamp) VALUES ('VIEWED', now())")
            assert _rows(cursor, "SELECT count(*) FROM seen") == [(expected,)]
    cursor.execute("DROP VIEW seen")
