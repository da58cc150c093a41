"""Federation: who an identity provider's token says its bearer is, as far as the configuration believes it.

A provider's people are called ``<provider>:<claim>``, a form that no user of ours can have, so none of them becomes
one of ours by choosing a name. Only with ``local_users`` does the claim name a user of this server.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import jwt
from cryptography.exceptions import InvalidSignature

from . import jws
from .errors import BadToken, ExpiredToken
from .jws import SignedToken, number
from .provider_keys import MAX_KID_CHARACTERS, ProviderKeys
from .providers import ClaimPath, Provider

MAX_TOKEN_CHARACTERS: Final = 16_384
MAX_GROUPS: Final = 1_000
MAX_IDENTITY_CHARACTERS: Final = 4_096
_WAIT_SLACK_SECONDS: Final = 1.0

_SUBJECT = re.compile(r"[!-~]{1,255}")
_HEADER_MEMBERS: Final = {"alg", "kid", "typ", "x5t", "x5t#S256"}
_TYPES: Final = {"jwt", "at+jwt", "application/at+jwt"}


@dataclass(frozen=True, slots=True)
class ForeignUser:
    """Somebody whom a provider vouches for: name, roles and claims as its token and the configuration give them."""

    name: str
    roles: tuple[str, ...]
    provider: str
    claims: Mapping[str, object]

    @property
    def principal(self) -> str:
        """The name of the principal that they are."""
        return self.name

    def as_claim(self) -> dict[str, object]:
        """What a session's token says of them, for ``Federation.again``."""
        return {"provider": self.provider, "roles": list(self.roles), "claims": dict(self.claims)}


@dataclass(frozen=True, slots=True)
class ForeignToken:
    """A provider's genuine, current token. ``valid_until``: until when that may be believed without another look.

    It ends at ``expires_at``; since clocks differ, it is taken until ``taken_until``.
    ``user`` is the name of a user of this server where the provider has ``local_users``, else the provider's own.
    """

    user: ForeignUser | str
    expires_at: float
    taken_until: float
    valid_until: float


def is_foreign(name: str) -> bool:
    """Whether a principal that a provider's token proved is the provider's own, not a user of this server."""
    return ":" in name


def _unreported(provider: str, outcome: str) -> None:
    """Reports to nobody."""


class Federation:
    """The providers whose tokens count. Any thread may use it; nothing to close.

    ``report`` gets a provider's name and the outcome of each fetch of its keys, see ``ProviderKeys``.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        report: Callable[[str, str], None] = _unreported,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock`` tells the time, ``timer`` how much of it has passed; both in seconds."""
        self._clock = clock
        self._by_issuer = {one.issuer: one for one in providers}
        self._by_name = {one.name: one for one in providers}
        self._keys = {
            one.name: ProviderKeys(
                one.name,
                one.load_keys,
                one.algorithms,
                fresh_seconds=one.fresh_seconds,
                refetch_seconds=one.refetch_seconds,
                stale_seconds=one.stale_seconds,
                # Two documents at most, each with its own limit.
                wait_seconds=2 * one.fetch_seconds + _WAIT_SLACK_SECONDS,
                report=report,
                clock=timer,
            )
            for one in providers
        }

    def prefetch(self) -> None:
        """Begins to fetch every provider's keys, so that the first login needn't wait for them."""
        for keys in self._keys.values():
            keys.prefetch()

    def claims_to_issue(self, token: str) -> bool:
        """Whether the token says that one of the providers has issued it. Nothing of it is verified. Never blocks."""
        if not self._by_issuer:
            return False
        try:
            issuer = jws.parse(token, MAX_TOKEN_CHARACTERS).claims.get("iss")
        except BadToken:
            return False
        return isinstance(issuer, str) and issuer in self._by_issuer

    def verify(self, token: str) -> ForeignToken:
        """Who the bearer is. Blocks where keys are fetched.

        Raises ``ExpiredToken``, ``ProviderUnavailable``, ``TooBusy``, and ``BadToken`` whatever else is wrong.
        """
        parsed = jws.parse(token, MAX_TOKEN_CHARACTERS)
        provider = self._by_issuer.get(jws.text(parsed.claims, "iss"))
        if provider is None:
            raise BadToken
        _check_header(parsed.header)
        kid, algorithm = jws.text(parsed.header, "kid"), jws.text(parsed.header, "alg")
        if algorithm not in provider.algorithms or len(kid) > MAX_KID_CHARACTERS:
            raise BadToken
        key, seconds = self._keys[provider.name].find(kid, algorithm)
        _check_signature(key, parsed)
        now = self._clock()
        expires_at = _check_claims(parsed.claims, provider, now)
        user = _user(parsed.claims, provider)
        taken_until = expires_at + provider.leeway_seconds
        return ForeignToken(user, expires_at, taken_until, min(expires_at, now + seconds))

    def again(self, name: str, said: object) -> ForeignUser | None:
        """Who a session of ours belongs to that was made with a provider's token, given what its own token says.

        None if the provider is not configured any more. Roles that it can't give any more are left out.
        """
        if not isinstance(said, Mapping):
            return None
        provider = self._by_name.get(str(said.get("provider")))
        roles, claims = said.get("roles"), said.get("claims")
        if provider is None or provider.local_users or not isinstance(roles, list) or not isinstance(claims, dict):
            return None
        possible = provider.possible_roles
        kept = {name: value for name, value in claims.items() if name in provider.claims}
        return ForeignUser(name, tuple(role for role in roles if role in possible), provider.name, kept)


