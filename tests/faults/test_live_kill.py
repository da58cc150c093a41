"""Subscribers over kills of the server: they come back by themselves, miss nothing and are told nothing twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flightsql_server.client import Mirror, Publishing, Subscription, subscribe
from flightsql_server.data.datasets import MARKET_DATA, ORDERS
from tests.faults.restarting import free_port, server_on
from tests.faults.test_kill import dice
from tests.running import RunningServer

_START = 1_700_000_000_000_000
_TEXTS = {field.name: "x" for field in ORDERS.schema if pa.types.is_string(field.type)}
_END = 10**6


class Publishers:
    """Threads that publish under numbers, each to keys of its own, so that no update is late."""

    def __init__(self, url: str) -> None:
        self._ended = threading.Event()
        self.failures: list[BaseException] = []
        self.sent = 0
        work = [(url, "orders", number) for number in range(3)] + [(url, "market_data", number) for number in range(2)]
        self._threads = [threading.Thread(target=self._guarded, args=one) for one in work]
        for thread in self._threads:
            thread.start()

    def _guarded(self, url: str, dataset: str, number: int) -> None:
        try:
            with Publishing(
                url, dataset, user="admin", password="admin", producer_id=f"p{number}", first_seq=1
            ) as publishing:
                step = 0
                while not self._ended.is_set():
                    step += 1
                    publishing.send(batch(dataset, number, step))
                    self.sent += 1
                    time.sleep(0.002)
        except BaseException as error:
            self.failures.append(error)

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not self.failures


def batch(dataset: str, publisher: int, step: int) -> pa.RecordBatch:
    """A few rows, some of them deletes; what they hold follows from the numbers."""
    rows: list[dict[str, Any]] = []
    for place in range(1 + step % 4):
        key = f"{publisher}-{(step * 7 + place) % 11}"
        change = "delete" if (step + place) % 9 == 0 else "upsert"
        if dataset == "orders":
            row = {
                **_TEXTS, "order_id": key, "quantity": step, "filled_quantity": place, "created_at": _START,
                "updated_at": _START + 10 * step + place, "_change": change,
            }  # fmt: skip
        else:
            row = {
                "symbol": key,
                "bid_price": step + place / 10,
                "timestamp": _START + 10 * step + place,
                "_change": change,
            }
        rows.append(row)
    return pa.RecordBatch.from_pylist(rows, (ORDERS if dataset == "orders" else MARKET_DATA).change_schema)


class Follower:
    """A subscriber with a thread of its own; ``seqs`` are those of all rows that it was told as changes."""

    def __init__(self, url: str, query: str, mode: str) -> None:
        self.query, self.mode = query, mode
        self.mirror = Mirror()
        self.seqs: list[int] = []
        self.resets = 0
        self.failure: BaseException | None = None
        self.updates: Subscription = subscribe(url, query, user="admin", password="admin", mode=mode)
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        try:
            for update in self.updates:
                self.resets += update.reset
                self.mirror.apply(update)
                if update.type == "changes":
                    self.seqs += update.rows.column("_seq").to_pylist()
        except BaseException as error:
            self.failure = error

    def rows(self) -> list[tuple[Any, ...]]:
        return sorted((tuple(row.values()) for row in self.mirror.rows.values()), key=repr)

    def close(self) -> None:
        self.updates.close()
        self._thread.join(30)
        assert not self._thread.is_alive()


def read(server: RunningServer, query: str) -> list[tuple[Any, ...]]:
    with server.connect("admin") as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return sorted(cursor.fetchall(), key=repr)


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_subscribers_miss_nothing_over_kills(tmp_path: Path) -> None:
    moments, port, data_dir = dice(), free_port(), tmp_path / "data"
    server = server_on(port, data_dir)
    followers: list[Follower] = []
    try:
        for query, mode in (
            ("SELECT order_id, quantity, filled_quantity FROM orders", "buffer"),
            ("SELECT order_id, quantity * 2 AS twice FROM orders WHERE quantity % 3 <> 0", "buffer"),
            ("SELECT * FROM orders", "conflate"),
            ("SELECT symbol, bid_price FROM market_data WHERE bid_price > 5", "conflate"),
            ("SELECT symbol, bid_price FROM market_data", "interval"),
        ):
            followers.append(Follower(server.url, query, mode))
        publishers = Publishers(server.url)
        for number in range(10):
            moment = moments.uniform(0.2, 2.5)
            print(f"kill {number + 1} after {moment:.3f} s, {publishers.sent} batches sent")
            time.sleep(moment)
            server.kill()
            server = server_on(port, data_dir)
        sent = publishers.sent
        assert wait_until(lambda: publishers.sent > sent + 20, 60)
        publishers.stop()
        for dataset in ("orders", "market_data"):
            with Publishing(server.url, dataset, user="admin", password="admin") as publishing:
                publishing.send(batch(dataset, 9, _END))
        for follower in followers:
            same = wait_until(lambda one=follower: one.rows() == read(server, one.query), 30)  # type: ignore[misc]
            assert same, (follower.query, follower.mode, follower.failure)
            assert follower.failure is None
            assert follower.resets == 1, "it went on where it was"
            assert follower.seqs == sorted(set(follower.seqs)), "nothing is told twice, and all in its order"
        every = [seq for (seq,) in read(server, "SELECT _seq FROM orders_history")]
        told = followers[0].seqs
        print(f"{len(every)} updates of orders, {len(told)} told")
        unseen = set(every) - set(told)
        # Told are all but deletes of orders that were not there.
        deletes = {seq for (seq,) in read(server, "SELECT _seq FROM orders_history WHERE _change = 'delete'")}
        assert unseen <= deletes
        assert len(told) > 100
    finally:
        for follower in followers:
            follower.close()
        server.stop()
