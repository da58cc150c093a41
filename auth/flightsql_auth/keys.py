"""The server's own keys: one pair signs tokens, older ones still verify them, and a secret seals tickets.

The directory holds ``signing-0001.pem``, ``signing-0002.pem`` … and ``sealing.key``. The highest number signs. A file
may say, before its key, since when it signs and until when all older ones verify: so one new file, which appears whole
or not at all, is a rotation. Where it says nothing, older ones verify as long as tokens signed by them can live.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from .signing import DEFAULT_ALGORITHM, Algorithm, SigningKey, UnusableKey, load_signing_key, new_private_pem

SEALING_KEY_BYTES: Final = 32
MAX_KEY_FILE_BYTES: Final = 65_536
TOKEN_SECONDS: Final = 43_200.0
LEEWAY_SECONDS: Final = 30.0
"""How long after its end a token is still taken, since clocks differ."""
KEEP_RETIRED_SECONDS: Final = 86_400.0
"""How long the file of a retired key stays: a clock that jumps ahead for a moment must not cost a key."""

_SIGNING_FILE = re.compile(r"signing-(\d{4})\.pem")
_HEADER = re.compile(rb"^(Created|Older-Keys-Verify-Until): (\S{1,40})\r?$", re.MULTILINE)
_BEGIN = b"-----BEGIN"
_SEALING_FILE: Final = "sealing.key"


class KeyFileError(Exception):
    """A key file or its directory can't be used as it is; the message, for the administrator, says what to do."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key with its place: ``verifies_until`` is None for the one that signs."""

    number: int
    key: SigningKey
    verifies_until: float | None


@dataclass(frozen=True)
class Keys:
    """The keys that verify at one time, by ``kid``, from the oldest to the active one. Never changes."""

    active: SigningKey
    by_kid: Mapping[str, SigningKey]
    jwks: Mapping[str, list[dict[str, str]]] = field(repr=False)

    @classmethod
    def of(cls, keys: Sequence[SigningKey]) -> Keys:
        """``keys`` from the oldest to the active one, at least one."""
        return cls(keys[-1], MappingProxyType({key.kid: key for key in keys}), {"keys": [key.jwk() for key in keys]})


