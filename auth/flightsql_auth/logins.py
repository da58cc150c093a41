"""Logins: a session, and the token that names it, for a credential that was verified."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from .errors import ExpiredToken, ScopeRefused
from .federation import ForeignUser
from .keys import KeyRing
from .live import LiveState
from .principals import Principal
from .store import Session
from .tokens import Tokens
from .verified import Verified


@dataclass(frozen=True, slots=True)
class Login:
    """A new session: the token to hand to the client, and whose it is."""

    token: str = field(repr=False)
    principal: Principal


class Logins:
    """Makes sessions that last ``session_seconds`` at most. Any thread may use it; blocks on the store."""

    def __init__(
        self, live: LiveState, keys: KeyRing, tokens: Tokens, session_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._live = live
        self._keys = keys
        self._tokens = tokens
        self._session_seconds = session_seconds
        self._clock = clock

    def begin(self, shown: Verified, asked: frozenset[str] | None, peer: str, user_agent: str) -> Login:
        """A session for the credential that was shown, which it doesn't outlive.

        ``asked``: the only roles that it shall have; None: all that the credential gives. Raises ``ScopeRefused``,
        ``ExpiredToken``, ``TooManySessions``, ``SessionEnded`` and ``StoreFull``.
        """
        caller, now = shown.principal, self._clock()
        scope, roles = shown.scope, caller.roles
        if asked is not None:
            if not asked or not asked <= set(roles):
                raise ScopeRefused
            scope, roles = asked, tuple(role for role in roles if role in asked)
        # Whole seconds, as the token says it.
        expires_at = float(int(min(now + self._session_seconds, shown.expires_at)))
        if expires_at <= now:
            raise ExpiredToken
        parent = shown.session
        stored = Session(
            jti=secrets.token_hex(16),  # it stands on command lines, where a dash would begin an option
            user=caller.name,
            created_at=now,
            expires_at=expires_at,
            last_seen=now,
            peer=peer,
            user_agent=user_agent,
            parent_jti=None if parent is None else parent.jti,
        )
        session = self._live.create(stored, parent)
        holder = shown.holder
        token = self._tokens.issue(
            subject=caller.name,
            jti=session.jti,
            issued_at=now,
            expires_at=expires_at,
            scope=scope,
            foreign=holder.as_claim() if isinstance(holder, ForeignUser) else None,
        )
        kid = self._keys.active.kid
        principal = replace(caller, roles=roles, session_id=session.jti, expires_at=expires_at, credential_id=kid)
        return Login(token, principal)
