"""Division: of whole numbers it gives a whole number in some dialects, and by zero an error, NULL or infinity."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.snippets import check_size
from flightsql_server.planner.meaning.types import INTEGERS, Types


def _divides_whole(node: exp.Expr, types: Types) -> exp.Expr | None:
    """``7 / 2`` is 3. Where the types can't be told, neither can the answer."""
    left, right = node.this, node.expression
    if types.all_of(INTEGERS, left, right):
        # Both engines' whole division rounds towards zero, and fails for zero.
        divisor = exp.func("NULLIF", right, exp.Literal.number(0)) if node.args.get("safe") else right
        return exp.paren(exp.IntDiv(this=_bracketed(left), expression=_bracketed(divisor)), copy=False)
    if types.of(left) is None or types.of(right) is None:
        raise UnsupportedFeature(
            "It can't be told whether this division is one of whole numbers.", hint="Cast what is divided."
        )
    return _raises_on_zero(node, types)


def _raises_on_zero(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Division by zero is an error, where the engine would give infinity."""
    divisor = node.expression
    if node.args.get("safe") or (isinstance(divisor, exp.Literal) and float(divisor.name or 0) != 0):
        return None
    check_size(divisor)
    failing = exp.Anonymous(this="error", expressions=[exp.Literal.string("division by zero")])
    checked = exp.Case(this=divisor.copy()).when(exp.Literal.number(0), failing).else_(divisor.copy())
    node.set("expression", exp.paren(checked, copy=False))
    return node


def _bracketed(node: exp.Expr) -> exp.Expr:
    return exp.paren(node, copy=False) if isinstance(node, exp.Binary) else node


DIVIDES_WHOLE = Meaning(typed={exp.Div: (_divides_whole,)})
"""PostgreSQL and its kin, Trino, T-SQL, SQLite: whole numbers divide to whole numbers."""
RAISES_ON_ZERO = Meaning(typed={exp.Div: (_raises_on_zero,)})
"""Snowflake, BigQuery, Oracle: every division by zero fails."""
