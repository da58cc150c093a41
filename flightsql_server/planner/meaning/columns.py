"""What the columns of a result are called and how they follow each other, where the engine has another habit."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.rewriting import Rewrite
from flightsql_server.planner.names import fold


def values_named(stem: str) -> Rewrite:
    """The columns of VALUES in FROM are called ``stem`` and their number, where the text gives no names."""

    def name(node: exp.Expr) -> exp.Expr | None:
        alias = node.args.get("alias")
        if not isinstance(node.parent, (exp.From, exp.Join, exp.Subquery)) or (alias and alias.args.get("columns")):
            return None
        above = node.parent
        if isinstance(above, exp.Subquery):
            alias = alias or above.args.get("alias")
            if alias and alias.args.get("columns"):
                return None
            if not isinstance(above.parent, (exp.From, exp.Join)):
                return None
        width = len(node.expressions[0].expressions) if node.expressions else 0
        names = [exp.to_identifier(f"{stem}{place + 1}") for place in range(width)]
        table = alias.this if alias and alias.this else exp.to_identifier("_values")
        new = node.copy()
        new.set("alias", exp.TableAlias(this=table.copy(), columns=names))
        return new

    return name


def joined_first(node: exp.Expr) -> exp.Expr | None:
    """``SELECT *`` over JOIN … USING begins with the columns of USING, those of the last join first."""
    joins = node.args.get("joins") or []
    stars = [column for column in node.expressions if isinstance(column, exp.Star)]
    if not stars or not joins:
        return None
    if any(fold(str(join.args.get("method") or "")) == "natural" for join in joins):
        raise UnsupportedFeature(
            "SELECT * over a NATURAL JOIN is not accepted.", hint="Name the columns, or join with USING."
        )
    crossed = any(not join.args.get("using") and not join.args.get("on") for join in joins)
    names: list[exp.Identifier] = []
    for join in reversed(joins):
        if fold(str(join.args.get("kind") or "")) in ("semi", "anti"):
            continue
        names += [name for name in join.args.get("using") or [] if all(fold(name.name) != fold(n.name) for n in names)]
    if not names:
        return None
    star = stars[0]
    if crossed or len(stars) > 1 or any(star.args.get(part) for part in ("except_", "replace", "rename", "except")):
        raise UnsupportedFeature(
            "This SELECT * over JOIN … USING is not accepted.", hint="Name the columns, or join with ON."
        )
    star.set("except_", [exp.to_identifier(name.name, quoted=True) for name in names])
    front = [exp.column(exp.to_identifier(name.name, quoted=True)) for name in names]
    place = node.expressions.index(star)
    node.set("expressions", [*node.expressions[:place], *front, *node.expressions[place:]])
    return None


def numbered_from_zero(node: exp.Expr) -> exp.Expr | None:
    """``UNNEST(…) WITH OFFSET`` counts from zero, the engine's WITH ORDINALITY from one."""
    alias = node.args.get("alias")
    offset = node.args.get("offset")
    if not offset or not isinstance(node.parent, (exp.From, exp.Join)):
        return None
    names = list(alias.args.get("columns") or []) if isinstance(alias, exp.TableAlias) else []
    item = names[0] if names else exp.to_identifier("_item")
    number = offset if isinstance(offset, exp.Identifier) else names[-1] if len(names) > 1 else None
    if number is None:
        number = exp.to_identifier("offset")
    join = node.parent
    if isinstance(join, exp.Join) and join.args.get("side") and not join.args.get("on"):
        join.set("on", exp.true())
    inner = node.copy()
    inner.set("offset", True)
    inner.set("alias", exp.TableAlias(this=exp.to_identifier("_t"), columns=[item.copy(), number.copy()]))
    counted = exp.alias_(exp.Sub(this=exp.column(number.copy()), expression=exp.Literal.number(1)), number.copy())
    select = exp.Select(expressions=[exp.column(item.copy()), counted])
    select.set("from_", exp.From(this=inner))
    return exp.Subquery(this=select)


def unnamed_numbered(node: exp.Expr) -> exp.Expr | None:
    """BigQuery calls the columns of a SELECT that have no name f0_, f1_ and so on."""
    if not isinstance(node.parent, (exp.Subquery, exp.CTE, type(None), exp.SetOperation)) or node.args.get("kind"):
        return None
    if isinstance(node.parent, exp.Subquery) and not isinstance(node.parent.parent, (exp.From, exp.Join)):
        return None
    count = 0
    for column in node.expressions:
        if isinstance(column, (exp.Alias, exp.Star, exp.Column, exp.Dot, exp.Aliases)) or column.is_star:
            continue
        column.replace(exp.alias_(column.copy(), f"f{count}_"))
        count += 1
    return None
