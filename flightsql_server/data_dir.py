"""The data directory: made with modes that keep others out, marked with a version, held by one server at a time."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path

VERSION = 2


def version_of(path: Path) -> str | None:
    """The version that is written in a data directory or a backup; None where there is none."""
    try:
        return (path / "VERSION").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


class DataDirError(Exception):
    """The directory can't be used; the text says why and what to do."""


class DataDir:
    """The directory while a server holds it. ``close`` lets it go."""

    def __init__(self, path: Path, port: int = 0) -> None:
        """Makes the directory where it is missing and takes it; DataDirError when another server has it."""
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataDirError(f"The data directory {path} can't be used: {error.strerror}.") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataDirError(f"The data directory {path} is in use by {self._holder()}.") from error
        self.announce(port)
        self._check_version()

    def _holder(self) -> str:
        try:
            known = json.loads(os.pread(self._lock, 4096, 0))
            return f"process {known['pid']} (port {known['port']})"
        except (ValueError, KeyError):
            return "another process"
        finally:
            os.close(self._lock)

    def _check_version(self) -> None:
        found = version_of(self.path)
        if found is None:
            (self.path / "VERSION").write_text(f"{VERSION}\n", encoding="ascii")
        elif found != str(VERSION):
            self.close()
            raise DataDirError(
                f"The data directory {self.path} has version {found[:20]!r}; this server reads version {VERSION}. "
                "Use the server that wrote it, or another directory."
            )

    def announce(self, port: int) -> None:
        """Writes down the port that was taken, for whoever finds the directory in use."""
        content = json.dumps({"pid": os.getpid(), "port": port}).encode()
        os.pwrite(self._lock, content, 0)
        os.ftruncate(self._lock, len(content))

    def life(self, *, anew: bool = False) -> str:
        """What this data is called among all others: a backup that was put back, or data that has lost rows (``anew``),
        is another life, in which the same numbers may stand for other updates.
        """
        path = self.path / "life"
        if anew:
            path.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            return path.read_text(encoding="ascii", errors="replace").strip()
        made, part = secrets.token_hex(8), self.path / "life.part"
        part.write_text(f"{made}\n", encoding="ascii")
        part.replace(path)
        return made

    def free_bytes(self) -> int:
        """Disk that is free where the directory is, for a process without privileges."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        """Lets the directory go."""
        os.close(self._lock)
