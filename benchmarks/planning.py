"""What a plan costs: found again, and made anew, with a catalog of 1 000 tables.

``python benchmarks/planning.py`` prints microseconds per call, and what parsing alone takes of them.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import sqlglot
from flightsql_auth.policies import Grants, Policies
from flightsql_auth.principals import Principal
from prometheus_client import CollectorRegistry

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from flightsql_server import planner
from flightsql_server.data.datasets import DATASETS, catalog_of
from flightsql_server.engine import DuckDBOptions, open_engine
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call, Catalog, Column, SessionOptions, Table
from flightsql_server.service.caches import BoundedCache
from flightsql_server.service.catalog import CurrentCatalog
from flightsql_server.service.plans import Plans

OHLC = """
    SELECT symbol, date_trunc('minute', timestamp) AS minute, first(last_price ORDER BY timestamp) AS open,
           max(last_price) AS high, min(last_price) AS low, last(last_price ORDER BY timestamp) AS close
    FROM market_data_history
    WHERE symbol IN ('ADG', 'ADT') AND timestamp >= TIMESTAMP '2026-01-05 14:30:00'
    GROUP BY 1, 2 ORDER BY 1, 2
"""
POSTGRES = (
    OHLC.replace("first(", "min(")
    .replace("last(last_price ORDER", "max(last_price ORDER")
    .replace(" ORDER BY timestamp) AS", ") AS")
)
TABLES = 1_000


def _catalog() -> Catalog:
    known = dict(catalog_of(DATASETS).tables)
    columns = tuple(Column(f"c{n}", pa.int64()) for n in range(20))
    for number in range(TABLES):
        table = Table("u_maker", f"t{number}", columns)
        known[table.table_name] = table
    return Catalog(known)


def _microseconds(step: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        step()
        times.append((time.perf_counter() - started) * 1e6)
    return statistics.median(times)


def _show(what: str, microseconds: float) -> None:
    print(f"{what:44} {microseconds:8.1f} microseconds")


def _made_anew(catalog: Catalog) -> None:
    grants = Grants(select=frozenset({"*"}))
    for dialect, text in (("duckdb", OHLC), ("postgres", POSTGRES), ("duckdb", "SELECT 1")):
        request = planner.Request(text, dialect, "reader", grants, catalog)
        planner.plan(request)
        name = f"planned anew, {dialect}, {'SELECT 1' if text == 'SELECT 1' else 'OHLC'}"
        _show(name, _microseconds(lambda request=request: planner.plan(request), 300))
        _show("  of which parsing alone", _microseconds(lambda t=text, d=dialect: sqlglot.parse_one(t, dialect=d), 300))


def _found_again() -> None:
    metrics = Metrics(CollectorRegistry())
    with TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        engine = open_engine(Path(folder), DuckDBOptions())
        plans = Plans(
            engine,
            CurrentCatalog(Catalog({}), engine),
            Policies(),
            pool,
            metrics,
            server_version="1",
            planner_limits=planner.PlannerLimits(),
            plans=BoundedCache("plans", metrics, entries=1_000),
            shapes=BoundedCache("shapes", metrics, entries=1_000),
            operations=lambda: asyncio.sleep(0, {}),
        )
        call = Call(Principal("reader", ("reader",), "basic"), "s", SessionOptions(), "duckdb", "standard")

        async def loop() -> None:
            await plans.prepare(call, "SELECT 1 AS a")
            times = []
            for _ in range(20_000):
                started = time.perf_counter()
                await plans.prepare(call, "SELECT 1 AS a")
                times.append((time.perf_counter() - started) * 1e6)
            _show("found again", statistics.median(times))

        asyncio.run(loop())
        engine.close()


if __name__ == "__main__":
    print(f"sqlglot {sqlglot.__version__}, {TABLES} tables, parser {sys.modules['sqlglot.parser'].__file__[-3:]}")
    _found_again()
    _made_anew(_catalog())
