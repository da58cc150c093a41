"""Results without an end: they start at once, take no memory, and stop when nobody wants them any more."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_manager
import psutil
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from tests.faults.watching import (
    ENDLESS,
    HEAVY,
    Client,
    Numbers,
    processor_seconds,
    running,
    server_with,
    wait_until,
)
from tests.running import RunningServer

# From the moment a client is gone, or its deadline passed, to the last trace of its query.
INTERRUPT_SECONDS = 0.5
GIGABYTE = 1_000_000_000


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that runs nothing but the statement of one test."""
    with server_with(tmp_path_factory.mktemp("quiet") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with tight limits."""
    directory = tmp_path_factory.mktemp("limited") / "data"
    limits = {"query_seconds": 2, "query_concurrent": 2, "query_queue": 1, "query_queue_seconds": 0.7}
    with server_with(directory, **limits) as server:
        yield server


@pytest.fixture(autouse=True)
def idle(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test leaves its server idle."""
    yield
    for name in ("quiet", "limited"):
        if name in request.fixturenames:
            server: RunningServer = request.getfixturevalue(name)
            wait_until(lambda server=server: running(server) == 0, 5, "queries end")  # type: ignore[misc]


def stopped_within(server: RunningServer) -> float:
    """How long until the server runs nothing and takes no processor time for it."""
    seconds = wait_until(lambda: running(server) == 0, 5, "the query stops")
    assert processor_seconds(server, 0.4) < 0.2
    return seconds


def read_on(reader: flight.FlightStreamReader) -> None:
    """Reads until an error comes."""
    while True:
        reader.read_chunk()


def test_first_batch_comes_at_once_and_memory_stays_flat(quiet: RunningServer) -> None:
    process = psutil.Process(quiet.process.pid)
    started = time.monotonic()
    with quiet.connect() as connection, connection.cursor() as cursor:
        cursor.execute(ENDLESS)
        reader = cursor.fetch_record_batch()
        size = reader.read_next_batch().nbytes
        assert time.monotonic() - started < 2
        while size < 100_000_000:
            size += reader.read_next_batch().nbytes
        before = highest = process.memory_info().rss
        while size < GIGABYTE:
            size += reader.read_next_batch().nbytes
            highest = max(highest, process.memory_info().rss)
        reader.close()
    assert highest - before < 150_000_000


@pytest.mark.slow
def test_memory_stays_flat_while_a_reader_is_slow(quiet: RunningServer) -> None:
    process = psutil.Process(quiet.process.pid)
    with Client(quiet.url) as client:
        reader = client.query(ENDLESS)
        reader.read_chunk()
        time.sleep(0.5)
        before = process.memory_info().rss
        time.sleep(1.5)
        assert process.memory_info().rss - before < 20_000_000
        assert processor_seconds(quiet, 0.5) < 0.2
        reader.cancel()


_READER = """
import sys, time
import pyarrow.flight as flight
url, token, ticket, pause = sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3]), float(sys.argv[4])
client = flight.FlightClient(url)
options = flight.FlightCallOptions(headers=[(b"authorization", token.encode())])
reader = client.do_get(flight.Ticket(ticket), options)
print("started", flush=True)
while True:
    reader.read_chunk()
    time.sleep(pause)
"""


@pytest.mark.parametrize(
    ("sql", "pause"), [(ENDLESS, 0.0), (ENDLESS, 3600.0), (HEAVY, 0.0)], ids=["reading", "stalled", "computing"]
)
def test_killed_client_stops_its_query(quiet: RunningServer, sql: str, pause: float) -> None:
    with Client(quiet.url) as client:
        ticket, token = client.ticket(sql).ticket.hex(), client.token[1].decode()
    command = [sys.executable, "-c", _READER, quiet.url, token, ticket, str(pause)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if sql == ENDLESS:
            assert process.stdout.readline() == b"started\n"
        wait_until(lambda: running(quiet) == 1, 10, "the query runs")
        time.sleep(0.5)
        assert running(quiet) == 1
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
    assert stopped_within(quiet) < INTERRUPT_SECONDS


@pytest.mark.parametrize("how", ["reader.cancel", "client.close", "cursor.close", "connection.close"])
def test_client_that_turns_away_stops_its_query(quiet: RunningServer, how: str) -> None:
    if how in ("reader.cancel", "client.close"):
        client = Client(quiet.url)
        flight_reader = client.query(ENDLESS)
        flight_reader.read_chunk()
        assert running(quiet) == 1
        if how == "reader.cancel":
            flight_reader.cancel()
            assert stopped_within(quiet) < INTERRUPT_SECONDS
        del flight_reader
        client.close()
        del client
    else:
        connection = quiet.connect()
        cursor = connection.cursor()
        cursor.execute(ENDLESS)
        reader = cursor.fetch_record_batch()
        reader.read_next_batch()
        assert running(quiet) == 1
        reader.close()
        cursor.close()
        if how == "connection.close":
            connection.close()
        assert stopped_within(quiet) < INTERRUPT_SECONDS
        connection.close()
    assert stopped_within(quiet) < INTERRUPT_SECONDS


@pytest.mark.parametrize("sql", [ENDLESS, HEAVY], ids=["streaming", "computing"])
def test_passed_deadline_stops_the_query(quiet: RunningServer, sql: str) -> None:
    before = Numbers(quiet).total("flightsql_calls_total", method="DoGet", code="DEADLINE_EXCEEDED")
    with Client(quiet.url) as client:
        ticket = client.ticket(sql)
        started = time.monotonic()
        with pytest.raises(flight.FlightTimedOutError):
            read_on(client.client.do_get(ticket, client.options(seconds=1.0)))
        assert 0.9 < time.monotonic() - started < 1.3
        assert stopped_within(quiet) < INTERRUPT_SECONDS
    after = Numbers(quiet).total("flightsql_calls_total", method="DoGet", code="DEADLINE_EXCEEDED")
    assert after == before + 1


@pytest.mark.slow
def test_computing_query_leaves_others_alone(quiet: RunningServer) -> None:
    def compute() -> None:
        with Client(quiet.url) as client, pytest.raises(flight.FlightTimedOutError):
            client.query(HEAVY, seconds=4).read_all()

    computing = threading.Thread(target=compute)
    computing.start()
    with Client(quiet.url) as other:
        wait_until(lambda: running(quiet) == 1, 5, "the heavy query runs")
        for number in range(20):
            started = time.monotonic()
            assert other.query(f"SELECT {number} AS n").read_all().column(0)[0].as_py() == number
            assert time.monotonic() - started < 1
        assert running(quiet) == 1
    computing.join(10)
    assert stopped_within(quiet) < INTERRUPT_SECONDS


@pytest.mark.slow
def test_cursors_stream_side_by_side(quiet: RunningServer) -> None:
    with quiet.connect() as connection:
        cursors = [connection.cursor() for _ in range(5)]
        for number, cursor in enumerate(cursors):
            cursor.execute(f"SELECT range * {number} AS n FROM range(300000)")
        readers = [cursor.fetch_record_batch() for cursor in cursors]
        tables: list[list[pa.RecordBatch]] = [[] for _ in readers]
        left = set(range(5))
        while left:
            for number in sorted(left):
                try:
                    tables[number].append(readers[number].read_next_batch())
                except StopIteration:
                    left.discard(number)
        for number, batches in enumerate(tables):
            column = pa.Table.from_batches(batches).column("n")
            assert len(column) == 300_000
            assert column[299_999].as_py() == 299_999 * number
        for cursor in cursors:
            cursor.close()


def test_statement_seconds_cover_the_whole_stream(limited: RunningServer) -> None:
    with Client(limited.url) as client:
        reader = client.query(ENDLESS)
        started = time.monotonic()
        with pytest.raises(flight.FlightTimedOutError, match=r"\[57014\].*2 seconds"):
            read_on(reader)
        assert 1.5 < time.monotonic() - started < 2.5


@pytest.mark.slow
def test_statement_seconds_end_a_computing_statement(limited: RunningServer) -> None:
    with Client(limited.url) as client:
        started = time.monotonic()
        with pytest.raises(flight.FlightTimedOutError, match=r"\[57014\]"):
            client.query(HEAVY).read_all()
        assert 1.5 < time.monotonic() - started < 2.5
        assert stopped_within(limited) < INTERRUPT_SECONDS


def test_statement_seconds_free_the_slot_of_a_stalled_reader(limited: RunningServer) -> None:
    with Client(limited.url) as client:
        reader = client.query(ENDLESS)
        started = time.monotonic()
        reader.read_chunk()
        wait_until(lambda: running(limited) == 0, 4, "the stalled reader's slot is freed")
        assert 1.5 < time.monotonic() - started < 2.5
        with pytest.raises(flight.FlightTimedOutError, match=r"\[57014\]"):
            read_on(reader)


def test_too_many_statements_are_refused(limited: RunningServer) -> None:
    before = Numbers(limited)
    with Client(limited.url) as client:
        holding = [client.query(ENDLESS) for _ in range(2)]
        for reader in holding:
            reader.read_chunk()
        outcome: list[BaseException] = []

        def wait() -> None:
            try:
                client.query("SELECT 41 + 1").read_all()
            except pa.ArrowException as error:
                outcome.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        wait_until(lambda: Numbers(limited).total("flightsql_queries_waiting") == 1, 5, "one waits")
        started = time.monotonic()
        with pytest.raises(pa.ArrowException, match=r"\[53300\].*waiting already"):
            client.query("SELECT 43").read_all()
        assert time.monotonic() - started < 0.5
        waiting.join(5)
        assert "[53300]" in str(outcome[0])
        assert "waited too long" in str(outcome[0])
        assert running(limited) == 2
        for reader in holding:
            reader.cancel()
        assert stopped_within(limited) < INTERRUPT_SECONDS
        assert client.query("SELECT 44 AS n").read_all().to_pydict() == {"n": [44]}
    after = Numbers(limited)
    for name in ("query.queue", "query.queue_seconds"):
        labels = {"limit": name}
        assert after.total("flightsql_limits_hit_total", **labels) == 1 + before.total(
            "flightsql_limits_hit_total", **labels
        )
    code = {"method": "DoGet", "code": "RESOURCE_EXHAUSTED"}
    assert after.total("flightsql_calls_total", **code) == 2 + before.total("flightsql_calls_total", **code)
    assert after.total("flightsql_queries_waiting") == 0


def test_waiting_client_that_leaves_frees_its_place(limited: RunningServer) -> None:
    with Client(limited.url) as client:
        holding = [client.query(ENDLESS) for _ in range(2)]
        for reader in holding:
            reader.read_chunk()
        with pytest.raises(flight.FlightTimedOutError):
            client.query("SELECT 45", seconds=0.3).read_all()
        wait_until(lambda: Numbers(limited).total("flightsql_queries_waiting") == 0, 0.5, "nobody waits")
        for reader in holding:
            reader.cancel()


@pytest.mark.slow
def test_results_have_their_limits(tmp_path: Path) -> None:
    with (
        server_with(tmp_path / "data", query_result_rows=1000, query_result_bytes=500_000) as server,
        Client(server.url) as client,
    ):
        assert client.query("SELECT * FROM range(1000)").read_all().num_rows == 1000
        with pytest.raises(pa.ArrowException, match=r"\[54000\].*1000 rows"):
            client.query("SELECT * FROM range(1001)").read_all()
        with pytest.raises(pa.ArrowException, match=r"\[54000\].*500000 bytes"):
            client.query("SELECT repeat('x', 1000) AS x FROM range(900)").read_all()
        numbers = Numbers(server)
        assert numbers.total("flightsql_limits_hit_total", limit="query.result_rows") == 1
        assert numbers.total("flightsql_limits_hit_total", limit="query.result_bytes") == 1
        # A call is counted when it has ended, a moment after the client has heard of it.
        refused = {"method": "DoGet", "code": "RESOURCE_EXHAUSTED"}
        wait_until(lambda: Numbers(server).total("flightsql_calls_total", **refused) == 2, 5, "both are counted")


def test_a_row_that_no_client_could_take_is_refused(tmp_path: Path) -> None:
    with (
        server_with(tmp_path / "data", query_row_bytes=4 * 1024 * 1024) as server,
        server.connect() as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT repeat('x', 3000000) FROM range(5)")
        assert len(cursor.fetchall()) == 5
        cursor.execute("SELECT repeat('x', 5000000)")
        with pytest.raises(adbc_driver_manager.Error, match="54000"):
            cursor.fetchall()
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
