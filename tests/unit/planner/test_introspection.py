"""Answers from the catalog: information_schema, SHOW, DESCRIBE, USE, session functions."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest
from flightsql_auth.policies import Grants

from flightsql_server.errors import InvalidParameter, SqlSyntaxError, UndefinedTable, UnsupportedFeature
from flightsql_server.planner.information import type_name
from tests.unit.planner import world

NOBODY = Grants()


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with world.database() as opened:
        yield opened


def rows(
    connection: duckdb.DuckDBPyConnection, text: str, grants: Grants = world.EVERYTHING
) -> list[tuple[object, ...]]:
    table = connection.sql(world.planned(text, grants=grants).sql).to_arrow_table()
    return [tuple(row.values()) for row in table.to_pylist()]


@pytest.mark.parametrize("view", ["schemata", "tables", "columns"])
def test_the_views_have_the_engines_columns(view: str, connection: duckdb.DuckDBPyConnection) -> None:
    native = connection.sql(f"SELECT * FROM information_schema.{view}").to_arrow_table().schema
    for grants in (world.EVERYTHING, NOBODY):
        ours = (
            connection.sql(world.planned(f"FROM information_schema.{view}", grants=grants).sql).to_arrow_table().schema
        )
        assert ours.names == native.names
        assert ours.types == native.types


def test_columns_say_what_the_engine_says(connection: duckdb.DuckDBPyConnection) -> None:
    ask = (
        "SELECT table_catalog, table_schema, table_name, column_name, ordinal_position, data_type, numeric_precision, "
        "numeric_precision_radix, numeric_scale FROM information_schema.columns "
        "WHERE table_catalog = 'desk' ORDER BY ALL"
    )
    assert rows(connection, ask) == connection.sql(ask).fetchall()


def test_the_views_hold_only_what_the_caller_may_see(connection: duckdb.DuckDBPyConnection) -> None:
    names = rows(connection, "SELECT table_name FROM information_schema.tables ORDER BY 1", world.TRADER)
    assert names == [("market_data",), ("notes",), ("orders",), ("positions",)]
    schemas = rows(connection, "SELECT schema_name FROM information_schema.schemata ORDER BY 1", world.TRADER)
    assert schemas == [("information_schema",), ("main",), ("u_alice",)]
    assert rows(connection, "FROM information_schema.columns", NOBODY) == []
    assert rows(connection, "FROM information_schema.tables", NOBODY) == []


@pytest.mark.parametrize(
    "text",
    [
        "SELECT tables.table_name FROM information_schema.tables",
        "SELECT information_schema.tables.table_name FROM information_schema.tables",
        "SELECT t.table_name FROM desk.information_schema.tables AS t",
        "SELECT table_name FROM INFORMATION_SCHEMA.TABLES",
        "WITH x AS (FROM information_schema.tables) SELECT table_name FROM x",
        "SELECT table_name FROM (SELECT * FROM information_schema.tables) q",
        "SELECT table_name FROM information_schema.tables t WHERE EXISTS (FROM information_schema.columns)",
    ],
)
def test_the_views_stand_wherever_tables_may(text: str, connection: duckdb.DuckDBPyConnection) -> None:
    found = sorted(str(row[0]) for row in rows(connection, text, world.TRADER))
    assert found == ["market_data", "notes", "orders", "positions"]


@pytest.mark.parametrize("dialect", ["postgres", "mysql", "snowflake", "tsql", "bigquery", "spark"])
def test_the_views_are_there_in_other_dialects(dialect: str, connection: duckdb.DuckDBPyConnection) -> None:
    plan = world.planned("SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'", dialect)
    assert len(connection.sql(plan.sql).fetchall()) == 6


def test_show_tables(connection: duckdb.DuckDBPyConnection) -> None:
    for text in ("SHOW TABLES", "show tables;", "SHOW TABLES -- all", "-- dialect: mysql\nSHOW TABLES"):
        table = connection.sql(world.planned(text, grants=world.TRADER).sql).to_arrow_table()
        assert table.to_pydict() == {"name": ["market_data", "notes", "orders", "positions"]}
    assert connection.sql(world.planned("SHOW TABLES", grants=NOBODY).sql).to_arrow_table().num_rows == 0


@pytest.mark.parametrize(
    "text", ["DESCRIBE market_data", "DESC main.market_data", 'describe "desk"."main"."market_data";']
)
def test_describe(text: str, connection: duckdb.DuckDBPyConnection) -> None:
    table = connection.sql(world.planned(text).sql).to_arrow_table()
    assert table.schema.names == ["column_name", "column_type", "null", "key", "default", "extra"]
    assert table.to_pylist()[0] == {
        "column_name": "symbol",
        "column_type": "VARCHAR",
        "null": "NO",
        "key": "PRI",
        "default": None,
        "extra": None,
    }
    native = connection.sql("DESCRIBE market_data").fetchall()
    assert [tuple(row.values())[:2] for row in table.to_pylist()] == [row[:2] for row in native]


def test_describe_refuses_what_is_hidden_or_not_a_name() -> None:
    with pytest.raises(UndefinedTable):
        world.planned("DESCRIBE hidden", grants=world.TRADER)
    with pytest.raises(UnsupportedFeature):
        world.planned("DESCRIBE SELECT 1", "postgres")
    for text in (
        "DESCRIBE",
        "DESCRIBE 'x'",
        "DESCRIBE a b",
        "DESCRIBE a.b.c.d",
        "USE 1",
        "USE",
        "USE a.",
        "DESCRIBE a.*",
    ):
        with pytest.raises(SqlSyntaxError):
            world.planned(text)


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("USE main", "main"),
        ("USE desk.main", "main"),
        ("USE desk", "main"),
        ("USE U_ALICE;", "u_alice"),
        ('USE "main"', "main"),
    ],
)
def test_use(text: str, schema: str, connection: duckdb.DuckDBPyConnection) -> None:
    plan = world.planned(text, grants=world.TRADER)
    assert plan.set_schema == schema
    assert connection.sql(plan.sql).fetchall() == []


@pytest.mark.parametrize("text", ["USE u_bob", "USE nowhere", "USE system.main", "USE memory", "USE desk.u_bob"])
def test_use_of_hidden_and_absent_schemas_fails_alike(text: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        world.planned(text, grants=world.TRADER)
    assert refused.value.message == f'Schema "{text[4:]}" does not exist.'
    assert "bob" not in refused.value.hint.replace(text[4:], "")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("version()", "1.2.3"),
        ("current_user", "alice"),
        ("current_user()", "alice"),
        ("user", "alice"),
        ("session_user", "alice"),
        ("current_role", "alice"),
        ("current_schema", "main"),
        ("current_schema()", "main"),
        ("current_database()", "desk"),
        ("current_catalog", "desk"),
    ],
)
def test_session_functions(expression: str, value: str, connection: duckdb.DuckDBPyConnection) -> None:
    native = connection.sql(f"SELECT {expression}").to_arrow_table()
    ours = connection.sql(world.planned(f"SELECT {expression}").sql).to_arrow_table()
    assert ours.schema == native.schema
    assert ours.to_pylist() == [{native.schema.names[0]: value}]
    assert rows(connection, f"SELECT upper({expression}) || '!' AS x") == [(value.upper() + "!",)]


def test_a_column_of_that_name_is_the_column(connection: duckdb.DuckDBPyConnection) -> None:
    assert rows(connection, "SELECT user FROM (SELECT 'column' AS user)") == [("column",)]
    assert rows(connection, "SELECT t.user FROM (VALUES ('column')) t(user)") == [("column",)]


@pytest.mark.parametrize("dialect", ["postgres", "mysql", "snowflake", "tsql", "trino"])
def test_session_functions_in_other_dialects(dialect: str, connection: duckdb.DuckDBPyConnection) -> None:
    plan = world.planned("SELECT current_user AS u", dialect)
    assert connection.sql(plan.sql).fetchall() == [("alice",)]


@pytest.mark.parametrize(
    ("arrow", "name"),
    [
        (pa.dictionary(pa.int32(), pa.string()), "VARCHAR"),
        (pa.list_(pa.int32()), "INTEGER[]"),
        (pa.list_(pa.float32(), 3), "FLOAT[3]"),
        (pa.struct([("a", pa.int64()), ("b c", pa.bool_())]), 'STRUCT("a" BIGINT, "b c" BOOLEAN)'),
        (pa.map_(pa.string(), pa.date32()), "MAP(VARCHAR, DATE)"),
        (pa.decimal128(18, 6), "DECIMAL(18,6)"),
        (pa.timestamp("ns"), "TIMESTAMP_NS"),
        (pa.timestamp("ms", "UTC"), "TIMESTAMP WITH TIME ZONE"),
        (pa.time64("us"), "TIME"),
        (pa.large_binary(), "BLOB"),
        (pa.uint16(), "USMALLINT"),
    ],
)
def test_type_names_are_the_engines(arrow: pa.DataType, name: str, connection: duckdb.DuckDBPyConnection) -> None:
    assert type_name(arrow) == name
    connection.sql(f"SELECT CAST(NULL AS {name})").to_arrow_table()
