"""ClickHouse's conversions and arithmetic: casts cut off, ties round to even, and text shows numbers without zeros."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.building import bracketed, call, case, cast, number, text, typed, whole
from flightsql_server.planner.meaning.divisions import RAISES_ON_ZERO
from flightsql_server.planner.meaning.rewriting import Meaning, Rewrite
from flightsql_server.planner.meaning.types import DATES, DECIMALS, FLOATS, INTEGERS, TEXTS, TIMESTAMPS, Types

_INTEGER_TYPES = {
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INT",
    "int64": "BIGINT",
    "int128": "INT128",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
}
_TYPES = {
    **_INTEGER_TYPES,
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "date": "DATE",
    "date32": "DATE",
    "datetime": "TIMESTAMP",
    "datetime64": "TIMESTAMP",
    "uuid": "UUID",
    "bool": "BOOLEAN",
    "string": "VARCHAR",
}
_MOST_DIGITS = {"decimal32": 9, "decimal64": 18, "decimal128": 38}
_FRACTIONAL = ("DOUBLE", "FLOAT", "DECIMAL")
# A point with nothing but zeros behind it, or the zeros at the end of a fraction.
_IDLE_ZEROS = r"\.0+$|(\.[0-9]*[1-9])0+$"


def _conversion(to: str) -> Rewrite:
    return lambda node: cast(node.expressions[0], to) if len(node.expressions) == 1 else None


def _or_null(to: str) -> Rewrite:
    return lambda node: cast(node.expressions[0], to, safe=True)


def _or_zero(to: str) -> Rewrite:
    return lambda node: exp.Coalesce(this=cast(node.expressions[0], to, safe=True), expressions=[number(0)])


def _or_default(to: str) -> Rewrite:
    def convert(node: exp.Expr) -> exp.Expr | None:
        default = node.expressions[1] if len(node.expressions) > 1 else number(0)
        return exp.Coalesce(this=cast(node.expressions[0], to, safe=True), expressions=[default])

    return convert


def _decimal(digits: int) -> Rewrite:
    def convert(node: exp.Expr) -> exp.Expr | None:
        scale = whole(node.expressions[1]) if len(node.expressions) == 2 else None
        if scale is None or scale > digits:
            raise UnsupportedFeature("The scale of a decimal must be a number.", hint="Write toDecimal64(value, 2).")
        # What lies behind the scale is cut off.
        cut = call("trunc", cast(node.expressions[0], "DOUBLE"), scale)
        if isinstance(node.expressions[0], exp.Literal) and node.expressions[0].is_string:
            cut = call("trunc", cast(node.expressions[0], f"DECIMAL(38, {min(scale + 6, 30)})"), scale)
        return cast(cut, f"DECIMAL({digits}, {scale})")

    return convert


def _named_cast(node: exp.Expr) -> exp.Expr | None:
    """``CAST(x, 'Int32')``."""
    to = _TYPES.get(node.args["to"].name.lower())
    if to is None:
        raise UnsupportedFeature("CAST to this type is not accepted.", hint="Write CAST(x AS type).")
    return cast(node.this, to)


def _cast_type(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A cast from what the value is: fractions are cut off, and days and seconds count from 1970."""
    target, value = node.args["to"].this, node.this
    of = types.of(value)
    if target in INTEGERS:
        return _cast_to_integer(node, value, of)
    if target in TEXTS:
        return _cast_to_text(node, value, of)
    if target in DATES and of in INTEGERS:
        days = exp.Add(this=cast(text("1970-01-01"), "DATE"), expression=cast(value.copy(), "INT"))
        seconds = cast(call("to_timestamp", value.copy()), "DATE")
        if whole(value) is not None:
            return exp.Paren(this=days) if (whole(value) or 0) <= 65535 else seconds
        small = exp.LTE(this=bracketed(value.copy()), expression=number(65535))
        return case((small, days), default=seconds)
    if target in TIMESTAMPS:
        return _cast_to_time(node, value, of)
    return None


def _cast_to_integer(node: exp.Expr, value: exp.Expr, of: exp.DType | None) -> exp.Expr | None:
    if of in TIMESTAMPS:
        node.set("this", call("floor", call("epoch", value.copy())))
    elif of in DATES:
        days = exp.Sub(this=bracketed(value.copy()), expression=cast(text("1970-01-01"), "DATE"))
        node.set("this", exp.Paren(this=days))
    elif of in FLOATS or of in DECIMALS:
        node.set("this", exp.Trunc(this=value.copy()))
    elif of is None and not isinstance(value, (exp.Literal, exp.Null)):
        inner = value.copy()
        cut = exp.Trunc(this=cast(inner.copy(), "DOUBLE", safe=True))
        kept = node.copy()
        node.set("this", cut)
        return case((_is_fractional(inner), node.copy()), default=kept)
    return None


def _is_fractional(value: exp.Expr) -> exp.Expr:
    kind = call("split_part", call("typeof", value.copy()), "(", 1)
    return exp.In(this=kind, expressions=[text(name) for name in _FRACTIONAL])


