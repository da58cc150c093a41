"""Principal: who a call is made for, as every room behind the login door sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

ANONYMOUS: Final = "anonymous"
"""The name of callers without credentials, where the server serves them; no user may have it."""

TOKEN_USER: Final = "token"  # noqa: S105 - no secret
"""The user name that stands before a token where a client has fields for a user and a password only."""

SERVICE_NAMESPACE: Final = "token:"
"""Before a service token's name it makes the name of its principal: no user's name may have a colon."""

Method = Literal["password", "token", "service_token", "oidc", "certificate", "anonymous"]

_NO_CLAIMS: Final[Mapping[str, object]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a call is made for. Immutable and hashable, so it may be part of a cache key.

    ``method`` is how this call proved it. ``session_id`` is the ``jti`` of a session of ours, None for callers that
    have none (repeated Basic, service tokens, tokens of providers, certificates, anonymous). ``expires_at`` is the
    absolute end of session, token or certificate in seconds since the epoch. ``credential_id`` names what proved it
    where that can be withdrawn alone: a service token's id, the ``kid`` of a token's key, what changes with a password.
    It says nothing of who that is, so it takes no part in equality.
    ``claims`` take part in equality but not in the hash (their values may be lists); nobody changes them.
    """

    name: str
    roles: tuple[str, ...]
    method: Method
    session_id: str | None = None
    expires_at: float | None = None
    claims: Mapping[str, object] = field(default_factory=lambda: _NO_CLAIMS, hash=False)
    credential_id: str = field(default="", compare=False)
