"""Pieces of which rewrites build what takes a node's place."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.rewriting import settle


def call(name: str, *arguments: exp.Expr | int | str) -> exp.Expr:
    """A call of a function of the engine; a number or text among the arguments becomes a literal."""
    return exp.Anonymous(this=name, expressions=[_node(argument) for argument in arguments])


def text(value: str) -> exp.Expr:
    """A literal of text."""
    return exp.Literal.string(value)


def number(value: int) -> exp.Expr:
    """A literal of a whole number."""
    return exp.Literal.number(value)


def typed(node: exp.Expr, to: str) -> exp.Expr:
    """A cast that a rewrite needs for itself, and that means what the engine means by it."""
    return settle(cast(node, to))


def cast(node: exp.Expr, to: str, safe: bool = False) -> exp.Expr:
    """A cast to a type that the engine's dialect spells so; ``safe``: NULL for what can't be cast."""
    return (exp.TryCast if safe else exp.Cast)(this=node, to=exp.DataType.build(to, dialect="duckdb"))


def case(*pairs: tuple[exp.Expr, exp.Expr], default: exp.Expr | None = None) -> exp.Expr:
    """CASE WHEN … with the conditions and what they give."""
    return exp.Case(ifs=[exp.If(this=condition, true=true) for condition, true in pairs], default=default)


def bracketed(node: exp.Expr) -> exp.Expr:
    """The node, in brackets where it could fall apart beside an operator."""
    loose = isinstance(node, (exp.Binary, exp.Unary, exp.Between, exp.In, exp.Interval, exp.Case))
    return exp.Paren(this=node) if loose and not isinstance(node, exp.Paren) else node


def function(parameters: list[str], body: exp.Expr) -> exp.Expr:
    """A lambda of these parameters; the body names them by ``exp.to_identifier``."""
    return exp.Lambda(this=body, expressions=[exp.to_identifier(name) for name in parameters])


def whole(node: exp.Expr | None) -> int | None:
    """The number that a literal (with or without a minus) stands for; None: it is none, or no whole one."""
    if isinstance(node, exp.Neg):
        inner = whole(node.this)
        return None if inner is None else -inner
    if isinstance(node, exp.Literal) and not node.is_string and node.name.isdigit():
        return int(node.name)
    return None


def literal_text(node: exp.Expr | None, what: str) -> str:
    """The text of a literal; UnsupportedFeature where it is none, since then the planner can't read it."""
    if isinstance(node, exp.Literal) and node.is_string:
        return str(node.name)
    raise UnsupportedFeature(f"{what} is only understood as a literal.", hint="Write it out as a text.")


def _node(value: exp.Expr | int | str) -> exp.Expr:
    if isinstance(value, exp.Expr):
        return value
    return number(value) if isinstance(value, int) else text(value)
