"""Records every update of market_data in Parquet files, each once, over restarts of either side.

A file is named after the first and the last ``_seq`` in it and appears whole or not at all, so the newest name says
where to go on.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
from common import close_after, login, parser

from flightsql_server.client import Subscription, subscribe

NAME = re.compile(r"ticks-(\d{19})-(\d{19})\.parquet")
ROWS_PER_FILE, SECONDS_PER_FILE = 100_000, 5.0


def recorded(folder: Path) -> int | None:
    """The last ``_seq`` that is in a file; None: there is none."""
    found = [int(match[2]) for path in folder.iterdir() if (match := NAME.fullmatch(path.name))]
    return max(found, default=None)


class Recorder:
    """Gathers updates and writes them when there are enough or they have waited long enough."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[pa.RecordBatch] = []
        self.since = time.monotonic()

    def take(self, batch: pa.RecordBatch) -> None:
        """Keeps a batch of updates."""
        if batch.num_rows:
            self.rows.append(batch)
        if sum(one.num_rows for one in self.rows) >= ROWS_PER_FILE or time.monotonic() - self.since > SECONDS_PER_FILE:
            self.write()

    def write(self) -> None:
        """Writes what has been gathered."""
        self.since = time.monotonic()
        if not self.rows:
            return
        table = pa.Table.from_batches(self.rows)
        self.rows = []
        first, last = table.column("_seq")[0].as_py(), table.column("_seq")[-1].as_py()
        path = self.folder / f"ticks-{first:019d}-{last:019d}.parquet"
        part = path.with_suffix(".part")
        parquet.write_table(table, part, compression="zstd")
        part.replace(path)
        print(f"{path.name}: {table.num_rows} updates")


def record(updates: Subscription, recorder: Recorder) -> None:
    """Until the subscription is closed."""
    try:
        for update in updates:
            if update.type == "changes":  # the snapshot is what was before
                recorder.take(update.rows)
    except KeyboardInterrupt:
        pass
    finally:
        recorder.write()


def main() -> int:
    """See the module."""
    asked = parser("Record market_data in Parquet files.")
    asked.add_argument("folder", type=Path)
    given = asked.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    last = recorded(given.folder)
    with subscribe(given.url, "SELECT * FROM market_data", mode="buffer", from_seq=last, **login(given)) as updates:
        close_after(given.seconds, updates)
        record(updates, Recorder(given.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
