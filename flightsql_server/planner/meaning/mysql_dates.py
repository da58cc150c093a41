"""Dates of MySQL and its kin: weeks and week days, whole units between two times, formats."""

from __future__ import annotations

import re

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.instants import instant, keeps_date, now_utc, part_of_second
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.types import DATES as DAYS
from flightsql_server.planner.meaning.types import NUMBERS, TIMESTAMPS, Types
from flightsql_server.planner.meaning.writing import bracketed, call, case, cast, number, operated, text, whole

_DAY_UNITS = frozenset({"DAY", "WEEK", "MONTH", "QUARTER", "YEAR"})
_MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}
# What the parser made of codes for which the engine's code of the same letter counts otherwise.
_OTHER_CODES = re.compile(r"%[WVvXxDw%]")
_KNOWN_CODES = {"%x": "%G", "%v": "%V", "%w": "%w"}


def _weekday(node: exp.Expr) -> exp.Expr | None:
    """WEEKDAY counts from Monday as 0."""
    (day,) = node.expressions
    return operated(exp.Sub, call("isodow", exp.TsOrDsToDate(this=day.copy())), number(1))


def _day_of_week(node: exp.Expr, types: Types) -> exp.Expr | None:
    """DAYOFWEEK counts from Sunday as 1."""
    return operated(exp.Add, call("dayofweek", _day(node.this)), number(1))


def _day(node: exp.Expr) -> exp.Expr:
    inner = node.this if isinstance(node, (exp.TsOrDsToDate, exp.TsOrDsToTimestamp)) else node
    return cast(inner, "DATE")


def week(day: exp.Expr, mode: int | None) -> exp.Expr:
    """The number of the week, by the mode of WEEK: 0 and 5 begin with the first Sunday or Monday, 1 and 3 as ISO."""
    if mode in (0, 5):
        return cast(call("strftime", day, text("%U" if mode == 0 else "%W")), "INT")
    iso, year = call("isoyear", day), call("year", day)
    if mode == 3:
        return call("week", day)
    if mode == 1:
        before = exp.Sub(this=bracketed(day), expression=exp.Interval(this=number(7), unit=exp.var("DAY")))
        last = exp.Add(this=call("week", cast(before, "DATE")), expression=number(1))
        return case(
            (exp.LT(this=iso, expression=year), number(0)),
            (exp.GT(this=iso, expression=year), last),
            otherwise=call("week", day),
        )
    raise UnsupportedFeature("This mode of WEEK is not accepted.", hint="Use 0, 1, 3 or 5.")


def _week(node: exp.Expr, types: Types) -> exp.Expr | None:
    mode = node.args.get("mode")
    return week(_day(node.this), 0 if mode is None else whole(mode))


def _extract(node: exp.Expr, types: Types) -> exp.Expr | None:
    unit = node.name.upper()
    if unit == "WEEK":
        return week(_day(node.expression), 0)
    if unit in ("YEAR_MONTH", "DAY_HOUR", "DAY_MINUTE", "DAY_SECOND", "HOUR_MINUTE", "HOUR_SECOND", "MINUTE_SECOND"):
        raise UnsupportedFeature("Parts of a date in one number are not accepted.", hint="Take each by its own name.")
    when = instant(node.expression, types)
    if unit == "MICROSECOND":
        return part_of_second(when, unit)
    return exp.Extract(this=node.this.copy(), expression=when) if isinstance(node.expression, exp.Literal) else None


def _year_week(node: exp.Expr) -> exp.Expr | None:
    """YEARWEEK in the modes that agree with ISO's years."""
    mode = whole(node.expressions[1]) if len(node.expressions) > 1 else 0
    if mode not in (1, 3):
        raise UnsupportedFeature("This mode of YEARWEEK is not accepted.", hint="Use 1 or 3.")
    day = exp.TsOrDsToDate(this=node.expressions[0].copy())
    years = exp.Mul(this=call("isoyear", day), expression=number(100))
    return operated(exp.Add, years, call("week", day))


def _difference(node: exp.Expr, types: Types) -> exp.Expr | None:
    """TIMESTAMPDIFF counts the units that are whole, not the boundaries between."""
    unit = node.args["unit"].name.upper()
    first, last = (cast(one, "TIMESTAMP") for one in (node.expression, node.this))
    months = _MONTHS.get(unit)
    if months is None:
        return call("date_sub", text(unit.lower()), first, last)
    # The engine takes the last days of two months for a whole one, whatever days they are.
    begun, ended = (exp.Sub(this=one, expression=call("date_trunc", text("month"), one)) for one in (first, last))
    forward = exp.And(this=exp.GTE(this=last, expression=first), expression=exp.LT(this=ended, expression=begun))
    back = exp.And(this=exp.LT(this=last, expression=first), expression=exp.GT(this=ended, expression=begun))
    missing = case((forward, number(1)), (back, exp.Neg(this=number(1))), otherwise=number(0))
    whole_months = operated(exp.Sub, call("date_diff", text("month"), first, last), missing)
    return whole_months if months == 1 else operated(exp.IntDiv, whole_months, number(months))


