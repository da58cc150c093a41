"""Batches that fit a dataset without loss are taken; the rest is refused, naming the column and the row."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from flightsql_server.data.conform import conform
from flightsql_server.data.datasets import DATASETS, MARKET_DATA, ORDERS, POSITIONS, Dataset
from flightsql_server.errors import InvalidParameter

NOW = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


def _rows(dataset: Dataset, count: int = 3) -> pa.RecordBatch:
    """Rows that fit as they are."""
    examples: dict[pa.DataType, object] = {
        pa.string(): "text",
        pa.float64(): 1.5,
        pa.int64(): 7,
    }
    row = {
        field.name: NOW
        if pa.types.is_timestamp(field.type)
        else Decimal("1.5")
        if pa.types.is_decimal(field.type)
        else examples[field.type]
        for field in dataset.schema
    }
    return pa.RecordBatch.from_pylist([row] * count, schema=dataset.schema)


def _with(batch: pa.RecordBatch, name: str, array: pa.Array) -> pa.RecordBatch:
    at = batch.schema.get_field_index(name)
    return batch.set_column(at, pa.field(name, array.type), array)


def _refusal(batch: pa.RecordBatch, dataset: Dataset) -> str:
    with pytest.raises(InvalidParameter) as failure:
        conform(batch, dataset)
    return str(failure.value)


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
def test_rows_that_fit_are_taken_as_they_are(dataset: Dataset) -> None:
    rows = _rows(dataset)
    assert conform(rows, dataset).equals(rows)
    assert conform(rows.slice(0, 0), dataset).num_rows == 0


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
def test_columns_are_found_by_name(dataset: Dataset) -> None:
    rows = _rows(dataset)
    turned = rows.select(rows.schema.names[::-1])
    assert conform(turned, dataset).equals(rows)


def _timestamps(unit: str, values: list[int | None], zone: str | None = "UTC") -> pa.Array:
    return pa.array(values, pa.timestamp(unit, tz=zone))


EXACT = {
    "dictionary": (MARKET_DATA, "symbol", pa.array(["A", "B", "A"]).dictionary_encode()),
    "large text": (MARKET_DATA, "symbol", pa.array(["A", "B", "Ü"], pa.large_string())),
    "text view": (MARKET_DATA, "symbol", pa.array(["A", "B", "longer than twelve bytes"], pa.string_view())),
    "dictionary of large text": (
        MARKET_DATA,
        "symbol",
        pa.array(["A", "B", "A"]).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.large_string())),
    ),
    "float32": (MARKET_DATA, "bid_price", pa.array([1.5, None, 0.25], pa.float32())),
    "float16": (MARKET_DATA, "bid_price", pa.array([1.5, None, 0.25], pa.float16())),
    "nulls": (MARKET_DATA, "bid_price", pa.nulls(3)),
    "int8": (MARKET_DATA, "volume", pa.array([1, None, -3], pa.int8())),
    "uint32": (MARKET_DATA, "volume", pa.array([1, 2, 2**32 - 1], pa.uint32())),
    "uint64 that fits": (MARKET_DATA, "volume", pa.array([1, 2, 2**63 - 1], pa.uint64())),
    "seconds": (MARKET_DATA, "timestamp", _timestamps("s", [0, 1, 2])),
    "milliseconds": (MARKET_DATA, "timestamp", _timestamps("ms", [0, 1, -1])),
    "nanoseconds that are whole microseconds": (MARKET_DATA, "timestamp", _timestamps("ns", [0, 1000, -5000])),
    "no zone is UTC": (MARKET_DATA, "timestamp", _timestamps("us", [0, 1, 2], None)),
    "another zone": (MARKET_DATA, "timestamp", _timestamps("us", [0, 1, 2], "Europe/Vienna")),
    "narrower decimal": (
        POSITIONS,
        "quantity",
        pa.array([Decimal("1.5"), Decimal(-2), Decimal(0)], pa.decimal128(5, 1)),
    ),
    "wider decimal": (POSITIONS, "quantity", pa.array([Decimal("1.5"), Decimal(-2), Decimal(0)], pa.decimal128(38, 9))),
    "decimal256": (POSITIONS, "quantity", pa.array([Decimal("1.5"), Decimal(-2), Decimal(0)], pa.decimal256(60, 4))),
    "decimal32": (POSITIONS, "quantity", pa.array([Decimal("1.5"), Decimal(-2), Decimal(0)], pa.decimal32(5, 1))),
    "whole number to decimal": (POSITIONS, "quantity", pa.array([1, -2, 0], pa.int32())),
    "big whole number to decimal": (POSITIONS, "quantity", pa.array([1, -2, 10**13], pa.int64())),
}


@pytest.mark.parametrize("name", EXACT)
def test_casts_that_lose_nothing_are_made(name: str) -> None:
    dataset, column, array = EXACT[name]
    found = conform(_with(_rows(dataset), column, array), dataset)
    assert found.schema.equals(dataset.schema)
    kept, sent = found.column(column).to_pylist(), array.to_pylist()
    if column == "timestamp":
        sent = [value if value.tzinfo else value.replace(tzinfo=UTC) for value in sent]
    assert kept == sent
    found.validate(full=True)


LOSSY = {
    "nanoseconds": (MARKET_DATA, "timestamp", _timestamps("ns", [0, 1000, 1001]), 2),
    "too far away in seconds": (MARKET_DATA, "timestamp", _timestamps("s", [0, 2**62, 0]), 1),
    "uint64 too large": (MARKET_DATA, "volume", pa.array([1, 2**63, 2**64 - 1], pa.uint64()), 1),
    "too many digits": (POSITIONS, "quantity", pa.array([Decimal("1.00001"), Decimal(1), Decimal(1)]), 0),
    "too large a decimal": (
        POSITIONS,
        "quantity",
        pa.array([Decimal(1), Decimal(1), Decimal(10**14)], pa.decimal128(38, 0)),
        2,
    ),
    "too large a whole number": (POSITIONS, "quantity", pa.array([1, 10**14, 1], pa.int64()), 1),
    "null in a key": (MARKET_DATA, "symbol", pa.array(["A", None, "B"]), 1),
    "null in the order column": (MARKET_DATA, "timestamp", _timestamps("us", [0, 0, None]), 2),
    "null money": (POSITIONS, "realized_pnl", pa.array([None, Decimal(1), Decimal(1)], pa.decimal128(18, 2)), 0),
    "nothing but nulls in a key": (MARKET_DATA, "symbol", pa.nulls(3), 0),
}


@pytest.mark.parametrize("name", LOSSY)
def test_a_value_that_does_not_fit_is_refused_by_column_and_row(name: str) -> None:
    dataset, column, array, row = LOSSY[name]
    text = _refusal(_with(_rows(dataset), column, array), dataset)
    assert f"Column {column} of {dataset.name}" in text
    assert f"row {row}" in text


WRONG_TYPES = {
    "float to decimal": (POSITIONS, "quantity", pa.array([1.0, 2.0, 3.0])),
    "float to whole number": (MARKET_DATA, "volume", pa.array([1.0, 2.0, 3.0])),
    "whole number to float": (MARKET_DATA, "bid_price", pa.array([1, 2, 3])),
    "decimal to float": (MARKET_DATA, "bid_price", pa.array([Decimal("1.1")] * 3)),
    "text to number": (MARKET_DATA, "volume", pa.array(["1", "2", "3"])),
    "number to text": (MARKET_DATA, "symbol", pa.array([1, 2, 3])),
    "bytes to text": (MARKET_DATA, "symbol", pa.array([b"A", b"B", b"C"])),
    "text to time": (MARKET_DATA, "timestamp", pa.array(["2026-01-05"] * 3)),
    "date to time": (MARKET_DATA, "timestamp", pa.array([NOW.date()] * 3)),
    "number to time": (MARKET_DATA, "timestamp", pa.array([1, 2, 3])),
    "flag to number": (MARKET_DATA, "volume", pa.array([True, False, True])),
    "list to text": (ORDERS, "side", pa.array([["buy"], ["buy"], ["buy"]])),
    "dictionary of numbers to text": (MARKET_DATA, "symbol", pa.array([1, 2, 1]).dictionary_encode()),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_a_type_that_could_lose_something_is_refused_by_column(name: str) -> None:
    dataset, column, array = WRONG_TYPES[name]
    text = _refusal(_with(_rows(dataset), column, array), dataset)
    assert f"Column {column} of {dataset.name} must be " in text
    assert str(dataset.schema.field(column).type) in text


def test_a_decimal_wider_than_its_type_never_gets_here() -> None:
    """Bytes can say 10^19 in a column that says it holds 18 digits; the decoder's full validation refuses that."""
    wide = pa.array([Decimal(1), Decimal(10) ** 19], pa.decimal128(38, 0))
    narrow = pa.Array.from_buffers(pa.decimal128(18, 0), 2, wide.buffers())
    with pytest.raises(pa.ArrowInvalid):
        narrow.validate(full=True)


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
def test_missing_unknown_and_double_columns_are_named(dataset: Dataset) -> None:
    rows = _rows(dataset)
    last = dataset.schema.names[-1]
    assert f"lacks the column {last}" in _refusal(rows.drop_columns([last]), dataset)
    assert "unknown column surprise" in _refusal(rows.append_column("surprise", pa.array([1, 2, 3])), dataset)
    assert "column twice" in _refusal(rows.append_column(last, rows.column(last)), dataset)
    for text in (_refusal(rows.drop_columns([last]), dataset),):
        assert all(name in text for name in dataset.schema.names), "the refusal says what is wanted"


def test_no_value_is_repeated_in_a_refusal() -> None:
    rows = _with(_rows(POSITIONS), "quantity", pa.array([987_654_321_987_654, 1, 1], pa.int64()))
    assert "987" not in _refusal(rows, POSITIONS)


def test_rows_in_the_middle_of_a_longer_batch_are_counted_from_its_start() -> None:
    count = 1_000
    for bad in (0, 1, 499, 998, 999):
        values = [0] * count
        values[bad] = 10**14
        rows = _with(_rows(POSITIONS, count), "quantity", pa.array(values, pa.int64()))
        assert f"row {bad} " in _refusal(rows, POSITIONS)
