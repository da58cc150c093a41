"""What the server is doing, as rows for the tables of ``ops``, and the means to end it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Protocol

from flightsql_server.service.running import Queries
from flightsql_server.service.session import Sessions
from flightsql_server.service.transactions import Transactions

Rows = Sequence[tuple[str | int | None, ...]]
_LONGEST_TEXT = 2_000


class KnownSession(Protocol):
    """A session as the state store tells of it."""

    @property
    def jti(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def peer(self) -> str: ...
    @property
    def user_agent(self) -> str: ...
    @property
    def created_at(self) -> float: ...
    @property
    def last_seen(self) -> float: ...
    @property
    def expires_at(self) -> float: ...


class OperationsTables:
    """Gathers the rows anew for each statement that asks. Belongs to the event loop."""

    def __init__(
        self,
        queries: Queries,
        sessions: Sessions,
        transactions: Transactions,
        live_sessions: Callable[[], Iterable[KnownSession]],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._queries = queries
        self._sessions = sessions
        self._transactions = transactions
        self._live_sessions = live_sessions
        self._pool = pool

    async def rows(self) -> Mapping[str, Rows]:
        """The rows of each table, in the order of its columns (``planner/operations.py``)."""
        known = list(await asyncio.get_running_loop().run_in_executor(self._pool, self._live_sessions))
        open_ones = Counter(self._transactions.session_keys())
        return {
            "sessions": [
                (
                    one.jti,
                    one.user,
                    one.peer,
                    one.user_agent,
                    _time(one.created_at),
                    _time(one.last_seen),
                    _time(one.expires_at),
                    open_ones[one.jti],
                    self._sessions.prepared_count(one.jti),
                )
                for one in known
            ],
            "queries": [
                (
                    one.id,
                    one.call.principal.name,
                    one.call.principal.session_id,
                    one.call.peer,
                    _time(one.started),
                    one.call.dialect,
                    one.text[:_LONGEST_TEXT].replace("\0", " "),
                )
                for one in self._queries.all()
            ],
        }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ")