def _added(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A date and days, weeks, months or years make a date."""
    interval = node.expression if isinstance(node.expression, exp.Interval) else None
    if isinstance(node, exp.Add) and isinstance(node.this, exp.Interval):
        interval = node.this
    if isinstance(node, (exp.Add, exp.Sub)) and interval is None:
        return _calculated_date(node, types)
    other = node.expression if interval is node.this else node.this
    unit = node.args.get("unit") or (interval.args.get("unit") if interval is not None else None)
    if unit is None or not isinstance(unit, exp.Var):
        raise UnsupportedFeature("This unit of an interval is not accepted.", hint="Use DAY, HOUR or another alone.")
    name = unit.name.upper()
    if "_" in name:
        raise UnsupportedFeature("Intervals of several units are not accepted.", hint="Add one unit after the other.")
    count = interval.this if interval is not None else node.expression
    inside: exp.Expr = exp.paren(count.copy(), copy=False)
    if isinstance(count, exp.Literal):
        if not count.name.removeprefix("-").isdigit():
            raise UnsupportedFeature("An interval that is no whole number is not accepted.", hint="Use a smaller unit.")
        inside = number(int(count.name)) if int(count.name) >= 0 else exp.paren(number(int(count.name)), copy=False)
    kind = exp.Sub if isinstance(node, (exp.Sub, exp.DateSub)) else exp.Add
    moved = kind(this=bracketed(instant(other, types)), expression=exp.Interval(this=inside, unit=exp.var(name)))
    days = types.of(other) in DAYS or (isinstance(other, exp.Literal) and len(other.name) == 10)
    return cast(moved, "DATE") if days and name in _DAY_UNITS else exp.paren(moved, copy=False)


def _calculated_date(node: exp.Expr, types: Types) -> exp.Expr | None:
    kinds = {types.of(node.this), types.of(node.expression)}
    times = DAYS | TIMESTAMPS
    if kinds & times and kinds & (NUMBERS | times) and (kinds & NUMBERS or len(kinds) < 3):
        raise UnsupportedFeature(
            "Calculating with a date as a number is not accepted.", hint="Use INTERVAL, DATEDIFF or TIMESTAMPDIFF."
        )
    return None


def _add_days(node: exp.Expr) -> exp.Expr | None:
    """ADDDATE and SUBDATE, whose second value may be a number of days."""
    value, count = node.expressions
    kind = exp.DateAdd if node.name.upper() == "ADDDATE" else exp.DateSub
    if isinstance(count, exp.Interval):
        return kind(this=value.copy(), expression=count.this.copy(), unit=count.args["unit"].copy())
    return kind(this=value.copy(), expression=count.copy(), unit=exp.var("DAY"))


def _formatted(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Codes that the engine has not, or that mean another thing there, are refused."""
    format_ = node.args["format"]
    if not isinstance(format_, exp.Literal):
        raise UnsupportedFeature("A format that is no literal is not accepted.", hint="Write it as a literal.")

    def known(found: re.Match[str]) -> str:
        code = found.group(0)
        if code != "%%" and code not in _KNOWN_CODES:
            raise UnsupportedFeature(
                "This code in a format of a date is not accepted.", hint="Not known are %D, %u, %V and %X."
            )
        return _KNOWN_CODES.get(code, code)

    inner = node.this.this if isinstance(node.this, (exp.TsOrDsToTimestamp, exp.TsOrDsToDate)) else node.this
    return call("strftime", cast(inner, "TIMESTAMP"), text(_OTHER_CODES.sub(known, format_.name)))


def _microsecond(node: exp.Expr) -> exp.Expr | None:
    return part_of_second(cast(node.expressions[0], "TIMESTAMP"), "MICROSECOND")


def _days(node: exp.Expr, types: Types) -> exp.Expr | None:
    """The parser makes a difference from the year 0 of TO_DAYS, which is a day too long."""
    if any(literal.name.startswith("0000-") for literal in node.expression.find_all(exp.Literal)):
        raise UnsupportedFeature("TO_DAYS is not accepted.", hint="Use DATEDIFF from a day of your choice.")
    return None


def _parsed(node: exp.Expr, types: Types) -> exp.Expr | None:
    """STR_TO_DATE of a time without a date is a time, which the engine would put into the year 1900."""
    if not any(code in node.args["format"].name for code in ("%d", "%-d", "%j")):
        raise UnsupportedFeature("STR_TO_DATE without a day is not accepted.", hint="Use CAST for a time.")
    return None


def _of_text(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A part of a date that is written as text."""
    when = instant(node.this, types)
    if when.__class__ is node.this.__class__:
        return None
    new = node.copy()
    new.set("this", when)
    return new


def _time(node: exp.Expr, types: Types) -> exp.Expr | None:
    return cast(cast(node.this, "TIMESTAMP"), "TIME")


DATES = Meaning(
    functions={
        "microsecond": _microsecond,
        "weekday": _weekday,
        "yearweek": _year_week,
        "adddate": _add_days,
        "subdate": _add_days,
    },
    typed={
        **dict.fromkeys(
            (exp.Quarter, exp.Hour, exp.Minute, exp.Second, exp.LastDay, exp.Dayname, exp.Monthname), (_of_text,)
        ),
        exp.Add: (_added,),
        exp.Sub: (_added,),
        exp.AddMonths: (keeps_date,),
        exp.DateAdd: (_added,),
        exp.DateSub: (_added,),
        exp.DayOfWeek: (_day_of_week,),
        exp.Extract: (_extract,),
        exp.StrToDate: (_parsed,),
        exp.StrToTime: (_parsed,),
        exp.Time: (_time,),
        exp.DateDiff: (_days,),
        exp.TimestampAdd: (_added,),
        exp.TimestampDiff: (_difference,),
        exp.TimeToStr: (_formatted,),
        exp.UtcTimestamp: (now_utc,),
        exp.Week: (_week,),
    },
)
