"""Whether a policy fits the tables that there are: looked at before a server serves under it."""

from __future__ import annotations

from flightsql_auth.policies import Policies, PolicyError, Role
from flightsql_auth.restrictions import covers

from flightsql_server import planner
from flightsql_server.errors import ServerError
from flightsql_server.model import USER_SCHEMA, Catalog, Engine, SessionOptions, Table


def check(policies: Policies, catalog: Catalog, engine: Engine | None = None) -> None:
    """Raises PolicyError, naming role and table, for a filter or mask that can't be applied.

    With an engine, which has the tables, the types are looked at as well. Blocks then.
    """
    for role in policies.roles.values():
        for restriction in role.restrictions:
            if restriction.pattern.startswith(USER_SCHEMA):
                continue  # such tables come and go; what doesn't fit them fails when they are read
            tables = [table for table in catalog.tables.values() if _covers(restriction.pattern, table)]
            if not tables:
                raise PolicyError(f"role {role.name!r}: {restriction.pattern!r} means no table that there is")
            for table in tables:
                _check_table(policies, role, table, catalog, engine)


def _covers(pattern: str, table: Table) -> bool:
    return covers(pattern, schema=table.schema, name=table.name, dataset=table.dataset)


def _check_table(policies: Policies, role: Role, table: Table, catalog: Catalog, engine: Engine | None) -> None:
    names = {column.name for column in table.columns}
    for restriction in role.restrictions:
        for column, _ in restriction.masks if _covers(restriction.pattern, table) else ():
            if column not in names:
                raise PolicyError(f"role {role.name!r}: {table.name} has no column {column!r} to mask")
    grants = policies.grants([role.name])
    if grants.views(schema=table.schema, name=table.name, dataset=table.dataset) is None:
        return
    name = ".".join(map(planner.identifier, table.table_name))
    request = planner.Request(f"SELECT * FROM {name}", "duckdb", "nobody", grants, catalog)
    try:
        plan = planner.plan(request)
        if engine is not None:
            engine.describe(plan.sql, SessionOptions())
    except ServerError as error:
        raise PolicyError(f"role {role.name!r}, table {table.name}: {error}") from error
