"""How long a statement becomes when it is written for the engine, told before it is written.

Some functions have no equal there and are written with an argument in several places; nested in one another they would
double the text with each level. So where calls are nested deeply, each is written once with marks for the calls inside
of it, and the marks are counted.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from flightsql_server.errors import StatementTooComplex
from flightsql_server.planner import dialect
from flightsql_server.planner.request import Draft

# Calls within calls that nobody need count: at most so many levels are written in full.
_HARMLESS_LEVELS = 5
_MOST_GROWTH = 4
_MARK = "q_mark_"
_CONNECTORS = (exp.And, exp.Or, exp.Anonymous, exp.Cast)


def check_growth(draft: Draft) -> None:
    """Rule: the text for the engine is not longer than a few times the longest text that may come in."""
    levels: dict[int, int] = {}
    nodes = list(draft.root.walk(bfs=True))
    deepest = 0
    for node in nodes:
        above = levels.get(id(node.parent), 0) if node.parent is not None else 0
        levels[id(node)] = above + _is_call(node)
        deepest = max(deepest, levels[id(node)])
    if deepest <= _HARMLESS_LEVELS:
        return
    sizes: dict[int, int] = {}
    limit = _MOST_GROWTH * draft.limits.sql_bytes
    for node in reversed(nodes):
        if _is_call(node):
            sizes[id(node)] = _size(draft, node, sizes)
            if sizes[id(node)] > limit:
                raise StatementTooComplex(
                    "The calls nested in this statement grow beyond all measure in the engine's SQL.",
                    hint="Compute the inner ones in a WITH clause.",
                )


def _is_call(node: exp.Expr) -> bool:
    return isinstance(node, exp.Func) and not isinstance(node, _CONNECTORS)


def _size(draft: Draft, node: exp.Expr, sizes: dict[int, int]) -> int:
    """The length of the call's text: its own, and each inner call as often as it is written."""
    inner: list[exp.Expr] = []
    copied = node.copy()
    for mine, copy in list(zip(node.walk(prune=_below(node)), copied.walk(prune=_below(copied)), strict=False)):
        if mine is not node and _is_call(mine):
            copy.replace(exp.column(f"{_MARK}{len(inner)}_"))
            inner.append(mine)
    text = dialect.written(draft, copied)
    return len(text) + sum(text.count(f"{_MARK}{at}_") * sizes[id(call)] for at, call in enumerate(inner))


def _below(root: exp.Expr) -> Callable[[exp.Expr], bool]:
    """Ends a walk at the first calls below ``root``."""
    return lambda node: node is not root and _is_call(node)
