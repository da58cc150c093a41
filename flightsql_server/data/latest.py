"""Which rows stand after a group of updates, and which came late: decided on whole columns, without a loop over rows.

For each key the row with the greatest order value stands; of equal ones the last. A row is late when one that came
before it, in the table or in the group, has a greater order value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
_LEAST = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Resolution:
    """``standing``: positions, over known and new rows, of the one row of each key that stands now, in no order.

    ``late``: for each new row whether it changed nothing because it was older. ``codes``: for each row, known and new,
    a number that it shares with the rows of its key.
    """

    standing: Integers
    late: Flags
    codes: Integers


def resolve(keys: Sequence[pa.ChunkedArray], order: Integers, known: int) -> Resolution:
    """Settles rows by key. The first ``known`` rows stood before, one for each key; the others come in this order.

    ``keys`` are the key columns, ``order`` the order column as integers; all of one length, without nulls.
    """
    codes, count = codes_of(keys)
    late = _late(codes, order, known, count)
    taken = np.flatnonzero(~late)
    last = np.full(count, -1, np.int64)
    last[codes[taken]] = taken  # of several positions for one code numpy keeps the last
    return Resolution(last, late[known:], codes)


def _late(codes: Integers, order: Integers, known: int, count: int) -> Flags:
    late = np.zeros(len(codes), np.bool_)
    new = order[known:]
    if np.all(new[1:] >= new[:-1]):
        # A feed in the order of time: only the row that stood before can be newer.
        before = np.full(count, _LEAST, np.int64)
        before[codes[:known]] = order[:known]
        late[known:] = new < before[codes[known:]]
        return late
    by_key = np.argsort(codes, kind="stable")
    values, ranks = np.unique(order, return_inverse=True)
    # Ranks of later keys lie above all of earlier ones, so one running maximum serves every key.
    level = codes[by_key] * len(values) + ranks[by_key]
    highest = np.maximum.accumulate(level)
    late[by_key[1:]] = level[1:] < highest[:-1]
    return late


def codes_of(keys: Sequence[pa.ChunkedArray]) -> tuple[Integers, int]:
    """A number for each row's key, the same for equal keys, and how many there are."""
    codes, count = _column_codes(keys[0])
    for column in keys[1:]:
        more, factor = _column_codes(column)
        pairs, codes = np.unique(codes * factor + more, return_inverse=True)
        count = len(pairs)
    return codes.astype(np.int64, copy=False), count


def _column_codes(column: pa.ChunkedArray) -> tuple[Integers, int]:
    if pa.types.is_nested(column.type):
        column = pa.chunked_array([pa.array(map(repr, column.to_pylist()), pa.string())])
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy().astype(np.int64), len(encoded.dictionary)
