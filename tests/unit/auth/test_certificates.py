"""Client certificates at the login door: whom they name, what goes before them, and when they end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from flightsql_auth.authenticator import Authenticator
from flightsql_auth.certificates import CertificateUsers, Source
from flightsql_auth.errors import (
    BadCertificate,
    BadCredentials,
    BadToken,
    ExpiredToken,
    MissingCredentials,
    SessionEnded,
)
from flightsql_auth.principals import Principal
from flightsql_auth.store import StateStore

from tests.certificates import Authority
from tests.unit.auth.door import PEER, TRADER, TRADER_HASH, Clock, basic

Door = Callable[..., Authenticator]
CA = Authority()
DNS, URI, EMAIL = x509.DNSName, x509.UniformResourceIdentifier, x509.RFC822Name
NOW = 1_800_000_000.0
BEGINS, ENDS = (
    datetime.fromtimestamp(NOW, UTC) - timedelta(hours=1),
    datetime.fromtimestamp(NOW, UTC) + timedelta(hours=1),
)


def certificate(common_name: str, *names: x509.GeneralName, ends: datetime = ENDS) -> bytes:
    return CA.issue(common_name, names=names, begins=BEGINS, ends=ends).certificate


@pytest.mark.parametrize(
    ("source", "pattern", "names", "user"),
    [
        ("common_name", "(.+)", [], "trader"),
        ("common_name", "(.+)", [DNS("other")], "trader"),
        ("dns", r"([a-z]+)\.desk\.example", [DNS("trader.desk.example"), DNS("localhost")], "trader"),
        ("uri", "spiffe://desk/(.+)", [URI("spiffe://desk/trader"), DNS("admin")], "trader"),
        ("email", "([^@]+)@desk.example", [EMAIL("trader@desk.example"), EMAIL("x@other.example")], "trader"),
        ("email", "([^@]+)@.*", [EMAIL("trader@desk.example"), EMAIL("trader@other.example")], "trader"),
    ],
)
def test_the_setting_says_where_the_name_is(
    source: Source, pattern: str, names: list[x509.GeneralName], user: str
) -> None:
    users = CertificateUsers(source, pattern)
    for _ in range(2):
        assert users.named(certificate("trader", *names), NOW) == (user, NOW + 3_600)


@pytest.mark.parametrize(
    ("source", "pattern", "names"),
    [
        ("common_name", "desk-(.+)", []),
        ("common_name", "(trade)", []),  # the whole must match
        ("dns", "(.+)", []),
        ("dns", "(.+)", [URI("trader"), EMAIL("trader@desk.example")]),
        ("uri", "(.+)", [DNS("trader")]),
        ("dns", "(.+)", [DNS("trader"), DNS("admin")]),  # two names are none
    ],
)
def test_what_names_nobody_or_two_is_refused(source: Source, pattern: str, names: list[x509.GeneralName]) -> None:
    with pytest.raises(BadCertificate):
        CertificateUsers(source, pattern).named(certificate("trader", *names), NOW)


def test_rubbish_is_refused() -> None:
    with pytest.raises(BadCertificate):
        CertificateUsers().named(b"rubbish", NOW)


@pytest.mark.parametrize("pattern", ["trader", "(a)(b)", "(", ""])
def test_a_pattern_needs_one_group(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"group|regular expression"):
        CertificateUsers("common_name", pattern)


def test_memory_is_bounded() -> None:
    users = CertificateUsers(max_known=2)
    for name in ("a", "b", "c", "a"):
        assert users.named(certificate(name), NOW)[0] == name
    assert len(users._known) == 2


@pytest.fixture
def door(make_door: Door, store: StateStore) -> Authenticator:
    store.add_user("admin", TRADER_HASH, ["admin"])
    return make_door(certificates=CertificateUsers())


def test_a_certificate_is_its_user(door: Authenticator, store: StateStore, clock: Clock) -> None:
    shown = certificate("trader")
    principal = door.authenticate(None, PEER, shown)
    assert principal == Principal("trader", ("reader",), "certificate", expires_at=NOW + 3_600)
    assert door.cached(None, PEER, shown) == principal
    assert door.cached("", PEER, certificate("admin")) == Principal(
        "admin", ("admin",), "certificate", expires_at=NOW + 3_600
    )
    store.set_roles("trader", ["viewer"])
    clock.advance(2)
    assert door.authenticate(None, PEER, shown).roles == ("viewer",)


def test_the_header_goes_before_the_certificate(door: Authenticator) -> None:
    shown = certificate("admin")
    assert door.authenticate(TRADER, PEER, shown).name == "trader"
    assert door.login(TRADER, b"", PEER, "", shown).principal.name == "trader"
    for wrong, error in ((basic("trader", "wrong"), BadCredentials), ("Bearer rubbish", BadToken)):
        with pytest.raises(error):
            door.authenticate(wrong, PEER, shown)
        with pytest.raises(error):
            door.login(wrong, b"", PEER, "", shown)
    with pytest.raises(BadCredentials):
        door.login(None, b"\x12\x06trader\x1a\x05wrong", PEER, "", shown)


def test_a_certificate_does_not_stay_with_its_peer(door: Authenticator) -> None:
    door.authenticate(None, PEER, certificate("admin"))
    with pytest.raises(MissingCredentials):
        door.authenticate(None, PEER)
    with pytest.raises(MissingCredentials):
        door.cached(None, PEER)


def test_a_certificate_of_nobody_is_refused_also_where_callers_without_one_are_served(make_door: Door) -> None:
    door = make_door(certificates=CertificateUsers(), anonymous_role="viewer")
    assert door.authenticate(None, PEER).name == "anonymous"
    for name in ("nobody", "anonymous"):
        with pytest.raises(BadCertificate):
            door.authenticate(None, PEER, certificate(name))
        with pytest.raises(BadCertificate):
            door.login(None, b"", PEER, "", certificate(name))


def test_a_disabled_user_is_refused_at_once(door: Authenticator, store: StateStore, clock: Clock) -> None:
    shown = certificate("trader")
    door.authenticate(None, PEER, shown)
    store.set_disabled("trader", True)
    clock.advance(2)
    with pytest.raises(BadCertificate) as refused:
        door.authenticate(None, PEER, shown)
    assert refused.value.outcome == "disabled"


def test_what_runs_ends_with_the_user_of_the_certificate(door: Authenticator, store: StateStore, clock: Clock) -> None:
    principal = door.authenticate(None, PEER, certificate("trader"))
    assert door.refusal(principal) is None
    store.set_disabled("trader", True)
    clock.advance(2)
    door.refresh()
    assert isinstance(door.refusal(principal), SessionEnded)
    clock.advance(3_600)
    assert isinstance(door.refusal(principal), ExpiredToken)


def test_a_connection_outlives_its_certificate_but_its_calls_do_not(door: Authenticator, clock: Clock) -> None:
    shown = certificate("trader")
    door.authenticate(None, PEER, shown)
    clock.advance(3_601)
    with pytest.raises(BadCertificate) as refused:
        door.authenticate(None, PEER, shown)
    assert refused.value.outcome == "expired"


def test_a_login_by_certificate_makes_a_session_that_ends_with_it(door: Authenticator, clock: Clock) -> None:
    login = door.login(None, b"", PEER, "", certificate("trader"))
    assert (login.principal.method, login.principal.expires_at) == ("certificate", NOW + 3_600)
    again = door.authenticate(f"Bearer {login.token}", PEER)
    assert (again.name, again.method, again.session_id) == ("trader", "token", login.principal.session_id)


def test_certificates_count_for_nothing_unless_they_are_asked_for(make_door: Door) -> None:
    with pytest.raises(MissingCredentials):
        make_door().authenticate(None, PEER, certificate("trader"))
