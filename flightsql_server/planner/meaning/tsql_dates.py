"""Dates of T-SQL: weeks that begin on Sunday, parts and differences by their many names."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.instants import instant, now_utc, part_of_second
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.types import DATES as DAYS
from flightsql_server.planner.meaning.types import NUMBERS, TIMESTAMPS, Types
from flightsql_server.planner.meaning.writing import bracketed, call, cast, number, operated, text, whole

_UNITS = {
    **dict.fromkeys(("YEAR", "YY", "YYYY"), "YEAR"),
    **dict.fromkeys(("QUARTER", "QQ", "Q"), "QUARTER"),
    **dict.fromkeys(("MONTH", "MM", "M"), "MONTH"),
    **dict.fromkeys(("WEEK", "WK", "WW"), "WEEK"),
    **dict.fromkeys(("DAY", "DD", "D", "DAYOFYEAR", "DY", "Y", "WEEKDAY", "DW", "W", "DAYOFWEEK"), "DAY"),
    **dict.fromkeys(("HOUR", "HH"), "HOUR"),
    **dict.fromkeys(("MINUTE", "MI", "N"), "MINUTE"),
    **dict.fromkeys(("SECOND", "SS", "S"), "SECOND"),
    **dict.fromkeys(("MILLISECOND", "MS"), "MILLISECOND"),
    **dict.fromkeys(("MICROSECOND", "MCS"), "MICROSECOND"),
}
_DAY = exp.Interval(this=number(1), unit=exp.var("DAY"))


def unit_of(node: exp.Expr) -> str:
    """The unit of a date function, in full."""
    unit = node.args.get("unit")
    known = _UNITS.get(unit.name.upper() if unit is not None else "DAY")
    if known is None:
        raise UnsupportedFeature("This unit of time is not accepted.", hint="Write day, week, month, say.")
    return known


def _difference(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Counts the boundaries crossed, as the engine does; but its weeks begin on Monday."""
    unit = unit_of(node)
    ends = [cast(_plain(one), "TIMESTAMP") for one in (node.expression, node.this)]
    if unit == "WEEK":
        weeks = [call("date_trunc", text("week"), exp.Add(this=end, expression=_DAY.copy())) for end in ends]
        return operated(exp.IntDiv, call("date_diff", text("DAY"), *weeks), number(7))
    return call("date_diff", text(unit), *ends)


def _plain(node: exp.Expr) -> exp.Expr:
    return node.this if isinstance(node, (exp.TimeStrToTime, exp.TsOrDsToDate)) else node


def _part(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Week days are counted from Sunday as 1, weeks from January 1st, each beginning on Sunday."""
    when = instant(node.expression, types)
    unit = node.name.upper()
    if unit in ("DAYOFWEEK", "WEEKDAY", "DW", "W"):
        return operated(exp.Add, call("dayofweek", when), number(1))
    if unit in ("WEEK", "WK", "WW"):
        first = call("dayofweek", call("date_trunc", text("year"), when))
        days = exp.Sub(this=exp.Add(this=call("dayofyear", when), expression=first), expression=number(1))
        return operated(exp.Add, exp.IntDiv(this=exp.paren(days), expression=number(7)), number(1))
    if unit in ("MILLISECOND", "MS", "MICROSECOND", "MCS"):
        return part_of_second(when, "MILLISECOND" if unit in ("MILLISECOND", "MS") else "MICROSECOND")
    if when.__class__ is node.expression.__class__:
        return None
    return exp.Extract(this=node.this.copy(), expression=when)


def _added(node: exp.Expr, types: Types) -> exp.Expr | None:
    """DATEADD gives a date where it was given one."""
    unit, count = unit_of(node), node.expression
    if isinstance(count, exp.Literal) and count.is_string:
        count = exp.Literal.number(count.name)
    inside = count.copy() if isinstance(count, exp.Literal) else exp.paren(cast(count, "BIGINT"), copy=False)
    start = instant(node.this, types)
    if whole(node.this) is not None:
        # A number is a count of days since 1900.
        days = exp.Interval(this=exp.paren(node.this.copy(), copy=False), unit=exp.var("DAY"))
        start = exp.Add(this=cast(text("1900-01-01"), "TIMESTAMP"), expression=days)
    moved = exp.Add(this=bracketed(start), expression=exp.Interval(this=inside, unit=exp.var(unit)))
    return cast(moved, "DATE") if types.of(node.this) in DAYS else exp.paren(moved, copy=False)


def _truncated(node: exp.Expr, types: Types) -> exp.Expr | None:
    """DATETRUNC, whose weeks begin on Sunday and whose result has the type of what it was given."""
    when = instant(node.this, types)
    unit = "ISO" if node.text("unit").upper() in ("WEEKISO", "ISO_WEEK", "ISOWK", "ISOWW") else unit_of(node)
    if unit == "WEEK":
        moved = call("date_trunc", text("week"), exp.Add(this=bracketed(when), expression=_DAY.copy()))
        cut: exp.Expr = exp.Sub(this=moved, expression=_DAY.copy())
    else:
        cut = call("date_trunc", text("week" if unit == "ISO" else unit.lower()), when)
    return cast(cut, "DATE") if types.of(node.this) in DAYS else exp.paren(cut, copy=False)


def _moved(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A datetime and a number of days."""
    left, right = node.this, node.expression
    if types.of(left) in TIMESTAMPS and types.of(right) in NUMBERS:
        days = exp.Mul(this=bracketed(right), expression=number(86400))
        return exp.paren(node.__class__(this=bracketed(left), expression=call("to_seconds", days)), copy=False)
    if types.of(left) in DAYS and types.of(right) in NUMBERS:
        raise UnsupportedFeature("A number added to a date is not accepted.", hint="Use DATEADD.")
    if isinstance(node, exp.Sub) and types.of(left) in TIMESTAMPS | DAYS and types.of(right) in TIMESTAMPS | DAYS:
        raise UnsupportedFeature("The difference of dates by - is not accepted.", hint="Use DATEDIFF.")
    return None


def _now(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A time without a zone, in the session's."""
    return cast(node, "TIMESTAMP")


def _now_utc(node: exp.Expr) -> exp.Expr | None:
    return exp.UtcTimestamp()


DATES = Meaning(
    functions={"getutcdate": _now_utc, "sysutcdatetime": _now_utc},
    typed={
        exp.Add: (_moved,),
        exp.Sub: (_moved,),
        exp.CurrentTimestamp: (_now,),
        exp.DateAdd: (_added,),
        exp.DateDiff: (_difference,),
        exp.Extract: (_part,),
        exp.TimestampTrunc: (_truncated,),
        exp.UtcTimestamp: (now_utc,),
    },
)
