"""ClickHouse's functions of arrays: the lambda comes first, and places count from 1."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.building import call, function, literal_text, number, text, typed
from flightsql_server.planner.meaning.lists import distinct_in_order, put, sliced
from flightsql_server.planner.meaning.rewriting import Meaning, Rewrite

_REDUCERS = {
    "sum": "sum",
    "avg": "avg",
    "min": "min",
    "max": "max",
    "count": "count",
    "any": "any_value",
    "uniq": "approx_count_distinct",
    "uniqexact": "approx_count_distinct",
    "median": "median",
}
_ONE, _PLACE, _ALL = "x_", "i_", "z_"


def _applied(node: exp.Expr) -> tuple[exp.Expr | None, exp.Expr]:
    """The lambda of a call, if it has one, and the array; several arrays become one of rows."""
    arguments = node.expressions or [node.args.get("expression"), node.this]
    first, *rest = arguments
    if not isinstance(first, exp.Lambda):
        return None, first
    if len(rest) == 1:
        return first, rest[0]
    if len(rest) != len(first.expressions) or not rest:
        raise UnsupportedFeature(f"{node.name or node.key} takes an array for each parameter.", hint="Count them.")
    body = first.this
    for place, parameter in enumerate(first.expressions, 1):
        body = put(body, parameter.name, call("struct_extract_at", exp.to_identifier(_ALL), place))
    return function([_ALL], body), call("list_zip", *rest)


def _mapped(aggregate: str = "") -> Rewrite:
    def build(node: exp.Expr) -> exp.Expr | None:
        by, array = _applied(node)
        if by is None and not aggregate:
            return None
        found = array if by is None else call("list_transform", array, by)
        return call(aggregate, found) if aggregate else found

    return build


def _filtered(node: exp.Expr) -> exp.Expr | None:
    """Of several arrays the elements of the first are kept."""
    several = len(node.expressions) > 2
    by, array = _applied(node)
    if by is None:
        return None
    found = call("list_filter", array, by)
    first = call("struct_extract_at", exp.to_identifier(_ALL), 1)
    return call("list_transform", found, function([_ALL], first)) if several else found


def _first(node: exp.Expr) -> exp.Expr | None:
    found = _filtered(node)
    return None if found is None else call("list_extract", found, 1)


def _counted(node: exp.Expr) -> exp.Expr | None:
    by, array = _applied(node)
    if by is None:
        by = function([_ONE], exp.NEQ(this=exp.to_identifier(_ONE), expression=number(0)))
    return call("len", call("list_filter", array, by))


def _exists(node: exp.Expr) -> exp.Expr | None:
    return exp.Paren(this=exp.GT(this=_counted(node), expression=number(0)))


def _all(node: exp.Expr) -> exp.Expr | None:
    by, array = _applied(node)
    if by is None:
        return None
    by.set("this", exp.Not(this=exp.Paren(this=by.this.copy())))
    return exp.Paren(this=exp.EQ(this=call("len", call("list_filter", array, by)), expression=number(0)))


def _sorted(direction: str) -> Rewrite:
    """NULLs last; with a lambda by what that gives, and by place where that is the same."""

    def build(node: exp.Expr) -> exp.Expr | None:
        by, array = _applied(node)
        if by is None:
            return call("list_sort", array, direction, "NULLS LAST")
        if len(by.expressions) != 1 or direction != "ASC":
            raise UnsupportedFeature(f"{node.name} of several arrays is not accepted.", hint="Zip them first.")
        name = by.expressions[0].name
        row = call("row", by.this, exp.to_identifier(_PLACE), exp.to_identifier(name))
        ordered = call("list_sort", call("list_transform", array, function([name, _PLACE], row)))
        last = call("struct_extract_at", exp.to_identifier(_ALL), 3)
        return call("list_transform", ordered, function([_ALL], last))

    return build


def _place_of(node: exp.Expr) -> exp.Expr | None:
    return exp.Coalesce(this=call("list_position", *node.expressions), expressions=[number(0)])


def _enumerated(node: exp.Expr) -> exp.Expr | None:
    return call("range", 1, exp.Add(this=call("len", node.expressions[0]), expression=number(1)))


def _running(node: exp.Expr) -> exp.Expr | None:
    by, array = _applied(node)
    if by is not None:
        array = call("list_transform", array, by)
    begin = call("list_slice", array.copy(), 1, exp.to_identifier(_PLACE))
    return call("list_transform", array, function([_ONE, _PLACE], call("list_sum", begin)))


def _differences(node: exp.Expr) -> exp.Expr | None:
    array = node.expressions[0]
    before = call("list_extract", array.copy(), exp.Sub(this=exp.to_identifier(_PLACE), expression=number(1)))
    step = exp.Sub(this=exp.to_identifier(_ONE), expression=before)
    first = exp.EQ(this=exp.to_identifier(_PLACE), expression=number(1))
    body = exp.Case(ifs=[exp.If(this=first, true=number(0))], default=step)
    return call("list_transform", array, function([_ONE, _PLACE], body))


def _reduced(node: exp.Expr) -> exp.Expr | None:
    name = _REDUCERS.get(literal_text(node.expressions[0], "The aggregate of arrayReduce").lower())
    if name is None or len(node.expressions) != 2:
        raise UnsupportedFeature("This arrayReduce is not accepted.", hint=f"Use one of: {', '.join(_REDUCERS)}.")
    if name == "approx_count_distinct":
        return call("len", call("list_distinct", node.expressions[1]))
    return call("list_aggregate", node.expressions[1], text(name))


def _renamed(name: str) -> Rewrite:
    return lambda node: call(name, *node.expressions)


def _empty(to: str) -> Rewrite:
    return lambda node: typed(exp.Array(expressions=[]), f"{to}[]")


def _joined_text(node: exp.Expr) -> exp.Expr | None:
    """Without NULLs, and with nothing between where nothing is given."""
    array, *between = node.expressions or [node.this, *filter(None, [node.args.get("expression")])]
    return call("array_to_string", array, *(between or [text("")]))


_SUMS = {"arrayavg": "list_avg", "arraymin": "list_min", "arraymax": "list_max", "arrayproduct": "list_product"}

ARRAYS = Meaning(
    syntax={
        exp.ArrayFilter: (lambda node: call("list_filter", node.this, node.expression),),
        exp.Transform: (lambda node: call("list_transform", node.this, node.expression),),
        exp.ArraySlice: (sliced,),
        exp.ArrayDistinct: (distinct_in_order,),
        exp.ArrayToString: (_joined_text,),
        exp.ArraySum: (lambda node: call("list_sum", node.this),),
    },
    functions={
        **{name: _mapped(aggregate) for name, aggregate in _SUMS.items()},
        "arraymap": _mapped(),
        "arraysum": _mapped("list_sum"),
        "arrayfilter": _filtered,
        "arrayfirst": _first,
        "arraycount": _counted,
        "arrayexists": _exists,
        "arrayall": _all,
        "arraysort": _sorted("ASC"),
        "arrayreversesort": _sorted("DESC"),
        "arrayelement": lambda node: call("list_extract", *node.expressions),
        "arraystringconcat": _joined_text,
        "has": _renamed("list_contains"),
        "hasall": _renamed("list_has_all"),
        "hasany": _renamed("list_has_any"),
        "indexof": _place_of,
        "arrayuniq": lambda node: call("len", call("list_distinct", *node.expressions)),
        "arrayenumerate": _enumerated,
        "arrayreduce": _reduced,
        "arrayzip": _renamed("list_zip"),
        "arraycumsum": _running,
        "arraydifference": _differences,
        "arraypushback": _renamed("list_append"),
        "arraypushfront": lambda node: call("list_prepend", node.expressions[1], node.expressions[0]),
        "arraypopback": _renamed("array_pop_back"),
        "arraypopfront": _renamed("array_pop_front"),
        "arrayflatten": _renamed("flatten"),
        "emptyarrayint32": _empty("INT"),
        "emptyarrayint64": _empty("BIGINT"),
        "emptyarrayfloat64": _empty("DOUBLE"),
        "emptyarraystring": _empty("VARCHAR"),
    },
)
"""Arrays and lambdas."""
