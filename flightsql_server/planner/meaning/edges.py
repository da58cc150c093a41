"""Functions of text whose answers differ at their edges, and texts made of other types."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.types import DECIMALS, FLOATS, INTEGERS, TEXTS, Types
from flightsql_server.planner.meaning.writing import (
    bracketed,
    call,
    case,
    compared,
    failing,
    is_null,
    number,
    text,
    whole,
)

ZONED = frozenset({exp.DType.TIMESTAMPTZ, exp.DType.TIMESTAMPLTZ})


def window_substring(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Places before the first count as empty ones: ``SUBSTRING('abc', -1, 3)`` is 'a'. A negative length fails."""
    start, length = node.args.get("start"), node.args.get("length")
    first, taken = whole(start), whole(length)
    if start is None or (first is not None and first >= 1 and (length is None or (taken is not None and taken >= 0))):
        return None
    before = compared(exp.LT, start, number(1))
    from_ = number(max(first, 1)) if first is not None else case((before, number(1)), otherwise=start)
    if length is None:
        return call("substring", node.this, from_)
    if first is not None and taken is not None and taken >= 0:
        return call("substring", node.this, from_, number(max(min(taken, taken + first - 1), 0)))
    left = exp.Sub(this=exp.Add(this=bracketed(start), expression=bracketed(length)), expression=number(1))
    size = case(
        (is_null(length), exp.Null()),
        (compared(exp.LT, length, number(0)), failing("a negative length")),
        (before, call("greatest", left, number(0))),
        otherwise=length,
    )
    return call("substring", node.this, from_, size)


def _edge(name: str, negative: exp.Expr) -> Meaning:
    """LEFT, RIGHT and REPEAT, with what they give for a negative number."""
    kind, part = {"left": (exp.Left, "expression"), "right": (exp.Right, "expression")}.get(name, (exp.Repeat, "times"))

    def rewrite(node: exp.Expr, types: Types) -> exp.Expr | None:
        count = node.args[part]
        known = whole(count)
        if known is not None and known >= 0:
            return None
        return case((compared(exp.LT, count, number(0)), negative), otherwise=node)

    return Meaning(typed={kind: (rewrite,)})


def _edges(cut: exp.Expr, repeated: exp.Expr) -> tuple[Meaning, ...]:
    return _edge("left", cut), _edge("right", cut), _edge("repeat", repeated)


EDGES_FAIL = _edges(failing("a negative length"), exp.Null())
"""T-SQL: LEFT and RIGHT of a negative number fail, REPLICATE is NULL."""
EDGES_EMPTY = _edges(text(""), text(""))
"""MySQL: all are empty."""


def fixed_text(node: exp.Expr, made: exp.Expr, pads: bool, default_length: int | None = None) -> exp.Expr | None:
    """``CAST(… AS VARCHAR(n))`` of a text that is already made: cut at its length, and padded if it is a CHAR.

    None where there is nothing to cut.
    """
    to = node.args["to"]
    if to.this == exp.DType.TEXT:
        return None
    parameters = to.expressions
    length = whole(parameters[0].this) if parameters else default_length
    if length is None:
        return None
    if pads and to.this in (exp.DType.CHAR, exp.DType.NCHAR, exp.DType.BPCHAR):
        return call("rpad", made, number(length), text(" "))
    return call("left", made, number(length))


def to_whole(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A cast to a whole number that cuts fractions off instead of rounding them, and takes no text with a point."""
    to, value = node.args["to"], node.this
    source = types.of(value)
    if to.this not in INTEGERS:
        return None
    if source in DECIMALS or source in FLOATS:
        return node.__class__(this=call("trunc", value), to=to.copy())
    if source in TEXTS:
        pointed = call("contains", value, text("."))
        wrong = exp.Null() if isinstance(node, exp.TryCast) else failing("not a whole number")
        return node.__class__(this=case((pointed, wrong), otherwise=value), to=to.copy())
    return None


def is_text(node: exp.Expr, types: Types) -> bool:
    """Whether the node is a text for sure."""
    return types.of(node) in TEXTS or (isinstance(node, (exp.Literal, exp.National)) and _is_string(node))


def _is_string(node: exp.Expr) -> bool:
    return isinstance(node, exp.National) or bool(node.args.get("is_string"))


CUTS_FRACTIONS = Meaning(typed={exp.Cast: (to_whole,), exp.TryCast: (to_whole,)})
"""Doris and StarRocks."""


def _wide(node: exp.Expr) -> exp.Expr | None:
    return exp.DataType.build("DOUBLE", dialect="duckdb") if node.args["this"] == exp.DType.FLOAT else None


WIDE_FLOATS = Meaning(syntax={exp.DataType: (_wide,)})
"""FLOAT has eight bytes, or more."""
