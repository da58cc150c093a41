"""A new certificate in the place of the old one: when it is taken, and what happens to one that can't be used."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from flightsql_auth.keys import KeyFileError
from flightsql_auth.server_certificate import CertificateFiles
from prometheus_client import CollectorRegistry

from flightsql_server import config
from flightsql_server.metrics import Metrics
from flightsql_server.tls import Tls, certificate_users, files_of
from tests.certificates import Authority

CA = Authority()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def tls(tmp_path: Path, metrics: Metrics) -> Tls:
    return Tls(CertificateFiles(*CA.server().write(tmp_path, "server")), metrics)


def _loads(metrics: Metrics) -> tuple[float | None, float | None]:
    name = "flightsql_tls_loads_total"
    found = [metrics.registry.get_sample_value(name, {"outcome": outcome}) for outcome in ("taken", "refused")]
    return found[0], found[1]


def test_new_files_are_taken(tls: Tls, metrics: Metrics, tmp_path: Path) -> None:
    before = tls.current
    assert not tls.reload()
    CA.server().write(tmp_path, "server")
    assert tls.reload()
    assert tls.current != before
    assert _loads(metrics) == (1, 0)
    told = metrics.registry.get_sample_value("flightsql_tls_not_after_seconds", {"file": "certificate"})
    assert told == tls.current.not_after


def test_what_can_not_be_used_is_told_once_and_left_aside(
    tls: Tls, metrics: Metrics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    before = tls.current
    new = CA.server()
    (tmp_path / "server.pem").write_bytes(new.certificate)  # the key comes a moment later
    for _ in range(3):
        assert not tls.reload()
    assert tls.current is before
    assert _loads(metrics) == (0, 1)
    assert [record.getMessage() for record in caplog.records] == [
        f"the TLS certificate stays as it is: {tmp_path}/server.key is not the key of the first certificate in "
        f"{tmp_path}/server.pem"
    ]
    (tmp_path / "server.key").write_bytes(new.key)
    assert tls.reload()
    assert _loads(metrics) == (1, 1)
    (tmp_path / "server.key").chmod(0o644)
    assert not tls.reload()
    assert _loads(metrics) == (1, 2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"certificate": "a.pem"}, "tls.certificate and tls.key go together"),
        ({"key": "a.key"}, "tls.certificate and tls.key go together"),
        ({"client_ca": "ca.pem"}, "Client certificates need TLS"),
        ({"client_certificates": "required"}, "Client certificates need TLS"),
        ({"certificate": "a.pem", "key": "a.key", "client_ca": "ca.pem"}, "tls.client_ca and tls.client_certificates"),
        (
            {"certificate": "a.pem", "key": "a.key", "client_certificates": "optional"},
            "tls.client_ca and tls.client_certificates",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings: dict[str, str], said: str) -> None:
    given = config.load(environment={f"FLIGHTSQL_TLS_{name.upper()}": value for name, value in settings.items()})
    with pytest.raises(KeyFileError, match=said):
        files_of(given)


def test_without_settings_there_is_no_tls() -> None:
    given = config.load(environment={})
    assert files_of(given) is None
    assert certificate_users(given) is None


def test_a_pattern_that_is_none_is_refused() -> None:
    environment = {"FLIGHTSQL_TLS_CLIENT_CERTIFICATES": "required", "FLIGHTSQL_TLS_USER_PATTERN": "trader"}
    with pytest.raises(KeyFileError, match=r"tls\.user_pattern: 'trader' must have one group"):
        certificate_users(config.load(environment=environment))
