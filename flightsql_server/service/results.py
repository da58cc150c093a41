"""Results that are made before they are asked for, of changes and of transactions, waiting under a handle."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

import pyarrow as pa

from flightsql_server.errors import InvalidStatementHandle, ResultTooLarge
from flightsql_server.metrics import Metrics

_MARK = b"\x10"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A result, and whose it is."""

    principal: str
    table: pa.Table
    expires: float


class Results:
    """Each can be fetched until it expires, again and again. Belongs to the event loop's thread."""

    def __init__(self, metrics: Metrics, *, seconds: float, limit_bytes: int) -> None:
        self._metrics = metrics
        self._seconds = seconds
        self._limit = limit_bytes
        self._waiting: OrderedDict[bytes, Waiting] = OrderedDict()
        self._bytes = 0

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more may wait; counts the bite of the limit if not."""
        self._expire()
        if self._bytes + size <= self._limit:
            return True
        self._metrics.limit("transaction.result_bytes")
        return False

    def keep(self, principal: str, table: pa.Table) -> tuple[bytes, float]:
        """A handle for the result and when it expires; ResultTooLarge when there is no room."""
        if not self.has_room(table.nbytes):
            raise ResultTooLarge("There is no room for the result to wait.", hint="Ask for less, or fetch it outside.")
        handle, expires = _MARK + secrets.token_bytes(16), time.time() + self._seconds
        self._waiting[handle] = Waiting(principal, table, expires)
        self._count(table.nbytes)
        return handle, expires

    @staticmethod
    def is_handle(handle: bytes) -> bool:
        """Whether these bytes are a handle of this kind, known or not."""
        return len(handle) == 17 and handle[:1] == _MARK

    def find(self, principal: str, handle: bytes) -> pa.Table:
        """The result; InvalidStatementHandle when there is none, it has expired or is another's."""
        self._expire()
        found = self._waiting.get(handle)
        if found is None or found.principal != principal:
            raise InvalidStatementHandle("The result is no longer there.", hint="Run the statement again.")
        return found.table

    def _expire(self) -> None:
        now = time.time()
        while self._waiting and next(iter(self._waiting.values())).expires < now:
            self._count(-self._waiting.popitem(last=False)[1].table.nbytes)

    def _count(self, size: int) -> None:
        self._bytes += size
        self._metrics.waiting_result_bytes.set(self._bytes)
