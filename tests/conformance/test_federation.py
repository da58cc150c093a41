"""Tokens of an identity provider, against a running server: who comes in with them, and who doesn't."""

from __future__ import annotations

import http.server
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import adbc_driver_flightsql.dbapi as flight_sql
import grpc
import pyarrow.flight as flight
import pytest
from adbc_driver_manager import Error as DriverError

from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol import flight_sql_pb2 as sql
from flightsql_server.protocol.actions import packed
from tests.conformance.clients import metric
from tests.conftest import FULL
from tests.forgeries import Forger, encoded
from tests.own_authority import Files
from tests.provider import RunningProvider, running_provider
from tests.running import CONFIG, RunningServer, running_server
from tests.unit.auth.door import basic

AUDIENCE = "flightsql-desk"
INCIDENTS = "flightsql_incidents_total"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"

_PROVIDERS = """
[roles.trader]
select = ["market_data", "orders"]
create = true
[roles.trader.filters]
orders = "account IN (claims.accounts)"

[providers.idp]
issuer = "{idp.issuer}"
audience = "flightsql-desk"
ca_file = "{files.authority}"
claims = ["accounts"]
[providers.idp.roles]
"/desk" = "trader"

[providers.quick]
issuer = "{quick.issuer}"
audience = "flightsql-desk"
fresh_seconds = 1
leeway_seconds = 1
refetch_seconds = 0.1
default_roles = ["viewer"]
"""


@pytest.fixture(scope="module")
def quick() -> Iterator[RunningProvider]:
    with running_provider() as running:
        yield running


