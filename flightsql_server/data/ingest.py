"""The writer: the only place that changes live datasets.

Batches wait in a bounded queue; one thread takes what waits, writes it in one transaction (history, then the latest
rows that it makes newer), numbers the rows with ``_seq`` inside that transaction, and acknowledges after the commit.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from flightsql_server.data import commit, tables
from flightsql_server.data.commit import Change, Guard, Lane, Receipt, Step, Update
from flightsql_server.data.datasets import Dataset
from flightsql_server.data.feed import ChangeSet
from flightsql_server.data.tables import State
from flightsql_server.data.watermark import Watermark
from flightsql_server.errors import (
    DiskFull,
    EngineUnavailable,
    InternalError,
    LimitReached,
    RowsLost,
    ServerError,
    ServerShuttingDown,
)
from flightsql_server.metrics import Metrics
from flightsql_server.model import Engine

log = logging.getLogger(__name__)
T = TypeVar("T")

Publish = Callable[[str, int, ChangeSet | None], None]
"""Told, after a commit and before its publishers are, what has become of a dataset: up to which ``_seq``, and by which
rows; None where only history can tell."""

Bundle = tuple[Update, ...]
"""Updates of one lane that are stored by the same commit."""

_FULL = "The server's disk is nearly full; the batch was not stored."


class Writer:
    """Takes conformed batches, commits them in groups. ``start`` before the first batch; ``stop`` drains.

    ``offer`` and ``submit`` may be called from any thread. ``versions`` holds the last committed ``_seq`` of each
    dataset; it rises before the batch is acknowledged, so a reader who has seen the acknowledgement never gets an
    older cached result.
    """

    def __init__(
        self,
        engine: Engine,
        datasets: Mapping[str, Dataset],
        metrics: Metrics,
        *,
        queue_batches: int = 1_000,
        queue_bytes: int = 256 * 1024 * 1024,
        group_rows: int = 1_000_000,
        reserve_bytes: int = 0,
        producers_per_user: int = 1_000,
        free_bytes: Callable[[], int] | None = None,
        watermark: Watermark | None = None,
        publish: Publish = lambda dataset, last_seq, rows: None,
        at: Step = lambda step: None,
    ) -> None:
        """``free_bytes`` tells the free disk; ``watermark`` is closed by ``stop``; ``publish`` is called in the
        writer's thread and must be quick; ``at`` is told each step of a commit and may raise: tests end the process's
        life there.
        """
        self._engine = engine
        self._datasets = dict(datasets)
        self._metrics = metrics
        self._limits = (queue_batches, queue_bytes)
        self._group_rows = group_rows
        self._reserve_bytes = reserve_bytes
        self._producers_per_user = producers_per_user
        self._free_bytes = free_bytes
        self._watermark = watermark
        self._publish = publish
        self._at = at
        self._lock = threading.Condition()
        self._queue: deque[Bundle] = deque()
        self._queued_bytes = 0
        self._want_room: list[Callable[[], None]] = []
        self._pauses: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._stopping = False
        self._states: dict[str, State] = {}
        self._stale = False
        self._undeclared: dict[str, int] = {}
        self.versions: dict[str, int] = {}

    # ---- start and stop

    def start(self, *, accept_loss: bool = False) -> None:
        """``open``, and the thread that commits."""
        self.open(accept_loss=accept_loss)
        self._thread.start()

    def open(self, *, accept_loss: bool = False) -> None:
        """Makes and migrates tables, and reads where each dataset stands.

        SchemaChanged when a dataset can't be served as it is declared. RowsLost when the database stands behind what
        was acknowledged, unless ``accept_loss``: then the missing numbers are given up and never used again.
        """
        noted = self._watermark.read() if self._watermark else {}
        if noted is None:
            log.warning("the note of acknowledged rows can't be read: whether the database is whole can't be checked")
            noted = {}
        with self._engine.transaction() as transaction:
            states = tables.prepare(transaction, self._datasets.values())
            for name, state in states.items():
                missing = noted.get(name, 0)
                if missing > state.last_seq:
                    if not accept_loss:
                        raise RowsLost(
                            f"The database holds {name} up to _seq {state.last_seq}, but rows up to {missing} were "
                            "acknowledged: its files were damaged, cut off or put back.",
                            hint="Restore a backup, or start once with --accept-loss to go on without those rows.",
                        )
                    log.warning("%s: rows behind _seq %d up to %d are given up", name, state.last_seq, missing)
                    tables.give_up(transaction, name, state.last_seq, missing)
                    state.last_seq = missing
        self._states = states
        self.versions.update({name: state.last_seq for name, state in states.items()})
        for name, version in self.versions.items():
            self._metrics.dataset_sequence.labels(name).set(version)
            for counter in (self._metrics.ingested_rows, self._metrics.late_rows, self._metrics.duplicate_batches):
                counter.labels(name)  # so that it is seen before it counts
        # What is noted of a dataset that is not declared now stays noted, for the day when it is again.
        self._undeclared = {name: seq for name, seq in noted.items() if name not in states}
        self._note()

    def noted(self) -> dict[str, int]:
        """The last ``_seq`` that was acknowledged of each dataset, those included that are not declared now."""
        return {**self._undeclared, **self.versions}

    def _note(self) -> None:
        if self._watermark:
            self._watermark.write(self.noted())

    def is_alive(self) -> bool:
        """Whether batches are being taken and committed."""
        return self._thread.is_alive() and not self._stopping

    def stop(self) -> None:
        """Commits what waits and ends the thread."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._run_pauses()
        self._make_room()
        if self._watermark:
            self._watermark.close()
            self._watermark = None

    # ---- batches in

    def offer(self, update: Update, on_room: Callable[[], None]) -> bool:
        """Queues the update if there is room; else ``on_room`` is called, from another thread, when it may have come.

        Room is counted in batches and bytes; an empty queue takes a batch of any size. ServerShuttingDown once
        ``stop`` was called.
        """
        batches, size = self._limits
        with self._lock:
            self._check_open()
            full = len(self._queue) >= batches
            if full or (self._queue and self._queued_bytes + update.batch.nbytes > size):
                self._metrics.limit("ingest.queue_batches" if full else "ingest.queue_bytes")
                self._want_room.append(on_room)
                return False
            self._append((update,))
        return True

    def submit_together(self, updates: Sequence[Update]) -> Future[Receipt]:
        """Queues updates that are stored by one commit or not at all; the future is that of the last one.

        They are taken whether there is room or not: who calls has bounded them.
        """
        with self._lock:
            self._check_open()
            self._append(tuple(updates))
        return updates[-1].done

    def _check_open(self) -> None:
        if self._stopping:
            raise ServerShuttingDown("The server is stopping; the batch was not stored.", hint="Send it later.")

    def _append(self, bundle: Bundle) -> None:
        for update in bundle:
            update.done.set_running_or_notify_cancel()  # a publisher that leaves can't cancel it
            self._queued_bytes += update.batch.nbytes
        self._queue.append(bundle)
        self._metrics.ingest_waiting.set(len(self._queue))
        self._lock.notify()

    def submit(self, update: Update) -> Update:
        """``offer`` for callers that may block until there is room."""
        room = threading.Event()
        while not self.offer(update, room.set):
            room.wait()
            room.clear()
        return update

    def between(self, work: Callable[[], T]) -> Future[T]:
        """Runs the work in the writer's thread between two commits; it must be quick.

        What it reads stands exactly at ``versions``: whatever is published later is not in it yet.
        """
        done: Future[T] = Future()
        with self._lock:
            self._check_open()
            self._pauses.append((work, done))
            self._lock.notify()
        return done

    def _run_pauses(self) -> None:
        while self._pauses:
            work, done = self._pauses.popleft()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                self._reload()
                done.set_result(work())
            except Exception as error:
                done.set_exception(error)

    def _make_room(self) -> None:
        with self._lock:
            waiting, self._want_room = self._want_room, []
        for tell in waiting:
            with suppress(RuntimeError):  # its event loop has ended
                tell()

    # ---- groups

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._queue and not self._pauses and not self._stopping:
                    self._lock.wait()
                if not self._queue and not self._pauses:
                    return
            self._run_pauses()
            if self._queue:
                self.commit_waiting()
                self._tidy()

    def commit_waiting(self) -> None:
        """Takes what waits, up to the limit of a group, and commits it; the writer's thread calls this."""
        group: list[Bundle] = []
        with self._lock:
            rows = 0
            while self._queue and (not group or rows < self._group_rows):
                bundle = self._queue.popleft()
                self._queued_bytes -= sum(update.batch.nbytes for update in bundle)
                rows += sum(update.batch.num_rows for update in bundle)
                group.append(bundle)
            self._metrics.ingest_waiting.set(len(self._queue))
        self._make_room()
        if group:
            self._at("taken")
            self._commit(group)

    def _commit(self, bundles: Sequence[Bundle]) -> None:
        """One transaction for the group; if it fails, each bundle is tried alone, so that one can't harm another."""
        bundles = [bundle for bundle in bundles if not _ended(bundle)]
        group = [update for bundle in bundles for update in bundle]
        if not group:
            return
        started = time.perf_counter()
        try:
            self._check_disk(group)
            self._reload()
            self._stale = True
            receipts, changes = self._write(group)
            self._stale = False
        except Exception as error:
            with suppress(Exception):  # else before the next group
                self._reload()
            hopeless = isinstance(error, (DiskFull, EngineUnavailable))
            if len(bundles) > 1 and not hopeless:
                for bundle in bundles:
                    self._commit([bundle])
                return
            if isinstance(error, LimitReached):
                self._metrics.limit("ingest.producers_per_user")
            if not isinstance(error, ServerError):
                log.exception("a batch for %s was not stored", group[0].dataset.name)
            for update in group:
                _fail(update, error if isinstance(error, ServerError) else InternalError())
            return
        self._settle(group, receipts, changes)
        self._metrics.commit_seconds.observe(time.perf_counter() - started)

    def _check_disk(self, group: Sequence[Update]) -> None:
        """DiskFull while the disk keeps less free than its reserve, so that the engine never meets a full one."""
        if not self._free_bytes or not self._reserve_bytes:
            return
        # In the log, and once more when the log is folded into the file.
        needed = self._reserve_bytes + 2 * sum(update.batch.nbytes for update in group)
        if self._free_bytes() < needed:
            self._metrics.limit("ingest.reserve_bytes")
            raise DiskFull(_FULL, hint="Send it again when its administrator has made room.")

    def _reload(self) -> None:
        """After a failure whose outcome is not known for sure: what is stored is what holds."""
        if not self._stale:
            return
        with self._engine.transaction() as transaction:
            self._states = tables.prepare(transaction, self._datasets.values())
        self._stale = False
        for name, state in self._states.items():
            if state.last_seq != self.versions[name]:
                self.versions[name] = state.last_seq
                self._publish(name, state.last_seq, None)

    def _write(self, group: Sequence[Update]) -> tuple[dict[int, Receipt], dict[str, Change]]:
        receipts: dict[int, Receipt] = {}
        changes: dict[str, Change] = {}
        # A clock that was set back must not reopen a day that is closed.
        received_at = max(time.time_ns() // 1000, *(state.last_received for state in self._states.values()))
        with self._engine.transaction() as transaction:
            self._at("begun")
            for name in dict.fromkeys(update.dataset.name for update in group):
                updates = [update for update in group if update.dataset.name == name]
                found, changes[name] = commit.write(
                    transaction,
                    updates[0].dataset,
                    self._states[name],
                    updates,
                    received_at,
                    self._producers_per_user,
                    self._at,
                )
                receipts.update(zip(map(id, updates), found, strict=True))
            self._at("commit")
        self._at("committed")
        return receipts, changes

    def _settle(self, group: Sequence[Update], receipts: dict[int, Receipt], changes: dict[str, Change]) -> None:
        """After the commit: remembers, notes, counts, and then tells the publishers."""
        for name, change in changes.items():
            change.apply(self._states[name])
            self.versions[name] = change.last_seq
            self._metrics.dataset_sequence.labels(name).set(change.last_seq)
        try:
            self._note()
        except OSError:
            log.exception("the note of acknowledged rows could not be written")
        self._at("noted")
        for name, change in changes.items():
            if change.rows is not None:
                self._publish(name, change.last_seq, change.rows)
        for update in group:
            receipt = receipts[id(update)]
            self._metrics.ingested_rows.labels(update.dataset.name).inc(receipt.rows)
            self._metrics.late_rows.labels(update.dataset.name).inc(receipt.late)
            if receipt.duplicate:
                self._metrics.duplicate_batches.labels(update.dataset.name).inc()
        for update in group:
            update.done.set_result(receipts[id(update)])
        self._at("acknowledged")

    def _tidy(self) -> None:
        try:
            self._engine.tidy()
        except Exception:
            log.exception("the engine's log could not be folded into its file")


def _ended(bundle: Bundle) -> bool:
    """Whether the updates' stream has failed already; then they fail as well."""
    failure = bundle[0].lane.failure
    if failure is None:
        return False
    for update in bundle:
        update.done.set_exception(failure)
    return True


def _fail(update: Update, error: ServerError) -> None:
    if update.lane.failure is None:
        update.lane.failure = error
    update.done.set_exception(update.lane.failure)


__all__ = ["Guard", "Lane", "Receipt", "Update", "Writer"]
