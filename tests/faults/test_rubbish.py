"""Whatever is sent: the answer is a proper status, it tells nothing of the inside, and the server lives."""

from __future__ import annotations

import random
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pyarrow as pa
import pytest

from flightsql_server.client import Publisher
from flightsql_server.protocol import flight_pb2 as flight
from flightsql_server.protocol import flight_sql_pb2 as sql
from flightsql_server.protocol.interceptors import SERVICE
from flightsql_server.protocol.service import METHODS
from tests.conftest import FULL, fill
from tests.faults.rubbish import SQL_TEXTS, Kind, choices, headers, packed, streams, unary
from tests.running import RunningServer, running_server

SEED = random.randrange(2**32)
SECRET = "ZZ-4711-SECRET"
ROOT = Path(__file__).parents[2]
INSIDE = re.compile(
    r"Traceback|\bFile \"|\.py\b|site-packages|(?i:duckdb|sqlglot|pyarrow|asyncio)|/home/|/root/|/usr/|LINE \d+:"
    rf"|{re.escape(SECRET)}|{re.escape(str(ROOT))}"
)
# The default dialect bears the engine's name, and the server names the dialects that it knows.
_DIALECTS = re.compile(r"There are: (?:[a-z0-9_]+, )+[a-z0-9_]+\.|does not read as duckdb")
NEVER = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS}
# These read well, bind well, and fail on the rows.
FAILING = (
    "SELECT CAST(symbol AS INTEGER) FROM market_data",
    "SELECT CAST(symbol AS DATE) FROM market_data ORDER BY 1",
    "SELECT CAST(symbol AS DECIMAL(4, 2)) FROM market_data WHERE symbol LIKE 'ZZ-%'",
    "SELECT CAST(symbol AS TIMESTAMP) FROM market_data WHERE symbol LIKE 'ZZ-%'",
    "SELECT (SELECT symbol FROM market_data)",
    "SELECT sum(CAST(range AS TINYINT)) FROM range(100000)",
    "SELECT CAST(CASE WHEN range = 300000 THEN 'ZZ-4711-' || 'SECRET' ELSE '1' END AS INTEGER) FROM range(400000)",
    "SELECT regexp_matches(symbol, '(' || symbol) FROM market_data",
    "SELECT strptime(symbol, '%Y') FROM market_data",
)
GROWTH_BYTES = 100_000_000


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("rubbish")) as server:
        fill(server)
        row = {"symbol": SECRET, "bid_price": 1.0, "ask_price": None, "last_price": None, "volume": 1, "timestamp": 0}
        with Publisher(server.url, "market_data", user="admin", password="admin") as publisher:
            schema = pa.schema([("symbol", pa.string()), *((n, pa.float64()) for n in ("bid_price", "ask_price"))])
            schema = schema.append(pa.field("last_price", pa.float64())).append(pa.field("volume", pa.int64()))
            schema = schema.append(pa.field("timestamp", pa.timestamp("us", tz="UTC")))
            publisher.publish(pa.RecordBatch.from_pylist([row], schema=schema))
        yield server


class Caller:
    """A bare channel: bytes out, bytes in."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.port}", options)
        make = {
            "unary": self._channel.unary_stream,  # one answer or many: the wire is the same
            "server_stream": self._channel.unary_stream,
            "bidi_stream": self._channel.stream_stream,
        }
        self._calls = {name: make[kind](f"/{SERVICE}/{name}") for name, (kind, _) in METHODS.items()}
        self.codes: Counter[grpc.StatusCode] = Counter()
        self.wrong: list[str] = []
        self.answer = b""  # the first message of the last call's answer

    def token(self) -> str:
        call = self._calls["Handshake"](iter(()), metadata=(("authorization", "Basic YWRtaW46YWRtaW4="),), timeout=20)
        list(call)
        found = dict(call.initial_metadata())["authorization"]
        return str(found).removeprefix("Bearer ")

    def send(self, kind: Kind, more: tuple[tuple[str, str | bytes], ...]) -> grpc.StatusCode:
        """Makes the call, reads a bounded part of the answer, and notes what should not be in it."""
        bidi = METHODS[kind.method][0] == "bidi_stream"
        request = iter(kind.messages) if bidi else kind.messages[0]
        call = self._calls[kind.method](request, metadata=(*more, *kind.headers), timeout=20)
        self.answer = b""
        try:
            for number, message in enumerate(call):
                self.answer = self.answer or message
                if number > 20:
                    call.cancel()
        except grpc.RpcError:
            pass
        code = call.code()
        told = "\n".join(
            [call.details() or "", *(f"{key}: {value!r}" for key, value in call.trailing_metadata() or ())]
        )
        self.codes[code] += 1
        where = f"{kind.method}, {kind.label}: {code.name} {told[:300]}"
        if code in NEVER:
            self.wrong.append(where)
        if INSIDE.search(_DIALECTS.sub("", told).replace(str(self._server.data_dir), "/root/")):
            self.wrong.append(f"tells of the inside: {where}")
        if code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED) and not re.match(r"\[[0-9A-Z]{5}\] ", told):
            self.wrong.append(f"no SQLSTATE: {where}")
        return code

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def caller(target: RunningServer) -> Iterator[Caller]:
    made = Caller(target)
    yield made
    made.close()


def _resident(server: RunningServer) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


def _assert_alive(server: RunningServer, before: int) -> None:
    with server.connect("admin") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) > 500 FROM market_data")
        assert cursor.fetchone() == (True,)
    deadline = time.monotonic() + 5
    while _resident(server) - before > GROWTH_BYTES and time.monotonic() < deadline:
        time.sleep(0.2)
    assert _resident(server) - before < GROWTH_BYTES
    printed = "".join(server.output)
    assert "Traceback" not in printed, printed[printed.index("Traceback") - 500 :][:3_000]


def _kinds() -> list[Kind]:
    noise = random.Random(SEED)
    return [*unary(noise), *streams(noise)]


def _some(kinds: list[Kind], share: int) -> list[Kind]:
    """All of them in the full run, else every so many-th of each method."""
    return kinds if FULL else [kind for number, kind in enumerate(kinds) if number % share == SEED % share]


def test_there_are_many_kinds_for_every_call() -> None:
    kinds = _kinds()
    assert len({kind.label for kind in kinds}) > 500
    count = Counter(kind.method for kind in kinds)
    assert count.keys() == METHODS.keys()
    assert min(count.values()) > 60


def test_rubbish_from_one_who_may_do_everything(target: RunningServer, caller: Caller) -> None:
    """An admin's calls get past every door, so they reach the deepest."""
    bearer = (("authorization", f"Bearer {caller.token()}"),)
    before = _resident(target)
    for kind in _kinds():
        caller.send(kind, bearer)
    assert not caller.wrong, f"seed {SEED}\n" + "\n".join(caller.wrong[:40])
    expected = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"}
    assert {code.name for code in caller.codes} >= expected, caller.codes
    _assert_alive(target, before)