@pytest.fixture(scope="module")
def federated(
    idp: RunningProvider, quick: RunningProvider, files: Files, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that believes two providers: one whose keys are kept for long, one whose keys are looked at often."""
    folder = tmp_path_factory.mktemp("federated")
    text = CONFIG + _PROVIDERS.format(idp=idp, quick=quick, files=files)
    (folder / "test.toml").write_text(text, encoding="utf-8")
    with running_server(folder) as server:
        yield server


@pytest.fixture(scope="module")
def lure() -> Iterator[tuple[str, list[str]]]:
    """An attacker's server, and what it has been asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", asked
        listening.shutdown()
        thread.join(10)


def _claims(provider: RunningProvider, **changes: object) -> dict[str, object]:
    now = int(time.time())
    good: dict[str, object] = {"iss": provider.issuer, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 600}
    return good | {"groups": ["/desk"], "accounts": ["A1"]} | changes


def _ask(server: RunningServer, token: str, text: str = "SELECT current_user") -> Any:
    options = {"adbc.flight.sql.authorization_header": f"Bearer {token}"}
    connection = flight_sql.connect(server.url, db_kwargs=options, autocommit=True)
    with connection, connection.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchall()


def _exchanged(server: RunningServer, token: str) -> dict[str, Any]:
    form = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": JWT}
    with urllib.request.urlopen(f"{server.http}/oauth/token", urllib.parse.urlencode(form).encode(), 20) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


@pytest.mark.parametrize("kind", ["rsa", "ec", "ed"])
def test_a_bearer_is_its_provider_s_user(federated: RunningServer, idp: RunningProvider, kind: str) -> None:
    assert _ask(federated, idp.token(_claims(idp), kind)) == [("idp:alice",)]


def test_roles_and_rows_come_from_the_token(federated: RunningServer, idp: RunningProvider) -> None:
    with federated.connect("admin") as connection, connection.cursor() as cursor:
        for account in ("A1", "A2"):
            cursor.execute(
                "INSERT INTO orders SELECT 'o' || ?, 'c', ?, 'X', 's', 'buy', 'limit', 'day', 1, 1, NULL, 0, NULL,"
                " 'EUR', 'new', now(), now()",
                (account, account),
            )
    assert _ask(federated, idp.token(_claims(idp)), "SELECT account FROM orders") == [("A1",)]
    both = idp.token(_claims(idp, accounts=["A1", "A2"]))
    assert _ask(federated, both, "SELECT account FROM orders ORDER BY 1") == [("A1",), ("A2",)]
    assert _ask(federated, idp.token(_claims(idp, accounts=None)), "SELECT count(*) FROM orders") == [(0,)]
    with pytest.raises(DriverError, match="42P01"):
        _ask(federated, idp.token(_claims(idp, groups=["/other"])), "SELECT account FROM orders")


@pytest.mark.parametrize("subject", ["admin", "al'ice", 'a"b', "a;b", "$$", "{x}", "..", "%s", "a\\b"])
def test_odd_names_are_just_names(federated: RunningServer, idp: RunningProvider, subject: str) -> None:
    token = idp.token(_claims(idp, sub=subject))
    assert _ask(federated, token) == [(f"idp:{subject}",)]
    options = {"adbc.flight.sql.authorization_header": f"Bearer {token}"}
    connection = flight_sql.connect(federated.url, db_kwargs=options, autocommit=True)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE TABLE mine AS SELECT current_user AS name")
        cursor.execute("SELECT name FROM mine")
        assert cursor.fetchall() == [(f"idp:{subject}",)]
    with federated.connect("admin") as connection, connection.cursor() as cursor, pytest.raises(DriverError):
        cursor.execute("SELECT name FROM mine")


def test_a_handshake_makes_a_session(federated: RunningServer, idp: RunningProvider) -> None:
    token = idp.token(_claims(idp))
    with flight.FlightClient(federated.url) as client:
        header = client.authenticate_basic_token("token", token)
        options = flight.FlightCallOptions(headers=[header])
        assert [one.descriptor.path for one in client.list_flights(options=options)]
    ours = header[1].decode().removeprefix("Bearer ")
    assert ours != token
    exchanged = _exchanged(federated, ours)["access_token"]
    assert _ask(federated, exchanged) == _ask(federated, ours) == [("idp:alice",)]


def test_begin_needs_a_session(federated: RunningServer, idp: RunningProvider) -> None:
    """A provider's token names no session of ours; what it is exchanged for does."""
    token = idp.token(_claims(idp))
    with pytest.raises(DriverError, match="25000"):
        _ask(federated, token, "BEGIN")
    _ask(federated, _exchanged(federated, token)["access_token"], "BEGIN")


class _Caller:
    """The four ways in which a token can be presented; each gives the status that it met."""

    def __init__(self, server: RunningServer) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
        self._service = "/arrow.flight.protocol.FlightService/"
        self._server = server

    def close(self) -> None:
        self._channel.close()

    def call(self, authorization: str) -> str:
        try:
            stream = self._channel.unary_stream(self._service + "ListFlights")
            list(stream(b"", metadata=(("authorization", authorization),), timeout=30))
        except grpc.RpcError as error:
            return str(error.code().name)  # type: ignore[attr-defined]
        return "OK"

    def handshake(self, user: str, password: str) -> str:
        payload = wire.BasicAuth(username=user, password=password).SerializeToString()
        message = wire.HandshakeRequest(payload=payload).SerializeToString()
        try:
            list(self._channel.stream_stream(self._service + "Handshake")(iter([message]), timeout=30))
        except grpc.RpcError as error:
            return str(error.code().name)  # type: ignore[attr-defined]
        return "OK"

    def exchange(self, token: str) -> str:
        try:
            _exchanged(self._server, token)
        except urllib.error.HTTPError as error:
            with error:
                return str(json.load(error)["error"])
        return "OK"


@pytest.mark.scaled
def test_no_forgery_comes_in(federated: RunningServer, idp: RunningProvider, lure: tuple[str, list[str]]) -> None:
    incidents = metric(federated, INCIDENTS)
    forger = Forger(idp, _claims(idp), kinds=("rsa", "ec", "ed") if FULL else ("ec",))
    caller = _Caller(federated)
    fetches = idp.fetches()
    started = time.monotonic()
    try:
        wrong = {}
        for name, token in forger.all(lure[0]).items():
            sendable = token.isascii() and token.isprintable()
            found = [caller.call(f"Bearer {token}" if sendable else basic("token", token))]
            if name.startswith("ec: "):
                found += [caller.call(basic("token", token)), caller.exchange(token), caller.handshake("token", token)]
            if not set(found) <= {"UNAUTHENTICATED", "invalid_request"}:
                wrong[name] = found
        assert wrong == {}
        good = forger.nearly("ec")
        assert caller.call(f"Bearer {good}") == caller.handshake("token", good) == caller.exchange(good) == "OK"
    finally:
        caller.close()
    assert lure[1] == []
    assert metric(federated, INCIDENTS) == incidents
    # However many keys they name: one fetch in thirty seconds, and one because the keys have aged.
    assert idp.fetches() - fetches <= 2 * (1 + (time.monotonic() - started) / 30)


def test_a_new_key_counts_at_once_and_a_retired_one_soon_no_more(
    federated: RunningServer, quick: RunningProvider
) -> None:
    old = quick.token(_claims(quick))
    assert _ask(federated, old) == [("quick:alice",)]
    quick.turn(rotate=True)
    assert _soon(federated, quick.token(_claims(quick))) == [("quick:alice",)]
    assert _ask(federated, quick.token(_claims(quick), generation=0)) == [("quick:alice",)]
    assert _ask(federated, old) == [("quick:alice",)]
    retired = quick.token(_claims(quick, sub="bob"), generation=0)
    quick.turn(retire=True)
    _until_refused(federated, old)
    with pytest.raises(DriverError, match="28000"):
        _ask(federated, retired)
    assert _ask(federated, quick.token(_claims(quick))) == [("quick:alice",)]


def _soon(server: RunningServer, token: str) -> list[tuple[str, ...]]:
    """Its answer, once the keys may be fetched again: another test may have had them fetched a moment ago."""
    end = time.monotonic() + 20
    while True:
        try:
            return _ask(server, token)
        except DriverError as error:
            if "08001" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(0.1)


def _until_refused(server: RunningServer, token: str) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            _ask(server, token)
        except DriverError as error:
            if "28000" in str(error):
                return
            raise
        time.sleep(0.1)
    raise AssertionError("the token was believed for too long")


@pytest.mark.parametrize("mode", ["down", "redirect", "huge", "rubbish"])
def test_the_last_keys_go_on_while_the_provider_is_not_well(
    federated: RunningServer, quick: RunningProvider, mode: str
) -> None:
    quick.turn(mode="well")
    failed = 'flightsql_provider_key_fetches_total{outcome="failed",provider="quick"}'
    token = quick.token(_claims(quick))
    _ask(federated, token)
    before = _counted(federated, failed)
    quick.turn(mode=mode)
    try:
        while _counted(federated, failed) == before:
            _ask(federated, quick.token(_claims(quick)))
        assert _ask(federated, token) == [("quick:alice",)]
        unknown = Forger(quick, _claims(quick)).signed("rsa", header={"alg": "RS256", "kid": "unknown"})
        with pytest.raises(DriverError, match=r"08001|28000"):
            _ask(federated, unknown)
    finally:
        quick.turn(mode="well")
    assert "/elsewhere" not in quick.seen()


def _counted(server: RunningServer, series: str) -> float:
    with urllib.request.urlopen(f"{server.http}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))


def test_nothing_secret_is_logged(federated: RunningServer, idp: RunningProvider) -> None:
    token = idp.token(_claims(idp, sub="secretive"))
    _ask(federated, token)
    _exchanged(federated, token)
    text = "".join(federated.output)
    assert token not in text
    assert token.rpartition(".")[2] not in text


def test_what_runs_with_a_token_ends_with_it(federated: RunningServer, quick: RunningProvider) -> None:
    quick.turn(mode="well")
    token = quick.token(_claims(quick, exp=int(time.time()) + 3))
    endless = "SELECT sum(a.range * b.range) AS n FROM range(10000000) a, range(10000000) b"
    options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {token}".encode())])
    with flight.FlightClient(federated.url) as client:
        command = packed(sql.CommandStatementQuery(query=endless))
        info = client.get_flight_info(flight.FlightDescriptor.for_command(command), options)
        started = time.monotonic()
        with pytest.raises(flight.FlightUnauthenticatedError, match=r"\[28000\] the token has expired"):
            client.do_get(info.endpoints[0].ticket, options).read_all()
    assert time.monotonic() - started < 10


def test_no_provider_speaks_for_another(federated: RunningServer, idp: RunningProvider, quick: RunningProvider) -> None:
    for signer, said in ((quick, idp), (idp, quick)):
        text = Forger(said, _claims(said)).nearly("rsa").rsplit(".", 1)[0]
        with pytest.raises(DriverError, match="28000"):
            _ask(federated, f"{text}.{encoded(signer.sign('rsa', text.encode()))}")


def test_a_providers_token_is_no_local_users(federated: RunningServer, idp: RunningProvider) -> None:
    """Whatever it is called: the name has the provider before it, and the roles are those of its groups."""
    token = idp.token(_claims(idp, sub="admin", groups=[]))
    assert _ask(federated, token) == [("idp:admin",)]
    with pytest.raises(DriverError, match="42P01"):
        _ask(federated, token, "SELECT * FROM market_data")
