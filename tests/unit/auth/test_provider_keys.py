"""A provider's keys: which of a key set count, how long they are kept, how seldom they are fetched."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from flightsql_auth.errors import BadToken, ProviderUnavailable, TooBusy
from flightsql_auth.fetching import FetchError
from flightsql_auth.provider_keys import MAX_WAITING, ProviderKeys, key_set_url, read_keys

ALL = frozenset({"RS256", "ES256", "EdDSA"})


def _jwk(key: object, algorithm: str, **changes: object) -> dict[str, object]:
    found: dict[str, object] = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)  # type: ignore[call-overload]
    found = {name: value for name, value in found.items() if name != "key_ops"} | {"kid": "k", **changes}
    return {name: value for name, value in found.items() if value is not None}


RSA_KEY, EC_KEY, ED_KEY = (
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP256R1()),
    ed25519.Ed25519PrivateKey.generate(),
)
RSA, EC, ED = (_jwk(key.public_key(), name) for key, name in ((RSA_KEY, "RS256"), (EC_KEY, "ES256"), (ED_KEY, "EdDSA")))


def _document(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def test_keys_of_every_kind_are_read() -> None:
    found = read_keys(_document(RSA | {"kid": "r"}, EC | {"kid": "e"}, ED | {"kid": "d"}), ALL)
    assert found.keys() == {("r", "RS256"), ("e", "ES256"), ("d", "EdDSA")}
    assert read_keys(_document(RSA, EC), ALL).keys() == {("k", "RS256"), ("k", "ES256")}


@pytest.mark.parametrize(
    "entry",
    [
        RSA | {"use": "enc"},
        RSA | {"key_ops": ["sign"]},
        RSA | {"key_ops": "verify"},
        RSA | {"alg": "RS512"},
        RSA | {"alg": "HS256"},
        RSA | {"alg": None},
        RSA | {"kid": ""},
        RSA | {"kid": 7},
        RSA | {"kid": "k" * 257},
        RSA | {"e": "AQ"},
        RSA | {"n": "!"},
        {name: value for name, value in RSA.items() if name != "kid"},
        {name: value for name, value in RSA.items() if name != "n"},
        _jwk(RSA_KEY, "RS256"),
        _jwk(EC_KEY, "ES256"),
        _jwk(rsa.generate_private_key(65537, 1024).public_key(), "RS256"),
        _jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), "ES384"),
        EC | {"crv": "secp256k1"},
        EC | {"crv": "P-384"},
        EC | {"x": "AAAA"},
        EC | {"y": EC["x"]},
        ED | {"crv": "X25519"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "HS256"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k"},
        {"kty": ["RSA"], "kid": "k"},
        "key",
        None,
    ],
    ids=lambda entry: f"{entry['kty']} key" if isinstance(entry, dict) else str(entry),  # keys are new in each process
)
def test_entries_that_are_no_key_to_trust_are_left_out(entry: object) -> None:
    assert read_keys(_document(entry, ED | {"kid": "good"}), ALL).keys() == {("good", "EdDSA")}


def test_a_key_that_is_there_twice_is_none() -> None:
    other = _jwk(ed25519.Ed25519PrivateKey.generate().public_key(), "EdDSA")
    assert read_keys(_document(ED, other), ALL) == {}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [], "keys": []}',
        b"<html>",
        b"\xff",
        b"[" * 9000,
        _document(*[ED] * 101),
    ],
    ids=lambda document: repr(document[:14]),
)
def test_documents_that_are_no_key_set(document: bytes) -> None:
    with pytest.raises(FetchError):
        read_keys(document, ALL)


@pytest.mark.parametrize(
    "change",
    [{"issuer": "https://evil.test"}, {"issuer": None}, {"jwks_uri": None}, {"jwks_uri": ["https://a"]}],
    ids=str,
)
def test_discovery_documents_of_others(change: Mapping[str, object]) -> None:
    good: dict[str, object] = {"issuer": "https://idp.test", "jwks_uri": "https://idp.test/jwks"}
    assert key_set_url(json.dumps(good).encode(), "https://idp.test") == "https://idp.test/jwks"
    with pytest.raises(FetchError):
        key_set_url(json.dumps(good | change).encode(), "https://idp.test")


class Source:
    """What a provider would answer, how often it was asked, and a stopwatch that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.keys: list[object] = [ED | {"kid": "one"}]
        self.works = True
        self.asked = 0
        self.open = threading.Event()
        self.open.set()
        self.reports: Counter[str] = Counter()

    def load(self) -> bytes:
        self.asked += 1
        assert self.open.wait(10)
        if not self.works:
            raise FetchError("down")
        return _document(*self.keys)

    def made(self, **changes: float) -> ProviderKeys:
        seconds = {"fresh_seconds": 600.0, "refetch_seconds": 30.0, "stale_seconds": 3_600.0, "wait_seconds": 5.0}
        return ProviderKeys(
            "idp",
            self.load,
            ALL,
            report=lambda _, outcome: self.reports.update([outcome]),
            clock=lambda: self.now,
            **(seconds | changes),
        )


@pytest.fixture
def source() -> Source:
    return Source()


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_keys_are_kept(source: Source) -> None:
    keys = source.made()
    for _ in range(100):
        key, seconds = keys.find("one", "EdDSA")
        assert 0 < seconds <= 600
    assert key.key_id == "one"
    assert source.asked == 1


