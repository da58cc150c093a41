"""What a database browser does to a user's own tables by JDBC: its tree, keys, edits of cells, views, batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.clients import Cases, metric, run
from tests.conformance.java import login, program
from tests.running import RunningServer, running_server


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture(scope="module")
def cases(own: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Cases:
    command = program(tmp_path_factory.mktemp("jdbc"), "Browser")
    found = Cases(run([*command, *login(own, "maker")]))
    assert found.value("set up") == [0, 0, 0, 0, 2]
    return found


ORDERS = ("main", "orders_history")


def _kinds(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["TABLE_NAME"], row["TABLE_TYPE"]) for row in rows]


# ---- the tree


def test_own_tables_and_views_stand_in_the_own_schema(cases: Cases) -> None:
    tables = [("trade%notes", "BASE TABLE"), ("tradeXnotes", "BASE TABLE"), ("trade_notes", "BASE TABLE")]
    assert cases.value("schemas") == [{"TABLE_SCHEM": "u_maker", "TABLE_CATALOG": "desk"}]
    assert _kinds(cases.value("tables")) == [("cheap", "VIEW"), *tables]
    assert _kinds(cases.value("views")) == [("cheap", "VIEW")]
    assert _kinds(cases.value("tables alone")) == tables


def test_escaped_names_mean_themselves(cases: Cases) -> None:
    assert [row["TABLE_NAME"] for row in cases.value("table escaped")] == ["trade_notes"]
    assert [row["TABLE_NAME"] for row in cases.value("percent escaped")] == ["trade%notes"]


def test_no_pattern_means_everything_that_may_be_seen(cases: Cases) -> None:
    """The user's own tables, and those of the roles: quotes and orders, and not the positions."""
    found = {(row["TABLE_SCHEM"], row["TABLE_NAME"]) for row in cases.value("tables of anything")}
    own = {("u_maker", name) for name in ("cheap", "trade_notes", "trade%notes", "tradeXnotes")}
    assert found - own == {("main", "market_data"), ("main", "market_data_history"), ("main", "orders"), ORDERS}
    assert cases.value("columns of anything") > 50


def test_columns_tell_types_and_what_may_be_null(cases: Cases) -> None:
    columns = cases.value("columns")
    assert {row["TABLE_NAME"] for row in columns} == {"trade_notes"}
    told = [(row["COLUMN_NAME"], row["TYPE_NAME"], row["IS_NULLABLE"]) for row in columns]
    assert told == [
        ("account", "VARCHAR", "NO"),
        ("id", "BIGINT", "NO"),
        ("note", "VARCHAR", "YES"),
        ("price", "DECIMAL", "NO"),
        ("paid", "BOOLEAN", "YES"),
    ]
    assert (columns[3]["COLUMN_SIZE"], columns[3]["DECIMAL_DIGITS"]) == (18, 4)
    assert {row["IS_AUTOINCREMENT"] for row in columns} == {"NO"}


def test_a_view_shows_columns_and_rows_as_a_table_does(cases: Cases) -> None:
    assert [(row["COLUMN_NAME"], row["TYPE_NAME"]) for row in cases.value("columns of the view")] == [
        ("account", "VARCHAR"),
        ("id", "BIGINT"),
        ("twice", "DECIMAL"),
    ]
    assert cases.value("view") == [{"account": "A", "id": 1, "twice": "3.0000"}]


def test_a_result_tells_precision_and_scale(cases: Cases) -> None:
    """Of decimals: tools take their width and their places from there."""
    assert cases.value("sizes") == [["price", 18, 4], ["sum", 38, 4], ["id", 0, 0]]


# ---- keys


def test_own_tables_show_their_keys(cases: Cases) -> None:
    wanted = [("desk", "u_maker", "trade_notes", "account", 1), ("desk", "u_maker", "trade_notes", "id", 2)]
    for case in ("primary keys", "primary keys of %"):
        found = [
            (row["TABLE_CAT"], row["TABLE_SCHEM"], row["TABLE_NAME"], row["COLUMN_NAME"], row["KEY_SEQ"])
            for row in cases.value(case)
        ]
        assert found == wanted
    assert cases.value("primary keys of the view") == []


