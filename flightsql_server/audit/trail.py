"""The trail while a server runs: calls hand in what they did, one thread writes it in groups.

A call reserves its line before anything is done, so that with ``audit.when_full = stop`` nothing is done that could not
be told afterwards; with ``continue`` it is done, and how many lines were lost is told once the disk takes lines again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from flightsql_auth.principals import Principal

from flightsql_server.audit.chain import key_id
from flightsql_server.audit.facts import FULL, Facts, Outcome, Redact, short, time_text, who
from flightsql_server.audit.files import FULL as DISK_IS_FULL
from flightsql_server.audit.files import AuditError, TrailFiles, note
from flightsql_server.errors import DiskFull
from flightsql_server.metrics import Metrics
from flightsql_server.model import Entry

log = logging.getLogger(__name__)

STOP, CONTINUE = "stop", "continue"
# What comes within this time is written together: fewer turns of the writer between those of the event loop.
_GATHER_SECONDS = 0.01
_MOST_TOGETHER = 500
_RETRY_SECONDS = 0.25
_STOP_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """See the ``audit`` section of the settings."""

    folder: Path
    enabled: bool = True
    statements: str = FULL
    statement_bytes: int = 16_384
    rotate_bytes: int = 64 * 1024**2
    keep_files: int = 64
    sync: bool = False
    when_full: str = CONTINUE
    queue_lines: int = 4_096
    recent_lines: int = 500


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What waits for the writer: facts, or what they will be made of."""

    make: Callable[[], Mapping[str, Any]]
    event: str
    reserved: bool


