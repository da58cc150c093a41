"""Values at the edges of each type that a dataset's column can have, and the other forms that publishers send them in.

A form is lossless for an array when Arrow brings it there and back with the same values; those that are not for these
values are told from those that are by ``encoded``, which gives None for them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from flightsql_server.data.datasets import TIMESTAMP
from flightsql_server.data.declared import TYPES

DECIMALS = {
    f"decimal({precision},{scale})": pa.decimal128(precision, scale)
    for precision, scale in ((1, 0), (1, 1), (4, 2), (9, 9), (18, 6), (19, 0), (38, 0), (38, 10), (38, 38))
}
COLUMN_TYPES: dict[str, pa.DataType] = {**TYPES, **DECIMALS}
"""Each type as the TOML file names it: all of ``TYPES``, and decimals of every width."""

_INTEGERS = (*(pa.int8(), pa.int16(), pa.int32(), pa.int64()), *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()))
_DAY = 24 * 60 * 60 * 1_000_000


def _edges(least: int, most: int) -> st.SearchStrategy[int]:
    near = [number for number in (least, least + 1, -1, 0, 1, most - 1, most) if least <= number <= most]
    return st.sampled_from(near) | st.integers(least, most)


def _floats(width: int) -> st.SearchStrategy[float]:
    least = math.ldexp(1.0, -149 if width == 32 else -1074)
    most = struct.unpack(">f", b"\x7f\x7f\xff\xff")[0] if width == 32 else math.ldexp(1 - 2**-53, 1024)
    special = [math.nan, math.inf, -math.inf, 0.0, -0.0, 0.5, least, -least, most, -most]
    return st.sampled_from(special) | st.floats(width=32 if width == 32 else 64)


def _stored(type_: pa.DataType) -> tuple[pa.DataType, st.SearchStrategy[int]] | None:
    """For a date or time, the whole number it is kept as: Python can't tell all that Arrow can."""
    if type_ == TYPES["date"]:
        # Whole days in seconds are numbers with trailing zeros, which coarser forms can hold.
        return pa.int32(), _edges(-(2**31), 2**31 - 1)
    if type_ == TYPES["time"]:
        return pa.int64(), _edges(0, _DAY - 1) | st.integers(0, 86_399).map(lambda seconds: seconds * 1_000_000)
    if type_ == TIMESTAMP:
        return pa.int64(), _edges(-(2**63), 2**63 - 1) | st.integers(-(10**11), 10**11).map(lambda s: s * 1_000_000)
    return None


def _values(type_: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_integer(type_):
        return _edges(-(2 ** (type_.bit_width - 1)), 2 ** (type_.bit_width - 1) - 1) | st.integers(0, 127)
    if pa.types.is_floating(type_):
        return _floats(type_.bit_width)
    if pa.types.is_boolean(type_):
        return st.booleans()
    if pa.types.is_binary(type_):
        return st.sampled_from([b"", b"\0", b"\xff" * 200]) | st.binary(max_size=20)
    return st.sampled_from(["", "\0", "NULL", "ä" * 200]) | st.text(max_size=20)


@st.composite
def arrays(draw: st.DrawFn, type_: pa.DataType, length: int) -> pa.Array:
    """An array of the type with nulls and values at its edges."""

    def drawn(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(st.none() | values, min_size=length, max_size=length))

    stored = _stored(type_)
    if stored is not None:
        return pa.array(drawn(stored[1]), stored[0]).view(type_)
    if pa.types.is_decimal(type_):
        top = 10**type_.precision - 1
        most = min(9, top // 10**type_.scale)
        whole = _edges(-top, top) | st.integers(-most, most).map(lambda number: number * 10**type_.scale)
        return pa.array([None if number is None else decimal(number, type_.scale) for number in drawn(whole)], type_)
    return pa.array(drawn(_values(type_)), type_)


def decimal(number: int, scale: int) -> Decimal:
    """So many units of the last digit, as a Decimal without rounding."""
    return Decimal(number).scaleb(-scale, Context(prec=40))


def forms(type_: pa.DataType) -> Sequence[pa.DataType]:
    """The types in which values of this one may be sent, it first."""
    types = pa.types
    if types.is_integer(type_):
        plain = [type_, *_INTEGERS]
    elif types.is_floating(type_):
        plain = [type_, pa.float16(), *([pa.float32()] if type_.bit_width == 64 else [])]
    elif types.is_string(type_):
        plain = [type_, pa.large_string(), pa.string_view()]
    elif types.is_binary(type_):
        plain = [type_, pa.large_binary(), pa.binary_view(), pa.binary(3), pa.binary(0)]
    elif types.is_date(type_):
        plain = [type_, pa.date64()]
    elif types.is_time(type_):
        plain = [type_, pa.time32("s"), pa.time32("ms"), pa.time64("ns")]
    elif types.is_timestamp(type_):
        zones = ("UTC", None, "Europe/Vienna", "+05:30")
        plain = [type_, *(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in zones)]
    elif types.is_decimal(type_):
        wider = [pa.decimal128(38, type_.scale), pa.decimal256(76, type_.scale), pa.decimal256(60, 20)]
        narrower = [
            pa.decimal32(9, 2),
            pa.decimal64(18, min(type_.scale, 6)),
            pa.decimal128(38, 0),
            pa.decimal128(5, 1),
        ]
        plain = [type_, *wider, *narrower, *_INTEGERS]
    else:
        plain = [type_]
    return [*plain, pa.null()]


def encoded(array: pa.Array, form: pa.DataType, dictionary: bool) -> pa.Array | None:
    """The array in that form, as a dictionary where asked, if it loses nothing there and Arrow can make it."""
    if form == pa.null():
        return pa.nulls(len(array)) if array.null_count == len(array) else None
    try:
        if pa.types.is_decimal(array.type) and pa.types.is_integer(form):
            made = _whole(array, form)
        else:
            made = array.cast(form)
            if form != array.type and bits(made.cast(array.type)) != bits(array):
                return None
        return made.dictionary_encode() if dictionary else made
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError):
        return None


def _whole(array: pa.Array, form: pa.DataType) -> pa.Array:
    """Decimals as whole numbers, by Python: Arrow turns away those of types that could hold too much."""
    values = [None if value is None else int(value) for value in array.to_pylist()]
    if values != array.to_pylist():
        raise pa.ArrowInvalid("not whole")
    return pa.array(values, form)


def bits(array: pa.Array) -> list[Any]:
    """The values so that equal ones are those that are the same: -0.0 is not 0.0, NaN is NaN."""
    types, type_ = pa.types, array.type
    if types.is_floating(type_):
        form = {16: "<e", 32: "<f", 64: "<d"}[type_.bit_width]
        return [
            value if value is None else "nan" if math.isnan(value) else struct.pack(form, value)
            for value in array.to_pylist()
        ]
    if types.is_temporal(type_):
        return list(array.view(pa.int32() if type_.bit_width == 32 else pa.int64()).to_pylist())
    return list(array.to_pylist())
