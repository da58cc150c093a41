"""``/oauth/token``: a token of ours for a password (client credentials) or for another token (RFC 8693).

A client is a user, or the name of a service token whose secret is that token. A scope is the names of roles: a token is
good for those of them that its request asks for, or for all that the credential gives. Answers and refusals have the
form of RFC 6749; no secret is ever in one.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import logging
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote_plus

from aiohttp import web
from flightsql_auth.authenticator import Authenticator
from flightsql_auth.errors import (
    AuthError,
    BadCredentials,
    ProviderUnavailable,
    ScopeRefused,
    StoreFull,
    TooBusy,
    TooManyAttempts,
    TooManySessions,
)
from flightsql_auth.logins import Login
from flightsql_auth.principals import SERVICE_NAMESPACE, TOKEN_USER
from flightsql_auth.service_tokens import digest_of

from flightsql_server.errors import DiskFull
from flightsql_server.metrics import Metrics
from flightsql_server.model import Entry

log = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 65_536
MAX_PARAMETERS: Final = 32

CLIENT_CREDENTIALS: Final = "client_credentials"
EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_GRANTS: Final = {CLIENT_CREDENTIALS: "client_credentials", EXCHANGE: "token_exchange"}
_TYPE: Final = "urn:ietf:params:oauth:token-type:"
_ACCESS_TOKEN: Final = _TYPE + "access_token"
_SUBJECT_TYPES: Final = {_ACCESS_TOKEN, _TYPE + "jwt", _TYPE + "id_token"}
_ISSUED_TYPES: Final = {"", _ACCESS_TOKEN, _TYPE + "jwt"}
_FORM: Final = "application/x-www-form-urlencoded"
_BASIC: Final = 'Basic realm="flightsql-server", charset="UTF-8"'
# The names of gRPC's statuses, which say in the audit trail how a call ended.
_CODES: Final = {401: "UNAUTHENTICATED", 429: "UNAUTHENTICATED", 503: "UNAVAILABLE"}
_NOT_KEPT: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class _Refused(Exception):
    """A refusal as RFC 6749 §5.2 has it: a code for programs, a sentence for people."""

    def __init__(self, code: str, what: str, status: int = 400, *, reason: str = "", **headers: str) -> None:
        """``reason`` is for the audit trail: more than the client is told."""
        super().__init__(code)
        self.code, self.what, self.status, self.reason = code, what, status, reason or code
        self.blames = "UNAUTHENTICATED" if reason else "INVALID_ARGUMENT"
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class _Client(NamedTuple):
    """A client's credential; never log or keep one."""

    name: str
    secret: str

    @property
    def has_token(self) -> bool:
        """Whether the secret has the form of a service token."""
        return digest_of(self.secret) is not None

    @property
    def authorization(self) -> str:
        """It as a header's value."""
        if self.has_token:
            return f"Bearer {self.secret}"
        return "Basic " + base64.b64encode(f"{self.name}:{self.secret}".encode()).decode("ascii")


