"""Queries that are worked out together: none makes the others wait for long, and none loses a commit on its way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from flightsql_server.errors import StatementTimeout
from flightsql_server.service.questions import Question
from tests.properties.live_oracle import TICKS, WHERES, Query
from tests.properties.test_live import Desk
from tests.properties.test_live_moments import ALL, begun, desk, lots, tick, until

__all__ = ["desk"]
ASKED = Query(TICKS, 0, next(i for i, one in enumerate(WHERES) if one.text == "lots > 1"))


class Held:
    """Holds up the engine's answers to one query, until it is let go or interrupted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = threading.Event()
        self.free.set()
        self.waiting = threading.Event()
        answer = Question._answer

        def held(question: Question, change_set: Any) -> Any:
            if not question.is_plain and not self.free.is_set():
                self.waiting.set()
                assert self.free.wait(30)
            return answer(question, change_set)

        monkeypatch.setattr(Question, "_answer", held)
        monkeypatch.setattr(Question, "interrupt", lambda question: self.free.set())

    def hold(self) -> None:
        self.waiting.clear()
        self.free.clear()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    made = Held(monkeypatch)
    yield made
    made.free.set()


async def _both(desk: Desk) -> None:
    """Everything and a query that the engine is asked for, each with a follower that has begun."""
    await desk.publish("ticks", [[tick("A", 1)]], waits=True)
    for query in (ALL, ASKED):
        desk.follow(query.text, query, "buffer", ())
    for follower in desk.followers:
        await until(begun(follower))


def test_others_are_told_while_a_new_query_is_worked_out(desk: Desk, held: Held) -> None:
    async def run() -> None:
        await _both(desk)
        held.hold()
        await desk.publish("ticks", [[tick("A", 2)]], waits=True)
        await asyncio.to_thread(held.waiting.wait, 10)
        for number in range(3, 6):
            await desk.publish("ticks", [[tick("A", number)]], waits=True)
        plain, asked = desk.followers
        await until(lambda: lots(plain) == {"A": 5})
        assert lots(asked) == {}
        held.free.set()
        await desk.settle()
        assert lots(asked) == {"A": 5}

    desk.run(run())


def test_a_query_that_was_quick_goes_with_the_others(desk: Desk) -> None:
    async def run() -> None:
        lanes = desk.rooms.subscriptions._lanes
        await _both(desk)
        assert len(lanes._apart["ticks"]) == 1
        for number in range(2, 40):
            await desk.publish("ticks", [[tick("A", number)]], waits=True)
            await desk.settle()
            if not lanes._apart["ticks"]:
                break
        else:
            pytest.fail("it has never been quick")
        await desk.publish("ticks", [[tick("A", 50)], [tick("B", 1)], [tick("A", 51)]], waits=True)
        await desk.settle()
        assert [lots(follower) for follower in desk.followers] == [{"A": 51, "B": 1}, {"A": 51}]

    desk.run(run())


@pytest.mark.parametrize("desk", [{"evaluation_seconds": 0.3}], indirect=True)
def test_a_query_that_takes_too_long_is_ended_and_the_others_go_on(desk: Desk, held: Held) -> None:
    async def run() -> None:
        lanes = desk.rooms.subscriptions._lanes
        await _both(desk)
        for number in range(2, 40):  # until both are worked out together
            await desk.publish("ticks", [[tick("A", number)]], waits=True)
            await desk.settle()
            if not lanes._apart["ticks"]:
                break
        held.hold()
        await desk.publish("ticks", [[tick("A", 50)], [tick("A", 51)]], waits=True)
        plain, asked = desk.followers
        await until(lambda: asked.task.done() and lots(plain) == {"A": 51})
        assert isinstance(asked.task.exception(), StatementTimeout)
        desk.followers.remove(asked)
        await desk.settle()

    desk.run(run())
