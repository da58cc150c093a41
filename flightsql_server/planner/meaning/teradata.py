"""Teradata: whole and decimal division, texts whose blanks don't count, casts that cut, dates without a format."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning import edges
from flightsql_server.planner.meaning.divisions import DIVIDES_WHOLE
from flightsql_server.planner.meaning.domains import FAILS_OUTSIDE
from flightsql_server.planner.meaning.fetches import RANKED_FETCH
from flightsql_server.planner.meaning.instants import keeps_date
from flightsql_server.planner.meaning.padded import PADDED
from flightsql_server.planner.meaning.rewriting import Meaning, merged
from flightsql_server.planner.meaning.stars import COMMON_FIRST
from flightsql_server.planner.meaning.types import DATES as DAYS
from flightsql_server.planner.meaning.types import DECIMALS, FLOATS, INTEGERS, NUMBERS, TEXTS, TIMESTAMPS, Types
from flightsql_server.planner.meaning.writing import call, cast, number, operated


def _division(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Decimals divide to as many decimals as they have, rounded at each step."""
    kinds = {types.of(node.this), types.of(node.expression)}
    if kinds & DECIMALS and kinds <= DECIMALS | INTEGERS:
        raise UnsupportedFeature(
            "A division of decimals is not accepted, for its digits would differ.", hint="Cast one of them to FLOAT."
        )
    return None


def _cast(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Decimals become whole numbers by cutting; texts are cut and padded; dates as text need a format."""
    to, source = node.args["to"], types.of(node.this)
    if to.this in DECIMALS and source in DECIMALS | FLOATS:
        # Halves go to the even neighbour, unless the system is set up otherwise.
        scale = to.expressions[1].this if len(to.expressions) > 1 else number(0)
        return node.__class__(this=call("round_even", node.this, scale), to=to.copy())
    if to.this not in TEXTS:
        return edges.to_whole(node, types)
    if source in DAYS or source in TIMESTAMPS or source in FLOATS or source in DECIMALS:
        raise UnsupportedFeature(
            "This value as text without a format is not accepted.", hint="Use EXTRACT, or cast it."
        )
    made = node.this if source in TEXTS else cast(node.this, "VARCHAR")
    return edges.fixed_text(node, made, True)


def _null_if_zero(node: exp.Expr) -> exp.Expr | None:
    (value,) = node.expressions
    return exp.Nullif(this=value.copy(), expression=number(0))


def _day_of_week(node: exp.Expr) -> exp.Expr | None:
    """Counts from Sunday as 1."""
    return operated(exp.Add, call("dayofweek", node.expressions[0]), number(1))


def _joined(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Numbers beside ``||`` get the width of their type there."""
    if any(types.of(side) in NUMBERS for side in (node.this, node.expression)):
        raise UnsupportedFeature("A number beside || is not accepted.", hint="Cast it to VARCHAR.")
    return None


TERADATA = merged(
    COMMON_FIRST,
    RANKED_FETCH,
    Meaning(
        functions={
            "nullifzero": _null_if_zero,
            "oreplace": lambda node: call("replace", *node.expressions) if len(node.expressions) == 3 else None,
            "zeroifnull": lambda node: exp.Coalesce(this=node.expressions[0].copy(), expressions=[number(0)]),
            "td_day_of_week": _day_of_week,
            "index": lambda node: exp.StrPosition(this=node.expressions[0].copy(), substr=node.expressions[1].copy()),
            "otranslate": lambda node: call("translate", *node.expressions),
            "characters": lambda node: exp.Length(this=node.expressions[0].copy()),
        },
        typed={
            exp.AddMonths: (keeps_date,),
            exp.Div: (_division,),
            exp.Cast: (_cast,),
            exp.TryCast: (_cast,),
            exp.DPipe: (_joined,),
            exp.Substring: (edges.window_substring,),
        },
    ),
    edges.WIDE_FLOATS,
    PADDED,
    FAILS_OUTSIDE,
    DIVIDES_WHOLE,
)
