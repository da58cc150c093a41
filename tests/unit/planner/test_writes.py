"""What a statement that changes something becomes: its text, its effect, its target, and what it reads."""

from __future__ import annotations

import pyarrow as pa
import pytest
from flightsql_auth.policies import Grants, own_schema

from flightsql_server.data.datasets import DATASETS, catalog_of
from flightsql_server.errors import (
    AccessDenied,
    DuplicateTable,
    InvalidTransaction,
    ReadOnlyViolation,
    UndefinedTable,
    UnsupportedFeature,
)
from flightsql_server.model import BEGIN, COMMIT, DATASET, ROLLBACK, ROWS, TABLES, Plan, TableName
from flightsql_server.planner import Request, plan
from tests.unit.planner import world

ALICE = Grants(select=frozenset({"market_data"}), ingest=frozenset({"market_data"}), create=True, own="u_alice")
NOTES = TableName("u_alice", "notes")


def _planned(text: str, dialect: str = "duckdb", grants: Grants = ALICE) -> Plan:
    return plan(Request(text, dialect, "alice", grants, world.CATALOG, "", "UTC", "1"))


@pytest.mark.parametrize(
    ("text", "sql", "reads"),
    [
        (
            "INSERT INTO notes VALUES (1, 'a')",
            """INSERT INTO "desk"."u_alice"."notes" VALUES (1, 'a')""",
            "VALUES (1, 'a')",
        ),
        (
            "INSERT INTO notes (id) SELECT volume FROM market_data",
            'INSERT INTO "desk"."u_alice"."notes" (id) SELECT volume FROM "desk"."main"."market_data"',
            'SELECT volume FROM "desk"."main"."market_data"',
        ),
        (
            "UPDATE u_alice.notes SET note = 'z' WHERE id = 1",
            """UPDATE "desk"."u_alice"."notes" SET note = 'z' WHERE id = 1""",
            """SELECT 'z' FROM "desk"."u_alice"."notes" WHERE id = 1""",
        ),
        (
            "DELETE FROM notes USING market_data m WHERE id = m.volume",
            'DELETE FROM "desk"."u_alice"."notes" USING "desk"."main"."market_data" AS m WHERE id = m.volume',
            'SELECT * FROM "desk"."u_alice"."notes" CROSS JOIN "desk"."main"."market_data" AS m WHERE id = m.volume',
        ),
        ("TRUNCATE notes", 'DELETE FROM "desk"."u_alice"."notes"', 'SELECT * FROM "desk"."u_alice"."notes"'),
    ],
)
def test_rows_of_own_tables_are_changed(text: str, sql: str, reads: str) -> None:
    found = _planned(text)
    assert (found.effect, found.target, found.sql, found.reads) == (ROWS, NOTES, sql, reads)


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE t (a INT PRIMARY KEY, b DECIMAL(10, 2) NOT NULL DEFAULT 0, UNIQUE (b), CHECK (a > 0))",
        "CREATE TABLE IF NOT EXISTS u_alice.t AS SELECT symbol FROM market_data",
        "CREATE OR REPLACE TABLE notes (a INT)",
        "DROP TABLE notes",
        "DROP TABLE IF EXISTS nothing",
        "ALTER TABLE notes ADD COLUMN c INT",
        "ALTER TABLE notes RENAME TO other",
        "ALTER TABLE notes RENAME COLUMN id TO number",
    ],
)
def test_own_tables_are_made_changed_and_dropped(text: str) -> None:
    found = _planned(text)
    assert found.effect == TABLES
    assert found.target is not None
    assert found.target.schema == "u_alice"
    assert '"desk"."u_alice".' in found.sql


def test_a_table_of_another_dialect_gets_the_engine_s_types() -> None:
    found = _planned("CREATE TABLE t (a NUMBER(10, 2), b STRING)", "snowflake")
    assert found.sql == 'CREATE TABLE "desk"."u_alice"."t" (a DECIMAL(10, 2), b TEXT)'


def test_returned_columns_are_described_without_running_anything() -> None:
    found = _planned("INSERT INTO notes VALUES (1, 'a') RETURNING id, note || '!' AS loud")
    assert found.describe.endswith("""AS loud FROM "desk"."u_alice"."notes" """.strip())
    assert _planned("INSERT INTO notes VALUES (1, 'a')").describe == ""


