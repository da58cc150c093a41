"""A session on a bare gRPC channel, for what no driver offers."""

from __future__ import annotations

from typing import Any

import grpc
import pyarrow as pa
import pyarrow.flight as flight

from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol import flight_sql_pb2 as sql
from flightsql_server.protocol.actions import packed
from tests.conformance.putting import messages
from tests.running import RunningServer

Headers = tuple[tuple[str, str], ...]


class Raw:
    """One session on a bare channel, for what no driver offers."""

    def __init__(self, server: RunningServer, user: str = "reader", *, authorization: str = "") -> None:
        """Logs in as one of the test users; ``authorization``: sends this header instead, without a login."""
        if not authorization:
            with flight.FlightClient(server.url) as once:
                authorization = once.authenticate_basic_token(user, user)[1].decode()
        self._metadata = (("authorization", authorization),)
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")

    def call(self, method: str, message: Any, kind: Any = None, more: Headers = ()) -> Any:
        path = f"/arrow.flight.protocol.FlightService/{method}"
        if kind is not None:
            unary = self._channel.unary_unary(path)
            return kind.FromString(unary(message.SerializeToString(), metadata=self._metadata, timeout=60))
        stream = self._channel.unary_stream(path)
        return stream(message.SerializeToString(), metadata=(*self._metadata, *more), timeout=60)

    def info(self, text: str, method: str = "GetFlightInfo", kind: Any = wire.FlightInfo) -> Any:
        command = packed(sql.CommandStatementQuery(query=text))
        return self.call(method, wire.FlightDescriptor(type=wire.FlightDescriptor.CMD, cmd=command), kind)

    def act(self, name: str, body: bytes) -> list[bytes]:
        found = self.call("DoAction", wire.Action(type=name, body=body))
        return [wire.Result.FromString(message).body for message in found]

    def fetch(self, info: Any) -> int:
        return sum(1 for _ in self.call("DoGet", info.endpoint[0].ticket))

    def put(self, command: Any, batch: pa.RecordBatch | None = None) -> int:
        """Sends a command by DoPut, with the rows of a batch or none; gives the count that is told."""
        descriptor = wire.FlightDescriptor(type=wire.FlightDescriptor.CMD, cmd=packed(command))
        sent = [wire.FlightData(flight_descriptor=descriptor)] if batch is None else messages([batch])
        sent[0].flight_descriptor.CopyFrom(descriptor)
        stream = self._channel.stream_stream("/arrow.flight.protocol.FlightService/DoPut")
        (answer,) = stream((one.SerializeToString() for one in sent), metadata=self._metadata, timeout=60)
        result = sql.DoPutUpdateResult.FromString(wire.PutResult.FromString(answer).app_metadata)
        return int(result.record_count)

    def rows(self, info: Any) -> pa.Table:
        """The rows of the info's endpoint, put together from its messages."""
        stream = b""
        for content in self.call("DoGet", info.endpoint[0].ticket):
            data = wire.FlightData.FromString(content)
            # An encapsulated message: its mark, the length of the header with its padding, header and body.
            padding = bytes(-len(data.data_header) % 8)
            length = (len(data.data_header) + len(padding)).to_bytes(4, "little")
            stream += b"\xff\xff\xff\xff" + length + data.data_header + padding + data.data_body
        return pa.ipc.open_stream(stream).read_all()

    def outcome(self, method: str, message: Any, more: Headers = ()) -> tuple[str, str]:
        """The status name that a call ends with, and the server's words."""
        try:
            list(self.call(method, message, more=more))
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
        return "OK", ""

    def set_options(self, **options: str | int | float) -> dict[str, str]:
        request = wire.SetSessionOptionsRequest()
        for name, value in options.items():
            kinds = {str: "string_value", int: "int64_value", float: "double_value"}
            setattr(request.session_options[name], kinds[type(value)], value)
        (body,) = self.act("SetSessionOptions", request.SerializeToString())
        errors = wire.SetSessionOptionsResult.FromString(body).errors
        return {name: wire.SetSessionOptionsResult.ErrorValue.Name(error.value) for name, error in errors.items()}

    def close(self) -> None:
        self._channel.close()
