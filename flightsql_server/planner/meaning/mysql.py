"""MySQL, Doris and StarRocks: texts as numbers, NULL in the place of errors, functions that differ at their edges."""

from __future__ import annotations

import re

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning import edges
from flightsql_server.planner.meaning.domains import NULL_OUTSIDE
from flightsql_server.planner.meaning.mysql_dates import DATES
from flightsql_server.planner.meaning.rewriting import Meaning, merged
from flightsql_server.planner.meaning.rownum import DUAL
from flightsql_server.planner.meaning.stars import COMMON_FIRST
from flightsql_server.planner.meaning.tsql import ROLLUP
from flightsql_server.planner.meaning.types import FLOATS, INTEGERS, NUMBERS, TEXTS, Types
from flightsql_server.planner.meaning.writing import (
    call,
    case,
    cast,
    compared,
    is_null,
    number,
    text,
    whole,
    with_texts,
)

_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")


def _or(node: exp.Expr, types: Types) -> exp.Expr | None:
    """``||`` and OR take numbers for conditions, but texts beside ``||`` are meant to be joined: refused."""
    if any(types.of(side) in TEXTS for side in (node.this, node.expression)):
        raise UnsupportedFeature(
            "A text as a condition is not accepted; || means OR in this dialect.", hint="Join texts with CONCAT."
        )
    return None


def _calculated(node: exp.Expr, types: Types) -> exp.Expr | None:
    """In a calculation a text is the number that it begins with, and a condition is 1 or 0."""
    for place in ("this", "expression"):
        side = node.args[place]
        if isinstance(side, exp.Literal) and side.is_string:
            found = _NUMBER.match(side.name)
            node.set(place, cast(exp.Literal.number(found.group(1).lstrip("+")) if found else number(0), "DOUBLE"))
        elif types.of(side) in TEXTS and types.of(node.args["expression" if place == "this" else "this"]) is not None:
            if isinstance(node.expression, exp.Interval) or isinstance(node.this, exp.Interval):
                continue
            raise UnsupportedFeature("Calculating with a text is not accepted.", hint="Cast it to a number.")
        elif types.of(side) == exp.DType.BOOLEAN:
            node.set(place, cast(side, "INT"))
    return None


def _modulo(node: exp.Expr, types: Types) -> exp.Expr | None:
    """NULL for a divisor of zero."""
    if whole(node.expression):
        return None
    return node.__class__(this=node.this.copy(), expression=call("nullif", node.expression, number(0)))


def _whole_division(node: exp.Expr, types: Types) -> exp.Expr | None:
    """DIV gives a whole number of any two, and NULL for a divisor of zero."""
    divisor = node.expression if whole(node.expression) else call("nullif", node.expression, number(0))
    if types.all_of(INTEGERS, node.this, node.expression):
        return exp.IntDiv(this=node.this.copy(), expression=divisor.copy())
    return cast(call("trunc", exp.Div(this=node.this.copy(), expression=divisor.copy())), "BIGINT")


