"""The empty text is NULL: as a literal, as a result of functions, and where somebody has stored one."""

from __future__ import annotations

from sqlglot import exp

from flightsql_server.errors import UnsupportedFeature
from flightsql_server.planner.information import type_name
from flightsql_server.planner.meaning.rewriting import Meaning
from flightsql_server.planner.meaning.types import DATES, DECIMALS, FLOATS, TIMESTAMPS, Types
from flightsql_server.planner.meaning.writing import call, cast, text
from flightsql_server.planner.names import fold


def nothing() -> exp.Expr:
    """NULL as a text."""
    return cast(exp.Null(), "VARCHAR")


def is_nothing(node: exp.Expr | None) -> bool:
    """Whether the node is an empty literal that has become NULL, or NULL itself."""
    return isinstance(node, exp.Null) or (isinstance(node, exp.Cast) and isinstance(node.this, exp.Null))


def _literal(node: exp.Expr) -> exp.Expr | None:
    return nothing() if node.args.get("is_string") and not node.this else None


def _raw_literal(node: exp.Expr) -> exp.Expr | None:
    return None if node.this else nothing()


def or_null(node: exp.Expr) -> exp.Expr:
    """The text, or NULL where it is empty."""
    return call("nullif", node, text(""))


def _replaced(node: exp.Expr) -> exp.Expr | None:
    """REPLACE by nothing takes out; nothing to look for leaves the text as it is."""
    if is_nothing(node.expression):
        taken: exp.Expr = node.this.copy()
        return taken
    if node.args.get("replacement") is None or is_nothing(node.args["replacement"]):
        node.set("replacement", text(""))
    return None


def _aggregated(node: exp.Expr) -> exp.Expr | None:
    """LISTAGG puts nothing between texts unless it is told to."""
    if node.args.get("separator") is None or is_nothing(node.args["separator"]):
        node.set("separator", text(""))
    return None


def _emptied(node: exp.Expr, types: Types) -> exp.Expr | None:
    return or_null(node)


def number_text(node: exp.Expr) -> exp.Expr:
    """A number as text: no zeros at the end of its decimals and none alone before the point."""
    shown = call("regexp_replace", cast(node, "VARCHAR"), text(r"(\.[0-9]*[1-9])0+$|\.0*$"), text(r"\1"))
    return call("regexp_replace", shown, text(r"^(-?)0\."), text(r"\1."))


def shown_text(node: exp.Expr, types: Types) -> exp.Expr:
    """A value as the text that it becomes beside other texts."""
    kind = types.of(node)
    if kind in DATES or kind in TIMESTAMPS:
        raise UnsupportedFeature("A date as text without a format is not accepted.", hint="Use TO_CHAR with a format.")
    if kind in DECIMALS or kind in FLOATS:
        return number_text(node)
    return node.copy()


def _joined(node: exp.Expr, types: Types) -> exp.Expr | None:
    """``||`` and CONCAT pass over what is NULL."""
    if isinstance(node, exp.DPipe) and isinstance(node.parent, exp.DPipe):
        return None
    pieces = _pieces(node) if isinstance(node, exp.DPipe) else list(node.expressions)
    made = call("concat", *(shown_text(piece, types) for piece in pieces))
    return made if any(isinstance(piece, exp.Literal) and piece.name for piece in pieces) else or_null(made)


def _pieces(node: exp.Expr) -> list[exp.Expr]:
    found: list[exp.Expr] = []
    while isinstance(node, exp.DPipe):
        found.append(node.expression)
        node = node.this
    return [node, *reversed(found)]


def _read(node: exp.Expr, types: Types) -> exp.Expr | None:
    """A table whose columns may hold empty texts is read with NULL in their place.

    Left as they are: columns that can't be NULL, which hold no empty text where such is NULL; and those that are only
    compared with a literal by a condition of WHERE, which an empty text can't meet.
    """
    if not isinstance(node, exp.Table) or not isinstance(node.parent, (exp.From, exp.Join)) or node.arg_key != "this":
        return None
    columns = [one for one in types.columns_of(node) if one.nullable and type_name(one.type) == "VARCHAR"]
    if columns and "names" not in types.found:
        types.found["names"] = _names(node.root())
    wanted: set[str] | None = types.found.get("names")
    columns = [one for one in columns if wanted is None or fold(one.name) in wanted]
    if not columns:
        return None
    inner = node.copy()
    kept = {part: inner.args.pop(part) for part in ("alias", "joins", "laterals", "sample") if inner.args.get(part)}
    names = [exp.to_identifier(one.name, quoted=True) for one in columns]
    changed = [exp.alias_(or_null(exp.Column(this=name.copy())), name.copy()) for name in names]
    query = exp.Select(expressions=[exp.Star(replace=changed)], from_=exp.From(this=inner))
    derived = exp.Subquery(this=query, alias=exp.TableAlias(this=exp.to_identifier(node.name, quoted=True)))
    for part, value in kept.items():
        derived.set(part, value)
    return derived


def _names(tree: exp.Expr) -> set[str] | None:
    """The names of the columns whose empty texts would show; None for all."""
    found = set()
    for node in tree.walk():
        if isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count):
            return None
        if isinstance(node, exp.Column) and not _only_compared(node):
            found.add(fold(node.name))
        elif isinstance(node, exp.Join):
            if node.args.get("method"):
                return None
            found.update(fold(name.name) for name in node.args.get("using") or ())
    return found


def _only_compared(column: exp.Expr) -> bool:
    condition = column.parent
    if isinstance(condition, exp.EQ):
        other = condition.expression if column.arg_key == "this" else condition.this
        literal = isinstance(other, exp.Literal)
    else:
        literal = (
            isinstance(condition, exp.In)
            and column.arg_key == "this"
            and bool(condition.expressions)
            and all(isinstance(item, exp.Literal) for item in condition.expressions)
        )
    while literal and condition is not None and isinstance(condition.parent, (exp.And, exp.Or, exp.Paren)):
        condition = condition.parent
    return literal and condition is not None and isinstance(condition.parent, exp.Where)


def _column(node: exp.Expr, types: Types) -> exp.Expr | None:
    """``schema.table.column`` names its table alone: the table may have been put into a query of its own."""
    if not node.args.get("db"):
        return None
    return exp.Column(this=node.this.copy(), table=node.args["table"].copy())


EMPTY_IS_NULL = Meaning(
    syntax={
        exp.Literal: (_literal,),
        exp.RawString: (_raw_literal,),
        exp.National: (_raw_literal,),
        exp.Replace: (_replaced,),
        exp.GroupConcat: (_aggregated,),
    },
    typed={
        exp.DPipe: (_joined,),
        exp.Concat: (_joined,),
        exp.Table: (_read,),
        exp.Column: (_column,),
        **dict.fromkeys((exp.Trim, exp.Replace, exp.Pad, exp.Translate, exp.Left, exp.Right), (_emptied,)),
    },
)
"""Oracle and Exasol. UPDATE, DELETE and MERGE see an empty text in the table that they change as it is."""
