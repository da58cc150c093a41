"""The state store: users, sessions and revocations in one SQLite file, shared by the server and the command line."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from . import schema
from .errors import StoreFull
from .principals import ANONYMOUS, SERVICE_NAMESPACE, TOKEN_USER
from .schema import StateStoreError as StateStoreError

BUSY_SECONDS: Final = 5.0
MAX_TEXT_CHARACTERS: Final = 256
MAX_OPTIONS_CHARACTERS: Final = 16_384

RESERVED_NAMES: Final = {
    ANONYMOUS: "callers without credentials",
    TOKEN_USER: "that the password is a token",
}
_USER_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")


@dataclass(frozen=True, slots=True)
class User:
    """One user. ``options`` are the user's defaults, such as ``dialect`` and ``wire_profile``; ``claims`` in JSON."""

    name: str
    password_hash: str = field(repr=False)
    roles: tuple[str, ...]
    disabled: bool
    created_at: float
    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def principal(self) -> str:
        """The name of the principal that the user is."""
        return self.name

    @property
    def proof(self) -> str:
        """Changes when the password does, and tells nothing of it."""
        return hashlib.blake2b(self.password_hash.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Session:
    """One session as stored. ``parent_jti`` is the session whose token was presented to make this one, or None."""

    jti: str
    user: str
    created_at: float
    expires_at: float
    last_seen: float
    peer: str = ""
    user_agent: str = ""
    parent_jti: str | None = None
    ended_at: float | None = None
    options: str = ""


class StateStore:
    """Users, sessions and revocations. One connection under a lock: every method blocks, any thread may call it.

    Several processes may have the same file open. Whoever opens a store closes it. A failing disk shows as
    ``sqlite3.Error``; the call then changed nothing.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Opens the file, or makes it, readable by its owner only. Raises ``StateStoreError``."""
        self._clock = clock
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives its side files the mode of the main one, so this is all it takes.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            os.fchmod(descriptor, 0o600)
            os.close(descriptor)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise StateStoreError(f"{path}: {error}") from error
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._durable = True
            self._shared_changed = False
            with self.writing() as connection:
                schema.prepare(connection, path)
            self._seen_version = self._data_version()
        except sqlite3.Error as error:
            self._connection.close()
            raise StateStoreError(f"{path}: {error}") from error
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Closes the file; a second time does nothing."""
        with self._lock:
            self._connection.close()

    def backup(self, path: Path) -> None:
        """Copies all of it, as it is at one moment, into a new file that its owner alone can read."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        copy = sqlite3.connect(path)
        try:
            with self._lock:
                self._connection.backup(copy)
        finally:
            copy.close()

    def check(self) -> None:
        """Reads all of it; StateStoreError when it is damaged."""
        try:
            with self._lock:
                found = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
        except sqlite3.Error as error:
            raise StateStoreError(f"the state store is damaged: {error}") from error
        if found != ("ok",):
            raise StateStoreError("the state store is damaged")

    # Users

    def add_user(
        self, name: str, password_hash: str, roles: Iterable[str], options: Mapping[str, str] | None = None
    ) -> None:
        """Adds a user. Raises ``ValueError`` if the name can't be one or is taken."""
        if not _USER_NAME.fullmatch(name):
            raise ValueError("a user's name has 1 to 64 of the characters A-Z a-z 0-9 _ . @ -")
        if name in RESERVED_NAMES:
            raise ValueError(f"the name {name!r} means {RESERVED_NAMES[name]}: choose another")
        row = (name, password_hash, json.dumps(list(roles)), self._clock(), json.dumps(dict(options or {})))
        try:
            with self.writing(shared=True) as connection:
                connection.execute(
                    "INSERT INTO users (name, password_hash, roles, created_at, options) VALUES (?, ?, ?, ?, ?)", row
                )
        except sqlite3.IntegrityError:
            raise ValueError(f"user {name!r} exists already") from None

    def set_password(self, name: str, password_hash: str) -> None:
        """Replaces the password's hash; open sessions go on (``end_sessions_of`` ends them). ``KeyError``: no user."""
        self._update_user(name, "password_hash", password_hash)

    def set_roles(self, name: str, roles: Iterable[str]) -> None:
        """Replaces the user's roles; open sessions have the new ones at once. ``KeyError``: no such user."""
        self._update_user(name, "roles", json.dumps(list(roles)))

    def set_user_options(self, name: str, options: Mapping[str, str]) -> None:
        """Replaces the user's defaults. ``KeyError``: no such user."""
        self._update_user(name, "options", json.dumps(dict(options)))

    def set_disabled(self, name: str, disabled: bool) -> None:
        """Disables the user and ends its sessions for good, or enables it again. ``KeyError``: no such user."""
        with self.writing(shared=True) as connection:
            if connection.execute("UPDATE users SET disabled = ? WHERE name = ?", (disabled, name)).rowcount == 0:
                raise KeyError(name)
            if disabled:
                connection.execute(_END_SESSIONS_OF, (self._clock(), name))

    def _update_user(self, name: str, column: str, value: str) -> None:
        with self.writing(shared=True) as connection:
            if connection.execute(f"UPDATE users SET {column} = ? WHERE name = ?", (value, name)).rowcount == 0:
                raise KeyError(name)

    def get_user(self, name: str) -> User | None:
        """The user, disabled or not; None if there is none."""
        rows = self.read(f"{_SELECT_USERS} WHERE name = ?", (name,))
        return _user(rows[0]) if rows else None

    def list_users(self) -> list[User]:
        """Every user, by name."""
        return [_user(row) for row in self.read(f"{_SELECT_USERS} ORDER BY name")]

    # Sessions

    def create_session(self, session: Session) -> bool:
        """Stores a new session; False, and nothing stored, if by now its parent has ended or its user may not log in.

        Not forced to disk at once: after a power cut its client logs in again.
        """
        parent, user = session.parent_jti, session.user
        row = (
            session.jti,
            user,
            session.created_at,
            session.expires_at,
            session.last_seen,
            session.peer[:MAX_TEXT_CHARACTERS],
            session.user_agent[:MAX_TEXT_CHARACTERS],
            parent,
            _checked_options(session.options),
        )
        with self.writing(durable=False) as connection:
            if connection.execute(_MAY_NOT_LOG_IN, (user,)).fetchone():
                return False
            if (
                parent is not None
                and not connection.execute(
                    "SELECT 1 FROM sessions WHERE jti = ? AND ended_at IS NULL", (parent,)
                ).fetchone()
            ):
                return False
            connection.execute(
                "INSERT INTO sessions (jti, user, created_at, expires_at, last_seen, peer, user_agent, parent_jti,"
                " options) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
        return True

    def get_session(self, jti: str) -> Session | None:
        """The session, ended or not; None if there is none, or none any more."""
        rows = self.read(f"{_SELECT_SESSIONS} WHERE jti = ?", (jti,))
        return _session(rows[0]) if rows else None

    def live_sessions(self) -> list[Session]:
        """Every session that has neither ended nor expired; idle ones too."""
        rows = self.read(f"{_SELECT_SESSIONS} WHERE ended_at IS NULL AND expires_at > ?", (self._clock(),))
        return [_session(row) for row in rows]

    def sessions_of(self, user: str, *, include_ended: bool = False) -> list[Session]:
        """The user's live sessions, the newest first; on request those too that ended within the last day."""
        rows = self.read(
            f"{_SELECT_SESSIONS} WHERE user = ? AND (? OR (ended_at IS NULL AND expires_at > ?))"
            " ORDER BY created_at DESC",
            (user, include_ended, self._clock()),
        )
        return [_session(row) for row in rows]

    def end_session(self, jti: str) -> None:
        """Ends the session; sessions made with its token go on. No such live session: does nothing."""
        self.end_sessions([jti])

    def end_sessions(self, jtis: Iterable[str], *, durable: bool = True) -> None:
        """Ends several sessions at once; ``durable``: on disk before this returns."""
        now = self._clock()
        with self.writing(durable=durable) as connection:
            connection.executemany(
                "UPDATE sessions SET ended_at = ? WHERE jti = ? AND ended_at IS NULL", [(now, jti) for jti in jtis]
            )

    def end_sessions_of(self, user: str) -> int:
        """Ends every session of the user; how many there were."""
        with self.writing(shared=True) as connection:
            return connection.execute(_END_SESSIONS_OF, (self._clock(), user)).rowcount

    def revoke(self, jti: str, *, expires_at: float | None = None) -> frozenset[str]:
        """Revokes a token for good and ends its session and those that descend from it; the sessions ended by this.

        Takes any ``jti``, also one without a session. ``expires_at`` is when the token ends by itself (None: that of
        its session, else unknown); a day later the revocation is forgotten.
        """
        now = self._clock()
        with self.writing() as connection:
            connection.execute(
                "INSERT INTO revocations SELECT ?1, ?2, coalesce(?3, (SELECT expires_at FROM sessions WHERE jti = ?1))"
                " WHERE true ON CONFLICT DO NOTHING",
                (jti, now, expires_at),
            )
            ended = connection.execute(_END_WITH_DESCENDANTS, (jti, now)).fetchall()
        return frozenset(row[0] for row in ended)

    def is_revoked(self, jti: str) -> bool:
        """Whether the token itself was revoked; one that ended with its parent shows as an ended session."""
        return bool(self.read("SELECT 1 FROM revocations WHERE jti = ?", (jti,)))

    def touch(self, seen: Iterable[tuple[str, float]]) -> None:
        """Notes when sessions were last seen: pairs of ``jti`` and time. Not forced to disk."""
        rows = [(last_seen, jti) for jti, last_seen in seen]
        with self.writing(durable=False) as connection:
            connection.executemany("UPDATE sessions SET last_seen = ? WHERE jti = ?", rows)

    def set_session_options(self, jti: str, options: str) -> None:
        """Replaces the session's options, any text the caller understands. ``ValueError``: too long."""
        with self.writing(durable=False) as connection:
            connection.execute("UPDATE sessions SET options = ? WHERE jti = ?", (_checked_options(options), jti))

    def purge(self, before: float) -> None:
        """Forgets sessions that ended, and tokens that expired, before that time.

        An ended session stays while one made with its token is kept, so that revoking it still ends the other.
        """
        with self.writing(durable=False) as connection:
            connection.execute(_PURGE_SESSIONS, (before, before))
            connection.execute("DELETE FROM revocations WHERE expires_at < ?", (before,))

    # Changes by others

    def changed_elsewhere(self, *, wait: bool = True) -> bool | None:
        """Whether another process or store wrote to the file since the last call; cheap.

        What this store's own methods changed of users and service tokens counts too, for whoever keeps a copy of
        them. With ``wait=False`` it never waits for a thread that is writing, and gives None in its stead.
        """
        if not self._lock.acquire(blocking=wait):
            return None
        try:
            version = self._data_version()
            changed = version != self._seen_version or self._shared_changed
            self._seen_version, self._shared_changed = version, False
            return changed
        finally:
            self._lock.release()

    def _data_version(self) -> int:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def read(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """The rows of one query."""
        with self._lock:
            return self._connection.execute(statement, parameters).fetchall()

    @contextmanager
    def writing(self, *, durable: bool = True, shared: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction; ``shared``: what it changes is held in memory by others, who are to look again."""
        with self._lock:
            connection = self._connection
            if durable != self._durable:
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self._shared_changed |= shared
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.commit()
            except BaseException as error:
                connection.rollback()
                if isinstance(error, sqlite3.Error) and error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                    raise StoreFull from error
                raise


_SELECT_USERS: Final = "SELECT name, password_hash, roles, disabled, created_at, options FROM users"
_SELECT_SESSIONS: Final = (
    "SELECT jti, user, created_at, expires_at, last_seen, peer, user_agent, parent_jti, ended_at, options FROM sessions"
)
_MAY_NOT_LOG_IN: Final = (
    "SELECT 1 FROM users WHERE name = ?1 AND disabled UNION ALL SELECT 1 FROM service_tokens"
    f" WHERE '{SERVICE_NAMESPACE}' || name = ?1 AND revoked_at IS NOT NULL"
)
_END_SESSIONS_OF: Final = "UPDATE sessions SET ended_at = ? WHERE user = ? AND ended_at IS NULL"
_END_WITH_DESCENDANTS: Final = """
    WITH RECURSIVE line (jti) AS (
        SELECT ?1 UNION SELECT child.jti FROM sessions child JOIN line ON child.parent_jti = line.jti)
    UPDATE sessions SET ended_at = ?2 WHERE ended_at IS NULL AND jti IN (SELECT jti FROM line) RETURNING jti
"""
_PURGE_SESSIONS: Final = """
    DELETE FROM sessions WHERE (ended_at < ? OR expires_at < ?)
    AND NOT EXISTS (SELECT 1 FROM sessions child WHERE child.parent_jti = sessions.jti)
"""


def _checked_options(options: str) -> str:
    if len(options) > MAX_OPTIONS_CHARACTERS:
        raise ValueError(f"a session's options have at most {MAX_OPTIONS_CHARACTERS} characters")
    return options


def _user(row: tuple[object, ...]) -> User:
    name, password_hash, roles, disabled, created_at, options = row
    return User(
        str(name),
        str(password_hash),
        tuple(json.loads(str(roles))),
        bool(disabled),
        float(str(created_at)),
        json.loads(str(options)),
    )


def _session(row: tuple[object, ...]) -> Session:
    # SQLite holds each column to the type that the schema above declares.
    return Session(*row)  # type: ignore[arg-type]
