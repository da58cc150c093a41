"""Whether the caller may subscribe: to each table that a subscription reads, and to one subscription more."""

from __future__ import annotations

from collections.abc import Iterable

from flightsql_auth.policies import Action, Grants

from flightsql_server.errors import AccessDenied, LimitReached, UndefinedTable
from flightsql_server.metrics import Metrics
from flightsql_server.model import Catalog, TableName


def may_subscribe(grants: Grants, catalog: Catalog, tables: Iterable[TableName]) -> None:
    """Raises UndefinedTable for what does not exist for the caller, else AccessDenied for what may only be selected.

    ``tables`` are those that the plan reads for the caller, as ``Plan.tables`` names them; what row filters read needs
    no grant.
    """
    names = list(tables)
    for name in names:
        if not _allows(grants, "select", catalog, name):
            raise UndefinedTable(f'Table "{name.name[:60]}" does not exist.')
    for name in names:
        if not _allows(grants, "subscribe", catalog, name):
            raise AccessDenied(
                f"You may read {name.name}, but not subscribe to it.", hint="Ask for a role with subscribe on it."
            )


def may_open_another(grants: Grants, open_now: int, metrics: Metrics) -> None:
    """LimitReached when the caller has as many subscriptions open as the roles allow."""
    most = grants.limits.subscriptions
    if most and open_now >= most:
        metrics.limit("role.subscriptions")
        raise LimitReached(f"You have {most} subscriptions open, as many as your roles allow.", hint="End one of them.")


def _allows(grants: Grants, action: Action, catalog: Catalog, name: TableName) -> bool:
    table = catalog.tables.get(name)
    return table is not None and grants.allows(action, schema=table.schema, name=table.name, dataset=table.dataset)
