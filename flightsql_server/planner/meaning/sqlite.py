"""SQLite: values that are converted by rules of their own, ASCII letters, NULL where others fail."""

from __future__ import annotations

import re

from sqlglot import exp
from sqlglot.dialects import Dialect
from sqlglot.tokenizer_core import TokenType

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning import patterns
from flightsql_server.planner.meaning.divisions import DIVIDES_WHOLE
from flightsql_server.planner.meaning.naming import name_values
from flightsql_server.planner.meaning.numerics import guarded, untyped
from flightsql_server.planner.meaning.rewriting import Meaning, merged, refused
from flightsql_server.planner.meaning.rows import ROWS
from flightsql_server.planner.meaning.sqlite_dates import SQLITE_DATES, settled
from flightsql_server.planner.meaning.texts import call, whole
from flightsql_server.planner.meaning.types import DATES, DECIMALS, FLOATS, INTEGERS, NUMBERS, TEXTS, TIMESTAMPS, Types
from flightsql_server.planner.names import fold

_TIMES = DATES | TIMESTAMPS
_ROW_NUMBERS = frozenset({"rowid", "oid", "_rowid_"})
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*")
_WHOLE_START, _REAL_START = r"^\s*([+-]?\d+)", r"^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
_LIST_ENDS = frozenset(
    {
        TokenType.FROM, TokenType.WHERE, TokenType.GROUP_BY, TokenType.HAVING, TokenType.ORDER_BY, TokenType.LIMIT,
        TokenType.UNION, TokenType.EXCEPT, TokenType.INTERSECT, TokenType.WINDOW, TokenType.SEMICOLON,
    }
)  # fmt: skip
_FORMAT = re.compile(r"%(?:%|-?0?\d*[dsxX]|\d*(?:\.\d+)?f)")


def name_as_written(tree: exp.Expr, text: str) -> exp.Expr:
    """A nameless column of the result is called by its text, letter by letter."""
    select = tree
    while isinstance(select, exp.SetOperation):
        select = select.this
    if not isinstance(select, exp.Select):
        return tree
    names = _written_columns(text)
    if len(names) == len(select.expressions):
        for column, name in zip(list(select.expressions), names, strict=True):
            if name and not isinstance(column, (exp.Alias, exp.Star, exp.Column)):
                column.replace(exp.alias_(column.copy(), name[:200], quoted=True))
    return tree


def _written_columns(text: str) -> list[str]:
    tokens = Dialect.get_or_raise("sqlite").tokenize(text)
    columns: list[str] = []
    depth, start, end, inside = 0, -1, -1, False
    for token in tokens:
        kind = token.token_type
        depth += (kind == TokenType.L_PAREN) - (kind == TokenType.R_PAREN)
        if not inside:
            inside = depth == 0 and kind == TokenType.SELECT
            continue
        if depth == 0 and kind in _LIST_ENDS:
            break
        if depth == 0 and kind in (TokenType.DISTINCT, TokenType.ALL) and start < 0 and not columns:
            continue
        if depth == 0 and kind == TokenType.COMMA:
            columns.append(text[start : end + 1])
            start = -1
            continue
        start, end = (token.start if start < 0 else start), token.end
    return [*columns, text[start : end + 1]] if start >= 0 else columns


def _literal(node: exp.Expr) -> exp.Expr | None:
    """Numbers with a point are floating-point."""
    if not node.args.get("is_string") and "." in node.name and "e" not in node.name.lower():
        return exp.Literal.number(node.name + "e0")
    return None


def _chars(node: exp.Expr) -> exp.Expr | None:
    """``char(65, 66)`` is 'AB'."""
    joined: exp.Expr | None = None
    for one in node.expressions:
        made = call("chr", one)
        joined = made if joined is None else exp.DPipe(this=joined, expression=made)
    return exp.paren(joined, copy=False) if isinstance(joined, exp.DPipe) else joined


def _glob(node: exp.Expr) -> exp.Expr | None:
    """``[^a]`` is ``[!a]`` to the engine."""
    if not isinstance(node.expression, exp.Literal):
        raise UnsupportedFeature("GLOB needs a pattern that is a literal.", hint="Use LIKE.")
    node.expression.replace(exp.Literal.string(node.expression.name.replace("[^", "[!")))
    return None


def _column(node: exp.Expr) -> exp.Expr | None:
    if fold(node.name) in _ROW_NUMBERS:
        raise UnsupportedFeature("Row numbers are not kept.", hint="Use a key of the table.")
    return None


