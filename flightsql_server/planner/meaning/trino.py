"""Trino, and Presto, Athena and Dune, which have its language: functions and clauses, and all of their meaning."""

from __future__ import annotations

import re

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.building import bracketed, call, case, cast, function, literal_text, number, whole
from flightsql_server.planner.meaning.days import DATES_STAY
from flightsql_server.planner.meaning.lists import distinct_in_order, put, sliced
from flightsql_server.planner.meaning.rewriting import Meaning, Rewrite, merged, naming, refused
from flightsql_server.planner.meaning.trino_numbers import NUMBERS
from flightsql_server.planner.meaning.trino_times import TIMES
from flightsql_server.planner.meaning.types import LISTS, Types

_GROUP = re.compile(r"\\(.)|\$(\d)|(\\)", re.DOTALL)
_FORMAT_LETTER = re.compile(r"%(?:[-0+ ]?[0-9]*(?:\.[0-9]+)?[sdfxXeEg]|%)")


def _column_name(node: exp.Expr, place: int) -> str:
    return f"_col{place}"


def _percentile(node: exp.Expr) -> exp.Expr | None:
    """The value at place floor(share × count), counted from 0: of two in the middle the upper one."""
    if node.args.get("weight") is not None:
        raise UnsupportedFeature("approx_percentile with weights is not accepted.", hint="Repeat the values instead.")
    share = node.args["quantile"]
    shares = share.expressions if isinstance(share, exp.Array) else [share]
    turned = [_turned(one) for one in shares]
    return call(
        "quantile_disc", node.this, exp.Array(expressions=turned) if isinstance(share, exp.Array) else turned[0]
    )


def _turned(share: exp.Expr) -> exp.Expr:
    """A share counted from the top, as the engine wants it: negative, with the rest to 1."""
    if not isinstance(share, exp.Literal) or share.is_string:
        raise UnsupportedFeature("The share of approx_percentile must be a number.", hint="Write it out.")
    value = float(share.name)
    if value >= 1:
        return exp.Literal.number(1)
    return exp.Literal.number(f"-{round(1 - value, 12):.12f}".rstrip("0").rstrip(".")) if value else number(0)


def _arg(name: str) -> Rewrite:
    """The row of the largest counts, also where what is asked of it is NULL."""

    def build(node: exp.Expr) -> exp.Expr | None:
        if node.args.get("count") is not None:
            return None
        return call(name, node.this, node.expression)

    return build


def _counted(node: exp.Expr) -> exp.Expr | None:
    return exp.Filter(this=exp.Count(this=exp.Star()), expression=exp.Where(this=node.this))


def _approximate(node: exp.Expr) -> exp.Expr | None:
    """How exact an estimate is can't be chosen here."""
    node.set("accuracy", None)
    return None


def _varchar(node: exp.Expr) -> exp.Expr | None:
    """``CAST(x AS varchar(3))`` cuts off; char is padded with blanks, which no comparison here knows of."""
    to = node.args["to"]
    if to.this in (exp.DType.CHAR, exp.DType.NCHAR):
        raise UnsupportedFeature("The type char is not accepted.", hint="Use varchar.")
    if to.this == exp.DType.VARCHAR and to.expressions:
        length = to.expressions[0].this
        return exp.Left(this=node.__class__(this=node.this, to=exp.DataType.build("varchar")), expression=length)
    return None


def _format(node: exp.Expr) -> exp.Expr | None:
    """``format('%s', x)`` is the engine's printf."""
    pattern = literal_text(node.this, "The pattern of format")
    if "%" in _FORMAT_LETTER.sub("", pattern):
        raise UnsupportedFeature("This pattern of format is not accepted.", hint="Use %s, %d, %f, %x, %e.")
    return call("printf", node.this, *node.expressions)


def _split(node: exp.Expr) -> exp.Expr | None:
    if node.args.get("limit") is not None:
        raise UnsupportedFeature("split with a limit is not accepted.", hint="Use regexp_extract for the rest.")
    return None


def _split_part(node: exp.Expr) -> exp.Expr | None:
    """NULL where there is no such part."""
    pieces = call("string_split", node.this, node.args["delimiter"])
    return call("list_extract", pieces, node.args["part_index"])


def _substring(node: exp.Expr) -> exp.Expr | None:
    """There is nothing at place 0."""
    if whole(node.args.get("start")) == 0:
        return exp.Literal.string("")
    return None


