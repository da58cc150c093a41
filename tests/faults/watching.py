"""What the fault tests watch a server with: its own numbers, its processor time, its clients' calls."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyarrow.flight as flight
from prometheus_client.parser import text_string_to_metric_families

from tests.running import CONFIG, RunningServer, add_users

ENDLESS = "SELECT * FROM range(1000000000000)"
# No row comes before an hour has passed: only an interrupt ends it.
HEAVY = "SELECT sum(a.range * b.range % 7) AS n FROM range(10000000) AS a, range(10000000) AS b"


@contextmanager
def server_with(data_dir: Path, **settings: object) -> Iterator[RunningServer]:
    """A server with the test users, and settings such as ``query_seconds=2``; stopped at the end of the block."""
    server = start_server(data_dir, **settings)
    try:
        yield server
    finally:
        server.stop()


def start_server(data_dir: Path, **settings: object) -> RunningServer:
    """The same, for tests that end the server themselves."""
    add_users(data_dir)
    config = data_dir / "test.toml"
    config.write_text(CONFIG, encoding="utf-8")
    environment = {**os.environ, **{f"FLIGHTSQL_{name.upper()}": str(value) for name, value in settings.items()}}
    return RunningServer(data_dir, "--config", str(config), environment=environment)


def http(server: RunningServer, path: str, accept: str = "") -> tuple[int, str]:
    """Status and text of an answer of the HTTP side."""
    request = urllib.request.Request(server.http + path, headers={"Accept": accept} if accept else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Numbers:
    """Every sample of one scrape."""

    def __init__(self, server: RunningServer) -> None:
        families = text_string_to_metric_families(http(server, "/metrics")[1])
        self.samples = [(s.name, s.labels, s.value) for family in families for s in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name that carry these labels; 0 when there are none."""
        return sum(value for _, value in self.by(name, **labels))

    def by(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each sample of that name that carries these labels."""
        return [
            (found, value)
            for known, found, value in self.samples
            if known == name and all(found.get(key) == wanted for key, wanted in labels.items())
        ]


def running(server: RunningServer) -> float:
    """How many statements run or stream now."""
    return Numbers(server).total("flightsql_queries_running")


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Waits for the condition and gives how long that took; fails after ``seconds``."""
    started = time.monotonic()
    while True:
        if condition():
            return time.monotonic() - started
        assert time.monotonic() - started < seconds, f"{what}: not within {seconds} s"
        time.sleep(0.01)


def processor_seconds(server: RunningServer, over: float = 0.4) -> float:
    """Processor time that the server takes during so many seconds."""
    process = psutil.Process(server.process.pid)
    before = process.cpu_times()
    time.sleep(over)
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system)


class Client:
    """A plain Flight SQL caller: queries by pyarrow, without a driver that hides statuses or reads ahead."""

    def __init__(self, url: str, user: str = "reader", token: tuple[bytes, bytes] | None = None) -> None:
        self.client = flight.FlightClient(url)
        self.token = token or self.client.authenticate_basic_token(user, user)

    def options(self, seconds: float | None = None) -> flight.FlightCallOptions:
        """What each call needs; with a deadline if one is given."""
        if seconds is None:
            return flight.FlightCallOptions(headers=[self.token])
        return flight.FlightCallOptions(headers=[self.token], timeout=seconds)

    def ticket(self, sql: str) -> flight.Ticket:
        """The ticket of a query."""
        descriptor = flight.FlightDescriptor.for_command(_query_command(sql))
        return self.client.get_flight_info(descriptor, self.options()).endpoints[0].ticket

    def query(self, sql: str, seconds: float | None = None) -> flight.FlightStreamReader:
        """The rows of a query, unread."""
        return self.client.do_get(self.ticket(sql), self.options(seconds))

    def close(self) -> None:
        self.client.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _query_command(sql: str) -> bytes:
    """CommandStatementQuery in an Any, byte by byte: the tests' own hand, not the server's code."""
    text = sql.encode()
    inner = b"\x0a" + _length(len(text)) + text
    name = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    return b"\x0a" + _length(len(name)) + name + b"\x12" + _length(len(inner)) + inner


def _length(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])
