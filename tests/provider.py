"""An OpenID provider in a process of its own: three kinds of keys, which it rotates, and tokens for whoever asks.

``python -m tests.provider [certificate.pem key.pem]`` serves on a free port and prints its address. Tests start it by
``running_provider`` and tell it by its ``/tests/`` paths what to sign and how to misbehave.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from tests.running import _end_with_parent

ALGORITHMS = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}
Key = RSAKey | ECKey | OKPKey


def _new_keys(generation: int) -> dict[str, Key]:
    def about(kind: str) -> dict[str, Any]:
        return {"kid": f"{kind}-{generation}", "use": "sig", "alg": ALGORITHMS[kind]}

    return {
        "rsa": RSAKey.generate_key(2048, about("rsa")),
        "ec": ECKey.generate_key("P-256", about("ec")),
        "ed": OKPKey.generate_key("Ed25519", about("ed")),
    }


class _Provider:
    def __init__(self) -> None:
        self.generations = [_new_keys(1)]
        self.made = 1
        self.issuer = ""
        self.mode = "well"
        self.seen: Counter[str] = Counter()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self.count])
        app.router.add_get("/.well-known/openid-configuration", self.discovery)
        app.router.add_get("/jwks", self.jwks)
        app.router.add_get("/elsewhere", self.jwks)
        app.router.add_post("/tests/token", self.token)
        app.router.add_post("/tests/sign", self.sign)
        app.router.add_post("/tests/turn", self.turn)
        app.router.add_get("/tests/state", self.state)
        return app

    @web.middleware
    async def count(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.seen[request.path] += 1
        response: web.StreamResponse = await handler(request)
        return response

    async def discovery(self, request: web.Request) -> web.StreamResponse:
        issuer = "https://other.test" if self.mode == "other issuer" else self.issuer
        return web.json_response({"issuer": issuer, "jwks_uri": f"{self.issuer}/jwks"})

    async def jwks(self, request: web.Request) -> web.StreamResponse:
        match self.mode if request.path == "/jwks" else "well":
            case "down":
                return web.Response(status=503)
            case "redirect":
                raise web.HTTPFound("/elsewhere")
            case "huge":
                return web.Response(body=b" " * 2**20 + json.dumps(self.key_set()).encode())
            case "rubbish":
                return web.Response(text="<html>")
            case "drip":
                response = web.StreamResponse()
                await response.prepare(request)
                for _ in range(600):
                    await response.write(b" ")
                    await asyncio.sleep(0.1)
                return response
            case _:
                return web.json_response(self.key_set())

    def key_set(self) -> dict[str, object]:
        return {"keys": [key.as_dict(private=False) for keys in self.generations for key in keys.values()]}

    async def token(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        key = self.generations[asked.get("generation", -1)][asked["kind"]]
        algorithm = ALGORITHMS[asked["kind"]]
        header = {"alg": algorithm, "kid": key.kid, "typ": "JWT"}
        return web.json_response(jwt.encode(header, asked["claims"], key, algorithms=[algorithm]))

    async def sign(self, request: web.Request) -> web.StreamResponse:
        """The signature of any bytes, as no provider would give it."""
        asked = await request.json()
        key = self.generations[-1][asked["kind"]]
        algorithm: Any = JWSRegistry.algorithms[ALGORITHMS[asked["kind"]]]
        return web.json_response(base64.b64encode(algorithm.sign(base64.b64decode(asked["data"]), key)).decode())

    async def turn(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.mode = asked.get("mode", self.mode)
        if asked.get("rotate"):
            self.made += 1
            self.generations.append(_new_keys(self.made))
        if asked.get("retire"):
            del self.generations[0]
        return web.json_response({})

    async def state(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"seen": self.seen, "keys": self.key_set()["keys"]})


async def _serve(arguments: list[str]) -> None:
    provider = _Provider()
    runner = web.AppRunner(provider.app(), access_log=None)
    await runner.setup()
    context = None
    if arguments:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(arguments[0], arguments[1])
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    provider.issuer = f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    print(provider.issuer, flush=True)
    await asyncio.Event().wait()


class RunningProvider:
    """The provider's process, as a test sees it."""

    def __init__(self, issuer: str, ca_file: Path | None) -> None:
        self.issuer = issuer
        self._context = None if ca_file is None else ssl.create_default_context(cafile=str(ca_file))

    def _ask(self, path: str, asked: Mapping[str, object] | None = None) -> Any:
        data = None if asked is None else json.dumps(asked).encode()
        with urllib.request.urlopen(self.issuer + path, data, 20, context=self._context) as answer:
            return json.load(answer)

    def token(self, claims: Mapping[str, object], kind: str = "rsa", generation: int = -1) -> str:
        """A token that the provider really issues, signed by its newest key or that of another generation."""
        return str(self._ask("/tests/token", {"claims": claims, "kind": kind, "generation": generation}))

    def sign(self, kind: str, data: bytes) -> bytes:
        """A genuine signature over anything."""
        asked = {"kind": kind, "data": base64.b64encode(data).decode()}
        return base64.b64decode(self._ask("/tests/sign", asked))

    def turn(self, **changes: object) -> None:
        """``rotate``, ``retire`` its oldest keys, or another ``mode``: well, down, redirect, huge, rubbish, drip."""
        self._ask("/tests/turn", changes)

    def fetches(self) -> int:
        """How often its key set has been fetched."""
        return int(self._ask("/tests/state")["seen"].get("/jwks", 0))

    def seen(self) -> dict[str, int]:
        """How often each path has been asked for."""
        return dict(self._ask("/tests/state")["seen"])

    def jwk(self, kind: str) -> dict[str, Any]:
        """The newest public key of that kind."""
        return [key for key in self._ask("/tests/state")["keys"] if key["kid"].startswith(kind)][-1]


@contextmanager
def running_provider(*certificate: Path, ca_file: Path | None = None) -> Iterator[RunningProvider]:
    """The provider, on https if it is given a certificate and its key; it ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.provider", *map(str, certificate)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_end_with_parent,
    )
    assert process.stdout is not None
    try:
        yield RunningProvider(process.stdout.readline().strip(), ca_file)
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1:]))
