"""BigQuery."""

from __future__ import annotations

import re

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning import (
    array_items,
    columns,
    date_arithmetic,
    formats,
    rounding,
    undefined_results,
)
from flightsql_server.planner.meaning.divisions import RAISES_ON_ZERO
from flightsql_server.planner.meaning.rewriting import Meaning, merged, refused
from flightsql_server.planner.meaning.snippets import Template, is_number
from flightsql_server.planner.meaning.types import DECIMALS, TEXTS, Types

_DAY_OF_WEEK = Template("DAYOFWEEK(:d) + 1")
_WEEK = Template("(DAYOFYEAR(:d) + 6 - (DAYOFWEEK(:d) - :s + 7) % 7) // 7")
_PART_OF_SECOND = {
    "MILLISECOND": Template("EXTRACT(MILLISECOND FROM :d) % 1000"),
    "MICROSECOND": Template("EXTRACT(MICROSECOND FROM :d) % 1000000"),
}
_START = Template("CASE WHEN :n = 0 OR :n < -LENGTH(:x) THEN 1 ELSE :n END")
_NO_LESS_THAN_NONE = Template("CASE WHEN :n < 0 THEN ERROR('a length below zero') ELSE :n END")
_PLAIN_DECIMAL = Template(
    "CASE WHEN CONTAINS(CAST(:x AS TEXT), '.') THEN RTRIM(RTRIM(CAST(:x AS TEXT), '0'), '.') ELSE CAST(:x AS TEXT) END"
)
_UNQUOTED = Template("(:x ->> '$')")
_KNOWN_CODES = re.compile(r"%[YmdHMSyBbAajpIUWVGuwhfg%]")
_PIECES = {"%R": "%H:%M", "%E4Y": "%Y", "%E3S": "%S.%g", "%E6S": "%S.%f"}


def _days(node: exp.Expr, count: int, kind: type[exp.Expr]) -> exp.Expr:
    """The node with so many days added or taken away, in a form that stays a date where it is one."""
    if count == 0:
        return node.copy()
    return kind(this=node.copy(), expression=exp.Literal.number(count), unit=exp.var("DAY"))


def _days_after_monday(unit: object) -> int | None:
    """For WEEK and WEEK(weekday), how many days after a Monday such a week begins; None for other units."""
    if not isinstance(unit, exp.WeekStart):
        return None
    day = unit.name.upper()
    if day not in date_arithmetic.WEEKDAYS:
        raise UnsupportedFeature("WEEK begins on a weekday.", hint="Write WEEK(MONDAY), say.")
    return (date_arithmetic.WEEKDAYS.index(day) + 6) % 7


def _truncated(node: exp.Expr) -> exp.Expr | None:
    """A week begins on Sunday, or on the day that the text names; the engine's on Monday."""
    shift = _days_after_monday(node.args.get("unit"))
    if shift is None:
        return None
    if node.args.get("zone"):
        raise UnsupportedFeature("Cutting to a week in a time zone is not accepted.", hint="Convert to the zone first.")
    moved = node.copy()
    moved.set("unit", exp.var("WEEK"))
    moved.set("this", _days(node.this, shift, exp.DateSub))
    return _days(moved, shift, exp.DateAdd)


def _last_day(node: exp.Expr) -> exp.Expr | None:
    shift = _days_after_monday(node.args.get("unit"))
    if shift is None:
        return None
    start = exp.TimestampTrunc(this=_days(node.this, shift, exp.DateSub), unit=exp.var("WEEK"))
    return exp.cast(_days(start, shift + 6, exp.DateAdd), exp.DType.DATE)


def _difference(node: exp.Expr) -> exp.Expr | None:
    """A difference in weeks counts the Sundays, or the days that the text names."""
    shift = _days_after_monday(node.args.get("unit"))
    if shift is None:
        return None
    new = node.copy()
    new.set("unit", exp.var("ISOWEEK"))
    new.set("this", _days(node.this, shift, exp.DateSub))
    new.set("expression", _days(node.expression, shift, exp.DateSub))
    return new


def _extracted(node: exp.Expr) -> exp.Expr | None:
    part, of = node.this, node.expression
    if isinstance(part, exp.WeekStart) or part.name.upper() == "WEEK":
        shift = _days_after_monday(part) if isinstance(part, exp.WeekStart) else 6
        return _WEEK(d=of, s=exp.Literal.number(((shift or 0) + 1) % 7))
    name = part.name.upper()
    if name == "DAYOFWEEK":
        return _DAY_OF_WEEK(d=of)
    if name == "ISOWEEK":
        return exp.Extract(this=exp.var("WEEK"), expression=of.copy())
    if name in ("DATE", "TIME"):
        return exp.cast(of.copy(), exp.DType.DATE if name == "DATE" else exp.DType.TIME)
    return _PART_OF_SECOND[name](d=of) if name in _PART_OF_SECOND else None


def _format(node: exp.Expr) -> exp.Expr | None:
    """What a format holds means the same to the engine, or is refused; a time zone is converted to."""
    form = node.args.get("format")
    if form is None:
        return None
    if not isinstance(form, exp.Literal):
        raise UnsupportedFeature("A format of dates must be a literal.", hint="Write the format itself.")
    text = form.name
    for piece, code in _PIECES.items():
        text = text.replace(piece, code)
    if "%" in _KNOWN_CODES.sub("", text) or re.search(r"%[fg]", form.name):
        raise UnsupportedFeature("This format of dates is not accepted.", hint="Take its unusual parts out.")
    zone = node.args.get("zone")
    if text == form.name and zone is None and not isinstance(node, exp.StrToTime):
        return None
    new = node.copy()
    new.set("format", exp.Literal.string(text))
    new.set("zone", None)
    if isinstance(node, exp.StrToTime):
        return exp.AtTimeZone(this=new, zone=zone.copy() if zone else exp.Literal.string("UTC"))
    if zone is not None:
        inner = node.this.this if isinstance(node.this, exp.TsOrDsToTimestamp) else node.this
        new.set("this", exp.AtTimeZone(this=exp.cast(inner.copy(), exp.DType.TIMESTAMPTZ), zone=zone.copy()))
    return new