def _regexp_replace(node: exp.Expr) -> exp.Expr | None:
    """Groups are written $1, and a backslash takes the next sign as it is."""
    replacement = node.args.get("replacement")
    if replacement is None:
        return None
    by = literal_text(replacement, "The replacement of a regular expression")
    if re.search(r"\$(?!\d)(?<!\\\$)", by):
        raise UnsupportedFeature("Groups by name are not accepted.", hint="Write them as $1.")

    def piece(found: re.Match[str]) -> str:
        if found.group(2) is not None:
            return "\\" + found.group(2)
        return "\\\\" if found.group(1) == "\\" else found.group(1) or "\\\\"

    node.set("replacement", exp.Literal.string(_GROUP.sub(piece, by)))
    return None


def _regexp_extract(node: exp.Expr) -> exp.Expr | None:
    """NULL where nothing matches."""
    found = call("regexp_extract", node.this, node.expression, node.args.get("group") or number(0))
    return case((call("regexp_matches", node.this.copy(), node.expression.copy()), found))


def _position(node: exp.Expr) -> exp.Expr | None:
    return exp.Coalesce(this=call("list_position", node.this, node.expression), expressions=[number(0)])


def _extreme(name: str) -> Rewrite:
    """NULL where an element is."""

    def build(node: exp.Expr) -> exp.Expr | None:
        missing = exp.Is(this=exp.to_identifier("x_"), expression=exp.Null())
        nulls = call("len", call("list_filter", node.this.copy(), function(["x_"], missing)))
        return case((exp.EQ(this=nulls, expression=number(0)), call(name, node.this)))

    return build


def _reduce(node: exp.Expr) -> exp.Expr | None:
    finish = node.args.get("finish")
    found = call("list_reduce", node.this, node.args["merge"], node.args["initial"])
    if not isinstance(finish, exp.Lambda):
        return found
    name = finish.expressions[0].name
    if isinstance(finish.this, (exp.Identifier, exp.Column)) and finish.this.name == name:
        return found
    return exp.Paren(this=put(finish.this, name, bracketed(found)))


def _zip_with(node: exp.Expr) -> exp.Expr | None:
    left, right, by = node.expressions
    body = by.this
    for place, parameter in enumerate(by.expressions, 1):
        body = put(body, parameter.name, call("struct_extract_at", exp.to_identifier("z_"), place))
    return call("list_transform", call("list_zip", left, right), function(["z_"], body))


def _none(node: exp.Expr) -> exp.Expr | None:
    count = call("len", call("list_filter", *node.expressions))
    return exp.Paren(this=exp.EQ(this=count, expression=number(0)))


def _any(node: exp.Expr) -> exp.Expr | None:
    count = call("len", call("list_filter", *node.expressions))
    return exp.Paren(this=exp.GT(this=count, expression=number(0)))


def _all(node: exp.Expr) -> exp.Expr | None:
    array, by = node.expressions
    by.set("this", exp.Not(this=exp.Paren(this=by.this.copy())))
    return _none(exp.Anonymous(this="none_match", expressions=[array, by]))


def _repeated(node: exp.Expr) -> exp.Expr | None:
    """``repeat(x, n)`` is an array of n times x."""
    return call("list_transform", call("range", node.args["times"]), function(["i_"], node.this))


def _row(node: exp.Expr) -> exp.Expr | None:
    if any(isinstance(one, exp.PropertyEQ) for one in node.expressions):
        return None
    return call("row", *node.expressions)


def _json_value(node: exp.Expr) -> exp.Expr | None:
    path = literal_text(node.args.get("path") or node.args.get("expression"), "A path of JSON")
    plain = path.removeprefix("lax ").strip()
    extra = any(value for key, value in node.args.items() if key not in ("this", "path", "expression", "json_query"))
    if not plain.startswith("$") or "strict" in plain or extra:
        raise UnsupportedFeature("This path of JSON is not accepted.", hint="Use json_extract_scalar.")
    return call("json_extract_string" if isinstance(node, exp.JSONValue) else "json_extract", node.this, plain)


def _json_query(node: exp.Expr) -> exp.Expr | None:
    return _json_value(node) if node.args.get("json_query") else None


