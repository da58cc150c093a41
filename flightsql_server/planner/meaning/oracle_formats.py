"""TO_CHAR of Oracle: a date by a format model, piece by piece."""

from __future__ import annotations

import re

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.writing import call, cast, number, operated, text

_PIECE = re.compile(
    r'FM|"[^"]*"|YYYY|IYYY|MONTH|HH24|HH12|FF[36]?|A\.M\.|P\.M\.|YY|RR|MON|DAY|DDD|MM|DD|DY|HH|MI|SS|IW|WW|AM|PM|D|Q|W'
    r"|[-/,.;: ]|.",
    re.IGNORECASE | re.DOTALL,
)
# With leading zeros, and without, as FM asks for.
_CODES = {
    "YYYY": ("%Y", "%Y"),
    "IYYY": ("%G", "%G"),
    "YY": ("%y", "%-y"),
    "RR": ("%y", "%-y"),
    "MM": ("%m", "%-m"),
    "DD": ("%d", "%-d"),
    "DDD": ("%j", "%-j"),
    "HH24": ("%H", "%-H"),
    "HH12": ("%I", "%-I"),
    "HH": ("%I", "%-I"),
    "MI": ("%M", "%-M"),
    "SS": ("%S", "%-S"),
    "FF": ("%f", "%f"),
    "FF3": ("%g", "%g"),
    "FF6": ("%f", "%f"),
    "IW": ("%V", ""),
    "AM": ("%p", "%p"),
    "PM": ("%p", "%p"),
}
_NAMES = {"MONTH": ("%B", 9), "MON": ("%b", 0), "DAY": ("%A", 9), "DY": ("%a", 0)}


def date_text(value: exp.Expr, format_: str) -> exp.Expr:
    """The date as text. UnsupportedFeature for what the format may hold but isn't known here."""
    when = cast(value, "TIMESTAMP")
    pieces: list[exp.Expr] = []
    run = ""
    filled = True
    for found in _PIECE.finditer(format_):
        word = found.group(0)
        key = word.upper()
        if key == "FM":
            filled = not filled
        elif key in _CODES and _CODES[key][0 if filled else 1]:
            run += _CODES[key][0 if filled else 1]
        elif word[0] == '"' or word in "-/,.;: ":
            run += word.strip('"').replace("%", "%%")
        else:
            piece = _piece(key, word, when, filled)
            pieces += [call("strftime", when, text(run)), piece] if run else [piece]
            run = ""
    if run or not pieces:
        pieces.append(call("strftime", when, text(run)))
    made = pieces[0]
    for piece in pieces[1:]:
        made = exp.DPipe(this=made, expression=piece)
    return made if len(pieces) == 1 else exp.paren(made, copy=False)


def _piece(key: str, word: str, when: exp.Expr, filled: bool) -> exp.Expr:
    """A piece that no code of the engine's writes."""
    if key in _NAMES:
        code, width = _NAMES[key]
        name = call("strftime", when, text(code))
        if word.isupper():
            name = call("upper", name)
        elif word.islower():
            name = call("lower", name)
        return call("rpad", name, number(width), text(" ")) if width and filled else name
    if key == "Q":
        return cast(call("quarter", when), "VARCHAR")
    if key == "D":
        return cast(operated(exp.Add, call("dayofweek", when), number(1)), "VARCHAR")
    if key == "W":
        return cast(_weeks(call("day", when)), "VARCHAR")
    if key == "WW" and filled:
        return call("lpad", cast(_weeks(call("dayofyear", when)), "VARCHAR"), number(2), text("0"))
    raise UnsupportedFeature(
        "This format of a date is not accepted.",
        hint="Known are YYYY, YY, MM, MON, MONTH, DD, DDD, D, DY, DAY, HH24, HH, MI, SS, FF, AM, Q, W, WW, IW and FM.",
    )


def _weeks(day: exp.Expr) -> exp.Expr:
    """Weeks of seven days from the first day of the month or year, which is in week 1."""
    before = exp.paren(exp.Sub(this=day, expression=number(1)), copy=False)
    return operated(exp.Add, exp.IntDiv(this=before, expression=number(7)), number(1))
