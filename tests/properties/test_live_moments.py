"""Moments at which a subscription could lose something, one by one: what the runs at random might meet too seldom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest

from flightsql_server.data import deltas
from flightsql_server.errors import InvalidToken, UserError
from flightsql_server.service import subscriptions
from flightsql_server.service.channels import DatasetChannel
from tests.properties import test_live
from tests.properties.live_oracle import FILTERS, TICKS, WHERES, Policy, Query, Row
from tests.properties.live_world import Follower, now
from tests.properties.test_live import Desk

_START = datetime(2026, 1, 5, 12, tzinfo=UTC)
ALL = Query(TICKS, 0, 0)
NO_SECRETS = Policy(filter=next(i for i, one in enumerate(FILTERS) if one and "SECRET" in one.text))
MORE_THAN_ONE = next(i for i, one in enumerate(WHERES) if one.text == "lots > 1")


@pytest.fixture
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    with (
        mock.patch.object(subscriptions, "_TICK_SECONDS", 0.01),
        mock.patch.object(subscriptions, "_RENEW_SECONDS", 0.02),
        mock.patch.object(test_live, "_HELD_SECONDS", 60),  # what is held up here stays so until it is let go
    ):
        made = Desk(**{"backlog_bytes": 1, "snapshot_bytes": 0, **getattr(request, "param", {})})
        yield made
        made.close()


def tick(symbol: str, lots: int, note: str = "x", second: int = 0, change: str = "upsert") -> Row:
    return {"symbol": symbol, "lots": lots, "note": note, "at": _START + timedelta(seconds=second), "_change": change}


async def until(holds: Callable[[], object], seconds: float = 10) -> None:
    deadline = now() + seconds
    while not holds():
        assert now() < deadline
        await asyncio.sleep(0.002)


def begun(follower: Follower) -> Callable[[], object]:
    return lambda: follower.seq is not None


def lots(follower: Follower) -> dict[str, Any]:
    return {str(key[0]): row["lots"] for key, row in follower.mirror.items()}


def test_a_policy_that_changes_while_a_query_is_planned_holds_for_it(desk: Desk) -> None:
    async def run() -> None:
        await desk.publish("ticks", [[tick("A", 1, "SECRET"), tick("B", 2)]], waits=True)
        desk.rooms.pool.stall(0)
        desk.follow(ALL.text, ALL, "conflate", ())
        await asyncio.sleep(0.02)
        await desk.change_policy(NO_SECRETS)
        await asyncio.sleep(0.05)
        desk.rooms.pool.flow()
        await desk.settle()
        assert lots(desk.followers[0]) == {"B": 2}

    desk.run(run())


def test_a_policy_that_changes_while_a_subscriber_is_away_holds_when_it_comes_back(desk: Desk) -> None:
    async def run() -> None:
        await desk.publish("ticks", [[tick("A", 1, "SECRET"), tick("B", 2)]], waits=True)
        desk.follow(ALL.text, ALL, "conflate", ())
        (follower,) = desk.followers
        await until(begun(follower))
        await follower.leave()
        await desk.change_policy(NO_SECRETS)
        desk._begin(follower)
        await desk.settle()
        assert lots(follower) == {"B": 2}

    desk.run(run())


@pytest.mark.parametrize("desk", [{"snapshot_bytes": 100_000}], indirect=True)
def test_who_is_sent_a_kept_snapshot_slowly_is_not_too_slow(desk: Desk) -> None:
    async def run() -> None:
        await desk.publish("ticks", [[tick("A", 1)]], waits=True)
        desk.follow(ALL.text, ALL, "buffer", ())
        await until(begun(desk.followers[0]))
        await desk.publish("ticks", [[tick("A", 2)]], waits=True)  # comes after the snapshot that is kept
        await until(lambda: lots(desk.followers[0]) == {"A": 2})
        desk.follow(ALL.text, ALL, "buffer", ())
        slow, held, real = desk.followers[1], asyncio.Event(), desk.followers[1]._send

        async def send(message: bytes) -> None:
            if slow.key:  # it has been greeted, and the snapshot is on its way
                await held.wait()
            await real(message)

        object.__setattr__(slow, "_send", send)
        await asyncio.sleep(0.05)  # rounds in which what everybody has had is let go
        held.set()
        await until(lambda: slow.failure is not None or lots(slow) == {"A": 2})
        assert slow.failure is None
        await desk.settle()

    desk.run(run())


def test_who_goes_over_to_what_another_reads_finds_what_came_meanwhile(desk: Desk) -> None:
    """Two subscribers of one query, of whom one is still on its way from another query."""

    async def run() -> None:
        few = Query(TICKS, 0, MORE_THAN_ONE)
        await desk.publish("ticks", [[tick("A", 1)]], waits=True)
        desk.follow(few.text, few, "buffer", ())
        desk.follow(ALL.text, ALL, "buffer", ())
        there, coming = desk.followers
        await until(lambda: there.seq is not None and coming.seq is not None)
        coming.gate.clear()
        desk.wish(coming, few)
        for number in range(5):
            await desk.publish("ticks", [[tick("A", 5 + number)]], waits=True)
            await asyncio.sleep(0.02)
        coming.gate.set()
        await until(lambda: coming.failure is not None or lots(coming) == {"A": 9})
        assert coming.failure is None
        await desk.settle()

    desk.run(run())


def test_a_filter_that_changes_under_load_leaves_no_row_out(desk: Desk) -> None:
    async def run() -> None:
        desk.follow(ALL.text, ALL, "buffer", ())
        (follower,) = desk.followers
        await until(begun(follower))
        desk.rooms.pool.stall(0)
        desk.wish(follower, Query(TICKS, 0, MORE_THAN_ONE))
        for number in range(4):
            await desk.publish("ticks", [[tick("A", 2 + number), tick("B", number)]], waits=False)
            await asyncio.sleep(0.01)
        await desk.publish("ticks", [[tick("A", 0, change="delete")]], waits=False)
        await asyncio.sleep(0.05)
        await desk.settle()  # looks whether each row was told that had to be, under one filter or the other
        assert lots(follower) == {"B": 3}

    desk.run(run())


@pytest.mark.parametrize("desk", [{"heartbeat_seconds": 60}], indirect=True)
def test_what_waits_for_a_slow_reader_is_not_told_once_it_is_logged_out(desk: Desk) -> None:
    async def run() -> None:
        desk.follow(ALL.text, ALL, "buffer", ())
        (follower,) = desk.followers
        await until(begun(follower))
        assert follower.reader is not None
        follower.reader.pause(True)
        for number in range(10):
            await desk.publish("ticks", [[tick("A", number)]], waits=True)
            await asyncio.sleep(0.01)
        follower.gate.clear()
        follower.reader.pause(False)
        await asyncio.sleep(0.02)
        follower.reader.failure = InvalidToken("The session has ended.")
        follower.gate.set()
        await until(lambda: follower.failure is not None)
        assert isinstance(follower.failure, InvalidToken)
        assert lots(follower) == {"A": 0}, "one batch was on its way already"
        desk.followers.clear()

    desk.run(run())


def test_the_longest_interval_does_not_hold_up_a_wish_or_a_heartbeat(desk: Desk) -> None:
    async def run() -> None:
        await desk.publish("ticks", [[tick("A", 1), tick("B", 2)]], waits=True)
        follower = Follower(ALL.text, ALL, "interval", (), interval_ms=3_600_000)
        desk.followers.append(follower)
        desk.wished[follower] = [ALL]
        desk._begin(follower)
        await until(begun(follower))
        desk.wish(follower, Query(TICKS, 0, MORE_THAN_ONE))
        await until(lambda: lots(follower) == {"B": 2}, seconds=2)
        assert follower.reader is not None
        last = follower.reader.last_sent
        await until(lambda: follower.reader is not None and follower.reader.last_sent > last, seconds=2)
        desk.followers.clear()

    desk.run(run())


def test_an_answer_that_takes_long_to_encode_is_told(desk: Desk) -> None:
    """Heartbeats go on meanwhile, and must not say that it has been told."""

    async def run() -> None:
        text = "SELECT symbol, lots, row_number() OVER (ORDER BY symbol) AS place FROM ticks"
        desk.follow(text, None, "conflate", ())
        (follower,) = desk.followers
        await until(lambda: follower.reader is not None and follower.kind)
        await asyncio.sleep(0.05)
        desk.rooms.pool.stall(3)  # two reads and the comparison
        await desk.publish("ticks", [[tick("A", 1)]], waits=True)
        await asyncio.sleep(0.2)
        desk.rooms.pool.flow()
        await until(lambda: [row["lots"] for row in follower.mirror.values()] == [1], seconds=3)

    desk.run(run())


def test_a_row_on_which_the_query_fails_ends_its_subscriptions_and_nothing_else(desk: Desk) -> None:
    async def run() -> None:
        text = "SELECT symbol, CAST(note AS INT) AS number FROM ticks"
        await desk.publish("ticks", [[tick("A", 1, "7")]], waits=True)
        failing = [Follower(text, None, mode, ()) for mode in ("buffer", "conflate")]
        desk.follow(ALL.text, ALL, "buffer", ())
        for follower in failing:
            follower.begin(desk.rooms)
        await until(lambda: all(one.seq is not None for one in (*failing, *desk.followers)))
        await desk.publish("ticks", [[tick("A", 2, "x")]], waits=True)
        await until(lambda: all(one.failure is not None for one in failing))
        for follower in failing:
            assert isinstance(follower.failure, UserError)
            assert [row["number"] for row in follower.mirror.values()] == [7]
        await desk.publish("ticks", [[tick("A", 3, "8")]], waits=True)
        again = Follower(text, None, "buffer", ())
        again.begin(desk.rooms)
        await until(begun(again))
        assert [row["number"] for row in again.mirror.values()] == [8]
        await desk.settle()

    desk.run(run())


def begins_amid_commits_told_as_one(desk: Desk) -> None:
    """What a channel had no room for is read from history in one; a reader's snapshot may stand in its middle."""

    async def run() -> None:
        await desk.publish("ticks", [[tick("B", 0)]], waits=True)
        desk.follow(ALL.text, ALL, "buffer", ())
        await until(begun(desk.followers[0]))
        desk.rooms.pool.stall(0)
        for number in range(3):
            await desk.publish("ticks", [[tick("A", number)]], waits=True)
        desk.follow(ALL.text, ALL, "buffer", ())
        await until(lambda: len(desk.rooms.subscriptions.all()) == 2)
        await asyncio.sleep(0.1)  # the writer lets its transaction begin
        for number in range(3, 6):
            await desk.publish("ticks", [[tick("A", number)]], waits=True)
        await desk.settle()

    desk.run(run())


