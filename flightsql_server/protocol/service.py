"""The Flight service: ten RPCs, each one line of ``METHODS``; what they carry is looked up in ``routes.ROUTES``.

Requests and responses are bytes here, so that rows are not copied through generated classes. Whatever a handler
raises becomes a status in ``_guarded`` and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from flightsql_auth.authenticator import Authenticator
from flightsql_auth.errors import AuthError
from flightsql_auth.principals import Principal
from google.protobuf.message import DecodeError

from flightsql_server.audit import AuditTrail, Outcome, time_text
from flightsql_server.data.ingest import Writer
from flightsql_server.errors import InternalError, InvalidParameter, ServerShuttingDown, UnsupportedFeature
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call, Entry
from flightsql_server.protocol import exchange, interceptors, routes
from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol.interceptors import SERVICE, Context, Meter
from flightsql_server.protocol.tickets import TicketSeal
from flightsql_server.protocol.watch import Watch
from flightsql_server.service.changes import Changes
from flightsql_server.service.running import Queries
from flightsql_server.service.session import Sessions
from flightsql_server.service.statements import Statements
from flightsql_server.service.subscriptions import Subscriptions

Serve = Callable[[Any, Context, Meter], Awaitable[bytes | None]]

# A client's clock runs out a little before the server's, and what arrives then is its cancellation.
_DEADLINE_SLACK_SECONDS = 0.1


@dataclass(frozen=True)
class Rooms:
    """What the service hands on to: built by the composition root, which also closes them."""

    authenticator: Authenticator
    sessions: Sessions
    statements: Statements
    changes: Changes
    queries: Queries
    subscriptions: Subscriptions
    writer: Writer
    datasets: routes.Datasets
    metadata: routes.Metadata
    seal: TicketSeal
    watch: Watch
    metrics: Metrics
    audit: AuditTrail
    pool: ThreadPoolExecutor
    door: ThreadPoolExecutor
    """Threads for passwords and tokens alone: guessing passwords must not hold up the statements of others."""
    backup: Callable[[str], tuple[int, Mapping[str, int]]]
    """Makes the backup of that name; gives its size and what is sure to be in it. Blocks."""
    handshake_seconds: float = 10.0
    parameter_rows: int = 100_000


class FlightService:
    """The handlers for ``grpc.aio``; ``handlers`` goes to ``add_generic_rpc_handlers``.

    After ``refuse_new_calls`` every call but those running is answered UNAVAILABLE.
    """

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self.running: set[asyncio.Task[Any]] = set()
        self.watch = rooms.watch
        self._stopping = False

    def refuse_new_calls(self) -> None:
        """From now on new calls are answered UNAVAILABLE."""
        self._stopping = True

    def handlers(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        """The generic handler that knows every method of ``METHODS``."""
        make = {
            "unary": grpc.unary_unary_rpc_method_handler,
            "server_stream": grpc.unary_stream_rpc_method_handler,
            "bidi_stream": grpc.stream_stream_rpc_method_handler,
        }
        methods = {
            name: make[kind](self._guarded(name, kind, getattr(self, attribute)))
            for name, (kind, attribute) in METHODS.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _guarded(self, method: str, kind: str, serve: Serve) -> Any:
        """The handler with everything around it: counting, errors, refusal while the server stops."""
        metrics, audit = self.rooms.metrics, self.rooms.audit

        async def handler(request: Any, context: Context) -> bytes | None:
            entry = Entry(method, context.peer(), audit.reserve)
            meter = Meter(metrics, method, kind, entry)
            task = asyncio.current_task()
            assert task is not None
            self.running.add(task)
            code, sqlstate, incident = "OK", "", ""
            try:
                if self._stopping:
                    raise ServerShuttingDown("The server is stopping.", hint="Connect again in a moment.")
                response = await serve(request, context, meter)
                if response is not None:
                    meter.gave(response)
                return response
            except asyncio.CancelledError:
                refused = self.watch.refusal(task)
                if refused is not None:
                    task.uncancel()
                    told = interceptors.as_server_error(refused, metrics)
                    code = told.status
                    await interceptors.abort(context, told)
                    return None
                remaining = context.time_remaining()
                passed = remaining is not None and remaining < _DEADLINE_SLACK_SECONDS
                code = "DEADLINE_EXCEEDED" if passed else "CANCELLED"
                raise
            except Exception as error:
                if isinstance(error, AuthError):
                    self._refused(entry, context, error)
                    if method != "Handshake":
                        metrics.refused_calls.labels(error.outcome).inc()
                told = interceptors.as_server_error(error, metrics)
                code, sqlstate = told.status, told.sqlstate
                incident = told.incident if isinstance(told, InternalError) else ""
                await interceptors.abort(context, told)
                return None
            finally:
                self.running.discard(task)
                self.watch.forget(task)
                seconds = meter.finish(code)
                entry.command = method if meter.command == "none" else f"{method} {meter.command}"
                audit.end(entry, Outcome(code, sqlstate, incident, seconds, *meter.totals))

        return handler

    def _refused(self, entry: Entry, context: Context, error: AuthError) -> None:
        """The call's line is one of a login that was refused, and says why: more than the client is told."""
        entry.event, entry.reason = "login", error.outcome
        if entry.principal is None and not entry.user:
            authorization = interceptors.headers_of(context).get("authorization")
            entry.user = self.rooms.authenticator.claimed_user(authorization)

    async def _call(self, context: Context, meter: Meter, *, watched: bool = True) -> Call:
        """Who calls, in which session. ``watched``: the call ends when its credential no longer counts."""
        headers = interceptors.headers_of(context)
        peer, entry = context.peer(), meter.entry

        def on_login(principal: Principal) -> None:
            self.rooms.audit.note("login", principal, peer, command=entry.command, outcome="OK")

        principal = entry.principal = await self._who(context, on_login)
        task = asyncio.current_task()
        if watched and task is not None:
            self.watch.add(task, principal)
        return self.rooms.sessions.call(principal, headers, peer, entry)

    async def _who(self, context: Context, on_login: Callable[[Principal], None] = lambda principal: None) -> Principal:
        """Who is calling; asked again while the call runs. Raises the login door's AuthError."""
        headers = interceptors.headers_of(context)
        certificate = interceptors.certificate_of(context, headers)
        return await interceptors.identify(
            self.rooms.authenticator, self.rooms.door, headers, context.peer(), certificate, on_login
        )

    async def handshake(self, requests: AsyncIterator[bytes], context: Context, meter: Meter) -> None:
        """Handshake: a credential in, a token out, in the response's headers and in one message.

        A caller with an authorization header may send no message at all, so only one without is waited for.
        """
        headers = interceptors.headers_of(context)
        authorization, payload = headers.get("authorization"), b""
        if authorization is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.rooms.handshake_seconds):
                    async for message in requests:
                        meter.took(message)
                        payload = _parsed(wire.HandshakeRequest, message).payload
                        break
        login = self.rooms.authenticator.login
        loop = asyncio.get_running_loop()
        outcome = "failed"
        meter.entry.happens("login")
        try:
            agent, certificate = headers.get("user-agent", ""), interceptors.certificate_of(context, headers)
            found = await loop.run_in_executor(
                self.rooms.door, login, authorization, payload, context.peer(), agent, certificate
            )
            outcome = "ok"
            meter.entry.principal = found.principal
            meter.entry.details["expires"] = time_text(found.principal.expires_at or 0)
        except AuthError as error:
            outcome = error.outcome
            meter.entry.user = self.rooms.authenticator.claimed_user(authorization, payload)
            raise
        finally:
            self.rooms.metrics.logins.labels(outcome).inc()
        headers_out = (("authorization", f"Bearer {found.token}"),)
        await interceptors.deliver(context.send_initial_metadata(headers_out))
        await self._send(context, meter, wire.HandshakeResponse(payload=found.token.encode()).SerializeToString())

    async def list_flights(self, request: bytes, context: Context, meter: Meter) -> None:
        """ListFlights: the datasets that the caller may read."""
        meter.took(request)
        call = await self._call(context, meter)
        for info in await routes.list_flights(self.rooms, call):
            await self._send(context, meter, info)

    async def get_flight_info(self, request: bytes, context: Context, meter: Meter) -> bytes:
        """GetFlightInfo: the plan of what the descriptor names, and one endpoint to fetch it from."""
        meter.took(request)
        call = await self._call(context, meter)
        answer = await routes.info(self.rooms, call, _parsed(wire.FlightDescriptor, request), meter)
        return answer.flight_info()

    async def get_schema(self, request: bytes, context: Context, meter: Meter) -> bytes:
        """GetSchema: the schema that GetFlightInfo would tell; runs nothing."""
        meter.took(request)
        call = await self._call(context, meter)
        answer = await routes.info(self.rooms, call, _parsed(wire.FlightDescriptor, request), meter, run=False)
        return wire.SchemaResult(schema=answer.schema_bytes()).SerializeToString()

    async def poll_flight_info(self, request: bytes, context: Context, meter: Meter) -> bytes:
        """PollFlightInfo: complete at the first call, since a query runs at DoGet. A change is never run by it."""
        meter.took(request)
        call = await self._call(context, meter)
        descriptor = _parsed(wire.FlightDescriptor, request)
        asked = await routes.info(self.rooms, call, descriptor, meter, run=False)
        if asked.runs_at_once:
            raise UnsupportedFeature("This statement runs at once.", hint="Send it by GetFlightInfo or DoPut.")
        answer = await routes.info(self.rooms, call, descriptor, meter)
        info = wire.FlightInfo.FromString(answer.flight_info())
        return wire.PollInfo(info=info, progress=1.0).SerializeToString()

    async def do_get(self, request: bytes, context: Context, meter: Meter) -> None:
        """DoGet: the rows behind a ticket."""
        meter.took(request)
        call = await self._call(context, meter)

        async def send(message: bytes) -> None:
            meter.gave(message)
            await interceptors.deliver(context.write(message))

        ticket = _parsed(wire.Ticket, request).ticket
        with self.rooms.sessions.busy(call):
            meter.rows = meter.entry.rows = await routes.rows(
                self.rooms, call, ticket, meter, send, lambda: self._who(context)
            )

    async def do_put(self, requests: AsyncIterator[bytes], context: Context, meter: Meter) -> None:
        """DoPut: rows or parameters of the client's."""
        call = await self._call(context, meter)

        async def receive() -> AsyncIterator[bytes]:
            async for message in requests:
                meter.took(message)
                yield message

        async def send(metadata: bytes) -> None:
            await self._send(context, meter, wire.PutResult(app_metadata=metadata).SerializeToString())

        with self.rooms.sessions.busy(call):
            await routes.put(self.rooms, call, receive(), meter, send)

    async def do_exchange(self, requests: AsyncIterator[bytes], context: Context, meter: Meter) -> None:
        """DoExchange: a subscription that takes wishes, rows to publish, or both."""
        call = await self._call(context, meter)
        meter.command = "Exchange"

        async def receive() -> AsyncIterator[bytes]:
            async for message in requests:
                meter.took(message)
                yield message

        async def send(message: bytes) -> None:
            meter.gave(message)
            await interceptors.deliver(context.write(message))

        with self.rooms.sessions.busy(call):
            meter.rows = meter.entry.rows = await exchange.exchange(
                self.rooms, call, receive(), send, lambda: self._who(context)
            )

    async def do_action(self, request: bytes, context: Context, meter: Meter) -> None:
        """DoAction: the action of ``routes.ACTIONS`` that the request names."""
        meter.took(request)
        # Short, and some of them end the session that they are called in, or commit: they come to their end.
        call = await self._call(context, meter, watched=False)
        action = _parsed(wire.Action, request)
        for body in await routes.act(self.rooms, call, action.type, action.body, meter):
            await self._send(context, meter, wire.Result(body=body).SerializeToString())

    async def list_actions(self, request: bytes, context: Context, meter: Meter) -> None:
        """ListActions: the actions of ``routes.ACTIONS``."""
        meter.took(request)
        await self._call(context, meter)
        for name, route in routes.ACTIONS.items():
            message = wire.ActionType(type=name, description=route.description)
            await self._send(context, meter, message.SerializeToString())

    async def _send(self, context: Context, meter: Meter, message: bytes) -> None:
        meter.gave(message)
        await interceptors.deliver(context.write(message))


METHODS: dict[str, tuple[str, str]] = {
    "Handshake": ("bidi_stream", "handshake"),
    "ListFlights": ("server_stream", "list_flights"),
    "GetFlightInfo": ("unary", "get_flight_info"),
    "PollFlightInfo": ("unary", "poll_flight_info"),
    "GetSchema": ("unary", "get_schema"),
    "DoGet": ("server_stream", "do_get"),
    "DoPut": ("bidi_stream", "do_put"),
    "DoExchange": ("bidi_stream", "do_exchange"),
    "DoAction": ("server_stream", "do_action"),
    "ListActions": ("server_stream", "list_actions"),
}
"""Every RPC of the service: its kind, as ``grpc_type`` labels it, and the method above that serves it."""


def _parsed(kind: Any, message: bytes) -> Any:
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise InvalidParameter(
            f"The message is not a {kind.DESCRIPTOR.name}.", hint="Send the messages of Flight.proto."
        ) from error
