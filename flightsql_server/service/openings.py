"""How a reader's subscription begins, and how it goes over to another query: from one ``_seq`` on, without a gap.

The writer lets a transaction begin between two of its commits. What that sees stands at one ``_seq``, and the changes
that are told after it begin with the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import pyarrow as pa

from flightsql_server.data import deltas
from flightsql_server.data.feed import from_history
from flightsql_server.data.ingest import Writer
from flightsql_server.errors import PolicyChanged, SequenceNoLongerKept
from flightsql_server.metrics import Metrics
from flightsql_server.model import Engine, UserTransaction
from flightsql_server.service.admission import Admission, timed
from flightsql_server.service.channels import Channel, DatasetChannel, LiveLimits, Snapshot
from flightsql_server.service.readers import BUFFER, Reader, note
from flightsql_server.service.refreshing import RefreshedChannel
from flightsql_server.service.ring import Piece
from flightsql_server.service.steps import closed, step, taken

T = TypeVar("T")

# A kept snapshot is sent to others as long as so few entries have come after it.
_KEPT_FOR = 32


@dataclass(frozen=True, slots=True)
class Ground:
    """What a beginning needs. ``seconds``: how long a snapshot may take."""

    engine: Engine
    writer: Writer
    pool: ThreadPoolExecutor
    admission: Admission
    metrics: Metrics
    limits: LiveLimits
    seconds: float

    async def in_pool(self, work: Callable[..., T], *arguments: object) -> T:
        """Runs what blocks."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, work, *arguments)


async def begin(ground: Ground, reader: Reader) -> None:
    """Sends the schema, and what the reader has to know first."""
    channel, terms = reader.channel, reader.terms
    key = [channel.schema.names[i] for i in channel.key]
    about = {
        "type": "subscribed",
        "id": reader.id,
        "kind": channel.kind,
        "mode": reader.mode,
        "key": key,
        "heartbeat_ms": round(reader.heartbeat_seconds * 1000),
        "plan": channel.plan,
    }
    if isinstance(channel, DatasetChannel):
        about["dataset"] = channel.question.dataset.name
        if terms.from_seq is not None:
            _check_place(ground, channel, terms.from_seq)
            await reader.greet(note(**about, resumed=True, seq=terms.from_seq))
            await _resume(ground, reader, channel, terms.from_seq)
            return
        await reader.greet(note(**about))
        await _snapshot(ground, reader, channel)
    elif isinstance(channel, RefreshedChannel):
        await reader.greet(note(**about))
        await _first_answer(reader, channel)


async def _first_answer(reader: Reader, channel: RefreshedChannel) -> None:
    while channel.answer is None:
        if channel.failure is not None:
            raise channel.failure
        await channel.wait()
    reader.next = channel.ring.end
    await reader.send_piece(channel.answer)


def _check_place(ground: Ground, channel: DatasetChannel, seq: int) -> None:
    name = channel.question.dataset.name
    last = ground.writer.versions[name]
    if seq > last:
        raise SequenceNoLongerKept(
            f"{name} stands at _seq {last}, and {seq} is behind that: its data was put back to an earlier state.",
            hint="Subscribe anew, from a snapshot.",
        )


class _Pinned(NamedTuple):
    """A transaction, and where what it sees stands."""

    seq: int
    work: UserTransaction

    def close(self) -> None:
        self.work.close()


async def _pinned(ground: Ground, channel: DatasetChannel) -> _Pinned:
    """A transaction that sees the dataset at one ``_seq``, and that number. Whoever asked closes it."""
    writer, name = ground.writer, channel.question.dataset.name

    def pin() -> _Pinned:
        work = ground.engine.begin(channel.prepared.options)
        try:
            for _ in work.read(f'SELECT 1 FROM main."{name}" LIMIT 0', (), 1):
                pass  # the transaction sees what there is when it reads first
        except BaseException:
            work.close()
            raise
        return _Pinned(writer.versions[name], work)

    return await taken(writer.between(pin))


async def _resume(ground: Ground, reader: Reader, channel: DatasetChannel, after: int) -> None:
    """What came since the reader's place, up to now."""
    reader.next = channel.ring.end
    seq, work = await _pinned(ground, channel)
    rows = await _last_step(ground, work, channel.question.since, work, after, seq, ground.limits.resume_rows)
    if rows is not None:
        piece = Piece(after + 1, seq, rows)
        await reader.send_piece(piece if reader.tells_all else await ground.in_pool(channel.as_one, [piece]))
    reader.position = seq


