"""A login door over a fresh directory, with a clock that the test moves and hashes that cost little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flightsql_auth.authenticator import Authenticator
from flightsql_auth.keys import KeyRing
from flightsql_auth.store import StateStore

from tests.unit.auth.door import AUDIENCE, HASHER, ISSUER, TRADER_HASH, Clock

Door = Callable[..., Authenticator]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return KeyRing.open(tmp_path_factory.mktemp("keys") / "keys")


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def store(state_file: Path, clock: Clock) -> Iterator[StateStore]:
    store = StateStore(state_file, clock=clock)
    store.add_user("trader", TRADER_HASH, ["reader"], {"dialect": "postgres"})
    yield store
    store.close()


@pytest.fixture
def second_store(state_file: Path, clock: Clock, store: StateStore) -> Iterator[StateStore]:
    """The same file, opened as another process would."""
    other = StateStore(state_file, clock=clock)
    yield other
    other.close()


@pytest.fixture
def make_door(store: StateStore, keys: KeyRing, clock: Clock) -> Door:
    """Makes an authenticator over the store; keyword arguments override its limits."""

    def make(**changes: object) -> Authenticator:
        settings: dict[str, object] = {
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "anonymous_role": None,
            "clock": clock,
            "hasher": HASHER,
        }
        settings.update(changes)
        return Authenticator(store, keys, **settings)  # type: ignore[arg-type]

    return make


@pytest.fixture
def door(make_door: Door) -> Authenticator:
    return make_door()
