"""From the writer's dialect to a tree, and from the tree to the engine's dialect."""

from __future__ import annotations

import logging
import re

from sqlglot import exp
from sqlglot.dialects import Dialect, Dialects
from sqlglot.errors import ErrorLevel, ParseError, SqlglotError, TokenError, UnsupportedError
from sqlglot.tokenizer_core import Token, TokenType

from flightsql_server.errors import InvalidParameter, SqlSyntaxError, UnsupportedFeature
from flightsql_server.planner.functions import CLOCK_WORDS, NATIVE
from flightsql_server.planner.names import did_you_mean, shown
from flightsql_server.planner.request import Draft

# The parser warns in the log with pieces of the user's text; what it warns of is refused here by name.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

# Words for types that the engine keeps in the names of columns where the parser knows one word for all of them.
_TYPE_WORDS = frozenset(
    {"text", "string", "char", "bpchar", "varchar", "int1", "int2", "int4", "int8", "short", "long", "signed"}
    | {"hugeint", "int128", "float4", "float8", "real", "decimal", "numeric", "dec"}
)

# Marks a function name that the parser must take as it is. A noncharacter: text that holds it is refused before.
MARK = "\ufdd0"

_OVERRIDE = re.compile(r"\s*--[ \t]*dialect[ \t]*[:=][ \t]*([A-Za-z0-9_]+)[ \t]*(?:\r?\n|$)", re.IGNORECASE)
_EXPECTING = re.compile(r"Expecting [A-Za-z0-9_ (),.\[\]]{1,20}$")
_INTERVAL_UNIT = re.compile(
    r"(?:year|quarter|month|week|day|hour|minute|second|millisecond|microsecond|decade|centur(?:y|ie)|millenni(?:um|a))s?$",
    re.IGNORECASE,
)
_ESCAPE_STRINGS = frozenset({"duckdb", "postgres", "redshift", "materialize", "risingwave"})
_NOT_OURS = {"", "dax", "prql", "solr", "tableau"}
_DIALECTS: dict[str, Dialect] = {
    name: Dialect.get_or_raise(name) for name in sorted(d.value for d in Dialects) if name not in _NOT_OURS
}
# sqlglot puts NULL last in Exasol's descending orders too; there it counts as larger than anything.
_DIALECTS["exasol"].NULL_ORDERING = "nulls_are_large"
# Drill's manual has NULL above all values; the parser would put it last in both directions.
_DIALECTS["drill"].NULL_ORDERING = "nulls_are_large"


def dialects() -> tuple[str, ...]:
    """Every input dialect this server takes, sorted."""
    return tuple(_DIALECTS)


def choose(draft: Draft) -> None:
    """Rule: the dialect is the one that the first line names, else the request's; an unknown one is refused."""
    name = named(draft.request.dialect, draft.text)
    if name not in _DIALECTS:
        raise InvalidParameter(
            f'There is no SQL dialect "{shown(name)}".',
            hint=did_you_mean(name, _DIALECTS) or f"Choose one of: {', '.join(_DIALECTS)}.",
        )
    draft.dialect = name


def named(default: str, text: str) -> str:
    """The dialect of a text: the one that its first line names, else ``default``."""
    override = _OVERRIDE.match(text)
    return (override.group(1) if override else default).lower()


def tokenize(draft: Draft) -> None:
    """Rule: split the text into tokens; what can't be split (an open quote) is a syntax error."""
    try:
        draft.tokens = split(draft.dialect, draft.text)
    except TokenError:
        raise SqlSyntaxError(
            f"The text does not read as {draft.dialect}: a quote, comment or name is not closed.",
            hint="Check the quotes, or name another dialect in a first line like: -- dialect: postgres",
        ) from None


def parse(draft: Draft) -> None:
    """Rule: one statement's tokens become one tree; a syntax error says where, in the user's text."""
    dialect = _DIALECTS[draft.dialect]
    tokens = _keep_native(draft.tokens) if draft.native and draft.dialect == "duckdb" else draft.tokens
    try:
        trees = dialect.parser(error_level=ErrorLevel.IMMEDIATE).parse(tokens, draft.text)
    except ParseError as error:
        raise _syntax_error(draft, error) from None
    except RecursionError:
        raise
    except Exception:  # The parser trips over some wrong texts; whatever it was, the text is not one we can read.
        raise SqlSyntaxError(
            f"The statement can't be read as {draft.dialect}.", hint="Check its syntax, or simplify it."
        ) from None
    if len(trees) != 1 or trees[0] is None:
        raise SqlSyntaxError("The text is not one statement.", hint="Send one statement per call.")
    draft.tree = trees[0]
    for identifier in draft.root.find_all(exp.Identifier):
        identifier._meta = None  # where it stood, which nobody asks; each copy of a tree would copy it slowly


