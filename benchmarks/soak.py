"""``make soak``: queries, updates and logins for ten minutes; memory, threads and open files must stay flat.

Prints a line every ten seconds and ends with code 1 if the server's memory has grown by more than a tenth, and more
than 50 MB, between the end of the first fifth and the end of the run.
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
from flightsql_server.client import Publisher
from flightsql_server.demo.market import Market
from tests.running import RunningServer, running_server

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, running_server(Path(folder) / "data") as server:
        process = psutil.Process(server.process.pid)
        load = Load(server)
        started = time.monotonic()
        settled = 0.0
        while (elapsed := time.monotonic() - started) < seconds:
            time.sleep(min(10.0, seconds / 10))
            memory = process.memory_info().rss / 1e6
            if not settled and elapsed > seconds / 5:
                settled = memory
            line = {
                "seconds": round(elapsed),
                "memory_mb": round(memory),
                "threads": process.num_threads(),
                "files": process.num_fds(),
                "queries": load.queries,
                "rows_in": load.rows,
                "logins": load.logins,
            }
            print(json.dumps(line), flush=True)
        load.stop()
        memory = process.memory_info().rss / 1e6
    if load.failures:
        sys.exit("failed: " + "; ".join(load.failures))
    if memory > settled * 1.1 and memory > settled + 50:
        sys.exit(f"memory grew from {settled:.0f} to {memory:.0f} MB")
    print(f"flat: {settled:.0f} MB after a fifth of the run, {memory:.0f} MB at its end")


if __name__ == "__main__":
    main()
