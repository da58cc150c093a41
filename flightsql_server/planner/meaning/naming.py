"""What PostgreSQL and its kin call things: names in small letters, and the columns that nobody gave a name.

Clients read columns by these names, and an outer query or an ORDER BY may use them.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.dialect import MARK
from flightsql_server.planner.names import fold

NOBODY = "?column?"

_TYPE_NAMES = {
    exp.DType.BIGINT: "int8",
    exp.DType.BOOLEAN: "bool",
    exp.DType.DATE: "date",
    exp.DType.DECIMAL: "numeric",
    exp.DType.DOUBLE: "float8",
    exp.DType.FLOAT: "float4",
    exp.DType.INT: "int4",
    exp.DType.INTERVAL: "interval",
    exp.DType.JSON: "json",
    exp.DType.JSONB: "jsonb",
    exp.DType.SMALLINT: "int2",
    exp.DType.TEXT: "text",
    exp.DType.TIME: "time",
    exp.DType.TIMESTAMP: "timestamp",
    exp.DType.TIMESTAMPTZ: "timestamptz",
    exp.DType.TIMETZ: "timetz",
    exp.DType.UUID: "uuid",
    exp.DType.VARBINARY: "bytea",
    exp.DType.VARCHAR: "varchar",
}
# What has its own syntax and so no written name in the tree.
_SYNTAX_NAMES: dict[type, str] = {
    exp.Array: "array",
    exp.AtTimeZone: "timezone",
    exp.CurrentDate: "current_date",
    exp.CurrentTime: "current_time",
    exp.CurrentTimestamp: "current_timestamp",
    exp.Exists: "exists",
    exp.Extract: "extract",
    exp.GroupConcat: "string_agg",
    exp.Interval: "interval",
    exp.Localtime: "localtime",
    exp.Localtimestamp: "localtimestamp",
    exp.Overlay: "overlay",
    exp.StrPosition: "position",
    exp.Substring: "substring",
    exp.Tuple: "row",
}
_TRIMS = {"LEADING": "ltrim", "TRAILING": "rtrim"}
_CALLS = (exp.Window, exp.Filter, exp.WithinGroup, exp.IgnoreNulls, exp.RespectNulls)
_INSIDE = (exp.Paren, exp.Collate, *_CALLS)
# The parser forgets the written name of an aggregate that OVER, FILTER or WITHIN GROUP follows.
_AGGREGATES: dict[type, str] = {exp.LogicalAnd: "bool_and", exp.LogicalOr: "bool_or"}


def fold_names(tree: exp.Expr, text: str) -> exp.Expr:
    """Puts names without quotes into small letters, as PostgreSQL does.

    The engine ignores case in names: two columns of a query that differ in it alone are refused.
    """
    for node in tree.find_all(exp.Identifier):
        if not node.args.get("quoted"):
            node.set("this", fold(node.name))
    _check_case(tree)
    return tree


def fold_all_names(tree: exp.Expr, text: str) -> exp.Expr:
    """Puts every name into small letters, quoted or not, as Redshift does unless it is told otherwise."""
    for node in tree.find_all(exp.Identifier):
        node.set("this", fold(node.name))
    return tree


def _check_case(tree: exp.Expr) -> None:
    for select in tree.find_all(exp.Select):
        seen: dict[str, str] = {}
        for column in select.expressions:
            name = column.alias_or_name if isinstance(column, (exp.Alias, exp.Column)) else ""
            if name and seen.setdefault(fold(name), name) != name:
                raise UnsupportedFeature(
                    f'The columns "{seen[fold(name)]}" and "{name}" differ by case alone.', hint="Rename one of them."
                )


def name_columns(tree: exp.Expr, text: str, renamed: Mapping[str, str] | None = None) -> exp.Expr:
    """Gives the nameless columns of the result, of CTEs and of derived tables PostgreSQL's names for them.

    ``renamed`` holds the functions whose columns are called otherwise.
    """
    for select in list(tree.find_all(exp.Select)):
        if not _is_seen(select):
            continue
        for column in select.expressions:
            if isinstance(column, (exp.Alias, exp.Aliases, exp.Star)):
                continue
            if isinstance(column, exp.Column) and MARK not in column.name:
                continue
            name = _figured(column, text)[0] or NOBODY
            column.replace(exp.alias_(column.copy(), (renamed or {}).get(name, name), quoted=True))
    return tree


def name_values(tree: exp.Expr, text: str) -> exp.Expr:
    """The columns of VALUES are called column1, column2 and so on."""
    for values in list(tree.find_all(exp.Values)):
        rows = values.expressions
        count = len(rows[0].expressions) if rows and isinstance(rows[0], exp.Tuple) else 1
        names = [exp.to_identifier(f"column{number}") for number in range(1, count + 1)]
        alias = values.args.get("alias")
        if isinstance(values.parent, (exp.From, exp.Join)):
            if alias is None:
                values.set("alias", exp.TableAlias(this=exp.to_identifier("values_"), columns=names))
            elif len(alias.args.get("columns") or ()) < count:
                given = alias.args.get("columns") or []
                alias.set("columns", given + names[len(given) :])
        elif values is tree or isinstance(values.parent, (exp.CTE, exp.SetOperation, exp.Subquery)):
            inner = values.copy()
            tail = {part: inner.args[part] for part in ("with_", "order", "limit", "offset") if inner.args.get(part)}
            for part in tail:
                inner.set(part, None)
            inner.set("alias", exp.TableAlias(this=exp.to_identifier("values_"), columns=names))
            select = exp.Select(expressions=[exp.Star()], from_=exp.From(this=inner), **tail)
            if values is tree:
                tree = select
            else:
                values.replace(select)
    return tree


def _is_seen(select: exp.Expr) -> bool:
    """Whether the columns of this SELECT have names that something can ask for."""
    node = select
    while node.parent is not None:
        if isinstance(node.parent, exp.SetOperation) and node.arg_key == "expression":
            return False
        if isinstance(node.parent, exp.Subquery) and isinstance(node.parent.parent, (exp.From, exp.Join, exp.Lateral)):
            return True
        if isinstance(node.parent, (exp.CTE, exp.Create)):
            return True
        if not isinstance(node.parent, (exp.SetOperation, exp.Subquery)):
            return False
        node = node.parent
    return True


def _written(node: exp.Expr, text: str) -> str:
    """The name of a function as it stands in the text, if it was called by one."""
    start, end = node.meta.get("start"), node.meta.get("end")
    if start is None or end is None:
        return ""
    return fold(text[start : end + 1].rsplit(".", 1)[-1].strip('"'))


def _figured(node: exp.Expr, text: str) -> tuple[str, bool]:
    """The name of an expression, empty for none, and whether it is a strong one, which a cast leaves in its place."""
    name = ""
    if isinstance(node, (exp.Column, exp.Dot)):
        # A parameter stands as a column with a mark.
        return ("", False) if MARK in node.name else (node.name, True)
    if isinstance(node, exp.Bracket):
        return _figured(node.this, text)
    if isinstance(node, _INSIDE):
        return _figured(node.this, text)
    if isinstance(node, exp.Cast):
        name, strong = _figured(node.this, text)
        kind = node.to.this
        return (name, True) if strong else (_TYPE_NAMES.get(kind) or str(node.to.this.value).lower(), False)
    if isinstance(node, exp.Case):
        default = node.args.get("default")
        name, strong = _figured(default, text) if default is not None else ("", False)
        return (name, True) if strong else ("case", False)
    if isinstance(node, exp.Subquery):
        query = node.this
        while isinstance(query, (exp.SetOperation, exp.Subquery)):
            query = query.this
        first = query.expressions[0] if isinstance(query, exp.Select) and query.expressions else None
        if isinstance(first, exp.Alias):
            return first.alias, True
        return _figured(first, text) if first is not None else ("", False)
    if isinstance(node, exp.Trim):
        return _TRIMS.get(str(node.args.get("position") or ""), _trim_name(_written(node, text))), True
    if isinstance(node, exp.Func) or type(node) in _SYNTAX_NAMES:
        name = _written(node, text) or _SYNTAX_NAMES.get(type(node), "")
        if not name and isinstance(node.parent, _CALLS) and isinstance(node, exp.Func):
            name = _AGGREGATES.get(type(node)) or fold(
                node.name if isinstance(node, exp.Anonymous) else node.sql_name()
            )
    return name, bool(name)


def _trim_name(written: str) -> str:
    return "btrim" if written in ("", "trim") else written