class AuditTrail:
    """The trail of one server. ``start`` once, then ``stop`` once; the rest from any thread, without blocking."""

    def __init__(self, options: AuditOptions, key: bytes, metrics: Metrics, redact: Redact) -> None:
        """``redact`` takes the literals out of a statement, where the options ask for it."""
        self._options = options
        self._key = key
        self._metrics = metrics
        self._facts = Facts(options.statements, redact)
        self._stops = options.when_full == STOP
        self._queue: SimpleQueue[_Waiting | threading.Event | None] = SimpleQueue()
        self._counting = threading.Lock()
        self._held = 0  # lines that are reserved or wait to be written
        self._lost = 0
        self._failing = False
        self._recent: deque[Mapping[str, Any]] = deque(maxlen=max(options.recent_lines, 1))
        self._files: TrailFiles | None = None
        self._ending = threading.Event()
        self._writer = threading.Thread(target=self._run, name="audit", daemon=True)
        metrics.audit_waiting.set_function(lambda: self._held)

    def start(self, version: str) -> None:
        """Opens the files and starts to write; AuditError when the folder can't be used. A full disk is waited for."""
        if not self._options.enabled:
            return
        try:
            self._open()
        except OSError as error:
            if error.errno not in DISK_IS_FULL:
                raise AuditError(
                    f"The audit trail can't be written to {self._options.folder}: {error.strerror}."
                ) from error
            self._fail(error)
        self._writer.start()
        self.note("start", version=version, key=key_id(self._key))

    def stop(self) -> None:
        """Says that the server stops, and writes what waits; what a full disk keeps from being written is lost."""
        if not self._writer.is_alive():
            return
        self.note("stop")
        self._ending.set()
        self._queue.put(None)
        self._writer.join()

    # ---- calls

    def reserve(self, entry: Entry) -> None:
        """Holds a place for the call's line. DiskFull, where that is the setting, when there is none: do nothing then.

        Whoever reserved calls ``end`` once.
        """
        if not self._options.enabled:
            return
        with self._counting:
            if self._stops and (self._failing or self._held >= self._options.queue_lines):
                self._metrics.limit("audit.when_full" if self._failing else "audit.queue_lines")
                entry.turned_away = True
                raise DiskFull(
                    "The server can't write its audit trail, so it does nothing that belongs there.",
                    hint="Try again when its administrator has made room.",
                )
            self._held += 1
            entry.reserved = True

    def end(self, entry: Entry, outcome: Outcome) -> None:
        """The call has ended. What was only planned, or asked for metadata, has no line unless it was refused."""
        if not self._options.enabled:
            return
        reserved, entry.reserved = entry.reserved, False
        if entry.turned_away:
            return  # for want of a line: nothing was done
        if entry.done or outcome.code != "OK":
            if len(entry.statement) > self._options.statement_bytes:
                entry.details["statement_length"] = len(entry.statement)
                entry.statement = entry.statement[: self._options.statement_bytes]
            now = time.time()
            self._put(_Waiting(lambda: self._facts.of(entry, now, outcome), entry.event or "call", reserved))
        elif reserved:
            self._let_go(1)

    def note(self, event: str, principal: Principal | None = None, peer: str = "", **details: object) -> None:
        """A line for what is no call: a session that ends by itself, a key that changes. ``details`` are for JSON."""
        if not self._options.enabled:
            return
        facts: dict[str, Any] = {"time": time_text(time.time()), "event": event}
        facts |= who(principal) if principal is not None else {}
        facts |= {"peer": peer, **details}
        told = {
            name: short(value) if isinstance(value, str) else value
            for name, value in facts.items()
            if value not in (None, "", [])
        }
        self._put(_Waiting(lambda: told, event, reserved=False))

    def _put(self, waiting: _Waiting) -> None:
        with self._counting:
            self._held += not waiting.reserved
            # Where every line counts, what nobody could reserve may go over the limit: but not without end.
            most = self._options.queue_lines * (2 if self._stops else 1)
            if self._held > most and not (waiting.reserved and self._stops):
                self._held -= 1
                self._lost += 1
                self._metrics.audit_lost.inc()
                return
        self._queue.put(waiting)

    def _let_go(self, count: int) -> None:
        with self._counting:
            self._held -= count

    # ---- looking at it

    @property
    def wrong(self) -> str:
        """What keeps the server from serving; empty when nothing does."""
        return "the audit trail can't be written" if self._failing and self._stops else ""

    def recent(self) -> Sequence[Mapping[str, Any]]:
        """The newest lines that were written, the newest first. Blocks for a moment, so that those of before are."""
        if not self._writer.is_alive() or not self._options.recent_lines:
            return ()
        written = threading.Event()
        self._queue.put(written)
        written.wait(1.0)
        return list(self._recent)[::-1]

    # ---- the writer's thread

    def _run(self) -> None:
        going = True
        while going:
            waiting, markers, going = self._next()
            if waiting:
                self._write([self._made(one) for one in waiting], waiting)
                self._let_go(len(waiting))
            for marker in markers:
                marker.set()
        if self._files is not None:
            self._files.close()

    def _next(self) -> tuple[list[_Waiting], list[threading.Event], bool]:
        """What waits now, after waiting for the first of it; False at the end."""
        found: list[_Waiting | threading.Event | None] = [self._queue.get()]
        if found[0] is not None and not self._ending.is_set():
            time.sleep(_GATHER_SECONDS)
        with suppress(Empty):
            while len(found) < _MOST_TOGETHER and found[-1] is not None:
                found.append(self._queue.get_nowait())
        lines = [one for one in found if isinstance(one, _Waiting)]
        return lines, [one for one in found if isinstance(one, threading.Event)], found[-1] is not None

    def _made(self, waiting: _Waiting) -> Mapping[str, Any]:
        try:
            return waiting.make()
        except Exception:  # whatever it was, the line is owed
            log.exception("a line of the audit trail could not be made")
            return {"time": time_text(time.time()), "event": waiting.event, "what": "the line could not be made"}

    def _write(self, facts: list[Mapping[str, Any]], waiting: Sequence[_Waiting]) -> None:
        """Writes the lines, however long that takes; gives up only when the server stops meanwhile."""
        gave_up = 0.0
        while True:
            with self._counting:
                lost = self._lost
            try:
                files = self._files or self._open()
                before = files.length
                missed = [note("lines were lost", lines=lost)] if lost else []
                said = files.append([*files.found, *missed, *facts])
                files.found = []
                break
            except (OSError, AuditError) as error:
                self._fail(error)
                gave_up = gave_up or (time.monotonic() + _STOP_SECONDS if self._ending.is_set() else 0.0)
                if gave_up and time.monotonic() > gave_up:
                    self._metrics.audit_lost.inc(len(facts))
                    log.exception("the server stops with %d lines of its audit trail unwritten", len(facts))
                    return
                time.sleep(_RETRY_SECONDS)
        with self._counting:
            self._lost -= lost
        if self._failing:
            log.warning("the audit trail is written again")
            self._failing = False
        self._recent.extend(said)
        self._metrics.audit_bytes.inc(max(files.length - before, 0) or files.length)
        self._metrics.audit_sequence.set(files.sequence)
        for one in waiting:
            self._metrics.audit_lines.labels(one.event).inc()

    def _open(self) -> TrailFiles:
        options = self._options
        self._files = files = TrailFiles(
            options.folder,
            self._key,
            rotate_bytes=options.rotate_bytes,
            keep_files=options.keep_files,
            sync=options.sync,
            recent=options.recent_lines,
        )
        self._recent.extend(files.last)
        return files

    def _fail(self, error: Exception) -> None:
        self._metrics.audit_errors.inc()
        if not self._failing:
            self._failing = True
            log.error("the audit trail can't be written: %s", getattr(error, "strerror", None) or error)
