"""The stored tables over restarts and days: what may change in a declaration, what may not, and what midnight does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pytest

from flightsql_server import config as settings
from flightsql_server.client import Publisher
from flightsql_server.data import ingest
from flightsql_server.data.datasets import CHANGE, DELETE, MARKET_DATA, TIMESTAMP, Dataset
from flightsql_server.data.tables import SchemaChanged
from flightsql_server.data_dir import DataDir
from flightsql_server.errors import InvalidParameter
from flightsql_server.model import Column, SessionOptions
from flightsql_server.server import Server
from tests.desk import Desk, open_desk
from tests.running import add_users

START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
FX = Dataset(
    "fx",
    (
        Column("pair", pa.string(), False),
        Column("rate", pa.decimal128(18, 6), False),
        Column("source", pa.string()),
        Column("at", TIMESTAMP, False),
    ),
    ("pair",),
    "at",
)
NOTE = Column("note", pa.string(), optional=True)
LOTS = Column("lots", pa.decimal128(9, 2))


class Clock:
    """The writer's clock, in the hands of a test."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def time_ns(self) -> int:
        return int(self.now.timestamp() * 1_000_000) * 1_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Begins on the 5th of January 2026 in the afternoon, UTC."""
    made = Clock(START)
    monkeypatch.setattr(ingest, "time", SimpleNamespace(time_ns=made.time_ns, perf_counter=time.perf_counter))
    return made


def opened(folder: Path, *datasets: Dataset) -> Any:
    """A desk with these datasets."""
    return open_desk(folder, {dataset.name: dataset for dataset in datasets})


def row(pair: str, rate: str | None, seconds: int = 0, **more: Any) -> dict[str, Any]:
    value = None if rate is None else Decimal(rate)
    return {"pair": pair, "rate": value, "source": None, "at": START + timedelta(seconds=seconds), **more}


def fill(folder: Path, clock: Clock) -> list[dict[str, Any]]:
    """Three updates and a delete over three days; gives the history as it stands."""
    with opened(folder, FX) as desk:
        desk.put(FX, [row("EURUSD", "1.1"), row("EURCHF", "0.9")])
        clock.now += timedelta(days=1)
        desk.put(FX, [row("EURUSD", "1.2", 1)])
        clock.now += timedelta(days=1)
        desk.put(FX, [{**row("EURCHF", None, 1), CHANGE: DELETE}], FX.change_schema)
        return history(desk)


def history(desk: Desk, columns: str = "*") -> list[dict[str, Any]]:
    return desk.read(f"SELECT {columns} FROM main.fx_history ORDER BY _seq")


def store(desk: Desk) -> set[str]:
    """The tables that statements can't name."""
    found = desk.read("SELECT table_name FROM information_schema.tables WHERE table_schema = 'store'")
    return {table["table_name"] for table in found}


# ---- what may change -----------------------------------------------------------------------------------------------


def test_new_nullable_columns_are_null_in_what_was_there(tmp_path: Path, clock: Clock) -> None:
    """In the latest rows and in the history of every day; what was deleted stays so, and numbers go on."""
    before = fill(tmp_path, clock)
    wider = replace(FX, columns=(*FX.columns, NOTE, LOTS))
    with opened(tmp_path, wider) as desk:
        assert history(desk, "* EXCLUDE (note, lots)") == before
        assert history(desk, "DISTINCT note, lots") == [{"note": None, "lots": None}]
        assert desk.read("SELECT * FROM main.fx") == [row("EURUSD", "1.200000", 1, note=None, lots=None)]
        late = desk.put(wider, [row("EURCHF", "0.8", 0, note="late", lots=Decimal("1.5"))])
        assert (late.first_seq, late.late) == (5, 1)
        desk.put(wider, [row("EURUSD", "1.3", 2, note="new", lots=Decimal("1.5"))])
    with opened(tmp_path, wider) as desk:
        assert desk.read("SELECT note, lots FROM main.fx") == [{"note": "new", "lots": Decimal("1.50")}]
        assert [update["note"] for update in history(desk)] == [None] * 4 + ["late", "new"]


