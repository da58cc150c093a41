"""Where in the user's own text an error is: line, column and a caret under the word that it is about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType

from flightsql_server.errors import UndefinedColumn, UndefinedFunction, UndefinedTable, UnsupportedFeature, UserError
from flightsql_server.planner import dialect
from flightsql_server.planner.names import did_you_mean, fold

_BEFORE_TABLES = frozenset(
    {TokenType.FROM, TokenType.JOIN, TokenType.COMMA, TokenType.DOT, TokenType.INTO, TokenType.UPDATE, TokenType.TABLE}
)


def point(error: UserError, tokens: Sequence[Token], text: str) -> bool:
    """Adds to the error where its word stands in the text; whether it does stand there."""
    places = [at for at, token in enumerate(tokens) if fold(token.text) == fold(error.word)]
    places = [at for at in places if tokens[at].token_type != TokenType.STRING]
    if not places:
        return False
    best = next((at for at in places if _fits(error, tokens, at)), places[0])
    token = tokens[best]
    column = token.col - (token.end - token.start)
    error.where = f"\n  at line {token.line}, column {column}:{dialect.excerpt(text, token.line, column)}"
    return True


def _fits(error: UserError, tokens: Sequence[Token], at: int) -> bool:
    """Whether the word stands where what the error speaks of would stand."""
    called = at + 1 < len(tokens) and tokens[at + 1].token_type == TokenType.L_PAREN
    if isinstance(error, (UndefinedFunction, UnsupportedFeature)):
        return called
    if isinstance(error, UndefinedTable):
        return at > 0 and tokens[at - 1].token_type in _BEFORE_TABLES
    return not called


def pointed(error: UserError, text: str, dialect_name: str, columns: Iterable[str]) -> UserError:
    """An error of the engine's, about a word of the user's text, with its place and the nearest of the names given.

    Where the text has no such word, the engine speaks of something that was written here: then nothing is told of it.
    """
    try:
        tokens = dialect.split(dialect.named(dialect_name, text), text)
    except TokenError:
        tokens = []
    if not point(error, tokens, text):
        return UndefinedColumn(
            "The statement doesn't fit the columns and functions it names.", hint="Check their names and types."
        )
    if isinstance(error, UndefinedColumn):
        error.hint = did_you_mean(error.word, columns) or error.hint
    return error