class KeyRing:
    """The keys of one server; any thread may use it; nothing to close.

    ``current`` is what verifies now; ``refresh`` brings another in its place after a rotation, by whatever process,
    and when a key's time has passed.
    """

    def __init__(
        self,
        directory: Path,
        files: Sequence[KeyFile],
        sealing_key: bytes,
        *,
        token_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._files = tuple(files)
        self._sealing_key = sealing_key
        self._token_seconds = token_seconds
        self._clock = clock
        self._changing = threading.Lock()
        self.current = Keys.of(self._verifying())

    @classmethod
    def open(
        cls, directory: Path, *, token_seconds: float = TOKEN_SECONDS, clock: Callable[[], float] = time.time
    ) -> KeyRing:
        """The keys in ``directory``; makes it, and what is missing in it, readable by its owner only.

        ``token_seconds`` is the longest life of a token. Raises ``KeyFileError`` if others could reach a key, or if a
        file is no such key. Two processes may open a new directory at once: both end with the same keys.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = stat.S_IMODE(directory.stat().st_mode)
            if mode & 0o077:
                raise KeyFileError(
                    f"{directory}: others may look into this directory of keys (mode {mode:04o}): chmod 700 {directory}"
                )
            if not _signing_files(directory):
                _create(directory / _name(1), _content(DEFAULT_ALGORITHM, clock(), None))
            files = _load(directory, token_seconds)
            sealing_file = directory / _SEALING_FILE
            if not sealing_file.exists():
                _create(sealing_file, secrets.token_bytes(SEALING_KEY_BYTES))
            sealing_key = _read_secret(sealing_file)
        except OSError as error:
            raise KeyFileError(f"{error.filename or directory}: {error.strerror}") from error
        if len(sealing_key) != SEALING_KEY_BYTES:
            raise KeyFileError(f"{sealing_file}: not {SEALING_KEY_BYTES} bytes long; delete it to have a new one made")
        return cls(directory, files, sealing_key, token_seconds=token_seconds, clock=clock)

    # Asking; never blocks

    @property
    def active(self) -> SigningKey:
        """The key that signs new tokens."""
        return self.current.active

    def find(self, kid: str) -> SigningKey | None:
        """The key of that id, active or older; None if there is none that verifies."""
        return self.current.by_kid.get(kid)

    def jwks(self) -> Mapping[str, list[dict[str, str]]]:
        """The public halves of every key that verifies, as a JSON web key set."""
        return self.current.jwks

    def sealing_key(self) -> bytes:
        """The 32 secret bytes under which tickets are sealed; they never leave the server."""
        return self._sealing_key

    def files(self) -> tuple[KeyFile, ...]:
        """Every key that has a file, the oldest first, those too that verify no more."""
        return self._files

    def is_retired(self, file: KeyFile) -> bool:
        """Whether the key verifies no more."""
        return file.verifies_until is not None and self._clock() >= file.verifies_until

    # Changing; blocks on the disk

    def refresh(self) -> bool:
        """Brings the keys up to date with their directory and the clock; whether anything changed.

        Raises ``KeyFileError`` if a new file can't be used: the keys of before stay.
        """
        with self._changing:
            try:
                if [number for number, _ in _signing_files(self._directory)] != [one.number for one in self._files]:
                    self._files = tuple(_load(self._directory, self._token_seconds))
            except OSError as error:
                raise KeyFileError(f"{error.filename or self._directory}: {error.strerror}") from error
            keys = self._verifying()
            if list(dict.fromkeys(key.kid for key in keys)) == list(self.current.by_kid):
                return False
            self.current = Keys.of(keys)
            return True

    def rotate(self, algorithm: Algorithm | None = None, *, overlap_seconds: float | None = None) -> SigningKey:
        """Makes a new key that signs from now on, and gives it; ``algorithm`` None: that of the key before.

        Older keys verify for ``overlap_seconds``; None: as long as tokens signed by them can live. Raises
        ``KeyFileError``.
        """
        self.refresh()
        while True:
            algorithm = algorithm or self.active.algorithm
            now = self._clock()
            until = None if overlap_seconds is None else now + overlap_seconds
            number = self._files[-1].number + 1
            if number > 9_999:
                raise KeyFileError(f"{self._directory}: there are too many keys: begin with new ones")
            try:
                made = _create(self._directory / _name(number), _content(algorithm, now, until))
            except OSError as error:
                raise KeyFileError(f"{error.filename or self._directory}: {error.strerror}") from error
            self.refresh()
            if made:
                return self._files[-1].key

    def prune(self) -> list[str]:
        """Deletes the files of keys that verify no more since a day; the ids of those keys."""
        limit = self._clock() - KEEP_RETIRED_SECONDS
        gone = [one for one in self._files if one.verifies_until is not None and one.verifies_until < limit]
        for one in gone:
            (self._directory / _name(one.number)).unlink(missing_ok=True)
        if gone:
            self.refresh()
        return [one.key.kid for one in gone]

    def _verifying(self) -> list[SigningKey]:
        return [one.key for one in self._files if not self.is_retired(one)]


def _name(number: int) -> str:
    return f"signing-{number:04d}.pem"


def _signing_files(directory: Path) -> list[tuple[int, Path]]:
    found = ((_SIGNING_FILE.fullmatch(path.name), path) for path in directory.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)


def _load(directory: Path, token_seconds: float) -> list[KeyFile]:
    """Every key, the oldest first. A file's word on older ones holds for all of them: the earliest end counts."""
    found = [(number, *_load_signing_file(path)) for number, path in _signing_files(directory)]
    if not found:
        raise KeyFileError(f"{directory}: there is no signing key any more: put it back, or start the server anew")
    files: list[KeyFile] = []
    until: float | None = None
    for number, key, said in reversed(found):
        files.append(KeyFile(number, key, until))
        ends = key.created_at + token_seconds + LEEWAY_SECONDS if said is None else said
        until = ends if until is None else min(until, ends)
    return files[::-1]


def _load_signing_file(path: Path) -> tuple[SigningKey, float | None]:
    """The key, and until when it says that older ones verify."""
    content = _read_secret(path)
    said = dict(_HEADER.findall(content.partition(_BEGIN)[0]))
    try:
        created = _seconds(said[b"Created"]) if b"Created" in said else path.stat().st_mtime
        until = _seconds(said[b"Older-Keys-Verify-Until"]) if b"Older-Keys-Verify-Until" in said else None
        return load_signing_key(content, created), until
    except UnusableKey as error:
        raise KeyFileError(f"{path}: {error}") from None


def _content(algorithm: Algorithm, now: float, until: float | None) -> bytes:
    said: Iterable[tuple[str, float | None]] = (("Created", now), ("Older-Keys-Verify-Until", until))
    lines = [f"{name}: {_instant(at)}\n" for name, at in said if at is not None]
    return "".join(lines).encode("ascii") + new_private_pem(algorithm)


def _instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def _seconds(text: bytes) -> float:
    try:
        return datetime.fromisoformat(text.decode("ascii")).timestamp()
    except (ValueError, OverflowError):
        raise UnusableKey("the lines before the key name a time that is none") from None


def _read_secret(path: Path) -> bytes:
    with path.open("rb") as file:
        # Asked of the open file, so that what is checked is what is read.
        mode = os.fstat(file.fileno()).st_mode
        if mode & 0o077:
            raise KeyFileError(
                f"{path}: others may read or change this key (mode {mode & 0o777:04o}): chmod 600 {path}"
            )
        return file.read(MAX_KEY_FILE_BYTES)


def _create(path: Path, content: bytes) -> bool:
    """Writes a new file that appears whole or not at all; False where another process made it first."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            if os.geteuid() == 0:
                # An administrator's command must not leave a key that the server can't read.
                owner = path.parent.stat()
                if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return True
