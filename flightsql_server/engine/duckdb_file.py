"""DuckDB's file: opened, hardened, opened again after a fatal error, its log folded in, copied while it is in use."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from flightsql_server import errors
from flightsql_server.model import CATALOG

log = logging.getLogger(__name__)

_FILE, _LOG = f"{CATALOG}.duckdb", f"{CATALOG}.duckdb.wal"
# DuckDB folds its log in at a commit when it is longer than this; that moment is ours to choose, see ``tidy``.
_NEVER = "1TB"
# The folders whose file this process has opened before.
_OPENED: set[Path] = set()


@dataclass(frozen=True, slots=True)
class DuckDBOptions:
    """``threads`` 0: one for each core; ``memory_limit`` such as ``4GB``, empty: DuckDB's default.

    ``log_bytes``: the log is folded into the file when it is longer.
    """

    threads: int = 0
    memory_limit: str = ""
    temp_bytes: int = 16 * 1024**3
    log_bytes: int = 32 * 1024**2


class DuckDBFile:
    """``<data_dir>/desk.duckdb``. ``close`` closes it; connections made by ``cursor`` are closed by who made them."""

    def __init__(self, data_dir: Path, options: DuckDBOptions, let_go: Callable[[], None] = lambda: None) -> None:
        """EngineUnavailable when the file can't be opened, with what to do about it.

        ``let_go`` ends what still holds a broken database before the file is opened anew.
        """
        self._let_go = let_go
        self._folder = data_dir
        self._options = options
        self._lock = threading.Lock()
        self._folding = threading.Lock()
        self._broken = False
        self._written = False
        if (data_dir / _LOG).exists() and not (data_dir / _FILE).exists():
            # DuckDB would begin a new file and remove the log.
            log.error("%s is gone, but its log is there", data_dir / _FILE)
            raise _damaged()
        self._root = self._open()

    def _open(self) -> duckdb.DuckDBPyConnection:
        # DuckDB would wait, busily and for ever, while something in this process still holds the file's old database: a
        # result that was not read to its end, in the frames of an exception that nobody has let go of yet. Once it
        # waits, a look for garbage comes too late.
        if self._folder in _OPENED:
            gc.collect()
        _OPENED.add(self._folder)
        try:
            root = duckdb.connect(str(self._folder / _FILE), config={"checkpoint_threshold": _NEVER})
        except duckdb.Error as error:
            raise _not_opened(error) from error
        try:
            _harden(root, self._folder, self._options)
        except duckdb.Error as error:
            root.close()
            raise _not_opened(error) from error
        return root

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own; EngineUnavailable while the file can't be opened again after a fatal error."""
        if self._broken:
            self._reopen()
        return self._root.cursor()

    def fatal(self) -> None:
        """DuckDB refuses all that follows a fatal error (a disk that is full at a bad moment): open it anew."""
        if not self._broken:
            log.error("DuckDB had a fatal error; its file will be opened anew")
        self._broken = True

    def _reopen(self) -> None:
        with self._lock:
            if not self._broken:
                return
            with suppress(duckdb.Error):
                self._root.close()
            self._let_go()
            root = self._open()
            try:
                root.execute("SELECT 1").fetchall()
            except duckdb.Error as error:
                # A statement that still streams holds the old database; the next call tries again.
                root.close()
                raise errors.EngineUnavailable("The database is being opened again.", hint="Try again.") from error
            self._root = root
            self._broken = False
            log.warning("DuckDB's file is open again")

    def tidy(self) -> None:
        """Folds the log into the file when it is long, and the disk has room for that."""
        log_file = self._folder / _LOG
        try:
            size = log_file.stat().st_size
        except OSError:
            return
        if size <= self._options.log_bytes or shutil.disk_usage(self._folder).free < 2 * size:
            return
        with self._folding:
            connection = self.cursor()
            try:
                connection.execute("CHECKPOINT")
            except duckdb.TransactionException:
                pass  # somebody writes just now; after the next commit it is tried again
            except duckdb.FatalException:
                self.fatal()
                raise
            finally:
                connection.close()

    def backup(self, folder: Path) -> None:
        """Copies file and log into an empty folder, opens the copy and folds its log in; InternalError if it is bad.

        Commits go on meanwhile. The log is copied first: all that it refers to in the file was written before, and
        what a commit adds to the file later belongs to nothing yet. No log is folded in during the copy.
        """
        with self._folding:
            for name in (_LOG, _FILE):
                if (self._folder / name).exists():
                    shutil.copyfile(self._folder / name, folder / name)
                    os.chmod(folder / name, 0o600)
        copy = duckdb.connect(str(folder / _FILE))
        try:
            copy.execute("CHECKPOINT")
        finally:
            copy.close()

    def written(self) -> None:
        """Something was committed: from now on the log belongs to the file, and ``close`` folds it in."""
        self._written = True

    def close(self) -> None:
        """Closes the file. One that nothing was committed to stays as it was, with its log: a start may be refused."""
        with suppress(duckdb.Error):
            if self._written:
                self._root.execute("CHECKPOINT")
        with suppress(duckdb.Error):
            self._root.close()
        # DuckDB's binding complains at the interpreter's exit of every object that somebody still holds then.
        del self._root


def _not_opened(error: duckdb.Error) -> errors.EngineUnavailable:
    log.error("DuckDB can't open its file: %s", error)
    if "Could not set lock" in str(error):
        return errors.EngineUnavailable(
            "The database file is in use by another process.", hint="Stop that process, or use another data directory."
        )
    return _damaged()


def _damaged() -> errors.EngineUnavailable:
    return errors.EngineUnavailable(
        "The database file is damaged or can't be read; nothing of it was changed.",
        hint="Restore a backup with `flightsql-server restore`; the log says what is wrong with the file.",
    )


def _harden(connection: duckdb.DuckDBPyConnection, data_dir: Path, options: DuckDBOptions) -> None:
    """Closes every way out of the database; the order matters, the lock comes last."""
    settings: dict[str, object] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "python_enable_replacements": False,
        "allow_persistent_secrets": False,
        "temp_directory": str(data_dir / "spill"),
        "max_temp_directory_size": f"{options.temp_bytes // 1024}KiB",
        "threads": options.threads or os.cpu_count() or 1,
        # The least and greatest value of a column would count although a row filter hides their rows: whether a join is
        # left out for them shows in whether a cast beside it fails. Without them a query takes some 3 % longer.
        "disabled_optimizers": "statistics_propagation",
    }
    if options.memory_limit:
        settings["memory_limit"] = options.memory_limit
    for name, value in settings.items():
        connection.execute(f"SET GLOBAL {name} = ?", [value])
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute("PRAGMA disable_checkpoint_on_shutdown")
    connection.execute("SET GLOBAL enable_external_access = false")
    connection.execute("SET GLOBAL allowed_configs = ['TimeZone']")
    connection.execute("SET GLOBAL lock_configuration = true")