def view_query(definition: str) -> exp.Expr:
    """The query of a view, from the statement that made it, which was written here and is in the engine's dialect."""
    dialect = _DIALECTS["duckdb"]
    tokens = _keep_native(_without_brackets_of_lambdas(split("duckdb", definition)))
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    (tree,) = dialect.parser(error_level=ErrorLevel.IMMEDIATE).parse(tokens, definition)
    for node in tree.walk():
        for part, value in node.args.items():
            if isinstance(value, str) and MARK in value:
                node.set(part, value.replace(MARK, ""))
    query: exp.Expr = tree.expression
    return query


def _without_brackets_of_lambdas(tokens: list[Token]) -> list[Token]:
    """The engine writes ``f(l, (lambda x: x))`` into the definition of a view; the parser reads it without brackets."""
    kept: list[Token] = []
    brackets: list[bool] = []
    for token, follower in zip(tokens, [*tokens[1:], None], strict=True):
        if token.token_type == TokenType.L_PAREN:
            is_lambda = follower is not None and follower.token_type == TokenType.VAR
            brackets.append(is_lambda and follower is not None and follower.text.lower() == "lambda")
            if brackets[-1]:
                continue
        elif token.token_type == TokenType.R_PAREN and brackets and brackets.pop():
            continue
        kept.append(token)
    return kept


def generate(draft: Draft) -> None:
    """Rule: write the tree in the engine's dialect; what has no equal there is refused by name."""
    draft.sql = written(draft, draft.root)


def written(draft: Draft, tree: exp.Expr | None) -> str:
    """A tree in the engine's dialect; empty for None. UnsupportedFeature for what has no equal there."""
    if tree is None:
        return ""
    dialect = _DIALECTS[draft.request.backend_dialect]
    options = {
        "comments": False,
        "normalize_functions": False if draft.native else None,
        "unsupported_level": ErrorLevel.RAISE,
    }
    keep_qualified(tree)
    try:
        text: str = dialect.generator(**options).generate(tree, copy=False)
        return text
    except UnsupportedError as error:
        reason = shown(str(error).split("\n")[0], 120)
        raise UnsupportedFeature(
            f"The statement can't be translated from {draft.dialect}: {reason}.".replace("..", "."),
            hint="Write this part another way.",
        ) from None
    except RecursionError:
        raise
    except (SqlglotError, ValueError, TypeError, AttributeError, KeyError, IndexError, AssertionError):
        # The generator trips over odd trees (a missing argument, say); such a statement has no translation.
        raise untranslatable(draft) from None


def keep_qualified(tree: exp.Expr) -> None:
    """Puts the qualified columns inside of a PIVOT's query into a form that the generator leaves alone.

    It takes the tables off every column below a PIVOT, so that ``a.x = b.x`` of a query there would become ``x = x``.
    """
    for pivot in tree.find_all(exp.Pivot):
        for part in (pivot.args.get("this"), pivot.args.get("with_")):
            for column in list(part.find_all(exp.Column)) if part is not None else ():
                if column.table:
                    column.replace(exp.Dot.build([piece.copy() for piece in column.parts]))


def written_tokens(draft: Draft) -> list[Token]:
    """The generated text, split as the engine's dialect splits it."""
    try:
        return split(draft.request.backend_dialect, draft.sql)
    except TokenError:
        raise untranslatable(draft) from None


def untranslatable(draft: Draft) -> UnsupportedFeature:
    """The refusal of a statement for which no part can be named."""
    return UnsupportedFeature(f"The statement can't be translated from {draft.dialect}.", hint="Write it another way.")


def unescape(draft: Draft, node: exp.ByteString) -> None:
    """Turns E'...' into a plain string, its escapes resolved; where such a string means bytes, it is refused."""
    if draft.dialect not in _ESCAPE_STRINGS:
        raise UnsupportedFeature("Literals of bytes are not accepted.", hint="Decode them from base64 or hex.")
    node.replace(exp.Literal.string(node.name))