def test_a_key_counts_under_its_own_algorithm_alone(source: Source) -> None:
    keys = source.made()
    keys.find("one", "EdDSA")
    with pytest.raises(BadToken):
        keys.find("one", "RS256")


def test_a_flood_of_unknown_kids_is_one_fetch(source: Source) -> None:
    keys = source.made()
    keys.find("one", "EdDSA")
    source.now += 31
    reported = source.reports["held_back"]
    for number in range(1_000):
        with pytest.raises(BadToken):
            keys.find(f"unknown-{number}", "EdDSA")
    assert source.asked == 2
    _until(lambda: source.reports["ok"] == 2)
    assert source.reports["held_back"] - reported == 999


def test_a_new_key_is_found_by_one_fetch(source: Source) -> None:
    keys = source.made()
    keys.find("one", "EdDSA")
    source.keys.append(ED | {"kid": "two"})
    source.now += 31
    assert keys.find("two", "EdDSA")[0].key_id == "two"
    assert source.asked == 2


def test_a_retired_key_is_refused_when_the_keys_have_aged(source: Source) -> None:
    keys = source.made()
    source.keys.append(ED | {"kid": "two"})
    believed = keys.find("one", "EdDSA")[1]
    del source.keys[0]
    assert believed <= 600
    source.now += 600
    with pytest.raises(BadToken):
        keys.find("one", "EdDSA")


def test_keys_are_fetched_in_the_background_before_they_have_aged(source: Source) -> None:
    keys = source.made()
    keys.find("one", "EdDSA")
    source.now += 301
    source.open.clear()
    keys.find("one", "EdDSA")  # doesn't wait
    source.open.set()
    _until(lambda: source.reports["ok"] == 2)
    source.now += 301
    keys.find("one", "EdDSA")
    assert source.asked <= 3


def test_the_last_keys_go_on_while_the_provider_is_down_for_a_while(source: Source) -> None:
    keys = source.made()
    keys.find("one", "EdDSA")
    source.works = False
    source.now += 601
    key, seconds = keys.find("one", "EdDSA")
    assert seconds <= 1
    with pytest.raises(ProviderUnavailable):
        keys.find("unknown", "EdDSA")
    assert source.asked == 3
    source.now += 3_000
    with pytest.raises(ProviderUnavailable):
        keys.find("one", "EdDSA")
    source.works = True
    source.now += 31
    assert keys.find("one", "EdDSA")[0].key_id == key.key_id


def test_a_provider_that_was_never_there(source: Source) -> None:
    source.works = False
    with pytest.raises(ProviderUnavailable):
        source.made().find("one", "EdDSA")


def test_waiting_ends(source: Source) -> None:
    keys = source.made(wait_seconds=0.01)
    source.open.clear()
    with pytest.raises(ProviderUnavailable):
        keys.find("one", "EdDSA")
    source.open.set()


def test_few_threads_wait_for_one_fetch(source: Source) -> None:
    keys = source.made(wait_seconds=60)
    source.open.clear()
    outcomes: Counter[str] = Counter()

    def ask() -> None:
        try:
            outcomes.update([keys.find("one", "EdDSA")[0].key_id or ""])
        except TooBusy:
            outcomes.update(["busy"])

    threads = [threading.Thread(target=ask) for _ in range(MAX_WAITING + 10)]
    for thread in threads:
        thread.start()
    _until(lambda: outcomes["busy"] == 10)
    source.open.set()
    for thread in threads:
        thread.join(10)
    assert outcomes == {"one": MAX_WAITING, "busy": 10}
    assert source.asked == 1


def test_a_flood_of_unknown_kids_locks_nobody_out(source: Source) -> None:
    """While all who may wait for an unknown key do so, a known one goes on."""
    keys = source.made(wait_seconds=60)
    keys.find("one", "EdDSA")
    source.now += 601
    source.open.clear()
    outcomes: Counter[str] = Counter()

    def ask(kid: str) -> None:
        try:
            outcomes.update([keys.find(kid, "EdDSA")[0].key_id or ""])
        except (BadToken, TooBusy) as error:
            outcomes.update([type(error).__name__])

    threads = [threading.Thread(target=ask, args=(f"unknown-{n}",)) for n in range(2 * MAX_WAITING)]
    threads += [threading.Thread(target=ask, args=("one",)) for _ in range(2 * MAX_WAITING)]
    for thread in threads:
        thread.start()
    _until(lambda: outcomes == {"TooBusy": MAX_WAITING, "one": MAX_WAITING})
    source.open.set()
    for thread in threads:
        thread.join(10)
    assert outcomes == {"TooBusy": MAX_WAITING, "BadToken": MAX_WAITING, "one": 2 * MAX_WAITING}
    assert source.asked == 2


def test_nobody_waits_twice_for_a_provider_that_hangs(source: Source) -> None:
    keys = source.made()
    keys.find("one", "EdDSA")
    source.works = False
    source.now += 601
    keys.find("one", "EdDSA")
    source.now += 31
    source.open.clear()
    keys.find("one", "EdDSA")
    source.open.set()
    _until(lambda: source.reports["failed"] == 2)


def test_a_clock_that_goes_back_fetches_no_oftener(source: Source) -> None:
    keys = source.made()
    keys.find("one", "EdDSA")
    source.now -= 500
    for _ in range(10):
        keys.find("one", "EdDSA")
        with pytest.raises(BadToken):
            keys.find("unknown", "EdDSA")
    assert source.asked == 1
