"""Row filters and masks through a stock driver: what a role does not show is not there, however it is asked for."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pytest
from adbc_driver_manager import Error as DriverError
from flightsql_auth.credentials import PasswordHasher
from flightsql_auth.store import StateStore

from flightsql_server.client import Publisher, PublishError
from flightsql_server.data.datasets import ORDERS
from tests.commands import refusal, run
from tests.conformance.clients import metric
from tests.running import RunningServer, add_users

CONFIG = """
[roles.trader]
select = ["market_data", "positions", "orders"]
ingest = ["orders"]
create = true
[roles.trader.filters]
positions = "account IN (claims.accounts)"
orders = "account IN (claims.accounts)"
[roles.onlooker]
select = ["market_data", "orders"]
[roles.onlooker.filters]
orders = "status = 'FILLED'"
[roles.onlooker.masks.market_data]
volume = "round(-3)"
[roles.onlooker.masks.orders]
account = "hash"
client_order_id = "last4"
limit_price = "null"
"""
_NOW = datetime(2026, 1, 5, tzinfo=UTC)


def order(number: int, account: str, status: str = "NEW") -> dict[str, object]:
    return {
        "order_id": f"o{number}", "client_order_id": f"client-{number:04}", "account": account, "symbol": "AAA",
        "strategy": "s", "side": "BUY", "order_type": "LIMIT", "time_in_force": "DAY", "quantity": Decimal(number),
        "limit_price": Decimal("1.5"), "stop_price": None, "filled_quantity": Decimal(0), "average_fill_price": None,
        "currency": "USD", "status": status, "created_at": _NOW, "updated_at": _NOW,
    }  # fmt: skip


def orders(*rows: dict[str, object]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=ORDERS.schema)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    data_dir: Path = tmp_path_factory.mktemp("policies")
    add_users(data_dir)
    store = StateStore(data_dir / "state.sqlite")
    hasher = PasswordHasher(memory_kib=64, time_cost=1)
    store.add_user("ann", hasher.hash("ann"), ("trader",), {"claims": '{"accounts": ["A1", "A2"]}'})
    store.add_user("ben", hasher.hash("ben"), ("trader",), {"claims": '{"accounts": ["A3"]}'})
    store.add_user("carl", hasher.hash("carl"), ("trader",), {"claims": '{"accounts": ["A7"]}'})
    store.add_user("zoe", hasher.hash("zoe"), ("trader",))
    store.add_user("olga", hasher.hash("olga"), ("onlooker",))
    store.close()
    chosen = ("--role", "trader", "--claim", "accounts=A3", "--data-dir", str(data_dir), "--password-file")
    secret = data_dir / "dan"
    secret.write_text("dan", encoding="utf-8")
    assert run("user", "add", "dan", *chosen, str(secret)).returncode == 0
    config = data_dir / "test.toml"
    config.write_text(CONFIG, encoding="utf-8")
    server = RunningServer(data_dir, "--config", str(config))
    try:
        with Publisher(server.url, "orders", user="admin", password="admin") as publisher:
            list(publisher.publish_all([orders(order(1, "A1"), order(2, "A2", "FILLED"), order(3, "A3", "FILLED"))]))
        yield server
    finally:
        server.stop()


def _rows(server: RunningServer, user: str, sql: str) -> list[tuple[object, ...]]:
    with server.connect(user) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def _publish(server: RunningServer, batch: pa.RecordBatch) -> None:
    with Publisher(server.url, "orders", user="carl", password="carl") as publisher:
        list(publisher.publish_all([batch]))


def test_each_sees_the_rows_of_their_accounts(desk: RunningServer) -> None:
    sql = "SELECT order_id FROM orders ORDER BY order_id"
    assert _rows(desk, "ann", sql) == [("o1",), ("o2",)]
    assert _rows(desk, "ben", sql) == _rows(desk, "dan", sql) == [("o3",)]
    assert _rows(desk, "zoe", sql) == [], "nothing is claimed of her"
    assert len(_rows(desk, "admin", sql)) >= 3
    assert _rows(desk, "ann", sql) == [("o1",), ("o2",)], "nobody is answered from another's cache"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM orders_history",
        "SELECT count(*) FROM (TABLE orders)",
        "SELECT max(n) FROM (SELECT count(*) OVER () AS n FROM orders)",
        "WITH x AS (SELECT * FROM main.orders) SELECT count(*) FROM x",
        "SELECT sum(c) FROM (PIVOT orders ON side IN ('BUY') USING count(*) AS c GROUP BY order_id) AS p(id, c)",
        "-- dialect: tsql\nSELECT COUNT(*) FROM [desk].[main].[orders]",
    ],
)
def test_no_way_of_asking_shows_more(desk: RunningServer, sql: str) -> None:
    assert [int(str(row[0])) for row in _rows(desk, "ann", sql)] == [2]
    assert int(str(_rows(desk, "admin", sql)[0][0])) >= 3


def test_plain_flight_shows_the_same(desk: RunningServer) -> None:
    import pyarrow.flight as flight

    client, options = desk.flight("ben")
    with client:
        found = client.do_get(flight.Ticket(b"orders"), options).read_all()
    assert found["order_id"].to_pylist() == ["o3"]


def test_views_and_tickets_show_who_asks_what_they_may_see(desk: RunningServer) -> None:
    with desk.connect("ann") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE VIEW mine AS SELECT order_id FROM orders")
        cursor.execute("CREATE OR REPLACE TABLE copied AS SELECT order_id FROM orders")
        for table in ("mine", "copied"):
            cursor.execute(f"SELECT count(*) FROM {table}")
            assert cursor.fetchall() == [(2,)]
    found = _rows(desk, "admin", "SELECT count(*) FROM u_ann.mine WHERE order_id IN ('o1', 'o2', 'o3')")
    assert found == [(3,)], "a view is read under the rights of its reader"


def test_masks_keep_the_type_and_hide_the_value(desk: RunningServer) -> None:
    sql = "SELECT order_id, account, client_order_id, limit_price FROM orders ORDER BY order_id"
    with desk.connect("olga") as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        found = cursor.fetch_arrow_table()
    assert found.schema.types == [pa.string(), pa.string(), pa.string(), pa.decimal128(18, 6)]
    assert found["order_id"].to_pylist() == ["o2", "o3"], "those that are filled"
    assert found["client_order_id"].to_pylist() == ["****0002", "****0003"]
    assert found["limit_price"].to_pylist() == [None, None]
    assert all(len(text) == 64 for text in found["account"].to_pylist())
    assert _rows(desk, "olga", "SELECT order_id FROM orders WHERE account = 'A2'") == []
    assert _rows(desk, "olga", "SELECT max(limit_price), min(client_order_id) FROM orders") == [(None, "****0002")]


def test_rows_are_written_where_they_may_be_seen(desk: RunningServer) -> None:
    """A row outside, and a row that would replace one outside, are refused; nothing of their batch is stored."""
    _publish(desk, orders(order(11, "A7")))
    for batch in (orders(order(12, "A7"), order(13, "A3")), orders(order(3, "A7")), orders(order(14, "A9"))):
        with pytest.raises(PublishError, match="42501"):
            _publish(desk, batch)
    change = "SELECT * REPLACE ('o15' AS order_id, 'A3' AS account) FROM orders LIMIT 1"
    with pytest.raises(DriverError, match="42501"):
        _rows(desk, "carl", f"INSERT INTO orders {change}")
    numbers = "('o11', 'o12', 'o13', 'o14', 'o15', 'o3')"
    found = _rows(desk, "admin", f"SELECT order_id, account FROM orders WHERE order_id IN {numbers}")
    assert sorted(map(str, found)) == ["('o11', 'A7')", "('o3', 'A3')"]


def test_an_ingest_in_a_transaction_is_checked_as_well(desk: RunningServer) -> None:
    login = {"username": "ben", "password": "ben"}
    with flight_sql.connect(desk.url, db_kwargs=login, autocommit=False) as connection, connection.cursor() as cursor:
        with pytest.raises(DriverError, match="42501"):
            cursor.adbc_ingest("orders", orders(order(21, "A1")), mode="append")
        connection.rollback()
        assert cursor.adbc_ingest("orders", orders(order(22, "A3")), mode="append") == 1
        connection.rollback()


def test_a_row_that_another_stored_meanwhile_is_not_replaced(desk: RunningServer) -> None:
    login = {"username": "ben", "password": "ben"}
    with flight_sql.connect(desk.url, db_kwargs=login, autocommit=False) as connection, connection.cursor() as cursor:
        assert cursor.adbc_ingest("orders", orders(order(23, "A3")), mode="append") == 1
        _publish(desk, orders(order(23, "A7")))
        with pytest.raises(DriverError, match="42501"):
            connection.commit()
    assert _rows(desk, "admin", "SELECT account FROM orders WHERE order_id = 'o23'") == [("A7",)]


def test_errors_tell_nothing_of_hidden_rows(desk: RunningServer) -> None:
    """The cast would fail on the orders of others; on one's own it does not come to pass."""
    number = "CAST(replace({}, '{}', '') AS INT) < 3"
    sql = f"SELECT count(*) FROM orders WHERE {number.format('order_id', 'o')} AND {number.format('account', 'A')}"
    assert _rows(desk, "ann", sql) == [(2,)]
    ours = "CAST(CASE account WHEN 'A3' THEN 'x' ELSE '1' END AS INT) > 0"
    beside = f"SELECT count(*) FROM orders JOIN (VALUES ('A1'), ('A3')) x(a) ON account = x.a WHERE {ours}"
    assert _rows(desk, "ann", beside) == [(1,)]
    with pytest.raises((DriverError, OSError)) as caught:
        _rows(desk, "ann", "SELECT CAST(account AS INT) FROM orders")
    assert "A1" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ('filters = { orders = "nothing = 1" }', "nothing"),
        ('filters = { ordrs = "account = 1" }', "ordrs"),
        ('masks = { orders = { nothing = "null" } }', "nothing"),
        ('filters = { orders = "account = " }', "Syntax error"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused_before_it_serves(tmp_path: Path, lines: str, word: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(f'[roles.odd]\nselect = ["orders"]\n{lines}\n', encoding="utf-8")
    said = refusal(run("check-config", "--config", str(file)))
    assert "'odd'" in said
    assert word in said


def test_explain_translation_says_why(desk: RunningServer) -> None:
    steps = {str(what): str(text) for _, what, text in _rows(desk, "ann", "EXPLAIN TRANSLATION SELECT * FROM orders")}
    assert "account" in steps["policy"]
    assert "IN ('A1', 'A2')" in steps["backend SQL"]


def _unfolded(table: str) -> str:
    """The text of a table whose cells may be folded."""
    return " ".join(table.replace("│", " ").split())


def test_a_policy_can_be_tried_without_a_server(desk: RunningServer) -> None:
    config = str(desk.data_dir / "test.toml")
    ann = ("--as", "ann", "--data-dir", str(desk.data_dir), "--config", config)
    said = _unfolded(run("policy", "test", *ann, "SELECT order_id FROM orders").stdout)
    assert "'A1', 'A2'" in said
    assert "rows where account IN" in said
    role = ("--role", "onlooker", "--claim", "accounts=A1", "--config", config)
    assert "account masked by hash" in _unfolded(run("policy", "test", *role, "SELECT account FROM orders").stdout)
    assert "42P01" in refusal(run("policy", "test", *role, "SELECT * FROM positions"))
    assert "no role nobody" in refusal(run("policy", "test", "--role", "nobody", "SELECT 1", "--config", config))
    assert "Say for whom" in refusal(run("policy", "test", "SELECT 1"))


def test_policies_are_read_again_while_the_server_runs(tmp_path: Path) -> None:
    """The next call is under the new ones, whatever was prepared or planned before; a wrong file changes nothing."""
    add_users(tmp_path)
    config = tmp_path / "test.toml"
    sees = '[roles.viewer]\nselect = ["market_data"]\n'
    config.write_text(sees, encoding="utf-8")
    server = RunningServer(tmp_path, "--config", str(config))
    try:
        with server.connect("viewer") as connection, connection.cursor() as cursor:
            partitions, _ = cursor.adbc_execute_partitions("SELECT symbol FROM market_data")

            def reload(text: str, outcome: str) -> None:
                line = f'flightsql_policy_loads_total{{outcome="{outcome}"}}'
                before = metric(server, line)
                config.write_text(text, encoding="utf-8")
                server.process.send_signal(signal.SIGHUP)
                until = time.monotonic() + 20
                while metric(server, line) == before:
                    assert time.monotonic() < until
                    time.sleep(0.05)

            reload('[roles.viewer]\nselect = ["orders"]\n', "taken")
            with pytest.raises(DriverError, match="42P01"):
                cursor.execute("SELECT symbol FROM market_data")
            with pytest.raises(DriverError, match="42P01"):
                cursor.adbc_read_partition(partitions[0])
            cursor.execute("SELECT order_id FROM orders")
            reload('[roles.viewer]\nselect = ["orders"]\nfilters = { orders = "nothing" }\n', "refused")
            cursor.execute("SELECT order_id FROM orders")
            reload(sees, "taken")
            cursor.execute("SELECT symbol FROM market_data")
        assert any("stay as they are" in line for line in server.output)
    finally:
        server.stop()
