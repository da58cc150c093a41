"""Users, service tokens and live sessions in memory, kept in step with the state store, so that a call asks no disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

from .errors import ExpiredToken, SessionEnded, TooManySessions
from .service_tokens import ServiceToken, ServiceTokens
from .store import Session, StateStore, User

Account = User | ServiceToken
"""Whoever a principal stands for, with roles and options of its own."""

KEEP_ENDED_SECONDS: Final = 86_400.0
PURGE_EVERY_SECONDS: Final = 3_600.0


class LiveSession:
    """What a call needs of a session. Written without a lock: each attribute is one word, the last writer wins.

    ``ended`` is empty while it lives, then the label under which refusals are counted.
    """

    __slots__ = ("ended", "expires_at", "jti", "last_seen", "options", "parent", "stored_seen", "user")

    def __init__(self, stored: Session) -> None:
        self.jti: Final = stored.jti
        self.user: Final = stored.user
        self.expires_at: Final = stored.expires_at
        self.last_seen = stored.last_seen
        self.stored_seen = stored.last_seen
        self.options = stored.options
        self.parent: LiveSession | None = None
        self.ended = ""


class LiveState:
    """The store's users, service tokens and live sessions; ``is_fresh``, ``check``, ``used``, attributes never block.

    ``users``, ``tokens`` (by digest) and ``accounts`` (both, by the principal's name) are replaced as a whole when they
    change; who didn't change keeps the same object. What other
    processes change is seen within twice ``check_seconds``. ``in_use`` tells whether a session has an open
    transaction or stream: it may be called from any thread, must be quick and must not call back. So must ``ended``,
    which is told of each session that ends: its id, its user, and the label under which it is refused from then on.
    """

    def __init__(
        self,
        store: StateStore,
        *,
        idle_seconds: float,
        max_sessions_per_user: int,
        check_seconds: float,
        in_use: Callable[[str], bool],
        clock: Callable[[], float],
        ended: Callable[[str, str, str], None] = lambda jti, user, how: None,
    ) -> None:
        self._store = store
        self._ended = ended
        self._idle_seconds = idle_seconds
        self._max_sessions_per_user = max_sessions_per_user
        self._check_seconds = check_seconds
        self._in_use = in_use
        self._clock = clock
        # Held over every change of the store and of the two mappings, so that a reload can't undo a change.
        self._changing = threading.Lock()
        self._sessions: dict[str, LiveSession] = {}
        self.users: Mapping[str, User] = {}
        self.tokens: Mapping[bytes, ServiceToken] = {}
        self.accounts: Mapping[str, Account] = {}
        self._service_tokens = ServiceTokens(store)
        self._used: dict[str, float] = {}
        self._stale = True
        self._checked_at = self._purged_at = clock()
        self.refresh()

    # Staying in step

    def is_fresh(self, now: float) -> bool:
        """Whether what memory holds may be trusted; if not, have a thread ``refresh``."""
        # A clock set back must not stop the checks, hence the absolute value.
        if not self._stale and abs(now - self._checked_at) < self._check_seconds:
            return True
        return self._poll(now)

    def _poll(self, now: float) -> bool:
        if self._stale:
            return False
        changed = self._store.changed_elsewhere(wait=False)
        if changed is None:
            return abs(now - self._checked_at) < 2 * self._check_seconds
        if changed:
            self._stale = True
            return False
        self._checked_at = now
        return True

    def refresh(self, *, at_once: bool = False) -> None:
        """Brings memory up to date where others changed the store; ``at_once``: also if it was checked just now."""
        with self._changing:
            now = self._clock()
            if not at_once and not self._stale and abs(now - self._checked_at) < self._check_seconds:
                return
            # Cleared before the store is asked, so that a change in between is noticed; and cleared only if it was
            # set, so that a change that ``_poll`` reports just now isn't lost.
            reload = self._stale
            if reload:
                self._stale = False
            try:
                if self._store.changed_elsewhere() or reload:
                    self._load(now)
            except BaseException:
                self._stale = True
                raise
            self._checked_at = now

    def _load(self, now: float) -> None:
        known = self.accounts
        found: list[Account] = [*self._store.list_users(), *self._service_tokens.all()]
        self.accounts = {
            one.principal: known[one.principal] if known.get(one.principal) == one else one for one in found
        }
        self.users = {name: one for name, one in self.accounts.items() if isinstance(one, User)}
        self.tokens = {one.digest: one for one in self.accounts.values() if isinstance(one, ServiceToken)}
        stored = {session.jti: session for session in self._store.live_sessions()}
        for live in list(self._sessions.values()):
            if live.jti not in stored:
                self._forget(live, "expired" if live.expires_at <= now else "revoked")
        for session in stored.values():
            known_session = self._sessions.get(session.jti)
            if known_session is None:
                self._sessions[session.jti] = LiveSession(session)
            else:
                known_session.options = session.options
                known_session.last_seen = max(known_session.last_seen, session.last_seen)
        for session in stored.values():
            if session.parent_jti is not None:
                self._sessions[session.jti].parent = self._sessions.get(session.parent_jti)

    def _forget(self, session: LiveSession, outcome: str) -> None:
        session.ended = session.ended or outcome
        session.parent = None
        if self._sessions.pop(session.jti, None) is not None:
            self._ended(session.jti, session.user, session.ended)

    # Asking

    def check(self, session: LiveSession, now: float) -> None:
        """Notes that the session was seen. Raises ``SessionEnded`` or ``ExpiredToken`` if it no longer lives."""
        if session.ended:
            raise SessionEnded(outcome=session.ended)
        if now >= session.expires_at:
            raise ExpiredToken
        if now - session.last_seen > self._idle_seconds and not self._in_use(session.jti):
            session.ended = "expired"
            raise SessionEnded(outcome="expired")
        session.last_seen = now
        # A token from a configuration file is presented only when a connection is made: its session must outlive
        # the idle limit as long as the connections made with it are at work.
        if session.parent is not None:
            session.parent.last_seen = now

    def used(self, token: ServiceToken, now: float) -> None:
        """Notes that a service token was used; ``flush`` writes it down."""
        self._used[token.id] = now

    def find(self, jti: str) -> LiveSession | None:
        """The live session of that id, asking the store for one that memory doesn't know; None if there is none."""
        live = self._sessions.get(jti)
        if live is not None:
            return live
        with self._changing:
            live = self._sessions.get(jti)
            if live is None:
                stored = self._store.get_session(jti)
                if stored is None or stored.ended_at is not None or stored.expires_at <= self._clock():
                    return None
                live = self._sessions[jti] = LiveSession(stored)
            return live

    def known(self, jti: str) -> LiveSession | None:
        """The live session of that id if memory has it; never blocks."""
        return self._sessions.get(jti)

    def count(self) -> int:
        """How many sessions live."""
        return len(self._sessions)

    # Changing

    def create(self, session: Session, parent: LiveSession | None) -> LiveSession:
        """Stores and holds a new session, ending the user's longest-idle one at the limit.

        Raises ``TooManySessions``, and ``SessionEnded`` if the parent or the user went away meanwhile.
        """
        with self._changing:
            self._make_room(session.user, parent)
            if not self._store.create_session(session):
                raise SessionEnded
            live = self._sessions[session.jti] = LiveSession(session)
            live.parent = parent
            return live

    def _make_room(self, user: str, parent: LiveSession | None) -> None:
        now = self._clock()
        live = [s for s in self._sessions.values() if s.user == user and not s.ended and s.expires_at > now]
        excess = len(live) - self._max_sessions_per_user + 1
        if excess <= 0:
            return
        parents = {id(s.parent) for s in live}
        # A parent was seen whenever its children were; between equals, the child goes.
        live.sort(key=lambda s: (s.last_seen, id(s) in parents))
        leaving: list[LiveSession] = []
        for session in live:
            if len(leaving) < excess and session is not parent and not self._in_use(session.jti):
                leaving.append(session)
        if len(leaving) < excess:
            raise TooManySessions
        self._store.end_sessions([session.jti for session in leaving], durable=False)
        for session in leaving:
            self._forget(session, "limit")

    def end(self, jti: str) -> None:
        """Ends one session; those made with its token go on."""
        with self._changing:
            self._store.end_session(jti)
            live = self._sessions.get(jti)
            if live is not None:
                self._forget(live, "revoked")

    def revoke(self, jti: str) -> frozenset[str]:
        """Revokes a token; the sessions that ended by it, its own and its descendants'."""
        with self._changing:
            ended = self._store.revoke(jti)
            for each in ended:
                live = self._sessions.get(each)
                if live is not None:
                    self._forget(live, "revoked")
            return ended

    def set_options(self, jti: str, options: str) -> None:
        """Replaces the session's options. Raises ``SessionEnded`` if it no longer lives."""
        with self._changing:
            live = self._sessions.get(jti)
            if live is None or live.ended:
                raise SessionEnded
            self._store.set_session_options(jti, options)
            live.options = options

    def flush(self) -> None:
        """Writes what was last seen when, ends idle sessions, forgets expired ones and what ended a day ago."""
        with self._changing:
            now = self._clock()
            ended: list[LiveSession] = []
            for session in self._sessions.values():
                if not session.ended and now < session.expires_at:
                    self._age(session, now)
                if session.ended or now >= session.expires_at:
                    ended.append(session)
            gone = {session.jti for session in ended}
            seen = [
                (session, session.last_seen)
                for session in self._sessions.values()
                if session.jti not in gone and session.last_seen != session.stored_seen
            ]
            if ended:
                self._store.end_sessions(gone)
            if seen:
                self._store.touch((session.jti, last_seen) for session, last_seen in seen)
            for session in ended:
                self._forget(session, "expired")
            for session, last_seen in seen:
                session.stored_seen = last_seen
            used = dict(self._used)
            if used:
                self._service_tokens.note_used(used)
            for token_id, at in used.items():
                if self._used.get(token_id) == at:
                    del self._used[token_id]
            if abs(now - self._purged_at) >= PURGE_EVERY_SECONDS:
                self._store.purge(now - KEEP_ENDED_SECONDS)
                self._purged_at = now

    def _age(self, session: LiveSession, now: float) -> None:
        idle_seconds = now - session.last_seen
        # A session at work isn't idle. Asked well before the limit, so that work that ends just now doesn't leave a
        # session that is at its limit already.
        if idle_seconds > self._idle_seconds / 4 and self._in_use(session.jti):
            session.last_seen = now
            if session.parent is not None:
                session.parent.last_seen = now
        elif idle_seconds > self._idle_seconds:
            session.ended = "expired"
