"""What may pass at all: size, one statement, kinds of statement, kinds of syntax, functions. Each step fails closed."""

from __future__ import annotations

import re
from itertools import pairwise

from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from flightsql_server.errors import SqlSyntaxError, StatementTooComplex, UnsupportedFeature
from flightsql_server.planner import allowed, dialect, functions, writes
from flightsql_server.planner.names import fold, near, shown
from flightsql_server.planner.request import Draft

_OPENING = frozenset({TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE, TokenType.CASE})
_CLOSING = frozenset({TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.END})

# Words and signs that nest without brackets when they stand in a row: NOT NOT x, - - x, SELECT SELECT.
_RUN_LENGTH = 64

# The parser puts an argument of these into several places, so each level of them doubles the tree or worse.
_DOUBLED = frozenset({"div0", "div0null", "nullifzero", "sort_array", "zeroifnull"})
_MOST_DOUBLED = 5

# The parser types what a subscript is applied to, so a chain of them takes quadratic time.
_SUBSCRIPTED = frozenset(
    {TokenType.R_BRACKET, TokenType.R_PAREN, TokenType.R_BRACE, TokenType.VAR, TokenType.IDENTIFIER}
)

_QUERY_WORDS = frozenset({"select", "with", "from", "values", "table", "("})
_COMMAND_WORDS = frozenset({"show", "describe", "desc", "use"})
_NATIVE_WORDS = frozenset({"pivot", "unpivot", "summarize"})
_ROW_WRITES = frozenset({"insert", "update", "delete", "merge", "upsert", "replace", "copy", "truncate", "load", "put"})
_DEFINITIONS = frozenset({"create", "drop", "alter", "rename", "comment", "undrop", "refresh", "optimize", "vacuum"})
_TRANSACTIONS = frozenset({"begin", "start", "commit", "rollback", "abort", "savepoint", "release", "end"})

_WHOLE = (exp.Summarize, exp.Describe)
_ROOTS = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values, exp.Table, exp.Pivot, *_WHOLE)
_READS_ONLY = "This server answers queries; live datasets take rows by DoPut."
_WORD = re.compile(r"\w+")
# Statements of some database; any other first word is a typing error and no statement at all.
_OTHER_STATEMENTS = frozenset(
    _WORD.findall(
        "analyze analyse assert attach audit backup cache call checkpoint close cluster connect deallocate declare deny"
        " detach disable discard disconnect do enable exec execute export fetch flush force get grant handler help if"
        " import install kill list listen lock msck notify pragma prepare print purge reassign reindex remove reset"
        " restore resume return revoke set shutdown stop suspend sync system unset uncache unlisten unlock validate"
    )
)
_WORDS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?: [A-Za-z_]+)*|[0-9]*", re.ASCII)
_NUMBER = re.compile(r"[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?", re.ASCII)
# These are always written between quotes, with quotes inside doubled.
_QUOTED_KINDS = frozenset({exp.RawString, exp.National, exp.UnicodeString, exp.JSONPathKey})
_ESCAPES = re.compile(r"\\[uU0-7]")
_NODE_NAMES: dict[type, str] = {
    exp.Into: "SELECT … INTO",
    exp.Lock: "FOR UPDATE and FOR SHARE",
    exp.HistoricalData: "AT and AS OF",
    exp.Command: "This kind of statement",
}


def check_text(draft: Draft) -> None:
    """Rule: the text is not longer than the limit and holds only characters that can be sent on as UTF-8."""
    text = draft.text
    limit = draft.limits.sql_bytes
    if len(text) > limit or (not text.isascii() and len(text.encode("utf-8", "surrogatepass")) > limit):
        raise StatementTooComplex(
            f"The statement is longer than {limit} bytes.",
            hint="Send values as a table by DoPut and join with it.",
            limit="sql.statement_bytes",
        )
    if "\x00" in text or dialect.MARK in text:
        raise SqlSyntaxError("The statement holds a character that SQL text can't hold.", hint="Take it out.")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise SqlSyntaxError("The statement is not valid Unicode text.", hint="Send it as UTF-8.") from None


