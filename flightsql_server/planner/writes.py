"""Statements that change something: what kinds there are, what they may be made of, and what they may change.

A user's tables live in the schema of that user. Rows for a live dataset become a query whose rows the writer stores.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from flightsql_auth.policies import Action
from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from flightsql_server.errors import (
    AccessDenied,
    DuplicateTable,
    InvalidTransaction,
    ReadOnlyViolation,
    SqlSyntaxError,
    UndefinedTable,
    UnsupportedFeature,
)
from flightsql_server.model import BEGIN, COMMIT, DATASET, ROLLBACK, ROWS, TABLES, Plan, Table, TableName
from flightsql_server.planner.names import did_you_mean, fold, shown
from flightsql_server.planner.request import Draft
from flightsql_server.planner.visibility import TEMPORARY_WORDS, candidates, lookup, may_see, visible_names

_ROWS = (exp.Insert, exp.Update, exp.Delete)
_TABLES = (exp.Create, exp.Drop, exp.Alter)
ROOTS = (*_ROWS, *_TABLES)
WORDS = frozenset({"insert", "update", "delete", "truncate", "create", "drop", "alter", "replace"})

_ROOT_ARGS: dict[type, frozenset[str]] = {
    exp.Insert: frozenset(
        {"this", "expression", "returning", "conflict", "with_", "by_name", "alternative", "default"}
    ),
    exp.Update: frozenset({"this", "expressions", "from_", "where", "returning", "with_"}),
    exp.Delete: frozenset({"this", "using", "where", "returning", "with_"}),
    exp.Create: frozenset({"this", "kind", "expression", "exists", "replace", "properties"}),
    exp.Drop: frozenset({"tables", "this", "kind", "exists"}),
    exp.Alter: frozenset({"this", "kind", "actions", "exists"}),
}


def _classes(text: str) -> frozenset[type]:
    found = (getattr(exp, name, None) for name in text.split())
    return frozenset(cls for cls in found if inspect.isclass(cls))


# What stands below a statement that changes something, beside what a query may hold.
PARTS = _classes(
    """
    AlterColumn AlterRename CheckColumnConstraint ColumnConstraint Constraint DefaultColumnConstraint ForeignKey
    NotNullColumnConstraint OnConflict PrimaryKey PrimaryKeyColumnConstraint IndexParameters Properties Reference
    RenameColumn Returning Schema TemporaryProperty UniqueColumnConstraint Var
    """
)
# Words that may stand before a bracket there.
SYNTAX = frozenset({"key", "primary key", "foreign key", "unique", "check", "conflict", "returning", "set", "default"})

_TRANSACTION_WORDS = {
    "begin": BEGIN,
    "start": BEGIN,
    "commit": COMMIT,
    "end": COMMIT,
    "rollback": ROLLBACK,
    "abort": ROLLBACK,
}
_FILLERS = frozenset({"transaction", "work"})


def answer_transaction(draft: Draft) -> None:
    """Rule: BEGIN, COMMIT and ROLLBACK are the service's to do; they never reach the parser."""
    tokens = draft.tokens
    word = fold(tokens[0].text)
    effect = _TRANSACTION_WORDS.get(word)
    if effect is None or tokens[0].token_type == TokenType.IDENTIFIER:
        return
    rest = [fold(token.text) for token in tokens[1:]]
    if word == "start" and rest[:1] != ["transaction"]:
        raise SqlSyntaxError('A statement can\'t begin with "START".', hint="Write START TRANSACTION.")
    if rest and (len(rest) > 1 or rest[0] not in _FILLERS):
        raise UnsupportedFeature(
            f"{shown(' '.join(token.text.upper() for token in tokens[:4]), 40)} is not accepted.",
            hint="Write BEGIN, COMMIT or ROLLBACK alone; there are no savepoints and no isolation levels to choose.",
        )
    draft.done = Plan(sql="", effect=effect)


