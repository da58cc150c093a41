"""Data frames of pandas and polars, in and out through ADBC: values arrive exactly, and what is null stays null."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import adbc_driver_flightsql.dbapi as flight_sql
import pandas
import polars
import pyarrow as pa
import pytest
from pandas.errors import DatabaseError
from polars.testing import assert_frame_equal

from tests.running import RunningServer, running_server

# What floats, milliseconds or a local clock would change.
EXACT = Decimal("12345678901234567890.12345678")
LARGE = 9_007_199_254_740_993
AT = datetime(2026, 3, 29, 1, 30, 0, 123_457, UTC)
DAY = date(1969, 12, 31)
VALUES = f"""
    (1, {LARGE}, {EXACT}, TIMESTAMPTZ '{AT.isoformat()}', DATE '{DAY}', 'Grüße', true),
    (2, NULL, NULL, NULL, NULL, NULL, NULL)
"""
TRADES = "id INTEGER, volume BIGINT, price DECIMAL(28, 8), at TIMESTAMPTZ, day DATE, note VARCHAR, open BOOLEAN"
ROWS = [(1, LARGE, EXACT, AT, DAY, "Grüße", True), (2, None, None, None, None, None, None)]
SELECT = "SELECT * FROM trades ORDER BY id"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture(params=[True, False], ids=["autocommit", "transaction"])
def connection(own: RunningServer, request: pytest.FixtureRequest) -> Iterator[flight_sql.Connection]:
    """A connection of a user with tables of their own; once with transactions, which pandas and polars know of."""
    login = {"username": "maker", "password": "maker"}
    with flight_sql.connect(own.url, db_kwargs=login, autocommit=request.param) as made:
        with made.cursor() as cursor:
            for table in ("trades", "frames"):
                cursor.execute(f"DROP TABLE IF EXISTS {table}")
            cursor.execute(f"CREATE TABLE trades ({TRADES})")
            cursor.execute(f"INSERT INTO trades VALUES {VALUES}")
        made.commit()
        yield made


def _fetched(own: RunningServer, sql: str) -> list[tuple[object, ...]]:
    """The rows as a connection of its own sees them, so only what is committed."""
    with own.connect("maker") as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


# ---- pandas


@pytest.mark.covers("frames", "CreatePreparedStatement", "PreparedStatementQuery", "TicketStatementQuery")
def test_pandas_reads_values_exactly(connection: flight_sql.Connection) -> None:
    """But whole numbers beside nulls, which pandas' own types can only make floats of."""
    frame = pandas.read_sql(SELECT, connection)
    assert frame["price"].tolist() == [EXACT, None]
    assert frame["at"][0].to_pydatetime() == AT
    assert str(frame["at"].dt.tz) == "UTC"
    assert frame["day"].tolist() == [DAY, None]
    assert frame["note"][0] == "Grüße"
    assert frame.isna().values.tolist() == [[False] * 7, [False] + [True] * 6]


def test_pandas_reads_arrow_types_exactly(connection: flight_sql.Connection) -> None:
    frame = pandas.read_sql(SELECT, connection, dtype_backend="pyarrow")
    assert [str(type_) for type_ in frame.dtypes] == [
        "int32[pyarrow]",
        "int64[pyarrow]",
        "decimal128(28, 8)[pyarrow]",
        "timestamp[us, tz=UTC][pyarrow]",
        "date32[day][pyarrow]",
        "string[pyarrow]",
        "bool[pyarrow]",
    ]
    read = pa.Table.from_pandas(frame, preserve_index=False)
    assert [tuple(row.values()) for row in read.to_pylist()] == ROWS


def test_pandas_reads_a_table_by_its_name(connection: flight_sql.Connection) -> None:
    frame = pandas.read_sql_table("trades", connection, schema="u_maker", columns=["id", "price"])
    assert sorted(frame["id"]) == [1, 2]
    assert frame.columns.tolist() == ["id", "price"]


def test_pandas_names_the_error(connection: flight_sql.Connection) -> None:
    with pytest.raises(DatabaseError, match=r"\[42P01\]"):
        pandas.read_sql("SELECT * FROM nothing", connection)
    assert pandas.read_sql("SELECT 1 AS n", connection)["n"].tolist() == [1]


@pytest.mark.covers("frames", "StatementIngest", "GetTables", "BeginTransaction", "EndTransaction")
def test_pandas_writes_in_every_mode(own: RunningServer, connection: flight_sql.Connection) -> None:
    frame = pandas.read_sql(SELECT, connection, dtype_backend="pyarrow")

    def written(mode: str) -> list[tuple[object, ...]]:
        assert frame.to_sql("frames", connection, index=False, if_exists=mode) == 2
        return _fetched(own, "SELECT * FROM frames ORDER BY id")

    assert written("fail") == ROWS
    with pytest.raises(ValueError, match="already exists"):
        frame.to_sql("frames", connection, index=False)
    assert written("append") == [ROWS[0], ROWS[0], ROWS[1], ROWS[1]]
    assert written("replace") == ROWS
    assert written("delete_rows") == ROWS


def test_pandas_writes_its_own_types(own: RunningServer, connection: flight_sql.Connection) -> None:
    frame = pandas.DataFrame(
        {
            "price": [EXACT, None],
            "at": pandas.to_datetime([AT, None]).tz_convert("Europe/Vienna"),
            "kind": pandas.Categorical(["limit", None]),
            "note": ["Grüße", None],
            "quantity": [0.1, None],
        }
    )
    assert frame.to_sql("frames", connection, index=False) == 2
    assert _fetched(own, "SELECT price, at, kind, note, quantity FROM frames ORDER BY kind") == [
        (EXACT, AT, "limit", "Grüße", 0.1),
        (None, None, None, None, None),
    ]


