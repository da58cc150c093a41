"""The metadata commands: what they ask of the catalog, in the columns that the specification fixes.

Each function gives the whole answer as one batch. FlightInfo, GetSchema and the stream all use it, so they agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from flightsql_auth.policies import Grants

from flightsql_server.model import Catalog, ForeignKey, Table
from flightsql_server.protocol import commands, reference, sql_info, xdbc
from flightsql_server.service import catalog as visible


@dataclass(frozen=True, slots=True)
class Question:
    """What a metadata answer depends on."""

    catalog: Catalog
    grants: Grants
    facts: sql_info.SqlInfoFacts


def catalogs(question: Question, command: commands.GetCatalogs) -> pa.RecordBatch:
    """GetCatalogs: the one catalog."""
    return reference.catalogs_batch([question.catalog.name])


def db_schemas(question: Question, command: commands.GetDbSchemas) -> pa.RecordBatch:
    """GetDbSchemas: the schemas in which the principal sees something."""
    found = visible.schemas(
        question.catalog, question.grants, catalog_name=command.catalog, schema_pattern=command.schema_pattern
    )
    return reference.db_schemas_batch([reference.DbSchemaRow(*pair) for pair in found])


def tables(question: Question, command: commands.GetTables) -> pa.RecordBatch:
    """GetTables: the visible tables, with their Arrow schemas when asked."""
    found = visible.tables(
        question.catalog,
        question.grants,
        catalog_name=command.catalog,
        schema_pattern=command.schema_pattern,
        table_pattern=command.table_pattern,
        types=command.table_types,
    )
    rows = [
        reference.TableRow(
            question.catalog.name,
            table.schema,
            table.name,
            table.kind,
            schema_with_metadata(question.catalog.name, table) if command.include_schema else None,
        )
        for table in found
    ]
    return reference.tables_batch(rows, command.include_schema)


def schema_with_metadata(catalog_name: str, table: Table) -> pa.Schema:
    """The table's Arrow schema, whose fields tell JDBC what getColumns shows (SQL type, precision, remarks)."""
    fields = []
    for column in table.columns:
        type_ = xdbc.sql_type(column.type)
        metadata = reference.flight_sql_column_metadata(
            catalog_name,
            table.schema,
            table.name,
            type_.name,
            type_.precision,
            type_.scale,
            column.comment or None,
            auto_increment=False,
            case_sensitive=type_.case_sensitive,
            read_only=table.dataset is not None,
            searchable=True,
        )
        fields.append(pa.field(column.name, column.type, column.nullable, metadata=metadata))
    return pa.schema(fields)


def table_types(question: Question, command: commands.GetTableTypes) -> pa.RecordBatch:
    """GetTableTypes: the kinds of table there are."""
    return reference.table_types_batch(list(visible.TABLE_TYPES))


def primary_keys(question: Question, command: commands.GetPrimaryKeys) -> pa.RecordBatch:
    """GetPrimaryKeys: the key columns of the visible tables of that name."""
    rows = [
        reference.PrimaryKeyRow(question.catalog.name, table.schema, table.name, column, None, number)
        for table in visible.keyed_tables(
            question.catalog,
            question.grants,
            catalog_name=command.catalog,
            schema=command.db_schema,
            table=command.table,
        )
        for number, column in enumerate(table.key, 1)
    ]
    return reference.primary_keys_batch(rows)


def exported_keys(question: Question, command: commands.GetExportedKeys) -> pa.RecordBatch:
    """GetExportedKeys: the foreign keys of visible tables that point to tables of that name."""
    asked = (command.catalog, command.db_schema, command.table)
    found = visible.foreign_keys(question.catalog, question.grants, target=asked)
    return reference.exported_keys_batch(_key_rows(question.catalog.name, found))


def imported_keys(question: Question, command: commands.GetImportedKeys) -> pa.RecordBatch:
    """GetImportedKeys: the foreign keys that tables of that name hold."""
    asked = (command.catalog, command.db_schema, command.table)
    found = visible.foreign_keys(question.catalog, question.grants, holder=asked)
    return reference.imported_keys_batch(_key_rows(question.catalog.name, found))


def cross_reference(question: Question, command: commands.GetCrossReference) -> pa.RecordBatch:
    """GetCrossReference: the foreign keys by which tables of one name point to tables of the other."""
    found = visible.foreign_keys(
        question.catalog,
        question.grants,
        holder=(command.fk_catalog, command.fk_db_schema, command.fk_table),
        target=(command.pk_catalog, command.pk_db_schema, command.pk_table),
    )
    return reference.imported_keys_batch(_key_rows(question.catalog.name, found))


def _key_rows(catalog: str, found: list[tuple[Table, ForeignKey]]) -> list[reference.ForeignKeyRow]:
    return [
        reference.ForeignKeyRow(
            catalog, key.table.schema, key.table.name, pointed, catalog, table.schema, table.name, column, number,
            key.name, None,
        )
        for table, key in found
        for number, (column, pointed) in enumerate(zip(key.columns, key.referenced, strict=True), 1)
    ]  # fmt: skip


def xdbc_type_info(question: Question, command: commands.GetXdbcTypeInfo) -> pa.RecordBatch:
    """GetXdbcTypeInfo: the types the server sends, as ODBC and JDBC number them."""
    return xdbc.xdbc_type_info_batch(command.data_type)


def server_info(question: Question, command: commands.GetSqlInfo) -> pa.RecordBatch:
    """GetSqlInfo: what the server says of itself to this principal."""
    return sql_info.sql_info_batch(command.codes, question.facts)


ANSWERS: Mapping[type, tuple[str, Callable[[Question, Any], pa.RecordBatch]]] = {
    commands.GetCatalogs: ("GetCatalogs", catalogs),
    commands.GetDbSchemas: ("GetDbSchemas", db_schemas),
    commands.GetTables: ("GetTables", tables),
    commands.GetTableTypes: ("GetTableTypes", table_types),
    commands.GetPrimaryKeys: ("GetPrimaryKeys", primary_keys),
    commands.GetExportedKeys: ("GetExportedKeys", exported_keys),
    commands.GetImportedKeys: ("GetImportedKeys", imported_keys),
    commands.GetCrossReference: ("GetCrossReference", cross_reference),
    commands.GetXdbcTypeInfo: ("GetXdbcTypeInfo", xdbc_type_info),
    commands.GetSqlInfo: ("GetSqlInfo", server_info),
}
"""Which function answers which command, and the name that metrics and errors give it."""