def split(dialect: str, text: str) -> list[Token]:
    """The text's tokens; TokenError where it has none."""
    tokens: list[Token] = _DIALECTS[dialect].tokenize(text)
    return tokens


def _keep_native(tokens: list[Token]) -> list[Token]:
    """Tokens in which plain function names are marked, so that the parser builds them without rewriting them.

    Text and engine speak the same dialect here, so a rewritten function (LIST to ARRAY_AGG, RANGE(3) to RANGE(0, 3))
    could only change the result's column names, or worse, its meaning. Intervals are kept in the form they have for
    the same reason: ``INTERVAL 1 DAY`` and ``INTERVAL '1 day'`` name their columns differently. So are words for
    types, and what stands behind an arrow: ``j -> 'a.b'`` is a key, and no path.
    """
    tokens = _keep_lists(tokens)
    kept: list[Token] = []
    casts: list[bool] = []
    count = len(tokens)
    at = 0
    while at < count:
        token = tokens[at]
        before = tokens[at - 1] if at else None
        follower = tokens[at + 1] if at + 1 < count else None
        if token.token_type == TokenType.L_PAREN:
            casts.append(before is not None and before.text.lower() in ("cast", "try_cast"))
        elif token.token_type == TokenType.R_PAREN and casts:
            casts.pop()
        if _is_type(token, before, follower, bool(casts and casts[-1])):
            token = _like(token, TokenType.VAR, token.text + MARK)
        elif token.token_type in (TokenType.ARROW, TokenType.DARROW) and follower is not None:
            if follower.token_type == TokenType.STRING:
                opened, closed = _like(follower, TokenType.L_PAREN, "("), _like(follower, TokenType.R_PAREN, ")")
                kept += [token, opened, follower, closed]
                at += 2
                continue
        elif follower is not None and follower.token_type == TokenType.L_PAREN:
            if _keeps_name(token, before):
                token = _like(token, TokenType.VAR, token.text + MARK)
        elif follower is not None and token.token_type == TokenType.INTERVAL:
            after = tokens[at + 2] if at + 2 < count else None
            unit = after is not None and _INTERVAL_UNIT.match(after.text) is not None
            if follower.token_type == TokenType.NUMBER and unit:
                kept += [
                    token,
                    _like(follower, TokenType.L_PAREN, "("),
                    follower,
                    _like(follower, TokenType.R_PAREN, ")"),
                ]
                at += 2
                continue
            if follower.token_type == TokenType.STRING and not unit:
                kept += [follower, _like(token, TokenType.DCOLON, "::"), token]
                at += 2
                continue
        kept.append(token)
        at += 1
    return kept


def _keep_lists(tokens: list[Token]) -> list[Token]:
    """``x IN [1, NULL]`` looks into a list, which is not IN (1, NULL): the list gets brackets of its own."""
    if not any(token.token_type == TokenType.IN for token in tokens):
        return tokens
    kept: list[Token] = []
    open_lists: list[bool] = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.token_type == TokenType.L_BRACKET:
            open_lists.append(before is not None and before.token_type == TokenType.IN)
            if open_lists[-1]:
                kept += [_like(token, TokenType.L_PAREN, "("), _like(token, TokenType.L_PAREN, "(")]
        kept.append(token)
        if token.token_type == TokenType.R_BRACKET and open_lists and open_lists.pop():
            kept += [_like(token, TokenType.R_PAREN, ")"), _like(token, TokenType.R_PAREN, ")")]
    return kept


def _keeps_name(token: Token, before: Token | None) -> bool:
    """Whether what stands before an opening bracket is a function whose name the parser must not change."""
    name = token.text.lower()
    if token.token_type == TokenType.STRING:
        return False
    if name == "filter":
        return before is None or before.token_type != TokenType.R_PAREN
    return name in NATIVE or name == "if"


def _is_type(token: Token, before: Token | None, follower: Token | None, in_cast: bool) -> bool:
    """Whether the token is a plain word for a type: behind ``::``, or behind AS in a CAST."""
    if before is None or token.text.lower() not in _TYPE_WORDS or token.token_type == TokenType.STRING:
        return False
    if follower is not None and follower.token_type in (TokenType.L_PAREN, TokenType.L_BRACKET):
        return False
    return before.token_type == TokenType.DCOLON or (in_cast and before.token_type == TokenType.ALIAS)


