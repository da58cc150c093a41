"""Credentials as clients send them, and the hashing of passwords."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from .errors import BadToken, MissingCredentials, TooBusy
from .principals import TOKEN_USER

MAX_HEADER_CHARACTERS: Final = 16_384
MAX_PASSWORD_BYTES: Final = 1_024

_BASE64 = re.compile(r"[A-Za-z0-9+/]*")
_URL_SAFE_TO_STANDARD = str.maketrans("-_", "+/")

_LENGTH_DELIMITED = 2
_USERNAME_FIELD, _PASSWORD_FIELD = 2, 3


@dataclass(frozen=True, slots=True)
class Basic:
    """A user name and a password, in clear; never log or keep one."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token, not yet verified."""

    token: str = field(repr=False)


def parse_authorization(value: str) -> Basic | Bearer:
    """The credential in an ``Authorization`` header's value.

    The scheme may be in any case. Basic takes both base64 alphabets, padded or not (several drivers leave the padding
    out), and ends the user name at the first colon; of the user ``token`` it is a bearer, whose password is the token.
    Raises ``MissingCredentials`` on an empty value and ``BadToken`` on anything else that is no credential.
    """
    if len(value) > MAX_HEADER_CHARACTERS:
        raise BadToken("the Authorization header is too long")
    scheme, _, rest = value.strip().partition(" ")
    rest = rest.strip()
    if not rest:
        raise MissingCredentials
    match scheme.lower():
        case "bearer":
            return Bearer(rest)
        case "basic":
            return _parse_basic(rest)
        case _:
            raise BadToken("the Authorization header is neither Bearer nor Basic")


def _parse_basic(encoded: str) -> Basic | Bearer:
    malformed = BadToken("the Basic credential is not the base64 of user:password")
    text = encoded.rstrip("=").translate(_URL_SAFE_TO_STANDARD)
    if not _BASE64.fullmatch(text):
        raise malformed
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4)).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise malformed from None
    user, colon, password = decoded.partition(":")
    if not colon:
        raise malformed
    return _of(user, password)


def _of(user: str, password: str) -> Basic | Bearer:
    return Bearer(password.strip()) if user == TOKEN_USER else Basic(user, password)


def parse_basic_auth_payload(payload: bytes) -> Basic | Bearer | None:
    """The credential in a handshake's payload, a ``BasicAuth`` message; None if the bytes aren't one with a user name.

    Read by hand: the message has two string fields, and a leaf needs no protobuf runtime for them. Never raises.
    """
    texts = {_USERNAME_FIELD: "", _PASSWORD_FIELD: ""}
    position = 0
    try:
        while position < len(payload):
            tag, position = _read_varint(payload, position)
            number, wire_type = tag >> 3, tag & 7
            content, position = _read_field(payload, position, wire_type)
            if number in texts:
                if wire_type != _LENGTH_DELIMITED:
                    return None
                texts[number] = content.decode("utf-8")
    except ValueError:
        return None
    user = texts[_USERNAME_FIELD]
    return _of(user, texts[_PASSWORD_FIELD]) if user else None


def _read_field(data: bytes, position: int, wire_type: int) -> tuple[bytes, int]:
    match wire_type:
        case 0:  # a number
            _, end = _read_varint(data, position)
        case 1:  # eight bytes
            end = position + 8
        case 2:  # bytes after their length
            length, position = _read_varint(data, position)
            end = position + length
        case 5:  # four bytes
            end = position + 4
        case _:
            raise ValueError("unknown wire type")
    if end > len(data):
        raise ValueError("truncated field")
    return data[position:end], end


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if position >= len(data):
            raise ValueError("truncated number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("number too long")


class PasswordHasher:
    """argon2id with a limit on how many hashes run, and wait, at once: each takes a core and 19 MiB for some 30 ms.

    Every method blocks; use a thread. Raises ``TooBusy`` when ``max_waiting`` wait already, or after
    ``wait_seconds`` in the queue. The defaults are OWASP's; only tests should go below.
    """

    def __init__(
        self,
        *,
        max_parallel: int = 2,
        max_waiting: int = 64,
        wait_seconds: float = 5.0,
        memory_kib: int = 19_456,
        time_cost: int = 2,
    ) -> None:
        self._argon2 = argon2.PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=1)
        self._running = threading.BoundedSemaphore(max_parallel)
        self._wait_seconds = wait_seconds
        self._max_waiting = max_waiting
        self._waiting = 0
        self._lock = threading.Lock()
        self._dummy_hash = self._argon2.hash(secrets.token_urlsafe(16))

    def hash(self, password: str) -> str:
        """The hash to store. Raises ``ValueError`` if the password is empty or too long."""
        if not password:
            raise ValueError("a password can't be empty")
        if len(password.encode()) > MAX_PASSWORD_BYTES:
            raise ValueError(f"a password has at most {MAX_PASSWORD_BYTES} bytes")
        with self._slot():
            return self._argon2.hash(password)

    def verify(self, password_hash: str, password: str) -> bool:
        """Whether the password belongs to the hash; False too for a hash that is no argon2 hash."""
        if len(password.encode()) > MAX_PASSWORD_BYTES:
            password_hash, password = self._dummy_hash, ""
        with self._slot():
            try:
                return self._argon2.verify(password_hash, password)
            except (VerificationError, InvalidHashError):
                return False

    def verify_dummy(self, password: str) -> None:
        """Takes as long as ``verify``: call it for users that don't exist, so that time doesn't tell them apart."""
        self.verify(self._dummy_hash, password)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        with self._lock:
            if self._waiting >= self._max_waiting:
                raise TooBusy
            self._waiting += 1
        try:
            running = self._running.acquire(timeout=self._wait_seconds)
        finally:
            with self._lock:
                self._waiting -= 1
        if not running:
            raise TooBusy
        try:
            yield
        finally:
            self._running.release()
