"""One item of an array: counted from 0 where the writer does so, and what it is outside of the array.

The parser moves an index to the engine's count from 1 only where it knows the index to be a whole number.
"""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.snippets import Template, is_number
from flightsql_server.planner.meaning.types import TEXTS, Types

_OUTSIDE = "THEN ERROR('the index is outside of the array') ELSE LIST_EXTRACT(:a, CAST(:i AS BIGINT) + 1) END"
_RAISES = Template(f"CASE WHEN :i < 0 OR :i >= LEN(:a) {_OUTSIDE}")
_RAISES_LATER = Template(
    "CASE WHEN LEN(:a) < :n THEN ERROR('the index is outside of the array') ELSE LIST_EXTRACT(:a, :n) END"
)
_MISSES = Template("CASE WHEN :i >= 0 THEN LIST_EXTRACT(:a, CAST(:i AS BIGINT) + 1) END")
_ITEM = Template("LIST_EXTRACT(:a, :i)")
# Fails for what is no list: a map would be read at the wrong key, a text at a letter.
_LIST = Template("LIST_FILTER(:a, LAMBDA _v : TRUE)")


def _from_zero(node: exp.Expr) -> exp.Expr:
    """The index, counted from 0."""
    index: exp.Expr = node.expressions[0]
    if not node.args.get("offset"):
        return index
    if is_number(index, 1):
        return exp.Literal.number(int(index.name) - 1)
    return exp.Sub(this=index.copy(), expression=exp.Literal.number(1))


def _array(node: exp.Expr, types: Types) -> exp.Expr | None:
    """The array of which the node is one item; None where it is no array, or a part of one."""
    if len(node.expressions) != 1 or isinstance(node.expressions[0], exp.Slice):
        return None
    index = node.expressions[0]
    if (isinstance(index, exp.Literal) and index.is_string) or types.of(index) in TEXTS:
        return None
    return array_of(node.this, types)


def array_of(node: exp.Expr, types: Types) -> exp.Expr | None:
    """The node if it is an array, or written so that it fails unless it is one; None where it is something else."""
    kind = types.of(node)
    if kind in (exp.DType.ARRAY, exp.DType.LIST) or isinstance(node, exp.Array):
        return node
    return _LIST(a=node) if kind is None else None


def item_or_null(array: exp.Expr, index: exp.Expr) -> exp.Expr:
    """The item at an index that counts from 0, NULL where there is none."""
    if is_number(index):
        return _ITEM(a=array, i=exp.Literal.number(int(index.name) + 1))
    return _MISSES(a=array, i=index)


def _raising(node: exp.Expr, types: Types) -> exp.Expr | None:
    array = _array(node, types)
    if array is None:
        return None
    index = _from_zero(node)
    if node.args.get("safe"):
        return item_or_null(array, index)
    if is_number(index):
        return _RAISES_LATER(a=array, n=exp.Literal.number(int(index.name) + 1))
    return _RAISES(a=array, i=index)


def _raising_unless_backwards(node: exp.Expr, types: Types) -> exp.Expr | None:
    """ELEMENT_AT counts from 1, and from the end below 0."""
    if node.args.get("offset") and (node.args.get("safe") or not is_number(node.expressions[0], 1)):
        return None
    return _raising(node, types)


def _missing_item(node: exp.Expr, types: Types) -> exp.Expr | None:
    array = None if node.args.get("offset") else _array(node, types)
    return None if array is None else item_or_null(array, node.expressions[0])


ITEMS_RAISE = Meaning(typed={exp.Bracket: (_raising,)})
"""BigQuery: outside of the array is an error, or NULL with SAFE_."""
ITEMS_RAISE_ANSI = Meaning(typed={exp.Bracket: (_raising_unless_backwards,)})
"""Spark and Databricks."""
ITEMS_MISS = Meaning(typed={exp.Bracket: (_missing_item,)})
"""Hive, Spark without ANSI mode, Snowflake: outside of the array is NULL."""
