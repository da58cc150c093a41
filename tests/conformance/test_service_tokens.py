"""A fixed token in the hands of stock drivers, and the commands that make and end it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_manager import Error as DriverError
from flightsql_auth.keys import KeyRing

from flightsql_server.protocol import flight_sql_pb2 as sql
from flightsql_server.protocol.actions import packed
from tests.commands import refusal, run
from tests.conformance.clients import metric
from tests.running import RunningServer, running_server

_WAYS = {
    "header": lambda token: {"adbc.flight.sql.authorization_header": f"Bearer {token}"},
    "password": lambda token: {"username": "token", "password": token},
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("tokens")) as server:
        yield server


def _made(server: RunningServer, name: str, *more: str) -> str:
    """A token as an administrator makes it; standard output holds it alone."""
    result = run("token", "create", name, "--data-dir", str(server.data_dir), *more)
    assert re.fullmatch(r"fss_[A-Za-z0-9_-]{43}\n", result.stdout), result.stderr
    return result.stdout.strip()


def _listed(server: RunningServer) -> str:
    return run("token", "list", "--data-dir", str(server.data_dir)).stdout


def _asked(server: RunningServer, text: str, **options: str) -> pa.Table:
    connected = flight_sql.connect(server.url, db_kwargs=options, autocommit=True)
    with connected as connection, connection.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetch_arrow_table()


@pytest.mark.covers("adbc", "StatementQuery")
@pytest.mark.parametrize("way", _WAYS)
def test_a_driver_works_with_it_at_once(own: RunningServer, way: str) -> None:
    token = _made(own, f"adbc-{way}", "--role", "viewer", "--wire-profile", "grafana")
    options: dict[str, str] = _WAYS[way](token)
    found = _asked(own, "SELECT current_user AS name, 1.5::DECIMAL(9, 2) AS d", **options)
    assert found.to_pylist() == [{"name": f"token:adbc-{way}", "d": 1.5}]
    assert found.schema.field("d").type == pa.float64(), "the token's own profile"
    with pytest.raises(DriverError, match="42P01"):
        _asked(own, "SELECT * FROM positions", **options)
    assert run("token", "revoke", f"adbc-{way}", "--data-dir", str(own.data_dir)).stdout == f"Revoked adbc-{way}.\n"
    time.sleep(2)  # at most a second; between two calls of one cursor its driver would stumble over itself
    with pytest.raises(DriverError, match="was revoked"):
        _asked(own, "SELECT 1", **options)


@pytest.mark.covers("pyarrow", "StatementQuery", "TicketStatementQuery")
def test_a_bearer_with_every_call_makes_no_session(own: RunningServer) -> None:
    """As Grafana sends it: no handshake, so nothing to log in again after a restart."""
    token = _made(own, "panel", "--role", "viewer")
    before = metric(own, "flightsql_sessions")
    options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {token}".encode())])
    with flight.FlightClient(own.url) as client:

        def ask(text: str) -> Any:
            command = packed(sql.CommandStatementQuery(query=text))
            info = client.get_flight_info(flight.FlightDescriptor.for_command(command), options)
            return client.do_get(info.endpoints[0].ticket, options).read_all().to_pylist()

        assert ask("SELECT current_user AS name") == [{"name": "token:panel"}]
        with pytest.raises(pa.ArrowException, match="BEGIN needs a session"):
            ask("BEGIN")
    assert metric(own, "flightsql_sessions") == before


def test_the_list_shows_all_but_the_token(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        token = _made(server, "nightly", "--role", "reader", "--role", "viewer", "--days", "30")
        _made(server, "unused", "--role", "reader", "--claim", "accounts=A1")
        _asked(server, "SELECT 1", **{"adbc.flight.sql.authorization_header": f"Bearer {token}"})
        assert "reader, viewer" in _listed(server)
    listed = _listed(server)  # when the server stops it writes down what was used
    assert token[4:] not in listed
    assert re.search(r"nightly │ reader, viewer │ \d{4}-\d\d-\d\d │ \d{4}-\d\d-\d\d \d\d:\d\d UTC │ active", listed)
    assert re.search(r"unused  │ reader         │ \d{4}-\d\d-\d\d │ never +│ active", listed)
    assert all(token.encode() not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_what_the_commands_refuse(own: RunningServer) -> None:
    folder = ("--data-dir", str(own.data_dir))
    _made(own, "taken", "--role", "reader")
    assert "revoke it first" in refusal(run("token", "create", "taken", "--role", "reader", *folder))
    assert "--role" in refusal(run("token", "create", "roleless", *folder))
    assert "characters" in refusal(run("token", "create", "a b", "--role", "reader", *folder))
    assert "--days" in refusal(run("token", "create", "long", "--role", "reader", "--days", "9999", *folder))
    assert "There is no token nobody" in refusal(run("token", "revoke", "nobody", *folder))
    assert "There is no user nobody" in refusal(run("user", "logout", "nobody", *folder))
    assert "that the password is a token" in refusal(run("user", "add", "token", *folder, typed="x\nx\n"))
    assert "has no keys" in refusal(run("keys", "list", "--data-dir", str(own.data_dir / "nowhere")))
    assert "EdDSA" in refusal(run("keys", "rotate", "--algorithm", "HS256", *folder))


def test_a_server_rotates_a_key_of_age_when_it_starts(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    KeyRing.open(tmp_path / "keys", clock=lambda: datetime(2020, 1, 1, tzinfo=UTC).timestamp())
    with running_server(tmp_path) as server:
        listed = run("keys", "list", "--data-dir", str(tmp_path)).stdout
        assert re.search(r"EdDSA +│ 2020-01-01 00:00 UTC │ verifies until .*UTC", listed)
        assert len(re.findall(r"│ signs ", listed)) == 1
        client, _ = server.flight()
        client.close()


def test_keys_that_others_could_read_are_not_used(own: RunningServer) -> None:
    keys = own.data_dir / "keys"
    keys.chmod(0o755)
    try:
        assert f"chmod 700 {keys}" in refusal(run("keys", "rotate", "--data-dir", str(own.data_dir)))
    finally:
        keys.chmod(0o700)
