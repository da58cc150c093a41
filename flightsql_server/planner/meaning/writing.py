"""Pieces of trees in the engine's own words, for rewrites to put together."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.building import number, text, whole
from flightsql_server.planner.meaning.types import Types


def call(name: str, *arguments: exp.Expr) -> exp.Expr:
    """A call of a function of the engine. The arguments are copied."""
    return exp.Anonymous(this=name.upper(), expressions=[argument.copy() for argument in arguments])


def cast(node: exp.Expr, to: str) -> exp.Expr:
    """The node as another type, by the engine's name of it."""
    return exp.Cast(this=node.copy(), to=exp.DataType.build(to, dialect="duckdb"))


def bracketed(node: exp.Expr) -> exp.Expr:
    """A copy that can stand beside any operator."""
    if isinstance(node, (exp.Binary, exp.Unary, exp.Between, exp.In, exp.Interval)) and not isinstance(node, exp.Paren):
        return exp.paren(node.copy(), copy=False)
    return node.copy()


def case(*pairs: tuple[exp.Expr, exp.Expr], otherwise: exp.Expr | None = None) -> exp.Expr:
    """CASE WHEN … THEN …, of conditions and what they give."""
    ifs = [exp.If(this=condition.copy(), true=value.copy()) for condition, value in pairs]
    return exp.Case(ifs=ifs, default=otherwise.copy() if otherwise is not None else None)


def compared(kind: type[exp.Expr], left: exp.Expr, right: exp.Expr) -> exp.Expr:
    """Two nodes with an operator of this kind between them, in brackets where they need them."""
    return kind(this=bracketed(left), expression=bracketed(right))


def operated(kind: type[exp.Expr], left: exp.Expr, right: exp.Expr) -> exp.Expr:
    """As ``compared``, in brackets as a whole."""
    return exp.paren(compared(kind, left, right), copy=False)


def is_null(node: exp.Expr) -> exp.Expr:
    """``node IS NULL``."""
    return exp.Is(this=bracketed(node), expression=exp.Null())


def failing(message: str) -> exp.Expr:
    """An expression that fails with this message, which holds no value of a row."""
    return call("error", text(message))


def unknown(what: str, hint: str) -> UnsupportedFeature:
    """The refusal of what depends on something that can't be told."""
    return UnsupportedFeature(f"{what} is not accepted.", hint=hint)


def with_texts(node: exp.Expr, types: Types, text_of: Callable[[exp.Expr, Types], exp.Expr]) -> exp.Expr | None:
    """The call with each argument as the text that ``text_of`` makes of it; None where none is another then."""
    made = [text_of(item, types) for item in node.expressions]
    if all(new is item for new, item in zip(made, node.expressions, strict=True)):
        return None
    new = node.copy()
    new.set("expressions", [item.copy() for item in made])
    return new


__all__ = [
    "bracketed",
    "call",
    "case",
    "cast",
    "compared",
    "failing",
    "is_null",
    "number",
    "operated",
    "text",
    "unknown",
    "whole",
    "with_texts",
]
