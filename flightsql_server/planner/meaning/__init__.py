"""What a text means in its writer's dialect, kept where the syntax alone would let it change.

Each dialect has a ``Meaning``: rewrites of syntax, which run before the gate looks at the tree, and rewrites that need
the types of what they rewrite, which run once every table is known. What can't be kept is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from sqlglot import exp

from flightsql_server.planner.binding import rebind
from flightsql_server.planner.dialect import untranslatable
from flightsql_server.planner.meaning.bigquery import BIGQUERY
from flightsql_server.planner.meaning.calcite import DREMIO, DRILL, DRUID
from flightsql_server.planner.meaning.clickhouse import CLICKHOUSE
from flightsql_server.planner.meaning.exasol import EXASOL
from flightsql_server.planner.meaning.hive import DATABRICKS, HIVE, SPARK
from flightsql_server.planner.meaning.mysql import DORIS, MYSQL, STARROCKS
from flightsql_server.planner.meaning.oracle import ORACLE
from flightsql_server.planner.meaning.postgres import POSTGRES
from flightsql_server.planner.meaning.redshift import REDSHIFT
from flightsql_server.planner.meaning.rewriting import Meaning, TypedRewrite, is_settled, rewritten
from flightsql_server.planner.meaning.snowflake import SNOWFLAKE
from flightsql_server.planner.meaning.sqlite import SQLITE
from flightsql_server.planner.meaning.teradata import TERADATA
from flightsql_server.planner.meaning.trino import TRINO
from flightsql_server.planner.meaning.tsql import TSQL
from flightsql_server.planner.meaning.types import Types
from flightsql_server.planner.meaning.words import bracket_typed_literals, keep_plain
from flightsql_server.planner.request import Draft

MEANINGS: Mapping[str, Meaning] = {
    "athena": TRINO,
    "bigquery": BIGQUERY,
    "clickhouse": CLICKHOUSE,
    "databricks": DATABRICKS,
    "doris": DORIS,
    "dremio": DREMIO,
    "drill": DRILL,
    "druid": DRUID,
    "dune": TRINO,
    "exasol": EXASOL,
    "fabric": TSQL,
    "hive": HIVE,
    "materialize": POSTGRES,
    "mysql": MYSQL,
    "oracle": ORACLE,
    "postgres": POSTGRES,
    "presto": TRINO,
    "redshift": REDSHIFT,
    "risingwave": POSTGRES,
    "snowflake": SNOWFLAKE,
    "spark": SPARK,
    "spark2": HIVE,
    "sqlite": SQLITE,
    "starrocks": STARROCKS,
    "teradata": TERADATA,
    "trino": TRINO,
    "tsql": TSQL,
}
"""Of each dialect whose meaning sqlglot's translation alone would change somewhere."""


@contextmanager
def _odd_trees(draft: Draft) -> Iterator[None]:
    """A rewrite trips over a call without its arguments and the like; such a statement has no translation."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, KeyError, IndexError):
        raise untranslatable(draft) from None


def rewrite_tokens(draft: Draft) -> None:
    """Rule: words that the parser would misread are put so that it can't; it only sees what this leaves."""
    draft.tokens = bracket_typed_literals(draft.tokens)
    meaning = MEANINGS.get(draft.dialect)
    if meaning is None or draft.native:
        return
    for rewrite in meaning.tokens:
        draft.tokens = rewrite(draft.tokens)
    if meaning.plain:
        draft.tokens = keep_plain(draft.tokens, meaning.plain)


def rewrite_syntax(draft: Draft) -> None:
    """Rule: what the engine knows under another form gets that form, before the gate looks at it."""
    meaning = MEANINGS.get(draft.dialect)
    if meaning is None or draft.native:
        return
    with _odd_trees(draft):
        for prepare in meaning.prepare:
            draft.tree = prepare(draft.root, draft.text)
        if meaning.syntax:
            draft.tree = rewritten(draft.root, meaning.syntax, draft.dialect)


def _with(types: Types, rewrite: TypedRewrite, node: exp.Expr) -> exp.Expr | None:
    if is_settled(node) or (isinstance(node, exp.Cast) and isinstance(node.this, exp.Placeholder)):
        # The cast of a parameter was written here, and its type is that of the value that will be bound.
        return None
    new = rewrite(node, types)
    if new is not None and new is not node:
        if isinstance(new, exp.Cast):
            types.note(new, new.args["to"].this)
        types.keep(new, node)
    return new


def rewrite_typed(draft: Draft) -> None:
    """Rule: what depends on types is written so that it means in the engine what it meant to its writer."""
    meaning = MEANINGS.get(draft.dialect)
    if meaning is None or draft.native:
        return
    if not any(node.__class__ in meaning.typed for node in draft.root.walk()):
        return
    tables = {bound.table.table_name: bound.table for bound in draft.tables}
    target = draft.request.catalog.tables.get(draft.target) if draft.target is not None else None
    if target is not None:
        tables[target.table_name] = target
    types = Types(draft.root, draft.request.catalog.name, tables.values())
    by_kind = {kind: [partial(_with, types, one) for one in rewrites] for kind, rewrites in meaning.typed.items()}
    with _odd_trees(draft):
        draft.tree = rewritten(draft.root, by_kind, draft.dialect, draft.views)
    rebind(draft)
