"""The writer: the only place that changes live datasets.

Batches wait in a bounded queue; one thread takes what waits, writes it in one transaction (history, then the latest
rows that it makes newer), numbers the rows with ``_seq`` inside that transaction, and acknowledges after the commit.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

import pyarrow as pa

from flightsql_server.data.datasets import HISTORY_COLUMNS, Dataset, engine_type
from flightsql_server.errors import InternalError, QueueFull, ServerError, ServerShuttingDown
from flightsql_server.metrics import Metrics
from flightsql_server.model import MAIN_SCHEMA, Engine, Transaction

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one batch: its rows stand in history under these numbers; ``late`` of them changed nothing."""

    first_seq: int
    last_seq: int
    rows: int
    late: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    dataset: Dataset
    batch: pa.RecordBatch
    done: Future[Receipt]


def quoted(name: str) -> str:
    """The name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def table_sql(name: str) -> str:
    """The full SQL name of a table of the main schema."""
    return f"{MAIN_SCHEMA}.{quoted(name)}"


class Writer:
    """Takes conformed batches, commits them in groups. ``start`` before the first ``submit``; ``stop`` drains.

    ``submit`` may be called from any thread. ``versions`` holds the last committed ``_seq`` of each dataset; it rises
    before the batch is acknowledged, so a reader who has seen the acknowledgement never gets an older cached result.
    """

    def __init__(
        self,
        engine: Engine,
        datasets: Mapping[str, Dataset],
        metrics: Metrics,
        *,
        queue_batches: int = 1_000,
        group_rows: int = 1_000_000,
    ) -> None:
        self._engine = engine
        self._datasets = dict(datasets)
        self._metrics = metrics
        self._group_rows = group_rows
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(queue_batches)
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._stopping = False
        self.versions: dict[str, int] = {}

    def start(self) -> None:
        """Makes missing tables, reads where each dataset's numbers stand, starts the thread."""
        with self._engine.transaction() as transaction:
            for dataset in self._datasets.values():
                _create(transaction, dataset)
                rows = transaction.execute(f"SELECT max(_seq) FROM {table_sql(dataset.history_name)}")
                self.versions[dataset.name] = int(rows[0][0] or 0)  # type: ignore[call-overload]
                self._metrics.dataset_sequence.labels(dataset.name).set(self.versions[dataset.name])
        self._thread.start()

    def submit(self, dataset: Dataset, batch: pa.RecordBatch, timeout: float = 30.0) -> Future[Receipt]:
        """Queues a conformed batch, whole or not at all; the future gives its receipt after the commit.

        Blocks while the queue is full, so call it from a worker thread: a publisher that outruns the disk is slowed.
        QueueFull after ``timeout`` seconds; ServerShuttingDown once ``stop`` was called.
        """
        if self._stopping:
            raise ServerShuttingDown("The server is stopping; the batch was not stored.", hint="Send it again later.")
        done: Future[Receipt] = Future()
        done.set_running_or_notify_cancel()  # a publisher that leaves can't cancel it: the writer will settle it
        try:
            self._queue.put(_Waiting(dataset, batch, done), timeout=timeout)
        except queue.Full as error:
            self._metrics.limit("ingest.queue_batches")
            raise QueueFull("The writer is too far behind; the batch was not stored.", hint="Send it later.") from error
        self._metrics.ingest_waiting.set(self._queue.qsize())
        return done

    def is_alive(self) -> bool:
        """Whether batches are being taken and committed."""
        return self._thread.is_alive() and not self._stopping

    def stop(self) -> None:
        """Commits what waits and ends the thread."""
        self._stopping = True
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while True:
            group = self._next_group()
            if group:
                self._commit(group)
            if group is None or (self._stopping and self._queue.empty()):
                return

    def _next_group(self) -> list[_Waiting] | None:
        """Waits for one batch, then takes all that wait, up to the limit of a group; None: time to end."""
        first = self._queue.get()
        if first is None:
            return None
        group, rows = [first], first.batch.num_rows
        while rows < self._group_rows:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                self._stopping = True
                break
            group.append(item)
            rows += item.batch.num_rows
        self._metrics.ingest_waiting.set(self._queue.qsize())
        return group

    def _commit(self, group: list[_Waiting]) -> None:
        """One transaction for the group; if it fails, each batch is tried alone, so that one can't harm another."""
        started = time.perf_counter()
        try:
            receipts = self._write(group)
        except Exception as error:
            if len(group) > 1:
                for item in group:
                    self._commit([item])
                return
            log.exception("a batch for %s was not stored", group[0].dataset.name)
            group[0].done.set_exception(error if isinstance(error, ServerError) else InternalError())
            return
        self._metrics.commit_seconds.observe(time.perf_counter() - started)
        for item, receipt in zip(group, receipts, strict=True):
            name = item.dataset.name
            self.versions[name] = max(self.versions[name], receipt.last_seq)
            self._metrics.ingested_rows.labels(name).inc(receipt.rows)
            self._metrics.late_rows.labels(name).inc(receipt.late)
            self._metrics.dataset_sequence.labels(name).set(self.versions[name])
        for item, receipt in zip(group, receipts, strict=True):
            item.done.set_result(receipt)

    def _write(self, group: list[_Waiting]) -> list[Receipt]:
        next_seq = {name: version + 1 for name, version in self.versions.items()}
        receipts: dict[int, Receipt] = {}
        received_at = time.time_ns() // 1000
        with self._engine.transaction() as transaction:
            for dataset in {item.dataset.name: item.dataset for item in group}.values():
                items = [item for item in group if item.dataset.name == dataset.name]
                rows, late = self._write_dataset(transaction, dataset, items, next_seq[dataset.name], received_at)
                at = next_seq[dataset.name]
                for item, late_rows in zip(items, late, strict=True):
                    last = at + item.batch.num_rows - 1
                    receipts[id(item)] = Receipt(at, last, item.batch.num_rows, late_rows)
                    at = last + 1
                assert at == next_seq[dataset.name] + rows
        return [receipts[id(item)] for item in group]

    def _write_dataset(
        self, transaction: Transaction, dataset: Dataset, items: list[_Waiting], first_seq: int, received_at: int
    ) -> tuple[int, list[int]]:
        """Appends the items to history and brings latest forward; gives the rows and the late rows of each item."""
        rows = _stamped([item.batch for item in items], first_seq, received_at)
        if rows.num_rows == 0:
            return 0, [0] * len(items)
        late = _late_rows(transaction, dataset, rows, items, first_seq)
        names = ", ".join(quoted(name) for name in rows.schema.names)
        history = f"INSERT INTO {table_sql(dataset.history_name)} ({names}) SELECT {names} FROM incoming"
        transaction.execute_with(rows, history)
        transaction.execute_with(rows, _upsert_sql(dataset))
        return rows.num_rows, late


