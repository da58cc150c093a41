"""Mutated statements: whatever comes in, a plan or an error of the family comes out."""

from __future__ import annotations

import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flightsql_server.errors import InternalError, ServerError
from flightsql_server.model import Plan, TableName
from flightsql_server.planner import dialects
from tests.unit.planner import corpus, world

WORDS = sorted({word for text in corpus.statements() for word in re.findall(r"\w+|'[^']*'|[^\w\s]", text)})
EXTRA = [
    "hidden",
    "main.hidden",
    "read_csv('x')",
    "query('FROM hidden')",
    "INSERT",
    "DELETE FROM",
    "COPY",
    "INTO",
    ";",
    "$1",
]
EXTRA += [
    "/*",
    "*/",
    "--",
    "'",
    '"',
    "$$",
    "E'",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "::",
    "WITH",
    "RECURSIVE",
    "hidden AS (",
    "?",
]
EVIL = [
    "x) FROM desk.main.hidden --",
    "INT) AS a FROM desk.main.hidden --",
    "x FROM desk.main.hidden --",
    "a') FROM desk.main.hidden --",
    'a") FROM desk.main.hidden --',
    "x\\') FROM desk.main.hidden --",
    "x\\",
]
BACKTICKS = {"mysql", "bigquery", "spark", "databricks", "clickhouse"}


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A statement of the corpus with some words replaced, dropped, doubled or moved."""
    words = re.findall(r"\s+|\w+|'[^']*'|[^\w\s]", draw(st.sampled_from(corpus.statements())))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(words) - 1)))
        end = min(len(words), at + draw(st.integers(0, 3)))
        words[at:end] = draw(
            st.lists(st.sampled_from(WORDS + EXTRA), max_size=3).map(lambda ws: [f" {w} " for w in ws])
        )
    return "".join(words)


def outcome(text: str, dialect: str) -> Plan | None:
    """The plan, or None if the text was refused by an error of the family; any other exception comes through."""
    try:
        return world.planned(text, dialect, grants=world.TRADER)
    except ServerError as error:
        if isinstance(error, InternalError) or ("sqlglot" in str(error) and "sqlglot" not in text):
            raise AssertionError(f"not a refusal: {error}") from error
        return None


SETTINGS = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SETTINGS
@given(text=mutated(), dialect=st.sampled_from(["duckdb", "duckdb", *dialects()]))
def test_mutated_statements_end_in_a_plan_or_an_error_of_the_family(text: str, dialect: str) -> None:
    plan = outcome(text, dialect)
    if plan is None:
        return
    assert not {TableName("main", "hidden"), TableName("u_bob", "notes")} & set(plan.tables)
    assert '"hidden"' not in plan.sql.replace('AS "hidden"', "")


@SETTINGS
@given(text=st.text(max_size=60), dialect=st.sampled_from(dialects()))
def test_any_text_ends_in_a_plan_or_an_error_of_the_family(text: str, dialect: str) -> None:
    for candidate in (text, "SELECT " + text, "SELECT * FROM " + text):
        outcome(candidate, dialect)


def test_mutated_statements_never_show_the_engine_a_hidden_table() -> None:
    """What passes the gate reads, by the engine's own account, no table beyond the plan's."""
    with world.database() as connection:

        @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(text=mutated())
        def check(text: str) -> None:
            plan = outcome(text, "duckdb")
            if plan is None:
                return
            seen = world.engine_tables(connection, plan.sql)
            assert seen is None or seen <= set(plan.tables), (text, plan.sql)
            assert world.serialized_tables(connection, plan.sql) <= set(plan.tables), (text, plan.sql)

        check()


@st.composite
def injected(draw: st.DrawFn) -> tuple[str, str]:
    """A dialect, and a statement of the corpus in which one word is a name or string that would break out of quotes."""
    dialect = draw(st.sampled_from(["duckdb", "postgres", "snowflake", "tsql", "oracle", "trino", *sorted(BACKTICKS)]))
    words = re.findall(r"\s+|\w+|'[^']*'|[^\w\s]", draw(st.sampled_from(corpus.statements())))
    places = [at for at, word in enumerate(words) if not word.isspace()]
    quote = draw(st.sampled_from(["`" if dialect in BACKTICKS else '"', "'"]))
    words[draw(st.sampled_from(places))] = quote + draw(st.sampled_from(EVIL)).replace(quote, quote * 2) + quote
    return dialect, "".join(words)


def test_no_quoted_text_breaks_out_of_its_place() -> None:
    """What the engine's own parser reads in the written text is no table beyond the plan's."""
    with world.database() as connection:

        @SETTINGS
        @given(case=injected())
        def check(case: tuple[str, str]) -> None:
            dialect, text = case
            plan = outcome(text, dialect)
            if plan is not None:
                assert world.serialized_tables(connection, plan.sql) <= set(plan.tables), (text, plan.sql)

        check()
