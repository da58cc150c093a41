"""ClickHouse's dates and times: buckets, parts, differences, and formats with letters of its own."""

from __future__ import annotations

import re

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.building import bracketed, call, cast, literal_text, number, text, typed, whole
from flightsql_server.planner.meaning.rewriting import Meaning, Rewrite, refused
from flightsql_server.planner.meaning.types import DATES, INTEGERS, TIMESTAMPS, Types
from flightsql_server.planner.names import shown

_LONG_UNITS = frozenset({"WEEK", "MONTH", "QUARTER", "YEAR"})
_SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600}
_DAY_SECONDS = 86_400
_UNITS = ("second", "minute", "hour", "day", "week", "month", "quarter", "year")
# What the letters after % are in the engine's format; what is not here is refused.
_LETTERS = {
    **{letter: "%" + letter for letter in "YmdHSyjuwabpIfGV%"},
    "i": "%M",
    "M": "%B",
    "T": "%H:%M:%S",
    "F": "%Y-%m-%d",
    "D": "%m/%d/%y",
    "R": "%H:%M",
    "r": "%I:%M %p",
    "W": "%A",
    "h": "%I",
    "s": "%S",
    "c": "%m",
    "n": "\n",
    "t": "\t",
}
_FORMAT = re.compile(r"%(.?)", re.DOTALL)


def _zone_refused() -> UnsupportedFeature:
    return UnsupportedFeature(
        "A time zone is not accepted here.", hint="Set the session's time zone, or ask in the zone of the data."
    )


def _local(value: exp.Expr, zone: exp.Expr | None) -> exp.Expr:
    """What the clocks of a zone show; that the value is a point of time is looked at once types are known."""
    value = bracketed(value)
    if zone is None:
        return value
    literal_text(zone, "A time zone")
    return exp.AtTimeZone(this=value, zone=zone.copy())


def _absolute(value: exp.Expr, zone: exp.Expr | None) -> exp.Expr:
    return value if zone is None else call("timezone", zone.copy(), value)


