"""Exasol: Oracle's empty text, DUAL and ROWNUM, and functions of dates with names of their own."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.divisions import RAISES_ON_ZERO
from flightsql_server.planner.meaning.domains import FAILS_OUTSIDE
from flightsql_server.planner.meaning.edges import WIDE_FLOATS
from flightsql_server.planner.meaning.empties import EMPTY_IS_NULL
from flightsql_server.planner.meaning.oracle import nulls_win
from flightsql_server.planner.meaning.oracle_dates import FORMATS
from flightsql_server.planner.meaning.rewriting import Meaning, merged
from flightsql_server.planner.meaning.rownum import DUAL, ROWNUM
from flightsql_server.planner.meaning.stars import COMMON_FIRST
from flightsql_server.planner.meaning.types import DATES as DAYS
from flightsql_server.planner.meaning.types import DECIMALS, FLOATS, TEXTS, TIMESTAMPS, Types
from flightsql_server.planner.meaning.writing import call, case, cast, compared, failing, number, text, whole


def _moved(node: exp.Expr, types: Types) -> exp.Expr | None:
    """ADD_DAYS and its kin give a date for a date.

    Whether the last day of February becomes the last of March isn't known here, so that fails.
    """
    unit = node.args["unit"].name.upper()
    day = types.of(node.this) in DAYS
    if unit in ("MONTH", "YEAR"):
        if not day:
            raise UnsupportedFeature(f"ADD_{unit}S of a time is not accepted.", hint="Cast it to DATE.")
        moved = cast(node, "DATE")
        last = exp.EQ(this=call("last_day", node.this), expression=node.this.copy())
        doubtful = exp.And(this=last, expression=exp.NEQ(this=call("last_day", moved), expression=moved.copy()))
        return case((doubtful, failing("the last day of a month in a longer one")), otherwise=moved)
    return cast(node, "DATE") if day and unit in ("DAY", "WEEK") else None


def _difference(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Only DAYS_BETWEEN of dates counts whole units; the others have a part after the point."""
    unit = node.args["unit"].name.upper()
    if unit == "DAY" and all(types.of(one) in DAYS for one in (node.this, node.expression)):
        return None
    raise UnsupportedFeature(f"{unit}S_BETWEEN is not accepted.", hint="Use DAYS_BETWEEN of two dates.")


def _substring(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Place 0 is refused, for the first is 1; negative ones count from the end."""
    first = whole(node.args.get("start"))
    if first is not None and first > 0:
        return call("nullif", node, text(""))
    if first is None or first == 0:
        raise UnsupportedFeature("SUBSTR from a computed place or 0 is not accepted.", hint="Write the place.")
    outside = compared(exp.LT, call("length", node.this), number(-first))
    return case((outside, exp.Null()), otherwise=call("nullif", node, text("")))


def _shown(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Whether a number has zeros before its point and at its end as text isn't known here."""
    values = [node.this, node.expression] if isinstance(node, exp.DPipe) else [node.this, *node.expressions]
    if any(value is not None and types.of(value) in DECIMALS | FLOATS for value in values):
        raise UnsupportedFeature("A number with decimals as text is not accepted.", hint="Cast it to INTEGER.")
    return None


def _cast(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A text that is too long for its type is an error there, and a date as text has the session's format."""
    to, source = node.args["to"], types.of(node.this)
    if to.this not in TEXTS:
        return None
    if source in DECIMALS | FLOATS:
        raise UnsupportedFeature("A number with decimals as text is not accepted.", hint="Cast it to INTEGER.")
    if source in DAYS or source in TIMESTAMPS:
        raise UnsupportedFeature("A date as text without a format is not accepted.", hint="Use TO_CHAR.")
    if to.expressions and source in TEXTS and not isinstance(node.this, exp.Cast):
        raise UnsupportedFeature("A text cast to a length is not accepted.", hint="Use LEFT, or VARCHAR alone.")
    return None


EXASOL = merged(
    COMMON_FIRST,
    DUAL,
    ROWNUM,
    Meaning(typed={exp.DPipe: (_shown,), exp.Concat: (_shown,), exp.ToChar: (_shown,)}),
    EMPTY_IS_NULL,
    FORMATS,
    Meaning(
        syntax={exp.Greatest: (nulls_win,), exp.Least: (nulls_win,)},
        typed={
            exp.Cast: (_cast,),
            exp.DateAdd: (_moved,),
            exp.DateDiff: (_difference,),
            exp.Substring: (_substring,),
        },
    ),
    WIDE_FLOATS,
    RAISES_ON_ZERO,
    FAILS_OUTSIDE,
)