def check_tokens(draft: Draft) -> None:
    """Rule: exactly one statement, not too many tokens, not nested too deeply; taken before the parser recurses."""
    tokens = draft.tokens
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    while tokens and tokens[0].token_type == TokenType.SEMICOLON:
        tokens.pop(0)
    if not tokens:
        raise SqlSyntaxError("The statement is empty.", hint="Send one SQL statement.")
    if len(tokens) > draft.limits.tokens:
        raise StatementTooComplex(
            f"The statement has more than {draft.limits.tokens} words and signs.",
            hint="Send values as a table by DoPut and join with it.",
            limit="sql.statement_tokens",
        )
    depth = 0
    run = 0
    previous: TokenType | None = None
    end = -2
    subscripts = 0
    doubling: list[bool] = []
    word = ""
    for token in tokens:
        kind = token.token_type
        if kind == TokenType.SEMICOLON:
            raise SqlSyntaxError(
                f"There is a second statement at line {token.line}, column {token.col}.",
                hint="Send one statement per call.",
            )
        if (
            previous == TokenType.NUMBER
            and token.start == end + 1
            and (token.text[:1].isalpha() or token.text[:1] == "_")
        ):
            # 0x1F would pass as "0 AS x1F".
            raise UnsupportedFeature(
                f"A number runs into a word at line {token.line}, column {token.col}.",
                hint="Write numbers in decimal, and a blank between a number and a name.",
            )
        end = token.end
        run = run + 1 if kind == previous and kind not in _CLOSING else 0
        if kind == TokenType.BYTE_STRING and _ESCAPES.search(draft.text, token.start, token.end + 1):
            raise UnsupportedFeature(
                "Escapes by character number are not accepted.", hint="Write the character itself."
            )
        if kind == TokenType.L_BRACKET and previous in _SUBSCRIPTED:
            subscripts += 1
        if kind == TokenType.L_PAREN:
            doubling.append(word in _DOUBLED)
        elif kind == TokenType.R_PAREN and doubling:
            doubling.pop()
        word = fold(token.text) if kind == TokenType.VAR else ""
        previous = kind
        if kind in _OPENING:
            depth += 1
            if kind == TokenType.L_PAREN and doubling[-1] and sum(doubling) > _MOST_DOUBLED:
                raise _too_deep(draft.limits.depth)
        elif kind in _CLOSING:
            depth -= 1
        if depth > draft.limits.depth or (run > _RUN_LENGTH and kind not in _OPENING):
            raise _too_deep(draft.limits.depth)
        if subscripts > draft.limits.subscripts:
            raise _too_deep(draft.limits.depth)


def check_kind(draft: Draft) -> None:
    """Rule: the first word begins a query or one of the commands that the planner answers; all else is refused by name.

    Looked at before the parser, which takes many other statements for an opaque command.
    """
    word = draft.tokens[0].text.lower() if draft.tokens[0].token_type != TokenType.STRING else "'"
    if word in _QUERY_WORDS and draft.tokens[0].token_type != TokenType.IDENTIFIER:
        return
    name, backend = shown(word.upper(), 30), draft.request.backend_dialect
    if word in _COMMAND_WORDS:
        return
    if word in writes.WORDS or word in _TRANSACTIONS - {"savepoint", "release"}:
        return
    if word in _ROW_WRITES:
        raise UnsupportedFeature(f"{name} is not accepted yet.", hint=_READS_ONLY)
    if word in _DEFINITIONS:
        raise UnsupportedFeature(f"{name} is not accepted yet.", hint=_READS_ONLY)
    if word in _TRANSACTIONS:
        raise UnsupportedFeature("Savepoints are not offered.", hint="Use a transaction for each part.")
    if word == "explain":
        raise UnsupportedFeature("This form of EXPLAIN is not accepted.", hint="Write EXPLAIN and one query.")
    if word in _NATIVE_WORDS:
        if draft.native:
            return
        raise UnsupportedFeature(f"{name} is not accepted in this dialect.", hint=f"Begin with -- dialect: {backend}")
    if word in _OTHER_STATEMENTS or word in _QUERY_WORDS:
        raise UnsupportedFeature(f"A statement that begins with {name} is not accepted.", hint=_READS_ONLY)
    raise SqlSyntaxError(f'A statement can\'t begin with "{name}".', hint="Begin with SELECT, WITH, FROM or VALUES.")


