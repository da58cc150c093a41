"""Users, sessions and revocations on disk."""

from __future__ import annotations

import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flightsql_auth.store import Session, StateStore, StateStoreError

from tests.unit.auth.door import TRADER_HASH, Clock


def _session(clock: Clock, jti: str, parent: str | None = None, user: str = "trader") -> Session:
    return Session(jti, user, clock.now, clock.now + 3600, clock.now, "peer", "agent", parent)


def test_files_belong_to_their_owner_alone(state_file: Path, store: StateStore) -> None:
    files = list(state_file.parent.iterdir())
    assert len(files) == 3
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_users_come_back_as_given(store: StateStore, clock: Clock) -> None:
    user = store.get_user("trader")
    assert user is not None
    assert (user.name, user.roles, user.disabled, user.created_at) == ("trader", ("reader",), False, clock.now)
    assert user.options == {"dialect": "postgres"}
    assert user.password_hash == TRADER_HASH
    assert TRADER_HASH not in repr(user)
    store.add_user("a.b_c@d-1", "hash", [])
    assert [each.name for each in store.list_users()] == ["a.b_c@d-1", "trader"]
    assert store.get_user("nobody") is None


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a:b", "é", "a'b", "a/b", "a\n", "anonymous"])
def test_names_that_no_user_may_have(store: StateStore, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        store.add_user(name, "hash", [])


def test_a_name_is_taken_once(store: StateStore) -> None:
    with pytest.raises(ValueError, match="exists already"):
        store.add_user("trader", "hash", [])


def test_changes_of_users(store: StateStore) -> None:
    store.set_password("trader", "new")
    store.set_roles("trader", ["admin", "reader"])
    store.set_user_options("trader", {})
    store.set_disabled("trader", True)
    user = store.get_user("trader")
    assert user is not None
    assert (user.password_hash, user.roles, user.options, user.disabled) == ("new", ("admin", "reader"), {}, True)
    with pytest.raises(KeyError):
        store.set_password("nobody", "x")
    with pytest.raises(KeyError):
        store.set_roles("nobody", [])
    with pytest.raises(KeyError):
        store.set_disabled("nobody", True)


def test_disabling_ends_sessions_for_good(store: StateStore, clock: Clock) -> None:
    assert store.create_session(_session(clock, "a"))
    store.set_disabled("trader", True)
    assert store.sessions_of("trader") == []
    assert not store.create_session(_session(clock, "b"))
    store.set_disabled("trader", False)
    assert store.sessions_of("trader") == []
    assert store.create_session(_session(clock, "c"))


def test_sessions_of_a_user(store: StateStore, clock: Clock) -> None:
    store.create_session(_session(clock, "old"))
    clock.advance(5)
    store.create_session(_session(clock, "new"))
    store.create_session(_session(clock, "other", user="other"))
    assert [session.jti for session in store.sessions_of("trader")] == ["new", "old"]
    store.end_session("new")
    assert [session.jti for session in store.sessions_of("trader")] == ["old"]
    ended = store.sessions_of("trader", include_ended=True)
    assert [(session.jti, session.ended_at) for session in ended] == [("new", clock.now), ("old", None)]
    assert store.end_sessions_of("trader") == 1
    clock.advance(3600)
    assert store.live_sessions() == []


def test_touch_and_options(store: StateStore, clock: Clock) -> None:
    store.create_session(_session(clock, "a"))
    store.touch([("a", clock.now + 7), ("unknown", 1.0)])
    store.set_session_options("a", "{}")
    found = store.get_session("a")
    assert found is not None
    assert (found.last_seen, found.options) == (clock.now + 7, "{}")
    with pytest.raises(ValueError, match="options"):
        store.set_session_options("a", "x" * 20_000)


def test_texts_of_clients_are_cut(store: StateStore, clock: Clock) -> None:
    store.create_session(Session("a", "trader", 0, clock.now + 9, 0, "p" * 9999, "u" * 9999))
    found = store.get_session("a")
    assert found is not None
    assert len(found.peer) == len(found.user_agent) == 256


def test_revoking_ends_the_whole_line(store: StateStore, clock: Clock) -> None:
    for jti, parent in (("a", None), ("b", "a"), ("c", "b"), ("d", "c"), ("other", None)):
        assert store.create_session(_session(clock, jti, parent))
    store.end_session("b")
    assert store.revoke("a") == {"a", "c", "d"}
    assert store.revoke("a") == frozenset()
    assert store.is_revoked("a")
    assert not store.is_revoked("other")
    assert [session.jti for session in store.live_sessions()] == ["other"]
    assert not store.create_session(_session(clock, "e", "d"))
    store.revoke("foreign", expires_at=clock.now + 5)
    assert store.is_revoked("foreign")


def test_purge_keeps_what_a_revocation_still_needs(store: StateStore, clock: Clock) -> None:
    store.create_session(_session(clock, "parent"))
    store.create_session(_session(clock, "child", "parent"))
    store.create_session(_session(clock, "single"))
    store.revoke("foreign", expires_at=clock.now + 5)
    store.end_sessions(["parent", "single"])
    store.purge(clock.now + 10)
    assert store.get_session("single") is None
    assert not store.is_revoked("foreign")
    assert store.revoke("parent") == {"child"}
    for _ in range(2):
        store.purge(clock.now + 4000)
    assert store.sessions_of("trader", include_ended=True) == []


def test_changes_elsewhere_are_told_once(store: StateStore, second_store: StateStore, clock: Clock) -> None:
    store.changed_elsewhere()
    assert store.changed_elsewhere() is False
    second_store.set_disabled("trader", True)
    assert store.changed_elsewhere(wait=False) is True
    assert store.changed_elsewhere() is False
    store.create_session(_session(clock, "a", user="x"))
    assert store.changed_elsewhere() is False
    store.set_disabled("trader", False)
    assert store.changed_elsewhere() is True


def test_asking_for_changes_need_not_wait_for_a_writer(store: StateStore) -> None:
    store.changed_elsewhere()
    inside, leave = threading.Event(), threading.Event()

    def write() -> None:
        with store.writing():
            inside.set()
            leave.wait(10)

    writer = threading.Thread(target=write)
    writer.start()
    assert inside.wait(10)
    assert store.changed_elsewhere(wait=False) is None
    leave.set()
    writer.join()
    assert store.changed_elsewhere(wait=False) is False


def test_a_failed_change_leaves_nothing(store: StateStore, clock: Clock) -> None:
    store.create_session(_session(clock, "a"))
    with pytest.raises(sqlite3.IntegrityError):
        store.create_session(_session(clock, "a"))
    store.set_roles("trader", [])
    assert len(store.live_sessions()) == 1


def test_threads_share_a_store(store: StateStore, second_store: StateStore, clock: Clock) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(lambda n: (store if n % 2 else second_store).create_session(_session(clock, f"s{n}")), range(60))
        )
    assert all(made)
    assert len(store.live_sessions()) == 60


def test_a_file_of_another_version_or_kind_is_refused(tmp_path: Path, state_file: Path, store: StateStore) -> None:
    with sqlite3.connect(state_file) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    with pytest.raises(StateStoreError, match="version 99"):
        StateStore(state_file)
    (tmp_path / "rubbish").write_bytes(b"not a database" * 100)
    with pytest.raises(StateStoreError, match="rubbish"):
        StateStore(tmp_path / "rubbish")
    with pytest.raises(StateStoreError):
        StateStore(tmp_path)
