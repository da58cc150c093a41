"""EXPLAIN TRANSLATION tells the way of a statement; EXPLAIN and EXPLAIN ANALYZE are for roles that may, of queries."""

from __future__ import annotations

import duckdb
import pytest
from flightsql_auth.policies import Grants

from flightsql_server.errors import AccessDenied, SqlSyntaxError, UndefinedTable, UnsupportedFeature, UserError
from flightsql_server.model import EXPLAIN, EXPLAIN_ANALYZE
from tests.unit.planner import world

EXPLAINER = Grants(select=frozenset({"market_data"}), create=True, own="u_alice", explain=True)


def _steps(text: str, dialect: str = "duckdb", grants: Grants = world.EVERYTHING) -> dict[str, str]:
    plan = world.planned(text, dialect, grants)
    with duckdb.connect(":memory:") as connection:
        found = connection.sql(plan.sql)
        assert found.columns == ["step", "what", "text"]
        rows = found.fetchall()
    assert [row[0] for row in rows] == list(range(len(rows)))
    return {what: text for _, what, text in rows}


def test_each_step_of_a_translation_is_told() -> None:
    statement = "SELECT TOP 2 [symbol], volume / 7 AS v FROM market_data ORDER BY symbol"
    steps = _steps(f"EXPLAIN TRANSLATION {statement}", "tsql")
    assert steps["input"] == statement
    assert steps["dialect"] == "tsql"
    assert steps["backend SQL"] == world.planned(statement, "tsql").sql
    assert steps["tables read"] == "main.market_data"
    assert "select is granted" in steps["policy"]
    assert any('"desk"."main"."market_data"' in text and "/ 7" in text for text in steps.values()), "before the types"
    assert len(steps) > 10


def test_a_change_is_told_and_not_made() -> None:
    steps = _steps("EXPLAIN TRANSLATION CREATE TABLE t (a STRING)", "snowflake", EXPLAINER)
    assert steps["changes"] == "tables u_alice.t"
    assert world.planned("EXPLAIN TRANSLATION DROP TABLE notes", grants=EXPLAINER).effect == ""
    assert world.planned("EXPLAIN TRANSLATION USE main").set_schema is None
    assert world.planned("EXPLAIN TRANSLATION BEGIN").effect == ""


def test_the_first_line_may_name_the_dialect() -> None:
    assert _steps("-- dialect: tsql\nexplain /* why */ translation SELECT TOP 1 1 AS a")["dialect"] == "tsql"


def test_what_may_not_be_seen_does_not_exist_there_either() -> None:
    for text in ("SELECT * FROM hidden", "SELECT * FROM u_bob.notes"):
        with pytest.raises(UndefinedTable):
            world.planned(f"EXPLAIN TRANSLATION {text}", grants=world.TRADER)


def test_errors_point_into_the_whole_text() -> None:
    with pytest.raises(SqlSyntaxError, match="line 2, column 13"):
        world.planned("EXPLAIN TRANSLATION\nSELECT FROM 1 FROM")


@pytest.mark.parametrize("word", ["EXPLAIN", "explain analyze", "/* a */ -- b\nEXPLAIN ANALYZE"])
def test_the_engine_explains_queries_for_roles_that_may(word: str) -> None:
    plan = world.planned(f"{word} SELECT symbol FROM market_data", grants=EXPLAINER)
    assert plan.effect == (EXPLAIN_ANALYZE if "analyze" in word.lower() else EXPLAIN)
    assert plan.sql == 'SELECT symbol FROM "desk"."main"."market_data"'
    assert plan.gives_rows
    with pytest.raises(AccessDenied):
        world.planned(f"{word} SELECT symbol FROM market_data", grants=world.TRADER)


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM notes",
        "INSERT INTO notes VALUES (1, 'x')",
        "CREATE TABLE t AS SELECT 1",
        "USE main",
        "BEGIN",
        "ANALYZE SELECT 1",
        "EXPLAIN SELECT 1",
        "TRANSLATION SELECT 1",
        "COPY market_data TO 'x'",
        "SELECT * FROM hidden",
        "SELECT 1; DROP TABLE notes",
        "",
    ],
)
def test_nothing_but_a_query_is_explained(text: str) -> None:
    for word in ("EXPLAIN", "EXPLAIN ANALYZE"):
        if (word, text) == ("EXPLAIN", "ANALYZE SELECT 1"):
            continue
        if (word, text) == ("EXPLAIN", "TRANSLATION SELECT 1"):
            continue
        with pytest.raises(UserError):
            world.planned(f"{word} {text}", grants=EXPLAINER)


def test_a_name_that_begins_so_is_no_explain() -> None:
    with pytest.raises(UnsupportedFeature):
        world.planned("EXPLAIN TRANSLATION COPY market_data TO 'x'")
    with pytest.raises(SqlSyntaxError):
        world.planned("EXPLAINS SELECT 1")
