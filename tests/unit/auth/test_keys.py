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
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flightsql_auth.keys import KEEP_RETIRED_SECONDS, LEEWAY_SECONDS, KeyFileError, KeyRing
from flightsql_auth.signing import ALGORITHMS, Algorithm, PrivateKey

from tests.unit.auth.door import Clock

TOKEN_SECONDS = 3_600.0


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _write_key(path: Path, key: PrivateKey) -> None:
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


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o711])
def test_a_directory_that_others_can_look_into_is_refused(tmp_path: Path, mode: int) -> None:
    KeyRing.open(tmp_path / "keys")
    (tmp_path / "keys").chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 700"):
        KeyRing.open(tmp_path / "keys")


def test_files_that_are_no_such_key_are_refused(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    KeyRing.open(directory)
    (directory / "signing-0001.pem").write_text("rubbish")
    with pytest.raises(KeyFileError, match="PEM"):
        KeyRing.open(directory)
    weak = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)
    for other in (ec.generate_private_key(ec.SECP384R1()), weak):
        _write_key(directory / "signing-0001.pem", other)
        with pytest.raises(KeyFileError, match="not a key of Ed25519, P-256, or RSA with 2048"):
            KeyRing.open(directory)
    (directory / "signing-0001.pem").write_bytes(b"Created: yesterday\n-----BEGIN PRIVATE KEY-----")
    with pytest.raises(KeyFileError, match="name a time that is none"):
        KeyRing.open(directory)
    _write_key(directory / "signing-0001.pem", Ed25519PrivateKey.generate())
    (directory / "sealing.key").write_bytes(b"short")
    with pytest.raises(KeyFileError, match="32 bytes"):
        KeyRing.open(directory)


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    with pytest.raises(KeyFileError, match="keys"):
        KeyRing.open(tmp_path / "keys")


# ---- rotation


def _ring(directory: Path, clock: Clock) -> KeyRing:
    return KeyRing.open(directory / "keys", token_seconds=TOKEN_SECONDS, clock=clock)


def _kids(ring: KeyRing) -> list[str]:
    return [key["kid"] for key in ring.jwks()["keys"]]


def test_an_old_key_verifies_as_long_as_its_tokens_can_live(tmp_path: Path, clock: Clock) -> None:
    ring = _ring(tmp_path, clock)
    old = ring.active
    new = ring.rotate()
    assert (ring.active.kid, new.algorithm) == (new.kid, "EdDSA")
    assert _kids(ring) == [old.kid, new.kid]
    clock.advance(TOKEN_SECONDS + LEEWAY_SECONDS - 1)
    assert not ring.refresh()
    assert ring.find(old.kid) is not None
    clock.advance(2)
    assert ring.refresh()
    assert ring.find(old.kid) is None
    assert _kids(ring) == [new.kid] == _kids(_ring(tmp_path, clock)), "a restart knows it as well"


def test_a_rotation_by_another_process_is_noticed(tmp_path: Path, clock: Clock) -> None:
    ring, other = _ring(tmp_path, clock), _ring(tmp_path, clock)
    assert not ring.refresh()
    new = other.rotate("ES256")
    assert ring.refresh()
    assert (ring.active.kid, ring.active.algorithm) == (new.kid, "ES256")
    assert not ring.refresh()


def test_an_overlap_of_nothing_ends_all_older_keys_at_once(tmp_path: Path, clock: Clock) -> None:
    """Also those that an earlier rotation had left more time."""
    ring = _ring(tmp_path, clock)
    ring.rotate()
    new = ring.rotate(overlap_seconds=0)
    assert _kids(ring) == [new.kid] == _kids(_ring(tmp_path, clock))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_rotation_keeps_the_algorithm_unless_told(tmp_path: Path, clock: Clock, algorithm: Algorithm) -> None:
    ring = _ring(tmp_path, clock)
    ring.rotate(algorithm)
    assert ring.rotate().algorithm == algorithm
    ours = tmp_path / "keys" / "signing-0003.pem"
    assert _mode(ours) == 0o600
    assert b"Created: " in ours.read_bytes()
    assert {key["alg"] for key in ring.jwks()["keys"]} == {"EdDSA", algorithm}
    private = {"d", "p", "q", "dp", "dq", "qi", "k"}
    assert all(not private & key.keys() for key in ring.jwks()["keys"])


def test_two_rotations_at_once_both_count(tmp_path: Path, clock: Clock) -> None:
    rings = [_ring(tmp_path, clock) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        kids = {key.kid for key in pool.map(lambda ring: ring.rotate(), rings)}
    assert len(_kids(_ring(tmp_path, clock))) == 5
    assert kids <= set(_kids(_ring(tmp_path, clock)))


def test_files_of_retired_keys_go_a_day_later(tmp_path: Path, clock: Clock) -> None:
    ring = _ring(tmp_path, clock)
    old = ring.active
    ring.rotate(overlap_seconds=0)
    ring.refresh()
    clock.advance(KEEP_RETIRED_SECONDS)
    assert ring.prune() == []
    clock.advance(1)
    assert ring.prune() == [old.kid]
    assert [one.number for one in ring.files()] == [2]
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["sealing.key", "signing-0002.pem"]
    assert ring.prune() == []


def test_a_new_file_that_is_no_key_leaves_those_of_before(tmp_path: Path, clock: Clock) -> None:
    ring = _ring(tmp_path, clock)
    kids = _kids(ring)
    bad = tmp_path / "keys" / "signing-0002.pem"
    bad.touch(0o600)
    bad.write_text("rubbish")
    for _ in range(2):
        with pytest.raises(KeyFileError, match="PEM"):
            ring.refresh()
    assert _kids(ring) == kids
    bad.unlink()
    assert not ring.refresh()
    for file in (tmp_path / "keys").glob("signing-*"):
        file.unlink()
    with pytest.raises(KeyFileError, match="no signing key any more"):
        ring.refresh()
    assert _kids(ring) == kids