def _start(node: exp.Expr) -> exp.Expr | None:
    """A substring that starts before the text starts with it."""
    start = node.args.get("start")
    if start is None or is_number(start, 1):
        return None
    new = node.copy()
    new.set("start", exp.Literal.number(1) if is_number(start) else _START(n=start, x=node.this))
    return new


def _found(node: exp.Expr) -> exp.Expr | None:
    position = node.args.get("position")
    if position is not None and not is_number(position, 1):
        raise UnsupportedFeature("INSTR from this position is not accepted.", hint="Take a literal above 0.")
    return None


def _from_unix(node: exp.Expr) -> exp.Expr | None:
    return exp.cast(node.copy(), exp.DType.DATE)


def _one_parameter(node: exp.Expr) -> exp.Expr | None:
    """The second parameter of a lambda counts from 0, which the engine's doesn't."""
    for function in node.find_all(exp.Lambda):
        if len(function.expressions) > 1 and function.parent is node:
            raise UnsupportedFeature(
                "A lambda with an index is not accepted.", hint="Unnest the array WITH OFFSET instead."
            )
    return None


def _no_limit(node: exp.Expr) -> exp.Expr | None:
    if isinstance(node.this, exp.Limit) or isinstance(node.args.get("separator"), exp.Limit) or node.find(exp.Limit):
        raise UnsupportedFeature("LIMIT in an aggregate is not accepted.", hint="Limit the rows in a sub-query.")
    return None


def _struct_rows(node: exp.Expr) -> exp.Expr | None:
    """``SELECT *`` over UNNEST of structs gives their fields, unless the item is named."""
    source = node.args.get("from_")
    rows = source.this if source else None
    if not isinstance(rows, exp.Unnest) or not any(isinstance(column, exp.Star) for column in node.expressions):
        return None
    item = rows.expressions[0]
    if isinstance(item, exp.Array) and any(isinstance(part, (exp.Tuple, exp.Struct)) for part in item.expressions):
        raise UnsupportedFeature("SELECT * over UNNEST of structs is not accepted.", hint="Name the fields.")
    return None


# ---- what needs types ----


def _side(node: exp.Expr, types: Types) -> exp.Expr | None:
    if is_number(node.expression):
        return None
    new = node.copy()
    new.set("expression", _NO_LESS_THAN_NONE(n=node.expression))
    return new


def _decimal_text(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A NUMERIC is written without zeros at its end."""
    if node.args["to"].this in TEXTS and types.of(node.this) in DECIMALS:
        return _PLAIN_DECIMAL(x=node.this)
    return None


def _json_text(node: exp.Expr, types: Types) -> exp.Expr | None:
    """STRING of JSON takes its quotes off."""
    if isinstance(node, exp.Cast) and node.args["to"].this not in TEXTS:
        return None
    value = node.this.unnest()
    while isinstance(value, (exp.Bracket, exp.Dot)):
        value = value.this.unnest()
    if types.of(node.this) == exp.DType.JSON or isinstance(value, (exp.JSONExtract, exp.ParseJSON)):
        return _UNQUOTED(x=node.this)
    return None


_OWN = Meaning(
    syntax={
        exp.ArrayFilter: (_one_parameter,),
        exp.ArraySlice: (refused("The function ARRAY_SLICE", "Unnest the array WITH OFFSET instead."),),
        exp.DateDiff: (_difference,),
        exp.DateFromUnixDate: (_from_unix,),
        exp.DateTrunc: (_truncated,),
        exp.DatetimeDiff: (_difference,),
        exp.DatetimeTrunc: (_truncated,),
        exp.Extract: (_extracted,),
        exp.Format: (formats.printed,),
        exp.GenerateDateArray: (date_arithmetic.dates_by_months,),
        exp.GroupConcat: (_no_limit,),
        exp.LastDay: (_last_day,),
        exp.Like: (formats.backslash_escapes,),
        exp.ParseDatetime: (_format,),
        exp.Select: (_struct_rows, columns.joined_first, columns.unnamed_numbered),
        exp.StrPosition: (_found,),
        exp.StrToDate: (_format,),
        exp.StrToTime: (_format,),
        exp.Substring: (_start,),
        exp.TimeToStr: (_format,),
        exp.TimestampDiff: (date_arithmetic.whole_units,),
        exp.TimestampTrunc: (_truncated,),
        exp.UnixSeconds: (date_arithmetic.whole_seconds,),
        exp.Unnest: (columns.numbered_from_zero,),
    },
    functions={
        "array_slice": refused("The function ARRAY_SLICE", "Unnest the array WITH OFFSET instead."),
        "array_transform": _one_parameter,
    },
    typed={
        exp.Cast: (_decimal_text, _json_text),
        exp.Left: (_side,),
        exp.Right: (_side,),
        exp.String: (_json_text,),
        exp.TryCast: (_decimal_text, _json_text),
    },
)
BIGQUERY = merged(
    _OWN,
    array_items.ITEMS_RAISE,
    date_arithmetic.DATES_STAY,
    date_arithmetic.DATES_APART_BY_INTERVAL,
    rounding.CASTS_ROUND_HALVES_UP,
    rounding.WHOLE_TEXT_ONLY,
    undefined_results.RAISES_OUTSIDE,
    RAISES_ON_ZERO,
)
