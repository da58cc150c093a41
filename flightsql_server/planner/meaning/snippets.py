"""Pieces of the engine's SQL with places for nodes of the tree: what a rewrite writes, as it will be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import sqlglot
from sqlglot import exp

from flightsql_server.errors import StatementTooComplex

_MOST_NODES = 500
_BRACKETED = (exp.Binary, exp.Unary, exp.Interval, exp.Between, exp.In, exp.Query)


class Template:
    """An expression of ours in which ``:name`` stands for a node that is given later.

    A node that stands in several places is written several times. Nested, that would grow without end, so such a node
    may only be of a certain size.
    """

    def __init__(self, sql: str) -> None:
        self._tree = sqlglot.parse_one(f"SELECT {sql}", dialect="duckdb").expressions[0].unalias()
        self._uses = Counter(node.name for node in self._tree.find_all(exp.Placeholder))

    def __call__(self, **nodes: exp.Expr) -> exp.Expr:
        """The expression with copies of these nodes; raises StatementTooComplex."""
        for name, count in self._uses.items():
            if count > 1:
                check_size(nodes[name])
        tree: exp.Expr = self._tree.copy()
        for place in list(tree.find_all(exp.Placeholder)):
            node = nodes[place.name].copy()
            place.replace(exp.Paren(this=node) if isinstance(node, _BRACKETED) else node)
        return tree


def check_size(node: exp.Expr) -> None:
    """Raises StatementTooComplex for a node that is too large to be written more than once."""
    if any(count >= _MOST_NODES for count, _ in enumerate(node.walk())):
        raise StatementTooComplex(
            "An expression is too large to be translated.", hint="Give parts of it names in WITH."
        )


def is_number(node: object, least: int = 0) -> bool:
    """Whether the node is a literal whole number, of at least this value."""
    return isinstance(node, exp.Literal) and not node.is_string and node.name.isdecimal() and int(node.name) >= least


def by_template(template: Template, *places: str) -> Callable[[exp.Expr], exp.Expr | None]:
    """A rewrite of a function that the parser doesn't know: its arguments, in order, stand in these places."""

    def write(node: exp.Expr) -> exp.Expr | None:
        given = node.expressions
        return template(**dict(zip(places, given, strict=True))) if len(given) == len(places) else None

    return write
