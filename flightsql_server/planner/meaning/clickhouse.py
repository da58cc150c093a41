"""ClickHouse: aliases that go before columns, LIMIT BY, ARRAY and ANY and ASOF joins, and WITH of plain values."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import StatementTooComplex, UnsupportedFeature
from flightsql_server.planner.meaning.building import bracketed, call, number, whole
from flightsql_server.planner.meaning.clickhouse_aggregates import AGGREGATES
from flightsql_server.planner.meaning.clickhouse_arrays import ARRAYS
from flightsql_server.planner.meaning.clickhouse_names import column_name
from flightsql_server.planner.meaning.clickhouse_texts import TEXTS
from flightsql_server.planner.meaning.clickhouse_times import TIMES
from flightsql_server.planner.meaning.clickhouse_values import VALUES
from flightsql_server.planner.meaning.rewriting import Meaning, merged, naming, refused

# Values put in the place of names may hold names themselves: what they grow to in all is bounded.
_MOST_NODES = 20_000
_HARMLESS_SETTINGS = frozenset({"max_threads", "max_execution_time", "max_memory_usage", "readonly", "use_query_cache"})
_RANDOM = (exp.Rand, exp.Uuid)


def _select(node: exp.Expr) -> exp.Expr | None:
    _check_clauses(node)
    _order_by_all(node)
    _aliases(node)
    _limit_by(node)
    return None


def _check_clauses(node: exp.Expr) -> None:
    """Clauses that would be dropped, or written as they are."""
    limit = node.args.get("limit")
    options = limit.args.get("limit_options") if limit is not None else None
    if options is not None and options.args.get("with_ties"):
        raise UnsupportedFeature("LIMIT WITH TIES is not accepted.", hint="Use rank() with QUALIFY.")
    for setting in node.args.get("settings") or []:
        name = setting.this.name if isinstance(setting, exp.EQ) else ""
        if name not in _HARMLESS_SETTINGS:
            raise UnsupportedFeature("SETTINGS are not accepted.", hint="Leave them out.")
    node.set("settings", None)
    exploded = [one for column in node.expressions for one in column.find_all(exp.Explode)]
    if len(exploded) > 1:
        raise UnsupportedFeature("Only one arrayJoin is accepted in a SELECT.", hint="Use ARRAY JOIN for the others.")


def _order_by_all(node: exp.Expr) -> None:
    order = node.args.get("order")
    if order is None or len(order.expressions) != 1:
        return
    column = order.expressions[0].this
    if isinstance(column, exp.Column) and column.name.lower() == "all" and not column.this.args.get("quoted"):
        column.replace(exp.Var(this="ALL"))


def _aliases(node: exp.Expr) -> None:
    """A name of the SELECT list means that expression wherever the SELECT uses it, also where a column has it."""
    meant: dict[str, exp.Expr] = {}
    for column in node.expressions:
        if not isinstance(column, exp.Alias) or any(column.find(kind) for kind in _RANDOM):
            continue
        value = column.this
        if isinstance(value, exp.Column) and value.name == column.alias:
            continue
        meant[column.alias] = value
    if not meant:
        return
    budget = _Budget()
    places = [node.args.get(key) for key in ("where", "prewhere", "group", "having", "qualify")]
    for place in places:
        if place is not None:
            _replace_names(place, meant, budget, "having" if place is not node.args.get("where") else "where")
    for column in node.expressions:
        others = {name: value for name, value in meant.items() if name != column.alias_or_name}
        if others:
            _replace_names(column, others, budget, "column")
    order = node.args.get("order")
    for ordered in order.expressions if order is not None else []:
        if not isinstance(ordered.this, exp.Column):
            _replace_names(ordered, meant, budget, "order")


class _Budget:
    """How many nodes may still be written in the place of names."""

    def __init__(self) -> None:
        self.left = _MOST_NODES

    def spend(self, node: exp.Expr) -> None:
        self.left -= sum(1 for _ in node.walk())
        if self.left < 0:
            raise StatementTooComplex("Names stand for too much of the statement.", hint="Use sub-queries.")


def _replace_names(tree: exp.Expr, meant: dict[str, exp.Expr], budget: _Budget, where: str) -> None:
    for found in list(tree.walk(prune=lambda one: isinstance(one, exp.Query))):
        if not isinstance(found, exp.Column) or found.args.get("table") or not isinstance(found.this, exp.Identifier):
            continue
        value = meant.get(found.name)
        if value is None or _belongs_to(value, found):
            continue
        if value.find(exp.AggFunc, exp.Filter) and (where == "where" or found.find_ancestor(exp.AggFunc)):
            # ClickHouse knows no answer here; the column is the only thing that makes sense.
            continue
        budget.spend(value)
        found.replace(bracketed(value.copy()))


def _belongs_to(value: exp.Expr, column: exp.Expr) -> bool:
    above: exp.Expr | None = column
    while above is not None and above is not value:
        above = above.parent
    return above is value


def _limit_by(node: exp.Expr) -> None:
    """``LIMIT n BY keys`` keeps the first n rows of each group: a rank over the same order."""
    limit, offset = node.args.get("limit"), node.args.get("offset")
    skipped: exp.Expr | None = None
    keys: list[exp.Expr] = []
    if limit is not None and limit.expressions:
        keys = limit.expressions
    elif offset is not None and offset.expressions:
        keys, skipped = offset.expressions, offset.expression
    if not keys:
        return
    if node.args.get("distinct"):
        raise UnsupportedFeature("LIMIT BY with DISTINCT is not accepted.", hint="Use a sub-query.")
    order = node.args.get("order")
    by_place = [column.this if isinstance(column, exp.Alias) else column for column in node.expressions]
    for ordered in order.expressions if order is not None else []:
        if isinstance(ordered.this, exp.Literal) and not 0 < (whole(ordered.this) or 0) <= len(by_place):
            raise UnsupportedFeature("This ORDER BY is not accepted with LIMIT BY.", hint="Name the columns.")
    ranks = order.copy() if order is not None else None
    for ordered in ranks.expressions if ranks is not None else []:
        if isinstance(ordered.this, exp.Literal):
            ordered.set("this", by_place[(whole(ordered.this) or 1) - 1].copy())
    rank: exp.Expr = exp.Window(this=call("row_number"), partition_by=keys, order=ranks, over="OVER")
    count = limit.expression if limit is not None else number(0)
    if skipped is None:
        condition: exp.Expr = exp.LTE(this=rank, expression=count)
    else:
        first = exp.Add(this=skipped.copy(), expression=number(1))
        last = exp.Add(this=skipped.copy(), expression=count)
        condition = exp.Between(this=rank, low=first, high=last)
    before = node.args.get("qualify")
    if before is not None:
        condition = exp.And(this=bracketed(before.this), expression=condition)
    node.set("qualify", exp.Qualify(this=condition))
    node.set("limit", None)
    node.set("offset", None)


def _with(node: exp.Expr) -> exp.Expr | None:
    """``WITH 5 AS five``: the value is written wherever the name is used, and keeps its name in the result."""
    query = node.parent
    values = [cte for cte in node.expressions if cte.args.get("scalar")]
    if not values or query is None:
        return None
    budget = _Budget()
    for cte in values:
        name, value = cte.alias, cte.this
        cte.pop()
        for found in list(query.find_all(exp.Column)):
            if found.args.get("table") or found.name != name or not isinstance(found.this, exp.Identifier):
                continue
            budget.spend(value)
            written = bracketed(value.copy())
            if isinstance(found.parent, exp.Select) and found.arg_key == "expressions":
                written = exp.alias_(written, name, quoted=True)
            found.replace(written)
    if not node.expressions:
        node.pop()
    return None


def _join(node: exp.Expr) -> exp.Expr | None:
    node.set("global_", None)
    kind, side = str(node.args.get("kind") or "").upper(), str(node.args.get("side") or "").upper()
    if kind == "ARRAY":
        _array_join(node, side)
    elif kind == "ASOF":
        node.set("kind", None)
        node.set("method", "ASOF")
    elif kind == "ANY":
        _any_join(node, side)
    elif kind in ("SEMI", "ANTI") and side == "RIGHT":
        raise UnsupportedFeature(f"RIGHT {kind} JOIN is not accepted.", hint="Change the places of the two tables.")
    elif kind == "PASTE":
        raise UnsupportedFeature("PASTE JOIN is not accepted.", hint="Join on row_number().")
    return None


def _array_join(node: exp.Expr, side: str) -> None:
    """One row for each element, as a join with the array's elements under the name."""
    arrays = [node.this, *node.expressions]
    if len(arrays) != 1 or side == "LEFT" or not isinstance(arrays[0], exp.Alias):
        raise UnsupportedFeature(
            "Of ARRAY JOIN only one array with a name is accepted.", hint="Write ARRAY JOIN values AS value."
        )
    name = arrays[0].args["alias"]
    unnested = exp.Select(expressions=[exp.alias_(call("unnest", arrays[0].this), name)])
    alias = exp.TableAlias(this=exp.to_identifier(f"{name.name}_", quoted=True))
    node.set("this", exp.Lateral(this=exp.Subquery(this=unnested), alias=alias))
    node.set("kind", "CROSS")


