"""Dremio, Drill and Druid, which read SQL by the same grammar: days, buckets of time, formats and patterns."""

from __future__ import annotations

import re

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.building import bracketed, call, case, literal_text, number, typed, whole
from flightsql_server.planner.meaning.days import DATES_STAY, counts_days
from flightsql_server.planner.meaning.divisions import DIVIDES_WHOLE
from flightsql_server.planner.meaning.joda import strftime_pattern
from flightsql_server.planner.meaning.rewriting import Meaning, Rewrite, merged, naming, refused
from flightsql_server.planner.meaning.types import DATES, INTEGERS, Types
from flightsql_server.planner.names import fold, shown

_UNITS = frozenset({"second", "minute", "hour", "day", "week", "month", "quarter", "year"})
_PERIOD = re.compile(r"P(?:(\d+)([YMWD])|T(\d+)([HMS]))")
_PERIOD_UNITS = {"Y": "year", "W": "week", "D": "day", "H": "hour", "S": "second"}
_DAY_SECONDS = {"second": 86_400, "minute": 1440, "hour": 24}
# Letters of Dremio's formats, the longest first.
_DREMIO = {
    "YYYY": "%Y",
    "HH24": "%H",
    "HH12": "%I",
    "DDD": "%j",
    "MON": "%b",
    "YY": "%y",
    "MM": "%m",
    "DD": "%d",
    "HH": "%I",
    "MI": "%M",
    "SS": "%S",
    "AM": "%p",
    "PM": "%p",
}
_DREMIO_PIECE = re.compile("|".join(_DREMIO) + r"|[A-Za-z#0-9]|[^A-Za-z#0-9]+", re.IGNORECASE)


def _unit(node: exp.Expr) -> str:
    unit = fold(node.name)
    if unit not in _UNITS:
        raise UnsupportedFeature(f"The unit {shown(node.name, 20)} is not accepted here.", hint="Use DAY, HOUR, ….")
    return unit


def _floor(node: exp.Expr) -> exp.Expr | None:
    """``FLOOR(t TO HOUR)``."""
    return None if node.args.get("to") is None else call("date_trunc", _unit(node.args["to"]), node.this)


def _ceil(node: exp.Expr) -> exp.Expr | None:
    """The next begin of the unit, or the time itself if it is one."""
    if node.args.get("to") is None:
        return None
    unit = _unit(node.args["to"])
    begin = call("date_trunc", unit, node.this)
    step = exp.Interval(this=number(1), unit=exp.Var(this=unit.upper()))
    following = exp.Add(this=begin.copy(), expression=step)
    return case((exp.EQ(this=begin, expression=bracketed(node.this.copy())), node.this.copy()), default=following)


def _added(node: exp.Expr) -> exp.Expr | None:
    """``TIMESTAMPADD(DAY, 1, t)``."""
    unit, amount, value = node.expressions
    interval = exp.Interval(this=bracketed(amount), unit=exp.Var(this=_unit(unit).upper()))
    return exp.Paren(this=exp.Add(this=bracketed(value), expression=interval))


