"""For Python programs that feed a server: publish record batches to a dataset. Needs pyarrow alone.

::

    with Publisher("grpc://127.0.0.1:50052", "market_data", user="feed", password="…") as publisher:
        receipt = publisher.publish(batch)
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType

import pyarrow as pa
import pyarrow.flight as flight

# Batches that may be on their way while the next ones are read.
_IN_FLIGHT = 16


class PublishError(Exception):
    """The server did not take a batch, or the connection broke; the text is the server's."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the server says of one stored batch: the numbers of its rows, and how many of them came late."""

    rows: int
    first_seq: int | None
    last_seq: int | None
    late_rows: int


class Publisher:
    """One DoPut stream to a dataset, opened with the first batch. ``close`` ends it; use it as a context manager.

    Not for several threads at once. ``rows`` and ``late_rows`` count what has been acknowledged.
    """

    def __init__(self, url: str, dataset: str, *, user: str, password: str) -> None:
        """Logs in; PublishError when that fails."""
        self._descriptor = flight.FlightDescriptor.for_path(dataset)
        self._client = flight.FlightClient(url)
        self._writer: flight.FlightStreamWriter | None = None
        self._reader: flight.FlightMetadataReader | None = None
        self.rows = self.late_rows = 0
        try:
            header = self._client.authenticate_basic_token(user, password)
        except (pa.ArrowException, OSError) as error:
            self._client.close()
            said = _message(error)
            raise PublishError(said if said.startswith("[") else f"No server answers at {url}: {said}") from error
        self._options = flight.FlightCallOptions(headers=[header])

    def publish(self, batch: pa.RecordBatch) -> Receipt:
        """Sends one batch and waits until it is stored."""
        self._send(batch)
        return self._receipt()

    def publish_all(self, batches: Iterable[pa.RecordBatch]) -> Iterator[Receipt]:
        """Sends the batches one after the other, some ahead of their receipts; gives each receipt in order."""
        waiting: deque[None] = deque()
        for batch in batches:
            self._send(batch)
            waiting.append(None)
            if len(waiting) >= _IN_FLIGHT:
                waiting.popleft()
                yield self._receipt()
        while waiting:
            waiting.popleft()
            yield self._receipt()

    def _send(self, batch: pa.RecordBatch) -> None:
        try:
            if self._writer is None:
                self._writer, self._reader = self._client.do_put(self._descriptor, batch.schema, self._options)
            self._writer.write_batch(batch)
        except (pa.ArrowException, OSError) as error:
            raise self._failure(error) from error

    def _failure(self, error: BaseException) -> PublishError:
        """A write that fails only says that the stream is over; the reason comes when it is closed."""
        try:
            if self._writer is not None:
                self._writer.close()
        except (pa.ArrowException, OSError) as reason:
            return PublishError(_message(reason))
        return PublishError(_message(error))

    def _receipt(self) -> Receipt:
        assert self._reader is not None
        try:
            content = self._reader.read()
        except (pa.ArrowException, OSError) as error:
            raise self._failure(error) from error
        if content is None:
            raise self._failure(OSError("the server ended the stream"))
        known = json.loads(content.to_pybytes())
        receipt = Receipt(known["rows"], known["first_seq"], known["last_seq"], known["late_rows"])
        self.rows += receipt.rows
        self.late_rows += receipt.late_rows
        return receipt

    def close(self) -> None:
        """Ends the stream and the connection."""
        try:
            if self._writer is not None:
                self._writer.close()
        except (pa.ArrowException, OSError) as error:
            raise PublishError(_message(error)) from error
        finally:
            self._writer = None
            self._client.close()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except PublishError:
            if error is None:
                raise


def _message(error: BaseException) -> str:
    """The server's own words: what gRPC and Arrow wrap around them is cut off."""
    text = str(error)
    start = text.find("[")
    return text[start:].split(". gRPC client debug context", 1)[0] if start >= 0 else text