def keep_native_node(draft: Draft, node: exp.Expr) -> None:
    """Puts what the parser has changed of one node back into the form that the user wrote, for native statements."""
    if isinstance(node, exp.Identifier):
        if MARK in node.this and not node.this.startswith(MARK):
            node.set("this", node.this.replace(MARK, ""))
    elif isinstance(node, exp.DataType):
        kind = node.args.get("kind")
        if isinstance(kind, str) and MARK in kind:
            node.set("kind", kind.replace(MARK, ""))
        # The parser reads VARCHAR and TEXT as one type, but the engine names result columns by the word.
        if node.this == exp.DType.TEXT and not node.expressions and "varchar" in draft.text.lower():
            node.set("this", exp.DType.USERDEFINED)
            node.set("kind", "VARCHAR")
    elif isinstance(node, exp.In):
        inside = node.expressions[0] if len(node.expressions) == 1 else None
        if isinstance(inside, exp.Paren) and isinstance(inside.this, exp.Array):
            node.set("expressions", None)
            node.set("field", inside.this)
    elif isinstance(node, exp.Distinct):
        _keep_distinct(node)
    elif isinstance(node, exp.Extract):
        if isinstance(node.this, exp.Var):
            _keep_extract(draft, node)
    elif isinstance(node, exp.Not):
        inner = node.this
        if isinstance(inner, exp.Is) and isinstance(inner.expression, (exp.Null, exp.Boolean)):
            inner.set("expression", exp.Not(this=inner.expression))
            node.replace(inner)


def _keep_distinct(node: exp.Expr) -> None:
    """``string_agg(DISTINCT a, ',')`` is distinct in its first argument only."""
    first, rest = node.expressions[:1], node.expressions[1:]
    above = node.parent
    ordered = above if isinstance(above, exp.Order) else None
    call = ordered.parent if ordered is not None else above
    if not rest or not isinstance(call, exp.Anonymous):
        return
    node.set("expressions", first)
    if ordered is not None:
        ordered.set("this", rest.pop())
        call.set("expressions", [node, *rest, ordered])
    else:
        call.set("expressions", [node, *rest])


def _keep_extract(draft: Draft, node: exp.Expr) -> None:
    """Writes the part that EXTRACT takes as the user did."""
    for token, bracket, part in zip(draft.tokens, draft.tokens[1:], draft.tokens[2:], strict=False):
        called = token.text.lower() == "extract" and bracket.token_type == TokenType.L_PAREN
        if called and part.text.upper() == node.this.name and part.text.isidentifier():
            node.this.set("this", part.text)
            return


def keep_native_clock(draft: Draft, node: exp.Expr) -> None:
    """Writes CURRENT_DATE and its kin as the user did: the engine names the result column by that spelling."""
    if any(node.args.values()) or not isinstance(node, exp.Func):
        return
    words = {name.lower() for name in type(node).sql_names()}
    for token, follower in zip(draft.tokens, [*draft.tokens[1:], None], strict=True):
        if token.text.lower() in words & CLOCK_WORDS:
            if follower is None or follower.token_type != TokenType.L_PAREN:
                node.replace(exp.Column(this=exp.Identifier(this=token.text, quoted=False)))
            return


def _like(token: Token, kind: TokenType, text: str) -> Token:
    return Token(kind, text, token.line, token.col, token.start, token.end, [])


def _syntax_error(draft: Draft, error: ParseError) -> SqlSyntaxError:
    details = error.errors[0] if error.errors else {}
    word = str(details.get("highlight") or "").replace(MARK, "")
    line = int(details.get("line") or 1)
    column = max(1, int(details.get("col") or 1) - max(len(word), 1) + 1)
    expecting = _EXPECTING.match(str(details.get("description") or ""))
    near = f', near "{shown(word, 40)}"' if word else ", at the end of the text"
    what = f" {expecting.group(0)}." if expecting else ""
    return SqlSyntaxError(
        f"Syntax error at line {line}, column {column}{near}.{what}{excerpt(draft.text, line, column)}",
    )


def excerpt(text: str, line: int, column: int) -> str:
    """The line of the user's text with a caret under the column, at most 80 characters of it; starts on a new line."""
    lines = text.split("\n")
    if not 0 < line <= len(lines):
        return ""
    start = max(0, column - 41)
    piece = shown(lines[line - 1].replace("\t", " ")[start : start + 80], 80)
    return f"\n  {piece}\n  {' ' * (min(column, len(lines[line - 1]) + 1) - 1 - start)}^"
