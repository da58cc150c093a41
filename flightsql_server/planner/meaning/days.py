"""Dates that stay dates where the engine makes times of them."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.planner.meaning.building import typed
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.types import DATES, Types

_DAYS = frozenset({"DAY", "WEEK", "MONTH", "QUARTER", "YEAR", "DECADE", "CENTURY"})


def counts_days(unit: exp.Expr | None) -> bool:
    """Whether a unit of time is a day or made of days."""
    return unit is not None and unit.name.upper().removesuffix("S") in _DAYS


def _truncated(node: exp.Expr, types: Types) -> exp.Expr | None:
    return typed(node.copy(), "DATE") if types.of(node.this) in DATES else None


def _moved(node: exp.Expr, types: Types) -> exp.Expr | None:
    if types.of(node.this) not in DATES or not counts_days(node.args.get("unit")):
        return None
    return typed(node.copy(), "DATE")


def _sum(node: exp.Expr, types: Types) -> exp.Expr | None:
    left, right = node.this, node.expression
    if isinstance(left, exp.Interval):
        left, right = right, left
    if isinstance(right, exp.Interval) and types.of(left) in DATES and counts_days(right.args.get("unit")):
        return typed(node.copy(), "DATE")
    return None


DATES_STAY = Meaning(
    typed={
        exp.TimestampTrunc: (_truncated,),
        exp.DateTrunc: (_truncated,),
        exp.DateAdd: (_moved,),
        exp.DateSub: (_moved,),
        exp.Add: (_sum,),
        exp.Sub: (_sum,),
    }
)
"""What is cut off or added in whole days leaves a date a date."""
