"""Makes a received batch fit its dataset, or says which column and row does not; nothing lossy passes."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from flightsql_server.data.datasets import CHANGE, DELETE, UPSERT, Dataset
from flightsql_server.errors import InvalidParameter
from flightsql_server.model import Column

_ANY_INTEGER = pa.decimal128(20, 0)


def conform(batch: pa.RecordBatch, dataset: Dataset) -> pa.RecordBatch:
    """The batch with the dataset's columns, in its order and types; with ``_change`` behind them if it has deletes.

    Columns are found by name. Taken are casts that lose nothing: dictionary, large and view strings, narrower
    numbers, coarser timestamps, and finer ones when exact; a timestamp without zone is UTC. A row replaces the whole
    row, so a column may be left out only where it is declared optional, and in a batch of deletes alone every column
    but key and order column. InvalidParameter names the column, and the row where one row is to blame.
    """
    names = batch.schema.names
    if len(set(names)) != len(names):
        raise InvalidParameter(f"The batch for {dataset.name} has a column twice.", hint=_wanted(dataset))
    unknown = [name for name in names if name not in dataset.schema.names and name != CHANGE]
    if unknown:
        raise InvalidParameter(
            f"The batch for {dataset.name} has an unknown column {unknown[0][:60]}.", hint=_wanted(dataset)
        )
    change = _changes(batch, dataset) if CHANGE in names else None
    kept = None if change is None else pc.equal(change, UPSERT)
    if change is None or pc.any(kept).as_py():
        needed = [column.name for column in dataset.columns if not column.optional]
    else:
        needed = list(dataset.identity)
    missing = [name for name in needed if name not in names]
    if missing:
        raise InvalidParameter(f"The batch for {dataset.name} lacks the column {missing[0]}.", hint=_wanted(dataset))
    arrays = [_column(batch, field, dataset, kept) for field in dataset.schema]
    if change is None:
        return pa.RecordBatch.from_arrays(arrays, schema=dataset.schema)
    return pa.RecordBatch.from_arrays([*arrays, change], schema=dataset.change_schema)


def fit(batch: pa.RecordBatch, name: str, columns: Sequence[Column]) -> pa.RecordBatch:
    """The batch's columns in the types of a table that is no dataset: found by name, cast only where nothing is lost.

    InvalidParameter names a column that the table doesn't have, one that must be there, or one that does not fit.
    """
    table = Dataset(name, tuple(columns), (), "")
    known = {column.name: column for column in columns}
    unknown = [given for given in batch.schema.names if given not in known]
    missing = [column.name for column in columns if not column.nullable and column.name not in batch.schema.names]
    if unknown or missing or len(set(batch.schema.names)) != batch.num_columns:
        what = f"has an unknown column {unknown[0][:60]}" if unknown else "has a column twice"
        what = f"lacks the column {missing[0]}" if missing else what
        raise InvalidParameter(f"The batch for {name} {what}.", hint=_wanted(table))
    fields = [table.schema.field(given) for given in batch.schema.names]
    arrays = [_fit(array, field, table) for array, field in zip(batch.columns, fields, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def decoded(array: pa.Array) -> pa.Array:
    """The values of a dictionary's rows; an array that has no dictionary as it is."""
    if not pa.types.is_dictionary(array.type):
        return array
    words = array.dictionary
    # Arrow can't take from views.
    if pa.types.is_string_view(words.type):
        array = pa.DictionaryArray.from_arrays(array.indices, words.cast(pa.string()))
    elif pa.types.is_binary_view(words.type):
        array = pa.DictionaryArray.from_arrays(array.indices, words.cast(pa.binary()))
    return array.dictionary_decode()


def _changes(batch: pa.RecordBatch, dataset: Dataset) -> pa.Array | None:
    """The ``_change`` of each row; None when all are upserts."""
    field = dataset.change_schema.field(CHANGE)
    change = _fit(batch.column(CHANGE), field, dataset)
    known = pc.is_in(change, pa.array([UPSERT, DELETE]))
    row = pc.index(known, False).as_py()
    if row >= 0:
        raise InvalidParameter(
            f"Column {CHANGE} of {dataset.name} is neither {UPSERT} nor {DELETE} in row {row}.",
            hint="Leave the column out where every row is an upsert.",
        )
    return change if pc.index(change, DELETE).as_py() >= 0 else None


def _column(batch: pa.RecordBatch, field: pa.Field, dataset: Dataset, kept: pa.Array | None) -> pa.Array:
    """The column as the dataset wants it. ``kept``: the rows that are no deletes, None: all."""
    at = batch.schema.get_field_index(field.name)
    if at < 0:
        return pa.nulls(batch.num_rows, field.type)
    if kept is None or field.name in dataset.identity:
        return _fit(batch.column(at), field, dataset)
    array = _fit(batch.column(at), field.with_nullable(True), dataset)
    if not field.nullable:
        _refuse_null(pc.and_(array.is_null(), kept), field, dataset)
    return array


def _wanted(dataset: Dataset) -> str:
    return "Its columns are " + ", ".join(f"{field.name} {field.type}" for field in dataset.schema) + "."


def _fit(array: pa.Array, field: pa.Field, dataset: Dataset) -> pa.Array:
    where = f"Column {field.name} of {dataset.name}"
    if array.type != field.type:
        array = _cast(array, field, where)
    if not field.nullable and array.null_count:
        _refuse_null(array.is_null(), field, dataset)
    return array


def _refuse_null(wrong: pa.Array, field: pa.Field, dataset: Dataset) -> None:
    """InvalidParameter that names the first row where ``wrong`` is true, if there is one."""
    row = pc.index(wrong, True).as_py()
    if row >= 0:
        raise InvalidParameter(
            f"Column {field.name} of {dataset.name} is null in row {row}.", hint="Every row needs a value there."
        )


def _cast(array: pa.Array, field: pa.Field, where: str) -> pa.Array:
    source = array.type
    words = array.dictionary if pa.types.is_dictionary(source) else array
    if not _may_cast(words.type, field.type):
        raise InvalidParameter(f"{where} must be {field.type}, not {words.type}.", hint="Cast it before sending.")
    if words is not array:
        array = decoded(array)
        source = array.type
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
    if types.is_binary(target):
        return bool(types.is_large_binary(source) or types.is_fixed_size_binary(source) or types.is_binary_view(source))
    if types.is_timestamp(target):
        return bool(types.is_timestamp(source))
    if types.is_date(target):
        return bool(types.is_date64(source))
    if types.is_time(target):
        return bool(types.is_time(source))
    if types.is_floating(target):
        return bool(types.is_floating(source) and source.bit_width < target.bit_width)
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
