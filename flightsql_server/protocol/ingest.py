"""Rows on their way in: a DoPut stream → batches that fit a dataset → the writer → one acknowledgement for each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from flightsql_auth.policies import Action, Grants
from google.protobuf.message import DecodeError

from flightsql_server.data.conform import conform
from flightsql_server.data.datasets import Dataset
from flightsql_server.data.ingest import Lane, Receipt, Update
from flightsql_server.errors import AccessDenied, InvalidParameter, UndefinedTable, UnsupportedFeature
from flightsql_server.model import MAIN_SCHEMA, Call, TableName
from flightsql_server.protocol import actions, commands
from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol.framing import FlightDataParts, StreamDecoder, split_flight_data
from flightsql_server.service import tables

if TYPE_CHECKING:
    from flightsql_server.protocol.service import Rooms

SendMetadata = Callable[[bytes], Awaitable[None]]
# Batches of one stream that may be on their way to the disk while the next ones are read.
_IN_FLIGHT = 32
# Reading and checking a longer message takes long enough for other calls to notice, so a worker thread does it.
_INLINE_BYTES = 64 * 1024
_LONGEST_ID = 200
# A dataset exists for whoever may do one of these with it.
_KNOWN_BY: tuple[Action, ...] = ("select", "insert", "ingest")
DURABLE, MEMORY = "durable", "memory"


class PutStream:
    """The messages of one DoPut: ``descriptor`` first, then ``parts`` or ``batches`` once."""

    def __init__(self, messages: AsyncIterator[bytes]) -> None:
        self._messages = messages
        self._first: FlightDataParts | None = None
        self._decoder = StreamDecoder()
        self.decode = self._decoder.decode

    @property
    def schema(self) -> pa.Schema | None:
        """The schema of the rows, once its message has been decoded."""
        return self._decoder.schema

    async def descriptor(self) -> Any:
        """The descriptor in the first message; InvalidParameter when there is none."""
        async for message in self._messages:
            self._first = split_flight_data(message)
            if self._first.descriptor:
                try:
                    return wire.FlightDescriptor.FromString(self._first.descriptor)
                except DecodeError:
                    break
            break
        if self._first is None:
            raise InvalidParameter(
                "The stream ended before its first message, so that nothing says where its rows belong.",
                hint="Some drivers send nothing for a table without rows: send its schema, or create the table by SQL.",
            )
        raise InvalidParameter("The first message has no descriptor.", hint="Name the dataset in its descriptor.")

    async def parts(self) -> AsyncIterator[FlightDataParts]:
        """The messages as they came, each to be handed to ``decode`` before the next is asked for."""
        if self._first is not None:
            yield self._first
        async for message in self._messages:
            yield split_flight_data(message)

    async def batches(self) -> AsyncIterator[pa.RecordBatch]:
        """The record batches, fully validated; InvalidParameter where the stream is not one of Arrow."""
        async for parts in self.parts():
            batch = self.decode(parts)
            if batch is not None:
                yield batch


def _dataset(rooms: Rooms, call: Call, name: str) -> tuple[Dataset, Grants]:
    """The dataset, if the caller may write to it, and what they may do; what may not even be seen does not exist."""
    call.entry.happens("ingest")
    call.entry.writes = (TableName(MAIN_SCHEMA, name),)
    dataset = rooms.datasets.get(name)
    grants = rooms.metadata(call).grants
    where = {"schema": MAIN_SCHEMA, "name": name, "dataset": name}
    known = any(grants.allows(action, **where) for action in _KNOWN_BY)
    if dataset is None or not known:
        raise UndefinedTable(f"There is no dataset {name[:60]!r}.", hint="ListFlights names those there are.")
    if not grants.allows("ingest", **where):
        raise AccessDenied(f"You may not write to {name}.", hint="Ask for a role with ingest on it.")
    return dataset, grants


def _is_text(text: str) -> bool:
    """Whether UTF-8 can write it: JSON can hold halves of letters, which can't be stored."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a publisher asks of its batches, as JSON in their ``app_metadata``.

    What a batch leaves out goes on as it was. ``level``: ``durable`` is acknowledged after the commit, ``memory`` once
    it is queued. A ``producer_id`` with a rising ``producer_seq`` lets a batch that is sent again be known.
    """

    level: str = DURABLE
    producer_id: str = ""
    producer_seq: int | None = None

    def next(self, metadata: bytes) -> Terms:
        """The terms of a batch with this ``app_metadata``; InvalidParameter when that can't be taken."""
        try:
            asked = json.loads(metadata) if metadata else {}
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict) or not asked.keys() <= {"level", "producer_id", "producer_seq"}:
            raise InvalidParameter(
                "The app_metadata of a batch can't be read.",
                hint='It is JSON such as {"producer_id": "feed-1", "producer_seq": 17, "level": "memory"}, or nothing.',
            )
        level, producer_id = asked.get("level", self.level), asked.get("producer_id", self.producer_id)
        seq = asked.get("producer_seq")
        if level not in (DURABLE, MEMORY):
            raise InvalidParameter("There is no such level.", hint=f"There are: {DURABLE}, {MEMORY}.")
        if not isinstance(producer_id, str) or len(producer_id) > _LONGEST_ID or not _is_text(producer_id):
            raise InvalidParameter("producer_id can't be taken.", hint=f"It is a text of up to {_LONGEST_ID} letters.")
        if seq is not None and (not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq < 2**63):
            raise InvalidParameter("producer_seq can't be taken.", hint="It is a whole number, 0 or more.")
        if bool(producer_id) != (seq is not None):
            raise InvalidParameter(
                "producer_id and producer_seq belong together.", hint="Send a rising producer_seq with every batch."
            )
        return Terms(level, producer_id, seq)


