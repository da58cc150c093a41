"""Users' own tables in DuckDB: one connection that holds one transaction, and what the tables look like."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress

import duckdb
import pyarrow as pa

from flightsql_server import errors
from flightsql_server.engine.duckdb_names import tables_of
from flightsql_server.engine.duckdb_statements import interrupted
from flightsql_server.model import (
    LIVE_TABLE,
    TEMPORARY_SCHEMA,
    TEMPORARY_TABLE,
    USER_SCHEMA,
    VIEW,
    Changed,
    Column,
    ForeignKey,
    Table,
    TableName,
)

_CHANGES = frozenset(
    {
        duckdb.StatementType.INSERT,
        duckdb.StatementType.UPDATE,
        duckdb.StatementType.DELETE,
        duckdb.StatementType.CREATE,
        duckdb.StatementType.DROP,
        duckdb.StatementType.ALTER,
    }
)
_TABLES = """
    SELECT c.schema_name, c.table_name, c.column_name, c.is_nullable, coalesce(k.constraint_column_names, [])
    FROM duckdb_columns() c JOIN duckdb_tables() t USING (database_name, schema_name, table_name)
    LEFT JOIN duckdb_constraints() k ON k.database_name = c.database_name AND k.schema_name = c.schema_name
      AND k.table_name = c.table_name AND k.constraint_type = 'PRIMARY KEY'
    WHERE starts_with(c.schema_name, $1) OR starts_with(c.schema_name, $2)
    ORDER BY c.schema_name, c.table_name, c.column_index
"""
_VIEWS = """
    SELECT schema_name, view_name, sql FROM duckdb_views()
    WHERE (starts_with(schema_name, $1) OR starts_with(schema_name, $2)) AND NOT internal
"""
_FOREIGN_KEYS = """
    SELECT schema_name, table_name, constraint_name, constraint_column_names, referenced_table, referenced_column_names
    FROM duckdb_constraints() WHERE constraint_type = 'FOREIGN KEY'
      AND (starts_with(schema_name, $1) OR starts_with(schema_name, $2)) ORDER BY ALL
"""
_PREFIXES = [USER_SCHEMA, TEMPORARY_SCHEMA]


def quoted(name: TableName) -> str:
    """The full SQL name of a table."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name)


def user_tables(connection: duckdb.DuckDBPyConnection) -> list[Table]:
    """The tables in users' schemas, as this connection sees them."""
    found: dict[TableName, list[tuple[str, bool]]] = {}
    keys: dict[TableName, tuple[str, ...]] = {}
    for schema, table, column, nullable, key in connection.execute(_TABLES, _PREFIXES).fetchall():
        name = TableName(schema, table)
        found.setdefault(name, []).append((column, nullable))
        keys[name] = tuple(key)
    foreign: dict[TableName, list[ForeignKey]] = {}
    for schema, table, key, columns, other, referenced in connection.execute(_FOREIGN_KEYS, _PREFIXES).fetchall():
        made_key = ForeignKey(key, tuple(columns), TableName(schema, other), tuple(referenced))
        foreign.setdefault(TableName(schema, table), []).append(made_key)
    tables = []
    for name, columns in found.items():
        types = connection.sql(f"SELECT * FROM {quoted(name)} LIMIT 0").to_arrow_table().schema.types
        made = tuple(Column(column, type_, nullable) for (column, nullable), type_ in zip(columns, types, strict=True))
        kind = TEMPORARY_TABLE if name.schema.startswith(TEMPORARY_SCHEMA) else LIVE_TABLE
        others = tuple(foreign.get(name, ()))
        tables.append(Table(name.schema, name.name, made, kind, keys[name], foreign_keys=others))
    views = connection.execute(_VIEWS, _PREFIXES).fetchall()
    return tables + [_view(connection, TableName(schema, name), sql) for schema, name, sql in views]


def drop_schemas(connection: duckdb.DuckDBPyConnection, prefix: str) -> None:
    """Drops the schemas whose names begin so, with all that is in them; the caller commits."""
    found = connection.execute(
        "SELECT schema_name FROM duckdb_schemas() WHERE starts_with(schema_name, ?) AND NOT internal", [prefix]
    ).fetchall()
    for (schema,) in found:
        connection.execute(f'DROP SCHEMA "{schema}" CASCADE')


def _view(connection: duckdb.DuckDBPyConnection, name: TableName, sql: str) -> Table:
    """A view as the catalog shows it; one whose tables have changed under it has no columns, and can be dropped."""
    try:
        schema = connection.sql(f"SELECT * FROM {quoted(name)} LIMIT 0").to_arrow_table().schema
    except duckdb.Error:
        schema = pa.schema([])
    columns = tuple(Column(field.name, field.type) for field in schema)
    return Table(name.schema, name.name, columns, VIEW, definition=sql)


