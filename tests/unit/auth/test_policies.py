"""Roles and grants as data."""

from __future__ import annotations

import tomllib

import pytest
from flightsql_auth.policies import Grants, Policies, PolicyError
from flightsql_auth.principals import Principal


def _grants(*select: str, ingest: tuple[str, ...] = ()) -> Grants:
    return Grants(select=frozenset(select), ingest=frozenset(ingest))


@pytest.mark.parametrize(
    ("pattern", "schema", "name", "dataset", "allowed"),
    [
        ("*", "any", "thing", None, True),
        ("*", "ops", "queries", None, False),
        ("*", "u_trader", "copy", None, False),
        ("*", "temp_1", "copy", None, False),
        ("temp_1.*", "temp_1", "copy", None, False),
        ("ops.*", "ops", "queries", None, True),
        ("ops.*", "main", "queries", None, False),
        ("ops.*", "ops2", "queries", None, False),
        ("ops.queries", "ops", "queries", None, True),
        ("ops.queries", "ops", "sessions", None, False),
        ("orders", "main", "orders", "orders", True),
        ("orders", "main", "orders_history", "orders", True),
        ("orders", "main", "orders_history", None, False),
        ("orders", "u_trader", "orders", None, False),
        ("main.orders", "main", "orders", "orders", True),
        ("main.orders", "main", "orders_history", "orders", False),
        ("fills", "main", "fills", None, True),
        ("Orders", "main", "orders", "orders", False),
        ("main", "main", "orders", "orders", False),
    ],
)
def test_patterns(pattern: str, schema: str, name: str, dataset: str | None, allowed: bool) -> None:
    assert _grants(pattern).allows("select", schema=schema, name=name, dataset=dataset) is allowed
    assert not _grants(pattern).allows("ingest", schema=schema, name=name, dataset=dataset)
    assert _grants(ingest=(pattern,)).allows("ingest", schema=schema, name=name, dataset=dataset) is allowed


def test_nothing_is_granted_by_default() -> None:
    assert Policies().grants([]) == Grants()
    assert Policies().grants(["no-such-role"]) == Grants()
    assert not Grants().allows("select", schema="main", name="orders", dataset="orders")


def test_built_in_roles() -> None:
    admin, reader = Policies().grants(["admin"]), Policies().grants(["reader"])
    assert admin.admin
    assert admin.allows("ingest", schema="main", name="orders", dataset="orders")
    assert not reader.admin
    assert not reader.allows("ingest", schema="main", name="orders", dataset="orders")
    assert not reader.allows("select", schema="ops", name="x", dataset=None)


DESK = """
[roles.trader]
select = ["positions", "orders", "main.*"]
ingest = ["orders"]
[roles.feed]
ingest = ["market_data"]
[roles.operator]
admin = true
"""


def test_grants_are_the_union_of_the_roles() -> None:
    policies = Policies.from_toml(tomllib.loads(DESK)["roles"])
    both = policies.grants(["trader", "feed", "unknown"])
    assert both.select == {"positions", "orders", "main.*"}
    assert both.ingest == {"orders", "market_data"}
    assert not both.admin
    assert policies.grants(["feed", "operator"]).admin
    assert both == policies.grants(("feed", "trader"))
    assert hash(both) == hash(policies.grants(("feed", "trader")))


def test_version_follows_content() -> None:
    table = tomllib.loads(DESK)["roles"]
    shuffled = dict(reversed(table.items()))
    assert Policies.from_toml(table).version == Policies.from_toml(shuffled).version
    table["feed"]["ingest"].append("orders")
    assert Policies.from_toml(table).version != Policies.from_toml(shuffled | {"extra": {}}).version
    assert Policies().version != Policies.from_toml(table).version


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"admin": {}}, ["admin", "built in"]),
        ({"reader": {"select": ["*"]}}, ["reader", "built in"]),
        ({"t": {"selct": ["*"]}}, ["'t'", "selct"]),
        ({"t": {"select": "*"}}, ["'t'", "select", "list"]),
        ({"t": {"ingest": [1]}}, ["'t'", "ingest", "1"]),
        ({"t": {"select": ["a.b.c"]}}, ["'t'", "select", "a.b.c"]),
        ({"t": {"select": ["*.x"]}}, ["'t'", "*.x"]),
        ({"t": {"select": ["ord*"]}}, ["'t'", "ord*"]),
        ({"t": {"select": [""]}}, ["'t'", "select"]),
        ({"t": {"admin": "yes"}}, ["'t'", "admin"]),
        ({"t": {"admin": 1}}, ["'t'", "admin"]),
        ({"t": ["*"]}, ["'t'", "[roles.t]"]),
        ({"bad name": {}}, ["bad name"]),
    ],
)
def test_wrong_policies_name_role_and_key(table: dict[str, object], words: list[str]) -> None:
    with pytest.raises(PolicyError) as caught:
        Policies.from_toml(table)
    for word in words:
        assert word in str(caught.value)


def test_principals_are_hashable_whatever_their_claims() -> None:
    first = Principal("a", ("reader",), "token", "j", 1.0, {"accounts": ["x", "y"]})
    same = Principal("a", ("reader",), "token", "j", 1.0, {"accounts": ["x", "y"]})
    other = Principal("a", ("reader",), "token", "j", 1.0, {"accounts": ["z"]})
    assert first == same
    assert hash(first) == hash(same)
    assert first != other
    assert Principal("a", (), "password").claims == {}


_ORDERS = {"schema": "main", "name": "orders", "dataset": "orders"}


def test_to_subscribe_takes_select_as_well() -> None:
    policies = Policies.from_toml(
        {
            "both": {"select": ["orders"], "subscribe": ["orders"]},
            "reads": {"select": ["*"]},
            "hears": {"subscribe": ["*"]},
        }
    )
    for roles, allowed in ((["both"], True), (["reads"], False), (["hears"], False), (["reads", "hears"], True)):
        assert policies.grants(roles).allows("subscribe", **_ORDERS) is allowed, roles  # type: ignore[arg-type]
    for role in ("admin", "reader"):
        assert policies.grants([role]).allows("subscribe", **_ORDERS)  # type: ignore[arg-type]
    assert not policies.grants(["reader"]).allows("subscribe", schema="ops", name="queries", dataset=None)
    mine = Policies.from_toml({"maker": {"create": True}}).grants(["maker"], "ann")
    assert mine.allows("subscribe", schema="u_ann", name="notes", dataset=None), "one's own tables are one's own"


def test_insert_is_less_than_ingest() -> None:
    policies = Policies.from_toml({"clerk": {"insert": ["orders"]}, "feed": {"ingest": ["orders"]}})
    clerk, feed = policies.grants(["clerk"]), policies.grants(["feed"])
    assert clerk.allows("insert", **_ORDERS)  # type: ignore[arg-type]
    assert not clerk.allows("ingest", **_ORDERS)  # type: ignore[arg-type]
    assert feed.allows("insert", **_ORDERS)  # type: ignore[arg-type]
    assert feed.allows("ingest", **_ORDERS)  # type: ignore[arg-type]


def test_what_is_granted_is_part_of_the_version() -> None:
    versions = {
        Policies.from_toml({"r": {key: ["orders"]}}).version for key in ("select", "insert", "ingest", "subscribe")
    }
    assert len(versions) == 4
