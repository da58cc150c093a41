"""Tokens of an identity provider: what is believed of them, and every forgery that is not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from flightsql_auth.authenticator import Authenticator
from flightsql_auth.errors import (
    AuthError,
    BadCredentials,
    BadToken,
    ExpiredToken,
    ScopeRefused,
    SessionEnded,
)
from flightsql_auth.federation import Federation, ForeignUser
from flightsql_auth.policies import own_schema
from flightsql_auth.providers import ProviderError, providers_of
from flightsql_auth.service_tokens import ServiceTokens
from flightsql_auth.store import StateStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from tests.forgeries import ALGORITHMS, Forger
from tests.unit.auth.door import HASHER, PEER, Clock, basic

PROVIDER_ISSUER = "https://login.test/realms/desk"
PROVIDER_AUDIENCE = "flightsql-desk"
ROLES = {"trader", "viewer", "admin"}


class LocalSigner:
    """A provider's keys, held by the test."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {
            "rsa": rsa.generate_private_key(65537, 2048),
            "ec": ec.generate_private_key(ec.SECP256R1()),
            "ed": ed25519.Ed25519PrivateKey.generate(),
        }

    def sign(self, kind: str, data: bytes) -> bytes:
        key = self.keys[kind]
        if kind == "rsa":
            return bytes(key.sign(data, padding.PKCS1v15(), hashes.SHA256()))
        if kind == "ed":
            return bytes(key.sign(data))
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def jwk(self, kind: str) -> dict[str, Any]:
        algorithm = jwt.get_algorithm_by_name(ALGORITHMS[kind])
        found: dict[str, Any] = algorithm.to_jwk(self.keys[kind].public_key(), as_dict=True)
        return found | {"kid": f"{kind}-1", "use": "sig", "alg": ALGORITHMS[kind]}


@pytest.fixture(scope="module")
def signer() -> LocalSigner:
    return LocalSigner()


def _claims(clock: Clock, **changes: object) -> dict[str, object]:
    now = int(clock.now)
    good = {"iss": PROVIDER_ISSUER, "aud": PROVIDER_AUDIENCE, "sub": "alice", "iat": now, "exp": now + 600}
    return good | {"groups": ["/desk"], "accounts": ["A1", "A2"]} | changes


Made = Callable[..., Federation]


@pytest.fixture
def make(tmp_path: Path, signer: LocalSigner, clock: Clock) -> Made:
    """Makes a federation with one provider, called ``idp``; keyword arguments override its table."""

    def made(**changes: object) -> Federation:
        file = tmp_path / "jwks.json"
        file.write_text(json.dumps({"keys": [signer.jwk(kind) for kind in ALGORITHMS]}))
        table: dict[str, object] = {
            "issuer": PROVIDER_ISSUER,
            "audience": PROVIDER_AUDIENCE,
            "jwks_file": str(file),
            "roles": {"/desk": "trader", "/ops": ["viewer", "admin"]},
            "claims": ["accounts"],
        }
        return Federation(providers_of({"idp": table | changes}, ROLES), clock=clock)

    return made


def _token(signer: LocalSigner, clock: Clock, kind: str = "rsa", **changes: object) -> str:
    return Forger(signer, _claims(clock, **changes)).nearly(kind)


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_a_genuine_token_says_who_and_what(make: Made, signer: LocalSigner, clock: Clock, kind: str) -> None:
    found = make().verify(_token(signer, clock, kind))
    assert found.user == ForeignUser("idp:alice", ("trader",), "idp", {"accounts": ["A1", "A2"]})
    assert found.expires_at == clock.now + 600
    assert clock.now < found.valid_until <= found.expires_at


def test_no_forgery_is_accepted(make: Made, signer: LocalSigner, clock: Clock) -> None:
    federation = make()
    forgeries = Forger(signer, _claims(clock)).all("http://127.0.0.1:9/lure")
    assert len(forgeries) > 400
    for kind in ALGORITHMS:
        federation.verify(_token(signer, clock, kind))
    accepted = []
    for name, token in forgeries.items():
        try:
            federation.verify(token)
        except (BadToken, ExpiredToken):
            continue
        accepted.append(name)
    assert accepted == []


def test_no_forgery_is_accepted_at_the_door(
    make: Made, make_door: Callable[..., Authenticator], signer: LocalSigner, clock: Clock
) -> None:
    """Whatever a token says of its issuer, one of the two checks sees it, and each checks all."""
    door = make_door(federation=make())
    for name, token in Forger(signer, _claims(clock)).all("http://127.0.0.1:9/lure").items():
        for credential in (f"Bearer {token}", basic("token", token)):
            try:
                door.authenticate(credential, PEER)
            except AuthError:
                continue
            pytest.fail(name)


