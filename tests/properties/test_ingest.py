"""What is published is what is read: value by value, latest by key, and every update in history."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flightsql_server.client import Publisher
from flightsql_server.data.datasets import CHANGE, DATASETS, DELETE, MARKET_DATA, UPSERT, Dataset
from flightsql_server.data.ingest import Update
from flightsql_server.data.tables import quoted, table_sql
from flightsql_server.model import SessionOptions
from tests.conftest import examples
from tests.desk import Desk, open_desk
from tests.running import RunningServer, running_server

_START = datetime(2026, 1, 5, tzinfo=UTC)
_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


def _values(type_: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_decimal(type_):
        top = 10**type_.precision - 1
        return st.integers(-top, top).map(lambda number: Decimal(number).scaleb(-type_.scale))
    if pa.types.is_timestamp(type_):
        return st.datetimes(timezones=st.just(UTC))
    if pa.types.is_integer(type_):
        return st.integers(-(2**63), 2**63 - 1)
    if pa.types.is_floating(type_):
        return st.floats()
    return st.text(max_size=12)


def _rows(dataset: Dataset, **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    drawn = {
        column.name: _values(column.type) | st.none() if column.nullable else _values(column.type)
        for column in dataset.columns
    }
    return st.fixed_dictionaries({**drawn, **fixed})


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        alike = one == other and math.copysign(1, one) == math.copysign(1, other)
        return alike or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def _assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert _same(one[name], other[name]), (name, one[name], other[name])


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("desk")) as made:
        yield made


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("wired")) as server:
        yield server


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.scaled
@settings(max_examples=examples(500), suppress_health_check=_CHECKS)
@given(data=st.data())
def test_every_value_is_kept_exactly(desk: Desk, name: str, data: st.DataObject) -> None:
    dataset = DATASETS[name]
    rows = data.draw(st.lists(_rows(dataset), max_size=8))
    receipt = desk.put(dataset, rows)
    assert receipt.rows == len(rows)
    columns = ", ".join(map(quoted, dataset.schema.names))
    found = desk.read(
        f"SELECT {columns} FROM {table_sql(dataset.history_name)} "
        f"WHERE _seq BETWEEN {receipt.first_seq} AND {receipt.last_seq} ORDER BY _seq"
    )
    _assert_same(found, rows)


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.scaled
@settings(max_examples=examples(100), suppress_health_check=_CHECKS)
@given(data=st.data())
def test_every_value_passes_the_wire_exactly(wired: RunningServer, name: str, data: st.DataObject) -> None:
    dataset = DATASETS[name]
    rows = data.draw(st.lists(_rows(dataset), min_size=1, max_size=8))
    with Publisher(wired.url, name, user="admin", password="admin") as publisher:
        receipt = publisher.publish(pa.RecordBatch.from_pylist(rows, schema=dataset.schema))
    columns = ", ".join(map(quoted, dataset.schema.names))
    with wired.connect("admin") as connection, connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {columns} FROM {dataset.history_name} "
            f"WHERE _seq BETWEEN {receipt.first_seq} AND {receipt.last_seq} ORDER BY _seq"
        )
        table = cursor.fetch_arrow_table()
    assert table.schema.types == dataset.schema.types
    _assert_same(table.to_pylist(), rows)


# ---- latest and history against a model that a reader can check by eye -----------------------------------------------


class Model:
    """What the promise says: an update replaces what its key stands for, or ends it, unless it is older.

    Every update is in history. A key that was ended keeps its place in the order.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._places: dict[tuple[Any, ...], Any] = {}
        self.latest: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.history: list[dict[str, Any]] = []

    def put(self, rows: list[dict[str, Any]]) -> int:
        """Takes the rows, gives how many of them came late."""
        late, order = 0, self._dataset.order_column
        for row in rows:
            values = {name: row.get(name) for name in self._dataset.schema.names}
            self.history.append({**values, CHANGE: row[CHANGE]})
            key = tuple(row[name] for name in self._dataset.key)
            if key in self._places and row[order] < self._places[key]:
                late += 1
                continue
            self._places[key] = row[order]
            if row[CHANGE] == DELETE:
                self.latest.pop(key, None)
            else:
                self.latest[key] = values
        return late