def take_target(draft: Draft) -> None:
    """Rule: of a statement that changes something, its parts are known and its target is one that it may change."""
    if isinstance(draft.root, exp.TruncateTable):
        tables = draft.root.expressions
        if len(tables) != 1 or any(value for part, value in draft.root.args.items() if part != "expressions"):
            raise UnsupportedFeature("This form of TRUNCATE is not accepted.", hint="Write TRUNCATE and one table.")
        draft.tree = exp.Delete(this=tables[0])
    root = draft.root
    if not isinstance(root, ROOTS):
        return
    draft.values = frozenset()
    for part, value in root.args.items():
        if value and part not in _ROOT_ARGS[type(root)]:
            word = part.rstrip("_").upper()
            raise UnsupportedFeature(f"{word} is not accepted in {root.key.upper()}.", hint="Write it without.")
    if isinstance(root, _TABLES):
        _check_kind(root)
    for action in root.args.get("actions") or ():
        if isinstance(action, exp.AlterRename) and isinstance(action.this, exp.Table):
            if action.this.db:
                raise UnsupportedFeature("A table keeps its schema.", hint="Write the new name alone.")
            action.set("this", exp.to_identifier(action.this.name, quoted=True))
    node = _target_node(root)
    if isinstance(root, exp.Create):
        target = _new_table(draft, node)
        draft.effect = TABLES
    else:
        target = _known_table(draft, root, node)
    draft.target_node, draft.target = node, target
    _write_name(draft, node, target)


def _write_name(draft: Draft, node: exp.Table, name: TableName) -> None:
    for part, text in (("this", name.name), ("db", name.schema), ("catalog", draft.request.catalog.name)):
        node.set(part, exp.to_identifier(text, quoted=True))
    draft.named.append(node)


def take_reference(draft: Draft, node: exp.Table) -> bool:
    """Whether the table is one that a foreign key points to, which is then named in full.

    It stands in the schema of the table that is made: nobody's rows are tied to another's.
    """
    schema = node.parent
    if not isinstance(schema, exp.Schema) or not isinstance(schema.parent, exp.Reference) or draft.target is None:
        return False
    if schema.parent.args.get("options"):
        raise UnsupportedFeature("A foreign key has no options here.", hint="Write it without ON DELETE, ON UPDATE …")
    itself = not node.db and not node.catalog and fold(node.name) == fold(draft.target.name)
    name = draft.target
    if not itself:
        request = draft.request
        found = (lookup(request.catalog, one) for one in candidates(request, node.name, node.db, node.catalog))
        table = next((one for one in found if one is not None and may_see(request, one)), None)
        if table is None:
            raise UndefinedTable(
                f'Table "{shown(node.name)}" does not exist.',
                hint=did_you_mean(node.name, visible_names(request)),
                word=node.name,
            )
        if table.schema != draft.target.schema or table.definition:
            raise UnsupportedFeature(
                "A foreign key points to a table of the same schema.", hint="Make a table of your own to point to."
            )
        name = table.table_name
    _write_name(draft, node, name)
    return True


def _check_kind(root: exp.Expr) -> None:
    kind = str(root.args.get("kind") or "").upper()
    if kind not in ("TABLE", "VIEW") or (kind == "VIEW" and isinstance(root, exp.Alter)):
        raise UnsupportedFeature(
            f"{root.key.upper()} {shown(kind, 20)} is not accepted.", hint="There are tables and views, in your schema."
        )
    if kind == "VIEW" and isinstance(root, exp.Create):
        if not isinstance(root.this, exp.Table) or not isinstance(root.expression, exp.Query):
            raise UnsupportedFeature(
                "This form of CREATE VIEW is not accepted.", hint="Write CREATE VIEW name AS SELECT."
            )
        return
    if isinstance(root, exp.Create) and not root.args.get("expression") and not isinstance(root.this, exp.Schema):
        raise SqlSyntaxError("The table has no columns.", hint="Name some, or write AS SELECT ….")


def _target_node(root: exp.Expr) -> exp.Table:
    node = root.this
    if isinstance(root, exp.Drop):
        tables = root.args.get("tables") or [root.this]
        if len(tables) != 1:
            raise UnsupportedFeature("DROP takes one table.", hint="Drop them one by one.")
        node = tables[0]
    if isinstance(node, exp.Schema):
        node = node.this
    if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
        raise SqlSyntaxError("The statement names no table to change.", hint="Name one of your own.")
    return node


