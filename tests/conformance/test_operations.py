"""``ops``: what the server does now, as tables for those who may see them, and the means to end it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import adbc_driver_flightsql.dbapi as flight_sql
import pytest
from adbc_driver_manager import Error as DriverError

from tests.commands import as_user, refusal, run
from tests.running import RunningServer, running_server

_ENDLESS = "SELECT sum(a.range * b.range) AS n FROM range(10000000) a, range(10000000) b"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("ops")) as server:
        yield server


def _rows(connection: flight_sql.Connection, sql: str) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def test_the_tables_are_listed_for_those_who_may_read_them(own: RunningServer) -> None:
    sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'ops' ORDER BY 1"
    with own.connect("admin") as admin, own.connect("reader") as reader:
        assert _rows(admin, sql) == [("audit",), ("queries",), ("sessions",), ("subscriptions",)]
        assert _rows(reader, sql) == []
        found = admin.adbc_get_objects(depth="columns", db_schema_filter="ops").read_all().to_pylist()
        (schema,) = found[0]["catalog_db_schemas"]
        columns = {table["table_name"]: len(table["table_columns"]) for table in schema["db_schema_tables"]}
        for name, count in columns.items():
            with admin.cursor() as cursor:
                cursor.execute(f'SELECT * FROM "desk"."ops"."{name}"')
                assert len(cursor.description) == count
        for name in ("ops.sessions", "desk.ops.queries", "OPS.Sessions"):
            with pytest.raises(DriverError, match="42P01"):
                _rows(reader, f"SELECT * FROM {name}")


def test_unqualified_names_find_them_after_use(own: RunningServer) -> None:
    with own.connect("admin") as admin:
        _rows(admin, "USE ops")
        assert ("admin",) in _rows(admin, "SELECT DISTINCT user_name FROM sessions")


@pytest.mark.covers("pyarrow", "KillQuery", "KillSession")
def test_a_statement_is_stopped_and_a_session_ended_from_the_command_line(own: RunningServer) -> None:
    failures: list[str] = []

    def endless(connection: flight_sql.Connection) -> None:
        try:
            _rows(connection, _ENDLESS)
        except (DriverError, OSError) as error:
            failures.append(str(error))

    with own.connect("admin") as admin, own.connect("reader") as reader:
        asking = threading.Thread(target=endless, args=[reader])
        asking.start()
        until, running = time.monotonic() + 20, []
        while not running:
            assert time.monotonic() < until
            running = _rows(admin, "SELECT query_id, session_id FROM ops.queries WHERE user_name = 'reader'")
        (query, session) = running[0]
        said = run("kill", "query", str(query), **as_user(own, "admin")).stdout
        assert said == f"Query {query} was stopped.\n"
        asking.join(20)
        assert len(failures) == 1
        assert "57014" in failures[0]
        assert _rows(reader, "SELECT 1") == [(1,)]
        said = run("kill", "session", str(session), **as_user(own, "admin")).stdout
        assert said == f"Session {session} has ended.\n"
        with pytest.raises(DriverError, match="UNAUTHENTICATED"):
            _rows(reader, "SELECT 1")
        assert _rows(admin, f"SELECT count(*) FROM ops.sessions WHERE session_id = '{session}'") == [(0,)]


def test_only_administrators_end_what_others_do(own: RunningServer) -> None:
    assert "42501" in refusal(run("kill", "query", "1", **as_user(own, "reader")))
    assert "22023" in refusal(run("kill", "session", "nobody", **as_user(own, "admin")))
