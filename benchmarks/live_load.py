"""Subscribers and publishers by the hundred, in one thread: bare gRPC streams on an event loop.

Every subscriber looks at what it is told: places rise, and nothing is told twice. Some read slowly, some leave and come
back to where they were.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pyarrow as pa
import pyarrow.flight as flight

from flightsql_server.data.datasets import MARKET_DATA, ORDERS, Dataset
from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol.framing import StreamEncoder, split_flight_data

_CHANNELS = 8
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
_EXCHANGE = "/arrow.flight.protocol.FlightService/DoExchange"
_PUT = "/arrow.flight.protocol.FlightService/DoPut"
_TEXTS = {field.name: "x" for field in ORDERS.schema if pa.types.is_string(field.type)}
_KEYS = 200


@dataclass(frozen=True)
class Kind:
    """One way to subscribe; ``share`` of all do so."""

    share: int
    query: str
    mode: str
    pause_seconds: float = 0.0
    leaves: bool = False


KINDS = (
    Kind(25, "SELECT * FROM market_data", "conflate"),
    Kind(15, "SELECT symbol, bid_price * 2 AS twice FROM market_data WHERE volume % 7 = {n}", "conflate"),
    Kind(15, "SELECT * FROM orders", "buffer"),
    Kind(10, "SELECT order_id, status FROM orders WHERE filled_quantity > {n}", "buffer"),
    Kind(10, "SELECT * FROM market_data", "conflate", pause_seconds=0.5),
    Kind(5, "SELECT symbol, bid_price FROM market_data", "interval"),
    Kind(10, "SELECT * FROM orders", "buffer", leaves=True),
    Kind(5, "SELECT symbol, last_price FROM market_data WHERE volume % 7 <> {n}", "conflate", leaves=True),
    Kind(5, "SELECT count(*) AS n, max(bid_price) AS bid FROM market_data WHERE volume % 7 = {n}", "conflate"),
)


class LiveLoad:
    """Subscribers and publishers against a server, in a thread of their own, until ``stop``.

    ``counts``: messages, rows, rows that were left out for newer ones, times somebody came back, batches published.
    ``failures``: what ended one of them.
    """

    def __init__(self, url: str, subscribers: int, publishers: int, batches_per_second: float = 2.0) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self._target = url.removeprefix("grpc://")
        with flight.FlightClient(url) as client:
            header = client.authenticate_basic_token("admin", "admin")
        self._login = ((header[0].decode(), header[1].decode()),)
        self._pause = 1 / batches_per_second
        self._numbers = (subscribers, publishers)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends all of them."""
        self._ended.set()
        self._thread.join(30)

    async def _work(self) -> None:
        channels = [grpc.aio.insecure_channel(self._target, options=_OPTIONS) for _ in range(_CHANNELS)]
        dice = random.Random(1)
        subscribers, publishers = self._numbers
        work = [
            self._guarded(self._subscribe(channels[number % _CHANNELS], kind, random.Random(number)))
            for number, kind in enumerate(dice.choices(KINDS, [kind.share for kind in KINDS], k=subscribers))
        ]
        work += [self._guarded(self._publish(channels[n % _CHANNELS], n)) for n in range(publishers)]
        tasks = [asyncio.create_task(one) for one in work]
        await asyncio.to_thread(self._ended.wait)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for channel in channels:
            await channel.close()

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except Exception as error:
            if not self._ended.is_set():
                self.failures.append(repr(error)[:500])

    # ---- subscribers

    async def _subscribe(self, channel: grpc.aio.Channel, kind: Kind, dice: random.Random) -> None:
        asked = {"subscribe": kind.query.format(n=dice.randrange(7)), "mode": kind.mode}
        seq, plan = None, ""
        while True:
            again = asked if seq is None else {**asked, "from_seq": seq, "plan": plan}
            until = time.monotonic() + (dice.uniform(2, 15) if kind.leaves else 1e9)
            seq, plan = await self._follow(channel, again, kind, seq, plan, until)
            self.counts["came_back"] += 1

    async def _follow(
        self, channel: grpc.aio.Channel, asked: dict[str, Any], kind: Kind, seq: int | None, plan: str, until: float
    ) -> tuple[int | None, str]:
        call = channel.stream_stream(_EXCHANGE)(metadata=self._login)
        command = wire.FlightDescriptor(type=wire.FlightDescriptor.CMD, cmd=json.dumps(asked).encode())
        await call.write(wire.FlightData(flight_descriptor=command).SerializeToString())
        try:
            while time.monotonic() < until:
                message = await call.read()
                if message is grpc.aio.EOF:
                    raise RuntimeError(f"{asked} ended: {await call.code()} {await call.details()}")
                metadata = split_flight_data(message).metadata
                if metadata:
                    seq, plan = self._told(json.loads(metadata), asked, seq, plan)
                if kind.pause_seconds:
                    await asyncio.sleep(kind.pause_seconds)
        finally:
            call.cancel()
        return seq, plan

    def _told(self, told: dict[str, Any], asked: dict[str, Any], seq: int | None, plan: str) -> tuple[int | None, str]:
        self.counts["messages"] += 1
        self.counts["rows"] += told.get("rows", 0)
        self.counts["merged"] += told.get("merged", 0)
        range_ = told.get("seq")
        if told["type"] == "subscribed":
            return seq, told.get("plan", "")
        if told["type"] == "changes" and isinstance(range_, list):
            if seq is None or range_[0] <= seq or range_[1] < range_[0]:
                raise RuntimeError(f"{asked} was told of {range_} after {seq}")
            return range_[1], plan
        if told["type"] == "heartbeat" or told.get("end"):
            return range_ if isinstance(range_, int) else None, plan
        return seq, plan

    # ---- publishers

    async def _publish(self, channel: grpc.aio.Channel, number: int) -> None:
        dataset = ORDERS if number % 2 else MARKET_DATA
        encoder = StreamEncoder(dataset.schema)
        call = channel.stream_stream(_PUT)(metadata=self._login)
        first = wire.FlightData.FromString(encoder.schema_message())
        first.flight_descriptor.CopyFrom(wire.FlightDescriptor(type=wire.FlightDescriptor.PATH, path=[dataset.name]))
        await call.write(first.SerializeToString())
        dice = random.Random(number)
        while True:
            (message,) = encoder.encode(_batch(dataset, dice))
            await call.write(message)
            if await call.read() is grpc.aio.EOF:
                raise RuntimeError(f"the publisher was ended: {await call.code()} {await call.details()}")
            self.counts["published"] += 1
            await asyncio.sleep(self._pause * dice.uniform(0.5, 1.5))


def _batch(dataset: Dataset, dice: random.Random) -> pa.RecordBatch:
    now = time.time_ns() // 1000
    rows: list[dict[str, Any]] = []
    for _ in range(dice.randint(1, 10)):
        key = dice.randrange(_KEYS)
        if dataset is ORDERS:
            rows.append(
                {**_TEXTS, "order_id": f"O{key}", "quantity": 10, "filled_quantity": dice.randrange(10),
                 "created_at": now, "updated_at": now}
            )  # fmt: skip
        else:
            rows.append(
                {"symbol": f"S{key}", "bid_price": dice.random(), "ask_price": 1.0, "last_price": dice.random(),
                 "volume": dice.randrange(10_000), "timestamp": now}
            )  # fmt: skip
    return pa.RecordBatch.from_pylist(rows, dataset.schema)
