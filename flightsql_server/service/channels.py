"""Channels: one query under one profile, worked out and encoded once for all who subscribe to it.

A channel keeps the newest pieces of its answer's changes in a ring. Each reader knows how far it has read; one that is
too far behind for the ring catches up from history.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import pyarrow as pa

from flightsql_server.data import deltas
from flightsql_server.data.feed import SEQ, ChangeSet, from_history
from flightsql_server.errors import InternalError, ServerError
from flightsql_server.model import Engine
from flightsql_server.service.plans import Prepared
from flightsql_server.service.questions import Question
from flightsql_server.service.ring import Entry, Piece, Ring, size_of

if TYPE_CHECKING:
    from flightsql_server.service.readers import Reader

log = logging.getLogger(__name__)
T = TypeVar("T")


# So many commits a second, and those who conflate are told so many times less often.
_SLOWER = ((200, 8), (100, 4), (50, 2))
_COUNTED_SECONDS = 0.5
# What a byte costs that is sent, next to what a message costs.
_SECONDS_PER_BYTE = 1e-8


class LiveEncoder(Protocol):
    """Batches of one schema → serialised messages; the wire's room brings it."""

    def schema_message(self, metadata: bytes = b"") -> bytes: ...
    def encode(self, batch: pa.RecordBatch, metadata: bytes = b"") -> Iterator[bytes]: ...