def _new_table(draft: Draft, node: exp.Table) -> TableName:
    request, grants = draft.request, draft.request.grants
    if not grants.create:
        raise AccessDenied("You may not create tables.", hint="Ask for a role with create.")
    _check_catalog(draft, node)
    schema = fold(node.db)
    temporary = _is_temporary(draft.root) or schema in TEMPORARY_WORDS or (schema and schema == grants.temporary)
    home = grants.temporary if temporary else grants.own
    if not home:
        raise InvalidTransaction("A temporary table needs a session.", hint="Log in by a handshake.")
    if schema not in ("", home) and not (temporary and schema in TEMPORARY_WORDS):
        raise AccessDenied(f"You may create tables in your own schema, {home}, only.", hint="Leave the schema out.")
    name = TableName(home, node.name)
    known = lookup(request.catalog, name)
    if known is not None:
        if not draft.root.args.get("exists") and not draft.root.args.get("replace"):
            raise DuplicateTable(f'Table "{shown(node.name)}" exists already.', hint="Drop it, or write OR REPLACE.")
        return known.table_name
    return name


def _is_temporary(root: exp.Expr) -> bool:
    """Whether CREATE says TEMPORARY, which is taken out: the table's schema says it from here on."""
    properties = root.args.get("properties")
    if properties is None:
        return False
    for one in properties.expressions:
        if not isinstance(one, exp.TemporaryProperty) or one.this:
            raise UnsupportedFeature("This kind of table is not accepted.", hint="Write CREATE TABLE or TEMP TABLE.")
    root.set("properties", None)
    return True


def _check_catalog(draft: Draft, node: exp.Table) -> None:
    if node.catalog and fold(node.catalog) != fold(draft.request.catalog.name):
        raise UndefinedTable(
            f'There is no catalog "{shown(node.catalog)}".', hint=f"It is {draft.request.catalog.name}."
        )


def _known_table(draft: Draft, root: exp.Expr, node: exp.Table) -> TableName:
    request = draft.request
    table = None
    for candidate in candidates(request, node.name, node.db, node.catalog):
        found = lookup(request.catalog, candidate)
        if found is not None and _may_know(draft, found):
            table = found
            break
    if table is None:
        if isinstance(root, exp.Drop) and root.args.get("exists"):
            target = _new_table(draft, node)
            draft.effect = TABLES
            return target
        raise UndefinedTable(
            f'Table "{shown(node.name)}" does not exist.',
            hint=did_you_mean(node.name, visible_names(request)),
            word=node.name,
        )
    own = request.grants.allows("create", schema=table.schema, name=table.name, dataset=table.dataset)
    if table.dataset is not None:
        _take_dataset(draft, root, table)
    elif not own:
        raise AccessDenied(f"You may not change {shown(table.name)}.", hint="Each user changes tables of their own.")
    else:
        draft.effect = ROWS if isinstance(root, _ROWS) else TABLES
        draft.columns = _returned(root, table)
    return table.table_name


def _may_know(draft: Draft, table: Table) -> bool:
    grants = draft.request.grants
    actions: tuple[Action, ...] = ("select", "insert", "ingest", "create")
    where = (table.schema, table.name, table.dataset)
    return any(grants.allows(action, schema=where[0], name=where[1], dataset=where[2]) for action in actions)


def _take_dataset(draft: Draft, root: exp.Expr, table: Table) -> None:
    """INSERT into a live dataset is taken as a query for the writer; nothing else is."""
    if not isinstance(root, exp.Insert) or table.name != table.dataset:
        raise ReadOnlyViolation(
            f"{table.name} takes no {root.key.upper()}.",
            hint=f"Insert whole rows into {table.dataset}, each replaces the row of its key; by DoPut a column _change "
            "with 'delete' removes a row.",
        )
    if not draft.request.grants.allows("insert", schema=table.schema, name=table.name, dataset=table.dataset):
        raise AccessDenied(f"You may not write to {table.name}.", hint="Ask for a role with insert or ingest on it.")
    for part in ("returning", "conflict", "by_name", "alternative", "default"):
        if root.args.get(part):
            raise UnsupportedFeature(
                f"{part.replace('_', ' ').upper()} is not accepted for a live dataset.", hint="Insert plain rows."
            )
    draft.effect = DATASET
    schema = root.this if isinstance(root.this, exp.Schema) else None
    names = [fold(part.name) for part in schema.expressions] if schema is not None else []
    known = {fold(column.name): column.name for column in table.columns}
    for name in names:
        if name not in known:
            raise SqlSyntaxError(
                f'{table.name} has no column "{shown(name)}".', hint=did_you_mean(name, known.values())
            )
    draft.columns = tuple(known[name] for name in names) or tuple(column.name for column in table.columns)


