"""Results that are made before they are asked for, of changes and of transactions, waiting under a handle.

They wait in memory as long as there is room, then in a file that is mapped. The file has no name once it is written,
so that nothing is left of it when the process ends.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from flightsql_auth.policies import Grants

from flightsql_server.errors import DiskFull, InvalidStatementHandle, ResultTooLarge
from flightsql_server.metrics import Metrics

_MARK = b"\x10"
MEMORY, DISK = "memory", "disk"


class _Space:
    """Bytes in memory and on disk that all results share. Safe for threads."""

    def __init__(self, metrics: Metrics, limits: dict[str, int]) -> None:
        self._limits = limits
        self._used = dict.fromkeys(limits, 0)
        self._lock = threading.Lock()
        self._gauges = {where: metrics.waiting_result_bytes.labels(where) for where in limits}

    def take(self, where: str, size: int) -> bool:
        """Takes so many bytes, if there are as many."""
        with self._lock:
            used = self._used[where] + size
            if used > self._limits[where]:
                return False
            self._used[where] = used
            self._gauges[where].set(used)
            return True

    def give_back(self, taken: dict[str, int]) -> None:
        """Frees all that ``taken`` counts."""
        with self._lock:
            for where, size in taken.items():
                self._used[where] -= size
                taken[where] = 0
                self._gauges[where].set(self._used[where])


class Result:
    """All rows of a result. Its room is free again when nobody holds it any more."""

    def __init__(self, space: _Space) -> None:
        self._space = space
        self._taken = {MEMORY: 0, DISK: 0}
        self.table = pa.table({})
        weakref.finalize(self, space.give_back, self._taken)

    def take(self, where: str, size: int) -> bool:
        """Takes room for so many bytes more, if there is."""
        if not self._space.take(where, size):
            return False
        self._taken[where] += size
        return True

    def give_back(self) -> None:
        """Gives back all that was taken: nothing comes of it, whoever still holds it."""
        self._space.give_back(self._taken)

    def leave_memory(self) -> None:
        """Gives back the memory that was taken."""
        size, self._taken[MEMORY] = self._taken[MEMORY], 0
        self._space.give_back({MEMORY: size})


@dataclass(frozen=True, slots=True)
class Waiting:
    """A result, whose it is, and what they might do when it was made; None: it shows nothing of any table."""

    principal: str
    result: Result
    expires: float
    grants: Grants | None


class Results:
    """Each can be fetched until it expires, again and again. ``gather`` may run in any thread, all else in the loop's.

    ``folder`` is the results' alone: what an earlier process left there is removed.
    """

    def __init__(self, metrics: Metrics, *, seconds: float, memory_bytes: int, disk_bytes: int, folder: Path) -> None:
        self._metrics = metrics
        self._seconds = seconds
        self._space = _Space(metrics, {MEMORY: memory_bytes, DISK: disk_bytes})
        self._folder = folder
        self._waiting: OrderedDict[bytes, Waiting] = OrderedDict()
        folder.mkdir(mode=0o700, exist_ok=True)
        for left in folder.iterdir():
            left.unlink()

    def gather(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Result:
        """Reads the batches to their end. ResultTooLarge when there is no room, DiskFull when the disk has none."""
        result = Result(self._space)
        try:
            self._gather(result, schema, iter(batches))
        except BaseException:
            result.give_back()
            raise
        return result

    def _gather(self, result: Result, schema: pa.Schema, rest: Iterator[pa.RecordBatch]) -> None:
        kept: list[pa.RecordBatch] = []
        for batch in rest:
            if not result.take(MEMORY, batch.nbytes):
                result.leave_memory()
                result.table = self._spooled(result, schema, _chain(kept, batch, rest))
                return
            kept.append(batch)
        result.table = pa.Table.from_batches(kept, schema)

    def _spooled(self, result: Result, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> pa.Table:
        """The batches as a table over a mapped file without a name."""
        handle, path = tempfile.mkstemp(dir=self._folder)
        os.close(handle)
        try:
            with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, schema) as writer:
                for batch in batches:
                    if not result.take(DISK, batch.nbytes):
                        self._metrics.limit("transaction.spool_bytes")
                        raise ResultTooLarge(
                            "The result is too large to wait until it is fetched.",
                            hint="Ask for less, or ask outside of the transaction.",
                        )
                    writer.write_batch(batch)
            self._metrics.limit("transaction.result_bytes")
            return pa.ipc.open_stream(pa.memory_map(path)).read_all()
        except OSError as error:
            raise DiskFull("The disk has no room for the result.", hint="Ask for less, or try again later.") from error
        finally:
            with suppress(OSError):
                os.unlink(path)

    def keep(self, principal: str, result: Result, grants: Grants | None = None) -> tuple[bytes, float]:
        """A handle for the result and when it expires."""
        self._expire()
        handle, expires = _MARK + secrets.token_bytes(16), time.time() + self._seconds
        self._waiting[handle] = Waiting(principal, result, expires, grants)
        return handle, expires

    @staticmethod
    def is_handle(handle: bytes) -> bool:
        """Whether these bytes are a handle of this kind, known or not."""
        return len(handle) == 17 and handle[:1] == _MARK

    def find(self, principal: str, handle: bytes) -> tuple[Result, Grants | None]:
        """The result, and the grants that it was made under.

        InvalidStatementHandle when there is none, it has expired or is another's.
        """
        self._expire()
        found = self._waiting.get(handle)
        if found is None or found.principal != principal:
            raise InvalidStatementHandle("The result is no longer there.", hint="Run the statement again.")
        return found.result, found.grants

    def _expire(self) -> None:
        now = time.time()
        while self._waiting and next(iter(self._waiting.values())).expires < now:
            self._waiting.popitem(last=False)


def _chain(
    kept: list[pa.RecordBatch], batch: pa.RecordBatch, rest: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """All of them, each let go once it is taken."""
    kept.reverse()
    while kept:
        yield kept.pop()
    yield batch
    yield from rest
