"""Parameters, changes and transactions through the stock JDBC driver, which prepares everything it runs."""

from __future__ import annotations

import pytest

from tests.conformance.clients import Cases, run
from tests.conformance.java import login, program
from tests.running import running_server

BIGINT, VARCHAR, DECIMAL, TIMESTAMP = -5, 12, 3, 93


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    command = program(tmp_path_factory.mktemp("jdbc"), "Changes")
    with running_server(tmp_path_factory.mktemp("own")) as server:
        return Cases(run([*command, *login(server, "maker")]))


@pytest.mark.covers("jdbc", "PreparedStatementUpdate")
def test_counts_are_right(cases: Cases) -> None:
    assert [cases.value(name) for name in ("create", "insert", "update", "drop")] == [0, 2, 1, 0]
    assert cases.value("execute") == [False, 1]


def test_returned_rows_are_a_result(cases: Cases) -> None:
    assert cases.value("returning") == [{"id": 3}]
    assert cases.value("rows") == [
        {"id": 2, "note": "z", "price": "2.0000"},
        {"id": 3, "note": None, "price": None},
    ]
    assert "[23505]" in cases.error("duplicate")


def test_keys_make_tables_editable(cases: Cases) -> None:
    assert cases.value("keys") == ["id"]


def test_parameters_have_the_types_of_their_columns(cases: Cases) -> None:
    assert cases.value("types of parameters") == [BIGINT, VARCHAR, DECIMAL, TIMESTAMP]


def test_null_decimal_and_time_arrive_exactly(cases: Cases) -> None:
    """The driver writes every timestamp in milliseconds; in other servers 2026 became 1970."""
    assert cases.value("bound insert") == 1
    assert cases.value("bound row") == [{"none": True, "price": "12345.6789", "t": "2026-01-02 03:04:05.678"}]


def test_dates_and_times_arrive_exactly(cases: Cases) -> None:
    assert cases.value("bound dates") == [{"d": "2026-07-01", "t": "03:04:05", "z": "2026-07-01 03:04:05.678+00"}]


def test_a_batch_is_one_change(cases: Cases) -> None:
    assert sum(cases.value("batch")) == 50
    assert cases.value("after batch") == [{"n": 50}]


def test_a_prepared_query_is_run_with_other_values(cases: Cases) -> None:
    assert cases.value("limit") == [{"id": 2}, {"id": 3}]
    assert cases.value("again") == ["n100", "n101", "n102"]


def test_two_result_sets_are_read_in_turn(cases: Cases) -> None:
    """In the rival's server the second statement killed the first one's stream."""
    assert cases.value("two result sets") == 100_000


def test_begin_rollback_and_commit_as_statements(cases: Cases) -> None:
    assert cases.value("rollback") == [[{"n": 1}], [{"n": 0}], [{"n": 0}]]
    assert cases.value("commit") == [{"n": 1}]


def test_a_live_dataset_says_how_it_is_changed(cases: Cases) -> None:
    assert "[25006]" in cases.error("live dataset")
    assert "_change" in cases.error("live dataset")
