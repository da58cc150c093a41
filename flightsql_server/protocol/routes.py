"""Which command, ticket or action is answered by what: the ``ROUTES`` and ``ACTIONS`` tables and their handlers.

A SELECT's ticket holds the sealed query; a metadata command is its own ticket; plain Flight tickets name a dataset.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from flightsql_server.data.datasets import Dataset
from flightsql_server.errors import AccessDenied, InvalidParameter, UndefinedTable, UnsupportedFeature
from flightsql_server.model import MAIN_SCHEMA, Call, SessionOptions
from flightsql_server.protocol import actions, commands, ingest, statements
from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol.answers import Answer, make_encoder, send_batches
from flightsql_server.protocol.interceptors import Meter
from flightsql_server.protocol.metadata import ANSWERS, Question
from flightsql_server.service.plans import Prepared
from flightsql_server.service.statements import Send
from flightsql_server.service.subscriptions import Renew

if TYPE_CHECKING:
    from flightsql_server.protocol.service import Rooms

Datasets = Mapping[str, Dataset]
Metadata = Callable[[Call], Question]
SendMetadata = Callable[[bytes], Awaitable[None]]


# ---- GetFlightInfo and GetSchema ---------------------------------------------------------------------------------


async def info(rooms: Rooms, call: Call, descriptor: Any, meter: Meter, run: bool = True) -> Answer:
    """The answer for a descriptor; with ``run`` false nothing takes effect, whatever the statement is."""
    if descriptor.type == wire.FlightDescriptor.PATH:
        meter.command = "Path"
        return await _dataset_info(rooms, call, "/".join(descriptor.path), descriptor)
    if descriptor.type != wire.FlightDescriptor.CMD:
        raise InvalidParameter("The descriptor has neither a command nor a path.", hint="Send one of them.")
    command = commands.decode_command(descriptor.cmd)
    route = _route(command)
    meter.command = route.name
    if route.info is None:
        raise UnsupportedFeature(f"{route.name} has no FlightInfo.", hint=route.hint)
    return await route.info(rooms, call, command, descriptor, run)


async def _dataset_info(rooms: Rooms, call: Call, name: str, descriptor: Any) -> Answer:
    prepared = await _prepare_dataset(rooms, call, name)
    return Answer(prepared.schema, name.encode(), descriptor)


async def _prepare_dataset(rooms: Rooms, call: Call, name: str) -> Prepared:
    """All latest rows of the dataset, in the contract's columns and order: planned as SQL, under the same grants."""
    dataset = rooms.datasets.get(name)
    absent = UndefinedTable(f"There is no dataset {name[:60]!r}.", hint="ListFlights names those there are.")
    if dataset is None:
        raise absent
    columns = ", ".join(f'"{column.name}"' for column in dataset.columns)
    plain = Call(call.principal, call.session_key, SessionOptions(), "duckdb", call.wire_profile, call.compression)
    plain = replace(plain, entry=call.entry)
    try:
        return await rooms.statements.prepare(plain, f'SELECT {columns} FROM {MAIN_SCHEMA}."{name}"')
    except UndefinedTable:
        raise absent from None  # one that may not be seen is told of in the same words


async def _plain_info(rooms: Rooms, call: Call, command: commands.PlainCommand, descriptor: Any, run: bool) -> Answer:
    return await _dataset_info(rooms, call, command.content.decode("utf-8", "replace"), descriptor)


async def _metadata_info(rooms: Rooms, call: Call, command: Any, descriptor: Any, run: bool) -> Answer:
    batch = ANSWERS[type(command)][1](rooms.metadata(call), command)
    return Answer(batch.schema, descriptor.cmd, descriptor, records=batch.num_rows)


# ---- DoGet ---------------------------------------------------------------------------------------------------------


async def rows(rooms: Rooms, call: Call, ticket: bytes, meter: Meter, send: Send, renew: Renew) -> int:
    """Sends what the ticket stands for; gives the number of rows. ``renew`` asks again who is calling."""
    command = commands.decode_command(ticket)
    route = _route(command)
    meter.command = route.name
    if route.rows is None:
        raise UnsupportedFeature(f"{route.name} can't be fetched.", hint=route.hint)
    return await route.rows(rooms, call, command, send, renew)


async def _plain_rows(rooms: Rooms, call: Call, command: commands.PlainCommand, send: Send, renew: Renew) -> int:
    prepared = await _prepare_dataset(rooms, call, command.content.decode("utf-8", "replace"))
    with rooms.queries.noted(call, prepared.plan.sql, grants=prepared.grants):
        return await rooms.statements.run(call, prepared, make_encoder, send)


async def _metadata_rows(rooms: Rooms, call: Call, command: Any, send: Send, renew: Renew) -> int:
    batch = ANSWERS[type(command)][1](rooms.metadata(call), command)
    return await send_batches(batch.schema, [batch], None, send, rooms.pool)


