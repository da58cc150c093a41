"""Which table each name means: a CTE in scope, a table function, or a table of the catalog that the caller may see."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import StatementTooComplex, UnsupportedFeature
from flightsql_server.model import INFORMATION_SCHEMA, Table, TableName
from flightsql_server.planner import dialect, functions, introspection, operations, writes
from flightsql_server.planner.names import fold, shown
from flightsql_server.planner.request import BoundTable, Draft
from flightsql_server.planner.visibility import find_table

_TABLE_FUNCTION_NODES = (exp.GenerateSeries, exp.ExplodingGenerateSeries, exp.Unnest, exp.Explode)
_JOINED_INFORMATION = INFORMATION_SCHEMA + "."
_TABLE_PARTS = frozenset({"this", "db", "catalog", "alias", "joins", "laterals", "sample", "ordinality", "pivots"})

_PLAIN_UNION = frozenset({"this", "expression", "distinct", "with_"})

_MOST_VIEWS = 50

Names = frozenset[str]


def bind(draft: Draft) -> None:
    """Rule: every table is a CTE, a table function or a catalog table granted to the caller; those are collected.

    Names of catalog tables are written out in full, so that the engine's search path can't choose another one.
    """
    summary = draft.root
    if isinstance(summary, exp.Summarize) and isinstance(summary.this, exp.Table):
        # As a query its table can be replaced like any other.
        summary.set("this", exp.Select(expressions=[exp.Star()]).from_(summary.this))
        summary.set("table", None)
    stack: list[tuple[exp.Expr, Names]] = [(draft.root, frozenset())]
    while stack:
        node, ctes = stack.pop()
        with_ = node.args.get("with_")
        if isinstance(with_, exp.With):
            ctes = _enter_with(with_, ctes, stack)
        if node is draft.target_node or (isinstance(node, exp.Table) and writes.take_reference(draft, node)):
            continue
        if isinstance(node, exp.Table):
            replaced = _bind_table(draft, node, ctes)
            if replaced is not None:
                stack.extend((child, ctes) for child in _outer_parts(replaced))
                if isinstance(replaced.this, exp.Query):
                    stack.append((replaced.this, frozenset()))
                continue
        for child in node.iter_expressions():
            if child is not with_:
                stack.append((child, ctes))


def _enter_with(with_: exp.With, ctes: Names, stack: list[tuple[exp.Expr, Names]]) -> Names:
    """Pushes the bodies of the CTEs with what each may see; returns what the query after them sees.

    As in DuckDB: a CTE sees those before it, not itself. After WITH RECURSIVE, the right arm of a body that is a UNION
    sees itself as well; anywhere else (its left arm, EXCEPT, UNION BY NAME) its own name means what it means outside.
    To see more than the engine does would leave a name unbound that the engine then finds among the tables.
    """
    for cte in with_.expressions:
        name = fold(cte.alias)
        inner = ctes
        body = cte.this
        if with_.args.get("recursive") and (union := _recursive_union(body)) is not None:
            inside = union.args.get("with_")
            if isinstance(inside, exp.With):
                inner = _enter_with(inside, inner, stack)
            arm = union.args.get("expression")
            for child in union.iter_expressions():
                if child is not inside:
                    stack.append((child, inner | {name} if child is arm else inner))
        else:
            stack.append((body, inner))
        for part in cte.iter_expressions():
            if part is not body and not isinstance(part, exp.TableAlias):
                stack.append((part, ctes))
        ctes = ctes | {name}
    return ctes


def _recursive_union(body: exp.Expr) -> exp.Union | None:
    """The UNION that makes a CTE recursive for the engine, if it does: a plain one, brackets around or not."""
    while isinstance(body, exp.Subquery) and all(not value or part == "this" for part, value in body.args.items()):
        body = body.this
    if not isinstance(body, exp.Union):
        return None
    plain = all(not value or part in _PLAIN_UNION for part, value in body.args.items())
    return body if plain else None


def _bind_table(draft: Draft, node: exp.Table, ctes: Names) -> exp.Expr | None:
    """Binds one mention of a table; returns the node that has taken its place, if another has."""
    for part, value in node.args.items():
        if value and part not in _TABLE_PARTS:
            raise UnsupportedFeature(f"{part.upper()} on a table is not accepted.", hint="Write the query without it.")
    this = node.args.get("this")
    if not isinstance(this, exp.Identifier):
        _check_table_function(node, this)
        return None
    name, schema, catalog = node.name, node.db, node.catalog
    if fold(name).startswith(_JOINED_INFORMATION) and not catalog:
        # BigQuery's parser takes the two as one name.
        name, schema, catalog = name[len(_JOINED_INFORMATION) :], INFORMATION_SCHEMA, schema
    if not schema and not catalog and fold(name) in ctes:
        return None
    if fold(schema) == INFORMATION_SCHEMA and fold(catalog) in ("", fold(draft.request.catalog.name)):
        return introspection.expose(draft, node, fold(name))
    table = find_table(draft.request, name, schema, catalog)
    if table.schema == operations.SCHEMA:
        return introspection.derive(draft, node, table.name, operations.rows_sql(draft, table.name))
    draft.transient = draft.transient or table.schema == draft.request.grants.temporary
    if table.definition:
        return _expand(draft, node, table)
    draft.tables.append(BoundTable(node, table))
    return None


def _expand(draft: Draft, node: exp.Table, view: Table) -> exp.Expr:
    """Puts a view's query in its place, to be bound as what the caller may see and not as what its maker could."""
    if len(draft.views) >= _MOST_VIEWS:
        raise StatementTooComplex(f"The statement reads more than {_MOST_VIEWS} views.", hint="Make a table of some.")
    draft.view_bytes += len(view.definition)
    if draft.view_bytes > draft.limits.sql_bytes:
        # A view holds the queries of the views that it was made of, so their number alone says little.
        raise StatementTooComplex(
            f"The views that the statement reads are longer than {draft.limits.sql_bytes} bytes together.",
            hint="Make a table of some.",
            limit="sql.statement_bytes",
        )
    alias = node.args.get("alias") or exp.TableAlias(this=exp.to_identifier(view.name, quoted=True))
    query = dialect.view_query(view.definition)
    draft.views.append(query)
    derived = exp.Subquery(this=query, alias=alias)
    for part in ("joins", "laterals", "sample", "pivots"):
        value = node.args.get(part)
        if value:
            derived.set(part, value)
    node.replace(derived)
    return derived


