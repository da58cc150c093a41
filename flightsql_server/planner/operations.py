"""``ops``: what the server is doing now, as tables; their rows come with the request."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.model import VIEW, Column, Table
from flightsql_server.planner.information import Row, View
from flightsql_server.planner.names import identifier, literal
from flightsql_server.planner.request import Draft

SCHEMA = "ops"
_TIME = "TIMESTAMP WITH TIME ZONE"
_LINE_END, _VALUE_END = "\x1e", "\x1f"


def _view(*columns: tuple[str, str]) -> View:
    return View(columns, tuple(name for name, _ in columns))


VIEWS = {
    "sessions": _view(
        ("session_id", "VARCHAR"),
        ("user_name", "VARCHAR"),
        ("peer", "VARCHAR"),
        ("user_agent", "VARCHAR"),
        ("created_at", _TIME),
        ("last_seen", _TIME),
        ("expires_at", _TIME),
        ("transactions", "BIGINT"),
        ("prepared_statements", "BIGINT"),
    ),
    "queries": _view(
        ("query_id", "BIGINT"),
        ("user_name", "VARCHAR"),
        ("session_id", "VARCHAR"),
        ("peer", "VARCHAR"),
        ("started_at", _TIME),
        ("dialect", "VARCHAR"),
        ("statement", "VARCHAR"),
    ),
    "subscriptions": _view(
        ("subscription_id", "BIGINT"),
        ("user_name", "VARCHAR"),
        ("session_id", "VARCHAR"),
        ("peer", "VARCHAR"),
        ("started_at", _TIME),
        ("kind", "VARCHAR"),
        ("mode", "VARCHAR"),
        ("paused", "BIGINT"),
        ("position", "BIGINT"),
        ("lag", "BIGINT"),
        ("sent_batches", "BIGINT"),
        ("sent_rows", "BIGINT"),
        ("merged_rows", "BIGINT"),
        ("statement", "VARCHAR"),
    ),
    "audit": _view(
        ("sequence", "BIGINT"),
        ("time", _TIME),
        ("event", "VARCHAR"),
        ("user_name", "VARCHAR"),
        ("method", "VARCHAR"),
        ("roles", "VARCHAR"),
        ("peer", "VARCHAR"),
        ("session_id", "VARCHAR"),
        ("command", "VARCHAR"),
        ("dialect", "VARCHAR"),
        ("statement", "VARCHAR"),
        ("reads", "VARCHAR"),
        ("writes", "VARCHAR"),
        ("policy_version", "VARCHAR"),
        ("rows", "BIGINT"),
        ("received_bytes", "BIGINT"),
        ("sent_bytes", "BIGINT"),
        ("milliseconds", "BIGINT"),
        ("outcome", "VARCHAR"),
        ("sqlstate", "VARCHAR"),
        ("reason", "VARCHAR"),
        ("hash", "VARCHAR"),
    ),
}


_ARROW = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), _TIME: pa.timestamp("us", "UTC")}


def tables() -> list[Table]:
    """The tables as the catalog lists them."""
    return [
        Table(SCHEMA, name, tuple(Column(column, _ARROW[kind]) for column, kind in view.columns), VIEW)
        for name, view in VIEWS.items()
    ]


def rows_sql(draft: Draft, name: str) -> str:
    """A query for the rows of one of the tables, which came with the request."""
    if draft.request.operations is None:
        raise UnsupportedFeature("The tables of ops can't be read in this way.", hint="Name their schema: ops.queries.")
    draft.volatile = True
    rows = draft.request.operations.get(name, [])
    return _split(VIEWS[name], rows) if name == "audit" else VIEWS[name].select(rows)


def _split(view: View, rows: Sequence[Row]) -> str:
    """The same as ``View.select``, for many rows: one literal that the engine cuts, since each takes long to parse."""
    lines = _LINE_END.join(_VALUE_END.join(map(_without_ends, row)) for row in rows)
    columns = ", ".join(
        f"CAST(NULLIF(values_[{at}], '') AS {kind}) AS {identifier(column)}"
        for at, (column, kind) in enumerate(view.columns, 1)
    )
    cut = f"SELECT UNNEST(STRING_SPLIT({literal(lines)}, {literal(_LINE_END)})) AS line_"
    values = f"SELECT STRING_SPLIT(line_, {literal(_VALUE_END)}) AS values_ FROM ({cut}) AS lines_"
    return f"SELECT {columns} FROM ({values}) AS rows_{'' if rows else ' WHERE FALSE'}"


def _without_ends(value: str | int | None) -> str:
    return "" if value is None else str(value).replace(_LINE_END, " ").replace(_VALUE_END, " ")