def _returned(root: exp.Expr, table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns)


def finish(draft: Draft) -> None:
    """Rule: what the engine is asked in the statement's place: which tables it reads, and what it returns."""
    root = draft.root
    if draft.target_node is None:
        return
    if draft.effect == DATASET:
        draft.tree = _with_names(root.expression, root.args.get("with_"))
        return
    lasting = draft.target is not None and draft.target.schema != draft.request.grants.temporary
    if isinstance(root, exp.Create) and str(root.args.get("kind")).upper() == "VIEW" and lasting and draft.transient:
        raise UnsupportedFeature("A view that lasts can't read a temporary table.", hint="Write CREATE TEMP VIEW.")
    returning = root.args.get("returning")
    if returning is not None:
        draft.describe = exp.Select(expressions=[node.copy() for node in returning.expressions]).from_(
            draft.target_node.copy()
        )
    draft.reads = _reads(root, draft)


def _reads(root: exp.Expr, draft: Draft) -> exp.Expr | None:
    """A query that reads what the statement reads."""
    if isinstance(root, (exp.Insert, exp.Create)):
        source = root.args.get("expression")
        if not isinstance(source, (exp.Query, exp.Values)):
            return None
        query = _with_names(source.copy(), root.args.get("with_"))
    elif isinstance(root, (exp.Update, exp.Delete)) and draft.target_node is not None:
        parts = list(_values(root))
        query = exp.Select(expressions=[part.copy() for part in parts] or [exp.Star()])
        query = query.from_(draft.target_node.copy())
        others = root.args.get("using") or ([root.args["from_"].this] if root.args.get("from_") else [])
        for other in others:
            query = query.join(other.copy(), join_type="cross")
        if root.args.get("where"):
            query = query.where(root.args["where"].this.copy())
        if root.args.get("with_"):
            query.set("with_", root.args["with_"].copy())
    else:
        return None
    return query


def _with_names(source: exp.Expr, with_: exp.With | None) -> exp.Expr:
    """A query of the same rows in which the statement's CTEs are known.

    Around the source and not in it, for it may have CTEs of its own: a name that lost its CTE would mean a table.
    """
    if with_ is None:
        return source
    around = source.subquery("given") if isinstance(source, exp.Query) else source
    if isinstance(source, exp.Values):
        source.set("alias", exp.TableAlias(this=exp.to_identifier("given")))
    query = exp.Select(expressions=[exp.Star()]).from_(around)
    query.set("with_", with_.copy())
    return query


def _values(root: exp.Expr) -> Iterator[exp.Expr]:
    if isinstance(root, exp.Update):
        for assignment in root.expressions:
            if isinstance(assignment, exp.EQ):
                yield assignment.expression


def names_target(tokens: list[Token], at: int, draft: Draft) -> bool:
    """Whether the bracket at ``at`` of the written text follows a full name that the rules wrote, and opens columns."""
    if at < 6:
        return False
    catalog, _, schema, _, name = (token.text for token in tokens[at - 5 : at])
    dots = tokens[at - 4].token_type == tokens[at - 2].token_type == TokenType.DOT
    before = fold(tokens[at - 6].text)
    full = (catalog, schema, name) in [(node.catalog, node.db, node.name) for node in draft.named]
    return dots and full and before in ("into", "table", "exists", "references")


__all__ = [
    "PARTS",
    "ROOTS",
    "SYNTAX",
    "WORDS",
    "answer_transaction",
    "finish",
    "names_target",
    "take_reference",
    "take_target",
]