def _any_join(node: exp.Expr, side: str) -> None:
    """Each row of the left side meets one of the right side at most: which one isn't said."""
    right = node.this
    if side != "LEFT":
        raise UnsupportedFeature("Of ANY joins only LEFT ANY is accepted.", hint="Join with a grouped sub-query.")
    keys = [exp.Column(this=one.copy()) for one in node.args.get("using") or []]
    on = node.args.get("on")
    for part in on.flatten() if isinstance(on, exp.And) else [on] if on is not None else []:
        sides = [one for one in part.args.values() if isinstance(one, exp.Column)]
        mine = [one for one in sides if one.table == right.alias_or_name]
        if not isinstance(part, exp.EQ) or len(mine) != 1 or len(sides) != 2:
            raise UnsupportedFeature("An ANY JOIN needs plain equalities.", hint="Write ON a.key = b.key.")
        keys.append(exp.Column(this=mine[0].this.copy()))
    alias = exp.TableAlias(this=exp.to_identifier(right.alias_or_name)) if right.alias_or_name else None
    if not keys or alias is None:
        raise UnsupportedFeature("This ANY JOIN is not accepted.", hint="Give it keys and the right side a name.")
    inner = right.copy()
    chosen = exp.Select(
        expressions=[exp.Star()],
        distinct=exp.Distinct(on=exp.Tuple(expressions=keys)),
        from_=exp.From(this=inner),
    )
    node.set("this", exp.Subquery(this=chosen, alias=alias))
    node.set("kind", None)


