"""Writes the Grafana dashboards: run it after a change here, and commit what it wrote.

Plain data classes make the JSON. Grafana's own builders for Python are published once for each Grafana version, under
versions that only an exact pin with an epoch can name, and their newest serves Grafana 11: a dashboard needs a dozen
kinds of objects, which are fewer lines here than such a dependency would cost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# Grafana 10 and later read this version of the format; newer ones migrate it by themselves.
SCHEMA_VERSION = 39
WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# What every query of a panel selects: the server or servers that the reader chose.
CHOSEN = 'job="flightsql", instance=~"$instance"'


@dataclass(frozen=True)
class Query:
    """One PromQL query; ``legend`` names its series."""

    promql: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """A graph, or with ``kind`` ``stat`` a number; ``unit`` is one of Grafana's unit ids."""

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    width: int = 8
    height: int = 8
    kind: str = "timeseries"
    stack: bool = False
    maximum: float | None = None


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    """A dashboard with the variables ``datasource`` and ``instance``."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    tags: Sequence[str] = field(default=("flightsql",))


def rate(metric: str, by: str, more: str = "") -> str:
    """The sum of a counter's rates, by these labels."""
    chosen = f"{CHOSEN}, {more}" if more else CHOSEN
    return f"sum by ({by}) (rate({metric}{{{chosen}}}[$__rate_interval]))"


def quantiles(metric: str, by: str = "") -> list[Query]:
    """p50, p95 and p99 of a histogram of seconds."""
    labels = f"le, {by}" if by else "le"
    legend = f"{{{{{by}}}}} " if by else ""
    return [
        Query(f"histogram_quantile({q}, {rate(f'{metric}_bucket', labels)})", f"{legend}p{q * 100:.0f}")
        for q in (0.5, 0.95, 0.99)
    ]


def total(metric: str, by: str = "") -> str:
    """The sum of a gauge, by these labels."""
    return f"sum by ({by}) ({metric}{{{CHOSEN}}})" if by else f"sum({metric}{{{CHOSEN}}})"


_ERRORS = 'code!~"OK|CANCELLED"'
_ERROR_RATIO = (
    f"sum(rate(flightsql_calls_total{{{CHOSEN}, {_ERRORS}}}[$__rate_interval])) "
    f"/ sum(rate(flightsql_calls_total{{{CHOSEN}}}[$__rate_interval]))"
)
_HIT = 'outcome="hit"'
_LOOKUPS = "flightsql_cache_lookups_total"
_HIT_RATIO = f"{rate(_LOOKUPS, 'cache', _HIT)} / {rate(_LOOKUPS, 'cache')}"


def _overview() -> Row:
    def stat(title: str, description: str, unit: str, promql: str) -> Panel:
        return Panel(title, description, unit, [Query(promql, "")], width=4, height=4, kind="stat")

    return Row(
        "Now",
        [
            stat("Ready", "Servers that take calls.", "none", f"sum(flightsql_ready{{{CHOSEN}}})"),
            stat("Calls", "Calls ended per second.", "reqps", f"sum({rate('flightsql_calls_total', 'instance')})"),
            stat(
                "Errors", "Share of calls that failed; those a client gave up don't count.", "percentunit", _ERROR_RATIO
            ),
            stat("Sent", "Bytes sent per second.", "Bps", f"sum({rate('flightsql_sent_bytes_total', 'instance')})"),
            stat("Sessions", "Sessions that have not ended.", "none", total("flightsql_sessions")),
            stat("Running", "Statements that run or stream now.", "none", total("flightsql_queries_running")),
        ],
    )


def _calls() -> Row:
    return Row(
        "Calls",
        [
            Panel(
                "Calls by method",
                "RPCs ended per second.",
                "reqps",
                [Query(rate("grpc_server_handled_total", "grpc_method"), "{{grpc_method}}")],
            ),
            Panel(
                "Calls by command",
                "What the calls asked for.",
                "reqps",
                [Query(rate("flightsql_calls_total", "method, command"), "{{method}} {{command}}")],
            ),
            Panel(
                "Errors by code",
                "Calls per second that did not end with OK, by gRPC status.",
                "reqps",
                [Query(rate("flightsql_calls_total", "method, code", 'code!="OK"'), "{{method}} {{code}}")],
            ),
            Panel(
                "Latency of all calls",
                "From a call's start to its last message.",
                "s",
                quantiles("flightsql_call_seconds"),
            ),
            Panel(
                "Latency by command, p95",
                "From a call's start to its last message.",
                "s",
                [
                    Query(
                        f"histogram_quantile(0.95, {rate('flightsql_call_seconds_bucket', 'le, method, command')})",
                        "{{method}} {{command}}",
                    )
                ],
            ),
            Panel(
                "Calls in flight",
                "Calls that have started and not ended.",
                "none",
                [Query(total("flightsql_calls_in_flight", "method"), "{{method}}")],
            ),
        ],
    )


