"""What runs now: each statement with who asked for it, so that one of them can be stopped and all can be looked at.

One walk over all of them, made each second, ends those that may not go on.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from flightsql_auth.policies import Grants, LivePolicies

from flightsql_server.errors import PolicyChanged, ServerError, StatementCancelled
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call


@dataclass(eq=False)
class Running:
    """One statement that runs. ``handle`` is what its ticket names, empty where none does.

    ``grants`` are those that it runs under; None: it asks for none. ``why`` is what it is ended with.
    """

    id: int
    call: Call
    text: str
    handle: bytes
    task: asyncio.Task[object]
    started: float = field(default_factory=time.time)
    grants: Grants | None = None
    asked_to_stop: bool = False
    why: ServerError | None = None


def stale(one: Running, policies: LivePolicies) -> ServerError | None:
    """What ends a statement whose caller may now do something else than when it began; None: it may go on."""
    if one.grants is None:
        return None
    who = one.call.principal
    if policies.grants(who.roles, who.name, one.grants.temporary, who.claims) == one.grants:
        return None
    return PolicyChanged("The policy has changed, and what you may do with it.", hint="Ask again.")


class Queries:
    """All that run. Belongs to the event loop's thread."""

    def __init__(self, metrics: Metrics, policies: LivePolicies) -> None:
        self._metrics = metrics
        self._policies = policies
        self._numbers = itertools.count(1)
        self._running: dict[int, Running] = {}

    @contextmanager
    def noted(self, call: Call, text: str, handle: bytes = b"", grants: Grants | None = None) -> Iterator[Running]:
        """While the block runs the statement is one of those that run; StatementCancelled if it was asked to stop, or
        the error that it was ended with. PolicyChanged at once where ``grants`` are no longer those of the caller.
        """
        task = asyncio.current_task()
        assert task is not None, "statements run in tasks"
        if not call.entry.done:
            call.entry.happens("statement")
        entry = Running(next(self._numbers), call, text, handle, task, grants=grants)
        gone = stale(entry, self._policies)
        if gone is not None:
            raise gone
        self._running[entry.id] = entry
        try:
            yield entry
        except asyncio.CancelledError:
            if not entry.asked_to_stop:
                self._metrics.statements_stopped.labels("client_gone").inc()
                raise
            task.uncancel()
            if entry.why is not None:
                raise entry.why from None
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

    def end_where(self, wrong: Callable[[Running], ServerError | None]) -> None:
        """Ends each statement for which ``wrong`` gives an error, with that error."""
        for one in self.all():
            why = None if one.asked_to_stop else wrong(one)
            if why is not None:
                self._metrics.statements_stopped.labels("policy" if isinstance(why, PolicyChanged) else "login").inc()
                self.stop(one, why)

    def stop(self, one: Running, why: ServerError | None = None) -> None:
        """Stops a statement; without ``why`` because somebody asked for it."""
        one.asked_to_stop, one.why = True, why
        one.task.cancel()
