"""Limits of roles as data, and what of them holds for somebody with several."""

from __future__ import annotations

import pytest
from flightsql_auth.limits import NO_LIMITS, Limits, most_generous
from flightsql_auth.policies import Policies, PolicyError

_WRITTEN = {"seconds": 2.5, "rows": 10, "bytes": 4096, "concurrent": 2, "subscriptions": 3}


def test_a_role_s_limits_are_those_that_are_written() -> None:
    policies = Policies.from_toml({"trader": {"limits": _WRITTEN}, "free": {}})
    assert policies.grants(["trader"]).limits == Limits(2.5, 10, 4096, 2, 3)
    assert policies.grants(["free"]).limits == NO_LIMITS
    assert policies.grants(["admin"]).limits == NO_LIMITS


def test_of_several_roles_the_most_generous_holds() -> None:
    policies = Policies.from_toml(
        {"one": {"limits": {"seconds": 5, "rows": 100}}, "other": {"limits": {"seconds": 9, "bytes": 10}}, "free": {}}
    )
    assert policies.grants(["one", "other"]).limits == Limits(seconds=9)
    assert policies.grants(["other", "one", "one"]).limits == Limits(seconds=9)
    assert policies.grants(["one", "free"]).limits == NO_LIMITS, "a role without limits has none"
    assert policies.grants(["one", "no-such-role"]).limits == Limits(5, 100), "what is no role lifts nothing"
    assert most_generous([]) == NO_LIMITS


def test_limits_are_part_of_the_version() -> None:
    def version(rows: int) -> str:
        return Policies.from_toml({"trader": {"limits": {"rows": rows}}}).version

    assert version(1) == version(1)
    assert version(1) != version(2)


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        (5, "table"),
        ({"second": 1}, "'second'"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": -1}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": float("inf")}, "seconds"),
        ({"seconds": "5"}, "seconds"),
        ({"seconds": True}, "seconds"),
        ({"rows": 1.5}, "rows"),
        ({"rows": 2**60}, "rows"),
        ({"bytes": 0}, "bytes"),
        ({"concurrent": False}, "concurrent"),
        ({"subscriptions": None}, "subscriptions"),
    ],
)
def test_what_is_no_limit_is_refused_by_role_and_name(limits: object, word: str) -> None:
    with pytest.raises(PolicyError, match="'trader', key 'limits'") as caught:
        Policies.from_toml({"trader": {"limits": limits}})
    assert word in str(caught.value)
