"""The example client in TypeScript: login, rows both ways, and subscriptions that outlive the server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flightsql_server.client import Publisher, subscribe
from tests.commands import CLEAN
from tests.components import require
from tests.conformance.clients import arrow, metric, run
from tests.conformance.putting import changes, latest, quotes
from tests.conformance.typescript import Driver, DriverError, Reading, built
from tests.faults.proxy import Proxy
from tests.faults.restarting import free_port, server_on
from tests.running import RunningServer

START_MS = 1_767_623_400_000  # 2026-01-05 14:30 UTC
# Heartbeats come often, and little waits for a reader.
LIVE = {"FLIGHTSQL_LIVE_HEARTBEAT_SECONDS": "0.2", "FLIGHTSQL_LIVE_BUFFER_BATCHES": "8"}
UNAUTHENTICATED, INVALID_ARGUMENT = 16, 3


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    server = server_on(0, tmp_path_factory.mktemp("own") / "data", **LIVE)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def driver(build: Path, own: RunningServer) -> Iterator[Driver]:
    with Driver(build, own.url, "feed") as driver:
        yield driver


def query(prefix: str) -> str:
    return f"SELECT * FROM market_data WHERE starts_with(symbol, '{prefix}')"


def publish(server: RunningServer, *batches: pa.RecordBatch) -> None:
    """Stores batches, each after the one before."""
    with Publisher(server.url, "market_data", user="feed", password="feed") as publisher:
        for batch in batches:
            publisher.publish(batch)


def put(driver: Driver, *batches: list[list[Any]], form: str = "quotes", **options: object) -> dict[str, Any]:
    """What the client was told of its batches of [symbol, last price, seconds]."""
    rows = [[[symbol, price, START_MS + 1_000 * at] for symbol, price, at in batch] for batch in batches]
    found: dict[str, Any] = driver.ask("put", dataset="market_data", batches=rows, form=form, options=options)
    return found


def told_seqs(live: Reading) -> list[int]:
    """The ``_seq`` of each row that came as a change."""
    return [row["seq"] for event in live.events("changes") for row in event["rows"]]


# ---- login, rows out, rows in


def test_login(driver: Driver) -> None:
    driver.ask("login", password="feed")


def test_wrong_password_is_named(driver: Driver) -> None:
    with pytest.raises(DriverError, match=r"\[28P01\]") as raised:
        driver.ask("login", password="wrong")
    assert (raised.value.name, raised.value.code) == ("LoginRefused", UNAUTHENTICATED)


def test_rows_come_back_as_they_were_put(own: RunningServer, driver: Driver) -> None:
    told = put(driver, [["RT1", 1.25, 1], ["RT2", 2.5, 1]], [], [["RT1", 1.5, 2]])
    assert "error" not in told
    assert [one["rows"] for one in told["acknowledged"]] == [2, 0, 1]
    assert latest(own, "RT") == {"RT1": 1.5, "RT2": 2.5}
    assert put(driver) == {"acknowledged": []}
    table = driver.ask("table", dataset="market_data")
    assert table["columns"][:2] == ["symbol: Utf8", "bid_price: Float64"]
    assert ["RT1", None, None, 1.5, None, START_MS + 2_000] in table["rows"]
    assert len(table["rows"]) == arrow(own, "SELECT count(*) AS n FROM market_data").to_pydict()["n"][0]


def test_dictionaries_may_differ_from_batch_to_batch(own: RunningServer, driver: Driver) -> None:
    """tableFromArrays makes a dictionary with a number of its own of every column of texts."""
    told = put(driver, [["DI1", 1.0, 1]], [["DI2", 2.0, 1], ["DI1", 3.0, 2]], form="dictionaries")
    assert "error" not in told
    assert latest(own, "DI") == {"DI1": 3.0, "DI2": 2.0}
    told = put(driver, [["DI1", 0.0, 3]], form="deletes")
    assert "error" not in told
    assert latest(own, "DI") == {"DI2": 2.0}


def test_a_numbered_batch_is_stored_once(driver: Driver) -> None:
    batches = [["PN1", 1.0, 1]], [["PN1", 2.0, 2]]
    first = put(driver, *batches, producerId="typescript", producerSeq=7)["acknowledged"]
    again = put(driver, *batches, [["PN1", 3.0, 3]], producerId="typescript", producerSeq=7)["acknowledged"]
    assert [one["producer_seq"] for one in first] == [7, 8]
    assert [(one["producer_seq"], one["rows"], one.get("duplicate", False)) for one in again] == [
        (7, 0, True),
        (8, 0, True),
        (9, 1, False),
    ]


def test_what_is_only_queued_has_no_number(driver: Driver) -> None:
    (told,) = put(driver, [["ME1", 1.0, 1]], level="memory")["acknowledged"]
    assert (told["level"], told["first_seq"]) == ("memory", None)


def test_a_refused_stream_says_why(driver: Driver) -> None:
    found = driver.ask("put", dataset="orders", batches=[[["A", 1.0, 1]]], form="quotes", options={})
    assert found["acknowledged"] == []
    assert "NOT_FOUND" in found["error"]
    with pytest.raises(DriverError, match="NOT_FOUND"):
        driver.ask("table", dataset="orders")


# ---- subscriptions


def test_snapshot_and_updates_make_the_table(own: RunningServer, driver: Driver) -> None:
    publish(own, quotes(("ST1", 1.0, 1), ("ST2", 2.0, 1), ("ST3", 3.0, 1)))
    live = driver.subscribe("table", query("ST"), mode="buffer")
    snapshot = live.until_told("snapshot")
    (subscribed,) = live.events("subscribed")
    assert (subscribed["kind"], subscribed["key"], subscribed["resumed"]) == ("rows", ["symbol"], False)
    assert subscribed["schema"][-2:] == ["_seq: Int64", "_change: Utf8"]
    assert (snapshot[0]["begin"], snapshot[-1]["end"]) == (True, True)
    publish(own, *(quotes(("ST1", 10.0 + n, 2 + n), ("ST4", 20.0 + n, 2 + n)) for n in range(20)))
    publish(own, changes(("ST2", None, 50)))
    live.until(lambda: "ST2" not in live.rows())
    assert live.rows() == latest(own, "ST") == {"ST1": 29.0, "ST3": 3.0, "ST4": 39.0}
    told = told_seqs(live)
    assert len(told) == 41
    assert told == sorted(set(told))
    live.until_told("heartbeat")
    live.ask("close")
    assert live.error() == "closed"


def test_rows_that_leave_the_filter_come_as_deletes(own: RunningServer, driver: Driver) -> None:
    publish(own, quotes(("FI1", 1.0, 1), ("FI2", 2.0, 1)))
    live = driver.subscribe("filter", f"{query('FI')} AND last_price < 5")
    live.until(lambda: live.rows() == {"FI1": 1.0, "FI2": 2.0})
    publish(own, quotes(("FI1", 9.0, 2)))
    live.until(lambda: live.rows() == {"FI2": 2.0})
    (change,) = live.events("changes")
    assert [(row["key"], row["change"]) for row in change["rows"]] == [("FI1", "delete")]


def test_an_empty_answer_is_a_snapshot_too(own: RunningServer, driver: Driver) -> None:
    live = driver.subscribe("empty", query("EM"))
    (snapshot,) = live.until_told("snapshot")
    assert (snapshot["begin"], snapshot["end"], snapshot["rows"]) == (True, True, [])
    publish(own, quotes(("EM1", 1.0, 1)))
    live.until(lambda: live.rows() == {"EM1": 1.0})


def test_whole_answers_take_each_others_place(own: RunningServer, driver: Driver) -> None:
    """A query that is run anew, without a key and with one."""
    publish(own, quotes(("WH1", 1.0, 1), ("WH2", 1.0, 1)))
    sql = "SELECT last_price, count(*) AS n FROM market_data WHERE starts_with(symbol, 'WH') GROUP BY last_price"
    whole = driver.subscribe("whole", sql, minIntervalMs=20)
    keyed = driver.subscribe("keyed", sql, minIntervalMs=20, key=["last_price"])
    for live in (whole, keyed):
        live.until(lambda live=live: [row["n"] for row in live.ask("rows")] == [2])
    publish(own, quotes(("WH2", 2.0, 2)))
    for live in (whole, keyed):
        live.until(
            lambda live=live: sorted((row["last_price"], row["n"]) for row in live.ask("rows")) == [(1, 1), (2, 1)]
        )
    assert whole.events("changes") == []
    assert [event["revision"] for event in whole.events("snapshot")] == [1, 2]
    assert [event["revision"] for event in keyed.events("changes")] == [2]


def test_wishes(own: RunningServer, driver: Driver) -> None:
    """Nothing comes while paused; another filter takes and brings rows; what can't be is refused."""
    publish(own, quotes(("VA1", 1.0, 1), ("VB1", 1.0, 1)))
    live = driver.subscribe("wishes", query("VA"))
    live.until(lambda: live.rows() == {"VA1": 1.0})
    live.ask("pause")
    live.until_told("heartbeat", len(live.events("heartbeat")) + 2)
    publish(own, quotes(("VA1", 2.0, 2)), quotes(("VA1", 3.0, 3)))
    live.until_told("heartbeat", len(live.events("heartbeat")) + 1)
    assert live.rows() == {"VA1": 1.0}
    live.ask("resume")
    live.until(lambda: live.rows() == {"VA1": 3.0})
    assert sum(len(event["rows"]) + event["merged"] for event in live.events("changes")) == 2

    live.ask("filter", query=query("VB"))
    live.until(lambda: live.rows() == {"VB1": 1.0})
    assert live.events("changes")[-1]["moved"] is True
    live.ask("filter", query="SELECT symbol FROM market_data")
    live.ask("filter", query=query("V"))  # asked for before the other is answered
    live.until_told("granted", 2)
    assert live.rows() == {"VA1": 3.0, "VB1": 1.0}
    live.ask("filter", query=query("V"))  # the one that it has already
    live.until_told("granted", 3)
    (refused,) = live.events("refused")
    assert "other columns" in refused["error"]
    publish(own, quotes(("VB1", 2.0, 2)))
    live.until(lambda: live.rows() == {"VA1": 3.0, "VB1": 2.0})


