"""Refusals at the login door: what the client is told, and under which label the refusal is counted.

::

    AuthError
    ├── MissingCredentials   missing        nothing was presented
    ├── BadCredentials       bad_password   unknown user, wrong password, disabled user: one text for all
    ├── BadToken             bad_token      malformed, forged, of another issuer or audience
    ├── BadCertificate       bad_certificate  the client certificate names no user of this server, or has expired
    ├── ExpiredToken         expired        the absolute limit has passed
    ├── TokenRevoked         revoked        a service token that was revoked
    ├── SessionEnded         revoked        closed, revoked, idle for too long, or its user was disabled
    ├── TooManySessions      limit          the user's sessions are all at work
    ├── TooBusy              limit          more passwords wait to be checked than the server takes
    ├── TooManyAttempts      locked         wrong passwords: wait before the next attempt
    ├── ScopeRefused         scope          roles were asked for that the credential doesn't give
    ├── ProviderUnavailable  provider       the identity provider's keys can't be had
    └── StoreFull            limit          the disk has no room for one more session

``outcome`` may say more than ``reason`` does (a disabled user counts as ``disabled``): it is for metrics and the
audit trail and must not be sent to a client.
"""

from __future__ import annotations


class AuthError(Exception):
    """A refusal. ``reason`` is safe to send and says what to do; ``outcome`` is a short label for metrics."""

    default_reason = "the credentials were refused: log in again"
    default_outcome = "bad_token"

    def __init__(self, reason: str | None = None, *, outcome: str | None = None) -> None:
        self.reason = self.default_reason if reason is None else reason
        self.outcome = self.default_outcome if outcome is None else outcome
        super().__init__(self.reason)


class MissingCredentials(AuthError):
    """Nothing was presented: send a credential."""

    default_reason = "no credentials: send Authorization: Bearer <token from handshake>, or Basic"
    default_outcome = "missing"


class BadCredentials(AuthError):
    """User name or password is wrong; says the same of an unknown user and of a disabled one."""

    default_reason = "user name or password is wrong"
    default_outcome = "bad_password"


class BadToken(AuthError):
    """What was presented is not a credential of this server: log in for a new one."""

    default_reason = "the token is not valid here: log in again"
    default_outcome = "bad_token"


class BadCertificate(AuthError):
    """The client certificate is genuine, but names no user of this server; says the same of a disabled one."""

    default_reason = "the client certificate names no user of this server: ask its administrator, or send a credential"
    default_outcome = "bad_certificate"


class ExpiredToken(AuthError):
    """The token's absolute limit has passed: log in again."""

    default_reason = "the token has expired: log in again"
    default_outcome = "expired"


class TokenRevoked(AuthError):
    """A service token that was good once: ask for a new one."""

    default_reason = "the service token was revoked: ask the server's administrator for a new one"
    default_outcome = "revoked"


class SessionEnded(AuthError):
    """The token is genuine, but its session is over: log in again."""

    default_reason = "the session has ended: log in again"
    default_outcome = "revoked"


class TooManySessions(AuthError):
    """The user is at the session limit and each of them is at work: close one."""

    default_reason = "too many sessions of this user are open and at work: close one and log in again"
    default_outcome = "limit"


class TooBusy(AuthError):
    """Too many passwords wait to be checked: repeat after a pause."""

    default_reason = "too many logins at once: repeat after a pause"
    default_outcome = "limit"


class TooManyAttempts(AuthError):
    """Too many wrong passwords, by this user or from this address: wait."""

    default_outcome = "locked"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many wrong passwords: try again in {max(1, round(seconds))} seconds")


class ScopeRefused(AuthError):
    """Roles were asked for that the credential doesn't give: ask for fewer."""

    default_reason = "the scope is none, some or all of the roles that the credential gives, by name"
    default_outcome = "scope"


class ProviderUnavailable(AuthError):
    """Whether the token is good can't be told, since its provider's keys can't be had: repeat after a pause."""

    default_reason = "the keys of the identity provider can't be had: try again later"
    default_outcome = "provider"


class StoreFull(AuthError):
    """The disk of the state store is full: what was to be written was not."""

    default_reason = "the server's disk is full: try again when its administrator has made room"
    default_outcome = "limit"