def _bytes() -> Row:
    return Row(
        "Bytes and rows",
        [
            Panel(
                "Sent by method and command",
                "Bytes of messages, with their frames, without HTTP headers.",
                "Bps",
                [Query(rate("flightsql_sent_bytes_total", "method, command"), "{{method}} {{command}}")],
                width=12,
            ),
            Panel(
                "Received by method and command",
                "Bytes of messages, with their frames, without HTTP headers.",
                "Bps",
                [Query(rate("flightsql_received_bytes_total", "method, command"), "{{method}} {{command}}")],
                width=12,
            ),
            Panel(
                "Rows sent",
                "Rows of results per second, by what asked for them.",
                "rowsps",
                [Query(rate("flightsql_sent_rows_total", "command"), "{{command}}")],
                width=12,
            ),
            Panel(
                "Messages",
                "gRPC messages per second.",
                "mps",
                [
                    Query(rate("grpc_server_msg_sent_total", "grpc_method"), "sent {{grpc_method}}"),
                    Query(rate("grpc_server_msg_received_total", "grpc_method"), "received {{grpc_method}}"),
                ],
                width=12,
            ),
        ],
    )


def _statements() -> Row:
    return Row(
        "Statements",
        [
            Panel(
                "Running and waiting",
                "Statements that hold a slot, and those that wait for one.",
                "none",
                [
                    Query(total("flightsql_queries_running"), "running"),
                    Query(total("flightsql_queries_waiting"), "waiting"),
                ],
            ),
            Panel(
                "Stages, p95",
                "Where a statement's time goes.",
                "s",
                [
                    Query(
                        f"histogram_quantile(0.95, {rate('flightsql_stage_seconds_bucket', 'le, stage')})", "{{stage}}"
                    )
                ],
            ),
            Panel(
                "Cache hit ratio",
                "Share of look-ups that found what they sought.",
                "percentunit",
                [Query(_HIT_RATIO, "{{cache}}")],
                maximum=1,
            ),
            Panel(
                "Cache size",
                "Bytes that a cache holds.",
                "bytes",
                [Query(total("flightsql_cache_bytes", "cache"), "{{cache}}")],
            ),
            Panel(
                "Stopped and limited",
                "Statements stopped before their end, and calls that met a limit, per second.",
                "reqps",
                [
                    Query(rate("flightsql_statements_stopped_total", "cause"), "stopped: {{cause}}"),
                    Query(rate("flightsql_limits_hit_total", "limit"), "limit: {{limit}}"),
                ],
            ),
            Panel(
                "Incidents",
                "Calls per second that met a defect of the server.",
                "reqps",
                [Query(rate("flightsql_incidents_total", "instance"), "{{instance}}")],
            ),
        ],
    )


def _logins() -> Row:
    return Row(
        "Who comes in",
        [
            Panel(
                "Logins by outcome",
                "Handshakes per second.",
                "reqps",
                [Query(rate("flightsql_logins_total", "outcome"), "{{outcome}}")],
            ),
            Panel(
                "Refused calls",
                "Calls per second without a credential that holds, and calls ended since theirs was taken away.",
                "reqps",
                [
                    Query(rate("flightsql_refused_calls_total", "outcome"), "{{outcome}}"),
                    Query(rate("flightsql_ended_calls_total", "outcome"), "ended: {{outcome}}"),
                ],
            ),
            Panel(
                "Tokens over HTTP",
                "Answers to requests for a token, per second.",
                "reqps",
                [Query(rate("flightsql_oauth_answers_total", "grant, outcome"), "{{grant}} {{outcome}}")],
            ),
            Panel(
                "Keys of identity providers",
                "Fetches per second; held_back were asked for too soon.",
                "reqps",
                [Query(rate("flightsql_provider_key_fetches_total", "provider, outcome"), "{{provider}} {{outcome}}")],
            ),
            Panel(
                "Sessions and handles",
                "Sessions that have not ended, and open prepared statements.",
                "none",
                [
                    Query(total("flightsql_sessions"), "sessions"),
                    Query(total("flightsql_prepared_statements"), "prepared statements"),
                ],
            ),
            Panel(
                "TLS certificates end in",
                "Time until the first certificate of each file runs out.",
                "s",
                [
                    Query(
                        f"min by (instance, file) (flightsql_tls_not_after_seconds{{{CHOSEN}}}) - time()",
                        "{{file}} {{instance}}",
                    )
                ],
            ),
            Panel(
                "TLS certificates read",
                "New certificates met since the start, by outcome; refused ones left those of before in force.",
                "none",
                [Query(total("flightsql_tls_loads_total", "outcome"), "{{outcome}}")],
            ),
        ],
    )


