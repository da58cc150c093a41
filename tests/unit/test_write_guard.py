"""Between the look at a batch and its commit others may store rows of the same keys: the commit looks once more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from flightsql_auth.policies import LivePolicies, Policies
from flightsql_auth.principals import Principal

from flightsql_server.data.commit import Receipt, Update
from flightsql_server.data.datasets import CHANGE, DATASETS, HISTORY_COLUMNS, ORDERS, catalog_of
from flightsql_server.errors import AccessDenied
from flightsql_server.model import Call, SessionOptions
from flightsql_server.service.catalog import CurrentCatalog
from flightsql_server.service.write_checks import Check, WriteChecks
from tests.desk import Desk, open_desk

_NOW = datetime(2026, 1, 5, tzinfo=UTC)
ROLES: dict[str, Any] = {
    "trader": {"select": ["orders"], "ingest": ["orders"], "filters": {"orders": "account IN (claims.accounts)"}},
    "feed": {"ingest": ["orders"]},
}


def order(number: int, account: str, seconds: int = 0) -> pa.RecordBatch:
    row = {
        "order_id": f"o{number}", "client_order_id": "c", "account": account, "symbol": "AAA", "strategy": "s",
        "side": "BUY", "order_type": "LIMIT", "time_in_force": "DAY", "quantity": Decimal(1), "limit_price": None,
        "stop_price": None, "filled_quantity": Decimal(0), "average_fill_price": None, "currency": "USD",
        "status": "NEW", "created_at": _NOW, "updated_at": _NOW + timedelta(seconds=seconds),
    }  # fmt: skip
    return pa.RecordBatch.from_pylist([row], schema=ORDERS.schema)


def deletion(number: int, account: str, seconds: int = 0) -> pa.RecordBatch:
    return order(number, account, seconds).append_column(
        pa.field(CHANGE, HISTORY_COLUMNS[2].type), pa.array(["delete"], HISTORY_COLUMNS[2].type)
    )


class Gate:
    """Holds the writer where it has taken a group, so that what is queued meanwhile makes the next one."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()

    def __call__(self, step: str) -> None:
        if step == "taken" and not self.open.is_set():
            self.waiting.set()
            assert self.open.wait(10)


class World:
    def __init__(self, desk: Desk, gate: Gate) -> None:
        self.desk, self.gate = desk, gate
        policies = LivePolicies(Policies.from_toml(ROLES))
        catalog = CurrentCatalog(catalog_of(DATASETS), desk.engine)
        self.checks = WriteChecks(desk.engine, catalog, policies, DATASETS)

    def check(self, *accounts: str) -> Check:
        principal = Principal("ann", ("trader",), "password", claims={"accounts": list(accounts)})
        found = self.checks.of(Call(principal, "s", SessionOptions(), "duckdb", "standard"), "orders", "ingest")
        assert found is not None
        return found

    def send(self, batch: pa.RecordBatch, check: Check | None = None) -> Future[Receipt]:
        return self.desk.writer.submit(Update(ORDERS, batch, guard=check)).done

    @contextmanager
    def held(self) -> Iterator[None]:
        """What the block sends is committed as one group when it ends."""
        self.gate.waiting.clear()
        self.gate.open.clear()
        self.send(order(999, "feed"))
        assert self.gate.waiting.wait(10)
        try:
            yield
        finally:
            self.gate.open.set()

    def accounts(self, number: int = 1) -> list[str]:
        return [row["account"] for row in self.desk.read(f"SELECT account FROM orders WHERE order_id = 'o{number}'")]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    gate = Gate()
    with open_desk(tmp_path, at=gate) as desk:
        yield World(desk, gate)


@pytest.mark.parametrize("mine", [order(1, "A1", 9), deletion(1, "A1", 9)], ids=["replace", "delete"])
def test_a_row_that_came_between_look_and_commit_is_not_replaced(world: World, mine: pa.RecordBatch) -> None:
    check = world.check("A1")
    check.at_the_door(mine)
    world.send(order(1, "A7")).result(10)
    with pytest.raises(AccessDenied, match="1 rows for orders"):
        world.send(mine, check).result(10)
    assert world.accounts() == ["A7"]
    with pytest.raises(AccessDenied):
        check.at_the_door(mine)


def test_nor_is_one_of_the_same_commit(world: World) -> None:
    check, mine = world.check("A1"), order(1, "A1", 9)
    check.at_the_door(mine)
    with world.held():
        theirs, refused, other = world.send(order(1, "A7")), world.send(mine, check), world.send(order(2, "A1"), check)
    assert theirs.result(10).rows == 1
    with pytest.raises(AccessDenied):
        refused.result(10)
    assert other.result(10).rows == 1, "what nobody forbids is stored"
    assert world.accounts() == ["A7"]
    assert world.accounts(2) == ["A1"]


def test_those_under_the_same_check_are_stored_together(world: World) -> None:
    with world.held():
        sent = [world.send(order(1, account, at), world.check("A1", "A2")) for at, account in enumerate(("A1", "A2"))]
        theirs = world.send(order(1, "A3", 5), world.check("A3"))
    assert [one.result(10).rows for one in sent] == [1, 1]
    with pytest.raises(AccessDenied):
        theirs.result(10)
    assert world.accounts() == ["A2"]


def test_a_row_that_comes_too_late_to_stand_forbids_nothing(world: World) -> None:
    """In the group it looks as if it stood; one by one it does not."""
    world.send(order(1, "A1", 5)).result(10)
    with world.held():
        late, mine = world.send(order(1, "A7", 1)), world.send(order(1, "A1", 9), world.check("A1"))
    assert late.result(10).late == 1
    assert mine.result(10).rows == 1
    assert world.accounts() == ["A1"]


def test_who_may_write_all_is_asked_nothing(world: World) -> None:
    principal = Principal("feed", ("feed",), "password")
    call = Call(principal, "s", SessionOptions(), "duckdb", "standard")
    assert world.checks.of(call, "orders", "ingest") is None
    with pytest.raises(AccessDenied, match="may not write to positions"):
        world.checks.of(call, "positions", "ingest")