def _stamped(batches: Iterable[pa.RecordBatch], first_seq: int, received_at: int) -> pa.Table:
    """The batches one after the other, with the columns that only history has."""
    table = pa.Table.from_batches(list(batches))
    count = table.num_rows
    stamps = (
        pa.array(range(first_seq, first_seq + count), HISTORY_COLUMNS[0].type),
        pa.repeat(pa.scalar(received_at, HISTORY_COLUMNS[1].type), count),
        pa.repeat(pa.scalar("upsert", HISTORY_COLUMNS[2].type), count),
    )
    for column, values in zip(HISTORY_COLUMNS, stamps, strict=True):
        table = table.append_column(pa.field(column.name, column.type, False), values)
    return table


def _late_rows(
    transaction: Transaction, dataset: Dataset, rows: pa.Table, items: list[_Waiting], first_seq: int
) -> list[int]:
    """How many rows of each item are older than the row that stood under their key before, or came before them."""
    keys = ", ".join(f"r.{quoted(key)}" for key in dataset.key)
    join = " AND ".join(f"old.{quoted(key)} = r.{quoted(key)}" for key in dataset.key)
    order = quoted(dataset.order_column)
    found = transaction.execute_with(
        rows,
        f"""SELECT s FROM (
              SELECT r._seq AS s, r.{order} AS o, old.{order} AS before,
                     max(r.{order}) OVER (PARTITION BY {keys} ORDER BY r._seq
                                          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS beside
              FROM incoming r LEFT JOIN {table_sql(dataset.name)} old ON {join})
            WHERE o < before OR o < beside""",
    )
    late = [int(str(row[0])) for row in found]
    counts, at = [], first_seq
    for item in items:
        end = at + item.batch.num_rows
        counts.append(sum(at <= seq < end for seq in late))
        at = end
    return counts


def _upsert_sql(dataset: Dataset) -> str:
    names = [quoted(name) for name in dataset.schema.names]
    keys = [quoted(key) for key in dataset.key]
    order = quoted(dataset.order_column)
    updates = ", ".join(f"{name} = excluded.{name}" for name in names if name not in keys)
    return f"""INSERT INTO {table_sql(dataset.name)} AS latest ({", ".join(names)})
        SELECT {", ".join(names)} FROM incoming
        QUALIFY row_number() OVER (PARTITION BY {", ".join(keys)} ORDER BY {order} DESC, _seq DESC) = 1
        ON CONFLICT ({", ".join(keys)}) DO UPDATE SET {updates} WHERE excluded.{order} >= latest.{order}"""


def _create(transaction: Transaction, dataset: Dataset) -> None:
    def columns(of: Iterable[tuple[str, pa.DataType, bool]]) -> str:
        return ", ".join(f"{quoted(n)} {engine_type(t)}{'' if nullable else ' NOT NULL'}" for n, t, nullable in of)

    latest = [(c.name, c.type, c.nullable) for c in dataset.columns]
    history = [*latest, *((c.name, c.type, c.nullable) for c in HISTORY_COLUMNS)]
    key = ", ".join(quoted(key) for key in dataset.key)
    transaction.execute(
        f"CREATE TABLE IF NOT EXISTS {table_sql(dataset.name)} ({columns(latest)}, PRIMARY KEY ({key}))"
    )
    transaction.execute(f"CREATE TABLE IF NOT EXISTS {table_sql(dataset.history_name)} ({columns(history)})")