# ---- DoPut ---------------------------------------------------------------------------------------------------------


async def put(rooms: Rooms, call: Call, messages: AsyncIterator[bytes], meter: Meter, send: SendMetadata) -> None:
    """Serves a DoPut by its first message's descriptor."""
    stream = ingest.PutStream(messages)
    descriptor = await stream.descriptor()
    if descriptor.type == wire.FlightDescriptor.PATH:
        meter.command = "Path"
        await ingest.put_dataset(rooms, call, "/".join(descriptor.path), stream, send)
        return
    if descriptor.type != wire.FlightDescriptor.CMD:
        raise InvalidParameter("The descriptor has neither a command nor a path.", hint="Send one of them.")
    command = commands.decode_command(descriptor.cmd)
    route = _route(command)
    meter.command = route.name
    if route.put is None:
        raise UnsupportedFeature(f"{route.name} is not offered by DoPut.", hint=route.hint)
    await route.put(rooms, call, command, stream, send)


async def _plain_put(
    rooms: Rooms, call: Call, command: commands.PlainCommand, stream: ingest.PutStream, send: SendMetadata
) -> None:
    await ingest.put_dataset(rooms, call, command.content.decode("utf-8", "replace"), stream, send)


# ---- the table of commands -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Route:
    """How one command is served; a verb that is None is answered UNIMPLEMENTED with the hint."""

    name: str
    info: Callable[[Rooms, Call, Any, Any, bool], Awaitable[Answer]] | None = None
    rows: Callable[[Rooms, Call, Any, Send, Renew], Awaitable[int]] | None = None
    put: Callable[[Rooms, Call, Any, ingest.PutStream, SendMetadata], Awaitable[None]] | None = None
    hint: str = ""


_GIVE = "Give this ticket to DoGet."
_ASK = "Ask GetFlightInfo for a ticket."
ROUTES: dict[type, Route] = {
    commands.StatementQuery: Route("StatementQuery", info=statements.query_info, hint=_ASK),
    commands.PreparedStatementQuery: Route(
        "PreparedStatementQuery",
        info=statements.prepared_info,
        put=statements.bind_put,
        hint=_ASK,
    ),
    commands.TicketStatementQuery: Route("TicketStatementQuery", rows=statements.query_rows, hint=_GIVE),
    commands.PlainCommand: Route("Plain", info=_plain_info, rows=_plain_rows, put=_plain_put),
    commands.StatementUpdate: Route("StatementUpdate", put=statements.update_put, hint="Send it by DoPut."),
    commands.PreparedStatementUpdate: Route(
        "PreparedStatementUpdate", put=statements.prepared_update_put, hint="Send it by DoPut."
    ),
    commands.StatementIngest: Route("StatementIngest", put=statements.ingest_put, hint="Send rows by DoPut."),
    commands.StatementSubstraitPlan: Route("StatementSubstraitPlan", hint="Send the query as SQL text."),
    **{kind: Route(name, info=_metadata_info, rows=_metadata_rows) for kind, (name, _) in ANSWERS.items()},
}


def _route(command: Any) -> Route:
    return ROUTES[type(command)]


async def list_flights(rooms: Rooms, call: Call) -> list[bytes]:
    """The FlightInfo of each dataset that the caller may read."""
    infos = []
    for name in sorted(rooms.datasets):
        descriptor = wire.FlightDescriptor(type=wire.FlightDescriptor.PATH, path=[name])
        try:
            infos.append((await _dataset_info(rooms, call, name, descriptor)).flight_info())
        except UndefinedTable:
            continue
    return infos


# ---- actions -------------------------------------------------------------------------------------------------------


async def _set_options(rooms: Rooms, call: Call, action: actions.SetSessionOptions) -> list[bytes]:
    options, refused = call.options, {}
    schemas = rooms.metadata(call).catalog.schemas
    for name, value in action.options.items():
        text = None if value is None else str(value)
        try:
            if name == "schema" and text and text not in schemas:
                raise InvalidParameter(f"There is no schema {text[:60]!r}.")
            options = rooms.sessions.changed(options, name, text)
        except KeyError:
            refused[name] = actions.OptionError.INVALID_NAME
        except InvalidParameter:
            refused[name] = actions.OptionError.INVALID_VALUE
    if options != call.options:
        await asyncio.get_running_loop().run_in_executor(rooms.pool, rooms.sessions.save, call, options)
    return [actions.set_session_options_result(refused)]


async def _get_options(rooms: Rooms, call: Call, action: actions.GetSessionOptions) -> list[bytes]:
    return [actions.get_session_options_result(rooms.sessions.shown(call))]


async def _end_work(rooms: Rooms, session_key: str) -> None:
    """Ends what a session that ends has open."""
    rooms.sessions.forget(session_key)
    await rooms.changes.transactions.end_session(session_key)
    await rooms.changes.temporary.end_session(session_key)


