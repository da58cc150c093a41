"""A certificate authority of the tests' own: pairs for servers and clients, good ones and every kind of bad one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOOPBACK: tuple[x509.GeneralName, ...] = (x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")))
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate with those of its issuers below the root, and its key; both PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Writes ``name.pem`` and ``name.key``, the key for its owner alone; gives both paths."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.certificate)
        key.touch(mode=0o600)
        key.write_bytes(self.key)
        return certificate, key


def pem_of(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    """The key without a pass phrase."""
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass(frozen=True)
class Authority:
    """Issues certificates. ``pem`` is what those who believe it need; ``issuers`` goes with each certificate."""

    name: str = "Desk CA"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    issuers: bytes = b""
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "certificate", self._signed(self.name, self.key, self, ca=True))

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def subordinate(self, name: str) -> Authority:
        """An authority below this one, whose certificates come with its own."""
        below = Authority(name)
        signed = self._signed(name, below.key, self, ca=True)
        object.__setattr__(below, "certificate", signed)
        object.__setattr__(below, "issuers", below.pem + self.issuers)
        return below

    def issue(
        self,
        common_name: str,
        *,
        names: Sequence[x509.GeneralName] = LOOPBACK,
        begins: datetime | None = None,
        ends: datetime | None = None,
        usage: x509.ObjectIdentifier | None = None,
        key: CertificateIssuerPrivateKeyTypes | None = None,
    ) -> Pair:
        """A new pair; valid from yesterday to tomorrow, with an ECDSA key, for any purpose, if nothing else is said."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        signed = self._signed(common_name, key, self, names=names, begins=begins, ends=ends, usage=usage)
        return Pair(signed.public_bytes(serialization.Encoding.PEM) + self.issuers, pem_of(key))

    def server(self) -> Pair:
        """A pair for a server on loopback."""
        return self.issue("desk server", usage=ExtendedKeyUsageOID.SERVER_AUTH)

    def client(self, user: str) -> Pair:
        """A pair for a client, whose common name is the user's."""
        return self.issue(user, names=(), usage=ExtendedKeyUsageOID.CLIENT_AUTH)

    @staticmethod
    def _signed(
        common_name: str,
        key: CertificateIssuerPrivateKeyTypes,
        issuer: Authority,
        *,
        ca: bool = False,
        names: Sequence[x509.GeneralName] = (),
        begins: datetime | None = None,
        ends: datetime | None = None,
        usage: x509.ObjectIdentifier | None = None,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(_name(issuer.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins or now - DAY)
            .not_valid_after(ends or now + DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(issuer.key, hashes.SHA256())
