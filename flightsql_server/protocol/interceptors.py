"""What surrounds every RPC: who is calling, how long it took, how many bytes; and how an error leaves.

These are plain functions around our own handlers: grpc's interceptors would see messages, but not the command in them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
from flightsql_auth.authenticator import Authenticator
from flightsql_auth.errors import AuthError, BadCredentials, ProviderUnavailable, StoreFull, TooBusy, TooManySessions
from flightsql_auth.principals import Principal

from flightsql_server import errors
from flightsql_server.metrics import Metrics
from flightsql_server.model import Entry

log = logging.getLogger(__name__)

SERVICE = "arrow.flight.protocol.FlightService"
FRAME_BYTES = 5  # gRPC's length prefix of each message
_TELL_SECONDS = 1.0

Context = Any  # grpc.aio's ServicerContext is generic in ways that its stubs and its runtime see differently


class Meter:
    """Counts one RPC: made when it starts, ``finish`` when it ends. ``command`` is set once the message tells it.

    A stream may last for days, so what it moved is told to the metrics each second, not only at its end.
    """

    __slots__ = (
        "_kind",
        "_method",
        "_metrics",
        "_started",
        "_told",
        "command",
        "entry",
        "received",
        "rows",
        "sent",
        "sizes",
        "totals",
    )

    def __init__(self, metrics: Metrics, method: str, kind: str, entry: Entry) -> None:
        self._metrics = metrics
        self._method = method
        self._kind = kind
        self._started = self._told = time.perf_counter()
        self.command = "none"
        self.received = self.sent = self.rows = 0
        self.sizes = [0, 0]
        self.totals = [0, 0]
        self.entry = entry
        _children(metrics, method, kind)["started"].inc()
        _children(metrics, method, kind)["in_flight"].inc()

    def took(self, message: bytes) -> None:
        """One message came in."""
        self.received += 1
        self.sizes[0] += len(message) + FRAME_BYTES
        if time.perf_counter() - self._told > _TELL_SECONDS:
            self._tell()

    def gave(self, message: bytes) -> None:
        """One message went out."""
        self.sent += 1
        self.sizes[1] += len(message) + FRAME_BYTES
        if time.perf_counter() - self._told > _TELL_SECONDS:
            self._tell()

    def finish(self, code: str) -> float:
        """The RPC has ended with that status name; gives the seconds that it took."""
        seconds = time.perf_counter() - self._started
        metrics, command = self._metrics, (self._method, self.command)
        stock = _children(metrics, self._method, self._kind)
        ours = self._count(stock)
        stock["in_flight"].dec()
        stock["seconds"].observe(seconds)
        ours["seconds"].observe(seconds)
        ended = _cached(
            metrics, (*command, self._kind, code), lambda: _code_children(metrics, command, self._kind, code)
        )
        ended["handled"].inc()
        ended["calls"].inc()
        return seconds

    def _tell(self) -> None:
        if self.command == "none":
            return  # the first message is still being read
        self._count(_children(self._metrics, self._method, self._kind))
        self.received = self.sent = self.rows = 0
        self.sizes = [0, 0]
        self._told = time.perf_counter()

    def _count(self, stock: dict[str, Any]) -> dict[str, Any]:
        """Counts what has not been counted yet."""
        metrics, command = self._metrics, (self._method, self.command)
        ours = _cached(metrics, command, lambda: _command_children(metrics, command))
        if self.received:
            stock["received"].inc(self.received)
            ours["received"].inc(self.sizes[0])
        if self.sent:
            stock["sent"].inc(self.sent)
            ours["sent"].inc(self.sizes[1])
        self.totals[0] += self.sizes[0]
        self.totals[1] += self.sizes[1]
        if self.rows:
            ours["rows"].inc(self.rows)
        return ours


def _cached(metrics: Metrics, key: object, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    found = metrics.children.get(key)
    if found is None:
        found = metrics.children[key] = make()
    return found


def _children(metrics: Metrics, method: str, kind: str) -> dict[str, Any]:
    return _cached(metrics, method, lambda: _method_children(metrics, method, kind))


def _method_children(metrics: Metrics, method: str, kind: str) -> dict[str, Any]:
    labels = (kind, SERVICE, method)
    return {
        "started": metrics.grpc_started.labels(*labels),
        "in_flight": metrics.calls_in_flight.labels(method),
        "seconds": metrics.grpc_seconds.labels(*labels),
        "received": metrics.grpc_received.labels(*labels),
        "sent": metrics.grpc_sent.labels(*labels),
    }


def _command_children(metrics: Metrics, command: tuple[str, str]) -> dict[str, Any]:
    return {
        "seconds": metrics.call_seconds.labels(*command),
        "received": metrics.received_bytes.labels(*command),
        "sent": metrics.sent_bytes.labels(*command),
        "rows": metrics.sent_rows.labels(command[1]),
    }


def _code_children(metrics: Metrics, command: tuple[str, str], kind: str, code: str) -> dict[str, Any]:
    return {
        "handled": metrics.grpc_handled.labels(kind, SERVICE, command[0], code),
        "calls": metrics.calls.labels(*command, code),
    }


def headers_of(context: Context) -> dict[str, str]:
    """The call's headers as text; binary ones are left out, but for the token that older pyarrow clients send so."""
    headers: dict[str, str] = {}
    for key, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            headers[key] = value
        elif key == "auth-token-bin" and "authorization" not in headers:
            headers["authorization"] = "Bearer " + value.decode("ascii", "replace")
    return headers


