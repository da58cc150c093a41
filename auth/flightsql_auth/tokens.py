"""Session tokens: signed JWTs whose ``jti`` is the session's id.

A token says who and until when, never which roles: those are looked up at each call, so that changes hold at once.
"""

from __future__ import annotations

import base64
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import jwt

from .errors import BadToken, ExpiredToken
from .keys import KeyRing

MAX_TOKEN_CHARACTERS: Final = 8_192
MAX_LEEWAY_SECONDS: Final = 30.0
HEADER_TYPE: Final = "at+jwt"

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)")
_HEADER_MEMBERS: Final = {"alg", "kid", "typ"}
_REQUIRED: Final = ["iss", "aud", "sub", "exp", "iat", "jti"]
# PyJWT reads the system's clock; the three checks on time are made here, by the clock that was handed in.
_OPTIONS: Final[jwt.types.Options] = {
    "require": _REQUIRED,
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "strict_aud": True,
}


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What a genuine, current token says; whether its session still lives is asked elsewhere."""

    subject: str
    jti: str
    issued_at: float
    expires_at: float


class Tokens:
    """Issues and verifies session tokens of one issuer for one audience. Any thread may use it; nothing to close."""

    def __init__(
        self,
        keys: KeyRing,
        *,
        issuer: str,
        audience: str,
        leeway_seconds: float = MAX_LEEWAY_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not 0 <= leeway_seconds <= MAX_LEEWAY_SECONDS:
            raise ValueError(f"leeway_seconds is 0 to {MAX_LEEWAY_SECONDS:g}")
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._leeway_seconds = leeway_seconds
        self._clock = clock
        self._jwt = jwt.PyJWT()

    def issue(self, *, subject: str, jti: str, issued_at: float, expires_at: float) -> str:
        """A token signed with the active key. Times are whole seconds in the token, rounded down."""
        key = self._keys.active
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": subject,
            "jti": jti,
            "iat": int(issued_at),
            "exp": int(expires_at),
        }
        header = {"kid": key.kid, "typ": HEADER_TYPE}
        return self._jwt.encode(claims, key.private_key, algorithm=key.algorithm, headers=header)

    def verify(self, token: str) -> VerifiedToken:
        """What the token says. Raises ``ExpiredToken``, and ``BadToken`` with one text whatever else is wrong."""
        claims = self._genuine_claims(token)
        now = self._clock()
        issued_at, expires_at = _number(claims, "iat"), _number(claims, "exp")
        not_before = _number(claims, "nbf") if "nbf" in claims else issued_at
        if max(issued_at, not_before) > now + self._leeway_seconds:
            raise BadToken
        if expires_at <= now - self._leeway_seconds:
            raise ExpiredToken
        return VerifiedToken(_text(claims, "sub"), _text(claims, "jti"), issued_at, expires_at)

    def _genuine_claims(self, token: str) -> Mapping[str, object]:
        compact = _COMPACT.fullmatch(token) if len(token) <= MAX_TOKEN_CHARACTERS else None
        if compact is None or not _is_canonical(compact[1]):
            raise BadToken
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.find(header.get("kid", ""))
            # No member beyond the three that we write: crit, b64, jku, jwk and x5u are refused unread.
            if key is None or header.get("typ") != HEADER_TYPE or not header.keys() <= _HEADER_MEMBERS:
                raise BadToken
            claims: dict[str, object] = self._jwt.decode(
                token,
                key.public_key,
                algorithms=[key.algorithm],
                options=_OPTIONS,
                audience=self._audience,
                issuer=self._issuer,
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            # Which check failed helps an attacker more than a user.
            raise BadToken from None
        return claims


def _is_canonical(segment: str) -> bool:
    """Whether no other text decodes to the same bytes: unused bits of a signature's last character are not signed."""
    try:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        return False
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii") == segment


def _number(claims: Mapping[str, object], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadToken
    return float(value)


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims[name]
    if not isinstance(value, str) or not value:
        raise BadToken
    return value
