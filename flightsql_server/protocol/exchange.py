"""DoExchange: one stream on which a client subscribes, says what it wants otherwise, and publishes.

The first message's descriptor says what is asked: the path of a dataset, a query as text, or JSON. Later messages
without rows are wishes, as JSON in ``app_metadata``; those with rows are published. ``docs/reference/live.md`` is the
protocol's description.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flightsql_server.data.ingest import Receipt
from flightsql_server.errors import InvalidParameter
from flightsql_server.model import MAIN_SCHEMA, Call
from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol import ingest
from flightsql_server.protocol.answers import make_encoder
from flightsql_server.protocol.framing import FlightDataParts, metadata_only
from flightsql_server.service.readers import Reader, Send, Terms, note
from flightsql_server.service.subscriptions import Renew

if TYPE_CHECKING:
    from flightsql_server.protocol.service import Rooms

_KEYS = {
    "subscribe": str, "publish": str, "dialect": str, "mode": str, "interval_ms": int, "min_interval_ms": int,
    "from_seq": int, "key": list, "plan": str,
}  # fmt: skip
_EXAMPLE = '{"subscribe": "SELECT * FROM market_data", "mode": "conflate"}'
_LONGEST_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Command:
    """What the first message asks: a subscription, to publish to a dataset, or both."""

    terms: Terms | None
    publish: str = ""
    dialect: str = ""


def command_of(descriptor: Any) -> Command:
    """Reads a descriptor; InvalidParameter where it asks for nothing that can be."""
    if descriptor.type == wire.FlightDescriptor.PATH:
        return Command(Terms(_all_of("/".join(descriptor.path))))
    text = descriptor.cmd.decode("utf-8", "replace")
    if not text.strip():
        raise InvalidParameter("The descriptor asks for nothing.", hint=f"Send a query, or JSON such as {_EXAMPLE}.")
    if not text.lstrip().startswith("{"):
        return Command(Terms(text))
    asked = _json(text)
    terms = None
    if "subscribe" in asked:
        options = {name: value for name, value in asked.items() if name not in ("subscribe", "publish", "dialect")}
        terms = Terms(asked["subscribe"], key=tuple(options.pop("key", ())), **options)
    elif asked.keys() - {"publish"}:
        raise InvalidParameter("Nothing is subscribed to.", hint=f"Write it as {_EXAMPLE}.")
    return Command(terms, asked.get("publish", ""), asked.get("dialect", ""))


def _json(text: str) -> dict[str, Any]:
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise InvalidParameter("The descriptor can't be read as JSON.", hint=f"Write it as {_EXAMPLE}.")
    for name, value in asked.items():
        kind = _KEYS.get(name)
        if kind is None:
            raise InvalidParameter(f"There is no {name[:40]!r}.", hint=f"There are: {', '.join(_KEYS)}.")
        fits = isinstance(value, kind) and not isinstance(value, bool)
        if kind is int and fits:
            fits = 0 <= value < (2**63 if name == "from_seq" else _LONGEST_MS)
        if kind is list and fits:
            fits = all(isinstance(item, str) for item in value)
        if not fits:
            raise InvalidParameter(f"{name} can't be that.", hint=f"Write it as {_EXAMPLE}.")
    return asked


def _all_of(dataset: str) -> str:
    name = dataset.replace('"', '""')
    return f'SELECT * FROM {MAIN_SCHEMA}."{name}"'


async def subscribe(rooms: Rooms, call: Call, terms: Terms, send: Send, renew: Renew) -> int:
    """Serves a subscription of a client that only reads, until it leaves; gives the number of rows."""
    async with rooms.subscriptions.opened(call, terms, renew, make_encoder, send) as reader:
        rooms.audit.note("subscribe", call.principal, call.peer, subscription=reader.id)
        await rooms.subscriptions.run(reader, make_encoder)
    return reader.sent_rows


async def exchange(rooms: Rooms, call: Call, messages: AsyncIterator[bytes], send: Send, renew: Renew) -> int:
    """Serves a DoExchange; gives the number of rows sent."""
    stream = _Stream(messages)
    asked = command_of(await stream.descriptor())
    if asked.dialect:
        call = replace(call, dialect=rooms.sessions.checked_dialect(asked.dialect))
    send_one = _one_at_a_time(send) if asked.publish and asked.terms is not None else send
    async with AsyncExitStack() as stack:
        reader = None
        tasks: list[asyncio.Task[None]] = []
        if asked.terms is not None:
            call.entry.happens("subscription")
            stack.enter_context(rooms.queries.noted(call, asked.terms.text))
            reader = await stack.enter_async_context(
                rooms.subscriptions.opened(call, asked.terms, renew, make_encoder, send_one)
            )
            rooms.audit.note("subscribe", call.principal, call.peer, subscription=reader.id)
            tasks.append(asyncio.create_task(rooms.subscriptions.run(reader, make_encoder)))
        else:
            await send_one(make_encoder(pa.schema([]), None).schema_message(note(type="publishing")))
        stream.reader = reader
        listening = asyncio.create_task(_listen(rooms, call, asked.publish, stream, send_one))
        await _until_ended(tasks, listening)
    return reader.sent_rows if reader is not None else 0


def _one_at_a_time(send: Send) -> Send:
    """For two who send on one stream."""
    sending = asyncio.Lock()

    async def send_one(message: bytes) -> None:
        async with sending:
            await send(message)

    return send_one


async def _until_ended(tasks: list[asyncio.Task[None]], listening: asyncio.Task[None]) -> None:
    """Until the subscription ends, or, where there is none, the client has sent all; an error of either ends both."""
    every = {*tasks, listening}
    try:
        waiting = set(every)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
            if tasks and all(task.done() for task in tasks):
                return
    finally:
        for one in every:
            one.cancel()
        await asyncio.gather(*every, return_exceptions=True)


async def _listen(rooms: Rooms, call: Call, dataset: str, stream: _Stream, send: Send) -> None:
    """Takes what the client sends: wishes, and rows where it publishes."""
    if not dataset:
        async for _ in stream.parts():
            raise InvalidParameter("Nothing is published on this stream.", hint='Begin it with {"publish": "orders"}.')
        return

    async def acknowledge(terms: ingest.Terms, rows: int, receipt: Receipt | None) -> None:
        await send(metadata_only(note(type="stored", **ingest.acknowledgement(terms, rows, receipt))))

    await ingest.store(rooms, call, dataset, stream, acknowledge)


class _Stream(ingest.PutStream):
    """The client's messages; those that are wishes are handed to the reader on their way."""

    reader: Reader | None = None

    async def parts(self) -> AsyncIterator[FlightDataParts]:
        async for parts in super().parts():
            if parts.header:
                yield parts
            elif parts.metadata:
                self._wish(parts.metadata)

    def _wish(self, metadata: bytes) -> None:
        try:
            asked = json.loads(metadata)
        except (ValueError, RecursionError):
            asked = None
        if self.reader is None or not isinstance(asked, dict) or len(asked) != 1:
            raise InvalidParameter(
                "The wish can't be read.", hint='Send {"pause": true}, {"resume": true} or {"filter": "SELECT …"}.'
            )
        ((name, value),) = asked.items()
        if name == "filter" and isinstance(value, str):
            self.reader.ask(value)
        elif name in ("pause", "resume") and value is True:
            self.reader.pause(name == "pause")
        else:
            raise InvalidParameter(f"There is no wish {str(name)[:40]!r}.", hint="There are: pause, resume, filter.")
