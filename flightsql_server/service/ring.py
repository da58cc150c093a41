"""The newest changes of an answer, kept for readers who have not had them yet. Belongs to the event loop."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of an answer that changed between two places of its order. ``merged``: how many newer rows took the place
    of. ``whole``: the rows are the whole answer, whatever was known before. ``snapshot``: they are a part of one.
    ``moved``: they are what another query or other rights make of what was told. ``versions``: of a query that is run
    anew, how far each dataset that it reads had come. ``more``: another part of the same rows follows.
    ``plan``: of rows that were ``moved``, the form in which the query goes on.
    """

    first: int
    last: int
    rows: pa.Table
    merged: int = 0
    whole: bool = False
    versions: tuple[tuple[str, int], ...] = ()
    snapshot: bool = False
    moved: bool = False
    more: bool = False
    plan: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A piece in the ring, and its messages: the same for all who read it as it is. It has the numbers from ``number``
    to the one before ``until``: one, or those of all entries that became this one.
    """

    piece: Piece
    messages: list[bytes]
    nbytes: int
    number: int
    until: int


def size_of(piece: Piece, messages: Sequence[bytes]) -> int:
    """The bytes that an entry takes."""
    return int(piece.rows.nbytes) + sum(map(len, messages))


class Ring:
    """Entries with rising numbers. The oldest go where there are too many, or too many bytes of them.

    ``end`` is the number that the next entry will have. What only looks may be called in a thread.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self.end = 0
        self._most = most
        self._most_bytes = most_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = 0

    def since(self, number: int) -> list[Entry] | None:
        """The entries from that number on; None when some of them are gone, or are one with an earlier one."""
        if number == self.end:
            return []
        at = bisect_left(self._entries, number, key=_number)
        if at == len(self._entries) or self._entries[at].number != number:
            return None
        return list(itertools.islice(self._entries, at, None))

    def append(self, piece: Piece, messages: list[bytes]) -> None:
        """Adds what came, and lets the oldest go where the ring is full."""
        self._entries.append(_entry(piece, messages, self.end, self.end + 1))
        self._bytes += self._entries[-1].nbytes
        self.end += 1
        while self._over(0):
            self._drop()

    def trim(self, oldest: int) -> None:
        """Lets go of entries that every reader has had; ``oldest`` is the first that somebody has not."""
        while self._entries and self._entries[0].until <= oldest:
            self._drop()

    def is_full_with(self, nbytes: int) -> bool:
        """Whether the oldest would have to go for one more of that size."""
        return self._over(nbytes, 1)

    def run(self, places: Iterable[int], upto: int) -> Sequence[Entry]:
        """The entries before ``upto`` that can best become one: those with the most bytes between two places at which
        readers stand. Empty when there are none.
        """
        entries, stops = [one for one in list(self._entries) if one.until <= upto], frozenset(places)
        starts = [i for i, one in enumerate(entries) if i == 0 or one.number in stops]
        runs = [entries[start:end] for start, end in itertools.pairwise([*starts, len(entries)])]
        return max(runs, key=lambda run: sum(one.nbytes for one in run), default=())

    def become_one(self, run: Sequence[Entry], piece: Piece, messages: list[bytes]) -> None:
        """Puts one entry in the place of a run; does nothing where it is no longer there as it was."""
        entries = list(self._entries)
        at = bisect_left(entries, run[0].number, key=_number)
        if entries[at : at + len(run)] != list(run):
            return
        entries[at : at + len(run)] = [_entry(piece, messages, run[0].number, run[-1].until)]
        self._entries = deque(entries)
        self._bytes = sum(one.nbytes for one in entries)

    def _over(self, nbytes: int, more: int = 0) -> bool:
        count = len(self._entries) + more
        return count > self._most or (self._bytes + nbytes > self._most_bytes and count > 1)

    def _drop(self) -> None:
        self._bytes -= self._entries.popleft().nbytes


def _number(entry: Entry) -> int:
    return entry.number


def _entry(piece: Piece, messages: list[bytes], number: int, until: int) -> Entry:
    return Entry(piece, messages, size_of(piece, messages), number, until)
