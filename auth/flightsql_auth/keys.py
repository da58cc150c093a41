"""The server's own keys: one pair signs tokens, older ones still verify them, and a secret seals tickets.

The directory holds ``signing-0001.pem``, ``signing-0002.pem`` … (the highest number signs, all verify: rotating is
adding the next, retiring is deleting the oldest) and ``sealing.key``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SEALING_KEY_BYTES: Final = 32
MAX_KEY_FILE_BYTES: Final = 65_536

_SIGNING_FILE = re.compile(r"signing-\d{4}\.pem")
_FIRST_SIGNING_FILE: Final = "signing-0001.pem"
_SEALING_FILE: Final = "sealing.key"


class KeyFileError(Exception):
    """A key file or its directory can't be used as it is; the message, for the administrator, says what to do."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key pair. ``algorithm`` is the JWS name that goes with the kind of key; tokens never choose it."""

    kid: str
    algorithm: str
    private_key: Ed25519PrivateKey = field(repr=False)

    @property
    def public_key(self) -> Ed25519PublicKey:
        """The half that verifies."""
        return self.private_key.public_key()

    def jwk(self) -> dict[str, str]:
        """The public half as a JSON web key."""
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": _public_text(self.public_key),
            "kid": self.kid,
            "use": "sig",
            "alg": self.algorithm,
        }


class KeyRing:
    """The keys of one server. Immutable, so any thread may use it; nothing to close."""

    def __init__(self, keys: Sequence[SigningKey], sealing_key: bytes) -> None:
        """``keys`` from the oldest to the active one, at least one; ``sealing_key`` has 32 bytes."""
        if not keys or len(sealing_key) != SEALING_KEY_BYTES:
            raise ValueError("a key ring needs a signing key and 32 bytes of sealing key")
        self._active = keys[-1]
        self._by_kid: Mapping[str, SigningKey] = {key.kid: key for key in keys}
        self._sealing_key = sealing_key

    @classmethod
    def open(cls, directory: Path) -> KeyRing:
        """The keys in ``directory``; makes it, and what is missing in it, readable by its owner only.

        Raises ``KeyFileError`` if others could read a key or replace one, or if a file is no such key. Two processes
        may open a new directory at once: both end with the same keys.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if directory.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise KeyFileError(f"{directory}: others may write to this directory of keys: chmod 700 {directory}")
            if not _signing_files(directory):
                _create(directory / _FIRST_SIGNING_FILE, _new_private_pem())
            keys = [_load_signing_key(path) for path in _signing_files(directory)]
            sealing_file = directory / _SEALING_FILE
            if not sealing_file.exists():
                _create(sealing_file, secrets.token_bytes(SEALING_KEY_BYTES))
            sealing_key = _read_secret(sealing_file)
        except OSError as error:
            raise KeyFileError(f"{error.filename or directory}: {error.strerror}") from error
        if len(sealing_key) != SEALING_KEY_BYTES:
            raise KeyFileError(f"{sealing_file}: not {SEALING_KEY_BYTES} bytes long; delete it to have a new one made")
        return cls(keys, sealing_key)

    @property
    def active(self) -> SigningKey:
        """The key that signs new tokens."""
        return self._active

    def find(self, kid: str) -> SigningKey | None:
        """The key of that id, active or older; None if there is none."""
        return self._by_kid.get(kid)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public halves of every key that verifies, as a JSON web key set."""
        return {"keys": [key.jwk() for key in self._by_kid.values()]}

    def sealing_key(self) -> bytes:
        """The 32 secret bytes under which tickets are sealed; they never leave the server."""
        return self._sealing_key


def _signing_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if _SIGNING_FILE.fullmatch(path.name))


def _load_signing_key(path: Path) -> SigningKey:
    try:
        key = serialization.load_pem_private_key(_read_secret(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileError(f"{path}: not a private key in PEM without a pass phrase") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: not an Ed25519 key")
    return SigningKey(_thumbprint(key.public_key()), "EdDSA", key)


def _new_private_pem() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _thumbprint(key: Ed25519PublicKey) -> str:
    """The key's id after RFC 7638: the hash of its required members, in order, without spaces."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": _public_text(key)}
    return _base64url(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())


def _public_text(key: Ed25519PublicKey) -> str:
    return _base64url(key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _read_secret(path: Path) -> bytes:
    with path.open("rb") as file:
        # Asked of the open file, so that what is checked is what is read.
        mode = os.fstat(file.fileno()).st_mode
        if mode & 0o077:
            raise KeyFileError(
                f"{path}: others may read or change this key (mode {mode & 0o777:04o}): chmod 600 {path}"
            )
        return file.read(MAX_KEY_FILE_BYTES)


def _create(path: Path, content: bytes) -> None:
    """Writes a new file that appears whole or not at all; leaves one that another process made first."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
