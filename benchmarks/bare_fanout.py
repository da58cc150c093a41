"""The yardsticks of ``live.py``: fan-out and nothing else. What is published is passed on, byte for byte, to all.

``grpc``: grpc.aio with raw bytes, as our server has it, and a queue for each subscriber. ``flight``: pyarrow.flight,
a thread and a queue for each subscriber. No login, no database, no snapshot, no filter, no limit on what waits.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pyarrow as pa
import pyarrow.flight as flight
import uvloop

from flightsql_server.data.datasets import MARKET_DATA
from flightsql_server.protocol import flight_pb2 as wire

SERVICE = "arrow.flight.protocol.FlightService"
BEGUN = b'{"type":"snapshot","end":true}'


def told(number: int, rows: int) -> bytes:
    """What our server says of a batch."""
    content = {"type": "changes", "seq": [number + 1, number + rows], "rows": rows}
    return json.dumps(content, separators=(",", ":")).encode()


class Fanout:
    """Over grpc.aio. A message that comes in goes out as it is, with ``app_metadata`` behind it."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._count = 0
        self._subscribers: set[asyncio.Queue[bytes]] = set()

    async def do_put(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        first = True
        async for message in requests:
            if first:
                first = False
                continue
            note = told(self._count, self._rows)
            self._count += self._rows
            whole = message + wire.FlightData(app_metadata=note).SerializeToString()
            for waiting in self._subscribers:
                waiting.put_nowait(whole)
            yield wire.PutResult(app_metadata=note).SerializeToString()

    async def do_exchange(self, requests: AsyncIterator[bytes], context: Any) -> None:
        mine: asyncio.Queue[bytes] = asyncio.Queue()
        async for _ in requests:
            break
        self._subscribers.add(mine)
        try:
            await context.write(wire.FlightData(app_metadata=BEGUN).SerializeToString())
            while True:
                await context.write(await mine.get())
        finally:
            self._subscribers.discard(mine)

    async def serve(self) -> None:
        server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
        methods = {
            "DoPut": grpc.stream_stream_rpc_method_handler(self.do_put),
            "DoExchange": grpc.stream_stream_rpc_method_handler(self.do_exchange),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(f"ready grpc://127.0.0.1:{port}", flush=True)
        await server.wait_for_termination()


class FlightFanout(flight.FlightServerBase):
    """Over pyarrow.flight."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0))
        self._count = 0
        self._subscribers: set[queue.SimpleQueue[tuple[pa.RecordBatch, bytes]]] = set()

    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        for chunk in reader:
            rows = chunk.data.num_rows
            note = told(self._count, rows)
            self._count += rows
            for waiting in list(self._subscribers):
                waiting.put((chunk.data, note))
            writer.write(note)

    def do_exchange(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        mine: queue.SimpleQueue[tuple[pa.RecordBatch, bytes]] = queue.SimpleQueue()
        self._subscribers.add(mine)
        writer.begin(MARKET_DATA.schema)
        try:
            writer.write_metadata(BEGUN)
            while not context.is_cancelled():
                try:
                    writer.write_with_metadata(*mine.get(timeout=1))
                except queue.Empty:
                    continue
        finally:
            self._subscribers.discard(mine)


if __name__ == "__main__":
    if sys.argv[1] == "grpc":
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(Fanout(int(sys.argv[2])).serve())
    else:
        server = FlightFanout()
        print(f"ready grpc://127.0.0.1:{server.port}", flush=True)
        server.serve()