def _ingest() -> Row:
    return Row(
        "Ingest",
        [
            Panel(
                "Rows stored",
                "Rows committed to history per second; late ones are older than what they met.",
                "rowsps",
                [
                    Query(rate("flightsql_ingested_rows_total", "dataset"), "{{dataset}}"),
                    Query(rate("flightsql_late_rows_total", "dataset"), "{{dataset}} late"),
                ],
            ),
            Panel("Commit latency", "Time of one commit of the writer.", "s", quantiles("flightsql_commit_seconds")),
            Panel(
                "Waiting batches",
                "Batches that wait for the writer.",
                "none",
                [Query(total("flightsql_ingest_waiting_batches"), "waiting")],
            ),
            Panel(
                "Batches sent again",
                "Batches that were known by their number and not stored twice, per second.",
                "ops",
                [Query(rate("flightsql_duplicate_batches_total", "dataset"), "{{dataset}}")],
            ),
            Panel(
                "Free disk",
                "Free disk where the data is; below ingest.reserve_bytes batches are refused.",
                "bytes",
                [Query(total("flightsql_disk_free_bytes"), "free")],
            ),
        ],
    )


def _live() -> Row:
    return Row(
        "Subscriptions",
        [
            Panel(
                "Subscriptions",
                "Open subscriptions, and the different queries that they ask.",
                "none",
                [
                    Query(total("flightsql_live_subscriptions", "kind"), "{{kind}}"),
                    Query(total("flightsql_live_channels"), "queries"),
                ],
            ),
            Panel(
                "Rows told",
                "Rows sent to subscribers per second, and those left out because a newer one of their key was sent.",
                "rowsps",
                [
                    Query(rate("flightsql_live_rows_total", "instance"), "told {{instance}}"),
                    Query(rate("flightsql_live_merged_rows_total", "instance"), "left out {{instance}}"),
                ],
            ),
            Panel(
                "Answers worked out",
                "Answers, and changes of answers, worked out per second.",
                "ops",
                [Query(rate("flightsql_live_evaluations_total", "kind"), "{{kind}}")],
            ),
            Panel(
                "Slow readers ended",
                "Subscriptions of the mode buffer that were ended per second because more waited than is kept.",
                "ops",
                [Query(rate("flightsql_live_slow_readers_total", "instance"), "{{instance}}")],
            ),
        ],
    )


def _changes() -> Row:
    return Row(
        "Changes",
        [
            Panel(
                "Bytes saved",
                "Bytes per second that compression kept off the wire.",
                "Bps",
                [Query(rate("flightsql_compression_saved_bytes_total", "compression"), "{{compression}}")],
            ),
            Panel(
                "Rows changed",
                "Rows of users' own tables changed per second.",
                "rowsps",
                [Query(rate("flightsql_changed_rows_total", "instance"), "{{instance}}")],
            ),
            Panel(
                "Open transactions", "Transactions open now.", "none", [Query(total("flightsql_transactions"), "open")]
            ),
            Panel(
                "Transactions ended",
                "Transactions ended per second, by how; idle ones were rolled back.",
                "ops",
                [Query(rate("flightsql_transactions_ended_total", "how"), "{{how}}")],
            ),
            Panel(
                "Policies read",
                "Policies read since the start, by outcome; refused ones left those of before in force.",
                "none",
                [Query(total("flightsql_policy_loads_total", "outcome"), "{{outcome}}")],
            ),
            Panel(
                "Temporary tables",
                "Sessions that have made temporary tables.",
                "none",
                [Query(total("flightsql_temporary_schemas"), "sessions")],
            ),
            Panel(
                "Waiting results",
                "Bytes of results of changes and transactions that wait to be fetched.",
                "bytes",
                [Query(total("flightsql_waiting_result_bytes", "where"), "{{where}}")],
            ),
        ],
    )


