"""Rooms built from the settings: who may come in, what plans, runs queries and changes something, what is audited."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
from flightsql_auth.authenticator import Authenticator
from flightsql_auth.federation import Federation
from flightsql_auth.keys import KeyRing
from flightsql_auth.policies import LivePolicies, Policies, temporary_schema
from flightsql_auth.provider_keys import MAX_WAITING
from flightsql_auth.providers import providers_of
from flightsql_auth.store import StateStore

from flightsql_server import __version__, planner
from flightsql_server.audit import AuditOptions, AuditTrail, Outcome, open_key
from flightsql_server.config import Config
from flightsql_server.data.datasets import Dataset
from flightsql_server.data.ingest import Writer
from flightsql_server.http import TokenEndpoint
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call, Engine
from flightsql_server.protocol.metadata import Question
from flightsql_server.protocol.sql_info import SqlInfoFacts
from flightsql_server.service.admission import Admission
from flightsql_server.service.bounds import StatementLimits
from flightsql_server.service.caches import BoundedCache, Encoded
from flightsql_server.service.catalog import CurrentCatalog
from flightsql_server.service.changes import Changes
from flightsql_server.service.channels import LiveLimits
from flightsql_server.service.plans import Operations, Plans
from flightsql_server.service.results import Results
from flightsql_server.service.statements import Statements
from flightsql_server.service.subscriptions import Subscriptions
from flightsql_server.service.temporary import TemporaryTables
from flightsql_server.service.transactions import Transactions
from flightsql_server.service.write_checks import WriteChecks
from flightsql_server.tls import certificate_users


def login_threads(config: Config) -> ThreadPoolExecutor:
    """The threads in which credentials are checked."""
    # Those who wait for a provider's keys must not take the threads of those who log in by password.
    threads = config.integer("login.parallel_hashes") + 2 + 2 * MAX_WAITING * len(config.providers)
    return ThreadPoolExecutor(threads, thread_name_prefix="login")


def federation(config: Config, policies: Policies, metrics: Metrics) -> Federation:
    """The identity providers that the settings name; ProviderError when one can't be taken as it is."""
    return Federation(
        providers_of(config.providers, policies.roles, config.text("login.issuer")),
        report=lambda provider, outcome: metrics.key_fetches.labels(provider, outcome).inc(),
    )


def login_door(
    config: Config,
    store: StateStore,
    keys: KeyRing,
    providers: Federation,
    *,
    in_use: Callable[[str], bool],
    ended: Callable[[str, str, str], None],
) -> Authenticator:
    """What the ``login`` section asks for; ``in_use`` and ``ended`` see ``Authenticator``."""
    return Authenticator(
        store,
        keys,
        issuer=config.text("login.issuer"),
        audience=config.text("login.audience"),
        session_seconds=config.number("login.session_seconds"),
        idle_seconds=config.number("login.idle_seconds"),
        max_sessions_per_user=config.integer("login.sessions_per_user"),
        basic_cache_seconds=config.number("login.basic_cache_seconds"),
        max_parallel_hashes=config.integer("login.parallel_hashes"),
        free_failures=config.integer("login.free_failures"),
        anonymous_role=config.text("login.anonymous_role") or None,
        certificates=certificate_users(config),
        federation=providers,
        in_use=in_use,
        ended=ended,
    )


def token_endpoint(
    config: Config, authenticator: Authenticator, threads: ThreadPoolExecutor, audit: AuditTrail, metrics: Metrics
) -> TokenEndpoint:
    """``/oauth/token``; each of its answers has a line in the trail."""
    return TokenEndpoint(
        authenticator,
        threads,
        metrics,
        issuer=config.text("login.issuer"),
        audience=config.text("login.audience"),
        body_seconds=config.number("login.handshake_seconds"),
        reserve=audit.reserve,
        answered=lambda entry, code, seconds: audit.end(entry, Outcome(code, seconds=seconds)),
    )


