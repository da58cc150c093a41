"""Holders: whom a credential stands for, a user, a service token or somebody of a provider's, as a principal."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from .federation import ForeignUser
from .live import Account, LiveSession
from .principals import Method, Principal

Holder = Account | ForeignUser
"""Whoever holds a credential; anonymous callers are nobody."""


def principal_of(
    holder: Holder,
    method: Method,
    session: LiveSession | None = None,
    *,
    scope: Collection[str] | None = None,
    expires_at: float | None = None,
    credential_id: str = "",
) -> Principal:
    """The principal that the holder is. ``scope``: the only roles that count; None: all of the holder's.

    ``expires_at`` is that of the session where there is one.
    """
    roles = holder.roles if scope is None else tuple(role for role in holder.roles if role in scope)
    jti = None
    if session is not None:
        jti, expires_at = session.jti, session.expires_at
    return Principal(holder.principal, roles, method, jti, expires_at, _claims(holder), credential_id)


def _claims(holder: Holder) -> Mapping[str, object]:
    """What is claimed of the holder, for row filters to compare with."""
    if isinstance(holder, ForeignUser):
        return holder.claims
    found = json.loads(holder.options.get("claims", "{}"))
    return found if isinstance(found, dict) else {}
