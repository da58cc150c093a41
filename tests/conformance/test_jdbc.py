"""The stock JDBC driver: one Java process runs every case of ``jdbc/Client.java``, each test reads one line of it."""

from __future__ import annotations

import time

import pytest

from tests.conformance.clients import Cases, arrow, metric, plain_rows, run, token_of
from tests.conformance.java import login, program
from tests.running import RunningServer

VARCHAR, DOUBLE, BIGINT, DECIMAL, TIMESTAMP = 12, 8, -5, 3, 93
TABLES = ["market_data", "market_data_history", "orders", "orders_history", "positions", "positions_history"]
INCIDENTS = "flightsql_incidents_total"


@pytest.fixture(scope="module")
def incidents(server: RunningServer) -> float:
    """How many defects the server had met before the driver came."""
    return metric(server, INCIDENTS)


@pytest.fixture(scope="module")
def cases(server: RunningServer, incidents: float, tmp_path_factory: pytest.TempPathFactory) -> Cases:
    # A time zone with a summer time of its own: what arrives must not depend on where the client sits.
    command = program(tmp_path_factory.mktemp("jdbc"), "Client", zone="Pacific/Auckland")
    return Cases(run([*command, *login(server, "reader")], FLIGHT_TOKEN=token_of(server)))


def names(rows: list[dict[str, object]], column: str) -> list[object]:
    return [row[column] for row in rows]


# ---- login


def test_login_by_user_and_password(cases: Cases) -> None:
    assert cases.value("user and password") == [{"who": "reader", "one": 1}]
    assert cases.value("user and password in the url") == [{"who": "reader"}]


def test_login_by_token(cases: Cases) -> None:
    assert cases.value("token") == [{"who": "reader"}]
    assert cases.value("token as a password") == [{"who": "reader"}]


def test_wrong_credentials_are_named(cases: Cases) -> None:
    assert "UNAUTHENTICATED: [28P01]" in cases.error("wrong password")
    assert "UNAUTHENTICATED: [28000]" in cases.error("token that is none")
    assert "UNAUTHENTICATED: [28000]" in cases.error("no credentials")


# ---- DBeaver's tree


def test_search_escape_is_a_backslash(cases: Cases) -> None:
    assert cases.value("escape") == "\\"


@pytest.mark.covers("jdbc", "GetCatalogs", "GetDbSchemas")
def test_catalogs_and_schemas(cases: Cases) -> None:
    assert cases.value("catalogs") == [{"TABLE_CAT": "desk"}]
    schemas = cases.value("schemas")
    assert {"TABLE_SCHEM": "main", "TABLE_CATALOG": "desk"} in schemas
    assert names(schemas, "TABLE_SCHEM") == sorted(names(schemas, "TABLE_SCHEM"))  # type: ignore[type-var]
    assert cases.value("schemas of no catalog") == []


@pytest.mark.covers("jdbc", "GetTables", "GetTableTypes")
def test_tables(cases: Cases) -> None:
    assert {"TABLE_TYPE": "BASE TABLE"} in cases.value("table types")
    tables = cases.value("tables")
    assert names(tables, "TABLE_NAME") == TABLES
    assert {(row["TABLE_CAT"], row["TABLE_SCHEM"], row["TABLE_TYPE"]) for row in tables} == {
        ("desk", "main", "BASE TABLE")
    }
    assert cases.value("tables of a type") == []


def test_tables_by_pattern(cases: Cases) -> None:
    assert names(cases.value("tables escaped"), "TABLE_NAME") == ["market_data"]
    assert names(cases.value("tables with wildcard"), "TABLE_NAME") == ["market_data"]


def test_columns(cases: Cases) -> None:
    columns = cases.value("columns of market_data")
    assert names(columns, "TABLE_NAME") == ["market_data"] * 6
    assert names(columns, "COLUMN_NAME") == ["symbol", "bid_price", "ask_price", "last_price", "volume", "timestamp"]
    assert names(columns, "ORDINAL_POSITION") == [1, 2, 3, 4, 5, 6]
    assert names(columns, "IS_NULLABLE") == ["NO", "YES", "YES", "YES", "YES", "NO"]
    assert names(columns, "DATA_TYPE")[:5] == [VARCHAR, DOUBLE, DOUBLE, DOUBLE, BIGINT]
    assert columns[0]["REMARKS"] == "Instrument."
    assert all(row["TYPE_NAME"] for row in columns)


