"""The statements' rooms, built from the settings: what plans, what runs queries, what changes something."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from flightsql_auth.policies import Policies

from flightsql_server import __version__, planner
from flightsql_server.config import Config
from flightsql_server.data.datasets import Dataset
from flightsql_server.data.ingest import Writer
from flightsql_server.metrics import Metrics
from flightsql_server.model import Engine
from flightsql_server.service.admission import Admission
from flightsql_server.service.caches import BoundedCache
from flightsql_server.service.catalog import CurrentCatalog
from flightsql_server.service.changes import Changes
from flightsql_server.service.plans import Operations, Plans
from flightsql_server.service.results import Results
from flightsql_server.service.statements import StatementLimits, Statements
from flightsql_server.service.transactions import Transactions


def statement_rooms(
    config: Config,
    metrics: Metrics,
    engine: Engine,
    catalog: CurrentCatalog,
    policies: Policies,
    pool: ThreadPoolExecutor,
    writer: Writer,
    datasets: Mapping[str, Dataset],
    operations: Operations,
    free_bytes: Callable[[], int],
) -> tuple[Statements, Changes]:
    """What runs queries and what changes something; both share plans, slots and limits."""
    admission = Admission(
        metrics,
        concurrent=config.integer("query.concurrent"),
        queue=config.integer("query.queue"),
        queue_seconds=config.number("query.queue_seconds"),
    )
    plans = _plans(config, metrics, engine, catalog, policies, pool, operations)
    limits = _limits(config)
    reserve = config.integer("ingest.reserve_bytes")
    statements = Statements(
        engine,
        catalog,
        plans,
        pool,
        admission,
        metrics,
        writer.versions,
        limits=limits,
        results=BoundedCache(
            "results",
            metrics,
            entries=100_000 if config.integer("cache.result_bytes") else 0,
            weight=config.integer("cache.result_bytes"),
        ),
    )
    transactions = Transactions(
        engine,
        catalog,
        pool,
        metrics,
        idle_seconds=config.number("transaction.idle_seconds"),
        per_user=config.integer("transaction.per_user"),
    )
    changes = Changes(
        engine,
        catalog,
        plans,
        transactions,
        writer,
        datasets,
        pool,
        admission,
        metrics,
        seconds=limits.seconds,
        staged_rows=config.integer("transaction.staged_rows"),
        results=Results(
            metrics,
            seconds=config.number("sql.ticket_seconds"),
            limit_bytes=config.integer("transaction.result_bytes"),
        ),
        has_disk=lambda: not reserve or free_bytes() > reserve,
    )
    return statements, changes


def _plans(
    config: Config,
    metrics: Metrics,
    engine: Engine,
    catalog: CurrentCatalog,
    policies: Policies,
    pool: ThreadPoolExecutor,
    operations: Operations,
) -> Plans:
    return Plans(
        engine,
        catalog,
        policies,
        pool,
        metrics,
        server_version=__version__,
        planner_limits=planner.PlannerLimits(
            sql_bytes=config.integer("sql.statement_bytes"),
            tokens=config.integer("sql.statement_tokens"),
            depth=config.integer("sql.statement_depth"),
        ),
        plans=BoundedCache("plans", metrics, entries=config.integer("cache.plans")),
        shapes=BoundedCache("shapes", metrics, entries=config.integer("cache.plans")),
        operations=operations,
    )


def _limits(config: Config) -> StatementLimits:
    return StatementLimits(
        seconds=config.number("query.seconds"),
        result_rows=config.integer("query.result_rows"),
        result_bytes=config.integer("query.result_bytes"),
        row_bytes=config.integer("query.row_bytes"),
        cached_result_bytes=config.integer("cache.result_entry_bytes"),
    )
