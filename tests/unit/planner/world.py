"""A small desk for planner tests: a catalog, principals, and the same tables in a real DuckDB."""

from __future__ import annotations

import json

import duckdb
import pyarrow as pa
from flightsql_auth.policies import Grants

from flightsql_server.model import Catalog, Column, Plan, Table, TableName
from flightsql_server.planner import PlannerLimits, Request, plan
from flightsql_server.planner.information import type_name

_STAMP = pa.timestamp("us", "UTC")


def _table(
    schema: str, name: str, dataset: str | None, key: tuple[str, ...], *columns: tuple[str, pa.DataType]
) -> Table:
    return Table(schema, name, tuple(Column(n, t, nullable=n not in key) for n, t in columns), key=key, dataset=dataset)


_QUOTES = (
    ("symbol", pa.string()),
    ("bid_price", pa.float64()),
    ("ask_price", pa.float64()),
    ("last_price", pa.float64()),
    ("volume", pa.int64()),
    ("timestamp", _STAMP),
)
_POSITIONS = (
    ("account", pa.string()),
    ("symbol", pa.string()),
    ("quantity", pa.decimal128(18, 4)),
    ("average_price", pa.decimal128(18, 6)),
    ("currency", pa.string()),
)
_ORDERS = (
    ("order_id", pa.string()),
    ("symbol", pa.string()),
    ("side", pa.string()),
    ("quantity", pa.decimal128(18, 4)),
    ("created_at", _STAMP),
    ("updated_at", _STAMP),
)
_FILLS = (
    ("fill_id", pa.int64()),
    ("symbol", pa.string()),
    ("traded_on", pa.date32()),
    ("traded_at", pa.timestamp("us")),
    ("price", pa.decimal128(18, 6)),
    ("lots", pa.int32()),
    ("note", pa.string()),
    ("is_buy", pa.bool_()),
)
_SECRET = (("id", pa.int64()), ("note", pa.string()))

TABLES = (
    _table("main", "market_data", "market_data", ("symbol",), *_QUOTES),
    _table("main", "positions", "positions", ("account", "symbol"), *_POSITIONS),
    _table("main", "orders", "orders", ("order_id",), *_ORDERS),
    _table("main", "fills", None, ("fill_id",), *_FILLS),
    _table("main", "hidden", None, (), *_SECRET),
    _table("main", "Mixed Case", None, (), *_SECRET),
    _table("u_alice", "notes", None, (), *_SECRET),
    _table("u_bob", "notes", None, (), *_SECRET),
)
CATALOG = Catalog({table.table_name: table for table in TABLES})
EVERYTHING = Grants(select=frozenset({"*"}), admin=True)
TRADER = Grants(select=frozenset({"market_data", "positions", "orders"}), create=True, own="u_alice")

_ROWS = {
    "market_data": """
        ('AAA', 1.5, 1.75, 1.6, 10, '2026-01-01 09:00:00+00'),
        ('BBB', 2.5, NULL, 2.6, 20, '2026-01-01 09:30:00+00'),
        ('CCC', NULL, 3.75, 3.6, 30, '2026-01-01 10:00:00+00'),
        ('ddd', 4.5, 4.75, NULL, 5, '2026-01-01 10:30:00+00')""",
    "positions": """
        ('A1', 'AAA', 100, 1.25, 'USD'),
        ('A1', 'BBB', 5.5, 2.25, 'EUR'),
        ('A2', 'AAA', -40, 1.5, 'USD')""",
    "orders": """
        ('o1', 'AAA', 'BUY', 10, '2026-01-01 09:10:00+00', '2026-01-01 09:20:00+00'),
        ('o2', 'BBB', 'SELL', 20, '2026-01-01 09:40:00+00', '2026-01-01 09:45:00+00'),
        ('o3', 'AAA', 'BUY', 30, '2026-01-01 08:00:00+00', '2026-01-01 08:30:00+00'),
        ('o4', 'ZZZ', 'SELL', 40, '2026-01-01 11:00:00+00', '2026-01-01 11:30:00+00')""",
    "fills": """
        (1, 'AAA', DATE '2026-01-01', TIMESTAMP '2026-01-01 09:15:30.5', 1.25, 7, 'first', true),
        (2, 'AAA', DATE '2026-01-02', TIMESTAMP '2026-01-02 10:00:00', 1.5, 3, 'padded  ', false),
        (3, 'BBB', DATE '2026-01-31', TIMESTAMP '2026-01-31 23:59:59', 2.125, -5, '', true),
        (4, 'BBB', DATE '2026-02-28', TIMESTAMP '2026-02-28 00:00:00', 2.75, 0, NULL, true),
        (5, 'CCC', DATE '2026-12-31', NULL, NULL, 12, 'last', NULL)""",
    "hidden": "(1, 'SECRET'), (2, 'SECRET')",
}


def database() -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory whose catalog ``desk`` holds the tables; the connection stands in ``desk.main``."""
    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.execute("ATTACH ':memory:' AS desk; USE desk; SET TimeZone = 'UTC'")
    for schema in sorted({table.schema for table in TABLES} - {"main"}):
        connection.execute(f"CREATE SCHEMA desk.{schema}")
    for table in TABLES:
        columns = ", ".join(f'"{c.name}" {type_name(c.type)}' for c in table.columns)
        connection.execute(f'CREATE TABLE desk.{table.schema}."{table.name}" ({columns})')
        rows = _ROWS.get(table.name, "(1, 'SECRET')")
        connection.execute(f'INSERT INTO desk.{table.schema}."{table.name}" VALUES {rows}')
    return connection


def planned(
    text: str,
    dialect: str = "duckdb",
    grants: Grants = EVERYTHING,
    schema: str = "main",
    limits: PlannerLimits | None = None,
    catalog: Catalog = CATALOG,
) -> Plan:
    """The plan of ``text`` for alice."""
    request = Request(text, dialect, "alice", grants, catalog, schema, "UTC", "1.2.3")
    return plan(request, limits) if limits else plan(request)


def answer(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[list[str], list[str], list[str]]:
    """Names, types and the rows (as text, sorted: most statements promise no order) of a statement."""
    table = connection.sql(sql).to_arrow_table()
    rows = sorted(repr(tuple(column[i].as_py() for column in table.columns)) for i in range(table.num_rows))
    return table.schema.names, [str(t) for t in table.schema.types], rows


def engine_tables(connection: duckdb.DuckDBPyConnection, sql: str) -> set[TableName] | None:
    """The base tables that the engine itself says a statement reads; None where it can't say (it fails on USING)."""
    try:
        names = connection.get_table_names(sql, qualified=True)
    except duckdb.Error:
        return None
    found = set()
    for name in names:
        # An aliased table comes as "desk.main.t AS m".
        parts = [part.strip('"') for part in name.split(" AS ")[0].split(".")]
        found.add(TableName(parts[-2] if len(parts) > 1 else "?", parts[-1]))
    return found


def serialized_tables(connection: duckdb.DuckDBPyConnection, sql: str) -> set[TableName]:
    """The tables of catalog ``desk`` that the engine's own parser finds in the text; needs no binding."""
    row = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    found: set[TableName] = set()
    stack: list[object] = [json.loads(row[0])] if row else []
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if node.get("type") == "BASE_TABLE" and node.get("catalog_name"):
                found.add(TableName(node["schema_name"], node["table_name"]))
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
    return found