def test_a_signature_with_the_other_s_is_the_same_token(make: Made, signer: LocalSigner, clock: Clock) -> None:
    """Anybody can make it from a token, nobody without one; it says the same and gives the same."""
    federation, forger = make(), Forger(signer, _claims(clock))
    assert federation.verify(forger.malleated()).user == federation.verify(forger.nearly("ec")).user


def test_audiences(make: Made, signer: LocalSigner, clock: Clock) -> None:
    federation = make(audience=["one", "two"])
    for audience in ("one", "two", ["other", "two"]):
        federation.verify(_token(signer, clock, aud=audience))
    for wrong in ("onetwo", ["other"], []):
        with pytest.raises(BadToken):
            federation.verify(_token(signer, clock, aud=wrong))


def test_leeway_and_longest_life(make: Made, signer: LocalSigner, clock: Clock) -> None:
    federation = make(leeway_seconds=10, longest_seconds=3_600)
    for change in (
        {"exp": clock.now - 9},
        {"nbf": clock.now + 9},
        {"iat": clock.now + 9.5},
        {"exp": clock.now + 3_609},
    ):
        federation.verify(_token(signer, clock, **change))
    for change in (
        {"exp": clock.now - 11},
        {"nbf": clock.now + 11},
        {"iat": clock.now + 11},
        {"exp": clock.now + 3_620},
    ):
        with pytest.raises(AuthError):
            federation.verify(_token(signer, clock, **change))


@pytest.mark.parametrize(
    "subject", ["a b", "alice\n", "\0", "a\u202eb", "é", "x" * 256, " ", "\ud800", "a\x7f"], ids=ascii
)
def test_subjects_that_could_be_read_as_another(make: Made, signer: LocalSigner, clock: Clock, subject: str) -> None:
    with pytest.raises(BadToken):
        make().verify(_token(signer, clock, sub=subject))


@pytest.mark.parametrize(
    "subject", ["admin", "anonymous", "idp:alice", "auth0|5f", "a';DROP/**/TABLE/**/x--", "CN=a,O=b", "%"]
)
def test_a_subject_is_nobody_but_itself(make: Made, signer: LocalSigner, clock: Clock, subject: str) -> None:
    user = make().verify(_token(signer, clock, sub=subject)).user
    assert isinstance(user, ForeignUser)
    assert user.name == f"idp:{subject}"
    assert own_schema(user.name).startswith("u_idp_")
    assert own_schema(user.name) != own_schema(subject)


def test_schemas_of_foreign_users_differ(make: Made) -> None:
    names = ["idp:alice", "idp:Alice", "idp:a.b", "idp:a_b", "idp:" + "x" * 60, "idp:" + "x" * 61]
    assert len({own_schema(name) for name in names}) == len(names)


def test_claims_on_the_way_through_objects(make: Made, signer: LocalSigner, clock: Clock) -> None:
    federation = make(
        principal_claim="preferred_username",
        groups_claim=["realm_access", "roles"],
        claims={"accounts": ["desk", "accounts"], "limit": "limit"},
        default_roles=["viewer"],
    )
    token = _token(
        signer,
        clock,
        preferred_username="ann",
        realm_access={"roles": ["/desk", "unknown", 7]},
        desk={"accounts": ["A9"]},
        limit={"not": "plain"},
    )
    assert federation.verify(token).user == ForeignUser("idp:ann", ("viewer", "trader"), "idp", {"accounts": ["A9"]})


@pytest.mark.parametrize("value", [{"a": 1}, [["A1"]], ["A1", None], "A\x001", "\ud800", 2**63, None], ids=ascii)
def test_claims_that_no_filter_could_compare_with_count_as_absent(
    make: Made, signer: LocalSigner, clock: Clock, value: object
) -> None:
    user = make().verify(_token(signer, clock, accounts=value)).user
    assert isinstance(user, ForeignUser)
    assert user.claims == {}


def test_a_number_that_no_float_can_hold_counts_as_absent(make: Made, signer: LocalSigner, clock: Clock) -> None:
    claims = json.dumps(_claims(clock, accounts=0)).replace('"accounts": 0', '"accounts": 1e400').encode()
    user = make().verify(Forger(signer, _claims(clock)).signed("rsa", claims=claims)).user
    assert isinstance(user, ForeignUser)
    assert user.claims == {}


def test_too_many_claims_are_refused(make: Made, signer: LocalSigner, clock: Clock) -> None:
    with pytest.raises(BadToken, match="smaller token"):
        make().verify(_token(signer, clock, accounts=[f"A{n}" for n in range(1_000)]))


