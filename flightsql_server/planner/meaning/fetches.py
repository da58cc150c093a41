"""WITH TIES and PERCENT of TOP and FETCH FIRST, which the engine has not, by the rank of each row."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.writing import unknown
from flightsql_server.planner.names import fold


def _ranked(node: exp.Expr) -> exp.Expr | None:
    limit = node.args.get("limit")
    options = limit.args.get("limit_options") if isinstance(limit, (exp.Limit, exp.Fetch)) else None
    if limit is None or options is None:
        return None
    ties, percent = bool(options.args.get("with_ties")), bool(options.args.get("percent"))
    if not ties and not percent:
        return None
    words = "WITH TIES" if ties else "PERCENT"
    order = node.args.get("order")
    taken = [part for part in ("distinct", "qualify", "offset") if node.args.get(part)]
    if not isinstance(node, exp.Select) or taken or (ties and order is None):
        raise unknown(f"{words} in this place", "Number the rows with RANK or ROW_NUMBER in a query around it.")
    items = [_resolved(node, item) for item in order.expressions] if order is not None else []
    count = limit.args.get("count") or limit.args.get("expression")
    bound: exp.Expr = count.copy()
    if percent:
        # A part of a row counts as a whole one.
        rows = exp.Window(this=exp.Count(this=exp.Star()))
        share = exp.Mul(this=exp.Mul(this=rows, expression=exp.paren(bound, copy=False)), expression=_hundredth())
        bound = exp.Ceil(this=share)
    rank = exp.Anonymous(this="RANK" if ties else "ROW_NUMBER")
    window = exp.Window(this=rank, order=exp.Order(expressions=items) if items else None)
    node.set("limit", None)
    node.set("qualify", exp.Qualify(this=exp.LTE(this=window, expression=bound)))
    return None


def _hundredth() -> exp.Expr:
    return exp.Literal.number("0.01")


def _resolved(select: exp.Select, item: exp.Expr) -> exp.Expr:
    """One item of ORDER BY as it reads inside of a window, where neither places nor names of results count."""
    copied = item.copy()
    key = copied.this if isinstance(copied, exp.Ordered) else copied
    found: exp.Expr | None = None
    if isinstance(key, exp.Literal) and not key.is_string and key.name.isdigit():
        place = int(key.name)
        found = select.expressions[place - 1] if 0 < place <= len(select.expressions) else None
        if found is None or isinstance(found, exp.Star):
            raise unknown("This place in ORDER BY", "Name the column.")
    elif isinstance(key, exp.Column) and not key.table:
        for column in select.expressions:
            if isinstance(column, exp.Alias) and fold(column.alias) == fold(key.name):
                found = column
    if found is not None:
        key.replace(found.unalias().copy())
    return copied


RANKED_FETCH = Meaning(
    syntax=dict.fromkeys((exp.Select, exp.Union, exp.Except, exp.Intersect, exp.Subquery), (_ranked,))
)
