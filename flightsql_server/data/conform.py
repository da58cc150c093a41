"""Makes a received batch fit its dataset, or says which column and row does not; nothing lossy passes."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from flightsql_server.data.datasets import Dataset
from flightsql_server.errors import InvalidParameter

_ANY_INTEGER = pa.decimal128(20, 0)


def conform(batch: pa.RecordBatch, dataset: Dataset) -> pa.RecordBatch:
    """The batch with the dataset's columns, in its order and types.

    Columns are found by name. Taken are casts that lose nothing: dictionary, large and view strings, narrower
    numbers, coarser timestamps, and finer ones when exact; a timestamp without zone is UTC. InvalidParameter names
    the column, and the row where one row is to blame.
    """
    names = batch.schema.names
    if len(set(names)) != len(names):
        raise InvalidParameter(f"The batch for {dataset.name} has a column twice.", hint=_wanted(dataset))
    unknown = [name for name in names if name not in dataset.schema.names]
    missing = [name for name in dataset.schema.names if name not in names]
    if unknown or missing:
        what = f"lacks the column {missing[0]}" if missing else f"has an unknown column {unknown[0]}"
        raise InvalidParameter(f"The batch for {dataset.name} {what}.", hint=_wanted(dataset))
    arrays = [_fit(batch.column(field.name), field, dataset) for field in dataset.schema]
    return pa.RecordBatch.from_arrays(arrays, schema=dataset.schema)


def _wanted(dataset: Dataset) -> str:
    return "Its columns are " + ", ".join(f"{field.name} {field.type}" for field in dataset.schema) + "."


def _fit(array: pa.Array, field: pa.Field, dataset: Dataset) -> pa.Array:
    where = f"Column {field.name} of {dataset.name}"
    if array.type != field.type:
        array = _cast(array, field, where)
    if not field.nullable and array.null_count:
        row = pc.index(array.is_null(), True).as_py()
        raise InvalidParameter(f"{where} is null in row {row}.", hint="Every row needs a value there.")
    return array


def _cast(array: pa.Array, field: pa.Field, where: str) -> pa.Array:
    source = array.type
    if pa.types.is_dictionary(source):
        array = array.dictionary_decode()
        source = array.type
    if not _may_cast(source, field.type):
        raise InvalidParameter(f"{where} must be {field.type}, not {source}.", hint="Cast it before sending.")
    if pa.types.is_timestamp(source) and source.tz is None:
        array = array.cast(pa.timestamp(source.unit, tz="UTC"))
    if pa.types.is_integer(source) and pa.types.is_decimal(field.type):
        # Straight to the target Arrow looks at the types alone and refuses every value of a wide one.
        array = array.cast(_ANY_INTEGER)
    try:
        return array.cast(field.type, safe=True)
    except pa.ArrowInvalid as error:
        row = _first_bad_row(array, field.type)
        raise InvalidParameter(
            f"{where} can't hold row {row} exactly as {field.type}.", hint="Round or scale it before sending."
        ) from error


def _may_cast(source: pa.DataType, target: pa.DataType) -> bool:
    types = pa.types
    if types.is_null(source) or source == target:
        return True
    if types.is_string(target):
        return bool(types.is_large_string(source) or types.is_string_view(source))
    if types.is_timestamp(target):
        return bool(types.is_timestamp(source))
    if types.is_floating(target):
        return bool(types.is_float32(source) or types.is_float16(source))
    if types.is_integer(target):
        return bool(types.is_integer(source))
    if types.is_decimal(target):
        return bool(types.is_decimal(source) or types.is_integer(source))
    return False


def _first_bad_row(array: pa.Array, target: pa.DataType) -> int:
    """The first row that alone can't be cast, found by halving."""
    low, high = 0, len(array)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            array.slice(low, middle - low).cast(target, safe=True)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low
