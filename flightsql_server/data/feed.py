"""What a commit has done to a dataset, row by row, for those who follow it: live, or read again from history.

A change set holds the rows that stood before under the keys that came in, and the rows that came in. From both follows,
for any query over the dataset's rows, which of them appear in its answer, change there, or leave it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flightsql_server.data.datasets import CHANGE, DELETE, UPSERT, Dataset
from flightsql_server.data.latest import Flags, Integers, codes_of, resolve
from flightsql_server.data.tables import quoted, table_sql
from flightsql_server.errors import SequenceNoLongerKept
from flightsql_server.model import CHANGED_ROW, UserTransaction

SEQ = "_seq"
_BATCH_ROWS = 100_000
# Of so few every query is asked as they are: to look for its own costs more.
_FEW_ROWS = 64


@dataclass(frozen=True, eq=False)
class ChangeSet:
    """The rows known before (``known``, in the dataset's columns) and those that came (``rows``, as history has them).

    ``codes``: a number for each of them, the same for rows of one key. ``absent``: those that are deletes. ``late``:
    for each row that came whether it was older than what it met, and so changed nothing.
    """

    dataset: Dataset
    known: pa.Table
    rows: pa.Table
    codes: Integers
    absent: Flags
    late: Flags

    @property
    def first_seq(self) -> int:
        return int(self.rows.column(SEQ)[0].as_py())

    @property
    def last_seq(self) -> int:
        return int(self.rows.column(SEQ)[-1].as_py())

    @property
    def nbytes(self) -> int:
        return int(self.known.nbytes + self.rows.nbytes)

    def touches(self, column: str, texts: frozenset[str]) -> bool:
        """Whether a row, as it was or as it came, has one of these texts there."""
        found = self._texts.get(column)
        if found is None:
            both = (self.known.column(column), self.rows.column(column))
            found = self._texts[column] = frozenset().union(*(one.unique().to_pylist() for one in both))
        return not texts.isdisjoint(found)

    @cached_property
    def _texts(self) -> dict[str, frozenset[str]]:
        return {}

    def about(self, column: str, texts: frozenset[str]) -> ChangeSet:
        """What there is of the keys that have, in any of their rows, one of these texts there: it means the same for
        every query of such rows alone, and takes it less time.
        """
        if len(self.codes) <= _FEW_ROWS:
            return self
        positions = self._places(column).of(texts)
        split = int(np.searchsorted(positions, self.known.num_rows))
        known, came = positions[:split], positions[split:] - self.known.num_rows
        return ChangeSet(
            self.dataset,
            self.known.take(pa.array(known)),
            self.rows.take(pa.array(came)),
            self.codes[positions],
            self.absent[positions],
            self.late[came],
        )

    def _places(self, column: str) -> _Places:
        found = self._places_of.get(column)
        if found is None:
            both = (*self.known.column(column).chunks, *self.rows.column(column).chunks)
            found = self._places_of[column] = _Places(pa.chunked_array(both), self.codes)
        return found

    @cached_property
    def _places_of(self) -> dict[str, _Places]:
        return {}

    @cached_property
    def new(self) -> Flags:
        """Of the known rows and those that came: which came and changed something."""
        return np.concatenate([np.zeros(self.known.num_rows, np.bool_), ~self.late])

    @cached_property
    def before(self) -> Integers:
        """For each row the position of the one that it took the place of; -1: there was none."""
        counts = self.new.copy()
        counts[: self.known.num_rows] = True
        positions = np.flatnonzero(counts)
        order = positions[np.argsort(self.codes[positions], kind="stable")]
        before = np.full(len(counts), -1, np.int64)
        same = self.codes[order[1:]] == self.codes[order[:-1]]
        before[order[1:][same]] = order[:-1][same]
        return before

    @cached_property
    def present(self) -> pa.Table:
        """The rows that a query may be asked about, in the dataset's columns, numbered by a last column."""
        counts = ~self.absent
        counts[self.known.num_rows :] &= ~self.late
        positions = np.flatnonzero(counts)
        names = self.dataset.schema.names
        together = pa.concat_tables([self.known.select(names), self.rows.select(names)], promote_options="permissive")
        if len(positions) != len(counts):
            together = together.take(pa.array(positions))
        return together.append_column(CHANGED_ROW, pa.array(positions))


class _Places:
    """Where the keys stand that have a text in one column: looked for once, however many ask."""

    def __init__(self, column: pa.ChunkedArray, codes: Integers) -> None:
        encoded = column.combine_chunks().dictionary_encode()
        self._numbers = {text: number for number, text in enumerate(encoded.dictionary.to_pylist())}
        count = int(codes.max()) + 1
        numbers = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
        self._texts, self._codes = np.divmod(np.unique(numbers * count + codes), count)
        self._order = np.argsort(codes, kind="stable")
        self._starts = np.searchsorted(codes[self._order], np.arange(count + 1))

    def of(self, texts: frozenset[str]) -> Integers:
        """The places, in rising order, of all rows of the keys that have one of these texts."""
        numbers = np.array([self._numbers[text] for text in texts if text in self._numbers], np.int64)
        firsts, lasts = (np.searchsorted(self._texts, numbers, side) for side in ("left", "right"))
        codes = {code for i in range(len(numbers)) for code in self._codes[firsts[i] : lasts[i]].tolist()}
        found = [self._order[self._starts[code] : self._starts[code + 1]] for code in codes]
        return np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)


