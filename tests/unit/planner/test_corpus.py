"""Planned DuckDB statements against DuckDB itself."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from tests.unit.planner import corpus, world


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with world.database() as opened:
        yield opened


@pytest.mark.parametrize("statement", corpus.statements())
def test_planned_statement_answers_like_the_native_one(statement: str, connection: duckdb.DuckDBPyConnection) -> None:
    plan = world.planned(statement)
    assert world.answer(connection, plan.sql) == world.answer(connection, statement)
    assert not plan.volatile
    assert plan.set_schema is None
    seen = world.engine_tables(connection, plan.sql)
    assert seen is None or seen <= set(plan.tables), plan.sql


@pytest.mark.parametrize("statement", corpus.statements())
def test_planning_a_plan_changes_nothing(statement: str) -> None:
    plan = world.planned(statement)
    again = world.planned(plan.sql)
    assert again.tables == plan.tables
    assert world.planned(again.sql).sql == again.sql


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(corpus.statements()) >= 420


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT now()",
        "SELECT current_timestamp",
        "SELECT current_date",
        "SELECT today()",
        "SELECT random()",
        "SELECT uuid(), gen_random_uuid()",
        "SELECT symbol FROM market_data WHERE timestamp > now() - INTERVAL 1 HOUR",
        "SELECT * FROM market_data TABLESAMPLE 10%",
        "SELECT * FROM market_data USING SAMPLE 2 ROWS",
        "SELECT * FROM market_data USING SAMPLE reservoir(2 ROWS) REPEATABLE (42)",
        "SELECT * FROM market_data TABLESAMPLE reservoir(50%) REPEATABLE (7)",
        "SELECT age(TIMESTAMP '2026-01-01')",
        "SELECT count(*) FROM (SELECT localtimestamp)",
        "SELECT 1 ORDER BY random()",
    ],
)
def test_volatile_statements_say_so_and_run(statement: str, connection: duckdb.DuckDBPyConnection) -> None:
    plan = world.planned(statement)
    assert plan.volatile
    connection.sql(plan.sql).to_arrow_table()


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("SELECT current_date, today()", ["current_date", "today()"]),
        ("SELECT now(), random()", ["now()", "random()"]),
    ],
)
def test_volatile_columns_keep_their_names(
    statement: str, names: list[str], connection: duckdb.DuckDBPyConnection
) -> None:
    assert connection.sql(world.planned(statement).sql).to_arrow_table().schema.names == names
