"""ClickHouse's aggregates: their own names, parameters before the arguments, and combinators as name endings."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.building import bracketed, call, number, typed
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.types import DECIMALS, INTEGERS, Types
from flightsql_server.planner.names import shown

Arguments = list[exp.Expr]
Build = Callable[[Arguments, Arguments, "exp.Expr | None"], exp.Expr]
"""Of arguments, parameters and the condition of -If, the aggregate that the engine knows."""

_PLAIN = {
    "sum": "sum",
    "avg": "avg",
    "min": "min",
    "max": "max",
    "count": "count",
    "any": "any_value",
    "argmin": "arg_min",
    "argmax": "arg_max",
    "varpop": "var_pop",
    "varsamp": "var_samp",
    "stddevpop": "stddev_pop",
    "stddevsamp": "stddev_samp",
    "covarpop": "covar_pop",
    "covarsamp": "covar_samp",
    "corr": "corr",
    "entropy": "entropy",
    "median": "median",
    "sumkahan": "kahan_sum",
    "groupbitand": "bit_and",
    "groupbitor": "bit_or",
    "groupbitxor": "bit_xor",
    "first_value": "any_value",
}
_KNOWN_CLASSES: dict[str, type[exp.Func]] = {"sum": exp.Sum, "avg": exp.Avg, "min": exp.Min, "max": exp.Max}
_DISTINCT_COUNTS = ("uniq", "uniqexact", "uniqcombined", "uniqcombined64", "uniqhll12", "uniqtheta")
_ENDINGS = ("ornull", "distinct", "if")


def _where(aggregate: exp.Expr, *conditions: exp.Expr | None) -> exp.Expr:
    """The aggregate over the rows for which every condition holds."""
    held = [exp.Paren(this=one) if isinstance(one, exp.Or) else one for one in conditions if one is not None]
    if not held:
        return aggregate
    both = held[0] if len(held) == 1 else exp.And(this=held[0], expression=held[1])
    return exp.Filter(this=aggregate, expression=exp.Where(this=both))


def _copy(node: exp.Expr | None) -> exp.Expr | None:
    return None if node is None else node.copy()


def _present(node: exp.Expr) -> exp.Expr:
    return exp.Not(this=exp.Is(this=bracketed(node.copy()), expression=exp.Null()))


def _plain(name: str) -> Build:
    def build(arguments: Arguments, parameters: Arguments, condition: exp.Expr | None) -> exp.Expr:
        known = _KNOWN_CLASSES.get(name)
        if known is not None and len(arguments) == 1:
            return _where(known(this=arguments[0]), condition)
        return _where(call(_PLAIN[name], *arguments), condition)

    return build


def _last(arguments: Arguments, parameters: Arguments, condition: exp.Expr | None) -> exp.Expr:
    return _where(call("last", arguments[0]), _present(arguments[0]), condition)


def _distinct_count(arguments: Arguments, parameters: Arguments, condition: exp.Expr | None) -> exp.Expr:
    """Exact, as ClickHouse's own estimates are for all but huge numbers of values."""
    return _where(exp.Count(this=exp.Distinct(expressions=arguments)), condition)


def _list(arguments: Arguments, parameters: Arguments, condition: exp.Expr | None) -> exp.Expr:
    """Without NULLs, and empty for no rows."""
    value = arguments[0]
    collected = _where(call("list", value), _present(value), condition)
    found: exp.Expr = exp.Coalesce(this=collected, expressions=[exp.Array(expressions=[])])
    return _first_of(found, parameters)


def _distinct_list(arguments: Arguments, parameters: Arguments, condition: exp.Expr | None) -> exp.Expr:
    return _first_of(call("list_distinct", _list(arguments, [], condition)), parameters)


def _sorted_list(arguments: Arguments, parameters: Arguments, condition: exp.Expr | None) -> exp.Expr:
    return _first_of(call("list_sort", _list(arguments, [], condition)), parameters)


def _first_of(found: exp.Expr, parameters: Arguments) -> exp.Expr:
    return call("list_slice", found, 1, parameters[0]) if parameters else found


def _quantile(arguments: Arguments, parameters: Arguments, condition: exp.Expr | None) -> exp.Expr:
    share = parameters[0] if parameters else exp.Literal.number("0.5")
    return _where(call("quantile_cont", arguments[0], share), condition)


def _quantiles(arguments: Arguments, parameters: Arguments, condition: exp.Expr | None) -> exp.Expr:
    return _where(call("quantile_cont", arguments[0], exp.Array(expressions=parameters)), condition)


def _quantile_exact(arguments: Arguments, parameters: Arguments, condition: exp.Expr | None) -> exp.Expr:
    """The value at place floor(share × count), counted from 0: the upper one of two in the middle."""
    value = arguments[0]
    share = parameters[0] if parameters else exp.Literal.number("0.5")
    ordered = call("list_sort", _where(call("list", value), _present(value), condition))
    count = _where(exp.Count(this=value.copy()), _copy(condition))
    place = exp.Add(
        this=typed(call("floor", exp.Mul(this=bracketed(share), expression=count)), "BIGINT"), expression=number(1)
    )
    return call("list_extract", ordered, call("least", place, count.copy()))


def _joined(arguments: Arguments, parameters: Arguments, condition: exp.Expr | None) -> exp.Expr:
    between = (parameters or arguments[1:] or [exp.Literal.string("")])[0]
    return _where(call("string_agg", typed(arguments[0], "VARCHAR"), between), condition)


