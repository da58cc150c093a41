"""CAST and CONVERT of T-SQL: lengths of texts, styles of dates, and numbers that are cut instead of rounded."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.edges import ZONED, fixed_text, to_whole
from flightsql_server.planner.meaning.rewriting import Meaning, refused
from flightsql_server.planner.meaning.types import FLOATS, TEXTS, TIMESTAMPS, Types
from flightsql_server.planner.meaning.writing import call, cast, number, text, whole

_STYLES = {
    1: "%m/%d/%y",
    2: "%y.%m.%d",
    3: "%d/%m/%y",
    4: "%d.%m.%y",
    5: "%d-%m-%y",
    8: "%H:%M:%S",
    10: "%m-%d-%y",
    11: "%y/%m/%d",
    12: "%y%m%d",
    23: "%Y-%m-%d",
    24: "%H:%M:%S",
    101: "%m/%d/%Y",
    102: "%Y.%m.%d",
    103: "%d/%m/%Y",
    104: "%d.%m.%Y",
    105: "%d-%m-%Y",
    106: "%d %b %Y",
    107: "%b %d, %Y",
    108: "%H:%M:%S",
    110: "%m-%d-%Y",
    111: "%Y/%m/%d",
    112: "%Y%m%d",
    120: "%Y-%m-%d %H:%M:%S",
}
_DEFAULT_LENGTH = 30
_NAMES_OF_PARTS = frozenset({"%A", "%B", "%Y"})
_TYPES = {
    exp.DType.BIT: "BOOLEAN",
    exp.DType.FLOAT: "DOUBLE",
    exp.DType.MONEY: "DECIMAL(19, 4)",
    exp.DType.SMALLMONEY: "DECIMAL(10, 4)",
}


def _convert(node: exp.Expr) -> exp.Expr | None:
    """``CONVERT(type, value, style)``: a style is a format of a date, where one of the two is a text."""
    to, value, style = node.this, node.expression, node.args.get("style")
    kind = exp.TryCast if node.args.get("safe") else exp.Cast
    if style is None:
        return kind(this=value.copy(), to=to.copy())
    format_ = _STYLES.get(whole(style) or 0)
    if format_ is None:
        raise UnsupportedFeature(
            "This style of CONVERT is not accepted.",
            hint=f"Accepted are {', '.join(map(str, sorted(_STYLES)))}; or use FORMAT.",
        )
    if to.this in TEXTS:
        return kind(this=exp.TimeToStr(this=value.copy(), format=text(format_)), to=to.copy())
    if kind is exp.TryCast:
        raise UnsupportedFeature("TRY_CONVERT with a style is not accepted.", hint="Use CONVERT, or TRY_CAST.")
    return kind(this=exp.StrToTime(this=value.copy(), format=text(format_)), to=to.copy())


def text_of(node: exp.Expr, types: Types) -> exp.Expr:
    """The text that T-SQL makes of a value without being asked how; the node itself if the engine makes the same."""
    kind = types.of(node)
    if kind == exp.DType.BOOLEAN:
        return cast(cast(node, "INT"), "VARCHAR")
    if kind in FLOATS and not isinstance(node, exp.Literal):
        raise UnsupportedFeature(
            "A floating-point number as text is not accepted.", hint="Cast it to DECIMAL first, or use FORMAT."
        )
    if kind in ZONED:
        raise UnsupportedFeature("A time with a zone as text is not accepted.", hint="Use CONVERT with a style.")
    if kind in TIMESTAMPS:
        digits = call("strftime", node, text("%Y-%m-%d %H:%M:%S.%f"))
        return exp.DPipe(this=digits, expression=text("0"))
    return node


def _cast(node: exp.Expr, types: Types) -> exp.Expr | None:
    to, value = node.args["to"], node.this
    source = types.of(value)
    if to.this in TEXTS:
        made = text_of(value, types)
        if source not in TEXTS:
            made = cast(made, "VARCHAR")
        largest = bool(to.expressions) and whole(to.expressions[0].this) is None
        return made if largest else fixed_text(node, made, True, _DEFAULT_LENGTH)
    if to.this == exp.DType.DECIMAL and not to.expressions:
        return node.__class__(this=value.copy(), to=exp.DataType.build("DECIMAL(18, 0)"))
    return to_whole(node, types)


def _type(node: exp.Expr) -> exp.Expr | None:
    """BIT is a boolean here, MONEY a decimal number; FLOAT has eight bytes."""
    if node.args["this"] == exp.DType.SMALLDATETIME:
        raise UnsupportedFeature("SMALLDATETIME is not accepted, for it rounds to minutes.", hint="Use DATETIME2.")
    known = _TYPES.get(node.args["this"])
    return exp.DataType.build(known, dialect="duckdb") if known else None


def _is_named(value: exp.Expr) -> bool:
    """Whether the parser has made this of DATENAME, whose numbers have no leading zeros."""
    return isinstance(value, exp.Cast) and value.args["to"].this == exp.DType.DATETIME2


def _formatted(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A format is for dates; a text that is given one stays as it is there, which can't be what was wanted."""
    if _is_named(node.this) and node.args["format"].name not in _NAMES_OF_PARTS:
        raise UnsupportedFeature("DATENAME of this part is not accepted.", hint="Use DATEPART, which is a number.")
    if types.of(node.this) in TEXTS:
        raise UnsupportedFeature("A style or format for a text is not accepted.", hint="Cast it to a date first.")
    return call("strftime", cast(node.this, "TIMESTAMP"), node.args["format"])


def _number(node: exp.Expr, types: Types) -> exp.Expr | None:
    """FORMAT of a number with ``N2`` or ``F2``; other formats are refused where they are written."""
    name = node.args["format"].name
    letter, digits = name[:1].upper(), name[1:] or "2"
    if letter not in ("N", "F") or not digits.isdigit() or len(digits) > 2:
        raise UnsupportedFeature("This format of a number is not accepted.", hint="Write N2 or F2, say.")
    rounded = call(
        "round", cast(node.this, "DOUBLE") if types.of(node.this) is None else node.this, number(int(digits))
    )
    return call("format", text(f"{{:{',' if letter == 'N' else ''}.{int(digits)}f}}"), rounded)


CASTS = Meaning(
    syntax={exp.Convert: (_convert,), exp.DataType: (_type,)},
    functions={"try_parse": refused("TRY_PARSE", "Use TRY_CAST."), "parse": refused("PARSE", "Use CAST.")},
    typed={
        exp.Cast: (_cast,),
        exp.TryCast: (_cast,),
        exp.TimeToStr: (_formatted,),
        exp.NumberToStr: (_number,),
    },
)
