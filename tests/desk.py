"""An engine and its writer without a wire between, for tests of what the writer keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from flightsql_server.data.conform import conform
from flightsql_server.data.datasets import DATASETS, Dataset
from flightsql_server.data.ingest import Receipt, Update, Writer
from flightsql_server.engine import DuckDBOptions, open_engine
from flightsql_server.metrics import Metrics
from flightsql_server.model import Engine, SessionOptions


@dataclass
class Desk:
    """A writer that runs, and the engine that it writes to."""

    engine: Engine
    writer: Writer
    metrics: Metrics = field(default_factory=Metrics)

    def read(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a statement in the engine's own dialect."""
        rows: list[dict[str, Any]] = self.table(sql).to_pylist()
        return rows

    def table(self, sql: str) -> pa.Table:
        """The same, with the types that the engine gives them."""
        stream = self.engine.open(sql, SessionOptions(), 2_048)
        try:
            batches: list[pa.RecordBatch] = []
            while (batch := stream.read()) is not None:
                batches.append(batch)
        finally:
            stream.close()
        return pa.Table.from_batches(batches, batches[0].schema if batches else pa.schema([]))

    def put(self, dataset: Dataset, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> Receipt:
        """Stores the rows as one batch; the schema is the dataset's unless another is given."""
        return self.send(dataset, pa.RecordBatch.from_pylist(rows, schema=schema or dataset.schema)).result(30)

    def send(self, dataset: Dataset, batch: pa.RecordBatch) -> Future[Receipt]:
        """Queues the batch; its receipt comes after the commit."""
        return self.writer.submit(Update(dataset, conform(batch, dataset))).done


@contextmanager
def open_desk(folder: Path, datasets: Mapping[str, Dataset] = DATASETS, **options: Any) -> Iterator[Desk]:
    """A desk on the folder, closed at the end of the block; ``options`` are the writer's."""
    metrics = Metrics()
    engine = open_engine(folder, DuckDBOptions(threads=1))
    writer = Writer(engine, datasets, metrics, **options)
    try:
        writer.start()
        yield Desk(engine, writer, metrics)
    finally:
        writer.stop()
        engine.close()
