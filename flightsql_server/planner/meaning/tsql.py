"""T-SQL, of SQL Server and Fabric: texts, whole numbers, TOP, APPLY, hints."""

from __future__ import annotations

import re

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning import edges
from flightsql_server.planner.meaning.divisions import DIVIDES_WHOLE
from flightsql_server.planner.meaning.domains import FAILS_OUTSIDE
from flightsql_server.planner.meaning.fetches import RANKED_FETCH
from flightsql_server.planner.meaning.padded import PADDED, stripped
from flightsql_server.planner.meaning.rewriting import Meaning, Rewrite, merged
from flightsql_server.planner.meaning.tsql_casts import CASTS, text_of
from flightsql_server.planner.meaning.tsql_dates import DATES
from flightsql_server.planner.meaning.types import DATES as DAYS
from flightsql_server.planner.meaning.types import DECIMALS, INTEGERS, NUMBERS, TEXTS, Types
from flightsql_server.planner.meaning.writing import (
    bracketed,
    call,
    case,
    cast,
    compared,
    failing,
    is_null,
    number,
    with_texts,
)
from flightsql_server.planner.meaning.writing import text as literal
from flightsql_server.planner.names import fold

_HARMLESS_HINTS = frozenset({"nolock", "readuncommitted", "readcommitted", "readpast", "nowait", "rowlock", "paglock"})
_REGEX_SIGNS = re.compile(r"[.^$*+?{}()|\\\[\]]")


def _add(node: exp.Expr, types: Types) -> exp.Expr | None:
    """``+`` joins texts; beside a number a text is a number."""
    left, right = node.this, node.expression
    texts_of = (edges.is_text(left, types), edges.is_text(right, types))
    nulls = (isinstance(left, exp.Null), isinstance(right, exp.Null))
    if all(one or null for one, null in zip(texts_of, nulls, strict=True)) and any(texts_of):
        first = left.copy() if isinstance(left, exp.DPipe) else bracketed(left)
        return exp.DPipe(this=first, expression=bracketed(right), safe=True)
    for one, other, place in ((left, right, "this"), (right, left, "expression")):
        if edges.is_text(one, types) and types.of(other) in NUMBERS:
            node.set(place, cast(one, "BIGINT" if types.of(other) in INTEGERS else "DOUBLE"))
    return None


def _concat(node: exp.Expr, types: Types) -> exp.Expr | None:
    return with_texts(node, types, text_of)


def _length(node: exp.Expr, types: Types) -> exp.Expr | None:
    """LEN doesn't count the blanks at the end."""
    return exp.Length(this=stripped(node.this))


def _isnull(node: exp.Expr, types: Types) -> exp.Expr | None:
    """ISNULL has the type of its first argument, COALESCE the stronger one of all."""
    if not node.args.get("is_null") or len(node.expressions) != 1:
        return None
    first, second = types.of(node.this), types.of(node.expressions[0])
    other = node.expressions[0]
    if first in INTEGERS and second in NUMBERS - INTEGERS:
        other = cast(call("trunc", other), "BIGINT")
    elif first in TEXTS and second not in TEXTS and second is not None:
        other = cast(text_of(other, types), "VARCHAR")
    elif first in DAYS and second not in DAYS and second is not None:
        other = cast(other, "DATE")
    elif first == exp.DType.BOOLEAN and second in NUMBERS:
        other = cast(other, "BOOLEAN")
    else:
        return None
    return exp.Coalesce(this=node.this.copy(), expressions=[other.copy()])


def _stuff(node: exp.Expr, types: Types) -> exp.Expr | None:
    """NULL where it begins outside of the text."""
    whole, start, length = node.this, node.args["start"], node.args["length"]
    after = exp.Add(this=bracketed(start), expression=bracketed(length))
    head = call("left", whole, exp.Sub(this=bracketed(start), expression=number(1)))
    put = call("coalesce", node.expression, literal(""))
    made = exp.DPipe(this=exp.DPipe(this=head, expression=put), expression=call("substring", whole, after))
    outside = exp.Or(
        this=exp.Or(this=compared(exp.LT, start, number(1)), expression=compared(exp.LT, length, number(0))),
        expression=compared(exp.GT, start, call("length", whole)),
    )
    return case((outside, exp.Null()), otherwise=made)


