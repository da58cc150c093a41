"""What must not pass: every file of fixtures/bypass, every size that could hurt; and what a refusal says."""

from __future__ import annotations

import time
from pathlib import Path

import duckdb
import pytest
from flightsql_auth.policies import Grants

from flightsql_server.errors import (
    InvalidParameter,
    ServerError,
    SqlSyntaxError,
    StatementTooComplex,
    UndefinedTable,
    UnsupportedFeature,
    UserError,
)
from flightsql_server.model import TableName
from flightsql_server.planner import RULES, PlannerLimits, allowed, dialects, functions
from tests.unit.planner import corpus, world

BYPASS = sorted((Path(__file__).parents[2] / "fixtures" / "bypass").glob("*.sql"))
INTERNALS = ("sqlglot", "Traceback", "site-packages", "<class", "\x1b[", ".py")


@pytest.mark.parametrize("path", BYPASS, ids=lambda path: path.stem)
def test_bypass_is_refused_with_its_sqlstate(path: Path) -> None:
    """The last part of a file's name is the SQLSTATE that the attempt must earn."""
    text = path.read_text(encoding="utf-8").removesuffix("\n")
    with pytest.raises(UserError) as refused:
        world.planned(text, grants=world.TRADER)
    assert refused.value.sqlstate == path.stem.rpartition(".")[2], str(refused.value)
    message = str(refused.value)
    assert not any(word in message.replace(text, "") for word in INTERNALS)
    assert "SECRET" not in message
    assert "hidden" not in refused.value.hint


def test_there_are_as_many_attempts_as_promised() -> None:
    assert len(BYPASS) >= 150


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'DROP TABLE orders; --'",
        "SELECT 1 /* ; DROP TABLE orders */",
        'SELECT 1 AS "; DROP TABLE orders"',
        "SELECT $$; DROP TABLE orders$$",
        "-- dialect: mysql\nSELECT 'a\\'; DROP TABLE orders; -- '",
        "-- dialect: bigquery\nSELECT '\\'; DROP TABLE orders; --'",
        "SELECT e'\\'; DROP TABLE orders; --'",
        "SELECT 'read_csv(''x'')'",
        "WITH read_csv(a) AS (SELECT 1) SELECT a FROM read_csv",
        "SELECT a FROM (SELECT 1) AS query(a)",
        "SELECT 1 AS \"read_csv('x')\"",
        "SELECT * FROM (SELECT 1 AS getvariable)",
    ],
)
def test_what_only_looks_wicked_passes_and_is_harmless(text: str) -> None:
    plan = world.planned(text, grants=world.TRADER)
    assert plan.tables == ()
    with world.database() as connection:
        before = connection.sql("SELECT count(*) FROM orders").fetchall()
        connection.sql(plan.sql).to_arrow_table()
        assert connection.sql("SELECT count(*) FROM orders").fetchall() == before
        assert len(connection.extract_statements(plan.sql)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " + "(" * 800 + "1" + ")" * 800,
        "SELECT " + "[" * 800 + "1" + "]" * 800,
        "SELECT " + "(" * 150_000,
        "SELECT " + "NOT " * 10_000 + "TRUE",
        "SELECT " + "- " * 10_000 + "1",
        "SELECT " + "CASE WHEN " * 5_000 + "1",
        "SELECT a" + "[1]" * 6_000,
        "SELECT 1" + "::INT" * 6_000,
        "SELECT " + "1 + " * 9_000 + "1",
        "SELECT 1" + " UNION ALL SELECT 1" * 4_000,
        "SELECT " + "f(" * 700 + "1" + ")" * 700,
        "SELECT " + "(SELECT " * 400 + "1" + ")" * 400,
        "SELECT * FROM a " + "JOIN b " * 3_000 + "ON 1 " * 3_000,
        "SELECT CAST(1 AS " + "STRUCT(a " * 300 + "INT" + ")" * 300 + ")",
        "SELECT '" + "x" * 1_048_576 + "'",
        "SELECT '" + "é" * 140_000 + "'",
        "SELECT " + "1," * 30_000 + "1",
    ],
    ids=lambda text: text[:24],
)
def test_oversized_statements_are_refused_fast(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(StatementTooComplex):
        world.planned(text)
    # Generous: the point is that nothing here takes time that grows with the square of the text.
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("limits", [PlannerLimits(sql_bytes=10), PlannerLimits(tokens=3), PlannerLimits(depth=1)])
def test_each_limit_is_a_setting(limits: PlannerLimits) -> None:
    text = "SELECT ((1)) AS long_name"
    world.planned(text)
    with pytest.raises(StatementTooComplex):
        world.planned(text, limits=limits)


@pytest.mark.parametrize("text", ["SELECT '\x00'", "SELECT '\ud800'", "SELECT '\ufdd0'", "\x00", "SELECT 1\x00; DROP"])
def test_characters_that_text_cannot_hold_are_refused(text: str) -> None:
    with pytest.raises(SqlSyntaxError):
        world.planned(text)


def test_wide_statements_within_the_limits_pass() -> None:
    values = ", ".join(str(n) for n in range(9_000))
    assert world.planned(f"SELECT * FROM orders WHERE 1 IN ({values})").tables == (TableName("main", "orders"),)
    assert world.planned("SELECT " + " + ".join(["1"] * 1_500)).sql
    assert world.planned("SELECT * FROM orders WHERE " + " OR ".join(["symbol = 'x'"] * 1_500)).sql
    assert world.planned("SELECT " + "(" * 40 + "1" + ")" * 40).sql


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("MERGE INTO orders USING positions ON true WHEN MATCHED THEN DELETE", "MERGE is not accepted yet."),
        ("SAVEPOINT a", "Savepoints are not offered."),
        ("CREATE SEQUENCE s", "CREATE SEQUENCE is not accepted."),
        ("VACUUM", "VACUUM is not accepted"),
        ("SELECT read_csv('x')", "The function read_csv is not accepted."),
        ("SELECT $name", "Parameters are written ? or $1."),
        ("WITH x AS (DELETE FROM orders RETURNING *) FROM x", "DELETE is not accepted inside a query."),
    ],
)
def test_refusals_name_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(UnsupportedFeature) as refused:
        world.planned(text)
    assert words in str(refused.value)