class DuckDBUserTransaction:
    """See ``model.UserTransaction``. Its statements run one at a time; ``cancel`` may come from any thread."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        translated: Callable[[], AbstractContextManager[None]],
        written: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._translated = translated
        self._written = written
        self._reading = threading.RLock()
        self._reader: pa.RecordBatchReader | None = None  # a connection has one result at a time
        with translated():
            connection.begin()

    def describe(self, sql: str) -> pa.Schema:
        with self._translated():
            relation = self._select(sql, None)
            types = relation.limit(0).to_arrow_table().schema.types
            return pa.schema(list(zip(relation.columns, types, strict=True)))

    def tables_of(self, sql: str) -> frozenset[TableName]:
        with self._translated():
            return tables_of(self._connection, sql)

    def _select(self, sql: str, parameters: Sequence[object] | None) -> duckdb.DuckDBPyRelation:
        (statement,) = self._connection.extract_statements(sql)
        if statement.type != duckdb.StatementType.SELECT:
            raise errors.InternalError()
        names = statement.named_parameters
        values = {name: None if parameters is None else parameters[int(name) - 1] for name in names}
        relation = self._connection.sql(statement, params=values) if names else self._connection.sql(statement)
        assert relation is not None, "a SELECT has rows"
        return relation

    def read(self, sql: str, parameters: Sequence[object], batch_rows: int) -> Iterator[pa.RecordBatch]:
        with self._translated():
            with self._reading:
                relation = self._select(sql, parameters)
                columns = relation.columns
                reader = relation.to_arrow_reader(batch_rows)
                self._reader = reader
            try:
                while (batch := self._next(reader)) is not None:
                    yield batch if batch.schema.names == columns else batch.rename_columns(columns)
            finally:
                if self._reader is reader:
                    self._end()

    def _next(self, reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
        with self._reading:
            if self._reader is None or self._reader is not reader:
                raise errors.EngineUnavailable("The database had to be opened again.", hint="Repeat the call.")
            try:
                return reader.read_next_batch()
            except StopIteration:
                return None

    def _end(self) -> None:
        """Closes the result, whoever holds it still: one that was not read to its end keeps the database alive."""
        with interrupted(self._reading, self.cancel):
            reader, self._reader = self._reader, None
            if reader is not None:
                with suppress(Exception):
                    reader.close()

    def explain(self, sql: str, parameters: Sequence[object], *, analyze: bool) -> pa.Table:
        with self._translated():
            (statement,) = self._connection.extract_statements(sql)
            if statement.type != duckdb.StatementType.SELECT:
                raise errors.InternalError()
            values = {name: parameters[int(name) - 1] for name in statement.named_parameters}
            word = "EXPLAIN ANALYZE" if analyze else "EXPLAIN"
            return self._connection.execute(f"{word} {sql}", values).to_arrow_table()

    def change(self, sql: str, rows: Sequence[Sequence[object]], *, returning: bool) -> Changed:
        count, returned = 0, []
        with self._translated():
            for row in rows:
                (statement,) = self._connection.extract_statements(sql)
                if statement.type not in _CHANGES:
                    raise errors.InternalError()
                values = {name: row[int(name) - 1] for name in statement.named_parameters}
                if returning:
                    relation = self._connection.sql(statement, params=values)
                    assert relation is not None, "the change returns rows"
                    returned.append(relation.to_arrow_table())
                    count += returned[-1].num_rows
                    continue
                answer = self._connection.execute(statement, values).fetchall()
                count += int(answer[0][0]) if answer and isinstance(answer[0][0], int) else 0
        return Changed(count, pa.concat_tables(returned) if returned else None)

    def make_schema(self, schema: str) -> None:
        with self._translated():
            self._connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')

    def append(self, table: TableName, rows: pa.Table) -> int:
        columns = ", ".join('"' + name.replace('"', '""') + '"' for name in rows.schema.names)
        with self._translated():
            self._connection.register("incoming", rows)
            try:
                self._connection.execute(f"INSERT INTO {quoted(table)} ({columns}) SELECT {columns} FROM incoming")
            finally:
                with suppress(duckdb.Error):  # in a transaction that has failed it says just that
                    self._connection.unregister("incoming")
        return int(rows.num_rows)

    def user_tables(self) -> list[Table]:
        with self._translated():
            return user_tables(self._connection)

    def commit(self) -> None:
        with self._translated():
            self._connection.commit()
            self._written()

    def cancel(self) -> None:
        with suppress(duckdb.Error):
            self._connection.interrupt()

    def abandon(self) -> None:
        """Lets go of a database that is broken; a statement that runs or comes later raises."""
        self.cancel()
        self.close()

    def close(self) -> None:
        """Rolls back what was not committed."""
        self._end()
        with suppress(duckdb.Error):
            self._connection.rollback()
        with suppress(duckdb.Error):
            self._connection.close()
