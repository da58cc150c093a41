"""Patterns and formats: LIKE's escape, printf, and what a format of dates may hold."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.rewriting import Rewrite

_PRINTF = re.compile(r"%(?:%|s|d|0?[0-9]{1,2}d|(?:0?[0-9]{1,2})?\.[0-9]{1,2}f|[xX])")
# The parser marks codes that must have all their digits.
_CODE = re.compile(r"%-?[A-Za-z%](?:strict|_[a-z]+)?")
_GROUP = re.compile(r"\\(.)|\$([0-9])", re.DOTALL)


def backslash_escapes(node: exp.Expr) -> exp.Expr | None:
    """A backslash escapes in LIKE though no ESCAPE says so; the engine has no escape of its own accord."""
    if isinstance(node.parent, exp.Escape):
        return None
    pattern = node.expression
    if isinstance(pattern, exp.Literal) and "\\" not in pattern.name:
        return None
    if isinstance(pattern, (exp.Any, exp.All)):
        if not any(isinstance(part, exp.Literal) and "\\" not in part.name for part in pattern.find_all(exp.Literal)):
            return None
        if any("\\" in part.name for part in pattern.find_all(exp.Literal)):
            raise UnsupportedFeature(
                "LIKE ANY and LIKE ALL with a backslash are not accepted.", hint="Write one LIKE for each pattern."
            )
        return None
    return exp.Escape(this=node.copy(), expression=exp.Literal.string("\\"))


def printed(node: exp.Expr) -> exp.Expr | None:
    """The format of printf; the engine's FORMAT has another."""
    form = node.this
    if not isinstance(form, exp.Literal) or "%" in _PRINTF.sub("", form.name):
        raise UnsupportedFeature(
            "This format of text is not accepted.", hint="Formats may hold %s, %d, %05d, %.2f, %x and %%."
        )
    pieces = _PRINTF.findall(form.name)
    arguments = [
        exp.cast(argument.copy(), exp.DType.TEXT if piece == "%s" else exp.DType.BIGINT)
        if piece[-1] in "sdxX"
        else exp.cast(argument.copy(), exp.DType.DOUBLE)
        for piece, argument in zip((p for p in pieces if p != "%%"), node.expressions, strict=False)
    ]
    if len(arguments) != len(node.expressions) or len(arguments) != sum(p != "%%" for p in pieces):
        raise UnsupportedFeature(
            "A format of text and its values differ in number.", hint="Give one value to each % of the format."
        )
    return exp.Anonymous(this="printf", expressions=[form.copy(), *arguments])


def dollar_groups(node: exp.Expr) -> exp.Expr | None:
    """In the replacement of a regular expression $1 is the first group, which the engine calls \\1."""
    replacement = node.args.get("replacement")
    if replacement is None:
        return None
    if not isinstance(replacement, exp.Literal):
        raise UnsupportedFeature("REGEXP_REPLACE takes its replacement as a literal.", hint="Write the text itself.")
    text = _GROUP.sub(lambda m: ("\\\\" if m[1] == "\\" else m[1]) if m[1] else f"\\{m[2]}", replacement.name)
    if text == replacement.name:
        return None
    new = node.copy()
    new.set("replacement", exp.Literal.string(text))
    return new


def format_kept(letters: str, more: Mapping[str, str]) -> Rewrite:
    """A format of dates is only taken when the parser has understood all of it.

    What it has not understood it leaves as it is: one of ``letters`` beside the codes was meant as a code. ``more``
    are texts that are replaced first: pieces that the parser leaves and the engine knows in its own way.
    """
    stray = re.compile(f"[{letters}]")

    def check(node: exp.Expr) -> exp.Expr | None:
        form = node.args.get("format")
        if form is None:
            return None
        if not isinstance(form, exp.Literal):
            raise UnsupportedFeature("A format of dates must be a literal.", hint="Write the format itself.")
        text: str = form.name
        for piece, code in more.items():
            text = text.replace(piece, code)
        if stray.search(_CODE.sub("", text)):
            raise UnsupportedFeature("This format of dates is not accepted.", hint="Take its unusual parts out.")
        if text == form.name:
            return None
        new = node.copy()
        new.set("format", exp.Literal.string(text))
        return new

    return check
