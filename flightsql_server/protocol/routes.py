"""Which command, ticket or action is answered by what: the ``ROUTES`` and ``ACTIONS`` tables and their handlers.

A SELECT's ticket holds the sealed query; a metadata command is its own ticket; plain Flight tickets name a dataset.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flightsql_server.data.datasets import Dataset
from flightsql_server.errors import AccessDenied, InvalidParameter, UndefinedTable, UnsupportedFeature
from flightsql_server.model import MAIN_SCHEMA, Call, SessionOptions
from flightsql_server.protocol import actions, commands, ingest
from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol.framing import StreamEncoder
from flightsql_server.protocol.interceptors import Meter
from flightsql_server.protocol.metadata import ANSWERS, Question
from flightsql_server.protocol.tickets import QueryTicket
from flightsql_server.service.parameters import NOTHING, Bound, bind, reopen, schema_of
from flightsql_server.service.statements import Prepared, Send

if TYPE_CHECKING:
    from flightsql_server.protocol.service import Rooms

Datasets = Mapping[str, Dataset]
Metadata = Callable[[Call], Question]
SendMetadata = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True)
class Answer:
    """What GetFlightInfo and GetSchema tell: the schema of the rows, and the ticket that fetches them."""

    schema: pa.Schema
    ticket: bytes
    descriptor: wire.FlightDescriptor
    expires: float | None = None
    records: int = -1

    def schema_bytes(self) -> bytes:
        """The schema as an encapsulated IPC message."""
        content: bytes = self.schema.serialize().to_pybytes()
        return content

    def flight_info(self) -> bytes:
        """The serialised FlightInfo, with exactly one endpoint and no location: fetch it where you asked."""
        info = wire.FlightInfo(
            schema=self.schema_bytes(),
            flight_descriptor=self.descriptor,
            total_records=self.records,
            total_bytes=-1,
        )
        endpoint = info.endpoint.add()
        endpoint.ticket.ticket = self.ticket
        if self.expires is not None:
            endpoint.expiration_time.FromMicroseconds(int(self.expires * 1e6))
        return info.SerializeToString()


def make_encoder(schema: pa.Schema, compression: str | None) -> StreamEncoder:
    """The encoder of a result stream, as the statements' room asks for one."""
    return StreamEncoder(schema, compression)


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
    try:
        return await rooms.statements.prepare(plain, f'SELECT {columns} FROM {MAIN_SCHEMA}."{name}"')
    except UndefinedTable:
        raise absent from None  # one that may not be seen is told of in the same words


async def _plain_info(rooms: Rooms, call: Call, command: commands.PlainCommand, descriptor: Any, run: bool) -> Answer:
    return await _dataset_info(rooms, call, command.content.decode("utf-8", "replace"), descriptor)


async def _query_info(rooms: Rooms, call: Call, command: commands.StatementQuery, descriptor: Any, run: bool) -> Answer:
    _no_transaction(command.transaction_id)
    return await _text_info(rooms, call, command.query, descriptor, run)


async def _prepared_info(
    rooms: Rooms, call: Call, command: commands.PreparedStatementQuery, descriptor: Any, run: bool
) -> Answer:
    found = rooms.sessions.prepared_text(call, command.handle)
    return await _text_info(rooms, call, found.text, descriptor, run, found.bound)


async def _text_info(
    rooms: Rooms, call: Call, text: str, descriptor: Any, run: bool, bound: Bound | None = None
) -> Answer:
    # GetSchema may come before the values do; to run a statement all of them must be there.
    types = None if bound is None and not run else (bound or NOTHING).types
    prepared = await rooms.statements.prepare(call, text, types)
    if run:
        await _take_effect(rooms, call, prepared)
    ticket = QueryTicket(text, call.dialect, call.wire_profile, call.options, (bound or NOTHING).content)
    sealed, expires = rooms.seal.seal(call.principal.name, ticket)
    return Answer(prepared.schema, actions.ticket_statement_query(sealed), descriptor, expires)


async def _take_effect(rooms: Rooms, call: Call, prepared: Prepared) -> None:
    """USE changes the session when it is planned for running; its ticket then fetches no rows."""
    schema = prepared.plan.set_schema
    if schema is not None:
        options = call.options.with_(schema=schema)
        await asyncio.get_running_loop().run_in_executor(rooms.pool, rooms.sessions.save, call, options)


