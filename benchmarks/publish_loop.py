"""Publishers, one thread and one DoPut stream each, that send batches as fast as they are taken.

``publish_loop.py URL PUBLISHERS ROWS BATCHES KEYS``: prints the seconds from the first batch to the last receipt.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.data import updates
from flightsql_server.client import Publisher


def main() -> None:
    url = sys.argv[1]
    publishers, rows, batches, keys = map(int, sys.argv[2:6])
    barrier = threading.Barrier(publishers + 1)

    def publish(number: int) -> None:
        mine = list(updates(rows, batches // publishers, keys, number, publishers))
        with Publisher(url, "market_data", user="feed", password="feed") as publisher:
            publisher.publish(mine[0].slice(0, 1))
            barrier.wait()
            _drain(publisher.publish_all(mine))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(publishers)]
    for thread in threads:
        thread.start()
    barrier.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    sent = rows * (batches // publishers) * publishers
    print(json.dumps({"seconds": seconds, "rows_per_second": sent / seconds}))


def _drain(receipts: Iterator[object]) -> None:
    for _ in receipts:
        pass


if __name__ == "__main__":
    main()
