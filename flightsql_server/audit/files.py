"""The files of the audit trail: the key, the note of how far it goes, and the lines, cut into files of bounded length.

A file is called after its first line's sequence number. One process at a time appends; anybody with the key may read.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flightsql_server.audit.chain import BEGINNING, Line, head_key, seal, unseal

KEY_BYTES = 32
HEAD = "head"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The numbers of errors that go away when there is room again."""

_NAME = re.compile(r"audit-(\d{16})\.jsonl")
_HEAD_BYTES = 512
# More than the longest line; what the last lines of a file are looked for in.
_TAIL_BYTES = 4 * 1024**2


class AuditError(Exception):
    """The trail can't be kept or read; the text says why and what to do."""


def open_key(path: Path) -> bytes:
    """The key in that file, made where there is none; AuditError when it can't be had or is no key."""
    try:
        with suppress(FileExistsError):
            made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.write(made, secrets.token_bytes(KEY_BYTES))
                os.fsync(made)
            finally:
                os.close(made)
    except OSError as error:
        raise AuditError(f"The key of the audit trail can't be made: {error.strerror}.") from error
    return read_key(path)


def read_key(path: Path) -> bytes:
    """The key in that file; AuditError when there is none."""
    try:
        key = path.read_bytes()
    except OSError as error:
        raise AuditError(f"The key of the audit trail, {path}, can't be read: {error.strerror}.") from error
    if len(key) != KEY_BYTES:
        raise AuditError(f"{path} is no key of an audit trail: it is not {KEY_BYTES} bytes long.")
    return key


def trail_files(folder: Path) -> list[tuple[int, Path]]:
    """The files with lines in order, each with the number in its name."""
    found = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((int(match[1]), path) for match, path in found if match)


def read_head(folder: Path, key: bytes) -> Line | None:
    """How far the trail went when it was noted last: ``previous`` is the hash of that line. None: no genuine note."""
    try:
        content = (folder / HEAD).read_bytes()
    except OSError:
        return None
    return unseal(head_key(key), content.rstrip(b" ") if len(content) <= _HEAD_BYTES else b"")


