"""Service tokens: kept as hashes, good until they expire or are revoked, in every form that a client can send."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from flightsql_auth.authenticator import Authenticator
from flightsql_auth.errors import AuthError, BadToken, ExpiredToken, SessionEnded, TokenRevoked
from flightsql_auth.keys import KeyRing
from flightsql_auth.principals import Principal
from flightsql_auth.service_tokens import ServiceTokens, digest_of
from flightsql_auth.store import StateStore

from tests.unit.auth.door import HASHER, PEER, TRADER, Clock, basic

Door = Callable[..., Authenticator]

DAY = 86_400.0


@pytest.fixture
def service_tokens(store: StateStore) -> ServiceTokens:
    return ServiceTokens(store)


@pytest.fixture
def token(service_tokens: ServiceTokens, clock: Clock) -> str:
    """A token named grafana that lives for a day."""
    options = {"claims": '{"accounts": ["A1"]}', "wire_profile": "grafana"}
    return service_tokens.create("grafana", ["viewer"], now=clock.now, expires_at=clock.now + DAY, options=options)


def _payload(user: str, password: str) -> bytes:
    return b"\x12" + bytes([len(user)]) + user.encode() + b"\x1a" + bytes([len(password)]) + password.encode()


def test_the_token_itself_is_kept_nowhere(state_file: Path, token: str, store: StateStore) -> None:
    assert len(token) == 4 + 43
    store.close()
    for file in state_file.parent.iterdir():
        assert token[4:].encode() not in file.read_bytes()
    with sqlite3.connect(state_file) as connection:
        (kept,) = connection.execute("SELECT digest FROM service_tokens").fetchone()
    connection.close()
    assert kept == digest_of(token)


def test_tokens_differ(service_tokens: ServiceTokens, clock: Clock) -> None:
    made = {service_tokens.create(f"t{n}", [], now=clock.now, expires_at=clock.now + 1) for n in range(50)}
    assert len(made) == 50


@pytest.mark.parametrize("form", ["Bearer {}", "bearer  {} ", "Basic"])
def test_a_token_is_a_principal_of_its_own(door: Authenticator, clock: Clock, token: str, form: str) -> None:
    header = basic("token", token) if form == "Basic" else form.format(token)
    principal = door.authenticate(header, PEER)
    assert principal == Principal(
        "token:grafana", ("viewer",), "service_token", expires_at=clock.now + DAY, claims={"accounts": ["A1"]}
    )
    assert door.cached(header, PEER) is principal
    assert door.user_options("token:grafana")["wire_profile"] == "grafana"


def test_no_user_can_have_a_name_of_tokens(store: StateStore, door: Authenticator, token: str) -> None:
    for name in ("token", "token:grafana"):
        with pytest.raises(ValueError, match="name"):
            store.add_user(name, "hash", [])
    for user in ("token:grafana", "grafana"):
        with pytest.raises(AuthError):
            door.login(None, _payload(user, token), PEER, "agent")


@pytest.mark.parametrize(
    "wrong", ["fss_", "fss_" + "A" * 43, "FSS_" + "A" * 43, "fss_" + "A" * 42, "fss_" + "é" * 43, "x", ""]
)
def test_texts_that_are_no_token(door: Authenticator, token: str, wrong: str) -> None:
    for header in (f"Bearer {wrong}x", basic("token", wrong)):
        with pytest.raises(AuthError):
            door.authenticate(header, PEER)


def test_a_token_made_by_another_process_is_good_at_once(
    door: Authenticator, second_store: StateStore, clock: Clock
) -> None:
    made = ServiceTokens(second_store).create("new", ["reader"], now=clock.now, expires_at=clock.now + 1)
    assert door.authenticate(f"Bearer {made}", PEER).name == "token:new"


@pytest.mark.parametrize("form", ["header", "basic", "payload"])
def test_a_handshake_makes_a_session_that_ends_with_the_token(
    door: Authenticator, service_tokens: ServiceTokens, clock: Clock, token: str, form: str
) -> None:
    clock.advance(DAY - 60)
    header = {"header": f"Bearer {token}", "basic": basic("token", token), "payload": None}[form]
    login = door.login(header, _payload("token", token) if form == "payload" else b"", PEER, "agent")
    assert login.principal.expires_at == clock.now + 60
    bearer = f"Bearer {login.token}"
    principal = door.authenticate(bearer, PEER)
    assert (principal.name, principal.roles, principal.claims) == ("token:grafana", ("viewer",), {"accounts": ["A1"]})
    service_tokens.revoke("grafana", now=clock.now)
    clock.advance(1)
    with pytest.raises(SessionEnded):
        door.authenticate(bearer, PEER)
    refusal = door.refusal(principal)
    assert isinstance(refusal, SessionEnded)


def test_revocation_counts_in_a_second_when_another_process_revoked(
    door: Authenticator, second_store: StateStore, clock: Clock, token: str
) -> None:
    principal = door.authenticate(f"Bearer {token}", PEER)
    assert door.refusal(principal) is None
    ServiceTokens(second_store).revoke("grafana", now=clock.now)
    clock.advance(1)
    assert door.cached(f"Bearer {token}", PEER) is None
    with pytest.raises(TokenRevoked):
        door.authenticate(f"Bearer {token}", PEER)
    with pytest.raises(AuthError):
        door.login(f"Bearer {token}", b"", PEER, "agent")
    assert isinstance(door.refusal(principal), TokenRevoked)


def test_expiry(door: Authenticator, clock: Clock, token: str) -> None:
    principal = door.authenticate(f"Bearer {token}", PEER)
    clock.advance(DAY)
    assert isinstance(door.refusal(principal), ExpiredToken)
    assert door.cached(f"Bearer {token}", PEER) is None
    with pytest.raises(ExpiredToken):
        door.authenticate(f"Bearer {token}", PEER)


def test_a_name_given_again_is_no_way_back_for_the_old_token(
    door: Authenticator, service_tokens: ServiceTokens, clock: Clock, token: str
) -> None:
    """Not for its next call, nor for one that runs, although between two looks the name was never free."""
    running = door.authenticate(f"Bearer {token}", PEER)
    with pytest.raises(ValueError, match="exists already"):
        service_tokens.create("grafana", ["admin"], now=clock.now, expires_at=clock.now + DAY)
    service_tokens.revoke("grafana", now=clock.now)
    new = service_tokens.create("grafana", ["admin"], now=clock.now, expires_at=clock.now + DAY)
    clock.advance(1)
    assert door.authenticate(f"Bearer {new}", PEER).roles == ("admin",)
    with pytest.raises(BadToken):
        door.authenticate(f"Bearer {token}", PEER)
    assert isinstance(door.refusal(running), TokenRevoked)


def test_last_use_is_written_down_with_the_rest(
    door: Authenticator, service_tokens: ServiceTokens, clock: Clock, token: str
) -> None:
    (before,) = service_tokens.all()
    assert before.last_used is None
    door.authenticate(f"Bearer {token}", PEER)
    clock.advance(30)
    door.cached(f"Bearer {token}", PEER)
    (still,) = service_tokens.all()
    assert still.last_used is None, "not at every call"
    door.flush()
    (after,) = service_tokens.all()
    assert after.last_used == clock.now
    assert after == before, "use makes no other token of it"


def test_revoking_what_is_not_there(service_tokens: ServiceTokens, clock: Clock, token: str) -> None:
    with pytest.raises(KeyError):
        service_tokens.revoke("nobody", now=clock.now)
    service_tokens.revoke("grafana", now=clock.now)
    service_tokens.revoke("grafana", now=clock.now + 5)
    (one,) = service_tokens.all()
    assert one.revoked_at == clock.now


@pytest.mark.parametrize("name", ["", "a b", "a:b", "x" * 58, "é"])
def test_names_that_no_token_may_have(service_tokens: ServiceTokens, clock: Clock, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        service_tokens.create(name, [], now=clock.now, expires_at=clock.now + 1)


def test_a_store_of_the_first_version_is_brought_up_to_date(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "old" / "state.sqlite"
    store = StateStore(file, clock=clock)
    store.add_user("kept", "hash", ["reader"])
    store.close()
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE service_tokens")
        connection.execute("UPDATE schema_version SET version = 1")
    connection.close()
    again = StateStore(file, clock=clock)
    ServiceTokens(again).create("grafana", [], now=clock.now, expires_at=clock.now + 1)
    assert [user.name for user in again.list_users()] == ["kept"]
    again.close()


# ---- what ends a call that runs


def test_a_call_may_go_on_while_its_credential_counts(
    door: Authenticator, store: StateStore, second_store: StateStore, clock: Clock
) -> None:
    session = door.authenticate(f"Bearer {door.login(TRADER, b'', PEER, 'agent').token}", PEER)
    by_password = door.authenticate(TRADER, PEER)
    assert door.refusal(session) is door.refusal(by_password) is None
    second_store.set_disabled("trader", True)
    clock.advance(1)
    assert door.refusal(session) is None, "nobody has looked yet"
    door.refresh()
    for principal in (session, by_password):
        assert isinstance(door.refusal(principal), SessionEnded)


def test_a_changed_password_ends_what_runs_with_the_old_one(
    door: Authenticator, second_store: StateStore, clock: Clock
) -> None:
    principal = door.authenticate(TRADER, PEER)
    second_store.set_roles("trader", ["admin"])
    clock.advance(1)
    door.refresh()
    assert door.refusal(principal) is None, "other roles are no other password"
    renewed = door.authenticate(TRADER, PEER)
    assert (renewed.roles, door.refusal(renewed)) == (("admin",), None)
    second_store.set_password("trader", HASHER.hash("another"))
    clock.advance(1)
    door.refresh()
    refusal = door.refusal(renewed)
    assert isinstance(refusal, SessionEnded)
    assert refusal.outcome == "revoked"


def test_a_logout_or_a_withdrawn_key_ends_it(
    make_door: Door, store: StateStore, second_store: StateStore, clock: Clock, tmp_path: Path
) -> None:
    ring = KeyRing.open(tmp_path / "own", clock=clock)
    door = Authenticator(store, ring, issuer="i", audience="a", anonymous_role=None, clock=clock)
    token = door.login(TRADER, b"", PEER, "agent").token
    principal = door.authenticate(f"Bearer {token}", PEER)
    KeyRing.open(tmp_path / "own", clock=clock).rotate(overlap_seconds=0)
    door.refresh()
    assert isinstance(door.refusal(principal), SessionEnded)
    assert door.cached(f"Bearer {token}", PEER) is None
    with pytest.raises(BadToken):
        door.authenticate(f"Bearer {token}", PEER)
    other = door.authenticate(f"Bearer {door.login(TRADER, b'', PEER, 'agent').token}", PEER)
    assert door.refusal(other) is None
    second_store.end_sessions_of("trader")
    clock.advance(1)
    door.refresh()
    assert isinstance(door.refusal(other), SessionEnded)
