"""``ops``: what the server is doing now, as tables that administrators read; their rows come with the request."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UndefinedTable
from flightsql_server.planner.information import View
from flightsql_server.planner.names import fold, shown
from flightsql_server.planner.request import Draft

SCHEMA = "ops"
_TIME = "TIMESTAMP WITH TIME ZONE"


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
}


def is_operations(draft: Draft, schema: str, catalog: str) -> bool:
    """Whether a table's name lies in ``ops`` and the caller is one for whom that exists."""
    ours = ("", fold(draft.request.catalog.name))
    return fold(schema) == SCHEMA and fold(catalog) in ours and draft.request.grants.admin


def rows_sql(draft: Draft, node: exp.Table, name: str) -> str:
    """A query for the rows of one of the tables; UndefinedTable for another name."""
    view = VIEWS.get(name)
    if view is None or draft.request.operations is None:
        raise UndefinedTable(
            f'Table "{SCHEMA}.{shown(node.name)}" does not exist.', hint=f"There are: {', '.join(VIEWS)}."
        )
    draft.volatile = True
    return view.select(draft.request.operations.get(name, []))
