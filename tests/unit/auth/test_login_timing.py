"""How long a refusal takes tells nobody which users there are."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest
from flightsql_auth.authenticator import Authenticator
from flightsql_auth.credentials import MAX_PASSWORD_BYTES, PasswordHasher
from flightsql_auth.errors import BadCredentials
from flightsql_auth.store import StateStore

from tests.unit.auth.door import PEER, basic

ROUNDS = 11
# Without a hash for unknown names their refusal is a hundred times quicker; a busy machine shifts a least by less.
MOST_APART = 2.0


class CountingHasher(PasswordHasher):
    """A hasher as the server has it, that counts the hashes it computes, each with its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: list[str] = []

    def verify(self, password_hash: str, password: str) -> bool:
        self.computed.append(password_hash.rpartition("$")[0].rpartition("$")[0])
        return super().verify(password_hash, password)


@pytest.fixture(scope="module")
def hasher() -> CountingHasher:
    return CountingHasher()


@pytest.fixture
def real_door(make_door: Callable[..., Authenticator], store: StateStore, hasher: CountingHasher) -> Authenticator:
    """A door whose users have hashes as the server makes them."""
    store.add_user("known", hasher.hash("right"), ["reader"])
    store.add_user("gone", hasher.hash("right"), ["reader"])
    store.set_disabled("gone", True)
    return make_door(hasher=hasher, free_failures=0)


def _refuse(door: Authenticator, user: str, password: str) -> float:
    """Seconds until the login is refused."""
    started = time.perf_counter()
    with pytest.raises(BadCredentials):
        door.login(basic(user, password), b"", PEER, "agent")
    return time.perf_counter() - started


def test_every_refusal_computes_one_hash_of_the_same_cost(real_door: Authenticator, hasher: CountingHasher) -> None:
    users = ("known", "unknown", "gone", "", "no:body", "x" * 300)
    passwords = ("wrong", "right", "", "x" * (MAX_PASSWORD_BYTES + 1))
    for user, password in itertools.product(users, passwords):
        if (user, password) != ("known", "right"):
            hasher.computed.clear()
            _refuse(real_door, user, password)
            assert hasher.computed == ["$argon2id$v=19$m=19456,t=2,p=1"], (user, password[:9])


def test_refusals_take_the_same_time(real_door: Authenticator) -> None:
    """The least of rounds that take turns: what a busy machine adds to one of them is in no least."""
    users = ("known", "unknown", "gone")
    seconds: dict[str, list[float]] = {user: [] for user in users}
    for number in range(ROUNDS):
        for user in users:
            seconds[user].append(_refuse(real_door, user, f"wrong {number}"))
    least = {user: min(found) for user, found in seconds.items()}
    assert max(least.values()) < MOST_APART * min(least.values()), least