def few_keys(dataset: Dataset) -> st.SearchStrategy[list[list[dict[str, Any]]]]:
    """Batches of upserts and deletes over few keys and few times, so that rows meet.

    A delete tells its key and its time; what else it tells may be anything or nothing.
    """
    keys = {name: st.sampled_from(["A", "B", "Ä"]) for name in dataset.key}
    times = st.integers(0, 5).map(lambda seconds: _START + timedelta(seconds=seconds))
    where = {**keys, dataset.order_column: times}
    upsert = _rows(dataset, **where, **{CHANGE: st.just(UPSERT)})
    blank = {name: st.none() for name in dataset.schema.names if name not in where}
    delete = _rows(dataset, **where, **{CHANGE: st.just(DELETE)}) | st.fixed_dictionaries(
        {**where, **blank, CHANGE: st.just(DELETE)}
    )
    bare = st.fixed_dictionaries({**where, CHANGE: st.just(DELETE)})
    batch = st.lists(upsert | delete, max_size=10) | st.lists(upsert, max_size=10) | st.lists(bare, max_size=4)
    return st.lists(batch, max_size=6)


def batch_of(dataset: Dataset, rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """The rows with only the columns they need: ``_change`` where there are deletes, and of bare deletes no others."""
    if all(row[CHANGE] == UPSERT for row in rows):
        return pa.RecordBatch.from_pylist(rows, schema=dataset.schema)
    schema = pa.schema([dataset.change_schema.field(name) for name in dataset.change_schema.names if name in rows[0]])
    return pa.RecordBatch.from_pylist(rows, schema=schema)


def apart(sent: list[list[dict[str, Any]]], dataset: Dataset, number: int) -> list[list[dict[str, Any]]]:
    """The same batches under keys that no other example has."""
    first = dataset.key[0]
    return [[{**row, first: f"{number} {row[first]}"} for row in rows] for rows in sent]


_NUMBERS = count(1)


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.scaled
@pytest.mark.timeout(900)
@settings(max_examples=examples(1_000), suppress_health_check=_CHECKS)
@given(data=st.data(), together=st.booleans())
def test_latest_and_history_are_those_of_the_model(desk: Desk, name: str, data: st.DataObject, together: bool) -> None:
    """One after the other or all in one commit: the same rows, numbers and counts."""
    dataset, model, number = DATASETS[name], Model(DATASETS[name]), next(_NUMBERS)
    sent = apart(data.draw(few_keys(dataset)), dataset, number)
    start = at = desk.writer.versions[name] + 1
    if together:
        batches = [batch_of(dataset, rows) for rows in sent]
        receipts = [waiting.result(30) for waiting in [desk.send(dataset, batch) for batch in batches]]
    else:
        receipts = [desk.send(dataset, batch_of(dataset, rows)).result(30) for rows in sent]
    for rows, receipt in zip(sent, receipts, strict=True):
        assert (receipt.first_seq, receipt.rows) == (at, len(rows))
        assert receipt.late == model.put(rows)
        at += len(rows)
        assert receipt.last_seq == at - 1
    assert desk.writer.versions[name] == at - 1
    _compare(desk, dataset, model, f"{number} ", start)


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.scaled
@settings(max_examples=examples(60), suppress_health_check=_CHECKS, phases=[Phase.explicit, Phase.generate])
@given(data=st.data())
def test_a_restart_changes_nothing(name: str, data: st.DataObject) -> None:
    """Numbers go on where they stood, what was older stays older, and what was deleted stays deleted."""
    dataset, model = DATASETS[name], Model(DATASETS[name])
    with TemporaryDirectory() as folder:
        for _ in range(2):
            with open_desk(Path(folder)) as desk:
                _compare(desk, dataset, model)
                for rows in data.draw(few_keys(dataset)):
                    assert desk.send(dataset, batch_of(dataset, rows)).result(30).late == model.put(rows)
                _compare(desk, dataset, model)


def _compare(desk: Desk, dataset: Dataset, model: Model, prefix: str = "", start: int = 1) -> None:
    """Latest, of the keys that begin with ``prefix``, and history from ``start`` on, against the model."""
    columns = ", ".join(map(quoted, dataset.schema.names))
    latest = desk.read(
        f"SELECT {columns} FROM {table_sql(dataset.name)} WHERE starts_with({quoted(dataset.key[0])}, '{prefix}')"
    )
    by_key = {tuple(row[name] for name in dataset.key): row for row in latest}
    assert len(by_key) == len(latest), "one row for each key"
    assert by_key.keys() == model.latest.keys()
    _assert_same(list(by_key.values()), [model.latest[key] for key in by_key])
    stamps = f"SELECT {columns}, _seq, _received_at, _change FROM {table_sql(dataset.history_name)}"
    history = desk.read(f"{stamps} WHERE _seq >= {start} ORDER BY _seq")
    assert [row.pop("_seq") for row in history] == list(range(start, start + len(model.history))), "no gaps"
    times = [row.pop("_received_at") for row in history]
    assert times == sorted(times)
    _assert_same(history, model.history)


def test_a_deleted_key_keeps_its_place(tmp_path: Path) -> None:
    """Only what is not older than the delete brings a key back, also in a server that has started since."""
    schema = pa.schema(
        [MARKET_DATA.schema.field("symbol"), MARKET_DATA.schema.field("timestamp"), (CHANGE, pa.string())]
    )

    def row(seconds: int) -> dict[str, Any]:
        return {"symbol": "GONE", "volume": seconds, "timestamp": _START + timedelta(seconds=seconds)}

    def standing(desk: Desk) -> list[int]:
        return [row["volume"] for row in desk.read(f"SELECT volume FROM {table_sql('market_data')}")]

    with open_desk(tmp_path) as desk:
        assert desk.put(MARKET_DATA, [row(5)]).late == 0
        assert desk.put(MARKET_DATA, [{**row(4), CHANGE: DELETE}], schema).late == 1
        assert standing(desk) == [5], "an older delete ends nothing"
        assert desk.put(MARKET_DATA, [{**row(6), CHANGE: DELETE}], schema).late == 0
        assert desk.put(MARKET_DATA, [row(5)]).late == 1
        assert standing(desk) == []
    with open_desk(tmp_path) as desk:
        assert desk.put(MARKET_DATA, [row(5)]).late == 1
        assert standing(desk) == []
        assert desk.put(MARKET_DATA, [row(6)]).late == 0
        assert standing(desk) == [6], "of equal times the later update holds"
        assert desk.put(MARKET_DATA, [{**row(6), CHANGE: DELETE}], schema).late == 0
        assert standing(desk) == []


def test_times_at_the_edge_are_kept(desk: Desk) -> None:
    """Arrow holds times that engines take for infinity or can't show; none of them comes back as another."""
    edges = [2**63 - 1, -(2**63), -(2**63) + 1, 2**63 - 2, 9_223_372_022_400_000_000, -9_223_372_022_400_000_000]
    for edge in edges:
        row = {"symbol": "EDGE", "bid_price": 1.0, "ask_price": None, "last_price": None, "volume": 1}
        batch = pa.RecordBatch.from_pylist([{**row, "timestamp": None}], schema=MARKET_DATA.schema)
        batch = batch.set_column(5, MARKET_DATA.schema.field(5), pa.array([edge], MARKET_DATA.schema.field(5).type))
        receipt = desk.send(MARKET_DATA, batch).result(30)
        sql = f"SELECT timestamp FROM {table_sql('market_data_history')} WHERE _seq = {receipt.first_seq}"
        stream = desk.engine.open(sql, SessionOptions(), 2_048)
        found = stream.read()
        stream.close()
        assert found is not None
        assert found.column(0).cast(pa.int64()).to_pylist() == [edge]


def test_a_batch_that_can_not_be_stored_harms_no_other(desk: Desk) -> None:
    """A defect in one batch of a group (here: a schema that no client can bring here) fails that batch alone."""
    good = pa.RecordBatch.from_pylist(
        [
            {
                "symbol": "GROUP",
                "bid_price": 1.0,
                "ask_price": None,
                "last_price": None,
                "volume": 1,
                "timestamp": _START,
            }
        ],
        schema=MARKET_DATA.schema,
    )
    bad = pa.RecordBatch.from_pydict({"nonsense": [1, 2]})
    before = desk.writer.versions["market_data"]
    futures = [desk.writer.submit(Update(MARKET_DATA, batch)).done for batch in (good, bad, good)]
    assert futures[1].exception(30) is not None
    assert futures[0].result(30).rows == futures[2].result(30).rows == 1
    assert desk.writer.versions["market_data"] == before + 2
