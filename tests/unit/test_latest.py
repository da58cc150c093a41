"""Which rows stand and which came late, against a loop over the rows that a reader can check by eye."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightsql_server.data.latest import resolve
from tests.conftest import examples

Key = tuple[Any, ...]
_LEAST, _MOST = -(2**63), 2**63 - 1

# A few keys of each type that a key column can have, among them such as look alike.
KEYS: dict[pa.DataType, list[Any]] = {
    pa.string(): ["", "\0", "a", "a\0", "A", "ä", "a\u0308"],
    pa.binary(): [b"", b"\0", b"a", b"a\0"],
    pa.bool_(): [False, True],
    pa.int8(): [-128, 0, 127],
    pa.int64(): [_LEAST, -1, 0, _MOST],
    pa.date32(): [date.min, date(1970, 1, 1), date.max],
    pa.time64("us"): [time.min, time(12), time.max],
    pa.timestamp("us", tz="UTC"): [datetime(1, 1, 1, tzinfo=UTC), datetime(2026, 1, 5, tzinfo=UTC)],
    pa.decimal128(18, 6): [Decimal("-0.000001"), Decimal(0), Decimal("999999999999.999999")],
    pa.decimal128(38, 0): [Decimal(10**38 - 1), Decimal(1 - 10**38)],
}


def by_hand(keys: Sequence[Key], order: Sequence[int], known: int) -> tuple[set[int], list[bool]]:
    """What the promise says, row by row: a row replaces the row of its key unless it is older."""
    standing: dict[Key, int] = {}
    late = []
    for position, key in enumerate(keys):
        before = standing.get(key)
        older = before is not None and order[position] < order[before]
        if not older:
            standing[key] = position
        if position >= known:
            late.append(older)
    return set(standing.values()), late


def columns_of(keys: Sequence[Key], types: Sequence[pa.DataType], cut: int) -> list[pa.ChunkedArray]:
    """The key columns in two chunks, as known and new rows come from two tables."""
    whole = [pa.array([key[i] for key in keys], type_) for i, type_ in enumerate(types)]
    return [pa.chunked_array([array.slice(0, cut), array.slice(cut)], array.type) for array in whole]


def assert_as_by_hand(keys: Sequence[Key], types: Sequence[pa.DataType], order: Sequence[int], known: int) -> None:
    found = resolve(columns_of(keys, types, known), np.array(order, np.int64), known)
    standing, late = by_hand(keys, order, known)
    assert len(found.standing) == len(standing), "one row for each key"
    assert set(found.standing.tolist()) == standing
    assert found.late.tolist() == late


@st.composite
def groups(draw: st.DrawFn, types: Sequence[pa.DataType]) -> tuple[list[Key], list[int], int]:
    """Known rows, one for each of some keys, and new ones over few keys, in the order of time or in none."""
    choices = st.tuples(*(st.sampled_from(KEYS[type_]) for type_ in types))
    known = draw(st.lists(choices, unique=True, max_size=5))
    new = draw(st.lists(choices, max_size=12))
    values = st.integers(0, 4) | st.sampled_from([_LEAST, _LEAST + 1, -1, _MOST - 1, _MOST])
    order = draw(st.lists(values, min_size=len(known) + len(new), max_size=len(known) + len(new)))
    if draw(st.booleans()):
        order[len(known) :] = sorted(order[len(known) :])
    return [*known, *new], order, len(known)


@pytest.mark.parametrize("type_", KEYS, ids=str)
@pytest.mark.scaled
@settings(max_examples=examples(400))
@given(data=st.data())
def test_one_key_column_of_any_type(type_: pa.DataType, data: st.DataObject) -> None:
    keys, order, known = data.draw(groups([type_]))
    assert_as_by_hand(keys, [type_], order, known)


@pytest.mark.scaled
@settings(max_examples=examples(2_000))
@given(data=st.data(), types=st.lists(st.sampled_from(list(KEYS)), min_size=2, max_size=4))
def test_several_key_columns(data: st.DataObject, types: list[pa.DataType]) -> None:
    keys, order, known = data.draw(groups(types))
    assert_as_by_hand(keys, types, order, known)


def test_keys_that_read_the_same_when_put_together_are_two() -> None:
    """("ab", "c") is not ("a", "bc"), and no separator makes it so."""
    keys = [("ab", "c"), ("a", "bc"), ("a\0b", "c"), ("a", "b\0c"), ("", "abc"), ("abc", "")]
    assert_as_by_hand([*keys, *keys], [pa.string(), pa.string()], [5] * 6 + [4, 5, 6] * 2, 6)


@pytest.mark.parametrize("sorted_", [True, False])
def test_many_rows(sorted_: bool) -> None:
    """Also when there are more keys and values than one byte or two can number."""
    random_ = random.Random(7)
    choices = [(f"account {a}", s) for a in range(300) for s in range(300)]
    known = random_.sample(choices, 40_000)
    keys = [*known, *random_.choices(choices, k=80_000)]
    order = [random_.randrange(100_000) for _ in keys]
    if sorted_:
        order[len(known) :] = sorted(order[len(known) :])
    assert_as_by_hand(keys, [pa.string(), pa.int32()], order, len(known))


def test_no_rows_at_all() -> None:
    found = resolve([pa.chunked_array([pa.array([], pa.string())])], np.array([], np.int64), 0)
    assert (found.standing.tolist(), found.late.tolist()) == ([], [])


def test_of_equal_rows_the_last_stands_and_none_is_late() -> None:
    keys = [("A",)] * 5
    assert_as_by_hand(keys, [pa.string()], [3] * 5, 1)
    assert resolve(columns_of(keys, [pa.string()], 1), np.array([3] * 5, np.int64), 1).standing.tolist() == [4]


def test_an_older_row_is_late_behind_one_of_its_own_group() -> None:
    """Late is told against all that came before, also against a row that was itself replaced."""
    keys = [("A",), ("A",), ("B",), ("A",), ("A",)]
    found = resolve(columns_of(keys, [pa.string()], 0), np.array([1, 9, 1, 5, 8], np.int64), 0)
    assert found.late.tolist() == [False, False, False, True, True]
    assert sorted(found.standing.tolist()) == [1, 2]
