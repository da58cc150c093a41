"""gRPC's server and its ports; with TLS, gRPC asks for the pair in force at each handshake."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
from flightsql_auth.server_certificate import ServerCertificate

Certificate = Callable[[], ServerCertificate]
"""Gives the pair in force at any time, from any thread, without blocking."""


def new_server(*, message_bytes: int, metadata_bytes: int) -> grpc.aio.Server:
    """A server without ports and services, with the limits of what it takes from a client."""
    return grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", metadata_bytes),
            ("grpc.absolute_max_metadata_size", 2 * metadata_bytes),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ]
    )


def listen(
    server: grpc.aio.Server, host: str, port: int, certificate: Certificate | None, *, ask_certificate: bool = False
) -> int:
    """Takes the port and gives its number; RuntimeError when it is taken. Without ``certificate``: no TLS."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if certificate is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, _credentials(certificate, ask_certificate))


def _credentials(current: Certificate, ask_certificate: bool) -> grpc.ServerCredentials:
    """The credentials of one port, TLS 1.2 or newer; with ``ask_certificate`` nobody comes in without a certificate.

    A port either needs client certificates or never sees one: gRPC for Python has nothing between.
    """
    given = current()
    lock = threading.Lock()

    def fetch() -> Any:  # the stubs know nothing of None, which is: no change
        nonlocal given
        found = current()
        with lock:
            if found is given:
                return None
            configuration = _configuration(found, ask_certificate)
            given = found
        return configuration

    return grpc.dynamic_ssl_server_credentials(_configuration(given, ask_certificate), fetch, ask_certificate)


def _configuration(certificate: ServerCertificate, ask_certificate: bool) -> grpc.ServerCertificateConfiguration:
    pairs = [(certificate.key, certificate.chain)]
    return grpc.ssl_server_certificate_configuration(pairs, certificate.client_ca if ask_certificate else None)
