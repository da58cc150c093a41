"""TLS on both ports, and client certificates, with stock clients: what gets in, as whom, and what stays out."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from cryptography import x509
from flightsql_auth.store import StateStore

from flightsql_server.client import Publisher
from flightsql_server.protocol import flight_pb2 as wire
from tests.certificates import Authority, Pair
from tests.commands import CLEAN, COMMAND, refusal, run, run_apart
from tests.running import CONFIG, RunningServer, add_users

CA = Authority()
OTHER_CA = Authority()
READER, VIEWER = CA.client("reader"), CA.client("viewer")
ROOT_CERTS = "adbc.flight.sql.client_option.tls_root_certs"
CHAIN, KEY = "adbc.flight.sql.client_option.mtls_cert_chain", "adbc.flight.sql.client_option.mtls_private_key"
WHO = "SELECT current_user AS who"


class Desk:
    """A server with TLS: ``folder`` holds its files, ``server.pem`` and ``server.key`` among them."""

    def __init__(self, folder: Path, running: RunningServer) -> None:
        self.folder, self.running = folder, running
        second = re.search(r"certificates on grpc\+tls://[^:]+:(\d+)", "".join(running.output))
        self.url = f"grpc+tls://127.0.0.1:{running.port}"
        self.second_port = int(second[1]) if second else running.port
        self.certificate_url = f"grpc+tls://localhost:{self.second_port}"

    def ask(self, url: str, sql: str = WHO, shown: Pair | None = None, **options: Any) -> list[tuple[object, ...]]:
        """The rows that ADBC gets, with that client certificate and these options."""
        known = {ROOT_CERTS: CA.pem.decode(), **options}
        if shown is not None:
            known |= {CHAIN: shown.certificate.decode(), KEY: shown.key.decode()}
        with flight_sql.connect(url, db_kwargs=known, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            rows: list[tuple[object, ...]] = cursor.fetchall()
            return rows

    def flight(self, url: str, shown: Pair | None = None) -> flight.FlightClient:
        pair = {} if shown is None else {"cert_chain": shown.certificate, "private_key": shown.key}
        return flight.FlightClient(url, tls_root_certs=CA.pem, **pair)

    def shown_certificate(self, port: int) -> bytes:
        """What a new connection is shown, unverified."""
        return ssl.get_server_certificate(("127.0.0.1", port)).encode()

    def get(self, path: str, shown: Path | None = None, data: bytes | None = None) -> tuple[int, str]:
        """Status and body of the HTTP port's answer; ``shown`` is the stem of a client's files, ``data`` is posted."""
        context = ssl.create_default_context(cadata=CA.pem.decode())
        if shown is not None:
            context.load_cert_chain(shown.with_suffix(".pem"), shown.with_suffix(".key"))
        try:
            with urllib.request.urlopen(
                f"https://127.0.0.1:{self.running.http_port}{path}", data, timeout=10, context=context
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, line: str) -> float:
        _, text = self.get("/metrics", self.folder / "reader")
        return next((float(one.rsplit(" ", 1)[1]) for one in text.splitlines() if one.startswith(line + " ")), 0.0)


@contextmanager
def desk_with(folder: Path, certificates: str, **settings: str) -> Iterator[Desk]:
    certificate, key = CA.server().write(folder, "server")
    READER.write(folder, "reader")
    (folder / "ca.pem").write_bytes(CA.pem)
    chosen = {"certificate": str(certificate), "key": str(key), "check_seconds": "1", **settings}
    if certificates != "none":
        chosen |= {"client_ca": str(folder / "ca.pem"), "client_certificates": certificates, "certificate_port": "0"}
    environment = {**CLEAN, **{f"FLIGHTSQL_TLS_{name.upper()}": value for name, value in chosen.items()}}
    add_users(folder / "data")
    (folder / "test.toml").write_text(CONFIG, encoding="utf-8")
    running = RunningServer(folder / "data", "--config", str(folder / "test.toml"), environment=environment)
    try:
        yield Desk(folder, running)
    finally:
        running.stop()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_with(tmp_path_factory.mktemp("tls"), "optional") as desk:
        yield desk


@pytest.fixture
def own_desk(tmp_path: Path) -> Iterator[Desk]:
    """One whose files and users the test may change."""
    with desk_with(tmp_path, "optional") as desk:
        yield desk


def _bearer(value: str) -> dict[str, Any]:
    return {"adbc.flight.sql.authorization_header": value}


def eventually(what: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)


# ---- TLS, and user and password or a token over it


def test_adbc_logs_in_by_password_and_by_token(desk: Desk) -> None:
    assert desk.ask(desk.url, username="reader", password="reader") == [("reader",)]
    with desk.flight(desk.url) as client:
        _, bearer = client.authenticate_basic_token("viewer", "viewer")
    assert desk.ask(desk.url, **_bearer(bearer.decode())) == [("viewer",)]


def test_pyarrow_logs_in(desk: Desk) -> None:
    with desk.flight(desk.url) as client:
        options = flight.FlightCallOptions(headers=[client.authenticate_basic_token("reader", "reader")])
        assert client.do_get(flight.Ticket(b"market_data"), options).read_all().num_columns == 6


def test_who_does_not_believe_the_authority_sends_nothing(desk: Desk) -> None:
    strange: dict[str, Any] = {ROOT_CERTS: OTHER_CA.pem.decode()}
    with pytest.raises(adbc_driver_manager.OperationalError, match="unknown authority"):
        desk.ask(desk.url, username="reader", password="reader", **strange)


def test_plain_text_is_not_spoken(desk: Desk) -> None:
    with (
        flight.FlightClient(f"grpc://127.0.0.1:{desk.running.port}") as client,
        pytest.raises(flight.FlightError),
    ):
        client.authenticate_basic_token("reader", "reader")
    with socket.create_connection(("127.0.0.1", desk.running.http_port), timeout=5) as plain:
        plain.sendall(b"GET /metrics HTTP/1.1\r\nHost: desk\r\n\r\n")
        with suppress(ConnectionResetError):
            assert b"flightsql" not in plain.recv(4096)


@pytest.mark.parametrize("port", ["port", "http_port"])
def test_older_tls_is_refused(desk: Desk, port: str) -> None:
    found: dict[str, object] = {}
    for version in (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cadata=CA.pem.decode())
        context.set_alpn_protocols(["h2"])
        context.set_ciphers("ALL:@SECLEVEL=0")  # so that it is not this side that refuses
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
        try:
            with (
                socket.create_connection(("127.0.0.1", getattr(desk.running, port)), timeout=5) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as wrapped,
            ):
                found[version.name] = wrapped.version()
        except ssl.SSLError as error:
            found[version.name] = error.reason
    assert (found["TLSv1_2"], found["TLSv1_3"]) == ("TLSv1.2", "TLSv1.3")
    # The server hung up, with or without a word.
    assert found["TLSv1_1"] in ("UNEXPECTED_EOF_WHILE_READING", "TLSV1_ALERT_PROTOCOL_VERSION")


def test_the_http_port_needs_no_certificate_unless_it_is_required(desk: Desk) -> None:
    assert desk.get("/readyz") == (200, "ok\n")
    assert desk.get("/metrics")[0] == 200
    assert desk.get("/metrics", desk.folder / "reader")[0] == 200
    stranger = OTHER_CA.client("reader").write(desk.folder, "stranger")[0]
    with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionResetError)):
        desk.get("/metrics", stranger.with_suffix(""))


# ---- A client certificate in the place of user and password


def test_a_certificate_is_its_user(desk: Desk) -> None:
    assert desk.ask(desk.certificate_url, shown=READER) == [("reader",)]
    assert desk.ask(desk.certificate_url, shown=VIEWER) == [("viewer",)]
    with desk.flight(desk.certificate_url, READER) as client:
        assert client.do_get(flight.Ticket(b"market_data")).read_all().num_columns == 6


def test_it_has_the_rights_of_its_user_and_no_more(desk: Desk) -> None:
    count = "SELECT count(*) FROM positions"
    assert desk.ask(desk.certificate_url, count, shown=READER) == [(0,)]
    with pytest.raises(adbc_driver_manager.ProgrammingError, match="42P01"):
        desk.ask(desk.certificate_url, count, shown=VIEWER)


def test_the_port_for_certificates_is_closed_to_others(desk: Desk) -> None:
    for shown in (None, OTHER_CA.client("reader"), Authority("Desk CA").client("admin")):
        with pytest.raises(adbc_driver_manager.Error, match=r"\(Unavailable"):
            desk.ask(desk.certificate_url, shown=shown, username="reader", password="reader")


def test_the_port_without_certificates_never_believes_one(desk: Desk) -> None:
    with pytest.raises(adbc_driver_manager.ProgrammingError, match=r"\[28000\] no credentials"):
        desk.ask(desk.url, shown=READER)


def test_the_header_goes_before_the_certificate(desk: Desk) -> None:
    assert desk.ask(desk.certificate_url, shown=READER, username="viewer", password="viewer") == [("viewer",)]
    with pytest.raises(adbc_driver_manager.ProgrammingError, match="28P01"):
        desk.ask(desk.certificate_url, shown=READER, username="viewer", password="wrong")
    with pytest.raises(adbc_driver_manager.ProgrammingError, match="28000"):
        desk.ask(desk.certificate_url, shown=READER, **_bearer("Bearer rubbish"))


def test_a_certificate_of_nobody_is_named_and_counted(desk: Desk) -> None:
    series = 'flightsql_refused_calls_total{outcome="bad_certificate"}'
    before = desk.metric(series)
    for name in ("nobody", "anonymous", "READER", "reader "):
        with pytest.raises(
            adbc_driver_manager.ProgrammingError, match=r"\[28000\] the client certificate names no user"
        ):
            desk.ask(desk.certificate_url, shown=CA.client(name))
    assert desk.metric(series) >= before + 4


def test_a_handshake_by_certificate_makes_a_session(desk: Desk) -> None:
    """The token is then good on the other port, too, as any token is."""
    credentials = grpc.ssl_channel_credentials(CA.pem, READER.key, READER.certificate)
    with grpc.secure_channel(f"localhost:{desk.second_port}", credentials) as channel:
        handshake = channel.stream_stream("/arrow.flight.protocol.FlightService/Handshake", None, None)
        (answer,) = list(handshake(iter(()), timeout=10))
    token = wire.HandshakeResponse.FromString(answer).payload.decode()
    assert desk.ask(desk.url, **_bearer(f"Bearer {token}")) == [("reader",)]
    with pytest.raises(adbc_driver_manager.Error, match="session"):
        desk.ask(desk.certificate_url, "BEGIN", shown=READER)
    assert desk.ask(desk.certificate_url, "SELECT 1", shown=READER) == [(1,)]


def test_connections_of_one_process_are_each_their_own(desk: Desk) -> None:
    clients = [desk.flight(desk.certificate_url, pair) for pair in (READER, VIEWER) * 2]
    try:
        for _ in range(20):
            for client, positions in zip(clients, (True, False, True, False), strict=True):
                names = {info.descriptor.path[0] for info in client.list_flights()}
                assert (b"positions" in names) is positions
    finally:
        for client in clients:
            client.close()


def test_required_closes_everything_but_probes_and_public_keys(tmp_path: Path) -> None:
    with desk_with(tmp_path, "required") as desk:
        assert desk.ask(desk.url, shown=READER) == [("reader",)]
        with pytest.raises(adbc_driver_manager.Error, match=r"\(Unavailable"):
            desk.ask(desk.url, username="reader", password="reader")
        for path in ("/livez", "/readyz", "/.well-known/jwks.json"):
            assert desk.get(path)[0] == 200
        for path in ("/", "/metrics", "/metrics/", "/livez/../metrics", "//metrics", "/none"):
            assert desk.get(path) == (403, "Show a client certificate: this server requires one.\n")
        assert desk.get("/metrics", tmp_path / "reader")[0] == 200


def _oauth(desk: Desk, shown: Pair | None = None) -> dict[str, Any]:
    """ADBC's options for a token that it fetches itself."""
    pair = {} if shown is None else {CHAIN: shown.certificate.decode(), KEY: shown.key.decode()}
    flow = {
        "flow": "client_credentials",
        "token_uri": f"https://127.0.0.1:{desk.running.http_port}/oauth/token",
        "client_id": "viewer",
        "client_secret": "viewer",
    }
    return pair | {f"adbc.flight.sql.oauth.{name}": value for name, value in flow.items()}