def note(what: str, **details: object) -> dict[str, Any]:
    """A line about the trail itself."""
    return {"time": _now(), "event": "trail", "what": what, **details}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class TrailFiles:
    """The end of the trail, to append to. ``sequence`` and ``hash`` are its last line's. One thread at a time.

    Opening takes up where the last process ended, however it ended: a line that it was in the middle of is taken away.
    ``found`` is what then has to be said in the trail; ``last`` are its last lines, at most ``recent``.
    """

    def __init__(
        self, folder: Path, key: bytes, *, rotate_bytes: int, keep_files: int, sync: bool, recent: int = 0
    ) -> None:
        """OSError when the folder can't be used, AuditError when another process appends to it."""
        self._folder = folder
        self._key = key
        self._head_key = head_key(key)
        self._rotate_bytes = rotate_bytes
        self._keep_files = keep_files
        self._sync = sync
        self._doomed: list[Path] = []
        self.found: list[dict[str, Any]] = []
        self.last: list[Mapping[str, Any]] = []
        self.sequence, self.hash = 0, BEGINNING
        self._file, self._length = -1, 0
        self._spoiled = False  # whether a failed attempt has left something behind the last line
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._head = os.open(folder / HEAD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take()
            self._file = self._resume(recent)
            self._length = os.fstat(self._file).st_size
            self._write_head()
        except BaseException:
            self.close()
            raise

    def _take(self) -> None:
        try:
            fcntl.flock(self._head, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AuditError(f"Another server writes its audit trail to {self._folder}: set audit.folder.") from error

    def _resume(self, recent: int) -> int:
        """Finds the end of the trail and opens the file that goes on from there."""
        files = trail_files(self._folder)
        head = read_head(self._folder, self._key)
        lines: list[bytes] = []
        for _, path in reversed(files[-2:]):
            torn = _cut_torn(path)
            if torn:
                self.found.append(note("torn line taken away", bytes=torn))
            lines = _last_lines(path)
            if lines:
                break
        read = [unseal(self._key, raw) for raw in lines]
        good = [line for line in read if line is not None]
        if good:
            self.sequence, self.hash = good[-1].sequence, good[-1].hash
        self.last = [line.facts for line in good[-recent:]] if recent else []
        whole = not lines or read[-1] is not None
        if not whole:
            self.found.append(note("lines that can't be read were met"))
        if head is None and files:
            self.found.append(note("the note of the last line was missing"))
        if head is not None and head.sequence > self.sequence:
            self.found.append(note("lines are missing", first=self.sequence + 1, last=head.sequence))
            self.sequence, self.hash, whole = head.sequence, head.previous, False
        if files and whole and ((lines and files[-1][1].stat().st_size) or files[-1][0] == self.sequence + 1):
            return _open(files[-1][1])
        return self._next_file()

    def _next_file(self) -> int:
        path = self._folder / f"audit-{self.sequence + 1:016d}.jsonl"
        if path.exists() and path.stat().st_size:
            path.rename(path.with_suffix(f".damaged-{secrets.token_hex(4)}"))
        file = _open(path)
        if self._sync:
            _sync_folder(self._folder)
        return file

    # ---- appending

    def append(self, facts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Writes one line for each of the facts, all of them or, with an OSError, none; gives what the lines say."""
        if self._length >= self._rotate_bytes:
            self._rotate()
        if self._doomed:
            kept = trail_files(self._folder)[len(self._doomed)][0]
            facts = [note("files are no longer kept", kept_from=kept), *facts]
        sequence, previous = self.sequence, self.hash
        raw: list[bytes] = []
        said: list[Mapping[str, Any]] = []
        for one in facts:
            sequence += 1
            line, digest = seal(self._key, sequence, previous, one)
            raw.append(line)
            said.append({"sequence": sequence, "previous": previous, **one, "hash": digest})
            previous = digest
        self._write(b"".join(raw))
        self.sequence, self.hash = sequence, previous
        with suppress(OSError):  # it may lag: the next group brings it forward
            self._write_head()
        self._forget_doomed()
        return said

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        try:
            if self._spoiled:
                os.ftruncate(self._file, self._length)
                self._spoiled = False
            while rest:
                rest = rest[os.write(self._file, rest) :]
            if self._sync:
                os.fdatasync(self._file)
        except OSError:
            self._spoiled = True
            with suppress(OSError):
                os.ftruncate(self._file, self._length)
                self._spoiled = False
            raise
        self._length += len(content)

    def _rotate(self) -> None:
        fresh = self._next_file()
        os.close(self._file)
        self._file, self._length = fresh, 0
        if self._keep_files:
            self._doomed = [path for _, path in trail_files(self._folder)[: -self._keep_files]]

    def _forget_doomed(self) -> None:
        for path in self._doomed:
            with suppress(OSError):
                path.unlink()
        self._doomed = []

    def _write_head(self) -> None:
        line, _ = seal(self._head_key, self.sequence, self.hash, {"event": HEAD})
        os.pwrite(self._head, line.ljust(_HEAD_BYTES), 0)

    @property
    def length(self) -> int:
        """The bytes of the file that is being written."""
        return self._length

    def close(self) -> None:
        """Closes the files; the trail goes on at the next opening."""
        for file in (self._file, self._head):
            if file >= 0:
                os.close(file)
        self._file = self._head = -1


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        return file.read()


def _cut_torn(path: Path) -> int:
    """Takes away what stands behind the last newline; gives how many bytes that was."""
    tail = _tail(path)
    torn = len(tail) - (tail.rfind(b"\n") + 1)
    if torn:
        os.truncate(path, path.stat().st_size - torn)
    return torn


def _last_lines(path: Path) -> list[bytes]:
    tail = _tail(path)
    lines = tail.splitlines(keepends=True)
    return lines[1:] if len(tail) == _TAIL_BYTES else lines