def _check_header(header: Mapping[str, object]) -> None:
    # No member beyond these: crit, b64, zip, cty, jku, jwk, x5u and x5c are refused unread.
    kind = header.get("typ", "jwt")
    if not header.keys() <= _HEADER_MEMBERS or not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise BadToken


def _check_signature(key: jwt.PyJWK, token: SignedToken) -> None:
    try:
        genuine = key.Algorithm.verify(token.signed, key.key, token.signature)
    except (InvalidSignature, jwt.PyJWTError, ValueError, TypeError):
        genuine = False
    if not genuine:
        raise BadToken


def _check_claims(claims: Mapping[str, object], provider: Provider, now: float) -> float:
    """The end of the token, all that limits its use having been looked at."""
    named = claims.get("aud")
    audiences = [named] if isinstance(named, str) else named
    if not isinstance(audiences, list) or not all(isinstance(one, str) for one in audiences):
        raise BadToken
    # A token that is bound to a key of its bearer's is worth nothing without a proof, which nobody gives here; one that
    # tells of events, such as a logout, is nobody's credential.
    if provider.audience.isdisjoint(audiences) or "cnf" in claims or "events" in claims:
        raise BadToken
    leeway = provider.leeway_seconds
    expires_at = number(claims, "exp")
    if any(number(claims, name) > now + leeway for name in ("iat", "nbf") if name in claims):
        raise BadToken
    if expires_at > now + provider.longest_seconds + leeway:
        raise BadToken
    if expires_at <= now - leeway:
        raise ExpiredToken
    return expires_at


def _user(claims: Mapping[str, object], provider: Provider) -> ForeignUser | str:
    subject = _at(claims, provider.principal_claim)
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise BadToken
    if provider.local_users:
        return subject
    groups = _at(claims, provider.groups_claim)
    groups = [groups] if isinstance(groups, str) else groups
    groups = groups[:MAX_GROUPS] if isinstance(groups, list) else []
    given = [role for group in groups if isinstance(group, str) for role in provider.roles.get(group, ())]
    taken = {name: _plain(_at(claims, path)) for name, path in provider.claims.items()}
    found = ForeignUser(
        f"{provider.name}:{subject}",
        tuple(dict.fromkeys((*provider.default_roles, *given))),
        provider.name,
        {name: value for name, value in taken.items() if value is not None},
    )
    if len(json.dumps(found.as_claim())) > MAX_IDENTITY_CHARACTERS:
        raise BadToken("the token's groups and claims are more than the server takes: ask for a smaller token")
    return found


def _at(claims: Mapping[str, object], path: ClaimPath) -> object:
    found: object = claims
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _plain(value: object) -> object:
    """A value that row filters can compare with, or None: texts without control characters, numbers, and lists."""
    if isinstance(value, list):
        items = [_plain(one) for one in value if not isinstance(one, list)]
        return items if len(items) == len(value) and None not in items else None
    if isinstance(value, str):
        clean = all(character >= " " and not "\ud800" <= character <= "\udfff" for character in value)
        return value if clean else None
    if isinstance(value, bool):
        return value
    return value if isinstance(value, int | float) and -(2**63) < value < 2**63 else None
