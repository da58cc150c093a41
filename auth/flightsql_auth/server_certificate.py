"""The certificate that the server shows: read from its files, and checked before it is shown to anybody."""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID

from .keys import KeyFileError

MAX_FILE_BYTES: Final = 1_048_576
MIN_RSA_BITS: Final = 2_048
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A checked pair. Everything is PEM; ``chain`` begins with the server's own certificate.

    ``client_ca`` holds the authorities of client certificates, empty if none are asked for. The two times are seconds
    since the epoch at which the first certificate of a file runs out; ``client_ca_not_after`` is None without a file.
    """

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes
    not_after: float
    client_ca_not_after: float | None

    def context(self, verify: ssl.VerifyMode = ssl.CERT_NONE) -> ssl.SSLContext:
        """A new context for a server of Python's own: TLS 1.2 or newer. ``ssl.SSLError`` if OpenSSL refuses the pair.

        There are no session tickets: every connection is checked by what holds when it is made.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        # OpenSSL reads files only, and those that were checked may have changed meanwhile.
        with _nameless_file(self.chain) as chain, _nameless_file(self.key) as key:
            context.load_cert_chain(chain, key)
        if verify is not ssl.CERT_NONE:
            context.load_verify_locations(cadata=self.client_ca.decode("ascii", "replace"))
            context.verify_mode = verify
        return context


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where the pair lies, and the authorities of client certificates if these are asked for."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def load(self, now: float) -> ServerCertificate:
        """Reads and checks the files. Raises ``KeyFileError``, whose text says what is wrong with which of them."""
        try:
            return self._loaded(now)
        except (ValueError, UnsupportedAlgorithm):  # a form that the library knows nothing of
            raise KeyFileError(f"{self.certificate}: TLS can't use it, its key or its authorities") from None

    def _loaded(self, now: float) -> ServerCertificate:
        chain, key = _read(self.certificate), _read(self.key, secret=True)
        found = _certificates(chain, self.certificate)
        _check_times(found[:1], self.certificate, now)
        _check_chain(found, self.certificate)
        _check_purpose(found[0], self.certificate)
        _check_pair(found[0], key, self)
        client_ca, authorities = b"", []
        if self.client_ca is not None:
            client_ca = _read(self.client_ca)
            authorities = _certificates(client_ca, self.client_ca)
            _check_authorities(authorities, self.client_ca, now)
        loaded = ServerCertificate(
            chain, key, client_ca, _first_end(found), _first_end(authorities) if authorities else None
        )
        try:
            loaded.context(ssl.CERT_OPTIONAL if client_ca else ssl.CERT_NONE)
        except ssl.SSLError as error:
            raise KeyFileError(f"{self.certificate}: TLS can't use it: {error.reason or error}") from None
        return loaded


@contextmanager
def _nameless_file(content: bytes) -> Iterator[str]:
    """The path of a file that exists within the block only, in memory where the system can."""
    with os.fdopen(os.memfd_create("tls"), "w+b") if hasattr(os, "memfd_create") else TemporaryFile() as file:
        file.write(content)
        file.flush()
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}"


def _read(path: Path, *, secret: bool = False) -> bytes:
    try:
        with path.open("rb") as file:
            if secret:
                # Asked of the open file, so that what is checked is what is read.
                _check_owner(path, os.fstat(file.fileno()))
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise KeyFileError(f"{path}: longer than {MAX_FILE_BYTES} bytes")
    return content


def _check_owner(path: Path, status: os.stat_result) -> None:
    """A key is its owner's alone; one of root's may be read by a group: so root hands it to a service."""
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in (0, os.geteuid()):
        raise KeyFileError(f"{path}: this key belongs to another user: it must be the server's own, or root's")
    forbidden = 0o077 if status.st_uid == os.geteuid() != 0 else 0o037
    if mode & forbidden:
        raise KeyFileError(f"{path}: others may read or change this key (mode {mode:04o}): chmod 600 {path}")


def _certificates(pem: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise KeyFileError(f"{path}: no certificates in PEM") from None


def _first_end(certificates: Sequence[x509.Certificate]) -> float:
    return min(one.not_valid_after_utc.timestamp() for one in certificates)


def _check_times(certificates: Sequence[x509.Certificate], path: Path, now: float) -> None:
    moment = datetime.fromtimestamp(now, UTC)
    for one in certificates:
        begins, ends = one.not_valid_before_utc, one.not_valid_after_utc
        if moment >= ends:
            raise KeyFileError(f"{path}: expired on {ends:%Y-%m-%d %H:%M} UTC: get a new certificate")
        if moment < begins:
            raise KeyFileError(f"{path}: not valid before {begins:%Y-%m-%d %H:%M} UTC: wait, or set the clock")


def _check_chain(chain: Sequence[x509.Certificate], path: Path) -> None:
    for number, (one, issuer) in enumerate(pairwise(chain), 1):
        if one.issuer != issuer.subject:
            raise KeyFileError(
                f"{path}: certificate {number + 1} did not issue certificate {number}: put the server's own first, "
                "then each one's issuer"
            )


def _check_purpose(certificate: x509.Certificate, path: Path) -> None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usage):
        raise KeyFileError(f"{path}: made for another purpose: it needs serverAuth among its extended key usages")


def _check_authorities(authorities: Sequence[x509.Certificate], path: Path, now: float) -> None:
    # One of several may have run out: that its clients are refused is as it should be.
    if all(one.not_valid_after_utc.timestamp() <= now for one in authorities):
        _check_times(authorities, path, now)
    for one in authorities:
        try:
            if one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                continue
        except (x509.ExtensionNotFound, ValueError):
            pass
        raise KeyFileError(f"{path}: {one.subject.rfc4514_string()} is not a certificate authority")


def _check_pair(certificate: x509.Certificate, key: bytes, files: CertificateFiles) -> None:
    private = _private_key(key, files.key)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if certificate.public_key().public_bytes(*form) != private.public_key().public_bytes(*form):
        raise KeyFileError(f"{files.key} is not the key of the first certificate in {files.certificate}")


def _private_key(pem: bytes, path: Path) -> PrivateKeyTypes:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileError(f"{path}: not a private key in PEM without a pass phrase") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, _CURVES):
        return key
    raise KeyFileError(f"{path}: the key must be RSA of {MIN_RSA_BITS} bits or more, or ECDSA on P-256, P-384 or P-521")
