"""One reader of a channel: a snapshot or a place in history first, then what comes, as fast as it reads.

How much a reader is told hangs on its mode: ``buffer`` tells every row and ends a reader that is too slow, ``conflate``
tells the newest row of each key to one that is behind, ``interval`` tells that at most so often.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from flightsql_server.data import deltas
from flightsql_server.errors import SlowReader
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call
from flightsql_server.service.channels import Channel
from flightsql_server.service.ring import Entry, Piece

BUFFER, CONFLATE, INTERVAL = "buffer", "conflate", "interval"
T = TypeVar("T")
MODES = (BUFFER, CONFLATE, INTERVAL)
_EARLIEST = 0.9  # so much of an interval has to pass
Send = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a subscriber asks for. ``from_seq``: the last ``_seq`` it has, None: a snapshot first. ``plan``: what it was
    told there of the query's form; empty: it does not say.

    ``key`` and ``whole`` are for queries that are run anew: the columns by which rows are told apart, or that whole
    answers are sent. Times are in milliseconds.
    """

    text: str
    mode: str = ""
    interval_ms: int = 1_000
    from_seq: int | None = None
    key: tuple[str, ...] = ()
    min_interval_ms: int = 250
    plan: str = ""


def _ring(alarm: asyncio.Future[None]) -> None:
    if not alarm.done():
        alarm.set_result(None)


def note(**content: object) -> bytes:
    """The JSON that goes with a message."""
    return json.dumps(content, separators=(",", ":")).encode()


def described(piece: Piece) -> bytes:
    """What goes with the rows of a piece."""
    content: dict[str, object] = {"type": "snapshot" if piece.whole or piece.snapshot else "changes"}
    if piece.versions:
        content["versions"] = dict(piece.versions)
        content["revision"] = piece.last
    elif piece.snapshot:
        content["seq"] = piece.last
    elif piece.moved and piece.more:
        content["seq"] = [piece.first, piece.first - 1]
    else:
        content["seq"] = [piece.first, piece.last]
    content["rows"] = piece.rows.num_rows
    if piece.merged:
        content["merged"] = piece.merged
    if piece.moved:
        content["moved"] = True
        content["plan"] = piece.plan
    if piece.more:
        content["more"] = True
    elif piece.whole:
        content["end"] = True
    return note(**content)


