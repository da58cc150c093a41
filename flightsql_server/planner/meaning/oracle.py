"""Oracle: the empty text, DUAL, ROWNUM, joins by (+), and functions that differ at their edges."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.divisions import RAISES_ON_ZERO
from flightsql_server.planner.meaning.domains import FAILS_OUTSIDE
from flightsql_server.planner.meaning.edges import WIDE_FLOATS, fixed_text
from flightsql_server.planner.meaning.empties import EMPTY_IS_NULL, or_null, shown_text
from flightsql_server.planner.meaning.fetches import RANKED_FETCH
from flightsql_server.planner.meaning.marked_joins import MARKED_JOINS
from flightsql_server.planner.meaning.oracle_dates import DATES, FORMATS
from flightsql_server.planner.meaning.rewriting import Meaning, merged, refused
from flightsql_server.planner.meaning.rownum import DUAL, ROWNUM
from flightsql_server.planner.meaning.stars import COMMON_FIRST
from flightsql_server.planner.meaning.types import DATES as DAYS
from flightsql_server.planner.meaning.types import FLOATS, INTEGERS, NUMBERS, TEXTS, TIMESTAMPS, Types
from flightsql_server.planner.meaning.writing import bracketed, call, case, cast, compared, number, text, whole


def _substring(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Place 0 is the first, negative ones count from the end; outside of the text it is NULL."""
    start, length = node.args["start"], node.args.get("length")
    first = whole(start)
    from_ = start
    if first == 0:
        from_ = number(1)
    elif first is None:
        from_ = exp.Case(this=start.copy(), ifs=[exp.If(this=number(0), true=number(1))], default=start.copy())
    cut = or_null(call("substring", node.this, from_, *([length] if length is not None else [])))
    outside: list[exp.Expr] = []
    if first is None or first < 0:
        outside.append(exp.GT(this=number(-first) if first else exp.Neg(this=bracketed(start)), expression=_size(node)))
    if length is not None and (whole(length) is None or (whole(length) or 0) < 1):
        outside.append(compared(exp.LT, length, number(1)))
    return case(*((one, exp.Null()) for one in outside), otherwise=cut) if outside else cut


def _size(node: exp.Expr) -> exp.Expr:
    return call("length", node.this)


def _position(node: exp.Expr, types: Types) -> exp.Expr | None:
    """INSTR from the end, or of a later occurrence."""
    place, occurrence = whole(node.args.get("position")), node.args.get("occurrence")
    if node.args.get("position") is None:
        return None
    if place == -1 and (occurrence is None or whole(occurrence) == 1):
        found = call("strpos", call("reverse", node.this), call("reverse", node.args["substr"]))
        ends = exp.Sub(this=_size(node), expression=found)
        begins = exp.Add(this=exp.Sub(this=ends, expression=call("length", node.args["substr"])), expression=number(2))
        return case((exp.EQ(this=found, expression=number(0)), number(0)), otherwise=begins)
    if place is None or place < 1 or (occurrence is not None and whole(occurrence) != 1):
        raise UnsupportedFeature("This form of INSTR is not accepted.", hint="Name a place from the first on, or -1.")
    new = node.copy()
    new.set("occurrence", None)
    return new


def nulls_win(node: exp.Expr) -> exp.Expr | None:
    """NULL where one of them is."""
    node.set("ignore_nulls", False)
    return None


def _modulo(node: exp.Expr, types: Types) -> exp.Expr | None:
    """MOD(x, 0) is x."""
    if (whole(node.expression) or 0) != 0:
        return None
    zero = compared(exp.EQ, node.expression, number(0))
    return case((zero, node.this), otherwise=node)


def _cast(node: exp.Expr, types: Types) -> exp.Expr | None:
    to, value = node.args["to"], node.this
    source = types.of(value)
    if isinstance(value, exp.Null):
        return None
    if to.this in TEXTS and to.expressions:
        made = shown_text(value, types)
        return fixed_text(node, made if source in TEXTS else cast(made, "VARCHAR"), True)
    if to.this == exp.DType.DECIMAL and not to.expressions:
        return value.copy() if source in NUMBERS else node.__class__(this=value.copy(), to=exp.DataType.build("DOUBLE"))
    if to.this in INTEGERS and source in FLOATS:
        return node.__class__(this=call("round", value), to=to.copy())
    if to.this in DAYS and source in TIMESTAMPS and not isinstance(value, exp.CurrentTimestamp):
        raise UnsupportedFeature("A time cast to DATE keeps its hours there, not here.", hint="Use TRUNC for the day.")
    return None


def _to_number(node: exp.Expr) -> exp.Expr | None:
    if node.args.get("format") is not None:
        raise UnsupportedFeature("TO_NUMBER with a format is not accepted.", hint="Take the commas out with REPLACE.")
    return cast(node.this, "DOUBLE")


def _calculated(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A text beside an operator of numbers is the number that it writes."""
    for place in ("this", "expression"):
        if types.of(node.args[place]) in TEXTS and not isinstance(node.args[place], exp.Null):
            node.set(place, cast(node.args[place], "DOUBLE"))
    return None


def _replaced_all(node: exp.Expr, types: Types) -> exp.Expr | None:
    """REGEXP_REPLACE replaces every match, unless it is told which."""
    if any(node.args.get(part) for part in ("position", "occurrence", "modifiers")):
        raise UnsupportedFeature("REGEXP_REPLACE with more than three values is not accepted.", hint="Give three.")
    replacement = node.args.get("replacement") or text("")
    empty = call("coalesce", replacement, text("")) if not isinstance(replacement, exp.Literal) else replacement
    return or_null(call("regexp_replace", node.this, node.expression, empty, text("g")))


def _extracted(node: exp.Expr, types: Types) -> exp.Expr | None:
    """REGEXP_SUBSTR of the first match or a later one; NULL if there is none."""
    occurrence, position = whole(node.args.get("occurrence")), node.args.get("position")
    others = [part for part in ("parameters", "group") if node.args.get(part)]
    if others or (position is not None and whole(position) != 1) or (node.args.get("occurrence") and not occurrence):
        raise UnsupportedFeature("This form of REGEXP_SUBSTR is not accepted.", hint="Begin at place 1.")
    found = call("regexp_extract_all", node.this, node.expression)
    return or_null(call("list_extract", found, number(occurrence or 1)))


ORACLE = merged(
    COMMON_FIRST,
    MARKED_JOINS,
    DUAL,
    ROWNUM,
    RANKED_FETCH,
    EMPTY_IS_NULL,
    DATES,
    FORMATS,
    Meaning(
        syntax={
            exp.Greatest: (nulls_win,),
            exp.Least: (nulls_win,),
            exp.ToNumber: (_to_number,),
            exp.Connect: (refused("CONNECT BY", "Use WITH RECURSIVE."),),
        },
        functions={
            "bitand": lambda node: exp.paren(
                exp.BitwiseAnd(this=bracketed(node.expressions[0]), expression=bracketed(node.expressions[1])),
                copy=False,
            ),
            "stats_mode": lambda node: exp.Mode(this=node.expressions[0].copy()),
        },
        typed={
            **dict.fromkeys((exp.Add, exp.Sub, exp.Mul, exp.Div), (_calculated,)),
            exp.Cast: (_cast,),
            exp.Mod: (_modulo,),
            exp.RegexpReplace: (_replaced_all,),
            exp.RegexpSubstr: (_extracted,),
            exp.StrPosition: (_position,),
            exp.Substring: (_substring,),
        },
    ),
    WIDE_FLOATS,
    RAISES_ON_ZERO,
    FAILS_OUTSIDE,
)
