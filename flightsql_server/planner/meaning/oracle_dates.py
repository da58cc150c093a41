"""Dates of Oracle: they count in days, and TRUNC, TO_CHAR and TO_DATE have formats of their own."""

from __future__ import annotations

import re

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.empties import number_text
from flightsql_server.planner.meaning.instants import keeps_date
from flightsql_server.planner.meaning.oracle_formats import date_text
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.types import DATES as DAYS
from flightsql_server.planner.meaning.types import INTEGERS, NUMBERS, TEXTS, TIMESTAMPS, Types
from flightsql_server.planner.meaning.writing import bracketed, call, cast, number, text
from flightsql_server.planner.names import fold

_UNITS = {
    **dict.fromkeys(("YYYY", "YEAR", "YY", "Y", "SYYYY"), "year"),
    "Q": "quarter",
    **dict.fromkeys(("MM", "MONTH", "MON", "RM"), "month"),
    **dict.fromkeys(("DD", "DDD", "J"), "day"),
    "IW": "week",
    **dict.fromkeys(("DAY", "DY", "D"), "sunday"),
    **dict.fromkeys(("HH", "HH12", "HH24"), "hour"),
    "MI": "minute",
}
_CODE = re.compile(r"%-?[A-Za-z]")
_DAY = exp.Interval(this=number(1), unit=exp.var("DAY"))
_TIMES = DAYS | TIMESTAMPS
_SECONDS = {"DAY": 86400, "HOUR": 3600, "MINUTE": 60, "SECOND": 1}


def _truncated(node: exp.Expr, types: Types) -> exp.Expr | None:
    """TRUNC of a date: to the day, or to what its format says; its weeks begin on Sunday, those of IW on Monday."""
    if isinstance(node, exp.Anonymous):
        if fold(node.name) != "trunc" or len(node.expressions) != 1 or types.of(node.expressions[0]) not in _TIMES:
            return None
        return cast(node.expressions[0], "DATE")
    unit = node.args.get("unit")
    known = _UNITS.get(unit.name.upper()) if unit is not None else "day"
    if known is None:
        raise UnsupportedFeature("This format of TRUNC is not accepted.", hint="Use YYYY, Q, MM, IW, D, DD, HH or MI.")
    when = cast(node.this, "TIMESTAMP") if isinstance(node.this, exp.CurrentTimestamp) else node.this
    if known == "sunday":
        moved = call("date_trunc", text("week"), exp.Add(this=bracketed(when), expression=_DAY.copy()))
        return cast(exp.Sub(this=moved, expression=_DAY.copy()), "DATE")
    cut = call("date_trunc", text(known), when)
    return cut if known in ("hour", "minute") else cast(cut, "DATE")


def _rounded(node: exp.Expr, types: Types) -> exp.Expr | None:
    """ROUND of a date: to the nearer midnight."""
    if types.of(node.this) not in _TIMES:
        return None
    if node.args.get("decimals") is not None:
        raise UnsupportedFeature("ROUND of a date by a format is not accepted.", hint="Use TRUNC and add what is left.")
    half = exp.Interval(this=number(12), unit=exp.var("HOUR"))
    return cast(exp.Add(this=cast(node.this, "TIMESTAMP"), expression=half), "DATE")


