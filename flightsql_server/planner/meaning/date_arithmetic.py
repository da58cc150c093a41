"""Dates: what stays a date in arithmetic, where weeks begin, and what a difference between two of them counts."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.snippets import Template
from flightsql_server.planner.meaning.types import DATES, Types

DAY_UNITS = frozenset({"DAY", "WEEK", "ISOWEEK", "MONTH", "QUARTER", "YEAR", "ISOYEAR", "DECADE", "CENTURY"})
WEEKDAYS = ("SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY")

_DAYS_BETWEEN = Template("TO_DAYS(CAST(:a - :b AS INT))")
_SECONDS = Template("CAST(FLOOR(EPOCH(:t)) AS BIGINT)")
_MONTHS_OF = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}
_BY_MONTHS = Template(
    "CAST(LIST_FILTER(LIST_TRANSFORM(RANGE(0, DATE_DIFF('MONTH', :a, :b) + 1, :n),"
    " LAMBDA _i : :a + TO_MONTHS(CAST(_i AS INT))), LAMBDA _d : _d <= :b) AS DATE[])"
)
_MONTHS = (
    "(DATE_DIFF('MONTH', CAST(:a AS TIMESTAMP), CAST(:b AS TIMESTAMP)) + CASE"
    " WHEN CAST(:b AS TIMESTAMP) > CAST(:a AS TIMESTAMP)"
    " AND CAST(:b AS TIMESTAMP) - DATE_TRUNC('MONTH', CAST(:b AS TIMESTAMP))"
    " < CAST(:a AS TIMESTAMP) - DATE_TRUNC('MONTH', CAST(:a AS TIMESTAMP)) THEN -1"
    " WHEN CAST(:b AS TIMESTAMP) < CAST(:a AS TIMESTAMP)"
    " AND CAST(:b AS TIMESTAMP) - DATE_TRUNC('MONTH', CAST(:b AS TIMESTAMP))"
    " > CAST(:a AS TIMESTAMP) - DATE_TRUNC('MONTH', CAST(:a AS TIMESTAMP)) THEN 1 ELSE 0 END)"
)
_WHOLE = {
    "MONTH": Template(_MONTHS),
    "QUARTER": Template(f"{_MONTHS} // 3"),
    "YEAR": Template(f"{_MONTHS} // 12"),
    **{
        unit: Template(f"DATE_SUB('{unit}', CAST(:a AS TIMESTAMP), CAST(:b AS TIMESTAMP))")
        for unit in ("WEEK", "DAY", "HOUR", "MINUTE", "SECOND", "MILLISECOND", "MICROSECOND")
    },
}


def unit_of(node: exp.Expr) -> str:
    """The unit of time of an interval or a function, in capitals and without a plural s; empty where it is no word."""
    unit = node.args.get("unit")
    if not isinstance(unit, (exp.Var, exp.Literal, exp.Identifier)):
        return ""
    return unit.name.upper().removesuffix("S")


def dates_by_months(node: exp.Expr) -> exp.Expr | None:
    """Dates that are months apart are all counted from the first; the engine counts each from the one before."""
    step = node.args.get("step") or node.args.get("interval")
    if not isinstance(step, exp.Interval) or unit_of(step) not in _MONTHS_OF:
        return None
    count = step.this.name if isinstance(step.this, exp.Literal) else ""
    if not count.isdecimal() or count == "0":
        raise UnsupportedFeature("Dates so many months apart are not accepted.", hint="Write a whole number above 0.")
    months = exp.Literal.number(int(count) * _MONTHS_OF[unit_of(step)])
    start, end = (exp.cast(node.args[part].copy(), exp.DType.DATE) for part in ("start", "end"))
    return _BY_MONTHS(a=start, b=end, n=months)


def whole_seconds(node: exp.Expr) -> exp.Expr | None:
    """Seconds since 1970 are cut to whole ones; a cast would round them."""
    return _SECONDS(t=node.this)


def whole_units(node: exp.Expr) -> exp.Expr | None:
    """The difference counts whole units that have passed, not boundaries: from 23:30 to 00:10 it is no hour."""
    unit = unit_of(node)
    if not unit:
        return None
    if unit not in _WHOLE:
        raise UnsupportedFeature(f"A difference in {unit} is not accepted.", hint="Take it in days, months or seconds.")
    later, earlier = (
        part.this if isinstance(part, exp.TsOrDsToDate) else part for part in (node.this, node.expression)
    )
    return _WHOLE[unit](a=earlier, b=later)


def _is_date(node: exp.Expr, types: Types) -> bool:
    return types.of(node) in DATES


def _date_plus_interval(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A date and an interval of days or more give a date, where the engine gives a timestamp."""
    for date, interval in ((node.this, node.expression), (node.expression, node.this)):
        if isinstance(interval, exp.Interval) and unit_of(interval) in DAY_UNITS and _is_date(date, types):
            return exp.cast(node.copy(), exp.DType.DATE)
    return None


def _date_minus_date(node: exp.Expr, types: Types) -> exp.Expr | None:
    """The difference of two dates is an interval, where the engine gives a number of days."""
    if _is_date(node.this, types) and _is_date(node.expression, types):
        return _DAYS_BETWEEN(a=node.this, b=node.expression)
    return None


def _date_function(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A function that adds days or more to a date, or cuts one, gives a date."""
    if not _is_date(node.this, types) or unit_of(node) not in DAY_UNITS:
        return None
    return exp.cast(node.copy(), exp.DType.DATE)


DATES_STAY = Meaning(
    typed={
        exp.DateAdd: (_date_function,),
        exp.DateSub: (_date_function,),
        exp.DateTrunc: (_date_function,),
    }
)
"""DATE_ADD, DATEADD, DATE_TRUNC of a date give a date, as long as the unit is a day or more."""
DATES_PLUS_INTERVALS_STAY = Meaning(typed={exp.Add: (_date_plus_interval,), exp.Sub: (_date_plus_interval,)})
"""So do + and - with an interval."""
TRUNCATED_DATES_STAY = Meaning(typed={exp.TimestampTrunc: (_date_function,)})
"""And DATE_TRUNC where the parser takes it for TIMESTAMP_TRUNC."""
DATES_APART_BY_INTERVAL = Meaning(typed={exp.Sub: (_date_minus_date,)})
"""Spark and BigQuery: one date minus another is an interval."""
