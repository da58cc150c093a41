"""The rooms of a server without its wire, subscribers that decode what they are sent, and ways to hold things up.

Everything is real but the wire: engine, writer with its thread, planner, subscriptions, encoder. The process may be
killed at a step of a commit: the files are copied as they are at that moment, and other rooms are opened on the copy.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from flightsql_auth.policies import LivePolicies, Policies
from flightsql_auth.principals import Principal

from flightsql_server import config
from flightsql_server.data.commit import Lane, Receipt, Update
from flightsql_server.data.conform import conform
from flightsql_server.data.datasets import Dataset, catalog_of
from flightsql_server.data.ingest import Writer
from flightsql_server.data.watermark import WATERMARK, Watermark
from flightsql_server.engine import DuckDBOptions, open_engine
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call, Engine, SessionOptions
from flightsql_server.protocol.framing import StreamEncoder, split_flight_data
from flightsql_server.rooms import statement_rooms
from flightsql_server.service.catalog import CurrentCatalog
from flightsql_server.service.readers import Reader, Terms
from tests.properties.dying import Dying, Killed
from tests.properties.live_oracle import CLAIMS, DATASETS, Key, Policy, Query, Row

_ADMIN = Principal("root", ("admin",), "token")
ANN = Principal("ann", ("desk",), "token", claims=CLAIMS)


class Gate(ThreadPoolExecutor):
    """A pool whose work can be held up; ``stall`` lets a number of jobs begin first."""

    def __init__(self) -> None:
        super().__init__(8, thread_name_prefix="worker")
        self._open = threading.Event()
        self._open.set()
        self._left = -1
        self._counting = threading.Lock()

    def stall(self, after: int) -> None:
        with self._counting:
            self._left = after
            if not after:
                self._open.clear()

    def flow(self) -> None:
        with self._counting:
            self._left = -1
            self._open.set()

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        def run() -> Any:
            assert self._open.wait(30), "nobody let the pool flow again"
            with self._counting:
                self._left -= 1
                if not self._left:
                    self._open.clear()
            return work(*arguments, **named)

        return super().submit(run)


@dataclass
class Sent:
    """A batch as its publisher knows it."""

    dataset: Dataset
    publisher: int
    number: int
    rows: list[Row]
    update: Update | None = None
    receipt: Receipt | None = None


class Rooms(Dying):
    """One life of the server on a folder. Belongs to an event loop; ``end`` ends it, by a kill or in peace."""

    def __init__(self, folder: Path, policy: Policy, limits: dict[str, Any], message_bytes: int) -> None:
        self.folder = folder
        self.commits: dict[str, list[int]] = {name: [] for name in DATASETS}
        self.pool = Gate()
        self.engine: Engine = open_engine(folder, DuckDBOptions(threads=1, log_bytes=0))
        self.metrics = Metrics()
        self.writer = Writer(
            self.engine, DATASETS, self.metrics, watermark=Watermark(folder / WATERMARK), publish=self._publish,
            at=self._at,
        )  # fmt: skip
        self.subscriptions: Any = None
        self.writer._thread = threading.Thread(target=self._write, name="writer", daemon=True)
        self.writer.start()
        self.policies = LivePolicies(Policies.from_toml(policy.toml()))
        catalog = CurrentCatalog(catalog_of(DATASETS), self.engine)
        settings = config.load(environment={}, command_line={})

        async def operations() -> dict[str, Any]:
            return {}

        _, _, self.subscriptions = statement_rooms(
            settings, self.metrics, self.engine, catalog, self.policies, self.pool, self.writer, DATASETS, operations,
            lambda: 2**40, folder / "spool", b"secret", "one life",
        )  # fmt: skip
        given = replace(self.subscriptions._limits, **{"heartbeat_seconds": 0.02, **limits})
        self.subscriptions._limits = self.subscriptions._lanes._limits = given
        self.subscriptions._ground = replace(self.subscriptions._ground, limits=given)
        self.make_encoder = lambda schema, compression: StreamEncoder(schema, compression, message_bytes)

    def _publish(self, dataset: str, last_seq: int, rows: Any) -> None:
        self.commits[dataset].append(last_seq)
        if self.subscriptions is not None:
            self.subscriptions.publish(dataset, last_seq, rows)

    def _write(self) -> None:
        with suppress(Killed):
            self.writer._run()

    def call(self, principal: Principal = ANN) -> Call:
        return Call(principal, "session", SessionOptions(), "duckdb", "")

    async def asked(self, text: str, principal: Principal = ANN) -> list[Row]:
        """The answer to a plain statement."""
        prepared = await self.subscriptions._plans.prepare(self.call(principal), text)
        return self.read(prepared.sql)

    def read(self, sql: str) -> list[Row]:
        stream = self.engine.open(sql, SessionOptions(), 2_048)
        try:
            rows: list[Row] = []
            while (batch := stream.read()) is not None:
                rows += batch.to_pylist()
            return rows
        finally:
            stream.close()

    def history(self, dataset: Dataset) -> list[Row]:
        return self.read(f"SELECT * FROM main.{dataset.name}_history ORDER BY _seq")

    def send(self, one: Sent, lane: Lane) -> None:
        batch = conform(pa.RecordBatch.from_pylist(one.rows, schema=one.dataset.change_schema), one.dataset)
        one.update = Update(one.dataset, batch, lane, ("feed", f"p{one.publisher}"), one.number)
        self.writer.submit(one.update)

    async def end(self) -> None:
        """Ends whatever runs; after a kill the files that were left are the next life's."""
        self.pool.flow()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self.writer.stop()
        self.pool.shutdown()
        self.engine.close()


