"""What the server says it counted, against what was really done and what a proxy saw on the wire."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families
from prometheus_client.parser import text_string_to_metric_families

from flightsql_server.client import Publisher
from tests.faults.proxy import Proxy
from tests.faults.watching import ENDLESS, Client, Numbers, http, running, server_with, wait_until
from tests.running import RunningServer

MEGABYTE = 1_000_000
# HTTP/2 frames, headers and window updates of one unary call: what is seen but never counted. The bearer is sent anew
# with each call, and takes fewer bytes there than it has letters.
OVERHEAD_UP = 100
OVERHEAD_DOWN = 100
STOCK = (
    "grpc_server_started_total",
    "grpc_server_handled_total",
    "grpc_server_msg_received_total",
    "grpc_server_msg_sent_total",
    "grpc_server_handling_seconds_bucket",
    "grpc_server_handling_seconds_count",
    "grpc_server_handling_seconds_sum",
)


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that nobody else calls; its tests look at differences."""
    with server_with(tmp_path_factory.mktemp("counted") / "data") as server:
        yield server


def quotes(rows: int, day: int = 5) -> pa.RecordBatch:
    """Rows of market_data over 500 symbols."""
    at = int(datetime(2026, 1, day, tzinfo=UTC).timestamp() * 1e6)
    prices = np.random.default_rng(7).uniform(1, 100, rows)
    columns = {
        "symbol": pa.array([f"S{number % 500:05}" for number in range(rows)]),
        "bid_price": pa.array(prices),
        "ask_price": pa.array(prices + 1),
        "last_price": pa.array(prices),
        "volume": pa.array(range(rows), pa.int64()),
        "timestamp": pa.array(range(at, at + rows), pa.timestamp("us", "UTC")),
    }
    return pa.RecordBatch.from_pydict(columns)


def bytes_counted(server: RunningServer) -> tuple[float, float]:
    """Bytes received and sent, over all calls."""
    numbers = Numbers(server)
    return numbers.total("flightsql_received_bytes_total"), numbers.total("flightsql_sent_bytes_total")


def all_ended(server: RunningServer) -> None:
    """Waits until every call that started is counted as ended."""

    def ended() -> bool:
        numbers = Numbers(server)
        return numbers.total("grpc_server_started_total") == numbers.total("grpc_server_handled_total")

    wait_until(ended, 5, "every call ends")


def test_bytes_agree_with_the_wire(counted: RunningServer) -> None:
    with Proxy(counted.port) as proxy:
        # 32 MB on their way out.
        with Client(proxy.url) as client:
            up, down = proxy.settled()
            received, sent = bytes_counted(counted)
            assert client.query("SELECT * FROM range(4000000)").read_all().num_rows == 4_000_000
            all_ended(counted)
            seen = proxy.settled()[1] - down
            told = bytes_counted(counted)[1] - sent
            assert told > 30 * MEGABYTE
            print(f"DoGet: {seen} bytes seen, {told:.0f} counted: {seen / told - 1:+.3%}")
            assert 0 <= seen - told < 0.02 * seen
        # 17 MB on their way in.
        up, down = proxy.settled()
        received, sent = bytes_counted(counted)
        with Publisher(proxy.url, "market_data", user="feed", password="feed") as publisher:
            list(publisher.publish_all(quotes(20_000) for _ in range(16)))
            assert publisher.rows == 320_000
        all_ended(counted)
        seen = proxy.settled()[0] - up
        told = bytes_counted(counted)[0] - received
        assert told > 15 * MEGABYTE
        print(f"DoPut: {seen} bytes seen, {told:.0f} counted: {seen / told - 1:+.3%}")
        assert 0 <= seen - told < 0.02 * seen


def test_small_calls_cost_a_bounded_overhead(counted: RunningServer) -> None:
    calls = 200
    with Proxy(counted.port) as proxy, Client(proxy.url) as client:
        client.ticket("SELECT 1 AS one")
        all_ended(counted)
        up, down = proxy.settled()
        received, sent = bytes_counted(counted)
        for _ in range(calls):
            client.ticket("SELECT 1 AS one")
        all_ended(counted)
        seen_up, seen_down = proxy.settled()
        told_in, told_out = bytes_counted(counted)
        overhead_up = (seen_up - up - (told_in - received)) / calls
        overhead_down = (seen_down - down - (told_out - sent)) / calls
        print(f"a unary call: {overhead_up:.1f} bytes of overhead up, {overhead_down:.1f} down")
        assert 0 < overhead_up < OVERHEAD_UP + len(client.token[1])
        assert 0 < overhead_down < OVERHEAD_DOWN


def test_long_streams_are_counted_while_they_run(counted: RunningServer) -> None:
    """A publisher's stream or an endless result may last for days: its bytes must not wait for its end."""
    before = Numbers(counted)

    def since(name: str, **labels: str) -> float:
        return Numbers(counted).total(name, **labels) - before.total(name, **labels)

    with Client(counted.url) as client:
        reader = client.query(ENDLESS)
        reading_until = time.monotonic() + 1.5
        got = 0
        while time.monotonic() < reading_until:
            got += reader.read_chunk().data.nbytes
        assert running(counted) == 1
        assert since("flightsql_sent_bytes_total", method="DoGet") > got / 10
        assert since("grpc_server_msg_sent_total", grpc_method="DoGet") > 1
        reader.cancel()
    publisher = Publisher(counted.url, "market_data", user="feed", password="feed")
    batch = quotes(1000)
    for _ in range(3):
        publisher.publish(batch)
        time.sleep(0.6)
    assert since("grpc_server_handled_total", grpc_method="DoPut") == 0
    assert since("flightsql_received_bytes_total", method="DoPut") > 2 * batch.nbytes
    publisher.close()
    all_ended(counted)
    assert since("grpc_server_msg_sent_total", grpc_method="DoPut") == 3
    assert 3 * batch.nbytes < since("flightsql_received_bytes_total", method="DoPut") < 3.2 * batch.nbytes


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[RunningServer]:
    """A server that nobody has called yet."""
    with server_with(tmp_path / "data") as server:
        yield server


