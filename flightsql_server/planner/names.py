"""Names: quoting them, comparing them as the engine does, and suggesting near ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def fold(name: str) -> str:
    """The form in which two names are compared: the engine ignores the case of ASCII letters, and only of those."""
    return name.lower() if name.isascii() else name.translate(_ASCII_LOWER)


def identifier(name: str) -> str:
    """``name`` quoted for the backend, whatever it holds; refuses the empty name and NUL, which no engine takes."""
    if not name or "\x00" in name:
        raise ValueError("a name must not be empty and must not hold NUL")
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | int | None) -> str:
    """``value`` as a literal of the backend."""
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("'", "''") + "'"


def shown(name: str, length: int = 80) -> str:
    """``name`` fit for a message: one line, no control characters, not endless."""
    text = _UNPRINTABLE.sub("�", name)
    return text if len(text) <= length else text[: length - 1] + "…"


def near(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Up to ``count`` of the known names that look like ``name``, best first."""
    by_fold = {fold(candidate): candidate for candidate in sorted(known)}
    return [by_fold[key] for key in difflib.get_close_matches(fold(name)[:64], list(by_fold), n=count, cutoff=0.6)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence with the nearest names, or empty text if none is near."""
    names = near(name, known)
    return f"Did you mean {' or '.join(names)}?" if names else ""
