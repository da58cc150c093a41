"""What the planner answers from the catalog: SHOW TABLES, DESCRIBE, USE, information_schema, session functions."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from flightsql_server.errors import InvalidParameter, SqlSyntaxError, UndefinedTable, UnsupportedFeature
from flightsql_server.model import CATALOG, INFORMATION_SCHEMA, MAIN_SCHEMA, Plan
from flightsql_server.planner.information import VIEWS, Row, View, rows, type_name
from flightsql_server.planner.names import did_you_mean, fold, shown
from flightsql_server.planner.request import Draft, Request
from flightsql_server.planner.visibility import find_table, visible

_SHOW = View((("name", "VARCHAR"),), ("name",))
_DESCRIBE = View(
    tuple((name, "VARCHAR") for name in ("column_name", "column_type", "null", "key", "default", "extra")),
    ("column_name", "column_type", "null", "key"),
)
_QUERY_WORDS = frozenset({"select", "with", "from", "values", "("})
_USED = 'SELECT TRUE AS "Success" WHERE FALSE'

_SESSION_NODES: dict[str, str] = {
    "CurrentUser": "current_user",
    "SessionUser": "session_user",
    "CurrentRole": "current_role",
    "CurrentSchema": "current_schema",
    "CurrentDatabase": "current_database",
    "CurrentCatalog": "current_catalog",
    "CurrentVersion": "version",
}
# The engine puts these into quotes when it names a result column after them.
_QUOTED_IN_COLUMN_NAMES = frozenset({"version"})


def answer_command(draft: Draft) -> None:
    """Rule: SHOW TABLES, DESCRIBE and USE are answered from the catalog; they never reach the parser."""
    tokens = draft.tokens
    command = fold(tokens[0].text)
    if tokens[0].token_type == TokenType.IDENTIFIER:
        return
    if command == "show":
        # Some dialects take all that follows SHOW as one string.
        words = draft.text[tokens[0].end + 1 : tokens[-1].end + 1].strip().upper()
        if words != "TABLES":
            raise UnsupportedFeature("Only SHOW TABLES is accepted.", hint="Ask information_schema for the rest.")
        draft.done = _show_tables(draft.request)
    elif command in ("describe", "desc"):
        if not (draft.native and len(tokens) > 1 and fold(tokens[1].text) in _QUERY_WORDS):
            draft.done = _describe(draft.request, tokens[1:])
    elif command == "use":
        draft.done = _use(draft.request, tokens[1:])


def expose(draft: Draft, node: exp.Table, view_name: str) -> exp.Expr:
    """Puts a view of information_schema, as a derived table of what the caller may see, in the place of ``node``."""
    view = VIEWS.get(view_name)
    if view is None:
        raise UndefinedTable(
            f'Table "{INFORMATION_SCHEMA}.{shown(node.name)}" does not exist.', hint=f"There are: {', '.join(VIEWS)}."
        )
    return derive(
        draft, node, view_name, view.select(rows(view_name, draft.request.catalog.name, visible(draft.request)))
    )


def derive(draft: Draft, node: exp.Table, view_name: str, text: str) -> exp.Expr:
    """Puts a derived table of this text, which is ours, in the place of ``node``."""
    alias = node.args.get("alias") or exp.TableAlias(this=exp.to_identifier(view_name, quoted=True))
    # The text is ours, made of quoted names and literals; as a tree it would cost a node for each cell.
    derived = exp.Subquery(this=exp.Var(this=text), alias=alias)
    for part in ("joins", "laterals", "sample", "pivots"):
        value = node.args.get(part)
        if value:
            derived.set(part, value)
    node.replace(derived)
    draft.exposed = True
    return derived


def unqualify(draft: Draft) -> None:
    """Rule: ``information_schema.tables.x`` becomes ``tables.x``, since the derived table is called ``tables``."""
    if not draft.exposed:
        return
    for column in draft.root.find_all(exp.Column):
        if fold(column.db) == INFORMATION_SCHEMA:
            column.set("db", None)
            column.set("catalog", None)


def answer_session(draft: Draft) -> None:
    """Rule: version(), current_user, current_schema and their kin become literals, under the names they have natively.

    A bare word such as ``user`` is left alone when some table or alias of the statement has a column of that name.
    """
    if not draft.session_nodes:
        return
    columns = {fold(column.name) for bound in draft.tables for column in bound.table.columns}
    columns |= {fold(alias.alias) for alias in draft.root.find_all(exp.Alias)}
    columns |= {fold(i.name) for a in draft.root.find_all(exp.TableAlias) for i in a.args.get("columns") or ()}
    called = {
        fold(token.text)
        for token, after in zip(draft.tokens, draft.tokens[1:], strict=False)
        if after.token_type == TokenType.L_PAREN
    }
    for node in draft.session_nodes:
        name = _SESSION_NODES.get(type(node).__name__) or fold(node.name)
        if isinstance(node, exp.Column) and name in columns:
            continue
        value: exp.Expr = exp.Literal.string(_session_value(draft.request, name))
        parent = node.parent
        if isinstance(parent, exp.Select) and node.arg_key == "expressions":
            value = exp.alias_(value, _column_name(draft, name, name in called), quoted=True)
        node.replace(value)


def _column_name(draft: Draft, name: str, called: bool) -> str:
    if not called or not draft.native:
        return name
    return f'"{name}"()' if name in _QUOTED_IN_COLUMN_NAMES else f"{name}()"


def _session_value(request: Request, name: str) -> str:
    if name == "version":
        return request.server_version
    if name == "current_schema":
        return request.schema or MAIN_SCHEMA
    if name in ("current_database", "current_catalog"):
        return request.catalog.name
    return request.principal_name


def _show_tables(request: Request) -> Plan:
    schemas = {request.schema, request.grants.own, MAIN_SCHEMA}
    names = sorted({table.name for table in visible(request) if table.schema in schemas})
    return Plan(sql=_SHOW.select([(name,) for name in names]))


def _describe(request: Request, tokens: Sequence[Token]) -> Plan:
    if tokens and fold(tokens[0].text) == "table" and len(tokens) > 1:
        tokens = tokens[1:]
    if tokens and fold(tokens[0].text) in _QUERY_WORDS:
        raise UnsupportedFeature(
            "DESCRIBE of a query is not accepted in this dialect.", hint="Ask for its schema (GetFlightInfo)."
        )
    parts = _dotted(tokens, "DESCRIBE")
    table = find_table(request, *reversed(parts))
    found: list[Row] = [
        (c.name, type_name(c.type), "YES" if c.nullable else "NO", "PRI" if c.name in table.key else None)
        for c in table.columns
    ]
    return Plan(sql=_DESCRIBE.select(found))


def _use(request: Request, tokens: Sequence[Token]) -> Plan:
    parts = _dotted(tokens, "USE")
    seen = {MAIN_SCHEMA, request.schema or MAIN_SCHEMA} | {table.schema for table in visible(request)}
    schemas = {fold(name): name for name in request.catalog.schemas if name in seen}
    wanted = fold(parts[-1])
    if len(parts) == 1 and wanted not in schemas and wanted == fold(request.catalog.name):
        return Plan(sql=_USED, set_schema=MAIN_SCHEMA)
    if len(parts) > 2 or wanted not in schemas or (len(parts) == 2 and fold(parts[0]) != fold(request.catalog.name)):
        raise InvalidParameter(
            f'Schema "{shown(".".join(parts))}" does not exist.',
            hint=did_you_mean(parts[-1], schemas.values()) or f"Name a schema of the catalog {CATALOG}.",
        )
    return Plan(sql=_USED, set_schema=schemas[wanted])


def _dotted(tokens: Sequence[Token], command: str) -> list[str]:
    """The parts of ``a.b.c``, at most three; anything else is a syntax error."""
    parts = [token.text for token in tokens[::2]]
    names = all(t.token_type == TokenType.IDENTIFIER or t.text.replace("_", "a").isalnum() for t in tokens[::2])
    dots = all(token.token_type == TokenType.DOT for token in tokens[1::2])
    strings = any(token.token_type in (TokenType.STRING, TokenType.NUMBER) for token in tokens)
    if not names or not dots or strings or len(tokens) % 2 == 0 or len(parts) > 3:
        raise SqlSyntaxError(f"{command} takes one name.", hint=f"Write it like: {command} main.market_data")
    return parts
