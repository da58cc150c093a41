"""Reading credentials: headers, payloads, passwords."""

from __future__ import annotations

import base64
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from flightsql_auth.credentials import (
    Basic,
    Bearer,
    PasswordHasher,
    parse_authorization,
    parse_basic_auth_payload,
)
from flightsql_auth.errors import AuthError, BadToken, MissingCredentials, TooBusy
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.auth.door import HASHER


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
@pytest.mark.parametrize("padded", [True, False])
@given(user=st.text().filter(lambda text: ":" not in text), password=st.text())
@settings(max_examples=20, deadline=None)
def test_basic_is_read_in_every_spelling(encode: object, scheme: str, padded: bool, user: str, password: str) -> None:
    assert callable(encode)
    encoded = encode(f"{user}:{password}".encode()).decode()
    header = f"{scheme} {encoded if padded else encoded.rstrip('=')}"
    assert parse_authorization(header) == Basic(user, password)


def test_a_password_may_hold_colons() -> None:
    assert parse_authorization("Basic " + base64.b64encode(b"u:a:b:").decode()) == Basic("u", "a:b:")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_bearer_scheme_in_any_case(scheme: str) -> None:
    assert parse_authorization(f"{scheme}  a.b.c ") == Bearer("a.b.c")


@pytest.mark.parametrize("value", ["", "   ", "Bearer", "Bearer  ", "Basic"])
def test_nothing_presented(value: str) -> None:
    with pytest.raises(MissingCredentials):
        parse_authorization(value)


@pytest.mark.parametrize(
    "value",
    [
        "Basic $$$$",
        "Basic a",
        "Basic =",
        "Basic " + base64.b64encode(b"nocolon").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:x").decode(),
        "Digest username=x",
        "Negotiate abc",
        "Bearer " + "x" * 20_000,
    ],
)
def test_malformed_headers_are_refused(value: str) -> None:
    with pytest.raises(BadToken):
        parse_authorization(value)


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_no_header_makes_the_parser_fail_otherwise(value: str) -> None:
    try:
        found = parse_authorization(value)
    except AuthError:
        return
    assert isinstance(found, Basic | Bearer)


def test_secrets_do_not_show_in_repr() -> None:
    assert "hunter2" not in repr(Basic("u", "hunter2")) + repr(Bearer("hunter2"))


def _text_field(number: int, text: str) -> bytes:
    data = text.encode()
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


def test_payload_form() -> None:
    payload = _text_field(2, "trader") + _text_field(3, "p:w")
    assert parse_basic_auth_payload(payload) == Basic("trader", "p:w")
    assert parse_basic_auth_payload(_text_field(2, "trader")) == Basic("trader", "")


def test_payload_skips_fields_it_does_not_know() -> None:
    unknown = b"\x08\x96\x01" + b"\x21" + bytes(8) + b"\x2d" + bytes(4) + _text_field(9, "x")
    assert parse_basic_auth_payload(unknown + _text_field(3, "p") + _text_field(2, "u")) == Basic("u", "p")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"trader:secret",
        b"\x12",
        b"\x12\x7fshort",
        b"\x12\x02\xff\xfe",
        b"\x10\x05",
        b"\x13",
        b"\xff" * 20,
        _text_field(3, "only a password"),
    ],
)
def test_payload_that_is_no_credential(payload: bytes) -> None:
    assert parse_basic_auth_payload(payload) is None


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_payload_parser_never_raises(payload: bytes) -> None:
    found = parse_basic_auth_payload(payload)
    assert found is None or found.user


def test_hashes_verify_and_are_argon2id() -> None:
    stored = PasswordHasher().hash("secret")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert HASHER.verify(stored, "secret")
    assert not HASHER.verify(stored, "Secret")


def test_hasher_refuses_what_is_no_password_or_hash() -> None:
    assert not HASHER.verify("plain", "plain")
    with pytest.raises(ValueError, match="empty"):
        HASHER.hash("")
    with pytest.raises(ValueError, match="at most"):
        HASHER.hash("x" * 1025)
    longest = HASHER.hash("x" * 1024)
    assert HASHER.verify(longest, "x" * 1024)
    assert not HASHER.verify(longest, "x" * 1025)


def test_a_hash_waits_for_its_turn_but_not_for_ever() -> None:
    hasher = PasswordHasher(max_parallel=1, wait_seconds=0.02, memory_kib=8, time_cost=1)
    with hasher._slot(), pytest.raises(TooBusy) as caught:
        hasher.verify_dummy("x")
    assert caught.value.outcome == "limit"
    hasher.verify_dummy("x")


def test_the_queue_of_hashes_has_an_end() -> None:
    hasher = PasswordHasher(max_parallel=1, max_waiting=1, wait_seconds=30, memory_kib=8, time_cost=1)
    with ThreadPoolExecutor(1) as pool:
        with hasher._slot():
            first = pool.submit(hasher.verify_dummy, "x")
            while hasher._waiting == 0:
                time.sleep(0.001)
            with pytest.raises(TooBusy):
                hasher.verify_dummy("x")
        first.result(timeout=30)
