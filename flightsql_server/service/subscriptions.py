"""Subscriptions: from a query to a reader of a channel, and what holds for all of them.

A subscription begins between two commits of the writer: its snapshot stands at one ``_seq``, and the first change that
it is told is the next one.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from flightsql_auth.policies import LivePolicies
from flightsql_auth.principals import Principal

from flightsql_server.data.datasets import Dataset
from flightsql_server.data.feed import ChangeSet
from flightsql_server.data.ingest import Writer
from flightsql_server.errors import (
    InvalidParameter,
    LimitReached,
    PolicyChanged,
    SequenceNoLongerKept,
    ServerShuttingDown,
    UserError,
)
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call, Engine
from flightsql_server.service import openings
from flightsql_server.service.admission import Admission
from flightsql_server.service.catalog import CurrentCatalog
from flightsql_server.service.channels import Channel, DatasetChannel, LiveEncoderFactory, LiveLimits
from flightsql_server.service.lanes import Lanes
from flightsql_server.service.plans import Plans, Prepared
from flightsql_server.service.questions import Question
from flightsql_server.service.readers import CONFLATE, MODES, Reader, Send, Terms, described, note
from flightsql_server.service.refreshing import RefreshedChannel
from flightsql_server.service.subscribing import may_open_another, may_subscribe

Renew = Callable[[], Awaitable[Principal]]
"""Who is calling, asked again: roles and claims as they are now, or the login door's refusal."""

_TICK_SECONDS = 1.0
_RENEW_SECONDS = 3.0


