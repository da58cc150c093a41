"""What the tests of DoPut share: quotes to send, a stream by pyarrow step by step, and one by bare messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.flight as flight

from flightsql_server.data.datasets import CHANGE, DELETE, MARKET_DATA, UPSERT
from flightsql_server.protocol import flight_pb2 as wire
from tests.conformance.clients import arrow, basic
from tests.running import RunningServer

START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
Acknowledgement = dict[str, Any]


def quotes(*rows: tuple[str | None, float, int]) -> pa.RecordBatch:
    """Market data: symbol, last price and seconds since the start."""
    return pa.RecordBatch.from_pylist(
        [
            {"symbol": symbol, "last_price": price, "timestamp": START + timedelta(seconds=seconds)}
            for symbol, price, seconds in rows
        ],
        schema=MARKET_DATA.schema,
    )


def changes(*rows: tuple[str, float | None, int]) -> pa.RecordBatch:
    """The same with ``_change``: a row without a price is a delete."""
    return pa.RecordBatch.from_pylist(
        [
            {
                "symbol": symbol,
                "last_price": price,
                "timestamp": START + timedelta(seconds=seconds),
                CHANGE: DELETE if price is None else UPSERT,
            }
            for symbol, price, seconds in rows
        ],
        schema=MARKET_DATA.change_schema,
    )


def latest(server: RunningServer, prefix: str) -> dict[str, float]:
    """The last price of each symbol that begins so."""
    sql = f"SELECT symbol, last_price FROM market_data WHERE starts_with(symbol, '{prefix}')"
    return {row["symbol"]: row["last_price"] for row in arrow(server, sql, "admin").to_pylist()}


def stored(server: RunningServer, prefix: str, name: str = "market_data") -> list[tuple[Any, ...]]:
    """Symbol, last price and change of each update of such symbols, in the order of their commits."""
    columns = "symbol, last_price, _change" if name == "market_data" else "symbol, _change"
    sql = f"SELECT {columns} FROM {name}_history WHERE starts_with(symbol, '{prefix}') ORDER BY _seq"
    return [tuple(row.values()) for row in arrow(server, sql, "admin").to_pylist()]


class Stream:
    """One DoPut of pyarrow's, used step by step; the end of the block closes it."""

    def __init__(
        self,
        server: RunningServer,
        user: str = "feed",
        name: str = "market_data",
        schema: pa.Schema = MARKET_DATA.schema,
    ) -> None:
        self._client, call = server.flight(user)
        self._writer, self._reader = self._client.do_put(flight.FlightDescriptor.for_path(name), schema, call)

    def push(self, batch: pa.RecordBatch, **terms: object) -> None:
        """Sends a batch, with its terms where there are any, and waits for nothing."""
        if terms:
            self._writer.write_with_metadata(batch, json.dumps(terms).encode())
        else:
            self._writer.write_batch(batch)

    def read(self) -> Acknowledgement:
        """The next acknowledgement."""
        answer = self._reader.read()
        assert answer is not None, "no acknowledgement"
        found: Acknowledgement = json.loads(answer.to_pybytes())
        return found

    def send(self, batch: pa.RecordBatch, **terms: object) -> Acknowledgement:
        """Sends a batch and waits until it is acknowledged."""
        self.push(batch, **terms)
        return self.read()

    def close(self) -> None:
        """Ends the stream; raises what the server said of it."""
        try:
            self._writer.close()
        finally:
            self._client.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        self._client.close()


@dataclass
class Outcome:
    """How a stream of bare messages ended: what was acknowledged before, the gRPC status, and the server's words."""

    code: str
    words: str = ""
    acknowledged: list[Acknowledgement] = field(default_factory=list)


def descriptor(name: str = "market_data") -> wire.FlightDescriptor:
    return wire.FlightDescriptor(type=wire.FlightDescriptor.PATH, path=[name])


def message(encapsulated: bytes, metadata: bytes = b"", name: str = "") -> wire.FlightData:
    """A FlightData of an Arrow IPC message as it stands in a stream; ``name`` goes into its descriptor."""
    length = int.from_bytes(encapsulated[4:8], "little")
    made = wire.FlightData(
        data_header=encapsulated[8 : 8 + length], data_body=encapsulated[8 + length :], app_metadata=metadata
    )
    if name:
        made.flight_descriptor.CopyFrom(descriptor(name))
    return made


def messages(
    batches: Sequence[pa.RecordBatch], metadata: Mapping[int, bytes] | None = None, name: str = "market_data"
) -> list[wire.FlightData]:
    """The schema with its descriptor, then the batches; ``metadata`` is that of some of them, by number."""
    sent = [message(batches[0].schema.serialize().to_pybytes(), name=name)]
    for number, batch in enumerate(batches):
        sent.append(message(batch.serialize().to_pybytes(), (metadata or {}).get(number, b"")))
    return sent


def put(server: RunningServer, sent: Iterable[wire.FlightData | bytes], user: str = "feed") -> Outcome:
    """Sends the messages as one DoPut and waits for its end."""
    content = (one if isinstance(one, bytes) else one.SerializeToString() for one in sent)
    outcome = Outcome("OK")
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.stream_stream("/arrow.flight.protocol.FlightService/DoPut", None, wire.PutResult.FromString)(
            content, metadata=(("authorization", basic(user, user)),), timeout=30
        )
        try:
            for result in call:
                outcome.acknowledged.append(json.loads(result.app_metadata))
        except grpc.RpcError as error:
            outcome.code, outcome.words = error.code().name, error.details() or ""
    return outcome
