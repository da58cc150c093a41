"""What runs now: each statement with who asked for it, so that one of them can be stopped and all can be looked at."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from flightsql_server.errors import StatementCancelled
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call


@dataclass(eq=False)
class Running:
    """One statement that runs. ``handle`` is what its ticket names, empty where none does."""

    id: int
    call: Call
    text: str
    handle: bytes
    task: asyncio.Task[object]
    started: float = field(default_factory=time.time)
    asked_to_stop: bool = False


class Queries:
    """All that run. Belongs to the event loop's thread."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._numbers = itertools.count(1)
        self._running: dict[int, Running] = {}

    @contextmanager
    def noted(self, call: Call, text: str, handle: bytes = b"") -> Iterator[Running]:
        """While the block runs the statement is one of those that run; StatementCancelled if it was asked to stop."""
        task = asyncio.current_task()
        assert task is not None, "statements run in tasks"
        entry = Running(next(self._numbers), call, text, handle, task)
        self._running[entry.id] = entry
        try:
            yield entry
        except asyncio.CancelledError:
            if not entry.asked_to_stop:
                raise
            task.uncancel()
            self._metrics.statements_stopped.labels("cancelled").inc()
            raise StatementCancelled("The statement was stopped because somebody asked for it.") from None
        finally:
            del self._running[entry.id]

    def all(self) -> list[Running]:
        """What runs now, the oldest first."""
        return list(self._running.values())

    def cancel(self, call: Call, handle: bytes) -> bool:
        """Stops what runs for a ticket of the caller's; False when nothing does."""
        mine = [
            one
            for one in self._running.values()
            if handle and one.handle == handle and one.call.principal.name == call.principal.name
        ]
        for one in mine:
            self.stop(one)
        return bool(mine)

    def kill(self, number: int) -> bool:
        """Stops the statement of that number, whoever runs it; False when there is none."""
        one = self._running.get(number)
        if one is not None:
            self.stop(one)
        return one is not None

    def stop(self, one: Running) -> None:
        """Stops a statement."""
        one.asked_to_stop = True
        one.task.cancel()
