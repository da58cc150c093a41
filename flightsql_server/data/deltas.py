"""What a change means for the answer to a query: rows that come or change (upserts), rows that leave it (deletes).

Everything here works on whole columns. A delta is a table with the answer's columns, then ``_seq`` and ``_change``; of
a deleted row only the key is told.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flightsql_server.data.feed import CHANGE, DELETE, SEQ, UPSERT, ChangeSet
from flightsql_server.data.latest import Flags, codes_of

EXTRA = (pa.field(SEQ, pa.int64()), pa.field(CHANGE, pa.string(), False))
"""The columns that a subscription adds to those that were asked for."""


def delta(change_set: ChangeSet, answer: pa.Table, key: Sequence[int]) -> pa.Table:
    """What the change set changes in the answer, in the order of ``_seq``.

    ``answer``: what the query says to ``change_set.present``; its last column numbers those rows, in any order.
    ``key``: the places of the key's columns.
    """
    place = np.full(len(change_set.new), -1, np.int64)
    place[answer.column(answer.num_columns - 1).to_numpy()] = np.arange(answer.num_rows)
    there = place >= 0
    before = change_set.before
    leaves = change_set.new & ~there & (before >= 0)
    leaves[leaves] = there[before[leaves]]
    positions = np.flatnonzero((change_set.new & there) | leaves)
    gone = leaves[positions]
    source = np.where(gone, place[before[positions]], place[positions])
    rows = answer.select(list(range(answer.num_columns - 1)))
    seq = change_set.rows.column(SEQ).take(pa.array(positions - change_set.known.num_rows))
    return with_changes(rows.take(pa.array(source)), gone, key, seq)


def with_changes(rows: pa.Table, gone: Flags, key: Sequence[int], seq: pa.ChunkedArray | pa.Array) -> pa.Table:
    """The rows as a delta; of those that are ``gone`` all but the key becomes null."""
    columns = list(rows.columns)
    if gone.any():
        hidden = pa.array(gone)
        for i, column in enumerate(columns):
            if i not in key:
                columns[i] = pc.if_else(hidden, pa.scalar(None, column.type), column)
    changes = pc.if_else(pa.array(gone), DELETE, UPSERT)
    return pa.Table.from_arrays([*columns, seq, changes], schema=with_extra(rows.schema))


def all_upserts(rows: pa.Table, seq: int | None) -> pa.Table:
    """The rows as a delta from nothing."""
    places = pa.repeat(pa.scalar(seq, pa.int64()), rows.num_rows)
    changes = pa.repeat(pa.scalar(UPSERT, pa.string()), rows.num_rows)
    return pa.Table.from_arrays([*rows.columns, places, changes], schema=with_extra(rows.schema))


def with_extra(schema: pa.Schema) -> pa.Schema:
    """The schema of a subscription to rows of ``schema``: any of its columns may be null, but for ``_change``.

    Columns are plain: a dictionary would belong to one stream, and what is encoded here goes to many.
    """
    return pa.schema([*(_plain(field) for field in schema), *EXTRA])


def _plain(field: pa.Field) -> pa.Field:
    if pa.types.is_dictionary(field.type):
        field = field.with_type(field.type.value_type)
    return field.with_nullable(True)


def conflate(deltas: Sequence[pa.Table], key: Sequence[int]) -> tuple[pa.Table, int]:
    """The newest row of each key, in the order of ``_seq``, and how many rows were left out for it."""
    together = pa.concat_tables(deltas)
    if not together.num_rows:
        return together, 0
    codes, count = codes_of([together.column(i) for i in key])
    last = np.full(count, -1, np.int64)
    last[codes] = np.arange(len(codes))
    kept = np.sort(last)
    return together.take(pa.array(kept)), len(codes) - len(kept)


def after(table: pa.Table, seq: int) -> pa.Table:
    """The rows of a delta that came after ``seq``."""
    return table.filter(pc.greater(table.column(SEQ), seq))


def known(change_set: ChangeSet, answer: pa.Table) -> pa.Table:
    """Of what the query says to ``change_set.present``: to the rows that stood before it."""
    rows = answer.filter(pc.less(answer.column(answer.num_columns - 1), change_set.known.num_rows))
    return rows.select(range(answer.num_columns - 1))


def undone(rows: pa.Table, changed: pa.Table, before: pa.Table, key: Sequence[int]) -> pa.Table:
    """An answer as it was before its last changes: ``before`` holds what stood under the keys of those ``changed``."""
    parts = [part.combine_chunks() for part in (rows, before, changed)]
    columns = [pa.chunked_array([part.column(i).chunk(0) for part in parts if part.num_rows]) for i in key]
    codes, _ = codes_of(columns)
    touched = np.isin(codes, codes[rows.num_rows + before.num_rows :])
    first = rows.filter(pa.array(~touched[: rows.num_rows]))
    second = before.filter(pa.array(touched[rows.num_rows : rows.num_rows + before.num_rows]))
    return pa.concat_tables([first, second])


def difference(old: pa.Table, new: pa.Table, key: Sequence[int]) -> tuple[pa.Table, Flags]:
    """What makes ``old`` into ``new``: rows of ``new`` that are not in ``old``, and keys of ``old`` that are gone.

    KeyError when a key is not unique in ``new``. Gives the rows, and which of them are gone.
    """
    together = pa.concat_tables([old.combine_chunks(), new.combine_chunks()])
    codes, count = codes_of([together.column(i) for i in key])
    first = old.num_rows
    if len(np.unique(codes[first:])) != new.num_rows:
        raise KeyError("two rows have one key")
    rows, _ = codes_of(list(together.columns))
    known = np.isin(rows[first:], rows[:first])
    stays = np.zeros(count, np.bool_)
    stays[codes[first:]] = True
    left = np.flatnonzero(~stays[codes[:first]])
    positions = np.concatenate([left, first + np.flatnonzero(~known)])
    gone = np.arange(len(positions)) < len(left)
    return together.take(pa.array(positions.astype(np.int64))), gone
