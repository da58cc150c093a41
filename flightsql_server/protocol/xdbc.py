"""SQL's view of Arrow types: names and codes for column metadata, and the answer to CommandGetXdbcTypeInfo.

Type names are DuckDB's, since its dialect is the server's default; codes are those of XdbcDataType. ``sql_type`` takes
any Arrow type, ``TYPES`` lists what a column of this server can be declared as.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from flightsql_server.protocol import flight_sql_pb2 as wire
from flightsql_server.protocol.reference import XDBC_TYPE_INFO, batch_of

UNKNOWN, CHAR, NUMERIC, DECIMAL = 0, 1, 2, 3
INTEGER, SMALLINT, REAL, DOUBLE = 4, 5, 7, 8
DATETIME, INTERVAL, VARCHAR, DATE, TIME, TIMESTAMP = 9, 10, 12, 91, 92, 93
VARBINARY, BIGINT, TINYINT, BIT = -3, -5, -6, -7

_FRACTION = {"s": 0, "ms": 3, "us": 6, "ns": 9}


@dataclass(frozen=True, slots=True)
class SqlType:
    """What a column's type is called and how large its values get.

    ``precision`` and ``scale`` are None where they mean nothing or have no bound. ``declaration`` is what stands in a
    CREATE TABLE: the name, with its parameters where it has them.
    """

    name: str
    xdbc_code: int
    precision: int | None = None
    scale: int | None = None
    case_sensitive: bool = False

    @property
    def declaration(self) -> str:
        return f"DECIMAL({self.precision},{self.scale})" if self.name == "DECIMAL" else self.name


_FIXED: dict[pa.DataType, SqlType] = {
    pa.null(): SqlType('"NULL"', UNKNOWN),
    pa.bool_(): SqlType("BOOLEAN", BIT, 1),
    pa.int8(): SqlType("TINYINT", TINYINT, 3, 0),
    pa.int16(): SqlType("SMALLINT", SMALLINT, 5, 0),
    pa.int32(): SqlType("INTEGER", INTEGER, 10, 0),
    pa.int64(): SqlType("BIGINT", BIGINT, 19, 0),
    # There are no codes for unsigned numbers: each takes that of the next type which holds its values.
    pa.uint8(): SqlType("UTINYINT", SMALLINT, 3, 0),
    pa.uint16(): SqlType("USMALLINT", INTEGER, 5, 0),
    pa.uint32(): SqlType("UINTEGER", BIGINT, 10, 0),
    pa.uint64(): SqlType("UBIGINT", NUMERIC, 20, 0),
    pa.float16(): SqlType("FLOAT", REAL, 24),
    pa.float32(): SqlType("FLOAT", REAL, 24),
    pa.float64(): SqlType("DOUBLE", DOUBLE, 53),
    pa.date32(): SqlType("DATE", DATE, 10),
    pa.date64(): SqlType("DATE", DATE, 10),
    pa.month_day_nano_interval(): SqlType("INTERVAL", INTERVAL),
}
_TEXT = SqlType("VARCHAR", VARCHAR, case_sensitive=True)
_BLOB = SqlType("BLOB", VARBINARY)
_UUID = SqlType("UUID", CHAR, 36)


def _with_fraction(digits: int, unit: str) -> tuple[int, int]:
    """Characters of a time as text, and digits of its fraction, which a dot precedes."""
    scale = _FRACTION[unit]
    return digits + (scale + 1 if scale else 0), scale


def _timestamp(kind: pa.TimestampType) -> SqlType:
    if kind.tz is not None:
        precision, scale = _with_fraction(25, kind.unit)
        return SqlType("TIMESTAMP WITH TIME ZONE", TIMESTAMP, precision, scale)
    precision, scale = _with_fraction(19, kind.unit)
    return SqlType("TIMESTAMP" if kind.unit == "us" else f"TIMESTAMP_{kind.unit.upper()}", TIMESTAMP, precision, scale)


def _time(kind: pa.DataType) -> SqlType:
    precision, scale = _with_fraction(8, kind.unit)
    return SqlType("TIME_NS" if kind.unit == "ns" else "TIME", TIME, precision, scale)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _struct(kind: pa.DataType, keyword: str = "STRUCT") -> SqlType:
    inner = ", ".join(
        f"{_quoted(kind.field(i).name)} {sql_type(kind.field(i).type).declaration}" for i in range(kind.num_fields)
    )
    return SqlType(f"{keyword}({inner})", UNKNOWN)


def _list(kind: pa.DataType) -> SqlType:
    size = kind.list_size if pa.types.is_fixed_size_list(kind) else ""
    return SqlType(f"{sql_type(kind.value_type).declaration}[{size}]", UNKNOWN)


def _map(kind: pa.MapType) -> SqlType:
    key, value = sql_type(kind.key_type).declaration, sql_type(kind.item_type).declaration
    return SqlType(f"MAP({key}, {value})", UNKNOWN)


def _extension(kind: pa.BaseExtensionType) -> SqlType:
    if kind.extension_name == "arrow.uuid":
        return _UUID
    if kind.extension_name == "arrow.json":
        return SqlType("JSON", VARCHAR, case_sensitive=True)
    if kind.extension_name == "arrow.bool8":
        return _FIXED[pa.bool_()]
    return sql_type(kind.storage_type)


_FAMILIES: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], SqlType]], ...] = (
    (lambda t: isinstance(t, pa.BaseExtensionType), _extension),
    (lambda t: pa.types.is_dictionary(t) or pa.types.is_run_end_encoded(t), lambda t: sql_type(t.value_type)),
    (
        lambda t: pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t),
        lambda t: _TEXT,
    ),
    (pa.types.is_decimal, lambda t: SqlType("DECIMAL", DECIMAL, t.precision, t.scale)),
    (pa.types.is_timestamp, _timestamp),
    (pa.types.is_time, _time),
    (pa.types.is_duration, lambda t: _FIXED[pa.month_day_nano_interval()]),
    (
        lambda t: (
            pa.types.is_binary(t)
            or pa.types.is_large_binary(t)
            or pa.types.is_binary_view(t)
            or pa.types.is_fixed_size_binary(t)
        ),
        lambda t: _BLOB,
    ),
    (pa.types.is_map, _map),
    (pa.types.is_struct, _struct),
    (pa.types.is_union, lambda t: _struct(t, "UNION")),
    (
        lambda t: (
            pa.types.is_list(t)
            or pa.types.is_large_list(t)
            or pa.types.is_fixed_size_list(t)
            or pa.types.is_list_view(t)
            or pa.types.is_large_list_view(t)
        ),
        _list,
    ),
)


def sql_type(kind: pa.DataType) -> SqlType:
    """The SQL type of an Arrow type. Every Arrow type has one; encodings (dictionary, view) don't change it."""
    found = _FIXED.get(kind)
    if found is not None:
        return found
    for matches, build in _FAMILIES:
        if matches(kind):
            return build(kind)
    return SqlType(str(kind).upper(), UNKNOWN)


