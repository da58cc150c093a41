"""``python benchmarks/live.py``: what subscribers cost, beside fan-out servers that do nothing else.

A Go client (``live/``) holds the subscribers, as streams of a few connections, and publishes ten batches of ten rows a
second, whose rows bear the time of their sending. The contestants take turns within one run; of the rounds the one with
the least CPU per message is kept, since others may work on the machine too. ``server_cpu_us_per_message`` is all that
the server used while rows came; our own also stores each batch, durably, for whatever number of subscribers: that alone
is ``commit_cpu_ms``. Then: each subscriber with a filter of its own, one quote to one subscriber, and how fast rows are
stored while 500 subscribe. Writes ``results/live.json``; ``--quick`` is for a look, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks import data
from benchmarks.run import Contestant, serve, started

HERE = Path(__file__).resolve().parent
ROWS, RATE = 10, 10
OURS, GRPC, FLIGHT = "ours", "bare grpc.aio", "bare pyarrow.flight"
FILTERED = "SELECT * FROM market_data WHERE symbol = '{symbol}'"
# pyarrow.flight has a thread for each subscriber.
MOST_THREADS = 500
INGEST = ("1", "1000", "3200", "1000")  # publishers, rows of a batch, batches, keys
Found = dict[str, Any]


def build(folder: Path) -> Path:
    """The load client."""
    target = folder / "live"
    subprocess.run(["go", "build", "-o", str(target), "."], cwd=HERE / "live", check=True)
    return target


@contextmanager
def ours() -> Iterator[Contestant]:
    """Our server on an empty directory."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        data.add_user(Path(folder))
        settings = {"FLIGHTSQL_LIVE_PER_USER": "10000"}
        with started(OURS, serve(Path(folder)), True, settings) as server:
            yield server


def bare(name: str, kind: str) -> Any:
    command = [sys.executable, str(HERE / "bare_fanout.py"), kind, str(ROWS)]
    return started(name, command, False, {"PYTHONPATH": str(HERE.parent)})


def _command(client: Path, server: Contestant, **options: object) -> list[str]:
    found = [str(client), "-addr", server.url.removeprefix("grpc://"), "-pid", str(server.process.pid)]
    if server.login:
        found += ["-user", "feed", "-password", "feed"]
    return found + [f"-{name}={value}" for name, value in options.items()]


def load(client: Path, server: Contestant, **options: object) -> Found:
    """One run of the load client."""
    command = _command(client, server, rows=ROWS, rate=RATE, **options)
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # type: ignore[no-any-return]


def fan_out(client: Path, subscribers: int, rounds: int, **options: object) -> dict[str, Found]:
    """Everything that is published to each of so many subscribers; the best round of each contestant."""
    found: dict[str, list[Found]] = {}
    with ExitStack() as stack:
        servers = [stack.enter_context(ours())]
        if "query" not in options:
            servers.append(stack.enter_context(bare(GRPC, "grpc")))
            if subscribers <= MOST_THREADS:
                servers.append(stack.enter_context(bare(FLIGHT, "flight")))
        for server in servers:
            load(client, server, subscribers=20, seconds=1)  # what is loaded at first use is no subscriber's memory
        for _ in range(rounds):
            for server in servers:
                found.setdefault(server.name, []).append(load(client, server, subscribers=subscribers, **options))
        alone = [load(client, servers[0], **{**options, "subscribers": 1}) for _ in range(rounds)]
    best = {who: min(each, key=lambda one: one["server_cpu_us_per_message"]) for who, each in found.items()}
    for who, each in found.items():
        best[who]["kb_per_subscriber"] = max(one["kb_per_subscriber"] for one in each)
    best[OURS]["commit_cpu_ms"] = min(one["server_cores"] / one["batches_per_second"] for one in alone) * 1000
    return best


def quote(client: Path, quotes: int, rounds: int) -> Found:
    """One durable quote at a time to one subscriber."""
    with ours() as server:
        each = [load(client, server, quotes=quotes) for _ in range(rounds)]
    return min(each, key=lambda one: one["behind_receipt_p50_ms"])