def _group(node: exp.Expr) -> exp.Expr | None:
    """``GROUP BY a, b WITH ROLLUP`` takes all that stand before."""
    if node.args.get("totals"):
        raise UnsupportedFeature("WITH TOTALS is not accepted.", hint="Use GROUP BY ROLLUP, or a second query.")
    for key, kind in (("rollup", exp.Rollup), ("cube", exp.Cube)):
        found = node.args.get(key) or []
        if len(found) == 1 and not found[0].expressions and node.expressions:
            node.set(key, [kind(expressions=list(node.expressions))])
            node.set("expressions", [])
    return None


def _table(node: exp.Expr) -> exp.Expr | None:
    """``numbers(n)`` has a column called number."""
    this = node.this
    if not isinstance(this, exp.Anonymous) or this.name.lower() not in ("numbers", "zeros"):
        return None
    if this.name.lower() == "zeros" or not 0 < len(this.expressions) < 3:
        raise UnsupportedFeature("Of such tables only numbers(n) is accepted.", hint="Use range(n).")
    if len(this.expressions) == 2:
        start, count = this.expressions
        made = call("range", start, exp.Add(this=bracketed(start.copy()), expression=bracketed(count)))
    else:
        made = call("range", this.expressions[0])
    alias = node.args.get("alias")
    name = alias.this if alias is not None else exp.to_identifier("numbers")
    node.set("this", made)
    node.set("alias", exp.TableAlias(this=name, columns=[exp.to_identifier("number")]))
    return None


_CLAUSES = Meaning(
    syntax={
        exp.Select: (_select,),
        exp.With: (_with,),
        exp.Join: (_join,),
        exp.Group: (_group,),
        exp.Table: (_table,),
        exp.Final: (refused("FINAL", "Datasets hold the latest row of each key already; leave it out."),),
        exp.TableSample: (refused("SAMPLE", "Use LIMIT, or WHERE with a hash of a key."),),
        exp.WithFill: (refused("WITH FILL", "Join with generate_series."),),
    },
    prepare=(naming(column_name),),
    functions={"bar": refused("bar"), "formatreadablesize": refused("formatReadableSize")},
)

CLICKHOUSE = merged(_CLAUSES, AGGREGATES, VALUES, TIMES, ARRAYS, TEXTS)
"""ClickHouse. Its defaults for what is missing (0, '') are NULL here; see the reference."""
