"""What exists for a principal: the answers to the metadata commands, before the wire gives them their columns."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from functools import lru_cache

from flightsql_auth.policies import Grants

from flightsql_server import planner
from flightsql_server.model import (
    INFORMATION_SCHEMA,
    LIVE_TABLE,
    TEMPORARY_TABLE,
    VIEW,
    Catalog,
    Engine,
    ForeignKey,
    Table,
    TableName,
)

_VERSIONS = itertools.count(2)
SEARCH_ESCAPE = "\\"
TABLE_TYPES = (LIVE_TABLE, TEMPORARY_TABLE, VIEW)


class CurrentCatalog:
    """The tables of datasets, of users and of operations.

    ``current`` is replaced, never changed; each has its own version.
    """

    def __init__(self, datasets: Catalog, engine: Engine) -> None:
        """Takes the users' tables from the engine; blocks."""
        operations = {table.table_name: table for table in planner.operations_tables()}
        self._lasting = {**datasets.tables, **operations}
        self._engine = engine
        self.current = self.with_tables(engine.user_tables())

    def with_tables(self, tables: Iterable[Table]) -> Catalog:
        """A catalog with these users' tables in the place of those there were."""
        known = {**self._lasting, **{table.table_name: table for table in tables}}
        return Catalog(known, next(_VERSIONS))

    def refresh(self) -> None:
        """Looks again at what tables users have; blocks."""
        self.current = self.with_tables(self._engine.user_tables())


@lru_cache(maxsize=1024)
def like(pattern: str) -> re.Pattern[str]:
    r"""The pattern of LIKE as a regular expression: ``%`` any text, ``_`` any character, ``\`` escapes.

    What stands between two ``%`` is taken where it is found first and never looked for again (an atomic group):
    otherwise a pattern of many ``%`` would take exponential time.
    """
    parts: list[str] = [""]
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        if letter == SEARCH_ESCAPE and at + 1 < len(pattern):
            at += 1
            parts[-1] += re.escape(pattern[at])
        elif letter == "%":
            parts.append("")
        else:
            parts[-1] += "." if letter == "_" else re.escape(letter)
        at += 1
    first, *rest = parts
    middle = "".join(f"(?>.*?{part})" for part in rest[:-1] if part)
    return re.compile(first + middle + (f".*{rest[-1]}" if rest else ""), re.DOTALL | re.IGNORECASE)


def _matches(pattern: str | None, name: str) -> bool:
    return pattern is None or like(pattern).fullmatch(name) is not None


def visible_tables(catalog: Catalog, grants: Grants) -> list[Table]:
    """The tables that the principal may select from, sorted by schema and name."""
    seen = (
        table
        for table in catalog.tables.values()
        if grants.allows("select", schema=table.schema, name=table.name, dataset=table.dataset)
    )
    return sorted(seen, key=lambda table: (table.schema, table.name))


def visible_schemas(catalog: Catalog, grants: Grants) -> list[str]:
    """The schemas that hold something for the principal, with ``main`` and the information schema, sorted."""
    names = {table.schema for table in visible_tables(catalog, grants)}
    return sorted(names | {"main", INFORMATION_SCHEMA})


def schemas(
    catalog: Catalog, grants: Grants, *, catalog_name: str | None, schema_pattern: str | None
) -> list[tuple[str, str]]:
    """(catalog, schema) pairs; the catalog's name is compared exactly, and None means any."""
    if catalog_name not in (None, catalog.name):
        return []
    return [(catalog.name, name) for name in visible_schemas(catalog, grants) if _matches(schema_pattern, name)]


def tables(
    catalog: Catalog,
    grants: Grants,
    *,
    catalog_name: str | None = None,
    schema_pattern: str | None = None,
    table_pattern: str | None = None,
    types: Iterable[str] = (),
) -> list[Table]:
    """The visible tables that pass every filter; an empty catalog name asks for tables without one: there are none.

    Types are compared without case, since clients ask for ``TABLE`` and ``BASE TABLE`` alike.
    """
    if catalog_name not in (None, catalog.name):
        return []
    wanted = {LIVE_TABLE if name.upper() == "TABLE" else name.upper() for name in types}
    return [
        table
        for table in visible_tables(catalog, grants)
        if _matches(schema_pattern, table.schema)
        and _matches(table_pattern, table.name)
        and (not wanted or table.kind in wanted)
    ]


def foreign_keys(
    catalog: Catalog,
    grants: Grants,
    *,
    holder: tuple[str | None, str | None, str | None] = (None, None, None),
    target: tuple[str | None, str | None, str | None] = (None, None, None),
) -> list[tuple[Table, ForeignKey]]:
    """The foreign keys of visible tables that point to visible ones, each with the table that holds it.

    ``holder`` and ``target`` are catalog, schema and table, compared exactly; None is any, and so is ``%``.
    """

    def fits(table: TableName, wanted: tuple[str | None, str | None, str | None]) -> bool:
        found = (catalog.name, table.schema, table.name)
        return all(one in (None, "%", mine) for one, mine in zip(wanted, found, strict=True))

    seen = visible_tables(catalog, grants)
    names = {table.table_name for table in seen}
    return [
        (table, key)
        for table in seen
        for key in table.foreign_keys
        if key.table in names and fits(table.table_name, holder) and fits(key.table, target)
    ]


def keyed_tables(
    catalog: Catalog, grants: Grants, *, catalog_name: str | None, schema: str | None, table: str
) -> list[Table]:
    """The visible tables of that exact name that have a primary key; None for catalog or schema means any.

    ``%`` alone is taken as every table: tools send it although the names of key commands are no patterns.
    """
    if catalog_name not in (None, catalog.name):
        return []
    return [
        found
        for found in visible_tables(catalog, grants)
        if found.key and schema in (None, found.schema, "%") and table in (found.name, "%")
    ]