LiveEncoderFactory = Callable[[pa.Schema, str | None], LiveEncoder]
Describe = Callable[["Piece"], bytes]
"""What goes with the first message of a piece, for its reader to understand it."""


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """See the ``live`` section of the settings."""

    buffer_batches: int
    buffer_bytes: int
    backlog_bytes: int
    resume_rows: int
    refresh_rows: int
    snapshot_bytes: int
    heartbeat_seconds: float
    pace_seconds: float
    share: float
    evaluation_seconds: float
    per_user: int
    total: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The messages of an answer as it stood at ``seq``; the entry ``next`` is the first that may have come after it."""

    seq: int
    next: int
    messages: list[bytes]
    rows: int


class Channel:
    """The ring, and who waits for what comes next. Belongs to the event loop; ``encoded`` may be called in a thread.

    ``seq``: how far the answer has been worked out. ``failure``: why nothing comes any more. ``plan`` stands for the
    query as it runs, rights and all.
    """

    kind = ""

    def __init__(
        self, prepared: Prepared, key: Sequence[int], compression: str | None, make_encoder: LiveEncoderFactory,
        describe: Describe, limits: LiveLimits,
    ) -> None:  # fmt: skip
        self.prepared = prepared
        self.key = tuple(key)
        self.schema = deltas.with_extra(prepared.schema)
        self.compression = compression
        self.limits = limits
        self.seq = 0
        self.failure: ServerError | None = None
        self.closed = False
        self.name: Hashable = None
        self.plan = ""
        self.told_bytes = 0  # of the last rows that somebody was told
        self.readers: set[Reader] = set()
        self.loop = asyncio.get_running_loop()  # asked once: each time costs a system call
        self._make_encoder = make_encoder
        self._describe = describe
        self.ring = Ring(limits.buffer_batches, limits.buffer_bytes)
        self._waiting: list[asyncio.Future[None]] = []
        self._shared: dict[Hashable, asyncio.Future[Any]] = {}

    # ---- readers

    def wake(self) -> None:
        """Lets all who wait look again."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    async def wait(self) -> None:
        """Until something has changed."""
        future = self.loop.create_future()
        self._waiting.append(future)
        await future

    def fail(self, error: BaseException) -> None:
        """Nothing comes any more."""
        if not isinstance(error, ServerError):
            log.error("a subscription's query failed", exc_info=error)
        self.failure = error if isinstance(error, ServerError) else InternalError()
        self.wake()

    async def shared(self, what: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """What the work gives: done once for all who ask for the same while it is under way, or was the newest."""
        found = self._shared.get(what)
        if found is None:
            self._shared = {name: one for name, one in self._shared.items() if not one.done()}
            found = self._shared[what] = asyncio.ensure_future(work())
        outcome: T = await asyncio.shield(found)
        return outcome

    # ---- rows out

    def encoded(self, piece: Piece) -> list[bytes]:
        """The messages of a piece; each says for itself what it tells, for a reader may get the first of them alone."""
        batches = piece.rows.combine_chunks().to_batches() or [empty(self.schema)]
        messages = self.message(batches[0], self._describe(piece)) if len(batches) == 1 else []
        if len(messages) == 1 or piece.rows.num_rows < 2:
            return messages
        parts = parts_of(piece, max(len(messages), len(batches)))
        return [message for part in parts for message in self.encoded(part)]

    def as_one(self, pieces: Sequence[Piece]) -> Piece:
        """Pieces that follow each other, with the newest row of each key alone; those left out are counted."""
        first, last = pieces[0], pieces[-1]
        rows, merged = deltas.conflate([one.rows for one in pieces], self.key)
        merged += sum(one.merged for one in pieces)
        return Piece(first.first, last.last, rows, merged, first.whole, last.versions)

    def message(self, batch: pa.RecordBatch, metadata: bytes = b"") -> list[bytes]:
        """One batch as it is sent."""
        return list(self._make_encoder(self.schema, self.compression).encode(batch, metadata))

    def empty_message(self, metadata: bytes) -> list[bytes]:
        """A batch without rows, for what it says: stock clients read it, where one without a batch would end them."""
        return self.message(empty(self.schema), metadata)

    def first_message(self) -> bytes:
        """The schema's message."""
        return self._make_encoder(self.schema, self.compression).schema_message()

    def pace_seconds(self) -> float:
        """How long those who conflate wait between two messages: the more they are, the longer, so that telling leaves
        time to store.
        """
        if not self.limits.pace_seconds:
            return 0.0
        return len(self.readers) * (self.limits.pace_seconds + self.told_bytes * _SECONDS_PER_BYTE)

    def catch_up(self, position: int, upto: int) -> Piece | None:
        """What has changed between those places, or later too, newest rows only; None: nothing. Blocks."""
        raise NotImplementedError

    def close(self) -> None:
        """Nobody subscribes any more."""
        self.closed = True


def parts_of(piece: Piece, count: int) -> Iterator[Piece]:
    """The piece in ``count`` parts, or a few less. Where a reader can stop between two of them, each has its range."""
    rows, resumable = piece.rows, not (piece.whole or piece.versions or piece.snapshot or piece.moved)
    size, first = -(-rows.num_rows // count), piece.first
    for start in range(0, rows.num_rows, size):
        more = start + size < rows.num_rows
        last = rows.column(SEQ)[start + size].as_py() - 1 if more and resumable else piece.last
        merged = 0 if more else piece.merged
        yield replace(piece, first=first, last=last, rows=rows.slice(start, size), merged=merged, more=more)
        first = last + 1 if resumable else first


def empty(schema: pa.Schema) -> pa.RecordBatch:
    """A batch without rows."""
    return pa.RecordBatch.from_pylist([], schema=schema)


class Together(NamedTuple):
    """A run of entries, and the piece and the messages that it becomes."""

    run: Sequence[Entry]
    piece: Piece
    messages: list[bytes]


class Found(NamedTuple):
    """What has been worked out: a piece, its messages, and what makes room for it."""

    piece: Piece
    messages: list[bytes]
    together: Together | None


class DatasetChannel(Channel):
    """The changes of a query over the rows of one dataset, as its commits make them. ``seq`` is the dataset's.

    A lane works them out, with those of other channels: see ``lanes``.
    """

    kind = "rows"

    def __init__(
        self, question: Question, engine: Engine, seq: int, prepared: Prepared, key: Sequence[int],
        compression: str | None, make_encoder: LiveEncoderFactory, describe: Describe, limits: LiveLimits,
    ) -> None:  # fmt: skip
        super().__init__(prepared, key, compression, make_encoder, describe, limits)
        self.question = question
        self.seq = seq
        self.snapshot: Snapshot | None = None
        self._engine = engine
        self._counted_since = time.monotonic()
        self._commits = 0
        self._slower = 1
        self._not_before = 0  # the end of the ring at which it is tried again to make room

    def piece(self, upto: int, rows: ChangeSet) -> Found | None:
        """What the commits behind ``seq`` up to that place mean for the answer; None: nothing. Blocks."""
        found = None if self.question.passes_by(rows) else self.question.delta(rows)
        if found is None:
            return None
        piece = Piece(self.seq + 1, upto, found)
        messages = self.encoded(piece)
        return Found(piece, messages, self._together(size_of(piece, messages)))

    def _together(self, nbytes: int) -> Together | None:
        """What makes room for so many bytes more: entries that become one, with the newest row of each key alone.

        Nobody loses anything by it who is told the newest alone, and stands before or behind them.
        """
        ring = self.ring
        if ring.end < self._not_before or not ring.is_full_with(nbytes):
            return None
        places = [reader.next for reader in list(self.readers)]
        run = ring.run(places if self.snapshot is None else [*places, self.snapshot.next], self._had_by_all())
        if not run:
            return None
        piece = self.as_one([one.piece for one in run])
        if 2 * piece.rows.num_rows > sum(one.piece.rows.num_rows for one in run):
            self._not_before = ring.end + len(run)  # it would be in vain
            return None
        return Together(run, piece, self.encoded(piece))

    def _had_by_all(self) -> int:
        """The number of the first entry that somebody has not had who is told every row."""
        return min((one.next for one in list(self.readers) if one.tells_all), default=self.ring.end)

    def history(self, after: int, upto: int) -> ChangeSet | None:
        """The commits between those places; None: nothing. SequenceNoLongerKept. Blocks."""
        work = self._engine.begin(self.prepared.options)
        try:
            return from_history(work, self.question.dataset, after, upto, self.limits.resume_rows)
        finally:
            work.close()

    def worked_out(self, upto: int, commits: int, found: Found | None) -> None:
        """Lets readers have what so many commits have changed. Nobody is woken for what changes nothing."""
        self.seq = upto
        self._commits += commits
        now = time.monotonic()
        if now - self._counted_since >= _COUNTED_SECONDS:
            rate = self._commits / (now - self._counted_since)
            self._slower = next((factor for least, factor in _SLOWER if rate >= least), 1)
            self._counted_since, self._commits = now, 0
        if found is not None:
            if found.together is not None and found.together.run[-1].until <= self._had_by_all():
                self.ring.become_one(*found.together)
            self.ring.append(found.piece, found.messages)
            self.wake()

    def pace_seconds(self) -> float:
        return super().pace_seconds() * self._slower

    def catch_up(self, position: int, upto: int) -> Piece | None:
        came = self.history(position, upto)
        rows = None if came is None else self.question.delta(came)
        if rows is None:
            return None
        return self.as_one([Piece(position + 1, upto, rows)])