def _audit() -> Row:
    by = "{{instance}}"
    return Row(
        "Audit trail",
        [
            Panel(
                "Audit lines by event",
                "Lines of the audit trail written per second.",
                "ops",
                [Query(rate("flightsql_audit_lines_total", "event"), "{{event}}")],
                stack=True,
            ),
            Panel(
                "Audit bytes",
                "Bytes of the audit trail written per second.",
                "Bps",
                [Query(rate("flightsql_audit_bytes_total", "instance"), by)],
            ),
            Panel(
                "Last audit line",
                "Number of the last line: a witness of the trail's length, kept here.",
                "none",
                [Query(total("flightsql_audit_sequence", "instance"), by)],
            ),
            Panel(
                "Audit lines waiting",
                "Lines that are open or wait to be written, of audit.queue_lines.",
                "none",
                [Query(total("flightsql_audit_waiting_lines", "instance"), by)],
            ),
            Panel(
                "Audit failures",
                "Attempts to write that failed, and lines lost, per second: anything but 0 is wrong.",
                "ops",
                [
                    Query(rate("flightsql_audit_write_errors_total", "instance"), f"failed {by}"),
                    Query(rate("flightsql_audit_lost_lines_total", "instance"), f"lost {by}"),
                ],
            ),
        ],
    )


def _process() -> Row:
    by = "{{instance}}"
    return Row(
        "Process",
        [
            Panel(
                "Processor",
                "Processor time; 100 % is one core.",
                "percentunit",
                [Query(rate("process_cpu_seconds_total", "instance"), by)],
            ),
            Panel(
                "Memory",
                "Resident memory.",
                "bytes",
                [Query(total("process_resident_memory_bytes", "instance"), by)],
            ),
            Panel(
                "Open files",
                "File descriptors, connections among them.",
                "none",
                [Query(total("process_open_fds", "instance"), by)],
            ),
        ],
    )


SERVICE = Dashboard(
    uid="flightsql-service",
    title="Flight SQL: Service",
    description="Rate, errors, latency, bytes, statements, logins and ingest of a Flight SQL server.",
    rows=(
        *(_overview(), _calls(), _bytes(), _statements(), _logins(), _changes(), _ingest(), _live(), _audit()),
        _process(),
    ),
)
DASHBOARDS = {"service": SERVICE}


def queries(dashboard: Dashboard) -> Iterator[Query]:
    """Every query of every panel."""
    for row in dashboard.rows:
        for panel in row.panels:
            yield from panel.queries


def document(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": list(dashboard.tags),
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "links": [],
        "panels": _placed(dashboard.rows),
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1},
        {
            "name": "instance",
            "label": "Instance",
            "type": "query",
            "datasource": DATASOURCE,
            "query": {"query": 'label_values(flightsql_ready{job="flightsql"}, instance)', "refId": "instance"},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "current": {"text": ["All"], "value": ["$__all"]},
        },
    ]


def _placed(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The panels with their ids and places, from left to right and from top to bottom."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
        )
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y, height = 0, y + height, 0
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_panel(panel)})
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return panels


def _panel(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    options: dict[str, Any]
    if panel.kind == "stat":
        defaults["color"] = {"mode": "fixed", "fixedColor": "text"}
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area"}
    else:
        stacking = {"mode": "normal" if panel.stack else "none"}
        defaults["custom"] = {"fillOpacity": 10, "showPoints": "never", "stacking": stacking}
        options = {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATASOURCE,
                "expr": query.promql,
                "legendFormat": query.legend or "__auto",
                "range": panel.kind != "stat",
                "instant": panel.kind == "stat",
            }
            for number, query in enumerate(panel.queries)
        ],
    }


def text(dashboard: Dashboard) -> str:
    """The file's content."""
    return json.dumps(document(dashboard), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    for name, dashboard in DASHBOARDS.items():
        path = HERE / "dashboards" / f"{name}.json"
        path.write_text(text(dashboard), encoding="utf-8")
        print(f"{path.relative_to(HERE.parent)}: {len(document(dashboard)['panels'])} panels")  # noqa: T201


if __name__ == "__main__":
    main()
