"""Dates and times whose functions several dialects share."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.planner.meaning.types import DATES, TEXTS, Types
from flightsql_server.planner.meaning.writing import cast, number, operated, text


def instant(node: exp.Expr, types: Types) -> exp.Expr:
    """A copy of the node; a text as the time that it writes."""
    if types.of(node) in TEXTS or (isinstance(node, exp.Literal) and node.is_string):
        return cast(node, "TIMESTAMP")
    return node.copy()


def now_utc(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A time without a zone, of UTC."""
    return exp.paren(exp.AtTimeZone(this=exp.CurrentTimestamp(), zone=text("UTC")), copy=False)


def part_of_second(when: exp.Expr, unit: str) -> exp.Expr:
    """Milliseconds or microseconds without the whole seconds, which the engine counts among them."""
    size = 1000 if unit == "MILLISECOND" else 1_000_000
    return operated(exp.Mod, exp.Extract(this=exp.var(unit), expression=when.copy()), number(size))


def keeps_date(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A function that gives a date for a date, where the engine gives a time."""
    return cast(node, "DATE") if types.of(node.this) in DATES else None