def test_rows_for_many_messages_are_told_wholly(own: RunningServer, driver: Driver) -> None:
    """Each message of many tells how far it goes; ``end`` comes with the last, and so does the rise of ``seq``."""
    count = 20_000
    live = driver.subscribe("large", query("LA"), mode="buffer")
    live.until_told("snapshot")
    large = quotes(*((f"LA{n:0>240}", float(n), 1) for n in range(count)))
    publish(own, large)
    live.until(lambda: live.ask("size") == count)
    events = live.events("changes")
    assert len(events) > 1
    assert [event["end"] for event in events] == [False] * (len(events) - 1) + [True]
    first, last = events[0]["range"][0], events[-1]["range"][1]
    assert last - first + 1 >= count
    assert {event.get("seq") for event in events[:-1]} == {live.events("snapshot")[-1]["seq"]}
    assert events[-1]["seq"] == last
    again = driver.subscribe("large again", query("LA"))
    again.until(lambda: again.ask("size") == count)
    assert again.events("snapshot")
    assert driver.ask("get", dataset="market_data")["batches"] > 1


def test_a_slow_reader_gets_the_newest_or_comes_back_for_all(own: RunningServer, driver: Driver) -> None:
    """In the mode ``buffer`` the server ends it with the place that it has reached."""
    newest, all_ = (driver.subscribe(mode, query("SL"), mode=mode) for mode in ("conflate", "buffer"))
    for live in (newest, all_):
        live.until_told("snapshot")
        live.ask("hold")
    with subscribe(own.url, query("SL"), user="feed", password="feed") as quick:
        for number in range(100):
            publish(own, quotes(*((f"SL{i:0>240}", float(number), number) for i in range(500))))
            # Each is an entry of its own in the buffer, for somebody has been told of it before the next.
            next(one for one in quick if number in one.rows["last_price"].to_pylist())
    for live in (newest, all_):
        live.ask("release")
        live.until(lambda live=live: set(live.rows().values()) == {99.0})  # type: ignore[misc]
    assert sum(event["merged"] for event in newest.events("changes")) > 0
    assert newest.events("reconnecting") == []
    told = told_seqs(all_)
    assert told == list(range(told[0], told[0] + 500 * 100))
    assert "RESOURCE_EXHAUSTED" in all_.events("reconnecting")[0]["error"]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT nothing FROM market_data", r"\[42703\]"),
        ("SELECT * FROM orders", r"\[42P01\]"),
        ("DELETE FROM market_data", r"\[25006\]"),
    ],
)
def test_what_can_not_be_ends_the_subscription(driver: Driver, sql: str, message: str) -> None:
    live = driver.subscribe("wrong", sql)
    error = live.error()
    assert re.search(message, error), error
    assert live.events("reconnecting") == []


