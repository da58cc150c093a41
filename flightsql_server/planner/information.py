"""``information_schema``: its three views as SQL text over literal rows, and the engine's names of Arrow types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from flightsql_server.model import INFORMATION_SCHEMA, MAIN_SCHEMA, Table
from flightsql_server.planner.names import identifier, literal

Row = tuple[str | int | None, ...]

SIMPLE_TYPES: dict[pa.DataType, str] = {
    pa.null(): '"NULL"',
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float16(): "FLOAT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.date64(): "DATE",
    pa.timestamp("s"): "TIMESTAMP_S",
    pa.timestamp("ms"): "TIMESTAMP_MS",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("ns"): "TIMESTAMP_NS",
    pa.month_day_nano_interval(): "INTERVAL",
}

# Precision, radix and scale as DuckDB's information_schema gives them.
_PRECISIONS: dict[str, tuple[int, int, int]] = {
    "TINYINT": (8, 2, 0),
    "SMALLINT": (16, 2, 0),
    "INTEGER": (32, 2, 0),
    "BIGINT": (64, 2, 0),
    "FLOAT": (24, 2, 0),
    "DOUBLE": (53, 2, 0),
}


def type_name(arrow: pa.DataType) -> str:
    """The engine's name of an Arrow type, as DESCRIBE and information_schema show it."""
    simple = SIMPLE_TYPES.get(arrow)
    if simple is not None:
        return simple
    types = pa.types
    if types.is_string(arrow) or types.is_large_string(arrow) or types.is_string_view(arrow):
        return "VARCHAR"
    if types.is_binary(arrow) or types.is_large_binary(arrow) or types.is_fixed_size_binary(arrow):
        return "BLOB"
    if types.is_decimal(arrow):
        return f"DECIMAL({arrow.precision},{arrow.scale})"
    if types.is_timestamp(arrow):
        return "TIMESTAMP WITH TIME ZONE"
    if types.is_time(arrow):
        return "TIME"
    if types.is_duration(arrow):
        return "INTERVAL"
    if types.is_dictionary(arrow):
        return type_name(arrow.value_type)
    if types.is_fixed_size_list(arrow):
        return f"{type_name(arrow.value_type)}[{arrow.list_size}]"
    if types.is_list(arrow) or types.is_large_list(arrow):
        return f"{type_name(arrow.value_type)}[]"
    if types.is_map(arrow):
        return f"MAP({type_name(arrow.key_type)}, {type_name(arrow.item_type)})"
    if types.is_struct(arrow):
        fields = ", ".join(f"{identifier(field.name)} {type_name(field.type)}" for field in arrow)
        return f"STRUCT({fields})"
    return str(arrow).upper()


@dataclass(frozen=True, slots=True)
class View:
    """One view: all its columns with their types, and which of them the catalog fills; the others are always null."""

    columns: tuple[tuple[str, str], ...]
    filled: tuple[str, ...]

    def select(self, rows: Sequence[Row]) -> str:
        """A query that yields ``rows`` (values of the filled columns), also when there are none."""
        types = dict(self.columns)
        shown = ", ".join(
            f"CAST({identifier(name)} AS {kind}) AS {identifier(name)}"
            if name in self.filled
            else f"CAST(NULL AS {kind}) AS {identifier(name)}"
            for name, kind in types.items()
        )
        values = ", ".join(f"({', '.join(map(literal, row))})" for row in rows or [(None,) * len(self.filled)])
        names = ", ".join(map(identifier, self.filled))
        nothing = "" if rows else " WHERE FALSE"
        return f"SELECT {shown} FROM (VALUES {values}) AS rows_({names}){nothing}"


def _varchars(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, "VARCHAR") for name in text.split())


_TABLE_KEY = _varchars("table_catalog table_schema table_name")

VIEWS = {
    "schemata": View(
        _varchars(
            "catalog_name schema_name schema_owner default_character_set_catalog default_character_set_schema "
            "default_character_set_name sql_path"
        ),
        ("catalog_name", "schema_name"),
    ),
    "tables": View(
        _TABLE_KEY
        + _varchars(
            "table_type self_referencing_column_name reference_generation user_defined_type_catalog "
            "user_defined_type_schema user_defined_type_name is_insertable_into is_typed commit_action TABLE_COMMENT"
        ),
        (
            "table_catalog",
            "table_schema",
            "table_name",
            "table_type",
            "is_insertable_into",
            "is_typed",
            "TABLE_COMMENT",
        ),
    ),
    "columns": View(
        (
            *_TABLE_KEY,
            ("column_name", "VARCHAR"),
            ("ordinal_position", "INTEGER"),
            *_varchars("column_default is_nullable data_type"),
            ("character_maximum_length", "INTEGER"),
            ("character_octet_length", "INTEGER"),
            ("numeric_precision", "INTEGER"),
            ("numeric_precision_radix", "INTEGER"),
            ("numeric_scale", "INTEGER"),
            ("datetime_precision", "INTEGER"),
            ("interval_type", "VARCHAR"),
            ("interval_precision", "INTEGER"),
            *_varchars(
                "character_set_catalog character_set_schema character_set_name collation_catalog collation_schema "
                "collation_name domain_catalog domain_schema domain_name udt_catalog udt_schema udt_name "
                "scope_catalog scope_schema scope_name"
            ),
            ("maximum_cardinality", "BIGINT"),
            ("dtd_identifier", "VARCHAR"),
            ("is_self_referencing", "BOOLEAN"),
            ("is_identity", "BOOLEAN"),
            *_varchars("identity_generation identity_start identity_increment identity_maximum identity_minimum"),
            ("identity_cycle", "BOOLEAN"),
            *_varchars("is_generated generation_expression"),
            ("is_updatable", "BOOLEAN"),
            ("COLUMN_COMMENT", "VARCHAR"),
        ),
        (
            *(
                "table_catalog",
                "table_schema",
                "table_name",
                "column_name",
                "ordinal_position",
                "is_nullable",
                "data_type",
            ),
            *("numeric_precision", "numeric_precision_radix", "numeric_scale", "is_generated", "COLUMN_COMMENT"),
        ),
    ),
}


def rows(view: str, catalog: str, tables: Sequence[Table]) -> list[Row]:
    """The rows of a view over the tables that the caller may see."""
    if view == "schemata":
        schemas = sorted({table.schema for table in tables} | {MAIN_SCHEMA, INFORMATION_SCHEMA})
        return [(catalog, schema) for schema in schemas]
    if view == "tables":
        return [(catalog, t.schema, t.name, t.kind, "NO", "NO", t.comment or None) for t in tables]
    return [row for table in tables for row in _column_rows(catalog, table)]


def _column_rows(catalog: str, table: Table) -> list[Row]:
    found: list[Row] = []
    for position, column in enumerate(table.columns, 1):
        kind = type_name(column.type)
        precision: tuple[int | None, int | None, int | None] = _PRECISIONS.get(kind, (None, None, None))
        if pa.types.is_decimal(column.type):
            precision = (column.type.precision, 10, column.type.scale)
        nullable = "YES" if column.nullable else "NO"
        place: Row = (catalog, table.schema, table.name, column.name, position, nullable, kind)
        found.append((*place, *precision, "NEVER", column.comment or None))
    return found