@pytest.mark.parametrize("name", ["hidden", "absent", "main.hidden", "desk.main.hidden", "u_bob.notes", "u_zoe.notes"])
def test_hidden_and_absent_tables_answer_alike(name: str) -> None:
    with pytest.raises(UndefinedTable) as refused:
        world.planned(f"SELECT * FROM {name}", grants=world.TRADER)
    assert refused.value.message == f'Table "{name}" does not exist.'
    for other in ("hidden", "Mixed Case", "u_bob"):
        assert other not in refused.value.hint


def test_suggestions_come_from_what_the_caller_sees() -> None:
    with pytest.raises(UndefinedTable, match=r"Did you mean orders\?"):
        world.planned("SELECT * FROM order", grants=Grants(select=frozenset({"orders"})), dialect="postgres")
    with pytest.raises(UndefinedTable) as refused:
        world.planned("SELECT * FROM orderz", grants=Grants(select=frozenset({"positions"})))
    assert refused.value.hint == ""


def test_unknown_dialect_lists_near_names() -> None:
    with pytest.raises(InvalidParameter, match=r"Did you mean snowflake\?"):
        world.planned("SELECT 1", dialect="snowflak")
    with pytest.raises(InvalidParameter, match="klingon"):
        world.planned("-- dialect: klingon\nSELECT 1")


def test_every_dialect_plans_a_simple_query() -> None:
    assert {"duckdb", "postgres", "snowflake", "tsql", "bigquery", "clickhouse"} <= set(dialects())
    with world.database() as connection:
        for dialect in dialects():
            plan = world.planned("SELECT symbol FROM market_data WHERE volume > 10 ORDER BY symbol", dialect)
            assert plan.tables == (TableName("main", "market_data"),), dialect
            assert connection.sql(plan.sql).fetchall() == [("BBB",), ("CCC",)], dialect


def test_syntax_errors_point_into_the_users_text() -> None:
    with pytest.raises(SqlSyntaxError) as refused:
        world.planned("SELECT symbol\nFROM market_data\nWHERE volume >> > 3")
    message = str(refused.value)
    assert "line 3" in message
    line, caret = message.split("\n")[-2:]
    assert line.strip() == "WHERE volume >> > 3"
    assert line[caret.index("^")] == ">"


def test_errors_are_plain_text() -> None:
    for text in ("SELECT \x1b[31m(", "SELECT \u202e (((", 'SELECT * FROM "a\nb"', "FROM x\u2028y z w"):
        with pytest.raises(ServerError) as refused:
            world.planned(text)
        assert not set("\x1b\u202e\u2028") & set(str(refused.value))


def test_every_allowed_function_exists_in_the_engine() -> None:
    """A name that the engine does not have would be a typing error in the list."""
    with duckdb.connect(":memory:") as connection:
        rows = connection.sql("SELECT lower(function_name) FROM duckdb_functions()").fetchall()
    known = {row[0] for row in rows} | {"coalesce", "if", "nullif", "grouping"}
    assert not functions.ALLOWED - known


def test_allow_lists_hold_nothing_that_reads_or_writes_outside() -> None:
    wicked = ("read_", "parquet", "pragma", "duckdb", "scan", "secret", "sql", "query", "getenv", "setting", "variable")
    assert not [name for name in functions.ALLOWED if any(word in name for word in wicked)]
    names = {cls.__name__ for cls in allowed.ALLOWED}
    assert not names & {"Command", "Insert", "Delete", "Update", "Merge", "Copy", "Create", "Into", "ReadCSV", "Pragma"}


def test_the_written_text_is_checked_on_its_own() -> None:
    """The last rule refuses a function that the tree's check would have missed."""
    from flightsql_server.planner import gate
    from flightsql_server.planner.request import Draft, Request

    for sql in ("SELECT read_csv('x')", 'SELECT "read_csv" (1)', "SELECT 'x'.getvariable()", "SELECT 1; SELECT 2"):
        request = Request(sql, "duckdb", "alice", world.EVERYTHING, world.CATALOG)
        with pytest.raises(UnsupportedFeature):
            gate.check_written(Draft(request=request, limits=PlannerLimits(), text=sql, dialect="duckdb", sql=sql))


def test_rules_are_named_and_documented() -> None:
    assert all((rule.__doc__ or "").startswith("Rule: ") for rule in RULES)
    assert len({rule.__name__ for rule in RULES}) == len(RULES)
    assert corpus.statements()
