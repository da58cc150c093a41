"""Subscriptions: an iterator of updates that comes back by itself, and goes on where it was."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from flightsql_server.client.connection import FAILURES, ClientError, connect, is_lost, pauses, said

SNAPSHOT, CHANGES = "snapshot", "changes"
_NO_LONGER_KEPT, _TOO_SLOW, _NOT_LOGGED_IN = "[22003]", "[54000]", ("[28000]", "[28P01]")


class SubscribeError(ClientError):
    """The server refused the subscription, or ended it for good."""


@dataclass(frozen=True, slots=True)
class Update:
    """One batch of a subscription.

    ``type``: ``snapshot`` or ``changes``. ``rows``: the query's columns, ``_seq`` and ``_change``. ``seq``: the last
    update that it tells of; None for a query that is run anew. ``merged``: rows left out for newer ones of their key.
    ``end``: of the last batch of a snapshot. ``reset``: what was told before no longer counts: a new snapshot begins.
    ``key``: the columns by which rows are told apart.
    """

    type: str
    rows: pa.RecordBatch
    seq: int | None
    key: tuple[str, ...]
    merged: int = 0
    end: bool = False
    reset: bool = False


class Subscription:
    """Iterate over it for the updates; ``close`` ends it, from any thread. Everything else is for one thread.

    ``seq`` is the last ``_seq`` that was given: another process goes on from there with ``from_seq``. ``plan`` stands
    for the query and the rights under which it was given; handed over with ``from_seq`` it has the server refuse to go
    on where these are others now.
    """

    def __init__(
        self, url: str, query: str, *, user: str = "", password: str = "", token: str = "",
        from_seq: int | None = None, plan: str = "", reconnects: bool = True, **options: Any,
    ) -> None:  # fmt: skip
        """``options`` are those of the protocol: mode, interval_ms, key, min_interval_ms, dialect.

        ``reconnects``: whether it comes back after a lost connection, and begins with a snapshot where it can't go on
        from ``from_seq``; else that raises. SubscribeError when the server can't be reached now or refuses.
        """
        self.seq = from_seq
        self.plan = plan
        self.schema: pa.Schema | None = None
        self._login = (url, user, password, token)
        self._asked = {"subscribe": query, **options}
        self._reconnects = reconnects
        self._key: tuple[str, ...] = ()
        self._kind = ""
        self._paused = False
        self._closed = threading.Event()
        self._fresh = from_seq is None  # the next snapshot takes the place of everything
        self._client: flight.FlightClient | None = None
        self._reader: Any = None
        self._writer: Any = None
        self._retried_login = False
        # Held while pyarrow reads: what it reads from must not be taken away under it.
        self._reading = threading.Lock()
        try:
            self._begin()
        except FAILURES as error:
            self._drop()
            raise SubscribeError(said(error)) from error

    def _begin(self) -> None:
        try:
            self._open()
        except FAILURES as error:
            if not self._reconnects or not said(error).startswith(_NO_LONGER_KEPT):
                raise
            self._drop()
            self.seq, self._fresh = None, True
            self._open()

    def _open(self) -> None:
        self._client, options = connect(*self._login)
        asked = dict(self._asked)
        if self.seq is not None:
            asked["from_seq"] = self.seq
            if self.plan:
                asked["plan"] = self.plan
        descriptor = flight.FlightDescriptor.for_command(json.dumps(asked))
        self._writer, self._reader = self._client.do_exchange(descriptor, options)
        if self._paused:
            self._wish({"pause": True})
        self.schema = self._reader.schema

    def __iter__(self) -> Iterator[Update]:
        return self

    def __next__(self) -> Update:
        with self._reading:
            return self._next()

    def _next(self) -> Update:
        while not self._closed.is_set():
            try:
                chunk = self._reader.read_chunk()
            except StopIteration:
                error: BaseException = OSError("the server ended the stream")
            except FAILURES as failure:
                error = failure
            else:
                self._retried_login = False
                update = self._taken(chunk)
                if update is not None:
                    return update
                continue
            if self._closed.is_set():
                break
            self._come_back(error)
        raise StopIteration

    def _taken(self, chunk: Any) -> Update | None:
        """The update in a message; None for one that only tells how far things are."""
        told = json.loads(chunk.app_metadata.to_pybytes()) if chunk.app_metadata is not None else {}
        type_, seq = told.get("type", CHANGES), told.get("seq")
        last = seq[1] if isinstance(seq, list) else seq
        if type_ == "subscribed":
            self._kind, self._key, self.plan = told["kind"], tuple(told["key"]), told.get("plan", "")
            return None
        if type_ not in (SNAPSHOT, CHANGES):
            if type_ == "heartbeat" and last is not None:
                self.seq = last
            if type_ == "refused":
                raise SubscribeError(told["error"])
            return None
        reset, end = type_ == SNAPSHOT and self._fresh, bool(told.get("end"))
        if type_ == SNAPSHOT:
            self._fresh = end and self._kind == "refreshed"  # the next one is another answer
        if told.get("moved") and not told.get("more"):
            self.plan = told["plan"]
        if last is not None and (type_ == CHANGES or end):
            self.seq = last  # before its end a snapshot can't be gone on from
        return Update(type_, chunk.data, last, self._key, told.get("merged", 0), end, reset)

    def _come_back(self, error: BaseException) -> None:
        """A new stream from the last place on; SubscribeError when the server doesn't want one."""
        text = said(error)
        if not self._reconnects:
            raise SubscribeError(text) from error
        if text.startswith(_NO_LONGER_KEPT):
            self.seq = None
        elif text.startswith(_NOT_LOGGED_IN) and not self._retried_login:
            self._retried_login = True
        elif not is_lost(error) and not text.startswith(_TOO_SLOW):
            raise SubscribeError(text) from error
        self._fresh = self.seq is None
        self._drop()
        for seconds in pauses():
            if self._closed.wait(seconds):
                return
            try:
                self._open()
                return
            except FAILURES as failure:
                self._drop()
                if said(failure).startswith(_NO_LONGER_KEPT):
                    self.seq, self._fresh = None, True
                elif not is_lost(failure):
                    raise SubscribeError(said(failure)) from failure

    def pause(self) -> None:
        """Nothing is told until ``resume``."""
        self._paused = True
        self._wish({"pause": True})

    def resume(self) -> None:
        """Goes on after ``pause``."""
        self._paused = False
        self._wish({"resume": True})

    def change(self, query: str) -> None:
        """Another query with the same columns: what it makes of the answer comes as changes."""
        self._asked["subscribe"] = query
        self._wish({"filter": query})

    def _wish(self, wish: dict[str, object]) -> None:
        try:
            self._writer.write_metadata(json.dumps(wish).encode())
        except FAILURES as error:
            raise SubscribeError(said(error)) from error

    def _drop(self) -> None:
        reader, writer, client = self._reader, self._writer, self._client
        self._reader = self._writer = self._client = None
        for end in (reader and reader.cancel, writer and writer.close, client and client.close):
            with suppress(*FAILURES):
                if end is not None:
                    end()

    def close(self) -> None:
        """Ends it; an iteration in another thread ends as well."""
        self._closed.set()
        reader = self._reader
        with suppress(*FAILURES):
            if reader is not None:
                reader.cancel()
        with self._reading:
            self._drop()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def subscribe(url: str, query: str, **options: Any) -> Subscription:
    """A subscription; see ``Subscription`` for the options. Close it, or use it as a context manager."""
    return Subscription(url, query, **options)


