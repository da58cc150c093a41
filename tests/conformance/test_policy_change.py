"""A policy that changes reaches what is open: streams of rows out and in, and results that wait."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_manager import Error as DriverError

from flightsql_server.client import Publisher, PublishError
from flightsql_server.data.datasets import MARKET_DATA
from tests.conformance.clients import metric
from tests.conftest import fill
from tests.running import RunningServer, add_users

_ROLES = """
[roles.maker]
select = ["market_data", "orders"]
ingest = ["market_data"]
create = true
[roles.feed]
select = ["market_data"]
ingest = ["market_data"]
"""
_SECONDS = 10
_WIDE = "SELECT a.* FROM market_data a, market_data b, market_data c"


class Desk:
    """A server whose policy a test changes."""

    def __init__(self, data_dir: Path) -> None:
        add_users(data_dir)
        self._config = data_dir / "test.toml"
        self._config.write_text(_ROLES, encoding="utf-8")
        self.server = RunningServer(data_dir, "--config", str(self._config))
        fill(self.server)

    def change(self, roles: str) -> None:
        loads = 'flightsql_policy_loads_total{outcome="taken"}'
        before = metric(self.server, loads)
        self._config.write_text(roles, encoding="utf-8")
        self.server.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 20
        while metric(self.server, loads) == before:
            assert time.monotonic() < until
            time.sleep(0.05)

    def open(self, user: str) -> flight.FlightStreamReader:
        """A result of which the first rows have come, and many are to follow."""
        client, options = self.server.flight(user)
        with self.server.connect(user) as connection, connection.cursor() as cursor:
            partitions, _ = cursor.adbc_execute_partitions(_WIDE)
        reader = client.do_get(flight.FlightInfo.deserialize(partitions[0]).endpoints[0].ticket, options)
        reader.read_chunk()
        return reader


def _in_transaction(server: RunningServer, user: str) -> flight_sql.Connection:
    return flight_sql.connect(server.url, db_kwargs={"username": user, "password": user}, autocommit=False)


def _until_late(step: Callable[[], object]) -> None:
    """Repeats the step until it fails, for as long as an open stream may go on under an old policy."""
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        step()


def _fetch(cursor: flight_sql.Cursor, partition: bytes) -> None:
    cursor.adbc_read_partition(partition)
    cursor.fetchall()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    try:
        yield made
    finally:
        made.server.stop()


def test_open_streams_end_for_those_whose_rights_have_changed(desk: Desk) -> None:
    theirs, others = desk.open("maker"), desk.open("feed")
    desk.change(_ROLES.replace('"market_data", "orders"', '"orders"'))
    with pytest.raises(pa.ArrowException, match="policy has changed") as caught:
        _until_late(theirs.read_chunk)
    assert "57000" in str(caught.value)
    others.read_chunk()
    others.cancel()
    assert metric(desk.server, 'flightsql_statements_stopped_total{cause="policy"}') == 1


def test_a_stream_of_rows_ends_when_it_may_no_longer_write(desk: Desk) -> None:
    batch = pa.RecordBatch.from_pylist([{"symbol": "NEW", "timestamp": 0}], schema=MARKET_DATA.schema)
    publisher = Publisher(desk.server.url, "market_data", user="maker", password="maker")
    with suppress(PublishError), publisher:  # closing tells of its end once more
        assert publisher.publish(batch).rows == 1
        desk.change(_ROLES + "explain = true\n")  # of the other role
        assert publisher.publish(batch).rows == 1, "a change that is none of theirs"
        desk.change(_ROLES.replace('ingest = ["market_data"]', 'ingest = ["orders"]', 1))
        with pytest.raises(PublishError, match="policy has changed"):
            _until_late(lambda: publisher.publish(batch))


def test_a_result_that_waits_is_not_shown_under_another_policy(desk: Desk) -> None:
    with _in_transaction(desk.server, "maker") as connection:
        with connection.cursor() as cursor:
            waiting, _ = cursor.adbc_execute_partitions("SELECT symbol FROM market_data")
            counted, _ = cursor.adbc_execute_partitions("CREATE TABLE mine (a INT)")
            desk.change(_ROLES.replace('"market_data", "orders"', '"orders"'))
            with pytest.raises((DriverError, OSError), match="policy has changed"):
                _fetch(cursor, waiting[0])
            _fetch(cursor, counted[0])
        connection.rollback()


def test_rows_that_a_transaction_holds_are_not_stored_under_a_policy_that_forbids_them(desk: Desk) -> None:
    with _in_transaction(desk.server, "maker") as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO market_data (symbol, timestamp) VALUES ('NEW', TIMESTAMPTZ '2026-02-01')")
        desk.change(_ROLES.replace('ingest = ["market_data"]', "", 1))
        with pytest.raises(DriverError, match="42501"):
            connection.commit()
