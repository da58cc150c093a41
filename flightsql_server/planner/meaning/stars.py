"""``SELECT *`` over a join by common columns shows those first, as the SQL standard says; the engine doesn't."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.names import fold


def _ordered(node: exp.Expr) -> exp.Expr | None:
    stars = [column for column in node.expressions if isinstance(column, exp.Star)]
    joins = node.args.get("joins") or []
    if not stars or not any(join.args.get("using") or join.args.get("method") for join in joins):
        return None
    if any(join.args.get("method") or join.args.get("side") == "RIGHT" for join in joins):
        raise UnsupportedFeature(
            "SELECT * over a NATURAL JOIN, or a RIGHT JOIN with USING, is not accepted.", hint="Name the columns."
        )
    names: dict[str, exp.Expr] = {}
    for join in reversed(joins):
        names = {**{fold(name.name): name for name in join.args.get("using") or ()}, **names}
    columns = [exp.Column(this=name.copy()) for name in names.values()]
    rest = exp.Star(except_=[column.copy() for column in columns])
    shown = [part for column in node.expressions for part in ([*columns, rest] if column in stars else [column])]
    node.set("expressions", [part.copy() for part in shown])
    return None


COMMON_FIRST = Meaning(syntax={exp.Select: (_ordered,)})
