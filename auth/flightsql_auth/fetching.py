"""Fetching a small document over HTTPS: bounded in time and bytes, no redirects, no proxies, nothing else opened."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit


class FetchError(Exception):
    """The document can't be had; the text, for the log, says why and holds nothing that was fetched."""


def is_loopback(url: str) -> bool:
    """Whether the URL points to this very machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_url(url: str, *, plain: bool) -> SplitResult:
    """The parts of a URL that may be fetched: https, or http on loopback where ``plain``. Raises ``FetchError``."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise FetchError("this is no URL") from None
    clean = url.isascii() and url.isprintable() and " " not in url
    if not clean or not host or port == 0 or parts.username is not None or parts.fragment:
        raise FetchError("a URL has a host, and neither a user name nor a fragment")
    if parts.scheme == "https" or (parts.scheme == "http" and plain and is_loopback(url)):
        return parts
    raise FetchError("only https is fetched, and http from loopback alone")


@dataclass(frozen=True)
class Fetcher:
    """Fetches documents of at most ``max_bytes`` within ``seconds``, the look-up of the host's name not counted.

    ``ca_file``: the authorities whose certificates count, in PEM; None: the system's. ``plain``: http on loopback is
    good enough. Blocks; any thread may use it.
    """

    seconds: float
    max_bytes: int
    ca_file: Path | None = None
    plain: bool = False

    def fetch(self, url: str) -> bytes:
        """The document. Raises ``FetchError`` when there is none, also when the answer is a redirect."""
        parts = check_url(url, plain=self.plain)
        connection = self._connection(parts)
        # Each read of a socket may take as long as its time-out: a server that drips bytes is cut off by this.
        opened: list[socket.socket] = []
        limit = threading.Timer(self.seconds, _cut, (connection, opened))
        limit.daemon = True
        try:
            limit.start()
            connection.connect()
            opened.append(connection.sock)
            connection.request("GET", _target(parts), headers={"Accept": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise FetchError(f"the answer has status {response.status}")
            content = response.read(self.max_bytes + 1)
        except (OSError, http.client.HTTPException) as error:
            raise FetchError(f"{type(error).__name__}: no answer that can be used") from error
        finally:
            limit.cancel()
            connection.close()
        if len(content) > self.max_bytes:
            raise FetchError(f"the answer is longer than {self.max_bytes} bytes")
        return content

    def _connection(self, parts: SplitResult) -> http.client.HTTPConnection:
        host = parts.hostname or ""
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, parts.port, timeout=self.seconds)
        try:
            context = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        except (OSError, ssl.SSLError) as error:
            raise FetchError("the file of certificate authorities can't be used") from error
        return http.client.HTTPSConnection(host, parts.port, timeout=self.seconds, context=context)


def _target(parts: SplitResult) -> str:
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path


def _cut(connection: http.client.HTTPConnection, opened: list[socket.socket]) -> None:
    # An answer that is read until its end has taken the socket away from the connection.
    found = opened[0] if opened else connection.sock
    if found is not None:
        with contextlib.suppress(OSError):
            # Not the TLS socket's own method, which would let the reader go on in clear.
            socket.socket.shutdown(found, socket.SHUT_RDWR)