def test_pandas_writes_into_a_live_dataset(own: RunningServer) -> None:
    frame = pandas.DataFrame(
        {
            "symbol": ["PDS", "PDT"],
            "bid_price": [1.25, None],
            "ask_price": [1.5, 2.5],
            "last_price": [None, 2.25],
            "volume": [LARGE, 0],
            "timestamp": [AT, AT + timedelta(microseconds=1)],
        }
    )
    with own.connect("feed") as connection:
        assert frame.to_sql("market_data", connection, index=False, if_exists="append") == 2
    assert _fetched(own, "SELECT * FROM market_data WHERE starts_with(symbol, 'PD') ORDER BY symbol") == [
        ("PDS", 1.25, 1.5, None, LARGE, AT),
        ("PDT", None, 2.5, 2.25, 0, AT + timedelta(microseconds=1)),
    ]


# ---- polars


@pytest.mark.covers("frames", "CreatePreparedStatement", "PreparedStatementQuery", "TicketStatementQuery")
def test_polars_reads_values_exactly(connection: flight_sql.Connection) -> None:
    frame = polars.read_database(SELECT, connection)
    assert frame.rows() == ROWS
    assert dict(frame.schema) == {
        "id": polars.Int32(),
        "volume": polars.Int64(),
        "price": polars.Decimal(28, 8),
        "at": polars.Datetime("us", "UTC"),
        "day": polars.Date(),
        "note": polars.String(),
        "open": polars.Boolean(),
    }
    with connection.cursor() as cursor:
        cursor.execute(SELECT)
        assert_frame_equal(polars.from_arrow(cursor.fetch_arrow_table()), frame)
        cursor.execute(SELECT)
        assert_frame_equal(cursor.fetch_polars(), frame)


def test_polars_binds_values(connection: flight_sql.Connection) -> None:
    sql = "SELECT id FROM trades WHERE price = ? OR at = ?"
    found = polars.read_database(sql, connection, execute_options={"parameters": (EXACT, AT)})
    assert found.rows() == [(1,)]


def test_polars_reads_in_parts(connection: flight_sql.Connection) -> None:
    sql = "SELECT range AS n FROM range(300000)"
    parts = list(polars.read_database(sql, connection, iter_batches=True))
    assert len(parts) > 1
    assert sum(part["n"].sum() for part in parts) == 300_000 * 299_999 // 2


def test_polars_writes_in_every_mode(own: RunningServer, connection: flight_sql.Connection) -> None:
    frame = polars.read_database(SELECT, connection)

    def written(mode: str) -> list[tuple[object, ...]]:
        assert frame.write_database("frames", connection, if_table_exists=mode, engine="adbc") == 2
        return _fetched(own, "SELECT * FROM frames ORDER BY id")

    assert written("fail") == ROWS
    with pytest.raises(flight_sql.Error, match=r"\[42P07\]"):
        frame.write_database("frames", connection, engine="adbc")
    connection.rollback()
    assert written("append") == [ROWS[0], ROWS[0], ROWS[1], ROWS[1]]
    assert written("replace") == ROWS


def test_polars_types_come_back(own: RunningServer, connection: flight_sql.Connection) -> None:
    """Polars sends text as views, also inside of dictionaries; enums and categories come back as text."""
    frame = polars.DataFrame(
        {
            "id": [1, 2],
            "text": ["a text that is longer than twelve bytes", None],
            "side": polars.Series(["buy", None], dtype=polars.Enum(["buy", "sell"])),
            "kind": polars.Series(["limit", None], dtype=polars.Categorical),
            "small": polars.Series([200, None], dtype=polars.UInt8),
            "bytes": [b"\x00\xff and more than twelve bytes", None],
            "legs": [["a leg with a longer name", None], None],
            "fill": [{"price": EXACT, "venue": "XWBO"}, None],
            "zoned": polars.Series([AT, None], dtype=polars.Datetime("us", "Europe/Vienna")),
            "fine": polars.Series([1_700_000_000_123_456_789, None]).cast(polars.Datetime("ns")),
        }
    )
    assert frame.write_database("desk.u_maker.frames", connection, engine="adbc") == 2
    connection.commit()
    with own.connect("maker") as reading:
        found = polars.read_database("SELECT * FROM frames ORDER BY id", reading)
    text = polars.col("side", "kind").cast(polars.String)
    assert_frame_equal(found, frame.with_columns(text, polars.col("zoned").dt.convert_time_zone("UTC")))


def test_a_large_frame_goes_as_one_message(own: RunningServer) -> None:
    """Both libraries send a frame as one batch, and the driver refuses more than 16 MiB unless it is told otherwise."""
    frame = polars.select(n=polars.int_range(3_000_000))
    with own.connect("maker") as connection, pytest.raises(flight_sql.Error, match="larger than max"):
        frame.write_database("large", connection, engine="adbc")
    assert _fetched(own, "SELECT count(*) FROM information_schema.tables WHERE table_name = 'large'") == [(0,)]
    with own.connect("maker", **{"adbc.flight.sql.client_option.with_max_msg_size": str(2**26)}) as connection:
        assert frame.write_database("large", connection, engine="adbc") == len(frame)
        assert frame.to_pandas().to_sql("large_too", connection, index=False) == len(frame)
    whole = (len(frame), frame["n"].sum())
    assert _fetched(own, "SELECT count(*), sum(n) FROM large") == [whole]
    assert _fetched(own, "SELECT count(*), sum(n) FROM large_too") == [whole]
