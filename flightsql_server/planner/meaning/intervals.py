"""Intervals as PostgreSQL and its kin read them, and the parts of times that they take with extract and date_trunc."""

from __future__ import annotations

import re
from decimal import Decimal

from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.texts import call
from flightsql_server.planner.meaning.words import like

_SIMPLE = re.compile(r"\s*-?\d+\s*(?:year|month|week|day|hour|minute|second)s?\s*", re.IGNORECASE)
_FIELD = re.compile(r"(?:year|month|day|hour|minute|second)s?|to", re.IGNORECASE)
_PART = re.compile(r"\s*(?:(?P<sign>[+-])?(?P<h>\d+):(?P<m>\d+)(?::(?P<s>\d+(?:\.\d+)?))?|"
                   r"(?P<years>[+-]?\d+)-(?P<months>\d+)|(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*(?P<unit>[a-z]*))"
                   r"\s*", re.IGNORECASE)  # fmt: skip
_MICROSECONDS = {"second": 1_000_000, "minute": 60_000_000, "hour": 3_600_000_000}
_MONTHS = {"month": 1, "year": 12, "decade": 120, "century": 1200, "millennium": 12000}
_DAYS = {"day": 1, "week": 7}
_UNITS = {
    "us": "microsecond", "usec": "microsecond", "usecs": "microsecond", "microseconds": "microsecond",
    "ms": "millisecond", "msec": "millisecond", "msecs": "millisecond", "milliseconds": "millisecond",
    "s": "second", "sec": "second", "secs": "second", "m": "minute", "min": "minute", "mins": "minute",
    "h": "hour", "hr": "hour", "hrs": "hour", "d": "day", "w": "week", "mon": "month", "mons": "month",
    "y": "year", "yr": "year", "yrs": "year", "decades": "decade", "centuries": "century", "millennia": "millennium",
}  # fmt: skip


def canonical(text: str) -> str:
    """The same interval in months, days and microseconds, which every engine reads in one way."""
    if _SIMPLE.fullmatch(text):
        return text
    rest, ago = text, False
    if text.strip().lower().endswith("ago"):
        rest, ago = text.strip()[:-3], True
    months, days, micros = Decimal(0), Decimal(0), Decimal(0)
    at, parts = 0, 0
    while at < len(rest):
        found = _PART.match(rest, at)
        if found is None or (found["number"] and not found["unit"] and found.end() == len(rest) and parts):
            raise _unread(text)
        at, parts = found.end(), parts + 1
        if found["h"]:
            size = Decimal(int(found["h"]) * 3600 + int(found["m"]) * 60) + Decimal(found["s"] or 0)
            micros += size * 1_000_000 * (-1 if found["sign"] == "-" else 1)
        elif found["years"]:
            sign = -1 if found["years"].startswith("-") else 1
            months += int(found["years"]) * 12 + sign * int(found["months"])
        else:
            more = _of_unit(Decimal(found["number"]), found["unit"].lower(), at == len(rest), text)
            months, days, micros = months + more[0], days + more[1], micros + more[2]
    if not parts:
        raise _unread(text)
    sign = -1 if ago else 1
    found_parts = ((int(months) * sign, "months"), (int(days) * sign, "days"), (int(micros) * sign, "microseconds"))
    return " ".join(f"{number} {unit}" for number, unit in found_parts if number) or "0 days"


def _of_unit(number: Decimal, word: str, last: bool, text: str) -> tuple[Decimal, Decimal, Decimal]:
    """Months, days and microseconds; what is left of a month goes to days (of 30), of a day to microseconds."""
    unit = _UNITS.get(word) or (word.removesuffix("s") if word else "second" if last else "day")
    zero = Decimal(0)
    if unit in _MONTHS:
        months = number * _MONTHS[unit]
        if months != int(months) and unit != "month":
            raise _unread(text)
        days = (months - int(months)) * 30
        return Decimal(int(months)), Decimal(int(days)), (days - int(days)) * 86_400_000_000
    if unit in _DAYS:
        days = number * _DAYS[unit]
        return zero, Decimal(int(days)), (days - int(days)) * 86_400_000_000
    if unit in _MICROSECONDS:
        return zero, zero, number * _MICROSECONDS[unit]
    if unit in ("microsecond", "millisecond"):
        return zero, zero, number * (1 if unit == "microsecond" else 1000)
    raise _unread(text)


