"""Statements grown from a grammar, the whole way in: planned and described by the engine, or refused by the family."""

from __future__ import annotations

import time

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flightsql_server.engine.duckdb_errors import translate
from flightsql_server.errors import InternalError, ServerError
from flightsql_server.model import Plan
from flightsql_server.planner import PlannerLimits, dialects, functions
from tests.conftest import examples
from tests.unit.planner import world

_COLUMNS = [
    "symbol",
    "bid_price",
    "volume",
    "timestamp",
    "side",
    "quantity",
    "account",
    "note",
    "lots",
    "traded_on",
    "x",
]
_TABLES = ["market_data", "orders", "positions", "fills", "main.orders", "desk.main.fills", "hidden", "nothing", "c"]
_LITERALS = [
    "1",
    "0",
    "2.5",
    "'a'",
    "'2026-01-01'",
    "NULL",
    "TRUE",
    "DATE '2026-01-01'",
    "INTERVAL '1' DAY",
    "''",
    "$1",
]
_TYPES = ["INT", "BIGINT", "VARCHAR(10)", "DECIMAL(9, 2)", "DATE", "TIMESTAMP", "DOUBLE", "BOOLEAN", "INT[]", "JSON"]
_OPERATORS = [
    "+",
    "-",
    "*",
    "/",
    "%",
    "||",
    "=",
    "<>",
    "<",
    ">=",
    "AND",
    "OR",
    "LIKE",
    "IS DISTINCT FROM",
    "IN",
    "->>",
    "//",
]
_FUNCTIONS = [
    *sorted(functions.ALLOWED - functions.SYNTAX),
    "foo",
    "read_csv",
    "query",
    "version",
    "len",
    "isnull",
    "nvl",
]

_leaf = st.one_of(
    st.sampled_from(_COLUMNS),
    st.sampled_from(_LITERALS),
    st.tuples(st.sampled_from(["m", "o", "c"]), st.sampled_from(_COLUMNS)).map(".".join),
)


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    few = st.lists(inner, max_size=3).map(", ".join)
    return st.one_of(
        st.tuples(inner, st.sampled_from(_OPERATORS), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        st.tuples(st.sampled_from(_FUNCTIONS), few).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(st.sampled_from(["sum", "count", "max", "array_agg", "first"]), inner, few).map(
            lambda p: f"{p[0]}({p[1]}) OVER (PARTITION BY {p[2] or '1'} ORDER BY {p[1]})"
        ),
        st.tuples(inner, inner, inner).map(lambda p: f"CASE WHEN {p[0]} THEN {p[1]} ELSE {p[2]} END"),
        st.tuples(inner, st.sampled_from(_TYPES)).map(lambda p: f"CAST({p[0]} AS {p[1]})"),
        st.tuples(inner, few).map(lambda p: f"{p[0]} IN ({p[1]})"),
        inner.map(lambda e: f"(SELECT {e} FROM orders)"),
        inner.map(lambda e: f"EXISTS (SELECT 1 FROM fills WHERE {e})"),
        few.map(lambda e: f"[{e}]"),
        inner.map(lambda e: f"NOT {e}"),
    )


EXPRESSIONS = st.recursive(_leaf, _grown, max_leaves=8)


@st.composite
def _tables(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(_TABLES)) + draw(st.sampled_from(["", " m", " AS o", " AS c (x, y)"]))
    if draw(st.booleans()):
        kind = draw(
            st.sampled_from(["JOIN", "LEFT JOIN", "CROSS JOIN", "ASOF JOIN", "FULL JOIN", "POSITIONAL JOIN", ","])
        )
        text += f" {kind} {draw(st.sampled_from(_TABLES))} o"
        if kind not in ("CROSS JOIN", ",", "POSITIONAL JOIN"):
            text += draw(st.one_of(EXPRESSIONS.map(lambda e: f" ON {e}"), st.just(" USING (symbol)")))
    return text


@st.composite
def queries(draw: st.DrawFn, depth: int = 0) -> str:
    """A query with most of the clauses there are, right or wrong."""
    columns = ", ".join(draw(st.lists(EXPRESSIONS, min_size=1, max_size=4)))
    text = (
        draw(st.sampled_from(["SELECT ", "SELECT DISTINCT ", "SELECT * EXCLUDE (symbol), ", "SELECT TOP 2 "])) + columns
    )
    source = f"({draw(queries(depth + 1))}) c" if depth < 2 and draw(st.booleans()) else draw(_tables())
    text += f" FROM {source}"
    for word in ("WHERE", "GROUP BY", "HAVING", "QUALIFY", "ORDER BY", "LIMIT"):
        if draw(st.integers(0, 3)) == 0:
            text += f" {word} {draw(EXPRESSIONS)}"
    if depth == 0:
        if draw(st.integers(0, 3)) == 0:
            text = f"WITH c AS ({draw(queries(1))}) {text}"
        if draw(st.integers(0, 4)) == 0:
            text += draw(st.sampled_from([" UNION ", " UNION ALL BY NAME ", " EXCEPT ", " INTERSECT "])) + draw(
                queries(1)
            )
        change = draw(st.sampled_from([""] * 6 + ["CREATE TABLE t AS ", "INSERT INTO notes ", "EXPLAIN TRANSLATION "]))
        text = change + text
    return text


@pytest.mark.scaled
@pytest.mark.timeout(900)
def test_the_whole_way_in_ends_in_a_plan_or_a_refusal() -> None:
    """No crash, no hang beyond the limit of planning, nothing that the caller could take for a defect of ours."""
    limits = PlannerLimits()
    with world.database() as connection:

        @settings(max_examples=examples(10_000), deadline=None, suppress_health_check=list(HealthCheck))
        @given(text=queries(), dialect=st.sampled_from(["duckdb", "duckdb", *dialects()]))
        def check(text: str, dialect: str) -> None:
            started = time.monotonic()
            plan, error = _planned(text, dialect)
            assert time.monotonic() - started < limits.seconds + 2
            assert not isinstance(error, InternalError), f"{text}\n{error}"
            if plan is None or plan.effect or plan.parameters:
                return
            assert not [name for name in plan.tables if name.name == "hidden" or name.schema == "u_bob"]
            failure = _engine_failure(connection, plan.sql)
            assert not isinstance(failure, InternalError), f"{text}\n{plan.sql}\n{failure}"

        check()


def _planned(text: str, dialect: str) -> tuple[Plan | None, ServerError | None]:
    try:
        return world.planned(text, dialect, grants=world.TRADER), None
    except ServerError as error:
        return None, error


def _engine_failure(connection: duckdb.DuckDBPyConnection, sql: str) -> ServerError | None:
    try:
        connection.sql(sql)
    except duckdb.Error as error:
        return translate(error)
    return None
