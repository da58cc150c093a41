"""What gRPC clients see beside Flight: health for everybody, reflection for admins; and what SqlInfo says to whom."""

from __future__ import annotations

import base64
from contextlib import suppress
from pathlib import Path

import adbc_driver_manager
import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from google.protobuf import any_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from flightsql_server.protocol import flight_sql_pb2 as wire
from tests.running import RunningServer, running_server


def _basic(user: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", "Basic " + base64.b64encode(f"{user}:{user}".encode()).decode()),)


def test_health_needs_no_credentials(server: RunningServer) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "arrow.flight.protocol.FlightService"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        (None, grpc.StatusCode.UNAUTHENTICATED),
        (_basic("viewer"), grpc.StatusCode.PERMISSION_DENIED),
        (_basic("admin"), grpc.StatusCode.OK),
    ],
    ids=["nobody", "viewer", "admin"],
)
def test_reflection_is_for_admins(
    server: RunningServer, metadata: tuple[tuple[str, str], ...] | None, code: grpc.StatusCode
) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        call = stub.ServerReflectionInfo(iter([request]), metadata=metadata, timeout=10)
        names = set()
        with suppress(grpc.RpcError):
            names = {found.name for answer in call for found in answer.list_services_response.service}
        assert call.code() == code
        assert ("arrow.flight.protocol.FlightService" in names) == (code is grpc.StatusCode.OK)


def _sql_info(server: RunningServer, user: str) -> dict[str | int, object]:
    with server.connect(user) as connection:
        return dict(connection.adbc_get_info())


def _facts(server: RunningServer, user: str) -> dict[int, object]:
    """SqlInfo by code, through plain Flight."""
    command = any_pb2.Any()
    command.Pack(wire.CommandGetSqlInfo())
    client, options = server.flight(user)
    with client:
        info = client.get_flight_info(flight.FlightDescriptor.for_command(command.SerializeToString()), options)
        table = client.do_get(info.endpoints[0].ticket, options).read_all()
    return dict(zip(table["info_name"].to_pylist(), table["value"].to_pylist(), strict=True))


def test_sql_info_depends_on_principal(server: RunningServer) -> None:
    reader, admin = _facts(server, "reader"), _facts(server, "admin")
    assert reader[3] is True  # FLIGHT_SQL_SERVER_READ_ONLY
    assert admin[3] is False
    assert _sql_info(server, "reader")["vendor_name"] == "flightsql-server"


def test_sql_info_depends_on_configuration(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHTSQL_SQL_STATEMENT_BYTES", "5000")
    monkeypatch.setenv("FLIGHTSQL_QUERY_SECONDS", "12")
    with running_server(tmp_path / "data") as other:
        here, there = _facts(server, "reader"), _facts(other, "reader")
    differing = {code for code in here if here[code] != there[code]}
    assert there[wire.SQL_MAX_STATEMENT_LENGTH] == 5000
    assert there[wire.FLIGHT_SQL_SERVER_STATEMENT_TIMEOUT] == 12_000
    literals = {wire.SQL_MAX_BINARY_LITERAL_LENGTH, wire.SQL_MAX_CHAR_LITERAL_LENGTH}
    assert differing == {wire.SQL_MAX_STATEMENT_LENGTH, wire.FLIGHT_SQL_SERVER_STATEMENT_TIMEOUT} | literals


def test_sql_info_tells_the_functions_that_are_let_through(server: RunningServer) -> None:
    facts = _facts(server, "reader")
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT round(2.6), upper('a'), date_trunc('day', TIMESTAMP '2026-01-02 03:04:05')")
        cursor.fetchall()
        with pytest.raises(adbc_driver_manager.Error, match="0A000"):
            cursor.execute("SELECT getenv('HOME')")
    named = [name for code in (509, 510, 511, 512) for name in facts[code]]  # type: ignore[attr-defined]
    assert {"round", "upper", "date_trunc", "version"} <= set(named)
    assert "getenv" not in named


def test_anonymous_callers_get_the_role_they_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTSQL_LOGIN_ANONYMOUS_ROLE", "viewer")
    with running_server(tmp_path / "data") as open_server, flight.FlightClient(open_server.url) as client:
        assert client.do_get(flight.Ticket(b"market_data")).read_all().num_columns == 6
        with pytest.raises(pa.ArrowKeyError, match="42P01"):
            client.do_get(flight.Ticket(b"orders")).read_all()