def _substring(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Empty from place 0, and from before the first one counted from the end."""
    start = node.args.get("start")
    first = whole(start)
    if start is None or (first is not None and first > 0 and (whole(node.args.get("length") or number(1)) or 0) > 0):
        return None
    taken = whole(node.args.get("length"))
    if first == 0 or (taken is not None and taken < 1):
        return case((is_null(node.this), exp.Null()), otherwise=text(""))
    outside: exp.Expr = exp.GT(this=call("abs", start), expression=call("length", node.this))
    outside = exp.And(this=compared(exp.LT, start, number(0)), expression=outside)
    if first is None:
        outside = exp.Or(this=exp.paren(outside), expression=compared(exp.EQ, start, number(0)))
    length = node.args.get("length")
    if length is not None and whole(length) is None:
        outside = exp.Or(this=exp.paren(outside), expression=compared(exp.LT, length, number(1)))
    return case((outside, text("")), otherwise=node)


def _average(node: exp.Expr, types: Types) -> exp.Expr | None:
    """The average of a condition is that of 1 and 0."""
    return exp.Avg(this=cast(node.this, "INT")) if types.of(node.this) == exp.DType.BOOLEAN else None


def _length(node: exp.Expr, types: Types) -> exp.Expr | None:
    """LENGTH counts bytes, CHAR_LENGTH characters."""
    if not node.args.get("binary"):
        return None
    return call("strlen", node.this if types.of(node.this) in TEXTS else cast(node.this, "VARCHAR"))


def text_of(node: exp.Expr, types: Types) -> exp.Expr:
    """A value as the text that it becomes beside other texts."""
    kind = types.of(node)
    if kind == exp.DType.BOOLEAN:
        return cast(cast(node, "INT"), "VARCHAR")
    if kind in FLOATS and not isinstance(node, exp.Literal):
        shown = call("regexp_replace", cast(node, "VARCHAR"), text(r"\.0$"), text(""))
        return call("replace", shown, text("e+"), text("e"))
    return node


def _concat(node: exp.Expr, types: Types) -> exp.Expr | None:
    return with_texts(node, types, text_of)


def _cast(node: exp.Expr, types: Types) -> exp.Expr | None:
    to, value = node.args["to"], node.this
    source = types.of(value)
    if to.this in TEXTS:
        made = text_of(value, types)
        cut = (
            fixed
            if (fixed := edges.fixed_text(node, made if source in TEXTS else cast(made, "VARCHAR"), False))
            else None
        )
        return cut or (cast(made, "VARCHAR") if made is not value else None)
    if to.this in INTEGERS and source in TEXTS:
        begins = call("regexp_matches", value, text(r"^\s*[-+]?[0-9]"))
        taken = node.__class__(this=call("regexp_extract", value, text("[-+]?[0-9]+")), to=to.copy())
        return case((begins, taken), (exp.Not(this=is_null(value)), number(0)))
    if to.this == exp.DType.DECIMAL and not to.expressions:
        return node.__class__(this=value.copy(), to=exp.DataType.build("DECIMAL(10, 0)"))
    return None


def _shown(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A condition as text is a digit, a whole floating-point number has no point."""
    made = text_of(node.this, types) if node.args["to"].this in TEXTS else node.this
    return None if made is node.this else cast(made, "VARCHAR")


def _like(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A backslash takes a sign of a pattern for itself, unless ESCAPE names another."""
    pattern = node.expression
    if isinstance(node.parent, exp.Escape) or (isinstance(pattern, exp.Literal) and "\\" not in pattern.name):
        return None
    return exp.Escape(this=node.copy(), expression=text("\\"))


def _insert(node: exp.Expr, types: Types) -> exp.Expr | None:
    """INSERT gives the text itself where it begins outside of it."""
    value, start, length = node.this, node.args["start"], node.args["length"]
    size = call("length", value)
    outside = exp.Or(this=compared(exp.LT, start, number(1)), expression=compared(exp.GT, start, size))
    head = call("left", value, exp.Sub(this=exp.paren(start.copy()), expression=number(1)))
    after = exp.Add(this=exp.paren(start.copy()), expression=exp.paren(length.copy()))
    tail = case((compared(exp.LT, length, number(0)), text("")), otherwise=call("substring", value, after))
    made = exp.DPipe(this=exp.DPipe(this=head, expression=node.expression.copy()), expression=tail)
    return case((outside, value), otherwise=made)


def _substring_index(node: exp.Expr) -> exp.Expr | None:
    """What stands before the nth delimiter, or after it counted from the end."""
    count = whole(node.args["count"])
    if count is None:
        raise UnsupportedFeature("SUBSTRING_INDEX by a computed number is not accepted.", hint="Write the number.")
    delimiter = node.args["delimiter"]
    parts = call("string_split", node.this, delimiter)
    if count == 0:
        return case((is_null(node.this), exp.Null()), otherwise=text(""))
    if count < 0:
        first = exp.Add(this=exp.Sub(this=call("len", parts), expression=number(-count)), expression=number(1))
        taken = call("list_slice", parts, call("greatest", first, number(1)), call("len", parts))
    else:
        taken = call("list_slice", parts, number(1), number(count))
    return call("array_to_string", taken, delimiter)


def _find_in_set(node: exp.Expr) -> exp.Expr | None:
    wanted, names = node.expressions
    found = call("list_position", call("string_split", names, text(",")), wanted)
    unknown = exp.Or(this=is_null(wanted), expression=is_null(names))
    return case((unknown, exp.Null()), otherwise=exp.Coalesce(this=found, expressions=[number(0)]))


def _field(node: exp.Expr) -> exp.Expr | None:
    wanted, *values = node.expressions
    ifs = [exp.If(this=value.copy(), true=number(place)) for place, value in enumerate(values, 1)]
    return exp.Case(this=wanted.copy(), ifs=ifs, default=number(0))


def _elt(node: exp.Expr) -> exp.Expr | None:
    ifs = [exp.If(this=number(place), true=value.copy()) for place, value in enumerate(node.expressions, 1)]
    return exp.Case(this=node.this.copy(), ifs=ifs)


def _straight(node: exp.Expr) -> exp.Expr | None:
    """STRAIGHT_JOIN is an inner join with advice about its order."""
    if node.args.get("kind") == "STRAIGHT_JOIN":
        node.set("kind", "INNER" if node.args.get("on") else "CROSS")
    return None


def _replaced_all(node: exp.Expr, types: Types) -> exp.Expr | None:
    if any(node.args.get(part) for part in ("position", "occurrence", "modifiers")):
        raise UnsupportedFeature("REGEXP_REPLACE with more than three values is not accepted.", hint="Give three.")
    return call("regexp_replace", node.this, node.expression, node.args["replacement"], text("g"))


def _number(node: exp.Expr, types: Types) -> exp.Expr | None:
    """FORMAT rounds halves away from zero."""
    digits = whole(node.args["format"])
    if digits is None or types.of(node.this) not in NUMBERS:
        raise UnsupportedFeature("This form of FORMAT is not accepted.", hint="Give a number and a count of decimals.")
    return call("format", text(f"{{:,.{digits}f}}"), call("round", node.this, number(digits)))


def _round(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Floating-point numbers round halves to the even neighbour, decimals away from zero."""
    if not isinstance(node.this, exp.Column) or types.of(node.this) not in FLOATS:
        return None
    return call("round_even", node.this, node.args.get("decimals") or number(0))


def _first_is_one(node: exp.Expr) -> exp.Expr | None:
    """Arrays of Doris begin at 1."""
    if len(node.expressions) != 1 or whole(node.expressions[0]) is None:
        return None
    return call("list_extract", node.this, node.expressions[0])


def _order(node: exp.Expr) -> exp.Expr | None:
    """ORDER BY NULL asks for no order."""
    kept = [item for item in node.expressions if not isinstance(item.this, exp.Null)]
    if kept:
        node.set("expressions", kept)
    elif node.parent is not None and node.arg_key == "order":
        node.parent.set("order", None)
    return None


EDGES = merged(
    COMMON_FIRST,
    DUAL,
    ROLLUP,
    NULL_OUTSIDE,
    *edges.EDGES_EMPTY,
    Meaning(
        syntax={
            exp.Join: (_straight,),
            exp.Order: (_order,),
            exp.Elt: (_elt,),
            exp.SubstringIndex: (_substring_index,),
        },
        functions={
            "field": _field,
            "find_in_set": _find_in_set,
            "mid": lambda node: exp.Substring(
                this=node.expressions[0].copy(), start=node.expressions[1].copy(), length=node.expressions[2].copy()
            ),
        },
        typed={
            exp.Avg: (_average,),
            exp.IntDiv: (_whole_division,),
            exp.Length: (_length,),
            exp.Like: (_like,),
            exp.Mod: (_modulo,),
            exp.Or: (_or,),
            exp.RegexpReplace: (_replaced_all,),
            exp.Stuff: (_insert,),
            exp.Substring: (_substring,),
            exp.NumberToStr: (_number,),
        },
    ),
)
"""What MySQL, Doris and StarRocks share."""
MYSQL = merged(
    EDGES,
    DATES,
    Meaning(
        typed={
            **dict.fromkeys((exp.Add, exp.Sub, exp.Mul, exp.Div), (_calculated,)),
            exp.Cast: (_cast,),
            exp.Concat: (_concat,),
            exp.ConcatWs: (_concat,),
            exp.Round: (_round,),
        }
    ),
)
_SHOWN = Meaning(typed={exp.Cast: (_shown,), exp.Concat: (_concat,), exp.ConcatWs: (_concat,)})
STARROCKS = merged(EDGES, DATES, _SHOWN, edges.CUTS_FRACTIONS)
DORIS = merged(EDGES, DATES, _SHOWN, edges.CUTS_FRACTIONS, Meaning(syntax={exp.Bracket: (_first_is_one,)}))