@pytest.mark.covers("jdbc", "GetImportedKeys", "GetExportedKeys", "GetCrossReference")
def test_own_tables_show_what_they_refer_to(cases: Cases) -> None:
    assert cases.value("foreign key") == [0, 0]
    wanted = ("desk", "u_maker", "accounts", "name", "desk", "u_maker", "replies", "account", 1)
    for case in ("imported keys", "imported keys of %", "exported keys", "exported keys of %", "cross reference"):
        (row,) = cases.value(case)
        assert tuple(row.values())[:9] == wanted, case
        assert row["FK_NAME"]


# ---- edits


def test_an_edit_by_key_changes_one_row(cases: Cases) -> None:
    edits = ("edit text", "edit to null", "edit truth", "edit nothing", "new row", "gone row")
    assert [cases.value(name) for name in edits] == [1, 1, 1, 0, 1, 1]
    assert "[23505]" in cases.error("same key")
    assert cases.value("after edits") == [
        {"account": "A", "id": 1, "note": None, "price": "1.5000", "paid": True},
        {"account": "B", "id": 3, "note": "drei", "price": "1.0000", "paid": None},
    ]


def test_execute_tells_counts_and_rows_apart(cases: Cases) -> None:
    assert cases.value("execute") == [False, 2, True, -1, False, 0]


@pytest.mark.parametrize(("name", "stored"), [("exact scale", "12345.6789"), ("object", "3.2500")])
def test_a_decimal_cell_takes_what_is_typed_exactly(cases: Cases, name: str, stored: str) -> None:
    assert cases.value(f"decimal, {name}") == 1
    assert cases.value(f"after decimal, {name}") == [{"price": stored}]


REFUSED = ["smaller scale", "no scale", "larger scale", "too large", "text", "double", "whole number"]


@pytest.mark.parametrize("name", REFUSED)
def test_the_connection_outlives_an_edit_that_the_driver_refuses(cases: Cases, name: str) -> None:
    """It sends a decimal in its column's own scale or not at all; then nothing has changed."""
    assert "UnsupportedOperationException" in cases.error(f"decimal, {name}")
    before = "3.2500" if name in REFUSED[4:] else "12345.6789"
    assert cases.value(f"after decimal, {name}") == [{"price": before}]


def test_the_driver_commits_each_statement_whatever_it_is_told(cases: Cases) -> None:
    """It sends nothing of transactions: that is why they are begun and ended by statements."""
    assert cases.value("rollback of the driver's own") == [{"n": 1}]


def test_a_batch_is_all_or_nothing(cases: Cases) -> None:
    assert "[23505]" in cases.error("batch with a double key")
    assert cases.value("after batch with a double key") == [{"n": 0}]


# ---- the connection


def test_who_logged_in_is_who_is_told(cases: Cases) -> None:
    assert cases.value("user name") == "maker"
    assert cases.value("who") == [{"who": "maker"}]


def test_who_may_write_is_not_told_to_be_read_only(cases: Cases) -> None:
    assert cases.value("read only") is False


@pytest.mark.covers("jdbc", "ClosePreparedStatement")
def test_what_the_driver_closes_is_forgotten(own: RunningServer, cases: Cases) -> None:
    """It prepares every statement; it loses some that failed, which go with their session."""
    prepared = metric(own, 'flightsql_calls_total{code="OK",command="CreatePreparedStatement",method="DoAction"}')
    assert prepared > 30
    assert cases.value("who")
    assert metric(own, "flightsql_prepared_statements") < 5
    assert metric(own, "flightsql_incidents_total") == 0


def test_what_browsers_ask_of_a_connection_is_answered(cases: Cases) -> None:
    assert cases.value("valid") is True
    assert cases.value("commit mode") is True
    assert cases.value("what pools set") is True
    assert cases.value("set schema") == [{"one": 1}]
