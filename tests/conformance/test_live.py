"""Subscriptions as a program sees them: what it was told, applied, is the table, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flightsql_server.client import (
    Mirror,
    SubscribeError,
    Subscription,
    Update,
    publish,
    publish_async,
    subscribe,
    subscribe_async,
)
from flightsql_server.data.datasets import MARKET_DATA, ORDERS
from tests.running import RunningServer, running_server

START = 1_700_000_000_000_000
ROLES = """
[login]
free_failures = 100000
[live]
heartbeat_seconds = 0.5
buffer_batches = 40
[roles.viewer]
select = ["market_data"]
subscribe = ["market_data"]
[roles.viewer.filters]
market_data = "symbol <> 'HIDDEN'"
[roles.feed]
select = ["market_data"]
ingest = ["market_data"]
[roles.maker]
select = ["market_data", "orders"]
create = true
"""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("live")
    (folder / "test.toml").write_text(ROLES, encoding="utf-8")
    with running_server(folder) as server:
        yield server


class Feed:
    """Publishes quotes, each a little later than the one before."""

    def __init__(self, server: RunningServer) -> None:
        self._publishing = publish(server.url, "market_data", user="admin", password="admin")
        self.time = START

    def quote(self, *quotes: tuple[str, float], change: str = "") -> int:
        """Stores these; gives the last ``_seq``."""
        rows = []
        for symbol, bid in quotes:
            self.time += 1
            rows.append({"symbol": symbol, "bid_price": bid, "volume": 1, "timestamp": self.time})
        schema = MARKET_DATA.schema
        if change:
            rows = [{**row, "_change": change} for row in rows]
            schema = MARKET_DATA.change_schema
        receipt = self._publishing.send(pa.RecordBatch.from_pylist(rows, schema))
        assert receipt.last_seq is not None
        return receipt.last_seq

    def close(self) -> None:
        self._publishing.close()


@pytest.fixture
def feed(live: RunningServer) -> Iterator[Feed]:
    made = Feed(live)
    yield made
    made.close()


def opened(server: RunningServer, query: str, user: str = "admin", **options: Any) -> Subscription:
    return subscribe(server.url, query, user=user, password=user, **options)


def until(updates: Subscription, mirror: Mirror, enough: Callable[[Update], bool]) -> list[Update]:
    """Applies updates until one is enough."""
    found = []
    for update in updates:
        mirror.apply(update)
        found.append(update)
        if enough(update):
            return found
    raise AssertionError("the subscription ended")


def reaches(seq: int) -> Callable[[Update], bool]:
    return lambda update: update.type == "changes" and update.seq is not None and update.seq >= seq


def ended(update: Update) -> bool:
    return update.end


def table(server: RunningServer, query: str, user: str = "admin") -> list[tuple[Any, ...]]:
    with server.connect(user) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return sorted(cursor.fetchall(), key=repr)


def rows_of(mirror: Mirror) -> list[tuple[Any, ...]]:
    return sorted((tuple(row.values()) for row in mirror.rows.values()), key=repr)


def test_a_snapshot_and_then_what_changes(live: RunningServer, feed: Feed) -> None:
    query = "SELECT symbol, bid_price * 2 AS twice FROM market_data WHERE bid_price >= 10 AND symbol LIKE 'S1%'"
    feed.quote(("S1A", 10.0), ("S1B", 5.0))
    mirror = Mirror()
    with opened(live, query) as updates:
        first = until(updates, mirror, ended)
        assert rows_of(mirror) == [("S1A", 20.0)]
        assert [update.reset for update in first].count(True) == 1
        last = feed.quote(("S1B", 11.0), ("S1A", 12.0))
        (told,) = until(updates, mirror, reaches(last))
        assert told.rows.column("_change").to_pylist() == ["upsert", "upsert"]
        last = feed.quote(("S1A", 1.0), ("S1C", 2.0))
        (told,) = until(updates, mirror, reaches(last - 1))
        assert told.rows.to_pylist() == [{"symbol": "S1A", "twice": None, "_seq": last - 1, "_change": "delete"}]
        last = feed.quote(("S1B", 0.0), change="delete")
        until(updates, mirror, reaches(last))
        assert rows_of(mirror) == table(live, query) == []


def test_a_late_update_changes_nothing_and_is_not_told(live: RunningServer, feed: Feed) -> None:
    feed.quote(("LATE", 1.0))
    mirror = Mirror()
    with opened(live, "SELECT symbol, bid_price FROM market_data WHERE symbol IN ('LATE', 'NEXT')") as updates:
        until(updates, mirror, ended)
        feed.time -= 1_000
        feed.quote(("LATE", 2.0))
        feed.time += 1_000
        until(updates, mirror, reaches(feed.quote(("NEXT", 3.0))))
        assert rows_of(mirror) == [("LATE", 1.0), ("NEXT", 3.0)]


def test_whoever_begins_while_rows_come_misses_none(live: RunningServer, feed: Feed) -> None:
    """Forty subscribers begin at any moment of a running feed; each ends with the table."""
    query = "SELECT symbol, bid_price FROM market_data WHERE symbol LIKE 'RUN%'"
    going = threading.Event()
    last = 0

    def publishing() -> None:
        nonlocal last
        number = 0
        while not going.is_set():
            number += 1
            last = feed.quote(*((f"RUN{n % 7}", float(number)) for n in range(number, number + 3)))

    thread = threading.Thread(target=publishing)
    thread.start()
    mirrors, opens = [], []
    try:
        for number in range(40):
            opens.append(opened(live, query, mode=("buffer", "conflate")[number % 2]))
            mirrors.append(Mirror())
            until(opens[-1], mirrors[-1], ended)
    finally:
        going.set()
        thread.join()
    last = feed.quote(("RUN0", -1.0))
    try:
        for updates, mirror in zip(opens, mirrors, strict=True):
            seqs: list[int] = []
            for update in until(updates, mirror, reaches(last)):
                seqs += update.rows.column("_seq").to_pylist()
            assert seqs == sorted(set(seqs)), "each update once, in order"
            assert rows_of(mirror) == table(live, query)
    finally:
        for updates in opens:
            updates.close()


def test_coming_back_from_a_seq(live: RunningServer, feed: Feed) -> None:
    query = "SELECT symbol, bid_price FROM market_data WHERE symbol LIKE 'BACK%' AND bid_price > 0"
    place = feed.quote(("BACK1", 1.0), ("BACK2", 2.0), ("BACK3", -1.0))
    last = feed.quote(("BACK1", 3.0), ("BACK2", -2.0), ("BACK3", -3.0), ("BACK1", 4.0))
    with opened(live, query, from_seq=place, mode="buffer") as updates:
        told = until(updates, Mirror(), reaches(last))
        assert [tuple(row.values()) for update in told for row in update.rows.to_pylist()] == [
            ("BACK1", 3.0, place + 1, "upsert"),
            ("BACK2", None, place + 2, "delete"),
            ("BACK1", 4.0, place + 4, "upsert"),
        ], "row by row, and no word of a row that never belonged to the answer"
    with opened(live, query, from_seq=place) as updates:
        (update,) = until(updates, Mirror(), reaches(last))
        assert update.rows.column("symbol").to_pylist() == ["BACK2", "BACK1"]
        assert update.merged == 1
    with (
        pytest.raises(SubscribeError, match=r"\[22003\].*stands at"),
        opened(live, query, from_seq=last + 1_000_000, reconnects=False) as updates,
    ):
        next(updates)


def test_rows_that_take_several_messages_tell_how_far_each_of_them_goes(live: RunningServer, feed: Feed) -> None:
    """Whoever loses the connection between two of them goes on behind the first."""
    place = feed.quote(("BIG", 0.0))
    last = feed.quote(*((f"BIG{number}", 1.0) for number in range(100_000)))
    with opened(live, "SELECT * FROM market_data", from_seq=place, mode="buffer") as updates:
        first = next(updates)
        assert place < (first.seq or 0) < last
        assert first.rows.column("_seq")[-1].as_py() == first.seq == updates.seq
    with opened(live, "SELECT * FROM market_data", from_seq=updates.seq, plan=updates.plan, mode="buffer") as again:
        told = until(again, Mirror(), reaches(last))
        assert first.rows.num_rows + sum(update.rows.num_rows for update in told) == 100_000


def test_who_comes_back_with_another_query_begins_anew(live: RunningServer, feed: Feed) -> None:
    feed.quote(("FORM1", 1.0), ("FORM2", 2.0))
    query = "SELECT symbol, bid_price FROM market_data WHERE symbol LIKE 'FORM%' AND bid_price > {}"
    with opened(live, query.format(0)) as updates:
        until(updates, Mirror(), ended)
        place, plan = updates.seq, updates.plan
    mirror = Mirror()
    with opened(live, query.format(1), from_seq=place, plan=plan) as updates:
        (update,) = until(updates, mirror, ended)[:1]
        assert update.reset
        assert rows_of(mirror) == [("FORM2", 2.0)]


def test_a_query_that_is_run_anew(live: RunningServer, feed: Feed) -> None:
    query = "SELECT left(symbol, 4) AS family, count(*) AS n FROM market_data WHERE symbol LIKE 'AGG%' GROUP BY ALL"
    feed.quote(("AGGA1", 1.0), ("AGGB1", 1.0))
    keyed, whole = Mirror(), Mirror()
    with (
        opened(live, query, key=["family"], min_interval_ms=50) as by_key,
        opened(live, query, min_interval_ms=50) as answers,
    ):
        until(by_key, keyed, ended)
        until(answers, whole, ended)
        feed.quote(("AGGA2", 1.0), ("AGGC1", 1.0))
        (told,) = until(by_key, keyed, lambda update: True)
        assert told.type == "changes"
        assert sorted(told.rows.column("family").to_pylist()) == ["AGGA", "AGGC"]
        feed.quote(("AGGC1", 1.0), change="delete")
        told = until(by_key, keyed, lambda update: True)[-1]
        assert told.rows.to_pylist() == [{"family": "AGGC", "n": None, "_seq": None, "_change": "delete"}]
        until(answers, whole, lambda update: len(whole.rows) == 2 and ("AGGA", 2) in rows_of(whole))
        assert rows_of(keyed) == rows_of(whole) == table(live, query)


def test_a_key_that_is_none_ends_the_subscription(live: RunningServer, feed: Feed) -> None:
    feed.quote(("TWIN1", 1.0), ("TWIN2", 1.0))
    query = "SELECT DISTINCT bid_price, symbol FROM market_data WHERE symbol LIKE 'TWIN%'"
    with opened(live, query, key=["bid_price"], min_interval_ms=50) as updates:
        until(updates, Mirror(), ended)
        feed.quote(("TWIN3", 1.0))
        with pytest.raises(SubscribeError, match="same key"):
            next(updates)


def test_wishes(live: RunningServer, feed: Feed) -> None:
    query = "SELECT symbol, bid_price FROM market_data WHERE symbol LIKE 'WISH%' AND bid_price < {}"
    feed.quote(("WISH1", 1.0), ("WISH2", 20.0), ("WISH3", 3.0))
    mirror = Mirror()
    with opened(live, query.format(10)) as updates:
        until(updates, mirror, ended)
        updates.change(query.format(2))
        (told,) = until(updates, mirror, lambda update: True)
        assert told.rows.column("_change").to_pylist() == ["delete"]
        updates.change(query.format(100))
        until(updates, mirror, lambda update: True)
        assert rows_of(mirror) == table(live, query.format(100))
        updates.pause()
        time.sleep(0.2)
        for bid in range(5):
            last = feed.quote(("WISH1", float(bid)))
        updates.resume()
        told = until(updates, mirror, reaches(last))
        assert sum(update.rows.num_rows + update.merged for update in told) == 5
        assert rows_of(mirror) == table(live, query.format(100))
        updates.change("SELECT symbol FROM market_data")
        with pytest.raises(SubscribeError, match="other columns"):
            next(updates)


def test_rows_are_published_on_the_same_stream(live: RunningServer) -> None:
    client, options = live.flight("admin")
    asked = {"subscribe": "SELECT symbol, bid_price FROM market_data WHERE symbol = 'SELF'", "publish": "market_data"}
    writer, reader = client.do_exchange(flight.FlightDescriptor.for_command(json.dumps(asked)), options)
    writer.begin(MARKET_DATA.schema)
    quote = {"symbol": "SELF", "bid_price": 7.0, "timestamp": START}
    writer.write_batch(pa.RecordBatch.from_pylist([quote], MARKET_DATA.schema))
    told: dict[str, Any] = {}
    while not {"stored", "changes"} <= told.keys():
        chunk = reader.read_chunk()
        about = json.loads(chunk.app_metadata.to_pybytes())
        told[about["type"]] = chunk.data if about["type"] != "stored" else about
    assert told["stored"]["rows"] == 1
    assert told["changes"].column("bid_price").to_pylist() == [7.0]
    reader.cancel()
    client.close()


def test_a_client_that_only_reads_subscribes_by_sql(live: RunningServer, feed: Feed) -> None:
    feed.quote(("ADBC", 1.0))
    with live.connect("viewer") as connection, connection.cursor() as cursor:
        cursor.execute("SUBSCRIBE TO SELECT symbol, bid_price FROM market_data WHERE symbol = 'ADBC'")
        batches = cursor.fetch_record_batch()
        assert batches.schema.names == ["symbol", "bid_price", "_seq", "_change"]
        rows: list[dict[str, Any]] = []
        while not rows:
            rows = batches.read_next_batch().to_pylist()
        assert [row["bid_price"] for row in rows] == [1.0]
        last = feed.quote(("ADBC", 2.0))
        rows = []
        while not rows:
            rows = batches.read_next_batch().to_pylist()
        assert rows == [{"symbol": "ADBC", "bid_price": 2.0, "_seq": last, "_change": "upsert"}]
        cursor.adbc_cancel()


def test_a_slow_reader_is_told_less_or_ended_but_never_silently(live: RunningServer, feed: Feed) -> None:
    query = "SELECT symbol, bid_price FROM market_data WHERE symbol LIKE 'SLOW%'"
    mirror, every, quick = Mirror(), Mirror(), opened(live, query)
    with quick, opened(live, query) as conflated, opened(live, query, mode="buffer", reconnects=False) as buffered:
        until(conflated, mirror, ended)
        until(buffered, every, ended)
        until(quick, Mirror(), ended)
        for updates in (conflated, buffered):
            updates.pause()
        time.sleep(0.2)
        for number in range(60):
            last = feed.quote(("SLOW1", float(number)), ("SLOW2", float(number)))
            until(quick, Mirror(), reaches(last))  # so that each is an entry of its own in the buffer
        for updates in (conflated, buffered):
            updates.resume()
        told = until(conflated, mirror, reaches(last))
        assert sum(update.rows.num_rows + update.merged for update in told) == 120
        assert rows_of(mirror) == table(live, query)
        with pytest.raises(SubscribeError, match=r"\[54000\].*from_seq \d+"):
            until(buffered, every, lambda update: False)
        place = buffered.seq
    with opened(live, query, mode="buffer", from_seq=place) as again:
        until(again, every, reaches(last))
        assert rows_of(every) == table(live, query)


def test_a_heartbeat_tells_how_far_things_are(live: RunningServer, feed: Feed) -> None:
    with opened(live, "SELECT symbol FROM market_data WHERE symbol = 'NEVER'") as updates:
        until(updates, Mirror(), ended)
        last = feed.quote(("OTHER", 1.0))
        stop = threading.Timer(3, updates.close)
        stop.start()
        assert next(updates, None) is None
        assert (updates.seq or 0) >= last


def test_what_may_not_be_seen_is_not_told_of(live: RunningServer, feed: Feed) -> None:
    mirror = Mirror()
    with opened(
        live, "SELECT symbol, bid_price FROM market_data WHERE symbol IN ('HIDDEN', 'OPEN')", "viewer"
    ) as updates:
        until(updates, mirror, ended)
        feed.quote(("HIDDEN", 1.0))
        feed.quote(("HIDDEN", 1.0), change="delete")
        last = feed.quote(("HIDDEN", 2.0), ("OPEN", 3.0))
        told = until(updates, mirror, reaches(last))
        assert [row["symbol"] for update in told for row in update.rows.to_pylist()] == ["OPEN"]
    with pytest.raises(SubscribeError, match=r"\[42P01\]"):
        opened(live, "SELECT * FROM orders", "viewer")
    with pytest.raises(SubscribeError, match=r"\[42501\].*not subscribe"):
        opened(live, "SELECT * FROM market_data", "feed")


def test_it_is_listed_and_counted(live: RunningServer) -> None:
    with opened(live, "SELECT symbol AS listed FROM market_data", "viewer") as updates:
        until(updates, Mirror(), ended)
        query = "SELECT user_name, kind, mode, lag FROM ops.subscriptions WHERE statement LIKE '%AS listed%'"
        assert table(live, query) == [("viewer", "rows", "conflate", 0)]


def test_asyncio(live: RunningServer) -> None:
    async def follow() -> list[float]:
        bids: list[float] = []
        query = "SELECT symbol, bid_price FROM market_data WHERE symbol = 'AIO'"
        async with (
            subscribe_async(live.url, query, user="viewer", password="viewer") as updates,
            publish_async(live.url, "market_data", user="feed", password="feed") as publisher,
        ):
            async for update in updates:
                bids += update.rows.column("bid_price").to_pylist()
                if bids:
                    return bids
                if update.end:
                    quote = {"symbol": "AIO", "bid_price": 5.0, "timestamp": START}
                    await publisher.send(pa.RecordBatch.from_pylist([quote], MARKET_DATA.schema))
        return bids

    assert asyncio.run(asyncio.wait_for(follow(), 30)) == [5.0]


@pytest.mark.slow
def test_it_comes_back_after_a_kill(tmp_path: Path) -> None:
    """The server dies without a word and starts again on the same port: subscriber and publisher just go on."""
    query = "SELECT order_id, status FROM orders"
    orders = [
        {
            **{name: "x" for name in ORDERS.schema.names if pa.types.is_string(ORDERS.schema.field(name).type)},
            "order_id": f"O{number}", "quantity": 1, "filled_quantity": 0, "created_at": START,
            "updated_at": START + number,
        }
        for number in range(60)
    ]  # fmt: skip
    with running_server(tmp_path) as server:
        port = server.port
        updates = opened(server, query)
        publisher = publish(server.url, "orders", user="admin", password="admin")
        mirror = Mirror()
        until(updates, mirror, ended)
        for order in orders[:30]:
            publisher.send(pa.RecordBatch.from_pylist([order], ORDERS.schema))
        server.kill()
        again = RunningServer(tmp_path, "--config", str(tmp_path / "test.toml"), "--port", str(port))
        try:
            for order in orders[30:]:
                receipt = publisher.send(pa.RecordBatch.from_pylist([order], ORDERS.schema))
            last = receipt.last_seq or 60
            told = until(updates, mirror, reaches(last))
            seqs = [seq for update in told for seq in update.rows.column("_seq").to_pylist()]
            assert seqs == sorted(set(seqs))
            assert rows_of(mirror) == table(again, query)
            assert len(mirror.rows) == 60
        finally:
            updates.close()
            publisher.close()
            again.stop()
