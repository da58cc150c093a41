"""One stream of record batches to a dataset.

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

from flightsql_server.client.connection import ClientError, is_lost, said

# Batches that may be on their way while the next ones are read.
_IN_FLIGHT = 16


class PublishError(ClientError):
    """The server did not take a batch, or the connection broke; the text is the server's.

    ``lost``: whether the connection or the server is gone, so that sending again may help.
    """

    def __init__(self, text: str, *, lost: bool = False) -> None:
        super().__init__(text)
        self.lost = lost


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
        self,
        url: str,
        dataset: str,
        *,
        user: str = "",
        password: str = "",
        producer_id: str = "",
        level: str = "durable",
        tls_root_certs: bytes | None = None,
        cert_chain: bytes | None = None,
        private_key: bytes | None = None,
    ) -> None:
        """Logs in; PublishError when that fails.

        The last three are PEM, for a ``grpc+tls://`` url: who issued the server's certificate, and a client certificate
        with its key, which may stand for user and password.

        With a ``producer_id`` each batch is sent with a rising ``producer_seq``, and the server stores each number
        once, whatever is sent again, also after a restart of either side. ``level`` ``memory`` has batches
        acknowledged once they are queued.
        """
        self._descriptor = flight.FlightDescriptor.for_path(dataset)
        self._terms: dict[str, object] = {"producer_id": producer_id} if producer_id else {}
        if level != "durable":
            self._terms["level"] = level
        self._client = flight.FlightClient(
            url, tls_root_certs=tls_root_certs, cert_chain=cert_chain, private_key=private_key
        )
        self._schema: pa.Schema | None = None
        self._writer: flight.FlightStreamWriter | None = None
        self._reader: flight.FlightMetadataReader | None = None
        self._outstanding = 0
        self.rows = self.late_rows = 0
        try:
            headers = [self._client.authenticate_basic_token(user, password)] if user else []
        except (pa.ArrowException, OSError) as error:
            self._client.close()
            text = said(error)
            text = text if text.startswith("[") else f"No server answers at {url}: {text}"
            raise PublishError(text, lost=is_lost(error)) from error
        self._options = flight.FlightCallOptions(headers=headers)

    def schema(self) -> pa.Schema:
        """The columns of the dataset; PublishError when it may not be read."""
        try:
            return self._client.get_schema(self._descriptor, self._options).schema
        except (pa.ArrowException, OSError) as error:
            raise PublishError(said(error), lost=is_lost(error)) from error

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
        if self._schema is not None and batch.schema != self._schema:
            self._end_stream()
        try:
            if self._writer is None:
                self._schema = batch.schema
                self._writer, self._reader = self._client.do_put(self._descriptor, batch.schema, self._options)
            if terms:
                self._writer.write_with_metadata(batch, json.dumps(terms).encode())
            else:
                self._writer.write_batch(batch)
        except (pa.ArrowException, OSError) as error:
            raise self._failure(error) from error
        self._outstanding += 1

    def _end_stream(self) -> None:
        """A stream has one schema: batches of another go on a new one."""
        if self._outstanding:
            raise PublishError("The batch has other columns than those before it, which still wait for their receipts.")
        writer, self._writer, self._schema = self._writer, None, None
        try:
            if writer is not None:
                writer.close()
        except (pa.ArrowException, OSError) as error:
            raise PublishError(said(error), lost=is_lost(error)) from error

    def _failure(self, error: BaseException) -> PublishError:
        """What ended the stream. A failed write only says that it is over: receipts may still wait, then the reason."""
        reason = error
        try:
            while self._read() is not None:
                pass
        except (pa.ArrowException, OSError) as later:
            reason = later
        try:
            if self._writer is not None:
                self._writer.close()
        except (pa.ArrowException, OSError) as later:
            reason = later
        return PublishError(said(reason), lost=is_lost(reason))

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
            raise PublishError(said(error), lost=is_lost(error)) from error
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
