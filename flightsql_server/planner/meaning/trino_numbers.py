"""Trino's numbers: decimals divide to decimals of a scale of their own, floating numbers to infinity, casts round."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.building import bracketed, call, case, cast, number, text, typed, whole
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.types import DECIMALS, FLOATS, INTEGERS, TEXTS, TIMESTAMPS, Types

_FLOATING = -1
"""In the place of a scale: a floating number. Whole numbers have scale 0 and are told apart by ``_is_whole``."""
_AGGREGATES = (exp.Min, exp.Max, exp.Sum, exp.AnyValue, exp.Filter, exp.Window)
_NEIGHBOURS = (exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue, exp.IgnoreNulls)
_PASSING = (exp.Paren, exp.Neg, exp.Abs, exp.Nullif, *_AGGREGATES, *_NEIGHBOURS)
_ROUNDING = (exp.Round, exp.Trunc, exp.Ceil, exp.Floor)
# What rewrites have put in the place of such aggregates.
_PASSING_NAMES = frozenset({"arg_max_null", "arg_min_null", "quantile_disc"})
_WHOLE_NUMBER = "[+-]?[0-9]+"


def scale(node: exp.Expr, types: Types) -> int | None:
    """How many digits a number has behind the point; ``_FLOATING`` for floating ones, None where it can't be told.

    By the text first: a literal with a point is a decimal, where the type's finder takes it for a floating number.
    """
    if isinstance(node, exp.Literal):
        if node.is_string:
            return None
        word = node.name.lower()
        return _FLOATING if "e" in word else len(word.partition(".")[2])
    if isinstance(node, _PASSING):
        return scale(node.this, types)
    if isinstance(node, exp.Anonymous) and node.name in _PASSING_NAMES:
        return scale(node.expressions[0], types)
    if isinstance(node, _ROUNDING):
        inner = scale(node.this, types)
        return inner if inner in (None, _FLOATING) or node.args.get("decimals") is not None else 0
    if isinstance(node, (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.IntDiv)):
        return _combined(node, types)
    if isinstance(node, exp.Cast) and node.args["to"].this in DECIMALS:
        parameters = node.args["to"].expressions
        return whole(parameters[1].this) if len(parameters) == 2 else 0
    if isinstance(node, exp.Avg):
        inner = scale(node.this, types)
        return _FLOATING if inner == 0 and _is_whole(node.this, types) else inner
    if isinstance(node, (exp.Coalesce, exp.Case, exp.If)):
        return _largest([scale(one, types) for one in _results(node)])
    of = types.of(node)
    if of in INTEGERS:
        return 0
    if of in FLOATS:
        return _FLOATING
    return types.scale_of(node)


def _results(node: exp.Expr) -> list[exp.Expr]:
    """What a COALESCE, CASE or IF may give, without NULL."""
    if isinstance(node, exp.Coalesce):
        found = [node.this, *node.expressions]
    elif isinstance(node, exp.Case):
        found = [*(one.args["true"] for one in node.args["ifs"]), node.args.get("default")]
    else:
        found = [node.args.get("true"), node.args.get("false")]
    return [one for one in found if one is not None and not isinstance(one, exp.Null)]


def _combined(node: exp.Expr, types: Types) -> int | None:
    left, right = scale(node.this, types), scale(node.expression, types)
    if left is None or right is None:
        return None
    if _FLOATING in (left, right):
        return _FLOATING
    return left + right if isinstance(node, exp.Mul) else max(left, right)


def _largest(parts: list[int | None]) -> int | None:
    if any(part is None for part in parts):
        return None
    known = [part for part in parts if part is not None]
    return _FLOATING if _FLOATING in known else max(known)


def _is_whole(node: exp.Expr, types: Types) -> bool:
    """Whether a number of scale 0 is a whole one, and not a decimal without digits."""
    if isinstance(node, exp.Literal):
        return "." not in node.name
    if isinstance(node, (exp.Add, exp.Sub, exp.Mul, exp.Mod, exp.IntDiv, exp.Div)):
        return _is_whole(node.this, types) and _is_whole(node.expression, types)
    if isinstance(node, (*_PASSING, *_ROUNDING)):
        return _is_whole(node.this, types)
    if isinstance(node, (exp.Coalesce, exp.Case, exp.If)):
        return all(_is_whole(one, types) for one in _results(node))
    if isinstance(node, exp.Anonymous) and node.name in _PASSING_NAMES:
        return _is_whole(node.expressions[0], types)
    return types.of(node) in INTEGERS


def failing(node: exp.Expr, message: str) -> exp.Expr:
    """What fails with the message, or is NULL where a TRY would make it so."""
    if node.find_ancestor(exp.Try) is not None:
        return exp.Null()
    return exp.Anonymous(this="error", expressions=[text(message)])


def _division(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Whole numbers divide to whole ones, decimals to the larger scale of the two, rounded half up."""
    left, right = node.this, node.expression
    of = _combined(node, types)
    if of == _FLOATING or (of is None and FLOATS & {types.of(left), types.of(right)}):
        return None
    if of is None:
        raise UnsupportedFeature(
            "It can't be told what kind of numbers this division has.", hint="Cast what is divided."
        )
    if of == 0 and _is_whole(left, types) and _is_whole(right, types):
        return exp.Paren(this=exp.IntDiv(this=bracketed(left.copy()), expression=bracketed(right.copy())))
    divisor: exp.Expr = bracketed(right.copy())
    if not isinstance(right, exp.Literal) or float(right.name) == 0:
        zero = failing(node, "division by zero")
        divisor = exp.Paren(this=exp.Case(this=right.copy(), ifs=[exp.If(this=number(0), true=zero)], default=divisor))
    quotient = exp.Div(this=bracketed(left.copy()), expression=divisor)
    return typed(call("round", quotient, of), f"DECIMAL(38, {of})")


