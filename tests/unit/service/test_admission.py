"""Turns: a principal runs so many statements at a time, and who waits takes nothing from others."""

from __future__ import annotations

import asyncio

import pytest

from flightsql_server.errors import QueueFull
from flightsql_server.metrics import Metrics
from flightsql_server.service.admission import Admission


class Door:
    """An admission, and statements that hold their turn until they are let go."""

    def __init__(self, concurrent: int = 8, queue: int = 8, queue_seconds: float = 5.0) -> None:
        self.metrics = Metrics()
        self.admission = Admission(self.metrics, concurrent=concurrent, queue=queue, queue_seconds=queue_seconds)
        self.running: list[str] = []

    def start(self, principal: str, most: int, name: str, until: asyncio.Event) -> asyncio.Task[None]:
        async def statement() -> None:
            async with self.admission.turn(principal, most), self.admission.slot():
                self.running.append(name)
                await until.wait()
            self.running.remove(name)

        return asyncio.create_task(statement())

    def bites(self) -> float:
        return self.metrics.registry.get_sample_value("flightsql_limits_hit_total", {"limit": "role.concurrent"}) or 0


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_above_the_limit_statements_wait_in_the_order_they_came() -> None:
    async def play() -> None:
        door, ends = Door(), [asyncio.Event() for _ in range(4)]
        tasks = [door.start("ann", 2, str(n), ends[n]) for n in range(4)]
        await _settle()
        assert door.running == ["0", "1"]
        ends[0].set()
        await _settle()
        assert door.running == ["1", "2"]
        for end in ends:
            end.set()
        await asyncio.gather(*tasks)
        assert not door.admission._turns, "nothing is left of them"

    asyncio.run(play())


def test_who_waits_for_a_turn_takes_no_place_of_others() -> None:
    async def play() -> None:
        door, end = Door(concurrent=2, queue=1), asyncio.Event()
        tasks = [door.start("ann", 1, f"ann {n}", end) for n in range(2)]
        await _settle()
        tasks += [door.start("ben", 0, "ben", end), door.start("carl", 0, "carl", end)]
        await _settle()
        assert sorted(door.running) == ["ann 0", "ben"], "carl waits in the queue, which ann has not filled"
        with pytest.raises(QueueFull, match="too many wait"):
            async with door.admission.turn("ann", 1):
                pass
        assert door.bites() == 1
        end.set()
        await asyncio.gather(*tasks)

    asyncio.run(play())


def test_a_wait_ends_and_leaves_the_turn_to_the_next() -> None:
    async def play() -> None:
        door, end = Door(queue_seconds=0.05), asyncio.Event()
        first = door.start("ann", 1, "first", end)
        await _settle()
        with pytest.raises(QueueFull, match="as many as your roles allow"):
            await door.start("ann", 1, "second", end)
        given_up = door.start("ann", 1, "third", end)
        await _settle()
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        end.set()
        await first
        await door.start("ann", 1, "fourth", end)
        assert not door.admission._turns

    asyncio.run(play())


def test_a_turn_that_comes_to_one_who_leaves_goes_to_the_next() -> None:
    async def play() -> None:
        door, first_end, end = Door(), asyncio.Event(), asyncio.Event()
        door.start("ann", 1, "first", first_end)
        await _settle()
        leaves, stays = door.start("ann", 1, "leaves", end), door.start("ann", 1, "stays", end)
        await _settle()
        first_end.set()
        for _ in range(20):
            if "first" not in door.running:
                break  # its turn has been passed on, and the other has not woken yet
            await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        await _settle()
        assert door.running == ["stays"]
        end.set()
        await stays

    asyncio.run(play())
