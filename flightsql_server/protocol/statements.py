"""SQL statements on the wire: planned and fetched, prepared and bound, changed and counted, in transactions or alone.

A SELECT outside of transactions is planned at GetFlightInfo and runs at DoGet; its ticket holds all it takes. All else
runs once, when GetFlightInfo or DoPut asks for it, and its ticket names a result that waits.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flightsql_server.data.deltas import with_extra
from flightsql_server.errors import LimitReached, UnsupportedFeature
from flightsql_server.model import Call
from flightsql_server.protocol import actions, commands, exchange, ingest
from flightsql_server.protocol.answers import Answer, make_encoder, send_batches
from flightsql_server.protocol.tickets import QueryTicket
from flightsql_server.service.parameters import NOTHING, Bound, bind_each, reopen, schema_of
from flightsql_server.service.plans import Prepared
from flightsql_server.service.readers import Terms
from flightsql_server.service.statements import Send
from flightsql_server.service.subscriptions import Renew
from flightsql_server.service.transactions import Open

if TYPE_CHECKING:
    from flightsql_server.protocol.service import Rooms

SendMetadata = Callable[[bytes], Awaitable[None]]


def name_of(transaction_id: bytes) -> str:
    """A short name of a transaction for the audit trail; the id itself is its owner's alone."""
    return hashlib.sha256(transaction_id).hexdigest()[:12]


# ---- GetFlightInfo and DoGet


async def query_info(rooms: Rooms, call: Call, command: commands.StatementQuery, descriptor: Any, run: bool) -> Answer:
    """CommandStatementQuery."""
    one = rooms.changes.transactions.find(call, command.transaction_id)
    return await _info(rooms, call, command.query, (NOTHING,), one, descriptor, run)


async def prepared_info(
    rooms: Rooms, call: Call, command: commands.PreparedStatementQuery, descriptor: Any, run: bool
) -> Answer:
    """CommandPreparedStatementQuery, with the values that were bound last."""
    found = rooms.sessions.prepared_text(call, command.handle)
    one = rooms.changes.transactions.of_prepared(call, found.transaction_id)
    # GetSchema may come before the values do; to run a statement all of them must be there.
    rows = found.rows if found.rows is not None else (NOTHING,) if run else None
    return await _info(rooms, call, found.text, rows, one, descriptor, run)


async def _info(
    rooms: Rooms,
    call: Call,
    text: str,
    rows: Sequence[Bound] | None,
    one: Open | None,
    descriptor: Any,
    run: bool,
) -> Answer:
    prepared = await _prepare(rooms, call, text, rows, one)
    plan = prepared.plan
    if plan.subscribed:
        prepared = replace(prepared, schema=with_extra(prepared.schema))
    if not run:
        at_once = bool(plan.effect) or plan.set_schema is not None or one is not None
        return Answer(prepared.schema, b"", descriptor, runs_at_once=at_once)
    rows = rows or (NOTHING,)
    if plan.subscribed and one is not None:
        raise UnsupportedFeature("A subscription can't be part of a transaction.", hint="Send it outside of one.")
    call.entry.parameter_rows = len(rows)
    if plan.set_schema is not None:
        await _use(rooms, call, plan.set_schema)
    elif plan.effect or one is not None:
        if not plan.effect and len(rows) != 1:
            raise _one_row()
        with rooms.queries.noted(call, text, grants=prepared.grants):
            count, result = await rooms.changes.run(call, prepared, rows, one)
        shown = prepared.grants if plan.gives_rows else None
        handle, expires = rooms.changes.results.keep(call.principal.name, result, shown)
        # Of a change the count is told here as well: drivers show it as the number of rows changed.
        records = call.entry.rows = count if plan.effect else result.table.num_rows
        return Answer(result.table.schema, actions.ticket_statement_query(handle), descriptor, expires, records)
    if len(rows) != 1:
        raise _one_row()
    ticket = QueryTicket(text, call.dialect, call.wire_profile, call.options, rows[0].content)
    sealed, expires = rooms.seal.seal(call.principal.name, ticket)
    return Answer(prepared.schema, actions.ticket_statement_query(sealed), descriptor, expires)


async def _prepare(rooms: Rooms, call: Call, text: str, rows: Sequence[Bound] | None, one: Open | None) -> Prepared:
    types = rows[0].types if rows else None
    if one is not None:
        call.entry.details["transaction"] = name_of(one.id)
    return await rooms.changes.prepare(call, text, types, one)


