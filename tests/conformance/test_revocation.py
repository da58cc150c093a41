"""Calls that run end within seconds when their credential no longer counts, whoever took it away."""

from __future__ import annotations

import base64
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from flightsql_auth.service_tokens import ServiceTokens
from flightsql_auth.store import StateStore

from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol import flight_sql_pb2 as sql
from flightsql_server.protocol.actions import packed
from tests.commands import run
from tests.conformance.clients import metric
from tests.conformance.putting import messages
from tests.conformance.raw import Raw
from tests.running import RunningServer, running_server

WITHIN_SECONDS = 10.0
_ENDLESS = "SELECT sum(a.range * b.range) AS n FROM range(10000000) a, range(10000000) b"
_PUT = "/arrow.flight.protocol.FlightService/DoPut"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose users these tests may log out."""
    with running_server(tmp_path_factory.mktemp("revocation")) as server:
        yield server


class Calling:
    """A call in a thread of its own, that waits for its end."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._outcome: queue.Queue[BaseException | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], object]) -> None:
        try:
            call()
            self._outcome.put(None)
        except BaseException as error:
            self._outcome.put(error)

    def runs(self) -> bool:
        return self._outcome.empty()

    def refused(self, words: str) -> None:
        """Waits until the server has ended it, and checks how it said so."""
        error = self._outcome.get(timeout=WITHIN_SECONDS)
        assert isinstance(error, grpc.RpcError), error
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED, error
        assert "[28000]" in error.details()
        assert words in error.details()
        self._thread.join(10)