def test_columns_tell_precision_and_scale(cases: Cases) -> None:
    columns = {row["COLUMN_NAME"]: row for row in cases.value("columns of positions")}
    assert list(columns) == [
        "account",
        "symbol",
        "strategy",
        "quantity",
        "average_price",
        "realized_pnl",
        "currency",
        "updated_at",
    ]
    for name, scale in (("quantity", 4), ("average_price", 6), ("realized_pnl", 2)):
        told = columns[name]
        assert (told["DATA_TYPE"], told["COLUMN_SIZE"], told["DECIMAL_DIGITS"]) == (DECIMAL, 18, scale)
    assert len(cases.value("columns of orders")) == 17


def test_columns_by_pattern(cases: Cases) -> None:
    # The driver itself matches this pattern, and knows no escape in it.
    assert names(cases.value("columns by pattern"), "COLUMN_NAME") == ["bid_price", "ask_price", "last_price"]


@pytest.mark.covers("jdbc", "GetPrimaryKeys")
def test_primary_keys(cases: Cases) -> None:
    keys = cases.value("primary keys")
    assert [(row["COLUMN_NAME"], row["KEY_SEQ"]) for row in keys] == [("account", 1), ("symbol", 2)]
    alone = cases.value("primary keys by table alone")
    assert [(row["TABLE_CAT"], row["TABLE_SCHEM"], row["TABLE_NAME"], row["COLUMN_NAME"]) for row in alone] == [
        ("desk", "main", "market_data", "symbol")
    ]
    assert set(names(cases.value("primary keys of %"), "TABLE_NAME")) == set(TABLES)


@pytest.mark.covers("jdbc", "GetImportedKeys", "GetExportedKeys", "GetCrossReference")
@pytest.mark.parametrize("case", ["type info", "index info", "imported keys", "exported keys", "cross reference"])
def test_what_there_is_none_of_is_empty(cases: Cases, case: str) -> None:
    assert cases.value(case) == []


@pytest.mark.covers("jdbc", "GetSqlInfo")
def test_no_metadata_method_fails(cases: Cases) -> None:
    found = cases.value("metadata methods")
    assert found["failures"] == {}
    answers = found["answers"]
    assert len(answers) > 140
    assert answers["getIdentifierQuoteString"] == '"'
    assert answers["getDatabaseProductName"]
    assert answers["isReadOnly"] is True
    assert answers["supportsTransactions"] is True


# ---- rows


@pytest.mark.covers("jdbc", "CreatePreparedStatement", "PreparedStatementQuery", "TicketStatementQuery")
@pytest.mark.parametrize(
    ("table", "order", "types"),
    [
        ("market_data", "symbol", [VARCHAR, DOUBLE, DOUBLE, DOUBLE, BIGINT, TIMESTAMP]),
        ("positions", "account, symbol", [VARCHAR] * 3 + [DECIMAL] * 3 + [VARCHAR, TIMESTAMP]),
        ("orders", "order_id", [VARCHAR] * 8 + [DECIMAL] * 5 + [VARCHAR] * 2 + [TIMESTAMP] * 2),
    ],
)
def test_rows_are_those_of_arrow(server: RunningServer, cases: Cases, table: str, order: str, types: list[int]) -> None:
    wanted = arrow(server, f"SELECT * FROM {table} ORDER BY {order}")
    found = cases.value(table)
    assert found["names"] == wanted.column_names
    assert found["types"] == types
    assert wanted.num_rows > 10
    assert found["rows"] == plain_rows(wanted)
    if table == "orders":
        assert any(None in row for row in found["rows"])


def test_other_types(cases: Cases) -> None:
    (row,) = cases.value("other types")["rows"]
    assert row == [
        None,
        True,
        -7,
        1.5,
        "2026-01-05",
        "12345678901234567890.123456789",
        "2026-01-05T14:30:00.123456",
        "Zürich ✓",
    ]


def test_times_are_utc_wherever_the_client_sits(cases: Cases) -> None:
    by_calendar, local, text = cases.value("times")
    assert by_calendar == local == "2026-01-05T14:30:00.500000"
    assert text == "2026-01-05 14:30:00.5"


