"""SUBSCRIBE TO a query: which changes of a dataset's rows change its answer, and how to ask only those rows.

A query that takes rows of one dataset one by one (projection, filter, expressions) has a second form, which reads the
rows that a commit has changed in the dataset's place. Every other query is run anew when what it reads has changed.
"""

from __future__ import annotations

import re

import pyarrow as pa
from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.model import CHANGED_ROW, CHANGED_ROWS, Live, Table
from flightsql_server.planner import functions
from flightsql_server.planner.explain import BLANK
from flightsql_server.planner.names import fold
from flightsql_server.planner.request import Draft

_PREFIX = re.compile(rf"{BLANK}(?P<word>SUBSCRIBE\b{BLANK}TO\b)", re.IGNORECASE | re.DOTALL)
_PARTS = frozenset({"expressions", "from_", "where", "kind"})
_TABLE_PARTS = frozenset({"this", "db", "catalog", "alias"})
# What makes one row of many, or many of one, or needs more than the row.
_MORE_THAN_A_ROW = (
    exp.Query,
    exp.AggFunc,
    exp.Window,
    exp.Unnest,
    exp.Explode,
    exp.ExplodingGenerateSeries,
    exp.Columns,
    exp.PositionalColumn,
    exp.Distinct,
    exp.TableSample,
)
_NOT_BY_ROW = functions.AGGREGATE | functions.WINDOW | {"unnest", "regexp_split_to_table", "generate_subscripts"}


def split(text: str) -> str | None:
    """The query of a SUBSCRIBE TO, in which every character stands where it stood; None for any other text."""
    found = _PREFIX.match(text)
    if found is None:
        return None
    start = found.start("word")
    words = "".join(" " if letter != "\n" else letter for letter in text[start : found.end()])
    return text[:start] + words + text[found.end() :]


def consider(draft: Draft) -> None:
    """Rule: of a subscription, whether rows can be asked one by one; if so its columns are written out, and its key."""
    if not draft.request.live:
        return
    if draft.effect or not isinstance(draft.root, exp.Query):
        raise UnsupportedFeature("Only a query can be subscribed to.", hint="Write SUBSCRIBE TO SELECT ….")
    if draft.parametrised:
        raise UnsupportedFeature("A subscription takes no parameters.", hint="Write the values into the text.")
    if not _is_by_row(draft):
        return
    bound = draft.tables[0]
    name = bound.node.alias_or_name
    columns = _columns(draft.root.expressions, bound.table, name)
    outputs = [one.alias_or_name for one in columns]
    for key in bound.table.key:
        if not any(_is_column(one, key) for one in columns):
            if any(fold(output) == fold(key) for output in outputs):
                return  # another column has taken the key's name
            columns.append(_column(key, name))
    draft.root.set("expressions", columns)
    positions = [next(i for i, one in enumerate(columns) if _is_column(one, key)) for key in bound.table.key]
    plain: tuple[str, ...] = ()
    conditions = _conditions(draft.root)
    only = next(filter(None, (_only(one, bound.table) for one in conditions)), None)
    if all(isinstance(one, exp.Column) for one in columns) and len(conditions) == (0 if only is None else 1):
        plain = tuple(_own_name(bound.table, one.name) for one in columns)
    draft.live = Live("", str(bound.table.dataset), tuple(positions), plain, only)


def derive(draft: Draft) -> None:
    """Rule: of a subscription whose rows can be asked one by one, the query that asks those that have changed."""
    found = draft.live
    if found is None:
        return
    table = draft.tables[0].table
    views = draft.request.grants.views(schema=table.schema, name=table.name, dataset=table.dataset) or ()
    hidden = {column for view in views for column, _ in view.masks}
    if draft.volatile or draft.policy_tables or hidden & set(table.key):
        draft.live = None  # not told by the row alone, or not to be told apart
        return
    tree = draft.root.copy()
    (node,) = [one for one in tree.find_all(exp.Table) if one.args.get("db")]
    select = node.find_ancestor(exp.Select)
    while select is not None:
        source = select.args["from_"].this
        if not any(isinstance(one, exp.Star) for one in select.expressions):
            select.append("expressions", _column(CHANGED_ROW, source.alias_or_name))
        select = select.find_ancestor(exp.Select)
    if not node.alias:
        node.set("alias", exp.TableAlias(this=exp.to_identifier(node.name, quoted=True)))
    node.set("this", exp.to_identifier(CHANGED_ROWS, quoted=True))
    node.set("db", None)
    node.set("catalog", None)
    for column in tree.find_all(exp.Column):
        column.set("db", None)
        column.set("catalog", None)
    draft.changes = tree
    only = None if found.only is None or found.only[0] in hidden else found.only
    draft.live = Live("", found.dataset, found.key, () if views else found.plain, only)