Acknowledge = Callable[[Terms, int, Receipt | None], Awaitable[None]]


async def put_dataset(rooms: Rooms, call: Call, name: str, stream: PutStream, send: SendMetadata) -> None:
    """Stores the stream's batches; each is acknowledged in order, as JSON in ``app_metadata``, as its terms ask.

    When a batch is refused the stream ends there: those before it stay stored and have been acknowledged.
    """

    async def acknowledge(terms: Terms, rows: int, receipt: Receipt | None) -> None:
        await send(json.dumps(acknowledgement(terms, rows, receipt), separators=(",", ":")).encode())

    await store(rooms, call, name, stream, acknowledge)


def acknowledgement(terms: Terms, rows: int, receipt: Receipt | None) -> dict[str, object]:
    """What a publisher is told of one batch; of one that is only queued the numbers are not known."""
    content: dict[str, object] = {
        "first_seq": receipt.first_seq if receipt else None,
        "last_seq": receipt.last_seq if receipt else None,
        "rows": receipt.rows if receipt else rows,
        "late_rows": receipt.late if receipt else None,
        "level": terms.level,
    }
    if terms.producer_seq is not None:
        content["producer_seq"] = terms.producer_seq
    if receipt and receipt.duplicate:
        content["duplicate"] = True
    return content


async def store(rooms: Rooms, call: Call, name: str, stream: PutStream, acknowledge: Acknowledge) -> None:
    """Stores the batches of a stream, each under its terms, if the caller may write to the dataset."""
    dataset, grants = _dataset(rooms, call, name)
    with rooms.queries.noted(call, f"DoPut {name}", grants=grants):
        await _Store(rooms, call, dataset, acknowledge, with_terms=True).run(stream)


async def put_ingest(
    rooms: Rooms, call: Call, command: commands.StatementIngest, stream: PutStream, send: SendMetadata
) -> None:
    """CommandStatementIngest in append mode to a dataset: stores the batches and answers with their row count."""
    if command.if_exists is not commands.IfExists.APPEND or command.temporary:
        raise UnsupportedFeature("Only appending to a dataset is offered.", hint="Use the mode append.")
    dataset, grants = _dataset(rooms, call, command.table)
    one = rooms.changes.transactions.of_ingest(call, command.transaction_id)
    total = 0

    async def count(terms: Terms, rows: int, receipt: Receipt | None) -> None:
        nonlocal total
        total += rows

    with rooms.queries.noted(call, f"DoPut {dataset.name}", grants=grants):
        if one is not None:
            total = call.entry.rows = await rooms.changes.hold_back(call, grants.limits, one, dataset, stream.batches())
        else:
            await _Store(rooms, call, dataset, count, with_terms=False).run(stream)
    await send(actions.update_result(total))


