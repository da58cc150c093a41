"""For Python programs that feed a server: publish record batches to a dataset. Needs pyarrow alone.

::

    with Publisher("grpc://127.0.0.1:50052", "market_data", user="feed", password="…") as publisher:
        receipt = publisher.publish(batch)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
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
    """What the server says of one batch: the numbers of its rows, and how many of them came late.

    Under the level ``memory`` the server has queued the batch and knows no more yet: numbers and ``late_rows`` are
    None. A ``duplicate`` had been stored before; ``rows`` is then 0.
    """

    rows: int
    first_seq: int | None
    last_seq: int | None
    late_rows: int | None
    producer_seq: int | None = None
    duplicate: bool = False


class Publisher:
    """One DoPut stream to a dataset, opened with the first batch. ``close`` ends it; use it as a context manager.

    Not for several threads at once. ``rows`` and ``late_rows`` count what has been acknowledged, also after a failure.
    """

    def __init__(
        self, url: str, dataset: str, *, user: str, password: str, producer_id: str = "", level: str = "durable"
    ) -> None:
        """Logs in; PublishError when that fails.

        With a ``producer_id`` each batch is sent with a rising ``producer_seq``, and the server stores each number
        once, whatever is sent again, also after a restart of either side. ``level`` ``memory`` has batches
        acknowledged once they are queued.
        """
        self._descriptor = flight.FlightDescriptor.for_path(dataset)
        self._terms: dict[str, object] = {"producer_id": producer_id} if producer_id else {}
        if level != "durable":
            self._terms["level"] = level
        self._client = flight.FlightClient(url)
        self._writer: flight.FlightStreamWriter | None = None
        self._reader: flight.FlightMetadataReader | None = None
        self._outstanding = 0
        self.rows = self.late_rows = 0
        try:
            header = self._client.authenticate_basic_token(user, password)
        except (pa.ArrowException, OSError) as error:
            self._client.close()
            said = _message(error)
            raise PublishError(said if said.startswith("[") else f"No server answers at {url}: {said}") from error
        self._options = flight.FlightCallOptions(headers=[header])

    def schema(self) -> pa.Schema:
        """The columns of the dataset; PublishError when it may not be read."""
        try:
            return self._client.get_schema(self._descriptor, self._options).schema
        except (pa.ArrowException, OSError) as error:
            raise PublishError(_message(error)) from error

    def publish(self, batch: pa.RecordBatch, producer_seq: int | None = None) -> Receipt:
        """Sends one batch and waits until it is acknowledged. ``producer_seq`` goes with the ``producer_id``."""
        self._send(batch, producer_seq)
        return self._receipt()

    def publish_all(self, batches: Iterable[pa.RecordBatch], first_producer_seq: int = 0) -> Iterator[Receipt]:
        """Sends the batches one after the other, some ahead of their receipts; gives each receipt in order.

        With a ``producer_id`` they are numbered from ``first_producer_seq`` on.
        """
        numbered = enumerate(batches, first_producer_seq)
        while True:
            try:
                number, batch = next(numbered)
            except StopIteration:
                break
            except Exception:
                with suppress(PublishError):  # what was sent before may be stored, so it is counted
                    while self._outstanding:
                        self._receipt()
                raise
            self._send(batch, number if "producer_id" in self._terms else None)
            if self._outstanding >= _IN_FLIGHT:
                yield self._receipt()
        while self._outstanding:
            yield self._receipt()

    def _send(self, batch: pa.RecordBatch, producer_seq: int | None) -> None:
        terms = self._terms if producer_seq is None else {**self._terms, "producer_seq": producer_seq}
        try:
            if self._writer is None:
                self._writer, self._reader = self._client.do_put(self._descriptor, batch.schema, self._options)
            if terms:
                self._writer.write_with_metadata(batch, json.dumps(terms).encode())
            else:
                self._writer.write_batch(batch)
        except (pa.ArrowException, OSError) as error:
            raise self._failure(error) from error
        self._outstanding += 1

    def _failure(self, error: BaseException) -> PublishError:
        """What ended the stream. A failed write only says that it is over: receipts may still wait, then the reason."""
        reason = error
        try:
            while self._read() is not None:
                pass
        except (pa.ArrowException, OSError) as said:
            reason = said
        try:
            if self._writer is not None:
                self._writer.close()
        except (pa.ArrowException, OSError) as said:
            reason = said
        return PublishError(_message(reason))

    def _receipt(self) -> Receipt:
        try:
            receipt = self._read()
        except (pa.ArrowException, OSError) as error:
            raise self._failure(error) from error
        if receipt is None:
            raise self._failure(OSError("the server ended the stream"))
        return receipt

    def _read(self) -> Receipt | None:
        """The next receipt; None when there are no more."""
        content = None if self._reader is None else self._reader.read()
        if content is None:
            return None
        known = json.loads(content.to_pybytes())
        receipt = Receipt(
            known["rows"],
            known["first_seq"],
            known["last_seq"],
            known["late_rows"],
            known.get("producer_seq"),
            known.get("duplicate", False),
        )
        self._outstanding -= 1
        self.rows += receipt.rows
        self.late_rows += receipt.late_rows or 0
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
