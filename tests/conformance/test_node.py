"""An npm Flight SQL client, and a gRPC channel of Node's with its stock limits: ``node/client.js`` runs every case."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.components import require
from tests.conformance.clients import Cases, arrow, plain_rows, run
from tests.running import RunningServer

HERE = Path(__file__).parent / "node"
FOUR_MEBIBYTES = 4 * 1024 * 1024


@pytest.fixture(scope="module")
def cases(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Cases:
    node, npm = require("node"), require("npm")
    build = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "client.js"):
        shutil.copy(HERE / name, build / name)
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--silent")
    run([npm, "ci", "--prefix", build, *quiet])
    return Cases(run([node, build / "client.js", "127.0.0.1", str(server.port), "reader", "reader"]))


def test_login(cases: Cases) -> None:
    assert cases.value("login") == [["reader"]]


def test_wrong_password_is_named(cases: Cases) -> None:
    assert "[28P01]" in cases.error("wrong password")


def test_rows_are_those_of_arrow(server: RunningServer, cases: Cases) -> None:
    sql = "SELECT symbol, bid_price, ask_price, last_price, volume FROM market_data ORDER BY symbol"
    assert cases.value("select") == plain_rows(arrow(server, sql))


def test_200_000_rows(cases: Cases) -> None:
    assert cases.value("sum") == [200_000, 19_999_900_000]


def test_schema(server: RunningServer, cases: Cases) -> None:
    assert cases.value("schema") == arrow(server, "SELECT * FROM orders LIMIT 1").column_names


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
