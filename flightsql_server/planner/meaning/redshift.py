"""Amazon Redshift: the language of PostgreSQL, with conversions, averages and comparisons of its own."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning import patterns
from flightsql_server.planner.meaning.divisions import DIVIDES_WHOLE
from flightsql_server.planner.meaning.intervals import read_intervals
from flightsql_server.planner.meaning.naming import fold_all_names, name_columns, name_values
from flightsql_server.planner.meaning.numerics import DIVISION, DOMAIN_ERRORS, untyped
from flightsql_server.planner.meaning.patterns import LIKE_ESCAPES
from flightsql_server.planner.meaning.rewriting import Meaning, merged, refused
from flightsql_server.planner.meaning.rows import ROWS
from flightsql_server.planner.meaning.templates import TEMPLATES
from flightsql_server.planner.meaning.texts import call, substring
from flightsql_server.planner.meaning.types import DATES, DECIMALS, FLOATS, INTEGERS, TEXTS, TIMESTAMPS, Types
from flightsql_server.planner.names import fold

_PADDED = frozenset({exp.DType.CHAR, exp.DType.NCHAR, exp.DType.BPCHAR})
_FRACTIONS = {
    **dict.fromkeys(("second", "seconds", "s", "sec", "secs"), "second"),
    **dict.fromkeys(("millisecond", "milliseconds", "ms", "msec", "msecs", "millisec", "millisecs"), "millisecond"),
    **dict.fromkeys(("microsecond", "microseconds", "us", "usec", "usecs", "microsec", "microsecs"), "microsecond"),
}
_SIZES = {"second": "0.000001", "millisecond": "0.001", "microsecond": "1"}


def _whole_average(node: exp.Expr, types: Types) -> exp.Expr | None:
    """An average of whole numbers is a whole number: what is behind the point is dropped."""
    if isinstance(node.parent, (exp.Window, exp.Filter)) and node.arg_key == "this":
        return None
    average: exp.Expr = node
    while isinstance(average, (exp.Window, exp.Filter)):
        average = average.this
    if not isinstance(average, exp.Avg):
        return None
    argument = average.this.expressions[0] if isinstance(average.this, exp.Distinct) else average.this
    type_ = types.of(argument)
    if type_ is None:
        raise UnsupportedFeature("It can't be told whether this averages whole numbers.", hint="Cast what is averaged.")
    if type_ not in INTEGERS:
        return None
    whole = exp.cast(call("trunc", node), "BIGINT")
    types.note(whole, exp.DType.BIGINT)
    return whole


def _cast(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A numeric loses the digits that another type has no place for; they aren't rounded."""
    to, value = node.args["to"], node.this
    type_ = types.of(value)
    exact = type_ in DECIMALS or (isinstance(value, exp.Literal) and not value.is_string)
    if to.this in _PADDED:
        raise UnsupportedFeature("Casts to char(n) are not accepted.", hint="Cast to varchar(n).")
    if to.this in TEXTS:
        if type_ in FLOATS and not exact:
            raise UnsupportedFeature(
                "The digits of a floating-point number as text can't be told.", hint="Cast it to decimal(p, s) before."
            )
        if not to.expressions or not to.expressions[0].name.isdecimal():
            return None
        return exp.Left(this=exp.cast(value.copy(), "TEXT"), expression=to.expressions[0].this.copy())
    if to.this in INTEGERS and exact:
        value.replace(call("trunc", value))
    if to.this in DECIMALS:
        sizes = [size.this.copy() for size in to.expressions] or [exp.Literal.number(18)]
        sizes = sizes if len(sizes) == 2 else [*sizes, exp.Literal.number(0)]
        if exact:
            value.replace(call("trunc", value, sizes[1]))
        to.set("expressions", [exp.DataTypeParam(this=size) for size in sizes])
    return None


def _blank_free(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Literal):
        return exp.Literal.string(node.name.rstrip(" "))
    return call("rtrim", node, " ")


def _given(query: exp.Expr | None) -> list[exp.Expr]:
    """The columns that a query gives, in each of its arms."""
    if isinstance(query, exp.Subquery):
        return _given(query.this)
    if isinstance(query, exp.SetOperation):
        return _given(query.this) + _given(query.expression)
    return [column.unalias() for column in query.expressions] if isinstance(query, exp.Select) else []


