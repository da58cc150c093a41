"""Arguments outside of what a function is defined for: an error in some systems, NaN or infinity in the engine."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.snippets import Template, is_number
from flightsql_server.planner.meaning.types import Types

_LN = Template("CASE WHEN :x <= 0 THEN ERROR('the logarithm of a number below or at zero') ELSE LN(:x) END")
_LOG = Template(
    "CASE WHEN :b <= 0 OR :x <= 0 THEN ERROR('the logarithm of a number below or at zero') ELSE LOG(:b, :x) END"
)
_SQRT = Template("CASE WHEN :x < 0 THEN ERROR('the square root of a number below zero') ELSE SQRT(:x) END")
_MOD = Template("CASE WHEN :b = 0 THEN ERROR('division by zero') ELSE :e END")


def _mod(node: exp.Expr, types: Types) -> exp.Expr | None:
    return None if is_number(node.expression, 1) else _MOD(b=node.expression, e=node)


def _ln(node: exp.Expr, types: Types) -> exp.Expr | None:
    return None if is_number(node.this, 1) else _LN(x=node.this)


def _log(node: exp.Expr, types: Types) -> exp.Expr | None:
    if node.expression is None:
        return None
    return None if is_number(node.this, 1) and is_number(node.expression, 1) else _LOG(b=node.this, x=node.expression)


def _sqrt(node: exp.Expr, types: Types) -> exp.Expr | None:
    return None if is_number(node.this) else _SQRT(x=node.this)


RAISES_OUTSIDE = Meaning(typed={exp.Ln: (_ln,), exp.Log: (_log,), exp.Sqrt: (_sqrt,)})
"""Snowflake, BigQuery: such an argument is an error."""
REMAINDER_RAISES = Meaning(typed={exp.Mod: (_mod,)})
"""The remainder by zero is an error for floating numbers too, where the engine says NaN."""