def joined(change_sets: Sequence[ChangeSet]) -> ChangeSet:
    """One change set for several that follow each other: it means for any query what they mean one after the other."""
    dataset = change_sets[0].dataset
    # In one piece, for many will pick rows from it.
    rows = pa.concat_tables([one.rows for one in change_sets], promote_options="permissive").combine_chunks()
    codes, count = codes_of([rows.column(name) for name in dataset.key])
    ends = np.cumsum([one.rows.num_rows for one in change_sets])
    came = np.split(codes, ends[:-1])
    first = np.zeros(count, np.int64)
    for number in range(len(change_sets) - 1, -1, -1):
        first[came[number]] = number
    # What a later set knew under a key that an earlier one met is a row that came, or stands for the same.
    knew = [_knew(one, own, first, number) for number, (one, own) in enumerate(zip(change_sets, came, strict=True))]
    return ChangeSet(
        dataset,
        pa.concat_tables([known for known, _, _ in knew], promote_options="permissive").combine_chunks(),
        rows,
        np.concatenate([*(numbers for _, numbers, _ in knew), codes]),
        np.concatenate([*(gone for _, _, gone in knew), *(one.absent[one.known.num_rows :] for one in change_sets)]),
        np.concatenate([one.late for one in change_sets]),
    )


def _knew(one: ChangeSet, came: Integers, first: Integers, number: int) -> tuple[pa.Table, Integers, Flags]:
    """What a set knew of keys that came in it first, of all that have numbers; ``came``: those of its rows' keys."""
    count = one.known.num_rows
    if not count:
        return one.known, came[:0], one.absent[:0]
    numbers = np.zeros(int(one.codes.max()) + 1, np.int64)
    numbers[one.codes[count:]] = came  # it knew rows of these keys alone
    keys = numbers[one.codes[:count]]
    stays = np.flatnonzero(first[keys] == number)
    known = one.known if len(stays) == count else one.known.take(pa.array(stays))
    return known, keys[stays], one.absent[:count][stays]


def from_history(work: UserTransaction, dataset: Dataset, after: int, upto: int, most: int) -> ChangeSet | None:
    """The change set that led from the state at ``_seq`` ``after`` to that at ``upto``; None when nothing came.

    SequenceNoLongerKept when history does not reach back so far, or holds more than ``most`` rows since. Blocks.
    """
    history, names = table_sql(dataset.history_name), ", ".join(quoted(name) for name in dataset.schema.names)
    if upto <= after:
        return None
    if upto - after > most:
        raise SequenceNoLongerKept(
            f"{dataset.name} has {upto - after} updates since _seq {after}, more than are sent again.",
            hint="Subscribe anew, from a snapshot.",
        )
    rows = _read(
        work,
        f"SELECT {names}, _seq, _received_at, _change FROM {history} WHERE _seq > {after} AND _seq <= {upto} "
        "ORDER BY _seq",
    )
    if not rows.num_rows or int(rows.column(SEQ)[0].as_py()) != after + 1:
        raise SequenceNoLongerKept(
            f"The updates of {dataset.name} behind _seq {after} are no longer kept.",
            hint="Subscribe anew, from a snapshot.",
        )
    key = ", ".join(quoted(name) for name in dataset.key)
    known = _read(
        work,
        f"SELECT {names}, _change FROM {history} SEMI JOIN "
        f"(SELECT DISTINCT {key} FROM {history} WHERE _seq > {after} AND _seq <= {upto}) AS came USING ({key}) "
        f"WHERE _seq <= {after} "
        f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {quoted(dataset.order_column)} DESC, _seq DESC) = 1",
    )
    order = pa.chunked_array([*known.column(dataset.order_column).chunks, *rows.column(dataset.order_column).chunks])
    keys = [pa.chunked_array([*known.column(name).chunks, *rows.column(name).chunks]) for name in dataset.key]
    resolution = resolve(keys, integers(order), known.num_rows)
    absent = np.concatenate([_deletes(known), _deletes(rows)])
    return ChangeSet(dataset, known.select(dataset.schema.names), rows, resolution.codes, absent, resolution.late)


def integers(column: pa.ChunkedArray) -> Integers:
    """An order column as whole numbers."""
    if pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    found: Integers = column.cast(pa.int64()).to_numpy()
    return found


def _deletes(rows: pa.Table) -> Flags:
    flags: Flags = pc.equal(rows.column(CHANGE), DELETE).to_numpy().astype(np.bool_)
    return flags


def _read(work: UserTransaction, sql: str) -> pa.Table:
    batches: Iterator[pa.RecordBatch] = work.read(sql, (), _BATCH_ROWS)
    found = list(batches)
    return pa.Table.from_batches(found, found[0].schema if found else work.describe(sql))


__all__ = ["CHANGE", "DELETE", "SEQ", "UPSERT", "ChangeSet", "from_history", "integers", "joined"]
