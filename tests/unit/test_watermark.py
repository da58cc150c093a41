"""The note of what was acknowledged: it outlives kills, strange content, and datasets that come and go."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from flightsql_server.data.commit import Update
from flightsql_server.data.conform import conform
from flightsql_server.data.datasets import MARKET_DATA, Dataset
from flightsql_server.data.ingest import Writer
from flightsql_server.data.watermark import WATERMARK, Watermark
from flightsql_server.engine import DuckDBOptions, open_engine
from flightsql_server.errors import EngineUnavailable, RowsLost
from flightsql_server.metrics import Metrics

OTHER = replace(MARKET_DATA, name="other_data")


def _run(folder: Path, *datasets: Dataset, accept_loss: bool = False, rows: int = 0) -> dict[str, int]:
    """Opens a writer on these datasets, stores rows in each, and gives how far each has got."""
    engine = open_engine(folder, DuckDBOptions(threads=1))
    known = {dataset.name: dataset for dataset in datasets}
    writer = Writer(engine, known, Metrics(), watermark=Watermark(folder / WATERMARK))
    try:
        writer.open(accept_loss=accept_loss)
        for dataset in datasets:
            row = dict.fromkeys(dataset.schema.names) | {"symbol": "A", "timestamp": datetime.now(UTC)}
            batch = pa.RecordBatch.from_pylist([row] * rows, schema=dataset.schema)
            writer.submit(Update(dataset, conform(batch, dataset)))
            writer.commit_waiting()
        return dict(writer.versions)
    finally:
        writer.stop()
        engine.close()


def test_numbers_come_back(tmp_path: Path) -> None:
    note = Watermark(tmp_path / "note")
    assert note.read() == {}
    note.write({"market_data": 10**15, "orders": 1})
    note.write({"market_data": 7})
    assert note.read() == {"market_data": 7}
    note.close()


@pytest.mark.parametrize("content", [b"rubbish", b"[1]", b'{"a": "b"}', b"\xff\xfe"])
def test_what_can_not_be_read_is_not_taken_for_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "note").write_bytes(content)
    note = Watermark(tmp_path / "note")
    assert note.read() is None
    note.close()


def test_a_lost_database_is_noticed(tmp_path: Path) -> None:
    assert _run(tmp_path, MARKET_DATA, rows=3) == {"market_data": 3}
    (tmp_path / "desk.duckdb").unlink()
    with pytest.raises(RowsLost, match=r"up to _seq 0.*up to 3"):
        _run(tmp_path, MARKET_DATA)
    assert _run(tmp_path, MARKET_DATA, accept_loss=True, rows=1) == {"market_data": 4}
    assert _run(tmp_path, MARKET_DATA) == {"market_data": 4}


def test_a_dataset_that_is_not_declared_for_a_while_stays_noted(tmp_path: Path) -> None:
    _run(tmp_path, MARKET_DATA, OTHER, rows=3)
    _run(tmp_path, MARKET_DATA, rows=2)
    (tmp_path / "desk.duckdb").unlink()
    with pytest.raises(RowsLost, match="other_data"):
        _run(tmp_path, OTHER)


@pytest.mark.parametrize(
    "content", ['{"orders": 1000000000000000000000000000000}', '{"orders": -1}', '{"orders": 1e400}']
)
def test_numbers_that_no_row_can_have_are_not_believed(tmp_path: Path, content: str) -> None:
    path = tmp_path / "note"
    path.write_text(content, encoding="ascii")
    note = Watermark(path)
    assert note.read() is None
    note.close()


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="can't be opened"):
        Watermark(tmp_path)
