"""PostgreSQL, and Materialize and RisingWave, which speak its language."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.divisions import DIVIDES_WHOLE
from flightsql_server.planner.meaning.intervals import INTERVALS
from flightsql_server.planner.meaning.naming import fold_names, name_columns, name_values
from flightsql_server.planner.meaning.numerics import (
    DIVISION,
    DOMAIN_ERRORS,
    EXTRACTS_NUMERIC,
    ROUNDING,
    SINGLE_PRECISION,
)
from flightsql_server.planner.meaning.patterns import LIKE_ESCAPES, PATTERNS
from flightsql_server.planner.meaning.rewriting import Meaning, merged
from flightsql_server.planner.meaning.rows import ARRAYS, ROWS
from flightsql_server.planner.meaning.templates import TEMPLATES
from flightsql_server.planner.meaning.texts import TEXT_FUNCTIONS, call
from flightsql_server.planner.meaning.types import INTEGERS, Types


def _ties(node: exp.Expr) -> exp.Expr | None:
    """The parser forgets WITH TIES when it writes FETCH as LIMIT."""
    options = node.args.get("limit_options")
    if options is not None and options.args.get("with_ties"):
        raise UnsupportedFeature("FETCH … WITH TIES is not accepted.", hint="Use rank() and filter by it.")
    return None


def _bits(node: exp.Expr) -> exp.Expr | None:
    if node.this == exp.DType.BIT:
        raise UnsupportedFeature("Bit strings are not accepted.", hint="Use whole numbers.")
    return None


def _truth(node: exp.Expr) -> exp.Expr | None:
    """``'on'::boolean``: words that the engine doesn't read; a beginning of one is enough if it is no other's."""
    word = node.this.name.strip().lower() if isinstance(node.this, exp.Literal) and node.this.is_string else ""
    if word and node.args["to"].this == exp.DType.BOOLEAN:
        for words, value in ((("true", "yes", "on", "1"), True), (("false", "no", "off", "0"), False)):
            if word != "o" and any(one.startswith(word) for one in words):
                return exp.Boolean(this=value)
    return None


def _documents(node: exp.Expr) -> exp.Expr | None:
    """jsonb compares what is written in it, the engine its letters."""
    for side in (node.this, node.expression):
        plain = side.unnest()
        if isinstance(plain, exp.Cast) and plain.args["to"].this in (exp.DType.JSON, exp.DType.JSONB):
            raise UnsupportedFeature("JSON documents can't be compared.", hint="Compare values of them, by ->>.")
    return None


def _every(node: exp.Expr) -> exp.Expr | None:
    return exp.LogicalAnd(this=node.expressions[0].copy()) if len(node.expressions) == 1 else None


def _div(node: exp.Expr) -> exp.Expr | None:
    """``div(a, b)`` is the quotient without its fraction."""
    if len(node.expressions) != 2:
        return None
    quotient = exp.Div(this=exp.paren(node.expressions[0].copy()), expression=node.expressions[1].copy(), typed=True)
    return call("trunc", quotient)


def _hex(node: exp.Expr, types: Types) -> exp.Expr | None:
    """to_hex writes small letters, and a negative number as wide as its type."""
    type_ = types.of(node.this)
    if type_ not in INTEGERS:
        raise UnsupportedFeature("to_hex is accepted for whole numbers only.", hint="Cast to integer or bigint.")
    value = node.this.copy()
    if type_ != exp.DType.BIGINT:
        negative = exp.LT(this=exp.paren(value.copy()), expression=exp.Literal.number(0))
        wide = exp.Add(this=exp.cast(value.copy(), "BIGINT"), expression=exp.Literal.number(2**32))
        value = exp.Case().when(negative, wide).else_(exp.cast(value, "BIGINT"))
    return exp.Lower(this=call("hex", value))


def _make_interval(node: exp.Expr) -> exp.Expr | None:
    """The parser would write the names of columns into the text of an interval."""
    parts = [(unit, value) for unit, value in node.args.items() if isinstance(value, exp.Expr)]
    total: exp.Expr | None = None
    for unit, value in parts:
        amount = value.expression if isinstance(value, exp.Kwarg) else value
        part = call(f"to_{unit.rstrip('s')}s", amount)
        total = part if total is None else exp.Add(this=total, expression=part)
    return None if total is None else exp.paren(total, copy=False)


def _column_of_table(node: exp.Expr) -> exp.Expr | None:
    """A new table's numeric has no limit there, and three digits behind the point in the engine."""
    kind = node.args.get("kind")
    if isinstance(kind, exp.DataType) and kind.this == exp.DType.DECIMAL and not kind.expressions:
        raise UnsupportedFeature(
            "A column of numeric needs its digits.", hint="Write numeric(p, s), as numeric(18, 6)."
        )
    return None


NAMES = Meaning(prepare=(fold_names, name_columns, name_values))
"""Small letters, ?column? and column1."""
LANGUAGE = merged(
    EXTRACTS_NUMERIC,
    DIVISION,
    DIVIDES_WHOLE,
    ROUNDING,
    SINGLE_PRECISION,
    DOMAIN_ERRORS,
    INTERVALS,
    TEMPLATES,
    LIKE_ESCAPES,
    PATTERNS,
    TEXT_FUNCTIONS,
    ROWS,
    ARRAYS,
    Meaning(
        plain=frozenset({"div"}),
        functions={"div": _div, "every": _every},
        syntax={
            exp.Cast: (_truth,),
            exp.ColumnDef: (_column_of_table,),
            exp.DataType: (_bits,),
            exp.EQ: (_documents,),
            exp.NEQ: (_documents,),
            exp.Fetch: (_ties,),
            exp.MakeInterval: (_make_interval,),
        },
        typed={exp.Hex: (_hex,), exp.LowerHex: (_hex,)},
    ),
)
"""What PostgreSQL and those that descend from it share."""
POSTGRES = merged(NAMES, LANGUAGE)