def test_an_optional_column_may_be_left_out_by_publishers(tmp_path: Path, clock: Clock) -> None:
    """So a column can be added while publishers still send what they always sent; one that isn't optional can't."""
    fill(tmp_path, clock)
    old = pa.RecordBatch.from_pylist([row("EURUSD", "1.3", 3)], schema=FX.schema)
    wider = replace(FX, columns=(*FX.columns, NOTE))
    with opened(tmp_path, wider) as desk:
        assert desk.send(wider, old).result(30).late == 0
        assert desk.read("SELECT * FROM main.fx") == [row("EURUSD", "1.300000", 3, note=None)]
    widest = replace(FX, columns=(*FX.columns, NOTE, LOTS))
    with opened(tmp_path, widest) as desk, pytest.raises(InvalidParameter, match="lacks the column lots"):
        desk.send(widest, old)


def test_a_column_may_begin_to_be_null(tmp_path: Path, clock: Clock) -> None:
    before = fill(tmp_path, clock)
    looser = replace(FX, columns=(FX.columns[0], replace(FX.columns[1], nullable=True), *FX.columns[2:]))
    with opened(tmp_path, looser) as desk:
        assert history(desk) == before
        desk.put(looser, [row("EURUSD", None, 5)])
        assert desk.read("SELECT * FROM main.fx") == [row("EURUSD", None, 5)]
    with opened(tmp_path, looser) as desk:
        assert desk.read("SELECT * FROM main.fx") == [row("EURUSD", None, 5)]


def test_words_may_change_and_datasets_may_come_and_go(tmp_path: Path, clock: Clock) -> None:
    """A comment or ``optional`` is nothing stored; a dataset that is not declared any more is kept for later."""
    before = fill(tmp_path, clock)
    other = replace(FX, name="other")
    with opened(tmp_path, other) as desk:
        desk.put(other, [row("EURUSD", "1")])
    spoken = replace(FX, comment="Rates.", columns=tuple(replace(column, comment="Said.") for column in FX.columns))
    loose = replace(spoken, columns=(*spoken.columns[:2], replace(spoken.columns[2], optional=True), spoken.columns[3]))
    with opened(tmp_path, loose, other) as desk:
        assert history(desk) == before
        assert desk.writer.versions == {"fx": 4, "other": 1}


# ---- what may not change -------------------------------------------------------------------------------------------


def columns(**changes: Column | None) -> tuple[Column, ...]:
    """The columns of FX with some replaced, or taken away by None."""
    found = [changes.get(column.name, column) for column in FX.columns]
    return tuple(column for column in found if column is not None)