def _one_row() -> UnsupportedFeature:
    return UnsupportedFeature("A query takes one row of parameters.", hint="Run it once for each row.")


async def query_rows(rooms: Rooms, call: Call, command: commands.TicketStatementQuery, send: Send, renew: Renew) -> int:
    """TicketStatementQuery: runs the query of a sealed ticket, or sends the result that waits."""
    if rooms.changes.results.is_handle(command.handle):
        call.entry.happens("fetch")
        result, grants = rooms.changes.results.find(call.principal.name, command.handle)
        with rooms.queries.noted(call, "DoGet of a result that waited", command.handle, grants):
            batches = result.table.to_batches()
            return await send_batches(result.table.schema, batches, call.compression, send, rooms.pool)
    ticket = rooms.seal.open(call.principal.name, command.handle)
    planned = Call(
        call.principal,
        call.session_key,
        ticket.options,
        ticket.dialect,
        ticket.wire_profile,
        call.compression,
        entry=call.entry,
    )
    bound = reopen(ticket.parameters)
    call.entry.parameter_rows = 1
    prepared = await rooms.statements.prepare(planned, ticket.text, bound.types)
    if prepared.plan.effect:
        raise UnsupportedFeature("The ticket is of another kind.", hint="Ask for the statement again.")
    # A subscription follows a changed policy, where a query under it is ended.
    grants = None if prepared.plan.subscribed else prepared.grants
    if prepared.plan.subscribed:
        call.entry.happens("subscription")
    with rooms.queries.noted(call, ticket.text, command.handle, grants):
        if prepared.plan.subscribed:
            return await exchange.subscribe(rooms, planned, Terms(ticket.text), send, renew)
        return await rooms.statements.run(planned, prepared, make_encoder, send, bound)


async def _use(rooms: Rooms, call: Call, schema: str) -> None:
    """USE changes the session when it is planned for running; its ticket then fetches no rows."""
    call.entry.happens("statement")
    options = call.options.with_(schema=schema)
    await asyncio.get_running_loop().run_in_executor(rooms.pool, rooms.sessions.save, call, options)


# ---- DoPut


async def update_put(
    rooms: Rooms, call: Call, command: commands.StatementUpdate, stream: ingest.PutStream, send: SendMetadata
) -> None:
    """CommandStatementUpdate: runs the text and answers with its count."""
    one = rooms.changes.transactions.find(call, command.transaction_id)
    await _update(rooms, call, command.query, (NOTHING,), one, send)


async def prepared_update_put(
    rooms: Rooms, call: Call, command: commands.PreparedStatementUpdate, stream: ingest.PutStream, send: SendMetadata
) -> None:
    """CommandPreparedStatementUpdate: runs it once for each row of the stream; all of them or none; one count."""
    found = rooms.sessions.prepared_text(call, command.handle)
    rows = await _bound_rows(rooms, stream) or found.rows or (NOTHING,)
    one = rooms.changes.transactions.of_prepared(call, found.transaction_id)
    await _update(rooms, call, found.text, rows, one, send)


async def _update(
    rooms: Rooms, call: Call, text: str, rows: Sequence[Bound], one: Open | None, send: SendMetadata
) -> None:
    prepared = await _prepare(rooms, call, text, rows, one)
    call.entry.parameter_rows = len(rows)
    if prepared.plan.set_schema is not None:
        await _use(rooms, call, prepared.plan.set_schema)
        count = 0
    elif not prepared.plan.effect or prepared.plan.is_explained:
        raise UnsupportedFeature("The statement yields rows.", hint="Send it as a query.")
    else:
        with rooms.queries.noted(call, text, grants=prepared.grants):
            count, _ = await rooms.changes.run(call, prepared, rows, one)
    call.entry.rows = count
    await send(actions.update_result(count))


async def bind_put(
    rooms: Rooms, call: Call, command: commands.PreparedStatementQuery, stream: ingest.PutStream, send: SendMetadata
) -> None:
    """CommandPreparedStatementQuery by DoPut: keeps the values for the next GetFlightInfo."""
    found = rooms.sessions.prepared_text(call, command.handle)
    found.rows = await _bound_rows(rooms, stream) or (NOTHING,)
    await send(actions.bind_result(command.handle))