@pytest.mark.parametrize(
    "more",
    [
        {"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}},
        {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
    ],
    ids=str,
)
def test_bound_tokens_and_events_are_no_bearers(
    make: Made, signer: LocalSigner, clock: Clock, more: dict[str, object]
) -> None:
    with pytest.raises(BadToken):
        make().verify(_token(signer, clock, **more))


def test_only_allowed_algorithms_count(make: Made, signer: LocalSigner, clock: Clock) -> None:
    federation = make(algorithms=["ES256"])
    federation.verify(_token(signer, clock, "ec"))
    for kind in ("rsa", "ed"):
        with pytest.raises(BadToken):
            federation.verify(_token(signer, clock, kind))


_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n"


@pytest.mark.scaled
@given(data=st.data(), kind=st.sampled_from(list(ALGORITHMS)))
@settings(max_examples=examples(4_000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_mutated_token_is_accepted(
    make: Made, signer: LocalSigner, clock: Clock, data: st.DataObject, kind: str
) -> None:
    federation = make()
    token = mutated = _token(signer, clock, kind)
    for _ in range(data.draw(st.integers(1, 3))):
        # The last character matters most: some of its bits take no part in the signature.
        position = data.draw(st.one_of(st.just(len(mutated) - 1), st.integers(0, len(mutated) - 1)))
        kept = data.draw(st.integers(0, 1))
        mutated = mutated[:position] + data.draw(st.sampled_from(["", *_ALPHABET])) + mutated[position + kept :]
    if mutated != token:
        with pytest.raises(AuthError):
            federation.verify(mutated)


# At the door


@pytest.fixture
def door(make: Made, make_door: Callable[..., Authenticator]) -> Authenticator:
    return make_door(federation=make())


def test_a_bearer_is_known_from_its_second_call_on(door: Authenticator, signer: LocalSigner, clock: Clock) -> None:
    header = f"Bearer {_token(signer, clock)}"
    assert door.cached(header, PEER) is None
    principal = door.authenticate(header, PEER)
    assert (principal.name, principal.roles, principal.method) == ("idp:alice", ("trader",), "oidc")
    # The token's end, and the 30 s that clocks may differ.
    assert (principal.session_id, principal.expires_at) == (None, clock.now + 630)
    assert principal.claims == {"accounts": ["A1", "A2"]}
    assert door.cached(header, PEER) is principal
    clock.advance(631)
    assert door.cached(header, PEER) is None
    with pytest.raises(ExpiredToken):
        door.authenticate(header, PEER)


def test_the_password_of_user_token(door: Authenticator, signer: LocalSigner, clock: Clock) -> None:
    token = _token(signer, clock)
    assert door.authenticate(basic("token", token), PEER).name == "idp:alice"
    assert door.login(basic("token", token), b"", PEER, "").principal.name == "idp:alice"
    with pytest.raises(BadCredentials):
        door.authenticate(basic("alice", token), PEER)


def test_the_text_of_a_token_tells_its_kind(
    door: Authenticator, signer: LocalSigner, clock: Clock, store: StateStore
) -> None:
    service = ServiceTokens(store).create("report", ["viewer"], now=clock.now, expires_at=clock.now + 100)
    texts = [_token(signer, clock), service, door.login(basic("trader", "trader:secret"), b"", PEER, "").token]
    expected = [("idp:alice", "oidc"), ("token:report", "service_token"), ("trader", "token")]
    for text, who in zip(texts, expected, strict=True):
        for header in (f"Bearer {text}", basic("token", text)):
            principal = door.authenticate(header, PEER)
            assert (principal.name, principal.method) == who
            assert door.cached(header, PEER) == principal
            assert door.refusal(principal) is None
            again = door.login(header, b"", PEER, "").token
            assert door.authenticate(f"Bearer {again}", PEER).name == who[0]
    for text in ("a.b.c", "trader", f"{service}x"):
        with pytest.raises(BadToken):
            door.authenticate(basic("token", text), PEER)


def test_what_runs_ends_with_a_providers_token(door: Authenticator, signer: LocalSigner, clock: Clock) -> None:
    header = f"Bearer {_token(signer, clock)}"
    principal = door.authenticate(header, PEER)
    clock.advance(620)  # it has ended, by a clock that may be wrong by 30 s
    assert door.authenticate(header, PEER) == principal
    assert door.refusal(principal) is None
    clock.advance(11)
    assert isinstance(door.refusal(principal), ExpiredToken)


def test_what_runs_ends_with_the_local_user_of_a_providers_token(
    make: Made, make_door: Callable[..., Authenticator], signer: LocalSigner, clock: Clock, store: StateStore
) -> None:
    door = make_door(federation=make(local_users=True, roles={}, claims=[]))
    principal = door.authenticate(f"Bearer {_token(signer, clock, sub='trader')}", PEER)
    assert door.refusal(principal) is None
    store.set_password("trader", HASHER.hash("another"))
    clock.advance(1)
    door.refresh()
    assert door.refusal(principal) is None  # it was not the password that proved who it is
    store.set_disabled("trader", True)
    clock.advance(1)
    door.refresh()
    refusal = door.refusal(principal)
    assert isinstance(refusal, SessionEnded)
    assert refusal.outcome == "disabled"


def test_a_handshake_makes_a_session_that_ends_with_the_token(
    door: Authenticator, signer: LocalSigner, clock: Clock
) -> None:
    login = door.login(f"Bearer {_token(signer, clock, exp=clock.now + 100.5)}", b"", PEER, "agent")
    assert login.principal.method == "oidc"
    assert login.principal.expires_at == clock.now + 100
    header = f"Bearer {login.token}"
    principal = door.authenticate(header, PEER)
    assert (principal.name, principal.roles) == ("idp:alice", ("trader",))
    assert principal.claims == {"accounts": ["A1", "A2"]}
    assert principal.session_id == login.principal.session_id is not None
    again = door.login(header, b"", PEER, "agent")
    assert (again.principal.name, again.principal.roles) == ("idp:alice", ("trader",))
    door.revoke(str(principal.session_id))
    for ended in (header, f"Bearer {again.token}"):
        with pytest.raises(SessionEnded):
            door.authenticate(ended, PEER)


def test_a_session_outlives_a_restart_but_not_its_provider(
    make: Made, make_door: Callable[..., Authenticator], signer: LocalSigner, clock: Clock
) -> None:
    first = make_door(federation=make())
    header = f"Bearer {first.login(f'Bearer {_token(signer, clock)}', b'', PEER, '').token}"
    assert make_door(federation=make()).authenticate(header, PEER).roles == ("trader",)
    assert make_door(federation=make(roles={"/desk": "viewer"})).authenticate(header, PEER).roles == ()
    assert make_door(federation=make(claims=[])).authenticate(header, PEER).claims == {}
    with pytest.raises(SessionEnded):
        make_door().authenticate(header, PEER)


def test_a_token_in_its_leeway_makes_no_session(door: Authenticator, signer: LocalSigner, clock: Clock) -> None:
    with pytest.raises(ExpiredToken):
        door.login(f"Bearer {_token(signer, clock, exp=clock.now - 5)}", b"", PEER, "")


def test_local_users_are_what_they_are_here(
    make: Made, make_door: Callable[..., Authenticator], signer: LocalSigner, clock: Clock, store: StateStore
) -> None:
    door = make_door(federation=make(local_users=True, roles={}, claims=[]))
    header = f"Bearer {_token(signer, clock, sub='trader')}"
    principal = door.authenticate(header, PEER)
    assert (principal.name, principal.roles, principal.method) == ("trader", ("reader",), "oidc")
    store.set_roles("trader", ["viewer"])
    clock.advance(1)
    renewed = door.authenticate(header, PEER)
    assert (renewed.roles, renewed.expires_at) == (("viewer",), principal.expires_at)
    with pytest.raises(BadToken):
        door.authenticate(f"Bearer {_token(signer, clock, sub='nobody')}", PEER)
    login = door.login(header, b"", PEER, "")
    assert (login.principal.name, login.principal.roles) == ("trader", ("viewer",))
    store.set_disabled("trader", True)
    clock.advance(1)
    for credential in (header, f"Bearer {login.token}"):
        with pytest.raises(AuthError):
            door.authenticate(credential, PEER)


def test_a_scope_narrows_and_never_widens(door: Authenticator, signer: LocalSigner, clock: Clock) -> None:
    header = f"Bearer {_token(signer, clock, groups=['/desk', '/ops'])}"
    narrow = door.login(header, b"", PEER, "", scope=["viewer"])
    assert narrow.principal.roles == ("viewer",)
    assert door.authenticate(f"Bearer {narrow.token}", PEER).roles == ("viewer",)
    assert door.login(f"Bearer {narrow.token}", b"", PEER, "").principal.roles == ("viewer",)
    for asked in (["trader"], ["viewer", "admin"], [], ["nothing"]):
        with pytest.raises(ScopeRefused):
            door.login(f"Bearer {narrow.token}", b"", PEER, "", scope=asked)


def test_a_users_scope_survives_a_change_of_the_user(
    make_door: Callable[..., Authenticator], store: StateStore, clock: Clock
) -> None:
    store.add_user("two", HASHER.hash("two"), ["reader", "viewer"])
    door = make_door()
    login = door.login(basic("two", "two"), b"", PEER, "", scope=["viewer"])
    header = f"Bearer {login.token}"
    assert door.authenticate(header, PEER).roles == ("viewer",)
    store.set_roles("two", ["reader", "viewer", "admin"])
    clock.advance(1)
    assert door.authenticate(header, PEER).roles == ("viewer",)
    store.set_roles("two", ["reader"])
    clock.advance(1)
    assert door.authenticate(header, PEER).roles == ()


# Settings


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"issuer": ""}, "issuer"),
        ({"audience": []}, "audience"),
        ({"audience": ""}, "audience"),
        ({"algorithms": ["HS256"]}, "algorithms"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"algorithms": "RS256 ES256"}, "algorithms"),
        ({"jwks_url": "http://login.test/jwks"}, "https"),
        ({"jwks_url": "http://127.0.0.1.evil.test/jwks"}, "https"),
        ({"jwks_url": "ftp://127.0.0.1/jwks"}, "https"),
        ({"jwks_url": "file:///etc/passwd"}, "host"),
        ({"jwks_url": "https://user:secret@login.test/"}, "user name"),
        ({"jwks_url": "https://login.test:99999/"}, "URL"),
        ({"jwks_url": "https://login.test/", "jwks_file": "x"}, "not both"),
        ({"issuer": "http://login.test"}, "https"),
        ({"issuer": "desk"}, "https|host"),
        ({"roles": {"/desk": "boss"}}, "no role 'boss'"),
        ({"roles": {"/desk": 7}}, "role"),
        ({"default_roles": ["boss"]}, "no role 'boss'"),
        ({"groups_claim": []}, "groups_claim"),
        ({"leeway_seconds": 301}, "leeway_seconds"),
        ({"leeway_seconds": True}, "leeway_seconds"),
        ({"refetch_seconds": 0}, "refetch_seconds"),
        ({"fresh_seconds": 100, "stale_seconds": 50}, "stale_seconds"),
        ({"local_users": True, "default_roles": ["viewer"]}, "local_users"),
        ({"local_users": "yes"}, "local_users"),
        ({"client_secret": "x"}, "unknown key"),
    ],
    ids=str,
)
def test_settings_that_are_refused(change: dict[str, object], words: str) -> None:
    table = {"issuer": "https://login.test", "audience": "desk"} | change
    with pytest.raises(ProviderError, match=words):
        providers_of({"idp": table}, ROLES)


