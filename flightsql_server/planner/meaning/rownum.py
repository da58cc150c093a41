"""Oracle's DUAL and ROWNUM."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.writing import number, text, whole
from flightsql_server.planner.names import fold


def _dual(node: exp.Expr) -> exp.Expr | None:
    """DUAL is a table of one row that every database has."""
    if fold(node.name) != "dual" or fold(node.text("db")) not in ("", "sys") or node.args.get("catalog"):
        return None
    if not isinstance(node.parent, (exp.From, exp.Join)):
        return None
    if not node.text("db") and _is_named_above(node):
        return None
    row = exp.Select(expressions=[exp.alias_(text("X"), exp.to_identifier("DUMMY", quoted=True))])
    alias = node.args.get("alias") or exp.TableAlias(this=exp.to_identifier("dual", quoted=True))
    derived = exp.Subquery(this=row, alias=alias)
    if node.args.get("joins"):
        derived.set("joins", node.args["joins"])
    return derived


def _is_named_above(node: exp.Expr) -> bool:
    """Whether a CTE around the node is called DUAL."""
    above = node.parent
    while above is not None:
        with_ = above.args.get("with_")
        if with_ is not None and any(fold(cte.alias) == "dual" for cte in with_.expressions):
            return True
        above = above.parent
    return False


def _is_rownum(node: exp.Expr | None) -> bool:
    return isinstance(node, exp.Pseudocolumn | exp.Column) and not node.text("table") and fold(node.name) == "rownum"


def _bound(condition: exp.Expr) -> int | None:
    """How many rows ``ROWNUM <= n`` and its like leave; None for another condition."""
    count = whole(condition.expression) if isinstance(condition, exp.Binary) else None
    if count is None or not _is_rownum(condition.this):
        return None
    if isinstance(condition, exp.LTE):
        return max(count, 0)
    if isinstance(condition, exp.LT):
        return max(count - 1, 0)
    return 1 if isinstance(condition, exp.EQ) and count == 1 else None


def _limited(node: exp.Expr) -> exp.Expr | None:
    """Conditions on ROWNUM limit the rows, before they are grouped or ordered; elsewhere it numbers them."""
    if not any(_is_rownum(one) for one in node.walk(prune=lambda one: one is not node and isinstance(one, exp.Select))):
        return None
    early = [part for part in ("group", "distinct", "having", "limit", "connect") if node.args.get(part)]
    if early or any(column.find(exp.AggFunc) for column in node.expressions):
        raise UnsupportedFeature(
            "ROWNUM beside grouped rows is not accepted.", hint="Limit the rows in a query inside, or use FETCH FIRST."
        )
    where = node.args.get("where")
    conditions = (
        list(where.this.flatten()) if where and isinstance(where.this, exp.And) else [where.this] if where else []
    )
    counts = [(_bound(condition), condition) for condition in conditions]
    least = min((count for count, _ in counts if count is not None), default=None)
    rest = [condition for count, condition in counts if count is None]
    if any(_is_rownum(one) for condition in rest for one in condition.walk()):
        raise UnsupportedFeature(
            "This condition on ROWNUM is not accepted.", hint="Write ROWNUM <= n, or use OFFSET and FETCH NEXT."
        )
    if least is not None:
        if node.args.get("order"):
            raise UnsupportedFeature(
                "ROWNUM beside ORDER BY is not accepted, for it would limit the rows before they are ordered.",
                hint="Use FETCH FIRST, or order in a query inside.",
            )
        node.set("where", exp.Where(this=exp.and_(*rest, copy=False)) if rest else None)
        _ordered_source(node, bool(rest)).set("limit", exp.Limit(expression=number(least)))
    for one in list(node.walk(prune=lambda one: one is not node and isinstance(one, exp.Select))):
        if _is_rownum(one):
            numbered = exp.Window(this=exp.RowNumber())
            one.replace(exp.alias_(numbered, "ROWNUM", quoted=True) if one.parent is node else numbered)
    return None


def _ordered_source(node: exp.Expr, filtered: bool) -> exp.Expr:
    """The query whose rows are limited: the ordered one inside, if nothing stands between."""
    source = node.args["from_"].this if node.args.get("from_") else None
    inner = source.this if isinstance(source, exp.Subquery) else None
    plain = isinstance(inner, exp.Select) and inner.args.get("order") and not inner.args.get("limit")
    if plain and not filtered and not node.args.get("joins") and isinstance(inner, exp.Select):
        return inner
    return node


DUAL = Meaning(syntax={exp.Table: (_dual,)})
ROWNUM = Meaning(syntax={exp.Select: (_limited,)})
