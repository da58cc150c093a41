"""Desks that differ only in what a role hides: one with rows and values that betray it, and ones without them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
from flightsql_auth.credentials import PasswordHasher
from flightsql_auth.store import StateStore

from flightsql_server.cli.demo import CLAIMS, ROLES
from flightsql_server.client import Publisher
from flightsql_server.data.datasets import DATASETS
from tests.running import USERS, RunningServer, add_users

IN_ROWS = ("CANARYACC", "CANARYSYM", "canary-order", "canary-client", "31337.4242")
IN_VALUES = ("987654321", "123456789")
CANARIES = (*IN_ROWS, *IN_VALUES)
"""What stands in rows that are hidden from a trader, and in values that are masked for a viewer besides."""

WRITES: dict[str, Any] = {"create": True, "explain": True}
ALL_ROLES: dict[str, dict[str, Any]] = {
    **ROLES,
    "writer": {**ROLES["trader"], **WRITES, "ingest": ["orders"]},
    "scribe": {**ROLES["viewer"], **WRITES},
}
"""The demo's roles as they are, and each with all that its users might be given besides."""

_SESSION = re.compile("temp_[0-9a-f]{20}")
_NOW = datetime(2026, 1, 5, tzinfo=UTC)


def quotes(volumes: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {"symbol": s, "bid_price": 1.0, "ask_price": 2.0, "last_price": 1.5, "volume": v, "timestamp": _NOW}
        for s, v in volumes.items()
    ]


def order(number: str, account: str, symbol: str = "AAA", quantity: str = "10") -> dict[str, Any]:
    return {
        "order_id": f"{number}", "client_order_id": f"{number}-client", "account": account, "symbol": symbol,
        "strategy": "s", "side": "BUY", "order_type": "LIMIT", "time_in_force": "DAY", "quantity": Decimal(quantity),
        "limit_price": Decimal("1.5"), "stop_price": None, "filled_quantity": Decimal(0), "average_fill_price": None,
        "currency": "USD", "status": "NEW", "created_at": _NOW, "updated_at": _NOW,
    }  # fmt: skip


def position(account: str, symbol: str, quantity: str) -> dict[str, Any]:
    return {
        "account": account, "symbol": symbol, "strategy": "s", "quantity": Decimal(quantity),
        "average_price": Decimal(1), "realized_pnl": Decimal(0), "currency": "USD", "updated_at": _NOW,
    }  # fmt: skip


_BARE = {"AAA": 987654321, "BBB": 123456789, "CCC": 5000}
_ROUNDED = {"AAA": 987654000, "BBB": 123457000, "CCC": 5000}
_SEEN = {
    "orders": [order("o1", "ALPHA"), order("o2", "BETA", "BBB", "20"), order("o3", "ALPHA", "CCC", "30")],
    "positions": [position("ALPHA", "AAA", "5"), position("BETA", "BBB", "-7")],
}
_HIDDEN = {
    "orders": [
        order("canary-order-1", "CANARYACC", "CANARYSYM", "31337.4242"),
        order("canary-order-2", "CANARYACC", "AAA", "31337.4242") | {"client_order_id": "canary-client"},
    ],
    "positions": [position("CANARYACC", "CANARYSYM", "31337.4242"), position("CANARYACC", "AAA", "31337.4242")],
}


def _publish(server: RunningServer, name: str, rows: list[dict[str, Any]]) -> None:
    with Publisher(server.url, name, user="admin", password="admin") as publisher:
        publisher.publish(pa.RecordBatch.from_pylist(rows, schema=DATASETS[name].schema))


def _toml(roles: dict[str, dict[str, Any]]) -> str:
    def value(given: object) -> str:
        if isinstance(given, dict):
            return "{ " + ", ".join(f"{key} = {value(one)}" for key, one in given.items()) + " }"
        if isinstance(given, list):
            return "[" + ", ".join(map(value, given)) + "]"
        return str(given).lower() if isinstance(given, bool) else f'"{given}"'

    lines = []
    for role, table in roles.items():
        lines += [f"[roles.{role}]", *(f"{key} = {value(one)}" for key, one in table.items())]
    return "\n".join(lines)


@dataclass
class Desk:
    """A server, and a connection of each user that has asked it something."""

    server: RunningServer
    stack: ExitStack
    connections: dict[str, flight_sql.Connection] = field(default_factory=dict)

    def connection(self, user: str) -> flight_sql.Connection:
        """The user's connection, opened when it is first asked for."""
        if user not in self.connections:
            self.connections[user] = self.stack.enter_context(self.server.connect(user))
        return self.connections[user]

    def ask(self, user: str, sql: str) -> tuple[str, ...]:
        """What the server answers: names and rows in some order, or the text of the error."""
        cursor = self.connection(user).cursor()
        try:
            cursor.execute(sql)
            found = cursor.fetch_arrow_table()
        except (flight_sql.Error, OSError) as error:
            return ("error", _said(error))
        finally:
            cursor.close()
        return ("rows", *shown(found))


def shown(table: pa.Table) -> list[str]:
    """Names, types and rows in some order; the schema of a session, which no two share, under one name."""
    types = [f"{one.name}: {one.type}" for one in table.schema]
    rows = sorted(map(repr, zip(*(column.to_pylist() for column in table.columns), strict=True)))
    return [_SESSION.sub("temp_of_session", text) for text in (*types, *rows)]


def _said(error: BaseException) -> str:
    return str(error).split(". Vendor code", 1)[0]


@contextmanager
def _desk(folder: Path, volumes: dict[str, int], with_hidden: bool) -> Iterator[Desk]:
    add_users(folder)
    store = StateStore(folder / "state.sqlite")
    hasher = PasswordHasher(memory_kib=64, time_cost=1)
    claims = {"claims": '{"accounts": ["ALPHA", "BETA"]}'}
    assert CLAIMS["trader"] == {"accounts": ["ALPHA", "BETA"]}
    for name in sorted(set(ALL_ROLES) - set(USERS)):
        store.add_user(name, hasher.hash(name), (name,), claims if name in ("trader", "writer") else {})
    store.close()
    config = folder / "desk.toml"
    config.write_text("[login]\nfree_failures = 100000\n" + _toml(ALL_ROLES), encoding="utf-8")
    server = RunningServer(folder, "--config", str(config))
    try:
        _publish(server, "market_data", quotes(volumes))
        for name, rows in _SEEN.items():
            _publish(server, name, rows)
            if with_hidden:
                _publish(server, name, _HIDDEN[name])
        with ExitStack() as stack:
            desk = Desk(server, stack)
            assert desk.ask("admin", "CREATE TABLE copied AS SELECT * FROM orders")[0] == "rows"
            assert desk.ask("admin", "CREATE VIEW seen AS SELECT * FROM orders")[0] == "rows"
            yield desk
    finally:
        server.stop()


@contextmanager
def desks(folder: Path) -> Iterator[tuple[Desk, dict[str, Desk]]]:
    """The desk that hides something, and for each user one where that really isn't there."""
    with (
        _desk(folder / "full", _BARE, True) as full,
        _desk(folder / "rows", _BARE, False) as rows,
        _desk(folder / "values", _ROUNDED, False) as values,
    ):
        yield full, {"trader": rows, "writer": rows, "viewer": values, "scribe": values}
