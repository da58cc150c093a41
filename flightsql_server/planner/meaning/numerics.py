"""Numbers in PostgreSQL and its kin: which are floating-point there, how they are rounded, and what fails."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.rewriting import Meaning, Rewrite, TypedRewrite
from flightsql_server.planner.meaning.types import DATES, DECIMALS, FLOATS, INTEGERS, TEXTS, Types
from flightsql_server.planner.names import fold

NUMERIC_SCALE = 15
"""Digits behind the point of a numeric that is made of a floating-point number or a text."""

# The type of the result is that of the argument, but for whole numbers, of which it is numeric.
_AVERAGES = (exp.Avg, exp.Stddev, exp.StddevPop, exp.StddevSamp, exp.Variance, exp.VariancePop)
_SAME = (
    exp.Paren, exp.Neg, exp.Abs, exp.Round, exp.Trunc, exp.Floor, exp.Ceil, exp.Sign, exp.Sum, exp.Max, exp.Min,
    exp.Window, exp.Filter, exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue,
)  # fmt: skip
_EITHER = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod)
_ROOTS = (exp.Sqrt, exp.Exp, exp.Ln, exp.Log)


def is_float(node: exp.Expr, types: Types) -> bool:
    """Whether PostgreSQL computes this in floating point; else it is exact there, though the engine may have a double.

    UnsupportedFeature where that can't be told, which is the case for a column that a query below computes.
    """
    type_ = types.of(node)
    if isinstance(node, exp.Literal) or (type_ is not None and type_ not in FLOATS):
        return False
    if isinstance(node, (*_SAME, *_AVERAGES)):
        return is_float(node.this, types)
    if isinstance(node, _EITHER):
        return is_float(node.this, types) or is_float(node.expression, types)
    if isinstance(node, (exp.Coalesce, exp.Greatest, exp.Least)):
        return any(is_float(one, types) for one in (node.this, *node.expressions))
    if isinstance(node, exp.Nullif):
        return is_float(node.this, types)
    if isinstance(node, exp.Case):
        default = node.args.get("default")
        results = [one.args["true"] for one in node.args["ifs"]] + ([default] if default else [])
        return any(is_float(one, types) for one in results)
    if isinstance(node, (*_ROOTS, exp.Pow)):
        # Of whole numbers these are floating-point, of numeric ones they are exact.
        parts = [one for one in (node.this, node.args.get("expression")) if one is not None]
        return any(is_float(one, types) for one in parts) or not any(_is_exact(one, types) for one in parts)
    if isinstance(node, exp.Extract):
        return False
    if isinstance(node, exp.Column):
        return _column_is_float(node, types)
    if type_ is None:
        raise UnsupportedFeature("The type of a number can't be told.", hint="Cast it to float8 or numeric.")
    return True


def _is_exact(node: exp.Expr, types: Types) -> bool:
    if isinstance(node, exp.Literal):
        return not node.name.isdecimal()
    return types.of(node) in (exp.DType.DECIMAL, exp.DType.BIGDECIMAL) or isinstance(node, _AVERAGES)


def _column_is_float(node: exp.Expr, types: Types) -> bool:
    type_ = types.of(node)
    if type_ is not None and type_ not in FLOATS:
        return False
    for alias in _computed(node, types):
        # Computed exactly there, a double in the engine.
        if not is_float(alias.this, types):
            raise UnsupportedFeature(
                f'Whether "{node.name}" is exact can\'t be told.', hint="Cast it to float8 or numeric(p, s)."
            )
    if type_ is None:
        raise UnsupportedFeature("The type of a number can't be told.", hint="Cast it to float8 or numeric.")
    return True


_SMALL = frozenset({exp.DType.TINYINT, exp.DType.SMALLINT, exp.DType.INT})


def _is_whole(node: exp.Expr, types: Types) -> bool | None:
    """Whether PostgreSQL has a whole number here; None: not known.

    Other than in the engine the sum of bigints is numeric there, and the days between two dates are a whole number.
    """
    if isinstance(node, exp.Sum):
        argument = node.this.expressions[0] if isinstance(node.this, exp.Distinct) else node.this
        return _is_whole(argument, types) and types.of(argument) in _SMALL
    if isinstance(node, exp.Anonymous) and fold(node.name) == "date_part":
        return False
    if isinstance(node, exp.Sub) and types.all_of(DATES, node.this, node.expression):
        return True
    parts: list[exp.Expr | None] = []
    if isinstance(node, (*_SAME, exp.Nullif)):
        parts = [node.this]
    elif isinstance(node, (exp.Add, exp.Sub, exp.Mul, exp.Mod)):
        parts = [node.this, node.expression]
    elif isinstance(node, (exp.Coalesce, exp.Greatest, exp.Least)):
        parts = [node.this, *node.expressions]
    elif isinstance(node, exp.Case):
        parts = [*(one.args["true"] for one in node.args["ifs"]), node.args.get("default")]
    elif isinstance(node, exp.Column):
        parts = [alias.this for alias in _computed(node, types)]
    known = types.of(node)
    found = [_is_whole(part, types) for part in parts if part is not None and not isinstance(part, exp.Null)]
    if False in found and (not isinstance(node, exp.Column) or known not in INTEGERS):
        return False
    if isinstance(node, exp.Column) and False in found:
        raise UnsupportedFeature(
            f'Whether "{node.name}" is a whole number can\'t be told.', hint="Cast it to bigint or numeric(p, s)."
        )
    if found and all(found) and not isinstance(node, exp.Column):
        return True
    return known in INTEGERS if known is not None else None


def _computed(node: exp.Expr, types: Types) -> list[exp.Expr]:
    """The columns of this name that queries compute, but for those that the node is a part of."""
    return [alias for alias in types.computed(node.name) if not _is_inside(node, alias)]


def _division(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Tells ``DIVIDES_WHOLE`` what PostgreSQL divides, where that is not what the engine would divide."""
    for part in (node.this, node.expression):
        whole = _is_whole(part, types)
        known = types.of(part)
        if whole is not None and (known is None or whole is not (known in INTEGERS)):
            types.note(part, exp.DType.INT if whole else exp.DType.DECIMAL)
    return None