@dataclass
class Told:
    """A message of a subscription."""

    first: int
    last: int
    rows: list[tuple[int, str, Key, Row]]
    merged: int
    moved: bool


@dataclass
class Stretch:
    """What was told under one query and one policy, from a place on."""

    start: int
    told: list[Told] = field(default_factory=list)
    last: int = 0
    broken: bool = False


@dataclass(eq=False)
class Follower:
    """A subscriber. ``mirror`` is what it has been told, applied; ``seq`` is how far that goes."""

    text: str
    query: Query | None
    mode: str
    asked_key: tuple[str, ...]
    interval_ms: int = 20
    mirror: dict[Key, Row] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    kind: str = ""
    seq: int | None = None
    plan: str = ""
    fresh: bool = True
    stretches: list[Stretch] = field(default_factory=list)
    newest: dict[Key, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    reader: Reader | None = None
    away: bool = False
    since_commits: int = 0
    resumed: bool = False
    snapshots: list[tuple[int, dict[Key, Row]]] = field(default_factory=list)
    moves: list[tuple[int, dict[Key, Row]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self._schema: pa.Schema | None = None

    def begin(self, rooms: Rooms) -> None:
        """Subscribes, or comes back to where it was."""
        self._schema, self.away, self.reader, self.resumed = None, False, None, self.seq is not None
        self.fresh = self.seq is None
        if self.seq is not None:
            self.stretches.append(Stretch(self.seq, last=self.seq))
        terms = Terms(
            self.text,
            self.mode,
            self.interval_ms,
            self.seq,
            self.asked_key,
            0,
            self.plan if self.seq is not None else "",
        )
        self.task = asyncio.get_running_loop().create_task(self._run(rooms, terms))

    async def _run(self, rooms: Rooms, terms: Terms) -> None:
        async def renew() -> Principal:
            return rooms.call().principal

        subscriptions = rooms.subscriptions
        async with subscriptions.opened(rooms.call(), terms, renew, rooms.make_encoder, self._send) as self.reader:
            await subscriptions.run(self.reader, rooms.make_encoder)

    async def leave(self) -> None:
        """Goes away, wherever it is."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.away = True
        for stretch in self.stretches[-1:]:
            stretch.broken = True

    def forget(self) -> None:
        """What it was told no longer counts: it will begin with a snapshot."""
        self.seq, self.plan = None, ""
        self.stretches.clear()

    # ---- what it is sent

    async def _send(self, message: bytes) -> None:
        await self.gate.wait()
        parts = split_flight_data(message)
        header = bytes(parts.header)
        framed = b"\xff\xff\xff\xff" + len(header).to_bytes(4, "little") + header + bytes(parts.body)
        if self._schema is None:
            self._schema = pa.ipc.read_schema(pa.py_buffer(framed))
            return
        batch = pa.ipc.read_record_batch(pa.ipc.read_message(pa.py_buffer(framed)), self._schema)
        if not parts.metadata:
            self.wrong.append("rows came without a word of what they are")
            return
        self._take(json.loads(parts.metadata), batch.to_pylist())

    def _take(self, told: dict[str, Any], rows: list[Row]) -> None:
        type_ = told["type"]
        if type_ == "subscribed":
            self.kind, self.key = told["kind"], tuple(told["key"])
            self.plan = told.get("plan", "")
        elif type_ == "heartbeat":
            if self.kind == "rows":
                self._told_up_to(told["seq"])
        elif type_ == "granted":
            pass
        elif type_ == "refused":
            self.wrong.append(told["error"])
        elif self.kind == "refreshed":
            self._anew(told, rows)
        elif type_ == "snapshot":
            self._snapshot(told, rows)
        else:
            self._changes(told, rows)

    def _anew(self, told: dict[str, Any], rows: list[Row]) -> None:
        if told["type"] == "snapshot" and self.fresh:
            self.mirror.clear()
        if told["type"] == "snapshot":
            self.fresh = bool(told.get("end"))
        for row in rows:
            change, _ = row.pop("_change"), row.pop("_seq")
            key = tuple(row[name] for name in self.key) if self.key else (len(self.mirror),)
            if change == "upsert":
                self.mirror[key] = row
            elif key not in self.mirror:
                self.wrong.append(f"{key} is taken away, of which nothing was told")
            else:
                del self.mirror[key]

    def _snapshot(self, told: dict[str, Any], rows: list[Row]) -> None:
        if self.fresh:
            self.mirror.clear()
            self.newest.clear()
            self.fresh = False
        for row in rows:
            if row.pop("_change") != "upsert":
                self.wrong.append("a snapshot takes rows away")
            seq, key = row.pop("_seq"), tuple(row[name] for name in self.key)
            if key in self.mirror:
                self.wrong.append(f"{key} is twice in a snapshot")
            self.mirror[key], self.newest[key] = row, seq
        if told.get("end"):
            self.seq = told["seq"]
            self.snapshots.append((self.seq, dict(self.mirror)))
            self.stretches.append(Stretch(self.seq, last=self.seq))

    def _changes(self, told: dict[str, Any], rows: list[Row]) -> None:
        (first, last), moved, more = told["seq"], told.get("moved", False), told.get("more", False)
        assert self.seq is not None
        if first <= self.seq and not (moved and first == self.seq + 1):
            self.wrong.append(f"told of {first} to {last} after {self.seq}")
        found = []
        for row in rows:
            change, seq, key = row.pop("_change"), row.pop("_seq"), tuple(row[name] for name in self.key)
            found.append((seq, change, key, row))
            if seq < self.newest.get(key, 0) + (not moved):
                self.wrong.append(f"{key} is told as of {seq} after {self.newest[key]}")
            if not moved and not first <= seq <= last:
                self.wrong.append(f"{seq} is told in a message of {first} to {last}")
            self.newest[key] = seq
            if change == "upsert":
                self.mirror[key] = row
            else:
                if key not in self.mirror and (moved or self.mode == "buffer"):
                    self.wrong.append(f"{key} is taken away, of which nothing was told")
                self.mirror.pop(key, None)
                if any(value is not None for name, value in row.items() if name not in self.key):
                    self.wrong.append("a row that is taken away shows more than its key")
        if moved:
            if not more:
                if self.mode == "buffer":
                    self.stretches[-1].last = last  # what had to be told until then was told before
                self._told_up_to(last, moved=True)
                self.plan = told.get("plan", self.plan)
                self.moves.append((last, dict(self.mirror)))
                self.stretches.append(Stretch(last, last=last))
            return
        self.stretches[-1].told.append(Told(first, last, found, told.get("merged", 0), moved))
        self._told_up_to(last)

    def _told_up_to(self, seq: int, moved: bool = False) -> None:
        if self.seq is None or seq < self.seq:
            self.wrong.append(f"told up to {seq} after {self.seq}")
        self.seq = seq
        if not moved:
            self.stretches[-1].last = seq

    @property
    def failure(self) -> BaseException | None:
        """Why it ended; None while it runs."""
        if self.task is None or not self.task.done():
            return None
        return asyncio.CancelledError() if self.task.cancelled() else self.task.exception()


def visible(row: Row, names: list[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def now() -> float:
    return time.monotonic()
