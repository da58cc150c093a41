"""Limits of roles through stock drivers: how much, how long, how many at once; and what it takes to write by SQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_manager import Error as DriverError
from flightsql_auth.credentials import PasswordHasher
from flightsql_auth.store import StateStore

from flightsql_server.client import Publisher, PublishError
from flightsql_server.data.datasets import MARKET_DATA
from tests.conformance.clients import metric
from tests.conftest import fill
from tests.running import RunningServer, add_users

CONFIG = """
[query]
queue_seconds = 1
[roles.few]
select = ["*"]
create = true
limits = { rows = 5 }
[roles.small]
select = ["*"]
limits = { bytes = 3000 }
[roles.quick]
select = ["*"]
create = true
limits = { seconds = 0.5 }
[roles.single]
select = ["*"]
limits = { concurrent = 1 }
[roles.free]
select = ["*"]
create = true
[roles.clerk]
select = ["market_data"]
insert = ["market_data"]
filters = { market_data = "symbol <> 'NOT MINE'" }
"""
_ENDLESS = "SELECT sum(a.volume + b.volume) FROM market_data a, market_data b, market_data c, market_data d"
_WIDE = "SELECT a.*, b.* FROM market_data a, market_data b, market_data c"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    data_dir: Path = tmp_path_factory.mktemp("limits")
    add_users(data_dir)
    store = StateStore(data_dir / "state.sqlite")
    hasher = PasswordHasher(memory_kib=64, time_cost=1)
    for role in ("few", "small", "quick", "single", "free", "clerk"):
        store.add_user(role, hasher.hash(role), (role,))
    store.add_user("both", hasher.hash("both"), ("few", "free"))
    store.close()
    config = data_dir / "test.toml"
    config.write_text(CONFIG, encoding="utf-8")
    server = RunningServer(data_dir, "--config", str(config))
    try:
        fill(server)
        yield server
    finally:
        server.stop()


def _in_transaction(server: RunningServer, user: str) -> flight_sql.Connection:
    return flight_sql.connect(server.url, db_kwargs={"username": user, "password": user}, autocommit=False)


def _rows(server: RunningServer, user: str, sql: str, **options: str) -> list[tuple[object, ...]]:
    with server.connect(user, **options) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def _fails(cursor: flight_sql.Cursor, sql: str, why: str) -> None:
    def run() -> None:
        cursor.execute(sql)
        cursor.fetchall()

    with pytest.raises((DriverError, OSError), match=why):
        run()


def _bites(server: RunningServer, limit: str) -> float:
    return metric(server, f'flightsql_limits_hit_total{{limit="{limit}"}}')


def _refused(server: RunningServer, user: str, sql: str, **options: str) -> str:
    with pytest.raises((DriverError, OSError)) as caught:
        _rows(server, user, sql, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("user", "limit", "passes", "too_much"),
    [
        ("few", "role.rows", "SELECT symbol FROM market_data LIMIT 5", "SELECT symbol FROM market_data LIMIT 6"),
        ("small", "role.bytes", "SELECT symbol FROM market_data LIMIT 7", "SELECT * FROM market_data LIMIT 300"),
    ],
)
def test_a_result_is_as_large_as_the_roles_allow(
    desk: RunningServer, user: str, limit: str, passes: str, too_much: str
) -> None:
    """Whoever was answered before, and however often: an answer that is kept for one is measured for the other."""
    before = _bites(desk, limit)
    for _ in range(2):
        assert "54000" in _refused(desk, user, too_much)
        assert len(_rows(desk, "free", too_much)) > 5
        assert len(_rows(desk, "both", too_much)) > 5, "the most generous of the roles holds"
        assert _rows(desk, user, passes)
    assert _bites(desk, limit) == before + 2


def test_a_transaction_gives_no_more(desk: RunningServer) -> None:
    with _in_transaction(desk, "few") as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT symbol FROM market_data LIMIT 5")
            assert len(cursor.fetchall()) == 5
            with pytest.raises(DriverError, match="54000"):
                cursor.execute("SELECT symbol FROM market_data LIMIT 6")
        connection.rollback()


def test_a_change_that_returns_too_much_is_not_made(desk: RunningServer) -> None:
    _rows(desk, "few", "CREATE TABLE kept AS SELECT symbol FROM market_data WHERE FALSE")
    assert "54000" in _refused(desk, "few", "INSERT INTO kept SELECT symbol FROM market_data RETURNING symbol")
    assert _rows(desk, "few", "SELECT count(*) FROM kept") == [(0,)]


def test_a_session_chooses_less_never_more(desk: RunningServer) -> None:
    option = "adbc.flight.sql.session.option.max_rows"
    sql = "SELECT symbol FROM market_data WHERE volume >= 0"
    for rows, expected in (("3", 3), ("100", None)):
        with desk.connect("few") as connection:
            connection.adbc_connection.set_options(**{option: rows})
            with connection.cursor() as cursor:
                if expected is None:
                    _fails(cursor, sql, "54000")
                else:
                    cursor.execute(sql)
                    assert len(cursor.fetchall()) == expected
            connection.adbc_connection.set_autocommit(False)
            if expected is not None:
                with connection.cursor() as cursor:
                    cursor.execute(sql)
                    assert len(cursor.fetchall()) == expected, "in a transaction as well"
                connection.rollback()


@pytest.mark.parametrize("sql", [_ENDLESS, f"CREATE TABLE slow AS {_ENDLESS}"])
def test_a_statement_takes_as_long_as_the_roles_allow(desk: RunningServer, sql: str) -> None:
    before, started = _bites(desk, "role.seconds"), time.monotonic()
    with desk.connect("quick") as connection:
        connection.adbc_connection.set_options(**{"adbc.flight.sql.session.option.statement_timeout_seconds": "60"})
        with connection.cursor() as cursor:
            _fails(cursor, sql, "longer than 0[.]5 seconds")
    assert time.monotonic() - started < 10
    assert _bites(desk, "role.seconds") == before + 1


def test_statements_above_the_limit_wait_and_are_refused(desk: RunningServer) -> None:
    """A result that is not read to its end counts as running; others are not held up."""
    before = _bites(desk, "role.concurrent")
    with desk.connect("single") as connection, connection.cursor() as cursor:
        partitions, _ = cursor.adbc_execute_partitions(_WIDE)
        ticket = flight.FlightInfo.deserialize(partitions[0]).endpoints[0].ticket
        client, options = desk.flight("single")
        with client:
            reader = client.do_get(ticket, options)
            reader.read_chunk()
            assert "53300" in _refused(desk, "single", "SELECT 1 FROM market_data LIMIT 1")
            assert _rows(desk, "free", "SELECT 1 FROM market_data LIMIT 1")
            reader.cancel()
        assert _bites(desk, "role.concurrent") >= before + 1
        for _ in range(50):
            try:
                assert _rows(desk, "single", "SELECT 1 FROM market_data LIMIT 1") == [(1,)]
                break
            except (DriverError, OSError):
                time.sleep(0.1)
        else:
            pytest.fail("the turn was not given back")


def test_insert_grants_rows_by_sql_and_no_streams(desk: RunningServer) -> None:
    row = "1.0, 2.0, 1.5, 10, TIMESTAMPTZ '2026-02-01 00:00:00+00'"
    with desk.connect("clerk") as connection, connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO market_data VALUES ('NEW', {row})")
        with pytest.raises(DriverError, match="42501"):
            cursor.execute(f"INSERT INTO market_data VALUES ('NOT MINE', {row})")
        cursor.execute("SELECT symbol FROM market_data WHERE symbol IN ('NEW', 'NOT MINE')")
        assert cursor.fetchall() == [("NEW",)]
        batch = pa.RecordBatch.from_pylist([], schema=MARKET_DATA.schema)
        with pytest.raises(DriverError, match="42501"):
            cursor.adbc_ingest("market_data", batch, mode="append")
    with (
        pytest.raises(PublishError, match="ingest"),
        Publisher(desk.url, "market_data", user="clerk", password="clerk") as publisher,
    ):
        publisher.publish(batch)
    with pytest.raises((DriverError, OSError), match="42501"):
        _rows(desk, "free", f"INSERT INTO market_data VALUES ('NEW', {row})")
