"""The date and time functions of SQLite: a time, then modifiers that change it one after the other."""

from __future__ import annotations

import re
from datetime import date

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.meaning.rewriting import Meaning, settle
from flightsql_server.planner.meaning.texts import call

_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2})(:\d{2}(?:\.\d{1,6})?)?)?")
_STEP = re.compile(r"([+-]?\d+)(\.\d+)? (second|minute|hour|day|month|year)s?", re.IGNORECASE)
_START = re.compile(r"start of (day|month|year)", re.IGNORECASE)
_WEEKDAY = re.compile(r"weekday ([0-6])(?:\.0+)?", re.IGNORECASE)
# Some modifiers write the time twice.
_MOST_MODIFIERS = 6
_KEPT = frozenset("dHjmMSwWY%")
_CODES = re.compile(r"(%.)", re.DOTALL)


def settled(value: exp.Expr, to: str) -> exp.Expr:
    """A cast whose meaning is the engine's: it isn't looked at again as one of the user's."""
    return settle(exp.cast(value, to))


def _made(kind: type[exp.Binary], left: exp.Expr, right: exp.Expr) -> exp.Expr:
    return settle(kind(this=left, expression=right))


def _refuse(what: str) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"{what} is not accepted in a date function.",
        hint="Accepted: a date or time, 'now', '+1 day' and the like, 'start of month', 'weekday 0', 'unixepoch'.",
    )


def _text(node: exp.Expr) -> str | None:
    return node.name if isinstance(node, exp.Literal) and node.is_string else None


def _time(arguments: list[exp.Expr]) -> exp.Expr:
    """The time that the arguments tell, as a timestamp without a zone."""
    value, *modifiers = arguments or [exp.Literal.string("now")]
    words = [_text(modifier) for modifier in modifiers]
    if words and (words[0] or "").lower() == "unixepoch":
        words = words[1:]
        millionth = _made(exp.Mul, settled(value.copy(), "BIGINT"), exp.Literal.number(1_000_000))
        time = call("make_timestamp", millionth)
    else:
        time = _first(value)
    if len(words) > _MOST_MODIFIERS:
        raise _refuse(f"More than {_MOST_MODIFIERS} modifiers")
    for word in words:
        if word is None:
            raise _refuse("A modifier that is not a literal")
        time = _modified(time, word)
    return time


def _first(value: exp.Expr) -> exp.Expr:
    text = _text(value)
    if text is None:
        if isinstance(value, exp.Literal):
            raise _refuse("A number of days")
        return settled(value.copy(), "TIMESTAMP")
    if text.strip().lower() == "now":
        return exp.AtTimeZone(this=exp.CurrentTimestamp(), zone=exp.Literal.string("UTC"))
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise _refuse("This text")
    try:
        date.fromisoformat(found[1])
    except ValueError:
        raise _refuse("A day that no month has") from None
    plain = f"{found[1]} {found[2] or '00:00'}{found[3] or ':00'}"
    return settled(exp.Literal.string(plain), "TIMESTAMP")


def _modified(time: exp.Expr, word: str) -> exp.Expr:
    start = _START.fullmatch(word.strip())
    if start is not None:
        return call("date_trunc", start[1].lower(), time)
    day = _WEEKDAY.fullmatch(word.strip())
    if day is not None:
        ahead = _made(exp.Sub, exp.Literal.number(int(day[1]) + 7), call("date_part", "dow", time))
        days = _made(exp.Mod, exp.paren(ahead, copy=False), exp.Literal.number(7))
        return exp.paren(_made(exp.Add, time, call("to_days", settled(days, "INTEGER"))), copy=False)
    step = _STEP.fullmatch(word.strip())
    if step is None or (step[2] and step[3].lower() != "second"):
        raise _refuse(f'The modifier "{word[:30]}"')
    unit, count = step[3].lower(), int(step[1])
    if unit in ("month", "year"):
        # The day of the month is kept, and runs over into the next one where the month is too short for it.
        month = call("date_trunc", "month", time)
        moved = _made(exp.Add, month, call("to_months", count * (12 if unit == "year" else 1)))
        rest = exp.paren(_made(exp.Sub, time.copy(), month.copy()), copy=False)
        return exp.paren(_made(exp.Add, moved, rest), copy=False)
    if unit == "second" and step[2]:
        amount = call("to_microseconds", round(float(step[1] + step[2]) * 1_000_000))
    else:
        amount = call(f"to_{unit}s", count)
    return exp.paren(_made(exp.Add, time, amount), copy=False)


def _epoch(time: exp.Expr) -> exp.Expr:
    return call("epoch", time)


def _unixepoch(node: exp.Expr) -> exp.Expr | None:
    return settled(call("floor", _epoch(_time(node.expressions))), "BIGINT")


def _julianday(node: exp.Expr) -> exp.Expr | None:
    days = _made(exp.Div, _epoch(_time(node.expressions)), exp.Literal.number("86400e0"))
    return exp.paren(_made(exp.Add, days, exp.Literal.number("2440587.5e0")), copy=False)


def _strftime(node: exp.Expr) -> exp.Expr | None:
    if not node.expressions or _text(node.expressions[0]) is None:
        raise _refuse("A format that is not a literal")
    time = _time(node.expressions[1:])
    pieces: list[exp.Expr] = []
    plain = ""
    for piece in _CODES.split(node.expressions[0].name):
        if piece == "%s":
            if plain:
                pieces.append(call("strftime", time, plain))
            pieces.append(settled(settled(call("floor", _epoch(time)), "BIGINT"), "TEXT"))
            plain = ""
        elif piece == "%f":
            plain += "%S.%g"
        elif piece.startswith("%") and piece[1:] not in _KEPT:
            raise _refuse(f"The format {piece}")
        else:
            plain += piece
    if plain or not pieces:
        pieces.append(call("strftime", time, plain))
    joined = pieces[0]
    for piece_ in pieces[1:]:
        joined = _made(exp.DPipe, joined, piece_)
    return exp.paren(joined, copy=False) if len(pieces) > 1 else joined


SQLITE_DATES = Meaning(
    plain=frozenset({"date", "datetime", "julianday", "strftime", "time", "unixepoch"}),
    functions={
        "date": lambda node: settled(_time(node.expressions), "DATE"),
        "datetime": lambda node: call("date_trunc", "second", _time(node.expressions)),
        "julianday": _julianday,
        "strftime": _strftime,
        "time": lambda node: call("strftime", _time(node.expressions), "%H:%M:%S"),
        "unixepoch": _unixepoch,
    },
)
"""date() gives a date and datetime() a timestamp, which read as the texts that SQLite gives."""
