"""Parameters become casts of numbered values; where none can stand they are refused; unbound ones get likely types."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

from flightsql_server.errors import InvalidParameter, ServerError, SqlSyntaxError, UnsupportedFeature
from flightsql_server.model import Plan
from flightsql_server.planner import Request, plan
from tests.unit.planner import world

_STAMP = pa.timestamp("us", "UTC")


def _planned(text: str, types: tuple[pa.DataType, ...] | None = None, dialect: str = "duckdb") -> Plan:
    catalog = world.CATALOG
    return plan(Request(text, dialect, "alice", world.EVERYTHING, catalog, "main", "UTC", "1", parameters=types))


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("SELECT * FROM market_data WHERE symbol = ?", [pa.string()]),
        ("SELECT * FROM market_data WHERE ? < bid_price AND volume IN (?, ?)", [pa.float64(), pa.int64(), pa.int64()]),
        ("SELECT * FROM market_data WHERE timestamp BETWEEN $1 AND $2", [_STAMP, _STAMP]),
        ("SELECT quantity * ? FROM positions", [pa.decimal128(18, 4)]),
        ("SELECT * FROM market_data LIMIT ? OFFSET ?", [pa.int64(), pa.int64()]),
        ("SELECT ? + 1, ? || 'a', CAST(? AS DECIMAL(10, 2))", [pa.int64(), pa.string(), pa.decimal128(10, 2)]),
        ("SELECT symbol FROM orders WHERE symbol LIKE ? AND ?", [pa.string(), pa.bool_()]),
        ("SELECT coalesce(volume, ?) FROM market_data", [pa.int64()]),
        ("SELECT * FROM range(?)", [pa.int64()]),
        ("SELECT $2, $1 + 1.5", [pa.float64(), pa.string()]),
        ("SELECT '?', \"symbol\" FROM market_data -- ? $1", []),
    ],
)
def test_unbound_parameters_get_likely_types(text: str, types: list[pa.DataType]) -> None:
    assert list(_planned(text).parameters) == types


@pytest.mark.parametrize("dialect", ["postgres", "snowflake", "tsql", "mysql", "oracle", "bigquery", "spark", "trino"])
def test_question_marks_are_parameters_in_every_dialect(dialect: str) -> None:
    found = _planned("SELECT symbol FROM market_data WHERE volume > ?", (pa.int32(),), dialect)
    assert "CAST($1 AS INT)" in found.sql
    assert found.parameters == (pa.int32(),)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM ?",
        "SELECT 1 AS ?",
        "SELECT x::? FROM (SELECT 1 AS x)",
        "SELECT ?(1)",
        "SELECT ?.symbol FROM market_data",
        "SELECT symbol FROM market_data ?",
        "SELECT INTERVAL 1 ?",
        "WITH ? AS (SELECT 1) SELECT 1",
    ],
)
def test_a_parameter_is_a_value_and_nothing_else(text: str) -> None:
    with pytest.raises((SqlSyntaxError, UnsupportedFeature)):
        _planned(text, (pa.string(),))


def test_a_name_that_looks_like_the_mark_is_refused() -> None:
    with pytest.raises(ServerError):
        _planned("SELECT \ufdd0p1", (pa.string(),))


@pytest.mark.parametrize(("text", "count"), [("SELECT ?", 0), ("SELECT ?", 2), ("SELECT 1", 1), ("SELECT $3", 2)])
def test_each_parameter_needs_its_value(text: str, count: int) -> None:
    with pytest.raises(InvalidParameter, match="parameter"):
        _planned(text, (pa.int64(),) * count)


def test_the_two_ways_of_writing_do_not_mix() -> None:
    with pytest.raises(SqlSyntaxError, match="both kinds"):
        _planned("SELECT ?, $1")


@pytest.mark.parametrize("text", ["SELECT $0", "SELECT $1001", "SELECT " + ", ".join("?" * 1001)])
def test_parameters_have_a_limit(text: str) -> None:
    with pytest.raises(InvalidParameter):
        _planned(text)


def test_types_without_an_equal_are_refused_by_name() -> None:
    for type_ in (pa.decimal256(60, 2), pa.dense_union([pa.field("a", pa.int8())]), pa.struct([])):
        with pytest.raises(UnsupportedFeature, match="parameter can't be of type"):
            _planned("SELECT ?", (type_,))


def test_what_is_written_runs_with_the_values() -> None:
    found = _planned("SELECT ? AS d, ? AS l, ? AS n", (pa.decimal128(28, 8), pa.list_(pa.int8()), pa.null()))
    with world.database() as connection:
        table = connection.sql(found.sql, params={"1": "99999999999.99999999", "2": [1, None]}).to_arrow_table()
    assert table.schema.types[:2] == [pa.decimal128(28, 8), pa.list_(pa.field("l", pa.int8()))]
    assert table.to_pylist() == [{"d": Decimal("99999999999.99999999"), "l": [1, None], "n": None}]


def test_columns_are_called_as_they_were_written() -> None:
    with world.database() as connection:
        relation = connection.sql(_planned("SELECT ?, abs(?) + 1", (pa.int64(), pa.int64())).sql, params=[1, 2])
        assert relation.columns == ["$1", "abs($2) + 1"]