def test_adbc_gets_a_token_over_tls_without_a_certificate(desk: Desk) -> None:
    assert desk.ask(desk.url, **_oauth(desk)) == [("viewer",)]


def test_where_a_certificate_is_required_a_token_needs_one_too(tmp_path: Path) -> None:
    with desk_with(tmp_path, "required") as desk:
        form = b"grant_type=client_credentials&client_id=viewer&client_secret=viewer"
        refusal = (403, "Show a client certificate: this server requires one.\n")
        assert desk.get("/oauth/token", data=form) == refusal
        assert desk.get("/.well-known/oauth-authorization-server") == refusal
        status, body = desk.get("/oauth/token", tmp_path / "reader", form)
        assert (status, json.loads(body)["scope"]) == (200, "viewer")
        with pytest.raises(adbc_driver_manager.Error):
            desk.ask(desk.url, **_oauth(desk))
        assert desk.ask(desk.url, **_oauth(desk, READER)) == [("viewer",)], "the token goes before the certificate"


@pytest.mark.slow
def test_the_name_may_be_taken_from_another_part(tmp_path: Path) -> None:
    uri = CA.issue("viewer", names=[x509.UniformResourceIdentifier("spiffe://desk/reader")])
    settings = {"user_from": "uri", "user_pattern": "spiffe://desk/(.+)"}
    with desk_with(tmp_path, "required", **settings) as desk:
        assert desk.ask(desk.url, shown=uri) == [("reader",)]
        with pytest.raises(adbc_driver_manager.ProgrammingError, match="28000"):
            desk.ask(desk.url, shown=VIEWER)


