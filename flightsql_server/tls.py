"""The TLS of both ports: which files, the pair in force, and how a new one takes its place."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from flightsql_auth.certificates import CertificateUsers
from flightsql_auth.keys import KeyFileError
from flightsql_auth.server_certificate import CertificateFiles, ServerCertificate

from flightsql_server.config import Config
from flightsql_server.metrics import Metrics

log = logging.getLogger(__name__)

NONE: Final = "none"
OPTIONAL: Final = "optional"
REQUIRED: Final = "required"


def files_of(config: Config) -> CertificateFiles | None:
    """The files that the settings name; None without TLS. ``KeyFileError`` where the settings don't fit together."""
    certificate, key, client_ca = (config.text(f"tls.{name}") for name in ("certificate", "key", "client_ca"))
    asks = config.text("tls.client_certificates") != NONE
    if bool(certificate) != bool(key):
        raise KeyFileError("tls.certificate and tls.key go together: set both, or none.")
    if not certificate and (asks or client_ca):
        raise KeyFileError("Client certificates need TLS: set tls.certificate and tls.key.")
    if asks != bool(client_ca):
        raise KeyFileError(
            "tls.client_ca and tls.client_certificates go together: the file of the authorities, and whether a client "
            "certificate is optional or required."
        )
    if not certificate:
        return None
    return CertificateFiles(Path(certificate), Path(key), Path(client_ca) if client_ca else None)


def certificate_users(config: Config) -> CertificateUsers | None:
    """Whom a client certificate names; None if none is asked for. ``KeyFileError`` for a pattern that is none."""
    if config.text("tls.client_certificates") == NONE:
        return None
    source: Any = config.text("tls.user_from")
    try:
        return CertificateUsers(source, config.text("tls.user_pattern"))
    except ValueError as error:
        raise KeyFileError(f"tls.user_pattern: {error}") from None


class Tls:
    """The pair in force. Any thread may ask for ``current``, which never blocks; ``reload`` reads files."""

    def __init__(self, files: CertificateFiles, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
        """``KeyFileError`` if the files can't be used."""
        self._files = files
        self._metrics = metrics
        self._clock = clock
        self._told = ""
        self._reading = threading.Lock()
        self.current: ServerCertificate = files.load(clock())
        for outcome in ("taken", "refused"):
            metrics.tls_loads.labels(outcome)  # from 0 on, so that the first one shows as an increase
        self._tell_times()

    def reload(self) -> bool:
        """Puts the pair that the files hold now in force for connections made from then on; whether it is a new one.

        One that can't be used is told in the log and counted, once however often it is met; the one of before stays.
        Connections that are open go on as they are.
        """
        with self._reading:
            try:
                found = self._files.load(self._clock())
            except KeyFileError as error:
                if str(error) != self._told:
                    self._told = str(error)
                    self._metrics.tls_loads.labels("refused").inc()
                    log.warning("the TLS certificate stays as it is: %s", error)
                return False
            self._told = ""
            if found == self.current:
                return False
            self.current = found
            self._metrics.tls_loads.labels("taken").inc()
            self._tell_times()
            log.info("a new TLS certificate is in force")
            return True

    def _tell_times(self) -> None:
        self._metrics.tls_not_after.labels("certificate").set(self.current.not_after)
        if self.current.client_ca_not_after is not None:
            self._metrics.tls_not_after.labels("client_ca").set(self.current.client_ca_not_after)
