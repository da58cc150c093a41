"""Snowflake."""

from __future__ import annotations

import re

from sqlglot import exp
from sqlglot.dialects import Dialect

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
from flightsql_server.planner.meaning.snippets import Template
from flightsql_server.planner.meaning.types import DATES, INTEGERS, TEXTS, TIMESTAMPS, Types

_SECONDS = Template("CAST(FLOOR(EPOCH(:t)) AS BIGINT)")
_SIX_DIGITS = Template("ROUND(:x, 6)")
_TIME_TEXT = Template("STRFTIME(:t, '%Y-%m-%d %H:%M:%S.%g')")
_SNOWFLAKE = Dialect.get_or_raise("snowflake")
_QUOTED = re.compile(r'"[^"]*"')
_CODE = re.compile(r"%-?[A-Za-z%](?:_[a-z]+)?")
_AROUND = (exp.Filter, exp.IgnoreNulls, exp.RespectNulls, exp.Window, exp.WithinGroup)
_raises_on_zero = RAISES_ON_ZERO.typed[exp.Div][0]


def _never_null(node: exp.Expr) -> exp.Expr | None:
    """LISTAGG and ARRAY_AGG of no rows are an empty text and an empty array."""
    if isinstance(node.parent, _AROUND) and node.arg_key == "this":
        return None
    inner = node
    while isinstance(inner, _AROUND):
        inner = inner.this
    if not isinstance(inner, (exp.ArrayAgg, exp.GroupConcat)):
        return None
    nothing = exp.Array(expressions=[]) if isinstance(inner, exp.ArrayAgg) else exp.Literal.string("")
    return exp.Coalesce(this=node.copy(), expressions=[nothing])


def _no_star_of_table(node: exp.Expr) -> exp.Expr | None:
    if isinstance(node.this, exp.Column) and isinstance(node.this.this, exp.Star):
        raise UnsupportedFeature("COUNT(table.*) is not accepted.", hint="It leaves out rows with a NULL: say so.")
    return None


def _object(node: exp.Expr) -> exp.Expr | None:
    """OBJECT_CONSTRUCT leaves out what is NULL, which a struct can't."""
    for part in node.expressions:
        value = part.expression if isinstance(part, (exp.PropertyEQ, exp.Kwarg)) else part
        if not isinstance(value, (exp.Literal, exp.Boolean, exp.Array, exp.Struct)):
            raise UnsupportedFeature(
                "OBJECT_CONSTRUCT of values that may be NULL is not accepted.", hint="Select the values as columns."
            )
    return None


def _by_key(node: exp.Expr) -> exp.Expr | None:
    """``v['key']`` and GET(v, 'key') read what ``v:key`` reads."""
    key = node.expression if isinstance(node, exp.GetExtract) else node.expressions[0]
    if not isinstance(key, exp.Literal) or not key.is_string:
        return None
    path = exp.JSONPath(expressions=[exp.JSONPathRoot(), exp.JSONPathKey(this=key.name)])
    return exp.JSONExtract(this=node.this.copy(), expression=path, variant_extract=True)


def _as_text(node: exp.Expr) -> exp.Expr:
    return exp.JSONExtractScalar(this=node.this.copy(), expression=node.expression.copy())


def _cast_variant(node: exp.Expr) -> exp.Expr | None:
    """A text in a VARIANT loses its quotes when it is cast."""
    value = node.this.unnest()
    if not isinstance(value, exp.JSONExtract) or node.args["to"].args.get("nested"):
        return None
    if node.args["to"].this in (exp.DType.VARIANT, exp.DType.OBJECT, exp.DType.ARRAY, exp.DType.JSON):
        return None
    new = node.copy()
    new.set("this", exp.paren(_as_text(value), copy=False))
    return new


