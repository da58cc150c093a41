"""The HTTP side: ``/metrics``, ``/livez``, ``/readyz``, ``/.well-known/jwks.json``, read-only and without credentials;
and ``/oauth/token``, which takes them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from flightsql_auth.server_certificate import ServerCertificate
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from flightsql_server.http.oauth import MAX_BODY_BYTES, TokenEndpoint
from flightsql_server.http.tls import listening_context, require_certificate

Readiness = Callable[[], Awaitable[Mapping[str, str]]]
"""Gives what is wrong, by part of the server; empty: ready."""


class HttpServer:
    """Serves until ``stop``. ``port`` is the one that was taken, also when any free one was asked for.

    ``certificate`` gives the pair in force at any time; None: nothing is encrypted. ``client_certificates`` is none,
    optional or required.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        jwks: Callable[[], Mapping[str, object]],
        ready: Readiness,
        oauth: TokenEndpoint,
        *,
        certificate: Callable[[], ServerCertificate] | None = None,
        client_certificates: str = "none",
    ) -> None:
        self._certificate = certificate
        self._client_certificates = client_certificates
        self._registry = registry
        self._jwks = jwks
        self._ready = ready
        self._oauth = oauth
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listens there; OSError when the port is taken."""
        middlewares = [require_certificate] if self._client_certificates == "required" else []
        app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY_BYTES)
        app.router.add_get("/", self._index)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/.well-known/jwks.json", self._keys)
        app.router.add_get("/.well-known/oauth-authorization-server", self._oauth.metadata)
        app.router.add_post("/oauth/token", self._oauth.token)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        context = None
        if self._certificate is not None:
            context = listening_context(self._certificate, ask_certificate=self._client_certificates != "none")
        site = web.TCPSite(self._runner, host, port, reuse_port=False, ssl_context=context)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Closes the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _index(self, request: web.Request) -> web.Response:
        return web.Response(text="flightsql-server: /metrics /livez /readyz /.well-known/jwks.json /oauth/token\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def _livez(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        wrong = await self._ready()
        if not wrong:
            return web.Response(text="ok\n")
        text = "".join(f"{part}: {what}\n" for part, what in sorted(wrong.items()))
        return web.Response(status=503, text=text)

    async def _keys(self, request: web.Request) -> web.Response:
        return web.json_response(self._jwks())
