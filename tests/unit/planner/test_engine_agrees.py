"""The engine's own answer about the tables of a statement is the planner's: the check that guards each plan."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from flightsql_server.engine.duckdb import DuckDBEngine
from flightsql_server.model import TableName
from tests.unit.planner import corpus, world


class _Engine(DuckDBEngine):
    """The engine over the corpus's own database."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._file = connection  # type: ignore[assignment]


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with world.database() as opened:
        yield opened


@pytest.mark.parametrize("statement", corpus.statements())
def test_engine_and_planner_name_the_same_tables(statement: str, connection: duckdb.DuckDBPyConnection) -> None:
    plan = world.planned(statement)
    assert _Engine(connection).tables_of(plan.sql) <= frozenset(plan.tables)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ('SELECT 1 FROM "desk"."main"."market_data" AS m', {"market_data"}),
        (
            'SELECT 1 FROM "desk"."main"."market_data" JOIN "desk"."main"."orders" USING (symbol)',
            {"market_data", "orders"},
        ),
        ('SELECT 1 FROM "desk"."main"."orders", (SELECT * FROM "desk"."main"."positions") p', {"orders", "positions"}),
    ],
)
def test_no_table_is_overlooked(sql: str, expected: set[str], connection: duckdb.DuckDBPyConnection) -> None:
    assert _Engine(connection).tables_of(sql) == {TableName("main", name) for name in expected}