class TokenEndpoint:
    """The handlers of the token endpoint and of the document that describes it.

    Passwords and tokens are checked in ``pool``, never on the event loop. ``issuer``, if it is a URL, is the address
    under which clients reach the HTTP port; else they are told the one that they used. The audit trail is asked by
    ``reserve`` for a place before anything is done, and told by ``answered`` what came of it: the entry, the name of a
    gRPC status, and the seconds that it took.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        pool: ThreadPoolExecutor,
        metrics: Metrics,
        *,
        issuer: str,
        audience: str,
        body_seconds: float,
        reserve: Callable[[Entry], None],
        answered: Callable[[Entry, str, float], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._authenticator = authenticator
        self._pool = pool
        self._metrics = metrics
        self._issuer = issuer
        self._audience = audience
        self._body_seconds = body_seconds
        self._reserve = reserve
        self._answered = answered
        self._clock = clock

    async def metadata(self, request: web.Request) -> web.Response:
        """The description of RFC 8414."""
        named = self._issuer.startswith(("https://", "http://"))
        base = self._issuer.rstrip("/") if named else f"{request.scheme}://{request.host}"
        return web.json_response(
            {
                "issuer": self._issuer if named else base,
                "token_endpoint": f"{base}/oauth/token",
                "jwks_uri": f"{base}/.well-known/jwks.json",
                "grant_types_supported": [*_GRANTS],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
                "response_types_supported": [],
            }
        )

    async def token(self, request: web.Request) -> web.Response:
        """A token, or a refusal; neither is to be kept by anybody on the way."""
        grant, outcome, code, started = "none", "ok", "OK", time.perf_counter()
        entry = Entry("OAuthToken", _peer(request), self._reserve, event="token")
        try:
            form = await self._form(request)
            grant = _GRANTS.get(form.get("grant_type", ""), "none")
            entry.happens("token", grant=grant)
            return web.json_response(await self._answer(request, form, entry), headers=_NOT_KEPT)
        except (_Refused, DiskFull) as error:
            refused = _not_written(error) if isinstance(error, DiskFull) else error
            outcome, entry.reason = refused.code, refused.reason
            code = _CODES.get(refused.status, refused.blames)
            body = {"error": refused.code, "error_description": refused.what}
            return web.json_response(body, status=refused.status, headers=_NOT_KEPT | refused.headers)
        except asyncio.CancelledError:
            outcome, code = "cancelled", "CANCELLED"
            raise
        except Exception as error:
            # Its text may quote what was sent, so the log gets its kind and its place alone.
            outcome, code, place = "server_error", "INTERNAL", "".join(traceback.format_tb(error.__traceback__))
            log.error("a request for a token failed: %s\n%s", type(error).__name__, place)  # noqa: TRY400
            body = {"error": "server_error", "error_description": "The server failed on this request."}
            return web.json_response(body, status=500, headers=_NOT_KEPT)
        finally:
            self._metrics.oauth_answers.labels(grant, outcome).inc()
            self._answered(entry, code, time.perf_counter() - started)

    async def _form(self, request: web.Request) -> Mapping[str, str]:
        if request.content_type != _FORM:
            raise _Refused("invalid_request", f"Send the parameters as {_FORM}.")
        try:
            async with asyncio.timeout(self._body_seconds):
                body = await request.read()
            pairs = parse_qsl(
                body.decode("utf-8"), keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict"
            )
        except web.HTTPRequestEntityTooLarge:
            raise _Refused("invalid_request", f"A request has at most {MAX_BODY_BYTES} bytes.", 413) from None
        except TimeoutError:
            raise _Refused("invalid_request", "The request did not arrive in time.", 408) from None
        except ValueError:
            raise _Refused("invalid_request", "The parameters can't be read.") from None
        form = dict(pairs)
        if len(form) != len(pairs):
            raise _Refused("invalid_request", "A parameter is there twice.")
        return {name: value for name, value in form.items() if value}

    async def _answer(self, request: web.Request, form: Mapping[str, str], entry: Entry) -> Mapping[str, object]:
        grant = form.get("grant_type", "")
        if not grant:
            raise _Refused("invalid_request", "There is no grant_type.")
        if grant not in _GRANTS:
            raise _Refused("unsupported_grant_type", f"There are {CLIENT_CREDENTIALS} and {EXCHANGE}.")
        if form.get("audience", self._audience) != self._audience or "resource" in form:
            raise _Refused("invalid_target", "Tokens of this server are for this server alone.")
        client = _client(request.headers.get("Authorization"), form)
        if grant == EXCHANGE:
            _check_exchange(form)
        if client is not None:
            entry.user = self._authenticator.claimed_user(client.authorization)
            if grant == EXCHANGE or client.has_token:
                await self._check_client(client, entry.peer)
        if grant == CLIENT_CREDENTIALS:
            if client is None:
                raise _Refused("invalid_client", "Send client_id and client_secret.", 401, WWW_Authenticate=_BASIC)
            return await self._login(request, client.authorization, form, entry, "invalid_client")
        subject = f"Bearer {form['subject_token']}"
        answer = await self._login(request, subject, form, entry, "invalid_request")
        return {**answer, "issued_token_type": _ACCESS_TOKEN}

    async def _check_client(self, client: _Client, peer: str) -> None:
        """Whether the credential is good and, where it is a service token, is that of the name."""
        authenticate = self._authenticator.authenticate
        found = await self._in_thread("invalid_client", authenticate, client.authorization, peer)
        names = {TOKEN_USER, found.name, found.name.removeprefix(SERVICE_NAMESPACE)}
        if client.has_token and client.name not in names:
            raise _refused(BadCredentials(), "invalid_client")

    async def _login(
        self, request: web.Request, authorization: str, form: Mapping[str, str], entry: Entry, blamed: str
    ) -> Mapping[str, object]:
        scope = form["scope"].split() if "scope" in form else None
        agent = request.headers.get("User-Agent", "")
        login = functools.partial(self._authenticator.login, scope=scope)
        found: Login = await self._in_thread(blamed, login, authorization, b"", entry.peer, agent)
        principal = entry.principal = found.principal
        assert principal.expires_at is not None
        expires_in = max(0, int(principal.expires_at - self._clock()))
        entry.details["expires_in"] = expires_in
        return {
            "access_token": found.token,
            "token_type": "Bearer",
            "expires_in": expires_in,
            **({"scope": " ".join(principal.roles)} if principal.roles else {}),
        }

    async def _in_thread(self, blamed: str, check: Callable[..., Any], *arguments: object) -> Any:
        """What the login door says in a thread of its own; refusals blame the credential of the code ``blamed``."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, functools.partial(check, *arguments))
        except AuthError as error:
            raise _refused(error, blamed) from None


