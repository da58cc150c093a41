"""Reference schemas of the metadata commands, and the record batches that answer them.

Names, types, nullability and row order are those that FlightSql.proto states at each ``CommandGet…``; a stock client
casts the columns, so a ``large_utf8`` in place of ``utf8`` would break it. The schemas here are what the stream,
``FlightInfo.schema`` and GetSchema show alike. Type information is in ``xdbc.py``, SqlInfo in ``sql_info.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

_TEXT, _INT = pa.string(), pa.int32()


def _schema(*fields: tuple[str, pa.DataType, bool]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable) for name, kind, nullable in fields])


CATALOGS = _schema(("catalog_name", _TEXT, False))
DB_SCHEMAS = _schema(("catalog_name", _TEXT, True), ("db_schema_name", _TEXT, False))
TABLES = _schema(
    ("catalog_name", _TEXT, True),
    ("db_schema_name", _TEXT, True),
    ("table_name", _TEXT, False),
    ("table_type", _TEXT, False),
)
TABLES_WITH_SCHEMA = TABLES.append(pa.field("table_schema", pa.binary(), False))
TABLE_TYPES = _schema(("table_type", _TEXT, False))
PRIMARY_KEYS = _schema(
    ("catalog_name", _TEXT, True),
    ("db_schema_name", _TEXT, True),
    ("table_name", _TEXT, False),
    ("column_name", _TEXT, False),
    ("key_name", _TEXT, True),
    ("key_sequence", _INT, False),
)
FOREIGN_KEYS = _schema(
    ("pk_catalog_name", _TEXT, True),
    ("pk_db_schema_name", _TEXT, True),
    ("pk_table_name", _TEXT, False),
    ("pk_column_name", _TEXT, False),
    ("fk_catalog_name", _TEXT, True),
    ("fk_db_schema_name", _TEXT, True),
    ("fk_table_name", _TEXT, False),
    ("fk_column_name", _TEXT, False),
    ("key_sequence", _INT, False),
    ("fk_key_name", _TEXT, True),
    ("pk_key_name", _TEXT, True),
    ("update_rule", pa.uint8(), False),
    ("delete_rule", pa.uint8(), False),
)
XDBC_TYPE_INFO = _schema(
    ("type_name", _TEXT, False),
    ("data_type", _INT, False),
    ("column_size", _INT, True),
    ("literal_prefix", _TEXT, True),
    ("literal_suffix", _TEXT, True),
    ("create_params", pa.list_(pa.field("item", _TEXT, False)), True),
    ("nullable", _INT, False),
    ("case_sensitive", pa.bool_(), False),
    ("searchable", _INT, False),
    ("unsigned_attribute", pa.bool_(), True),
    ("fixed_prec_scale", pa.bool_(), False),
    ("auto_increment", pa.bool_(), True),
    ("local_type_name", _TEXT, True),
    ("minimum_scale", _INT, True),
    ("maximum_scale", _INT, True),
    ("sql_data_type", _INT, False),
    ("datetime_subcode", _INT, True),
    ("num_prec_radix", _INT, True),
    ("interval_precision", _INT, True),
)
# The names inside list and map are not the comment's of the specification, but those that its C++, Go and Java
# libraries send; readers go by position there.
SQL_INFO_VALUE = pa.dense_union(
    [
        pa.field("string_value", _TEXT, False),
        pa.field("bool_value", pa.bool_(), False),
        pa.field("bigint_value", pa.int64(), False),
        pa.field("int32_bitmask", _INT, False),
        pa.field("string_list", pa.list_(_TEXT), False),
        pa.field("int32_to_int32_list_map", pa.map_(_INT, pa.list_(_INT)), False),
    ]
)
SQL_INFO = _schema(("info_name", pa.uint32(), False), ("value", SQL_INFO_VALUE, False))


class DbSchemaRow(NamedTuple):
    """One schema (CommandGetDbSchemas)."""

    catalog: str | None
    schema: str


class TableRow(NamedTuple):
    """One table (CommandGetTables); ``arrow_schema`` is only looked at when schemas are asked for."""

    catalog: str | None
    schema: str | None
    name: str
    type: str
    arrow_schema: pa.Schema | None = None


class PrimaryKeyRow(NamedTuple):
    """One column of a primary key (CommandGetPrimaryKeys); ``key_sequence`` counts from 1."""

    catalog: str | None
    schema: str | None
    table: str
    column: str
    key_name: str | None
    key_sequence: int


class ForeignKeyRow(NamedTuple):
    """One column of a foreign key (CommandGetExportedKeys and its two sisters); rules are of UpdateDeleteRules."""

    pk_catalog: str | None
    pk_schema: str | None
    pk_table: str
    pk_column: str
    fk_catalog: str | None
    fk_schema: str | None
    fk_table: str
    fk_column: str
    key_sequence: int
    fk_key_name: str | None
    pk_key_name: str | None
    update_rule: int = 3
    delete_rule: int = 3


def _nulls_first(*values: str | int | None) -> tuple[Any, ...]:
    return tuple((value is not None, value) for value in values)


def batch_of(schema: pa.Schema, rows: Sequence[Sequence[object]]) -> pa.RecordBatch:
    """A record batch of exactly this schema from rows in the order of its columns."""
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _sorted(
    schema: pa.Schema, rows: Iterable[Any], key: Callable[[Any], tuple[str | int | None, ...]]
) -> pa.RecordBatch:
    return batch_of(schema, sorted(rows, key=lambda row: _nulls_first(*key(row))))


def catalogs_batch(names: Iterable[str]) -> pa.RecordBatch:
    """The answer to CommandGetCatalogs, by name."""
    return batch_of(CATALOGS, [(name,) for name in sorted(names)])


def db_schemas_batch(rows: Iterable[DbSchemaRow]) -> pa.RecordBatch:
    """The answer to CommandGetDbSchemas, by catalog and schema."""
    return _sorted(DB_SCHEMAS, rows, lambda row: row)


def tables_batch(rows: Iterable[TableRow], include_schema: bool) -> pa.RecordBatch:
    """The answer to CommandGetTables, by catalog, schema, table and type; schemas are encapsulated IPC messages."""
    ordered = sorted(rows, key=lambda row: _nulls_first(*row[:4]))
    if not include_schema:
        return batch_of(TABLES, [row[:4] for row in ordered])
    empty = pa.schema([])
    return batch_of(
        TABLES_WITH_SCHEMA,
        [(*row[:4], (row.arrow_schema or empty).serialize().to_pybytes()) for row in ordered],
    )


def table_types_batch(types: Iterable[str]) -> pa.RecordBatch:
    """The answer to CommandGetTableTypes, by name."""
    return batch_of(TABLE_TYPES, [(name,) for name in sorted(types)])


def primary_keys_batch(rows: Iterable[PrimaryKeyRow]) -> pa.RecordBatch:
    """The answer to CommandGetPrimaryKeys, by catalog, schema, table, key and place in the key."""
    return _sorted(PRIMARY_KEYS, rows, lambda row: (row.catalog, row.schema, row.table, row.key_name, row.key_sequence))


def exported_keys_batch(rows: Iterable[ForeignKeyRow]) -> pa.RecordBatch:
    """The answer to CommandGetExportedKeys, by the table that refers."""
    return _sorted(
        FOREIGN_KEYS,
        rows,
        lambda row: (row.fk_catalog, row.fk_schema, row.fk_table, row.fk_key_name, row.key_sequence),
    )


def imported_keys_batch(rows: Iterable[ForeignKeyRow]) -> pa.RecordBatch:
    """The answer to CommandGetImportedKeys and CommandGetCrossReference, by the table that is referred to."""
    return _sorted(
        FOREIGN_KEYS,
        rows,
        lambda row: (row.pk_catalog, row.pk_schema, row.pk_table, row.pk_key_name, row.key_sequence),
    )


def flight_sql_column_metadata(
    catalog: str | None = None,
    schema: str | None = None,
    table: str | None = None,
    type_name: str | None = None,
    precision: int | None = None,
    scale: int | None = None,
    remarks: str | None = None,
    auto_increment: bool | None = None,
    case_sensitive: bool | None = None,
    read_only: bool | None = None,
    searchable: bool | None = None,
) -> dict[bytes, bytes]:
    """The metadata of an Arrow field that drivers show as a column's (listed at CommandStatementQuery).

    What is None is left out. The schema goes under two keys: the specification says DB_SCHEMA_NAME, but the drivers
    built on its C++, Go and Java libraries look for SCHEMA_NAME.
    """
    values: dict[str, str | int | bool | None] = {
        "CATALOG_NAME": catalog,
        "DB_SCHEMA_NAME": schema,
        "SCHEMA_NAME": schema,
        "TABLE_NAME": table,
        "TYPE_NAME": type_name,
        "PRECISION": precision,
        "SCALE": scale,
        "IS_AUTO_INCREMENT": auto_increment,
        "IS_CASE_SENSITIVE": case_sensitive,
        "IS_READ_ONLY": read_only,
        "IS_SEARCHABLE": searchable,
        "REMARKS": remarks,
    }
    return {
        f"ARROW:FLIGHT:SQL:{name}".encode(): str(int(value) if isinstance(value, bool) else value).encode()
        for name, value in values.items()
        if value is not None
    }
