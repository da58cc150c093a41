"""Key files: made once, private, kept."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flightsql_auth.keys import KeyFileError, KeyRing


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _write_key(path: Path, key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.touch(0o600)
    path.write_bytes(pem)


def test_new_keys_belong_to_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        KeyRing.open(tmp_path / "keys")
    finally:
        os.umask(before)
    directory = tmp_path / "keys"
    assert _mode(directory) == 0o700
    assert {path.name: _mode(path) for path in directory.iterdir()} == {
        "signing-0001.pem": 0o600,
        "sealing.key": 0o600,
    }


def test_keys_stay_over_a_restart(tmp_path: Path) -> None:
    first, second = KeyRing.open(tmp_path / "keys"), KeyRing.open(tmp_path / "keys")
    assert first.jwks() == second.jwks()
    assert first.sealing_key() == second.sealing_key()
    assert len(first.sealing_key()) == 32


def test_two_openers_end_with_the_same_keys(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(lambda _: KeyRing.open(tmp_path / "keys"), range(8)))
    assert len({(ring.active.kid, ring.sealing_key()) for ring in rings}) == 1
    assert len(list((tmp_path / "keys").iterdir())) == 2


def test_published_keys_hold_the_public_half_only(tmp_path: Path) -> None:
    ring = KeyRing.open(tmp_path / "keys")
    (jwk,) = ring.jwks()["keys"]
    assert set(jwk) == {"kty", "crv", "x", "kid", "use", "alg"}
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{jwk["x"]}"}}'
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()
    assert jwk["kid"] == thumbprint == ring.active.kid


def test_the_highest_number_signs_and_all_verify(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    old = KeyRing.open(directory)
    _write_key(directory / "signing-0002.pem", Ed25519PrivateKey.generate())
    both = KeyRing.open(directory)
    assert both.active.kid != old.active.kid
    found = both.find(old.active.kid)
    assert found is not None
    assert found.kid == old.active.kid
    assert both.find("nobody") is None
    assert [key["kid"] for key in both.jwks()["keys"]] == [old.active.kid, both.active.kid]


@pytest.mark.parametrize("name", ["signing-0001.pem", "sealing.key"])
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_key_that_others_can_reach_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    KeyRing.open(tmp_path / "keys")
    (tmp_path / "keys" / name).chmod(mode)
    with pytest.raises(KeyFileError, match=f"{name}.*chmod 600"):
        KeyRing.open(tmp_path / "keys")


def test_a_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    KeyRing.open(tmp_path / "keys")
    (tmp_path / "keys").chmod(0o777)
    with pytest.raises(KeyFileError, match="chmod 700"):
        KeyRing.open(tmp_path / "keys")


def test_files_that_are_no_such_key_are_refused(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    KeyRing.open(directory)
    (directory / "signing-0001.pem").write_text("rubbish")
    with pytest.raises(KeyFileError, match="PEM"):
        KeyRing.open(directory)
    _write_key(directory / "signing-0001.pem", ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(KeyFileError, match="Ed25519"):
        KeyRing.open(directory)
    _write_key(directory / "signing-0001.pem", Ed25519PrivateKey.generate())
    (directory / "sealing.key").write_bytes(b"short")
    with pytest.raises(KeyFileError, match="32 bytes"):
        KeyRing.open(directory)


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    with pytest.raises(KeyFileError, match="keys"):
        KeyRing.open(tmp_path / "keys")
