"""Tokens over HTTP: what clients of RFC 6749 and 8693 send, and the stock ADBC driver's own flows."""

from __future__ import annotations

import base64
import json
import socket
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as flight_sql
import jwt
import pyarrow.flight as flight
import pytest
from adbc_driver_manager import Error as DriverError

from tests.audit_lines import audit_line, audit_lines
from tests.commands import run
from tests.conformance.clients import metric
from tests.own_authority import Files
from tests.provider import RunningProvider
from tests.running import CONFIG, RunningServer, running_server

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"
SAML = "urn:ietf:params:oauth:token-type:saml2"
SUBJECT: dict[str, str] = {"grant_type": EXCHANGE, "subject_token_type": JWT}
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def own(idp: RunningProvider, files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with _believing(idp, files, tmp_path_factory.mktemp("oauth")) as server:
        yield server


@pytest.fixture(scope="module")
def encrypted(idp: RunningProvider, files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One with TLS, for drivers that hand their tokens to that alone."""
    tls = f'[tls]\ncertificate = "{files.certificate}"\nkey = "{files.key}"\n'
    with _believing(idp, files, tmp_path_factory.mktemp("encrypted"), tls) as server:
        yield server


def _believing(
    idp: RunningProvider, files: Files, folder: Path, more: str = ""
) -> AbstractContextManager[RunningServer]:
    """A server that believes the provider."""
    provider = f'[providers.idp]\nissuer = "{idp.issuer}"\nca_file = "{files.authority}"\naudience = "desk"\n'
    provider += 'default_roles = ["viewer", "maker"]\n'
    (folder / "test.toml").write_text(CONFIG + provider + more, encoding="utf-8")
    return running_server(folder)


class Answer:
    """What the endpoint answered."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


def post(server: RunningServer, form: object, basic: tuple[str, str] | None = None, content_type: str = FORM) -> Answer:
    headers = {"Content-Type": content_type}
    if basic is not None:
        pair = ":".join(urllib.parse.quote_plus(part) for part in basic)
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    body = form if isinstance(form, bytes) else urllib.parse.urlencode(form).encode()  # type: ignore[arg-type]
    connection = HTTPConnection("127.0.0.1", server.http_port, timeout=20)
    try:
        connection.request("POST", "/oauth/token", body, headers)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def _provided(idp: RunningProvider, **changes: object) -> str:
    now = int(time.time())
    good = {"iss": idp.issuer, "aud": "desk", "sub": "alice", "iat": now, "exp": now + 300}
    return idp.token(good | changes)


def _who(server: RunningServer, token: str) -> str:
    options = {"adbc.flight.sql.authorization_header": f"Bearer {token}"}
    connection = flight_sql.connect(server.url, db_kwargs=options, autocommit=True)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        return str(cursor.fetchone()[0])


@pytest.mark.parametrize("way", ["basic", "form"])
def test_a_password_gives_a_token(own: RunningServer, way: str) -> None:
    form = {"grant_type": "client_credentials"}
    secret = {"client_id": "maker", "client_secret": "maker"}
    answer = post(own, form, ("maker", "maker")) if way == "basic" else post(own, form | secret)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"].startswith("application/json")
    found = answer.json
    assert found.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert (found["token_type"], found["scope"]) == ("Bearer", "maker")
    assert 43_000 < found["expires_in"] <= 43_200
    assert _who(own, found["access_token"]) == "maker"


def test_the_names_of_a_basic_header_are_encoded_as_in_a_form(own: RunningServer) -> None:
    assert post(own, {"grant_type": "client_credentials"}, ("m a+k%r", "ü&=")).json["error"] == "invalid_client"
    raw = base64.b64encode(b"m%61ker:m%61ker").decode()
    connection = HTTPConnection("127.0.0.1", own.http_port, timeout=20)
    headers = {"Content-Type": FORM, "Authorization": f"Basic {raw}"}
    connection.request("POST", "/oauth/token", "grant_type=client_credentials", headers)
    assert connection.getresponse().status == 200
    connection.close()


def test_a_provider_s_token_gives_one_of_ours(own: RunningServer, idp: RunningProvider) -> None:
    for kind in (JWT, ACCESS_TOKEN, "urn:ietf:params:oauth:token-type:id_token"):
        form = SUBJECT | {
            "subject_token": _provided(idp),
            "subject_token_type": kind,
            "requested_token_type": ACCESS_TOKEN,
        }
        answer = post(own, form)
        assert (answer.status, answer.json["issued_token_type"]) == (200, ACCESS_TOKEN)
        assert answer.json["expires_in"] <= 300
        assert set(answer.json["scope"].split()) == {"viewer", "maker"}
        assert _who(own, answer.json["access_token"]) == "idp:alice"


def test_our_token_gives_another_that_ends_with_it(own: RunningServer) -> None:
    first = post(own, {"grant_type": "client_credentials"}, ("maker", "maker")).json["access_token"]
    second = post(own, SUBJECT | {"subject_token": first}).json["access_token"]
    said = [jwt.decode(token, options={"verify_signature": False}) for token in (first, second)]
    assert said[0]["jti"] != said[1]["jti"]
    assert said[1]["exp"] <= said[0]["exp"]
    client, login = own.flight("admin")
    with client:
        list(client.do_action(flight.Action("KillSession", said[0]["jti"].encode()), login))
    for token in (first, second):
        with pytest.raises(DriverError, match="28000"):
            _who(own, token)


def test_a_scope_is_a_choice_of_roles(own: RunningServer, idp: RunningProvider) -> None:
    narrow = post(own, SUBJECT | {"subject_token": _provided(idp), "scope": "viewer"})
    assert narrow.json["scope"] == "viewer"
    token = narrow.json["access_token"]
    options = {"adbc.flight.sql.authorization_header": f"Bearer {token}"}
    connection = flight_sql.connect(own.url, db_kwargs=options, autocommit=True)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM market_data")
        with pytest.raises(DriverError):
            cursor.execute("SELECT count(*) FROM orders")
        wider = post(own, SUBJECT | {"subject_token": token, "scope": "viewer maker"})
        assert (wider.status, wider.json["error"]) == (400, "invalid_scope")
    assert (
        post(own, {"grant_type": "client_credentials", "scope": "admin"}, ("maker", "maker")).json["error"]
        == "invalid_scope"
    )


CLIENT = {"grant_type": "client_credentials"}


@pytest.mark.parametrize(
    ("form", "basic", "status", "error"),
    [
        ({}, None, 400, "invalid_request"),
        ({"grant_type": "password", "username": "maker", "password": "maker"}, None, 400, "unsupported_grant_type"),
        ({"grant_type": "authorization_code", "code": "x"}, None, 400, "unsupported_grant_type"),
        (CLIENT, None, 401, "invalid_client"),
        (CLIENT | {"client_id": "maker"}, None, 401, "invalid_client"),
        (CLIENT, ("", ""), 401, "invalid_client"),
        (CLIENT, ("maker", "wrong"), 401, "invalid_client"),
        (CLIENT, ("nobody", "maker"), 401, "invalid_client"),
        (CLIENT, ("token", "a.b.c"), 401, "invalid_client"),
        (CLIENT | {"client_secret": "maker"}, ("maker", "maker"), 400, "invalid_request"),
        (CLIENT | {"client_id": "admin"}, ("maker", "maker"), 400, "invalid_request"),
        (CLIENT | {"audience": "other"}, ("maker", "maker"), 400, "invalid_target"),
        (CLIENT | {"resource": "https://x"}, ("maker", "maker"), 400, "invalid_target"),
        (CLIENT | {"scope": " "}, ("maker", "maker"), 400, "invalid_scope"),
        ({"grant_type": EXCHANGE}, None, 400, "invalid_request"),
        ({"grant_type": EXCHANGE, "subject_token": "x"}, None, 400, "invalid_request"),
        (SUBJECT | {"subject_token": "x"}, None, 400, "invalid_request"),
        (SUBJECT | {"subject_token": "a.b.c"}, None, 400, "invalid_request"),
        (SUBJECT | {"subject_token": "x\0\n"}, None, 400, "invalid_request"),
        (SUBJECT | {"subject_token": "x" * 60_000}, None, 400, "invalid_request"),
        (SUBJECT | {"subject_token": "x", "actor_token": "y"}, None, 400, "invalid_request"),
        (SUBJECT | {"subject_token": "x", "requested_token_type": SAML}, None, 400, "invalid_request"),
        (SUBJECT | {"subject_token": "x"}, ("maker", "wrong"), 401, "invalid_client"),
        (b"grant_type=client_credentials&grant_type=client_credentials", None, 400, "invalid_request"),
        (b"grant_type=%ff", None, 400, "invalid_request"),
        (b"\xff", None, 400, "invalid_request"),
        (b"&".join(b"a%d=1" % n for n in range(40)), None, 400, "invalid_request"),
        (b"x=" + b"x" * 70_000, None, 413, "invalid_request"),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_refusals_have_the_form_of_the_standard(
    own: RunningServer, form: object, basic: tuple[str, str] | None, status: int, error: str
) -> None:
    answer = post(own, form, basic)
    assert (answer.status, answer.json["error"]) == (status, error)
    assert answer.json.keys() == {"error", "error_description"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


def test_only_forms_by_post_are_read(own: RunningServer) -> None:
    assert post(own, b'{"grant_type": "client_credentials"}', content_type="application/json").status == 400
    connection = HTTPConnection("127.0.0.1", own.http_port, timeout=20)
    connection.request("GET", "/oauth/token?grant_type=client_credentials&client_id=maker&client_secret=maker")
    assert connection.getresponse().status == 405
    connection.close()


@pytest.mark.parametrize("header", ["Bearer x", "Basic", "Basic !", "Basic bWFrZXI=", "Basic /w==", "Digest x"])
def test_client_headers_that_are_none(own: RunningServer, header: str) -> None:
    connection = HTTPConnection("127.0.0.1", own.http_port, timeout=20)
    headers = {"Content-Type": FORM, "Authorization": header}
    connection.request("POST", "/oauth/token", "grant_type=client_credentials", headers)
    response = connection.getresponse()
    assert (response.status, json.load(response)["error"]) == (401, "invalid_client")
    connection.close()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that soon loses its patience."""
    folder = tmp_path_factory.mktemp("strict")
    (folder / "test.toml").write_text("[login]\nfree_failures = 2\nhandshake_seconds = 0.5\n", encoding="utf-8")
    with running_server(folder) as server:
        yield server


def test_wrong_passwords_count_as_at_the_other_port(strict: RunningServer) -> None:
    statuses = [post(strict, CLIENT, ("reader", "wrong")).status for _ in range(4)]
    assert statuses == [401, 401, 401, 429]
    with pytest.raises(DriverError, match="too many wrong passwords"):
        _asked(strict.connect("reader"))
    assert metric(strict, 'flightsql_oauth_answers_total{grant="client_credentials",outcome="invalid_client"}') == 4


def test_a_body_that_never_comes_is_not_waited_for(strict: RunningServer) -> None:
    head = f"POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: 9\r\n\r\na"
    with socket.create_connection(("127.0.0.1", strict.http_port), 20) as slow:
        slow.sendall(head.encode())
        assert b" 408 " in slow.recv(1_000)


def test_the_endpoint_is_described(own: RunningServer) -> None:
    connection = HTTPConnection("127.0.0.1", own.http_port, timeout=20)
    connection.request("GET", "/.well-known/oauth-authorization-server")
    found = json.load(connection.getresponse())
    connection.close()
    assert found["token_endpoint"] == f"{own.http}/oauth/token"
    assert found["jwks_uri"] == f"{own.http}/.well-known/jwks.json"
    assert found["grant_types_supported"] == ["client_credentials", EXCHANGE]


def test_a_service_token_is_the_secret_of_its_name(own: RunningServer) -> None:
    create = ("token", "create", "panel", "--role", "viewer", "--days", "1", "--data-dir", str(own.data_dir))
    token = run(*create).stdout.strip()
    for name in ("panel", "token:panel", "token"):
        answer = post(own, CLIENT, (name, token))
        assert (answer.status, answer.json["scope"]) == (200, "viewer"), answer.body
        assert answer.json["expires_in"] <= 86_400
        assert _who(own, answer.json["access_token"]) == "token:panel"
    assert post(own, CLIENT | {"client_id": "panel", "client_secret": token}).status == 200
    assert post(own, SUBJECT | {"subject_token": token}).status == 200
    for name, secret in (("reader", token), ("", token), ("panel", token[:-1] + "-"), ("panel", "panel")):
        refused = post(own, CLIENT, (name, secret))
        assert (refused.status, refused.json["error"]) == (401, "invalid_client"), name
    assert run("token", "revoke", "panel", "--data-dir", str(own.data_dir)).stdout == "Revoked panel.\n"
    assert post(own, CLIENT, ("panel", token)).json["error_description"].startswith("the service token was revoked")


def _of_maker(line: Mapping[str, Any]) -> bool:
    return (line.get("user"), line.get("grant"), line["outcome"]) == ("maker", "client_credentials", "OK")


def test_the_audit_trail_tells_each_answer(own: RunningServer, idp: RunningProvider) -> None:
    began = datetime.now(UTC)
    assert post(own, CLIENT | {"scope": "maker"}, ("maker", "maker")).status == 200
    line = audit_line(own.data_dir, "token", _of_maker, began)
    assert (line["grant"], line["method"], line["roles"]) == ("client_credentials", "password", ["maker"])
    assert line["session"]
    assert line["expires_in"] > 0
    assert line["peer"].startswith("ipv4:127.0.0.1:")
    token = _provided(idp)
    post(own, SUBJECT | {"subject_token": token})
    line = audit_line(own.data_dir, "token", lambda line: line.get("method") == "oidc", began)
    assert (line["grant"], line["user"], line["outcome"]) == ("token_exchange", "idp:alice", "OK")
    for client in ("secret-typed-as-name", "reader"):
        post(own, CLIENT, (client, "wrong-secret"))
    line = audit_line(own.data_dir, "token", lambda line: line.get("user") == "reader", began)
    assert (line["outcome"], line["reason"]) == ("UNAUTHENTICATED", "bad_password")
    refused = [one for one in audit_lines(own.data_dir) if one.get("reason") == "bad_password"]
    assert "user" not in refused[-2], "what isn't a user's name might be a password, mistyped"
    post(own, b"rubbish")
    line = audit_line(own.data_dir, "token", lambda line: line.get("reason") == "invalid_request", began)
    assert line["outcome"] == "INVALID_ARGUMENT"
    text = "".join(map(str, audit_lines(own.data_dir)))
    assert "secret" not in text
    assert token not in text


def test_a_providers_token_on_a_call_is_a_login(own: RunningServer, idp: RunningProvider) -> None:
    header = f"Bearer {_provided(idp, sub='audited')}"
    with flight.FlightClient(own.url) as client:
        options = flight.FlightCallOptions(headers=[(b"authorization", header.encode())])
        for _ in range(3):
            list(client.list_actions(options))
    assert audit_line(own.data_dir, "login", lambda line: line.get("user") == "idp:audited")["method"] == "oidc"
    logins = [line for line in audit_lines(own.data_dir) if line.get("user") == "idp:audited"]
    assert [line["event"] for line in logins] == ["login"]


# The stock ADBC driver


def _connect(server: RunningServer, files: Files, **options: str) -> flight_sql.Connection:
    known = {"adbc.flight.sql.client_option.tls_root_certs": files.authority.read_text(encoding="utf-8")}
    options["token_uri"] = f"https://127.0.0.1:{server.http_port}/oauth/token"
    known |= {f"adbc.flight.sql.oauth.{name.replace('__', '.')}": value for name, value in options.items()}
    return flight_sql.connect(f"grpc+tls://127.0.0.1:{server.port}", db_kwargs=known, autocommit=True)


def _asked(connection: flight_sql.Connection, sql: str = "SELECT current_user") -> list[Any]:
    with connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def test_adbc_client_credentials(encrypted: RunningServer, files: Files) -> None:
    login = {"client_id": "maker", "client_secret": "maker"}
    # The driver takes a scope in this flow, but doesn't send it.
    connection = _connect(encrypted, files, flow="client_credentials", scope="maker", **login)
    assert _asked(connection) == [("maker",)]
    with pytest.raises(DriverError, match="invalid_client"):
        _connect(encrypted, files, flow="client_credentials", client_id="maker", client_secret="wrong")


def test_adbc_token_exchange(encrypted: RunningServer, files: Files, idp: RunningProvider) -> None:
    exchange = {"flow": "token_exchange"}
    subject = {"exchange__subject_token": _provided(idp), "exchange__subject_token_type": JWT}
    assert _asked(_connect(encrypted, files, **exchange, **subject)) == [("idp:alice",)]
    more = {
        "exchange__requested_token_type": ACCESS_TOKEN,
        "exchange__aud": "flightsql-server",
        "exchange__scope": "viewer",
    }
    narrow = _connect(encrypted, files, **exchange, **subject, **more)
    with pytest.raises(DriverError, match="42P01"):
        _asked(narrow, "SELECT * FROM orders")
    with pytest.raises(DriverError, match="invalid_request"):
        _connect(encrypted, files, **exchange, **subject | {"exchange__subject_token": _provided(idp, aud="other")})


def test_adbc_begins_a_transaction_with_its_token(encrypted: RunningServer, files: Files) -> None:
    """What it gets is a session of its own, not a borrowed word."""
    login = {"client_id": "maker", "client_secret": "maker"}
    connection = _connect(encrypted, files, flow="client_credentials", **login)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE kept AS SELECT 1 AS n")
        cursor.execute("BEGIN")
        cursor.execute("SELECT n FROM kept")
        assert cursor.fetchall() == [(1,)]
        cursor.execute("ROLLBACK")
