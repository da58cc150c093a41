"""Guessing passwords becomes slow, for who guesses and not for who knows."""

from __future__ import annotations

import pytest
from flightsql_auth.attempts import MAX_KNOWN, Attempts, place_of
from flightsql_auth.errors import TooManyAttempts


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def _tries(attempts: Attempts, clock: Clock, user: str, peer: str, seconds: float) -> int:
    """How many guesses somebody gets in that time who never stops."""
    until, count = clock.now + seconds, 0
    while clock.now < until:
        try:
            attempts.check(user, peer)
        except TooManyAttempts:
            clock.now += 0.5
            continue
        attempts.failed(user, peer)
        count += 1
    return count


def test_guessing_from_one_place_is_stopped_soon() -> None:
    clock = Clock()
    assert _tries(Attempts(5, clock), clock, "ann", "ipv4:10.0.0.1:5000", 3_600) < 40


def test_another_port_is_the_same_place() -> None:
    clock = Clock()
    attempts = Attempts(2, clock)
    for port in (1, 2, 3):
        attempts.failed("ann", f"ipv4:10.0.0.1:{port}")
    with pytest.raises(TooManyAttempts, match="try again in 1 seconds"):
        attempts.check("ann", "ipv4:10.0.0.1:4")
    assert place_of("ipv6:[::1]:50052") == "[::1]"
    assert place_of("unix:/tmp/x") == "unix:/tmp/x"


def test_the_user_may_log_in_from_elsewhere_meanwhile() -> None:
    clock = Clock()
    attempts = Attempts(5, clock)
    for _ in range(20):
        attempts.failed("ann", "ipv4:10.0.0.1:1")
    attempts.check("ann", "ipv4:10.0.0.2:1")
    attempts.check("ben", "ipv4:10.0.0.1:1")


def test_one_place_that_tries_many_users_is_stopped() -> None:
    clock = Clock()
    attempts = Attempts(5, clock)
    for number in range(51):
        attempts.failed(f"user{number}", "ipv4:10.0.0.1:1")
    with pytest.raises(TooManyAttempts):
        attempts.check("somebody else", "ipv4:10.0.0.1:1")


def test_many_places_that_guess_one_user_are_slowed_but_never_lock_the_user_out_for_long() -> None:
    clock = Clock()
    attempts = Attempts(5, clock)
    for number in range(500):
        attempts.failed("ann", f"ipv4:10.0.{number // 250}.{number % 250}:1")
    with pytest.raises(TooManyAttempts):
        attempts.check("ann", "ipv4:10.9.9.9:1")
    clock.now += 5.1
    attempts.check("ann", "ipv4:10.9.9.9:1")


def test_a_right_password_and_time_forgive() -> None:
    clock = Clock()
    attempts = Attempts(3, clock)
    for _ in range(3):
        attempts.failed("ann", "ipv4:10.0.0.1:1")
    attempts.succeeded("ann", "ipv4:10.0.0.1:9")
    attempts.failed("ann", "ipv4:10.0.0.1:1")
    attempts.check("ann", "ipv4:10.0.0.1:1")
    clock.now += 1_000
    attempts.failed("ann", "ipv4:10.0.0.1:1")
    attempts.check("ann", "ipv4:10.0.0.1:1")


def test_memory_is_bounded_and_nought_is_off() -> None:
    clock = Clock()
    attempts = Attempts(5, clock)
    for number in range(MAX_KNOWN // 2):
        attempts.failed(f"user{number}", f"peer{number}")
    assert len(attempts._records) <= MAX_KNOWN
    off = Attempts(0, clock)
    for _ in range(100):
        off.failed("ann", "peer")
    off.check("ann", "peer")