def _compared(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Blanks at the end don't count when texts are compared."""
    if isinstance(node, exp.Between):
        parts = [node.this, node.args["low"], node.args["high"]]
    elif isinstance(node, exp.In):
        parts = [node.this, *node.expressions, *_given(node.args.get("query"))]
    else:
        parts = [node.this, node.expression]
    if len(parts) > 1 and types.all_of(TEXTS, *parts):
        for part in parts:
            part.replace(_blank_free(part))
    return None


def _pipe(node: exp.Expr, types: Types) -> exp.Expr | None:
    for part in (node.this, node.expression):
        if types.of(part) in FLOATS and not isinstance(part, exp.Literal):
            raise UnsupportedFeature(
                "The digits of a floating-point number as text can't be told.", hint="Cast it to decimal(p, s) before."
            )
    return None


def _chosen(node: exp.Expr, types: Types) -> exp.Expr | None:
    """``CASE x WHEN 'a'`` compares as well."""
    parts = [node.this, *(one.this for one in node.args["ifs"])] if node.this is not None else []
    if parts and types.all_of(TEXTS, *parts):
        for part in parts:
            part.replace(_blank_free(part))
    return None


def _ilike(node: exp.Expr) -> exp.Expr | None:
    """ILIKE knows small and capital letters of ASCII alone."""
    if isinstance(node.expression, (exp.Any, exp.All)):
        return None
    return patterns.like_ascii(node) if isinstance(node.parent, exp.Escape) else patterns.escaped(node)


def _concat(node: exp.Expr) -> exp.Expr | None:
    """CONCAT is ||: NULL with anything is NULL."""
    first, *others = node.expressions
    joined = first.copy()
    for other in others:
        joined = exp.DPipe(this=joined, expression=other.copy())
    return exp.paren(joined, copy=False)


def _pattern(node: exp.Expr) -> exp.Expr:
    return exp.Literal.string(patterns.checked(node, extracts=True, ascii_letters=True))


def _plain_arguments(node: exp.Expr, most: int) -> list[exp.Expr]:
    arguments: list[exp.Expr] = node.expressions
    if not 2 <= len(arguments) <= most:
        name = fold(node.name)[: len(node.name)].rstrip("\ufdd0")
        raise UnsupportedFeature(f"{name} is accepted with up to {most} arguments.", hint="Leave out the others.")
    return arguments


def _replaced(node: exp.Expr) -> exp.Expr | None:
    """Every match is replaced, by nothing if nothing is named."""
    arguments = _plain_arguments(node, 3)
    by = arguments[2] if len(arguments) == 3 else exp.Literal.string("")
    if not isinstance(by, exp.Literal) or "$" in by.name or "\\" in by.name:
        raise UnsupportedFeature("A replacement must be plain text here.", hint="Write it without $ and backslash.")
    return call("regexp_replace", arguments[0], _pattern(arguments[1]), by, "gs")


def _substr(node: exp.Expr) -> exp.Expr | None:
    """What is matched first; the empty text where nothing is."""
    arguments = _plain_arguments(node, 2)
    return call("regexp_extract", arguments[0], _pattern(arguments[1]), 0, "s")


def _count(node: exp.Expr) -> exp.Expr | None:
    arguments = _plain_arguments(node, 2)
    return call("len", call("regexp_extract_all", arguments[0], _pattern(arguments[1]), 0, "s"))


def _position(node: exp.Expr) -> exp.Expr | None:
    text, pattern = _plain_arguments(node, 2)[0], _pattern(node.expressions[1])
    before = exp.Bracket(
        this=call("string_split_regex", text, pattern, "s"), expressions=[exp.Literal.number(1)], offset=1
    )
    found = exp.Add(this=call("length", before), expression=exp.Literal.number(1))
    missing = exp.and_(exp.Is(this=text.copy(), expression=exp.Null()).not_(), copy=False)
    matched = call("regexp_matches", text, pattern, "s")
    return exp.Case().when(matched, found).when(missing, exp.Literal.number(0))


def _matches(node: exp.Expr) -> exp.Expr | None:
    pattern = exp.Literal.string(patterns.checked(node.expression, ascii_letters=True))
    return call("regexp_matches", node.this, pattern, "s")


def _extract(node: exp.Expr) -> exp.Expr | None:
    """EXTRACT gives one part alone: milliseconds without the seconds, and all as whole numbers."""
    part = _FRACTIONS.get(fold(node.name))
    if part in ("millisecond", "microsecond"):
        return exp.paren(exp.Mod(this=call("date_part", part, node.expression), expression=exp.Literal.number(1000)))
    return None


def _date_part(node: exp.Expr) -> exp.Expr | None:
    """DATE_PART gives the seconds with all that is behind the point, in whichever unit."""
    if len(node.expressions) != 2:
        raise UnsupportedFeature("date_part takes a part and a time.", hint="Write both.")
    word, value = node.expressions
    part = _FRACTIONS.get(fold(word.name))
    if part is None:
        return exp.cast(exp.Extract(this=exp.var(word.name.upper()), expression=value.copy()), "DOUBLE")
    exact = call("date_part", "microsecond", value)
    return exp.paren(exp.Mul(this=exact, expression=exp.Literal.number(_SIZES[part])), copy=False)


def _add_months(node: exp.Expr) -> exp.Expr | None:
    """The last day of a month goes to the last day of another one."""
    if len(node.expressions) != 2:
        raise UnsupportedFeature("add_months takes a date and a number.", hint="Write both.")
    date, months = node.expressions
    time = exp.cast(date.copy(), "TIMESTAMP")
    moved = exp.Add(this=time, expression=call("to_months", months))
    day = exp.cast(time.copy(), "DATE")
    last = exp.EQ(this=day, expression=call("last_day", time))
    to_last = exp.Add(
        this=exp.cast(call("last_day", moved), "TIMESTAMP"),
        expression=exp.paren(exp.Sub(this=time.copy(), expression=call("date_trunc", "day", time)), copy=False),
    )
    return exp.Case().when(last, to_last).else_(moved.copy())


def _week_difference(node: exp.Expr) -> exp.Expr | None:
    unit = node.args.get("unit")
    if unit is not None and fold(unit.name) in ("week", "weeks", "w"):
        raise UnsupportedFeature("DATEDIFF in weeks is not accepted.", hint="Count days, and divide by 7.")
    return None


def _date_argument(node: exp.Expr) -> exp.Expr | None:
    if isinstance(node.this, exp.Literal):
        node.this.replace(exp.cast(node.this.copy(), "DATE"))
    return None


def _trunc(node: exp.Expr, types: Types) -> exp.Expr | None:
    """TRUNC of a time is its date."""
    if types.of(node.this) in TIMESTAMPS | DATES:
        return exp.cast(node.this.copy(), "DATE")
    return None


def _column_of_table(node: exp.Expr) -> exp.Expr | None:
    kind = node.args.get("kind")
    if isinstance(kind, exp.DataType) and kind.this == exp.DType.DECIMAL and len(kind.expressions) < 2:
        digits = kind.expressions[0].this.copy() if kind.expressions else exp.Literal.number(18)
        sizes = [digits, exp.Literal.number(0)]
        kind.set("expressions", [exp.DataTypeParam(this=size) for size in sizes])
    return None


def _name_columns(tree: exp.Expr, text: str) -> exp.Expr:
    return name_columns(tree, text, {"date_part": "pgdate_part", "datediff": "date_diff"})


_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between, exp.In)

