"""Values that are bound arrive as they were sent: through the stock driver, for every type that can be bound."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pytest
from adbc_driver_manager import NotSupportedError, ProgrammingError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from tests.running import RunningServer

_STAMP = datetime.fromisoformat("2026-01-02 03:04:05.678901")


def _echo(connection: flight_sql.Connection, array: pa.Array) -> pa.ChunkedArray:
    with connection.cursor() as cursor:
        cursor.execute("SELECT ? AS v", pa.record_batch([array], names=["0"]))
        return cursor.fetch_arrow_table().column("v")


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        2**62,
        1.5,
        "x'y; -- Ü",
        b"\x00\xff",
        Decimal("99999999999.99999999"),
        date(2026, 1, 2),
        time(1, 2, 3, 4),
        _STAMP,
        _STAMP.replace(tzinfo=UTC),
        [1, 2, None],
        {"a": 1, "b": None},
    ],
    ids=repr,
)
def test_python_values_come_back(server: RunningServer, value: object) -> None:
    """In the rival's server NULL became a text and decimals went through floats."""
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT ? AS v, ? IS NULL AS n", (value, value))
        assert cursor.fetchone() == (value, value is None)


def _union(make: Callable[..., pa.UnionArray], held: object, *offsets: pa.Array) -> pa.UnionArray:
    """A union of numbers and decimals that holds a decimal or NULL."""
    return make(pa.array([1], pa.int8()), *offsets, [pa.array([7]), pa.array([held], pa.decimal128(10, 3))])


EXACT = {
    "nanoseconds": pa.array([10**18 + 1], pa.timestamp("ns")),
    "decimal256 that fits": pa.array([Decimal("1.500")], pa.decimal256(20, 3)),
    "uint64": pa.array([2**64 - 1], pa.uint64()),
    "map": pa.array([[("k", 1), ("l", None)]], pa.map_(pa.string(), pa.int32())),
    "decimals in a list": pa.array([[Decimal("1.25000"), None]], pa.list_(pa.decimal128(20, 5))),
    "struct": pa.array([{"a b": 1, "t": _STAMP}], pa.struct([("a b", pa.int64()), ("t", pa.timestamp("us"))])),
    "dictionary": pa.array(["a"]).dictionary_encode(),
    "dictionary of text views": pa.DictionaryArray.from_arrays(pa.array([0]), pa.array(["v"], pa.string_view())),
    "text view": pa.array(["v"], pa.string_view()),
    "large text": pa.array(["v"], pa.large_string()),
    "float16": pa.array([1.5], pa.float16()),
    "typed null": pa.nulls(1, pa.decimal128(10, 2)),
    "fixed list": pa.array([[1, 2]], pa.list_(pa.int8(), 2)),
    "another zone": pa.array([5], pa.timestamp("s", "Europe/Vienna")),
    "dense union": _union(pa.UnionArray.from_dense, Decimal("1.250"), pa.array([0], pa.int32())),
    "sparse union": _union(pa.UnionArray.from_sparse, Decimal("1.250")),
    "union of null": _union(pa.UnionArray.from_sparse, None),
}


@pytest.mark.parametrize("name", EXACT)
def test_arrow_values_come_back(server: RunningServer, name: str) -> None:
    with server.connect() as connection:
        assert _echo(connection, EXACT[name]).to_pylist() == EXACT[name].to_pylist()


def test_uuids_and_durations_keep_their_value(server: RunningServer) -> None:
    """The engine has no such Arrow types to give back: a UUID comes as text, a duration as an interval."""
    known = uuid.uuid4()
    with server.connect() as connection:
        assert _echo(connection, pa.array([known.bytes], pa.uuid())).to_pylist() == [str(known)]
        (found,) = _echo(connection, pa.array([7], pa.duration("us"))).to_pylist()
        assert (found.months, found.days, found.nanoseconds) == (0, 0, 7_000)


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1], pa.duration("ns")),
        pa.array([1001], pa.timestamp("ns", "UTC")),
        pa.array([Decimal(1)], pa.decimal256(60, 2)),
        pa.StructArray.from_arrays([EXACT["sparse union"]], ["a"]),
    ],
    ids=["finer duration", "finer zoned time", "wide decimal", "union inside"],
)
def test_what_would_be_changed_is_refused(server: RunningServer, array: pa.Array) -> None:
    with server.connect() as connection, pytest.raises((ProgrammingError, NotSupportedError)):
        _echo(connection, array)


@pytest.mark.parametrize("batches", [[[0, 1]], [[0], [1]]], ids=["one batch", "two batches"])
def test_a_union_has_one_type_in_all_rows(server: RunningServer, batches: list[list[int]]) -> None:
    """Else the second row's value would be cast to the type of the first one's."""
    made = []
    for kinds in batches:
        values = [pa.array([1] * len(kinds)), pa.array([1.5] * len(kinds))]
        made.append(pa.record_batch([pa.UnionArray.from_sparse(pa.array(kinds, pa.int8()), values)], names=["0"]))
    with server.connect("admin") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE TABLE mixed (a DOUBLE)")
        with pytest.raises(NotSupportedError, match="another type in another row"):
            cursor.executemany("INSERT INTO mixed VALUES (?)", pa.Table.from_batches(made))
        cursor.execute("DROP TABLE mixed")


