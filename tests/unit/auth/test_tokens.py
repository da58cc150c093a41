"""Session tokens: what is accepted, and every forgery that is not."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flightsql_auth.errors import AuthError, BadToken, ExpiredToken
from flightsql_auth.keys import KeyRing
from flightsql_auth.tokens import Tokens
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.forgeries import Forger
from tests.unit.auth.door import AUDIENCE, ISSUER, Clock


@pytest.fixture
def tokens(keys: KeyRing, clock: Clock) -> Tokens:
    return Tokens(keys, issuer=ISSUER, audience=AUDIENCE, clock=clock)


def _good_claims(now: float) -> dict[str, object]:
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "trader", "jti": "id", "iat": int(now), "exp": int(now) + 60}


def _encode(data: object) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _signed(keys: KeyRing, claims: object, header: object = None, key: Ed25519PrivateKey | None = None) -> str:
    """A token over any header and claims, with a genuine signature."""
    if header is None:
        header = {"alg": "EdDSA", "kid": keys.active.kid, "typ": "at+jwt"}
    text = f"{_encode(header)}.{_encode(claims)}"
    return f"{text}.{_encode((key or keys.active.private_key).sign(text.encode()))}"


def test_an_issued_token_says_who_and_until_when(tokens: Tokens, keys: KeyRing, clock: Clock) -> None:
    token = tokens.issue(subject="trader", jti="id", issued_at=clock.now + 0.9, expires_at=clock.now + 60.9)
    found = tokens.verify(token)
    assert (found.subject, found.jti) == ("trader", "id")
    assert (found.issued_at, found.expires_at) == (clock.now, clock.now + 60)
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": keys.active.kid, "typ": "at+jwt"}
    assert "roles" not in jwt.decode(token, options={"verify_signature": False})


def test_a_token_written_by_hand_is_accepted_when_right(tokens: Tokens, keys: KeyRing, clock: Clock) -> None:
    assert tokens.verify(_signed(keys, _good_claims(clock.now))).subject == "trader"


def test_expiry_and_leeway(tokens: Tokens, keys: KeyRing, clock: Clock) -> None:
    token = _signed(keys, _good_claims(clock.now))
    clock.advance(89)
    tokens.verify(token)
    clock.advance(1)
    with pytest.raises(ExpiredToken):
        tokens.verify(token)


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_tokens_of_the_future_are_refused(tokens: Tokens, keys: KeyRing, clock: Clock, claim: str) -> None:
    claims = _good_claims(clock.now)
    tokens.verify(_signed(keys, claims | {claim: clock.now + 29}))
    with pytest.raises(BadToken):
        tokens.verify(_signed(keys, claims | {claim: clock.now + 31}))


def test_leeway_has_a_limit(keys: KeyRing) -> None:
    with pytest.raises(ValueError, match="leeway"):
        Tokens(keys, issuer=ISSUER, audience=AUDIENCE, leeway_seconds=31)


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "exp", "iat", "jti"])
def test_every_required_claim_is_required(tokens: Tokens, keys: KeyRing, clock: Clock, claim: str) -> None:
    claims = _good_claims(clock.now)
    del claims[claim]
    with pytest.raises(BadToken):
        tokens.verify(_signed(keys, claims))


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://other"},
        {"aud": "other"},
        {"aud": [AUDIENCE]},
        {"sub": ""},
        {"sub": 7},
        {"jti": ""},
        {"jti": 7},
        {"jti": None},
        {"exp": True},
        {"exp": "9999999999"},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"iat": None},
        {"iat": float("-inf")},
        {"nbf": "now"},
    ],
    ids=str,
)
def test_claims_of_wrong_value_or_type(tokens: Tokens, keys: KeyRing, clock: Clock, change: dict[str, object]) -> None:
    with pytest.raises(BadToken):
        tokens.verify(_signed(keys, _good_claims(clock.now) | change))


@pytest.mark.parametrize(
    "change",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": True},
        {"crit": []},
        {"b64": False},
        {"jku": "https://evil.test/jwks"},
        {"x5u": "https://evil.test/cert"},
        {"jwk": {"kty": "OKP"}},
        {"kid": "unknown"},
        {"kid": None},
        {"kid": ["a"]},
        {"kid": "../../etc/passwd"},
        {"typ": "JWT"},
        {"typ": None},
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "RS256"},
        {"alg": None},
        {"alg": ["EdDSA"]},
    ],
    ids=str,
)
def test_headers_that_do_not_rule(tokens: Tokens, keys: KeyRing, clock: Clock, change: dict[str, object]) -> None:
    header = {"alg": "EdDSA", "kid": keys.active.kid, "typ": "at+jwt"} | change
    with pytest.raises(BadToken):
        tokens.verify(_signed(keys, _good_claims(clock.now), header))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
def test_unsigned_tokens(tokens: Tokens, keys: KeyRing, clock: Clock, algorithm: str) -> None:
    header = _encode({"alg": algorithm, "kid": keys.active.kid, "typ": "at+jwt"})
    for signature in ("", "AA"):
        with pytest.raises(BadToken):
            tokens.verify(f"{header}.{_encode(_good_claims(clock.now))}.{signature}")


def test_the_public_key_is_no_hmac_secret(tokens: Tokens, keys: KeyRing, clock: Clock) -> None:
    public = keys.active.public_key
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    text = f"{_encode({'alg': 'HS256', 'kid': keys.active.kid, 'typ': 'at+jwt'})}.{_encode(_good_claims(clock.now))}"
    for secret in (pem, pem.strip(), raw):
        with pytest.raises(BadToken):
            tokens.verify(f"{text}.{_encode(hmac.digest(secret, text.encode(), 'sha256'))}")


class OurSigner:
    """Our own key, in the hands of a forger."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    def sign(self, kind: str, data: bytes) -> bytes:
        return self._keys.active.private_key.sign(data)

    def jwk(self, kind: str) -> dict[str, str]:
        return self._keys.active.jwk()