def _localised(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A time without zone would be moved the other way."""
    if types.of(node.this) != exp.DType.TIMESTAMPTZ:
        raise _zone_refused()
    return None


def _value_and_zone(node: exp.Expr) -> tuple[exp.Expr, exp.Expr | None]:
    if not 0 < len(node.expressions) < 3:
        raise UnsupportedFeature(f"{node.name} is not accepted with so many arguments.", hint="Give it one or two.")
    return node.expressions[0], node.expressions[1] if len(node.expressions) == 2 else None


def _one(node: exp.Expr) -> exp.Expr:
    if len(node.expressions) != 1:
        raise _zone_refused()
    return bracketed(node.expressions[0])


def _start(unit: str, value: exp.Expr, zone: exp.Expr | None) -> exp.Expr:
    found = call("date_trunc", unit.lower(), _local(value, zone))
    return typed(found, "DATE") if unit.upper() in _LONG_UNITS else _absolute(found, zone)


def _truncated(node: exp.Expr) -> exp.Expr | None:
    """``toStartOfMonth`` and whatever is longer than a day gives a date."""
    unit, zone = node.args["unit"].name, node.args.get("zone")
    if unit.upper() not in _LONG_UNITS and zone is None:
        return None
    return _start(unit, node.this, zone)


def _started(unit: str) -> Rewrite:
    return lambda node: _start(unit, *_value_and_zone(node))


def _bucketed(minutes: int) -> Rewrite:
    def bucket(node: exp.Expr) -> exp.Expr | None:
        value, zone = _value_and_zone(node)
        return _absolute(call("time_bucket", _interval(number(minutes), "minute"), _local(value, zone)), zone)

    return bucket


def _difference(node: exp.Expr) -> exp.Expr | None:
    """Boundaries crossed, of weeks their Mondays."""
    zone, unit = node.args.get("zone"), node.args["unit"].name.lower()
    begin, end = _local(node.expression, zone), _local(node.this, zone)
    if unit in ("week", "ww", "wk"):
        days = call("date_diff", "day", call("date_trunc", "week", begin), call("date_trunc", "week", end))
        return call("divide", days, 7)
    return None if zone is None else call("date_diff", unit, begin, end)


def _time_in_zone(node: exp.Expr) -> exp.Expr | None:
    """``toDateTime('…', 'Europe/Paris')`` reads the text on the clocks there."""
    value, *rest = node.expressions
    to = exp.DataType.build("TIMESTAMP", dialect="duckdb")
    if node.name.lower().startswith("todatetime64"):
        if not rest:
            raise UnsupportedFeature("toDateTime64 needs a number of digits.", hint="Write toDateTime64(x, 3).")
        to = exp.DataType(this=exp.DType.DATETIME64, expressions=[exp.DataTypeParam(this=rest.pop(0))])
    if not rest:
        return exp.Cast(this=value, to=to)
    if len(rest) > 1 or not (isinstance(value, exp.Literal) and value.is_string):
        raise _zone_refused()
    return call("timezone", text(literal_text(rest[0], "A time zone")), typed(value, "TIMESTAMP"))


def _date_in_zone(node: exp.Expr) -> exp.Expr | None:
    return cast(_local(*_value_and_zone(node)), "DATE")


def _start_of_week(node: exp.Expr) -> exp.Expr | None:
    """Weeks begin on Sunday, with an odd mode on Monday."""
    mode = whole(node.expressions[1]) if len(node.expressions) > 1 else 0
    if mode is None or len(node.expressions) > 2:
        raise _zone_refused()
    value = bracketed(node.expressions[0])
    if mode % 2:
        return typed(call("date_trunc", "week", value), "DATE")
    shifted = exp.Add(this=typed(value, "DATE"), expression=number(1))
    monday = typed(call("date_trunc", "week", shifted), "DATE")
    return exp.Paren(this=exp.Sub(this=monday, expression=number(1)))


def _start_of_interval(node: exp.Expr) -> exp.Expr | None:
    """Kept as DATE_BIN until types are known, for the origin has to be of the value's type."""
    if not 1 < len(node.expressions) < 4 or not isinstance(node.expressions[1], exp.Interval):
        raise UnsupportedFeature(
            "toStartOfInterval takes a value and an interval here.", hint="Write INTERVAL 5 MINUTE as the second."
        )
    value, interval, *rest = node.expressions
    zone = rest[0] if rest else None
    count, unit = _count_of(interval)
    if unit in _SECONDS and _DAY_SECONDS % (count * _SECONDS[unit]) == 0:
        return _absolute(call("time_bucket", interval, _local(value, zone)), zone)
    if count == 1:
        return _start(unit, value, zone)
    if zone is not None:
        raise _zone_refused()
    return exp.DateBin(this=interval, expression=value)


def _count_of(interval: exp.Expr) -> tuple[int, str]:
    amount = interval.this
    if isinstance(amount, exp.Literal) and amount.is_string:
        amount = exp.Literal.number(amount.name)
    count = whole(amount)
    unit = interval.args["unit"].name.upper().removesuffix("S") if interval.args.get("unit") else ""
    if not count or count < 0 or unit.lower() not in _UNITS:
        raise UnsupportedFeature("This interval is not accepted here.", hint="Write a number and a unit of time.")
    return count, unit


def _binned(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Buckets are counted from 1970, weeks from its first Monday, years from 0, hours from the day's begin."""
    interval, value = node.this, node.expression
    count, unit = _count_of(interval)
    of = types.of(value)
    if of not in DATES and of not in TIMESTAMPS:
        raise UnsupportedFeature(
            "It can't be told whether this is a date or a time.", hint="Say so with toDate or toDateTime."
        )
    if unit == "HOUR":
        hours = call("divide", call("hour", value.copy()), count)
        since = call("to_hours", exp.Mul(this=number(count), expression=hours))
        return exp.Paren(this=exp.Add(this=call("date_trunc", "day", value.copy()), expression=since))
    start = {"WEEK": "1970-01-05", "YEAR": f"{count:04d}-01-01"}.get(unit, "1970-01-01")
    if of == exp.DType.TIMESTAMPTZ:
        origin = typed(text(f"{start} 00:00:00+00"), "TIMESTAMPTZ")
    else:
        origin = typed(text(start), "DATE" if of in DATES else "TIMESTAMP")
    found = call("time_bucket", interval.copy(), value.copy(), origin)
    return typed(found, "DATE") if unit in _LONG_UNITS else found


def _interval(amount: exp.Expr, unit: str) -> exp.Expr:
    return exp.Interval(this=amount, unit=exp.Var(this=unit.upper()))


def _made_interval(unit: str) -> Rewrite:
    return lambda node: _interval(_one(node), unit)


def _moved(kind: type[exp.Binary], unit: str) -> Rewrite:
    def move(node: exp.Expr) -> exp.Expr | None:
        value, amount = node.expressions[:2]
        return exp.Paren(this=kind(this=bracketed(value), expression=_interval(bracketed(amount), unit)))

    return move


def _added(kind: type[exp.Binary]) -> Rewrite:
    """``date_add(DAY, 1, d)`` becomes a sum, whose type is looked at later."""

    def add(node: exp.Expr) -> exp.Expr | None:
        unit = node.args.get("unit")
        amount = node.expression
        if not isinstance(amount, exp.Interval):
            amount = _interval(bracketed(amount), unit.name if unit else "day")
        return exp.Paren(this=kind(this=bracketed(node.this), expression=amount))

    return add


def _sum(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A date and days make a date, a time and a number a time, and two times differ by seconds."""
    left, right = node.this, node.expression
    if isinstance(left, exp.Interval) and isinstance(node, exp.Add):
        left, right = right, left
    of = types.of(left)
    if isinstance(right, exp.Interval) and of in DATES:
        unit = right.args["unit"].name.upper().removesuffix("S") if right.args.get("unit") else ""
        if unit in _LONG_UNITS or unit == "DAY":
            return typed(node.copy(), "DATE")
        return None
    if of not in TIMESTAMPS:
        return None
    if types.of(right) in INTEGERS:
        seconds = call("to_seconds", right.copy())
        return exp.Paren(this=node.__class__(this=left.copy(), expression=seconds))
    if isinstance(node, exp.Sub) and types.of(right) in TIMESTAMPS:
        return call("epoch", exp.Sub(this=left.copy(), expression=bracketed(right.copy())))
    return None


def _formatted(node: exp.Expr) -> exp.Expr | None:
    pattern = literal_text(node.args.get("format"), "A format")

    def letter(found: re.Match[str]) -> str:
        known = _LETTERS.get(found.group(1))
        if known is None:
            raise UnsupportedFeature(f"%{shown(found.group(1), 3)} in a format is not accepted.", hint="Leave it out.")
        return known

    return call("strftime", _local(node.this, node.args.get("zone")), _FORMAT.sub(letter, pattern))


def _part(name: str) -> Rewrite:
    return lambda node: call(name, _local(*_value_and_zone(node)))


def _combined(*parts: tuple[str, int]) -> Rewrite:
    def combine(node: exp.Expr) -> exp.Expr | None:
        value = _one(node)
        total: exp.Expr | None = None
        for name, factor in parts:
            piece = call(name, value.copy())
            piece = piece if factor == 1 else exp.Mul(this=piece, expression=number(factor))
            total = piece if total is None else exp.Add(this=total, expression=piece)
        return exp.Paren(this=total)

    return combine


def _week(node: exp.Expr) -> exp.Expr | None:
    """Week 0 is what lies before the year's first Sunday; mode 3 is the ISO week."""
    mode = whole(node.expressions[1]) if len(node.expressions) > 1 else 0
    if mode == 3:
        return call("week", node.expressions[0])
    if mode:
        raise UnsupportedFeature(f"toWeek with mode {mode} is not accepted.", hint="Use mode 0, or 3 for ISO weeks.")
    return typed(call("strftime", node.expressions[0], "%U"), "INT")


def _day_of_week(node: exp.Expr) -> exp.Expr | None:
    """Monday is 1, or with a mode 0; with the modes 2 and 3 Sunday is the first, 0 or 1."""
    mode = whole(node.expressions[1]) if len(node.expressions) == 2 else 0
    if mode is None or mode > 3 or len(node.expressions) > 2:
        raise UnsupportedFeature("toDayOfWeek takes a mode of 0 to 3 here.", hint="Leave the zone out.")
    day = call("isodow" if mode < 2 else "dayofweek", node.expressions[0])
    shift = (0, -1, 0, 1)[mode]
    if not shift:
        return day
    return exp.Paren(this=(exp.Add if shift > 0 else exp.Sub)(this=day, expression=number(1)))


def _full_units(node: exp.Expr) -> exp.Expr | None:
    """``age('day', a, b)`` counts whole units, not boundaries that were crossed."""
    if len(node.expressions) != 3:
        raise _zone_refused()
    unit = literal_text(node.expressions[0], "A unit of time")
    return call("date_sub", unit, node.expressions[1], node.expressions[2])


def _seconds(node: exp.Expr) -> exp.Expr | None:
    value = _one(node)
    if isinstance(value, exp.Literal) and value.is_string:
        value = typed(value, "TIMESTAMP")
    return typed(call("floor", call("epoch", value)), "BIGINT")


def _yesterday(node: exp.Expr) -> exp.Expr | None:
    return exp.Paren(this=exp.Sub(this=exp.CurrentDate(), expression=number(1)))


def _parsed(node: exp.Expr) -> exp.Expr | None:
    return cast(_one(node), "TIMESTAMP")


_FUNCTIONS: dict[str, Rewrite] = {
    **{f"tointerval{unit}": _made_interval(unit) for unit in _UNITS},
    **{f"add{unit}s": _moved(exp.Add, unit) for unit in _UNITS},
    **{f"subtract{unit}s": _moved(exp.Sub, unit) for unit in _UNITS},
    **{f"tostartof{unit}": _started(unit) for unit in ("second", "minute", "hour", "day", "month", "quarter", "year")},
    **{f"to{unit}": _part(unit) for unit in ("year", "quarter", "month", "hour", "minute", "second")},
    "todatetime": _time_in_zone,
    "todatetime64": _time_in_zone,
    "todate": _date_in_zone,
    "tomonday": _started("week"),
    "tostartofweek": _start_of_week,
    "tostartofinterval": _start_of_interval,
    "tostartoffiveminutes": _bucketed(5),
    "tostartoffiveminute": _bucketed(5),
    "tostartoftenminutes": _bucketed(10),
    "tostartoffifteenminutes": _bucketed(15),
    "timeslot": _bucketed(30),
    "todayofmonth": _part("day"),
    "todayofyear": _part("dayofyear"),
    "todayofweek": _day_of_week,
    "toisoweek": _part("week"),
    "toisoyear": _part("isoyear"),
    "toweek": _week,
    "tolastdayofmonth": _part("last_day"),
    "toyyyymm": _combined(("year", 100), ("month", 1)),
    "toyyyymmdd": _combined(("year", 10_000), ("month", 100), ("day", 1)),
    "tounixtimestamp": _seconds,
    "tounixtimestamp64milli": _part("epoch_ms"),
    "tounixtimestamp64micro": _part("epoch_us"),
    "fromunixtimestamp": lambda node: call("to_timestamp", _one(node)),
    "fromunixtimestamp64milli": lambda node: call(
        "make_timestamptz", exp.Mul(this=_one(node), expression=number(1000))
    ),
    "fromunixtimestamp64micro": lambda node: call("make_timestamptz", _one(node)),
    "yesterday": _yesterday,
    "now64": lambda node: exp.CurrentTimestamp(),
    "age": _full_units,
    "parsedatetimebesteffort": _parsed,
    "parsedatetime64besteffort": _parsed,
}

TIMES = Meaning(
    syntax={
        exp.TimestampTrunc: (_truncated,),
        exp.DateTrunc: (_truncated,),
        exp.DateDiff: (_difference,),
        exp.DateAdd: (_added(exp.Add),),
        exp.DateSub: (_added(exp.Sub),),
        exp.TimestampAdd: (_added(exp.Add),),
        exp.TimestampSub: (_added(exp.Sub),),
        exp.TimeToStr: (_formatted,),
        exp.ParseDatetime: (refused("parseDateTime", "Use parseDateTimeBestEffort, or toDateTime."),),
    },
    functions=_FUNCTIONS,
    typed={exp.Add: (_sum,), exp.Sub: (_sum,), exp.DateBin: (_binned,), exp.AtTimeZone: (_localised,)},
)
"""Dates and times."""
