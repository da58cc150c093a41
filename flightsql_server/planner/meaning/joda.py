"""Formats of dates in the letters of Joda and Java, as the engine writes them with % letters."""

from __future__ import annotations

import re

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.building import literal_text
from flightsql_server.planner.names import shown

_JODA = {
    "yyyy": "%Y",
    "YYYY": "%Y",
    "yy": "%y",
    "MMMM": "%B",
    "MMM": "%b",
    "MM": "%m",
    "M": "%-m",
    "dd": "%d",
    "d": "%-d",
    "HH": "%H",
    "H": "%-H",
    "hh": "%I",
    "h": "%-I",
    "mm": "%M",
    "ss": "%S",
    "SSS": "%g",
    "a": "%p",
    "E": "%a",
    "EE": "%a",
    "EEE": "%a",
    "EEEE": "%A",
    "DDD": "%j",
}
_PIECES = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+")


def strftime_pattern(node: exp.Expr | None) -> str:
    """The engine's format for a literal one of Joda; UnsupportedFeature for letters that it has no equal for."""
    pattern = literal_text(node, "A format")
    made = ""
    for found in _PIECES.finditer(pattern):
        piece, quoted = found.group(0), found.group(1)
        if quoted is not None:
            made += quoted.replace("''", "'").replace("%", "%%") or "'"
        elif piece[0].isalpha():
            if piece not in _JODA:
                raise UnsupportedFeature(
                    f"{shown(piece, 20)} in a format is not accepted.", hint="Use date_format with % letters."
                )
            made += _JODA[piece]
        else:
            made += piece.replace("%", "%%")
    return made
