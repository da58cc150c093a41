"""The types of a tree's nodes, as far as the catalog and the text tell them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from sqlglot import exp
from sqlglot.dialects import DuckDB
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify_columns import qualify_columns
from sqlglot.schema import MappingSchema

from flightsql_server.model import Column, Table
from flightsql_server.planner.information import type_name
from flightsql_server.planner.names import fold

INTEGERS = frozenset(exp.DataType.INTEGER_TYPES)
FLOATS = frozenset(exp.DataType.FLOAT_TYPES)
DECIMALS = frozenset({exp.DType.DECIMAL, exp.DType.BIGDECIMAL})
NUMBERS = INTEGERS | FLOATS | DECIMALS
TEXTS = frozenset(exp.DataType.TEXT_TYPES)
LISTS = frozenset({exp.DType.ARRAY, exp.DType.LIST})
DATES = frozenset({exp.DType.DATE, exp.DType.DATE32})
TIMESTAMPS = frozenset(exp.DataType.TEMPORAL_TYPES) - DATES - {exp.DType.TIME, exp.DType.TIMETZ}


@lru_cache(maxsize=1_000)
def _data_type(name: str) -> exp.DataType:
    """A type by the engine's name of it; parsed once, and shared, since nobody changes a type."""
    return exp.DataType.build(name, dialect="duckdb")


def _literal(annotator: Any, node: exp.Expr) -> exp.Expr:
    """A number with a point and no exponent is a decimal, where sqlglot takes it for a floating-point number."""
    kind = "VARCHAR" if node.args.get("is_string") else "INT"
    if kind == "INT" and not node.name.isdigit():
        kind = "DOUBLE" if "e" in node.name.lower() else "DECIMAL"
    annotator._set_type(node, exp.DataType.build(kind))
    return node


_METADATA: Any = {**DuckDB.EXPRESSION_METADATA, exp.Literal: {"annotator": _literal}}


def _plain(node: exp.Expr) -> exp.DType | None:
    """The type of what says its type itself: a text, a cast."""
    if isinstance(node, exp.Literal) and node.is_string:
        return exp.DType.VARCHAR
    if isinstance(node, exp.Cast) and isinstance(node.to.this, exp.DType):
        return node.to.this
    return None


def _readable(tree: exp.Expr) -> exp.Expr:
    """The tree with conditions on groups among its results and LATERAL taken away: types are not found in either."""
    for select in list(tree.find_all(exp.Select)):
        for part in ("having", "qualify"):
            clause = select.args.get(part)
            if clause is not None and not isinstance(select.parent, exp.SetOperation):
                select.set(part, None)
                select.append("expressions", clause.this)
    for lateral in list(tree.find_all(exp.Lateral)):
        query = lateral.this
        if isinstance(query, exp.Subquery):
            query.set("alias", lateral.args.get("alias"))
            lateral.replace(query)
    return tree


def _as_query(tree: exp.Expr) -> exp.Expr | None:
    """A query made of the nodes of a statement, in which each stands among the columns that it may name."""
    if isinstance(tree, exp.Query):
        return tree
    with_ = tree.args.get("with_")
    query: exp.Expr | None = None
    if isinstance(tree, (exp.Insert, exp.Create)):
        query = tree.args.get("expression")
    elif isinstance(tree, (exp.Update, exp.Delete)):
        values = [one.expression for one in tree.expressions if isinstance(one, exp.EQ)]
        query = exp.Select(expressions=values or [exp.Star()]).from_(tree.this, copy=False)
        if tree.args.get("from_"):
            query = query.join(tree.args["from_"].this, join_type="cross", copy=False)
        for other in tree.args.get("using") or ():
            query = query.join(other, join_type="cross", copy=False)
        if tree.args.get("where"):
            query.set("where", tree.args["where"])
    if query is not None and with_ is not None and isinstance(query, exp.Query):
        query.set("with_", with_)
    return query if isinstance(query, exp.Query) else None