def statement_rooms(
    config: Config,
    metrics: Metrics,
    engine: Engine,
    catalog: CurrentCatalog,
    policies: LivePolicies,
    pool: ThreadPoolExecutor,
    writer: Writer,
    datasets: Mapping[str, Dataset],
    operations: Operations,
    free_bytes: Callable[[], int],
    spool: Path,
    secret: bytes,
    life: str,
) -> tuple[Statements, Changes, Subscriptions]:
    """What runs queries, what changes something, what is told of changes; all share plans, slots and limits.

    ``spool`` is the folder of results that wait on disk; ``secret`` is the server's, the same after a restart.
    """
    admission = _admission(config, metrics)
    plans = _plans(config, metrics, engine, catalog, policies, pool, operations)
    limits = _limits(config)
    reserve = config.integer("ingest.reserve_bytes")
    cache_bytes = config.integer("cache.result_bytes")
    results = BoundedCache[Encoded]("results", metrics, entries=100_000 if cache_bytes else 0, weight=cache_bytes)
    statements = Statements(
        engine, catalog, plans, pool, admission, metrics, writer.versions, limits=limits, results=results
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
        limits=limits,
        staged_rows=config.integer("transaction.staged_rows"),
        temporary=TemporaryTables(engine, catalog, pool, metrics),
        write_checks=WriteChecks(engine, catalog, policies, datasets),
        results=_results(config, metrics, spool),
        has_disk=lambda: not reserve or free_bytes() > reserve,
    )
    subscriptions = Subscriptions(
        engine,
        catalog,
        plans,
        writer,
        datasets,
        policies,
        pool,
        admission,
        metrics,
        limits=_live_limits(config),
        seconds=limits.seconds,
        secret=secret + life.encode(),
    )
    return statements, changes, subscriptions


def _admission(config: Config, metrics: Metrics) -> Admission:
    return Admission(
        metrics,
        concurrent=config.integer("query.concurrent"),
        queue=config.integer("query.queue"),
        queue_seconds=config.number("query.queue_seconds"),
    )


def question(config: Config, call: Call, catalog: CurrentCatalog, policies: LivePolicies, engine: Engine) -> Question:
    """What the metadata commands answer from: this catalog, these grants, these facts."""
    principal = call.principal
    temporary = temporary_schema(principal.session_id) if principal.session_id else ""
    grants = policies.grants(principal.roles, principal.name, temporary, principal.claims)
    capabilities = engine.capabilities
    facts = SqlInfoFacts(
        server_version=__version__,
        arrow_version=pa.__version__,
        read_only=not (grants.ingest or grants.insert or grants.create),
        bulk_ingestion=bool(grants.ingest) or grants.create,
        create_tables=grants.create,
        transactions=int(capabilities.transactions),
        keywords=capabilities.keywords,
        numeric_functions=planner.function_names("numeric"),
        string_functions=planner.function_names("string"),
        system_functions=planner.function_names("system"),
        datetime_functions=planner.function_names("datetime"),
        max_statement_length=config.integer("sql.statement_bytes"),
        max_connections=config.integer("login.sessions_per_user"),
        max_statements=config.integer("sql.prepared_per_session"),
        statement_timeout_seconds=min(
            config.number("query.seconds"), grants.limits.seconds or config.number("query.seconds")
        ),
    )
    return Question(catalog.current, grants, facts)


def _live_limits(config: Config) -> LiveLimits:
    return LiveLimits(
        buffer_batches=config.integer("live.buffer_batches"),
        buffer_bytes=config.integer("live.buffer_bytes"),
        backlog_bytes=config.integer("live.backlog_bytes"),
        resume_rows=config.integer("live.resume_rows"),
        refresh_rows=config.integer("live.refresh_rows"),
        snapshot_bytes=config.integer("live.snapshot_bytes"),
        heartbeat_seconds=config.number("live.heartbeat_seconds"),
        pace_seconds=config.number("live.pace_us") / 1e6,
        share=config.number("live.share"),
        evaluation_seconds=config.number("live.evaluation_seconds"),
        per_user=config.integer("live.per_user"),
        total=config.integer("live.total"),
    )


def audit_trail(config: Config, data_dir: Path, metrics: Metrics) -> AuditTrail:
    """The trail that the ``audit`` section asks for, not yet started; AuditError when its key can't be had."""
    options = AuditOptions(
        enabled=bool(config.values["audit.enabled"]),
        folder=Path(config.text("audit.folder") or data_dir / "audit"),
        statements=config.text("audit.statements"),
        statement_bytes=config.integer("audit.statement_bytes"),
        rotate_bytes=config.integer("audit.rotate_bytes"),
        keep_files=config.integer("audit.keep_files"),
        sync=config.text("audit.sync") == "group",
        when_full=config.text("audit.when_full"),
        queue_lines=config.integer("audit.queue_lines"),
        recent_lines=config.integer("audit.recent_lines"),
    )
    return AuditTrail(options, open_key(data_dir / "audit.key"), metrics, planner.redacted)


def _results(config: Config, metrics: Metrics, folder: Path) -> Results:
    return Results(
        metrics,
        seconds=config.number("sql.ticket_seconds"),
        memory_bytes=config.integer("transaction.result_bytes"),
        disk_bytes=config.integer("transaction.spool_bytes"),
        folder=folder,
    )


def _plans(
    config: Config,
    metrics: Metrics,
    engine: Engine,
    catalog: CurrentCatalog,
    policies: LivePolicies,
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
            seconds=config.number("sql.planning_seconds"),
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
