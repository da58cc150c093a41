"""Logarithms and roots of numbers that have none: an error or NULL, where the engine gives NaN or infinity."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.types import Types
from flightsql_server.planner.meaning.writing import case, compared, failing, number, whole


def _checked(node: exp.Expr, argument: exp.Expr | None, kind: type[exp.Expr], fails: bool) -> exp.Expr | None:
    if argument is None or (isinstance(argument, exp.Literal) and float(argument.name or 0) > 0):
        return None
    if (whole(argument) or 0) > 0:
        return None
    outside = compared(kind, argument, number(0))
    return case((outside, failing("outside of the function's domain") if fails else exp.Null()), otherwise=node)


def _root(fails: bool) -> Meaning:
    def root(node: exp.Expr, types: Types) -> exp.Expr | None:
        return _checked(node, node.this, exp.LT, fails)

    def logarithm(node: exp.Expr, types: Types) -> exp.Expr | None:
        return _checked(node, node.args.get("expression") or node.this, exp.LTE, fails)

    return Meaning(typed={exp.Sqrt: (root,), exp.Ln: (logarithm,), exp.Log: (logarithm,)})


FAILS_OUTSIDE = _root(fails=True)
"""T-SQL, Oracle, Teradata, Exasol."""
NULL_OUTSIDE = _root(fails=False)
"""MySQL and its kin."""
