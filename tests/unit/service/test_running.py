"""What runs is ended when its caller may do something else than when it began, and for no other change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from flightsql_auth.policies import Grants, LivePolicies, Policies
from flightsql_auth.principals import Principal

from flightsql_server.errors import PolicyChanged, StatementCancelled
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call, SessionOptions
from flightsql_server.service.running import Queries, Running, stale

_TRADER = {"select": ["orders"], "filters": {"orders": "account IN (claims.accounts)"}}


def _call(*roles: str, **claims: object) -> Call:
    return Call(Principal("ann", roles, "password", claims=claims), "s", SessionOptions(), "duckdb", "standard")


def _grants(policies: LivePolicies, call: Call, temporary: str = "") -> Grants:
    who = call.principal
    return policies.grants(who.roles, who.name, temporary, who.claims)


@pytest.mark.parametrize(
    ("roles", "ends"),
    [
        ({"trader": _TRADER}, False),
        ({"trader": _TRADER, "other": {"select": ["*"]}}, False),
        ({"trader": {**_TRADER, "filters": {"orders": "account = 'A1'"}}}, True),
        ({"trader": {**_TRADER, "masks": {"orders": {"account": "hash"}}}}, True),
        ({"trader": {**_TRADER, "select": ["orders", "positions"]}}, True),
        ({"trader": {**_TRADER, "limits": {"rows": 5}}}, True),
        ({"other": {}}, True),
    ],
)
def test_only_a_change_of_the_caller_s_own_rights_ends_what_runs(roles: Mapping[str, Any], ends: bool) -> None:
    async def play() -> None:
        policies = LivePolicies(Policies.from_toml({"trader": _TRADER}))
        metrics = Metrics()
        queries, call = Queries(metrics, policies), _call("trader", accounts=["A1"])
        begun = asyncio.Event()

        async def statement() -> str:
            with queries.noted(call, "SELECT 1", grants=_grants(policies, call, "temp_1")):
                begun.set()
                await asyncio.sleep(0.2)
            return "to its end"

        running = asyncio.create_task(statement())
        await begun.wait()
        queries.end_where(lambda one: stale(one, policies))
        policies.replace(Policies.from_toml(roles))
        for _ in range(2):
            queries.end_where(lambda one: stale(one, policies))
        if ends:
            with pytest.raises(PolicyChanged):
                await running
        else:
            assert await running == "to its end"
        stopped = metrics.registry.get_sample_value("flightsql_statements_stopped_total", {"cause": "policy"}) or 0
        assert stopped == ends
        assert not queries.all()

    asyncio.run(play())


def test_what_was_planned_under_another_policy_does_not_begin() -> None:
    async def play() -> None:
        policies = LivePolicies(Policies.from_toml({"trader": _TRADER}))
        queries, call = Queries(Metrics(), policies), _call("trader", accounts=["A1"])
        before = _grants(policies, call)
        policies.replace(Policies())
        with pytest.raises(PolicyChanged), queries.noted(call, "SELECT 1", grants=before):
            pytest.fail("it began")
        with queries.noted(call, "SELECT 1"):
            assert len(queries.all()) == 1, "what asks for no grants may run"

    asyncio.run(play())


def test_who_asks_for_an_end_is_told_apart_from_who_left() -> None:
    async def play() -> None:
        metrics = Metrics()
        queries = Queries(metrics, LivePolicies(Policies()))

        async def statement(entries: list[Running]) -> None:
            with queries.noted(_call(), "SELECT 1") as entry:
                entries.append(entry)
                await asyncio.sleep(10)

        entries: list[Running] = []
        killed, left = asyncio.create_task(statement(entries)), asyncio.create_task(statement(entries))
        while len(entries) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        queries.stop(entries[0])
        left.cancel()
        with pytest.raises(StatementCancelled):
            await killed
        with pytest.raises(asyncio.CancelledError):
            await left
        for cause in ("cancelled", "client_gone"):
            assert metrics.registry.get_sample_value("flightsql_statements_stopped_total", {"cause": cause}) == 1

    asyncio.run(play())
