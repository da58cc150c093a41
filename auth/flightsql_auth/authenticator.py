"""The login door: turns what a client sends into a ``Principal``, or refuses with an ``AuthError``."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from .credentials import Basic, PasswordHasher, parse_authorization, parse_basic_auth_payload
from .errors import BadCredentials, MissingCredentials, SessionEnded
from .keys import KeyRing
from .live import LiveSession, LiveState
from .principals import ANONYMOUS, Method, Principal
from .store import Session, StateStore, User
from .tokens import Tokens

CHECK_SECONDS: Final = 0.5
MAX_CACHED_CREDENTIALS: Final = 8_192


@dataclass(frozen=True, slots=True)
class Login:
    """A new session: the token to hand to the client, and whose it is."""

    token: str = field(repr=False)
    principal: Principal


class _Entry:
    """A credential that was verified. ``user`` is the record it was verified against, None for anonymous callers."""

    __slots__ = ("principal", "session", "user", "valid_until")

    def __init__(
        self, principal: Principal, user: User | None, session: LiveSession | None, valid_until: float
    ) -> None:
        self.principal: Final = principal
        self.user: Final = user
        self.session: Final = session
        self.valid_until: Final = valid_until


class _Cache:
    """Verified credentials by digest, the least recently used leaving first. Any thread may use it."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> _Entry | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
            return entry

    def put(self, key: bytes, entry: _Entry) -> None:
        with self._lock:
            self._entries[key] = entry
            self._entries.move_to_end(key)
            if len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)

    def discard(self, key: bytes) -> None:
        with self._lock:
            self._entries.pop(key, None)


