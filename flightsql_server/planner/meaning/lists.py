"""Rewrites of array functions that several dialects have in common."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.building import call, function, number, whole


def put(body: exp.Expr, name: str, value: exp.Expr) -> exp.Expr:
    """The body of a lambda with each mention of a parameter replaced."""
    for found in list(body.find_all(exp.Identifier)):
        if found.name != name or found.find_ancestor(exp.Lambda) not in (None, body.parent):
            continue
        mention = found.parent if isinstance(found.parent, exp.Column) and found.parent is not body else found
        if mention is body:
            return value.copy()
        mention.replace(value.copy())
    return body


def sliced(node: exp.Expr) -> exp.Expr | None:
    """``slice(array, start, length)``: the third argument is a length, where the parser takes it for an end."""
    start, length = whole(node.args["start"]), node.args.get("end")
    if start is None or start == 0:
        raise UnsupportedFeature("The start of a slice must be a number other than 0.", hint="Write it out.")
    if length is None:
        end: exp.Expr = number(-1) if start < 0 else call("len", node.this.copy())
    else:
        count = whole(length)
        if count is None or count < 0:
            raise UnsupportedFeature("The length of a slice must be a number.", hint="Write it out.")
        last = start + count - 1
        end = exp.Literal.number(min(last, -1) if start < 0 else last)
        if start < 0 and count == 0:
            end = exp.Literal.number(start - 1)
    return call("list_slice", node.this, exp.Literal.number(start), end)


def distinct_in_order(node: exp.Expr) -> exp.Expr | None:
    """The elements in the order of their first places, where the engine gives them in any."""
    first = call("list_position", node.this.copy(), exp.to_identifier("x_"))
    kept = exp.EQ(this=first, expression=exp.to_identifier("i_"))
    return call("list_filter", node.this, function(["x_", "i_"], kept))