def test_a_subscription_that_is_stopped_stays_stopped(own: RunningServer, driver: Driver) -> None:
    live = driver.subscribe("stopped", query("SP"))
    live.until_told("snapshot")
    running = arrow(own, "SELECT query_id FROM ops.queries WHERE ends_with(statement, '(symbol, ''SP'')')", "admin")
    (number,) = running.to_pydict()["query_id"]
    client, options = own.flight("admin")
    with client:
        assert list(client.do_action(flight.Action("KillQuery", str(number).encode()), options)) == []
    assert "[57014]" in live.error()


def test_a_place_that_is_not_kept_is_a_reset(own: RunningServer, driver: Driver) -> None:
    """The server answers OUT_OF_RANGE, and the client begins anew by itself."""
    publish(own, quotes(("OR1", 1.0, 1)))
    live = driver.subscribe("reset", query("OR"), fromSeq=10**9)
    live.until(lambda: live.rows() == {"OR1": 1.0})
    reset, subscribed, *_ = live.events()
    assert (reset["type"], subscribed["type"], subscribed["resumed"]) == ("reset", "subscribed", False)
    assert "OUT_OF_RANGE" in reset["reason"]


def test_a_program_comes_back_where_it_was(own: RunningServer, driver: Driver) -> None:
    publish(own, quotes(("PR1", 1.0, 1)))
    first = driver.subscribe("before", query("PR"))
    first.until_told("snapshot")
    first.ask("close")
    seq = first.ask("events")["seq"]
    publish(own, quotes(("PR1", 2.0, 2), ("PR2", 1.0, 2)), quotes(("PR1", 3.0, 3)))
    later = driver.subscribe("after", query("PR"), fromSeq=seq, mode="buffer")
    later.until(lambda: later.rows() == {"PR1": 3.0, "PR2": 1.0})
    assert [row["key"] for event in later.events("changes") for row in event["rows"]] == ["PR1", "PR2", "PR1"]
    assert later.events("snapshot") == []