def _variant_in_text(node: exp.Expr) -> exp.Expr | None:
    """A text in a VARIANT loses its quotes where a text is asked for."""
    if not any(isinstance(part.unnest(), exp.JSONExtract) for part in node.iter_expressions()):
        return None
    new = node.copy()
    for part in list(new.iter_expressions()):
        if isinstance(part.unnest(), exp.JSONExtract):
            part.replace(exp.paren(_as_text(part.unnest()), copy=False))
    return new


def _extracted(node: exp.Expr) -> exp.Expr | None:
    """The epoch is in whole seconds."""
    if node.this.name.upper() in ("EPOCH", "EPOCH_SECOND", "EPOCH_SECONDS"):
        return _SECONDS(t=node.expression)
    return None


def _cut_by_type(node: exp.Expr) -> exp.Expr | None:
    """A cast to a text of a certain length fails there for longer ones; the engine has no such type."""
    to = node.args["to"]
    if to.this in TEXTS and to.expressions:
        raise UnsupportedFeature("Casts to a text of a certain length are not accepted.", hint="Cast to VARCHAR.")
    return None


# ---- what needs types ----


def _got(node: exp.Expr, types: Types) -> exp.Expr | None:
    """GET of an array counts from 0."""
    array = array_items.array_of(node.this, types)
    return None if array is None else array_items.item_or_null(array, node.expression)