class Subscriptions:
    """All of them. Belongs to the event loop, but for ``publish``, which the writer's thread calls."""

    def __init__(
        self, engine: Engine, catalog: CurrentCatalog, plans: Plans, writer: Writer, datasets: Mapping[str, Dataset],
        policies: LivePolicies, pool: ThreadPoolExecutor, admission: Admission, metrics: Metrics,
        *, limits: LiveLimits, seconds: float, secret: bytes,
    ) -> None:  # fmt: skip
        """``seconds``: the longest run of a snapshot, and of a query that is run anew. ``secret`` is the same after a
        restart on the same data, and known to nobody.
        """
        self._engine = engine
        self._catalog = catalog
        self._plans = plans
        self._writer = writer
        self._datasets = datasets
        self._policies = policies
        self._pool = pool
        self._admission = admission
        self._metrics = metrics
        self._limits = limits
        self._seconds = seconds
        self._secret = secret
        self._ground = openings.Ground(engine, writer, pool, admission, metrics, limits, seconds)
        self._numbers = itertools.count(1)
        self._readers: dict[Reader, Renew] = {}
        self._channels: dict[Hashable, Channel] = {}
        self._refreshed: set[RefreshedChannel] = set()
        self._lanes = Lanes(pool, metrics, limits)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticking: asyncio.Task[None] | None = None

    # ---- what happens

    def publish(self, dataset: str, last_seq: int, rows: ChangeSet | None) -> None:
        """A commit: told from the writer's thread."""
        if self._loop is not None and self._channels:
            with suppress(RuntimeError):  # the loop has ended, and every subscription with it
                self._loop.call_soon_threadsafe(self._published, dataset, last_seq, rows)

    def _published(self, dataset: str, last_seq: int, rows: ChangeSet | None) -> None:
        self._lanes.publish(dataset, last_seq, rows)
        for channel in self._refreshed:
            channel.touched(dataset)

    def all(self) -> list[Reader]:
        """Those that run, the oldest first."""
        return list(self._readers)

    def lag(self, reader: Reader) -> int:
        """How many updates of its dataset the reader has not been told; 0 for queries that are run anew."""
        channel = reader.channel
        if not isinstance(channel, DatasetChannel):
            return 0
        return max(0, self._writer.versions[channel.question.dataset.name] - reader.told)

    async def _tick(self) -> None:
        """Asks again who the readers are, and lets those look that have been quiet."""
        asked = time.monotonic()
        while self._readers:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            every = now - asked >= _RENEW_SECONDS
            if every:
                asked = now
            for reader, renew in list(self._readers.items()):
                if every or reader.policy != self._policies.version:
                    await self._renew(reader, renew)
            oldest: dict[Channel, int] = {}
            for reader in self._readers:
                reader.tell_metrics()
                channel = reader.channel
                oldest[channel] = min(oldest.get(channel, reader.next), reader.next)
                if reader.moved or reader.failure or now - reader.last_sent >= reader.heartbeat_seconds:
                    reader.rouse()
            for channel, number in oldest.items():
                # One that is about to come over from another channel has its place in this one already.
                if all(reader.channel is channel for reader in channel.readers):
                    channel.ring.trim(number)

    async def _renew(self, reader: Reader, renew: Renew) -> None:
        try:
            principal = await renew()
        except Exception as error:
            reader.failure = error
            return
        if reader.policy != self._policies.version or principal != reader.call.principal:
            reader.call = replace(reader.call, principal=principal)
            reader.moved = True

    def stop(self) -> None:
        """Ends all of them: the server stops."""
        for reader in self._readers:
            place = f", from_seq {reader.told}" if reader.channel.kind == "rows" and reader.position else ""
            reader.failure = ServerShuttingDown("The server is stopping.", hint=f"Subscribe again in a moment{place}.")
            reader.rouse()

    # ---- a subscription's life

    async def prepare(self, call: Call, terms: Terms) -> Prepared:
        """The query, planned; InvalidParameter where the terms don't fit it."""
        prepared = await self._plans.prepare(call, terms.text, None, live=True)
        may_subscribe(prepared.grants, self._catalog.current, prepared.plan.tables)
        if terms.mode not in ("", *MODES):
            raise InvalidParameter(f"There is no mode {terms.mode[:40]!r}.", hint=f"There are: {', '.join(MODES)}.")
        if terms.from_seq is not None and terms.plan and terms.plan != self._plan(prepared):
            raise SequenceNoLongerKept(
                "The answer has another form than before: the query is another, or what you may see of it.",
                hint="Subscribe anew, from a snapshot.",
            )
        live = prepared.plan.live
        if live is None and terms.from_seq is not None:
            raise InvalidParameter(
                "Only a subscription to the rows of one dataset can go on from a _seq.", hint="Leave from_seq out."
            )
        return prepared

    def _plan(self, prepared: Prepared) -> str:
        """What stands for the query as it runs: another one where rights or text make it another. It tells nothing of
        them, not even to who guesses.
        """
        content = repr((prepared.changes, str(prepared.schema), prepared.options.time_zone)).encode()
        return hashlib.blake2b(content, key=self._secret, digest_size=12).hexdigest()

    @asynccontextmanager
    async def opened(
        self, call: Call, terms: Terms, renew: Renew, make_encoder: LiveEncoderFactory, send: Send
    ) -> AsyncIterator[Reader]:
        """A reader, which has been sent schema and snapshot; call ``run`` with it. It ends with the block."""
        policy = self._policies.version
        prepared = await self.prepare(call, terms)
        self._check_room(call, prepared)
        channel = self._channel(prepared, terms, call.compression, make_encoder)
        mode = terms.mode or self._default_mode(channel)
        reader = Reader(
            next(self._numbers), call, terms, channel, mode, send, self._pool, self._metrics,
            self._limits.heartbeat_seconds, policy, next=channel.ring.end,
        )  # fmt: skip
        self._readers[reader] = renew
        channel.readers.add(reader)
        gauge = self._metrics.live_subscriptions.labels(channel.kind)
        gauge.inc()
        if self._ticking is None or self._ticking.done():
            self._ticking = asyncio.get_running_loop().create_task(self._tick())
        try:
            await openings.begin(self._ground, reader)
            yield reader
        finally:
            gauge.dec()
            del self._readers[reader]
            reader.tell_metrics()
            self._leave(reader)

    async def run(self, reader: Reader, make_encoder: LiveEncoderFactory) -> None:
        """Sends what comes, until cancelled or until the subscription may not go on."""
        while True:
            if reader.moved:
                reader.moved = False
                await self.change(reader, reader.terms, make_encoder)
            if reader.wish:
                await self._grant(reader, make_encoder)
            await reader.step()

    async def _grant(self, reader: Reader, make_encoder: LiveEncoderFactory) -> None:
        """Goes over to the query that the client wishes; one that can't be is refused, and the old one goes on."""
        wish, reader.wish = reader.wish, ""
        try:
            await self.change(reader, replace(reader.terms, text=wish), make_encoder)
        except UserError as error:
            if reader.policy != self._policies.version:  # perhaps it is not the wish that does not fit, but new rights
                reader.wish, reader.moved = reader.wish or wish, True
                return
            await reader.tell(note(type="refused", error=str(error)))
            return
        await reader.tell(note(type="granted"))

    async def change(self, reader: Reader, terms: Terms, make_encoder: LiveEncoderFactory) -> None:
        """Goes on with another query, or under other rights, and tells what that makes of the rows told before.

        InvalidParameter when the other query has other columns; PolicyChanged when other rights leave the subscription
        in a form that can't go on.
        """
        policy = self._policies.version
        prepared = await self.prepare(reader.call, replace(terms, from_seq=None))
        before = reader.channel
        channel = self._channel(prepared, terms, before.compression, make_encoder)
        if channel is before:
            reader.terms, reader.policy = terms, policy
            return
        if channel.schema != before.schema or channel.kind != before.kind or channel.key != before.key:
            self._close_unread(channel)
            if terms is reader.terms:
                raise PolicyChanged("What you may see of the answer has another form now.", hint="Subscribe again.")
            raise InvalidParameter(
                "The other query has other columns, or another key.", hint="Open another subscription for it."
            )
        channel.readers.add(reader)
        try:
            await openings.move(self._ground, reader, channel)
        except BaseException:
            if reader.channel is not channel:
                channel.readers.discard(reader)
                self._close_unread(channel)
            raise
        before.readers.discard(reader)
        self._close_unread(before)
        reader.terms, reader.policy = terms, policy

    def _check_room(self, call: Call, prepared: Prepared) -> None:
        mine = sum(one.call.principal.name == call.principal.name for one in self._readers)
        may_open_another(prepared.grants, mine, self._metrics)
        for count, most, name in (
            (mine, self._limits.per_user, "live.per_user"), (len(self._readers), self._limits.total, "live.total"),
        ):  # fmt: skip
            if count >= most:
                self._metrics.limit(name)
                raise LimitReached(f"{count} subscriptions are open.", hint="Close those that are not needed.")

    def _default_mode(self, channel: Channel) -> str:
        return channel.question.dataset.delivery if isinstance(channel, DatasetChannel) else CONFLATE

    def _channel(
        self, prepared: Prepared, terms: Terms, compression: str | None, make_encoder: LiveEncoderFactory
    ) -> Channel:
        """The channel of such a query, which is made if nobody has subscribed to it."""
        self._loop = asyncio.get_running_loop()
        names = prepared.schema.names
        live = prepared.plan.live
        key: tuple[int, ...] = live.key if live is not None else tuple(_places(names, terms.key))
        options = prepared.options
        name = (
            prepared.sql, prepared.changes, prepared.schema, options.time_zone, options.max_rows, compression, key,
            0 if live is not None else terms.min_interval_ms,
        )  # fmt: skip
        found = self._channels.get(name)
        if found is not None and found.failure is None:
            return found
        if live is not None:
            dataset = self._datasets[live.dataset]
            question = Question(self._engine, prepared, live, dataset)
            seq = self._writer.versions[dataset.name]
            made: Channel = DatasetChannel(
                question, self._engine, seq, prepared, key, compression, make_encoder, described, self._limits
            )
        else:
            tables = {*prepared.plan.tables, *prepared.plan.policy_tables}
            inputs = {name for name in self._datasets for table in tables if table.name in (name, f"{name}_history")}
            known = {table for table in tables if table.name.removesuffix("_history") in inputs}
            made = RefreshedChannel(
                self._engine, self._pool, self._admission, self._metrics, self._writer.versions, frozenset(inputs),
                prepared.plan.volatile or known != tables, terms.min_interval_ms / 1000, self._seconds,
                prepared, key, compression, make_encoder, described, self._limits,
            )  # fmt: skip
        self._channels[name] = made
        if isinstance(made, DatasetChannel):
            self._lanes.add(made)
        elif isinstance(made, RefreshedChannel):
            self._refreshed.add(made)
        made.name, made.plan = name, self._plan(prepared)
        self._metrics.live_channels.set(len(self._channels))
        return made

    def _leave(self, reader: Reader) -> None:
        reader.channel.readers.discard(reader)
        self._close_unread(reader.channel)

    def _close_unread(self, channel: Channel) -> None:
        if channel.readers:
            return
        channel.close()
        if isinstance(channel, DatasetChannel):
            self._lanes.remove(channel)
        elif isinstance(channel, RefreshedChannel):
            self._refreshed.discard(channel)
        if self._channels.get(channel.name) is channel:
            del self._channels[channel.name]
        self._metrics.live_channels.set(len(self._channels))


def _places(names: Sequence[str], key: Iterable[str]) -> Iterator[int]:
    """Where the columns of a key stand among the answer's."""
    for column in key:
        if column not in names:
            raise InvalidParameter(f"The answer has no column {column[:60]!r} to be its key.")
        yield names.index(column)