# ---- the server goes and comes back


@pytest.mark.slow
def test_a_subscription_outlives_the_server(build: Path, tmp_path: Path) -> None:
    """Killed and back on its data, then stopped dead and awake again, then back on data of another life."""
    port = free_port()
    server = server_on(port, tmp_path / "data", **LIVE)
    try:
        with Driver(build, server.url, "feed") as driver:
            publish(server, quotes(("KI1", 0.0, 0)))
            live = driver.subscribe("all", query("K"), mode="buffer", silenceMs=1_500)
            moved = driver.subscribe("moved", query("X"), mode="buffer", silenceMs=1_500)
            moved.until_told("snapshot")
            moved.ask("filter", query=query("K"))
            moved.until_told("granted")
            live.until_told("snapshot")
            publish(server, *(quotes(("KI1", float(n), n)) for n in range(1, 30)))
            server.kill()
            live.until_told("reconnecting", 2)
            server = server_on(port, tmp_path / "data", **LIVE)
            publish(server, *(quotes(("KI1", float(n), n)) for n in range(30, 60)))
            for one in (live, moved):
                one.until(lambda one=one: one.rows() == {"KI1": 59.0})
                assert one.events("reset") == []
                first, *later = (event["resumed"] for event in one.events("subscribed"))
                assert (first, set(later)) == (False, {True})
            assert told_seqs(live) == list(range(2, 61)), "no gap, nothing twice"
            assert told_seqs(moved)[-59:] == list(range(2, 61))

            os.kill(server.process.pid, signal.SIGSTOP)
            silent = live.until_told("reconnecting", len(live.events("reconnecting")) + 1)[-1]
            os.kill(server.process.pid, signal.SIGCONT)
            assert "has said nothing for 1500 ms" in silent["error"]
            publish(server, quotes(("KI1", 60.0, 60)))
            live.until(lambda: live.rows() == {"KI1": 60.0})
            assert told_seqs(live) == list(range(2, 62))

            server.kill()
            server = server_on(port, tmp_path / "other", **LIVE)  # with keys of its own: the token is not known
            publish(server, quotes(("KI2", 1.0, 1)))
            live.until(lambda: live.rows() == {"KI2": 1.0})
            (reset,) = live.events("reset")
            assert "OUT_OF_RANGE" in reset["reason"]
            assert metric(server, 'flightsql_logins_total{outcome="ok"}') == 2, "one for all, and one for the puts"
    finally:
        server.stop()


