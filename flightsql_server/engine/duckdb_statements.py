"""DuckDB's statements: bound ones that wait, and running ones that stream."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from flightsql_server import errors
from flightsql_server.model import SessionOptions


@dataclass(frozen=True, slots=True)
class Bound:
    """A statement that DuckDB has parsed and bound, on a connection that runs nothing else."""

    sql: str
    time_zone: str
    connection: duckdb.DuckDBPyConnection
    relation: duckdb.DuckDBPyRelation


class IdleStatements:
    """Bound statements that wait to be run again: binding anew costs a third of a small query. Safe for threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting: OrderedDict[tuple[str, str], list[Bound]] = OrderedDict()
        self._count = 0

    def take(self, sql: str, options: SessionOptions) -> Bound | None:
        """One that waits under this text and time zone, which is then the caller's; None when there is none."""
        key = (sql, options.time_zone)
        with self._lock:
            found = self._waiting.get(key)
            if not found:
                return None
            bound = found.pop()
            self._count -= 1
            if not found:
                del self._waiting[key]
            return bound

    def give(self, bound: Bound) -> None:
        """Lets it wait; the one that has waited longest is closed when there are too many."""
        surplus = []
        with self._lock:
            self._waiting.setdefault((bound.sql, bound.time_zone), []).append(bound)
            self._waiting.move_to_end((bound.sql, bound.time_zone))
            self._count += 1
            while self._count > self._limit:
                found = self._waiting.popitem(last=False)[1]
                self._count -= len(found)
                surplus += found
        for old in surplus:
            old.connection.close()

    def close(self) -> None:
        """Closes all that wait."""
        with self._lock:
            waiting, self._waiting, self._count = self._waiting, OrderedDict(), 0
        for found in waiting.values():
            for bound in found:
                bound.connection.close()


@contextmanager
def interrupted(reading: threading.RLock, interrupt: Callable[[], None]) -> Iterator[None]:
    """Within the block nobody reads; who reads before it is interrupted, again and again: one may come too early."""
    while not reading.acquire(timeout=0.05):
        interrupt()
    try:
        yield
    finally:
        reading.release()


class DuckDBStream:
    """A statement; see ``model.ResultStream``. Memory stays flat however long the result is.

    In DuckDB 2.0 a relation's reader streams, while a cursor's ``execute`` would build the whole result first.
    """

    def __init__(
        self,
        take: Callable[[], Bound],
        give_back: Callable[[Bound], None],
        translated: Callable[[], AbstractContextManager[None]],
        batch_rows: int,
    ) -> None:
        """``take`` gives a bound statement; ``give_back`` gets it again if it has run to its end.

        Whatever DuckDB raises within a block of ``translated`` leaves as a member of the error family.
        """
        self._translated = translated
        self._take = take
        self._give_back = give_back
        self._batch_rows = batch_rows
        self._bound: Bound | None = None
        self._reader: pa.RecordBatchReader | None = None
        self._names: list[str] | None = None
        self._cancelled = self._ended = self._abandoned = False
        self._reading = threading.RLock()

    def read(self) -> pa.RecordBatch | None:
        with self._translated():
            if self._bound is None and not self._abandoned:
                self._bound = self._take()
            with self._reading:
                bound = self._bound
                if bound is None or self._abandoned:
                    raise errors.EngineUnavailable("The database had to be opened again.", hint="Repeat the call.")
                if self._cancelled:
                    raise errors.StatementCancelled("The statement was stopped.")
                if self._reader is None:
                    self._reader = self._start(bound.relation)
                try:
                    batch = self._reader.read_next_batch()
                except StopIteration:
                    self._ended = True
                    return None
        return batch if self._names is None else batch.rename_columns(self._names)

    def _start(self, relation: duckdb.DuckDBPyRelation) -> pa.RecordBatchReader:
        reader = relation.to_arrow_reader(self._batch_rows)
        if reader.schema.names != relation.columns:
            self._names = relation.columns
        return reader

    def cancel(self) -> None:
        """Interrupts the statement: a ``read`` that waits raises within milliseconds.

        An interrupt that comes between the start of a ``read`` and the start of the statement is lost, so call it
        again while the ``read`` lasts.
        """
        self._cancelled = True
        bound = self._bound
        if bound is not None:
            with suppress(duckdb.Error):
                bound.connection.interrupt()

    def abandon(self) -> None:
        """Lets go of a database that is broken, whoever waits for whom: a ``read`` that runs or comes later raises."""
        if self._bound is None:
            return
        self._abandoned = True
        with interrupted(self._reading, self.cancel):
            self._cancelled = True  # not to be run again
            self.close()

    def close(self) -> None:
        # Taken in one step each: ``abandon`` may come from another thread.
        (reader, self._reader), (bound, self._bound) = (self._reader, None), (self._bound, None)
        if reader is not None:
            with suppress(Exception):
                reader.close()
        if bound is not None:
            if self._ended and not self._cancelled:
                self._give_back(bound)
            else:
                bound.connection.close()
