"""Comparison of texts where blanks at their ends don't count: ``'a' = 'a  '``."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.types import TEXTS, Types
from flightsql_server.planner.meaning.writing import call, text


def stripped(node: exp.Expr) -> exp.Expr:
    """The text without the blanks at its end. A literal as well: another may take its place in a plan used again."""
    return call("rtrim", node, text(" "))


def _compared(node: exp.Expr, types: Types) -> exp.Expr | None:
    if isinstance(node.parent, exp.Update) and node.arg_key == "expressions":
        return None  # An assignment.
    left, right = node.this, node.expression
    if isinstance(right, (exp.Any, exp.All)) and types.of(left) in TEXTS:
        raise UnsupportedFeature(
            "A text beside ANY or ALL is not accepted, for blanks at the ends don't count.", hint="Use IN or EXISTS."
        )
    kinds = (types.of(left), types.of(right))
    if not all(kind in TEXTS for kind in kinds):
        # What is compared with a text that is no literal is a text, also where nobody knows.
        known = left if kinds[1] is None else right
        if None not in kinds or types.of(known) not in TEXTS or isinstance(known, exp.Literal):
            return None
        if isinstance(left, exp.Null) or isinstance(right, exp.Null):
            return None
    return node.__class__(this=stripped(left), expression=stripped(right))


def _among(node: exp.Expr, types: Types) -> exp.Expr | None:
    query = node.args.get("query")
    if query is not None and types.of(node.this) in TEXTS:
        return _in_query(node, query, types)
    if not node.expressions or not types.all_of(TEXTS, node.this, *node.expressions):
        return None
    return exp.In(this=stripped(node.this), expressions=[stripped(item) for item in node.expressions])


def _in_query(node: exp.Expr, query: exp.Expr, types: Types) -> exp.Expr | None:
    """The texts that the query gives are stripped where it selects them."""
    select = query.unnest()
    column = select.expressions[0] if isinstance(select, exp.Select) and len(select.expressions) == 1 else None
    inner = column.unalias() if column is not None else None
    if column is None or inner is None or types.of(inner) not in TEXTS:
        raise UnsupportedFeature(
            "A text IN this query is not accepted, for blanks at the ends don't count.", hint="Use EXISTS, or a join."
        )
    column.replace(exp.alias_(stripped(inner), "text_", quoted=True))
    node.set("this", stripped(node.this))
    return None


def _between(node: exp.Expr, types: Types) -> exp.Expr | None:
    low, high = node.args["low"], node.args["high"]
    if not types.all_of(TEXTS, node.this, low, high):
        return None
    return exp.Between(this=stripped(node.this), low=stripped(low), high=stripped(high))


def _nullif(node: exp.Expr, types: Types) -> exp.Expr | None:
    if not types.all_of(TEXTS, node.this, node.expression):
        return None
    equal = exp.EQ(this=stripped(node.this), expression=stripped(node.expression))
    return exp.Case(ifs=[exp.If(this=equal, true=exp.Null())], default=node.this.copy())


def _case(node: exp.Expr, types: Types) -> exp.Expr | None:
    """The simple form, which compares."""
    subject = node.this
    if subject is None or not types.all_of(TEXTS, subject, *(branch.this for branch in node.args["ifs"])):
        return None
    ifs = [exp.If(this=stripped(one.this), true=one.args["true"].copy()) for one in node.args["ifs"]]
    default = node.args.get("default")
    return exp.Case(this=stripped(subject), ifs=ifs, default=default.copy() if default is not None else None)


PADDED = Meaning(
    typed={
        **dict.fromkeys((exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE), (_compared,)),
        exp.In: (_among,),
        exp.Between: (_between,),
        exp.Nullif: (_nullif,),
        exp.Case: (_case,),
    }
)
"""T-SQL and Teradata; grouping, DISTINCT and set operations still tell such texts apart."""