def _moved(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A date and a number of days, which may have a part of a day."""
    left, right = node.this, node.expression
    if isinstance(node, exp.Add) and types.of(right) in _TIMES:
        left, right = right, left
    if types.of(left) in _TIMES and (types.of(right) in NUMBERS or isinstance(right, exp.Div)):
        if types.of(left) in DAYS and types.of(right) in INTEGERS and not right.find(exp.Div):
            return exp.paren(node.__class__(this=bracketed(left), expression=_days(right)), copy=False)
        seconds = call("round", exp.Mul(this=bracketed(right), expression=number(86400)))
        moved = node.__class__(this=cast(left, "TIMESTAMP"), expression=call("to_seconds", seconds))
        return exp.paren(moved, copy=False)
    if isinstance(node, exp.Sub) and _is_date(left, types) and _is_date(right, types):
        if types.of(left) in DAYS and types.of(right) in DAYS and not _has_time(left) and not _has_time(right):
            return None
        span = exp.Sub(this=cast(left, "TIMESTAMP"), expression=cast(right, "TIMESTAMP"))
        return exp.paren(exp.Div(this=call("epoch", span), expression=number(86400)), copy=False)
    return None


def _days(count: exp.Expr) -> exp.Expr:
    return count.copy() if isinstance(count, exp.Literal) else cast(count, "INT")


def _has_time(node: exp.Expr) -> bool:
    return isinstance(node, (exp.CurrentTimestamp, exp.StrToDate)) or node.find(exp.CurrentTimestamp) is not None


def _is_date(node: exp.Expr, types: Types) -> bool:
    """Whether the node is a DATE there, so that its difference from another is a number of days."""
    inner = node.unnest()
    if types.of(node) in DAYS or isinstance(inner, (exp.StrToDate, exp.StrToTime)):
        return True
    clock = inner.find(exp.CurrentTimestamp)
    return clock is not None and bool(clock.args.get("sysdate"))


def _to_date(node: exp.Expr) -> exp.Expr | None:
    """TO_DATE keeps the time of day. Its default format is the session's, which is nobody's here."""
    format_ = node.args.get("format")
    if format_ is None:
        raise UnsupportedFeature("TO_DATE without a format is not accepted.", hint="Name it: 'YYYY-MM-DD', say.")
    _check_format(format_)
    if any(code in format_.name for code in ("%H", "%I", "%M", "%S", "%-H", "%-I", "%s")):
        return exp.StrToTime(this=node.this.copy(), format=format_.copy())
    return None


def _check_format(format_: exp.Expr) -> None:
    """Refuses what the parser couldn't translate, and formats without a day: those mean the current month there."""
    plain = _CODE.sub("", format_.name)
    dated = any(code in format_.name for code in ("%d", "%-d")) and any(
        code in format_.name for code in ("%m", "%-m", "%b", "%B")
    )
    if any(sign.isalpha() for sign in plain) or not (dated or "%j" in format_.name):
        raise UnsupportedFeature("This format of a date is not accepted.", hint="Name year, month and day: YYYY-MM-DD.")


def _to_time(node: exp.Expr) -> exp.Expr | None:
    """A literal ``TIMESTAMP '…'``, which the parser takes for a text with a format."""
    if node.args["format"].name == "%Y-%m-%d %H:%M:%S.%f" and isinstance(node.this, exp.Literal):
        return cast(node.this, "TIMESTAMP")
    _check_format(node.args["format"])
    return None


def _now(node: exp.Expr) -> exp.Expr | None:
    return exp.CurrentTimestamp()


def _to_char(node: exp.Expr, types: Types) -> exp.Expr | None:
    format_, kind = node.args.get("format"), types.of(node.this)
    if kind in TEXTS:
        same: exp.Expr = node.this.copy()
        return same
    if kind in NUMBERS and format_ is None:
        return number_text(node.this)
    if kind in _TIMES and isinstance(format_, exp.Literal):
        return date_text(node.this, format_.name)
    raise UnsupportedFeature("This form of TO_CHAR is not accepted.", hint="Give a date and a literal format.")


def _span(node: exp.Expr) -> exp.Expr | None:
    """NUMTODSINTERVAL."""
    if len(node.expressions) != 2 or not isinstance(node.expressions[1], exp.Literal):
        return None
    seconds = _SECONDS.get(node.expressions[1].name.upper())
    if seconds is None:
        return None
    return call("to_seconds", exp.Mul(this=bracketed(node.expressions[0]), expression=number(seconds)))


def _whole_days(node: exp.Expr, types: Types) -> exp.Expr | None:
    """LAST_DAY and MONTHS_BETWEEN count with the time of day, which the engine drops."""
    for value in (node.this, node.args.get("expression")):
        if value is not None and types.of(value) in TIMESTAMPS:
            raise UnsupportedFeature(f"{node.key.upper()} of a time is not accepted.", hint="Use TRUNC for its day.")
    return None


FORMATS = Meaning(
    typed={
        exp.Anonymous: (_truncated,),
        exp.DateTrunc: (_truncated,),
        exp.TimestampTrunc: (_truncated,),
        exp.ToChar: (_to_char,),
    }
)
"""What Exasol shares."""
DATES = Meaning(
    syntax={exp.StrToDate: (_to_date,), exp.StrToTime: (_to_time,), exp.Systimestamp: (_now,)},
    functions={"numtodsinterval": _span},
    typed={
        exp.Add: (_moved,),
        exp.Sub: (_moved,),
        exp.AddMonths: (keeps_date,),
        exp.LastDay: (_whole_days,),
        exp.MonthsBetween: (_whole_days,),
        exp.Round: (_rounded,),
    },
)
