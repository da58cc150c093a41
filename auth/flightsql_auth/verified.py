"""Credentials that were verified, kept by digest, so that a call pays for it once."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import Final

from .federation import ForeignUser
from .holders import Holder
from .keys import Keys
from .live import Account, LiveSession
from .principals import Principal


class Verified:
    """A credential that was verified, and what that rested on.

    ``holder`` is whom it stands for, None for anonymous callers; ``account`` the holder's record here, if there is one.
    ``session`` is that of a token of ours; ``keys`` are those that verified its signature, None where there is none.
    ``scope``: the only roles that it is good for; None: all of the holder's. It may be believed without another look
    until ``valid_until``, and nothing that is made of it outlives ``expires_at``.
    """

    __slots__ = ("account", "expires_at", "holder", "keys", "principal", "scope", "session", "valid_until")

    def __init__(
        self,
        principal: Principal,
        holder: Holder | None,
        session: LiveSession | None = None,
        *,
        valid_until: float = math.inf,
        expires_at: float = math.inf,
        keys: Keys | None = None,
        scope: frozenset[str] | None = None,
    ) -> None:
        self.principal: Final = principal
        self.holder: Final = holder
        self.account: Final[Account | None] = None if isinstance(holder, ForeignUser) else holder
        self.session: Final = session
        self.valid_until: Final = valid_until
        self.expires_at: Final = expires_at
        self.keys: Final = keys
        self.scope: Final = scope


class VerifiedCache:
    """Verified credentials by digest, the least recently used leaving first. Any thread may use it."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[bytes, Verified] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Verified | None:
        """What is known of the credential."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
            return entry

    def put(self, key: bytes, entry: Verified) -> None:
        """Keeps it in the place of what was known before."""
        with self._lock:
            self._entries[key] = entry
            self._entries.move_to_end(key)
            while len(self._entries) > self._max_entries or self._oldest_has_ended():
                self._entries.popitem(last=False)

    def _oldest_has_ended(self) -> bool:
        oldest = next(iter(self._entries.values()), None)
        return oldest is not None and oldest.session is not None and bool(oldest.session.ended)

    def discard(self, key: bytes) -> None:
        """Forgets it."""
        with self._lock:
            self._entries.pop(key, None)
