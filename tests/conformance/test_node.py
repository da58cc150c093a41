"""Node: npm Flight SQL clients, bare gRPC with its stock limits, and a trading service's feed by gRPC and Arrow.

``node/client.js``, ``node/changes.js`` and ``node/feed.js`` run the cases; what they print is compared here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.commands import CLEAN
from tests.components import require
from tests.conformance.clients import Cases, arrow, metric, plain_rows, run
from tests.running import CONFIG, RunningServer, add_users, running_server

HERE = Path(__file__).parent / "node"
FOUR_MEBIBYTES = 4 * 1024 * 1024
START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the programs and what npm brought for them."""
    build = install(tmp_path_factory.mktemp("node"))
    for file in ("client.js", "changes.js", "feed.js", "wire.js"):
        shutil.copy(HERE / file, build / file)
    return build


def install(build: Path) -> Path:
    """The folder, with what npm brings."""
    require("node")
    for file in ("package.json", "package-lock.json"):
        shutil.copy(HERE / file, build / file)
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--silent")
    run([require("npm"), "ci", "--prefix", build, *quiet])
    return build


@pytest.fixture(scope="module")
def cases(server: RunningServer, programs: Path) -> Cases:
    return Cases(run([require("node"), programs / "client.js", "127.0.0.1", str(server.port), "reader", "reader"]))


def test_login(cases: Cases) -> None:
    assert cases.value("login") == [["reader"]]


def test_wrong_password_is_named(cases: Cases) -> None:
    assert "[28P01]" in cases.error("wrong password")


@pytest.mark.covers("npm", "StatementQuery", "TicketStatementQuery")
def test_rows_are_those_of_arrow(server: RunningServer, cases: Cases) -> None:
    sql = "SELECT symbol, bid_price, ask_price, last_price, volume FROM market_data ORDER BY symbol"
    assert cases.value("select") == plain_rows(arrow(server, sql))


def test_200_000_rows(cases: Cases) -> None:
    assert cases.value("sum") == [200_000, 19_999_900_000]


def test_schema(server: RunningServer, cases: Cases) -> None:
    assert cases.value("schema") == arrow(server, "SELECT * FROM orders LIMIT 1").column_names


@pytest.mark.covers("npm", "GetTables")
def test_tables(cases: Cases) -> None:
    (table,) = cases.value("tables")
    assert (table["catalog"], table["schema"], table["tableName"]) == ("desk", "main", "market_data")


@pytest.mark.parametrize(("case", "sqlstate"), [("bad sql", "[42601]"), ("unknown table", "[42P01]")])
def test_errors_have_a_sqlstate(cases: Cases, case: str, sqlstate: str) -> None:
    assert sqlstate in cases.error(case)


def test_messages_stay_below_the_stock_limit(cases: Cases) -> None:
    found = cases.value("stock limits")
    assert found["bytes"] > 3 * FOUR_MEBIBYTES
    assert found["messages"] > 4
    assert found["longest"] < FOUR_MEBIBYTES


# ---- changes -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture(scope="module", params=["gizmodata", "firetiger", "lancedb"])
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def changes(own: RunningServer, programs: Path, client: str) -> Cases:
    login = ("127.0.0.1", str(own.port), "maker", "maker")
    return Cases(run([require("node"), programs / "changes.js", *login, client]))


def test_changes_happen_once_and_are_counted(own: RunningServer, changes: Cases, client: str) -> None:
    """Each goes out as a query and is fetched; the table has no key, so a row put in twice would be seen."""
    steps = [changes.value(step) for step in ("create", "insert", "update", "delete", "returning")]
    assert [step["answer"] for step in steps] == [[[0]], [[3]], [[2]], [[1]], [[4, "d"]]]
    second, third, fourth = [2, "z", "2.2500"], [3, "z", None], [4, "d", "0.0000"]
    assert [step["held"] for step in steps] == [
        [],
        [[1, "a", "1.5000"], [2, None, "2.2500"], [3, "c", None]],
        [[1, "a", "1.5000"], second, third],
        [second, third],
        [second, third, fourth],
    ]
    assert changes.value("many") == [[50, 50]]
    assert arrow(own, f"SELECT count(*) AS n FROM many_{client}", "maker").to_pydict() == {"n": [50]}


