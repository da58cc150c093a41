"""What the server is doing, as rows for the tables of ``ops``, and the means to end it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Protocol

from flightsql_server.service.running import Queries
from flightsql_server.service.session import Sessions
from flightsql_server.service.subscriptions import Subscriptions
from flightsql_server.service.transactions import Transactions

Rows = Sequence[tuple[str | int | None, ...]]
AuditLines = Callable[[], Sequence[Mapping[str, Any]]]
"""Gives the newest lines of the audit trail, the newest first; blocks."""

_AUDIT_COLUMNS = (
    *("sequence", "time", "event", "user", "method", "roles", "peer", "session", "command", "dialect", "statement"),
    *("reads", "writes", "policy", "rows", "received_bytes", "sent_bytes", "milliseconds", "outcome", "sqlstate"),
    *("reason", "hash"),
)
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
        subscriptions: Subscriptions,
        live_sessions: Callable[[], Iterable[KnownSession]],
        pool: ThreadPoolExecutor,
        audit_lines: AuditLines = lambda: (),
    ) -> None:
        self._audit_lines = audit_lines
        self._queries = queries
        self._sessions = sessions
        self._transactions = transactions
        self._subscriptions = subscriptions
        self._live_sessions = live_sessions
        self._pool = pool

    async def rows(self) -> Mapping[str, Rows]:
        """The rows of each table, in the order of its columns (``planner/operations.py``)."""
        loop = asyncio.get_running_loop()
        known = list(await loop.run_in_executor(self._pool, self._live_sessions))
        lines = await loop.run_in_executor(self._pool, self._audit_lines)
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
            "subscriptions": [
                (
                    one.id,
                    one.call.principal.name,
                    one.call.principal.session_id,
                    one.call.peer,
                    _time(one.started),
                    one.channel.kind,
                    one.mode,
                    int(one.paused),
                    one.told,
                    self._subscriptions.lag(one),
                    one.sent_batches,
                    one.sent_rows,
                    one.merged_rows,
                    one.terms.text[:_LONGEST_TEXT].replace("\0", " "),
                )
                for one in self._subscriptions.all()
            ],
            "audit": [_audit_row(line) for line in lines],
        }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ")


def _audit_row(line: Mapping[str, Any]) -> tuple[str | int | None, ...]:
    known = {name: line.get(name) for name in _AUDIT_COLUMNS}
    known["time"] = str(line["time"]).replace("T", " ").replace("Z", "+00:00")
    if known["milliseconds"] is not None:
        known["milliseconds"] = round(known["milliseconds"])
    return tuple(_plain(value) for value in known.values())


def _plain(value: Any) -> str | int | None:
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    if isinstance(value, str):
        text = value[:_LONGEST_TEXT].replace("\0", " ")
        return text.encode("utf-8", "replace").decode()
    return None if value is None else int(value)
