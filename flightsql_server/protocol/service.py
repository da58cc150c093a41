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
from google.protobuf.message import DecodeError

from flightsql_server.data.ingest import Writer
from flightsql_server.errors import InvalidParameter, ServerShuttingDown, UnsupportedFeature
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call
from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol import interceptors, routes
from flightsql_server.protocol.interceptors import SERVICE, Context, Meter
from flightsql_server.protocol.tickets import TicketSeal
from flightsql_server.service.changes import Changes
from flightsql_server.service.running import Queries
from flightsql_server.service.session import Sessions
from flightsql_server.service.statements import Statements

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
    writer: Writer
    datasets: routes.Datasets
    metadata: routes.Metadata
    seal: TicketSeal
    metrics: Metrics
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
        metrics = self.rooms.metrics

        async def handler(request: Any, context: Context) -> bytes | None:
            meter = Meter(metrics, method, kind)
            task = asyncio.current_task()
            assert task is not None
            self.running.add(task)
            code = "OK"
            try:
                if self._stopping:
                    raise ServerShuttingDown("The server is stopping.", hint="Connect again in a moment.")
                response = await serve(request, context, meter)
                if response is not None:
                    meter.gave(response)
                return response
            except asyncio.CancelledError:
                remaining = context.time_remaining()
                passed = remaining is not None and remaining < _DEADLINE_SLACK_SECONDS
                code = "DEADLINE_EXCEEDED" if passed else "CANCELLED"
                raise
            except Exception as error:
                if isinstance(error, AuthError) and method != "Handshake":
                    metrics.refused_calls.labels(error.outcome).inc()
                told = interceptors.as_server_error(error, metrics)
                code = told.status
                await interceptors.abort(context, told)
                return None
            finally:
                self.running.discard(task)
                meter.finish(code)

        return handler

    async def _call(self, context: Context) -> Call:
        headers = interceptors.headers_of(context)
        peer = context.peer()
        principal = await interceptors.identify(self.rooms.authenticator, self.rooms.door, headers, peer)
        return self.rooms.sessions.call(principal, headers, peer)

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
        try:
            found = await loop.run_in_executor(
                self.rooms.door, login, authorization, payload, context.peer(), headers.get("user-agent", "")
            )
            outcome = "ok"
        except AuthError as error:
            outcome = error.outcome
            raise
        finally:
            self.rooms.metrics.logins.labels(outcome).inc()
        headers_out = (("authorization", f"Bearer {found.token}"),)
        await interceptors.deliver(context.send_initial_metadata(headers_out))
        await self._send(context, meter, wire.HandshakeResponse(payload=found.token.encode()).SerializeToString())

    async def list_flights(self, request: bytes, context: Context, meter: Meter) -> None:
        """ListFlights: the datasets that the caller may read."""
        meter.took(request)
        call = await self._call(context)
        for info in await routes.list_flights(self.rooms, call):
            await self._send(context, meter, info)

    async def get_flight_info(self, request: bytes, context: Context, meter: Meter) -> bytes:
        """GetFlightInfo: the plan of what the descriptor names, and one endpoint to fetch it from."""
        meter.took(request)
        call = await self._call(context)
        answer = await routes.info(self.rooms, call, _parsed(wire.FlightDescriptor, request), meter)
        return answer.flight_info()

    async def get_schema(self, request: bytes, context: Context, meter: Meter) -> bytes:
        """GetSchema: the schema that GetFlightInfo would tell; runs nothing."""
        meter.took(request)
        call = await self._call(context)
        answer = await routes.info(self.rooms, call, _parsed(wire.FlightDescriptor, request), meter, run=False)
        return wire.SchemaResult(schema=answer.schema_bytes()).SerializeToString()

    async def poll_flight_info(self, request: bytes, context: Context, meter: Meter) -> bytes:
        """PollFlightInfo: complete at the first call, since a query runs at DoGet. A change is never run by it."""
        meter.took(request)
        call = await self._call(context)
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
        call = await self._call(context)

        async def send(message: bytes) -> None:
            meter.gave(message)
            await interceptors.deliver(context.write(message))

        ticket = _parsed(wire.Ticket, request).ticket
        with self.rooms.sessions.busy(call):
            meter.rows = await routes.rows(self.rooms, call, ticket, meter, send)

    async def do_put(self, requests: AsyncIterator[bytes], context: Context, meter: Meter) -> None:
        """DoPut: rows or parameters of the client's."""
        call = await self._call(context)

        async def receive() -> AsyncIterator[bytes]:
            async for message in requests:
                meter.took(message)
                yield message

        async def send(metadata: bytes) -> None:
            await self._send(context, meter, wire.PutResult(app_metadata=metadata).SerializeToString())

        with self.rooms.sessions.busy(call):
            await routes.put(self.rooms, call, receive(), meter, send)

    async def do_exchange(self, requests: AsyncIterator[bytes], context: Context, meter: Meter) -> None:
        """DoExchange: not offered."""
        await self._call(context)
        raise UnsupportedFeature("DoExchange is not offered.", hint="DoGet reads, DoPut writes.")

    async def do_action(self, request: bytes, context: Context, meter: Meter) -> None:
        """DoAction: the action of ``routes.ACTIONS`` that the request names."""
        meter.took(request)
        call = await self._call(context)
        action = _parsed(wire.Action, request)
        for body in await routes.act(self.rooms, call, action.type, action.body, meter):
            await self._send(context, meter, wire.Result(body=body).SerializeToString())

    async def list_actions(self, request: bytes, context: Context, meter: Meter) -> None:
        """ListActions: the actions of ``routes.ACTIONS``."""
        meter.took(request)
        await self._call(context)
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
