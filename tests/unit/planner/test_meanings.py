"""Each dialect's statements mean here what they mean there: text, translation and answer, from ``fixtures/sql``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import duckdb
import pytest
from sqlglot import exp, parse_one

from flightsql_server.errors import UserError
from flightsql_server.planner import dialects
from tests.unit.planner import cases, world

LARGE = (
    *("bigquery", "clickhouse", "databricks", "mysql", "oracle", "postgres"),
    *("redshift", "snowflake", "spark", "sqlite", "trino", "tsql"),
)
ALL = [case for dialect in cases.dialects() for case in cases.cases(dialect)]


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with world.database() as opened:
        yield opened


@pytest.mark.parametrize("case", ALL, ids=str)
def test_case(case: cases.Case, connection: duckdb.DuckDBPyConnection) -> None:
    if case.refused is not None:
        state, word = case.refused
        with pytest.raises(UserError) as refusal:
            world.planned(case.text, case.dialect)
        assert refusal.value.sqlstate == state
        assert word.lower() in str(refusal.value).lower()
        return
    plan = world.planned(case.text, case.dialect)
    assert plan.sql == case.backend
    if case.fails:
        with pytest.raises(duckdb.Error, match=case.fails):
            connection.sql(plan.sql).fetchall()
        return
    table = connection.sql(plan.sql).to_arrow_table()
    found = [[_plain(value) for value in row.values()] for row in _rows(table)]
    if case.columns is not None:
        assert table.column_names == case.columns
    expected = case.rows or []
    if not _is_ordered(case):
        found, expected = sorted(found, key=repr), sorted(expected, key=repr)
    assert len(found) == len(expected), found
    for row, wanted in zip(found, expected, strict=True):
        assert len(row) == len(wanted), found
        assert all(_equal(one, other) for one, other in zip(row, wanted, strict=True)), found


def _rows(table: object) -> list[dict[int, object]]:
    columns = [column.to_pylist() for column in table.columns]  # type: ignore[attr-defined]
    return [dict(enumerate(row)) for row in zip(*columns, strict=True)]


def _is_ordered(case: cases.Case) -> bool:
    """Whether the outermost query has an order of its own."""
    tree = parse_one(case.backend, dialect="duckdb")
    return isinstance(tree, exp.Query) and tree.args.get("order") is not None


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return str(value.replace(tzinfo=None))
    if isinstance(value, (Decimal, date, time, timedelta)):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _equal(found: object, wanted: object) -> bool:
    """A number in the case may be found as a float or a decimal of the same value; a text is itself."""
    if isinstance(wanted, bool) or isinstance(found, bool):
        return found is wanted
    if isinstance(wanted, float) and isinstance(found, (int, float)):
        return math.isclose(found, wanted, rel_tol=1e-12, abs_tol=1e-12)
    if isinstance(wanted, (int, float)) and isinstance(found, str):
        try:
            return Decimal(found) == Decimal(str(wanted))
        except ArithmeticError:
            return False
    return found == wanted


def test_every_case_has_a_name_of_its_own() -> None:
    names = [str(case) for case in ALL]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("dialect", sorted(set(dialects()) - {"duckdb"}))
def test_every_dialect_has_its_cases(dialect: str) -> None:
    assert len(cases.cases(dialect)) >= (25 if dialect in LARGE else 5)
