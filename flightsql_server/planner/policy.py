"""What the caller may see of each table: applied to the tree, to every table that a statement reads.

A grant makes a table exist or not. A row filter or a mask puts a sub-select of what may be seen in the place of the
table, so that nothing else of the statement can reach beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence

from flightsql_auth.restrictions import View, Writing
from sqlglot import exp

from flightsql_server.errors import UndefinedTable
from flightsql_server.model import Table
from flightsql_server.planner import predicates
from flightsql_server.planner.names import fold, shown
from flightsql_server.planner.request import BoundTable, Draft, Request

# What stands beside a table and is the user's: it goes with the sub-select that takes the table's place.
_BESIDE = ("joins", "laterals", "sample", "pivots")


def enforce(draft: Draft) -> None:
    """Rule: the policy of the caller holds for every table that was bound."""
    draft.tree = apply(draft.root, draft.request, draft.tables, draft.named)
    for bound in draft.tables:
        table = bound.table
        for view in draft.request.grants.views(schema=table.schema, name=table.name, dataset=table.dataset) or ():
            for text in predicates.texts(view):
                read = predicates.reads(text, table, draft.request.catalog)
                draft.policy_tables |= read.tables
                draft.volatile = draft.volatile or read.volatile


def apply(
    tree: exp.Expr, request: Request, bound_tables: Sequence[BoundTable], named: Sequence[exp.Table] = ()
) -> exp.Expr:
    """The tree under the caller's policy. Raises UndefinedTable where a table doesn't exist for the caller.

    ``named`` are the table that the statement changes and those that its foreign keys point to; whether it may was
    settled when they were found.

    Binding asks for the grant as well, to choose between tables of one name; here it is decided.
    """
    mentioned = {id(bound.node) for bound in bound_tables} | set(map(id, named))
    for bound in bound_tables:
        table = bound.table
        if not request.grants.allows("select", schema=table.schema, name=table.name, dataset=table.dataset):
            raise UndefinedTable(f'Table "{shown(table.name)}" does not exist.')
    for node in tree.find_all(exp.Table):
        # A qualified name that nobody bound would reach the engine unchecked.
        if node.args.get("db") and id(node) not in mentioned:
            raise UndefinedTable(f'Table "{shown(node.name)}" does not exist.')
    if isinstance(tree, exp.Create) and str(tree.args.get("kind")).upper() == "VIEW":
        return tree  # a view keeps its maker's words; whoever reads it gets them with a policy of their own
    unnamed: set[tuple[str, str]] = set()
    for bound in bound_tables:
        table = bound.table
        views = request.grants.views(schema=table.schema, name=table.name, dataset=table.dataset)
        if views is None:
            continue
        shown_part = _part(request, bound, views)
        if not bound.node.args.get("alias"):
            unnamed.add((fold(table.schema), fold(table.name)))
        if bound.node is tree:
            tree = shown_part
        else:
            bound.node.replace(shown_part)
    for column in tree.find_all(exp.Column) if unnamed else ():
        # The sub-select goes by the table's name alone.
        if column.db and (fold(column.db), fold(column.table)) in unnamed:
            column.set("db", None)
            column.set("catalog", None)
    return tree


def forbidden_rows(request: Request, table: Table, incoming: str, earlier: str, writing: Writing) -> str | None:
    """A query that counts rows of ``incoming`` that the caller may not write; None: every row may be written.

    A row may be written if the caller's parts of the table have it, and so may the row of its key that it replaces:
    one that is stored, or one of ``earlier``.
    """
    views = request.grants.views(schema=table.schema, name=table.name, dataset=table.dataset, writing=writing)
    if views is None:
        return None
    conditions = [predicates.condition(request, table, view) for view in views]
    fits = exp.func("COALESCE", exp.paren(exp.or_(*conditions) if conditions else exp.false()), exp.false())
    columns = [_quoted(column.name) for column in table.columns]
    stored = exp.select(*columns).from_(exp.table_(table.name, table.schema, request.catalog.name, quoted=True))
    standing = stored.union(exp.select(*columns).from_(exp.table_(earlier, quoted=True)), distinct=False)
    keys = [exp.column(exp.to_identifier(name, quoted=True), "i").eq(bare(name)) for name in table.key]
    replaced = (
        exp.Select(expressions=[exp.Count(this=exp.Star())])
        .from_(standing.subquery(_quoted(predicates.SELF)))
        .where(
            exp.not_(fits),
            exp.Exists(this=exp.select("1").from_(exp.alias_(exp.table_(incoming), "i", table=True)).where(*keys)),
        )
    )
    written = (
        exp.Select(expressions=[exp.Count(this=exp.Star())])
        .from_(exp.alias_(exp.table_(incoming, quoted=True), _quoted(predicates.SELF), table=True))
        .where(exp.not_(fits.copy()))
    )
    both = exp.Add(this=written.subquery(), expression=replaced.subquery())
    return str(exp.Select(expressions=[both]).sql(dialect="duckdb"))


def _quoted(name: str) -> exp.Identifier:
    return exp.to_identifier(name, quoted=True)


def _part(request: Request, bound: BoundTable, views: Sequence[View]) -> exp.Expr:
    """A sub-select of the rows that may be seen, masked, under the name by which the statement knows the table."""
    table, node = bound.table, bound.node
    source = exp.Table(
        **{part: node.args[part].copy() for part in ("this", "db", "catalog") if node.args.get(part)},
        alias=exp.TableAlias(this=exp.to_identifier(predicates.SELF, quoted=True)),
    )
    conditions = [predicates.condition(request, table, view) for view in views]
    select = exp.Select(expressions=_columns(request, table, views, conditions)).from_(source)
    select = select.where(exp.or_(*conditions) if conditions else exp.false(), copy=False)
    if any(view.predicates for view in views):
        select = barrier(select)
    alias = node.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name, quoted=True))
    part = exp.Subquery(this=select, alias=alias)
    for beside in _BESIDE:
        if node.args.get(beside):
            part.set(beside, node.args[beside])
    return part


def barrier(select: exp.Select) -> exp.Select:
    """The same rows, but nothing of the statement is tried on rows before the filter has hidden them.

    Without it the engine tries conditions in an order of its own, and joins the user's tables before a filter that
    holds a query: a cast that fails there tells of a hidden row.
    """
    return select.offset(0, copy=False)


def bare(column: str) -> exp.Expr:
    """The column as the table has it."""
    return exp.column(exp.to_identifier(column, quoted=True), predicates.SELF, quoted=True)


def _columns(request: Request, table: Table, views: Sequence[View], conditions: Sequence[exp.Expr]) -> list[exp.Expr]:
    """The table's columns; one that is masked somewhere is shown as its row's parts show it."""
    masked = {column for view in views for column, _ in view.masks}
    if not masked:
        return [exp.Star()]
    columns = []
    for column in table.columns:
        plain = bare(column.name)
        if column.name in masked:
            plain = exp.alias_(_masked(request, table, column.name, views, conditions), column.name, quoted=True)
        columns.append(plain)
    return columns


def _masked(
    request: Request, table: Table, column: str, views: Sequence[View], conditions: Sequence[exp.Expr]
) -> exp.Expr:
    """The column, where some part that the row is in shows it bare; else under the mask of the first part it is in."""
    ordered = sorted(zip(views, conditions, strict=True), key=lambda pair: column in dict(pair[0].masks))
    shown_as = [
        (condition, predicates.mask(request, table, column, dict(view.masks)[column]) if column in dict(view.masks)
         else bare(column))
        for view, condition in ordered
    ]  # fmt: skip
    if len(shown_as) == 1:
        return shown_as[0][1]
    case = exp.Case()
    for condition, value in shown_as[:-1]:
        case = case.when(condition.copy(), value, copy=False)
    return case.else_(shown_as[-1][1], copy=False)
