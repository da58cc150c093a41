"""What changes rows and what holds parameters means the same as a query in its dialect."""

from __future__ import annotations

import pyarrow as pa
import pytest

from flightsql_server.errors import StatementTooComplex, UnsupportedFeature
from flightsql_server.planner import Request, plan
from tests.unit.planner import world


def _written(text: str, dialect: str, parameters: tuple[pa.DataType, ...] | None = None) -> str:
    request = Request(
        text, dialect, "alice", world.TRADER, world.CATALOG, "u_alice", "UTC", "1.2.3", parameters=parameters
    )
    return plan(request).sql


@pytest.mark.parametrize(
    ("dialect", "text", "expected"),
    [
        (
            "postgres",
            "UPDATE notes SET id = id / 2 WHERE note LIKE 'a\\_b'",
            """UPDATE "desk"."u_alice"."notes" SET id = (id // 2) WHERE note LIKE 'a\\_b' ESCAPE '\\'""",
        ),
        (
            "redshift",
            "UPDATE notes SET note = 'b ' WHERE note = 'a '",
            """UPDATE "desk"."u_alice"."notes" SET note = 'b ' WHERE RTRIM(note, ' ') = 'a'""",
        ),
        (
            "sqlite",
            "DELETE FROM notes WHERE id % 2 = 1",
            """DELETE FROM "desk"."u_alice"."notes" WHERE ((id) % NULLIF(2, 0)) = 1""",
        ),
        (
            "postgres",
            "CREATE TABLE T AS SELECT count(*) FROM orders",
            'CREATE TABLE "desk"."u_alice"."t" AS SELECT COUNT(*) AS "count" FROM "desk"."main"."orders"',
        ),
        ("redshift", "CREATE TABLE t (a numeric)", 'CREATE TABLE "desk"."u_alice"."t" (a DECIMAL(18, 0))'),
    ],
)
def test_changes_mean_what_queries_mean(dialect: str, text: str, expected: str) -> None:
    assert _written(text, dialect) == expected


def test_a_numeric_column_needs_its_digits() -> None:
    with pytest.raises(UnsupportedFeature, match="digits"):
        _written("CREATE TABLE t (a numeric)", "postgres")


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        ("postgres", "SELECT " + "1.5 / (" * 40 + "id" + ")" * 40 + " FROM notes"),
        ("trino", "SELECT " + "1.5 / (" * 40 + "id" + ")" * 40 + " FROM notes"),
        ("postgres", "SELECT " + "ln(" * 40 + "id" + ")" * 40 + " FROM notes"),
        ("postgres", "SELECT " + "substring('a', length(" * 30 + "note" + "))" * 30 + " FROM notes"),
        ("sqlite", "SELECT " + "sqrt(" * 40 + "id" + ")" * 40 + " FROM notes"),
    ],
)
def test_a_rewrite_does_not_let_a_statement_grow_without_end(dialect: str, text: str) -> None:
    with pytest.raises(StatementTooComplex):
        _written(text, dialect)


@pytest.mark.parametrize(
    ("dialect", "text", "types", "expected"),
    [
        (
            "postgres",
            "SELECT id / $1, round($2), $3 FROM notes",
            (pa.int64(), pa.float64(), pa.string()),
            'SELECT (id // CAST($1 AS BIGINT)) AS "?column?", ROUND_EVEN(CAST($2 AS DOUBLE), 0) AS "round", '
            'CAST($3 AS TEXT) AS "?column?" FROM "desk"."u_alice"."notes"',
        ),
        (
            "sqlite",
            "SELECT id / ? FROM notes",
            (pa.int64(),),
            'SELECT (id // NULLIF(CAST($1 AS BIGINT), 0)) AS "id / ?" FROM "desk"."u_alice"."notes"',
        ),
        (
            "redshift",
            "SELECT id FROM notes WHERE note = ?",
            (pa.string(),),
            """SELECT id FROM "desk"."u_alice"."notes" WHERE RTRIM(note, ' ') = RTRIM(CAST($1 AS TEXT), ' ')""",
        ),
    ],
)
def test_parameters_have_the_types_of_their_values(
    dialect: str, text: str, types: tuple[pa.DataType, ...], expected: str
) -> None:
    assert _written(text, dialect, types) == expected
