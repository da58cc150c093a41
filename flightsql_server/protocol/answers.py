"""What GetFlightInfo and GetSchema answer, and how rows are encoded."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol.framing import StreamEncoder
from flightsql_server.service.statements import Send


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


async def send_table(table: pa.Table, compression: str | None, send: Send) -> int:
    """Sends a result that is there already; gives the number of rows."""
    encoder = make_encoder(table.schema, compression)
    await send(encoder.schema_message())
    for batch in table.to_batches():
        for message in encoder.encode(batch):
            await send(message)
    return int(table.num_rows)