@pytest.mark.parametrize("name", ["", "IDP", "a:b", "a b", "1idp", "x" * 33, "token"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ProviderError, match="name"):
        providers_of({name: {"issuer": "https://login.test", "audience": "desk"}}, ROLES)


def test_an_issuer_has_one_provider() -> None:
    table = {"issuer": "https://login.test", "audience": "desk"}
    with pytest.raises(ProviderError, match="same issuer"):
        providers_of({"one": table, "two": table}, ROLES)


def test_no_provider_says_what_we_say() -> None:
    table = {"issuer": "https://desk.test", "audience": "desk"}
    with pytest.raises(ProviderError, match="calls itself"):
        providers_of({"one": table}, ROLES, "https://desk.test")


def test_loopback_may_be_plain() -> None:
    for issuer in ("http://localhost:8080/realms/desk", "http://127.0.0.1:1", "http://[::1]:1"):
        providers_of({"idp": {"issuer": issuer, "audience": "desk"}}, ROLES)


def test_spare_bits_are_looked_for_in_every_part(make: Made, signer: LocalSigner, clock: Clock) -> None:
    """A payload of whose last character some bits are spare is another text for the same claims."""
    for length in range(3):
        claims = json.dumps(_claims(clock) | {"x": "x" * length})
        encoded = base64.urlsafe_b64encode(claims.encode()).rstrip(b"=").decode()
        if len(encoded) % 4 == 0:
            continue
        forger = Forger(signer, _claims(clock))
        header = base64.urlsafe_b64encode(json.dumps(forger.header("ed")).encode()).rstrip(b"=").decode()
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        other = encoded[:-1] + alphabet[alphabet.index(encoded[-1]) ^ 1]
        signature = base64.urlsafe_b64encode(signer.sign("ed", f"{header}.{other}".encode())).rstrip(b"=").decode()
        with pytest.raises(BadToken):
            make().verify(f"{header}.{other}.{signature}")
