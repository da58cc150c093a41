"""Trino's dates and times: whole units between two of them, weeks that begin on Monday, and Joda's formats."""

from __future__ import annotations

import re

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.building import bracketed, call, cast, literal_text, number, typed
from flightsql_server.planner.meaning.joda import strftime_pattern
from flightsql_server.planner.meaning.rewriting import Meaning, Rewrite, refused
from flightsql_server.planner.meaning.types import DATES, Types
from flightsql_server.planner.names import fold

_PARTS = {
    "dow": "isodow",
    "dayofweek": "isodow",
    "day_of_week": "isodow",
    "doy": "dayofyear",
    "dayofyear": "dayofyear",
    "day_of_year": "dayofyear",
    "day_of_month": "day",
    "yow": "isoyear",
    "year_of_week": "isoyear",
}
_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In, exp.DateDiff)


def _part(name: str) -> Rewrite:
    return lambda node: call(name, node.expressions[0])


def _extracted(node: exp.Expr) -> exp.Expr | None:
    """Sunday is the seventh day, where the engine's DOW says 0."""
    name = _PARTS.get(fold(node.this.name))
    return None if name is None else call(name, node.expression)


def _difference(node: exp.Expr) -> exp.Expr | None:
    """Whole units that have passed, not boundaries that were crossed."""
    return call("date_sub", fold(node.args["unit"].name), node.expression, node.this)


def _formatted(node: exp.Expr) -> exp.Expr | None:
    return call("strftime", node.expressions[0], strftime_pattern(node.expressions[1]))


def _parsed(node: exp.Expr) -> exp.Expr | None:
    return typed(call("strptime", node.this, strftime_pattern(node.args.get("format"))), "TIMESTAMPTZ")


def _week_letter(node: exp.Expr) -> exp.Expr | None:
    """``%v`` is the ISO week."""
    pattern = literal_text(node.args.get("format"), "A format")
    node.set("format", exp.Literal.string(re.sub("%(.)", lambda one: "%V" if one[1] == "v" else one[0], pattern)))
    return None


def _milliseconds(node: exp.Expr) -> exp.Expr | None:
    """Those of the second, not of the minute."""
    return exp.Paren(this=exp.Mod(this=call("millisecond", node.expressions[0]), expression=number(1000)))


def _local(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A point of time in another zone: the same point where it is compared, its clock where it is shown."""
    if types.of(node.this) != exp.DType.TIMESTAMPTZ:
        raise UnsupportedFeature(
            "AT TIME ZONE of a time without zone is not accepted.", hint="Use with_timezone, or CAST to timestamptz."
        )
    return bracketed(node.this.copy()) if isinstance(node.parent, _COMPARISONS) else None


def _between_dates(node: exp.Expr, types: Types) -> exp.Expr | None:
    """The difference of two dates is an interval."""
    if types.of(node.this) in DATES and types.of(node.expression) in DATES:
        return call("to_days", typed(exp.Paren(this=node.copy()), "INT"))
    return None


def _sequence(node: exp.Expr, types: Types) -> exp.Expr | None:
    return typed(node.copy(), "DATE[]") if types.of(node.args["start"]) in DATES else None


def _no_zone(node: exp.Expr) -> exp.Expr | None:
    if node.args.get("zone") is not None or node.args.get("hours") is not None:
        raise UnsupportedFeature("from_unixtime with a zone is not accepted.", hint="Use AT TIME ZONE.")
    return None


TIMES = Meaning(
    syntax={
        exp.Extract: (_extracted,),
        exp.DateDiff: (_difference,),
        exp.ParseDatetime: (_parsed,),
        exp.TimeToStr: (_week_letter,),
        exp.UnixToTime: (_no_zone,),
    },
    functions={
        **{name: _part(part) for name, part in _PARTS.items()},
        "format_datetime": _formatted,
        "millisecond": _milliseconds,
        "with_timezone": lambda node: call("timezone", node.expressions[1], cast(node.expressions[0], "TIMESTAMP")),
        "at_timezone": lambda node: exp.AtTimeZone(this=bracketed(node.expressions[0]), zone=node.expressions[1]),
        "to_iso8601": refused("to_iso8601", "Use date_format with its format."),
    },
    typed={
        exp.AtTimeZone: (_local,),
        exp.Sub: (_between_dates,),
        exp.GenerateSeries: (_sequence,),
    },
)
"""Dates and times of Trino and its kin."""