def _is_inside(node: exp.Expr, other: exp.Expr) -> bool:
    above: exp.Expr | None = node
    while above is not None and above is not other:
        above = above.parent
    return above is not None


def _round(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A floating-point number halfway between two goes to the even one, a numeric one away from zero."""
    if node.args.get("decimals") is not None or types.of(node.this) not in (*FLOATS, None):
        return None
    if not is_float(node.this, types):
        return None
    return exp.Anonymous(this="round_even", expressions=[node.this.copy(), exp.Literal.number(0)])


def _cast(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Casts to numeric and to whole numbers."""
    to, value = node.args["to"], node.this
    if to.this == exp.DType.DECIMAL:
        return _to_numeric(value, types) if not to.expressions else None
    if to.this not in exp.DataType.INTEGER_TYPES or types.of(value) not in FLOATS:
        return None
    if not is_float(value, types):
        # An average, say: exact there, so half of one goes away from zero and not to the even number.
        value.replace(exp.Round(this=value.copy()))
    return None


def _to_numeric(value: exp.Expr, types: Types) -> exp.Expr:
    """numeric without a precision keeps every digit; the engine would take it for DECIMAL(18, 3)."""
    type_ = types.of(value)
    plain = value.name if isinstance(value, exp.Literal) else ""
    if plain and plain.replace(".", "", 1).isdecimal():
        return exp.Literal.number(plain)
    if type_ in INTEGERS:
        return exp.cast(value.copy(), "DECIMAL(38, 0)")
    if type_ in DECIMALS:
        return value.copy()
    if type_ in FLOATS:
        if not is_float(value, types):
            return value.copy()
        # PostgreSQL takes the 15 digits that a floating-point number is sure of.
        digits = exp.Anonymous(this="printf", expressions=[exp.Literal.string("%.15g"), value.copy()])
        return exp.cast(digits, f"DECIMAL(38, {NUMERIC_SCALE})")
    if type_ in TEXTS:
        return exp.cast(value.copy(), f"DECIMAL(38, {NUMERIC_SCALE})")
    raise UnsupportedFeature("The digits of a numeric can't be told.", hint="Cast to numeric(p, s).")


def untyped(rewrite: Rewrite) -> TypedRewrite:
    """A rewrite that runs with those that know types, after the gate, since it writes what a text may not."""
    return lambda node, types: rewrite(node)


def guarded(outside: type[exp.Binary], instead: exp.Expr) -> Rewrite:
    """A rewrite for functions without a value where the argument is ``outside`` of 0; the engine has NaN or infinity.

    ``instead`` takes the argument's place there: an error, or NULL.
    """

    def guard(node: exp.Expr) -> exp.Expr | None:
        argument = node.args.get("expression") or node.this
        if isinstance(argument, exp.Literal) and float(argument.name or 0) > 0:
            return None
        test = outside(this=exp.paren(argument.copy()), expression=exp.Literal.number(0))
        argument.replace(exp.Case().when(test, instead.copy()).else_(argument.copy()))
        return node

    return guard


def _error(text: str) -> exp.Expr:
    return exp.Anonymous(this="error", expressions=[exp.Literal.string(text)])


ROUNDING = Meaning(typed={exp.Round: (_round,), exp.Cast: (_cast,)})
"""Halves go to the even number in floating point and away from zero in numeric."""


def _extracted(node: exp.Expr, types: Types) -> exp.Expr | None:
    types.note(node, exp.DType.DECIMAL)
    return None


def _single(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A real is compared with a number of another type in double precision, where 0.1 is another number."""
    if not types.may_hold(exp.DType.FLOAT):
        return None
    sides = [node.this, node.expression]
    single = [types.of(side) == exp.DType.FLOAT for side in sides]
    if any(single) and not all(single):
        side = sides[single.index(True)]
        side.replace(exp.cast(side.copy(), "DOUBLE"))
    return None


SINGLE_PRECISION = Meaning(
    typed=dict.fromkeys((exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Add, exp.Sub, exp.Mul), (_single,))
)
"""Reals beside other numbers."""
EXTRACTS_NUMERIC = Meaning(typed={exp.Extract: (_extracted,)})
"""What extract gives is numeric, not a whole number."""
DIVISION = Meaning(typed={exp.Div: (_division,)})
"""What is divided; it stands before ``DIVIDES_WHOLE``."""
DOMAIN_ERRORS = Meaning(
    typed={
        exp.Ln: (untyped(guarded(exp.LTE, _error("cannot take the logarithm of zero or less"))),),
        exp.Log: (untyped(guarded(exp.LTE, _error("cannot take the logarithm of zero or less"))),),
        exp.Sqrt: (untyped(guarded(exp.LT, _error("cannot take the square root of less than zero"))),),
    }
)
"""Logarithms and square roots that have no value are errors."""
