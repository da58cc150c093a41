"""To subscribe takes select and subscribe on all that is read; what may not be selected does not exist."""

from __future__ import annotations

import pytest
from flightsql_auth.policies import Grants, Policies

from flightsql_server.data.datasets import DATASETS, catalog_of
from flightsql_server.errors import AccessDenied, LimitReached, UndefinedTable
from flightsql_server.metrics import Metrics
from flightsql_server.model import TableName
from flightsql_server.service.subscribing import may_open_another, may_subscribe

CATALOG = catalog_of(DATASETS)
QUOTES, ORDERS, POSITIONS = (TableName("main", name) for name in ("market_data", "orders", "positions"))


def _grants(**role: object) -> Grants:
    return Policies.from_toml({"r": role}).grants(["r"], "ann")


def test_what_is_granted_may_be_subscribed_to() -> None:
    grants = _grants(select=["market_data", "orders"], subscribe=["market_data"])
    may_subscribe(grants, CATALOG, [QUOTES])
    may_subscribe(grants, CATALOG, [TableName("main", "market_data_history")])
    with pytest.raises(AccessDenied, match="orders"):
        may_subscribe(grants, CATALOG, [QUOTES, ORDERS])


@pytest.mark.parametrize("name", [POSITIONS, TableName("main", "nothing"), TableName("u_ben", "notes")])
def test_what_may_not_be_selected_does_not_exist(name: TableName) -> None:
    grants = _grants(select=["market_data", "orders"], subscribe=["*"])
    with pytest.raises(UndefinedTable, match=f'"{name.name}" does not exist'):
        may_subscribe(grants, CATALOG, [QUOTES, name])


def test_what_does_not_exist_is_told_before_what_is_denied() -> None:
    grants = _grants(select=["orders"])
    with pytest.raises(UndefinedTable, match="positions"):
        may_subscribe(grants, CATALOG, [ORDERS, POSITIONS])


def test_so_many_may_be_open_as_the_roles_allow() -> None:
    metrics = Metrics()
    two = _grants(limits={"subscriptions": 2})
    may_open_another(two, 1, metrics)
    with pytest.raises(LimitReached, match="2 subscriptions"):
        may_open_another(two, 2, metrics)
    assert metrics.registry.get_sample_value("flightsql_limits_hit_total", {"limit": "role.subscriptions"}) == 1
    may_open_another(_grants(), 1_000_000, metrics)