def _like(node: exp.Expr, types: Types) -> exp.Expr | None:
    """``[a-c]`` and ``[^a]`` in a pattern mean one character of these; the engine knows neither."""
    pattern = node.expression
    known = isinstance(pattern, exp.Literal)
    if known and "[" not in pattern.name:
        return None
    if isinstance(node.parent, exp.Escape):
        if known:
            raise UnsupportedFeature("A pattern with [ and ESCAPE is not accepted.", hint="Write two conditions.")
        return None
    if not known:
        found = call("contains", pattern, literal("["))
        checked = case((found, failing("a pattern that is no literal can't hold [")), otherwise=pattern)
        return exp.Like(this=node.this.copy(), expression=checked)
    return call("regexp_full_match", node.this, literal(_regex(pattern.name)))


def _regex(pattern: str) -> str:
    """A pattern of LIKE as a regular expression for the whole text."""
    out = ["(?s)"]
    at = 0
    while at < len(pattern):
        sign = pattern[at]
        end = pattern.find("]", at + 1) if sign == "[" else -1
        if sign == "[" and end < 0:
            raise UnsupportedFeature("A pattern with an open [ is not accepted.", hint="Close it with ].")
        if end > at:
            inside = pattern[at + 1 : end]
            negated, inside = inside.startswith("^"), inside.removeprefix("^")
            if not inside:
                raise UnsupportedFeature("A pattern with empty brackets is not accepted.", hint="Write a character.")
            quoted = "".join("\\" + c if c in "\\[]^&~" else c for c in inside)
            out.append(f"[{'^' if negated else ''}{quoted}]")
            at = end
        else:
            out.append({"%": ".*", "_": "."}.get(sign, _REGEX_SIGNS.sub(r"\\\g<0>", sign)))
        at += 1
    return "".join(out)


def _average(node: exp.Expr, types: Types) -> exp.Expr | None:
    """The average of whole numbers is a whole number."""
    window = node if isinstance(node, exp.Window) else None
    average = node.this if isinstance(node, exp.Window) else node
    if not isinstance(average, exp.Avg) or (window is None and isinstance(node.parent, (exp.Window, exp.Filter))):
        return None
    argument = average.this.expressions[0] if isinstance(average.this, exp.Distinct) else average.this
    if types.of(argument) not in INTEGERS:
        return None
    parts: list[exp.Expr] = []
    for kind in (exp.Sum, exp.Count):
        part: exp.Expr = kind(this=average.this.copy())
        if window is not None:
            around = window.copy()
            around.set("this", part)
            part = around
        parts.append(part)
    return cast(exp.IntDiv(this=parts[0], expression=parts[1]), "BIGINT")


def _power(node: exp.Expr, types: Types) -> exp.Expr | None:
    """Of the type of its first argument: ``POWER(2, -1)`` is 0."""
    if types.of(node.this) in DECIMALS:
        raise UnsupportedFeature(
            "POWER of a decimal is not accepted, for it is rounded to its digits.", hint="Cast it to float."
        )
    return cast(call("trunc", node), "BIGINT") if types.of(node.this) in INTEGERS else None


def _whole_stays(node: exp.Expr, types: Types) -> exp.Expr | None:
    """FLOOR and CEILING of a whole number are whole numbers."""
    return cast(node, "BIGINT") if types.of(node.this) in INTEGERS else None


