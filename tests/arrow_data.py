"""Strategies that draw Arrow types, arrays and batches, for properties of everything that rows pass through."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import reject
from hypothesis import strategies as st

_ZERO = datetime.fromtimestamp(0, UTC).replace(tzinfo=None)
_TEXT = st.text(max_size=8)
_SIMPLE: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.null(): st.none(),
    pa.bool_(): st.booleans(),
    **{
        type_: st.integers(-(2 ** (type_.bit_width - 1)), 2 ** (type_.bit_width - 1) - 1)
        for type_ in (pa.int8(), pa.int16(), pa.int32(), pa.int64())
    },
    **{type_: st.integers(0, 2**type_.bit_width - 1) for type_ in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.float64(): st.floats(allow_nan=False),
    pa.string(): _TEXT,
    pa.large_string(): _TEXT,
    pa.string_view(): st.text(max_size=20),
    pa.binary(): st.binary(max_size=8),
    pa.large_binary(): st.binary(max_size=8),
    pa.binary_view(): st.binary(max_size=20),
    pa.binary(3): st.binary(min_size=3, max_size=3),
    pa.date32(): st.dates(),
    pa.date64(): st.dates(date(1700, 1, 1), date(2200, 1, 1)),
    pa.time32("ms"): st.times().map(lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)),
    pa.time64("us"): st.times(),
    pa.timestamp("s"): st.datetimes().map(lambda t: t.replace(microsecond=0)),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("us", tz="UTC"): st.datetimes().map(lambda t: t.replace(tzinfo=UTC)),
    pa.timestamp("ns"): st.datetimes(_ZERO - timedelta(40_000), _ZERO + timedelta(40_000)),
    pa.duration("us"): st.timedeltas(timedelta(-1000), timedelta(1000)),
    pa.month_day_nano_interval(): st.tuples(*[st.integers(-1000, 1000)] * 3).map(pa.MonthDayNano),
    pa.decimal128(18, 4): st.integers(-(10**18) + 1, 10**18 - 1).map(lambda n: Decimal(n).scaleb(-4)),
    pa.decimal256(50, 3): st.integers(-(10**30), 10**30).map(lambda n: Decimal(n).scaleb(-3)),
}
_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


def values(type_: pa.DataType) -> st.SearchStrategy[Any]:
    """Values that an array of the type can hold, None among them."""
    types = pa.types
    if types.is_dictionary(type_):
        return values(type_.value_type)
    if types.is_map(type_):
        keys = _SIMPLE[type_.key_type]
        return st.none() | st.lists(
            st.tuples(keys, values(type_.item_type)), max_size=3, unique_by=lambda pair: pair[0]
        )
    if types.is_fixed_size_list(type_):
        return st.none() | st.lists(values(type_.value_type), min_size=type_.list_size, max_size=type_.list_size)
    if types.is_list(type_) or types.is_large_list(type_) or types.is_list_view(type_):
        return st.none() | st.lists(values(type_.value_type), max_size=3)
    if types.is_struct(type_):
        fields = {type_.field(i).name: values(type_.field(i).type) for i in range(type_.num_fields)}
        return st.none() | st.fixed_dictionaries(fields)
    return st.none() | _SIMPLE[type_]


def _nested(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    return st.one_of(
        inner.map(pa.list_),
        inner.map(pa.large_list),
        inner.map(lambda type_: pa.list_(type_, 2)),
        inner.map(lambda type_: pa.map_(pa.string(), type_)),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda types: pa.struct([(f"f{i}", type_) for i, type_ in enumerate(types)])
        ),
    )


def types(*, dictionaries: bool = True) -> st.SearchStrategy[pa.DataType]:
    """Any type: plain, dictionary, nested to some depth."""
    plain = st.sampled_from(list(_SIMPLE))
    encoded = st.sampled_from(
        [
            pa.dictionary(pa.int8(), pa.string()),
            pa.dictionary(pa.int32(), pa.int64()),
            pa.dictionary(pa.int16(), pa.binary()),
        ]
    )
    return st.recursive(plain | encoded if dictionaries else plain, _nested, max_leaves=4)


@st.composite
def schemas(draw: st.DrawFn) -> pa.Schema:
    """A schema of up to four columns, names not always different and not always kind."""
    drawn = draw(st.lists(st.tuples(_NAMES, types()), max_size=4))
    return pa.schema([pa.field(name, type_) for name, type_ in drawn])


@st.composite
def batches(draw: st.DrawFn, schema: pa.Schema, rows: int = 12) -> pa.RecordBatch:
    """A batch of the schema, often a slice of a longer one, as engines hand them on."""
    count = draw(st.integers(0, rows))
    arrays = [
        pa.array(draw(st.lists(values(field.type), min_size=count, max_size=count)), field.type) for field in schema
    ]
    if not arrays:
        return pa.RecordBatch.from_arrays([], schema=schema)
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    try:
        batch.validate(full=True)
    except (
        pa.ArrowInvalid
    ):  # a null struct over an empty dictionary: what Arrow builds there is not valid by its own rules
        reject()
    start = draw(st.integers(0, count))
    return batch.slice(start, draw(st.integers(0, count - start)))
