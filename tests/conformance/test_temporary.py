"""Temporary tables: their session's alone, first in its names, gone with it; and results that wait on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_manager import Error as DriverError
from flightsql_auth.policies import temporary_schema

from flightsql_server.protocol import flight_sql_pb2 as wire
from flightsql_server.protocol.actions import packed
from tests.conformance.clients import basic, metric
from tests.faults.watching import server_with
from tests.running import RunningServer, running_server

_SCHEMAS = "flightsql_temporary_schemas"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("temporary")) as server:
        yield server


def _rows(connection: flight_sql.Connection, sql: str) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def _run(connection: flight_sql.Connection, sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def _in_transactions(server: RunningServer) -> flight_sql.Connection:
    login = {"username": "maker", "password": "maker"}
    return flight_sql.connect(server.url, db_kwargs=login, autocommit=False)


def _tables(connection: flight_sql.Connection) -> dict[str, str]:
    found = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
    return {
        table["table_name"]: table["table_type"]
        for catalog in found
        for schema in catalog["catalog_db_schemas"]
        for table in schema["db_schema_tables"]
    }


def test_a_temporary_table_is_seen_by_its_session_alone(own: RunningServer) -> None:
    with own.connect("maker") as mine, own.connect("maker") as other, own.connect("admin") as admin:
        _run(mine, "CREATE TEMP TABLE scratch AS SELECT 7 AS n")
        assert _rows(mine, "SELECT n FROM scratch") == _rows(mine, "SELECT n FROM temp.scratch") == [(7,)]
        assert _tables(mine)["scratch"] == "LOCAL TEMPORARY"
        schema = _rows(mine, "SELECT table_schema FROM information_schema.tables WHERE table_name = 'scratch'")[0][0]
        assert _rows(mine, f"SELECT n FROM {schema}.scratch") == [(7,)]
        for connection in (other, admin):
            assert "scratch" not in _tables(connection)
            for name in ("scratch", "temp.scratch", f"{schema}.scratch", f"desk.{schema}.scratch"):
                with pytest.raises(DriverError, match="42P01"):
                    _rows(connection, f"SELECT * FROM {name}")
            with pytest.raises(DriverError, match="42501"):
                _run(connection, f"CREATE TABLE {schema}.more (a INT)")
            with pytest.raises(DriverError, match="42P01"):
                _run(connection, f"DROP TABLE {schema}.scratch")
        _run(other, "CREATE TEMPORARY TABLE scratch (n TEXT)")
        assert _rows(other, "SELECT count(*) FROM scratch") == [(0,)]
        assert _rows(mine, "SELECT n FROM scratch") == [(7,)]


def test_it_comes_before_a_lasting_table_of_its_name_and_leaves_that_alone(own: RunningServer) -> None:
    with own.connect("maker") as connection:
        _run(connection, "CREATE OR REPLACE TABLE shadow AS SELECT 'lasting' AS what")
        assert _rows(connection, "SELECT what FROM shadow") == [("lasting",)]
        _run(connection, "CREATE TEMP TABLE shadow AS SELECT 'temporary' AS what")
        assert _rows(connection, "SELECT what FROM shadow") == [("temporary",)]
        _run(connection, "INSERT INTO shadow VALUES ('more')")
        assert _rows(connection, "SELECT count(*) FROM shadow") == [(2,)]
        assert _rows(connection, "SELECT what FROM u_maker.shadow") == [("lasting",)]
        _run(connection, "DROP TABLE shadow")
        assert _rows(connection, "SELECT what FROM shadow") == [("lasting",)]


def test_it_ends_with_its_session(own: RunningServer) -> None:
    """By CloseSession at once; by a kill of the session as well."""
    before = metric(own, _SCHEMAS)
    for end in ("close", "kill"):
        client, options = own.flight("maker")
        with client:
            _flight_run(client, options, "CREATE TEMP TABLE passing AS SELECT 1 AS n")
            assert metric(own, _SCHEMAS) == before + 1
            if end == "close":
                list(client.do_action(flight.Action("CloseSession", b""), options))
            else:
                with own.connect("admin") as admin:
                    found = _rows(admin, "SELECT session_id FROM ops.sessions WHERE user_name = 'maker'")
                for (session,) in found:
                    _kill(own, str(session))
        _until(lambda: metric(own, _SCHEMAS) <= before)


def _flight_run(client: flight.FlightClient, options: flight.FlightCallOptions, sql: str) -> None:
    command = packed(wire.CommandStatementQuery(query=sql))
    client.get_flight_info(flight.FlightDescriptor.for_command(command), options)


def _kill(server: RunningServer, session: str) -> None:
    client, options = server.flight("admin")
    with client:
        list(client.do_action(flight.Action("KillSession", session.encode()), options))


def _until(true: Callable[[], bool], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_rows_are_ingested_into_one(own: RunningServer) -> None:
    rows = pa.table({"symbol": ["A", "B"], "weight": [0.25, 0.75]})
    with own.connect("maker") as connection, connection.cursor() as cursor:
        assert cursor.adbc_ingest("weights", rows, mode="create", temporary=True) == 2
        assert cursor.adbc_ingest("weights", rows, mode="append", temporary=True) == 2
        assert _rows(connection, "SELECT sum(weight) FROM weights") == [(2.0,)]
        assert cursor.adbc_ingest("weights", rows, mode="create") == 2, "a lasting one of that name is another"
        assert _rows(connection, "SELECT sum(weight) FROM u_maker.weights") == [(1.0,)]
        with pytest.raises(DriverError, match="42P07"):
            cursor.adbc_ingest("weights", rows, mode="create", temporary=True)


def test_a_transaction_that_is_rolled_back_leaves_none(own: RunningServer) -> None:
    with _in_transactions(own) as connection:
        _run(connection, "CREATE TEMP TABLE undone AS SELECT 1 AS n")
        assert _rows(connection, "SELECT n FROM undone") == [(1,)]
        connection.rollback()
        with pytest.raises(DriverError, match="42P01"):
            _rows(connection, "SELECT n FROM undone")


def test_views_that_last_can_t_read_one(own: RunningServer) -> None:
    with own.connect("maker") as connection:
        _run(connection, "CREATE TEMP TABLE base AS SELECT 1 AS n")
        with pytest.raises(DriverError, match="CREATE TEMP VIEW"):
            _run(connection, "CREATE VIEW lasting AS SELECT * FROM base")
        _run(connection, "CREATE TEMP VIEW passing AS SELECT n + 1 AS n FROM base")
        assert _rows(connection, "SELECT n FROM passing") == [(2,)]
        with pytest.raises(DriverError, match="CREATE TEMP VIEW"):
            _run(connection, "CREATE VIEW lasting AS SELECT * FROM passing")
        _run(connection, "CREATE TABLE lasting_copy AS SELECT * FROM passing")


def test_callers_without_a_session_have_none(own: RunningServer) -> None:
    options = flight.FlightCallOptions(headers=[(b"authorization", basic("maker", "maker"))])
    with flight.FlightClient(own.url) as client, pytest.raises(pa.ArrowInvalid, match="needs a session"):
        _flight_run(client, options, "CREATE TEMP TABLE nobodys (n INT)")


def test_those_who_may_not_create_may_not_here(own: RunningServer) -> None:
    with own.connect("viewer") as connection, pytest.raises(DriverError, match="42501"):
        _run(connection, "CREATE TEMP TABLE mine AS SELECT 1 AS n")


def test_the_schema_does_not_tell_the_session_s_id() -> None:
    assert "secret-id" not in temporary_schema("secret-id")
    assert temporary_schema("secret-id") != temporary_schema("secret-ie")


def test_none_outlives_the_process(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server, server.connect("maker") as connection:
        _run(connection, "CREATE TEMP TABLE passing AS SELECT 1 AS n")
        _run(connection, "CREATE TABLE lasting AS SELECT 1 AS n")
        server.kill()
    with running_server(tmp_path / "data") as server, server.connect("admin") as admin:
        found = _rows(admin, "SELECT table_name, table_schema FROM information_schema.tables ORDER BY ALL")
        assert ("lasting", "u_maker") in found
        assert not [row for row in found if row[0] == "passing"]


# ---- results that wait


def test_a_result_that_is_too_long_for_memory_waits_on_disk(tmp_path: Path) -> None:
    sql = "SELECT range AS n, 'row ' || range AS text FROM range(200000)"
    limits = {"transaction_result_bytes": 100_000, "transaction_spool_bytes": 20_000_000}
    with (
        server_with(tmp_path / "data", **limits) as server,
        _in_transactions(server) as connection,
        connection.cursor() as cursor,
    ):
        for _ in range(2):
            cursor.execute(sql)
            found = cursor.fetch_arrow_table()
            assert found["n"].to_pylist() == list(range(200_000))
            assert found["text"][199_999].as_py() == "row 199999"
        disk = metric(server, 'flightsql_waiting_result_bytes{where="disk"}')
        assert disk > 4_000_000
        assert list((tmp_path / "data" / "spool").iterdir()) == [], "the files have no names"
        with pytest.raises(DriverError, match="54000"):
            cursor.execute("SELECT range AS n FROM range(10000000)")
        connection.rollback()
        assert metric(server, 'flightsql_waiting_result_bytes{where="disk"}') == disk, "its room is given back"
        assert metric(server, 'flightsql_limits_hit_total{limit="transaction.spool_bytes"}') == 1
