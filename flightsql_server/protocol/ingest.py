"""Rows on their way in: a DoPut stream → batches that fit a dataset → the writer → one acknowledgement for each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from google.protobuf.message import DecodeError

from flightsql_server.data.conform import conform
from flightsql_server.data.datasets import Dataset
from flightsql_server.data.ingest import Receipt
from flightsql_server.errors import AccessDenied, InvalidParameter, UndefinedTable, UnsupportedFeature
from flightsql_server.model import MAIN_SCHEMA, Call
from flightsql_server.protocol import actions, commands
from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol.framing import FlightDataParts, StreamDecoder, split_flight_data

if TYPE_CHECKING:
    from flightsql_server.protocol.service import Rooms

SendMetadata = Callable[[bytes], Awaitable[None]]
# Batches of one stream that may be on their way to the disk while the next ones are read.
_IN_FLIGHT = 32


class PutStream:
    """The messages of one DoPut: ``descriptor`` first, then ``batches`` once."""

    def __init__(self, messages: AsyncIterator[bytes]) -> None:
        self._messages = messages
        self._first: FlightDataParts | None = None
        self._decoder = StreamDecoder()

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
        raise InvalidParameter("The first message has no descriptor.", hint="Name the dataset in its descriptor.")

    async def batches(self) -> AsyncIterator[pa.RecordBatch]:
        """The record batches, fully validated; InvalidParameter where the stream is not one of Arrow."""
        if self._first is not None:
            batch = self._decoder.decode(self._first)
            if batch is not None:
                yield batch
        async for message in self._messages:
            batch = self._decoder.decode(split_flight_data(message))
            if batch is not None:
                yield batch


def _dataset(rooms: Rooms, call: Call, name: str) -> Dataset:
    """The dataset, if the caller may write to it; what may not even be seen does not exist."""
    dataset = rooms.datasets.get(name)
    grants = rooms.metadata(call).grants
    where = {"schema": MAIN_SCHEMA, "name": name, "dataset": name}
    if dataset is None or not (grants.allows("select", **where) or grants.allows("ingest", **where)):
        raise UndefinedTable(f"There is no dataset {name[:60]!r}.", hint="ListFlights names those there are.")
    if not grants.allows("ingest", **where):
        raise AccessDenied(f"You may not write to {name}.", hint="Ask for a role with ingest on it.")
    return dataset


async def put_dataset(rooms: Rooms, call: Call, name: str, stream: PutStream, send: SendMetadata) -> None:
    """Stores the stream's batches; each is acknowledged after its commit, in order, as JSON in ``app_metadata``.

    When a batch is refused the stream ends there: those before it stay stored and have been acknowledged.
    """

    async def acknowledge(receipt: Receipt) -> None:
        content = {
            "first_seq": receipt.first_seq,
            "last_seq": receipt.last_seq,
            "rows": receipt.rows,
            "late_rows": receipt.late,
            "level": "durable",
        }
        await send(json.dumps(content, separators=(",", ":")).encode())

    await _store(rooms, _dataset(rooms, call, name), stream, acknowledge)


async def put_ingest(
    rooms: Rooms, call: Call, command: commands.StatementIngest, stream: PutStream, send: SendMetadata
) -> None:
    """CommandStatementIngest in append mode to a dataset: stores the batches and answers with their row count."""
    if command.if_exists is not commands.IfExists.APPEND or command.temporary or command.transaction_id:
        raise UnsupportedFeature("Only appending to a dataset is offered.", hint="Use the mode append.")
    total = 0

    async def count(receipt: Receipt) -> None:
        nonlocal total
        total += receipt.rows

    await _store(rooms, _dataset(rooms, call, command.table), stream, count)
    await send(actions.update_result(total))


async def _store(
    rooms: Rooms, dataset: Dataset, stream: PutStream, acknowledge: Callable[[Receipt], Awaitable[None]]
) -> None:
    """Reads and queues batches in one task while another acknowledges them in order, as they are committed."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[asyncio.Future[Receipt] | None] = asyncio.Queue(_IN_FLIGHT)

    async def settle() -> None:
        while (done := await waiting.get()) is not None:
            await acknowledge(await done)

    async def read() -> None:
        try:
            async for batch in stream.batches():
                fitting = conform(batch, dataset)
                done = await loop.run_in_executor(rooms.pool, rooms.writer.submit, dataset, fitting)
                await waiting.put(asyncio.wrap_future(done))
        except Exception:
            # What was queued before a failure is committed all the same, so it is acknowledged all the same.
            await waiting.put(None)
            raise
        await waiting.put(None)

    settling = asyncio.create_task(settle())
    reading = asyncio.create_task(read())
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