def _top(arguments: Arguments, parameters: Arguments, condition: exp.Expr | None) -> exp.Expr:
    return _where(call("approx_top_k", arguments[0], parameters[0] if parameters else number(10)), condition)


_BUILDS: dict[str, Build] = {
    **{name: _plain(name) for name in _PLAIN},
    **dict.fromkeys(_DISTINCT_COUNTS, _distinct_count),
    "anylast": _last,
    "last_value": _last,
    "grouparray": _list,
    "groupuniqarray": _distinct_list,
    "grouparraysorted": _sorted_list,
    "groupconcat": _joined,
    "quantile": _quantile,
    "quantileexactinclusive": _quantile,
    "quantileinterpolated": _quantile,
    "quantiles": _quantiles,
    "quantileexact": _quantile_exact,
    "medianexact": _quantile_exact,
    "topk": _top,
}
_WITH_PARAMETERS = frozenset(_BUILDS) - frozenset(_PLAIN) - frozenset(_DISTINCT_COUNTS) - {"anylast", "last_value"}


def _aggregate(node: exp.Expr) -> exp.Expr | None:
    """What takes the place of an aggregate that the parser leaves as it is."""
    written = str(node.this)
    name = written.lower()
    parametrised = isinstance(node, exp.ParameterizedAgg)
    arguments = list(node.args.get("params") or [] if parametrised else node.expressions)
    parameters = list(node.expressions) if parametrised else []
    if isinstance(node, exp.Quantile):
        arguments, parameters, name = [node.this], [node.args["quantile"]], "quantile"
    condition: exp.Expr | None = None
    while name not in _BUILDS:
        ending = next((one for one in _ENDINGS if name.endswith(one)), None)
        if ending is None or not arguments:
            raise _unknown(written)
        name = name.removesuffix(ending)
        if ending == "if":
            condition = arguments.pop()
        elif ending == "distinct":
            if name not in _PLAIN or len(arguments) != 1:
                raise _unknown(written)
            arguments = [exp.Distinct(expressions=arguments)]
        elif name not in _PLAIN or name == "count":
            raise _unknown(written)
    if (parameters and name not in _WITH_PARAMETERS) or (not arguments and name != "count"):
        raise _unknown(written)
    return _BUILDS[name](arguments, parameters, condition)


def _unknown(name: str) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"The aggregate {shown(name, 60)} is not accepted.",
        hint="Accepted are ClickHouse's plain aggregates, with the endings If, OrNull and Distinct.",
    )


def _quantile_node(node: exp.Expr) -> exp.Expr | None:
    return _quantile([node.this], [node.args["quantile"]], None)


def _first_value(node: exp.Expr) -> exp.Expr | None:
    """NULLs are passed over, in a window too; outside of one it is the aggregate ``any``."""
    above = node.parent
    if isinstance(above, (exp.IgnoreNulls, exp.RespectNulls)):
        return None
    if isinstance(above, exp.Window):
        return exp.IgnoreNulls(this=node.copy())
    name = "anylast" if isinstance(node, exp.LastValue) else "any"
    return _BUILDS[name]([node.this], [], None)


def _neighbour(name: str) -> Callable[[exp.Expr], exp.Expr | None]:
    """The engine's lag and lead don't look at frames: the same only where the frame hides nothing from them."""

    def build(node: exp.Expr) -> exp.Expr | None:
        spec = node.parent.args.get("spec") if isinstance(node.parent, exp.Window) else None
        sides = [str(spec.args.get(part) or "").upper() for part in ("start", "end")] if spec is not None else []
        if sides != ["UNBOUNDED", "UNBOUNDED"] and not (name == "lag" and spec is None):
            raise UnsupportedFeature(f"{node.name} with this frame is not accepted.", hint=f"Use {name}.")
        return call(name, *node.expressions)

    return build


def _distinct_values(node: exp.Expr) -> exp.Expr | None:
    """``uniq`` is told exactly: the engine's estimate errs for small numbers, where ClickHouse's does not."""
    return _distinct_count([node.this], [], None)


def _average(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A truth value counts as 1 or 0."""
    if types.of(node.this) == exp.DType.BOOLEAN:
        node.set("this", typed(node.this.copy(), "INT"))
    return None


def _quantile_type(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Between two decimals lies a floating number."""
    if node.name == "quantile_cont" and types.all_of(DECIMALS | INTEGERS, node.expressions[0]):
        node.set("expressions", [typed(node.expressions[0].copy(), "DOUBLE"), *node.expressions[1:]])
    return None


AGGREGATES = Meaning(
    syntax={
        exp.AnonymousAggFunc: (_aggregate,),
        exp.CombinedAggFunc: (_aggregate,),
        exp.CombinedParameterizedAgg: (_aggregate,),
        exp.ParameterizedAgg: (_aggregate,),
        exp.Quantile: (_quantile_node,),
        exp.ApproxDistinct: (_distinct_values,),
        exp.FirstValue: (_first_value,),
        exp.LastValue: (_first_value,),
    },
    functions={
        "laginframe": _neighbour("lag"),
        "leadinframe": _neighbour("lead"),
        "medianexact": _aggregate,
        "grouparraysorted": _aggregate,
        "quantileexactinclusive": _aggregate,
    },
    typed={exp.Avg: (_average,), exp.Anonymous: (_quantile_type,)},
)
"""Aggregates as ClickHouse has them."""