def test_counters_match_what_was_done(fresh: RunningServer) -> None:
    with Client(fresh.url) as client, Client(fresh.url, "viewer") as viewer:
        for rows in (0, 1, 10, 70_000):
            assert client.query(f"SELECT * FROM range({rows})").read_all().num_rows == rows
        for _ in range(3):
            with pytest.raises(pa.ArrowInvalid, match=r"\[42601\]"):
                client.ticket("SELEC 1")
        for _ in range(2):
            with pytest.raises(pa.ArrowKeyError, match=r"\[42P01\]"):
                viewer.ticket("SELECT * FROM orders")
        for password in ("no", "neither", "still not"):
            stranger = flight.FlightClient(fresh.url)
            with pytest.raises(flight.FlightUnauthenticatedError):
                stranger.authenticate_basic_token("reader", password)
            stranger.close()
        nobody = Client(fresh.url, token=(b"authorization", b"Bearer rubbish"))
        for _ in range(4):
            with pytest.raises(flight.FlightUnauthenticatedError):
                nobody.ticket("SELECT 1")
        nobody.close()
        with Publisher(fresh.url, "market_data", user="feed", password="feed") as publisher:
            list(publisher.publish_all(quotes(100, day) for day in (5, 6, 6, 3, 4)))
            assert publisher.late_rows == 200
    all_ended(fresh)
    numbers = Numbers(fresh)

    def calls(**labels: str) -> float:
        return numbers.total("flightsql_calls_total", **labels)

    assert calls(method="DoGet", command="TicketStatementQuery", code="OK") == 4
    assert calls(method="GetFlightInfo", command="StatementQuery", code="OK") == 4
    assert calls(method="GetFlightInfo", command="StatementQuery", code="INVALID_ARGUMENT") == 3
    assert calls(method="GetFlightInfo", command="StatementQuery", code="NOT_FOUND") == 2
    assert calls(method="GetFlightInfo", code="UNAUTHENTICATED") == 4
    assert calls(method="Handshake", code="OK") == 3
    assert calls(method="Handshake", code="UNAUTHENTICATED") == 3
    assert calls(method="DoPut", code="OK") == 1
    assert calls() == 24
    assert numbers.total("flightsql_sent_rows_total", command="TicketStatementQuery") == 70_011
    assert numbers.total("flightsql_sent_rows_total") == 70_011
    assert numbers.total("flightsql_logins_total", outcome="ok") == 3
    assert numbers.total("flightsql_logins_total", outcome="bad_password") == 3
    assert numbers.total("flightsql_logins_total") == 6
    assert numbers.total("flightsql_refused_calls_total", outcome="bad_token") == 4
    assert numbers.total("flightsql_refused_calls_total") == 4
    assert numbers.total("flightsql_ingested_rows_total", dataset="market_data") == 500
    assert numbers.total("flightsql_late_rows_total", dataset="market_data") == 200
    assert numbers.total("flightsql_dataset_sequence", dataset="market_data") == 500
    assert numbers.total("flightsql_incidents_total") == 0
    assert "Traceback" not in "".join(fresh.output)
    _check_the_two_families_agree(numbers)


def _check_the_two_families_agree(numbers: Numbers) -> None:
    """Stock names and ours tell the same, each histogram has counted each call, nothing is in flight."""
    for name in STOCK:
        assert numbers.by(name), name
    for method in ("Handshake", "GetFlightInfo", "DoGet", "DoPut"):
        ended = numbers.total("flightsql_calls_total", method=method)
        assert ended == numbers.total("grpc_server_started_total", grpc_method=method)
        assert ended == numbers.total("grpc_server_handled_total", grpc_method=method)
        assert ended == numbers.total("grpc_server_handling_seconds_count", grpc_method=method)
        assert ended == numbers.total("flightsql_call_seconds_count", method=method)
        assert ended == numbers.total("flightsql_call_seconds_bucket", method=method, le="+Inf")
        assert numbers.total("flightsql_calls_in_flight", method=method) == 0
    assert numbers.total("flightsql_queries_running") == numbers.total("flightsql_queries_waiting") == 0
    assert numbers.total("flightsql_ingest_waiting_batches") == 0


def test_metrics_parse_in_both_formats(counted: RunningServer) -> None:
    with Client(counted.url) as client:
        client.query("SELECT 1").read_all()
    plain = list(text_string_to_metric_families(http(counted, "/metrics")[1]))
    accept = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    status, text = http(counted, "/metrics", accept)
    assert status == 200
    assert text.endswith("# EOF\n")
    opened = list(open_metrics_families(text))
    names = {sample.name for family in opened for sample in family.samples}
    assert names == {sample.name for family in plain for sample in family.samples}
    assert {"flightsql_calls_total", "flightsql_build_info", "process_cpu_seconds_total"} <= names
    assert http(counted, "/livez") == (200, "ok\n")
    assert http(counted, "/readyz") == (200, "ok\n")
    assert http(counted, "/nothing")[0] == 404
