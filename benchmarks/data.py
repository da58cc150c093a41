"""The benchmark's data: a seeded market, written straight into the data directory of a server that does not run."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from flightsql_auth.credentials import PasswordHasher
from flightsql_auth.store import StateStore

SYMBOLS = 1_000
_START_US = 1_767_364_200_000_000
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


def fill(data_dir: Path, rows: int) -> None:
    """Writes ``rows`` quotes to history and 1 000 to latest; the tables exist already."""
    connection = duckdb.connect(str(data_dir / "desk.duckdb"))
    connection.execute("SET TimeZone = 'UTC'")
    table = quotes(rows)
    connection.register("incoming", table)
    names = ", ".join(f'"{name}"' for name in table.schema.names)
    connection.execute(
        f"INSERT INTO market_data_history ({names}, _seq, _received_at, _change) "
        f"SELECT {names}, row_number() OVER (), timestamp, 'upsert' FROM incoming"
    )
    connection.execute(
        f"INSERT INTO market_data SELECT {names} FROM incoming "
        "QUALIFY row_number() OVER (PARTITION BY symbol ORDER BY timestamp DESC) = 1"
    )
    connection.execute("CHECKPOINT")
    connection.close()


def add_user(data_dir: Path) -> None:
    """The user ``reader`` with the password ``reader``."""
    store = StateStore(data_dir / "state.sqlite")
    if store.get_user("reader") is None:
        store.add_user("reader", PasswordHasher().hash("reader"), ("reader",))
    store.close()


def copy(data_dir: Path, target: Path) -> Path:
    """A copy of the database file, for the bare server and for DuckDB in process."""
    shutil.copyfile(data_dir / "desk.duckdb", target)
    return target