def _unread(text: str) -> UnsupportedFeature:
    return UnsupportedFeature("An interval can't be read.", hint="Write it like '1 day 2 hours', or '1 day 02:00:00'.")


def read_intervals(tokens: list[Token]) -> list[Token]:
    """``INTERVAL '1 day 02:00:00'`` as a cast of the same interval in another form.

    The parser reads the first number and unit of such a text and drops what follows.
    """
    out: list[Token] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        after = tokens[at + 1] if at + 1 < len(tokens) else None
        field = tokens[at + 2] if at + 2 < len(tokens) else None
        if token.token_type == TokenType.INTERVAL and after is not None and after.token_type == TokenType.STRING:
            if field is not None and _FIELD.fullmatch(field.text) and field.token_type != TokenType.STRING:
                if not re.fullmatch(r"\s*-?\d+(?:\.\d+)?\s*", after.text):
                    raise _unread(after.text)
            elif not _SIMPLE.fullmatch(after.text):
                text = like(after, TokenType.STRING, canonical(after.text))
                opening, closing = like(token, TokenType.L_PAREN, "("), like(after, TokenType.R_PAREN, ")")
                out += [opening, text, like(after, TokenType.DCOLON, "::"), token, closing]
                at += 2
                continue
        out.append(token)
        at += 1
    return out


def _cast(node: exp.Expr) -> exp.Expr | None:
    """``'1 day 02:00'::interval``; other texts than literals are left to the engine, which reads fewer forms."""
    if node.args["to"].this == exp.DType.INTERVAL and isinstance(node.this, exp.Literal) and node.this.is_string:
        node.this.replace(exp.Literal.string(canonical(node.this.name)))
    return None


def _part(part: str, value: exp.Expr) -> exp.Expr | None:
    """A part of a time where the engine has it as a whole number; PostgreSQL counts its fraction in."""
    size = {"second": "0.000001", "millisecond": "0.001"}.get(part.lower().removesuffix("s"))
    if size is None:
        return None
    exact = call("date_part", "microsecond", value)
    return exp.paren(exp.Mul(this=exact, expression=exp.Literal.number(size)), copy=False)


def _extract(node: exp.Expr) -> exp.Expr | None:
    return _part(node.name, node.expression)


def _date_part(node: exp.Expr) -> exp.Expr | None:
    part, value = node.expressions if len(node.expressions) == 2 else (None, None)
    if not isinstance(part, exp.Literal) or value is None:
        raise UnsupportedFeature("date_part takes a part that is a literal, and a time.", hint="Use extract.")
    return _part(part.name, value) or call("date_part", part.name.lower(), value)


def _date_trunc(node: exp.Expr) -> exp.Expr | None:
    """Centuries and millennia begin with their year 1; the engine lets them begin with year 0."""
    unit = node.args.get("unit")
    if unit is not None and unit.name.lower() in ("century", "millennium"):
        raise UnsupportedFeature(f"date_trunc to a {unit.name.lower()} is not accepted.", hint="Compute it from year.")
    return None


def _date_bin(node: exp.Expr) -> exp.Expr | None:
    width, value, origin = node.expressions if len(node.expressions) == 3 else (None, None, None)
    if not isinstance(width, (exp.Literal, exp.Cast, exp.Interval)) or value is None or origin is None:
        raise UnsupportedFeature("date_bin takes an interval, a time and an origin.", hint="Write all three.")
    if isinstance(width, exp.Literal):
        width = exp.cast(exp.Literal.string(canonical(width.name)), "INTERVAL")
    return call("time_bucket", width, value, origin)


INTERVALS = Meaning(
    tokens=(read_intervals,),
    plain=frozenset({"date_part", "date_bin"}),
    functions={"date_bin": _date_bin, "date_part": _date_part},
    syntax={
        exp.Cast: (_cast,),
        exp.DateTrunc: (_date_trunc,),
        exp.Extract: (_extract,),
        exp.TimestampTrunc: (_date_trunc,),
    },
)
"""What intervals read like, and the parts of times."""
