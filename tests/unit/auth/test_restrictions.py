"""What a role shows of a table: which rows, which columns masked; and that parts of several roles don't mix."""

from __future__ import annotations

import tomllib

import pytest
from flightsql_auth.policies import Policies, PolicyError
from flightsql_auth.restrictions import View

DESK = """
[roles.trader]
select = ["*"]
ingest = ["orders"]
[roles.trader.filters]
orders = "account IN (claims.accounts)"
[roles.trader.masks.market_data]
volume = "round(-3)"
[roles.all]
select = ["orders"]
[roles.filled]
select = ["orders"]
filters = { orders = "status = 'FILLED'" }
masks = { orders = { account = "hash" } }
"""
POLICIES = Policies.from_toml(tomllib.loads(DESK)["roles"])
ORDERS = {"schema": "main", "name": "orders", "dataset": "orders"}


def test_a_table_without_restrictions_is_whole() -> None:
    trader = POLICIES.grants(["trader"])
    assert trader.views(schema="main", name="positions", dataset="positions") is None
    assert POLICIES.grants(["reader"]).views(**ORDERS) is None  # type: ignore[arg-type]
    assert POLICIES.grants(["trader", "all"]).views(**ORDERS) is None, "one role shows all of it"  # type: ignore[arg-type]


def test_every_table_of_a_dataset_is_restricted() -> None:
    trader = POLICIES.grants(["trader"])
    for name in ("orders", "orders_history"):
        views = trader.views(schema="main", name=name, dataset="orders")
        assert views == (View(("account IN (claims.accounts)",)),)


def test_parts_stay_apart() -> None:
    views = POLICIES.grants(["trader", "filled"]).views(**ORDERS)  # type: ignore[arg-type]
    assert views is not None
    assert set(views) == {
        View(("account IN (claims.accounts)",)),
        View(("status = 'FILLED'",), (("account", "hash"),)),
    }


def test_writing_is_restricted_as_well() -> None:
    trader = POLICIES.grants(["trader"])
    assert trader.views(**ORDERS, writing="ingest") == (View(("account IN (claims.accounts)",)),)  # type: ignore[arg-type]
    assert POLICIES.grants(["filled"]).views(**ORDERS, writing="ingest") == (), "it may write nothing"  # type: ignore[arg-type]


def test_what_nobody_grants_has_no_rows() -> None:
    """A star does not cover what is private: a role that shows all of its star shows nothing of that."""
    grants = POLICIES.grants(["trader", "filled"], "ann")
    assert grants.views(schema="u_bob", name="notes", dataset=None) == ()
    assert grants.views(schema="u_ann", name="notes", dataset=None) is None, "one's own"


def test_claims_are_part_of_what_is_granted_where_they_count() -> None:
    one, other = ({"accounts": ["A1"], "secret": object()}, {"accounts": ["A2"]})
    assert POLICIES.grants(["trader"], "a", "", one) != POLICIES.grants(["trader"], "a", "", other)
    assert POLICIES.grants(["trader"], "a", "", {"accounts": [1]}) != POLICIES.grants(
        ["trader"], "a", "", {"accounts": [True]}
    )
    assert POLICIES.grants(["all"], "a", "", one) == POLICIES.grants(["all"], "a", "", other)
    assert POLICIES.grants(["trader"], "a", "", one).claims == (("accounts", '["A1"]'),)


@pytest.mark.parametrize(
    "table",
    [
        {"filters": "x"},
        {"filters": {"orders": 1}},
        {"filters": {"orders": ""}},
        {"filters": {"a.b.c": "TRUE"}},
        {"masks": {"orders": "null"}},
        {"masks": {"orders": {"account": "blur"}}},
        {"masks": {"orders": {"account": "round(x)"}}},
    ],
)
def test_wrong_forms_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(PolicyError, match="'r'"):
        Policies.from_toml({"r": {"select": ["orders"], **table}})


def test_the_version_follows_them() -> None:
    changed = tomllib.loads(DESK.replace("round(-3)", "round(-2)"))["roles"]
    assert Policies.from_toml(changed).version != POLICIES.version


def test_rows_that_are_inserted_are_those_of_roles_that_insert() -> None:
    policies = Policies.from_toml(
        {
            "clerk": {"select": ["orders"], "insert": ["orders"], "filters": {"orders": "account = 'A1'"}},
            "feed": {"ingest": ["orders"]},
        }
    )
    clerk = policies.grants(["clerk"])
    assert clerk.views(**ORDERS, writing="insert") == (View(("account = 'A1'",)),)  # type: ignore[arg-type]
    assert clerk.views(**ORDERS, writing="ingest") == ()  # type: ignore[arg-type]
    assert policies.grants(["clerk", "feed"]).views(**ORDERS, writing="insert") is None  # type: ignore[arg-type]
