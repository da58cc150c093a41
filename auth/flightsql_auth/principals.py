"""Principal: who a call is made for, as every room behind the login door sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

ANONYMOUS: Final = "anonymous"
"""The name of callers without credentials, where the server serves them; no user may have it."""

Method = Literal["password", "token", "anonymous"]

_NO_CLAIMS: Final[Mapping[str, object]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a call is made for. Immutable and hashable, so it may be part of a cache key.

    ``method`` is how this call proved it. ``session_id`` is the ``jti`` of a session of ours, None for callers that
    have none (repeated Basic, anonymous). ``expires_at`` is the session's absolute end in seconds since the epoch.
    ``claims`` take part in equality but not in the hash (their values may be lists); nobody changes them.
    """

    name: str
    roles: tuple[str, ...]
    method: Method
    session_id: str | None = None
    expires_at: float | None = None
    claims: Mapping[str, object] = field(default_factory=lambda: _NO_CLAIMS, hash=False)
