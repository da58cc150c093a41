"""Which tables exist for the caller, and how a name finds one."""

from __future__ import annotations

from collections.abc import Iterator

from flightsql_server.errors import UndefinedTable
from flightsql_server.model import MAIN_SCHEMA, Catalog, Table, TableName
from flightsql_server.planner.names import did_you_mean, fold, shown
from flightsql_server.planner.request import Request

# What other systems call the schema of a session's temporary tables.
TEMPORARY_WORDS = frozenset({"temp", "pg_temp"})


def find_table(request: Request, name: str, schema: str = "", catalog: str = "") -> Table:
    """The table of that name that the caller may see; raises the same UndefinedTable for absent and for hidden ones."""
    for candidate in candidates(request, name, schema, catalog):
        table = lookup(request.catalog, candidate)
        if table is not None and may_see(request, table):
            return table
    written = ".".join(part for part in (catalog, schema, name) if part)
    raise UndefinedTable(
        f'Table "{shown(written)}" does not exist.', hint=did_you_mean(name, visible_names(request)), word=name
    )


def may_see(request: Request, table: Table) -> bool:
    """Whether the table exists for the caller."""
    return request.grants.allows("select", schema=table.schema, name=table.name, dataset=table.dataset)


def visible(request: Request) -> list[Table]:
    """Every table that exists for the caller, by schema and name."""
    tables = (request.catalog.tables[name] for name in sorted(request.catalog.tables))
    return [table for table in tables if may_see(request, table)]


def candidates(request: Request, name: str, schema: str, catalog: str) -> Iterator[TableName]:
    ours = fold(request.catalog.name)
    if catalog:
        if fold(catalog) == ours:
            yield TableName(schema, name)
        return
    grants = request.grants
    search_path = dict.fromkeys(filter(None, (grants.temporary, request.schema, grants.own, MAIN_SCHEMA)))
    if fold(schema) in TEMPORARY_WORDS:
        if grants.temporary:
            yield TableName(grants.temporary, name)
        return
    if schema:
        yield TableName(schema, name)
        if fold(schema) != ours:
            return
        # ``desk.t`` names the catalog and leaves the schema open.
    for current in search_path:
        yield TableName(current, name)


def lookup(catalog: Catalog, wanted: TableName) -> Table | None:
    found = catalog.tables.get(wanted)
    if found is not None:
        return found
    schema, name = fold(wanted.schema), fold(wanted.name)
    matches = [key for key in catalog.tables if fold(key.name) == name and fold(key.schema) == schema]
    return catalog.tables[min(matches)] if matches else None


def visible_names(request: Request) -> Iterator[str]:
    for table in visible(request):
        here = table.schema in (MAIN_SCHEMA, request.schema, request.grants.own, request.grants.temporary)
        yield table.name if here else f"{table.schema}.{table.name}"
