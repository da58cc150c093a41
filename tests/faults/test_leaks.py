"""Sessions come and go by the thousand, mostly without a goodbye, and leave nothing behind."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import psutil
import pyarrow.flight as flight
import pytest
from google.protobuf import any_pb2

from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol import flight_sql_pb2 as sql
from flightsql_server.protocol.actions import packed
from tests.running import RunningServer, running_server

_THREADS = 4
_SERVICE = "/arrow.flight.protocol.FlightService/"


class _Session:
    """One login and what it asks, on a channel that others use as well."""

    def __init__(self, server: RunningServer, channel: grpc.Channel) -> None:
        with flight.FlightClient(server.url) as client:
            name, value = client.authenticate_basic_token("maker", "maker")
        self._metadata = ((name.decode(), value.decode()),)
        self._channel = channel

    def unary(self, method: str, message: Any, kind: Any) -> Any:
        call = self._channel.unary_unary(_SERVICE + method)
        return kind.FromString(call(message.SerializeToString(), metadata=self._metadata, timeout=60))

    def stream(self, method: str, message: Any) -> list[bytes]:
        call = self._channel.unary_stream(_SERVICE + method)
        return list(call(message.SerializeToString(), metadata=self._metadata, timeout=60))

    def run(self, command: Any) -> int:
        descriptor = wire.FlightDescriptor(type=wire.FlightDescriptor.CMD, cmd=packed(command))
        info = self.unary("GetFlightInfo", descriptor, wire.FlightInfo)
        return len(self.stream("DoGet", info.endpoint[0].ticket))

    def prepare(self, text: str) -> bytes:
        body = packed(sql.ActionCreatePreparedStatementRequest(query=text))
        (message,) = self.stream("DoAction", wire.Action(type="CreatePreparedStatement", body=body))
        found = sql.ActionCreatePreparedStatementResult()
        wire_any = wire.Result.FromString(message).body
        any_pb2.Any.FromString(wire_any).Unpack(found)
        return found.prepared_statement_handle


def _use(session: _Session, statements: int) -> None:
    """A desk's day in short: queries, prepared ones left open, changes, a transaction left open."""
    for number in range(statements - 4):
        session.run(sql.CommandStatementQuery(query=f"SELECT {number % 7} AS n, symbol FROM market_data LIMIT 1"))
    handle = session.prepare("SELECT count(*) FROM market_data")
    session.run(sql.CommandPreparedStatementQuery(prepared_statement_handle=handle))
    session.run(sql.CommandStatementQuery(query="BEGIN"))
    session.run(sql.CommandStatementQuery(query="INSERT INTO used VALUES (1)"))


def _many(server: RunningServer, sessions: int, statements: int) -> None:
    channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
    failed: list[BaseException] = []

    def work(count: int) -> None:
        try:
            for _ in range(count):
                _use(_Session(server, channel), statements)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(sessions // _THREADS,)) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    channel.close()
    assert not failed, failed[:3]


def _metric(server: RunningServer, name: str) -> float:
    with urllib.request.urlopen(f"{server.http}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line.rsplit(" ", 1)[1] for line in lines if line.startswith(name + " ")))


def _settled(look: Callable[[], float], wanted: float, seconds: float = 90) -> float:
    until = time.monotonic() + seconds
    while look() > wanted and time.monotonic() < until:
        time.sleep(0.5)
    return look()


def _state(server: RunningServer) -> dict[str, float]:
    process = psutil.Process(server.process.pid)
    return {
        "memory_mib": process.memory_info().rss / 2**20,
        "threads": process.num_threads(),
        "files": process.num_fds(),
    }


def _check(tmp_path: Path, warm: int, sessions: int, statements: int, growth_mib: float) -> None:
    config = tmp_path / "test.toml"
    config.write_text(
        "[transaction]\nper_user = 1000\nidle_seconds = 1.0\n[login]\nsessions_per_user = 200\n"
        '[roles.maker]\nselect = ["*"]\ncreate = true\n'
    )
    with running_server(tmp_path) as server:
        with server.connect("maker") as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE used (a INT)")
        _many(server, warm, statements)
        _settled(lambda: _metric(server, "flightsql_transactions"), 0)
        before = _state(server)
        _many(server, sessions, statements)
        left = {
            "transactions": _settled(lambda: _metric(server, "flightsql_transactions"), 0),
            "prepared": _settled(lambda: _metric(server, "flightsql_prepared_statements"), 200),
            "sessions": _metric(server, "flightsql_sessions"),
        }
        after = _state(server)
        print(f"{sessions} sessions of {statements} statements: before {before}, after {after}, left {left}")
        assert left["transactions"] == 0
        assert left["prepared"] <= 200, "those of the sessions that live"
        assert left["sessions"] <= 201
        assert after["threads"] <= before["threads"] + 2
        assert after["files"] <= before["files"] + 10
        assert after["memory_mib"] <= before["memory_mib"] + growth_mib


@pytest.mark.slow
def test_a_hundred_sessions_leave_nothing(tmp_path: Path) -> None:
    _check(tmp_path, 20, 60, 10, 60)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_sessions_leave_nothing(tmp_path: Path) -> None:
    _check(tmp_path, 100, 1_000, 100, 80)