async def _close_session(rooms: Rooms, call: Call, action: actions.CloseSession) -> list[bytes]:
    await _end_work(rooms, call.session_key)
    if call.principal.session_id:
        end = rooms.authenticator.end_session
        await asyncio.get_running_loop().run_in_executor(rooms.pool, end, call.principal.session_id)
    return [actions.close_session_result(actions.CloseStatus.CLOSED)]


async def _kill(rooms: Rooms, call: Call, action: actions.Kill) -> list[bytes]:
    call.entry.details.update(kind=action.kind, target=action.id)
    if not rooms.metadata(call).grants.admin:
        raise AccessDenied("You may not end what others do.", hint="Ask for a role that administers the server.")
    if action.kind == "query":
        found = action.id.isdecimal() and rooms.queries.kill(int(action.id[:18]))
    else:
        found = rooms.authenticator.is_live(action.id)
        if found:
            await asyncio.get_running_loop().run_in_executor(rooms.pool, rooms.authenticator.revoke, action.id)
            rooms.watch.look()
            await _end_work(rooms, action.id)
    if not found:
        raise InvalidParameter(f"There is no such {action.kind}.", hint="ops.sessions and ops.queries list them.")
    return []


async def _health_check(rooms: Rooms, call: Call, action: actions.HealthCheck) -> list[bytes]:
    return []


async def _backup(rooms: Rooms, call: Call, action: actions.Backup) -> list[bytes]:
    call.entry.details["target"] = action.name
    if not rooms.metadata(call).grants.admin:
        raise AccessDenied("You may not make backups.", hint="Ask for a role that administers the server.")
    loop = asyncio.get_running_loop()
    size, versions = await loop.run_in_executor(rooms.pool, rooms.backup, action.name)
    call.entry.details["bytes"] = size
    return [actions.backup_result(action.name, size, versions)]


@dataclass(frozen=True, slots=True)
class ActionRoute:
    """How one action is served, what ListActions says of it, and as what the audit trail tells it, if at all."""

    kind: type
    description: str
    act: Callable[[Rooms, Call, Any], Awaitable[list[bytes]]] = field(repr=False)
    event: str = ""


ACTIONS: dict[str, ActionRoute] = {
    "CreatePreparedStatement": ActionRoute(
        actions.CreatePreparedStatement,
        "Plans a statement and gives a handle for it.",
        statements.create_prepared,
    ),
    "ClosePreparedStatement": ActionRoute(
        actions.ClosePreparedStatement, "Forgets a handle.", statements.close_prepared
    ),
    "BeginTransaction": ActionRoute(
        actions.BeginTransaction, "Begins a transaction and gives its id.", statements.begin_transaction, "transaction"
    ),
    "EndTransaction": ActionRoute(
        actions.EndTransaction, "Commits a transaction or rolls it back.", statements.end_transaction, "transaction"
    ),
    "CancelFlightInfo": ActionRoute(
        actions.CancelFlightInfo,
        "Stops what streams for the tickets of a FlightInfo.",
        statements.cancel_flight_info,
        "cancel",
    ),
    "CancelQuery": ActionRoute(
        actions.CancelQuery, "The older form of CancelFlightInfo.", statements.cancel_query, "cancel"
    ),
    "RenewFlightEndpoint": ActionRoute(
        actions.RenewFlightEndpoint, "Gives a ticket of a query that lives longer.", statements.renew_endpoint
    ),
    "HealthCheck": ActionRoute(actions.HealthCheck, "Answers nothing, if the server is well.", _health_check),
    "SetSessionOptions": ActionRoute(
        actions.SetSessionOptions,
        "Sets catalog, schema, dialect, time_zone, wire_profile, compression, statement_timeout_seconds, max_rows or "
        "max_staleness_ms of the session.",
        _set_options,
    ),
    "GetSessionOptions": ActionRoute(actions.GetSessionOptions, "Tells the session's options.", _get_options),
    "CloseSession": ActionRoute(actions.CloseSession, "Ends the session and its token.", _close_session, "logout"),
    "KillSession": ActionRoute(
        actions.Kill, "For administrators: ends the session of the id in its body.", _kill, "kill"
    ),
    "KillQuery": ActionRoute(actions.Kill, "For administrators: stops the statement of that number.", _kill, "kill"),
    "Backup": ActionRoute(
        actions.Backup, "For administrators: copies all data under the name that is its body.", _backup, "backup"
    ),
}


async def act(rooms: Rooms, call: Call, name: str, body: bytes, meter: Meter) -> list[bytes]:
    """The bodies of an action's results."""
    route = ACTIONS.get(name)
    if route is None:
        raise UnsupportedFeature(f"There is no action {name[:60]!r}.", hint=f"There are: {', '.join(sorted(ACTIONS))}.")
    meter.command = name
    if route.event:
        call.entry.happens(route.event)
    return await route.act(rooms, call, actions.decode_action(name, body))
