"""The tables of the state store: each version of its schema as the statements that lead there from the one before."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

_STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE users (
            name TEXT PRIMARY KEY, password_hash TEXT NOT NULL, roles TEXT NOT NULL,
            disabled INTEGER NOT NULL DEFAULT 0, created_at REAL NOT NULL, options TEXT NOT NULL DEFAULT '{}')
            WITHOUT ROWID""",
        """CREATE TABLE sessions (
            jti TEXT PRIMARY KEY, user TEXT NOT NULL, created_at REAL NOT NULL, expires_at REAL NOT NULL,
            last_seen REAL NOT NULL, peer TEXT NOT NULL, user_agent TEXT NOT NULL, parent_jti TEXT, ended_at REAL,
            options TEXT NOT NULL DEFAULT '') WITHOUT ROWID""",
        "CREATE INDEX sessions_user ON sessions (user)",
        "CREATE INDEX sessions_parent ON sessions (parent_jti) WHERE parent_jti IS NOT NULL",
        """CREATE TABLE revocations (jti TEXT PRIMARY KEY, revoked_at REAL NOT NULL, expires_at REAL) WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE service_tokens (
            name TEXT PRIMARY KEY, id TEXT NOT NULL, digest BLOB NOT NULL UNIQUE, roles TEXT NOT NULL,
            options TEXT NOT NULL, created_at REAL NOT NULL, expires_at REAL NOT NULL, revoked_at REAL, last_used REAL)
            WITHOUT ROWID""",
    ),
)
SCHEMA_VERSION: Final = len(_STEPS)


class StateStoreError(Exception):
    """The state store can't be opened as it is; the message, for the administrator, says why."""


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Brings a new or older file to the version of this program, in the transaction that is open.

    Raises ``StateStoreError`` for a newer one.
    """
    connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
    found = connection.execute("SELECT version FROM schema_version").fetchone()
    version = 0 if found is None else int(found[0])
    if version > SCHEMA_VERSION:
        raise StateStoreError(f"{path}: its schema has version {version}, this program knows version {SCHEMA_VERSION}")
    for step in _STEPS[version:]:
        for statement in step:
            connection.execute(statement)
    if version != SCHEMA_VERSION:
        connection.execute("DELETE FROM schema_version")
        connection.execute("INSERT INTO schema_version VALUES (?)", (SCHEMA_VERSION,))