def certificate_of(context: Context, headers: Mapping[str, str]) -> bytes | None:
    """The client certificate that this connection's handshake verified; None if none, or if a header goes before it."""
    if headers.get("authorization"):
        return None
    found = context.auth_context().get("x509_pem_cert")
    return bytes(found[0]) if found else None


async def identify(
    authenticator: Authenticator,
    pool: ThreadPoolExecutor,
    headers: Mapping[str, str],
    peer: str,
    certificate: bytes | None = None,
    on_login: Callable[[Principal], None] = lambda principal: None,
) -> Principal:
    """Who is calling. A credential seen before is known at once; a new one is checked in a worker thread.

    ``on_login`` is told when a password or a provider's token was checked anew. Raises the login door's AuthError.
    """
    authorization = headers.get("authorization")
    known = authenticator.cached(authorization, peer, certificate)
    if known is not None:
        return known
    loop = asyncio.get_running_loop()
    principal = await loop.run_in_executor(pool, authenticator.authenticate, authorization, peer, certificate)
    if principal.method in ("password", "oidc"):
        on_login(principal)
    return principal


def as_server_error(error: BaseException, metrics: Metrics) -> errors.ServerError:
    """The member of the family that a client is told for any exception of a handler."""
    if isinstance(error, errors.ServerError):
        if isinstance(error, errors.InternalError):
            log.error("incident %s", error.incident, exc_info=error)
            metrics.incidents.inc()
        return error
    if isinstance(error, TooManySessions):
        return errors.SessionLimit(error.reason)
    if isinstance(error, TooBusy):
        return errors.QueueFull(error.reason)
    if isinstance(error, StoreFull):
        return errors.DiskFull(error.reason)
    if isinstance(error, ProviderUnavailable):
        return errors.ProviderUnavailable(error.reason)
    if isinstance(error, BadCredentials):
        return errors.InvalidCredentials(error.reason)
    if isinstance(error, AuthError):
        return errors.InvalidToken(error.reason)
    internal = errors.InternalError()
    log.error("incident %s", internal.incident, exc_info=error)
    metrics.incidents.inc()
    return internal


async def deliver(operation: Awaitable[None]) -> None:
    """Awaits what sends something. A client that is gone may show as a failure there; it is CancelledError always."""
    try:
        await operation
    except (grpc.aio.InternalError, grpc.aio.UsageError) as error:
        raise asyncio.CancelledError from error


async def abort(context: Context, error: errors.ServerError) -> None:
    """Ends the RPC with the error's status and text; raises, as grpc's own abort does."""
    await deliver(context.abort(grpc.StatusCode[error.status], str(error)))
