"""Lanes: the way of a dataset's commits to the queries that are subscribed to, which are worked out in rounds.

A round takes whatever has been committed since the one before, as one change set, and works it out for every query of
the lane. The more there is to do, the more commits a round takes, so that a writer at full speed is told of less often
and not slowed down. Queries that the engine has to be asked for begin in a lane of their own, and go over to the common
one when they have shown to be quick: no query makes others wait for long.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from flightsql_server.data.feed import ChangeSet, joined
from flightsql_server.errors import StatementTimeout
from flightsql_server.metrics import Metrics
from flightsql_server.service.channels import DatasetChannel, Found, LiveLimits
from flightsql_server.service.steps import settled

# So long a worker goes on from query to query before the loop hears of what it found.
_SLICE_SECONDS = 0.02
_QUICK_SECONDS = 0.05

Outcome = Found | Exception | None


class Lane:
    """Queries over one dataset that are worked out together. Belongs to the event loop."""

    def __init__(
        self, lanes: Lanes, pool: ThreadPoolExecutor, metrics: Metrics, limits: LiveLimits, most_together: int
    ) -> None:
        """``most_together``: so many bytes of commits are taken as one."""
        self.channels: set[DatasetChannel] = set()
        self._most_together = most_together
        self._lanes = lanes
        self._pool = pool
        self._metrics = metrics
        self._limits = limits
        self._evaluations = metrics.live_evaluations.labels("rows")
        self._backlog: deque[tuple[int, ChangeSet | None]] = deque()
        self._backlog_bytes = 0
        self._taken = 0
        self._current: DatasetChannel | None = None
        self._working: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a round is under way, or a pause behind one."""
        return self._working is not None

    def take(self, last_seq: int, rows: ChangeSet | None) -> None:
        """A commit. What there is no room for is read from history when its turn comes."""
        if not self.channels:
            return
        self._backlog.append((last_seq, rows))
        self._backlog_bytes += 0 if rows is None else rows.nbytes
        while self._backlog_bytes > self._limits.backlog_bytes and len(self._backlog) > 1:
            self._metrics.limit("live.backlog_bytes")
            self._oldest()
        if self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._work())

    def goes_on_where(self, channel: DatasetChannel, other: Lane) -> bool:
        """Whether the lane still has every commit before it that the channel has not had in the other one: the newest
        is enough, for what is missing before that is read from history.
        """
        if not self.channels:
            return True
        return self._taken <= channel.seq and (other._newest <= channel.seq or self._newest >= other._newest)

    @property
    def _newest(self) -> int:
        return self._backlog[-1][0] if self._backlog else 0

    def take_over(self, channel: DatasetChannel, other: Lane) -> None:
        """The channel comes from another lane, with the commits before it where this one has none of its own."""
        if not self.channels:
            self._clear()
        self.channels.add(channel)
        if len(self.channels) == 1:
            for last_seq, rows in other._backlog:
                self.take(last_seq, rows)
        other.channels.discard(channel)

    def _oldest(self) -> tuple[int, ChangeSet | None]:
        last_seq, rows = self._backlog.popleft()
        self._backlog_bytes -= 0 if rows is None else rows.nbytes
        return last_seq, rows

    async def _work(self) -> None:
        try:
            while self._backlog and self.channels:
                spent = await self._round()
                # Little room is left: it is better to take more than its share than to read history later.
                room = max(0.0, 1 - 2 * self._backlog_bytes / self._limits.backlog_bytes)
                await asyncio.sleep(spent * self._lanes.pause_factor() * room)
        except Exception as error:
            for channel in self.channels:
                channel.fail(error)
        finally:
            self._working = None
            if not self.channels:
                self._clear()

    def _clear(self) -> None:
        self._backlog.clear()
        self._backlog_bytes = 0

    async def _round(self) -> float:
        """Works out what has come for all who have not had it; gives the seconds of a core that it took."""
        last_seq, sets = self._together()
        self._taken = last_seq
        todo = deque(channel for channel in self.channels if channel.seq < last_seq and channel.failure is None)
        rows: ChangeSet | None = None
        spent = 0.0
        if len(sets) == 1:
            rows = sets[0]
        elif todo and sets:
            rows, spent = await asyncio.get_running_loop().run_in_executor(self._pool, _as_one, sets)
        round_ = _Round(last_seq, rows)
        while todo:
            for channel, outcome, seconds, of_a_core in await self._slice(todo, round_):
                spent += of_a_core
                self._settle(channel, last_seq, max(1, len(sets)), outcome, seconds)
        return spent

    def _settle(self, channel: DatasetChannel, last_seq: int, commits: int, outcome: Outcome, seconds: float) -> None:
        if isinstance(outcome, Exception):
            channel.fail(outcome)
        elif not channel.closed:
            self._evaluations.inc()
            channel.worked_out(last_seq, commits, outcome)
            self._lanes.regroup(self, channel, seconds < _QUICK_SECONDS)

    def _together(self) -> tuple[int, list[ChangeSet]]:
        """The oldest commits that can be taken as one: nothing is missing between them, and no query begins there."""
        last_seq, rows = self._oldest()
        if rows is None:
            return last_seq, []
        sets, size = [rows], rows.nbytes
        begins = {channel.seq for channel in self.channels}
        while self._backlog and last_seq not in begins:
            upto, rows = self._backlog[0]
            if rows is None or rows.first_seq != last_seq + 1 or size + rows.nbytes > self._most_together:
                break
            sets.append(rows)
            size += rows.nbytes
            last_seq = upto
            self._oldest()
        return last_seq, sets

    async def _slice(
        self, todo: deque[DatasetChannel], round_: _Round
    ) -> list[tuple[DatasetChannel, Outcome, float, float]]:
        running = asyncio.get_running_loop().run_in_executor(self._pool, self._worked_out, todo, round_)
        while True:
            done, _ = await asyncio.wait([running], timeout=self._limits.evaluation_seconds)
            if done:
                return running.result()
            slow = self._current
            if slow is not None:  # if not, it is history that takes so long
                break
        self._metrics.limit("live.evaluation_seconds")
        await settled(running, slow.question.interrupt)
        late = StatementTimeout(
            f"The query took longer than {self._limits.evaluation_seconds:g} seconds for what one commit changed.",
            hint="Ask for less in each row.",
        )
        return [(one, late if one is slow else outcome, took, used) for one, outcome, took, used in running.result()]

    def _worked_out(
        self, todo: deque[DatasetChannel], round_: _Round
    ) -> list[tuple[DatasetChannel, Outcome, float, float]]:
        """What there is for some of the channels, with the seconds that each took, and those of a core. Blocks."""
        found: list[tuple[DatasetChannel, Outcome, float, float]] = []
        started = now = time.perf_counter()
        used = time.thread_time()
        while todo and now - started < _SLICE_SECONDS:
            channel, reading = todo.popleft(), 0.0
            outcome: Outcome = None
            try:
                came, reading = (None, 0.0) if channel.closed else round_.for_(channel)
                self._current = channel
                outcome = None if came is None else channel.piece(round_.last_seq, came)
            except Exception as error:
                outcome = error
            self._current = None
            then, now = now, time.perf_counter()
            so_far, used = used, time.thread_time()
            found.append((channel, outcome, now - then - reading, used - so_far + reading))
        return found


