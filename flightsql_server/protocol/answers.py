"""What GetFlightInfo and GetSchema answer, and how rows are encoded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol.framing import StreamEncoder
from flightsql_server.service.statements import Send

# Encoding more takes long enough for other calls to notice.
_INLINE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Answer:
    """What GetFlightInfo and GetSchema tell: the schema of the rows, and the ticket that fetches them."""

    schema: pa.Schema
    ticket: bytes
    descriptor: wire.FlightDescriptor
    expires: float | None = None
    records: int = -1
    runs_at_once: bool = False
    """Whether asking for the FlightInfo would run the statement."""

    def schema_bytes(self) -> bytes:
        """The schema as an encapsulated IPC message."""
        content: bytes = self.schema.serialize().to_pybytes()
        return content

    def flight_info(self) -> bytes:
        """The serialised FlightInfo, with exactly one endpoint and no location: fetch it where you asked."""
        info = wire.FlightInfo(
            schema=self.schema_bytes(),
            flight_descriptor=self.descriptor,
            total_records=self.records,
            total_bytes=-1,
        )
        endpoint = info.endpoint.add()
        endpoint.ticket.ticket = self.ticket
        if self.expires is not None:
            endpoint.expiration_time.FromMicroseconds(int(self.expires * 1e6))
        return info.SerializeToString()


def make_encoder(schema: pa.Schema, compression: str | None) -> StreamEncoder:
    """The encoder of a result stream, as the statements' room asks for one."""
    return StreamEncoder(schema, compression)


async def send_batches(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], compression: str | None, send: Send, pool: ThreadPoolExecutor
) -> int:
    """Sends rows that are there already; gives their number. What takes long to encode is encoded in ``pool``."""
    encoder = make_encoder(schema, compression)
    await send(encoder.schema_message())
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        if batch.nbytes <= _INLINE_BYTES:
            messages = list(encoder.encode(batch))
        else:
            messages = await asyncio.get_running_loop().run_in_executor(pool, _encode, encoder, batch)
        for message in messages:
            await send(message)
    return rows


def _encode(encoder: StreamEncoder, batch: pa.RecordBatch) -> list[bytes]:
    return list(encoder.encode(batch))
