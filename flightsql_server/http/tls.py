"""TLS on the HTTP port: one context listens, and each handshake is done by the context of the pair in force."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler
from flightsql_auth.server_certificate import ServerCertificate

OPEN_PATHS = frozenset({"/livez", "/readyz", "/.well-known/jwks.json"})
"""What needs no client certificate where one is required: probes have none, public keys are public.

``/oauth/token`` is not among these: who can't reach the Flight port needs no token."""


def listening_context(current: Callable[[], ServerCertificate], *, ask_certificate: bool) -> ssl.SSLContext:
    """The context to listen with; ``current`` must not block. Call it, and use it, on the event loop.

    With ``ask_certificate`` a client may show a certificate, and one that the authorities don't know is refused.
    """
    verify = ssl.CERT_OPTIONAL if ask_certificate else ssl.CERT_NONE
    given = current()
    context = given.context(verify)

    def choose(connection: ssl.SSLObject, name: str | None, listening: ssl.SSLContext) -> None:
        # OpenSSL calls this at each handshake, also when the client names no host.
        nonlocal given, context
        found = current()
        if found is not given:
            context = found.context(verify)  # where this fails, say for want of a descriptor, the next one tries again
            given = found
        connection.context = context

    listening = context
    listening.sni_callback = choose
    return listening


@web.middleware
async def require_certificate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses who shows no client certificate, but for ``OPEN_PATHS``."""
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("ssl_object")
    if request.path in OPEN_PATHS or (connection is not None and connection.getpeercert()):
        return await handler(request)
    return web.Response(status=403, text="Show a client certificate: this server requires one.\n")
