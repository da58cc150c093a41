"""Other dialects' statements with known answers, and the text that names its own dialect."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from flightsql_server.model import TableName
from flightsql_server.planner import identifier
from tests.unit.planner import world


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with world.database() as opened:
        yield opened


@pytest.mark.parametrize(
    ("dialect", "text", "expected"),
    [
        ("postgres", "SELECT symbol FROM market_data ORDER BY bid_price DESC, symbol LIMIT 1", [("CCC",)]),
        ("postgres", "SELECT symbol FROM market_data ORDER BY bid_price LIMIT 1", [("AAA",)]),
        (
            "postgres",
            "SELECT string_agg(symbol, '-' ORDER BY symbol) FROM positions WHERE account = 'A1'",
            [("AAA-BBB",)],
        ),
        ("postgres", "SELECT 'a' ~ '^a$', to_char(DATE '2026-03-04', 'YYYY-MM')", [(True, "2026-03")]),
        ("postgres", "SELECT (ARRAY[1, 2, 3])[2], generate_series FROM generate_series(1, 1)", [(2, 1)]),
        ("mysql", "SELECT IFNULL(NULL, 2), CONCAT('a', 'b'), `symbol` FROM `orders` LIMIT 1", [(2, "ab", "AAA")]),
        ("mysql", "SELECT DATE_FORMAT('2026-03-04', '%Y/%m')", [("2026/03",)]),
        ("snowflake", "SELECT IFF(1 > 0, 'y', 'n'), NVL(NULL, 3), ZEROIFNULL(NULL)", [("y", 3, 0)]),
        (
            "snowflake",
            "SELECT symbol FROM orders QUALIFY ROW_NUMBER() OVER (PARTITION BY side ORDER BY order_id) = 1 ORDER BY 1",
            [("AAA",), ("BBB",)],
        ),
        ("bigquery", "SELECT SAFE_CAST('x' AS INT64), `desk.main.orders`.symbol FROM `desk.main.orders` LIMIT 1", None),
        ("bigquery", "SELECT COUNTIF(side = 'BUY') FROM orders", [(2,)]),
        ("tsql", "SELECT TOP 1 [symbol] FROM [main].[orders] ORDER BY [order_id]", [("AAA",)]),
        ("tsql", "SELECT ISNULL(NULL, 5), IIF(1 = 1, 'a', 'b')", [(5, "a")]),
        ("clickhouse", "SELECT any(currency), count() FROM positions WHERE currency = 'USD'", [("USD", 2)]),
        ("spark", "SELECT nvl(NULL, 1), size(array(1, 2))", [(1, 2)]),
        ("trino", "SELECT approx_distinct(symbol), cardinality(ARRAY[1, 2]) FROM orders", [(3, 2)]),
        ("redshift", "SELECT DATEADD(day, 1, DATE '2026-01-01')::DATE::VARCHAR", [("2026-01-02",)]),
        ("sqlite", "SELECT ifnull(NULL, 1) || 'x'", [("1x",)]),
        ("oracle", "SELECT NVL(NULL, 4) FROM orders FETCH FIRST 1 ROWS ONLY", [(4,)]),
    ],
)
def test_answers_of_other_dialects(
    dialect: str, text: str, expected: list[tuple[object, ...]] | None, connection: duckdb.DuckDBPyConnection
) -> None:
    plan = world.planned(text, dialect)
    found = connection.sql(plan.sql).fetchall()
    if expected is not None:
        assert found == expected


def test_the_first_line_names_the_dialect(connection: duckdb.DuckDBPyConnection) -> None:
    for text in (
        "-- dialect: tsql\nSELECT TOP 1 [symbol] FROM orders ORDER BY 1",
        "--dialect=TSQL\r\nSELECT TOP 1 [symbol] FROM orders ORDER BY 1",
        "\n  -- Dialect: tsql  \nSELECT TOP 1 [symbol] FROM orders ORDER BY 1",
    ):
        plan = world.planned(text, "duckdb")
        assert plan.tables == (TableName("main", "orders"),)
        assert connection.sql(plan.sql).fetchall() == [("AAA",)]


def test_text_can_be_written_for_another_backend() -> None:
    from flightsql_server.planner import Request, plan

    request = Request(
        "SELECT symbol, list(side) FROM orders GROUP BY 1 LIMIT 3",
        "duckdb",
        "alice",
        world.EVERYTHING,
        world.CATALOG,
        backend_dialect="postgres",
    )
    assert "ARRAY_AGG(side)" in plan(request).sql


@pytest.mark.parametrize(
    ("name", "quoted"), [("a", '"a"'), ('a"b', '"a""b"'), ("select", '"select"'), ("é 1", '"é 1"')]
)
def test_identifiers_are_quoted(name: str, quoted: str) -> None:
    assert identifier(name) == quoted
    with duckdb.connect(":memory:") as connection:
        assert connection.sql(f"SELECT 1 AS {identifier(name)}").columns == [name]


@pytest.mark.parametrize("name", ["", "a\x00b"])
def test_names_that_no_engine_takes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        identifier(name)
