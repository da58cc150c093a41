"""``make bench``: bulk, small queries and point queries, beside a bare Flight server and DuckDB in process.

The contestants take turns within one run, since only ratios mean anything on a shared machine. Prints a table and
writes ``benchmarks/results/latest.json``. ``--quick`` is for a look; ``--rows``, ``--seconds``, ``--rounds`` choose.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as flight_sql
import duckdb
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks import data

HERE = Path(__file__).resolve().parent
COLUMNS = "symbol, bid_price, ask_price, last_price, volume, timestamp"
BULK = f"SELECT {COLUMNS} FROM market_data_history"
POINT = f"SELECT {COLUMNS} FROM market_data WHERE symbol = '{{symbol}}'"
OHLC = (
    "SELECT symbol, date_trunc('minute', timestamp) AS minute, arg_min(last_price, timestamp) AS o, "
    "max(last_price) AS h, min(last_price) AS l, arg_max(last_price, timestamp) AS c "
    "FROM market_data_history WHERE _seq <= {rows} GROUP BY 1, 2"
)


@dataclass(frozen=True)
class Contestant:
    """A server to measure: where it is, whether it wants a login, which process it is."""

    name: str
    url: str
    process: psutil.Process
    login: bool

    def connect(self) -> flight_sql.Connection:
        options = {"adbc.flight.sql.client_option.with_max_msg_size": str(64 << 20)}
        if self.login:
            options |= {"username": "reader", "password": "reader"}
        return flight_sql.connect(self.url, db_kwargs=options, autocommit=True)

    def cpu(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def started(name: str, command: list[str], login: bool, environment: dict[str, str]) -> Iterator[Contestant]:
    """Runs a server for the block."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"grpc://127\.0\.0\.1:\d+", line)
        if found is None:
            raise SystemExit(f"{name} did not start: {line}")
        yield Contestant(name, found[0], psutil.Process(process.pid), login)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def serve(data_dir: Path) -> list[str]:
    command = [sys.executable, "-m", "flightsql_server", "serve", "--data-dir", str(data_dir)]
    return [*command, "--port", "0", "--http-port", "0"]


def _bulk(contestant: Contestant, query: str) -> float:
    with contestant.connect() as connection, connection.cursor() as cursor:
        start = time.perf_counter()
        cursor.execute(query)
        for _ in cursor.fetch_record_batch():
            pass
        return time.perf_counter() - start


def _in_process(path: Path, query: str) -> float:
    connection = duckdb.connect(str(path), read_only=True)
    start = time.perf_counter()
    for _ in connection.sql(query).to_arrow_reader(122_880):
        pass
    elapsed = time.perf_counter() - start
    connection.close()
    return elapsed