def test_nested_columns_arrive_as_text(cases: Cases) -> None:
    found = cases.value("nested")
    assert found["types"] == [VARCHAR] * 4
    (row,) = found["rows"]
    assert row[0] == "[1, 2, NULL]"
    assert row[1].startswith("{'a': 1")
    assert row[3] is None


def test_uuids_arrive_as_text(cases: Cases) -> None:
    found = cases.value("uuid")
    assert (found["types"], found["rows"]) == ([VARCHAR], [["123e4567-e89b-12d3-a456-426614174000"]])


def test_enums_arrive_as_text(cases: Cases) -> None:
    assert cases.value("enum") == {"names": ["side"], "types": [VARCHAR], "rows": [["buy"]]}


def test_empty_result(cases: Cases) -> None:
    assert cases.value("empty") is False


def test_a_million_rows(cases: Cases) -> None:
    assert cases.value("million") == [1_000_000, 499_999_500_000]


# ---- statements


def test_select_1(cases: Cases) -> None:
    assert cases.value("select 1") == [{"1": 1}]


def test_prepared_statement_runs_twice(cases: Cases) -> None:
    assert cases.value("prepared twice") == ["n", 0, [{"n": 500}], [{"n": 500}]]


def test_two_open_result_sets(cases: Cases) -> None:
    assert cases.value("two result sets") == [19_999_900_000, 20_000_100_000]


def test_execute_tells_a_query_from_an_update(cases: Cases) -> None:
    assert cases.value("execute tells a query from an update") == [True, True, True, True, True, False]


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("bad sql", "INVALID_ARGUMENT: [42601]"),
        ("unknown table", "NOT_FOUND: [42P01]"),
        ("unknown column", "INVALID_ARGUMENT: [42703]"),
        ("error in the stream", "INVALID_ARGUMENT: [22000]"),
        ("insert", "UNAUTHORIZED: [42501]"),
    ],
)
def test_errors_have_code_and_sqlstate(cases: Cases, case: str, code: str) -> None:
    assert code in cases.error(case)


def test_a_query_that_is_sent_as_an_update_harms_nothing(cases: Cases) -> None:
    """The driver sees that rows come, and has no count to tell."""
    assert cases.value("update that is a query") == [-1, [{"two": 2}]]


def test_the_connection_outlives_errors(cases: Cases) -> None:
    assert cases.value("after errors") == [{"one": 1}]


# ---- stopping


def test_cancel_stops_a_result_without_end(cases: Cases) -> None:
    how, seconds = cases.value("cancel while rows come")
    assert how == "stopped"
    assert seconds < 5
    assert cases.value("after cancel") == [{"two": 2}]


def test_cancel_stops_work_without_end(cases: Cases) -> None:
    how, seconds = cases.value("cancel before rows come")
    assert how == "stopped"
    assert seconds < 5


def test_time_out(cases: Cases) -> None:
    how, seconds = cases.value("time-out")
    assert how in ("SQLException", "SQLTimeoutException")
    assert seconds < 6
    assert cases.value("after time-out") == [{"three": 3}]


def test_closing_an_unread_result_is_prompt(cases: Cases) -> None:
    assert cases.value("closing an unread result") < 10


def test_nothing_runs_on_and_nothing_broke(server: RunningServer, incidents: float, cases: Cases) -> None:
    cases.value("after time-out")
    deadline = time.monotonic() + 5
    while metric(server, 'flightsql_calls_in_flight{method="DoGet"}') and time.monotonic() < deadline:
        time.sleep(0.05)
    assert metric(server, 'flightsql_calls_in_flight{method="DoGet"}') == 0
    assert metric(server, INCIDENTS) == incidents


# ---- sessions


def test_use(cases: Cases) -> None:
    assert cases.value("use") == [0, [{"s": "main"}]]


def test_set_catalog(cases: Cases) -> None:
    assert cases.value("set catalog") == [{"c": "desk"}]
    # Version 18.3.0 keeps the name to itself, so a wrong one can't be refused; it must not lead anywhere either.
    assert cases.value("set unknown catalog") == [{"c": "desk"}]


@pytest.mark.covers("jdbc", "SetSessionOptions", "CloseSession")
def test_catalog_in_the_url(cases: Cases) -> None:
    rows, _ = cases.value("catalog in the url")
    assert rows == [{"n": 500}]
    assert "catalog" in cases.error("unknown catalog in the url")