class AsyncSubscription:
    """The same for asyncio: ``async with`` and ``async for``. A thread of its own reads the stream."""

    def __init__(self, url: str, query: str, **options: Any) -> None:
        self._arguments = (url, query, options)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="subscription")
        self._inner: Subscription | None = None

    @property
    def seq(self) -> int | None:
        """The last ``_seq`` that was given."""
        return None if self._inner is None else self._inner.seq

    async def __aenter__(self) -> AsyncSubscription:
        url, query, options = self._arguments
        loop = asyncio.get_running_loop()
        self._inner = await loop.run_in_executor(self._thread, lambda: Subscription(url, query, **options))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends it."""
        if self._inner is not None:
            await asyncio.to_thread(self._inner.close)
        await asyncio.to_thread(self._thread.shutdown)

    def __aiter__(self) -> AsyncIterator[Update]:
        return self

    async def __anext__(self) -> Update:
        if self._inner is None:
            raise StopAsyncIteration
        found = await asyncio.get_running_loop().run_in_executor(self._thread, next, self._inner, None)
        if found is None:
            raise StopAsyncIteration
        return found


def subscribe_async(url: str, query: str, **options: Any) -> AsyncSubscription:
    """A subscription for asyncio; use it with ``async with``."""
    return AsyncSubscription(url, query, **options)
