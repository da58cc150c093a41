"""Backups: a copy of the data directory that is whole at one moment, made while the server runs, and put back later.

A backup is a folder with the layout of a data directory; it holds keys and password hashes, so keep it as safe.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from flightsql_server.data_dir import VERSION, version_of
from flightsql_server.errors import DiskFull, InvalidParameter

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_KEYS = "keys"


class BackupError(Exception):
    """A backup that can't be put back; the text says why and what to do."""


def make(folder: Path, name: str, data_dir: Path, fill: Callable[[Path], None]) -> int:
    """Makes the backup ``name`` in ``folder`` and gives its size in bytes; it appears whole or not at all.

    ``fill`` puts data and users into an empty folder; keys and version are copied here. InvalidParameter for a bad or
    taken name, DiskFull when the disk has no room for a second copy; what ``fill`` raises passes.
    """
    if not _NAME.fullmatch(name):
        raise InvalidParameter("A backup can't be called so.", hint="Use letters, digits, '.', '_' and '-'.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / name).exists():
        raise InvalidParameter(f"There is a backup {name} already.", hint="Choose another name.")
    needed = sum(file.stat().st_size for file in data_dir.glob("desk.duckdb*"))
    if shutil.disk_usage(folder).free < 2 * needed:
        raise DiskFull("The disk has no room for a backup.", hint="Make room, or set server.backup_dir.")
    partial = folder / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    try:
        fill(partial)
        shutil.copytree(data_dir / _KEYS, partial / _KEYS)
        (partial / "VERSION").write_text(f"{VERSION}\n", encoding="ascii")
        size = _to_disk(partial)
        partial.rename(folder / name)
        _sync(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return size


def put_back(backup: Path, data_dir: Path, check: Callable[[Path], None]) -> None:
    """Makes ``data_dir`` from a backup; it must not be there yet, and appears only after ``check`` was content.

    BackupError when the folder is no backup or the place is taken; what ``check`` raises passes.
    """
    found = version_of(backup)
    if found is None or not (backup / _KEYS).is_dir():
        raise BackupError(f"{backup} is no backup: it has no VERSION or no keys.")
    if found != str(VERSION):
        raise BackupError(f"{backup} has version {found[:20]!r}; this is for version {VERSION}.")
    if data_dir.exists() and any(data_dir.iterdir()):
        raise BackupError(f"{data_dir} is not empty. Move it away first: nothing is written over.")
    partial = data_dir.parent / f".{data_dir.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        shutil.copytree(backup, partial)
        partial.chmod(0o700)
        check(partial)
        _to_disk(partial)
        if data_dir.exists():
            data_dir.rmdir()
        partial.rename(data_dir)
        _sync(data_dir.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _to_disk(folder: Path) -> int:
    size = 0
    for file in folder.rglob("*"):
        _sync(file)
        size += file.stat().st_size if file.is_file() else 0
    _sync(folder)
    return size


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
