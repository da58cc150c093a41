"""Fetching a provider's keys from a real one: over https alone, bounded, and never from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flightsql_auth.fetching import Fetcher, FetchError
from flightsql_auth.provider_keys import read_keys
from flightsql_auth.providers import Provider, providers_of

from tests.own_authority import Files, make_authority
from tests.provider import RunningProvider, running_provider


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def provider(files: Files) -> Iterator[RunningProvider]:
    with running_provider(files.certificate, files.key, ca_file=files.authority) as running:
        yield running


def _configured(provider: RunningProvider, **table: object) -> Provider:
    return providers_of({"idp": {"issuer": provider.issuer, "audience": "desk", **table}}, ())[0]


def test_keys_are_found_by_discovery(provider: RunningProvider, files: Files) -> None:
    configured = _configured(provider, ca_file=str(files.authority))
    found = read_keys(configured.load_keys(), configured.algorithms)
    assert {algorithm for _, algorithm in found} == {"RS256", "ES256", "EdDSA"}


def test_keys_are_read_at_an_address_of_their_own(provider: RunningProvider, files: Files) -> None:
    configured = _configured(provider, ca_file=str(files.authority), jwks_url=f"{provider.issuer}/jwks")
    before = provider.seen().get("/.well-known/openid-configuration", 0)
    assert read_keys(configured.load_keys(), configured.algorithms)
    assert provider.seen().get("/.well-known/openid-configuration", 0) == before


def test_keys_are_read_from_a_file(provider: RunningProvider, files: Files, tmp_path: Path) -> None:
    fetched = _configured(provider, ca_file=str(files.authority)).load_keys()
    file = tmp_path / "jwks.json"
    configured = _configured(provider, jwks_file=str(file), fetch_bytes=1_024)
    with pytest.raises(FetchError, match="can't be read"):
        configured.load_keys()
    file.write_bytes(fetched[:1_000])
    assert configured.load_keys() == fetched[:1_000]
    file.write_bytes(b" " * 1_025)
    with pytest.raises(FetchError, match="longer"):
        configured.load_keys()


def test_a_certificate_of_nobody_is_not_believed(provider: RunningProvider, tmp_path: Path) -> None:
    for table in ({}, {"ca_file": str(make_authority(tmp_path).authority)}, {"ca_file": str(tmp_path / "none.pem")}):
        with pytest.raises(FetchError):
            _configured(provider, **table).load_keys()


def test_a_certificate_for_another_name_is_not_believed(provider: RunningProvider, files: Files) -> None:
    port = provider.issuer.rpartition(":")[2]
    with pytest.raises(FetchError):
        Fetcher(5, 262_144, files.authority).fetch(f"https://[::ffff:127.0.0.1]:{port}/jwks")


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("down", "503"),
        ("redirect", "302"),
        ("huge", "longer"),
        ("drip", "no answer|longer|status"),
        ("other issuer", "discovery"),
    ],
)
def test_answers_that_are_not_used(provider: RunningProvider, files: Files, mode: str, words: str) -> None:
    provider.turn(mode=mode)
    started = time.monotonic()
    try:
        configured = _configured(provider, ca_file=str(files.authority), fetch_seconds=0.5)
        if mode == "drip":
            with pytest.raises(FetchError):
                read_keys(configured.load_keys(), configured.algorithms)
        else:
            with pytest.raises(FetchError, match=words):
                configured.load_keys()
    finally:
        provider.turn(mode="well")
    assert time.monotonic() - started < 10  # a drip would go on for a minute
    assert "/elsewhere" not in provider.seen()


def test_plain_http_from_loopback_alone() -> None:
    with running_provider() as plain:
        configured = _configured(plain)
        assert read_keys(configured.load_keys(), configured.algorithms)
        with pytest.raises(FetchError, match="https"):
            Fetcher(5, 262_144, plain=False).fetch(f"{plain.issuer}/jwks")
    with pytest.raises(FetchError):
        configured.load_keys()


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1/", "https:///x", "https://a b/", "https://h/#f", "//h/", "https://h:0/", "https://h\n/"]
)
def test_addresses_that_are_not_asked(url: str) -> None:
    with pytest.raises(FetchError):
        Fetcher(1, 1_024, plain=True).fetch(url)