def _cast_to_text(node: exp.Expr, value: exp.Expr, of: exp.DType | None) -> exp.Expr | None:
    if of in TIMESTAMPS:
        raise UnsupportedFeature(
            "A time as text is not accepted without its format.", hint="Use formatDateTime(x, '%Y-%m-%d %H:%i:%S')."
        )
    if isinstance(value, exp.Literal) and value.is_string:
        return None
    shortened = call("regexp_replace", node.copy(), _IDLE_ZEROS, "\\1")
    if of in FLOATS or of in DECIMALS:
        return shortened
    if of is None and not isinstance(value, exp.Null):
        return case((_is_fractional(value), shortened), default=node.copy())
    return None


def _cast_to_time(node: exp.Expr, value: exp.Expr, of: exp.DType | None) -> exp.Expr | None:
    """DateTime has whole seconds; DateTime64 has a number of digits, of which three and six are known."""
    target = node.args["to"]
    if of in INTEGERS or of in FLOATS:
        return call("to_timestamp", call("floor", value.copy()))
    digits = whole(target.expressions[0].this) if target.expressions else None
    unit = {None: "second", 0: "second", 3: "millisecond", 6: None}.get(digits, "")
    if target.this == exp.DType.DATETIME64 and unit == "":
        raise UnsupportedFeature(f"DateTime64({digits}) is not accepted.", hint="Use DateTime64(3) or DateTime64(6).")
    zoned = of == exp.DType.TIMESTAMPTZ
    as_time = value.copy() if zoned else cast(value.copy(), "TIMESTAMP", safe=isinstance(node, exp.TryCast))
    if isinstance(value, exp.Literal) and "." not in value.name:
        return as_time
    return as_time if not unit else call("date_trunc", unit, as_time)


def _float_literal(node: exp.Expr) -> exp.Expr | None:
    """A number with a point is a floating one, so 0.1 + 0.2 isn't 0.3."""
    word = str(node.this)
    if node.is_string or "." not in word or "e" in word.lower():
        return None
    if isinstance(node.parent, (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In)):
        # The other side decides how to compare, and the engine can look such a number up.
        return None
    if isinstance(node.parent, (exp.Limit, exp.Offset, exp.TableSample, exp.DataTypeParam)):
        return None
    return exp.Literal.number(word + "e0")


