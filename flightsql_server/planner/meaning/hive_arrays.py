"""Arrays and maps of Hive, Spark and Databricks."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning import date_arithmetic
from flightsql_server.planner.meaning.rewriting import Meaning, Rewrite, merged, refused
from flightsql_server.planner.meaning.snippets import Template, by_template
from flightsql_server.planner.meaning.types import DATES, INTEGERS, Types
from flightsql_server.planner.names import fold

_CONTAINS = Template(
    "CASE WHEN ARRAY_CONTAINS(:a, :x) THEN TRUE WHEN :x IS NULL OR LEN(:a) <> LIST_COUNT(:a) THEN NULL"
    " ELSE ARRAY_CONTAINS(:a, :x) END"
)
_POSITION = Template("CASE WHEN NOT :a IS NULL AND NOT :x IS NULL THEN COALESCE(LIST_POSITION(:a, :x), 0) END")
_DISTINCT = Template("LIST_FILTER(:a, LAMBDA _v, _i : LIST_POSITION(:a, _v) = _i)")
_REMOVE = Template("CASE WHEN NOT :x IS NULL THEN LIST_FILTER(:a, LAMBDA _v : _v IS NULL OR _v <> :x) END")
_UNION = Template("LIST_FILTER(LIST_CONCAT(:a, :b), LAMBDA _v, _i : LIST_POSITION(LIST_CONCAT(:a, :b), _v) = _i)")
_GET = Template("CASE WHEN :i >= 0 THEN LIST_EXTRACT(:a, CAST(:i AS BIGINT) + 1) END")
_STEPS = Template("GENERATE_SERIES(:a, :b, CASE WHEN :a <= :b THEN 1 ELSE -1 END)")
_DAYS = Template("CAST(GENERATE_SERIES(:a, :b, INTERVAL 1 DAY) AS DATE[])")
_DATES = Template("CAST(GENERATE_SERIES(:a, :b, :s) AS DATE[])")
_HAS_KEY = Template("ARRAY_CONTAINS(MAP_KEYS(:m), :k)")
_NO_EXISTS = refused("EXISTS with a lambda", "Write SIZE(FILTER(…)) > 0.")


def _index_from_zero(node: exp.Expr) -> exp.Expr | None:
    """The second parameter of TRANSFORM's lambda counts from 0."""
    function = node.expression
    if not isinstance(function, exp.Lambda) or len(function.expressions) != 2:
        return None
    index = function.expressions[1].name
    new = node.copy()
    body = new.expression.this
    for place in list(body.find_all(exp.Identifier)):
        column = place.parent if isinstance(place.parent, exp.Column) else place
        inside = isinstance(column.parent, (exp.Dot, exp.PropertyEQ)) or column.args.get("table")
        if fold(place.name) != fold(index) or inside:
            continue
        lowered = exp.paren(exp.Sub(this=column.copy(), expression=exp.Literal.number(1)), copy=False)
        if column is body:
            new.expression.set("this", lowered)
        else:
            column.replace(lowered)
    return new


def _map(node: exp.Expr) -> exp.Expr | None:
    return exp.Map(keys=node.args["keys"].copy(), values=node.args["values"].copy())


def _of_array(template: Template) -> Rewrite:
    return lambda node: template(a=node.this, x=node.expression) if node.expression is not None else None


def _sequence(node: exp.Expr, types: Types) -> exp.Expr | None:
    start, end, step = node.args["start"], node.args["end"], node.args.get("step")
    if types.all_of(DATES, start, end):
        if step is None:
            return _DAYS(a=start, b=end)
        return date_arithmetic.dates_by_months(node) or _DATES(a=start, b=end, s=step)
    if step is not None or not types.all_of(INTEGERS, start, end):
        if step is None:
            raise UnsupportedFeature("This SEQUENCE is not accepted.", hint="Cast its ends, or give it a step.")
        return None
    return _STEPS(a=start, b=end)


def _reversed(node: exp.Expr, types: Types) -> exp.Expr | None:
    if types.of(node.this) == exp.DType.ARRAY:
        return exp.Anonymous(this="list_reverse", expressions=[node.this.copy()])
    return None


def _exploded(node: exp.Expr) -> exp.Expr | None:
    """The column of EXPLODE is called col."""
    if isinstance(node.parent, exp.Select) and node.arg_key == "expressions":
        return exp.alias_(node.copy(), "col")
    return None


ARRAYS = merged(
    Meaning(
        syntax={
            exp.ArrayContains: (_of_array(_CONTAINS),),
            exp.ArrayDistinct: (lambda node: _DISTINCT(a=node.this),),
            exp.ArrayPosition: (_of_array(_POSITION),),
            exp.ArrayRemove: (_of_array(_REMOVE),),
            exp.Exists: (lambda node: None if node.args.get("expression") is None else _NO_EXISTS(node),),
            exp.Explode: (_exploded,),
            exp.Flatten: (lambda node: exp.Anonymous(this="flatten", expressions=[node.this.copy()]),),
            exp.MapContainsKey: (lambda node: _HAS_KEY(m=node.this, k=node.args["key"]),),
            exp.Transform: (_index_from_zero,),
            exp.VarMap: (_map,),
        },
        functions={
            "array_union": by_template(_UNION, "a", "b"),
            "get": by_template(_GET, "a", "i"),
        },
        typed={exp.GenerateSeries: (_sequence,), exp.Reverse: (_reversed,)},
    )
)
