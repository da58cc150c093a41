"""Service tokens: named, fixed credentials for programs that hold one token and never log in, such as Grafana."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from .principals import SERVICE_NAMESPACE
from .store import StateStore

PREFIX: Final = "fss_"
"""By this the login door, and whoever looks for secrets where none should be, knows a service token."""
SECRET_BYTES: Final = 32

_TOKEN = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,57}")


@dataclass(frozen=True, slots=True)
class ServiceToken:
    """What is kept of a token: all but the token. ``id`` tells it from an earlier one of the same name.

    ``options`` are as those of a user. Times are seconds since the epoch; ``last_used`` is up to a minute old.
    """

    name: str
    id: str
    digest: bytes = field(repr=False)
    roles: tuple[str, ...]
    options: Mapping[str, str] = field(hash=False)
    created_at: float
    expires_at: float
    revoked_at: float | None = None
    last_used: float | None = field(default=None, compare=False)

    @property
    def principal(self) -> str:
        """The name of the principal that the token stands for."""
        return SERVICE_NAMESPACE + self.name

    @property
    def disabled(self) -> bool:
        """Whether the token was revoked."""
        return self.revoked_at is not None

    @property
    def proof(self) -> str:
        """Changes when the name is given to another token."""
        return self.id


def digest_of(token: str) -> bytes | None:
    """What a token is stored and looked up by; None for a text that is no service token.

    A plain hash is enough, and quick enough for every new connection: the secret is 256 random bits, not a word that
    somebody chose, so there is nothing to guess that a slow hash or a salt would make dearer. A look-up by the hash
    gives nothing away by its time either, since nobody can choose a text by what its hash begins with.
    """
    return hashlib.sha256(token.encode("ascii")).digest() if _TOKEN.fullmatch(token) else None


class ServiceTokens:
    """The service tokens of a state store. Every method blocks; any thread may call it; nothing to close."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def create(
        self,
        name: str,
        roles: Iterable[str],
        *,
        now: float,
        expires_at: float,
        options: Mapping[str, str] | None = None,
    ) -> str:
        """A new token: its only copy. ``ValueError`` if the name can't be one, or belongs to a token that still lives.

        The name of a revoked or expired one may be used again; sessions of the old one have ended.
        """
        if not _NAME.fullmatch(name):
            raise ValueError("a token's name has 1 to 57 of the characters A-Z a-z 0-9 _ . @ -")
        secret = base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).rstrip(b"=").decode("ascii")
        token = PREFIX + secret
        row = (
            name,
            secrets.token_hex(8),
            digest_of(token),
            json.dumps(list(roles)),
            json.dumps(dict(options or {})),
            now,
            expires_at,
        )
        with self._store.writing(shared=True) as connection:
            lives = "SELECT 1 FROM service_tokens WHERE name = ? AND revoked_at IS NULL AND expires_at > ?"
            if connection.execute(lives, (name, now)).fetchone():
                raise ValueError(f"token {name!r} exists already: revoke it first, or choose another name")
            connection.execute("DELETE FROM service_tokens WHERE name = ?", (name,))
            connection.execute(_END_SESSIONS_OF, (now, SERVICE_NAMESPACE + name))
            connection.execute(
                "INSERT INTO service_tokens (name, id, digest, roles, options, created_at, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )
        return token

    def revoke(self, name: str, *, now: float) -> None:
        """Ends the token and the sessions made with it, for good; twice does nothing more. ``KeyError``: no token."""
        with self._store.writing(shared=True) as connection:
            revoked = "UPDATE service_tokens SET revoked_at = coalesce(revoked_at, ?) WHERE name = ?"
            if connection.execute(revoked, (now, name)).rowcount == 0:
                raise KeyError(name)
            connection.execute(_END_SESSIONS_OF, (now, SERVICE_NAMESPACE + name))

    def all(self) -> list[ServiceToken]:
        """Every token, by name: revoked and expired ones too."""
        return [_token(row) for row in self._store.read(f"{_SELECT} ORDER BY name")]

    def note_used(self, used: Mapping[str, float]) -> None:
        """Writes when tokens, by their ids, were last used. Not forced to disk."""
        with self._store.writing(durable=False) as connection:
            rows = [(at, token_id) for token_id, at in used.items()]
            connection.executemany("UPDATE service_tokens SET last_used = ? WHERE id = ?", rows)


_SELECT: Final = (
    "SELECT name, id, digest, roles, options, created_at, expires_at, revoked_at, last_used FROM service_tokens"
)
_END_SESSIONS_OF: Final = "UPDATE sessions SET ended_at = ? WHERE user = ? AND ended_at IS NULL"


def _token(row: tuple[object, ...]) -> ServiceToken:
    name, token_id, digest, roles, options, *times = row
    # SQLite holds each column to the type that the schema declares.
    return ServiceToken(
        str(name),
        str(token_id),
        bytes(digest),  # type: ignore[call-overload]
        tuple(json.loads(str(roles))),
        json.loads(str(options)),
        *times,  # type: ignore[arg-type]
    )