def _ties(node: exp.Expr) -> exp.Expr | None:
    options = node.args.get("limit_options")
    if options is not None and options.args.get("with_ties"):
        raise UnsupportedFeature("WITH TIES is not accepted.", hint="Use rank() in a sub-query.")
    return None


def _unnest(node: exp.Expr) -> exp.Expr | None:
    """Several arrays side by side, and maps, as a sub-query with a column for each."""
    alias = node.args.get("alias")
    arrays = list(node.expressions)
    if len(arrays) == 1 and isinstance(arrays[0], exp.Map):
        arrays = [call("map_keys", arrays[0]), call("map_values", arrays[0].copy())]
    if alias is None:
        return None
    columns = alias.args.get("columns") or []
    if len(arrays) == 1 and len(columns) <= 1:
        return None
    if len(arrays) != len(columns) or node.args.get("offset"):
        raise UnsupportedFeature("This UNNEST is not accepted.", hint="Name a column for each array, and no rows.")
    made = [exp.alias_(call("unnest", array), name.copy()) for array, name in zip(arrays, columns, strict=True)]
    name = exp.TableAlias(this=alias.this, columns=columns)
    return exp.Lateral(this=exp.Subquery(this=exp.Select(expressions=made)), alias=name)


def _renamed(name: str) -> Rewrite:
    return lambda node: call(name, *node.expressions)


_FUNCTIONS: dict[str, Rewrite] = {
    "none_match": _none,
    "any_match": _any,
    "all_match": _all,
    "zip_with": _zip_with,
    "array_union": lambda node: call("list_distinct", call("list_concat", *node.expressions)),
    "arrays_overlap": _renamed("list_has_any"),
    "codepoint": _renamed("unicode"),
    "hamming_distance": _renamed("hamming"),
    "is_finite": _renamed("isfinite"),
    "is_infinite": _renamed("isinf"),
    "infinity": lambda node: cast(exp.Literal.string("inf"), "DOUBLE"),
    "nan": lambda node: cast(exp.Literal.string("nan"), "DOUBLE"),
    "e": lambda node: call("exp", 1),
    "bitwise_left_shift": lambda node: exp.BitwiseLeftShift(
        this=bracketed(node.expressions[0]), expression=bracketed(node.expressions[1])
    ),
    "bitwise_right_shift": lambda node: exp.BitwiseRightShift(
        this=bracketed(node.expressions[0]), expression=bracketed(node.expressions[1])
    ),
}

_FUNCTION_MEANING = Meaning(
    syntax={
        exp.ApproxQuantile: (_percentile,),
        exp.ApproxDistinct: (_approximate,),
        exp.ArgMax: (_arg("arg_max_null"),),
        exp.ArgMin: (_arg("arg_min_null"),),
        exp.CountIf: (_counted,),
        exp.Cast: (_varchar,),
        exp.TryCast: (_varchar,),
        exp.Format: (_format,),
        exp.Split: (_split,),
        exp.SplitPart: (_split_part,),
        exp.Substring: (_substring,),
        exp.RegexpReplace: (_regexp_replace,),
        exp.RegexpExtract: (_regexp_extract,),
        exp.ArrayPosition: (_position,),
        exp.ArrayDistinct: (distinct_in_order,),
        exp.ArraySlice: (sliced,),
        exp.ArrayMin: (_extreme("list_min"),),
        exp.ArrayMax: (_extreme("list_max"),),
        exp.Flatten: (lambda node: call("flatten", node.this),),
        exp.Repeat: (_repeated,),
        exp.Reduce: (_reduce,),
        exp.Struct: (_row,),
        exp.JSONValue: (_json_value,),
        exp.JSONExtract: (_json_query,),
        exp.Fetch: (_ties,),
        exp.Unnest: (_unnest,),
        exp.Typeof: (refused("typeof", "Types have other names here."),),
        exp.MatchRecognize: (refused("MATCH_RECOGNIZE", "Use window functions."),),
    },
    functions=_FUNCTIONS,
    prepare=(naming(_column_name),),
)


def _reversed(node: exp.Expr, types: Types) -> exp.Expr | None:
    return call("list_reverse", node.this.copy()) if types.of(node.this) in LISTS else None


_LISTS = Meaning(typed={exp.Reverse: (_reversed,)})

TRINO = merged(_FUNCTION_MEANING, NUMBERS, TIMES, DATES_STAY, _LISTS)
"""Trino and its kin."""
