"""Many subscriptions, each with a filter of its own: what each was told is what its query answers."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flightsql_server.client import Mirror, Subscription, publish, subscribe
from flightsql_server.data.datasets import ORDERS
from tests.running import RunningServer, running_server

pytestmark = pytest.mark.slow

FILTERS = (
    "status = 'NEW'",
    "'DONE' = status",
    "status IN ('NEW', 'DONE')",
    "account = 'A1' AND (status = 'NEW')",
    "account = 'A1' AND status = 'NEW' AND quantity > 3",
    "strategy = 'x' OR status = 'NEW'",
    "strategy IS NULL OR account = 'A1'",
)
LAST = {"account": "A1", "status": "NEW", "quantity": 9}
START = 1_700_000_000_000_000


def order(number: int, at: int, **values: Any) -> dict[str, Any]:
    texts = ("client_order_id", "symbol", "strategy", "side", "order_type", "time_in_force", "currency")
    made = dict.fromkeys(texts, "x") | {"order_id": f"O{number}", "filled_quantity": 0, **values}
    return made | {"created_at": START, "updated_at": START + at, "_change": values.get("_change", "upsert")}


def told_until(updates: Subscription, mirror: Mirror, seq: int) -> None:
    for update in updates:
        mirror.apply(update)
        if update.seq is not None and update.seq >= seq and update.type == "changes":
            return
    raise AssertionError("the subscription ended")


def answer(server: RunningServer, where: str) -> list[tuple[Any, ...]]:
    with server.connect("admin") as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT order_id, account, status, quantity FROM orders WHERE {where} ORDER BY 1")
        return list(cursor.fetchall())


def test_what_comes_changes_and_leaves_by_a_filter_is_told(tmp_path: Path) -> None:
    chance, login = random.Random(20261124), {"user": "admin", "password": "admin"}
    with running_server(tmp_path) as server, publish(server.url, "orders", **login) as publisher:
        queries = [f"SELECT order_id, account, status, quantity FROM orders WHERE {where}" for where in FILTERS]
        open_ones = [(subscribe(server.url, query, mode="buffer", **login), Mirror()) for query in queries]
        for at in range(60):
            rows = []
            for number in chance.sample(range(12), chance.randrange(1, 6)):
                values = {"account": chance.choice(["A1", "A2"]), "status": chance.choice(["NEW", "DONE", "GONE"])}
                change = "delete" if chance.random() < 0.2 else "upsert"
                rows.append(order(number, at, **values, quantity=chance.randrange(6), _change=change))
            publisher.send(pa.RecordBatch.from_pylist(rows, ORDERS.change_schema))
        only_done = publisher.send(
            pa.RecordBatch.from_pylist([order(98, 60, **LAST | {"status": "DONE"})], ORDERS.schema)
        )
        last = publisher.send(pa.RecordBatch.from_pylist([order(99, 61, **LAST)], ORDERS.schema))
        assert only_done.last_seq is not None
        assert last.last_seq is not None
        for where, (updates, mirror) in zip(FILTERS, open_ones, strict=True):
            told_until(updates, mirror, only_done.last_seq if where == "'DONE' = status" else last.last_seq)
            assert sorted(tuple(row.values()) for row in mirror.rows.values()) == answer(server, where), where
        deadline = time.monotonic() + 3
        while (lag := lags(server)) != {0} and time.monotonic() < deadline:
            time.sleep(0.05)
        assert lag == {0}, "what does not concern a reader is nothing that it waits for"
        for updates, _ in open_ones:
            updates.close()


def test_who_is_behind_is_told_what_others_are_who_are_behind(tmp_path: Path) -> None:
    """Rows are merged once for all who miss the same; who joins later, or has missed other rows, gets its own."""
    chance, login = random.Random(8), {"user": "admin", "password": "admin"}
    (tmp_path / "test.toml").write_text("[live]\nbuffer_batches = 20\n", encoding="utf-8")
    query = "SELECT order_id, account, status, quantity FROM orders"
    with running_server(tmp_path) as server, publish(server.url, "orders", **login) as publisher:
        open_ones: list[tuple[Subscription, Mirror]] = []
        for at in range(120):
            if at % 20 == 0:
                milliseconds = (100, 100, 300)[len(open_ones) % 3]
                joined = subscribe(server.url, query, mode="interval", interval_ms=milliseconds, **login)
                open_ones.append((joined, Mirror()))
            changes = {number: chance.random() for number in chance.sample(range(40), 6)}
            rows = [
                order(number, at, account="A", status="NEW", quantity=at, _change="delete" if one < 0.3 else "upsert")
                for number, one in changes.items()
            ]
            publisher.send(pa.RecordBatch.from_pylist(rows, ORDERS.change_schema))
        last = publisher.send(pa.RecordBatch.from_pylist([order(99, 200, **LAST)], ORDERS.schema))
        assert last.last_seq is not None
        for updates, mirror in open_ones:
            told_until(updates, mirror, last.last_seq)
            assert sorted(tuple(row.values()) for row in mirror.rows.values()) == answer(server, "true")
            updates.close()


def lags(server: RunningServer) -> set[int]:
    with server.connect("admin") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT lag FROM ops.subscriptions")
        return {lag for (lag,) in cursor.fetchall()}
