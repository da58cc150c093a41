"""Sealed tickets: what a query's ticket holds is encrypted and authenticated, bound to a principal, and expires.

A ticket is made of a version byte, a 12-byte nonce and the AES-256-GCM ciphertext of a JSON list. It outlives session
and process, since it holds all that is needed to plan the query again, under the policy of the day it is redeemed.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from flightsql_server.errors import InvalidStatementHandle
from flightsql_server.model import SessionOptions

_VERSION = b"\x03"


@dataclass(frozen=True, slots=True)
class QueryTicket:
    """A query as GetFlightInfo planned it: its text and everything that the planning depended on."""

    text: str
    dialect: str
    wire_profile: str
    options: SessionOptions
    parameters: bytes = b""


class TicketSeal:
    """Seals and opens tickets with a 32-byte key; safe for threads."""

    def __init__(self, key: bytes, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._cipher = AESGCM(key)
        self._seconds = seconds
        self._clock = clock

    def seal(self, principal: str, ticket: QueryTicket) -> tuple[bytes, float]:
        """The sealed ticket and when it expires, in seconds since 1970."""
        expires = self._clock() + self._seconds
        options = ticket.options
        content = json.dumps(
            [
                expires,
                ticket.text,
                ticket.dialect,
                ticket.wire_profile,
                base64.b64encode(ticket.parameters).decode(),
                *astuple(options),
            ],
            separators=(",", ":"),
        ).encode()
        nonce = os.urandom(12)
        return _VERSION + nonce + self._cipher.encrypt(nonce, content, _VERSION + principal.encode()), expires

    def open(self, principal: str, sealed: bytes) -> QueryTicket:
        """The query; InvalidStatementHandle when the ticket was altered, has expired or is another principal's."""
        try:
            if sealed[:1] != _VERSION:
                raise ValueError("another version")
            content = self._cipher.decrypt(sealed[1:13], sealed[13:], _VERSION + principal.encode())
            expires, text, dialect, profile, parameters, *options = json.loads(content)
        except (InvalidTag, ValueError) as error:
            raise InvalidStatementHandle("The ticket is not valid here.", hint="Ask for the query again.") from error
        if self._clock() > expires:
            raise InvalidStatementHandle("The ticket has expired.", hint="Ask for the query again.")
        return QueryTicket(text, dialect, profile, SessionOptions(*options), base64.b64decode(parameters))
