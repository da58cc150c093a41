"""What ClickHouse calls a column of a result that has no name: its expression, with a function for every operator."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sqlglot import exp

_OPERATORS: dict[type[exp.Expr], str] = {
    exp.Add: "plus",
    exp.Sub: "minus",
    exp.Mul: "multiply",
    exp.Div: "divide",
    exp.Mod: "modulo",
    exp.EQ: "equals",
    exp.NEQ: "notEquals",
    exp.GT: "greater",
    exp.GTE: "greaterOrEquals",
    exp.LT: "less",
    exp.LTE: "lessOrEquals",
    exp.And: "and",
    exp.Or: "or",
    exp.Like: "like",
    exp.ILike: "ilike",
    exp.Not: "not",
    exp.Neg: "negate",
    exp.Count: "count",
    exp.Sum: "sum",
    exp.Avg: "avg",
    exp.Min: "min",
    exp.Max: "max",
    exp.AnyValue: "any",
    exp.CountIf: "countIf",
    exp.ArgMax: "argMax",
    exp.ArgMin: "argMin",
    exp.ApproxDistinct: "uniq",
    exp.Median: "median",
    exp.If: "if",
    exp.Coalesce: "coalesce",
    exp.Round: "round",
    exp.Abs: "abs",
    exp.Upper: "upper",
    exp.Lower: "lower",
    exp.Length: "length",
    exp.Concat: "concat",
    exp.Array: "array",
    exp.Tuple: "tuple",
    exp.Bracket: "arrayElement",
    exp.Explode: "arrayJoin",
}
_PLAIN_CALLS = (exp.Anonymous, exp.AnonymousAggFunc, exp.CombinedAggFunc)
_CALL = re.compile(r"([A-Z0-9_]+)\(")


def column_name(node: exp.Expr, place: int = 0) -> str:
    """The name; for what is rarely left without one, the text itself."""
    if isinstance(node, exp.Paren):
        return column_name(node.this)
    if isinstance(node, exp.Column):
        return str(node.name)
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal):
        return "-" + column_name(node.this)
    if isinstance(node, (exp.ParameterizedAgg, exp.Quantile)):
        values, of = (
            ([node.args["quantile"]], [node.this])
            if isinstance(node, exp.Quantile)
            else (node.expressions, node.args.get("params") or [])
        )
        name = "quantile" if isinstance(node, exp.Quantile) else node.name
        return f"{name}({_listed(values)})({_listed(of)})"
    if isinstance(node, _PLAIN_CALLS):
        return f"{node.name}({_listed(node.expressions)})"
    if isinstance(node, exp.TimestampTrunc):
        values = [node.this, *filter(None, [node.args.get("zone")])]
        return f"toStartOf{node.args['unit'].name.capitalize()}({_listed(values)})"
    if isinstance(node, exp.Interval) and node.args.get("unit"):
        return f"toInterval{node.args['unit'].name.capitalize()}({node.this.name or _listed([node.this])})"
    if isinstance(node, exp.DateDiff):
        values = [exp.Literal.string(node.args["unit"].name.lower()), node.expression, node.this]
        return f"dateDiff({_listed(values)})"
    if isinstance(node, exp.Array | exp.Tuple) and all(isinstance(one, exp.Literal) for one in node.expressions):
        return ("[%s]" if isinstance(node, exp.Array) else "(%s)") % _listed(node.expressions)
    name = _OPERATORS.get(node.__class__, "")
    if isinstance(node, exp.Bracket):
        return f"{name}({column_name(node.this)}, {_listed([_from_one(one) for one in node.expressions])})"
    if isinstance(node, exp.And | exp.Or):
        return f"{name}({_listed(node.flatten())})"
    if name and not node.args.get("distinct"):
        parts = [one for value in node.args.values() for one in (value if isinstance(value, list) else [value])]
        return f"{name}({_listed(one for one in parts if isinstance(one, exp.Expr))})"
    written: str = node.sql(dialect="clickhouse", comments=False)
    return _CALL.sub(lambda found: found.group(1).lower() + "(", written)


def _from_one(node: exp.Expr) -> exp.Expr:
    """A place as it was written: the parser counts from 0."""
    if isinstance(node, exp.Literal) and node.name.isdigit():
        return exp.Literal.number(int(node.name) + 1)
    return node


def _listed(nodes: Iterable[exp.Expr]) -> str:
    return ", ".join(column_name(node) for node in nodes)
