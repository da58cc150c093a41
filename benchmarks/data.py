"""The benchmark's data: a seeded market, written straight into the data directory of a server that does not run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from flightsql_auth.credentials import PasswordHasher
from flightsql_auth.store import StateStore

from flightsql_server.data import tables
from flightsql_server.data.datasets import MARKET_DATA, day_table

SYMBOLS = 1_000
_START_US = 1_767_364_200_000_000
_DAY = "20260102"
_DAY_US = 23_400 * 1_000_000


def quotes(rows: int, seed: int = 42) -> pa.Table:
    """Quotes in time order over one session, symbols interleaved, prices on a 0.01 grid."""
    numbers = pa.array(range(rows), pa.int64())
    symbol = pc.cast(pc.multiply(pc.random(rows, initializer=seed), SYMBOLS), pa.int64(), safe=False)
    names = pa.array([f"S{number:05d}" for number in range(SYMBOLS)])
    price = pc.round(pc.add(pc.multiply(pc.random(rows, initializer=seed + 1), 490.0), 10.0), 2)
    timestamp = pc.add(pc.divide(pc.multiply(numbers, _DAY_US // rows), 1), _START_US)
    return pa.table(
        {
            "symbol": names.take(symbol),
            "bid_price": pc.subtract(price, 0.02),
            "ask_price": pc.add(price, 0.02),
            "last_price": price,
            "volume": pc.multiply(numbers, 7),
            "timestamp": timestamp.cast(pa.timestamp("us", tz="UTC")),
        }
    )


def updates(rows: int, batches: int, keys: int, publisher: int = 0, publishers: int = 1) -> Iterator[pa.RecordBatch]:
    """Batches of quotes in the order of time; each publisher has its own share of the keys."""
    mine = pa.array([f"S{number:05d}" for number in range(publisher, keys, publishers)])
    random = np.random.default_rng(publisher)
    for number in range(batches):
        price = random.random(rows)
        times = _START_US + (number * rows + np.arange(rows)) * 10
        columns = [
            mine.take(pa.array(random.integers(0, len(mine), rows))),
            pa.array(price),
            pa.array(price + 0.01),
            pa.array(price + 0.02),
            pa.array(random.integers(0, 1_000_000, rows)),
            pa.array(times, pa.timestamp("us", tz="UTC")),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=MARKET_DATA.schema)


class _Statements:
    """What the writer's tables are made with, on a bare connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        return self._connection.execute(sql, list(parameters)).fetchall()


def fill(data_dir: Path, rows: int) -> None:
    """Writes ``rows`` quotes to history, as of one day, and 1 000 to latest; the server has made its tables."""
    connection = duckdb.connect(str(data_dir / "desk.duckdb"))
    connection.execute("SET TimeZone = 'UTC'")
    tables.create_day(_Statements(connection), MARKET_DATA, _DAY, ())  # type: ignore[arg-type]
    table = quotes(rows)
    connection.register("incoming", table)
    names = ", ".join(f'"{name}"' for name in table.schema.names)
    connection.execute(
        f"INSERT INTO {tables.store_sql(day_table(MARKET_DATA, _DAY))} ({names}, _seq, _received_at, _change) "
        f"SELECT {names}, row_number() OVER (), timestamp, 'upsert' FROM incoming"
    )
    connection.execute(
        f"INSERT INTO market_data SELECT {names} FROM incoming "
        "QUALIFY row_number() OVER (PARTITION BY symbol ORDER BY timestamp DESC) = 1"
    )
    connection.execute("CHECKPOINT")
    connection.close()


def add_user(data_dir: Path) -> None:
    """The users ``reader`` and ``feed``, which may write; their names are their passwords."""
    store = StateStore(data_dir / "state.sqlite")
    for name, role in (("reader", "reader"), ("feed", "admin")):
        if store.get_user(name) is None:
            store.add_user(name, PasswordHasher().hash(name), (role,))
    store.close()


def copy(data_dir: Path, target: Path) -> Path:
    """A copy of the database file, for the bare server and for DuckDB in process."""
    shutil.copyfile(data_dir / "desk.duckdb", target)
    return target
