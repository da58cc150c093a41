"""Which text literals of a statement are mere values: the statement means the same plan whatever they say.

A value is compared with a column (``symbol = 'ADG'``, ``symbol IN ('ADG', 'ADT')``). Any other literal may choose a
type or a meaning (``date_part('epoch', t)``, ``strptime(s, '%d')``, ``payload -> 'price'``) and stays what it is.
"""

from __future__ import annotations

from collections import Counter

from sqlglot import exp

from flightsql_server.planner.request import Draft

_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)


def note(draft: Draft) -> None:
    """Rule: the values are the text literals that stand once, beside a column in a comparison or its IN list."""
    literals = [node for node in draft.root.find_all(exp.Literal) if node.is_string]
    counts = Counter(str(node.this) for node in literals)
    draft.values = frozenset(
        str(node.this)
        for node in literals
        if counts[str(node.this)] == 1 and _is_compared(node) and not _names_a_column(node)
    )


def _names_a_column(node: exp.Expr) -> bool:
    """Whether the literal is part of an output column without a name: such a column is named after its text."""
    while node.parent is not None:
        if node.arg_key == "expressions" and isinstance(node.parent, exp.Select) and not isinstance(node, exp.Alias):
            return True
        node = node.parent
    return False


def _is_compared(node: exp.Expr) -> bool:
    parent = node.parent
    if isinstance(parent, exp.In):
        return isinstance(parent.this, exp.Column) and node.arg_key == "expressions"
    if not isinstance(parent, _COMPARISONS):
        return False
    other = parent.expression if node.arg_key == "this" else parent.this
    return isinstance(other, exp.Column)