REDSHIFT = merged(
    Meaning(
        tokens=(read_intervals,),
        prepare=(fold_all_names, _name_columns, name_values),
        plain=frozenset(
            {
                "add_months",
                "date_part",
                "pgdate_part",
                "regexp_count",
                "regexp_instr",
                "regexp_replace",
                "regexp_substr",
            }
        ),
        functions={
            "add_months": _add_months,
            "date_part": _date_part,
            "octet_length": lambda node: call("strlen", *node.expressions),
            "pgdate_part": _date_part,
            "regexp_count": _count,
            "regexp_instr": _position,
            "regexp_replace": _replaced,
            "regexp_substr": _substr,
        },
        syntax={
            exp.ColumnDef: (_column_of_table,),
            exp.Concat: (_concat,),
            exp.Extract: (_extract,),
            exp.ILike: (_ilike,),
            exp.LastDay: (_date_argument,),
            exp.NextDay: (_date_argument,),
            exp.RegexpLike: (_matches,),
            exp.RegexpILike: (refused("~*"),),
            exp.SimilarTo: (patterns.similar,),
            exp.TsOrDsDiff: (_week_difference,),
        },
        typed={
            exp.Avg: (_whole_average,),
            exp.Case: (_chosen,),
            exp.Cast: (_cast,),
            exp.DPipe: (_pipe,),
            exp.Filter: (_whole_average,),
            exp.Substring: (untyped(substring),),
            exp.Trunc: (_trunc,),
            exp.Window: (_whole_average,),
            **dict.fromkeys(_COMPARISONS, (_compared,)),
        },
    ),
    DIVISION,
    DIVIDES_WHOLE,
    DOMAIN_ERRORS,
    TEMPLATES,
    LIKE_ESCAPES,
    ROWS,
)