def _no_transaction(transaction_id: bytes | None) -> None:
    if transaction_id:
        raise UnsupportedFeature("Transactions are not offered.", hint="Leave the transaction id out: autocommit.")


async def _metadata_info(rooms: Rooms, call: Call, command: Any, descriptor: Any, run: bool) -> Answer:
    batch = ANSWERS[type(command)][1](rooms.metadata(call), command)
    return Answer(batch.schema, descriptor.cmd, descriptor, records=batch.num_rows)


# ---- DoGet ---------------------------------------------------------------------------------------------------------


async def rows(rooms: Rooms, call: Call, ticket: bytes, meter: Meter, send: Send) -> int:
    """Sends what the ticket stands for; gives the number of rows."""
    command = commands.decode_command(ticket)
    route = _route(command)
    meter.command = route.name
    if route.rows is None:
        raise UnsupportedFeature(f"{route.name} can't be fetched.", hint=route.hint)
    return await route.rows(rooms, call, command, send)


async def _query_rows(rooms: Rooms, call: Call, command: commands.TicketStatementQuery, send: Send) -> int:
    ticket = rooms.seal.open(call.principal.name, command.handle)
    planned = Call(
        call.principal, call.session_key, ticket.options, ticket.dialect, ticket.wire_profile, call.compression
    )
    bound = reopen(ticket.parameters)
    prepared = await rooms.statements.prepare(planned, ticket.text, bound.types)
    return await rooms.statements.run(planned, prepared, make_encoder, send, bound)


async def _plain_rows(rooms: Rooms, call: Call, command: commands.PlainCommand, send: Send) -> int:
    prepared = await _prepare_dataset(rooms, call, command.content.decode("utf-8", "replace"))
    return await rooms.statements.run(call, prepared, make_encoder, send)


async def _metadata_rows(rooms: Rooms, call: Call, command: Any, send: Send) -> int:
    batch = ANSWERS[type(command)][1](rooms.metadata(call), command)
    encoder = make_encoder(batch.schema, None)
    await send(encoder.schema_message())
    for message in encoder.encode(batch):
        await send(message)
    return int(batch.num_rows)


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


async def _update_put(
    rooms: Rooms, call: Call, command: commands.StatementUpdate, stream: ingest.PutStream, send: SendMetadata
) -> None:
    _no_transaction(command.transaction_id)
    await _update(rooms, call, command.query, send)


async def _prepared_update_put(
    rooms: Rooms, call: Call, command: commands.PreparedStatementUpdate, stream: ingest.PutStream, send: SendMetadata
) -> None:
    await _update(rooms, call, rooms.sessions.prepared_text(call, command.handle).text, send)


async def _update(rooms: Rooms, call: Call, text: str, send: SendMetadata) -> None:
    prepared = await rooms.statements.prepare(call, text)
    if prepared.plan.set_schema is None:
        raise UnsupportedFeature("The statement yields rows.", hint="Send it as a query.")
    await _take_effect(rooms, call, prepared)
    await send(actions.update_result(0))


async def _bind_put(
    rooms: Rooms, call: Call, command: commands.PreparedStatementQuery, stream: ingest.PutStream, send: SendMetadata
) -> None:
    found = rooms.sessions.prepared_text(call, command.handle)
    rows = [batch async for batch in stream.batches() if batch.num_rows]
    if len(rows) > 1:
        raise UnsupportedFeature("A query takes one row of parameters.", hint="Run it once for each row.")
    found.bound = bind(rows[0]) if rows else NOTHING
    await send(actions.bind_result(command.handle))


# ---- the table of commands -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Route:
    """How one command is served; a verb that is None is answered UNIMPLEMENTED with the hint."""

    name: str
    info: Callable[[Rooms, Call, Any, Any, bool], Awaitable[Answer]] | None = None
    rows: Callable[[Rooms, Call, Any, Send], Awaitable[int]] | None = None
    put: Callable[[Rooms, Call, Any, ingest.PutStream, SendMetadata], Awaitable[None]] | None = None
    hint: str = ""


