"""How a server ends, by request or by force, and what the next one finds."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flightsql_server.client import Publisher, PublishError
from tests.faults.proxy import Proxy
from tests.faults.watching import ENDLESS, HEAVY, Client, Numbers, http, running, server_with, start_server, wait_until
from tests.running import RunningServer

# What closing the data directory, the database and the interpreter may take on a busy machine, beside the drain.
CLOSING_SECONDS = 3.0


def batch(first: int, rows: int) -> pa.RecordBatch:
    """Rows of market_data, each of its own symbol."""
    at = datetime(2026, 1, 5, tzinfo=UTC)
    return pa.RecordBatch.from_pydict(
        {
            "symbol": [f"S{number:06}" for number in range(first, first + rows)],
            "bid_price": [1.0] * rows,
            "ask_price": [2.0] * rows,
            "last_price": [1.5] * rows,
            "volume": list(range(rows)),
            "timestamp": [at] * rows,
        },
        schema=pa.schema(
            [
                pa.field("symbol", pa.string(), nullable=False),
                ("bid_price", pa.float64()),
                ("ask_price", pa.float64()),
                ("last_price", pa.float64()),
                ("volume", pa.int64()),
                pa.field("timestamp", pa.timestamp("us", "UTC"), nullable=False),
            ]
        ),
    )


class Reading:
    """A thread that reads a query until it ends or fails; ``error`` is what ended it."""

    def __init__(self, server: RunningServer, sql: str) -> None:
        self._client = Client(server.url)
        self.error: BaseException | None = None
        self.batches = 0
        self._thread = threading.Thread(target=self._read, args=(sql,))
        self._thread.start()
        wait_until(lambda: running(server) >= 1, 10, "the query runs")

    def _read(self, sql: str) -> None:
        try:
            reader = self._client.query(sql)
            while True:
                reader.read_chunk()
                self.batches += 1
        except (pa.ArrowException, StopIteration, KeyboardInterrupt) as error:
            self.error = error

    def join(self) -> BaseException | None:
        """What ended it."""
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._client.close()
        return self.error


@pytest.mark.parametrize("sql", [ENDLESS, pytest.param(HEAVY, marks=pytest.mark.slow)], ids=["streaming", "computing"])
def test_running_query_gets_its_time_and_is_then_cancelled(tmp_path: Path, sql: str) -> None:
    server = start_server(tmp_path / "data", server_drain_seconds=2)
    known = Client(server.url)
    reading = Reading(server, sql)
    assert http(server, "/readyz")[0] == 200
    started = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: http(server, "/readyz") == (503, "server: starting or stopping\n"), 1, "not ready")
    assert http(server, "/livez") == (200, "ok\n")
    assert "flightsql_ready 0.0" in http(server, "/metrics")[1]
    with pytest.raises(flight.FlightUnavailableError, match=r"\[57P01\]"):
        known.query("SELECT 1")
    with pytest.raises(flight.FlightUnavailableError):
        Client(server.url)
    seen = reading.batches
    wait_until(lambda: sql == HEAVY or reading.batches > seen, 1, "the running query goes on")
    assert time.monotonic() - started < 2
    assert server.process.poll() is None
    assert server.process.wait(10) == 0
    assert 1.9 < time.monotonic() - started < 2 + CLOSING_SECONDS
    assert isinstance(reading.join(), flight.FlightUnavailableError)
    known.close()
    assert "Traceback" not in "".join(server.output)
    server.stop()


@pytest.mark.slow
def test_query_that_ends_in_time_is_served_to_its_end(tmp_path: Path) -> None:
    server = start_server(tmp_path / "data", server_drain_seconds=20)
    with Client(server.url) as client:
        reader = client.query("SELECT * FROM range(20000000)")
        rows = reader.read_chunk().data.num_rows
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        rows += sum(chunk.data.num_rows for chunk in reader)
        assert rows == 20_000_000
    assert server.process.wait(20) == 0
    assert time.monotonic() - started < 10
    server.stop()


@pytest.mark.slow
def test_idle_server_stops_at_once(tmp_path: Path) -> None:
    server = start_server(tmp_path / "data", server_drain_seconds=30)
    with Client(server.url) as client:
        client.query("SELECT 1").read_all()
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < CLOSING_SECONDS


@pytest.mark.parametrize("sql", [pytest.param(ENDLESS, marks=pytest.mark.slow), HEAVY], ids=["streaming", "computing"])
def test_second_signal_stops_at_once(tmp_path: Path, sql: str) -> None:
    server = start_server(tmp_path / "data", server_drain_seconds=60)
    reading = Reading(server, sql)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert server.process.poll() is None
    started = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
    assert time.monotonic() - started < CLOSING_SECONDS
    assert isinstance(reading.join(), flight.FlightUnavailableError)
    assert "Traceback" not in "".join(server.output)
    server.stop()


@pytest.mark.parametrize("how", ["proxy", pytest.param("client", marks=pytest.mark.slow)])
def test_stalled_reader_does_not_hold_the_stop(tmp_path: Path, how: str) -> None:
    server = start_server(tmp_path / "data", server_drain_seconds=1)
    with Proxy(server.port) as proxy, Client(proxy.url if how == "proxy" else server.url) as client:
        reader = client.query(ENDLESS)
        reader.read_chunk()
        if how == "proxy":
            proxy.stall("down")
        time.sleep(0.5)
        assert running(server) == 1
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 1 + CLOSING_SECONDS
        proxy.resume()
        with contextlib.suppress(pa.ArrowException, KeyboardInterrupt):
            reader.cancel()


def test_kill_loses_no_session_and_no_acknowledged_row(tmp_path: Path) -> None:
    server = start_server(tmp_path / "data")
    client = Client(server.url)
    token = client.token
    client.close()
    acknowledged: list[int] = []
    ended = threading.Event()

    def publish() -> None:
        publisher = Publisher(server.url, "market_data", user="feed", password="feed")
        with contextlib.suppress(PublishError):
            for receipt in publisher.publish_all(batch(100 * number, 100) for number in range(10_000)):
                assert receipt.last_seq is not None
                acknowledged.append(receipt.last_seq)
        with contextlib.suppress(PublishError):
            publisher.close()
        ended.set()

    publishing = threading.Thread(target=publish)
    publishing.start()
    wait_until(lambda: len(acknowledged) > 50, 20, "batches are acknowledged")
    server.kill()
    assert ended.wait(10)
    publishing.join()
    last = acknowledged[-1]
    assert last == 100 * len(acknowledged)
    with server_with(tmp_path / "data") as again, Client(again.url, token=token) as client:
        count = "SELECT count(*) AS n, count(DISTINCT _seq) AS s, max(_seq) AS m FROM market_data_history"
        found = client.query(count).read_all().to_pylist()[0]
        assert found["n"] == found["s"] == found["m"] >= last
        assert found["n"] % 100 == 0
        latest = client.query("SELECT count(*) AS n, count(DISTINCT symbol) AS s FROM market_data").read_all()
        assert latest.to_pylist() == [{"n": found["n"], "s": found["n"]}]
        with Publisher(again.url, "market_data", user="feed", password="feed") as publisher:
            assert publisher.publish(batch(0, 10)).first_seq == found["m"] + 1


@pytest.mark.slow
def test_stop_commits_what_was_queued(tmp_path: Path) -> None:
    server = start_server(tmp_path / "data", server_drain_seconds=0.5)
    publisher = Publisher(server.url, "market_data", user="feed", password="feed")
    rows = 0
    for number in range(20):
        rows += publisher.publish(batch(1000 * number, 1000)).rows
    assert server.stop() == 0
    with contextlib.suppress(PublishError):
        publisher.close()
    with server_with(tmp_path / "data") as again, Client(again.url) as client:
        assert client.query("SELECT count(*) AS n FROM market_data").read_all().to_pylist() == [{"n": rows}]


_PUBLISHER = """
import sys
import pyarrow.flight as flight
import pyarrow.ipc as ipc
url, token, file = sys.argv[1:]
batch = ipc.open_stream(file).read_next_batch()
options = flight.FlightCallOptions(headers=[(b"authorization", token.encode())])
writer, _ = flight.FlightClient(url).do_put(flight.FlightDescriptor.for_path("market_data"), batch.schema, options)
while True:
    writer.write_batch(batch)
