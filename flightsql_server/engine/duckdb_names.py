"""Which tables a statement reads, as DuckDB itself says."""

from __future__ import annotations

import json
import re
from typing import Any

import duckdb

from flightsql_server.model import MAIN_SCHEMA, TableName


def tables_of(connection: duckdb.DuckDBPyConnection, sql: str) -> frozenset[TableName]:
    """The base tables of the statement.

    The binder's answer is taken where it has one; it has none for some joins, and there the parser answers.
    """
    try:
        names = connection.get_table_names(sql, qualified=True)
    except duckdb.Error:
        return _parsed_tables(connection, sql)
    return frozenset(_table_name(name) for name in names)


_NAME = re.compile(
    r'(?:"?desk"?\.)?(?:(?P<schema>\w+|"(?:[^"]|"")+")\.)?(?P<name>\w+|"(?:[^"]|"")+")(?: (?:AS|TABLESAMPLE) .*)?',
    re.DOTALL,
)


def _table_name(text: str) -> TableName:
    """``desk.main.orders AS o`` as a name, sampled or not; what looks like none is given whole and matches nothing."""
    found = _NAME.fullmatch(text)
    if found is None:
        return TableName("", text)
    return TableName(_bare(found["schema"] or MAIN_SCHEMA), _bare(found["name"]))


def _bare(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _parsed_tables(connection: duckdb.DuckDBPyConnection, sql: str) -> frozenset[TableName]:
    """The tables in DuckDB's own syntax tree: those nodes that carry a catalog, as every name we write does."""
    row = connection.execute("SELECT json_serialize_sql($1::VARCHAR)", [sql]).fetchone()
    found: set[TableName] = set()
    waiting: list[Any] = [json.loads(row[0])] if row else []
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if node.get("type") == "BASE_TABLE" and node.get("catalog_name"):
                found.add(TableName(node["schema_name"], node["table_name"]))
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return frozenset(found)
