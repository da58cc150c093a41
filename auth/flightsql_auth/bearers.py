"""Bearers: whom the text of a token stands for. There are three kinds, and the text tells which one it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .errors import BadToken, ExpiredToken, SessionEnded, TokenRevoked
from .federation import Federation
from .holders import Holder, principal_of
from .keys import KeyRing
from .live import LiveState
from .principals import ANONYMOUS, Principal
from .service_tokens import PREFIX, digest_of
from .tokens import Tokens
from .verified import Verified


class Bearers:
    """Verifies bearers of every kind. Any thread may use it; blocks on the store and on providers' keys.

    ``anonymous`` is who a session without a credential belongs to; None: there are none.
    """

    def __init__(
        self,
        live: LiveState,
        keys: KeyRing,
        tokens: Tokens,
        federation: Federation,
        anonymous: Principal | None,
        clock: Callable[[], float],
    ) -> None:
        self._live = live
        self._keys = keys
        self._tokens = tokens
        self._federation = federation
        self._anonymous = anonymous
        self._clock = clock

    def verify(self, text: str) -> Verified:
        """Whom it stands for: a service token, a token that a provider claims to have issued, or one of ours.

        Raises ``AuthError``.
        """
        if text.startswith(PREFIX):
            return self._service_token(text)
        if self._federation.claims_to_issue(text):
            return self._provider_token(text)
        return self._session_token(text)

    def _service_token(self, text: str) -> Verified:
        digest = digest_of(text)
        if digest is None:
            raise BadToken
        if digest not in self._live.tokens:
            # One that was made a moment ago, by whatever process, is good at once.
            self._live.refresh(at_once=True)
        token, now = self._live.tokens.get(digest), self._clock()
        if token is None:
            raise BadToken
        if token.disabled:
            raise TokenRevoked
        ends = token.expires_at
        if now >= ends:
            raise ExpiredToken("the service token has expired: ask the server's administrator for a new one")
        self._live.used(token, now)
        principal = principal_of(token, "service_token", expires_at=ends, credential_id=token.id)
        return Verified(principal, token, valid_until=ends, expires_at=ends)

    def _provider_token(self, text: str) -> Verified:
        found = self._federation.verify(text)
        holder: Holder | None
        if isinstance(found.user, str):
            holder = self._live.users.get(found.user)
            if holder is None or holder.disabled:
                raise BadToken(outcome=None if holder is None else "disabled")
        else:
            holder = found.user
        principal = principal_of(holder, "oidc", expires_at=found.taken_until)
        return Verified(principal, holder, valid_until=found.valid_until, expires_at=found.expires_at)

    def _session_token(self, text: str) -> Verified:
        keys = self._keys.current
        verified = self._tokens.verify(text)
        session = self._live.find(verified.jti)
        if session is None or session.user != verified.subject:
            raise SessionEnded
        self._live.check(session, self._clock())
        holder: Holder | None
        if verified.foreign is not None:
            holder = self._federation.again(session.user, verified.foreign)
        else:
            holder = self._live.accounts.get(session.user)
            if holder is not None and holder.disabled:
                raise SessionEnded(outcome="disabled")
        if holder is not None:
            principal = principal_of(holder, "token", session, scope=verified.scope, credential_id=verified.kid)
        elif session.user == ANONYMOUS and self._anonymous is not None and verified.foreign is None:
            principal = replace(
                self._anonymous, session_id=session.jti, expires_at=session.expires_at, credential_id=verified.kid
            )
        else:
            raise SessionEnded(outcome="disabled")
        ends = session.expires_at
        return Verified(principal, holder, session, valid_until=ends, expires_at=ends, keys=keys, scope=verified.scope)
