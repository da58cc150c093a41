"""Which table a name means, and what of it the caller may read."""

from __future__ import annotations

import pyarrow as pa
import pytest
from flightsql_auth.policies import Grants

from flightsql_server.errors import StatementTooComplex, UndefinedTable
from flightsql_server.model import VIEW, Catalog, Column, Table, TableName
from flightsql_server.planner import Request, plan, policy
from flightsql_server.planner.request import BoundTable
from tests.unit.planner import world

POSITIONS = [
    "SELECT * FROM {t}",
    "SELECT (SELECT max(note) FROM {t})",
    "SELECT 1 FROM orders WHERE symbol IN (SELECT note FROM {t})",
    "SELECT 1 FROM orders o JOIN {t} h ON true",
    "SELECT * FROM orders o, LATERAL (SELECT o.symbol, id FROM {t}) l",
    "SELECT 1 WHERE EXISTS (FROM {t})",
    "SELECT symbol FROM orders UNION ALL SELECT note FROM {t}",
    "SELECT symbol FROM orders EXCEPT (SELECT note FROM {t})",
    "VALUES ((SELECT max(note) FROM {t}))",
    "SELECT 1 FROM orders ORDER BY (SELECT max(id) FROM {t})",
    "SELECT 1 FROM orders LIMIT (SELECT max(id) FROM {t})",
    "SELECT 1 FROM orders GROUP BY symbol HAVING count(*) > (SELECT max(id) FROM {t})",
    "SELECT 1 FROM orders QUALIFY row_number() OVER () > (SELECT max(id) FROM {t})",
    "SELECT count(*) FILTER (symbol = (SELECT max(note) FROM {t})) FROM orders",
    "SELECT list_transform([1], lambda x: x + (SELECT max(id) FROM {t}))",
    "SELECT CASE (SELECT max(id) FROM {t}) WHEN 1 THEN 2 END",
    "SELECT {{'a': (SELECT max(id) FROM {t})}}, [(SELECT max(id) FROM {t})]",
    "WITH x AS (SELECT * FROM {t}) SELECT 1",
    "WITH x AS (WITH y AS (FROM {t}) FROM y) FROM x",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r, {t} WHERE n < 3) FROM r",
    "SELECT * FROM (orders JOIN {t} ON true)",
    "SELECT * FROM orders POSITIONAL JOIN {t}",
    "TABLE {t}",
    "SELECT * FROM information_schema.tables, {t}",
    "SELECT * FROM information_schema.tables i JOIN {t} h ON h.note = i.table_name",
    "SELECT * FROM range(3) r, {t}",
]


@pytest.mark.parametrize("form", POSITIONS)
@pytest.mark.parametrize("name", ["hidden", "HIDDEN", '"hidden"', "main.hidden", "desk.main.hidden", "desk.hidden"])
def test_a_table_is_found_in_every_position(form: str, name: str) -> None:
    text = form.format(t=name)
    with pytest.raises(UndefinedTable, match="does not exist"):
        world.planned(text, grants=world.TRADER)
    plan = world.planned(text)
    assert TableName("main", "hidden") in plan.tables
    assert '"desk"."main"."hidden"' in plan.sql


@pytest.mark.parametrize("form", POSITIONS)
def test_a_cte_of_that_name_hides_the_table(form: str) -> None:
    if form.startswith(("WITH", "TABLE", "VALUES")) or "lambda" in form:
        return
    plan = world.planned("WITH hidden AS (SELECT 1 AS id, 'n' AS note) " + form.format(t="hidden"), grants=world.TRADER)
    assert TableName("main", "hidden") not in plan.tables
    with world.database() as connection:
        assert TableName("main", "hidden") not in (world.engine_tables(connection, plan.sql) or set())
        assert "SECRET" not in str(connection.sql(plan.sql).to_arrow_table())


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("WITH t AS (FROM orders) FROM t, t AS u", {"orders"}),
        ("WITH orders AS (SELECT 1 AS a), t AS (FROM orders) FROM t", set()),
        ("WITH t AS (FROM orders), orders AS (SELECT 1 AS a) FROM t", {"orders"}),
        ("WITH orders AS (FROM orders) FROM orders", {"orders"}),
        ("WITH RECURSIVE orders AS (FROM orders) FROM orders", {"orders"}),
        ("WITH RECURSIVE orders AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM orders WHERE a < 2) FROM orders", set()),
        (
            "WITH RECURSIVE o AS (SELECT 1 AS a UNION (WITH z AS (FROM o) SELECT a + 1 FROM z WHERE a < 3)) FROM o",
            set(),
        ),
        ("WITH RECURSIVE o AS ((SELECT 1 AS a UNION ALL SELECT a + 1 FROM o WHERE a < 2)) FROM o", set()),
        (
            "WITH RECURSIVE orders AS (SELECT 'x' AS symbol UNION ALL BY NAME SELECT symbol FROM orders) FROM orders",
            {"orders"},
        ),
        (
            "WITH RECURSIVE orders AS (WITH q AS (FROM orders) SELECT symbol FROM q UNION SELECT '1') FROM orders",
            {"orders"},
        ),
        ("WITH Orders AS (SELECT 1 AS a) FROM ORDERS", set()),
        ("SELECT * FROM (WITH orders AS (SELECT 1 AS a) FROM orders) x, orders", {"orders"}),
        ("WITH orders AS (SELECT 1 AS a) SELECT * FROM main.orders", {"orders"}),
        ("WITH orders AS (SELECT 'AAA' AS symbol) SELECT (SELECT count(*) FROM orders) AS n", set()),
        (
            "SELECT o.symbol FROM orders o WHERE EXISTS (SELECT 1 FROM positions p WHERE p.symbol = o.symbol)",
            {"orders", "positions"},
        ),
        (
            "WITH a AS (FROM orders), b AS (FROM positions), c AS (FROM a JOIN b USING (symbol)) FROM c",
            {"orders", "positions"},
        ),
        ("(WITH orders AS (SELECT 1 AS a) FROM orders) UNION ALL (SELECT 2)", set()),
        ("WITH orders AS (SELECT 1 AS a) (FROM orders) UNION ALL SELECT a FROM orders", set()),
    ],
)
def test_scopes_are_the_engines(text: str, tables: set[str]) -> None:
    plan = world.planned(text)
    assert {name.name for name in plan.tables} == tables
    with world.database() as connection:
        seen = world.engine_tables(connection, plan.sql)
        assert seen is None or seen == set(plan.tables)
        assert world.answer(connection, plan.sql) == world.answer(connection, text)