def test_disabling_the_user_ends_it_on_open_connections(own_desk: Desk) -> None:
    store = StateStore(own_desk.folder / "data" / "state.sqlite")
    with own_desk.flight(own_desk.certificate_url, READER) as client:
        list(client.list_flights())
        store.set_disabled("reader", True)
        store.close()

        def refused() -> bool:
            try:
                list(client.list_flights())
            except flight.FlightUnauthenticatedError:
                return True
            return False

        eventually(refused, seconds=5)


# ---- New certificates


def test_new_files_are_taken_while_connections_go_on(own_desk: Desk) -> None:
    ports = (own_desk.running.port, own_desk.running.http_port)
    before = own_desk.shown_certificate(ports[0])
    with own_desk.flight(own_desk.certificate_url, READER) as open_client:
        list(open_client.list_flights())
        pair = CA.subordinate("Desk CA 2").server()
        pair.write(own_desk.folder, "server")
        for port in ports:
            eventually(lambda port=port: own_desk.shown_certificate(port) in pair.certificate)  # type: ignore[misc]
        assert before not in pair.certificate
        assert len(list(open_client.list_flights())) == 3
    assert own_desk.ask(own_desk.url, username="reader", password="reader") == [("reader",)]
    assert own_desk.ask(own_desk.certificate_url, shown=READER) == [("reader",)]
    assert own_desk.metric('flightsql_tls_loads_total{outcome="taken"}') == 1