def test_no_forgery_is_accepted(tokens: Tokens, keys: KeyRing, clock: Clock) -> None:
    forger = Forger(OurSigner(keys), _good_claims(clock.now), kinds=("ed",), header_type="at+jwt")
    tokens.verify(forger.nearly("ed"))
    forgeries = forger.all("http://127.0.0.1:9/lure")
    assert len(forgeries) > 130
    accepted = []
    for name, token in forgeries.items():
        try:
            tokens.verify(token)
        except (BadToken, ExpiredToken):
            continue
        accepted.append(name)
    assert accepted == []


def test_another_key_under_our_kid(tokens: Tokens, keys: KeyRing, clock: Clock) -> None:
    with pytest.raises(BadToken):
        tokens.verify(_signed(keys, _good_claims(clock.now), key=Ed25519PrivateKey.generate()))


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "é.b.c", "e30.e30.", "x" * 10_000, "[" * 3000 + ".a.a"]
)
def test_rubbish(tokens: Tokens, token: str) -> None:
    with pytest.raises(BadToken):
        tokens.verify(token)


def test_payloads_that_are_no_claims(tokens: Tokens, keys: KeyRing) -> None:
    payloads: tuple[object, ...] = ([], "text", 5, None, b"", b"\xff", b"[" * 3000, b'{"a":' * 1000)
    for payload in payloads:
        with pytest.raises(BadToken):
            tokens.verify(_signed(keys, payload))


def test_every_refusal_says_the_same(tokens: Tokens, keys: KeyRing, clock: Clock) -> None:
    broken: list[Callable[[], str]] = [
        lambda: "rubbish",
        lambda: _signed(keys, _good_claims(clock.now) | {"aud": "other"}),
        lambda: _signed(keys, _good_claims(clock.now), key=Ed25519PrivateKey.generate()),
    ]
    reasons = set()
    for make in broken:
        with pytest.raises(AuthError) as caught:
            tokens.verify(make())
        assert caught.value.__cause__ is None
        reasons.add(caught.value.reason)
    assert len(reasons) == 1


_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n"
_CLOCK = Clock()


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_no_mutated_token_is_accepted(keys: KeyRing, data: st.DataObject) -> None:
    tokens = Tokens(keys, issuer=ISSUER, audience=AUDIENCE, clock=_CLOCK)
    token = tokens.issue(subject="trader", jti="id", issued_at=_CLOCK.now, expires_at=_CLOCK.now + 60)
    mutated = token
    for _ in range(data.draw(st.integers(1, 3))):
        # The last character matters most: some of its bits take no part in the signature.
        position = data.draw(st.one_of(st.just(len(mutated) - 1), st.integers(0, len(mutated) - 1)))
        character = data.draw(st.sampled_from(_ALPHABET))
        kind = data.draw(st.sampled_from(["replace", "insert", "append", "delete"]))
        if kind == "append":
            mutated += character
        else:
            rest = mutated[position:] if kind == "insert" else mutated[position + 1 :]
            mutated = mutated[:position] + ("" if kind == "delete" else character) + rest
    if mutated != token:
        with pytest.raises(AuthError):
            tokens.verify(mutated)


def test_every_other_spelling_of_the_last_character_is_refused(tokens: Tokens, clock: Clock) -> None:
    token = tokens.issue(subject="trader", jti="id", issued_at=clock.now, expires_at=clock.now + 60)
    for character in _ALPHABET:
        if character != token[-1]:
            with pytest.raises(BadToken):
                tokens.verify(token[:-1] + character)
