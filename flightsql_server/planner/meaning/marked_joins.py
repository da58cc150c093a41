"""Oracle's outer joins: ``WHERE a.x = b.x(+)`` is ``a LEFT JOIN b ON a.x = b.x``."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.names import fold


def _refusal(why: str) -> UnsupportedFeature:
    return UnsupportedFeature(f"This join by (+) is not accepted: {why}.", hint="Write LEFT JOIN.")


def _joined(node: exp.Expr) -> exp.Expr | None:
    where = node.args.get("where")
    if where is None or not any(column.args.get("join_mark") for column in where.find_all(exp.Column)):
        return None
    conditions = list(where.this.flatten()) if isinstance(where.this, exp.And) else [where.this]
    on: dict[str, list[exp.Expr]] = {}
    rest: list[exp.Expr] = []
    for condition in conditions:
        optional = _optional(condition)
        (on.setdefault(optional, []) if optional else rest).append(condition)
    sources = _sources(node)
    placed = [name for name in sources if name not in on]
    if not placed or not on.keys() <= sources.keys():
        raise _refusal("every table is optional, or one is not among those after FROM")
    joins = [exp.Join(this=sources[name], kind="CROSS") for name in placed[1:]]
    waiting = [name for name in sources if name in on]
    while waiting:
        ready = next((name for name in waiting if _others(on[name], name) <= set(placed)), None)
        if ready is None:
            raise _refusal("the tables need each other, or a column doesn't name its table")
        condition = exp.and_(*on[ready], copy=False)
        joins.append(exp.Join(this=sources[ready], side="LEFT", on=condition))
        placed.append(ready)
        waiting.remove(ready)
    if placed != list(sources) and any(isinstance(column, exp.Star) for column in node.expressions):
        raise _refusal("SELECT * would have its columns in another order")
    node.set("from_", exp.From(this=sources[placed[0]]))
    node.set("joins", joins)
    node.set("where", exp.Where(this=exp.and_(*rest, copy=False)) if rest else None)
    return None


def _optional(condition: exp.Expr) -> str:
    """The table that the condition marks as optional, its marks taken off; empty if it marks none."""
    marked = [column for column in condition.find_all(exp.Column) if column.args.get("join_mark")]
    if not marked:
        return ""
    names = {fold(column.table) for column in marked}
    if len(names) != 1 or "" in names or isinstance(condition, exp.Or) or condition.find(exp.Select):
        raise _refusal("a condition marks columns of several tables, or is an alternative")
    for column in marked:
        column.set("join_mark", None)
    return names.pop()


def _others(conditions: list[exp.Expr], name: str) -> set[str]:
    """The tables that the conditions name besides the optional one; an empty name for a column without a table."""
    found = {fold(column.table) for condition in conditions for column in condition.find_all(exp.Column)}
    return found - {name}


def _sources(node: exp.Expr) -> dict[str, exp.Expr]:
    """What stands after FROM, by its name, in order. Only tables and queries between commas can be reordered."""
    joins = node.args.get("joins") or []
    if any(value for join in joins for part, value in join.args.items() if part != "this"):
        raise _refusal("there is another kind of join beside it")
    found: dict[str, exp.Expr] = {}
    for source in (node.args["from_"].this, *(join.this for join in joins)):
        if not isinstance(source, (exp.Table, exp.Subquery)) or source.args.get("joins"):
            raise _refusal("there is something else than tables and queries after FROM")
        found[fold(source.alias_or_name)] = source
    return found


MARKED_JOINS = Meaning(syntax={exp.Select: (_joined,)})
