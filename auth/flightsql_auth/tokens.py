"""Session tokens: signed JWTs whose ``jti`` is the session's id.

A token says who and until when. Which roles a user of ours has is looked up at each call, so that changes hold at
once; a token may hold fewer of them (``scope``). For somebody whom an identity provider vouched for, it says what the
provider said (``foreign``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import jwt

from . import jws
from .errors import BadToken, ExpiredToken
from .jws import number, text
from .keys import LEEWAY_SECONDS, KeyRing
from .signing import one_spelling

MAX_TOKEN_CHARACTERS: Final = 8_192
MAX_LEEWAY_SECONDS: Final = LEEWAY_SECONDS
HEADER_TYPE: Final = "at+jwt"

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
    """What a genuine, current token says; whether its session still lives is asked elsewhere.

    ``kid`` names the key that signed it; ``scope`` and ``foreign`` see ``Tokens.issue``.
    """

    subject: str
    jti: str
    issued_at: float
    expires_at: float
    kid: str
    scope: frozenset[str] | None = None
    foreign: Mapping[str, object] | None = None


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

    def issue(
        self,
        *,
        subject: str,
        jti: str,
        issued_at: float,
        expires_at: float,
        scope: Collection[str] | None = None,
        foreign: Mapping[str, object] | None = None,
    ) -> str:
        """A token signed with the active key. Times are whole seconds in the token, rounded down.

        ``scope``: the only roles that it is good for; None: all that the subject has. ``foreign``: what is known of a
        subject that is no user of ours.
        """
        key = self._keys.active
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": subject,
            "jti": jti,
            "iat": int(issued_at),
            "exp": int(expires_at),
            **({} if scope is None else {"scope": " ".join(sorted(scope))}),
            **({} if foreign is None else {"foreign": foreign}),
        }
        header = {"kid": key.kid, "typ": HEADER_TYPE}
        token = self._jwt.encode(claims, key.private_key, algorithm=key.algorithm, headers=header)
        signed, _, signature = token.rpartition(".")
        ours = one_spelling(key.algorithm, jws.decode_base64url(signature))
        return f"{signed}.{jws.encode_base64url(ours)}"

    def verify(self, token: str) -> VerifiedToken:
        """What the token says. Raises ``ExpiredToken``, and ``BadToken`` with one text whatever else is wrong."""
        kid, claims = self._genuine_claims(token)
        now = self._clock()
        issued_at, expires_at = number(claims, "iat"), number(claims, "exp")
        not_before = number(claims, "nbf") if "nbf" in claims else issued_at
        if max(issued_at, not_before) > now + self._leeway_seconds:
            raise BadToken
        if expires_at <= now - self._leeway_seconds:
            raise ExpiredToken
        scope, foreign = claims.get("scope"), claims.get("foreign")
        if not isinstance(scope, str | None) or not isinstance(foreign, dict | None):
            raise BadToken
        return VerifiedToken(
            text(claims, "sub"),
            text(claims, "jti"),
            issued_at,
            expires_at,
            kid,
            None if scope is None else frozenset(scope.split()),
            foreign,
        )

    def _genuine_claims(self, token: str) -> tuple[str, Mapping[str, object]]:
        """The ``kid`` of the key that signed the token, and what it claims."""
        # Refuses what two readers could understand differently, so that the library may read it once more.
        parsed = jws.parse(token, MAX_TOKEN_CHARACTERS)
        header = parsed.header
        key = self._keys.find(text(header, "kid"))
        # No member beyond the three that we write: crit, b64, jku, jwk and x5u are refused unread.
        if key is None or header.get("typ") != HEADER_TYPE or not header.keys() <= _HEADER_MEMBERS:
            raise BadToken
        if one_spelling(key.algorithm, parsed.signature) != parsed.signature:
            raise BadToken
        try:
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
        return key.kid, claims