def check_nodes(draft: Draft) -> None:
    """Rule: every node of the tree is of an allowed kind, every function allowed, and the tree not too deep."""
    native = draft.native
    limit = draft.limits.depth * 3
    chain_limit = draft.limits.chain
    stack: list[tuple[exp.Expr, int, int]] = [(draft.root, 0, 0)]
    changes = isinstance(draft.root, (*writes.ROOTS, exp.TruncateTable))
    if not changes and not isinstance(draft.root, _ROOTS):
        raise UnsupportedFeature("This kind of statement is not accepted.", hint=_READS_ONLY)
    while stack:
        node, depth, chain = stack.pop()
        kind = node.__class__
        if kind not in allowed.ALLOWED and not _is_part(draft, node, changes):
            raise _refused_node(draft, node)
        if kind is exp.Pivot:
            _check_pivot(node)
        elif isinstance(node, _WHOLE):
            _check_whole(node)
        if kind is exp.Select and not node.args.get("expressions"):
            raise SqlSyntaxError("A SELECT names no columns.", hint="Name some, or write SELECT *.")
        if kind is exp.Anonymous:
            _check_anonymous(draft, node)
        elif kind in allowed.VOLATILE or kind is exp.TableSample:
            draft.volatile = True
            if native:
                dialect.keep_native_clock(draft, node)
        elif kind in allowed.SESSION:
            draft.session_nodes.append(node)
        elif kind is exp.Column and not node.args.get("table"):
            word = fold(node.name)
            if word in functions.CLOCK_WORDS:
                draft.volatile = True
            elif word in functions.SESSION:
                draft.session_nodes.append(node)
        elif isinstance(node, exp.ByteString):
            dialect.unescape(draft, node)
            continue
        elif native:
            dialect.keep_native_node(draft, node)
        if depth > limit or chain > chain_limit:
            raise _too_deep(draft.limits.depth)
        left = node.args.get("this") if isinstance(node, (exp.Binary, exp.SetOperation)) else None
        for value in node.args.values():
            if value is left and isinstance(value, exp.Expr):
                stack.append((value, depth, chain + 1))
            elif isinstance(value, exp.Expr):
                stack.append((value, depth + 1, 0))
            elif isinstance(value, list):
                for item in value:
                    if isinstance(item, exp.Expr):
                        stack.append((item, depth + 1, 0))
                    elif isinstance(item, str):
                        _check_word(node, item)
            elif isinstance(value, str):
                _check_word(node, value)


def check_words(draft: Draft) -> None:
    """Rule: what the rewrites of a dialect put into the tree holds no text of the user's that would be written bare."""
    if draft.native:
        return
    for node in draft.root.walk():
        if isinstance(node, exp.Var) and isinstance(node.parent, exp.Subquery):
            continue  # a derived table of ours, as text: no parser makes such a node
        for value in node.args.values():
            for word in value if isinstance(value, list) else (value,):
                if isinstance(word, str):
                    _check_word(node, word)


def _is_part(draft: Draft, node: exp.Expr, changes: bool) -> bool:
    """Whether the node may stand here though not everywhere: in a statement that changes something its root and its own
    parts; in the engine's dialect what only that has.
    """
    if draft.native and (node.__class__ in allowed.NATIVE or (node is draft.root and isinstance(node, _WHOLE))):
        return True
    return changes and (
        node is draft.root
        or node.__class__ in writes.PARTS
        or (isinstance(node, exp.Drop) and isinstance(node.parent, exp.Alter) and node.parent is draft.root)
    )


def _check_pivot(node: exp.Expr) -> None:
    """The columns of a PIVOT are those that it names: were it for the rows to decide, nothing could be prepared."""
    if not isinstance(node.args.get("this"), (exp.Table, exp.Query, type(None))):
        raise UnsupportedFeature("PIVOT takes a table or a query.", hint="Name a table of the catalog.")
    if node.args.get("unpivot"):
        return
    for part in (*(node.args.get("using") or ()), *node.expressions):
        if part.find(exp.Query):
            raise UnsupportedFeature("A query can't stand in what PIVOT computes.", hint="Join with it before.")
    for field in node.args.get("fields") or node.expressions:
        values = field.expressions if isinstance(field, exp.In) else []
        named = [value.this if isinstance(value, exp.PivotAlias) else value for value in values]
        if not named or not all(isinstance(value, (exp.Literal, exp.Neg, exp.Boolean, exp.Tuple)) for value in named):
            raise UnsupportedFeature(
                "PIVOT must name the values.", hint="Write PIVOT t ON column IN ('a', 'b') USING …"
            )


def _check_whole(node: exp.Expr) -> None:
    """SUMMARIZE and DESCRIBE take a table or a query, never the name of a file, and nothing else."""
    plain = all(not value or part == "this" for part, value in node.args.items())
    if not plain or not isinstance(node.this, (exp.Table, exp.Query)):
        raise UnsupportedFeature(f"This form of {node.key.upper()} is not accepted.", hint="Name a table, or a query.")


def check_written(draft: Draft) -> None:
    """Rule: in the text that the engine will get, every name before an opening bracket is an allowed function.

    The tree has been checked already; this looks once more at what was written, because the generator replaces
    functions by others, and a name that it makes must pass as well.
    """
    tokens = dialect.written_tokens(draft)
    depth = 0
    for at, token in enumerate(tokens):
        depth += (token.token_type == TokenType.L_PAREN) - (token.token_type == TokenType.R_PAREN)
        if token.token_type == TokenType.SEMICOLON or token.comments or depth < 0:
            # The generator writes none of these: some text of the user stands where it must not.
            raise dialect.untranslatable(draft)
        if token.token_type != TokenType.L_PAREN or at == 0:
            continue
        before = tokens[at - 1]
        name = fold(before.text)
        if name in functions.ALLOWED or name in functions.SYNTAX or name in functions.TABLE_FUNCTIONS:
            continue
        if name in functions.WRITTEN and not draft.native:
            continue
        if before.token_type != TokenType.IDENTIFIER and not _WORD.fullmatch(name):
            # A sign, a string, a number, or a keyword of several words (GROUPING SETS, GROUP BY).
            continue
        if at > 1 and tokens[at - 2].token_type == TokenType.ALIAS:
            continue
        if draft.effect and (name in writes.SYNTAX or writes.names_target(tokens, at, draft)):
            continue
        if not _names_cte(tokens, at):
            raise _refused_function(before.text)


