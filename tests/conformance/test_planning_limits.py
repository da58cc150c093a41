"""A statement that is too long, too deep or takes too long to plan is refused by the limit it meets, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from adbc_driver_manager import Error as DriverError

from tests.conformance.clients import metric
from tests.faults.watching import server_with
from tests.running import RunningServer


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    limits = {"sql_statement_bytes": 50_000, "sql_statement_tokens": 2_000}
    with server_with(tmp_path_factory.mktemp("limits"), **limits) as server:
        yield server


@pytest.mark.parametrize(
    ("limit", "sql"),
    [
        ("sql.statement_bytes", "SELECT '" + "x" * 50_000 + "'"),
        ("sql.statement_tokens", "SELECT " + "1 + " * 1_500 + "1"),
        ("sql.statement_depth", "SELECT " + "(" * 250 + "1" + ")" * 250),
    ],
)
def test_each_limit_bites_and_is_counted(own: RunningServer, limit: str, sql: str) -> None:
    _refused(own, limit, sql)


def test_planning_that_takes_too_long_ends(tmp_path: Path) -> None:
    with server_with(tmp_path / "data", sql_planning_seconds=0.001) as server:
        _refused(server, "sql.planning_seconds", "SELECT " + ", ".join(f"upper('x{n}')" for n in range(2_000)))


def _refused(server: RunningServer, limit: str, sql: str) -> None:
    with server.connect() as connection, connection.cursor() as cursor, pytest.raises(DriverError, match="54001"):
        cursor.execute(sql)
    assert metric(server, f'flightsql_limits_hit_total{{limit="{limit}"}}') == 1
