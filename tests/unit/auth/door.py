"""What the tests of the login door share: a clock that the test moves, hashes that cost little, a known user."""

from __future__ import annotations

import base64

from flightsql_auth.credentials import PasswordHasher

ISSUER = "https://desk.test"
AUDIENCE = "flightsql"
PEER = "ipv4:10.0.0.1:40000"

HASHER = PasswordHasher(memory_kib=8, time_cost=1, max_parallel=4)
TRADER_HASH = HASHER.hash("trader:secret")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


TRADER = basic("trader", "trader:secret")
