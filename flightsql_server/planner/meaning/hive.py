"""Hive, Spark and Databricks: what they share, and what ANSI mode makes different."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning import (
    array_items,
    columns,
    date_arithmetic,
    formats,
    hive_arrays,
    hive_dates,
    rounding,
    undefined_results,
)
from flightsql_server.planner.meaning.divisions import RAISES_ON_ZERO
from flightsql_server.planner.meaning.rewriting import Meaning, Rewrite, merged, refused
from flightsql_server.planner.meaning.snippets import Template, by_template, is_number
from flightsql_server.planner.meaning.types import INTEGERS, NUMBERS, Types
from flightsql_server.planner.names import fold

_TEXT_START = Template("CASE WHEN :n = 0 THEN 1 ELSE :n END")
_NO_LESS_THAN_NONE = Template("CASE WHEN :n < 0 THEN 0 ELSE :n END")
_LN = Template("CASE WHEN :x > 0 THEN LN(:x) END")
_LOG = Template("CASE WHEN :b > 0 AND :x > 0 THEN LOG(:b, :x) END")
_PMOD = Template("CASE WHEN :a % :b < 0 THEN (:a % :b + :b) % :b ELSE :a % :b END")
_SIZE = Template("COALESCE(LEN(:a), -1)")


def _start(node: exp.Expr) -> exp.Expr | None:
    """A substring that starts at 0 starts at 1."""
    start = node.args.get("start")
    if start is None or is_number(start, 1) or isinstance(start, exp.Neg):
        return None
    new = node.copy()
    new.set("start", exp.Literal.number(1) if is_number(start) else _TEXT_START(n=start))
    return new


def _side(node: exp.Expr) -> exp.Expr | None:
    """LEFT and RIGHT of fewer than no characters give an empty text."""
    if is_number(node.expression):
        return None
    new = node.copy()
    new.set("expression", _NO_LESS_THAN_NONE(n=node.expression))
    return new


def _logarithm(node: exp.Expr) -> exp.Expr | None:
    """The logarithm of nothing, or less, is NULL."""
    if isinstance(node, exp.Log) and node.expression is not None:
        return _LOG(b=node.this, x=node.expression)
    return None if is_number(node.this, 1) else _LN(x=node.this)


def _ignoring(node: exp.Expr) -> exp.Expr | None:
    """Without OVER, the aggregates that ignore NULLs take a filter."""
    if isinstance(node.parent, exp.Window):
        return None
    call = node.this
    if not isinstance(call, (exp.First, exp.Last, exp.FirstValue, exp.LastValue, exp.AnyValue)):
        return None
    kind = exp.Last if isinstance(call, (exp.Last, exp.LastValue)) else exp.First
    condition = exp.Not(this=exp.Is(this=call.this.copy(), expression=exp.Null()))
    return exp.Filter(this=kind(this=call.this.copy()), expression=exp.Where(this=condition))


def _joined_text(node: exp.Expr) -> exp.Expr | None:
    """LISTAGG puts nothing between the texts when nothing is said."""
    if node.args.get("separator") is not None:
        return None
    new = node.copy()
    new.set("separator", exp.Literal.string(""))
    return new


def _lateral(node: exp.Expr) -> exp.Expr | None:
    """LATERAL VIEW OUTER keeps the rows for which there is nothing to explode."""
    laterals = node.args.get("laterals") or []
    if not any(lateral.args.get("outer") for lateral in laterals):
        return None
    joins = list(node.args.get("joins") or [])
    for lateral in laterals:
        alias = lateral.args.get("alias")
        if type(lateral.this) is not exp.Explode or not alias or len(alias.args.get("columns") or []) != 1:
            raise UnsupportedFeature(
                "LATERAL VIEW OUTER is only accepted with explode of an array.", hint="Write the views without OUTER."
            )
        rows = exp.Unnest(expressions=[lateral.this.this.copy()], alias=alias.copy())
        outer = lateral.args.get("outer")
        joins.append(exp.Join(this=rows, side="LEFT" if outer else "", on=exp.true()))
    node.set("laterals", [])
    node.set("joins", joins)
    return None


def _range(node: exp.Expr) -> exp.Expr | None:
    """The column of RANGE in FROM is called id."""
    alias = node.args.get("alias")
    if not isinstance(node.this, exp.Anonymous) or fold(node.this.name) != "range":
        return None
    if alias and alias.args.get("columns"):
        return None
    name = alias.this.copy() if alias and alias.this else exp.to_identifier("_range")
    node.set("alias", exp.TableAlias(this=name, columns=[exp.to_identifier("id")]))
    return None


def _percentile(node: exp.Expr) -> exp.Expr | None:
    """PERCENTILE goes between two values, PERCENTILE_APPROX gives one of them."""
    name, value = "quantile_disc", node.this.copy()
    if type(node) is exp.Quantile:
        name, value = "quantile_cont", exp.cast(value, exp.DType.DOUBLE)
    return exp.Anonymous(this=name, expressions=[value, node.args["quantile"].copy()])


def _no_joined_star(node: exp.Expr) -> exp.Expr | None:
    """Even ``a.*`` begins with the joined columns, in Spark alone."""
    if any(join.args.get("using") for join in node.args.get("joins") or []) and any(
        isinstance(column, exp.Column) and isinstance(column.this, exp.Star) for column in node.expressions
    ):
        raise UnsupportedFeature("A table's star over JOIN … USING is not accepted.", hint="Name the columns.")
    return None


def _rollup(node: exp.Expr) -> exp.Expr | None:
    """GROUP BY a, b WITH ROLLUP is GROUP BY ROLLUP (a, b)."""
    for part in ("rollup", "cube"):
        found = node.args.get(part) or []
        if len(found) == 1 and not found[0].expressions and node.expressions:
            found[0].set("expressions", [one.copy() for one in node.expressions])
            node.set("expressions", [])
    return None


def _without_hint(node: exp.Expr) -> exp.Expr | None:
    """A hint tells the optimiser how, not what."""
    if isinstance(node.parent, exp.Select):
        node.parent.set("hint", None)
    return None


def _with_digits(arguments: list[exp.Expr]) -> list[exp.Expr]:
    given = [argument.copy() for argument in arguments]
    return given if len(given) > 1 else [*given, exp.Literal.number(0)]


# ---- what needs types ----


def _texts(node: exp.Expr, types: Types) -> exp.Expr | None:
    """The text of a timestamp says no time zone, where it is put to other texts as well."""
    parts = list(node.iter_expressions())
    if not any(types.of(part) == exp.DType.TIMESTAMPTZ for part in parts):
        return None
    new = node.copy()
    for part, copy in zip(parts, list(new.iter_expressions()), strict=True):
        if types.of(part) == exp.DType.TIMESTAMPTZ:
            copy.replace(hive_dates.PLAIN_TIME(t=part))
    return new


# ---- without and with ANSI mode ----


def _narrowing(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A number too large for its new type wraps around there: better an error than NULL."""
    if node.args.get("safe") or types.of(node.this) not in NUMBERS or node.args["to"].this not in INTEGERS:
        return None
    value = node.this.copy()
    if types.of(node.this) not in INTEGERS:
        value = exp.Anonymous(this="trunc", expressions=[value])
    return exp.Cast(this=value, to=node.args["to"].copy())