def write_names(draft: Draft) -> None:
    """Rule: each bound table is named in full, quoted."""
    catalog = draft.request.catalog.name
    for bound in draft.tables:
        table = bound.table
        bound.node.set("this", exp.to_identifier(table.name, quoted=True))
        bound.node.set("db", exp.to_identifier(table.schema, quoted=True))
        bound.node.set("catalog", exp.to_identifier(catalog, quoted=True))


def rebind(draft: Draft) -> None:
    """After a rewrite, which may have copied parts of the tree: the bound tables are those that now stand in it.

    Only a full name that was bound before counts; any other is left for the policy to refuse.
    """
    known = {bound.table.table_name: bound.table for bound in draft.tables}
    named = set(map(id, draft.named))
    draft.tables = [
        BoundTable(node, known[name])
        for node in draft.root.find_all(exp.Table)
        if node.catalog and id(node) not in named and (name := TableName(node.db, node.name)) in known
    ]


def _check_table_function(node: exp.Table, this: object) -> None:
    if isinstance(this, exp.Anonymous):
        name = fold(this.name)
        if name in functions.TABLE_FUNCTIONS and not node.db and not node.catalog:
            return
        raise UnsupportedFeature(
            f"The table function {shown(this.name, 60)} is not accepted.",
            hint=f"Accepted in FROM: {', '.join(sorted(functions.TABLE_FUNCTIONS))}.",
            word=this.name,
        )
    if isinstance(this, _TABLE_FUNCTION_NODES) and not node.db and not node.catalog:
        return
    raise UnsupportedFeature(
        "This can't stand in FROM.", hint=f"Accepted there: {', '.join(sorted(functions.TABLE_FUNCTIONS))}."
    )


def _outer_parts(node: exp.Expr) -> list[exp.Expr]:
    """What a replaced table carried along and what is still the user's: joins, laterals, sample."""
    parts: list[exp.Expr] = []
    for key in ("joins", "laterals", "sample", "pivots"):
        value = node.args.get(key)
        parts += value if isinstance(value, list) else [value] if isinstance(value, exp.Expr) else []
    return parts