def test_each_row_of_a_union_is_bound(server: RunningServer) -> None:
    numbers, texts = pa.array([7, 8, 9]), pa.array(["x", None, "z"])
    dense = pa.UnionArray.from_dense(pa.array([1] * 3, pa.int8()), pa.array([0, 1, 2], pa.int32()), [numbers, texts])
    sparse = pa.UnionArray.from_sparse(pa.array([0] * 3, pa.int8()), [numbers, texts])
    with server.connect("admin") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE TABLE held (a VARCHAR, b BIGINT)")
        cursor.executemany("INSERT INTO held VALUES (?, ?)", pa.record_batch([dense, sparse], names=["0", "1"]))
        cursor.execute("SELECT * FROM held ORDER BY b")
        assert cursor.fetchall() == [("x", 7), (None, 8), ("z", 9)]
        cursor.execute("DROP TABLE held")


def _one(type_: pa.DataType, values: st.SearchStrategy[Any]) -> st.SearchStrategy[pa.Array]:
    return (values | st.none()).map(lambda value: pa.array([value], type_))


_DAYS = st.datetimes()
_LEAVES = st.one_of(
    *(_one(pa.int64(), st.integers(-(2**63), 2**63 - 1)), _one(pa.uint32(), st.integers(0, 2**32 - 1))),
    *(_one(pa.float64(), st.floats(allow_nan=False)), _one(pa.float32(), st.floats(width=32, allow_nan=False))),
    *(
        _one(pa.string(), st.text(max_size=20)),
        _one(pa.binary(), st.binary(max_size=20)),
        _one(pa.bool_(), st.booleans()),
    ),
    *(_one(pa.date32(), st.dates()), _one(pa.time64("us"), st.times()), _one(pa.timestamp("us"), _DAYS)),
    _one(pa.timestamp("us", "UTC"), _DAYS.map(lambda moment: moment.replace(tzinfo=UTC))),
    _one(pa.decimal128(38, 10), st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: Decimal(f"{n}e-10"))),
    _one(pa.list_(pa.string()), st.lists(st.text(max_size=5) | st.none(), max_size=4)),
    _one(pa.list_(pa.timestamp("us")), st.lists(_DAYS, max_size=3)),
)


@pytest.mark.scaled
@settings(max_examples=examples(1_000), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(array=_LEAVES)
def test_every_value_is_echoed_exactly(server: RunningServer, array: pa.Array) -> None:
    with server.connect() as connection:
        found = _echo(connection, array)
    assert found.to_pylist() == array.to_pylist()
    assert found.type == array.type or pa.types.is_list(array.type)


def test_a_bound_query_is_planned_once_for_all_values(server: RunningServer) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        for symbol in ("ADG", "' OR 1=1 --", "ADT"):
            cursor.execute("SELECT symbol FROM market_data WHERE symbol = ?", (symbol,))
            assert cursor.fetchall() == ([(symbol,)] if symbol.isalpha() else [])


def test_places_that_take_parameters(server: RunningServer) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT ? + 1, abs(?), range FROM range(?) LIMIT ? OFFSET ?", (1.5, -2, 10, 2, 3))
        assert cursor.fetchall() == [(2.5, 2, 3), (2.5, 2, 4)]
        cursor.execute("SELECT typeof(?), typeof(?), typeof(?)", (1.5, b"x", [1]))
        assert cursor.fetchall() == [("DOUBLE", "BLOB", "BIGINT[]")]


def test_values_belong_to_their_statement(server: RunningServer) -> None:
    """Two statements of one connection, bound in turn, never see each other's values."""
    with server.connect() as connection, connection.cursor() as one, connection.cursor() as other:
        one.execute("SELECT ? AS v", (1,))
        other.execute("SELECT ? AS v", (2,))
        assert (one.fetchone(), other.fetchone()) == ((1,), (2,))


def test_missing_values_are_told(server: RunningServer) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        with pytest.raises(ProgrammingError, match=r"\[22023\].*2 parameters, but 1"):
            cursor.execute("SELECT ?, ?", (1,))
        with pytest.raises(ProgrammingError, match=r"\[22023\].*1 parameter, but 0"):
            cursor.execute("SELECT ?")


def test_a_query_takes_one_row(server: RunningServer) -> None:
    with (
        server.connect() as connection,
        connection.cursor() as cursor,
        pytest.raises(NotSupportedError, match="one row"),
    ):
        cursor.execute("SELECT ?", pa.record_batch([pa.array([1, 2])], names=["0"]))
