"""Many publishers at once, and more batches than the writer takes: nothing is lost, nobody is starved."""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pyarrow as pa
import pytest

from flightsql_server.client import Publisher
from flightsql_server.data.datasets import MARKET_DATA
from tests.conformance.clients import arrow, metric
from tests.conformance.putting import START
from tests.running import CONFIG, RunningServer, running_server

ROWS = 10
MANY_SESSIONS = CONFIG.replace("[login]\n", "[login]\nsessions_per_user = 200\n")


class Sent(NamedTuple):
    """What one publisher was told."""

    rows: int
    ranges: list[tuple[int, int]]


def batch_of(publisher: int, number: int) -> pa.RecordBatch:
    """Ten quotes of a publisher's own symbols and one of a symbol that all share."""
    micros = int(START.timestamp() * 1e6) + number
    symbols = ["ALL", *(f"P{publisher}-{n}" for n in range(ROWS - 1))]
    prices = pa.array([float(number)] * ROWS)
    times = pa.array([micros] * ROWS, MARKET_DATA.schema.field("timestamp").type)
    none = pa.nulls(ROWS, pa.float64())
    columns = [pa.array(symbols), none, none, prices, pa.array([publisher] * ROWS), times]
    return pa.RecordBatch.from_arrays(columns, schema=MARKET_DATA.schema)


def publish(url: str, publisher: int, batches: int) -> Sent:
    """Sends so many batches, numbered, some ahead of their acknowledgements."""
    with Publisher(url, "market_data", user="feed", password="feed", producer_id=f"publisher {publisher}") as stream:
        receipts = list(stream.publish_all(batch_of(publisher, number) for number in range(batches)))
    assert [receipt.producer_seq for receipt in receipts] == list(range(batches))
    assert not any(receipt.duplicate for receipt in receipts)
    return Sent(stream.rows, [(int(r.first_seq or 0), int(r.last_seq or 0)) for r in receipts])


def publish_some(url: str, publishers: range, batches: int) -> list[Sent]:
    """Several publishers, each in a thread of this process."""
    with ThreadPoolExecutor(len(publishers)) as pool:
        return list(pool.map(lambda publisher: publish(url, publisher, batches), publishers))


def assert_all_there(server: RunningServer, sent: list[Sent], batches: int) -> None:
    """Every row once, numbers without a gap, each range a batch's own, each key at its last."""
    total = len(sent) * batches * ROWS
    assert [one.rows for one in sent] == [batches * ROWS] * len(sent)
    ranges = sorted(pair for one in sent for pair in one.ranges)
    assert ranges == [(first, first + ROWS - 1) for first in range(1, total + 1, ROWS)]
    for one in sent:
        assert one.ranges == sorted(one.ranges), "a publisher's batches keep their order"
    sql = (
        "count(*) AS n, count(DISTINCT _seq) AS numbers, min(_seq) AS first, max(_seq) AS last, count(DISTINCT symbol)"
    )
    (found,) = arrow(server, f"SELECT {sql} AS keys FROM market_data_history", "admin").to_pylist()
    keys = len(sent) * (ROWS - 1) + 1
    assert found == {"n": total, "numbers": total, "first": 1, "last": total, "keys": keys}
    (found,) = arrow(server, "SELECT count(*) AS n, min(last_price) AS least FROM market_data", "admin").to_pylist()
    assert found == {"n": keys, "least": float(batches - 1)}
    counted = 'flightsql_ingested_rows_total{dataset="market_data"}'
    assert metric(server, counted) == total


def test_twenty_publishers_at_once(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        assert_all_there(server, publish_some(server.url, range(20), 50), 50)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_publishers_and_a_million_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The memory of the server does not grow with what has passed through it."""
    (tmp_path / "test.toml").write_text(MANY_SESSIONS + '[engine]\nmemory_limit = "512MB"\n', encoding="utf-8")
    with running_server(tmp_path) as server:
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        seen: list[int] = []
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.25):
                seen.append(process.memory_info().rss)

        watching = threading.Thread(target=watch)
        watching.start()
        started = time.monotonic()
        with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
            parts = [pool.submit(publish_some, server.url, range(at, at + 25), 1_000) for at in range(0, 100, 25)]
            sent = [one for part in parts for one in part.result(400)]
        seconds = time.monotonic() - started
        done.set()
        watching.join()
        after = process.memory_info().rss
        half = max(seen[: len(seen) // 2])
        with capsys.disabled():
            mebibytes = [f"{size / 2**20:.0f}" for size in (before, half, max(seen), after)]
            print(f"\nmillion rows in {seconds:.0f} s; MiB before, by half, at most, after: {', '.join(mebibytes)}")
        assert_all_there(server, sent, 1_000)
        assert max(seen) < before + 1_024 * 2**20
        assert max(seen) < half + 256 * 2**20, "the second half needs little more than the first"


@pytest.mark.slow
def test_a_fast_publisher_is_slowed_and_not_refused(tmp_path: Path) -> None:
    """With room for two batches only: all of 500 are stored in their order, and others are answered meanwhile."""
    (tmp_path / "test.toml").write_text(CONFIG + "[ingest]\nqueue_batches = 2\n", encoding="utf-8")
    batches = 500
    with running_server(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        limit = 'flightsql_limits_hit_total{limit="ingest.queue_batches"}'
        publishing = pool.submit(publish, server.url, 1, batches)
        waits: list[float] = []
        with server.connect() as connection, connection.cursor() as cursor:
            while not publishing.done():
                started = time.monotonic()
                cursor.execute("SELECT 1")
                rows: list[Any] = cursor.fetchall()
                assert rows == [(1,)]
                waits.append(time.monotonic() - started)
                time.sleep(0.02)
        assert_all_there(server, [publishing.result(60)], batches)
        assert metric(server, limit) > 0
        assert metric(server, "flightsql_ingest_waiting_batches") == 0
    assert len(waits) > 5
    assert max(waits) < 5
