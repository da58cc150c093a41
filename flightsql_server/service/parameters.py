"""Values that a client binds: one row of Arrow → what the engine is given, exactly or not at all.

The engine casts each value to the type that the planner wrote beside its parameter. Values that Python can't hold
exactly (decimals, times finer than microseconds) are given as the text that the cast reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flightsql_server.data.conform import decoded
from flightsql_server.errors import InvalidParameter, UnsupportedFeature
from flightsql_server.service.profiles import JDBC

_CONTENT_BYTES = 1024 * 1024
_AS_TEXT = (pa.types.is_decimal, pa.types.is_timestamp, pa.types.is_date, pa.types.is_time)


@dataclass(frozen=True, slots=True)
class Bound:
    """One value for each parameter. ``content`` is the row as an IPC stream: what tickets carry and caches compare."""

    types: tuple[pa.DataType, ...]
    values: tuple[object, ...]
    content: bytes


NOTHING = Bound((), (), b"")


def bind(batch: pa.RecordBatch) -> Bound:
    """The values of a batch of one row. InvalidParameter or UnsupportedFeature for what can't be bound."""
    if batch.num_rows != 1:
        raise UnsupportedFeature(
            f"A query takes one row of parameters, not {batch.num_rows}.", hint="Run it once for each row."
        )
    if not batch.num_columns:
        return NOTHING
    if batch.nbytes > _CONTENT_BYTES:
        raise InvalidParameter("The parameters of the query are longer than 1 MiB.", hint="Send a table by DoPut.")
    types = tuple(column.type for column in batch.columns)
    values = tuple(_value(column) for column in batch.columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return Bound(types, values, sink.getvalue().to_pybytes())


def bind_each(batch: pa.RecordBatch, first: Bound | None) -> list[Bound]:
    """The values of each row; ``first`` is the stream's first row, if that came in an earlier batch.

    A union is taken as what it holds: so some drivers send values whose type they weren't told. UnsupportedFeature for
    one that holds another type in another row, since one statement serves all of them.
    """
    if not any(map(pa.types.is_union, batch.schema.types)):
        return [bind(batch.slice(i, 1)) for i in range(batch.num_rows)]
    rows = []
    for i in range(batch.num_rows):
        held = [_held(column, i) for column in batch.columns]
        rows.append(bind(pa.RecordBatch.from_arrays(held, names=batch.schema.names)))
    if any(row.types != (first or rows[0]).types for row in rows):
        raise UnsupportedFeature("A parameter is of another type in another row.", hint="Send those rows apart.")
    return rows


def reopen(content: bytes) -> Bound:
    """What ``bind`` gave, from its content; only for content that was sealed here."""
    if not content:
        return NOTHING
    return bind(pa.ipc.open_stream(content).read_next_batch())


def schema_of(types: tuple[pa.DataType, ...], wire_profile: str) -> pa.Schema:
    """The parameters as clients are told of them: nullable, numbered from 1 on.

    The stock Java driver writes timestamps and times as milliseconds whatever it is told, so it is told of those.
    """
    told = [_in_milliseconds(type_) if wire_profile == JDBC else type_ for type_ in types]
    return pa.schema([pa.field(f"parameter_{number}", type_) for number, type_ in enumerate(told, 1)])


def _in_milliseconds(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(type_):
        return pa.timestamp("ms")
    return pa.time32("ms") if pa.types.is_time(type_) else type_


def _held(column: pa.Array, row: int) -> pa.Array:
    """The column's row, of a union as the type that it holds. Arrow tells the kinds of whole unions, not of slices."""
    type_ = column.type
    if not pa.types.is_union(type_):
        return column.slice(row, 1)
    child = column.field(type_.type_codes.index(column.type_codes[row].as_py()))
    return _held(child, column.offsets[row].as_py() if type_.mode == "dense" else row)


def _value(column: pa.Array) -> object:
    """The one value of a column, as Python and the engine's casts hold it exactly."""
    type_ = column.type
    if pa.types.is_dictionary(type_):
        return _value(decoded(column))
    if pa.types.is_union(type_):
        raise UnsupportedFeature(f"A parameter can't have {type_} inside.", hint="Cast it before sending.")
    if isinstance(type_, pa.BaseExtensionType):
        value = column[0].as_py()
        return None if value is None else str(value)
    if column.null_count:
        return None
    if pa.types.is_duration(type_):
        return _interval(column)
    if pa.types.is_interval(type_):
        months, days, nanoseconds = column[0].as_py()
        return _interval_text(months, days, nanoseconds)
    if pa.types.is_nested(type_):
        return _nested(column)
    if any(is_kind(type_) for is_kind in _AS_TEXT):
        return _text(column)
    return column[0].as_py()


def _nested(column: pa.Array) -> object:
    """Lists, structs and maps, their parts converted as values of their own are."""
    type_, scalar = column.type, column[0]
    if pa.types.is_struct(type_):
        return {type_.field(i).name: _value(pc.struct_field(column, [i])) for i in range(type_.num_fields)}
    items = scalar.values
    if pa.types.is_map(type_):
        entries = [(items.field(0).slice(i, 1), items.field(1).slice(i, 1)) for i in range(len(items))]
        return {"key": [_value(key) for key, _ in entries], "value": [_value(value) for _, value in entries]}
    return [_value(items.slice(i, 1)) for i in range(len(items))]


def _text(column: pa.Array) -> str:
    """The value as its cast reads it. InvalidParameter for a time that the engine's types would cut."""
    type_ = column.type
    if pa.types.is_timestamp(type_) and type_.tz is not None:
        column = _exact(column, pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
        return f"{column.cast(pa.string())[0].as_py()}+00"
    if pa.types.is_date64(type_):
        column = _exact(column, pa.date32())
    text: str = column.cast(pa.string())[0].as_py()
    return text


def _interval(column: pa.Array) -> str:
    number = column.cast(pa.int64())[0].as_py()
    scale = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}[column.type.unit]
    return _interval_text(0, 0, number * scale)


def _interval_text(months: int, days: int, nanoseconds: int) -> str:
    microseconds, rest = divmod(nanoseconds, 1_000)
    if rest:
        raise InvalidParameter("An interval has microseconds at the finest.", hint="Round it before sending.")
    return f"{months} months {days} days {microseconds} microseconds"


def _exact(column: pa.Array, type_: pa.DataType) -> Any:
    try:
        return column.cast(type_, safe=True)
    except pa.ArrowInvalid as error:
        raise InvalidParameter(f"A value of {column.type} does not fit {type_}.", hint="Round it first.") from error