def _is_by_row(draft: Draft) -> bool:
    """Whether the query says of each row of one dataset, by itself, whether and how it is shown."""
    root = draft.root
    if not isinstance(root, exp.Select) or any(value and part not in _PARTS for part, value in root.args.items()):
        return False
    if len(draft.tables) != 1 or draft.volatile or draft.views or root.args.get("kind"):
        return False
    bound = draft.tables[0]
    source = root.args["from_"].this if root.args.get("from_") else None
    if source is not bound.node or any(value and part not in _TABLE_PARTS for part, value in source.args.items()):
        return False
    alias = source.args.get("alias")
    if alias is not None and alias.args.get("columns"):
        return False
    if bound.table.dataset != bound.table.name or not bound.table.key:
        return False
    for node in root.walk():
        if node is not root and isinstance(node, _MORE_THAN_A_ROW):
            return False
        if isinstance(node, exp.Anonymous) and fold(node.name) in _NOT_BY_ROW:
            return False
        if isinstance(node, exp.Star) and (any(node.args.values()) or not _stands_alone(node, root)):
            return False
    return True


def _stands_alone(star: exp.Expr, root: exp.Expr) -> bool:
    """Whether a star is one of the columns asked for: ``*`` or ``t.*``."""
    parent = star.parent
    return parent is root or (isinstance(parent, exp.Column) and parent.parent is root)


def _columns(given: list[exp.Expr], table: Table, name: str) -> list[exp.Expr]:
    """The columns asked for, stars written out."""
    columns: list[exp.Expr] = []
    for one in given:
        if isinstance(one, exp.Star) or (isinstance(one, exp.Column) and isinstance(one.this, exp.Star)):
            columns += [_column(column.name, name) for column in table.columns]
        else:
            columns.append(one)
    return columns


def _column(column: str, table: str) -> exp.Expr:
    return exp.column(exp.to_identifier(column, quoted=True), exp.to_identifier(table, quoted=True))


def _is_column(node: exp.Expr, name: str) -> bool:
    """Whether it is that column under its own name."""
    return isinstance(node, exp.Column) and fold(node.name) == fold(name)


def _conditions(root: exp.Expr) -> list[exp.Expr]:
    """What every row of the answer fulfils."""
    where = root.args.get("where")
    if where is None:
        return []
    condition = where.this.unnest()
    return list(condition.flatten()) if isinstance(condition, exp.And) else [condition]


def _only(condition: exp.Expr, table: Table) -> tuple[str, frozenset[str]] | None:
    """The column of text and what it may say, where the condition is nothing but that; NULL is never among it."""
    if isinstance(condition, exp.EQ):
        column, texts = condition.this, [condition.expression]
        if not isinstance(column, exp.Column):
            column, texts = texts[0], [column]
    elif isinstance(condition, exp.In) and not condition.args.get("query") and not condition.args.get("unnest"):
        column, texts = condition.this, condition.expressions
    else:
        return None
    if not isinstance(column, exp.Column) or not all(isinstance(one, exp.Literal) and one.is_string for one in texts):
        return None
    name = _own_name(table, column.name)
    if not any(one.name == name and pa.types.is_string(one.type) for one in table.columns):
        return None
    return name, frozenset(str(one.this) for one in texts)


def _own_name(table: Table, name: str) -> str:
    return next((column.name for column in table.columns if fold(column.name) == fold(name)), name)