def test_rows_for_a_live_dataset_become_a_query_for_the_writer() -> None:
    found = _planned("WITH c AS (SELECT 1 AS n) INSERT INTO market_data (timestamp, symbol) SELECT now(), 'A' FROM c")
    assert (found.effect, found.target) == (DATASET, TableName("main", "market_data"))
    assert found.columns == ("timestamp", "symbol")
    assert found.sql == "WITH c AS (SELECT 1 AS n) SELECT * FROM (SELECT now(), 'A' FROM c) AS given"


@pytest.mark.parametrize(
    "text",
    ["UPDATE market_data SET volume = 1", "DELETE FROM market_data", "DROP TABLE market_data", "TRUNCATE market_data"],
)
def test_a_live_dataset_takes_nothing_else_and_says_how_it_is_done(text: str) -> None:
    with pytest.raises(ReadOnlyViolation, match=r"_change"):
        _planned(text)


@pytest.mark.parametrize("text", ["INSERT INTO {}_history SELECT * FROM {}_history", "DROP TABLE {}_history"])
def test_history_takes_nothing_at_all(text: str) -> None:
    grants = Grants(select=frozenset({"*"}), ingest=frozenset({"*"}), create=True, admin=True, own="u_root")
    for name in DATASETS:
        with pytest.raises(ReadOnlyViolation):
            plan(Request(text.replace("{}", name), "duckdb", "root", grants, catalog_of(DATASETS), "", "UTC", "1"))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("CREATE TABLE notes (a INT)", DuplicateTable),
        ("CREATE TABLE main.t (a INT)", AccessDenied),
        ("CREATE TABLE u_bob.t (a INT)", AccessDenied),
        ("INSERT INTO u_bob.notes VALUES (1, 'x')", UndefinedTable),
        ("INSERT INTO hidden VALUES (1, 'x')", UndefinedTable),
        ("INSERT INTO nothing VALUES (1, 'x')", UndefinedTable),
    ],
)
def test_what_is_not_one_s_own_can_not_be_changed(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        _planned(text)


def test_without_create_nothing_is_made() -> None:
    for text in ("CREATE TABLE t (a INT)", "CREATE TABLE u_alice.t (a INT)"):
        with pytest.raises(AccessDenied, match="create"):
            _planned(text, grants=Grants(select=frozenset({"*"}), own="u_alice"))


def test_an_administrator_sees_a_user_s_table_but_does_not_change_it() -> None:
    admin = Grants(select=frozenset({"*"}), ingest=frozenset({"*"}), create=True, admin=True, own="u_root")
    assert _planned("SELECT * FROM u_bob.notes", grants=admin).tables == (TableName("u_bob", "notes"),)
    with pytest.raises(AccessDenied):
        _planned("DELETE FROM u_bob.notes", grants=admin)


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        ("BEGIN", BEGIN),
        ("begin transaction;", BEGIN),
        ("START TRANSACTION", BEGIN),
        ("COMMIT", COMMIT),
        ("COMMIT WORK", COMMIT),
        ("END", COMMIT),
        ("ROLLBACK", ROLLBACK),
        ("ABORT", ROLLBACK),
    ],
)
@pytest.mark.parametrize("dialect", ["duckdb", "postgres", "mysql", "tsql"])
def test_transactions_are_understood_in_every_dialect(text: str, effect: str, dialect: str) -> None:
    assert _planned(text, dialect).effect == effect


def test_values_get_the_types_of_their_columns() -> None:
    assert _planned("INSERT INTO notes (note, id) VALUES (?, ?)").parameters == (pa.string(), pa.int64())
    assert _planned("UPDATE notes SET note = ? WHERE id = ?").parameters == (pa.string(), pa.int64())


def test_schemas_of_users_never_collide() -> None:
    names = ["alice", "Alice", "ALICE", "al ice", "al-ice", "a" * 80, "a" * 81, "ä", ""]
    schemas = [own_schema(name) for name in names]
    assert len({schema.lower() for schema in schemas}) == len(names)
    assert own_schema("alice") == "u_alice"


# ---- temporary tables and foreign keys

IN_SESSION = Grants(select=frozenset({"market_data"}), create=True, own="u_alice", temporary="temp_1")