"""


def test_killed_publisher_leaves_the_writer_alive(tmp_path: Path) -> None:
    """Its batches wait for the writer when it goes: they are stored or not, and the next publisher is served."""
    file = tmp_path / "batch.arrow"
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, batch(0, 1).schema) as writer:
        writer.write_batch(batch(0, 20_000))
    with server_with(tmp_path / "data") as server:
        with Client(server.url, "feed") as client:
            token = client.token[1].decode()
        for _ in range(2):
            arguments = [sys.executable, "-c", _PUBLISHER, server.url, token, str(file)]
            before = Numbers(server).total("flightsql_commit_seconds_count")
            process = subprocess.Popen(arguments)
            try:
                wait_until(lambda: Numbers(server).total("flightsql_ingest_waiting_batches") > 2, 20, "batches wait")
            finally:
                process.kill()
                process.wait(10)
            wait_until(lambda: Numbers(server).total("flightsql_calls_in_flight") == 0, 5, "the call ends")
            with Publisher(server.url, "market_data", user="feed", password="feed") as publisher:
                assert publisher.publish(batch(0, 10)).rows == 10
            assert Numbers(server).total("flightsql_commit_seconds_count") > before
        assert http(server, "/readyz") == (200, "ok\n")
        assert Numbers(server).total("flightsql_ingest_waiting_batches") == 0
        assert Numbers(server).total("flightsql_incidents_total") == 0
        assert "Traceback" not in "".join(server.output)
