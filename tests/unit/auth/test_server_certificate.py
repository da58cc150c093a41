"""The server's own certificate: good files are taken, and of a bad one the text says which and what is wrong."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from flightsql_auth.keys import KeyFileError
from flightsql_auth.server_certificate import CertificateFiles

from tests.certificates import DAY, Authority, Pair, pem_of

NOW = time.time()
CA = Authority()


def files(folder: Path, pair: Pair, client_ca: bytes | None = None) -> CertificateFiles:
    certificate, key = pair.write(folder, "server")
    if client_ca is None:
        return CertificateFiles(certificate, key)
    (folder / "ca.pem").write_bytes(client_ca)
    return CertificateFiles(certificate, key, folder / "ca.pem")


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())],
    ids=lambda key: type(key).__name__,
)
def test_a_good_pair_is_taken(tmp_path: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    now = time.time()
    found = files(tmp_path, CA.issue("desk", key=key), CA.pem).load(now)
    assert found.not_after == pytest.approx(now + 86_400, abs=120)
    assert found.client_ca_not_after is not None
    context = found.context(ssl.CERT_REQUIRED)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert found.key.decode() not in repr(found)


def test_the_first_of_the_chain_to_run_out_counts(tmp_path: Path) -> None:
    pair = CA.subordinate("Desk CA 2").issue("desk", ends=datetime.now(UTC) + 30 * DAY)
    assert pair.certificate.count(b"BEGIN CERTIFICATE") == 2
    assert files(tmp_path, pair).load(NOW).not_after == pytest.approx(time.time() + 86_400, abs=120)


def _reversed(pair: Pair) -> bytes:
    end = b"-----END CERTIFICATE-----\n"
    parts = [part + end for part in pair.certificate.split(end) if part]
    return b"".join(reversed(parts))


def _encrypted(pair: Pair) -> bytes:
    key = serialization.load_pem_private_key(pair.key, None)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )


def _without_issuer_between() -> Pair:
    pair = CA.issue("desk")
    return Pair(pair.certificate + Authority("Another CA").pem, pair.key)


LONG_AGO = datetime.now(UTC) - 400 * DAY


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CA.issue("desk", begins=LONG_AGO, ends=LONG_AGO + DAY), "server.pem: expired on 20"),
        (lambda: CA.issue("desk", begins=datetime.now(UTC) + timedelta(hours=2)), "server.pem: not valid before 20"),
        (lambda: Pair(CA.issue("desk").certificate, CA.issue("desk").key), "server.key is not the key of the first"),
        (lambda: Pair(b"", CA.issue("desk").key), "server.pem: no certificates in PEM"),
        (
            lambda: Pair(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b""),
            "no certificates in PEM",
        ),
        (lambda: Pair(CA.issue("desk").certificate, b"rubbish"), "server.key: not a private key in PEM"),
        (lambda: Pair((pair := CA.issue("desk")).certificate, _encrypted(pair)), "without a pass phrase"),
        (
            lambda: Pair(_reversed(pair := CA.subordinate("Desk CA 2").issue("desk")), pair.key),
            "did not issue certificate 1: put the server's own first",
        ),
        (_without_issuer_between, "certificate 2 did not issue certificate 1"),
        (lambda: CA.issue("desk", usage=ExtendedKeyUsageOID.CLIENT_AUTH), "made for another purpose"),
        (lambda: CA.issue("desk", key=rsa.generate_private_key(65537, 1024)), "RSA of 2048 bits or more"),
        (lambda: CA.issue("desk", key=ed25519.Ed25519PrivateKey.generate()), "or ECDSA"),
        (lambda: CA.issue("desk", key=ec.generate_private_key(ec.SECP256K1())), "or ECDSA"),
        (lambda: Pair(b"x" * 1_048_577, b""), "longer than"),
    ],
)
def test_a_pair_that_can_not_be_used_is_refused(tmp_path: Path, make: Callable[[], Pair], said: str) -> None:
    with pytest.raises(KeyFileError) as refused:
        files(tmp_path, make()).load(NOW)
    assert said in str(refused.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_a_key_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    given = files(tmp_path, CA.server())
    given.key.chmod(mode)
    owned_by_root = os.geteuid() == 0
    if owned_by_root and mode == 0o640:
        given.load(NOW)  # so root hands a key to a service
        return
    with pytest.raises(KeyFileError, match=f"others may read or change this key .mode {mode:04o}.: chmod 600"):
        given.load(NOW)


def test_a_key_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = files(tmp_path, CA.server())
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    if given.key.stat().st_uid == 0:
        given.load(NOW)
        given.key.chmod(0o640)
        given.load(NOW)
        given.key.chmod(0o644)
        with pytest.raises(KeyFileError, match="others may read"):
            given.load(NOW)
        return
    with pytest.raises(KeyFileError, match="belongs to another user"):
        given.load(NOW)


@pytest.mark.parametrize("missing", ["certificate", "key", "client_ca"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, missing: str) -> None:
    given = files(tmp_path, CA.server(), CA.pem)
    path = getattr(given, missing)
    path.unlink()
    with pytest.raises(KeyFileError, match=f"{path.name}: No such file"):
        given.load(NOW)


def test_authorities_must_be_authorities(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"ca.pem: CN=reader is not a certificate authority"):
        files(tmp_path, CA.server(), CA.client("reader").certificate).load(NOW)
    with pytest.raises(KeyFileError, match=r"ca.pem: no certificates in PEM"):
        files(tmp_path, CA.server(), b"").load(NOW)
    with pytest.raises(KeyFileError, match="expired on"):
        files(tmp_path, CA.issue("desk", ends=datetime.now(UTC) + 9 * DAY), CA.pem).load(NOW + 2 * 86_400)


def test_pem_of_the_old_form_is_a_key_too(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pair = CA.issue("desk", key=key)
    assert pem_of(key) == pair.key
    old = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    files(tmp_path, Pair(pair.certificate, old)).load(NOW)