def _rounded(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Floating numbers round half to even, others half away from zero."""
    value, digits = node.this, node.args.get("decimals")
    of = types.of(value)
    if of in INTEGERS or of in DECIMALS:
        return None
    even = call("round_even", value.copy(), digits.copy() if digits else 0)
    if of in FLOATS:
        return even
    floating = exp.In(this=call("typeof", value.copy()), expressions=[text("DOUBLE"), text("FLOAT")])
    return case((floating, even), default=node.copy())


def _whole_division(node: exp.Expr, types: Types) -> exp.Expr | None:
    """``intDiv`` of what isn't whole cuts the quotient off."""
    if types.all_of(INTEGERS, node.this, node.expression):
        return None
    quotient = exp.Div(this=bracketed(node.this.copy()), expression=bracketed(node.expression.copy()))
    return cast(exp.Trunc(this=quotient), "BIGINT")


def _division(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A decimal divided by zero is an error; only floating and whole numbers have an infinity. Never a short float."""
    if types.of(node.this) == exp.DType.FLOAT and isinstance(node.this, exp.Cast):
        node.set("this", typed(node.this.copy(), "DOUBLE"))
    if types.of(node.this) in DECIMALS and types.of(node.expression) in DECIMALS | INTEGERS:
        return RAISES_ON_ZERO.typed[exp.Div][0](node, types)
    return None


def _operator(kind: type[exp.Binary]) -> Rewrite:
    def build(node: exp.Expr) -> exp.Expr | None:
        if len(node.expressions) != 2:
            return None
        left, right = node.expressions
        return exp.Paren(this=kind(this=bracketed(left), expression=bracketed(right)))

    return build


def _positive_modulo(node: exp.Expr) -> exp.Expr | None:
    value, by = (bracketed(one) for one in node.expressions)
    rest = exp.Paren(this=exp.Mod(this=value, expression=by))
    raised = exp.Paren(this=exp.Add(this=rest, expression=by.copy()))
    return exp.Paren(this=exp.Mod(this=raised, expression=by.copy()))


def _or_zero_by_zero(kind: type[exp.Binary]) -> Rewrite:
    def build(node: exp.Expr) -> exp.Expr | None:
        value, by = (bracketed(one) for one in node.expressions)
        zero = exp.EQ(this=by.copy(), expression=number(0))
        return case((zero, number(0)), default=kind(this=value, expression=by))

    return build


def _refused_type_name(node: exp.Expr) -> exp.Expr | None:
    raise UnsupportedFeature("toTypeName is not accepted: types have other names here.", hint="Leave it out.")


def _with_digits(name: str) -> Rewrite:
    """``ceil(x, 1)`` and the like, which the engine has without digits only."""

    def cut(node: exp.Expr) -> exp.Expr | None:
        if node.args.get("decimals") is None:
            return None
        places = call("power", 10, node.args["decimals"])
        scaled = exp.Mul(this=bracketed(node.this), expression=places)
        return call("round", exp.Div(this=call(name, scaled), expression=places.copy()), node.args["decimals"].copy())

    return cut


def _member(node: exp.Expr) -> exp.Expr | None:
    """NULL among what is looked through is passed over: ``2 NOT IN (1, NULL)`` is true."""
    node.set("is_global", None)
    query = node.args.get("query")
    if query is None:
        present = [one for one in node.expressions if not isinstance(one, exp.Null)]
        if present:
            node.set("expressions", present)
        return None
    if not isinstance(node.this, exp.Tuple) and not isinstance(node.parent, exp.Where):
        inner = query.this if isinstance(query, exp.Subquery) and not query.alias else query
        name = exp.to_identifier("x_")
        alias = exp.TableAlias(this=exp.to_identifier("q_"), columns=[name])
        column = exp.Column(this=name.copy())
        kept = exp.Not(this=exp.Is(this=column, expression=exp.Null()))
        chosen = exp.Select(
            expressions=[exp.Star()],
            from_=exp.From(this=exp.Subquery(this=inner.copy(), alias=alias)),
            where=exp.Where(this=kept),
        )
        node.set("query", exp.Subquery(this=chosen))
    return None


def _special(node: exp.Expr) -> exp.Expr | None:
    """``inf`` and ``nan`` are numbers, not columns."""
    word = node.name.lower()
    if word in ("inf", "nan") and not node.args.get("table") and not node.this.args.get("quoted"):
        return cast(text(word), "DOUBLE")
    return None


_FUNCTIONS: dict[str, Rewrite] = {
    **{f"to{name}": _conversion(to) for name, to in _TYPES.items() if not name.startswith("date")},
    "todate32": _conversion("DATE"),
    **{f"to{name}ornull": _or_null(to) for name, to in _TYPES.items()},
    **{f"to{name}orzero": _or_zero(to) for name, to in _TYPES.items() if name[:3] in ("int", "uin", "flo")},
    **{f"to{name}ordefault": _or_default(to) for name, to in _INTEGER_TYPES.items()},
    **{f"to{name}": _decimal(digits) for name, digits in _MOST_DIGITS.items()},
    "assumenotnull": lambda node: node.expressions[0],
    "tonullable": lambda node: node.expressions[0],
    "isnull": lambda node: exp.Paren(this=exp.Is(this=bracketed(node.expressions[0]), expression=exp.Null())),
    "isnotnull": lambda node: exp.Not(this=exp.Is(this=bracketed(node.expressions[0]), expression=exp.Null())),
    "plus": _operator(exp.Add),
    "minus": _operator(exp.Sub),
    "multiply": _operator(exp.Mul),
    "divide": _operator(exp.Div),
    "intdiv": _operator(exp.IntDiv),
    "modulo": _operator(exp.Mod),
    "equals": _operator(exp.EQ),
    "notequals": _operator(exp.NEQ),
    "less": _operator(exp.LT),
    "greater": _operator(exp.GT),
    "lessorequals": _operator(exp.LTE),
    "greaterorequals": _operator(exp.GTE),
    "negate": lambda node: exp.Paren(this=exp.Neg(this=bracketed(node.expressions[0]))),
    "bitand": _operator(exp.BitwiseAnd),
    "bitor": _operator(exp.BitwiseOr),
    "bitxor": lambda node: call("xor", *node.expressions),
    "bitshiftleft": _operator(exp.BitwiseLeftShift),
    "bitshiftright": _operator(exp.BitwiseRightShift),
    "intdivorzero": _or_zero_by_zero(exp.IntDiv),
    "moduloorzero": _or_zero_by_zero(exp.Mod),
    "positivemodulo": _positive_modulo,
    "roundbankers": lambda node: call("round_even", node.expressions[0], (node.expressions[1:] or [number(0)])[0]),
    "bitcount": lambda node: call("bit_count", node.expressions[0]),
    "generateuuidv4": lambda node: exp.Uuid(),
}

VALUES = Meaning(
    syntax={
        exp.Literal: (_float_literal,),
        exp.Column: (_special,),
        exp.In: (_member,),
        exp.CastToStrType: (_named_cast,),
        exp.Typeof: (_refused_type_name,),
        exp.Ceil: (_with_digits("ceil"),),
        exp.Floor: (_with_digits("floor"),),
    },
    functions=_FUNCTIONS,
    typed={
        exp.Cast: (_cast_type,),
        exp.TryCast: (_cast_type,),
        exp.Round: (_rounded,),
        exp.IntDiv: (_whole_division,),
        exp.Div: (_division,),
    },
)
"""Numbers, and what is made into what."""
