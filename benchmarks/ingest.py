"""``python benchmarks/ingest.py``: durable rows per second through the wire, beside DuckDB in process.

The yardstick makes the same two writes for each batch in one transaction on a file of its own: append to history, and
INSERT OR REPLACE of the newest row of each key into a keyed table. It checks nothing, counts nothing, and one program
has both cores to itself; ours shares them with the publishers. The two take turns. Then the time of a point query is
taken while nothing is written, and while one publisher writes as fast as it can. Writes ``results/ingest.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks import data
from benchmarks.run import POINT, Contestant, lean_loop, serve, started

HERE = Path(__file__).resolve().parent
COLUMNS = (
    "symbol VARCHAR NOT NULL, bid_price DOUBLE, ask_price DOUBLE, last_price DOUBLE, volume BIGINT, "
    "timestamp TIMESTAMPTZ NOT NULL"
)
# Rows of a batch, batches, keys.
SHAPES = (
    (1_000, 640, 1_000),
    (10_000, 320, 1_000),
    (100_000, 48, 1_000),
    (10_000, 320, 10_000),
    (10_000, 160, 1_000_000),
)


def in_process(rows: int, batches: int, keys: int) -> dict[str, float]:
    """The two writes in one transaction for each batch, by one program that does nothing else."""
    made = list(data.updates(rows, batches, keys))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        connection = duckdb.connect(str(Path(folder) / "desk.duckdb"))
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TABLE latest ({COLUMNS}, PRIMARY KEY (symbol))")
        connection.execute(f"CREATE TABLE history ({COLUMNS}, _seq BIGINT, _received_at TIMESTAMPTZ, _change VARCHAR)")
        begin = time.perf_counter()
        for number, batch in enumerate(made):
            connection.register("incoming", batch)
            connection.begin()
            connection.execute(
                f"INSERT INTO history SELECT *, {number * rows} + row_number() OVER (), now(), 'upsert' FROM incoming"
            )
            connection.execute(
                "INSERT OR REPLACE INTO latest SELECT * FROM incoming "
                "QUALIFY row_number() OVER (PARTITION BY symbol ORDER BY timestamp DESC) = 1"
            )
            connection.commit()
        seconds = time.perf_counter() - begin
        connection.close()
    return {"seconds": seconds, "rows_per_second": rows * batches / seconds}


def through_the_wire(rows: int, batches: int, keys: int, publishers: int) -> dict[str, float]:
    """The same rows by publishers of another process; until the last one is acknowledged as durable."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        data.add_user(Path(folder))
        with started("ours", serve(Path(folder)), True, {}) as server:
            before = server.cpu()
            found = _publish(server, publishers, rows, batches, keys)
            found["server_cpu_us_per_row"] = (server.cpu() - before) / (rows * batches) * 1e6
    return found


def _publish(server: Contestant, publishers: int, rows: int, batches: int, keys: int) -> dict[str, float]:
    numbers = map(str, (publishers, rows, batches, keys))
    command = [sys.executable, str(HERE / "publish_loop.py"), server.url, *numbers]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # type: ignore[no-any-return]


def beside_reads(lean: Path, seconds: float) -> dict[str, dict[str, float]]:
    """A point query with one client, idle and while one publisher writes batches of 10 000 rows."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        data.add_user(Path(folder))
        with started("ours", serve(Path(folder)), True, {"FLIGHTSQL_CACHE_RESULT_BYTES": "0"}) as server:
            _publish(server, 1, 10_000, 20, 1_000)
            idle = lean_loop(lean, server, POINT, 1, seconds)
            command = [sys.executable, str(HERE / "publish_loop.py"), server.url, "1", "10000", "3000", "1000"]
            writing = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            try:
                time.sleep(5)  # its batches are made first
                busy = lean_loop(lean, server, POINT, 1, seconds)
            finally:
                writing.kill()
                writing.wait()
    return {"idle": idle, "while writing": busy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    for rows, batches, keys in SHAPES:
        found: dict[str, list[dict[str, float]]] = {"in process": [], "1 publisher": [], "16 publishers": []}
        for _ in range(arguments.rounds):
            found["in process"].append(in_process(rows, batches, keys))
            found["1 publisher"].append(through_the_wire(rows, batches, keys, 1))
            found["16 publishers"].append(through_the_wire(rows, batches, keys, 16))
        label = f"{rows} rows, {keys} keys"
        results[label] = {
            who: {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
            for who, rounds in found.items()
        }
        base = results[label]["in process"]["rows_per_second"]
        for who, values in results[label].items():
            rate = values["rows_per_second"]
            print(f"{label:26} {who:14} {rate / 1e6:6.2f} M rows/s  {rate / base:5.2f} x in process", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        lean = Path(folder) / "lean"
        subprocess.run(["go", "build", "-o", str(lean), "."], cwd=HERE / "lean", check=True)
        reads = [beside_reads(lean, arguments.seconds) for _ in range(arguments.rounds)]
    results["point query"] = {
        when: {key: statistics.median(one[when][key] for one in reads) for key in reads[0][when]} for when in reads[0]
    }
    for when, values in results["point query"].items():
        print(f"{'point query':26} {when:14} p50 {values['p50_ms']:.2f} ms, p99 {values['p99_ms']:.2f} ms", flush=True)
    conditions = {"cores": os.cpu_count(), **{name: version(name) for name in ("duckdb", "pyarrow", "grpcio")}}
    report = {"conditions": {**conditions, "rounds": arguments.rounds}, "results": results}
    (HERE / "results" / "ingest.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