def test_files_that_can_not_be_used_are_refused_and_the_old_ones_stay(own_desk: Desk) -> None:
    before = own_desk.shown_certificate(own_desk.running.port)
    refused = 'flightsql_tls_loads_total{outcome="refused"}'
    (own_desk.folder / "server.pem").write_bytes(CA.server().certificate)
    eventually(lambda: own_desk.metric(refused) == 1)
    (own_desk.folder / "server.key").unlink()
    own_desk.running.process.send_signal(signal.SIGHUP)
    eventually(lambda: own_desk.metric(refused) == 2)
    for port in (own_desk.running.port, own_desk.running.http_port):
        assert own_desk.shown_certificate(port) == before
    assert own_desk.ask(own_desk.url, username="reader", password="reader") == [("reader",)]
    said = "".join(own_desk.running.output)
    assert "the TLS certificate stays as it is" in said
    assert "PRIVATE" not in said


@pytest.mark.slow
def test_a_hang_up_takes_new_files_at_once(tmp_path: Path) -> None:
    with desk_with(tmp_path, "none", check_seconds="3600") as desk:
        pair = CA.server()
        pair.write(tmp_path, "server")
        desk.running.process.send_signal(signal.SIGHUP)
        eventually(lambda: desk.shown_certificate(desk.running.port) == pair.certificate)