async def _bound_rows(rooms: Rooms, stream: ingest.PutStream) -> tuple[Bound, ...]:
    """The values of each row that the stream sends; a batch without columns binds nothing."""
    rows: list[Bound] = []
    loop = asyncio.get_running_loop()
    async for batch in stream.batches():
        if not batch.num_columns:
            continue
        if len(rows) + batch.num_rows > rooms.parameter_rows:
            rooms.metrics.limit("sql.parameter_rows")
            raise LimitReached(
                f"More than {rooms.parameter_rows} rows of parameters came.", hint="Send them as a table: bulk ingest."
            )
        rows += await loop.run_in_executor(rooms.pool, bind_each, batch, rows[0] if rows else None)
    return tuple(rows)


async def ingest_put(
    rooms: Rooms, call: Call, command: commands.StatementIngest, stream: ingest.PutStream, send: SendMetadata
) -> None:
    """CommandStatementIngest: into a live dataset through the writer, else into a table of the user's own."""
    if command.table in rooms.datasets and command.schema in (None, "", "main"):
        await ingest.put_ingest(rooms, call, command, stream, send)
    else:
        await ingest.put_table(rooms, call, command, stream, send)


# ---- actions


async def create_prepared(rooms: Rooms, call: Call, action: actions.CreatePreparedStatement) -> list[bytes]:
    """CreatePreparedStatement: plans it, tells what it takes and gives; a change without RETURNING gives nothing."""
    one = rooms.changes.transactions.find(call, action.transaction_id)
    prepared = await _prepare(rooms, call, action.query, None, one)
    handle = rooms.sessions.add_prepared(call, action.query, action.transaction_id)
    plan = prepared.plan
    is_update = not plan.gives_rows
    schema = b"" if is_update else prepared.schema.serialize().to_pybytes()
    parameters = schema_of(plan.parameters, call.wire_profile).serialize().to_pybytes()
    return [actions.prepared_statement_result(handle, schema, parameters, is_update)]


async def close_prepared(rooms: Rooms, call: Call, action: actions.ClosePreparedStatement) -> list[bytes]:
    """ClosePreparedStatement."""
    rooms.sessions.close_prepared(call, action.handle)
    return []


def _handle(ticket: bytes) -> bytes:
    command = commands.decode_command(ticket)
    return command.handle if isinstance(command, commands.TicketStatementQuery) else b""


def _cancel(rooms: Rooms, call: Call, tickets: Sequence[bytes]) -> actions.CancelStatus:
    stopped = [rooms.queries.cancel(call, _handle(ticket)) for ticket in tickets]
    call.entry.details["stopped"] = sum(stopped)
    return actions.CancelStatus.CANCELLED if any(stopped) else actions.CancelStatus.NOT_CANCELLABLE


async def cancel_flight_info(rooms: Rooms, call: Call, action: actions.CancelFlightInfo) -> list[bytes]:
    """CancelFlightInfo: stops what streams for these tickets, and nothing else of the session."""
    return [actions.cancel_result(_cancel(rooms, call, action.tickets))]


async def cancel_query(rooms: Rooms, call: Call, action: actions.CancelQuery) -> list[bytes]:
    """CancelQuery, the older form."""
    return [actions.cancel_query_result(_cancel(rooms, call, action.tickets))]


async def renew_endpoint(rooms: Rooms, call: Call, action: actions.RenewFlightEndpoint) -> list[bytes]:
    """RenewFlightEndpoint: a ticket for the same query that lives on; a result that waits can't be renewed."""
    handle = _handle(action.ticket)
    if not handle or rooms.changes.results.is_handle(handle):
        raise UnsupportedFeature("This endpoint can't be renewed.", hint="Fetch it, or ask for the statement again.")
    sealed, expires = rooms.seal.seal(call.principal.name, rooms.seal.open(call.principal.name, handle))
    return [actions.renewed_endpoint(actions.ticket_statement_query(sealed), expires)]


async def begin_transaction(rooms: Rooms, call: Call, action: actions.BeginTransaction) -> list[bytes]:
    """BeginTransaction: an id that rides in the commands of the transaction."""
    one = await rooms.changes.transactions.begin(call)
    call.entry.details.update(what="begin", transaction=name_of(one.id))
    return [actions.begin_transaction_result(one.id)]


async def end_transaction(rooms: Rooms, call: Call, action: actions.EndTransaction) -> list[bytes]:
    """EndTransaction: commit or rollback by id."""
    what = "commit" if action.commit else "rollback"
    call.entry.details.update(what=what, transaction=name_of(action.transaction_id))
    one = rooms.changes.transactions.find(call, action.transaction_id or b"?")
    assert one is not None, "an id is found or refused"
    await rooms.changes.end(call, one, commit=action.commit)
    return []