REFUSED: dict[str, tuple[Dataset, str]] = {
    "a column is gone": (replace(FX, columns=columns(source=None)), "the column source is gone"),
    "a column is called otherwise": (
        replace(FX, columns=columns(source=Column("origin", pa.string()))),
        "the column source is gone",
    ),
    "another type": (
        replace(FX, columns=columns(source=Column("source", pa.binary()))),
        "the column source was VARCHAR and is now BLOB",
    ),
    "a wider decimal": (
        replace(FX, columns=columns(rate=Column("rate", pa.decimal128(19, 6), False))),
        "the column rate was DECIMAL(18,6) and is now DECIMAL(19,6)",
    ),
    "another scale": (
        replace(FX, columns=columns(rate=Column("rate", pa.decimal128(18, 4), False))),
        "the column rate was DECIMAL(18,6) and is now DECIMAL(18,4)",
    ),
    "a new column that is never null": (
        replace(FX, columns=(*FX.columns, Column("note", pa.string(), False))),
        "the new column note can't be null",
    ),
    "a column that may not be null any more": (
        replace(FX, columns=columns(source=Column("source", pa.string(), False))),
        "the column source may be null in what is stored",
    ),
    "another key": (replace(FX, key=("source",)), "its key was ['pair']"),
    "a longer key": (replace(FX, key=("pair", "source")), "its key was ['pair']"),
    "another order column": (
        replace(FX, columns=(*FX.columns, Column("on", TIMESTAMP)), order_column="on"),
        "its order_column was 'at'",
    ),
    "another order of columns": (
        replace(FX, columns=(FX.columns[0], FX.columns[2], FX.columns[1], FX.columns[3])),
        "its columns come in another order, or new ones do not come last",
    ),
    "a new column in the middle": (
        replace(FX, columns=(FX.columns[0], NOTE, *FX.columns[1:])),
        "its columns come in another order, or new ones do not come last",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_change_that_could_lose_something_is_refused(tmp_path: Path, clock: Clock, name: str) -> None:
    """The refusal names the dataset and what is wrong, and nothing was changed, of other datasets neither."""
    changed, words = REFUSED[name]
    before = fill(tmp_path, clock)
    good = replace(FX, name="another", columns=(*FX.columns, NOTE))
    with opened(tmp_path, replace(FX, name="another")):
        pass
    with pytest.raises(SchemaChanged) as failure, opened(tmp_path, good, changed):
        pass
    said = str(failure.value)
    assert said.startswith(f"[08006] The dataset fx is stored otherwise than it is declared: {words}. ")
    assert "choose another name" in said
    with opened(tmp_path, replace(FX, name="another"), FX) as desk:
        assert history(desk) == before
        assert desk.read("SELECT * FROM main.fx") == [row("EURUSD", "1.200000", 1)]
        assert "note" not in desk.table("SELECT * FROM main.another_history LIMIT 1").schema.names
        assert desk.put(FX, [row("EURUSD", "1.3", 9)]).first_seq == 5


def test_a_good_and_a_bad_change_together_change_nothing(tmp_path: Path, clock: Clock) -> None:
    before = fill(tmp_path, clock)
    looser = columns(rate=Column("rate", pa.decimal128(18, 6), True))
    both = replace(FX, columns=(*looser, NOTE, Column("n", pa.int8(), False)))
    with pytest.raises(SchemaChanged, match="the new column n can't be null"), opened(tmp_path, both):
        pass
    with opened(tmp_path, FX) as desk:
        assert history(desk) == before


# ---- days ----------------------------------------------------------------------------------------------------------


def test_each_day_has_its_table_and_history_shows_them_all(tmp_path: Path, clock: Clock) -> None:
    with opened(tmp_path, FX) as desk:
        for day in range(3):
            for n in range(2):
                desk.put(FX, [row("EURUSD", "1", 10 * day + n), row("EURCHF", "2", 10 * day + n)])
                clock.now += timedelta(hours=12) if n else timedelta(seconds=1)
            clock.now = datetime(2026, 1, 6 + day, tzinfo=UTC)
        assert store(desk) >= {f"fx_history_2026010{day}" for day in (5, 6, 7)}
        assert "fx_history_20260108" not in store(desk), "a day without updates needs no table"
        assert [update["_seq"] for update in history(desk)] == list(range(1, 13))
        for day in (5, 6, 7):
            found = desk.read(f"SELECT _seq, _received_at FROM store.fx_history_2026010{day} ORDER BY _seq")
            assert [update["_seq"] for update in found] == list(range(4 * day - 19, 4 * day - 15))
            assert {update["_received_at"].date().day for update in found} == {day}
    with opened(tmp_path, FX) as desk:
        assert [update["_seq"] for update in history(desk)] == list(range(1, 13))
        assert desk.put(FX, [row("EURUSD", "3", 99)]).first_seq == 13
        assert "fx_history_20260108" in store(desk)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_that_is_set_back_does_not_reopen_a_closed_day(tmp_path: Path, clock: Clock, restarted: bool) -> None:
    """What comes then is stamped like the last update, of whichever dataset, and time in history never falls."""
    other = replace(FX, name="other")
    with opened(tmp_path, FX, other) as desk:
        desk.put(FX, [row("EURUSD", "1")])
        clock.now += timedelta(days=1)
        desk.put(other, [row("EURUSD", "2")])
        latest = clock.now
        clock.now -= timedelta(days=2)
        if not restarted:
            desk.put(FX, [row("EURUSD", "3", 1)])
    with opened(tmp_path, FX, other) as desk:
        desk.put(FX, [row("EURUSD", "4", 2)])
        days = {name for name in store(desk) if name.startswith("fx_history_")}
        assert days == {"fx_history_20260105", "fx_history_20260106"}
        stamps = [update["_received_at"] for update in history(desk)]
        assert stamps == [START, *[latest] * (len(stamps) - 1)]
        assert desk.read("SELECT count(*) AS n FROM store.fx_history_20260105") == [{"n": 1}]


def test_a_reader_over_midnight_sees_one_moment(tmp_path: Path, clock: Clock) -> None:
    """A statement that streams while the day changes gives what was there when it began, to the last row."""
    sql = "SELECT _seq FROM main.fx_history"
    with opened(tmp_path, FX) as desk:
        many = pa.RecordBatch.from_pylist([row(f"P{n}", "1") for n in range(50_000)], schema=FX.schema)
        desk.send(FX, many).result(30)
        stream = desk.engine.open(sql, SessionOptions(), 2_048)
        try:
            seen = [*stream.read().column(0).to_pylist()]
            clock.now += timedelta(days=1)
            desk.put(FX, [row("EURUSD", "1")])
            desk.put(FX, [row("P1", "2", 1)])
            while (batch := stream.read()) is not None:
                seen += batch.column(0).to_pylist()
        finally:
            stream.close()
        assert sorted(seen) == list(range(1, 50_001))
        assert desk.read(f"SELECT count(*) AS n FROM ({sql})") == [{"n": 50_002}]


def test_a_kept_statement_sees_the_new_day(tmp_path: Path, clock: Clock) -> None:
    """The engine keeps bound statements; those that were bound before midnight find the rows of after."""
    sql = "SELECT count(*) AS n, max(_seq) AS last FROM main.fx_history"
    with opened(tmp_path, FX) as desk:
        for day in range(4):
            assert desk.engine.describe(sql, SessionOptions()).names == ["n", "last"]  # bound and kept
            assert desk.read(sql) == [{"n": day, "last": day or None}]
            desk.put(FX, [row("EURUSD", "1", day)])
            assert desk.read(sql) == [{"n": day + 1, "last": day + 1}]
            clock.now += timedelta(days=1)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A whole server in a thread of this process, where its clock can be reached; gives its address."""
    add_users(folder)
    given = {"server.port": 0, "server.http_port": 0, "server.drain_seconds": 1.0}
    config = settings.load(environment={}, command_line=given)
    ready, stop = threading.Event(), threading.Event()
    ports: list[int] = []

    async def serve() -> None:
        server = Server(config, DataDir(folder))
        await server.start()
        ports.append(server.port)
        ready.set()
        await asyncio.get_running_loop().run_in_executor(None, stop.wait)
        await server.stop()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(30), "the server did not start"
        yield f"grpc://127.0.0.1:{ports[0]}"
    finally:
        stop.set()
        thread.join(30)


def test_a_prepared_statement_sees_the_new_day(tmp_path: Path, clock: Clock) -> None:
    """Also through the whole server with its caches of plans, shapes and results."""

    def publish(url: str, symbol: str) -> None:
        quote = {"symbol": symbol, "volume": 1, "timestamp": START}
        with Publisher(url, "market_data", user="admin", password="admin") as publisher:
            publisher.publish(pa.RecordBatch.from_pylist([quote], schema=MARKET_DATA.schema))

    options = {"username": "reader", "password": "reader"}
    sql = "SELECT symbol FROM market_data_history ORDER BY _seq"
    with (
        serving(tmp_path) as url,
        flight_sql.connect(url, db_kwargs=options, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.adbc_prepare(sql)

        def found() -> list[str]:
            cursor.execute(sql)
            return [str(symbol) for (symbol,) in cursor.fetchall()]

        expected: list[str] = []
        for day in range(3):
            assert found() == expected
            publish(url, f"DAY{day}")
            expected.append(f"DAY{day}")
            assert found() == expected
            clock.now += timedelta(days=1)
