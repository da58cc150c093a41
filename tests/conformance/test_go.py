"""Go's Flight SQL client: one process runs every case of ``go/main.go``, each test reads one line of it."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from flightsql_server.protocol import flight_sql_pb2 as wire
from tests.components import require
from tests.conformance.clients import Cases, arrow, run
from tests.running import RunningServer, running_server

HERE = Path(__file__).parent / "go"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(HERE, tmp_path_factory.mktemp("go") / "client")


def build(source: Path, built: Path) -> Path:
    """Builds the program in that folder."""
    run(
        [require("go"), "build", "-C", source, "-mod=readonly", "-buildvcs=false", "-o", built, "."],
        GOWORK="off",
        **_home(),
    )
    return built


@pytest.fixture(scope="module")
def cases(server: RunningServer, program: Path) -> Cases:
    return Cases(run([program, f"127.0.0.1:{server.port}", "reader", "reader"]))


@pytest.fixture(scope="module")
def changes(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Cases:
    with running_server(tmp_path_factory.mktemp("own")) as own:
        return Cases(run([program, f"127.0.0.1:{own.port}", "maker", "maker", "changes"]))


def _home() -> dict[str, str]:
    """Go keeps modules and built packages below HOME; without one it refuses to start."""
    return {} if os.environ.get("HOME") else {"HOME": os.path.expanduser("~")}


def texts(server: RunningServer, sql: str) -> list[list[str]]:
    return [[str(value) for value in row.values()] for row in arrow(server, sql).to_pylist()]


def test_handshake(cases: Cases) -> None:
    assert cases.value("handshake") == [["reader"]]


def test_wrong_credentials_are_named(cases: Cases) -> None:
    assert "Unauthenticated" in cases.error("wrong password")
    assert "[28P01]" in cases.error("wrong password")
    assert cases.code("no credentials") == "Unauthenticated"


@pytest.mark.covers("go", "StatementQuery", "TicketStatementQuery")
def test_rows_are_those_of_arrow(server: RunningServer, cases: Cases) -> None:
    found = cases.value("select")
    wanted = arrow(server, "SELECT symbol, last_price, volume FROM market_data ORDER BY symbol").to_pylist()
    assert [(symbol, float(price), int(volume)) for symbol, price, volume in found] == [
        (row["symbol"], row["last_price"], row["volume"]) for row in wanted
    ]


def test_decimals_are_exact(server: RunningServer, cases: Cases) -> None:
    sql = "SELECT account, symbol, average_price FROM positions ORDER BY account, symbol"
    wanted = [[row["account"], row["symbol"], row["average_price"]] for row in arrow(server, sql).to_pylist()]
    assert [[account, symbol, Decimal(price)] for account, symbol, price in cases.value("decimals")] == wanted


def test_a_million_rows_under_the_stock_limit(cases: Cases) -> None:
    assert cases.value("million") == [1_000_000, 499_999_500_000]


def test_execute_schema(cases: Cases) -> None:
    assert cases.value("execute schema") == [
        "account: utf8",
        "symbol: utf8",
        "strategy: utf8",
        "quantity: decimal(18, 4)",
        "average_price: decimal(18, 6)",
        "realized_pnl: decimal(18, 2)",
        "currency: utf8",
        "updated_at: timestamp[us, tz=UTC]",
    ]


@pytest.mark.covers("go", "CreatePreparedStatement", "PreparedStatementQuery", "ClosePreparedStatement")
def test_prepared_statement_runs_twice(cases: Cases) -> None:
    assert cases.value("prepared") == [["n: int64"], [], [["500"]], [["500"]]]


@pytest.mark.parametrize(
    ("case", "code", "sqlstate"),
    [
        ("bad sql", "InvalidArgument", "[42601]"),
        ("unfinished sql", "InvalidArgument", "[42601]"),
        ("unknown table", "NotFound", "[42P01]"),
    ],
)
def test_errors_have_code_and_sqlstate(cases: Cases, case: str, code: str, sqlstate: str) -> None:
    assert cases.code(case) == code
    assert sqlstate in cases.error(case)


def test_deadline_ends_a_query_and_not_the_connection(cases: Cases) -> None:
    assert cases.code("deadline") == "DeadlineExceeded"
    assert cases.value("after errors") == [["1"]]


@pytest.mark.covers("go", "GetCatalogs", "GetTables")
def test_metadata(server: RunningServer, cases: Cases) -> None:
    assert cases.value("catalogs") == [["desk"]]
    assert cases.value("tables") == [["desk", "main", "market_data", "BASE TABLE"]]
    schemas = cases.value("table schemas")
    assert schemas["positions"] == cases.value("execute schema")
    assert {"market_data", "orders", "orders_history"} <= set(schemas)


@pytest.mark.covers("go", "GetSqlInfo")
def test_sql_info(cases: Cases) -> None:
    found = {int(code): value for code, value in cases.value("sql info")}
    assert set(found) == {0, 3, 8}
    assert "flightsql-server" in found[0]
    assert "true" in found[3]
    assert cases.value("all sql info") >= len(wire.SqlInfo.keys())


@pytest.mark.covers("go", "StatementUpdate", "PreparedStatementUpdate")
def test_changes_are_counted(changes: Cases) -> None:
    assert [changes.value(name) for name in ("create", "insert", "update", "bound")] == [0, 2, 2, 3]
    assert changes.value("rows") == [["1", "z"], ["2", "z"], ["3", "n3"], ["4", "n4"], ["5", "n5"], ["11", "y"]]


def test_values_are_bound_to_a_query(changes: Cases) -> None:
    assert changes.value("bound query") == [["n4"]]


@pytest.mark.covers("go", "BeginTransaction", "EndTransaction")
def test_transactions_by_id(changes: Cases) -> None:
    assert changes.value("rollback") == [1, [["6"]], [["5"]]]
    assert changes.value("commit") == [1, [["6"]], [["5"]]]


def test_an_ended_transaction_is_refused_by_the_client(changes: Cases) -> None:
    assert changes.error("ended")


@pytest.mark.covers("go", "StatementIngest")
def test_rows_go_in_in_bulk(changes: Cases) -> None:
    """The table is made for them, and they are appended to it when it is there."""
    rows = [["1", "n1"], ["1", "n1"], ["2", "n2"], ["2", "n2"], ["3", "n3"], ["3", "n3"]]
    assert changes.value("ingest") == [[3, 3], rows]


# ---- commands that read


@pytest.mark.covers("go", "GetDbSchemas", "GetTableTypes", "GetPrimaryKeys")
def test_schemas_table_types_and_keys(cases: Cases) -> None:
    assert cases.value("schemas")["rows"] == [["desk", "main"]]
    assert cases.value("table types")["rows"] == [["BASE TABLE"], ["LOCAL TEMPORARY"], ["VIEW"]]
    keys = cases.value("primary keys")["rows"]
    assert [row[:4] + row[5:] for row in keys] == [
        ["desk", "main", "positions", "account", "1"],
        ["desk", "main", "positions", "symbol", "2"],
    ]


@pytest.mark.covers("go", "GetExportedKeys", "GetImportedKeys", "GetCrossReference")
@pytest.mark.parametrize("case", ["exported keys", "imported keys", "cross reference"])
def test_no_dataset_refers_to_another(cases: Cases, case: str) -> None:
    found = cases.value(case)
    assert found["rows"] == []
    assert found["columns"][:4] == [
        "pk_catalog_name: utf8",
        "pk_db_schema_name: utf8",
        "pk_table_name: utf8",
        "pk_column_name: utf8",
    ]
    assert len(found["columns"]) == 13


@pytest.mark.covers("go", "GetXdbcTypeInfo")
def test_types_are_listed_by_code_and_name(cases: Cases) -> None:
    every = [(int(row[1]), row[0]) for row in cases.value("all types")["rows"]]
    assert every == sorted(every)
    assert {(wire.XDBC_BIGINT, "BIGINT"), (wire.XDBC_VARCHAR, "VARCHAR")} < set(every)
    found = [row[:3] for row in cases.value("types of a code")["rows"]]
    assert found == [["BIGINT", "-5", "19"], ["UINTEGER", "-5", "10"]]


# ---- actions


@pytest.mark.covers("go", "CancelFlightInfo")
def test_cancel_stops_a_result_without_end(cases: Cases) -> None:
    assert cases.value("cancel") == ["CANCEL_STATUS_CANCELLED", "Canceled"]


@pytest.mark.covers("go", "CancelQuery")
def test_the_older_form_of_cancel_does_the_same(cases: Cases) -> None:
    assert cases.value("cancel in the older form") == ["CANCEL_RESULT_CANCELLED", "Canceled"]


@pytest.mark.covers("go", "RenewFlightEndpoint")
def test_a_renewed_endpoint_gives_the_rows(cases: Cases) -> None:
    assert cases.value("renewed") == [["7"]]


@pytest.mark.covers("go", "SetSessionOptions", "GetSessionOptions", "CloseSession")
def test_a_session_has_options_and_an_end(cases: Cases) -> None:
    assert cases.value("session") == {
        "refused": "INVALID_NAME",
        "errors": 1,
        "zone": "Asia/Tokyo",
        "closed": "CLOSED",
        "then": "Unauthenticated",
    }


@pytest.mark.covers("go", "StatementSubstraitPlan", "CreatePreparedSubstraitPlan")
@pytest.mark.parametrize("case", ["substrait query", "substrait update", "prepared substrait"])
def test_substrait_is_refused_by_its_code(cases: Cases, case: str) -> None:
    assert cases.code(case) == "Unimplemented"
    assert "[0A000]" in cases.error(case)


@pytest.mark.covers("go", "BeginSavepoint", "EndSavepoint")
@pytest.mark.parametrize("case", ["savepoint", "end of a savepoint"])
def test_savepoints_are_refused_by_their_code(changes: Cases, case: str) -> None:
    assert changes.code(case) == "Unimplemented"
    assert "[0A000]" in changes.error(case)
