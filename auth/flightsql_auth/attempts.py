"""Wrong passwords are slowed down: by user and peer, by user alone, by peer alone. Right ones cost nothing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .errors import TooManyAttempts

MAX_KNOWN: Final = 50_000
"""Users and peers that are remembered; the one that failed longest ago is forgotten first."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """``failures`` in a row are free, then each costs a pause, doubling from ``pause_seconds`` to ``longest_seconds``.

    A failure is forgiven after ``forgiven_seconds`` without another.
    """

    failures: int
    pause_seconds: float = 1.0
    longest_seconds: float = 300.0
    forgiven_seconds: float = 900.0


@dataclass(slots=True)
class _Record:
    failures: int = 0
    last: float = 0.0
    until: float = 0.0


class Attempts:
    """Who has failed how often. Safe for threads; memory is bounded.

    One who guesses from one place is stopped by the pair of user and peer, one who tries many users by the peer, and
    many places that guess one user's password by the user. A user who logs in rightly from elsewhere meets the last of
    these alone, which is wide and whose pause is short.
    """

    def __init__(self, failures: int, clock: Callable[[], float]) -> None:
        """``failures``: free ones of one user from one peer; 0 slows nobody down."""
        self._clock = clock
        self._allowances = {
            "pair": Allowance(failures),
            "user": Allowance(failures * 20, longest_seconds=5.0),
            "peer": Allowance(failures * 10),
        }
        self._on = failures > 0
        self._records: OrderedDict[tuple[str, str, str], _Record] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, user: str, peer: str) -> None:
        """Raises TooManyAttempts, which says for how long, while any of the three pauses lasts."""
        if not self._on:
            return
        now = self._clock()
        with self._lock:
            until = max((self._records[key].until for key in _keys(user, peer) if key in self._records), default=0.0)
        if until > now:
            raise TooManyAttempts(until - now)

    def failed(self, user: str, peer: str) -> None:
        """Counts a wrong password."""
        if not self._on:
            return
        now = self._clock()
        with self._lock:
            for key in _keys(user, peer):
                allowance = self._allowances[key[0]]
                record = self._records.setdefault(key, _Record())
                self._records.move_to_end(key)
                if now - record.last > allowance.forgiven_seconds:
                    record.failures = 0
                record.failures += 1
                record.last = now
                over = record.failures - allowance.failures
                if over > 0:
                    pause = min(allowance.pause_seconds * 2.0 ** min(over - 1, 30), allowance.longest_seconds)
                    record.until = now + pause
            while len(self._records) > MAX_KNOWN:
                self._records.popitem(last=False)

    def succeeded(self, user: str, peer: str) -> None:
        """Forgets what the user failed from this peer; the peer's other failures stay counted."""
        with self._lock:
            self._records.pop(("pair", user, place_of(peer)), None)


def place_of(peer: str) -> str:
    """The address of gRPC's name of a peer, without its port, which changes with each connection."""
    kind, _, rest = peer.partition(":")
    return rest.rpartition(":")[0] if kind in ("ipv4", "ipv6") and ":" in rest else peer


def _keys(user: str, peer: str) -> tuple[tuple[str, str, str], ...]:
    place = place_of(peer)
    return ("pair", user, place), ("user", user, ""), ("peer", "", place)