async def put_table(
    rooms: Rooms, call: Call, command: commands.StatementIngest, stream: PutStream, send: SendMetadata
) -> None:
    """CommandStatementIngest into a table of the user's own, made if asked for; answers with the row count."""
    call.entry.happens("ingest")
    call.entry.writes = (TableName(command.schema or rooms.metadata(call).grants.own or "", command.table),)
    if command.catalog not in (None, "", rooms.metadata(call).catalog.name):
        raise UndefinedTable(f"There is no catalog {command.catalog[:60]!r}.")
    if command.if_exists is commands.IfExists.FAIL and command.if_not_exist is commands.IfNotExist.FAIL:
        raise InvalidParameter("The ingest fails whether the table is there or not.", hint="Choose a mode.")
    one = rooms.changes.transactions.of_ingest(call, command.transaction_id)
    grants = rooms.metadata(call).grants
    target = tables.Target(
        command.schema or "",
        command.table,
        create=command.if_not_exist is commands.IfNotExist.CREATE,
        append=command.if_exists is commands.IfExists.APPEND,
        replace=command.if_exists is commands.IfExists.REPLACE,
        temporary=command.temporary,
    )
    with rooms.queries.noted(call, f"DoPut {command.table}", grants=grants):
        total = await tables.append(rooms.changes, call, grants, target, stream.batches(), lambda: stream.schema, one)
    call.entry.rows = total
    await send(actions.update_result(total))


class _Store:
    """One stream into one dataset: a task reads and queues batches, another acknowledges them in order."""

    def __init__(
        self, rooms: Rooms, call: Call, dataset: Dataset, acknowledge: Acknowledge, *, with_terms: bool
    ) -> None:
        self._rooms = rooms
        self._user = call.principal.name
        self._check = rooms.changes.write_checks.of(call, dataset.name, "ingest")
        self._dataset = dataset
        self._acknowledge = acknowledge
        self._with_terms = with_terms
        self._entry = call.entry
        self._entry.rows = 0
        self._lane = Lane()
        self._waiting: asyncio.Queue[tuple[Terms, Update] | None] = asyncio.Queue(_IN_FLIGHT)
        self._last: Update | None = None

    async def run(self, stream: PutStream) -> None:
        """Stores all of the stream, or raises what stopped it, after all that was stored has been acknowledged."""
        settling = asyncio.create_task(self._settle())
        reading = asyncio.create_task(self._read(stream))
        try:
            await asyncio.wait((settling, reading), return_when=asyncio.FIRST_EXCEPTION)
            if settling.done() and not reading.done():
                reading.cancel()  # a commit failed: nothing that follows is taken
            elif reading.done():
                await asyncio.wait((settling,))
            for task in (settling, reading):
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            for task in (settling, reading):
                task.cancel()

    async def _settle(self) -> None:
        while (item := await self._waiting.get()) is not None:
            terms, update = item
            receipt: Receipt | None = None
            if terms.level == DURABLE:
                receipt = await asyncio.wrap_future(update.done)
            stored = update.batch.num_rows if receipt is None else receipt.rows
            self._entry.rows = (self._entry.rows or 0) + stored
            await self._acknowledge(terms, update.batch.num_rows, receipt)
        if self._last is not None:
            # What was acknowledged from memory is on its way: the stream ends well only if all of it was stored.
            await asyncio.wrap_future(self._last.done)

    async def _read(self, stream: PutStream) -> None:
        terms = Terms()
        try:
            async for parts in stream.parts():
                if self._lane.failure is not None:
                    raise self._lane.failure
                batch = await self._decoded(stream, parts)
                if batch is not None:
                    terms = terms.next(parts.metadata if self._with_terms else b"")
                    await self._queue(batch, terms)
        except Exception:
            # What was queued before a failure is committed all the same, so it is acknowledged all the same.
            await self._waiting.put(None)
            raise
        await self._waiting.put(None)

    async def _decoded(self, stream: PutStream, parts: FlightDataParts) -> pa.RecordBatch | None:
        def work() -> pa.RecordBatch | None:
            batch = stream.decode(parts)
            if batch is None:
                return None
            fitting = conform(batch, self._dataset)
            if self._check is not None:
                self._check.at_the_door(fitting)
            return fitting

        if len(parts.body) <= _INLINE_BYTES and self._check is None:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._rooms.pool, work)

    async def _queue(self, batch: pa.RecordBatch, terms: Terms) -> None:
        """Waits for room; meanwhile nothing more is read, so that HTTP/2 slows the publisher down."""
        producer = (self._user, terms.producer_id) if terms.producer_id else None
        update = Update(self._dataset, batch, self._lane, producer, terms.producer_seq or 0, self._check)
        loop, room = asyncio.get_running_loop(), asyncio.Event()

        def on_room() -> None:
            loop.call_soon_threadsafe(room.set)

        while not self._rooms.writer.offer(update, on_room):
            await room.wait()
            room.clear()
        self._last = update
        await self._waiting.put((terms, update))
