"""Publishing that comes back by itself: a batch is stored once, however often it had to be sent."""

from __future__ import annotations

import asyncio
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType

import pyarrow as pa

from flightsql_server.client.connection import pauses
from flightsql_server.client.publishing import Publisher, PublishError, Receipt


class Publishing:
    """Sends batches to one dataset, each acknowledged once it is durable. For one thread at a time.

    Without a ``producer_id`` of your own each object has one by chance, and numbers from the clock: then a batch is
    stored once as long as this object lives. With one and rising ``first_seq``, also after a restart of the program.
    """

    def __init__(
        self, url: str, dataset: str, *, user: str, password: str, producer_id: str = "", first_seq: int | None = None,
        reconnects: bool = True,
    ) -> None:  # fmt: skip
        """PublishError when the server can't be reached now or refuses the login."""
        self._arguments = (url, dataset)
        self._login = (user, password, producer_id or f"auto-{uuid.uuid4()}")
        self._next = time.time_ns() // 1000 if first_seq is None else first_seq
        self._reconnects = reconnects
        self._publisher: Publisher | None = self._opened()

    def _opened(self) -> Publisher:
        user, password, producer_id = self._login
        url, dataset = self._arguments
        return Publisher(url, dataset, user=user, password=password, producer_id=producer_id)

    def send(self, batch: pa.RecordBatch) -> Receipt:
        """Sends one batch and waits until it is stored; PublishError when the server refuses it.

        After a lost connection it is sent again, and its receipt may then say ``duplicate``.
        """
        number, self._next = self._next, self._next + 1
        waiting = None
        while True:
            try:
                if self._publisher is None:
                    self._publisher = self._opened()
                return self._publisher.publish(batch, number)
            except PublishError as error:
                self._drop()
                if not self._reconnects or not error.lost:
                    raise
                waiting = waiting or pauses()
                time.sleep(next(waiting))

    def _drop(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            with suppress(PublishError):
                publisher.close()

    def close(self) -> None:
        """Ends the stream; what was sent has been acknowledged already."""
        self._drop()

    def __enter__(self) -> Publishing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def publish(
    url: str, dataset: str, *, user: str, password: str, producer_id: str = "", first_seq: int | None = None
) -> Publishing:
    """Publishing to a dataset; see ``Publishing``. Close it, or use it as a context manager."""
    return Publishing(url, dataset, user=user, password=password, producer_id=producer_id, first_seq=first_seq)


class AsyncPublishing:
    """The same for asyncio. A thread of its own sends."""

    def __init__(self, url: str, dataset: str, *, user: str, password: str, producer_id: str = "") -> None:
        self._open = lambda: Publishing(url, dataset, user=user, password=password, producer_id=producer_id)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="publishing")
        self._inner: Publishing | None = None

    async def send(self, batch: pa.RecordBatch) -> Receipt:
        """See ``Publishing.send``."""
        if self._inner is None:
            raise PublishError("Use it with async with.")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._inner.send, batch)

    async def __aenter__(self) -> AsyncPublishing:
        loop = asyncio.get_running_loop()
        self._inner = await loop.run_in_executor(self._thread, self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inner is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._inner.close)
        await asyncio.to_thread(self._thread.shutdown)


def publish_async(url: str, dataset: str, *, user: str, password: str, producer_id: str = "") -> AsyncPublishing:
    """Publishing for asyncio; use it with ``async with``."""
    return AsyncPublishing(url, dataset, user=user, password=password, producer_id=producer_id)
