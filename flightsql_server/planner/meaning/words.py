"""Words that the parser would misread, and how they are put before it sees them."""

from __future__ import annotations

from sqlglot.tokenizer_core import Token, TokenType

from flightsql_server.planner.dialect import MARK

_TYPE_WORDS = frozenset({"date", "time", "timestamp", "timestamptz", "timetz", "datetime"})
_ZONE_WORDS = frozenset({"with", "without", "time", "zone"})


def like(token: Token, kind: TokenType, text: str) -> Token:
    """A token of another kind that stands where this one stands."""
    return Token(kind, text, token.line, token.col, token.start, token.end, [])


def bracket_typed_literals(tokens: list[Token]) -> list[Token]:
    """``DATE '2026-01-02'::text`` as ``(DATE '2026-01-02')::text``.

    The parser would take the second cast for the first one's argument, so that the result were a date.
    """
    out: list[Token] = []
    for at, token in enumerate(tokens):
        out.append(token)
        if token.token_type != TokenType.STRING or at + 1 >= len(tokens):
            continue
        if tokens[at + 1].token_type != TokenType.DCOLON:
            continue
        start = len(out) - 1
        while start > 0 and out[start - 1].text.lower() in _ZONE_WORDS:
            start -= 1
        if start > 0 and out[start - 1].text.lower() in _TYPE_WORDS:
            start -= 1
        if start == len(out) - 1 or out[start].token_type in (TokenType.STRING, TokenType.IDENTIFIER):
            continue
        out.insert(start, like(out[start], TokenType.L_PAREN, "("))
        out.append(like(token, TokenType.R_PAREN, ")"))
    return out


def keep_plain(tokens: list[Token], names: frozenset[str]) -> list[Token]:
    """Tokens in which the calls of these functions are marked, so that the parser leaves them as they are written."""
    out = list(tokens)
    for at, token in enumerate(tokens[:-1]):
        quoted = token.token_type in (TokenType.STRING, TokenType.IDENTIFIER)
        if not quoted and tokens[at + 1].token_type == TokenType.L_PAREN and token.text.lower() in names:
            out[at] = like(token, TokenType.VAR, token.text + MARK)
    return out