def _null_by_zero(node: exp.Expr) -> exp.Expr | None:
    if is_number(node.expression, 1):
        return None
    new = node.copy()
    new.set("expression", exp.func("NULLIF", node.expression.copy(), exp.Literal.number(0)))
    return new


def _raising_division(node: exp.Expr) -> exp.Expr | None:
    node.set("safe", False)
    return None


def _raising_date(node: exp.Expr) -> exp.Expr | None:
    node.set("safe", False)
    return None


def _raising_cast(node: exp.Expr) -> exp.Expr | None:
    if node.args.get("safe"):
        return None
    return exp.Cast(this=node.this.copy(), to=node.args["to"].copy())


_NO_HASH = refused("The function HASH", "Its values differ from system to system; use MD5 or SHA2.")
_SYNTAX: dict[type, tuple[Rewrite, ...]] = {
    exp.ApproxQuantile: (_percentile,),
    exp.Format: (formats.printed,),
    exp.Group: (_rollup,),
    exp.GroupConcat: (_joined_text,),
    exp.GroupingId: (lambda node: exp.Grouping(expressions=[one.copy() for one in node.expressions]),),
    exp.Hint: (_without_hint,),
    exp.IgnoreNulls: (_ignoring,),
    exp.Kurtosis: (lambda node: exp.Anonymous(this="kurtosis_pop", expressions=[node.this.copy()]),),
    exp.Left: (_side,),
    exp.Like: (formats.backslash_escapes,),
    exp.ILike: (formats.backslash_escapes,),
    exp.Ln: (_logarithm,),
    exp.Log: (_logarithm,),
    exp.RegexpReplace: (formats.dollar_groups,),
    exp.Right: (_side,),
    exp.Quantile: (_percentile,),
    exp.Select: (_lateral, _no_joined_star, columns.joined_first),
    exp.Skewness: (refused("The function SKEWNESS", "Write it with AVG and STDDEV_POP."),),
    exp.Substring: (_start,),
    exp.Table: (_range,),
    exp.Typeof: (refused("The function TYPEOF", "The engine's names of types are others."),),
    exp.Values: (columns.values_named("col"),),
}
_FUNCTIONS: dict[str, Rewrite] = {
    "bround": lambda node: exp.Anonymous(this="round_even", expressions=_with_digits(node.expressions)),
    "btrim": by_template(Template("TRIM(:x, :y)"), "x", "y"),
    "e": by_template(Template("EXP(1)")),
    "hash": _NO_HASH,
    "isnotnull": by_template(Template("NOT :x IS NULL"), "x"),
    "isnull": by_template(Template("(:x IS NULL)"), "x"),
    "nullifzero": by_template(Template("NULLIF(:x, 0)"), "x"),
    "pmod": by_template(_PMOD, "a", "b"),
    "url_encode": refused("The function URL_ENCODE", "The engine encodes blanks in another way."),
    "zeroifnull": by_template(Template("COALESCE(:x, 0)"), "x"),
}
_OWN = Meaning(
    syntax=_SYNTAX,
    functions=_FUNCTIONS,
    typed={
        exp.Concat: (_texts,),
        exp.ConcatWs: (_texts,),
        exp.DPipe: (_texts,),
    },
)
_SHARED = merged(
    _OWN,
    hive_arrays.ARRAYS,
    hive_dates.DATES_AND_TIMES,
    date_arithmetic.DATES_STAY,
    date_arithmetic.DATES_PLUS_INTERVALS_STAY,
    date_arithmetic.DATES_APART_BY_INTERVAL,
    rounding.CASTS_CUT,
)
_ANSI = Meaning(
    syntax={
        exp.DateDiff: (date_arithmetic.whole_units,),
        exp.Div: (_raising_division,),
        exp.TimestampDiff: (date_arithmetic.whole_units,),
        exp.TryCast: (_raising_cast,),
        exp.TsOrDsToDate: (_raising_date,),
    },
)