def _names_cte(tokens: list[Token], at: int) -> bool:
    """Whether the bracket at ``at`` holds the column names of a CTE: ``name (a, b) AS [NOT MATERIALIZED] (``."""
    while at < len(tokens) and tokens[at].token_type != TokenType.R_PAREN:
        at += 1
    following = [fold(token.text) for token in tokens[at + 1 : at + 5]]
    return following[:1] == ["as"] and (
        following[1:2] == ["("]
        or following[1:3] == ["materialized", "("]
        or following[1:4] == ["not", "materialized", "("]
    )


def _check_word(node: exp.Expr, word: str) -> None:
    """Refuses text in the tree that the generator would write as it is, unless it is a plain word or number.

    Units of time, names of types and the like may come from quoted names and strings of the user: written out bare,
    ``EXTRACT("year FROM d) FROM secrets --" FROM d)`` would become another statement.
    """
    kind = node.__class__
    if kind in _QUOTED_KINDS or _WORDS.fullmatch(word):
        return
    if kind is exp.Identifier:
        node.set("quoted", True)
    elif kind is exp.Literal:
        if not node.args.get("is_string") and not _NUMBER.fullmatch(word):
            raise SqlSyntaxError(f'"{shown(word, 40)}" is not a number.', hint="Write numbers in decimal.")
    elif kind is not exp.Anonymous:
        raise UnsupportedFeature(
            f'"{shown(word, 40)}" can\'t stand here.', hint="Write a plain word: a unit of time, a type, a method."
        )


def _check_anonymous(draft: Draft, node: exp.Expr) -> None:
    this = node.args.get("this")
    name = this if isinstance(this, str) else node.name
    if dialect.MARK in name:
        name = name.replace(dialect.MARK, "")
        node.set("this", name)
    key = fold(name)
    if key in functions.VOLATILE and not (key == "age" and len(node.expressions) == 2):
        draft.volatile = True
    elif key in functions.SESSION and not node.expressions:
        draft.session_nodes.append(node)
    elif key not in functions.ALLOWED and key not in functions.TABLE_FUNCTIONS:
        raise _refused_function(name)


def _written_name(draft: Draft, node: exp.Func) -> str:
    """How the user wrote the name of a function that the parser knows; its own name of the kind, if that fails."""
    names = {node.key} | {fold(name).replace("_", "") for name in type(node).sql_names()}
    for token, follower in pairwise(draft.tokens):
        if follower.token_type == TokenType.L_PAREN and fold(token.text).replace("_", "") in names:
            return token.text
    return node.key


def _refused_function(name: str) -> UnsupportedFeature:
    known = near(name, functions.ALLOWED)
    hint = f"Did you mean {' or '.join(known)}?" if known else "Use a function of the reference."
    return UnsupportedFeature(f"The function {shown(name, 60)} is not accepted.", hint=hint, word=name)


def _refused_node(draft: Draft, node: exp.Expr) -> UnsupportedFeature:
    if isinstance(node, (exp.Placeholder, exp.Parameter, exp.SessionParameter)):
        return UnsupportedFeature("Parameters are written ? or $1.", hint="Number them in the order of their values.")
    if isinstance(node, (exp.DML, exp.DDL, exp.Drop, exp.Alter, exp.TruncateTable, exp.Copy)) and not isinstance(
        node, exp.Query
    ):
        return UnsupportedFeature(f"{node.key.upper()} is not accepted inside a query.", hint=_READS_ONLY)
    if isinstance(node, exp.Pivot):
        return UnsupportedFeature(
            "PIVOT and UNPIVOT are not accepted in this dialect.", hint="Write it with GROUP BY and FILTER."
        )
    if isinstance(node, exp.Func):
        return _refused_function(_written_name(draft, node))
    name = _NODE_NAMES.get(type(node)) or f"{node.key.upper()} inside a query"
    return UnsupportedFeature(f"{name} is not accepted.", hint="Write the query without it.")


def _too_deep(limit: int) -> StatementTooComplex:
    return StatementTooComplex(
        f"The statement is nested deeper than {limit} levels.", hint="Split it with WITH, or use IN for long chains."
    )