def _moved(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A date and a number of days make a date."""
    plain = not isinstance(node.expression, exp.Interval) and node.args.get("unit") is None
    if types.of(node.this) in DATES and (plain or counts_days(node.args.get("unit"))):
        return typed(node.copy(), "DATE")
    return None


def _extract(node: exp.Expr) -> exp.Expr | None:
    """Which day has number 0 or 1 isn't the same everywhere; the ISO day is."""
    if fold(node.this.name) in ("dow", "dayofweek"):
        raise UnsupportedFeature("The part DOW is not accepted.", hint="Use ISODOW, where Monday is 1.")
    return None


def _regexp_extract(node: exp.Expr) -> exp.Expr | None:
    """The third argument is a group, where the parser takes it for a place to begin; NULL where nothing matches."""
    group = node.args.get("position") or node.args.get("group") or number(0)
    found = call("regexp_extract", node.this, node.expression, group)
    return case((call("regexp_matches", node.this.copy(), node.expression.copy()), found))


def _cast(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Whether a fraction is cut off or rounded depends on the version and on who evaluates it."""
    value = node.this
    fraction = isinstance(value, exp.Literal) and not value.is_string and "." in value.name
    of = types.of(value)
    known = of is not None and (of in INTEGERS or of not in exp.DataType.NUMERIC_TYPES)
    if node.args["to"].this not in INTEGERS or (known and not fraction):
        return None
    if isinstance(value, (exp.Literal, exp.Null)) and not fraction:
        return None
    raise UnsupportedFeature(
        "A cast of a fraction to a whole number is not accepted.", hint="Round it with ROUND(x, 0), or cut with TRUNC."
    )


def _dremio_pattern(node: exp.Expr | None) -> str:
    pattern = literal_text(node, "A format")
    made = ""
    for found in _DREMIO_PIECE.finditer(pattern):
        piece = found.group(0)
        known = _DREMIO.get(piece.upper())
        if known is None and (piece[0].isalnum() or piece[0] == "#"):
            raise UnsupportedFeature(f"{shown(pattern, 40)} is not accepted as a format.", hint="Use YYYY-MM-DD.")
        made += known or piece.replace("%", "%%")
    return made


def _dremio_text(node: exp.Expr) -> exp.Expr | None:
    return call("strftime", node.this, _dremio_pattern(node.args.get("format")))


def _dremio_date(node: exp.Expr) -> exp.Expr | None:
    """The parser has read the format already."""
    pattern = node.args.get("format")
    if pattern is None:
        return None
    return typed(call("strptime", node.this, literal_text(pattern, "A format")), "DATE")


def _parsed(name: str, to: str) -> Rewrite:
    """TO_DATE and TO_TIMESTAMP with a format: of Dremio, or of Joda."""

    def parse(node: exp.Expr) -> exp.Expr | None:
        value, pattern = node.expressions
        read = _dremio_pattern(pattern) if name == "dremio" else strftime_pattern(pattern)
        return typed(call("strptime", value, read), to)

    return parse


def _drill_timestamp(node: exp.Expr) -> exp.Expr | None:
    pattern = node.args.get("zone")
    return None if pattern is None else typed(call("strptime", node.this, strftime_pattern(pattern)), "TIMESTAMP")


def _drill_text(node: exp.Expr) -> exp.Expr | None:
    """The parser has put % letters in the place of those that it knows; others would be written out."""
    pattern = literal_text(node.args.get("format"), "A format")
    if re.search("[A-Za-z]", re.sub(r"%-?[A-Za-z]", "", pattern)):
        raise UnsupportedFeature("This format of TO_CHAR is not accepted.", hint="Use yyyy-MM-dd HH:mm:ss.")
    return None


def _strict(node: exp.Expr) -> exp.Expr | None:
    """Drill's casts fail; the parser takes them for ones that give NULL."""
    return exp.Cast(this=node.this, to=node.args["to"])


def _day_of_week(node: exp.Expr) -> exp.Expr | None:
    """Sunday is 1."""
    return exp.Paren(this=exp.Add(this=call("dayofweek", node.this), expression=number(1)))


def _period(node: exp.Expr) -> tuple[int, str]:
    text = literal_text(node, "A period")
    found = _PERIOD.fullmatch(text)
    if found is None:
        raise UnsupportedFeature(f"The period {shown(text, 20)} is not accepted.", hint="Write PT5M, PT1H, P1D ….")
    letter = found.group(2) or found.group(4)
    unit = "month" if found.group(2) == "M" else "minute" if letter == "M" else _PERIOD_UNITS[letter]
    return int(found.group(1) or found.group(3)), unit


def _time_floor(node: exp.Expr) -> exp.Expr | None:
    """``TIME_FLOOR(t, 'PT5M')``."""
    value, period, *rest = node.expressions
    count, unit = _period(period)
    if rest:
        raise UnsupportedFeature("TIME_FLOOR takes no origin or zone here.", hint="Give it the time and the period.")
    if count == 1:
        return call("date_trunc", unit, value)
    if unit in _DAY_SECONDS and count and _DAY_SECONDS[unit] % count == 0:
        return call("time_bucket", exp.Interval(this=number(count), unit=exp.Var(this=unit.upper())), value)
    raise UnsupportedFeature("A period that no day is a multiple of is not accepted.", hint="Use one that divides it.")


def _time_shift(node: exp.Expr) -> exp.Expr | None:
    value, period, step = node.expressions
    count, unit = _period(period)
    steps = whole(step)
    amount = number(count * steps) if steps is not None and steps >= 0 else exp.Mul(this=number(count), expression=step)
    interval = exp.Interval(this=bracketed(amount), unit=exp.Var(this=unit.upper()))
    return exp.Paren(this=exp.Add(this=bracketed(value), expression=interval))


def _time_extract(node: exp.Expr) -> exp.Expr | None:
    value, unit = node.expressions
    word = fold(literal_text(unit, "A unit of time"))
    name = {"doy": "dayofyear"}.get(word, word)
    if name not in _UNITS and name not in ("dayofyear", "isodow", "isoyear"):
        raise UnsupportedFeature(f"The unit {shown(word, 20)} is not accepted.", hint="Use HOUR, DAY, ISODOW ….")
    return call(name, value)


def _time_format(node: exp.Expr) -> exp.Expr | None:
    value, pattern = node.expressions
    return call("strftime", value, strftime_pattern(pattern))


def _time_parse(node: exp.Expr) -> exp.Expr | None:
    value, *pattern = node.expressions
    if not pattern:
        return typed(value, "TIMESTAMP")
    return typed(call("strptime", value, strftime_pattern(pattern[0])), "TIMESTAMP")


def _replaced(node: exp.Expr) -> exp.Expr | None:
    """Groups in the replacement are written $1."""
    by = literal_text(node.args.get("replacement"), "The replacement of a regular expression")
    node.set("replacement", exp.Literal.string(re.sub(r"\$(\d)", r"\\\1", by.replace("\\", "\\\\"))))
    return None


def _placed(offset: int) -> Rewrite:
    """An element by its place, counted from 0 or from 1."""

    def take(node: exp.Expr) -> exp.Expr | None:
        array, place = node.expressions
        moved = place if offset == 0 else exp.Add(this=bracketed(place), expression=number(offset))
        return call("list_extract", array, moved)

    return take


def _safe_divide(node: exp.Expr) -> exp.Expr | None:
    return exp.Div(this=bracketed(node.this), expression=exp.Nullif(this=node.expression, expression=number(0)))


_DIFFERENCE = refused("TIMESTAMPDIFF", "Use DATEDIFF, or subtract one from the other.")
_SHARED = Meaning(
    syntax={
        exp.Floor: (_floor,),
        exp.Ceil: (_ceil,),
        exp.Extract: (_extract,),
        exp.RegexpExtract: (_regexp_extract,),
        exp.RegexpReplace: (_replaced,),
        exp.TimestampDiff: (_DIFFERENCE,),
    },
    functions={"timestampadd": _added},
    prepare=(naming(lambda column, place: f"EXPR${place}"),),
    typed={
        exp.Cast: (_cast,),
        exp.TryCast: (_cast,),
        exp.DateAdd: (_moved,),
        exp.DateSub: (_moved,),
    },
)

DREMIO = merged(
    Meaning(
        syntax={
            exp.ToChar: (_dremio_text,),
            exp.TsOrDsToDate: (_dremio_date,),
            exp.DayOfWeek: (_day_of_week,),
        },
        functions={
            "to_date": _parsed("dremio", "DATE"),
            "to_timestamp": _parsed("dremio", "TIMESTAMP"),
            "ndv": lambda node: exp.ApproxDistinct(this=node.expressions[0]),
        },
    ),
    _SHARED,
    DIVIDES_WHOLE,
    DATES_STAY,
)
DRILL = merged(
    Meaning(
        syntax={exp.TryCast: (_strict,), exp.TimeStrToTime: (_drill_timestamp,), exp.TimeToStr: (_drill_text,)},
        functions={"to_date": _parsed("joda", "DATE"), "to_timestamp": _parsed("joda", "TIMESTAMP")},
    ),
    _SHARED,
    DIVIDES_WHOLE,
    Meaning(typed={kind: DATES_STAY.typed[kind] for kind in (exp.TimestampTrunc, exp.DateTrunc)}),
)
"""Drill: a date and a number make a date, a date and an interval a time."""
DRUID = merged(
    Meaning(
        syntax={exp.SafeDivide: (_safe_divide,)},
        functions={
            "time_floor": _time_floor,
            "time_shift": _time_shift,
            "time_extract": _time_extract,
            "time_format": _time_format,
            "time_parse": _time_parse,
            "millis_to_timestamp": lambda node: call("epoch_ms", node.expressions[0]),
            "timestamp_to_millis": lambda node: call("epoch_ms", node.expressions[0]),
            "strlen": lambda node: exp.Length(this=node.expressions[0]),
            "textcat": lambda node: exp.DPipe(
                this=bracketed(node.expressions[0]), expression=bracketed(node.expressions[1])
            ),
            "contains_string": lambda node: call("contains", *node.expressions),
            "icontains_string": lambda node: call("contains", *[exp.Lower(this=one) for one in node.expressions]),
            "array_offset": _placed(1),
            "array_ordinal": _placed(0),
            "earliest_by": lambda node: call("arg_min", *node.expressions),
            "latest_by": lambda node: call("arg_max", *node.expressions),
            "bitwise_and": lambda node: exp.BitwiseAnd(this=node.expressions[0], expression=node.expressions[1]),
            "bitwise_or": lambda node: exp.BitwiseOr(this=node.expressions[0], expression=node.expressions[1]),
        },
    ),
    _SHARED,
    DIVIDES_WHOLE,
)
"""Druid: all of its times are points of time, dates among them."""
