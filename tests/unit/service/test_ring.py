"""The ring: whatever becomes one in it, a reader of the newest rows is told the same, and counts the same."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from flightsql_server.data import deltas
from flightsql_server.service.ring import Piece, Ring, size_of

SCHEMA = deltas.with_extra(pa.schema([("key", pa.int64())]))
ROWS = st.lists(st.integers(0, 3), min_size=1, max_size=4)


def piece(first: int, keys: list[int]) -> Piece:
    rows = [{"key": key, "_seq": first + i, "_change": "upsert"} for i, key in enumerate(keys)]
    return Piece(first, first + len(keys) - 1, pa.Table.from_pylist(rows, SCHEMA))


def as_one(run: list[Piece]) -> Piece:
    rows, merged = deltas.conflate([one.rows for one in run], [0])
    return Piece(run[0].first, run[-1].last, rows, merged + sum(one.merged for one in run))


@dataclass
class Told:
    """A reader of the newest rows."""

    next: int = 0
    table: dict[int, int] = field(default_factory=dict)
    counted: int = 0

    def read(self, ring: Ring) -> None:
        entries = ring.since(self.next)
        assert entries is not None
        for entry in entries:
            self.table |= {row["key"]: row["_seq"] for row in entry.piece.rows.to_pylist()}
            self.counted += entry.piece.rows.num_rows + entry.piece.merged
        self.next = ring.end


@given(st.lists(ROWS | st.sampled_from(["one", "trim", "read 0", "read 1"]), max_size=40))
def test_readers_are_told_the_same_and_count_the_same(steps: list[list[int] | str]) -> None:
    ring, readers, table, count = Ring(1_000, 10**9), [Told(), Told()], dict[int, int](), 0
    for step in steps:
        if isinstance(step, list):
            came = piece(count + 1, step)
            ring.append(came, [])
            table |= {row["key"]: row["_seq"] for row in came.rows.to_pylist()}
            count += len(step)
        elif step == "one":
            run = ring.run([reader.next for reader in readers], ring.end)
            if run:
                ring.become_one(run, as_one([one.piece for one in run]), [])
        elif step == "trim":
            ring.trim(min(reader.next for reader in readers))
        else:
            readers[int(step[-1])].read(ring)
    for reader in readers:
        reader.read(ring)
        assert (reader.table, reader.counted) == (table, count)


def test_who_stands_within_what_became_one_is_told_so() -> None:
    ring = Ring(10, 10**9)
    for first in range(1, 5):
        ring.append(piece(first, [1]), [])
    run = ring.run([0], 4)
    ring.become_one(run, as_one([one.piece for one in run]), [])
    assert [ring.since(number) is None for number in range(5)] == [False, True, True, True, False]
    ring.trim(3)
    assert ring.since(0) is not None, "somebody who has not had the whole of it may need it"
    ring.trim(4)
    assert ring.since(0) is None


def test_a_run_ends_where_somebody_needs_every_row() -> None:
    ring = Ring(10, 10**9)
    for first in range(1, 6):
        ring.append(piece(first, [1]), [])
    assert [one.number for one in ring.run([1], 4)] == [1, 2, 3]
    assert not ring.run([], 0)


def test_a_run_that_has_changed_meanwhile_stays() -> None:
    ring = Ring(10, 10**9)
    for first in range(1, 4):
        ring.append(piece(first, [1]), [])
    run = ring.run([], 3)
    ring.trim(1)
    ring.become_one(run, as_one([one.piece for one in run]), [])
    told = ring.since(1)
    assert told is not None
    assert [one.piece.first for one in told] == [2, 3]


def test_the_oldest_go_where_there_is_no_room() -> None:
    one = piece(1, [1, 2, 3])
    by_count, by_bytes = Ring(2, 10**9), Ring(100, 2 * size_of(one, [b"message"]))
    for ring in (by_count, by_bytes):
        assert not ring.is_full_with(size_of(one, [b"message"]))
        for _ in range(3):
            ring.append(one, [b"message"])
        assert ring.since(0) is None
        assert len(ring.since(1) or []) == 2
        assert ring.is_full_with(1)
    by_bytes.append(piece(1, [1] * 100), [])
    assert len(by_bytes.since(3) or []) == 1, "the newest stays, however large"