@pytest.mark.parametrize(
    ("text", "dialect", "sql"),
    [
        ("CREATE TEMP TABLE t (a INT)", "duckdb", 'CREATE TABLE "desk"."temp_1"."t" (a INT)'),
        ("CREATE TEMPORARY TABLE t AS SELECT 1 AS a", "postgres", 'CREATE TABLE "desk"."temp_1"."t" AS SELECT 1 AS a'),
        ("CREATE TEMPORARY TABLE t (a STRING)", "snowflake", 'CREATE TABLE "desk"."temp_1"."t" (a TEXT)'),
        ("CREATE TABLE pg_temp.t (a INT)", "postgres", 'CREATE TABLE "desk"."temp_1"."t" (a INT)'),
        ("CREATE TEMP VIEW v AS SELECT 1 AS a", "duckdb", 'CREATE VIEW "desk"."temp_1"."v" AS SELECT 1 AS a'),
        ("CREATE TABLE t (a INT)", "duckdb", 'CREATE TABLE "desk"."u_alice"."t" (a INT)'),
    ],
)
def test_temporary_tables_stand_in_the_session_s_schema(text: str, dialect: str, sql: str) -> None:
    assert _planned(text, dialect, IN_SESSION).sql == sql


@pytest.mark.parametrize(
    ("text", "grants", "error"),
    [
        ("CREATE TEMP TABLE t (a INT)", ALICE, InvalidTransaction),
        ("CREATE TEMP TABLE main.t (a INT)", IN_SESSION, AccessDenied),
        ("CREATE TEMP TABLE u_alice.t (a INT)", IN_SESSION, AccessDenied),
        ("CREATE TABLE temp_2.t (a INT)", IN_SESSION, AccessDenied),
        ("CREATE GLOBAL TEMPORARY TABLE t (a INT)", IN_SESSION, UnsupportedFeature),
        ("SELECT * FROM temp_2.t", IN_SESSION, UndefinedTable),
    ],
)
def test_temporary_tables_stand_nowhere_else(text: str, grants: Grants, error: type[Exception]) -> None:
    with pytest.raises(error):
        _planned(text, "duckdb", grants)


def test_a_foreign_key_names_its_table_in_full() -> None:
    found = _planned("CREATE TABLE t (a INT REFERENCES notes (id), CONSTRAINT k FOREIGN KEY (a) REFERENCES t (a))")
    assert found.sql == (
        'CREATE TABLE "desk"."u_alice"."t" (a INT REFERENCES "desk"."u_alice"."notes" (id), '
        'CONSTRAINT k FOREIGN KEY (a) REFERENCES "desk"."u_alice"."t" (a))'
    )


_FIVE = "'s', 'BUY', 1, TIMESTAMP '2026-01-01', TIMESTAMP '2026-01-01'"


@pytest.mark.parametrize(
    "text",
    [
        "WITH a AS (SELECT 1) INSERT INTO orders WITH positions AS (SELECT 'own' AS account) "
        f"SELECT account, {_FIVE} FROM positions WHERE EXISTS (FROM main.positions)",
        f"WITH positions AS (SELECT 'own' AS account) INSERT INTO orders VALUES ((SELECT max(account) FROM positions), "
        f"{_FIVE})",
        "WITH positions AS (SELECT 'own' AS account) "
        f"INSERT INTO orders SELECT account, {_FIVE} FROM positions UNION SELECT account, {_FIVE} FROM positions",
    ],
)
def test_a_cte_stays_one_when_rows_for_a_live_dataset_become_a_query(text: str) -> None:
    """Else its name would mean the table of that name, in which the policy hides nothing."""
    grants = Grants(select=frozenset({"positions"}), ingest=frozenset({"orders"}), create=True, own="u_alice")
    with world.database() as connection:
        assert [row[0] for row in connection.sql(_planned(text, grants=grants).sql).fetchall()] == ["own"]


@pytest.mark.parametrize(
    "text",
    [
        "WITH a AS (SELECT 1) INSERT INTO notes WITH positions AS (SELECT 1, 'x') FROM positions",
        "WITH positions AS (SELECT 'x') INSERT INTO notes VALUES (1, (FROM positions))",
    ],
)
def test_what_a_change_reads_knows_its_ctes(text: str) -> None:
    with world.database() as connection:
        assert connection.sql(_planned(text).reads).fetchall()[0][-1] == "x"