class Types:
    """Finds the types when the first is asked for. A copy of the tree is annotated, so the tree stays as it is.

    The tree's tables are named in full, as ``binding.write_names`` leaves them. Where the columns can't be told apart
    nothing is known of any: the engine then has its own word to say on the statement.
    """

    def __init__(self, tree: exp.Expr, catalog: str, tables: Iterable[Table]) -> None:
        self._tree = tree
        self._catalog = catalog
        self._tables = tuple(tables)
        self._known: dict[int, exp.DType] | None = None
        self.found: dict[str, Any] = {}
        """What rewrites have found out about the whole tree, so that they look at it once."""
        self._scales: dict[int, int] = {}
        self._mentioned: set[exp.DType] | None = None
        self._aliases: dict[str, list[exp.Expr]] | None = None
        # What is known goes by the identity of nodes, so none of them may be forgotten and its place be taken.
        self._nodes: list[exp.Expr] = []

    def of(self, node: exp.Expr) -> exp.DType | None:
        """The type of a node that was in the tree from the start; None: not known."""
        if self._known is None:
            plain = _plain(node)  # needs no look at the tree
            if plain is not None:
                return plain
            self._known = self._annotated()
        return self._known.get(id(node))

    def scale_of(self, node: exp.Expr) -> int | None:
        """How many digits of a decimal stand behind the point, where its type says so."""
        if self.of(node) not in DECIMALS:
            return None
        return self._scales.get(id(node))

    def keep(self, new: exp.Expr, node: exp.Expr) -> None:
        """Notes that ``new`` takes the place of ``node``, and that it is of its type unless another was noted."""
        type_ = new.args["to"].this if isinstance(new, exp.Cast) else self.of(node)
        if type_ is not None and self.of(new) is None:
            self.note(new, type_)

    def note(self, new: exp.Expr, type_: exp.DType) -> None:
        """Notes the type of a node that a rewrite has made, or that another system has there."""
        if self._known is None:
            self._known = self._annotated()
        self._nodes.append(new)
        self._known[id(new)] = type_

    def columns_of(self, node: exp.Table) -> tuple[Column, ...]:
        """The columns of a table of the catalog, as it was bound; none for any other."""
        for table in self._tables:
            if table.name == node.name and table.schema == node.db and node.catalog:
                return table.columns
        return ()

    def may_hold(self, type_: exp.DType) -> bool:
        """Whether anything here can be of the type: a column of a table, or something that is cast to it."""
        if self._mentioned is None:
            named = {type_name(column.type) for table in self._tables for column in table.columns}
            self._mentioned = {_data_type(name).this for name in named}
            self._mentioned |= {node.this for node in self._tree.find_all(exp.DataType)}
        return type_ in self._mentioned

    def computed(self, name: str) -> list[exp.Expr]:
        """The columns of this name that queries of the statement compute: each is an alias."""
        if self._aliases is None:
            self._aliases = {}
            for alias in self._tree.find_all(exp.Alias):
                self._aliases.setdefault(fold(alias.alias), []).append(alias)
        return self._aliases.get(fold(name), [])

    def all_of(self, kinds: frozenset[exp.DType], *nodes: exp.Expr) -> bool:
        """Whether every one of the nodes is known to be of one of these types."""
        return all(self.of(node) in kinds for node in nodes)

    def _annotated(self) -> dict[int, exp.DType]:
        schemas: dict[str, dict[str, dict[str, exp.DataType]]] = {}
        for table in self._tables:
            columns = {fold(column.name): _data_type(type_name(column.type)) for column in table.columns}
            schemas.setdefault(fold(table.schema), {})[fold(table.name)] = columns
        copied = self._tree.copy()
        pairs = list(zip(self._tree.walk(), copied.walk(), strict=True))
        self._nodes = [mine for mine, _ in pairs]
        for identifier in copied.find_all(exp.Identifier):
            identifier.set("this", fold(identifier.this))
        nested: Any = {fold(self._catalog): schemas} if schemas else {}
        schema = MappingSchema(nested, dialect="duckdb", normalize=False)
        try:
            query = _as_query(copied)
            if query is None:
                self._annotate_by_name(copied)
                annotate_types(copied, schema, dialect="duckdb", overwrite_types=False, expression_metadata=_METADATA)
            else:
                query = qualify_columns(_readable(query), schema, expand_alias_refs=False, expand_stars=False)
                annotate_types(query, schema, dialect="duckdb", expression_metadata=_METADATA)
        except (SqlglotError, ValueError, KeyError, AttributeError, TypeError, AssertionError):
            return {}
        known = {}
        for mine, copy in pairs:  # the copies are the very nodes that were annotated
            type_ = copy.type
            if type_ is not None and type_.this not in (exp.DType.UNKNOWN, exp.DType.NULL):
                known[id(mine)] = type_.this
                if type_.this in DECIMALS and len(type_.expressions) == 2:
                    self._scales[id(mine)] = int(type_.expressions[1].name)
        return known

    def _annotate_by_name(self, tree: exp.Expr) -> None:
        """Types of the columns of a statement that changes rows: it has no scopes, so what names tell must do."""
        found: dict[str, set[str]] = {}
        for table in self._tables:
            for column in table.columns:
                found.setdefault(fold(column.name), set()).add(type_name(column.type))
        for node in tree.find_all(exp.Column):
            types = found.get(fold(node.name), set())
            if len(types) == 1:
                node.type = _data_type(next(iter(types)))
