"""``make soak``: queries, updates, logins and 200 subscribers for ten minutes; the server's memory must stay flat.

Prints a line every ten seconds: memory in MB, threads, open files, and what has been done. Ends with code 1 if memory
rises by more than ``--slope`` MB a minute, fitted over the run without its first two fifths, or if somebody failed.
Before that come ``--commits`` of one row each beside the rest, as fast as they go: each join or sort leaves up to 2 kB
behind in the engine, until there are some twenty thousand of them, and that is no leak to be looked for.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.live_load import LiveLoad
from flightsql_server.client import Publisher
from flightsql_server.demo.market import Market
from tests.running import CONFIG, RunningServer, running_server

QUERIES = (
    "SELECT 1",
    "SELECT * FROM market_data",
    "SELECT account, sum(quantity) AS quantity FROM positions GROUP BY account",
    "SELECT symbol, count(*) AS updates FROM market_data_history GROUP BY symbol ORDER BY 2 DESC LIMIT 10",
)


class Load:
    """The threads that keep the server busy, and what they have done."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._stop = threading.Event()
        self.queries = self.rows = self.logins = 0
        self.failures: list[str] = []
        work = [self._ask] * 4 + [self._publish, self._log_in]
        self._threads = [threading.Thread(target=self._guarded, args=(one,), daemon=True) for one in work]
        for thread in self._threads:
            thread.start()

    def _guarded(self, work) -> None:  # type: ignore[no-untyped-def]
        try:
            work()
        except Exception as error:
            self.failures.append(repr(error))

    def _ask(self) -> None:
        with self._server.connect("reader") as connection, connection.cursor() as cursor:
            while not self._stop.is_set():
                for query in QUERIES:
                    cursor.execute(query)
                    cursor.fetchall()
                    self.queries += 1

    def _publish(self) -> None:
        market = Market()
        names = ("market_data", "orders", "positions")
        publishers = {name: Publisher(self._server.url, name, user="admin", password="admin") for name in names}
        updates = market.open()
        while not self._stop.wait(0.05):
            for name, batch in updates.batches().items():
                self.rows += publishers[name].publish(batch).rows
            updates = market.step()
        for publisher in publishers.values():
            publisher.close()

    def _log_in(self) -> None:
        while not self._stop.wait(0.2):
            with self._server.connect("viewer") as connection, connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM market_data")
                cursor.fetchall()
            self.logins += 1

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


def fill(server: RunningServer, commits: int) -> None:
    """Has the engine come to where it leaves nothing more behind."""
    with Publisher(server.url, "market_data", user="admin", password="admin") as publisher:
        one = Market().open().batches()["market_data"].slice(0, 1)
        for _ in range(commits):
            publisher.publish(one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--subscribers", type=int, default=200)
    parser.add_argument("--publishers", type=int, default=20)
    parser.add_argument("--commits", type=int, default=20_000, help="commits that come first")
    parser.add_argument("--slope", type=float, default=5.0, help="most MB a minute that memory may rise")
    given = parser.parse_args()
    samples: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, running_server(_data_dir(folder)) as server:
        process = psutil.Process(server.process.pid)
        load = Load(server)
        live = LiveLoad(server.url, given.subscribers, given.publishers)
        fill(server, given.commits)
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) < given.seconds:
            time.sleep(min(10.0, given.seconds / 20))
            memory = process.memory_info().rss / 1e6
            samples.append((elapsed, memory))
            line = {
                "seconds": round(elapsed),
                "memory_mb": round(memory),
                "threads": process.num_threads(),
                "files": process.num_fds(),
                "queries": load.queries,
                "rows_in": load.rows,
                "logins": load.logins,
                **live.counts,
            }
            print(json.dumps(line), flush=True)
        live.stop()
        load.stop()
        said = [line for line in server.output if "Traceback" in line or "ERROR" in line]
    failures = [*load.failures, *live.failures, *said]
    if failures:
        sys.exit(f"{len(failures)} failures: " + "; ".join(failures[:5]))
    slope = _slope([sample for sample in samples if sample[0] > given.seconds * 2 / 5]) * 60
    print(f"memory: {samples[-1][1]:.0f} MB at the end, {slope:+.2f} MB a minute after warming up")
    if slope > given.slope:
        sys.exit(f"memory rises by {slope:.1f} MB a minute, more than {given.slope:g}")


def _data_dir(folder: str) -> Path:
    """A data directory whose server keeps little of the growing history in memory; what the engine notes of each part
    of a table is in memory always, and grows a little with it.
    """
    path = Path(folder) / "data"
    path.mkdir()
    (path / "test.toml").write_text(CONFIG + '[engine]\nmemory_limit = "96MB"\nlog_bytes = 2000000\n', encoding="utf-8")
    return path


def _slope(samples: list[tuple[float, float]]) -> float:
    """How much the second number rises with the first: the line of least squares through all samples."""
    count = len(samples)
    mean_x, mean_y = sum(x for x, _ in samples) / count, sum(y for _, y in samples) / count
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread


if __name__ == "__main__":
    main()