def _adbc_loop(url: str, login: bool, query: str, clients: int, seconds: float) -> dict[str, float]:
    """The ADBC clients run in a process of their own, as they would on a desk."""
    command = [sys.executable, str(HERE / "adbc_loop.py"), url, str(int(login)), query, str(clients), str(seconds)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # type: ignore[no-any-return]


def lean_loop(binary: Path, contestant: Contestant, query: str, clients: int, seconds: float) -> dict[str, float]:
    command = [str(binary), "-addr", contestant.url.removeprefix("grpc://"), "-query", query]
    command += ["-clients", str(clients), "-seconds", str(seconds)]
    if contestant.login:
        command += ["-user", "reader", "-password", "reader"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # type: ignore[no-any-return]


def _measure_loop(contestants: list[Contestant], run: Callable[[Contestant], dict[str, float]]) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for contestant in contestants:
        before = contestant.cpu()
        result = run(contestant)
        result["server_cpu_ms"] = (contestant.cpu() - before) / result["calls"] * 1000
        results[contestant.name] = result
    return results


def _median(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    names = rounds[0].keys()
    return {
        name: {key: statistics.median(one[name][key] for one in rounds) for key in rounds[0][name]} for name in names
    }


def measure(arguments: argparse.Namespace, contestants: list[Contestant], copy: Path) -> dict[str, Any]:
    """Every workload, its contestants taking turns."""
    results: dict[str, Any] = {}
    for name, query in (("bulk", BULK), ("ohlc", OHLC.format(rows=arguments.rows // 10))):
        times: dict[str, list[float]] = {contestant.name: [] for contestant in contestants} | {"in process": []}
        for _ in range(arguments.rounds):
            for contestant in contestants:
                times[contestant.name].append(_bulk(contestant, query))
            times["in process"].append(_in_process(copy, query))
        results[name] = {who: {"seconds": statistics.median(found)} for who, found in times.items()}
        _show(name, results[name], "seconds")
    with tempfile.TemporaryDirectory() as folder:
        lean = Path(folder) / "lean"
        subprocess.run(["go", "build", "-o", str(lean), "."], cwd=HERE / "lean", check=True)
        for workload, query in (("select 1", "SELECT 1"), ("point", POINT)):
            for clients in arguments.clients:
                loops: dict[str, Callable[[Contestant], dict[str, float]]] = {
                    "adbc": lambda c, q=query, n=clients: _adbc_loop(c.url, c.login, q, n, arguments.seconds),
                    "lean": lambda c, q=query, n=clients: lean_loop(lean, c, q, n, arguments.seconds),
                }
                for client, loop in loops.items():
                    rounds = [_measure_loop(contestants, loop) for _ in range(arguments.rounds)]
                    label = f"{workload}, {client}, {clients} client{'s' if clients > 1 else ''}"
                    results[label] = _median(rounds)
                    _show(label, results[label], "qps", "p50_ms", "p99_ms", "server_cpu_ms")
    return results


def _show(label: str, found: dict[str, dict[str, float]], *keys: str) -> None:
    for who, values in found.items():
        ratio = ""
        if who != "bare" and "bare" in found:
            if "seconds" in values:
                ratio = f"  {found['bare']['seconds'] / values['seconds']:.2f} x the bare server's rate"
            elif "qps" in values:
                ratio = f"  {values['qps'] / found['bare']['qps']:.2f} x its QPS, "
                ratio += f"{values['p50_ms'] / found['bare']['p50_ms']:.2f} x its p50"
        print(f"{label:32} {who:22} " + "  ".join(f"{key} {values[key]:9.3f}" for key in keys) + ratio, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rows, arguments.seconds, arguments.rounds = 2_000_000, 2.0, 1
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        data_dir, copy = Path(folder) / "data", Path(folder) / "copy" / "desk.duckdb"
        data_dir.mkdir(mode=0o700)
        copy.parent.mkdir()
        data.add_user(data_dir)
        with started("empty", serve(data_dir), True, {}):
            pass
        data.fill(data_dir, arguments.rows)
        data.copy(data_dir, copy)
        data.copy(data_dir, no_cache := Path(folder) / "nocache.duckdb")
        second = Path(folder) / "second"
        second.mkdir(mode=0o700)
        data.add_user(second)
        no_cache.rename(second / "desk.duckdb")
        bare = [sys.executable, str(HERE / "bare_server.py"), "0", str(copy)]
        with (
            started("ours", serve(data_dir), True, {}) as ours,
            started("ours, no result cache", serve(second), True, {"FLIGHTSQL_CACHE_RESULT_BYTES": "0"}) as plain,
            started("bare", bare, False, {"PYTHONPATH": str(HERE.parent)}) as yardstick,
        ):
            results = measure(arguments, [ours, plain, yardstick], copy)
    report = {
        "conditions": {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            **{name: version(name) for name in ("duckdb", "pyarrow", "grpcio", "sqlglot", "adbc-driver-flightsql")},
            "rows": arguments.rows,
            "seconds": arguments.seconds,
            "rounds": arguments.rounds,
        },
        "results": results,
    }
    target = HERE / "results" / ("quick.json" if arguments.quick else "latest.json")
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