def test_unqualified_names_look_in_the_users_schema_first() -> None:
    assert world.planned("FROM notes", schema="u_alice").tables == (TableName("u_alice", "notes"),)
    assert world.planned("FROM orders", schema="u_alice").tables == (TableName("main", "orders"),)
    with pytest.raises(UndefinedTable):
        world.planned("FROM notes", schema="main")
    with pytest.raises(UndefinedTable):
        world.planned("FROM notes", grants=world.EVERYTHING, schema="main")
    # The caller's own schema is looked in whatever the session has chosen, another's never.
    assert world.planned("FROM notes", grants=world.TRADER, schema="u_bob").tables == (TableName("u_alice", "notes"),)


def test_case_is_ignored_as_the_engine_ignores_it() -> None:
    assert world.planned('SELECT * FROM "mixed case"').tables == (TableName("main", "Mixed Case"),)
    assert world.planned("SELECT * FROM DESK.Main.ORDERS").tables == (TableName("main", "orders"),)
    # Only ASCII letters: a CTE named É is not é for the engine, so é must not pass as a CTE.
    with pytest.raises(UndefinedTable):
        world.planned('WITH "É" AS (SELECT 1) SELECT * FROM "é"')
    with pytest.raises(UndefinedTable):
        # The Kelvin sign lowers to k in Unicode.
        world.planned('WITH "\u212a" AS (SELECT 1) SELECT * FROM k')


def test_names_are_quoted_whatever_they_hold() -> None:
    wicked = Table("main", 'a"; DROP TABLE x; --', world.TABLES[0].columns)
    catalog = Catalog({wicked.table_name: wicked})
    plan = world.planned('SELECT * FROM "a""; DROP TABLE x; --"', catalog=catalog)
    assert plan.tables == (wicked.table_name,)
    assert '"desk"."main"."a""; DROP TABLE x; --"' in plan.sql


def test_tables_are_sorted_and_named_once() -> None:
    plan = world.planned("SELECT * FROM positions, orders o, orders p, u_alice.notes")
    assert plan.tables == (TableName("main", "orders"), TableName("main", "positions"), TableName("u_alice", "notes"))


def test_the_policy_rule_decides_by_itself() -> None:
    """Even if binding let a table through, the policy step would not."""
    from sqlglot import parse_one

    from flightsql_server.planner import Request

    tree = parse_one('SELECT * FROM "desk"."main"."hidden"', read="duckdb")
    node = next(iter(tree.find_all(__import__("sqlglot").exp.Table)))
    request = Request("", "duckdb", "alice", world.TRADER, world.CATALOG)
    hidden = world.CATALOG.tables[TableName("main", "hidden")]
    with pytest.raises(UndefinedTable):
        policy.apply(tree, request, [BoundTable(node, hidden)])
    with pytest.raises(UndefinedTable):
        policy.apply(tree, request, [])
    allowed = Request("", "duckdb", "alice", Grants(select=frozenset({"hidden"})), world.CATALOG)
    assert policy.apply(tree, allowed, [BoundTable(node, hidden)]) is tree


def test_views_of_views_have_an_end() -> None:
    """Each holds the queries of those below it, so a few of them could hold a planner up for minutes."""
    tables = dict(world.CATALOG.tables)
    grants = Grants(select=frozenset({"*"}), create=True, own="u_alice")

    def query(level: int) -> str:
        below = f"v{level - 1}" if level else "fills"
        return " UNION ALL ".join([f"SELECT fill_id FROM {below}"] * 40)

    for level in range(2):
        text = f"CREATE VIEW v{level} AS {query(level)}"
        made = plan(Request(text, "duckdb", "alice", grants, Catalog(tables)))
        view = Table("u_alice", f"v{level}", (Column("fill_id", pa.int64()),), VIEW, definition=made.sql)
        tables[view.table_name] = view
    with pytest.raises(StatementTooComplex):
        plan(Request(query(2), "duckdb", "alice", grants, Catalog(tables)))
