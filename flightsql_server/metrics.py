"""Every Prometheus instrument of the server, in one table.

``grpc_server_*`` are the names that stock gRPC dashboards know; ``flightsql_*`` are ours. Sizes are bytes, times
seconds. A label never holds a user's text, so that the number of series stays bounded.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_GRPC = ("grpc_type", "grpc_service", "grpc_method")


class Metrics:
    """The instruments, registered in ``registry``: one object for each server, so that two can live in one process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = r = registry or CollectorRegistry()
        if registry is None:
            ProcessCollector(registry=r)
            PlatformCollector(registry=r)
            GCCollector(registry=r)
        # Finding a labelled child takes longer than counting with it: whoever counts often keeps its children here.
        self.children: dict[object, dict[str, Any]] = {}
        # What stock gRPC dashboards read.
        self.grpc_started = Counter("grpc_server_started", "RPCs started.", _GRPC, registry=r)
        self.grpc_handled = Counter("grpc_server_handled", "RPCs ended.", (*_GRPC, "grpc_code"), registry=r)
        self.grpc_received = Counter("grpc_server_msg_received", "Messages received.", _GRPC, registry=r)
        self.grpc_sent = Counter("grpc_server_msg_sent", "Messages sent.", _GRPC, registry=r)
        self.grpc_seconds = Histogram(
            "grpc_server_handling_seconds", "Time from an RPC's start to its end.", _GRPC, buckets=_SECONDS, registry=r
        )
        # Calls by what they ask for.
        call = ("method", "command")
        self.calls = Counter("flightsql_calls", "Calls ended, by outcome.", (*call, "code"), registry=r)
        self.call_seconds = Histogram(
            "flightsql_call_seconds", "Time from a call's start to its end.", call, buckets=_SECONDS, registry=r
        )
        self.calls_in_flight = Gauge("flightsql_calls_in_flight", "Calls running now.", ("method",), registry=r)
        self.received_bytes = Counter(
            "flightsql_received_bytes", "Bytes of messages received, with their 5-byte frames.", call, registry=r
        )
        self.sent_bytes = Counter(
            "flightsql_sent_bytes", "Bytes of messages sent, with their 5-byte frames.", call, registry=r
        )
        self.sent_rows = Counter("flightsql_sent_rows", "Rows sent, by what asked for them.", ("command",), registry=r)
        # Who comes in.
        self.logins = Counter("flightsql_logins", "Handshakes, by outcome.", ("outcome",), registry=r)
        self.refused_calls = Counter(
            "flightsql_refused_calls", "Calls refused for their credential, by reason.", ("outcome",), registry=r
        )
        self.ended_calls = Counter(
            "flightsql_ended_calls",
            "Running calls ended since their credential no longer counts, by reason.",
            ("outcome",),
            registry=r,
        )
        self.key_fetches = Counter(
            "flightsql_provider_key_fetches",
            "Fetches of an identity provider's keys: ok, failed, or held_back for being too soon.",
            ("provider", "outcome"),
            registry=r,
        )
        self.oauth_answers = Counter(
            "flightsql_oauth_answers", "Answers to requests for a token over HTTP.", ("grant", "outcome"), registry=r
        )
        self.policy_loads = Counter(
            "flightsql_policy_loads", "Policies read, by outcome: taken, refused.", ("outcome",), registry=r
        )
        self.tls_loads = Counter(
            "flightsql_tls_loads", "New TLS certificates met, by outcome: taken, refused.", ("outcome",), registry=r
        )
        self.tls_not_after = Gauge(
            "flightsql_tls_not_after_seconds",
            "When the first certificate of a file runs out, in seconds since the epoch.",
            ("file",),
            registry=r,
        )
        self.sessions = Gauge("flightsql_sessions", "Sessions that have not ended.", registry=r)
        self.prepared_statements = Gauge("flightsql_prepared_statements", "Open prepared statements.", registry=r)
        self._add_statements(r)
        self._add_data(r)
        self.build = Info("flightsql_build", "Versions of the server and of what it stands on.", registry=r)
        self.ready = Gauge("flightsql_ready", "1 while the server takes calls.", registry=r)

    def _add_statements(self, r: CollectorRegistry) -> None:
        """Statements on their way through the rooms."""
        self.stage_seconds = Histogram(
            "flightsql_stage_seconds",
            "Time of a statement in one stage: plan, describe, queue, first_rows, stream.",
            ("stage",),
            buckets=(0.00005, 0.0001, 0.00025, *_SECONDS),
            registry=r,
        )
        self.cache_lookups = Counter(
            "flightsql_cache_lookups", "Look-ups in a cache.", ("cache", "outcome"), registry=r
        )
        self.cache_entries = Gauge("flightsql_cache_entries", "Entries of a cache.", ("cache",), registry=r)
        self.cache_bytes = Gauge("flightsql_cache_bytes", "Bytes held by a cache.", ("cache",), registry=r)
        self.queries_running = Gauge("flightsql_queries_running", "Statements that run or stream.", registry=r)
        self.queries_waiting = Gauge("flightsql_queries_waiting", "Statements waiting for their turn.", registry=r)
        self.transactions = Gauge("flightsql_transactions", "Open transactions.", registry=r)
        self.transactions_ended = Counter(
            "flightsql_transactions_ended",
            "Transactions ended, by how: commit, rollback, idle, session, stop.",
            ("how",),
            registry=r,
        )
        self.changed_rows = Counter("flightsql_changed_rows", "Rows of users' own tables changed.", registry=r)
        self.waiting_result_bytes = Gauge(
            "flightsql_waiting_result_bytes",
            "Bytes of results that wait to be fetched, in memory or on disk.",
            ("where",),
            registry=r,
        )
        self.temporary_schemas = Gauge(
            "flightsql_temporary_schemas", "Sessions that have made temporary tables.", registry=r
        )
        self.saved_bytes = Counter(
            "flightsql_compression_saved_bytes",
            "Bytes of rows that compression kept off the wire.",
            ("compression",),
            registry=r,
        )
        self.limits_hit = Counter("flightsql_limits_hit", "Calls refused or cut by a limit.", ("limit",), registry=r)
        self.statements_stopped = Counter(
            "flightsql_statements_stopped", "Statements stopped before their end, by cause.", ("cause",), registry=r
        )
        self.incidents = Counter("flightsql_incidents", "Defects met: calls answered INTERNAL.", registry=r)

    def _add_data(self, r: CollectorRegistry) -> None:
        """Data on its way in, and where it lies."""
        dataset = ("dataset",)
        self.ingested_rows = Counter("flightsql_ingested_rows", "Rows committed to history.", dataset, registry=r)
        self.late_rows = Counter("flightsql_late_rows", "Rows older than the row they met.", dataset, registry=r)
        self.duplicate_batches = Counter(
            "flightsql_duplicate_batches", "Batches that a publisher sent again.", dataset, registry=r
        )
        self.ingest_waiting = Gauge("flightsql_ingest_waiting_batches", "Batches waiting for the writer.", registry=r)
        self.commit_seconds = Histogram(
            "flightsql_commit_seconds", "Time of one commit of the writer.", buckets=_SECONDS, registry=r
        )
        self.dataset_sequence = Gauge(
            "flightsql_dataset_sequence", "The _seq of a dataset's last committed row.", dataset, registry=r
        )
        self.live_subscriptions = Gauge("flightsql_live_subscriptions", "Open subscriptions.", ("kind",), registry=r)
        self.live_channels = Gauge("flightsql_live_channels", "Different queries that are subscribed to.", registry=r)
        self.live_evaluations = Counter(
            "flightsql_live_evaluations",
            "Answers and changes worked out for subscribers.",
            ("kind",),
            registry=r,
        )
        self.live_rows = Counter("flightsql_live_rows", "Rows told to subscribers.", registry=r)
        self.live_merged_rows = Counter(
            "flightsql_live_merged_rows", "Rows not told because a newer one of their key was.", registry=r
        )
        self.live_slow_readers = Counter(
            "flightsql_live_slow_readers", "Subscriptions ended because their readers were too slow.", registry=r
        )
        self.free_bytes = Gauge("flightsql_disk_free_bytes", "Free disk where the data is.", registry=r)
        self._add_audit(r)

    def _add_audit(self, r: CollectorRegistry) -> None:
        """The audit trail."""
        self.audit_lines = Counter("flightsql_audit_lines", "Lines of the audit trail written.", ("event",), registry=r)
        self.audit_bytes = Counter("flightsql_audit_bytes", "Bytes of the audit trail written.", registry=r)
        self.audit_lost = Counter("flightsql_audit_lost_lines", "Lines that the audit trail lacks.", registry=r)
        self.audit_errors = Counter(
            "flightsql_audit_write_errors", "Attempts to write the audit trail that failed.", registry=r
        )
        self.audit_waiting = Gauge(
            "flightsql_audit_waiting_lines", "Lines that are open or wait to be written.", registry=r
        )
        self.audit_sequence = Gauge("flightsql_audit_sequence", "Number of the last line written.", registry=r)

    def limit(self, name: str) -> None:
        """Counts one bite of the limit that is called so in the settings."""
        self.limits_hit.labels(name).inc()
