"""What the caller may see of each table: applied to the tree, to every table that a statement reads.

Today a grant makes a whole table exist or not. Row filters and column masks will replace each bound table here by a
filtered sub-select with an optimisation barrier; no other rule has to know of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from flightsql_server.errors import UndefinedTable
from flightsql_server.planner.names import shown
from flightsql_server.planner.request import BoundTable, Draft, Request


def enforce(draft: Draft) -> None:
    """Rule: the policy of the caller holds for every table that was bound."""
    draft.tree = apply(draft.root, draft.request, draft.tables, draft.target_node)


def apply(
    tree: exp.Expr, request: Request, bound_tables: Sequence[BoundTable], target: exp.Table | None = None
) -> exp.Expr:
    """The tree under the caller's policy. Raises UndefinedTable where a table doesn't exist for the caller.

    ``target`` is the table that the statement changes; whether it may was settled when it was found.

    Binding asks for the grant as well, to choose between tables of one name; here it is decided.
    """
    mentioned = {id(bound.node) for bound in bound_tables} | {id(target)}
    for bound in bound_tables:
        table = bound.table
        if not request.grants.allows("select", schema=table.schema, name=table.name, dataset=table.dataset):
            raise UndefinedTable(f'Table "{shown(table.name)}" does not exist.')
    for node in tree.find_all(exp.Table):
        # A qualified name that nobody bound would reach the engine unchecked.
        if node.args.get("db") and id(node) not in mentioned:
            raise UndefinedTable(f'Table "{shown(node.name)}" does not exist.')
    return tree
