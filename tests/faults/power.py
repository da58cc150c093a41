"""The library that knows what a power loss would leave, and what tests need around it: see ``power_loss.c``."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from flightsql_server.client import Publisher
from flightsql_server.data.datasets import MARKET_DATA
from tests.components import require
from tests.faults.watching import Client
from tests.running import RunningServer

FILE, LOG = "desk.duckdb", "desk.duckdb.wal"
SOURCE = Path(__file__).with_name("power_loss.c")


def compiled(folder: Path) -> Path:
    """The library, compiled into the folder."""
    made = folder / "power_loss.so"
    command = [require("gcc"), "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o", str(made), str(SOURCE)]
    subprocess.run([*command, "-ldl", "-pthread"], check=True, timeout=60)
    return made


def lose_power(data_dir: Path, *, removal_lost: bool = False) -> None:
    """Leaves of the files of a killed server what was synced; ``removal_lost``: a log that was removed is back.

    The notes stay: what is left is what the next power loss would leave too, as long as nothing more is synced.
    """
    log, removed, noted = data_dir / LOG, data_dir / f"{LOG}.unlinked", data_dir / f"{LOG}.synced"
    synced = data_dir / f"{FILE}.synced"
    assert synced.exists(), "the library saw no sync of the file"
    shutil.copyfile(synced, data_dir / FILE)
    if removal_lost and not log.exists() and removed.exists():
        removed.rename(log)
    removed.unlink(missing_ok=True)
    if log.exists():
        inode, length = map(int, noted.read_text(encoding="ascii").split()) if noted.exists() else (0, 0)
        os.truncate(log, min(length, log.stat().st_size) if log.stat().st_ino == inode else 0)


def batch(first: int, rows: int) -> pa.RecordBatch:
    """Rows of ``market_data``, each of its own symbol and ``volume``."""
    numbers = range(first, first + rows)
    columns = {
        "symbol": [f"S{number:07}" for number in numbers],
        "bid_price": [None] * rows,
        "ask_price": [float(number) for number in numbers],
        "last_price": [None] * rows,
        "volume": list(numbers),
        "timestamp": [datetime(2026, 1, 5, tzinfo=UTC)] * rows,
    }
    return pa.RecordBatch.from_pydict(columns, schema=MARKET_DATA.schema)


def put(server: RunningServer, first: int, rows: int) -> int:
    """Publishes the rows, waits for the acknowledgement and gives their first ``_seq``; PublishError when refused."""
    with Publisher(server.url, "market_data", user="feed", password="feed") as publisher:
        receipt = publisher.publish(batch(first, rows))
    assert receipt.first_seq is not None
    return receipt.first_seq


def numbers(server: RunningServer, table: str = "market_data_history") -> list[int]:
    """The ``volume`` of every row, in order."""
    with Client(server.url) as client:
        found: list[int] = client.query(f"SELECT volume FROM {table} ORDER BY volume").read_all()["volume"].to_pylist()
    return found