_LENIENT = Meaning(
    syntax={
        exp.ArrayInsert: (refused("The function ARRAY_INSERT", "Write it in the dialect spark."),),
        exp.ArraySize: (lambda node: _SIZE(a=node.this),),
        exp.IntDiv: (_null_by_zero,),
        exp.Mod: (_null_by_zero,),
    },
    functions={
        "cardinality": by_template(_SIZE, "a"),
        "listagg": refused("The function LISTAGG", "Write CONCAT_WS('', COLLECT_LIST(…))."),
    },
    typed={exp.TryCast: (_narrowing,)},
)
HIVE = merged(_LENIENT, _SHARED, array_items.ITEMS_MISS, rounding.TEXT_IS_CUT)
"""Hive, and Spark before ANSI mode: what can't be done gives NULL."""
SPARK = merged(
    _SHARED,
    _ANSI,
    array_items.ITEMS_RAISE_ANSI,
    rounding.WHOLE_TEXT_ONLY,
    undefined_results.REMAINDER_RAISES,
    RAISES_ON_ZERO,
)
"""Spark 4 and Databricks, where ANSI mode is the rule: what can't be done is an error."""
DATABRICKS = merged(
    Meaning(
        syntax={
            exp.JSONExtract: (
                lambda node: (
                    exp.JSONExtractScalar(this=node.this.copy(), expression=node.expression.copy())
                    if node.args.get("variant_extract")
                    else None
                ),
            )
        }
    ),
    SPARK,
)
"""And here ``text:path`` reads JSON as text."""
