"""The templates of to_char, to_date and to_timestamp in PostgreSQL and its kin, as formats of the engine."""

from __future__ import annotations

import re

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.texts import call

# Longer patterns stand before their own beginnings; case matters only for the names of days and months.
_NUMBERS = {
    "YYYY": ("%Y", None), "HH24": ("%H", "%-H"), "HH12": ("%I", "%-I"), "IYYY": ("%G", None), "DDD": ("%j", "%-j"),
    "YY": ("%y", None), "MM": ("%m", "%-m"), "DD": ("%d", "%-d"), "HH": ("%I", "%-I"), "MI": ("%M", "%-M"),
    "SS": ("%S", "%-S"), "IW": ("%V", None), "US": ("%f", None), "MS": ("%g", None),
}  # fmt: skip
_WORDS = {
    "MONTH": ("%B", 9, "upper"), "Month": ("%B", 9, ""), "month": ("%B", 9, "lower"),
    "MON": ("%b", 0, "upper"), "Mon": ("%b", 0, ""), "mon": ("%b", 0, "lower"),
    "DAY": ("%A", 9, "upper"), "Day": ("%A", 9, ""), "day": ("%A", 9, "lower"),
    "DY": ("%a", 0, "upper"), "Dy": ("%a", 0, ""), "dy": ("%a", 0, "lower"),
    "AM": ("%p", 0, ""), "PM": ("%p", 0, ""), "am": ("%p", 0, "lower"), "pm": ("%p", 0, "lower"),
}  # fmt: skip
_PARTS = re.compile(
    r'"(?P<text>[^"]*)"|(?P<fill>FM)?(?P<word>' + "|".join(_WORDS) + r")|"
    r"(?P<fill2>FM)?(?P<number>(?i:" + "|".join(_NUMBERS) + r"))|"
    r"(?P<fill3>FM)?(?P<other>ID|Q|D)|(?P<plain>[^A-Za-z\"\\]+)"
)  # fmt: skip
# What is read: only patterns of a fixed width, with signs between them.
_READ = {
    "YYYY": "%Y", "MM": "%m", "DD": "%d", "HH24": "%H", "HH12": "%I", "HH": "%I", "MI": "%M", "SS": "%S", "MON": "%b",
    "MONTH": "%B", "AM": "%p", "PM": "%p", "US": "%f", "MS": "%g",
}  # fmt: skip


_LONGEST = 100


def _refuse(what: str) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"{what} is not accepted in a template.", hint="Accepted: YYYY MM DD HH24 MI SS MS US Mon Month Dy Day Q D IW."
    )


def _template(node: exp.Expr | None, function: str) -> str:
    if not isinstance(node, exp.Literal) or not node.is_string:
        raise UnsupportedFeature(f"{function} needs a template that is a literal.", hint="Write it between quotes.")
    if len(node.name) > _LONGEST:
        raise _refuse("So long a text")
    name: str = node.name
    return name


def written(value: exp.Expr, template: str) -> exp.Expr:
    """A time in this template, as text."""
    pieces: list[exp.Expr] = []
    plain = ""

    def flush() -> None:
        nonlocal plain
        if plain:
            pieces.append(call("strftime", value, plain))
            plain = ""

    at = 0
    while at < len(template):
        found = _PARTS.match(template, at)
        if found is None:
            raise _refuse(f'"{template[at : at + 4]}"')
        at = found.end()
        if re.match(r"(?i)th", template[at:]) and (found["number"] or found["other"]):
            raise _refuse("TH")
        filled = bool(found["fill"] or found["fill2"] or found["fill3"])
        if found["text"] is not None:
            plain += found["text"].replace("%", "%%")
        elif found["word"]:
            code, width, case = _WORDS[found["word"]]
            if not case and (not width or filled):
                plain += code
                continue
            flush()
            piece = call("strftime", value, code)
            piece = call(case, piece) if case else piece
            pieces.append(call("rpad", piece, width, " ") if width and not filled else piece)
        elif found["number"]:
            code, short = _NUMBERS[found["number"].upper()]
            if filled and short is None and found["number"].upper() not in ("YYYY",):
                raise _refuse("FM here")
            plain += short if filled and short else code
        elif found["other"]:
            flush()
            part = {"Q": "quarter", "D": "dow", "ID": "isodow"}[found["other"]]
            number = call("date_part", part, value)
            if found["other"] == "D":
                number = exp.Add(this=number, expression=exp.Literal.number(1))
            pieces.append(exp.cast(number, "TEXT"))
        else:
            plain += found["plain"].replace("%", "%%")
    flush()
    if not pieces:
        return exp.Null()
    joined = pieces[0]
    for piece in pieces[1:]:
        joined = exp.DPipe(this=joined, expression=piece)
    return exp.paren(joined, copy=False) if len(pieces) > 1 else joined


def read_format(template: str) -> str:
    """The engine's format for reading a text that was written with this template."""
    out, at = "", 0
    patterns = sorted(_READ, key=len, reverse=True)
    while at < len(template):
        upper = template[at:].upper()
        pattern = next((one for one in patterns if upper.startswith(one)), None)
        if pattern is None and template[at].isalnum():
            raise _refuse(f'"{template[at : at + 4]}"')
        if pattern is not None and out and out[-1].isalpha() and out[-2:-1] == "%" and "%Y" in out and pattern == "MON":
            raise _refuse("MON straight after another pattern")
        if template[at] in '"\\%':
            raise _refuse("A quote or per cent sign")
        out += _READ[pattern] if pattern else template[at]
        at += len(pattern) if pattern else 1
    if "%Y" not in out:
        raise _refuse("A template without YYYY, which begins in the year 1,")
    return out


def _to_char(node: exp.Expr) -> exp.Expr | None:
    """Of a date or time; of a number it would be an error in the engine, whose strftime takes none."""
    if len(node.expressions) != 2:
        raise UnsupportedFeature("to_char takes a value and a template.", hint="Write both.")
    return written(node.expressions[0], _template(node.expressions[1], "to_char"))


def _to_date(node: exp.Expr) -> exp.Expr | None:
    return exp.cast(_parsed(node), "DATE")


def _to_timestamp(node: exp.Expr) -> exp.Expr | None:
    """Of a number, the seconds since 1970; of a text, the time that it tells by the template."""
    if len(node.expressions) == 1:
        return call("to_timestamp", node.expressions[0])
    return exp.cast(_parsed(node), "TIMESTAMPTZ")


def _parsed(node: exp.Expr) -> exp.Expr:
    if len(node.expressions) != 2:
        raise UnsupportedFeature("A text is read by a template.", hint="Write it as the second argument.")
    return call("strptime", node.expressions[0], read_format(_template(node.expressions[1], "to_date")))


TEMPLATES = Meaning(
    plain=frozenset({"to_char", "to_date", "to_timestamp"}),
    functions={"to_char": _to_char, "to_date": _to_date, "to_timestamp": _to_timestamp},
)
"""to_char, to_date, to_timestamp."""