def test_sql_that_fails_while_it_runs(target: RunningServer, caller: Caller) -> None:
    """What the planner takes is run, and what fails then says nothing of the rows that it failed on."""
    bearer = (("authorization", f"Bearer {caller.token()}"),)
    before, failed = _resident(target), 0
    for text in (*SQL_TEXTS, "ROLLBACK", *FAILING):
        content = packed(sql.CommandStatementQuery(query=text))
        descriptor = flight.FlightDescriptor(type=flight.FlightDescriptor.CMD, cmd=content).SerializeToString()
        if caller.send(Kind("GetFlightInfo", text[:60], (descriptor,)), bearer) is grpc.StatusCode.OK:
            ticket = flight.FlightInfo.FromString(caller.answer).endpoint[0].ticket.SerializeToString()
            code = caller.send(Kind("DoGet", text[:60], (ticket,)), bearer)
            failed += code is not grpc.StatusCode.OK
    assert failed >= len(FAILING), "they are meant to fail late"
    assert not caller.wrong, "\n".join(caller.wrong[:40])
    _assert_alive(target, before)


def test_rubbish_from_a_stranger(target: RunningServer, caller: Caller) -> None:
    """Without a credential nothing is looked at: every answer is the same."""
    before = _resident(target)
    for kind in _some(_kinds(), 3):
        caller.send(kind, ())
    assert not caller.wrong, f"seed {SEED}\n" + "\n".join(caller.wrong[:40])
    assert caller.codes.keys() <= {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT}, caller.codes
    _assert_alive(target, before)


def test_rubbish_instead_of_a_credential(target: RunningServer, caller: Caller) -> None:
    before, noise = _resident(target), random.Random(SEED)
    good = {kind.method: kind for kind in _kinds() if kind.messages}
    for label, more in headers(caller.token(), noise):
        for method in METHODS:
            code = caller.send(good[method]._replace(method=method, label=label), more)
            refused = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED)
            assert code in refused, (label, method, code)
    assert not caller.wrong, f"seed {SEED}\n" + "\n".join(caller.wrong[:40])
    _assert_alive(target, before)


def test_rubbish_in_other_headers(target: RunningServer, caller: Caller) -> None:
    before, token = _resident(target), caller.token()
    for label, more in choices():
        for method in METHODS:
            caller.send(Kind(method, label, (b"",)), (("authorization", f"Bearer {token}"), *more))
    assert not caller.wrong, f"seed {SEED}\n" + "\n".join(caller.wrong[:40])
    _assert_alive(target, before)


def test_headers_beyond_the_limit_and_messages_beyond_it(target: RunningServer, caller: Caller) -> None:
    """What grpc itself refuses is told in grpc's own words: a status, and nothing of ours."""
    bearer = (("authorization", f"Bearer {caller.token()}"),)
    before = _resident(target)
    huge = tuple((f"x-{n}", "y" * 8_000) for n in range(40))
    assert caller.send(Kind("ListFlights", "huge headers", (b"",)), (*bearer, *huge)) in (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
    )
    assert caller.send(Kind("GetFlightInfo", "huge message", (bytes(65 * 1024 * 1024),)), bearer) is (
        grpc.StatusCode.RESOURCE_EXHAUSTED
    )
    assert not [text for text in caller.wrong if "no SQLSTATE" not in text], caller.wrong
    _assert_alive(target, before)


def test_methods_that_do_not_exist(target: RunningServer) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{target.port}") as channel:
        for path in (f"/{SERVICE}/Nothing", "/nothing/Nothing", f"/{SERVICE}/", "/", f"/{SERVICE}/handshake"):
            with pytest.raises(grpc.RpcError) as failure:
                channel.unary_unary(path)(b"", timeout=20)
            assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


def test_bytes_that_are_no_http2(target: RunningServer) -> None:
    before, noise = _resident(target), random.Random(SEED)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for start in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", preface, b"\x16\x03\x01", bytes(9)):
        for size in (0, 9, 1_000, 100_000):
            with socket.create_connection(("127.0.0.1", target.port), timeout=5) as connection:
                try:
                    connection.sendall(start + noise.randbytes(size))
                except OSError:
                    continue
    _assert_alive(target, before)
