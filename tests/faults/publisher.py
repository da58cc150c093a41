"""A publisher in a process of its own: ``python -m tests.faults.publisher URL INDEX JOURNAL STYLE``.

It sends numbered batches of ``market_data`` until its standard input ends, writes down each acknowledgement before it
goes on, and comes back after every failure, sending again what was not acknowledged. What a batch holds follows from
the publisher's index and the batch's number alone, so whoever reads the server's rows can tell what they must be.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from flightsql_server.client import Publisher, PublishError, Receipt

AHEAD, SINGLY = "ahead", "singly"
BATCHES_OF_ONE = 1_000_000
ROWS_OF_ONE = 10_000
# How long a publisher goes on without any acknowledgement before it gives up.
PATIENCE_SECONDS = 60.0

_START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
_STRING, _NUMBER = pa.string(), pa.float64()
_SCHEMA = pa.schema(
    [
        pa.field("symbol", _STRING, nullable=False),
        pa.field("bid_price", _NUMBER),
        pa.field("ask_price", _NUMBER),
        pa.field("last_price", _NUMBER),
        pa.field("volume", pa.int64()),
        pa.field("timestamp", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("_change", _STRING, nullable=False),
    ]
)

Row = dict[str, Any]


def row_number(index: int, number: int, place: int = 0) -> int:
    """The ``volume`` of a row, which no other row of any publisher has."""
    return (index * BATCHES_OF_ONE + number) * ROWS_OF_ONE + place


def rows_of(index: int, number: int) -> list[Row]:
    """The rows of a batch: few symbols that all publishers share, times that mostly rise, some deletes."""
    dice = random.Random(f"{index}/{number}")
    count = dice.randint(1, 40) if dice.random() < 0.95 else dice.randint(500, 2_000)
    rows = []
    for place in range(count):
        at = _START + timedelta(milliseconds=100 * (number + dice.randint(-5, 5)))
        rows.append(
            {
                "symbol": f"S{dice.randrange(60):02}",
                "bid_price": dice.choice([None, dice.random()]),
                "ask_price": dice.random(),
                "last_price": dice.random(),
                "volume": row_number(index, number, place),
                "timestamp": at,
                "_change": "delete" if dice.random() < 0.1 else "upsert",
            }
        )
    return rows


class Sender:
    """Sends batches from the first that was not acknowledged on; ``journal`` gets a line for each acknowledgement."""

    def __init__(self, url: str, index: int, journal: Path, style: str, ended: threading.Event) -> None:
        self._url = url
        self._index = index
        self._journal = journal.open("a", encoding="ascii")
        self._style = style
        self._ended = ended
        self._next = 0
        self._highest = -1

    def run(self) -> None:
        """Returns once it was told to end and all that was ever sent is acknowledged."""
        last_seen = time.monotonic()
        while True:
            before = self._next
            try:
                id_ = f"publisher {self._index}"
                with Publisher(self._url, "market_data", user="feed", password="feed", producer_id=id_) as publisher:
                    for receipt in self._receipts(publisher):
                        self._note(receipt)
            except PublishError as error:
                if self._next > before:
                    last_seen = time.monotonic()
                if time.monotonic() - last_seen > PATIENCE_SECONDS:
                    raise
                print(error, file=sys.stderr, flush=True)
                time.sleep(0.05)
            else:
                return

    def _receipts(self, publisher: Publisher) -> Iterator[Receipt]:
        if self._style == AHEAD:
            yield from publisher.publish_all((batch for _, batch in self._batches()), self._next)
        else:
            for number, batch in self._batches():
                yield publisher.publish(batch, number)

    def _batches(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        number = self._next
        while number <= self._highest or not self._ended.is_set():
            self._highest = max(self._highest, number)
            yield number, pa.RecordBatch.from_pylist(rows_of(self._index, number), schema=_SCHEMA)
            number += 1

    def _note(self, receipt: Receipt) -> None:
        assert receipt.producer_seq == self._next, (receipt, self._next)
        line = [receipt.producer_seq, receipt.first_seq, receipt.last_seq, receipt.rows, receipt.duplicate]
        self._journal.write(json.dumps(line) + "\n")
        self._journal.flush()
        self._next += 1


def main() -> None:
    url, index, journal, style = sys.argv[1:]
    ended = threading.Event()

    def wait_for_the_end() -> None:
        while os.read(0, 1024):
            pass
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    Sender(url, int(index), Path(journal), style, ended).run()


if __name__ == "__main__":
    main()