def test_a_stream_that_breaks_within_a_commit_tells_it_again(build: Path, own: RunningServer) -> None:
    count = 20_000
    with Proxy(own.port) as proxy, Driver(build, proxy.url, "feed") as driver:
        live = driver.subscribe("cut", query("CU"), mode="buffer")
        live.until_told("snapshot")
        proxy.stall_at(proxy.down + 4_500_000)
        publish(own, quotes(*((f"CU{n:0>240}", float(n), 1) for n in range(count))))
        (part,) = live.until_told("changes")
        assert 0 < live.ask("size") < count
        assert (part["end"], part["seq"]) == (False, live.events("snapshot")[-1]["seq"])
        proxy.cut()
        proxy.resume()
        live.until_at(part["range"][1])
        assert live.ask("size") == count
        assert live.events("subscribed")[-1]["resumed"] is True
        assert live.events("reset") == []


def test_a_stream_that_breaks_while_a_filter_is_asked_for_begins_anew(build: Path, own: RunningServer) -> None:
    """By which of two queries its last rows were told can't be known; the wish is not lost."""
    publish(own, quotes(("BR1", 1.0, 1), ("BR2", 2.0, 1)))
    with Proxy(own.port) as proxy, Driver(build, proxy.url, "feed") as driver:
        live = driver.subscribe("between", query("BR1"))
        live.until(lambda: live.rows() == {"BR1": 1.0})
        proxy.stall()
        live.ask("filter", query=query("BR2"))
        proxy.cut()
        proxy.resume()
        live.until_told("granted")
        (reset,) = live.events("reset")
        assert "another filter" in reset["reason"]
        assert live.rows() == {"BR2": 2.0}
        proxy.cut()
        live.until_told("subscribed", 3)
        publish(own, quotes(("BR1", 3.0, 3), ("BR2", 4.0, 3)))
        live.until(lambda: live.rows() == {"BR2": 4.0})
        assert len(live.events("reset")) == 1, "the granted query goes on where it was"


# ---- the program


def test_the_ticker_prints_what_comes(build: Path, own: RunningServer) -> None:
    publish(own, quotes(("TI1", 1.0, 1), ("TI2", 1.0, 1)))
    environment = {**CLEAN, "FLIGHTSQL_USER": "feed", "FLIGHTSQL_PASSWORD": "feed"}
    command = [require("node"), str(build / "dist" / "ticker.js"), own.url, "TI1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().split()[:4] == ["TI1", "-", "/", "-"]
        publish(own, changes(("TI1", None, 2)))
        gone = process.stdout.readline().split()
        assert gone[:2] == ["TI1", "gone"]
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == ("", "")
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def test_the_readme_does_what_it_shows(build: Path, own: RunningServer) -> None:
    printed = run([require("node"), build / "tests" / "dist" / "readme.js", own.url])
    assert [line.split()[0] for line in printed.splitlines()][::2] == ["stored", "BUST"]