def test_what_is_refused_changes_nothing(changes: Cases) -> None:
    assert "[42501]" in changes.error("not granted")
    assert changes.value("after an error") == changes.value("returning")["held"]


def test_a_transaction_by_statements_needs_a_token(changes: Cases, client: str) -> None:
    """A client that sends its password with every call has no session that a transaction could belong to."""
    if client == "firetiger":
        assert "[25000]" in changes.error("rollback")
    else:
        assert changes.value("rollback") == changes.value("returning")["held"]


def test_each_client_knows_a_wrong_password(changes: Cases, client: str) -> None:
    """One keeps the server's words to itself."""
    assert ("Authentication failed" if client == "firetiger" else "[28P01]") in changes.error("wrong password")


def test_the_server_met_no_defect(own: RunningServer, changes: Cases) -> None:
    assert changes.value("many")
    assert metric(own, "flightsql_incidents_total") == 0


# ---- a trading service's feed --------------------------------------------------------------------------------------

WITH_AND_WITHOUT = [("with basic", "BASIC"), ("without credentials", "NOBODY")]


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that gives callers without credentials the role of a feed."""
    folder = tmp_path_factory.mktemp("open")
    add_users(folder)
    (folder / "test.toml").write_text(CONFIG, encoding="utf-8")
    environment = {**CLEAN, "FLIGHTSQL_LOGIN_ANONYMOUS_ROLE": "feed"}
    running = RunningServer(folder, "--config", str(folder / "test.toml"), environment=environment)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def feed(open_server: RunningServer, programs: Path) -> Cases:
    return Cases(run([require("node"), programs / "feed.js", "127.0.0.1", str(open_server.port), "feed", "feed"]))


def _expected(prefix: str) -> list[list[object]]:
    """The rows that stand after the feed's three batches, of 4, 5 and 6 symbols, each batch a second later."""
    rows: list[list[object]] = []
    number = 2
    for n in range(6):
        at = START + timedelta(seconds=number, milliseconds=n)
        bid = n + 0.25 if n % 3 else None
        millis = int(at.timestamp() * 1_000)
        rows.append([f"{prefix}{n}", bid, n + 0.5, n + number / 8, n * 1_000_000_007, millis])
    return rows


@pytest.mark.covers("grpc", "Plain")
@pytest.mark.parametrize(("name", "prefix"), WITH_AND_WITHOUT)
def test_a_feed_puts_dictionaries_and_milliseconds(
    open_server: RunningServer, feed: Cases, name: str, prefix: str
) -> None:
    """Schema, dictionaries and batches under the descriptor's path; one acknowledgement for each batch."""
    found = feed.value(f"put {name}")
    assert found["messages"] > 1 + 3, "dictionaries are messages of their own"
    assert [one["rows"] for one in found["acknowledged"]] == [4, 5, 6]
    assert [one["level"] for one in found["acknowledged"]] == ["durable"] * 3
    sql = f"SELECT symbol, timestamp FROM market_data_history WHERE starts_with(symbol, '{prefix}') ORDER BY _seq"
    assert arrow(open_server, sql).to_pylist() == [
        {"symbol": f"{prefix}{n}", "timestamp": START + timedelta(seconds=number, milliseconds=n)}
        for number in range(3)
        for n in range(4 + number)
    ]


@pytest.mark.parametrize(("name", "prefix"), WITH_AND_WITHOUT)
def test_a_feed_gets_the_dataset_by_its_name(open_server: RunningServer, feed: Cases, name: str, prefix: str) -> None:
    found = feed.value(f"get {name}")
    assert found["rows"] == _expected(prefix)
    assert [column for column, _ in found["columns"]] == [
        "symbol",
        "bid_price",
        "ask_price",
        "last_price",
        "volume",
        "timestamp",
    ]
    sql = "SELECT symbol, bid_price, ask_price, last_price, volume, epoch_ms(timestamp) FROM market_data"
    assert plain_rows(arrow(open_server, f"{sql} WHERE starts_with(symbol, '{prefix}') ORDER BY 1")) == found["rows"]
