"""Text in PostgreSQL and its kin: cutting it, joining it, and what other values read like once they are text."""

from __future__ import annotations

import re

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning import patterns
from flightsql_server.planner.meaning.numerics import NUMERIC_SCALE, is_float, untyped
from flightsql_server.planner.meaning.rewriting import Meaning, refused
from flightsql_server.planner.meaning.types import DECIMALS, FLOATS, INTEGERS, TEXTS, Types

_NESTED = frozenset({exp.DType.ARRAY, exp.DType.LIST, exp.DType.STRUCT, exp.DType.MAP})
_BYTES = frozenset({exp.DType.BINARY, exp.DType.VARBINARY, exp.DType.BLOB})
_OTHERWISE = FLOATS | {exp.DType.BOOLEAN, exp.DType.INTERVAL}
_PADDED = frozenset({exp.DType.CHAR, exp.DType.NCHAR, exp.DType.BPCHAR})


def call(name: str, *arguments: exp.Expr | str | int) -> exp.Expr:
    """A call of the engine's function; texts and numbers become literals, nodes are copied."""
    made: list[exp.Expr] = []
    for one in arguments:
        if isinstance(one, str):
            made.append(exp.Literal.string(one))
        elif isinstance(one, int):
            made.append(exp.Literal.number(one) if one >= 0 else exp.Neg(this=exp.Literal.number(-one)))
        else:
            made.append(one.copy())
    return exp.Anonymous(this=name, expressions=made)


def whole(node: exp.Expr | None) -> int | None:
    """The value of a literal whole number, signed or not."""
    sign = 1
    while isinstance(node, (exp.Neg, exp.Paren)):
        sign = -sign if isinstance(node, exp.Neg) else sign
        node = node.this
    if isinstance(node, exp.Literal) and not node.is_string and node.name.isdecimal():
        return sign * int(node.name)
    return None


def substring(node: exp.Expr) -> exp.Expr | None:
    """A start before the first character counts: ``substring('hello', -1, 4)`` is 'he', not counted from the end."""
    start, length = node.args.get("start"), node.args.get("length")
    if isinstance(start, exp.Literal) and start.is_string:
        if length is not None:
            raise UnsupportedFeature("substring with an escape character is not accepted.", hint="Use a plain pattern.")
        return patterns.first_match(node.this, patterns.checked(start, extracts=True))
    first, count = whole(start), whole(length)
    if first is None or (length is not None and count is None):
        return _substring_of_columns(node, start, length)
    if count is not None and count < 0:
        raise UnsupportedFeature("A negative length of a substring is an error.", hint="Let it be 0 or more.")
    if first >= 1:
        return None
    if count is None:
        return call("substring", node.this, 1)
    return call("substring", node.this, 1, max(0, first + count - 1))


def _substring_of_columns(node: exp.Expr, start: exp.Expr | None, length: exp.Expr | None) -> exp.Expr | None:
    if start is None:
        return call("substring", node.this, 1, length) if length is not None else None
    first = _at_least(start, 1)
    if length is None:
        return call("substring", node.this, first)
    end = exp.Add(this=exp.paren(start.copy()), expression=exp.paren(length.copy()))
    left = exp.Sub(this=exp.paren(end, copy=False), expression=first.copy())
    failing = call("error", "negative substring length not allowed")
    checked = exp.Case().when(exp.LT(this=exp.paren(length.copy()), expression=exp.Literal.number(0)), failing)
    return call("substring", node.this, first, checked.else_(_at_least(left, 0), copy=False))


def _at_least(node: exp.Expr, least: int) -> exp.Expr:
    """The greater of the two, or NULL, which the engine's ``greatest`` would pass over."""
    small = exp.LT(this=exp.paren(node.copy()), expression=exp.Literal.number(least))
    return exp.Case().when(small, exp.Literal.number(least)).else_(node.copy())


def _split_part(node: exp.Expr) -> exp.Expr | None:
    """An empty delimiter splits nothing."""
    delimiter = node.args["delimiter"]
    if isinstance(delimiter, exp.Literal) and delimiter.name:
        return None
    raise UnsupportedFeature("split_part needs a delimiter that is a literal and not empty.", hint="Write it so.")


def _string_to_array(node: exp.Expr) -> exp.Expr | None:
    """The empty text has no parts."""
    if not isinstance(node.expression, exp.Literal) or not node.expression.name:
        raise UnsupportedFeature("string_to_array needs a delimiter that is a literal.", hint="Write it so.")
    empty = exp.EQ(this=node.this.copy(), expression=exp.Literal.string(""))
    nothing = exp.cast(exp.Array(expressions=[]), "VARCHAR[]", dialect="duckdb")
    return exp.Case().when(empty, nothing).else_(node.copy())


def _format(node: exp.Expr) -> exp.Expr | None:
    """``format('%s of %s', a, b)`` is what concat gives; the engine's format knows {} alone."""
    template, *values = node.expressions
    if not isinstance(template, exp.Literal) or not template.is_string:
        raise UnsupportedFeature("format needs a template that is a literal.", hint="Join the parts with concat.")
    parts: list[exp.Expr] = [exp.Literal.string("")]
    for piece in re.split(r"(%.?)", template.name):
        if piece == "%%":
            parts.append(exp.Literal.string("%"))
        elif piece == "%s" and values:
            parts.append(values.pop(0).copy())
        elif piece.startswith("%"):
            raise UnsupportedFeature("format knows %s alone here.", hint="Join the parts with concat.")
        elif piece:
            parts.append(exp.Literal.string(piece))
    return exp.Concat(expressions=parts, safe=True, coalesce=True)