@dataclass(slots=True)
class _Round:
    """The commits up to one place. ``rows``: what they changed, as far as it is at hand."""

    last_seq: int
    rows: ChangeSet | None
    _missed: dict[int, ChangeSet | None] = field(default_factory=dict)

    def for_(self, channel: DatasetChannel) -> tuple[ChangeSet | None, float]:
        """What the channel has not had of it, and the seconds of reading history, which is done once for all who have
        come equally far: the engine does it with threads of its own. Blocks.
        """
        if self.rows is not None and self.rows.first_seq == channel.seq + 1:
            return self.rows, 0.0
        if channel.seq in self._missed:
            return self._missed[channel.seq], 0.0
        started = time.perf_counter()
        found = self._missed[channel.seq] = channel.history(channel.seq, self.last_seq)
        return found, time.perf_counter() - started


def _as_one(sets: list[ChangeSet]) -> tuple[ChangeSet, float]:
    """One change set for all of them, and the seconds of a core that it took."""
    started = time.thread_time()
    return joined(sets), time.thread_time() - started


class Lanes:
    """All of them: of each dataset a common one for narrow queries and one for others, and those of queries that are
    slow or yet unknown.
    """

    def __init__(self, pool: ThreadPoolExecutor, metrics: Metrics, limits: LiveLimits) -> None:
        self._pool = pool
        self._metrics = metrics
        self._limits = limits
        self._common: dict[tuple[str, bool], Lane] = {}
        self._apart: dict[str, list[Lane]] = {}
        self._of: dict[DatasetChannel, Lane] = {}

    def publish(self, dataset: str, last_seq: int, rows: ChangeSet | None) -> None:
        """A commit of the dataset."""
        for narrow in (False, True):
            common = self._common.get((dataset, narrow))
            if common is not None:
                common.take(last_seq, rows)
        for lane in self._apart.get(dataset, ()):
            lane.take(last_seq, rows)

    def add(self, channel: DatasetChannel) -> None:
        """From here on the channel is told of commits."""
        lane = self._common_of(channel) if channel.question.is_plain else self._new_apart(channel)
        lane.channels.add(channel)
        self._of[channel] = lane

    def remove(self, channel: DatasetChannel) -> None:
        """It is told no more."""
        lane = self._of.pop(channel, None)
        if lane is not None:
            lane.channels.discard(channel)
            self._drop_empty(channel, lane)

    def regroup(self, lane: Lane, channel: DatasetChannel, quick: bool) -> None:
        """Lets a query that is quick go with the others, and one that is slow alone."""
        if self._of.get(channel) is not lane:
            return
        common = self._common_of(channel)
        if quick and lane is not common and common.goes_on_where(channel, lane):
            common.take_over(channel, lane)
            self._of[channel] = common
            self._drop_empty(channel, lane)
        elif not quick and lane is common and len(lane.channels) > 1:
            apart = self._of[channel] = self._new_apart(channel)
            apart.take_over(channel, lane)

    def pause_factor(self) -> float:
        """For how long a lane rests after a round, as a multiple of what the round took, so that all of them together
        keep to their share of a core.
        """
        if not self._limits.share:
            return 0.0
        every = itertools.chain(self._common.values(), *self._apart.values())
        return max(0.0, sum(lane.busy for lane in every) / self._limits.share - 1)

    def _common_of(self, channel: DatasetChannel) -> Lane:
        kind = (channel.question.dataset.name, channel.question.is_narrow)
        if kind not in self._common:
            self._common[kind] = self._new(channel)
        return self._common[kind]

    def _new_apart(self, channel: DatasetChannel) -> Lane:
        lane = self._new(channel)
        self._apart.setdefault(channel.question.dataset.name, []).append(lane)
        return lane

    def _new(self, channel: DatasetChannel) -> Lane:
        # What many commits mean for a narrow query costs little more than what one does, and is little; what they mean
        # for others has to leave room in their rings for what came before.
        limits = self._limits
        most = limits.backlog_bytes // 2 if channel.question.is_narrow else limits.buffer_bytes // 4
        return Lane(self, self._pool, self._metrics, limits, most)

    def _drop_empty(self, channel: DatasetChannel, lane: Lane) -> None:
        apart = self._apart.get(channel.question.dataset.name, [])
        if not lane.channels and lane in apart:
            apart.remove(lane)