def _check_exchange(form: Mapping[str, str]) -> None:
    if "subject_token" not in form:
        raise _Refused("invalid_request", "There is no subject_token.")
    if form.get("subject_token_type") not in _SUBJECT_TYPES:
        raise _Refused("invalid_request", f"subject_token_type is one of {', '.join(sorted(_SUBJECT_TYPES))}.")
    if form.get("requested_token_type", "") not in _ISSUED_TYPES:
        raise _Refused("invalid_request", f"requested_token_type can only be {_ACCESS_TOKEN}.")
    if "actor_token" in form or "actor_token_type" in form:
        raise _Refused("invalid_request", "Nobody acts for another here: leave out actor_token.")


def _client(header: str | None, form: Mapping[str, str]) -> _Client | None:
    """The client's credential, from the request's own header or its form; None: there is none."""
    name, secret = form.get("client_id", ""), form.get("client_secret", "")
    scheme, _, encoded = (header or "").partition(" ")
    if header and scheme.lower() != "basic":
        raise _Refused("invalid_client", "The Authorization header is not Basic.", 401, WWW_Authenticate=_BASIC)
    if header:
        try:
            user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
        except (binascii.Error, ValueError):
            user, colon, password = "", "", ""
        if not colon:
            raise _Refused("invalid_client", "The Authorization header is malformed.", 401, WWW_Authenticate=_BASIC)
        # Both are encoded as in a form (RFC 6749 §2.3.1); clients without either send the colon alone.
        user, password = unquote_plus(user), unquote_plus(password)
        if (user or password) and (secret or name not in ("", user)):
            raise _Refused("invalid_request", "The client's credential is there twice.")
        name, secret = user or name, password or secret
    return _Client(name, secret) if secret else None


def _peer(request: web.Request) -> str:
    """The peer as gRPC writes it, so that wrong passwords count alike on both ports."""
    found = request.transport.get_extra_info("peername") if request.transport is not None else None
    if not isinstance(found, tuple) or len(found) < 2:
        return "unknown"
    host, port = str(found[0]), found[1]
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


def _refused(error: AuthError, blamed: str) -> _Refused:
    reason = error.outcome
    if isinstance(error, TooManyAttempts):
        return _Refused("invalid_client", error.reason, 429, reason=reason)
    if isinstance(error, TooBusy | StoreFull | ProviderUnavailable | TooManySessions):
        return _Refused("temporarily_unavailable", error.reason, 503, reason=reason)
    if isinstance(error, ScopeRefused):
        return _Refused("invalid_scope", error.reason, reason=reason)
    if blamed == "invalid_client":
        return _Refused(blamed, error.reason, 401, reason=reason, WWW_Authenticate=_BASIC)
    return _Refused(blamed, error.reason, reason=reason)


def _not_written(error: DiskFull) -> _Refused:
    return _Refused("temporarily_unavailable", error.message, 503)