def test_a_new_authority_holds_for_new_connections(own_desk: Desk) -> None:
    (own_desk.folder / "ca.pem").write_bytes(OTHER_CA.pem)
    stranger = OTHER_CA.client("reader")

    def taken() -> bool:
        try:
            return own_desk.ask(own_desk.certificate_url, shown=stranger) == [("reader",)]
        except adbc_driver_manager.Error:
            return False

    eventually(taken)
    with pytest.raises(adbc_driver_manager.Error, match=r"\(Unavailable"):
        own_desk.ask(own_desk.certificate_url, shown=READER)
    with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionResetError)):
        own_desk.get("/metrics", own_desk.folder / "reader")


# ---- The command line


def test_commands_connect_by_tls(desk: Desk, tmp_path: Path) -> None:
    (desk.folder / "viewer.pem").write_bytes(VIEWER.certificate)
    (desk.folder / "viewer.key").write_bytes(VIEWER.key)
    by_password = {"FLIGHTSQL_URL": desk.url, "FLIGHTSQL_USER": "reader", "FLIGHTSQL_PASSWORD": "reader"}
    trusting = ("--ca-file", str(desk.folder / "ca.pem"))
    assert "reader" in run("sql", WHO, *trusting, **by_password).stdout
    showing = (
        *trusting,
        *("--certificate", str(desk.folder / "viewer.pem"), "--certificate-key", str(desk.folder / "viewer.key")),
        *("--url", desk.certificate_url),
    )
    assert "viewer" in run("sql", WHO, *showing).stdout
    assert "42501" in refusal(run("backup", "mine", *showing))
    assert "go together" in refusal(run("sql", WHO, *showing[:4], "--url", desk.certificate_url))
    assert "unknown authority" in refusal(run("sql", WHO, **by_password))


def test_a_publisher_may_show_a_certificate(desk: Desk) -> None:
    feed = CA.client("feed")
    pair = {"tls_root_certs": CA.pem, "cert_chain": feed.certificate, "private_key": feed.key}
    with Publisher(desk.certificate_url, "market_data", **pair) as publisher:  # type: ignore[arg-type]
        assert publisher.schema().names[0] == "symbol"


def test_check_config_looks_at_the_files(tmp_path: Path) -> None:
    certificate, key = CA.server().write(tmp_path, "server")
    options = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    said = run("check-config", *options)
    assert said.returncode == 0
    assert re.search(rf"^tls.key +{re.escape(str(key))} +command line$", said.stdout, re.MULTILINE)
    key.write_bytes(CA.server().key)
    assert "is not the key of the first certificate" in refusal(run("check-config", *options))
    assert "is not the key of the first certificate" in refusal(
        run("serve", *options, "--data-dir", str(tmp_path / "d"))
    )
    assert not (tmp_path / "d").exists()
    assert "go together" in refusal(run("check-config", *options[:2]))
    assert "--demo speaks no TLS" in refusal(run("serve", "--demo", *options))


def test_beyond_loopback_it_takes_tls_or_a_word(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"), "--port", "0", "--http-port", "0")
    said = refusal(run_apart("serve", *data, "--host", "0.0.0.0"))
    assert "reads passwords, tokens and data" in said
    assert "--tls-certificate" in said
    certificate, key = CA.server().write(tmp_path, "server")
    for more, warned in (
        (("--tls-certificate", str(certificate), "--tls-key", str(key)), False),
        (("--insecure",), True),
    ):
        command = [*COMMAND, "serve", *data, "--host", "0.0.0.0", *more]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=CLEAN) as process:
            assert process.stdout is not None
            assert "Serving Flight SQL" in process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate(timeout=30)
        assert ("nothing is encrypted: whoever can listen there" in told) is warned


def test_rows_come_through_whole(desk: Desk) -> None:
    with desk.flight(desk.url) as client:
        options = flight.FlightCallOptions(headers=[client.authenticate_basic_token("reader", "reader")])
        assert isinstance(client.do_get(flight.Ticket(b"orders"), options).read_all(), pa.Table)
    total = "SELECT sum(range) FROM range(1000000)"
    assert desk.ask(desk.url, total, username="reader", password="reader") == [(499_999_500_000,)]
    rows = desk.ask(desk.url, "SELECT range FROM range(200000)", username="reader", password="reader")
    assert sum(int(str(row[0])) for row in rows) == 19_999_900_000