def _limit(node: exp.Expr) -> exp.Expr | None:
    """A negative LIMIT is none."""
    count = whole(node.expression)
    if count is not None and count < 0 and node.parent is not None:
        node.parent.set("limit", None)
    return None


def _random(node: exp.Expr) -> exp.Expr | None:
    """A whole number of 64 bits, where the engine has a fraction."""
    if isinstance(node.parent, exp.Sub) and isinstance(node.parent.parent, exp.Paren):
        return None
    around = exp.paren(exp.Sub(this=exp.Rand(), expression=exp.Literal.number("0.5")), copy=False)
    return settled(exp.Mul(this=around, expression=exp.Literal.number("18446744073709549568e0")), "BIGINT")


def _fmod(node: exp.Expr) -> exp.Expr | None:
    """Other than %, mod keeps fractions."""
    if len(node.expressions) != 2:
        raise UnsupportedFeature("mod takes two numbers.", hint="Write both.")
    left, right = (settled(one.copy(), "DOUBLE") for one in node.expressions)
    return call("fmod", left, exp.Nullif(this=right, expression=exp.Literal.number(0)))


def _total(node: exp.Expr) -> exp.Expr | None:
    """The sum as a floating-point number, and 0 of nothing."""
    if isinstance(node.parent, (exp.Window, exp.Filter)) or len(node.expressions) != 1:
        raise UnsupportedFeature("total with OVER or FILTER is not accepted.", hint="Use coalesce(sum(x), 0.0).")
    total = exp.Sum(this=settled(node.expressions[0].copy(), "DOUBLE"))
    return exp.Coalesce(this=total, expressions=[exp.Literal.number("0e0")])


def _format(node: exp.Expr) -> exp.Expr | None:
    template, *values = node.expressions
    if not isinstance(template, exp.Literal) or "%" in _FORMAT.sub("", template.name):
        raise UnsupportedFeature("This format is not accepted.", hint="Use %d, %s, %x and %.2f.")
    formats = [one for one in _FORMAT.findall(template.name) if one != "%%"]
    for at, (format_, value) in enumerate(zip(formats, values, strict=False)):
        if format_.endswith("f"):
            # The engine's printf takes halves to the even digit.
            digits = format_[:-1].partition(".")[2] or "6"
            values[at] = exp.Round(this=value.copy(), decimals=exp.Literal.number(digits))
    return call("printf", template, *values)


def real_text(node: exp.Expr) -> exp.Expr:
    """A floating-point number with 15 digits and always a point: 100.0 and 1.0e+20."""
    text = call("printf", "%.15g", exp.cast(node.copy(), "DOUBLE"))
    text = call("regexp_replace", text, r"^(-?\d+)$", r"\1.0")
    text = call("regexp_replace", text, r"^(-?\d+)e", r"\1.0e")
    return call("replace", text, "inf", "Inf")


def as_text(node: exp.Expr, types: Types) -> exp.Expr | None:
    """What the value reads like, where the engine would write it in another way."""
    type_ = types.of(node)
    if type_ in FLOATS or type_ in DECIMALS:
        return real_text(node)
    if type_ == exp.DType.BOOLEAN:
        return exp.cast(exp.cast(node.copy(), "INTEGER"), "TEXT")
    return None


_TEXT_FUNCTIONS = frozenset({"chr", "printf", "regexp_extract", "replace", "strftime", "translate"})


def _type(node: exp.Expr, types: Types) -> exp.DType | None:
    """The type of a node, also of one that was made here."""
    known = types.of(node)
    if known is not None:
        return known
    if isinstance(node, exp.JSONExtractScalar):
        return exp.DType.TEXT
    if isinstance(node, exp.Anonymous):
        name = fold(node.name)
        return exp.DType.TEXT if name in _TEXT_FUNCTIONS else exp.DType.DOUBLE if name == "epoch" else None
    if isinstance(node, (exp.Paren, exp.Neg)):
        return _type(node.this, types)
    if isinstance(node, (exp.Add, exp.Sub, exp.Mul, exp.Div)):
        sides = {_type(node.this, types), _type(node.expression, types)}
        return exp.DType.DOUBLE if exp.DType.DOUBLE in sides and None not in sides else None
    return None


