"""The stock Python ADBC driver."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tests.running import RunningServer


def test_select_gives_arrow(server: RunningServer) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT symbol, last_price FROM market_data ORDER BY symbol LIMIT 3")
        table = cursor.fetch_arrow_table()
    assert table.schema == pa.schema([("symbol", pa.string()), ("last_price", pa.float64())])
    assert table.num_rows == 3


def test_cursors_of_one_connection_do_not_disturb_each_other(server: RunningServer) -> None:
    with server.connect() as connection, connection.cursor() as one, connection.cursor() as two:
        one.execute("SELECT * FROM range(3000000)")
        first = one.fetch_record_batch()
        rows = first.read_next_batch().num_rows
        two.execute("SELECT count(*) FROM orders")
        assert two.fetchone()[0] > 0
        assert rows + sum(batch.num_rows for batch in first) == 3_000_000


@pytest.mark.parametrize("dialect", ["postgres", "snowflake", "bigquery"])
def test_dialect_by_header(server: RunningServer, dialect: str) -> None:
    options = {"adbc.flight.sql.rpc.call_header.x-sql-dialect": dialect}
    with server.connect(**options) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) AS n FROM market_data")
        assert cursor.fetchone() == (500,)
