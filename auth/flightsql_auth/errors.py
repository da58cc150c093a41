"""Refusals at the login door: what the client is told, and under which label the refusal is counted.

::

    AuthError
    ├── MissingCredentials   missing        nothing was presented
    ├── BadCredentials       bad_password   unknown user, wrong password, disabled user: one text for all
    ├── BadToken             bad_token      malformed, forged, of another issuer or audience
    ├── ExpiredToken         expired        the absolute limit has passed
    ├── SessionEnded         revoked        closed, revoked, idle for too long, or its user was disabled
    ├── TooManySessions      limit          the user's sessions are all at work
    ├── TooBusy              limit          more passwords wait to be checked than the server takes
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


class ExpiredToken(AuthError):
    """The token's absolute limit has passed: log in again."""

    default_reason = "the token has expired: log in again"
    default_outcome = "expired"


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


class StoreFull(AuthError):
    """The disk of the state store is full: what was to be written was not."""

    default_reason = "the server's disk is full: try again when its administrator has made room"
    default_outcome = "limit"
