"""The login door as its callers see it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest
from flightsql_auth.authenticator import Authenticator
from flightsql_auth.credentials import PasswordHasher
from flightsql_auth.errors import (
    AuthError,
    BadCredentials,
    BadToken,
    ExpiredToken,
    MissingCredentials,
    SessionEnded,
    TooManySessions,
)
from flightsql_auth.keys import KeyRing
from flightsql_auth.logins import Login
from flightsql_auth.principals import Principal
from flightsql_auth.store import StateStore

from tests.unit.auth.door import HASHER, PEER, TRADER, TRADER_HASH, Clock, basic

Door = Callable[..., Authenticator]

IDLE_SECONDS = 7_200
SESSION_SECONDS = 43_200


class CountingHasher(PasswordHasher):
    """A hasher that counts what it was asked."""

    def __init__(self) -> None:
        super().__init__(memory_kib=8, time_cost=1)
        self.verified: list[str] = []

    def verify(self, password_hash: str, password: str) -> bool:
        self.verified.append(password_hash)
        return super().verify(password_hash, password)


def _login(door: Authenticator, authorization: str | None = TRADER, payload: bytes = b"") -> Login:
    return door.login(authorization, payload, PEER, "agent/1")


def _bearer(login: Login) -> str:
    return f"Bearer {login.token}"


def _jti(login: Login) -> str:
    assert login.principal.session_id is not None
    return login.principal.session_id


def _exp(login: Login) -> float:
    return float(jwt.decode(login.token, options={"verify_signature": False})["exp"])


def _refused(door: Authenticator, authorization: str | None) -> AuthError:
    """The refusal, which the fast and the slow way must agree on."""
    with pytest.raises(AuthError) as slow:
        door.authenticate(authorization, PEER)
    try:
        principal = door.cached(authorization, PEER)
    except type(slow.value):
        return slow.value
    assert principal is None
    return slow.value


def test_a_login_makes_a_session_that_the_token_names(door: Authenticator, store: StateStore, clock: Clock) -> None:
    login = _login(door)
    assert login.principal == Principal("trader", ("reader",), "password", _jti(login), clock.now + SESSION_SECONDS)
    assert _exp(login) == clock.now + SESSION_SECONDS
    (stored,) = store.sessions_of("trader")
    assert (stored.jti, stored.peer, stored.user_agent) == (_jti(login), PEER, "agent/1")
    assert door.cached(_bearer(login), PEER) is None
    principal = door.authenticate(_bearer(login), PEER)
    assert (principal.name, principal.method, principal.session_id) == ("trader", "token", _jti(login))
    assert door.cached(_bearer(login), PEER) is principal
    assert login.token not in repr(login)


def test_the_payload_form_logs_in_when_there_is_no_header(door: Authenticator) -> None:
    payload = b"\x12\x06trader\x1a\x0dtrader:secret"
    assert _login(door, None, payload).principal.name == "trader"
    with pytest.raises(BadCredentials):
        _login(door, None, b"\x12\x06trader\x1a\x05wrong")
    with pytest.raises(MissingCredentials):
        _login(door, None, b"rubbish")
    with pytest.raises(BadCredentials):
        _login(door, basic("trader", "wrong"), payload)


def test_repeated_basic_hashes_once_a_minute(make_door: Door, clock: Clock) -> None:
    hasher = CountingHasher()
    door = make_door(hasher=hasher)
    principal = door.authenticate(TRADER, PEER)
    assert principal == Principal("trader", ("reader",), "password")
    for _ in range(5):
        assert door.cached(TRADER, PEER) == principal
        _login(door)
    assert len(hasher.verified) == 1
    clock.advance(61)
    assert door.cached(TRADER, PEER) is None
    door.authenticate(TRADER, PEER)
    assert len(hasher.verified) == 2


def test_one_credential_at_one_time_is_hashed_once(make_door: Door) -> None:
    hasher = CountingHasher()
    # More than there are callers: one who comes late must not find the user locked.
    door = make_door(hasher=hasher, free_failures=100)
    with ThreadPoolExecutor(8) as pool:
        principals = list(pool.map(lambda _: door.authenticate(TRADER, PEER), range(16)))
        assert {principal.name for principal in principals} == {"trader"}
        assert len(hasher.verified) <= 4
        refusals = list(pool.map(lambda _: _refused(door, basic("trader", "wrong")).outcome, range(16)))
    assert set(refusals) == {"bad_password"}


def test_unknown_wrong_and_disabled_look_alike(make_door: Door, store: StateStore) -> None:
    store.add_user("gone", TRADER_HASH, [])
    store.set_disabled("gone", True)
    hasher = CountingHasher()
    door = make_door(hasher=hasher)
    refusals = [
        _refused(door, basic("nobody", "x")),
        _refused(door, basic("trader", "x")),
        _refused(door, basic("gone", "trader:secret")),
    ]
    assert {type(refusal) for refusal in refusals} == {BadCredentials}
    assert len({refusal.reason for refusal in refusals}) == 1
    assert [refusal.outcome for refusal in refusals] == ["bad_password", "bad_password", "disabled"]
    assert len(hasher.verified) == 3
    assert all(stored.startswith("$argon2id$") for stored in hasher.verified)


def test_no_credentials(door: Authenticator) -> None:
    for authorization in (None, ""):
        with pytest.raises(MissingCredentials) as caught:
            door.cached(authorization, PEER)
        assert "handshake" in caught.value.reason
        assert caught.value.outcome == "missing"
        with pytest.raises(MissingCredentials):
            door.authenticate(authorization, PEER)
        with pytest.raises(MissingCredentials):
            _login(door, authorization)


def test_anonymous_callers_where_they_are_served(make_door: Door) -> None:
    door = make_door(anonymous_role="reader")
    principal = door.cached(None, PEER)
    assert principal == Principal("anonymous", ("reader",), "anonymous")
    assert door.authenticate(None, PEER) is principal
    login = _login(door, None)
    assert login.principal.method == "anonymous"
    found = door.authenticate(_bearer(login), PEER)
    assert (found.name, found.roles, found.session_id) == ("anonymous", ("reader",), _jti(login))
    assert door.cached(_bearer(login), PEER) is found
    assert _login(door, _bearer(login)).principal.name == "anonymous"
    with pytest.raises(BadCredentials):
        _login(door, basic("anonymous", ""))
    with pytest.raises(BadToken):
        door.authenticate("Bearer rubbish", PEER)
    assert _refused(make_door(), _bearer(login)).outcome == "disabled"


def test_a_bearer_login_ends_no_later_than_its_parent(door: Authenticator, clock: Clock) -> None:
    parent = _login(door)
    clock.advance(100)
    child = _login(door, _bearer(parent))
    assert _jti(child) != _jti(parent)
    assert _exp(child) == _exp(parent) == child.principal.expires_at
    assert child.principal.method == "token"


def test_revoking_a_parent_ends_its_line_and_nothing_else(door: Authenticator) -> None:
    parent, other = _login(door), _login(door)
    child = _login(door, _bearer(parent))
    grandchild = _login(door, _bearer(child))
    for login in (parent, other, child, grandchild):
        door.authenticate(_bearer(login), PEER)
    assert door.revoke(_jti(parent)) == {_jti(parent), _jti(child), _jti(grandchild)}
    for login in (parent, child, grandchild):
        with pytest.raises(SessionEnded):
            door.cached(_bearer(login), PEER)
        assert _refused(door, _bearer(login)).outcome == "revoked"
        with pytest.raises(SessionEnded):
            _login(door, _bearer(login))
    assert door.cached(_bearer(other), PEER) is not None
    assert door.session_count() == 1


def test_closing_a_parent_leaves_its_children_until_it_is_revoked(door: Authenticator) -> None:
    parent = _login(door)
    child = _login(door, _bearer(parent))
    door.end_session(_jti(parent))
    door.end_session("unknown")
    _refused(door, _bearer(parent))
    door.authenticate(_bearer(child), PEER)
    assert door.revoke(_jti(parent)) == {_jti(child)}
    _refused(door, _bearer(child))


def test_the_absolute_limit(door: Authenticator, clock: Clock) -> None:
    login = _login(door)
    for _ in range(SESSION_SECONDS // 3600 - 1):
        clock.advance(3600)
        door.authenticate(_bearer(login), PEER)
    clock.advance(3600)
    with pytest.raises(ExpiredToken):
        door.cached(_bearer(login), PEER) or door.authenticate(_bearer(login), PEER)
    assert _refused(door, _bearer(login)).outcome == "expired"
    clock.advance(60)
    assert isinstance(_refused(door, _bearer(login)), ExpiredToken)
    door.flush()
    assert door.session_count() == 0


def test_an_idle_session_ends(door: Authenticator, store: StateStore, clock: Clock) -> None:
    login = _login(door)
    door.authenticate(_bearer(login), PEER)
    clock.advance(IDLE_SECONDS)
    door.authenticate(_bearer(login), PEER)
    clock.advance(IDLE_SECONDS + 1)
    refusal = _refused(door, _bearer(login))
    assert isinstance(refusal, SessionEnded)
    assert refusal.outcome == "expired"
    door.flush()
    assert store.live_sessions() == []
    assert door.session_count() == 0
    _refused(door, _bearer(login))


def test_a_session_at_work_is_not_idle(make_door: Door, clock: Clock) -> None:
    at_work: set[str] = set()
    door = make_door(in_use=at_work.__contains__)
    login = _login(door)
    child = _login(door, _bearer(login))
    at_work.add(_jti(child))
    for _ in range(180):
        clock.advance(60)
        door.flush()
    at_work.clear()
    clock.advance(60)
    assert door.authenticate(_bearer(child), PEER).name == "trader"
    assert door.authenticate(_bearer(login), PEER).name == "trader"


def test_connections_keep_the_configured_token_they_came_from(door: Authenticator, clock: Clock) -> None:
    configured = _login(door)
    connection = _login(door, _bearer(configured))
    for _ in range(5):
        clock.advance(3600)
        door.authenticate(_bearer(connection), PEER)
        door.flush()
    assert _login(door, _bearer(configured)).principal.name == "trader"


def test_at_the_cap_the_longest_idle_session_ends(make_door: Door, clock: Clock) -> None:
    at_work: set[str] = set()
    door = make_door(max_sessions_per_user=3, in_use=at_work.__contains__)
    first, second, third = [_login(door) for _ in range(3)]
    clock.advance(1)
    door.authenticate(_bearer(second), PEER)
    door.authenticate(_bearer(third), PEER)
    clock.advance(1)
    door.authenticate(_bearer(first), PEER)
    at_work.add(_jti(second))
    fourth = _login(door)
    assert _refused(door, _bearer(third)).outcome in {"limit", "revoked"}
    door.authenticate(_bearer(second), PEER)
    at_work |= {_jti(first), _jti(fourth)}
    with pytest.raises(TooManySessions) as caught:
        _login(door)
    assert caught.value.outcome == "limit"
    assert door.session_count() == 3


def test_the_cap_never_ends_the_session_that_asks(make_door: Door) -> None:
    door = make_door(max_sessions_per_user=1)
    only = _login(door)
    with pytest.raises(TooManySessions):
        _login(door, _bearer(only))
    door.authenticate(_bearer(only), PEER)


def test_another_process_disables_a_user(make_door: Door, second_store: StateStore, clock: Clock) -> None:
    door = make_door()
    login = _login(door)
    door.authenticate(_bearer(login), PEER)
    door.authenticate(TRADER, PEER)
    second_store.set_disabled("trader", True)
    clock.advance(0.6)
    assert door.cached(_bearer(login), PEER) is None
    assert isinstance(_refused(door, _bearer(login)), SessionEnded)
    assert _refused(door, TRADER).outcome == "disabled"
    second_store.set_disabled("trader", False)
    clock.advance(0.6)
    _refused(door, _bearer(login))
    assert door.authenticate(TRADER, PEER).name == "trader"


def test_another_process_is_seen_within_a_second_of_real_time(make_door: Door, second_store: StateStore) -> None:
    door = make_door(clock=time.time)
    login = _login(door)
    door.authenticate(_bearer(login), PEER)
    second_store.revoke(_jti(login))
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        try:
            door.cached(_bearer(login), PEER) or door.authenticate(_bearer(login), PEER)
        except SessionEnded:
            break
        time.sleep(0.02)
    else:
        pytest.fail("the revoked session was still served after a second")


def test_a_clock_set_back_does_not_stop_the_checks(make_door: Door, second_store: StateStore, clock: Clock) -> None:
    door = make_door()
    login = _login(door)
    clock.advance(-3600)
    second_store.set_disabled("trader", True)
    clock.advance(-1)
    with pytest.raises(AuthError):
        door.cached(_bearer(login), PEER) or door.authenticate(_bearer(login), PEER)


def test_changed_roles_hold_at_once(make_door: Door, second_store: StateStore, clock: Clock) -> None:
    door = make_door()
    login = _login(door)
    for authorization in (_bearer(login), TRADER):
        assert door.authenticate(authorization, PEER).roles == ("reader",)
    second_store.set_roles("trader", ["admin"])
    clock.advance(0.6)
    for authorization in (_bearer(login), TRADER):
        assert door.authenticate(authorization, PEER).roles == ("admin",)
        assert door.cached(authorization, PEER) is not None


def test_a_changed_password_empties_the_cache(make_door: Door, store: StateStore, clock: Clock) -> None:
    door = make_door()
    login = _login(door)
    door.authenticate(TRADER, PEER)
    door.authenticate(_bearer(login), PEER)
    store.set_password("trader", HASHER.hash("new"))
    clock.advance(0.6)
    _refused(door, TRADER)
    with pytest.raises(BadCredentials):
        _login(door)
    assert door.authenticate(basic("trader", "new"), PEER).name == "trader"
    assert door.authenticate(_bearer(login), PEER).name == "trader"


def test_a_session_that_another_process_made_is_known(
    make_door: Door, second_store: StateStore, keys: KeyRing, clock: Clock
) -> None:
    door = make_door()
    other = Authenticator(
        second_store,
        keys,
        issuer="https://desk.test",
        audience="flightsql",
        anonymous_role=None,
        clock=clock,
        hasher=HASHER,
    )
    login = _login(other)
    assert door.authenticate(_bearer(login), PEER).session_id == _jti(login)


def test_sessions_outlive_a_restart(
    make_door: Door, store: StateStore, state_file: Path, keys: KeyRing, clock: Clock
) -> None:
    door = make_door()
    kept, closed = _login(door), _login(door)
    child = _login(door, _bearer(kept))
    door.set_session_options(_jti(kept), '{"schema":"main"}')
    clock.advance(IDLE_SECONDS - 10)
    for login in (kept, closed, child):
        door.authenticate(_bearer(login), PEER)
    door.end_session(_jti(closed))
    door.close()
    store.close()
    clock.advance(60)
    reopened = StateStore(state_file, clock=clock)
    again = Authenticator(
        reopened,
        keys,
        issuer="https://desk.test",
        audience="flightsql",
        anonymous_role=None,
        clock=clock,
        hasher=HASHER,
    )
    assert again.session_count() == 2
    assert again.authenticate(_bearer(kept), PEER).session_id == _jti(kept)
    assert again.session_options(_jti(kept)) == '{"schema":"main"}'
    _refused(again, _bearer(closed))
    again.revoke(_jti(kept))
    _refused(again, _bearer(child))
    reopened.close()


def test_a_genuine_token_without_a_session_is_refused(
    door: Authenticator, keys: KeyRing, store: StateStore, clock: Clock
) -> None:
    store.add_user("other", "hash", [])
    login = _login(door)
    claims = jwt.decode(login.token, options={"verify_signature": False})
    header = jwt.get_unverified_header(login.token)
    for change in ({"jti": "unknown"}, {"sub": "other"}, {"sub": "nobody"}):
        token = jwt.encode(claims | change, keys.active.private_key, algorithm="EdDSA", headers=header)
        assert isinstance(_refused(door, f"Bearer {token}"), SessionEnded)


def test_options_of_sessions_and_users(door: Authenticator) -> None:
    login = _login(door)
    assert door.session_options(_jti(login)) == ""
    door.set_session_options(_jti(login), "text")
    assert door.session_options(_jti(login)) == "text"
    with pytest.raises(ValueError, match="options"):
        door.set_session_options(_jti(login), "x" * 20_000)
    door.end_session(_jti(login))
    assert door.session_options(_jti(login)) == ""
    with pytest.raises(SessionEnded):
        door.set_session_options(_jti(login), "text")
    assert door.user_options("trader") == {"dialect": "postgres"}
    assert door.user_options("nobody") == {}


def test_flush_writes_when_sessions_were_seen(door: Authenticator, store: StateStore, clock: Clock) -> None:
    login = _login(door)
    clock.advance(30)
    door.authenticate(_bearer(login), PEER)
    door.flush()
    (stored,) = store.sessions_of("trader")
    assert stored.last_seen == clock.now


def test_ended_sessions_leave_the_store_after_a_day(door: Authenticator, store: StateStore, clock: Clock) -> None:
    login = _login(door)
    door.end_session(_jti(login))
    door.flush()
    assert len(store.sessions_of("trader", include_ended=True)) == 1
    clock.advance(86_400 + 3_600)
    door.flush()
    assert store.sessions_of("trader", include_ended=True) == []


def test_the_cache_is_bounded(make_door: Door) -> None:
    door = make_door(max_cached_credentials=2)
    first, second, third = [_bearer(_login(door)) for _ in range(3)]
    door.authenticate(first, PEER)
    door.authenticate(second, PEER)
    assert door.cached(first, PEER) is not None
    door.authenticate(third, PEER)
    assert door.cached(second, PEER) is None
    assert door.cached(first, PEER) is not None
    assert door.cached(third, PEER) is not None


def test_memory_keeps_no_credential_in_clear(door: Authenticator) -> None:
    login = _login(door)
    door.authenticate(_bearer(login), PEER)
    door.authenticate(TRADER, PEER)
    keys = list(door._cache._entries)
    assert keys
    assert all(len(key) == 16 for key in keys)


def test_many_threads_at_the_door(make_door: Door) -> None:
    door = make_door(max_sessions_per_user=8, check_seconds=0.0)

    def use(_: int) -> str:
        try:
            login = _login(door)
            return door.authenticate(_bearer(login), PEER).name
        except SessionEnded as error:
            return error.outcome

    with ThreadPoolExecutor(8) as pool:
        outcomes = set(pool.map(use, range(60)))
    assert "trader" in outcomes
    assert outcomes <= {"trader", "limit", "revoked"}
    assert door.session_count() <= 8