def float_text(node: exp.Expr) -> exp.Expr:
    """A floating-point number as PostgreSQL writes it: 100 and 1e+15, not 100.0 and 1000000000000000.0.

    Both write the fewest digits that say which number it is; they differ in the end of whole numbers, in where
    exponents begin, and in the words for infinity.
    """
    text: exp.Expr = exp.cast(node.copy(), "TEXT")
    for pattern, by in (
        (r"^(-?\d)(\d{15})\.(\d+)$", r"\1.\2\3e+15"),
        (r"\.?0+e", "e"),
        (r"\.0$", ""),
        ("inf", "Infinity"),
        ("nan", "NaN"),
    ):
        text = call("regexp_replace", text, pattern, by)
    return text


def as_text(node: exp.Expr, types: Types) -> exp.Expr | None:
    """What the value reads like, where the engine would write it in another way."""
    type_ = types.of(node)
    if type_ == exp.DType.INTERVAL:
        raise UnsupportedFeature("An interval can't be made a text.", hint="Take its parts with extract.")
    if type_ in DECIMALS and _loses_digits(node):
        type_ = None
    elif type_ not in FLOATS or _is_exact_here(node, types):
        return None
    if type_ != exp.DType.DOUBLE or not is_float(node, types):
        raise UnsupportedFeature(
            "The digits of this number as text can't be told.", hint="Round and cast it to numeric(p, s) before."
        )
    return float_text(node)


def _loses_digits(node: exp.Expr) -> bool:
    """Whether a numeric has other digits in the engine: it is a quotient, or its scale is one that was chosen here."""
    casts = (cast.args["to"].expressions for cast in node.find_all(exp.Cast))
    return node.find(exp.Div) is not None or any(size[1:] and size[1].name == str(NUMERIC_SCALE) for size in casts)


def _is_exact_here(node: exp.Expr, types: Types) -> bool:
    """Whether the engine computes this in decimals, as PostgreSQL does, though the parser takes it for a double."""
    if isinstance(node, exp.Literal):
        return not node.is_string and "e" not in node.name.lower()
    if isinstance(node, (exp.Paren, exp.Neg)):
        return _is_exact_here(node.this, types)
    if isinstance(node, (exp.Add, exp.Sub, exp.Mul)):
        return _is_exact_here(node.this, types) and _is_exact_here(node.expression, types)
    return types.all_of(INTEGERS | DECIMALS, node)


def _cast(node: exp.Expr, types: Types) -> exp.Expr | None:
    """varchar(n) cuts; char(n) pads, and its blanks count in some places and not in others, so it is refused."""
    kind = node.args["to"]
    if kind.this in _PADDED:
        raise UnsupportedFeature("Casts to char(n) are not accepted.", hint="Cast to varchar(n) or text.")
    if kind.this in _BYTES or types.of(node.this) in _BYTES:
        raise UnsupportedFeature("Casts between bytes and text are not accepted.", hint="Use encode and decode.")
    if kind.this not in TEXTS:
        return None
    if types.of(node.this) in _NESTED:
        raise UnsupportedFeature("Arrays and rows can't be made text.", hint="Use array_to_string.")
    text = as_text(node.this, types)
    if not kind.expressions:
        return text
    plain = text if text is not None else exp.cast(node.this.copy(), "TEXT")
    return exp.Left(this=plain, expression=kind.expressions[0].this.copy())


def _concat(node: exp.Expr, types: Types) -> exp.Expr | None:
    """concat writes a truth value as t or f, and numbers as a cast does."""
    for part in list(node.expressions):
        text = as_text(part, types)
        if types.of(part) == exp.DType.BOOLEAN:
            text = exp.Case().when(part.copy(), exp.Literal.string("t"))
            text = text.when(exp.Not(this=exp.paren(part.copy())), exp.Literal.string("f"))
        if text is not None:
            part.replace(text)
    return node


def _pipe(node: exp.Expr, types: Types) -> exp.Expr | None:
    """``'a' || 1.5::float8``: a number reads as a cast of it. Arrays are joined, and NULL is an empty one."""
    arrays = [types.of(part) in _NESTED for part in (node.this, node.expression)]
    if all(arrays):
        return call("list_concat", node.this, node.expression)
    if any(arrays):
        return call("list_append" if arrays[0] else "list_prepend", node.this, node.expression)
    for part in (node.this, node.expression):
        text = as_text(part, types)
        if text is not None:
            part.replace(text)
    return None


def _joined_array(node: exp.Expr, types: Types) -> exp.Expr | None:
    """The elements read as values do that are cast to text; those that read otherwise in the engine are refused."""
    array = node.this
    elements = array.expressions if isinstance(array, exp.Array) else [array.this] if array.this is not None else []
    for element in elements:
        if types.of(element.this if isinstance(element, (exp.Order, exp.Paren)) else element) in _OTHERWISE:
            raise UnsupportedFeature("array_to_string of these values is not accepted.", hint="Cast them to text.")
    return None


TEXT_FUNCTIONS = Meaning(
    plain=frozenset({"format", "quote_literal", "quote_ident"}),
    functions={
        "btrim": lambda node: call("trim", *node.expressions),
        "format": _format,
        "octet_length": lambda node: call("strlen", *node.expressions),
        "quote_literal": refused("quote_literal"),
    },
    syntax={
        exp.SplitPart: (_split_part,),
        exp.StringToArray: (_string_to_array,),
    },
    typed={
        exp.ArrayToString: (_joined_array,),
        exp.Cast: (_cast,),
        exp.Concat: (_concat,),
        exp.ConcatWs: (_concat,),
        exp.DPipe: (_pipe,),
        exp.Substring: (untyped(substring),),
    },
)
"""Functions of text, and what becomes text."""