def _compared_variant(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A VARIANT is compared with a text as text."""
    others = node.expressions if isinstance(node, exp.In) else [node.this, node.expression]
    values = [part for part in (node.this, node.expression) if isinstance(part, exp.JSONExtract)]
    if not values or not any(types.of(other) in TEXTS for other in others if other not in values):
        return None
    new = node.copy()
    for part in ("this", "expression"):
        if isinstance(new.args.get(part), exp.JSONExtract):
            new.set(part, exp.paren(_as_text(new.args[part]), copy=False))
    return new


def _liked_variant(node: exp.Expr, types: Types) -> exp.Expr | None:
    if not isinstance(node.this, exp.JSONExtract):
        return None
    new = node.copy()
    new.set("this", exp.paren(_as_text(node.this), copy=False))
    return new


def _formatted(node: exp.Expr, types: Types) -> exp.Expr | None:
    """TO_CHAR of a date or a timestamp, whose type the parser could not know."""
    form = node.args.get("format")
    if form is None:
        return _time_text(node.this, types)
    if types.of(node.this) not in DATES | TIMESTAMPS:
        return None
    if not isinstance(form, exp.Literal):
        raise UnsupportedFeature("A format of dates must be a literal.", hint="Write the format itself.")
    codes = _SNOWFLAKE.format_time(exp.Literal.string(_QUOTED.sub("", form.name)))
    if codes is None or re.search("[A-Za-z]", _CODE.sub("", codes.name)):
        raise UnsupportedFeature("This format of dates is not accepted.", hint="Take its unusual parts out.")
    written = _SNOWFLAKE.format_time(form.copy())
    if written is None:
        return None
    return exp.TimeToStr(this=node.this.copy(), format=exp.Literal.string(written.name.replace('"', "")))


def _time_as_text(node: exp.Expr, types: Types) -> exp.Expr | None:
    return _time_text(node.this, types) if node.args["to"].this in TEXTS else None


def _time_text(node: exp.Expr, types: Types) -> exp.Expr | None:
    """The text of a timestamp has three digits after the second."""
    kind = types.of(node)
    if kind not in TIMESTAMPS:
        return None
    if kind in (exp.DType.TIMESTAMPTZ, exp.DType.TIMESTAMPLTZ):
        raise UnsupportedFeature(
            "The text of a timestamp with time zone is not accepted.", hint="Say its format: TO_CHAR(t, 'YYYY-MM-DD')."
        )
    return _TIME_TEXT(t=node)


def _texts(node: exp.Expr, types: Types) -> exp.Expr | None:
    if any(types.of(part) in TIMESTAMPS for part in node.iter_expressions()):
        raise UnsupportedFeature(
            "A timestamp put to a text is not accepted.", hint="Say its format: TO_CHAR(t, 'YYYY-MM-DD')."
        )
    return None


def _months(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Of MONTHS_BETWEEN the times of day, which count in it, are lost in the translation."""
    for part in (node.this, node.expression):
        if types.of(part) in TIMESTAMPS:
            raise UnsupportedFeature("MONTHS_BETWEEN of timestamps is not accepted.", hint="Cast them to DATE.")
    return None


def _division(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Division by zero is an error; of whole numbers it has six digits."""
    whole = types.all_of(INTEGERS, node.this, node.expression)
    _raises_on_zero(node, types)
    return _SIX_DIGITS(x=node) if whole else None


_NO_FLATTEN = refused("FLATTEN", "Join with UNNEST of a list, or read the parts by their path.")
_TEXT_FUNCTIONS: tuple[type, ...] = (
    exp.Concat,
    exp.ConcatWs,
    exp.Contains,
    exp.DPipe,
    exp.EndsWith,
    exp.Initcap,
    exp.Left,
    exp.Length,
    exp.Lower,
    exp.Replace,
    exp.Right,
    exp.Split,
    exp.SplitPart,
    exp.StartsWith,
    exp.Substring,
    exp.Trim,
    exp.Upper,
)
_OWN = Meaning(
    syntax={
        **dict.fromkeys(_TEXT_FUNCTIONS, (_variant_in_text,)),
        exp.ArrayAgg: (_never_null,),
        exp.Bracket: (_by_key,),
        exp.Cast: (_cut_by_type, _cast_variant),
        exp.Count: (_no_star_of_table,),
        exp.Explode: (_NO_FLATTEN,),
        exp.Extract: (_extracted,),
        exp.Filter: (_never_null,),
        exp.GetExtract: (_by_key,),
        exp.GroupConcat: (_never_null,),
        exp.GroupingId: (lambda node: exp.Grouping(expressions=[one.copy() for one in node.expressions]),),
        exp.Select: (columns.joined_first,),
        exp.Struct: (_object,),
        exp.TableFromRows: (refused("TABLE(…)", "Join with UNNEST of a list."),),
        exp.TimeToStr: (formats.format_kept('A-SU-Ya-z"', {'"Z"': "Z", '"T"': "T"}),),
        exp.TryCast: (_cut_by_type, _cast_variant),
        exp.Typeof: (refused("The function TYPEOF", "Cast the value to the type that it should have."),),
        exp.Values: (columns.values_named("column"),),
        exp.Window: (_never_null,),
        exp.WithinGroup: (_never_null,),
    },
    functions={"hash": refused("The function HASH", "Its values differ from system to system; use MD5 or SHA2.")},
    typed={
        exp.Cast: (_time_as_text,),
        exp.Concat: (_texts,),
        exp.ConcatWs: (_texts,),
        exp.DPipe: (_texts,),
        exp.Div: (_division,),
        exp.EQ: (_compared_variant,),
        exp.GetExtract: (_got,),
        exp.GT: (_compared_variant,),
        exp.GTE: (_compared_variant,),
        exp.ILike: (_liked_variant,),
        exp.In: (_compared_variant,),
        exp.LT: (_compared_variant,),
        exp.LTE: (_compared_variant,),
        exp.Like: (_liked_variant,),
        exp.MonthsBetween: (_months,),
        exp.NEQ: (_compared_variant,),
        exp.ToChar: (_formatted,),
    },
)
SNOWFLAKE = merged(
    _OWN,
    array_items.ITEMS_MISS,
    date_arithmetic.DATES_STAY,
    date_arithmetic.DATES_PLUS_INTERVALS_STAY,
    date_arithmetic.TRUNCATED_DATES_STAY,
    rounding.CASTS_ROUND_HALVES_UP,
    undefined_results.RAISES_OUTSIDE,
    undefined_results.REMAINDER_RAISES,
)