class Authenticator:
    """Who is calling. Any thread may call anything; only ``cached``, ``session_options``, ``user_options`` and
    ``session_count`` are for an event loop, the rest blocks (password hashing, SQLite) and belongs in a thread.

    At each call the user's roles are those of the store, so a change of user, session or revocation holds at once,
    and within a second if another process made it. Live sessions are held in memory: at most
    ``max_sessions_per_user`` per user. ``in_use(jti)`` tells whether a session has an open transaction or stream; it
    must be quick, safe to call from any thread, and must not call back. ``anonymous_role`` serves callers without
    credentials in that role; None refuses them. Whoever opened the store closes it, after ``close``.
    """

    def __init__(
        self,
        store: StateStore,
        keys: KeyRing,
        *,
        issuer: str,
        audience: str,
        anonymous_role: str | None,
        session_seconds: float = 43_200,
        idle_seconds: float = 7_200,
        max_sessions_per_user: int = 64,
        basic_cache_seconds: float = 60,
        max_parallel_hashes: int = 2,
        max_cached_credentials: int = MAX_CACHED_CREDENTIALS,
        check_seconds: float = CHECK_SECONDS,
        in_use: Callable[[str], bool] = lambda jti: False,
        clock: Callable[[], float] = time.time,
        hasher: PasswordHasher | None = None,
    ) -> None:
        """``hasher`` replaces the one that ``max_parallel_hashes`` describes."""
        self._clock = clock
        self._session_seconds = session_seconds
        self._basic_cache_seconds = basic_cache_seconds
        self._tokens = Tokens(keys, issuer=issuer, audience=audience, clock=clock)
        self._hasher = hasher or PasswordHasher(max_parallel=max_parallel_hashes)
        self._live = LiveState(
            store,
            idle_seconds=idle_seconds,
            max_sessions_per_user=max_sessions_per_user,
            check_seconds=check_seconds,
            in_use=in_use,
            clock=clock,
        )
        self._anonymous = None if anonymous_role is None else Principal(ANONYMOUS, (anonymous_role,), "anonymous")
        # Digests under a key of this process: memory holds neither tokens nor passwords, nor what could be tried
        # against a list of them elsewhere.
        self._digest_seed = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=16)
        self._cache = _Cache(max_cached_credentials)
        self._checks: dict[bytes, Future[User]] = {}
        self._checks_lock = threading.Lock()

    # Who is calling

    def cached(self, authorization: str | None, peer: str) -> Principal | None:
        """The principal if memory alone can tell; None: ask ``authenticate``, in a thread. Never blocks.

        Raises ``AuthError`` where memory knows that the credential is no longer good.
        """
        now = self._clock()
        if not self._live.is_fresh(now):
            return None
        if not authorization:
            return self._anonymous_principal()
        key = self._digest(authorization)
        entry = self._cache.get(key)
        if entry is None:
            return None
        if entry.session is not None:
            self._live.check(entry.session, now)
        elif now >= entry.valid_until:
            return None
        if self._live.users.get(entry.principal.name) is not entry.user:
            return self._renewed(key, entry)
        return entry.principal

    def _anonymous_principal(self) -> Principal:
        if self._anonymous is None:
            raise MissingCredentials
        return self._anonymous

    def _renewed(self, key: bytes, entry: _Entry) -> Principal | None:
        """The principal after its user's record changed; None if the password has to be asked again."""
        user = self._live.users.get(entry.principal.name)
        if user is None or user.disabled:
            if entry.session is not None:
                raise SessionEnded(outcome="disabled")
            self._cache.discard(key)
            return None
        if entry.session is None and (entry.user is None or user.password_hash != entry.user.password_hash):
            self._cache.discard(key)
            return None
        principal = _principal(user, entry.principal.method, entry.session)
        self._cache.put(key, _Entry(principal, user, entry.session, entry.valid_until))
        return principal

    def authenticate(self, authorization: str | None, peer: str) -> Principal:
        """The principal, however long it takes to tell; ``cached`` knows it from then on. Raises ``AuthError``."""
        self._live.refresh()
        principal = self.cached(authorization, peer)
        if principal is not None:
            return principal
        if not authorization:
            return self._anonymous_principal()
        credential = parse_authorization(authorization)
        key = self._digest(authorization)
        if isinstance(credential, Basic):
            user = self._checked_user(credential, key)
            return _principal(user, "password", None)
        session, named = self._session_of(credential.token)
        principal = self._session_principal(session, named)
        self._cache.put(key, _Entry(principal, named, session, session.expires_at))
        return principal

    # Logging in

    def login(self, authorization: str | None, payload: bytes, peer: str, user_agent: str) -> Login:
        """A new session for the credential in the header or, without one, in the handshake's payload. Blocks.

        A bearer of ours makes a session that ends no later than the presented one and with its revocation. Raises
        ``AuthError``, among them ``TooManySessions`` and ``TooBusy``.
        """
        # A user who was added a moment ago, by whatever process, can log in at once.
        self._live.refresh(at_once=True)
        if not authorization and not payload:
            principal = self._anonymous_principal()
            return self._new_session(principal.name, None, "anonymous", None, peer, user_agent)
        if authorization:
            credential = parse_authorization(authorization)
            key = self._digest(authorization)
        else:
            basic = parse_basic_auth_payload(payload)
            if basic is None:
                raise MissingCredentials
            credential, key = basic, self._digest(f"\0{basic.user}\0{basic.password}")
        if isinstance(credential, Basic):
            user = self._checked_user(credential, key)
            return self._new_session(user.name, user, "password", None, peer, user_agent)
        parent, named = self._session_of(credential.token)
        return self._new_session(parent.user, named, "token", parent, peer, user_agent)

    def _new_session(
        self, name: str, user: User | None, method: Method, parent: LiveSession | None, peer: str, user_agent: str
    ) -> Login:
        now = self._clock()
        # Whole seconds, as the token says it.
        expires_at = float(int(now + self._session_seconds))
        if parent is not None:
            expires_at = min(expires_at, parent.expires_at)
        stored = Session(
            jti=secrets.token_urlsafe(16),
            user=name,
            created_at=now,
            expires_at=expires_at,
            last_seen=now,
            peer=peer,
            user_agent=user_agent,
            parent_jti=None if parent is None else parent.jti,
        )
        session = self._live.create(stored, parent)
        token = self._tokens.issue(subject=name, jti=session.jti, issued_at=now, expires_at=expires_at)
        principal = self._session_principal(session, user, method)
        return Login(token, principal)

    # Verifying

    def _session_of(self, token: str) -> tuple[LiveSession, User | None]:
        """The session of a genuine token, and its user; None is the user of an anonymous session."""
        verified = self._tokens.verify(token)
        session = self._live.find(verified.jti)
        if session is None or session.user != verified.subject:
            raise SessionEnded
        self._live.check(session, self._clock())
        user = self._live.users.get(session.user)
        if user is None and session.user == ANONYMOUS and self._anonymous is not None:
            return session, None
        if user is None or user.disabled:
            raise SessionEnded(outcome="disabled")
        return session, user

    def _session_principal(self, session: LiveSession, user: User | None, method: Method = "token") -> Principal:
        if user is not None:
            return _principal(user, method, session)
        anonymous = self._anonymous_principal()
        return Principal(anonymous.name, anonymous.roles, "anonymous", session.jti, session.expires_at)

    def _checked_user(self, basic: Basic, key: bytes) -> User:
        """The user whose password this is. Calls with one credential at one time share one hashing."""
        entry = self._cache.get(key)
        now = self._clock()
        if entry is not None and now < entry.valid_until and self._live.users.get(basic.user) is entry.user is not None:
            return entry.user
        with self._checks_lock:
            check = self._checks.get(key)
            mine = check is None
            if check is None:
                check = self._checks[key] = Future()
        if not mine:
            return check.result()
        try:
            user = self._verify_password(basic)
            principal = _principal(user, "password", None)
            self._cache.put(key, _Entry(principal, user, None, now + self._basic_cache_seconds))
        except BaseException as error:
            check.set_exception(error)
            raise
        else:
            check.set_result(user)
            return user
        finally:
            with self._checks_lock:
                del self._checks[key]

    def _verify_password(self, basic: Basic) -> User:
        user = self._live.users.get(basic.user)
        if user is None:
            self._hasher.verify_dummy(basic.password)
            raise BadCredentials
        if not self._hasher.verify(user.password_hash, basic.password):
            raise BadCredentials
        if user.disabled:
            raise BadCredentials(outcome="disabled")
        return user

    def _digest(self, text: str) -> bytes:
        digest = self._digest_seed.copy()
        digest.update(text.encode("utf-8", "surrogatepass"))
        return digest.digest()

    # Sessions

    def end_session(self, jti: str) -> None:
        """Ends a session because its client said so; sessions made with its token go on. Unknown: does nothing."""
        self._live.end(jti)

    def revoke(self, jti: str) -> frozenset[str]:
        """Revokes a token for good; the ids of the sessions that ended by it: its own and its descendants'."""
        return self._live.revoke(jti)

    def session_options(self, jti: str) -> str:
        """The text last given to ``set_session_options``; empty if none or if the session has ended. Never blocks."""
        session = self._live.known(jti)
        return "" if session is None else session.options

    def set_session_options(self, jti: str, text: str) -> None:
        """Keeps a text with the session, over a restart too. Raises ``SessionEnded``; ``ValueError`` if too long."""
        self._live.set_options(jti, text)

    def user_options(self, name: str) -> Mapping[str, str]:
        """The user's defaults; empty if there is no such user. Never blocks."""
        user = self._live.users.get(name)
        return {} if user is None else user.options

    def is_live(self, jti: str) -> bool:
        """Whether the session has not ended. Never blocks."""
        session = self._live.known(jti)
        return session is not None and not session.ended

    def session_count(self) -> int:
        """How many sessions live; those that went idle or expired count until the next ``flush``."""
        return self._live.count()

    def flush(self) -> None:
        """Writes when sessions were last seen and forgets those that are over: call it every minute."""
        self._live.flush()

    def close(self) -> None:
        """Flushes. The store stays open: it belongs to whoever opened it."""
        self._live.flush()


def _principal(user: User, method: Method, session: LiveSession | None) -> Principal:
    if session is None:
        return Principal(user.name, user.roles, method)
    return Principal(user.name, user.roles, method, session.jti, session.expires_at)
