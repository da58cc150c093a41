"""Rows of Arrow into a table of the user's own: made, replaced or appended to, all of them or none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from flightsql_auth.policies import Grants

from flightsql_server import planner
from flightsql_server.data.conform import decoded, fit
from flightsql_server.errors import (
    AccessDenied,
    DuplicateTable,
    InvalidParameter,
    InvalidTransaction,
    UndefinedTable,
    UnsupportedFeature,
)
from flightsql_server.model import Call, Catalog, Column, TableName, UserTransaction
from flightsql_server.service.changes import Changes
from flightsql_server.service.transactions import Open


@dataclass(frozen=True, slots=True)
class Target:
    """The table that takes the rows, and what to do when it is absent (``create``) or there."""

    schema: str
    table: str
    create: bool
    append: bool
    replace: bool
    temporary: bool = False


async def append(
    changes: Changes,
    call: Call,
    grants: Grants,
    target: Target,
    batches: AsyncIterator[pa.RecordBatch],
    schema: Callable[[], pa.Schema | None],
    one: Open | None,
) -> int:
    """Stores the batches; gives how many rows there were. ``schema`` tells their schema once it has come.

    UndefinedTable, DuplicateTable, AccessDenied or InvalidParameter; nothing is stored then.
    """
    if not grants.create:
        raise AccessDenied("You may not create tables.", hint="Ask for a role with create.")
    home = grants.temporary if target.temporary or (target.schema and target.schema == grants.temporary) else grants.own
    if not home:
        raise InvalidTransaction("A temporary table needs a session.", hint="Log in by a handshake.")
    if target.schema not in ("", home):
        raise AccessDenied(f"You may write to your own schema, {home}, only.", hint="Leave the schema out.")
    name = TableName(home, target.table)

    async def step(work: UserTransaction, catalog: Catalog) -> tuple[int, bool]:
        known = catalog.tables.get(name)
        if known is None and not target.create:
            raise UndefinedTable(f"There is no table {target.table[:60]!r}.", hint="Ask for it to be created.")
        if known is not None and not (target.append or target.replace):
            raise DuplicateTable(f"Table {target.table[:60]!r} exists already.", hint="Append to it or replace it.")
        made = known is None or target.replace
        columns = None if made or known is None else known.columns
        count = 0
        async for batch in batches:
            if columns is None:
                columns = await changes.in_pool(partial(_make, work, name, batch.schema))
            count += await changes.in_pool(partial(_append, work, name, batch, columns))
        if columns is None:
            given = schema()
            if given is None:
                raise InvalidParameter("The rows have no schema.", hint="Send one, also where there are no rows.")
            await changes.in_pool(partial(_make, work, name, given))
        return count, made

    return await changes.append(call, grants.limits, one, name.schema, step)


def _append(work: UserTransaction, name: TableName, batch: pa.RecordBatch, columns: Sequence[Column]) -> int:
    return work.append(name, pa.table(fit(_plain(batch), name.name, columns)))


def _make(work: UserTransaction, name: TableName, schema: pa.Schema) -> tuple[Column, ...]:
    """Makes the table anew for rows of this schema; gives its columns."""
    columns, parts = [], []
    for field in schema:
        sql_type = planner.sql_type(field.type)
        if sql_type is None or not field.name or _is_lost_inside(field.type):
            raise UnsupportedFeature(f"A column can't be of type {field.type}.", hint="Cast it before sending.")
        parts.append(f"{planner.identifier(field.name)} {sql_type}{'' if field.nullable else ' NOT NULL'}")
        columns.append(Column(field.name, _plain_type(field.type), field.nullable))
    if not columns:
        raise InvalidParameter("The rows have no columns.", hint="Send one at least.")
    if len({column.name.lower() for column in columns}) != len(columns):
        raise InvalidParameter("Two columns have the same name.", hint="Names differ by more than their case.")
    table = ".".join(map(planner.identifier, name))
    work.make_schema(name.schema)
    work.change(f"DROP TABLE IF EXISTS {table}", [()], returning=False)
    work.change(f"CREATE TABLE {table} ({', '.join(parts)})", [()], returning=False)
    return tuple(columns)


def _is_lost_inside(type_: pa.DataType, inside: bool = False) -> bool:
    """Whether the engine would read other values than were sent: it does with these inside of lists and the like."""
    types = pa.types
    if types.is_nested(type_):
        return any(_is_lost_inside(type_.field(i).type, inside=True) for i in range(type_.num_fields))
    fine = types.is_interval(type_) or (types.is_duration(type_) and type_.unit == "ns")
    return inside and (types.is_dictionary(type_) or fine)


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same values in types that the engine stores as they are."""
    arrays, fields = [], []
    for array, field in zip(batch.columns, batch.schema, strict=True):
        type_ = _plain_type(field.type)
        plain = decoded(array)
        if pa.types.is_interval(type_) and any(value and value.nanoseconds % 1_000 for value in plain.to_pylist()):
            raise InvalidParameter(f"Column {field.name} has intervals finer than microseconds.", hint="Round them.")
        try:
            arrays.append(plain if plain.type == type_ else plain.cast(type_))
        except pa.ArrowInvalid as error:
            raise InvalidParameter(
                f"Column {field.name} can't be stored exactly as {type_}.", hint="Round it before sending."
            ) from error
        fields.append(pa.field(field.name, type_, field.nullable))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _plain_type(type_: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_dictionary(type_):
        return _plain_type(type_.value_type)
    if types.is_large_string(type_) or types.is_string_view(type_):
        return pa.string()
    if types.is_large_binary(type_) or types.is_binary_view(type_) or types.is_fixed_size_binary(type_):
        return pa.binary()
    if types.is_decimal(type_) and type_.precision <= 38:
        return pa.decimal128(type_.precision, type_.scale)
    if types.is_float16(type_):
        return pa.float32()
    if types.is_duration(type_):
        return pa.duration("us")
    if types.is_timestamp(type_) and type_.tz is not None:
        return pa.timestamp("us", "UTC")
    return type_