def _dated(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Dates are texts, and may be cut like them."""
    if types.of(node.this) in _TIMES:
        node.this.replace(exp.cast(node.this.copy(), "TEXT"))
    return None


def _cast(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Casts never fail: of a text they take the number that it begins with, of a number its whole part."""
    to, value = node.args["to"].this, node.this
    type_ = _type(value, types)
    if to in TEXTS:
        return as_text(value, types)
    if to not in NUMBERS or isinstance(value, exp.Null):
        return None
    if type_ is None or type_ in _TIMES:
        raise UnsupportedFeature("What this cast gives can't be told.", hint="Cast it to text before.")
    if type_ in TEXTS:
        if to in DECIMALS:
            raise UnsupportedFeature("A cast of text to numeric is not accepted.", hint="Cast to integer or real.")
        found = call("regexp_extract", value, _WHOLE_START if to in INTEGERS else _REAL_START, 1)
        number = exp.Case(this=found).when(exp.Literal.string(""), exp.Literal.string("0")).else_(found.copy())
        return exp.cast(number, "BIGINT" if to in INTEGERS else "DOUBLE")
    if to in INTEGERS:
        return exp.cast(call("trunc", value) if type_ in FLOATS | DECIMALS else value.copy(), "BIGINT")
    return exp.cast(value.copy(), "DOUBLE") if to in FLOATS else value.copy()


def _date_cast(node: exp.Expr) -> exp.Expr | None:
    if node.args["to"].this in _TIMES:
        raise UnsupportedFeature("A cast to a date gives a number in SQLite.", hint="Use date() or datetime().")
    return None


def _pipe(node: exp.Expr, types: Types) -> exp.Expr | None:
    for part in (node.this, node.expression):
        text = as_text(part, types)
        if text is not None:
            part.replace(text)
    return None


def _like(node: exp.Expr, types: Types) -> exp.Expr | None:
    """LIKE ignores the case of ASCII letters, and takes numbers and dates for their texts."""
    for part in (node.this, node.expression):
        if types.of(part) not in TEXTS | {None}:
            part.replace(as_text(part, types) or exp.cast(part.copy(), "TEXT"))
    return patterns.like_ascii(node)


def _compared(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A number is less than any text, unless a column says what the other side is converted to."""
    if isinstance(node, exp.Between):
        pairs = [(node.this, node.args["low"]), (node.this, node.args["high"])]
    elif isinstance(node, exp.In):
        pairs = [(node.this, one) for one in node.expressions]
    else:
        pairs = [(node.this, node.expression)]
    for left, right in pairs:
        kinds = {_kind(types.of(left)), _kind(types.of(right))}
        if kinds == {"number", "text"}:
            number, text = (left, right) if _kind(types.of(left)) == "number" else (right, left)
            _convert(number, text)
    return None


def _kind(type_: exp.DType | None) -> str:
    return "number" if type_ in NUMBERS else "text" if type_ in TEXTS else ""


def _convert(number: exp.Expr, text: exp.Expr) -> None:
    has_type = (exp.Column, exp.Cast)
    if isinstance(number, has_type) and isinstance(text, exp.Literal) and _NUMBER.fullmatch(text.name):
        text.replace(exp.Literal.number(text.name.strip().lstrip("+")))
    elif isinstance(text, has_type) and isinstance(number, exp.Literal) and number.name.isdecimal():
        number.replace(exp.Literal.string(number.name))
    else:
        raise UnsupportedFeature("A number is compared with a text.", hint="Cast one to the type of the other.")


def _mixed(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Values of one column have one type here: a number beside a text would become one."""
    if isinstance(node, exp.SetOperation):
        pairs = list(zip(node.this.selects, node.expression.selects, strict=False))
    elif isinstance(node, exp.Case):
        results = [one.args["true"] for one in node.args["ifs"]]
        default = node.args.get("default")
        pairs = [tuple([*results, default] if default is not None else results)]
    else:
        pairs = [(node.this, *node.expressions)]
    for values in pairs:
        if {"number", "text"} <= {_kind(types.of(one.unalias())) for one in values}:
            raise UnsupportedFeature("Numbers and texts are mixed in one column.", hint="Cast them to text.")
    return None


def _remainder(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Both sides lose their fraction before; by zero it is NULL."""
    left, right = types.of(node.this), types.of(node.expression)
    if left not in NUMBERS or right not in NUMBERS:
        raise UnsupportedFeature("It can't be told whether this is a remainder of numbers.", hint="Cast both.")
    parts = [
        one.copy() if type_ in INTEGERS else exp.cast(call("trunc", one), "BIGINT")
        for one, type_ in ((node.this, left), (node.expression, right))
    ]
    divisor = exp.Nullif(this=parts[1], expression=exp.Literal.number(0))
    remainder = exp.paren(exp.Mod(this=exp.paren(parts[0]), expression=divisor), copy=False)
    return remainder if left in INTEGERS and right in INTEGERS else exp.cast(remainder, "DOUBLE")


def _round(node: exp.Expr, types: Types) -> exp.Expr | None:
    """What is rounded are the 15 digits that a text of the number has; a negative number of digits counts as 0."""
    digits, type_ = node.args.get("decimals"), types.of(node.this)
    count = whole(digits) if digits is not None else 0
    if count is None or (type_ is None and count > 0):
        raise UnsupportedFeature("round needs a number, and a literal for its digits.", hint="Cast the number to real.")
    if digits is not None and count <= 0:
        node.set("decimals", None)
    if count <= 0 or type_ not in FLOATS:
        return None
    exact = settled(call("printf", "%.15g", node.this), "DECIMAL(38, 15)")
    near = exp.LT(this=exp.Abs(this=node.this.copy()), expression=exp.Literal.number("1e15"))
    rounded = settled(exp.Round(this=exact, decimals=exp.Literal.number(count)), "DOUBLE")
    return exp.Case().when(near, rounded).else_(node.this.copy())


def _arithmetic(node: exp.Expr, types: Types) -> exp.Expr | None:
    if types.of(node.this) in _TIMES or types.of(node.expression) in _TIMES:
        raise UnsupportedFeature("Dates are texts in SQLite: there is no sum.", hint="Use date(x, '+1 day').")
    return None


def _typeof(node: exp.Expr, types: Types) -> exp.Expr | None:
    type_ = types.of(node.this)
    name = "text" if type_ in TEXTS | _TIMES else "integer" if type_ in INTEGERS | {exp.DType.BOOLEAN} else ""
    name = name or ("real" if type_ in FLOATS | DECIMALS else "")
    if not name:
        raise UnsupportedFeature("typeof of this is not accepted.", hint="Its type can't be told.")
    missing = exp.Is(this=exp.paren(node.this.copy()), expression=exp.Null())
    return exp.Case().when(missing, exp.Literal.string("null")).else_(exp.Literal.string(name))


def _hex(node: exp.Expr, types: Types) -> exp.Expr | None:
    if types.of(node.this) not in TEXTS:
        raise UnsupportedFeature("hex is accepted for text only.", hint="Cast to text before.")
    return None


def _json(node: exp.Expr) -> exp.Expr | None:
    if not isinstance(node.parent, exp.Cast):
        raise UnsupportedFeature("A value of JSON has a type of its own in each row.", hint="Cast it.")
    return None


_COMPARISONS = (
    exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between, exp.In, exp.NullSafeEQ, exp.NullSafeNEQ,
)  # fmt: skip

SQLITE = merged(
    Meaning(
        prepare=(name_as_written, name_values),
        plain=frozenset({"format", "mod", "printf"}),
        functions={"format": _format, "mod": _fmod, "printf": _format, "total": _total},
        syntax={
            exp.Cast: (_date_cast,),
            exp.Chr: (_chars,),
            exp.Column: (_column,),
            exp.Glob: (_glob,),
            exp.JSONExtractScalar: (_json,),
            exp.JSONType: (refused("json_type"),),
            exp.Limit: (_limit,),
            exp.Literal: (_literal,),
            exp.Lower: (lambda node: patterns.lower_ascii(node.this),),
            exp.Rand: (_random,),
            exp.Upper: (lambda node: patterns.upper_ascii(node.this),),
        },
        typed={
            exp.Add: (_arithmetic,),
            exp.Case: (_mixed,),
            exp.Cast: (_cast,),
            exp.Coalesce: (_mixed,),
            exp.DPipe: (_pipe,),
            exp.Hex: (_hex,),
            exp.Length: (_dated,),
            exp.Like: (_like,),
            exp.Ln: (untyped(guarded(exp.LTE, exp.Null())),),
            exp.Log: (untyped(guarded(exp.LTE, exp.Null())),),
            exp.Mod: (_remainder,),
            exp.Mul: (_arithmetic,),
            exp.Round: (_round,),
            exp.Sqrt: (untyped(guarded(exp.LT, exp.Null())),),
            exp.Sub: (_arithmetic,),
            exp.Substring: (_dated,),
            exp.Typeof: (_typeof,),
            **dict.fromkeys((exp.Union, exp.Except, exp.Intersect), (_mixed,)),
            **dict.fromkeys(_COMPARISONS, (_compared,)),
        },
    ),
    SQLITE_DATES,
    DIVIDES_WHOLE,
    ROWS,
)
