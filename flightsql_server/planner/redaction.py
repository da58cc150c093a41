"""A statement without its literals, for those who may know what was asked but not about whom.

Works on tokens, as the planner split them. Of a text that was read but refused, quoted names go as well: they may have
been meant as text. Of one that could not be read, nothing is told from the first sign on that may quote.
"""

from __future__ import annotations

import re

from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import TokenType

from flightsql_server.planner import dialect

HIDDEN = "?"
_LITERALS = frozenset(
    kind for kind in TokenType if kind in (TokenType.NUMBER, TokenType.STRING) or kind.name.endswith("_STRING")
)
_QUOTING = re.compile(r"""['"`\\$#\[{;]|--|/\*|//""")
_NUMBER = re.compile(r"(?<![^\W\d])\d[\w.]*", re.ASCII)
_LIKE_NUMBER = re.compile(r"\$?\d")
# What follows a number without a space is part of it: 1_000, 0xFF, 1e5.
_REST_OF_NUMBER = re.compile(r"[\w.]*")


def redacted(text: str, name: str, read: bool, planned: bool) -> str:
    """The text with ``?`` for each literal and without comments.

    ``read``: the planner found a statement in the whole text; ``planned``: it also took it.
    """
    name = dialect.named(name, text)
    if name not in dialect.dialects() or not (read or planned):
        return _cut(text)
    try:
        return _on_tokens(text, name, names_too=not planned)
    except (TokenError, RecursionError):
        return _cut(text)


def _on_tokens(text: str, name: str, *, names_too: bool) -> str:
    out: list[str] = []
    at = 0
    for token in dialect.split(name, text):
        start, end = token.start, token.end + 1
        if start < at:
            continue  # the rest of a number that was hidden
        if start > at and out:
            out.append(" ")  # spaces, a comment, or both
        literal = token.token_type in _LITERALS or _LIKE_NUMBER.match(text, start) is not None
        if literal or (names_too and token.token_type == TokenType.IDENTIFIER):
            rest = _REST_OF_NUMBER.match(text, end) if literal else None
            at = rest.end() if rest is not None else end
            out.append(HIDDEN)
        else:
            at = end
            out.append(text[start:end])
    return "".join(out)


def _cut(text: str) -> str:
    """What stands before anything that may quote, without its numbers."""
    found = _QUOTING.search(text)
    shown = text if found is None else text[: found.start()] + HIDDEN
    return _NUMBER.sub(HIDDEN, shown)