ROUTES: dict[type, Route] = {
    commands.StatementQuery: Route("StatementQuery", info=_query_info, hint="Ask GetFlightInfo for a ticket."),
    commands.PreparedStatementQuery: Route(
        "PreparedStatementQuery", info=_prepared_info, put=_bind_put, hint="Ask GetFlightInfo for a ticket."
    ),
    commands.TicketStatementQuery: Route("TicketStatementQuery", rows=_query_rows, hint="Give this ticket to DoGet."),
    commands.PlainCommand: Route("Plain", info=_plain_info, rows=_plain_rows, put=_plain_put),
    commands.StatementUpdate: Route("StatementUpdate", put=_update_put, hint="Send it by DoPut."),
    commands.PreparedStatementUpdate: Route(
        "PreparedStatementUpdate", put=_prepared_update_put, hint="Send it by DoPut."
    ),
    commands.StatementIngest: Route("StatementIngest", put=ingest.put_ingest, hint="Send rows by DoPut."),
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


async def _create_prepared(rooms: Rooms, call: Call, action: actions.CreatePreparedStatement) -> list[bytes]:
    _no_transaction(action.transaction_id)
    prepared = await rooms.statements.prepare(call, action.query)
    handle = rooms.sessions.add_prepared(call, action.query)
    is_update = prepared.plan.set_schema is not None
    schema = b"" if is_update else prepared.schema.serialize().to_pybytes()
    parameters = schema_of(prepared.plan.parameters, call.wire_profile).serialize().to_pybytes()
    return [actions.prepared_statement_result(handle, schema, parameters, is_update)]


async def _close_prepared(rooms: Rooms, call: Call, action: actions.ClosePreparedStatement) -> list[bytes]:
    rooms.sessions.close_prepared(call, action.handle)
    return []


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


async def _close_session(rooms: Rooms, call: Call, action: actions.CloseSession) -> list[bytes]:
    rooms.sessions.forget(call.session_key)
    if call.principal.session_id:
        end = rooms.authenticator.end_session
        await asyncio.get_running_loop().run_in_executor(rooms.pool, end, call.principal.session_id)
    return [actions.close_session_result(actions.CloseStatus.CLOSED)]


async def _backup(rooms: Rooms, call: Call, action: actions.Backup) -> list[bytes]:
    if not rooms.metadata(call).grants.admin:
        raise AccessDenied("You may not make backups.", hint="Ask for a role that administers the server.")
    loop = asyncio.get_running_loop()
    size, versions = await loop.run_in_executor(rooms.pool, rooms.backup, action.name)
    return [actions.backup_result(action.name, size, versions)]


@dataclass(frozen=True, slots=True)
class ActionRoute:
    """How one action is served, and what ListActions says of it."""

    kind: type
    description: str
    act: Callable[[Rooms, Call, Any], Awaitable[list[bytes]]] = field(repr=False)


ACTIONS: dict[str, ActionRoute] = {
    "CreatePreparedStatement": ActionRoute(
        actions.CreatePreparedStatement, "Plans a statement and gives a handle to run it by.", _create_prepared
    ),
    "ClosePreparedStatement": ActionRoute(actions.ClosePreparedStatement, "Forgets a handle.", _close_prepared),
    "SetSessionOptions": ActionRoute(
        actions.SetSessionOptions, "Sets catalog, schema, dialect or wire_profile of the session.", _set_options
    ),
    "GetSessionOptions": ActionRoute(actions.GetSessionOptions, "Tells the session's options.", _get_options),
    "CloseSession": ActionRoute(actions.CloseSession, "Ends the session and its token.", _close_session),
    "Backup": ActionRoute(
        actions.Backup, "For administrators: copies all data under the name that is its body.", _backup
    ),
}


async def act(rooms: Rooms, call: Call, name: str, body: bytes, meter: Meter) -> list[bytes]:
    """The bodies of an action's results."""
    route = ACTIONS.get(name)
    if route is None:
        raise UnsupportedFeature(f"There is no action {name[:60]!r}.", hint=f"There are: {', '.join(sorted(ACTIONS))}.")
    meter.command = name
    return await route.act(rooms, call, actions.decode_action(name, body))
