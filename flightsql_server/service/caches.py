"""Bounded caches: plans by what they depend on, small results as the very bytes that went over the wire."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from flightsql_server.metrics import Metrics

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Encoded:
    """Serialised messages of a result, ready for the wire, and how many rows they hold."""

    messages: tuple[bytes, ...]
    rows: int

    @property
    def size(self) -> int:
        return sum(map(len, self.messages))


class BoundedCache(Generic[T]):
    """The most recently used entries, at most ``entries`` and ``weight`` in all. Belongs to the event loop's thread."""

    def __init__(self, name: str, metrics: Metrics, *, entries: int, weight: int = 0) -> None:
        self._items: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._entries = entries
        self._weight_limit = weight
        self._weight = 0
        self._hit = metrics.cache_lookups.labels(name, "hit")
        self._miss = metrics.cache_lookups.labels(name, "miss")
        self._count = metrics.cache_entries.labels(name)
        self._bytes = metrics.cache_bytes.labels(name)

    def get(self, key: Hashable) -> T | None:
        """The entry, which becomes the most recently used one; None when it isn't there."""
        item = self._items.get(key)
        if item is None:
            self._miss.inc()
            return None
        self._items.move_to_end(key)
        self._hit.inc()
        return item[0]

    def discard(self, key: Hashable) -> None:
        """Lets the entry go, if it is there."""
        item = self._items.pop(key, None)
        if item is not None:
            self._weight -= item[1]
            self._tell()

    def put(self, key: Hashable, value: T, weight: int = 0) -> T | None:
        """Keeps the entry and lets the oldest go, as many as the bounds ask for; gives what it took the place of."""
        if not self._entries or (self._weight_limit and weight > self._weight_limit):
            return None
        old = self._items.pop(key, None)
        self._weight += weight - (old[1] if old else 0)
        self._items[key] = (value, weight)
        while len(self._items) > self._entries or (self._weight_limit and self._weight > self._weight_limit):
            self._weight -= self._items.popitem(last=False)[1][1]
        self._tell()
        return old[0] if old else None

    def _tell(self) -> None:
        self._count.set(len(self._items))
        self._bytes.set(self._weight)
