"""One signing key pair of each kind: made, read from PEM, told as a JSON web key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .jws import encode_base64url

Algorithm = Literal["EdDSA", "ES256", "RS256"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)
DEFAULT_ALGORITHM: Final[Algorithm] = "EdDSA"

PrivateKey: TypeAlias = Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey: TypeAlias = Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey

NEW_RSA_BITS: Final = 3_072
LEAST_RSA_BITS: Final = 2_048
MOST_RSA_BITS: Final = 8_192
_P256_BYTES: Final = 32
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class UnusableKey(ValueError):
    """Not a key that can sign tokens here; the text says what would be."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key pair. ``algorithm`` is the JWS name that goes with the kind of key; tokens never choose it.

    ``kid`` is the key's thumbprint after RFC 7638. ``created_at`` is in seconds since the epoch.
    """

    kid: str
    algorithm: Algorithm
    private_key: PrivateKey = field(repr=False)
    public_key: PublicKey = field(repr=False)
    created_at: float = 0.0

    def jwk(self) -> dict[str, str]:
        """The public half as a JSON web key."""
        return {**_members(self.public_key), "kid": self.kid, "use": "sig", "alg": self.algorithm}


def new_private_pem(algorithm: Algorithm) -> bytes:
    """A new private key for the algorithm, in PEM without a pass phrase. RSA takes up to a second or so."""
    private_key: PrivateKey
    match algorithm:
        case "EdDSA":
            private_key = Ed25519PrivateKey.generate()
        case "ES256":
            private_key = ec.generate_private_key(ec.SECP256R1())
        case "RS256":
            private_key = rsa.generate_private_key(public_exponent=65_537, key_size=NEW_RSA_BITS)
    return private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_signing_key(pem: bytes, created_at: float) -> SigningKey:
    """The key pair of a private key in PEM; text before it is passed over. Raises ``UnusableKey``."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UnusableKey("not a private key in PEM without a pass phrase") from None
    if isinstance(key, Ed25519PrivateKey):
        return _pair("EdDSA", key, created_at)
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return _pair("ES256", key, created_at)
    if isinstance(key, rsa.RSAPrivateKey) and LEAST_RSA_BITS <= key.key_size <= MOST_RSA_BITS:
        return _pair("RS256", key, created_at)
    raise UnusableKey(f"not a key of Ed25519, P-256, or RSA with {LEAST_RSA_BITS} to {MOST_RSA_BITS} bits")


def one_spelling(algorithm: Algorithm, signature: bytes) -> bytes:
    """The signature in the only form that is taken here.

    Whoever sees an ECDSA signature (r, s) can write (r, -s) in its stead, which verifies as well: a second text of the
    same token, that nobody signed. The smaller of the two is ours.
    """
    if algorithm != "ES256" or len(signature) != 2 * _P256_BYTES:
        return signature
    s = int.from_bytes(signature[_P256_BYTES:], "big")
    return signature[:_P256_BYTES] + min(s, (_P256_ORDER - s) % _P256_ORDER).to_bytes(_P256_BYTES, "big")


def _pair(algorithm: Algorithm, key: PrivateKey, created_at: float) -> SigningKey:
    public_key = key.public_key()
    return SigningKey(_thumbprint(public_key), algorithm, key, public_key, created_at)


def _members(key: PublicKey) -> dict[str, str]:
    """What makes the public key, as RFC 7518 and 8037 call it: the members that its thumbprint is made of."""
    if isinstance(key, Ed25519PublicKey):
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": encode_base64url(raw)}
    if isinstance(key, ec.EllipticCurvePublicKey):
        point = key.public_numbers()
        x, y = (encode_base64url(number.to_bytes(_P256_BYTES, "big")) for number in (point.x, point.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y}
    numbers = key.public_numbers()
    parts = (number.to_bytes((number.bit_length() + 7) // 8, "big") for number in (numbers.n, numbers.e))
    n, e = (encode_base64url(part) for part in parts)
    return {"kty": "RSA", "n": n, "e": e}


def _thumbprint(key: PublicKey) -> str:
    """The key's id after RFC 7638: the hash of its required members, in order, without spaces."""
    canonical = json.dumps(_members(key), sort_keys=True, separators=(",", ":"))
    return encode_base64url(hashlib.sha256(canonical.encode()).digest())
