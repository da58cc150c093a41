"""Predicates and masks of a policy: read once, then filled with what is claimed of the caller.

They are the administrator's words, in the engine's dialect, and pass the same gate as a statement. Their columns are
tied to the table that they speak of, so that no name of the user's statement can come between.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import NamedTuple

from flightsql_auth.restrictions import View
from sqlglot import exp

from flightsql_server.errors import UndefinedColumn, UnsupportedFeature
from flightsql_server.model import Catalog, Table, TableName
from flightsql_server.planner import allowed, functions
from flightsql_server.planner.information import type_name
from flightsql_server.planner.names import fold, shown
from flightsql_server.planner.request import Request

SELF = "policy of this table"
"""The name of a table inside of the sub-select that shows a part of it. It is no name that a statement would use."""
CLAIMS = "claims"
_ROUND = re.compile(r"round\((-?\d+)\)")


def condition(request: Request, table: Table, view: View) -> exp.Expr:
    """When a row is in this part: all of its predicates hold."""
    found = [_filled(_read(text, table, request.catalog), request) for text in view.predicates]
    return exp.paren(exp.and_(*found), copy=False) if found else exp.true()


def mask(request: Request, table: Table, column: str, how: str) -> exp.Expr:
    """What is shown in the column's place; of the column's type."""
    bare = exp.column(exp.to_identifier(column, quoted=True), SELF, quoted=True)
    type_ = next(one.type for one in table.columns if one.name == column)
    rounded = _ROUND.fullmatch(how)
    if how == "null":
        value: exp.Expr = exp.Null()
    elif how == "hash":
        value = exp.Anonymous(this="sha256", expressions=[bare])
    elif how == "last4":
        last = exp.Anonymous(this="right", expressions=[bare, exp.Literal.number(4)])
        value = exp.DPipe(this=exp.Literal.string("****"), expression=last)
    elif rounded:
        value = exp.Anonymous(this="round", expressions=[bare, exp.convert(int(rounded[1]))])
    else:
        value = _filled(_read(how.removeprefix("="), table, request.catalog), request)
    return exp.cast(value, exp.DataType.build(type_name(type_), dialect="duckdb"), copy=False)


def texts(view: View) -> list[str]:
    """The predicates of a part, and the expressions of its masks."""
    return [*view.predicates, *(mask[1:] for _, mask in view.masks if mask.startswith("="))]


class Reads(NamedTuple):
    """What an expression of a policy depends on besides the row."""

    tables: frozenset[TableName]
    volatile: bool


def reads(text: str, table: Table, catalog: Catalog) -> Reads:
    """Which tables the expression reads, and whether it may differ between two runs on the same data."""
    tree = _read(text, table, catalog)
    tables = frozenset(TableName(node.db, node.name) for node in tree.find_all(exp.Table) if node.db)
    volatile = any(
        node.__class__ in allowed.VOLATILE
        or (
            isinstance(node, (exp.Anonymous, exp.Column))
            and fold(node.name) in functions.VOLATILE | functions.CLOCK_WORDS
        )
        for node in tree.walk()
    )
    return Reads(tables, volatile)


@lru_cache(maxsize=4_000)
def _compiled(text: str, schema: str, name: str, columns: tuple[str, ...], catalog: _Frozen) -> exp.Expr:
    """The expression as a tree whose columns belong to ``SELF`` and whose other tables are named in full."""
    from flightsql_server.planner import bound_condition  # the rules stand above this module

    tree = bound_condition(text, TableName(schema, name), catalog.catalog)
    for node in tree.walk():
        if node.__class__ in allowed.SESSION and not isinstance(node, exp.CurrentUser):
            raise UnsupportedFeature("Of the session a policy knows current_user alone.", hint="Use a claim.")
    folded = {fold(column): column for column in columns}
    for column in list(tree.find_all(exp.Column)):
        if fold(column.table) == CLAIMS:
            continue
        mine = fold(column.table) == fold(name)
        if column.find_ancestor(exp.Query) is not None:
            if mine and not _is_shadowed(column, name):
                column.set("table", exp.to_identifier(SELF, quoted=True))
            continue
        if (column.table and not mine) or fold(column.name) not in folded:
            raise UndefinedColumn(f'{name} has no column "{shown(column.sql())}".')
        column.set("this", exp.to_identifier(folded[fold(column.name)], quoted=True))
        column.set("table", exp.to_identifier(SELF, quoted=True))
    return tree


def _is_shadowed(column: exp.Expr, name: str) -> bool:
    """Whether a query around the column has a table of that name of its own."""
    query = column.find_ancestor(exp.Query)
    while query is not None:
        sources = (*query.find_all(exp.Table), *query.find_all(exp.Subquery))
        if any(fold(source.alias_or_name) == fold(name) for source in sources):
            return True
        query = query.find_ancestor(exp.Query)
    return False


class _Frozen:
    """A catalog as part of a key: two of the same version are the same."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def __hash__(self) -> int:
        return hash(self.catalog.version)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Frozen) and other.catalog.version == self.catalog.version


def _read(text: str, table: Table, catalog: Catalog) -> exp.Expr:
    columns = tuple(column.name for column in table.columns)
    return _compiled(text, table.schema, table.name, columns, _Frozen(catalog))


def _filled(tree: exp.Expr, request: Request) -> exp.Expr:
    """The tree with each claim as a literal: a list inside of IN as its items, a claim that nobody made as NULL."""
    known = {fold(name): json.loads(text) for name, text in request.grants.claims}
    filled = tree.copy()
    for node in list(filled.find_all(exp.CurrentUser)):
        node.replace(exp.Literal.string(request.principal_name))
    for column in list(filled.find_all(exp.Column)):
        if fold(column.table) != CLAIMS:
            continue
        value = known.get(fold(column.name))
        parent = column.parent
        if isinstance(parent, exp.In) and column.arg_key == "expressions":
            items = value if isinstance(value, list) else [value]
            others = [one for one in parent.expressions if one is not column]
            parent.set("expressions", [*others, *(exp.convert(item) for item in items or [None])])
        elif isinstance(value, list):
            column.replace(exp.Array(expressions=[exp.convert(item) for item in value]))
        else:
            column.replace(exp.convert(value))
    return filled
