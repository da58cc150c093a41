"""Whatever happens to a subscriber and to the server: snapshot and updates are the table, each change is told once.

Publishers publish, subscribers come, go, fall behind and change their minds, policies change, steps of a commit fail,
and the process dies; then all is let come to rest, and what was told is compared with what had to be told.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import sys
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from flightsql_server.data.commit import Lane
from flightsql_server.data.feed import ChangeSet
from flightsql_server.data.ingest import Writer
from flightsql_server.errors import DiskFull, PolicyChanged, SequenceNoLongerKept, SlowReader, UndefinedTable, UserError
from flightsql_server.service import subscriptions
from flightsql_server.service.questions import Question
from flightsql_server.service.readers import Reader
from tests.conftest import examples
from tests.properties.dying import Killed
from tests.properties.live_laws import check_told, settle_told, table_is_told
from tests.properties.live_oracle import (
    ANEW,
    COLUMNS,
    DATASETS,
    FILLS,
    FILTERS,
    MASKS,
    TICKS,
    WHERES,
    Policy,
    Query,
    Row,
)
from tests.properties.live_world import Follower, Rooms, Sent, now

STEPS = ("taken", "begun", "history", "latest", "producers", "commit", "committed", "noted", "acknowledged")
_START = datetime(2026, 1, 5, 12, tzinfo=UTC)
_PATIENCE_SECONDS = 15.0
_MOST_FOLLOWERS = 6


_HELD_SECONDS = 0.3


class Desk:
    """The server over its lives, its publishers and its subscribers."""

    def __init__(self, message_bytes: int = 4_000_000, **limits: int) -> None:
        """``limits`` are the ``live`` settings that differ."""
        self.loop = asyncio.new_event_loop()
        self.message_bytes, self.limits = message_bytes, limits
        self.policy = Policy()
        self.policies = [self.policy]
        self.wished: dict[Follower, list[Query]] = {}
        self.followers: list[Follower] = []
        self.sent: list[Sent] = []
        self.lanes: dict[tuple[str, int], Lane] = {}
        self.rooms: Rooms
        self.run(self._open(Path(mkdtemp(prefix="live-"))))

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            # Some steps need the pool: who leaves closes what it has begun.
            flowing = self.loop.call_later(_HELD_SECONDS, lambda: self.rooms.pool.flow())
            try:
                async with asyncio.timeout(60):
                    return await what
            finally:
                flowing.cancel()

        return self.loop.run_until_complete(bounded())

    async def _open(self, folder: Path) -> None:
        self.rooms = Rooms(folder, self.policy, self.limits, self.message_bytes)

    # ---- publishers

    async def publish(self, dataset: str, sent: list[list[Row]], waits: bool) -> None:
        """Each list of rows from a publisher of its own; one commit takes all that wait for it."""
        for publisher, rows in enumerate(sent):
            number = sum((one.dataset.name, one.publisher) == (dataset, publisher) for one in self.sent)
            self.sent.append(Sent(DATASETS[dataset], publisher, number, rows))
            self._send(self.sent[-1])
        if waits:
            await self.acknowledged()
        else:
            await asyncio.sleep(0)

    def _send(self, one: Sent) -> None:
        self.rooms.send(one, self.lanes.setdefault((one.dataset.name, one.publisher), Lane()))

    async def acknowledged(self) -> None:
        """All that was sent is stored; what failed is sent again, in order."""
        while waiting := [one for one in self.sent if one.receipt is None]:
            futures = [asyncio.wrap_future(one.update.done) for one in waiting if one.update is not None]
            await asyncio.gather(*futures, return_exceptions=True)
            self._learn()
            again = {(one.dataset.name, one.publisher) for one in waiting if one.receipt is None}
            for name in again:
                self.lanes[name] = Lane()
            for one in self.sent:
                if one.receipt is None:
                    self._send(one)

    def _learn(self) -> None:
        for one in self.sent:
            done = one.update.done if one.update is not None else None
            if one.receipt is None and done is not None and done.done() and done.exception() is None:
                one.receipt = done.result()

    # ---- the server

    async def change_policy(self, policy: Policy) -> None:
        self.policy = policy
        self.policies.append(policy)
        self.rooms.policies.replace(type(self.rooms.policies._current).from_toml(policy.toml()))

    async def fail(self, step: str, failure: Exception) -> None:
        await self.acknowledged()
        self.rooms.step, self.rooms.failure = step, failure

    async def die(self, step: str, dataset: str, rows: list[Row]) -> None:
        """The process is killed at a step of a commit, and starts again."""
        self.rooms.pool.flow()
        await self.acknowledged()
        self.rooms.step, self.rooms.failure = step, Killed()
        await self.publish(dataset, [rows], waits=False)
        await asyncio.to_thread(self.rooms.writer._thread.join, 30)
        assert self.rooms.left is not None
        self._learn()
        await self._go_over(self.rooms.left)

    async def restart(self) -> None:
        self.rooms.pool.flow()
        await self.acknowledged()
        await self._go_over(None)

    async def _go_over(self, folder: Path | None) -> None:
        await self.rooms.end()
        if folder is not None:
            shutil.rmtree(self.rooms.folder)
        await self._open(folder or self.rooms.folder)
        self.lanes.clear()
        for one in self.sent:
            if one.receipt is None:
                self._send(one)
        for follower in self.followers:
            if not follower.away:
                for stretch in follower.stretches[-1:]:
                    stretch.broken = True
                self._begin(follower)

    # ---- subscribers

    def follow(self, text: str, query: Query | None, mode: str, key: tuple[str, ...]) -> None:
        if len(self.followers) < _MOST_FOLLOWERS:
            follower = Follower(text, query, mode, key)
            self.followers.append(follower)
            self.wished[follower] = [] if query is None else [query]
            self._begin(follower)

    def _begin(self, follower: Follower) -> None:
        follower.since_commits = sum(map(len, self.rooms.commits.values()))
        follower.begin(self.rooms)

    def wish(self, follower: Follower, query: Query) -> None:
        if follower.reader is not None and follower.failure is None and not follower.away:
            follower.query, follower.text = query, query.text
            self.wished[follower].append(query)
            follower.reader.ask(query.text)

    def tend(self, follower: Follower) -> None:
        """One whose subscription has ended comes back, if there was a reason for the end."""
        error = follower.failure
        if error is None or follower.away:
            return
        if isinstance(error, SlowReader):
            came = sum(map(len, self.rooms.commits.values())) - follower.since_commits
            assert follower.mode == "buffer", "only who wants every row may be too slow"
            assert came > self.limits.get("buffer_batches", 1_024), f"ended as too slow after {came} commits"
            if follower.kind != "rows":
                follower.forget()
        elif isinstance(error, PolicyChanged | UndefinedTable):
            assert len(self.policies) > 1 or self.policy.tables != Policy().tables, error
            follower.forget()
        elif isinstance(error, SequenceNoLongerKept):
            assert follower.resumed, error
            assert len(self.policies) > 1 or len(self.wished[follower]) > 1, error
            follower.forget()
        else:
            raise error
        self._begin(follower)

    def _denied(self, follower: Follower) -> bool:
        return any(name in follower.text for name in DATASETS if name not in self.policy.tables)

    async def settle(self) -> None:
        """Lets all come to rest, and looks whether the laws hold."""
        self.rooms.pool.flow()
        await self.acknowledged()
        self.rooms.step = None
        for follower in self.followers:
            follower.gate.set()
            if follower.reader is not None:
                follower.reader.pause(False)
        deadline = now() + _PATIENCE_SECONDS
        while wrong := [text for follower in self.followers if (text := await self._behind(follower))]:
            assert now() < deadline, wrong
            await asyncio.sleep(0.004)
        histories = {name: self.rooms.history(dataset) for name, dataset in DATASETS.items()}
        self._check_stored(histories)
        for follower in self.followers:
            if follower.query is not None:
                history = histories[follower.query.dataset.name]
                check_told(follower, history, self.wished[follower], self.policies)
            else:
                check_told(follower, [], [], [])
            if not follower.away:
                settle_told(follower)
                self.wished[follower] = self.wished[follower][-1:]
        if not any(follower.away for follower in self.followers):
            self.policies = [self.policy]

    async def _behind(self, follower: Follower) -> str:
        if follower.away:
            return ""
        if self._denied(follower):
            # It may have ended before, because it came back to another answer, and not begun anew.
            ended = isinstance(follower.failure, UndefinedTable | PolicyChanged | SequenceNoLongerKept)
            return "" if ended else "it goes on without rights"
        self.tend(follower)
        if not follower.kind or follower.failure is not None or (follower.seq is None and follower.kind == "rows"):
            return "it has not begun"
        if follower.reader is None or follower.reader.wish or follower.reader.moved:
            return "it has not gone over"
        if follower.reader.policy != self.rooms.policies.version:
            return "it does not know of its rights"
        if follower.query is not None and follower.kind == "rows":
            version = self.rooms.writer.versions[follower.query.dataset.name]
            if follower.seq is None or follower.seq < version:
                return f"{follower.text}: told up to {follower.seq} of {version}"
        return await table_is_told(self.rooms, follower)

    def _check_stored(self, histories: dict[str, list[Row]]) -> None:
        for name, history in histories.items():
            assert [row["_seq"] for row in history] == list(range(1, len(history) + 1))
            sent = [one for one in self.sent if one.dataset.name == name]
            assert sum(len(one.rows) for one in sent) == len(history), "each batch is stored once"

    def close(self) -> None:
        async def end() -> None:
            for follower in self.followers:
                follower.gate.set()
            await self.rooms.end()

        self.run(end())
        self.loop.close()
        shutil.rmtree(self.rooms.folder)


# ---- what happens

_WHEN = {
    "ticks": st.integers(0, 4).map(lambda seconds: _START + timedelta(seconds=seconds)),
    "fills": st.integers(0, 4).map(lambda days: date(2026, 1, 5) + timedelta(days=days)),
}


def _rows(dataset: str) -> st.SearchStrategy[list[Row]]:
    row = {
        "symbol": st.sampled_from("ABC"),
        "lots": st.none() | st.integers(-1, 5),
        "note": st.none() | st.sampled_from(["7", "SECRET", "x", "é€"]),
        "at": _WHEN[dataset],
        "_change": st.sampled_from(["upsert", "upsert", "upsert", "delete"]),
    }
    if dataset == "fills":
        row["number"] = st.integers(1, 2)
    return st.lists(st.fixed_dictionaries(row), min_size=1, max_size=4)


_BATCHES = st.sampled_from(list(DATASETS)).flatmap(
    lambda name: st.tuples(st.just(name), st.lists(_rows(name), min_size=1, max_size=3))
)
_QUERIES = st.builds(
    Query, st.sampled_from([TICKS, FILLS]), st.integers(0, len(COLUMNS) - 1), st.integers(0, len(WHERES) - 1)
)
_POLICIES = st.builds(
    Policy,
    st.integers(0, len(FILTERS) - 1),
    st.integers(0, len(MASKS) - 1),
    st.sampled_from([("ticks", "fills")] * 5 + [("ticks",)]),
)
_MODES = st.sampled_from(["buffer", "buffer", "conflate", "conflate", "interval"])
_WHICH = st.integers(0, _MOST_FOLLOWERS - 1)


class Subscribers(RuleBasedStateMachine):
    """Each rule is a thing that happens; what it starts goes on behind the next ones."""

    @initialize(
        message_bytes=st.sampled_from([1_000, 4_000_000]),
        buffer_batches=st.sampled_from([2, 3, 100]),
        snapshot_bytes=st.sampled_from([0, 100_000]),
        backlog_bytes=st.sampled_from([1, 10_000_000]),
    )
    def begin(self, message_bytes: int, **limits: int) -> None:
        self.desk = Desk(message_bytes, **limits)

    def _one(self, which: int) -> Follower | None:
        followers = self.desk.followers
        return followers[which % len(followers)] if followers else None

    def _breathe(self, turns: int = 3) -> None:
        async def breathe() -> None:
            for _ in range(turns):
                await asyncio.sleep(0.001)

        self.desk.run(breathe())

    @rule(sent=_BATCHES, waits=st.booleans())
    def publish(self, sent: tuple[str, list[list[Row]]], waits: bool) -> None:
        stalled = self.desk.rooms.pool._left >= 0
        self.desk.run(self.desk.publish(*sent, waits=waits and not stalled))

    @rule(query=_QUERIES, mode=_MODES)
    def subscribe(self, query: Query, mode: str) -> None:
        self.desk.run(self._later(lambda: self.desk.follow(query.text, query, mode, ())))

    @rule(which=st.integers(0, len(ANEW) - 1), keyed=st.booleans(), mode=_MODES)
    def subscribe_anew(self, which: int, keyed: bool, mode: str) -> None:
        text, key = ANEW[which]
        self.desk.run(self._later(lambda: self.desk.follow(text, None, mode, key if keyed else ())))

    async def _later(self, what: Any) -> None:
        what()
        await asyncio.sleep(0)

    @rule(which=_WHICH)
    def leave(self, which: int) -> None:
        follower = self._one(which)
        if follower is not None and not follower.away:
            self.desk.run(follower.leave())

    @rule(which=_WHICH)
    def come_back(self, which: int) -> None:
        follower = self._one(which)
        if follower is not None and follower.away:
            self.desk.run(self._later(lambda: self.desk._begin(follower)))

    @rule(which=_WHICH, where=st.integers(0, len(WHERES) - 1))
    def change_filter(self, which: int, where: int) -> None:
        follower = self._one(which)
        if follower is not None and follower.query is not None:
            query = Query(follower.query.dataset, follower.query.columns, where)
            self.desk.run(self._later(lambda: self.desk.wish(follower, query)))

    @rule(which=_WHICH, paused=st.booleans())
    def pause(self, which: int, paused: bool) -> None:
        follower = self._one(which)
        if follower is not None and follower.reader is not None:
            follower.reader.pause(paused)

    @rule(which=_WHICH, slow=st.booleans())
    def read_slowly(self, which: int, slow: bool) -> None:
        follower = self._one(which)
        if follower is not None:
            (follower.gate.clear if slow else follower.gate.set)()

    @rule(after=st.integers(0, 6))
    def stall(self, after: int) -> None:
        self.desk.rooms.pool.stall(after)

    @rule()
    def flow(self) -> None:
        self.desk.rooms.pool.flow()

    @rule(policy=_POLICIES)
    def change_policy(self, policy: Policy) -> None:
        self.desk.run(self.desk.change_policy(policy))

    @rule(step=st.sampled_from(STEPS), name=st.sampled_from(list(DATASETS)), data=st.data())
    def die(self, step: str, name: str, data: st.DataObject) -> None:
        self.desk.run(self.desk.die(step, name, data.draw(_rows(name))))

    @rule(step=st.sampled_from(STEPS[1:7]), failure=st.sampled_from([DiskFull("full"), OSError("input/output error")]))
    def fail(self, step: str, failure: Exception) -> None:
        self.desk.run(self.desk.fail(step, failure))

    @rule()
    def restart(self) -> None:
        self.desk.run(self.desk.restart())

    @rule()
    def breathe(self) -> None:
        self._breathe()

    @rule()
    def settle(self) -> None:
        self.desk.run(self.desk.settle())

    def teardown(self) -> None:
        if not hasattr(self, "desk"):
            return
        try:
            for follower in self.desk.followers:
                if follower.away:
                    self.desk.run(self._later(lambda one=follower: self.desk._begin(one)))
            self.desk.run(self.desk.settle())
        finally:
            self.desk.close()


def check(cases: int, shrinks: bool = True) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    with (
        mock.patch.object(subscriptions, "_TICK_SECONDS", 0.01),
        mock.patch.object(subscriptions, "_RENEW_SECONDS", 0.02),
    ):
        run_state_machine_as_test(
            Subscribers,
            settings=settings(
                max_examples=cases,
                stateful_step_count=20,
                suppress_health_check=checks,
                deadline=None,
                phases=[Phase.explicit, Phase.reuse, Phase.generate, *([Phase.shrink] if shrinks else [])],
                report_multiple_bugs=False,
            ),
        )


@pytest.mark.scaled
@pytest.mark.timeout(900)
def test_snapshot_and_updates_are_the_table() -> None:
    check(examples(500))


# ---- the laws notice what they are for

_real_delta, _real_step = Question.delta, Reader.step


class Holes:
    """Ways to forget something."""

    @staticmethod
    def change_set_dropped(patch: pytest.MonkeyPatch) -> None:
        asked = itertools.count(1)
        patch.setattr(Question, "delta", lambda self, came: None if not next(asked) % 2 else _real_delta(self, came))

    @staticmethod
    def row_before_not_looked_up(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(ChangeSet, "before", property(lambda self: np.full(len(self.new), -1, np.int64)))

    @staticmethod
    def not_trimmed_by_position(patch: pytest.MonkeyPatch) -> None:
        async def step(self: Reader) -> None:
            self.position = -1
            await _real_step(self)

        patch.setattr(Reader, "step", step)

    @staticmethod
    def policy_change_ignored(patch: pytest.MonkeyPatch) -> None:
        async def renew(self: object, reader: Reader, ask: object) -> None:
            reader.policy = self._policies.version  # type: ignore[attr-defined]

        patch.setattr(subscriptions.Subscriptions, "_renew", renew)

    @staticmethod
    def policy_change_while_away_ignored(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(subscriptions.Subscriptions, "_plan", lambda self, prepared: "same")

    @staticmethod
    def snapshot_not_between_commits(patch: pytest.MonkeyPatch) -> None:
        def between(self: Writer, work: Any) -> Any:
            done: Future[Any] = Future()
            seq, transaction = work()
            done.set_result((max(0, seq - 1), transaction))
            return done

        patch.setattr(Writer, "between", between)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("hole", [name for name in vars(Holes) if not name.startswith("_")])
def test_a_planted_hole_is_found(hole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    getattr(Holes, hole)(monkeypatch)
    monkeypatch.setattr(sys.modules[__name__], "_PATIENCE_SECONDS", 1.0)
    with pytest.raises(BaseException, match=r"told|table|twice|taken away|gone over|begun|snapshot|move") as caught:
        _seek()
    assert isinstance(caught.value, AssertionError | BaseExceptionGroup | UserError)


def _seek() -> None:
    for _ in range(3):
        with suppress(FlakyStrategyDefinition):  # what shows in one run of two says nothing
            check(1_500, shrinks=False)  # ends at the first that fails; some need several things in a row
            break
