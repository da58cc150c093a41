"""Comparisons of rows, ``(a, b) = (c, d)``, and the elements of arrays: as SQL has them, with NULL for the unknown."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.texts import whole


def _row(node: exp.Expr | None) -> list[exp.Expr] | None:
    """The parts of ``(a, b)`` or ``ROW(a, b)``."""
    if isinstance(node, exp.Tuple) or (isinstance(node, exp.Anonymous) and node.name.lower() == "row"):
        parts: list[exp.Expr] = node.expressions
        return parts
    return None


def _equal(left: list[exp.Expr], right: list[exp.Expr]) -> exp.Expr:
    if len(left) != len(right) or not left:
        raise UnsupportedFeature("Rows of different length can't be compared.", hint="Let both have as many parts.")
    tests = [exp.EQ(this=one.copy(), expression=other.copy()) for one, other in zip(left, right, strict=True)]
    return exp.paren(exp.and_(*tests, copy=False), copy=False)


def _compared(node: exp.Expr) -> exp.Expr | None:
    """The engine compares rows as values, in which two NULLs are equal."""
    left, right = _row(node.this), _row(node.expression)
    if left is None or right is None:
        return None
    if isinstance(node, exp.EQ):
        return _equal(left, right)
    if isinstance(node, exp.NEQ):
        return exp.Not(this=_equal(left, right))
    if len(left) != len(right):
        raise UnsupportedFeature("Rows of different length can't be compared.", hint="Let both have as many parts.")
    strict = exp.LT if isinstance(node, (exp.LT, exp.LTE)) else exp.GT
    test: exp.Expr = node.__class__(this=left[-1].copy(), expression=right[-1].copy())
    for one, other in reversed(list(zip(left[:-1], right[:-1], strict=True))):
        before = strict(this=one.copy(), expression=other.copy())
        same = exp.EQ(this=one.copy(), expression=other.copy())
        test = exp.paren(exp.or_(before, exp.and_(same, test, copy=False), copy=False), copy=False)
    return test


def _among(node: exp.Expr) -> exp.Expr | None:
    left = _row(node.this)
    if left is None or not node.expressions:
        return None
    rows = [_row(one) for one in node.expressions]
    if any(row is None for row in rows):
        raise UnsupportedFeature("A row is compared with what is none.", hint="Write rows of as many parts.")
    return exp.paren(exp.or_(*(_equal(left, row or []) for row in rows), copy=False), copy=False)


def _null(node: exp.Expr) -> exp.Expr | None:
    if _row(node.this) is not None:
        raise UnsupportedFeature("Rows can't be tested for NULL.", hint="Test their parts.")
    return None


def _element(node: exp.Expr) -> exp.Expr | None:
    """There is nothing before an array's first element; the engine counts from the end there."""
    if len(node.expressions) != 1:
        return None
    index = node.expressions[0]
    if isinstance(index, exp.Slice):
        bounds = [whole(bound) for bound in (index.this, index.expression) if bound is not None]
        if any(bound is None or bound < 0 for bound in bounds) or index.args.get("step") is not None:
            raise UnsupportedFeature("A slice needs bounds that are whole numbers from 1 on.", hint="Write them so.")
        return None
    if isinstance(index, exp.Literal):
        return None
    known = whole(index)
    if known is not None:
        return exp.Null() if known < 0 else None
    positive = exp.GT(this=index.copy(), expression=exp.Literal.number(0))
    return exp.Case().when(positive, node.copy())


def _removed(node: exp.Expr) -> exp.Expr | None:
    """array_remove leaves NULLs where they are."""
    name = exp.to_identifier("element_")
    kept = exp.NullSafeNEQ(this=name, expression=node.expression.copy())
    function = exp.Lambda(this=kept, expressions=[name.copy()])
    return exp.Anonymous(this="list_filter", expressions=[node.this.copy(), function])


ROWS = Meaning(
    syntax={
        exp.EQ: (_compared,),
        exp.NEQ: (_compared,),
        exp.LT: (_compared,),
        exp.LTE: (_compared,),
        exp.GT: (_compared,),
        exp.GTE: (_compared,),
        exp.In: (_among,),
        exp.Is: (_null,),
    }
)
"""Comparisons of rows."""
ARRAYS = Meaning(syntax={exp.ArrayRemove: (_removed,), exp.Bracket: (_element,)})
"""Elements of arrays."""
