"""Casts between numbers and text: which way they round, and what they take for a number."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.planner.meaning.rewriting import Meaning, TypedRewrite
from flightsql_server.planner.meaning.snippets import Template
from flightsql_server.planner.meaning.types import DECIMALS, FLOATS, INTEGERS, TEXTS, Types

_CUT = Template("TRUNC(:x)")
_ROUNDED = Template("ROUND(:x)")
_WHOLE_TEXT = Template(
    "CASE WHEN REGEXP_FULL_MATCH(:x, '\\s*[+-]?[0-9]+\\s*') THEN :x"
    " WHEN NOT :x IS NULL THEN ERROR('a text is not a whole number') END"
)
_WHOLE_TEXT_OR_NULL = Template("CASE WHEN REGEXP_FULL_MATCH(:x, '\\s*[+-]?[0-9]+\\s*') THEN :x END")
_CUT_TEXT = Template("TRUNC(TRY_CAST(:x AS DECIMAL(38, 10)))")


def _is_lenient(node: exp.Expr) -> bool:
    return isinstance(node, exp.TryCast)


def _of(node: exp.Expr, value: exp.Expr) -> exp.Expr:
    new = node.copy()
    new.set("this", value)
    return new


def _cuts(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A fraction becomes a whole number by losing what follows the point; the engine would round."""
    if node.args["to"].this in INTEGERS and types.of(node.this) in FLOATS | DECIMALS:
        return _of(node, _CUT(x=node.this))
    return None


def _rounds(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A half is rounded away from zero; the engine rounds a half of a floating number to the even side."""
    if node.args["to"].this in INTEGERS and types.of(node.this) in FLOATS:
        return _of(node, _ROUNDED(x=node.this))
    return None


def _whole_text(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Only the text of a whole number becomes one; the engine would take '12.7' and round it."""
    if node.args["to"].this in INTEGERS and types.of(node.this) in TEXTS:
        return _of(node, (_WHOLE_TEXT_OR_NULL if _is_lenient(node) else _WHOLE_TEXT)(x=node.this))
    return None


def _cut_text(node: exp.Expr, types: Types) -> exp.Expr | None:
    """The text of a fraction becomes a whole number by losing what follows the point."""
    if node.args["to"].this in INTEGERS and types.of(node.this) in TEXTS:
        return _of(node, _CUT_TEXT(x=node.this))
    return None


def _casts(*rewrites: TypedRewrite) -> Meaning:
    return Meaning(typed={exp.Cast: rewrites, exp.TryCast: rewrites})


CASTS_CUT = _casts(_cuts)
"""Spark, Hive, Databricks."""
CASTS_ROUND_HALVES_UP = _casts(_rounds)
"""Snowflake, BigQuery."""
WHOLE_TEXT_ONLY = _casts(_whole_text)
"""BigQuery, Spark and Databricks: the text of a fraction is no whole number."""
TEXT_IS_CUT = _casts(_cut_text)
"""Hive and Spark without ANSI mode."""