def _average(node: exp.Expr, types: Types) -> exp.Expr | None:
    """The average of decimals is a decimal of their scale. With FILTER or OVER, the whole of it is cast."""
    if isinstance(node.parent, (exp.Filter, exp.Window)):
        return None
    inner = node
    while isinstance(inner, (exp.Filter, exp.Window)):
        inner = inner.this
    if not isinstance(inner, exp.Avg):
        return None
    value = inner.this.expressions[0] if isinstance(inner.this, exp.Distinct) else inner.this
    digits = scale(value, types)
    if digits is None or digits == _FLOATING or _is_whole(value, types):
        return None
    return typed(call("round", node.copy(), digits), f"DECIMAL(38, {digits})")


def _cast_type(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Casts to whole numbers round half away from zero, and take only text that is a whole number."""
    target, value = node.args["to"].this, node.this
    of = types.of(value)
    if isinstance(value, exp.Literal) and not value.is_string:
        of = exp.DType.DOUBLE if "e" in value.name.lower() else exp.DType.DECIMAL if "." in value.name else of
    if target in INTEGERS:
        if of in FLOATS:
            node.set("this", call("round", value.copy()))
        elif of in TEXTS:
            return _from_text(node, value)
        elif of is None and not isinstance(value, (exp.Literal, exp.Null)):
            return _rounded_if_floating(node, value)
    elif target in TEXTS:
        if of in FLOATS:
            raise UnsupportedFeature("A floating number as text is not accepted.", hint="Cast it to a decimal first.")
        if of in TIMESTAMPS:
            raise UnsupportedFeature("A time as text is not accepted.", hint="Use date_format with its format.")
    return None


def _from_text(node: exp.Expr, value: exp.Expr) -> exp.Expr | None:
    if isinstance(value, exp.Literal) and value.name.strip("+-").isdigit() and value.name.isascii():
        return None
    matched = call("regexp_full_match", value.copy(), _WHOLE_NUMBER)
    wrong = exp.Null() if isinstance(node, exp.TryCast) else failing(node, "a text is no whole number")
    missing = exp.Is(this=bracketed(value.copy()), expression=exp.Null())
    return case((exp.Or(this=missing, expression=matched), node.copy()), default=wrong)


def _rounded_if_floating(node: exp.Expr, value: exp.Expr) -> exp.Expr:
    floating = exp.In(this=call("typeof", value.copy()), expressions=[text("DOUBLE"), text("FLOAT")])
    made = node.copy()
    made.set("this", call("round", cast(value.copy(), "DOUBLE", safe=True)))
    return case((floating, made), default=node.copy())


NUMBERS = Meaning(
    typed={
        exp.Div: (_division,),
        exp.Avg: (_average,),
        exp.Filter: (_average,),
        exp.Window: (_average,),
        exp.Cast: (_cast_type,),
        exp.TryCast: (_cast_type,),
    }
)
"""Arithmetic and casts of Trino and its kin."""
