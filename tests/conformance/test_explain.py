"""EXPLAIN through a driver: the translation for everybody, the engine's plan for roles that may."""

from __future__ import annotations

import adbc_driver_flightsql.dbapi as flight_sql
import pytest
from adbc_driver_manager import Error as DriverError

from tests.running import RunningServer


def _rows(connection: flight_sql.Connection, sql: str) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def test_the_translation_tells_whether_the_plan_is_kept(server: RunningServer) -> None:
    statement = "SELECT symbol, 41 AS explained_here FROM market_data"
    with server.connect("viewer") as connection:
        before = {str(what): str(text) for _, what, text in _rows(connection, f"EXPLAIN TRANSLATION {statement}")}
        _rows(connection, statement)
        after = {str(what): str(text) for _, what, text in _rows(connection, f"EXPLAIN TRANSLATION {statement}")}
    assert before["plan"] == "is made anew"
    assert "used again" in after["plan"]
    assert after["backend SQL"] == 'SELECT symbol, 41 AS explained_here FROM "desk"."main"."market_data"'


@pytest.mark.parametrize("word", ["EXPLAIN", "EXPLAIN ANALYZE"])
def test_the_engine_s_plan(server: RunningServer, word: str) -> None:
    sql = f"{word} SELECT symbol, count(*) FROM market_data_history GROUP BY ALL"
    with server.connect("admin") as connection:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            assert [column[0] for column in cursor.description] == ["explain_key", "explain_value"]
            found = " ".join(str(value) for row in cursor.fetchall() for value in row)
        assert "Projection" in found
        assert ("Total Time" in found) == ("ANALYZE" in word)
        assert str(server.data_dir) not in found
    with server.connect("reader") as connection, pytest.raises(DriverError, match="42501"):
        _rows(connection, sql)


def test_parameters_are_bound(server: RunningServer) -> None:
    with server.connect("admin") as connection, connection.cursor() as cursor:
        cursor.execute("EXPLAIN ANALYZE SELECT * FROM market_data WHERE volume > ?", (123456,))
        assert "analyzed_plan" in str(cursor.fetchall())


def test_a_query_that_goes_on_is_stopped_by_its_time(server: RunningServer) -> None:
    with server.connect("admin") as connection, connection.cursor() as cursor:
        connection.adbc_connection.set_options(**{"adbc.flight.sql.session.option.statement_timeout_seconds": "1"})
        with pytest.raises(DriverError, match="57014"):
            cursor.execute("EXPLAIN ANALYZE SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b")