def ingest(client: Path, rounds: int, subscribers: int, connections: int, shape: tuple[str, ...]) -> dict[str, Found]:
    """Rows per second that one publisher stores, alone and while subscribers are told of them; median of the rounds."""
    each: dict[str, list[Found]] = {}
    variants: dict[str, dict[str, object] | None] = {
        "alone": None,
        "everything": {},
        "everything, once a second": {"mode": "interval"},
        "a filter each": {"query": FILTERED, "symbols": subscribers},
    }
    for _ in range(rounds):
        for name, options in variants.items():
            with ours() as server:
                if options is None:
                    found = _publish(server, shape)
                else:
                    found = _publish_beside(client, server, shape, subscribers, connections, options)
            each.setdefault(name, []).append(found)
    return {
        name: {key: statistics.median(one[key] for one in found) for key in found[0]} for name, found in each.items()
    }


def _publish(server: Contestant, shape: tuple[str, ...]) -> Found:
    command = [sys.executable, str(HERE / "publish_loop.py"), server.url, *shape]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # type: ignore[no-any-return]


def _publish_beside(
    client: Path, server: Contestant, shape: tuple[str, ...], subscribers: int, connections: int, options: Found
) -> Found:
    command = _command(client, server, hold="true", subscribers=subscribers, connections=connections, **options)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holding:
        assert holding.stdout is not None
        try:
            if holding.stdout.readline() != "ready\n":
                raise SystemExit("The subscribers got no snapshot.")
            found = _publish(server, shape)
            told = json.loads(holding.communicate(timeout=60)[0])
        finally:
            holding.kill()
    if told["failed"]:
        raise SystemExit(f"Subscribers have failed: {told['failures']}")
    return {**found, **{name: told[name] for name in ("messages", "rows", "merged")}}


def measure(client: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every workload."""
    options = {"connections": arguments.connections, "seconds": arguments.seconds}
    results: dict[str, Any] = {}
    for count in arguments.subscribers:
        found = results[f"{count} subscribers"] = fan_out(client, count, arguments.rounds, **options)
        _show(f"{count} subscribers", found)
    for count in arguments.filters:
        label = f"{count} subscribers, a filter each"
        results[label] = fan_out(client, count, 1, query=FILTERED, symbols=count, **options)
        _show(label, results[label])
    results["quote"] = found = quote(client, arguments.quotes, arguments.rounds)
    print("one quote, one subscriber: " + ", ".join(f"{name} {value:.2f}" for name, value in sorted(found.items())))
    shape = arguments.ingest.split(",")
    count = min(500, max(arguments.subscribers))
    results["ingest"] = ingest(client, arguments.rounds, count, arguments.connections, tuple(shape))
    alone = results["ingest"]["alone"]["rows_per_second"]
    for name, values in results["ingest"].items():
        values["ratio"] = values["rows_per_second"] / alone
        told = f", {values['messages']:.0f} messages" if "messages" in values else ""
        print(f"ingest, {name:28} {values['rows_per_second']:10.0f} rows/s {values['ratio']:5.2f} x alone{told}")
    return results


def _show(label: str, found: dict[str, Found]) -> None:
    for who, values in found.items():
        cost = values["server_cpu_us_per_message"]
        told = (values["rows"] + values["merged"]) / values["rows_expected"]
        line = (
            f"{label:32} {who:20} {cost:8.1f} us/message, p50 {values['p50_ms']:.1f} ms, p99 {values['p99_ms']:.1f} ms"
        )
        line += f", {values['kb_per_subscriber']:.0f} kB each, {told:.1%} told ({values['merged']} rows merged)"
        if who == OURS:
            line += f", commit {values['commit_cpu_ms']:.1f} ms CPU"
            if GRPC in found:
                values["ratio_to_bare_grpc"] = cost / found[GRPC]["server_cpu_us_per_message"]
                line += f", {values['ratio_to_bare_grpc']:.2f} x {GRPC}"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscribers", type=int, nargs="*", default=[100, 500, 2000])
    parser.add_argument("--filters", type=int, nargs="*", default=[100, 500])
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--quotes", type=int, default=300)
    parser.add_argument("--ingest", default=",".join(INGEST), help="publishers, rows of a batch, batches, keys")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.subscribers, arguments.filters, arguments.rounds = [20], [5], 1
        arguments.quotes, arguments.seconds, arguments.ingest = 10, 0.5, "1,100,10,100"
    with tempfile.TemporaryDirectory() as folder:
        results = measure(build(Path(folder)), arguments)
    conditions = {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        **{name: version(name) for name in ("duckdb", "pyarrow", "grpcio", "uvloop")},
        **{name: getattr(arguments, name) for name in ("connections", "seconds", "rounds", "ingest")},
    }
    report = {"conditions": conditions, "results": results}
    if not arguments.quick:
        (HERE / "results" / "live.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
