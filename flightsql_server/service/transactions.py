"""Open transactions: by id, or one for each session that has said BEGIN. Whoever loses the session loses them.

A transaction owns a connection, and its statements run in turn. It holds changes to the user's own tables, or rows for
live datasets that the writer gets when it commits: never both, since no commit could make both true at once.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
from flightsql_auth.principals import Principal
from flightsql_auth.restrictions import Writing

from flightsql_server.errors import InvalidTransaction, LimitReached, UnknownTransaction
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call, Engine, UserTransaction
from flightsql_server.service.catalog import CurrentCatalog
from flightsql_server.service.plans import Inside
from flightsql_server.service.steps import closed, opened


@dataclass(eq=False)
class Open:
    """One open transaction. ``lock`` is held by whoever runs a statement in it.

    ``holds`` says what it has changed: nothing yet, ``rows`` or ``dataset``; ``inside`` is set once it has changed
    tables. After a ``failed`` statement it can only be rolled back.
    """

    id: bytes
    session_key: str
    caller: Principal
    work: UserTransaction
    used: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    holds: str = ""
    inside: Inside | None = None
    staged: list[tuple[str, pa.RecordBatch, Writing]] = field(default_factory=list)
    failed: bool = False

    def check(self) -> None:
        """Raises InvalidTransaction when a statement of it has failed."""
        if self.failed:
            raise InvalidTransaction("A statement of the transaction has failed.", hint="Roll it back.")

    def hold(self, kind: str) -> None:
        """Notes a change of this kind; InvalidTransaction when it has changed the other kind already."""
        if self.holds not in ("", kind):
            raise InvalidTransaction(
                "A transaction changes either tables of your own or live datasets.", hint="Use one for each."
            )
        self.holds = kind


class Transactions:
    """All that are open. Belongs to the event loop's thread; the engine's part runs in ``pool``."""

    def __init__(
        self,
        engine: Engine,
        catalog: CurrentCatalog,
        pool: ThreadPoolExecutor,
        metrics: Metrics,
        *,
        idle_seconds: float,
        per_user: int,
    ) -> None:
        self._engine = engine
        self._catalog = catalog
        self._pool = pool
        self._metrics = metrics
        self._idle_seconds = idle_seconds
        self._per_user = per_user
        self._open: dict[bytes, Open] = {}
        self._of_session: dict[str, Open] = {}

    async def begin(self, call: Call, *, for_session: bool = False) -> Open:
        """Opens one. ``for_session``: statements of the session without an id run in it, so there can be one only."""
        if for_session and call.principal.session_id is None:
            raise InvalidTransaction("BEGIN needs a session.", hint="Log in by a handshake, or begin one by id.")
        if for_session and call.session_key in self._of_session:
            raise InvalidTransaction("The session is in a transaction already.", hint="Commit it or roll it back.")
        name = call.principal.name
        if sum(one.caller.name == name for one in self._open.values()) >= self._per_user:
            self._metrics.limit("transaction.per_user")
            raise LimitReached(f"You have {self._per_user} transactions open.", hint="End one of them.")
        work = await opened(self._pool, self._engine.begin, call.options)
        one = Open(secrets.token_bytes(16), call.session_key, call.principal, work, time.monotonic())
        if for_session and self._of_session.setdefault(call.session_key, one) is not one:
            await closed(self._pool, work.close)
            raise InvalidTransaction("The session is in a transaction already.", hint="Commit it or roll it back.")
        self._open[one.id] = one
        self._metrics.transactions.set(len(self._open))
        return one

    def find(self, call: Call, transaction_id: bytes | None) -> Open | None:
        """The transaction of that id, or the session's own without one; None: there is none, so autocommit.

        UnknownTransaction for an id that is unknown, ended or another session's.
        """
        if not transaction_id:
            return self._of_session.get(call.session_key)
        found = self._open.get(transaction_id)
        if found is None or found.session_key != call.session_key or found.caller.name != call.principal.name:
            raise UnknownTransaction("There is no such transaction.", hint="It may have ended: begin a new one.")
        return found

    def of_prepared(self, call: Call, transaction_id: bytes | None) -> Open | None:
        """The transaction of a statement that was prepared in one; its commands can't name another.

        Where that has ended, it is the one that the session has open since: drivers prepare once and go on.
        """
        if not transaction_id or transaction_id in self._open:
            return self.find(call, transaction_id)
        return self._only(call) or self.find(call, transaction_id)

    def of_ingest(self, call: Call, transaction_id: bytes | None) -> Open | None:
        """The transaction that rows belong to. Drivers leave its id out of ingests, so it is the session's only one."""
        return self.find(call, transaction_id) or self._only(call)

    def _only(self, call: Call) -> Open | None:
        mine = [one for one in self._open.values() if one.session_key == call.session_key]
        return mine[0] if len(mine) == 1 else None

    def session_keys(self) -> list[str]:
        """The session of each open transaction."""
        return [one.session_key for one in self._open.values()]

    def has(self, session_key: str) -> bool:
        """Whether the session has one open."""
        return any(one.session_key == session_key for one in self._open.values())

    async def close(self, one: Open, how: str) -> None:
        """Forgets it and rolls back what was not committed. The caller holds its lock."""
        if self._open.pop(one.id, None) is None:
            return
        if self._of_session.get(one.session_key) is one:
            del self._of_session[one.session_key]
        self._metrics.transactions.set(len(self._open))
        self._metrics.transactions_ended.labels(how).inc()
        await closed(self._pool, one.work.close)

    async def end_session(self, session_key: str) -> None:
        """Rolls back all of a session that is over."""
        for one in [one for one in self._open.values() if one.session_key == session_key]:
            await self._end(one, "session")

    async def end_idle(self, may_go_on: Callable[[Principal], bool]) -> None:
        """Rolls back what has been asked nothing for too long, and what belongs to somebody who is served no more."""
        limit = time.monotonic() - self._idle_seconds
        for one in list(self._open.values()):
            if not may_go_on(one.caller):
                await self._end(one, "session")
            elif one.used < limit and not one.lock.locked():
                self._metrics.limit("transaction.idle_seconds")
                await self._end(one, "idle")

    async def end_all(self) -> None:
        """Rolls back all: the server stops."""
        for one in list(self._open.values()):
            await self._end(one, "stop")

    async def _end(self, one: Open, how: str) -> None:
        one.work.cancel()
        async with one.lock:
            await self.close(one, how)
