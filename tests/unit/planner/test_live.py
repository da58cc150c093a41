"""What the planner says of a subscription's filter: which commits can't concern it, and when no engine is needed."""

from __future__ import annotations

import pytest
from flightsql_auth.policies import Policies

from flightsql_server.model import Live
from tests.unit.planner import world


def live(query: str, dialect: str = "duckdb") -> Live:
    found = world.planned(f"SUBSCRIBE TO {query}", dialect).live
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("where", "texts", "plain"),
    [
        ("symbol = 'AAA'", {"AAA"}, True),
        ("'AAA' = SYMBOL", {"AAA"}, True),
        ("(symbol IN ('AAA', 'bbb'))", {"AAA", "bbb"}, True),
        ("bid_price > 1 AND (symbol = 'AAA') AND volume < 5", {"AAA"}, False),
        ("symbol = 'AAA' AND symbol = 'BBB'", {"AAA"}, False),
        ("symbol = 'AAA' OR bid_price > 1", None, False),
        ("NOT symbol = 'AAA'", None, False),
        ("symbol NOT IN ('AAA')", None, False),
        ("symbol IN ('AAA', last_price)", None, False),
        ("upper(symbol) = 'AAA'", None, False),
        ("symbol LIKE 'AAA'", None, False),
        ("volume = '5'", None, False),
        ("timestamp = '2026-01-01'", None, False),
    ],
)
def test_a_filter_by_text(where: str, texts: set[str] | None, plain: bool) -> None:
    found = live(f"SELECT * FROM market_data WHERE {where}")
    assert found.only == (None if texts is None else ("symbol", texts))
    assert bool(found.plain) is plain


def test_where_texts_are_equal_that_differ_in_blanks_the_engine_is_asked() -> None:
    found = live("SELECT * FROM market_data WHERE symbol = 'AAA'", "tsql")
    assert found.only is None
    assert not found.plain


def test_what_is_masked_is_compared_as_it_is_shown() -> None:
    policies = Policies.from_toml({"clerk": {"select": ["orders"], "masks": {"orders": {"side": "= 'BUY'"}}}})
    grants = policies.grants(["clerk"])
    for where, only in (("side = 'BUY'", None), ("symbol = 'AAA'", ("symbol", {"AAA"}))):
        found = world.planned(f"SUBSCRIBE TO SELECT * FROM orders WHERE {where}", grants=grants).live
        assert found is not None
        assert found.only == only
        assert not found.plain