def test_who_begins_amid_commits_that_are_told_as_one_is_told_the_rest(desk: Desk) -> None:
    begins_amid_commits_told_as_one(desk)


def test_that_would_be_noticed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deltas, "after", lambda table, seq: table)
    with pytest.raises(AssertionError, match="in a message of"):
        begins_amid_commits_told_as_one(desk)


@pytest.mark.parametrize("desk", [{"buffer_batches": 3, "backlog_bytes": 10_000_000}], indirect=True)
def test_who_wants_the_newest_alone_needs_no_history_however_far_behind(desk: Desk) -> None:
    """Two of them, who have come to different places when the ring runs over, beside one who is told every row: all
    rows are told or counted.
    """

    async def run() -> None:
        desk.follow(ALL.text, ALL, "conflate", ())
        desk.follow(ALL.text, ALL, "conflate", ())
        desk.follow(ALL.text, ALL, "buffer", ())
        early, late, quick = desk.followers
        await until(lambda: all(begun(one)() for one in desk.followers))

        async def publish(number: int) -> None:
            await desk.publish("ticks", [[tick("A", number), tick("B", number)]], waits=True)
            await until(lambda: lots(quick) == {"A": number, "B": number})

        early.gate.clear()
        for number in range(1, 10):
            await publish(number)
        await until(lambda: lots(late) == {"A": 9, "B": 9})
        late.gate.clear()
        for number in range(10, 30):
            await publish(number)
        early.gate.set()
        late.gate.set()
        await desk.settle()
        assert lots(early) == lots(late) == {"A": 29, "B": 29}

    with mock.patch.object(DatasetChannel, "catch_up", side_effect=AssertionError("history was read")):
        desk.run(run())