@dataclass(frozen=True, slots=True)
class XdbcType:
    """One row of CommandGetXdbcTypeInfo, with the columns that don't follow from the others left to ``_row``."""

    type: SqlType
    prefix: str | None = None
    suffix: str | None = None
    parameters: tuple[str, ...] | None = None
    subcode: int | None = None
    unsigned: bool | None = None
    radix: int | None = None
    scales: tuple[int, int] | None = None


def _number(kind: pa.DataType, radix: int = 10) -> XdbcType:
    unsigned = pa.types.is_unsigned_integer(kind)
    return XdbcType(sql_type(kind), unsigned=unsigned, radix=radix, scales=(0, 0) if radix == 10 else None)


def _moment(kind: pa.DataType, subcode: int) -> XdbcType:
    found = sql_type(kind)
    scale = found.scale or 0
    return XdbcType(found, f"{found.name} '", "'", subcode=subcode, scales=(scale, scale))


TYPES: tuple[XdbcType, ...] = (
    XdbcType(sql_type(pa.bool_())),
    *(_number(kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *(_number(kind) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
    XdbcType(SqlType("HUGEINT", NUMERIC, 38, 0), unsigned=False, radix=10, scales=(0, 0)),
    *(_number(kind, 2) for kind in (pa.float32(), pa.float64())),
    XdbcType(
        SqlType("DECIMAL", DECIMAL, 38),
        parameters=("precision", "scale"),
        unsigned=False,
        radix=10,
        scales=(0, 38),
    ),
    XdbcType(_TEXT, "'", "'"),
    XdbcType(SqlType("JSON", VARCHAR, case_sensitive=True), "'", "'"),
    XdbcType(_UUID, "UUID '", "'"),
    XdbcType(_BLOB, "'", "'::BLOB"),
    _moment(pa.date32(), wire.XDBC_SUBCODE_DATE),
    _moment(pa.time64("us"), wire.XDBC_SUBCODE_TIME),
    *(_moment(pa.timestamp(unit), wire.XDBC_SUBCODE_TIMESTAMP) for unit in ("s", "ms", "us", "ns")),
    _moment(pa.timestamp("us", "UTC"), wire.XDBC_SUBCODE_TIMESTAMP_WITH_TIMEZONE),
    # DuckDB's interval counts months, days and microseconds in one value, for which no subcode is defined.
    XdbcType(
        SqlType("INTERVAL", INTERVAL),
        "INTERVAL '",
        "'",
        subcode=wire.XDBC_SUBCODE_UNKNOWN,
    ),
)


def _row(entry: XdbcType) -> tuple[object, ...]:
    kind = entry.type
    low, high = entry.scales or (None, None)
    is_text = kind.xdbc_code == VARCHAR
    return (
        kind.name,
        kind.xdbc_code,
        kind.precision,
        entry.prefix,
        entry.suffix,
        entry.parameters,
        wire.NULLABILITY_NULLABLE,
        kind.case_sensitive,
        wire.SEARCHABLE_FULL if is_text else wire.SEARCHABLE_BASIC,
        entry.unsigned,
        False,
        None if entry.unsigned is None else False,
        kind.name,
        low,
        high,
        DATETIME if kind.xdbc_code in (DATE, TIME, TIMESTAMP) else kind.xdbc_code,
        entry.subcode,
        entry.radix,
        None,
    )


def xdbc_type_info_batch(data_type: int | None = None) -> pa.RecordBatch:
    """The answer to CommandGetXdbcTypeInfo, by code and name; a ``data_type`` keeps the types of that code only."""
    rows = [_row(entry) for entry in TYPES if data_type is None or entry.type.xdbc_code == data_type]
    return batch_of(XDBC_TYPE_INFO, sorted(rows, key=lambda row: (row[1], row[0])))
