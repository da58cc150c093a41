"""The yardstick: a Flight SQL server as small as pyarrow.flight allows, over the same DuckDB file.

It checks nothing (no login, no tokens, no gate, no limits, no metrics), so what it costs is the price of the transport
and the engine alone. Enough of Flight SQL for ADBC and for the lean client: prepared statements whose handle is the
text, statement queries whose ticket is the text.
"""

from __future__ import annotations

import sys
import threading

import duckdb
import pyarrow as pa
import pyarrow.flight as flight
from google.protobuf import any_pb2

from flightsql_server.protocol import flight_sql_pb2 as wire


def _packed(message: object) -> bytes:
    envelope = any_pb2.Any()
    envelope.Pack(message)
    return envelope.SerializeToString()


def _unpacked(content: bytes) -> tuple[str, bytes]:
    envelope = any_pb2.Any.FromString(content)
    return envelope.type_url.rsplit(".", 1)[-1], envelope.value


class BareServer(flight.FlightServerBase):
    """One DuckDB connection for each server thread; every call runs its text."""

    def __init__(self, port: int, path: str) -> None:
        super().__init__(("127.0.0.1", port))
        self._root = duckdb.connect(path, read_only=True)
        self._local = threading.local()

    def _connection(self) -> duckdb.DuckDBPyConnection:
        found = getattr(self._local, "connection", None)
        if found is None:
            found = self._local.connection = self._root.cursor()
            found.execute("SET TimeZone = 'UTC'")
        return found

    def do_action(self, context: object, action: flight.Action) -> list[bytes]:
        if action.type != "CreatePreparedStatement":
            return []
        _, content = _unpacked(action.body.to_pybytes())
        text = wire.ActionCreatePreparedStatementRequest.FromString(content).query
        return [_packed(wire.ActionCreatePreparedStatementResult(prepared_statement_handle=text.encode()))]

    def get_flight_info(self, context: object, descriptor: flight.FlightDescriptor) -> flight.FlightInfo:
        kind, content = _unpacked(descriptor.command)
        if kind == "CommandStatementQuery":
            text = wire.CommandStatementQuery.FromString(content).query.encode()
        else:
            text = wire.CommandPreparedStatementQuery.FromString(content).prepared_statement_handle
        ticket = _packed(wire.TicketStatementQuery(statement_handle=text))
        return flight.FlightInfo(None, descriptor, [flight.FlightEndpoint(ticket, [])], -1, -1)

    def do_get(self, context: object, ticket: flight.Ticket) -> flight.FlightDataStream:
        _, content = _unpacked(ticket.ticket)
        text = wire.TicketStatementQuery.FromString(content).statement_handle.decode()
        reader = self._connection().sql(text).to_arrow_reader(122_880)
        return flight.RecordBatchStream(reader, options=pa.ipc.IpcWriteOptions())


if __name__ == "__main__":
    server = BareServer(int(sys.argv[1]), sys.argv[2])
    print(f"ready grpc://127.0.0.1:{server.port}", flush=True)
    server.serve()
