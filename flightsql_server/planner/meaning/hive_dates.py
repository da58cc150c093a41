"""Dates and times of Hive, Spark and Databricks: parts, formats, and what stays a date."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning import date_arithmetic, formats
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.snippets import Template, by_template
from flightsql_server.planner.meaning.types import DATES, TIMESTAMPS, Types

_WEEKDAY = Template("ISODOW(CAST(:d AS DATE)) - 1")
_DAY_OF_WEEK = Template("DAYOFWEEK(CAST(:d AS DATE)) + 1")
_ISO_DAY = Template("ISODOW(CAST(:d AS DATE))")
_MONTHS_ROUNDED = Template("ROUND(:x, 8)")
_SECONDS = Template("CAST(FLOOR(EPOCH(CAST(:t AS TIMESTAMPTZ))) AS BIGINT)")
PLAIN_TIME = Template("CAST(CAST(:t AS TIMESTAMP) AS TEXT)")
_TRUNC_UNITS = {"MM": "MONTH", "MON": "MONTH", "MONTH": "MONTH", "YY": "YEAR", "YYYY": "YEAR", "YEAR": "YEAR"}
_TRUNC_UNITS |= {"QUARTER": "QUARTER", "WEEK": "WEEK"}
# What the parser leaves of a format and the engine knows; the letters T and Z stand between quotes.
_PLAIN_FORMAT = formats.format_kept("A-Za-z'", {"%j%-j": "%j", ".SSS": ".%g"})


def _date(node: exp.Expr) -> exp.Expr:
    return exp.cast(node.copy(), exp.DType.DATE)


def _as_date(node: exp.Expr) -> exp.Expr | None:
    """What this adds to a date gives a date."""
    return None if isinstance(node.parent, exp.Cast) and node.parent.to.this == exp.DType.DATE else _date(node)


def _truncated(node: exp.Expr) -> exp.Expr | None:
    """TRUNC of a date gives a date; its units have names of their own."""
    unit = _TRUNC_UNITS.get(node.args["unit"].name.upper()) if node.args.get("unit") else None
    if unit is None:
        raise UnsupportedFeature("TRUNC of a date takes a unit as a literal.", hint="YEAR, QUARTER, MONTH or WEEK.")
    return _date(exp.TimestampTrunc(this=_date(node.this), unit=exp.var(unit)))


def _extracted(node: exp.Expr) -> exp.Expr | None:
    part = node.this.name.upper()
    if part in ("DOW", "DAYOFWEEK"):
        return _DAY_OF_WEEK(d=node.expression)
    return _ISO_DAY(d=node.expression) if part in ("DOW_ISO", "DAYOFWEEK_ISO") else None


def _date_part(node: exp.Expr) -> exp.Expr | None:
    if len(node.expressions) != 2 or not isinstance(node.expressions[0], exp.Literal):
        return None
    part = exp.Extract(this=exp.var(node.expressions[0].name.upper()), expression=node.expressions[1].copy())
    return _extracted(part) or part


def _short(node: exp.Expr) -> exp.Expr | None:
    """DAYNAME and MONTHNAME give three letters."""
    node.set("abbreviated", True)
    return None


def _format(node: exp.Expr) -> exp.Expr | None:
    """A format of dates; text in it stands between quotes."""
    form = node.args.get("format")
    if isinstance(form, exp.Literal) and ("'T'" in form.name or "'Z'" in form.name):
        plain = form.name.replace("'T'", "\ufdd1").replace("'Z'", "\ufdd2")
        node.set("format", exp.Literal.string(plain))
        checked = _PLAIN_FORMAT(node) or node.copy()
        text = checked.args["format"].name.replace("\ufdd1", "T").replace("\ufdd2", "Z")
        checked.set("format", exp.Literal.string(text))
        return checked
    return _PLAIN_FORMAT(node)


def _parsed_format(node: exp.Expr) -> exp.Expr | None:
    """Without a format there is nothing to check: what is read is cast."""
    return _format(node) if node.args.get("format") is not None else None


def _months(node: exp.Expr, types: Types) -> exp.Expr | None:
    """MONTHS_BETWEEN is rounded; the times of day, which count in it, are lost in the translation."""
    for part in (node.this, node.expression):
        if types.of(part) in TIMESTAMPS:
            raise UnsupportedFeature("MONTHS_BETWEEN of timestamps is not accepted.", hint="Cast them to DATE.")
    return _MONTHS_ROUNDED(x=node) if node.args.get("roundoff") is None else None


def _unix(node: exp.Expr, types: Types) -> exp.Expr | None:
    """UNIX_TIMESTAMP of a date or a timestamp needs no format."""
    return _SECONDS(t=node.this) if types.of(node.this) in DATES | TIMESTAMPS else None


def _time_cast(node: exp.Expr, types: Types) -> exp.Expr | None:
    """The text of a timestamp says no time zone; as a number it is whole seconds."""
    to = node.args["to"].this
    if types.of(node.this) != exp.DType.TIMESTAMPTZ:
        return None
    if to in exp.DataType.TEXT_TYPES:
        return PLAIN_TIME(t=node.this)
    return _SECONDS(t=node.this) if to == exp.DType.BIGINT else None


DATES_AND_TIMES = Meaning(
    syntax={
        exp.AddMonths: (_as_date,),
        exp.DateFromUnixDate: (_as_date,),
        exp.DateTrunc: (_truncated,),
        exp.DayOfWeek: (lambda node: _DAY_OF_WEEK(d=node.this),),
        exp.Dayname: (_short,),
        exp.Extract: (_extracted,),
        exp.Monthname: (_short,),
        exp.StrToDate: (_parsed_format,),
        exp.StrToTime: (_parsed_format,),
        exp.StrToUnix: (_parsed_format,),
        exp.TimeToStr: (_format,),
        exp.TsOrDsAdd: (_as_date,),
        exp.TsOrDsToDate: (_parsed_format,),
        exp.UnixSeconds: (date_arithmetic.whole_seconds,),
        exp.UnixToStr: (_parsed_format,),
    },
    functions={
        "date_part": _date_part,
        "datepart": _date_part,
        "timestamp_micros": by_template(Template("TO_TIMESTAMP(:x / 1000000.0)"), "x"),
        "timestamp_millis": by_template(Template("TO_TIMESTAMP(:x / 1000.0)"), "x"),
        "timestamp_seconds": by_template(Template("TO_TIMESTAMP(:x)"), "x"),
        "weekday": by_template(_WEEKDAY, "d"),
    },
    typed={
        exp.Cast: (_time_cast,),
        exp.MonthsBetween: (_months,),
        exp.StrToUnix: (_unix,),
        exp.TryCast: (_time_cast,),
    },
)