@dataclass(eq=False)
class Reader:
    """Where one subscriber stands. Belongs to the event loop.

    ``position``: how far it has been told, ``next``: the number of the entry that it is told next. ``policy``: the
    version of the policies under which its query was planned. ``moved`` is set when rights have to be looked at again;
    ``wish`` is another query that the client asks for. ``last_told``: when it was told rows last, ``last_sent``: when
    it was sent anything.
    """

    id: int
    call: Call
    terms: Terms
    channel: Channel
    mode: str
    send: Send
    pool: ThreadPoolExecutor
    metrics: Metrics
    heartbeat_seconds: float
    policy: str = ""
    position: int = 0
    next: int = 0
    started: float = field(default_factory=time.time)
    paused: bool = False
    idle: bool = False
    moved: bool = False
    wish: str = ""
    failure: BaseException | None = None
    _alarm: asyncio.Future[None] | None = None
    sent_batches: int = 0
    sent_rows: int = 0
    merged_rows: int = 0
    _counted_rows: int = 0
    _counted_merged: int = 0
    last_sent: float = field(default_factory=time.monotonic)
    last_rows: float = -math.inf

    @property
    def told(self) -> int:
        """How far it has been told, and needs no telling: nobody is woken for what changes nothing in an answer."""
        has_all = self.idle and self.next == self.channel.ring.end
        return max(self.position, self.channel.seq) if has_all else self.position

    @property
    def tells_all(self) -> bool:
        """Whether it is told every row, however far it is behind."""
        return self.mode == BUFFER

    def ask(self, text: str) -> None:
        """Another query is wanted; the last of several wishes counts."""
        self.wish = text
        self.rouse()

    def pause(self, paused: bool) -> None:
        """Tells nothing until it is to go on; what comes meanwhile waits as for a slow reader."""
        self.paused = paused
        self.rouse()

    async def step(self) -> None:
        """Sends what there is, or waits until something comes."""
        if self.failure is not None:
            raise self.failure
        if self.channel.failure is not None:
            raise self.channel.failure
        due = self._due()
        if due is not None and not due:
            await self._rest()
            return
        wait = self._pause_seconds()
        if wait is not None:
            await self._wait(wait)
        elif due is None:
            await self._catch_up()
        else:
            await self._tell(due)

    def _due(self) -> list[Entry] | None:
        """What it has not been told yet; None when the ring does not reach back so far, or has what was told already in
        one with what was not.
        """
        entries = self.channel.ring.since(self.next)
        if entries is None:
            return None
        due = [one for one in entries if one.piece.last > self.position]
        if due and due[0].piece.merged and due[0].piece.first <= self.position and not due[0].piece.whole:
            return None
        self.next = due[0].number if due else self.channel.ring.end  # those it has had come first
        return due

    async def _rest(self) -> None:
        """Nothing is to be told: until something comes. Nobody waits for a pause to end who has nothing to say then."""
        self.position = max(self.position, self.channel.seq)
        if time.monotonic() - self.last_sent >= self.heartbeat_seconds:
            await self.beat()
            return
        self.idle = True
        await self.channel.wait()
        self.idle = False

    def _pause_seconds(self) -> float | None:
        """How long nothing is to be sent; 0: until somebody says so; None: now is the time."""
        if self.paused:
            return 0.0
        if self.mode == BUFFER:
            return None
        interval = self.channel.pace_seconds() if self.mode == CONFLATE else self.terms.interval_ms / 1000
        if not interval or not self.sent_batches:
            return None
        # All who have the same interval are told at the same moments, so that rows are merged once for all of them.
        due = math.ceil(self.last_rows / interval + _EARLIEST) * interval
        left = due - time.monotonic()
        return left if left > 0 else None

    async def _wait(self, seconds: float) -> None:
        """Until that time is over, a heartbeat is due, or somebody rouses the reader; commits don't."""
        quiet = self.last_sent + self.heartbeat_seconds - time.monotonic()
        if quiet <= 0:
            await self.beat()
            return
        loop = self.channel.loop
        self._alarm = alarm = loop.create_future()
        handle = loop.call_later(min(seconds or quiet, quiet), _ring, alarm)
        try:
            await alarm
        finally:
            handle.cancel()
            self._alarm = None

    def rouse(self) -> None:
        """Lets it look again at once, whatever it waits for."""
        if self._alarm is not None:
            _ring(self._alarm)
        self.channel.wake()

    async def _tell(self, entries: Sequence[Entry]) -> None:
        whole = [i for i, one in enumerate(entries) if one.piece.whole]
        if whole:
            entries = entries[whole[-1] :]
        if self.mode == BUFFER:
            for one in entries:
                if self.moved or self.failure is not None:
                    return  # what waits was worked out under rights that may have ended
                self.next = one.until
                await self._send_one(one)
            return
        self.next = self.channel.ring.end
        if len(entries) == 1:
            await self._send_one(entries[0])
        else:
            first, last = entries[0].piece, entries[-1].piece
            what = ("ring", max(first.first, self.position + 1), last.last)
            await self.send_piece(*await self.channel.shared(what, lambda: self._in_pool(self._merged, entries)))

    async def _send_one(self, entry: Entry) -> None:
        piece = entry.piece
        if piece.first > self.position:
            await self.send_piece(piece, entry.messages)
            return
        # The piece was read from history in one, and this reader has had its beginning.
        rest = Piece(self.position + 1, piece.last, deltas.after(piece.rows, self.position))
        await self.send_piece(rest)

    def _merged(self, entries: Sequence[Entry]) -> tuple[Piece, list[bytes]]:
        pieces = [one.piece for one in entries]
        first = pieces[0]
        if first.first <= self.position and not first.whole and not first.versions:
            pieces[0] = replace(first, first=self.position + 1, rows=deltas.after(first.rows, self.position))
        piece = self.channel.as_one(pieces)
        return piece, self.channel.encoded(piece)

    async def _catch_up(self) -> None:
        """It is further behind than the ring reaches."""
        if self.mode == BUFFER:
            self.metrics.live_slow_readers.inc()
            by_row = self.channel.kind == "rows"
            place = f"{'_seq' if by_row else 'revision'} {self.position}"
            raise SlowReader(
                f"The reader is too slow: what came after {place} is more than waits for it.",
                hint=f"Subscribe again{f' from_seq {self.position}' if by_row else ''}, or with the mode conflate.",
            )
        self.next = self.channel.ring.end  # from here on the ring has to keep what comes
        position, upto = self.position, self.channel.seq
        what = ("history", position, upto)
        piece, messages = await self.channel.shared(what, lambda: self._in_pool(self._missed, position, upto))
        if piece is not None:
            await self.send_piece(piece, messages)

    def _missed(self, position: int, upto: int) -> tuple[Piece | None, list[bytes]]:
        piece = self.channel.catch_up(position, upto)
        return piece, [] if piece is None else self.channel.encoded(piece)

    async def send_piece(self, piece: Piece, messages: Sequence[bytes] | None = None) -> None:
        """Sends the piece, in its messages if they are there already."""
        if messages is None:
            messages = await self._in_pool(self.channel.encoded, piece)
        for message in messages:
            await self.deliver(message)
        self.channel.told_bytes = sum(map(len, messages))
        self.position = piece.last
        self.counted(piece.rows.num_rows, piece.merged)

    async def deliver(self, message: bytes) -> None:
        """Sends rows, as long as the reader may still be told any."""
        if self.failure is not None:
            raise self.failure
        await self.send(message)

    def counted(self, rows: int, merged: int = 0) -> None:
        """Notes what has been sent."""
        self.sent_batches += 1
        self.sent_rows += rows
        self.last_sent = self.last_rows = time.monotonic()
        self.merged_rows += merged

    def tell_metrics(self) -> None:
        """Adds what was sent since the last time; not at each message, for a counter costs what a tenth of one does."""
        self.metrics.live_rows.inc(self.sent_rows - self._counted_rows)
        self.metrics.live_merged_rows.inc(self.merged_rows - self._counted_merged)
        self._counted_rows, self._counted_merged = self.sent_rows, self.merged_rows

    async def greet(self, metadata: bytes) -> None:
        """The schema, and then what there is to say of the subscription: some clients drop what comes with a schema."""
        await self.send(self.channel.first_message())
        await self.tell(metadata)

    async def beat(self) -> None:
        """Tells that all is well, and how far the reader has been told."""
        content: dict[str, object] = {"type": "heartbeat"}
        content["seq" if self.channel.kind == "rows" else "revision"] = self.position
        await self.tell(note(**content))

    async def tell(self, metadata: bytes) -> None:
        """Sends what is no rows."""
        for message in self.channel.empty_message(metadata):
            await self.send(message)
        self.last_sent = time.monotonic()

    async def _in_pool(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.pool, work, *arguments)
