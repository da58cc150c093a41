"""Errors say where in the user's own text they are, and suggest names that the user may see."""

from __future__ import annotations

import pytest
from adbc_driver_manager import Error as DriverError

from tests.running import RunningServer


def _error(server: RunningServer, sql: str, user: str = "viewer") -> str:
    with server.connect(user) as connection, connection.cursor() as cursor, pytest.raises(DriverError) as caught:
        cursor.execute(sql)
    return str(caught.value)


@pytest.mark.parametrize(
    ("sql", "state", "word"),
    [
        ("SELECT symbol,\n  bid_prise\nFROM market_data", "42703", "bid_prise"),
        ("SELECT m.nothing FROM market_data m", "42703", "nothing"),
        ("SELECT x.symbol FROM market_data m", "42P01", "x"),
        ("SELECT * FROM market_dta", "42P01", "market_dta"),
        ("SELECT abs(symbol) FROM market_data", "42883", "abs"),
        ("SELECT symbol, sum(volume) FROM market_data", "42803", "symbol"),
        ("SELECT symbol FROM market_data a JOIN market_data b ON true", "42702", "symbol"),
        ("SELECT count(*)\nFROM market_data\nWHERE sum(volume) > 1", "42803", "WHERE"),
        ("SELECT lenght(symbol) FROM market_data", "0A000", "lenght"),
        ("SELECT 1 FORM market_data", "42601", "market_data"),
    ],
)
def test_a_caret_stands_under_the_word(server: RunningServer, sql: str, state: str, word: str) -> None:
    lines = _error(server, sql).splitlines()
    assert f"[{state}]" in lines[0]
    at = next(n for n, line in enumerate(lines) if line.strip().startswith("^"))
    column = lines[at].index("^")
    assert lines[at - 1][column:].startswith(word)
    number = next(n for n, line in enumerate(sql.splitlines(), 1) if word in line)
    assert f"line {number}, column {sql.splitlines()[number - 1].index(word) + 1}" in "\n".join(lines[:at])


def test_names_are_suggested(server: RunningServer) -> None:
    assert "Did you mean bid_price" in _error(server, "SELECT bid_prise FROM market_data")
    assert "Did you mean market_data" in _error(server, "SELECT * FROM market_dta")
    assert "length" in _error(server, "SELECT lenght(symbol) FROM market_data")


def test_names_that_the_user_may_not_see_are_not_suggested(server: RunningServer) -> None:
    assert "orders" not in _error(server, "SELECT * FROM order").replace("FROM order", "")
    assert "Did you mean orders" in _error(server, "SELECT * FROM ordes", "reader")


def test_the_place_is_told_in_other_dialects_as_well(server: RunningServer) -> None:
    found = _error(server, "-- dialect: tsql\nSELECT TOP 3 [symbol], [bid_prise]\nFROM [market_data]")
    assert "line 2, column 24" in found
    assert "[bid_prise]" in found