def _round(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A third argument other than 0 cuts off instead of rounding."""
    how = node.args.get("truncate")
    if how is None:
        return _whole_stays(node, types)
    if not isinstance(how, exp.Literal):
        raise UnsupportedFeature("ROUND by a computed rule is not accepted.", hint="Write 0 or 1 as the third value.")
    arguments = (node.this, node.args["decimals"])
    made = call("round", *arguments) if how.name == "0" else call("trunc", *arguments)
    return cast(made, "BIGINT") if types.of(node.this) in INTEGERS else made


def _apply(node: exp.Expr) -> exp.Expr | None:
    """CROSS APPLY and OUTER APPLY are joins with LATERAL."""
    lateral = node.this
    if not isinstance(lateral, exp.Lateral) or lateral.args.get("cross_apply") is None:
        return None
    if lateral.args["cross_apply"]:
        node.set("kind", "CROSS")
    else:
        node.set("side", "LEFT")
        node.set("on", exp.true())
    lateral.set("cross_apply", None)
    return None


def _national(node: exp.Expr) -> exp.Expr | None:
    """N'…' is a text like any other here."""
    return literal(node.name)


def _table(node: exp.Expr) -> exp.Expr | None:
    """Hints about locks mean nothing here. A temporary table has a schema instead of a sign in its name."""
    this = node.this
    if isinstance(this, exp.Identifier) and (this.args.get("temporary") or this.args.get("global_")):
        raise UnsupportedFeature("Names that begin with # are not accepted.", hint="Write temp.name for such a table.")
    hints = node.args.get("hints")
    if hints and all(
        isinstance(hint, exp.WithTableHint) and all(fold(word.name) in _HARMLESS_HINTS for word in hint.expressions)
        for hint in hints
    ):
        node.set("hints", None)
    return None


def _group(node: exp.Expr) -> exp.Expr | None:
    """GROUP BY … WITH ROLLUP."""
    rollups = node.args.get("rollup") or []
    if len(rollups) == 1 and not rollups[0].expressions and node.expressions:
        node.set("rollup", [exp.Rollup(expressions=node.expressions)])
        node.set("expressions", [])
    return None


def _choose(node: exp.Expr) -> exp.Expr | None:
    index, *choices = node.expressions
    return exp.Case(
        this=index.copy(),
        ifs=[exp.If(this=number(place), true=choice.copy()) for place, choice in enumerate(choices, 1)],
    )


def _renamed(kind: type[exp.Expr]) -> Rewrite:
    return lambda node: kind(this=node.expressions[0].copy()) if len(node.expressions) == 1 else None


def _position(node: exp.Expr, types: Types) -> exp.Expr | None:
    """CHARINDEX from before the first character begins at the first, and finds no empty text."""
    place = node.args.get("position")
    if place is None or (isinstance(place, exp.Literal) and place.name != "0"):
        return None
    new = node.copy()
    new.set("position", call("greatest", place, number(1)))
    return case((is_null(place), exp.Null()), otherwise=new)


ROLLUP = Meaning(syntax={exp.Group: (_group,)})
TSQL = merged(
    RANKED_FETCH,
    ROLLUP,
    Meaning(
        syntax={exp.Join: (_apply,), exp.Table: (_table,), exp.National: (_national,)},
        functions={
            "choose": _choose,
            "nchar": lambda node: exp.Chr(expressions=[item.copy() for item in node.expressions]),
            "stdevp": _renamed(exp.StddevPop),
            "var": _renamed(exp.Variance),
            "varp": _renamed(exp.VariancePop),
        },
        typed={
            exp.Add: (_add,),
            exp.Avg: (_average,),
            exp.Window: (_average,),
            exp.Ceil: (_whole_stays,),
            exp.Coalesce: (_isnull,),
            exp.Concat: (_concat,),
            exp.ConcatWs: (_concat,),
            exp.Floor: (_whole_stays,),
            exp.Length: (_length,),
            exp.Like: (_like,),
            exp.Pow: (_power,),
            exp.Round: (_round,),
            exp.StrPosition: (_position,),
            exp.Stuff: (_stuff,),
            exp.Substring: (edges.window_substring,),
        },
    ),
    *edges.EDGES_FAIL,
    CASTS,
    DATES,
    PADDED,
    FAILS_OUTSIDE,
    DIVIDES_WHOLE,
)
