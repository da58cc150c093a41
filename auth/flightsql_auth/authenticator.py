"""The login door: turns what a client sends into a ``Principal``, or refuses with an ``AuthError``."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import Final

from .attempts import Attempts
from .bearers import Bearers
from .certificates import CertificateUsers
from .credentials import Basic, PasswordHasher, parse_authorization, parse_basic_auth_payload
from .errors import (
    AuthError,
    BadCertificate,
    BadCredentials,
    ExpiredToken,
    MissingCredentials,
    SessionEnded,
    TokenRevoked,
)
from .federation import Federation, is_foreign
from .holders import principal_of
from .keys import KeyRing
from .live import LiveState
from .logins import Login, Logins
from .principals import ANONYMOUS, Principal
from .service_tokens import ServiceToken
from .store import StateStore, User
from .tokens import Tokens
from .verified import Verified, VerifiedCache

CHECK_SECONDS: Final = 0.5
MAX_CACHED_CREDENTIALS: Final = 8_192


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
        free_failures: int = 5,
        ended: Callable[[str, str, str], None] = lambda jti, user, how: None,
        certificates: CertificateUsers | None = None,
        federation: Federation | None = None,
    ) -> None:
        """``hasher`` replaces the one that ``max_parallel_hashes`` describes; ``free_failures`` see ``Attempts``;
        ``ended`` see ``LiveState``. ``certificates`` tells whom a client certificate names, ``federation`` has the
        identity providers whose tokens count as well; without them, neither counts.
        """
        self._clock = clock
        self._certificates = certificates
        self._basic_cache_seconds = basic_cache_seconds
        self._keys = keys
        self._hasher = hasher or PasswordHasher(max_parallel=max_parallel_hashes)
        self._attempts = Attempts(free_failures, clock)
        self._live = LiveState(
            store,
            idle_seconds=idle_seconds,
            max_sessions_per_user=max_sessions_per_user,
            check_seconds=check_seconds,
            in_use=in_use,
            clock=clock,
            ended=ended,
        )
        self._anonymous = None if anonymous_role is None else Principal(ANONYMOUS, (anonymous_role,), "anonymous")
        tokens = Tokens(keys, issuer=issuer, audience=audience, clock=clock)
        self._bearers = Bearers(self._live, keys, tokens, federation or Federation(()), self._anonymous, clock)
        self._logins = Logins(self._live, keys, tokens, session_seconds, clock)
        # Digests under a key of this process: memory holds neither tokens nor passwords, nor what could be tried
        # against a list of them elsewhere.
        self._digest_seed = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=16)
        self._cache = VerifiedCache(max_cached_credentials)
        self._checks: dict[bytes, Future[Verified]] = {}
        self._checks_lock = threading.Lock()

    # Who is calling

    def cached(self, authorization: str | None, peer: str, certificate: bytes | None = None) -> Principal | None:
        """The principal if memory alone can tell; None: ask ``authenticate``, in a thread. Never blocks.

        ``certificate`` is the PEM of the one that this very connection's handshake has verified. The header goes
        before it, also where the header is refused. Raises ``AuthError`` where memory knows that the credential is no
        longer good.
        """
        now = self._clock()
        if not self._live.is_fresh(now):
            return None
        if not authorization:
            return self._without_header(certificate)
        key = self._digest(authorization)
        entry = self._cache.get(key)
        if entry is None:
            return None
        if entry.session is not None:
            self._live.check(entry.session, now)
        elif now >= entry.valid_until:
            return None
        if entry.keys is not None and entry.keys is not self._keys.current:
            return None
        account = entry.account
        if self._live.accounts.get(entry.principal.name) is not account:
            return self._renewed(key, entry)
        if isinstance(account, ServiceToken):
            self._live.used(account, now)
        return entry.principal

    def _without_header(self, certificate: bytes | None) -> Principal:
        shown = self._certified(certificate)
        return self._anonymous_principal() if shown is None else shown.principal

    def _certified(self, certificate: bytes | None) -> Verified | None:
        """Whom the connection's certificate names; None where it has none or certificates don't count."""
        if certificate is None or self._certificates is None:
            return None
        name, ends = self._certificates.named(certificate, self._clock())
        user = self._live.users.get(name)
        if user is None or user.disabled:
            raise BadCertificate(outcome=None if user is None else "disabled")
        return Verified(principal_of(user, "certificate", expires_at=ends), user, expires_at=ends)

    def _anonymous_principal(self) -> Principal:
        if self._anonymous is None:
            raise MissingCredentials
        return self._anonymous

    def _renewed(self, key: bytes, entry: Verified) -> Principal | None:
        """The principal after its account changed; None if the credential has to be asked again."""
        account = self._live.accounts.get(entry.principal.name)
        if account is None or account.disabled:
            if entry.session is not None:
                raise SessionEnded(outcome="disabled")
            self._cache.discard(key)
            return None
        if entry.session is None and (entry.account is None or account.proof != entry.account.proof):
            self._cache.discard(key)
            return None
        known = entry.principal
        principal = principal_of(
            account,
            known.method,
            entry.session,
            scope=entry.scope,
            expires_at=known.expires_at,
            credential_id=known.credential_id,
        )
        renewed = Verified(
            principal,
            account,
            entry.session,
            valid_until=entry.valid_until,
            expires_at=entry.expires_at,
            keys=entry.keys,
            scope=entry.scope,
        )
        self._cache.put(key, renewed)
        return principal

    def authenticate(self, authorization: str | None, peer: str, certificate: bytes | None = None) -> Principal:
        """The principal, however long it takes to tell; ``cached`` knows it from then on. Raises ``AuthError``."""
        self._live.refresh()
        principal = self.cached(authorization, peer, certificate)
        if principal is not None:
            return principal
        if not authorization:
            return self._without_header(certificate)
        credential = parse_authorization(authorization)
        key = self._digest(authorization)
        if isinstance(credential, Basic):
            return self._checked(credential, key, peer).principal
        verified = self._bearers.verify(credential.token)
        self._cache.put(key, verified)
        return verified.principal

    def refusal(self, principal: Principal) -> AuthError | None:
        """Why a call of the principal's that runs may not go on; None while it may. Never blocks.

        It is as new as the last ``refresh``, which a server without other calls has to ask for itself.
        """
        if principal.expires_at is not None and self._clock() >= principal.expires_at:
            return ExpiredToken()
        if principal.session_id is None:
            return self._withdrawn(principal)
        session = self._live.known(principal.session_id)
        if session is None or session.ended:
            return SessionEnded(outcome=session.ended if session else None)
        if principal.method == "token" and self._keys.find(principal.credential_id) is None:
            return SessionEnded()
        return None

    def _withdrawn(self, principal: Principal) -> AuthError | None:
        """Why a credential that has no session no longer counts; None while it does."""
        if principal.method == "anonymous" or (principal.method == "oidc" and is_foreign(principal.name)):
            return None
        account = self._live.accounts.get(principal.name)
        gone = account is None or account.disabled
        if account is not None and not gone and principal.credential_id in ("", account.proof):
            return None
        if principal.method == "service_token":
            return TokenRevoked()
        return SessionEnded(outcome="disabled" if gone else "revoked")

    def refresh(self) -> None:
        """Brings memory up to date with what others did to the store and the keys. Raises ``KeyFileError``."""
        self._live.refresh()
        self._keys.refresh()

    # Logging in

    def login(
        self,
        authorization: str | None,
        payload: bytes,
        peer: str,
        user_agent: str,
        certificate: bytes | None = None,
        *,
        scope: Collection[str] | None = None,
    ) -> Login:
        """A new session for the credential in the header or, without one, in the handshake's payload. Blocks.

        With neither, the connection's certificate counts. A bearer makes a session that ends no later than the
        presented token and, if that is one of ours, with its revocation; a certificate one that ends no later than it.
        ``scope``: the only roles that the session shall have; None: all. Raises ``AuthError``, among them
        ``TooManySessions``, ``TooBusy`` and ``ScopeRefused``.
        """
        # A user who was added a moment ago, by whatever process, can log in at once.
        self._live.refresh(at_once=True)
        shown = self._shown(authorization, payload, peer, certificate)
        return self._logins.begin(shown, None if scope is None else frozenset(scope), peer, user_agent)

    def _shown(self, authorization: str | None, payload: bytes, peer: str, certificate: bytes | None) -> Verified:
        if authorization:
            credential = parse_authorization(authorization)
            key = self._digest(authorization)
        elif payload:
            named = parse_basic_auth_payload(payload)
            if named is None:
                raise MissingCredentials
            credential, key = named, self._digest("\0" + payload.hex())
        else:
            return self._certified(certificate) or Verified(self._anonymous_principal(), None)
        if isinstance(credential, Basic):
            return self._checked(credential, key, peer)
        return self._bearers.verify(credential.token)

    # Passwords

    def _checked(self, basic: Basic, key: bytes, peer: str) -> Verified:
        """The user whose password this is. Calls with one credential at one time share one hashing."""
        entry = self._cache.get(key)
        now = self._clock()
        if entry is not None and now < entry.valid_until and self._live.users.get(basic.user) is entry.account:
            return entry
        with self._checks_lock:
            check = self._checks.get(key)
            mine = check is None
            if check is None:
                check = self._checks[key] = Future()
        if not mine:
            return check.result()
        try:
            user = self._verify_password(basic, peer)
            principal = principal_of(user, "password", credential_id=user.proof)
            verified = Verified(principal, user, valid_until=now + self._basic_cache_seconds)
            self._cache.put(key, verified)
        except BaseException as error:
            check.set_exception(error)
            raise
        else:
            check.set_result(verified)
            return verified
        finally:
            with self._checks_lock:
                del self._checks[key]

    def _verify_password(self, basic: Basic, peer: str) -> User:
        self._attempts.check(basic.user, peer)
        user = self._live.users.get(basic.user)
        if user is None:
            self._hasher.verify_dummy(basic.password)
        if user is None or not self._hasher.verify(user.password_hash, basic.password):
            self._attempts.failed(basic.user, peer)
            raise BadCredentials
        self._attempts.succeeded(basic.user, peer)
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
        """The defaults of a user or a service token, by its principal's name; empty if there is none. Never blocks."""
        account = self._live.accounts.get(name)
        return {} if account is None else account.options

    def claimed_user(self, authorization: str | None, payload: bytes = b"") -> str:
        """Whom a refused credential says to be, if there is such a user: of others it might be a password, mistyped.

        Never blocks.
        """
        try:
            found = parse_authorization(authorization) if authorization else parse_basic_auth_payload(payload)
        except AuthError:
            return ""
        return found.user if isinstance(found, Basic) and found.user in self._live.users else ""

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
