"""The stock Python ADBC driver."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import adbc_driver_flightsql.dbapi as flight_sql
import polars
import pyarrow as pa
import pytest
from adbc_driver_manager import AdbcStatusCode, NotSupportedError, OperationalError, ProgrammingError
from adbc_driver_manager import Error as DriverError

from flightsql_server.data.datasets import DATASETS
from tests.conformance.clients import metric, token_of
from tests.running import RunningServer, running_server


def asked(connection: flight_sql.Connection, sql: str) -> pa.Table:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table()


@pytest.mark.covers("adbc", "CreatePreparedStatement", "PreparedStatementQuery", "TicketStatementQuery")
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


# ---- login


def test_wrong_password(server: RunningServer) -> None:
    with pytest.raises(ProgrammingError, match=r"\[28P01\]") as refused:
        server.connect("reader", password="wrong")
    assert refused.value.status_code == AdbcStatusCode.UNAUTHENTICATED


def test_no_credentials(server: RunningServer) -> None:
    """The driver says nothing at all at connecting, so the first statement is what is refused."""
    with flight_sql.connect(server.url, autocommit=True) as connection, connection.cursor() as cursor:
        with pytest.raises(ProgrammingError, match=r"\[28000\]") as refused:
            cursor.execute("SELECT 1")
        assert refused.value.status_code == AdbcStatusCode.UNAUTHENTICATED


def test_authorization_header(server: RunningServer) -> None:
    options = {"adbc.flight.sql.authorization_header": f"Bearer {token_of(server, 'viewer')}"}
    with flight_sql.connect(server.url, db_kwargs=options, autocommit=True) as connection:
        assert asked(connection, "SELECT current_user AS who").to_pydict() == {"who": ["viewer"]}


def test_cookie_middleware(server: RunningServer) -> None:
    options = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}
    with server.connect(**options) as connection:
        assert asked(connection, "SELECT 1 AS n").to_pydict() == {"n": [1]}
        assert asked(connection, "SELECT 2 AS n").to_pydict() == {"n": [2]}


# ---- metadata


@pytest.mark.covers("adbc", "GetCatalogs", "GetDbSchemas", "GetTables")
def test_get_objects(server: RunningServer) -> None:
    with server.connect() as connection:
        (catalog,) = connection.adbc_get_objects(depth="all").read_all().to_pylist()
    assert catalog["catalog_name"] == "desk"
    (main,) = [found for found in catalog["catalog_db_schemas"] if found["db_schema_name"] == "main"]
    tables = {table["table_name"]: table for table in main["db_schema_tables"]}
    assert set(tables) >= {"market_data", "market_data_history", "positions", "orders"}
    columns = tables["market_data"]["table_columns"]
    assert [(column["column_name"], column["ordinal_position"]) for column in columns] == [
        ("symbol", 1),
        ("bid_price", 2),
        ("ask_price", 3),
        ("last_price", 4),
        ("volume", 5),
        ("timestamp", 6),
    ]


@pytest.mark.parametrize(
    ("depth", "filters"),
    [
        ("catalogs", {}),
        ("db_schemas", {"db_schema_filter": "ma%"}),
        ("tables", {"table_name_filter": "market_dat_", "table_types_filter": ["BASE TABLE"]}),
    ],
)
def test_get_objects_by_depth(server: RunningServer, depth: str, filters: dict[str, object]) -> None:
    with server.connect() as connection:
        found = connection.adbc_get_objects(depth=depth, **filters).read_all().to_pylist()
    assert [catalog["catalog_name"] for catalog in found] == ["desk"]
    schemas = found[0]["catalog_db_schemas"] or []
    if depth == "db_schemas":
        assert [schema["db_schema_name"] for schema in schemas] == ["main"]
    if depth == "tables":
        tables = [table["table_name"] for schema in schemas for table in schema["db_schema_tables"]]
        assert tables == ["market_data"]


def test_get_objects_shows_what_may_be_seen(server: RunningServer) -> None:
    with server.connect("viewer") as connection:
        text = str(connection.adbc_get_objects(depth="all").read_all().to_pylist())
    assert "market_data" in text
    assert "positions" not in text


@pytest.mark.parametrize("name", list(DATASETS))
def test_get_table_schema(server: RunningServer, name: str) -> None:
    with server.connect() as connection:
        for schema in (
            connection.adbc_get_table_schema(name),
            connection.adbc_get_table_schema(name, catalog_filter="desk", db_schema_filter="main"),
        ):
            assert schema == DATASETS[name].schema


@pytest.mark.parametrize("name", ["marketxdata", "market_dat_", "market_dat%", "nothing", ""])
def test_get_table_schema_of_no_table(server: RunningServer, name: str) -> None:
    with server.connect() as connection, pytest.raises(DriverError) as missing:
        connection.adbc_get_table_schema(name)
    assert missing.value.status_code == AdbcStatusCode.NOT_FOUND


@pytest.mark.covers("adbc", "GetTableTypes", "GetSqlInfo")
def test_table_types_and_info(server: RunningServer) -> None:
    with server.connect() as connection:
        assert "BASE TABLE" in connection.adbc_get_table_types()
        info = connection.adbc_get_info()
    assert "flightsql-server" in info["vendor_name"]
    assert info["vendor_version"]
    assert info["vendor_arrow_version"]


# ---- statements


@pytest.mark.covers("adbc", "CreatePreparedStatement", "ClosePreparedStatement")
def test_prepare(server: RunningServer) -> None:
    """The handle goes with its cursor."""
    with server.connect() as connection:
        with connection.cursor() as cursor:
            parameters = cursor.adbc_prepare("SELECT count(*) AS n FROM market_data")
            assert parameters is None or len(parameters) == 0
            for _ in range(2):
                cursor.execute("SELECT count(*) AS n FROM market_data")
                assert cursor.fetchall() == [(500,)]
            open_ones = metric(server, "flightsql_prepared_statements")
        assert metric(server, "flightsql_prepared_statements") < open_ones


def test_execute_schema(server: RunningServer) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        schema = cursor.adbc_execute_schema("SELECT * FROM positions")
    assert [(field.name, field.type) for field in schema] == [(f.name, f.type) for f in DATASETS["positions"].schema]


def test_results_that_are_never_fetched(server: RunningServer) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        for _ in range(3):
            cursor.execute("SELECT * FROM range(10000000)")
        cursor.execute("SELECT 7 AS n")
        assert cursor.fetchall() == [(7,)]


def test_partitions_are_read_on_another_login(server: RunningServer) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        partitions, schema = cursor.adbc_execute_partitions("SELECT symbol FROM market_data ORDER BY symbol")
    assert schema.names == ["symbol"]
    (partition,) = partitions
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.adbc_read_partition(partition)
        assert len(cursor.fetchall()) == 500
    with server.connect("viewer") as connection, connection.cursor() as cursor:
        with pytest.raises(DriverError, match=r"\[26000\]") as refused:
            cursor.adbc_read_partition(partition)
        assert refused.value.status_code == AdbcStatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("sql", "kind", "status", "sqlstate"),
    [
        ("SELEC 1", ProgrammingError, AdbcStatusCode.INVALID_ARGUMENT, "42601"),
        ("SELECT 1 +", ProgrammingError, AdbcStatusCode.INVALID_ARGUMENT, "42601"),
        ("SELECT 1; SELECT 2", ProgrammingError, AdbcStatusCode.INVALID_ARGUMENT, "42601"),
        ("/* nothing */", ProgrammingError, AdbcStatusCode.INVALID_ARGUMENT, "42601"),
        ("SELECT nope FROM market_data", ProgrammingError, AdbcStatusCode.INVALID_ARGUMENT, "42703"),
        ("SELECT * FROM nope", ProgrammingError, AdbcStatusCode.NOT_FOUND, "42P01"),
        ("INSERT INTO market_data VALUES (1)", ProgrammingError, AdbcStatusCode.UNAUTHORIZED, "42501"),
        ("UPDATE market_data SET volume = 1", OperationalError, AdbcStatusCode.UNKNOWN, "25006"),
        ("DELETE FROM market_data", OperationalError, AdbcStatusCode.UNKNOWN, "25006"),
        ("CREATE TABLE t (a INT)", ProgrammingError, AdbcStatusCode.UNAUTHORIZED, "42501"),
        ("MERGE INTO orders USING positions ON true", NotSupportedError, AdbcStatusCode.NOT_IMPLEMENTED, "0A000"),
    ],
)
def test_errors_have_class_status_and_sqlstate(
    server: RunningServer, sql: str, kind: type[Exception], status: AdbcStatusCode, sqlstate: str
) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        with pytest.raises(kind, match=rf"\[{sqlstate}\]") as refused:
            cursor.execute(sql)
        assert refused.value.status_code == status  # type: ignore[attr-defined]
        cursor.execute("SELECT 1 AS n")
        assert cursor.fetchall() == [(1,)]


def test_an_error_amid_the_rows(server: RunningServer) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT CAST(CASE WHEN range = 900000 THEN 'x' ELSE '1' END AS INT) FROM range(1000000)")
        with pytest.raises((DriverError, OSError), match=r"\[22000\]"):
            cursor.fetchall()
        cursor.execute("SELECT 1 AS n")
        assert cursor.fetchall() == [(1,)]


def test_what_may_not_be_seen_does_not_exist(server: RunningServer) -> None:
    texts = []
    with server.connect("viewer") as connection, connection.cursor() as cursor:
        for name in ("positions", "no_such__"):
            with pytest.raises(ProgrammingError) as refused:
                cursor.execute(f"SELECT * FROM {name}")
            assert refused.value.status_code == AdbcStatusCode.NOT_FOUND
            texts.append(str(refused.value).replace(name, "?"))
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "endless",
    [
        "SELECT * FROM range(1000000000000)",
        "SELECT sum(a.range * b.range) AS n FROM range(10000000) a, range(10000000) b",
    ],
)
def test_time_out_ends_an_endless_query(server: RunningServer, endless: str) -> None:
    options = {"adbc.flight.sql.rpc.timeout_seconds.fetch": "1"}
    with server.connect(**options) as connection:
        started = time.monotonic()
        # Client and server watch the same deadline. Where the server's stream ends first, in the middle of a message,
        # grpc-go tells of the cut message and not of the deadline behind it.
        with pytest.raises((DriverError, OSError), match=r"(?i)deadline|unexpected EOF"):
            asked(connection, endless)
        assert time.monotonic() - started < 10
        assert asked(connection, "SELECT 1 AS n").to_pydict() == {"n": [1]}


# ---- rows in, and data frames


@pytest.mark.covers("adbc", "StatementIngest")
def test_ingest_appends(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_server(tmp_path_factory.mktemp("ingested")) as own, own.connect("admin") as connection:
        rows = pa.table(
            {
                "symbol": ["AAA", "BBB"],
                "bid_price": [1.0, None],
                "ask_price": [1.5, 2.5],
                "last_price": [1.25, 2.25],
                "volume": [10, 20],
                "timestamp": pa.array([datetime(2026, 1, 5, 14, 30, tzinfo=UTC)] * 2, pa.timestamp("us", "UTC")),
            }
        )
        with connection.cursor() as cursor:
            assert cursor.adbc_ingest("market_data", rows, mode="append") == 2
            cursor.execute("SELECT * FROM market_data ORDER BY symbol")
            assert cursor.fetch_arrow_table().to_pydict() == rows.to_pydict()
            with pytest.raises(DriverError, match=r"\[42P01\]") as missing:
                cursor.adbc_ingest("nothing", rows, mode="append")
            assert missing.value.status_code == AdbcStatusCode.NOT_FOUND
            with pytest.raises(NotSupportedError, match=r"\[0A000\]"):
                cursor.adbc_ingest("market_data", rows, mode="replace")
        with own.connect("viewer") as other, other.cursor() as cursor:
            with pytest.raises(DriverError, match=r"\[42501\]") as refused:
                cursor.adbc_ingest("market_data", rows, mode="append")
            assert refused.value.status_code == AdbcStatusCode.UNAUTHORIZED


@pytest.mark.covers("frames", "CreatePreparedStatement", "PreparedStatementQuery", "TicketStatementQuery")
def test_pandas(server: RunningServer) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT symbol, last_price, timestamp FROM market_data ORDER BY symbol")
        frame = cursor.fetch_df()
    assert len(frame) == 500
    assert str(frame["timestamp"].dt.tz) == "UTC"
    assert frame["last_price"].dtype == "float64"


@pytest.mark.covers("frames", "CreatePreparedStatement", "PreparedStatementQuery", "TicketStatementQuery")
def test_polars(server: RunningServer) -> None:
    with server.connect() as connection:
        frame = polars.read_database("SELECT * FROM positions ORDER BY account, symbol", connection)
    assert frame.columns == DATASETS["positions"].schema.names
    assert frame.schema["quantity"] == polars.Decimal(18, 4)
    assert frame.height > 10