def _wait(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _reading(server: RunningServer, session: Raw) -> Calling:
    """A DoGet that computes for ever, and has begun."""
    before = metric(server, "flightsql_queries_running")
    info = session.info(_ENDLESS)
    calling = Calling(lambda: session.fetch(info))
    _wait(lambda: metric(server, "flightsql_queries_running") > before)
    return calling


def _writing(server: RunningServer, authorization: str) -> Calling:
    """A DoPut whose first batch is acknowledged, and that sends nothing more."""
    begun, over = threading.Event(), threading.Event()
    schema = pa.schema(
        [
            ("symbol", pa.string()),
            *((name, pa.float64()) for name in ("bid_price", "ask_price", "last_price")),
            ("volume", pa.int64()),
            ("timestamp", pa.timestamp("us", "UTC")),
        ]
    )
    batch = pa.RecordBatch.from_pylist([{"symbol": "HELD", "timestamp": 0}], schema=schema)

    def sent() -> Iterator[bytes]:
        first, *rest = messages([batch])
        first.flight_descriptor.CopyFrom(wire.FlightDescriptor(type=wire.FlightDescriptor.PATH, path=["market_data"]))
        yield from (one.SerializeToString() for one in (first, *rest))
        over.wait(60)

    def put() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            try:
                for _ in channel.stream_stream(_PUT)(sent(), metadata=(("authorization", authorization),), timeout=60):
                    begun.set()
            finally:
                over.set()

    calling = Calling(put)
    assert begun.wait(WITHIN_SECONDS)
    return calling


def _token(server: RunningServer, name: str, role: str, *, seconds: float = 3_600) -> str:
    """A service token made by another process than the server's."""
    store = StateStore(server.data_dir / "state.sqlite")
    try:
        now = time.time()
        return ServiceTokens(store).create(name, [role], now=now, expires_at=now + seconds)
    finally:
        store.close()


def _session_of(server: RunningServer, token: str) -> str:
    """The header of the session that a handshake with this bearer makes."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        shake = channel.stream_stream("/arrow.flight.protocol.FlightService/Handshake")
        (answer,) = shake(iter(()), metadata=(("authorization", f"Bearer {token}"),), timeout=30)
    return "Bearer " + wire.HandshakeResponse.FromString(answer).payload.decode()


def _command(server: RunningServer, *arguments: str) -> None:
    result = run(*arguments, "--data-dir", str(server.data_dir))
    assert result.returncode == 0, result.stderr


def _as(session: Any) -> str:
    """The header that a session of ``Raw`` sends."""
    return str(session._metadata[0][1])


# ---- who took it away


def test_a_logout_ends_what_a_user_s_sessions_do_and_nothing_else(own: RunningServer) -> None:
    reader, feed, other = Raw(own, "reader"), Raw(own, "feed"), Raw(own, "viewer")
    reading, bystander = _reading(own, reader), _reading(own, other)
    writing = _writing(own, _as(feed))
    _command(own, "user", "logout", "reader")
    reading.refused("the session has ended: log in again")
    assert writing.runs()
    _command(own, "user", "logout", "feed")
    writing.refused("the session has ended: log in again")
    assert bystander.runs()
    assert reader.outcome("DoAction", wire.Action(type="HealthCheck"))[0] == "UNAUTHENTICATED"
    again = Raw(own, "reader")
    assert again.outcome("DoAction", wire.Action(type="HealthCheck"))[0] == "OK"
    _command(own, "user", "logout", "viewer")
    bystander.refused("the session has ended")
    assert metric(own, 'flightsql_ended_calls_total{outcome="revoked"}') >= 3
    for session in (reader, feed, other, again):
        session.close()


def test_a_disabled_user_s_calls_end_however_it_logged_in(own: RunningServer) -> None:
    session = Raw(own, "maker")
    password = base64.b64encode(b"maker:maker").decode()
    every_time = Raw(own, authorization=f"Basic {password}")
    calls = [_reading(own, session), _reading(own, every_time)]
    _command(own, "user", "disable", "maker")
    try:
        for call in calls:
            call.refused("the session has ended: log in again")
    finally:
        _command(own, "user", "enable", "maker")
        session.close()
        every_time.close()


def test_an_administrator_kills_a_session(own: RunningServer) -> None:
    admin, session = Raw(own, "admin"), Raw(own, "reader")
    reading = _reading(own, session)
    with own.connect("admin") as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT session_id FROM ops.queries WHERE statement = '{_ENDLESS}'")
        (row,) = cursor.fetchall()
    started = time.monotonic()
    assert admin.act("KillSession", row[0].encode()) == []
    reading.refused("the session has ended: log in again")
    assert time.monotonic() - started < WITHIN_SECONDS
    admin.close()
    session.close()


def test_a_revoked_service_token_ends_its_calls_and_those_of_its_sessions(own: RunningServer) -> None:
    token = _token(own, "desk", "feed")
    bare = Raw(own, authorization=f"Bearer {token}")
    session = Raw(own, authorization=_session_of(own, token))
    calls = [_reading(own, bare), _writing(own, f"Bearer {token}")]
    of_session = _reading(own, session)
    _command(own, "token", "revoke", "desk")
    for call in calls:
        call.refused("the service token was revoked: ask the server's administrator")
    of_session.refused("the session has ended")
    code, words = bare.outcome("DoAction", wire.Action(type="HealthCheck"))
    assert (code, "was revoked" in words) == ("UNAUTHENTICATED", True)
    bare.close()
    session.close()


@pytest.mark.slow
def test_the_end_of_a_token_or_a_session_ends_its_calls(own: RunningServer) -> None:
    token = _token(own, "short", "reader", seconds=6)
    bare, session = Raw(own, authorization=f"Bearer {token}"), Raw(own, authorization=_session_of(own, token))
    for call in [_reading(own, bare), _reading(own, session)]:
        call.refused("the token has expired: log in again")
    code, words = bare.outcome("DoAction", wire.Action(type="HealthCheck"))
    assert (code, "the service token has expired" in words) == ("UNAUTHENTICATED", True)
    bare.close()
    session.close()


def test_keys_that_are_withdrawn_end_the_calls_of_their_tokens(own: RunningServer) -> None:
    session = Raw(own, "reader")
    reading = _reading(own, session)
    _command(own, "keys", "rotate")
    time.sleep(2.5)
    assert reading.runs(), "a rotation as such ends nothing"
    _command(own, "keys", "rotate", "--overlap-seconds", "0")
    reading.refused("the session has ended: log in again")
    code, words = session.outcome("DoAction", wire.Action(type="HealthCheck"))
    assert (code, "log in again" in words) == ("UNAUTHENTICATED", True)
    again = Raw(own, "reader")
    assert again.outcome("DoAction", wire.Action(type="HealthCheck"))[0] == "OK"
    session.close()
    again.close()


# ---- what was running


def test_a_transaction_ends_with_its_owner_s_credential(own: RunningServer) -> None:
    """One whose statement runs, and one that does nothing just now: what it has changed is rolled back."""
    _command(own, "token", "create", "book", "--role", "maker", "--days", "1")
    _command(own, "token", "revoke", "book")
    token = _token(own, "book", "maker")
    first, second = (Raw(own, authorization=f"Bearer {token}") for _ in range(2))

    def begin(session: Raw) -> bytes:
        (begun,) = session.act("BeginTransaction", packed(sql.ActionBeginTransactionRequest()))
        return begun[-16:]

    idle, busy = begin(first), begin(second)
    assert first.put(sql.CommandStatementUpdate(query="CREATE TABLE t (a INT)", transaction_id=idle)) == 0
    assert metric(own, "flightsql_transactions") == 2
    command = packed(sql.CommandStatementQuery(query=_ENDLESS, transaction_id=busy))
    descriptor = wire.FlightDescriptor(type=wire.FlightDescriptor.CMD, cmd=command)
    running = Calling(lambda: second.call("GetFlightInfo", descriptor, wire.FlightInfo))
    time.sleep(0.5)
    _command(own, "token", "revoke", "book")
    running.refused("the service token was revoked")
    _wait(lambda: metric(own, "flightsql_transactions") == 0)
    first.close()
    second.close()


def test_a_reader_that_stalls_is_let_go_as_well(own: RunningServer) -> None:
    session = Raw(own, "feed")
    info = session.info("SELECT range AS n, repeat('x', 1000) AS text FROM range(100000000)")
    stream = session.call("DoGet", info.endpoint[0].ticket)
    next(stream)
    _wait(lambda: metric(own, "flightsql_queries_running") == 1)
    _command(own, "user", "logout", "feed")
    _wait(lambda: metric(own, "flightsql_queries_running") == 0)
    with pytest.raises(grpc.RpcError) as refused:
        for _ in stream:
            pass
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    session.close()


def test_a_client_that_closes_its_session_hears_so(own: RunningServer) -> None:
    """The call that ends the session is not ended by it."""
    for _ in range(20):
        session = Raw(own, "viewer")
        (body,) = session.act("CloseSession", b"")
        assert wire.CloseSessionResult.FromString(body).status == wire.CloseSessionResult.CLOSED
        session.close()


@pytest.mark.covers("pyarrow", "TicketStatementQuery")
def test_a_driver_shows_why_its_rows_ended(own: RunningServer) -> None:
    client, options = own.flight("reader")
    command = packed(sql.CommandStatementQuery(query="SELECT range AS n FROM range(10000000000)"))
    with client:
        info = client.get_flight_info(flight.FlightDescriptor.for_command(command), options)
        reader = client.do_get(info.endpoints[0].ticket, options)
        reader.read_chunk()
        _command(own, "user", "logout", "reader")
        _wait(lambda: metric(own, "flightsql_queries_running") == 0)
        with pytest.raises(flight.FlightUnauthenticatedError, match=r"\[28000\] the session has ended: log in again"):
            reader.read_all()