async def _last_step(ground: Ground, work: UserTransaction, last: Callable[..., T], *arguments: object) -> T:
    """Runs one step in a transaction, which then is closed."""
    try:
        return await step(ground.pool, work.cancel, last, *arguments)
    finally:
        await closed(ground.pool, work.close)


async def _snapshot(ground: Ground, reader: Reader, channel: DatasetChannel) -> None:
    """The whole answer as it stands, and its place."""
    kept = channel.snapshot
    if kept is not None and _goes_on(reader, channel, kept):
        reader.next = kept.next  # before the first wait: from here on the ring has to keep what comes
        for message in kept.messages:
            await reader.deliver(message)
        reader.position = kept.seq
        reader.counted(kept.rows)
        return
    first = reader.next = channel.ring.end
    seq, work = await _pinned(ground, channel)
    messages: list[bytes] = []
    size = count = 0
    try:
        async with timed(ground.metrics, ground.seconds, "Ask for less."), ground.admission.slot():
            async for rows in _rows(ground, channel, work, seq):
                count += rows.num_rows
                for message in await ground.in_pool(channel.encoded, Piece(seq, seq, rows, snapshot=True)):
                    size += len(message)
                    if size <= ground.limits.snapshot_bytes:
                        messages.append(message)
                    await reader.deliver(message)
    finally:
        await closed(ground.pool, work.close)
    end = channel.empty_message(note(type="snapshot", seq=seq, rows=0, total=count, end=True))
    for message in end:
        await reader.deliver(message)
    if size <= ground.limits.snapshot_bytes:
        channel.snapshot = Snapshot(seq, first, [*messages, *end], count)
    reader.position = seq
    reader.counted(count)


def _goes_on(reader: Reader, channel: DatasetChannel, kept: Snapshot) -> bool:
    """Whether the ring still has what came after the snapshot, as the reader wants it, and that is not much."""
    came = channel.ring.since(kept.next)
    if came is None or channel.ring.end - kept.next > _KEPT_FOR:
        return False
    return not reader.tells_all or not any(one.piece.merged for one in came)


async def _rows(ground: Ground, channel: DatasetChannel, work: UserTransaction, seq: int) -> AsyncIterator[pa.Table]:
    """The answer's rows as they stand in a transaction, as upserts."""
    batches = work.read(channel.prepared.sql, (), channel.prepared.batch_rows)
    while True:
        batch = await step(ground.pool, work.cancel, next, batches, None)
        if batch is None:
            return
        yield deltas.all_upserts(channel.question.plain(pa.Table.from_batches([batch])), seq)


async def move(ground: Ground, reader: Reader, channel: Channel) -> None:
    """Goes over to another channel; the rows that the reader must no longer see are told as deletes."""
    before, after = reader.channel, reader.position
    if isinstance(before, RefreshedChannel) and isinstance(channel, RefreshedChannel):
        reader.channel = channel
        await _first_answer(reader, channel)
        return
    if not isinstance(before, DatasetChannel) or not isinstance(channel, DatasetChannel):
        raise PolicyChanged("The subscription can't go on in this form.", hint="Subscribe again.")
    first = channel.ring.end
    seq, work = await _pinned(ground, channel)
    place = after if reader.mode == BUFFER else seq

    def change() -> tuple[pa.Table, pa.Table | None]:
        came = from_history(work, channel.question.dataset, after, seq, ground.limits.resume_rows)
        old = before.question.stood(work, came)
        if reader.mode == BUFFER:  # goes over first, and then is told every row that has come since
            new, told = channel.question.stood(work, came), channel.question.delta(came) if came else None
        else:
            new, told = channel.question.standing(work), None
        rows, gone = deltas.difference(old, new, channel.key)
        seqs = pa.repeat(pa.scalar(place, pa.int64()), rows.num_rows)
        return deltas.with_changes(rows, gone, channel.key, seqs), told

    rows, told = await _last_step(ground, work, change)
    reader.channel, reader.next = channel, first
    await reader.send_piece(Piece(after + 1, place, rows, moved=True, plan=channel.plan))
    if told is not None:
        await reader.send_piece(Piece(after + 1, seq, told))
    reader.position = seq
