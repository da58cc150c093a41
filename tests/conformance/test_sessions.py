"""Session options, cancelling, renewing and polling, as drivers and by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from adbc_driver_manager import Error as DriverError

from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol import flight_sql_pb2 as sql
from flightsql_server.protocol.actions import packed
from tests.conformance.clients import metric
from tests.conformance.raw import Raw
from tests.running import RunningServer, running_server

_ENDLESS = "SELECT sum(a.range * b.range) AS n FROM range(10000000) a, range(10000000) b"


@pytest.fixture
def raw(server: RunningServer) -> Iterator[Raw]:
    made = Raw(server)
    yield made
    made.close()


# ---- options


@pytest.mark.covers("grpc", "SetSessionOptions", "GetSessionOptions")
def test_every_option_is_kept_and_told(raw: Raw) -> None:
    chosen: dict[str, str | int | float] = {
        "catalog": "desk",
        "schema": "main",
        "dialect": "postgres",
        "time_zone": "Europe/Vienna",
        "wire_profile": "grafana",
        "compression": "lz4",
        "statement_timeout_seconds": 5.0,
        "max_rows": 7,
        "max_staleness_ms": 100,
    }
    assert raw.set_options(**chosen) == {}
    (body,) = raw.act("GetSessionOptions", b"")
    found = wire.GetSessionOptionsResult.FromString(body).session_options
    told = {name: getattr(value, value.WhichOneof("option_value")) for name, value in found.items()}
    assert told == chosen


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("catalog", "nowhere", "INVALID_VALUE"),
        ("schema", "nowhere", "INVALID_VALUE"),
        ("dialect", "klingon", "INVALID_VALUE"),
        ("time_zone", "Mars/Olympus", "INVALID_VALUE"),
        ("wire_profile", "paper", "INVALID_VALUE"),
        ("compression", "rar", "INVALID_VALUE"),
        ("statement_timeout_seconds", -1.0, "INVALID_VALUE"),
        ("max_rows", "many", "INVALID_VALUE"),
        ("nonsense", "1", "INVALID_NAME"),
    ],
)
def test_an_option_that_can_not_be_is_refused_alone(raw: Raw, name: str, value: str | float, error: str) -> None:
    assert raw.set_options(**{name: value, "max_staleness_ms": 1}) == {name: error}


def _table(server: RunningServer, text: str, **headers: str) -> pa.Table:
    options = {f"adbc.flight.sql.rpc.call_header.{name.replace('_', '-')}": value for name, value in headers.items()}
    with server.connect(**options) as connection, connection.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetch_arrow_table()


@pytest.mark.covers("adbc", "SetSessionOptions", "GetSessionOptions")
def test_the_session_s_time_zone_counts(server: RunningServer) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        connection.adbc_connection.set_options(**{"adbc.flight.sql.session.option.time_zone": "Asia/Tokyo"})
        assert connection.adbc_connection.get_option("adbc.flight.sql.session.option.time_zone") == "Asia/Tokyo"
        cursor.execute("SELECT CAST(TIMESTAMPTZ '2026-01-01 00:00:00+00' AS VARCHAR) AS t")
        assert cursor.fetchone() == ("2026-01-01 09:00:00+09",)


@pytest.mark.covers("adbc", "CloseSession")
def test_a_closed_connection_leaves_no_session(server: RunningServer) -> None:
    before = metric(server, "flightsql_sessions")
    with server.connect("maker") as connection, connection.cursor() as cursor:  # who is far from the cap
        cursor.execute("SELECT 1")
        assert metric(server, "flightsql_sessions") == before + 1
    assert metric(server, "flightsql_sessions") == before


def test_rows_and_seconds_are_bounded_by_the_session(server: RunningServer) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        connection.adbc_connection.set_options(
            **{
                "adbc.flight.sql.session.option.max_rows": "3",
                "adbc.flight.sql.session.option.statement_timeout_seconds": "1",
            }
        )
        cursor.execute("SELECT * FROM range(100000)")
        assert len(cursor.fetchall()) == 3
        started = time.monotonic()
        cursor.execute(_ENDLESS)
        with pytest.raises((DriverError, OSError), match=r"57014"):
            cursor.fetchall()
        assert time.monotonic() - started < 20


def test_grafana_gets_what_it_can_show(server: RunningServer) -> None:
    text = (
        "SELECT sum(volume) AS s, 1.5::DECIMAL(10,2) AS d, DATE '2026-01-02' AS day, max(timestamp) AS time, "
        "NULL AS n, [1, 2] AS l, TIME '01:02:03' AS t, 'x'::BLOB AS b, INTERVAL 1 DAY AS i FROM market_data"
    )
    found = _table(server, text, x_wire_profile="grafana")
    ns = pa.timestamp("ns")
    text_type = pa.string()
    assert found.schema.types == [pa.float64(), pa.float64(), ns, ns, *[text_type] * 5]
    row = found.to_pylist()[0]
    assert (row["d"], row["day"].to_pydatetime(), row["l"]) == (1.5, datetime.fromisoformat("2026-01-02"), "[1, 2]")
    with pytest.raises((DriverError, OSError), match=r"1677"):
        _table(server, "SELECT DATE '9999-01-01' AS day", x_wire_profile="grafana")


def test_staleness_is_allowed_to_those_who_ask(tmp_path: Path) -> None:
    """A dashboard that takes an answer of a minute ago is not held up by a market that ticks."""
    with (
        running_server(tmp_path) as own,
        own.connect() as fresh,
        own.connect() as stale,
        own.connect("admin") as feed,
        feed.cursor() as feeding,
    ):
        stale.adbc_connection.set_options(**{"adbc.flight.sql.session.option.max_staleness_ms": "60000"})
        answers = []
        for _ in range(2):
            for connection in (stale, fresh):
                with connection.cursor() as cursor:
                    cursor.execute("SELECT count(*) FROM market_data_history")
                    answers.append(cursor.fetchone()[0])
            feeding.execute("INSERT INTO market_data (symbol, last_price, timestamp) VALUES ('TICK', 1, now())")
    assert answers == [0, 0, 0, 1]


# ---- cancel, renew, poll


@pytest.mark.covers("grpc", "StatementQuery", "TicketStatementQuery", "CancelFlightInfo")
def test_one_statement_is_stopped_and_no_other(raw: Raw) -> None:
    """In the rival's server a cancel hit whatever the session ran."""
    endless, long = raw.info(_ENDLESS), raw.info("SELECT * FROM range(3000000)")
    outcome: list[BaseException | int] = []

    def fetch(info: Any) -> None:
        try:
            outcome.append(raw.fetch(info))
        except grpc.RpcError as error:
            outcome.append(error)

    threads = [threading.Thread(target=fetch, args=(info,)) for info in (endless, long)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    started = time.monotonic()
    (body,) = raw.act("CancelFlightInfo", wire.CancelFlightInfoRequest(info=endless).SerializeToString())
    assert wire.CancelFlightInfoResult.FromString(body).status == wire.CANCEL_STATUS_CANCELLED
    for thread in threads:
        thread.join(30)
    assert time.monotonic() - started < 10
    errors = [one for one in outcome if isinstance(one, grpc.RpcError)]
    assert [error.code() for error in errors] == [grpc.StatusCode.CANCELLED]
    assert "57014" in errors[0].details()
    (again,) = raw.act("CancelFlightInfo", wire.CancelFlightInfoRequest(info=endless).SerializeToString())
    assert wire.CancelFlightInfoResult.FromString(again).status == wire.CANCEL_STATUS_NOT_CANCELLABLE


def test_a_statement_of_another_user_can_not_be_stopped(server: RunningServer, raw: Raw) -> None:
    info = raw.info(_ENDLESS)

    def fetch() -> None:
        with pytest.raises(grpc.RpcError):
            raw.fetch(info)

    thread = threading.Thread(target=fetch)
    thread.start()
    time.sleep(0.5)
    foreign = Raw(server, "viewer")
    request = wire.CancelFlightInfoRequest(info=info).SerializeToString()
    (body,) = foreign.act("CancelFlightInfo", request)
    foreign.close()
    assert wire.CancelFlightInfoResult.FromString(body).status == wire.CANCEL_STATUS_NOT_CANCELLABLE
    (body,) = raw.act("CancelFlightInfo", request)
    assert wire.CancelFlightInfoResult.FromString(body).status == wire.CANCEL_STATUS_CANCELLED
    thread.join(30)


def test_a_cursor_is_cancelled_by_its_driver(server: RunningServer) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT * FROM range(1000000000000)")
        cursor.adbc_cancel()
        with pytest.raises((DriverError, OSError)):
            cursor.fetchall()
        with connection.cursor() as other:
            other.execute("SELECT 1")
            assert other.fetchone() == (1,)


@pytest.mark.covers("grpc", "RenewFlightEndpoint")
def test_a_ticket_is_renewed(raw: Raw) -> None:
    info = raw.info("SELECT 1 AS n")
    request = wire.RenewFlightEndpointRequest(endpoint=info.endpoint[0])
    (body,) = raw.act("RenewFlightEndpoint", request.SerializeToString())
    renewed = wire.FlightEndpoint.FromString(body)
    assert renewed.expiration_time.ToMicroseconds() >= info.endpoint[0].expiration_time.ToMicroseconds()
    assert sum(1 for _ in raw.call("DoGet", renewed.ticket)) == 2


def test_polling_is_complete_at_once_and_never_runs_a_change(raw: Raw) -> None:
    found = raw.info("SELECT 1 AS n", "PollFlightInfo", wire.PollInfo)
    assert found.progress == 1.0
    assert not found.HasField("flight_descriptor")
    assert raw.fetch(found.info) == 2
    with pytest.raises(grpc.RpcError) as refused:
        raw.info("BEGIN", "PollFlightInfo", wire.PollInfo)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.covers("grpc", "HealthCheck")
def test_health_is_asked_by_an_action(raw: Raw) -> None:
    assert raw.act("HealthCheck", b"") == []


def test_actions_that_are_told_are_served(server: RunningServer) -> None:
    client, options = server.flight()
    with client:
        names = {action.type for action in client.list_actions(options)}
    assert {"BeginTransaction", "EndTransaction", "CancelFlightInfo", "RenewFlightEndpoint", "HealthCheck"} <= names
    assert not {"BeginSavepoint", "EndSavepoint", "CreatePreparedSubstraitPlan"} & names


# ---- restarts


def test_a_session_outlives_a_restart_and_its_handles_do_not(tmp_path: Path) -> None:
    """A pooled connection goes on with its options where they were; what ended with the process says so."""
    with running_server(tmp_path) as first:
        port = first.port
        session = Raw(first, "maker")
        assert session.set_options(dialect="postgres", time_zone="Asia/Tokyo") == {}
        body = packed(sql.ActionCreatePreparedStatementRequest(query="SELECT 1 AS n"))
        (prepared,) = session.act("CreatePreparedStatement", body)
        handle = prepared[prepared.index(b"\n\x10") + 2 :][:16]
        ticket = session.info("SELECT 2 AS n")
        changed = session.info("CREATE TABLE t (a INT)")
        first.kill()
    with running_server(tmp_path, "--port", str(port)):
        deadline = time.monotonic() + 30
        while True:
            try:
                assert session.fetch(ticket) == 2, "a query's ticket holds all it takes"
                break
            except grpc.RpcError:  # the channel waits a little before it tries again
                assert time.monotonic() < deadline
                time.sleep(0.2)
        (told,) = session.act("GetSessionOptions", b"")
        assert wire.GetSessionOptionsResult.FromString(told).session_options["time_zone"].string_value == "Asia/Tokyo"
        command = packed(sql.CommandPreparedStatementQuery(prepared_statement_handle=handle))
        descriptor = wire.FlightDescriptor(type=wire.FlightDescriptor.CMD, cmd=command)
        with pytest.raises(grpc.RpcError) as gone:
            session.call("GetFlightInfo", descriptor, wire.FlightInfo)
        assert gone.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as lost:
            session.fetch(changed)
        assert lost.value.code() is grpc.StatusCode.NOT_FOUND
    session.close()
