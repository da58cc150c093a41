"""Ten thousand forged and mutated tokens and tickets, none of which is accepted.

Each test draws a seed from the run's own, which pytest prints, and names it when it fails. A mutation counts only if
its text differs from the genuine one after the blanks around it are taken off, as the header's reader does; every other
difference has to be refused, also one that decodes to the same bytes.
"""

from __future__ import annotations

import base64
import hmac
import json
import random
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from flightsql_auth.authenticator import Authenticator
from flightsql_auth.errors import AuthError
from flightsql_auth.keys import KeyRing
from flightsql_auth.service_tokens import ServiceTokens
from flightsql_auth.signing import ALGORITHMS, Algorithm, PrivateKey, load_signing_key, new_private_pem
from flightsql_auth.store import StateStore

from flightsql_server.errors import InvalidStatementHandle
from flightsql_server.model import SessionOptions
from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol import flight_sql_pb2 as sql
from flightsql_server.protocol.actions import packed
from flightsql_server.protocol.tickets import QueryTicket, TicketSeal
from tests.conformance.clients import token_of
from tests.conformance.raw import Raw
from tests.running import RunningServer
from tests.unit.auth.door import AUDIENCE, HASHER, ISSUER, PEER, TRADER, TRADER_HASH, basic

MUTATED_TOKENS = 1_500  # of each algorithm
FORGED_TOKENS = 1_000  # of each algorithm
SERVICE_TOKENS = 1_000
TICKETS = 2_000
ON_THE_WIRE = 150  # of each kind

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_ODD = ".=+/ \t~%\x00\u00e9\U0001f511"
_KIDS = ("../../sealing.key", "/dev/null", "' OR 1=1 --", "", None, 0, ["a"], "signing-0001")
_SIGNED = jwt.PyJWS().encode
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def test_they_are_ten_thousand() -> None:
    assert len(ALGORITHMS) * (MUTATED_TOKENS + FORGED_TOKENS) + SERVICE_TOKENS + TICKETS >= 10_000


@pytest.fixture
def seed() -> int:
    """The seed of one test; the run's own seed repeats it."""
    found = random.randrange(2**32)
    print(f"seed {found}")
    return found


@dataclass(frozen=True)
class Door:
    """A login door whose newest key is of one kind, and what is accepted there."""

    authenticator: Authenticator
    keys: KeyRing
    token: str
    other: str
    service_token: str


@pytest.fixture(params=ALGORITHMS, scope="module")
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder: Path = tmp_path_factory.mktemp("door")
    store = StateStore(folder / "state.sqlite")
    store.add_user("trader", TRADER_HASH, ["reader"])
    store.add_user("admin", TRADER_HASH, ["admin"])
    keys = KeyRing.open(folder / "keys")
    keys.rotate(request.param)
    authenticator = Authenticator(
        store, keys, issuer=ISSUER, audience=AUDIENCE, anonymous_role=None, hasher=HASHER, free_failures=0
    )
    token = authenticator.login(TRADER, b"", PEER, "agent").token
    other = authenticator.login(basic("admin", "trader:secret"), b"", PEER, "agent").token
    expires = 4_000_000_000.0
    service_token = ServiceTokens(store).create("grafana", ["reader"], now=0.0, expires_at=expires)
    yield Door(authenticator, keys, token, other, service_token)
    store.close()


def _refused(door: Door, text: str, genuine: tuple[str, ...], draw: random.Random) -> bool:
    """Whether the text is refused, in one of the ways in which it can be shown; True for what is no other text."""
    if text.strip() in genuine:
        return True
    header = draw.choice((f"Bearer {text}", f"Bearer {text}", basic("token", text)))
    try:
        found = draw.choice((door.authenticator.authenticate, _login(door.authenticator)))(header, PEER)
    except AuthError:
        return True
    return found is None


def _login(authenticator: Authenticator) -> Callable[[str, str], object]:
    return lambda header, peer: authenticator.login(header, b"", peer, "agent")


def _mutated(text: str, other: str, draw: random.Random, alphabet: str = _ALPHABET + _ODD) -> str:
    """The text after one to three changes; ``other`` is a genuine one to take parts from."""
    for _ in range(draw.randint(1, 3)):
        at, to = sorted(draw.randrange(len(text) + 1) for _ in range(2))
        # The last character of each part matters most: some of its bits may take no part in what is signed.
        ends = [place - 1 for place, letter in enumerate(text + ".") if letter == "." and place]
        at = draw.choice((at, at, draw.choice(ends or [0])))
        match draw.randrange(9):
            case 0 | 1 | 2:
                text = text[:at] + draw.choice(alphabet) + text[at + 1 :]
            case 3:
                text = text[:at] + draw.choice(alphabet) + text[at:]
            case 4:
                text = text[:at] + text[at + 1 :]
            case 5:
                text = text[:at] + text[max(at, to) :]
            case 6:
                text = text[:at] + text[at : at + 1].swapcase() + text[at + 1 :]
            case 7:
                mine, theirs = text.split("."), other.split(".")
                part = draw.randrange(min(len(mine), len(theirs)))
                text = ".".join([*mine[:part], theirs[part], *mine[part + 1 :]])
            case _:
                text += draw.choice((alphabet[0], "=", ".", text[-4:], "A" * draw.randint(1, 9)))
        text = text or "A"
    return text


def test_mutated_tokens(door: Door, seed: int) -> None:
    draw = random.Random(seed)
    genuine = (door.token, door.other)
    for number in range(MUTATED_TOKENS):
        text = _mutated(door.token, door.other, draw)
        assert _refused(door, text, genuine, draw), f"seed {seed}, number {number}: {text}"
    assert door.authenticator.authenticate(f"Bearer {door.token}", PEER).name == "trader"


# ---- tokens that an attacker makes from what is public


def _encode(content: object) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _public_forms(keys: KeyRing) -> list[bytes]:
    """Everything that a careless verifier might take the public key for as a secret."""
    public = keys.active.public_key
    forms = [
        public.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER)
    ]
    jwk = keys.active.jwk()
    return [*forms, forms[0].strip(), json.dumps(jwk).encode(), keys.active.kid.encode(), b"", b"secret"]


def _forged(door: Door, draw: random.Random, own: Mapping[Algorithm, PrivateKey]) -> str:
    """A token for the administrator that nobody here has signed."""
    claims = jwt.decode(door.other, options={"verify_signature": False})
    header: dict[str, object] = dict(jwt.get_unverified_header(door.other))
    for name in draw.sample(list(claims), draw.randrange(3)):
        claims[name] = draw.choice((claims[name], 0, 2**40, "admin", None, [claims[name]]))
    algorithm = draw.choice(ALGORITHMS)
    key, content = own[algorithm], json.dumps(claims).encode()
    match draw.randrange(7):
        case 0:
            header["alg"] = draw.choice(("none", "None", "nOnE", "", None))
            return f"{_encode(header)}.{_encode(claims)}." + draw.choice(("", "AA", door.other.rpartition(".")[2]))
        case 1:
            header["alg"] = hashed = draw.choice(("HS256", "HS384", "HS512"))
            text = f"{_encode(header)}.{_encode(claims)}"
            secret = draw.choice(_public_forms(door.keys))
            return f"{text}.{_encode(hmac.digest(secret, text.encode(), hashed.replace('HS', 'sha')))}"
        case 2:  # our own key, under the kid of the server's
            return _SIGNED(content, key, algorithm=algorithm, headers={"kid": header["kid"], "typ": header["typ"]})
        case 3:  # a key that comes along
            found = load_signing_key(new_private_pem("EdDSA"), 0.0)
            more = draw.choice(({"jwk": found.jwk()}, {"jku": "https://evil.test/jwks"}, {"x5u": "https://evil.test"}))
            named = {"kid": draw.choice((found.kid, header["kid"])), "typ": header["typ"], **more}
            return _SIGNED(content, found.private_key, algorithm="EdDSA", headers=named)
        case 4:
            header["kid"] = draw.choice(_KIDS)
            return f"{_encode(header)}.{_encode(claims)}.{door.other.rpartition('.')[2]}"
        case 5:
            header["crit"] = draw.choice((["exp"], ["b64"], [], "exp"))
            return f"{_encode(header)}.{_encode(claims)}.{door.other.rpartition('.')[2]}"
        case _:
            width = draw.choice((0, 1, 32, 63, 64, 65, 256, 384))
            signature = draw.choice((bytes(width), b"\xff" * width, secrets.token_bytes(width)))
            return f"{_encode(header)}.{_encode(claims)}.{_encode(signature)}"


def test_forged_tokens(door: Door, seed: int) -> None:
    draw = random.Random(seed)
    own = {name: load_signing_key(new_private_pem(name), 0.0).private_key for name in ALGORITHMS}
    for number in range(FORGED_TOKENS):
        text = _forged(door, draw, own)
        assert _refused(door, text, (door.token, door.other), draw), f"seed {seed}, number {number}: {text}"


def test_a_signature_has_one_form_only(door: Door) -> None:
    """Of an ECDSA signature everybody can write a second one that verifies: it is no second token."""
    signed, _, signature = door.token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    if door.keys.active.algorithm == "ES256":
        twin = raw[:32] + (_P256_ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
        public = door.keys.active.public_key
        assert jwt.decode(f"{signed}.{_encode(twin)}", public, algorithms=["ES256"], audience=AUDIENCE)
        with pytest.raises(AuthError):
            door.authenticator.authenticate(f"Bearer {signed}.{_encode(twin)}", PEER)
    for letter in _ALPHABET:
        text = door.token[:-1] + letter
        if text != door.token:
            with pytest.raises(AuthError):
                door.authenticator.authenticate(f"Bearer {text}", PEER)


def test_mutated_service_tokens(door: Door, seed: int) -> None:
    draw = random.Random(seed)
    genuine = door.service_token
    for number in range(-(-SERVICE_TOKENS // len(ALGORITHMS))):
        random_one = "fss_" + "".join(draw.choice(_ALPHABET) for _ in range(43))
        text = draw.choice((random_one, *[_mutated(genuine, random_one, draw)] * 4))
        assert _refused(door, text, (genuine,), draw), f"seed {seed}, number {number}: {text}"
    assert door.authenticator.authenticate(f"Bearer {genuine}", PEER).name == "token:grafana"


# ---- tickets


def _mutated_bytes(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """The bytes after one to three changes."""
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(content)) if content else 0
        match draw.randrange(6):
            case 0 | 1:
                content = content[:at] + bytes([content[at] ^ (1 << draw.randrange(8))]) + content[at + 1 :]
            case 2:
                content = content[:at] + content[at + draw.randint(1, 20) :]
            case 3:
                content = content[:at] + draw.randbytes(draw.randint(1, 20)) + content[at:]
            case 4:
                content = content[:at] + other[at:]
            case _:
                content += draw.randbytes(draw.randint(1, 16))
        content = content or b"\x03"
    return content


def test_mutated_tickets(seed: int) -> None:
    draw = random.Random(seed)
    seal = TicketSeal(secrets.token_bytes(32), 300)
    one, other = (QueryTicket(text, "duckdb", "standard", SessionOptions()) for text in ("SELECT 1", "SELECT secret"))
    mine, _ = seal.seal("trader", one)
    theirs, _ = seal.seal("admin", other)
    for number in range(TICKETS):
        sealed = draw.choice((mine, mine, theirs, draw.randbytes(draw.randint(0, 120))))
        sealed = draw.choice((sealed, *[_mutated_bytes(sealed or b"\x03", theirs, draw)] * 4))
        if sealed == mine:
            continue
        try:
            seal.open("trader", sealed)
        except InvalidStatementHandle:
            continue
        pytest.fail(f"seed {seed}, number {number}: {sealed.hex()}")
    assert seal.open("trader", mine) == one


# ---- on the wire


def test_no_forged_token_passes_the_wire(server: RunningServer, seed: int) -> None:
    draw = random.Random(seed)
    token, other = token_of(server), token_of(server, "admin")
    command = packed(sql.CommandStatementQuery(query="SELECT 1"))
    descriptor = wire.FlightDescriptor(type=wire.FlightDescriptor.CMD, cmd=command).SerializeToString()
    service = "/arrow.flight.protocol.FlightService/"
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        info = channel.unary_unary(service + "GetFlightInfo")
        shake = channel.stream_stream(service + "Handshake")
        info(descriptor, metadata=(("authorization", f"Bearer {token}"),), timeout=30)
        for number in range(ON_THE_WIRE):
            text = _mutated(token, other, draw, _ALPHABET + ".=+/~")
            if text.strip() in (token, other):
                continue
            headers = ((("authorization", f"Bearer {text}"),), (("authorization", basic("token", text)),))
            for metadata in headers:
                asked: tuple[Callable[[], object], ...] = (
                    partial(info, descriptor, metadata=metadata),
                    lambda shown=metadata: list(shake(iter(()), metadata=shown)),
                )
                assert {_status(call) for call in asked} == {"UNAUTHENTICATED"}, f"seed {seed}, number {number}: {text}"


def _status(call: Callable[[], object]) -> str:
    try:
        call()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_no_mutated_ticket_passes_the_wire(server: RunningServer, seed: int) -> None:
    """The sealed handle is changed, not the message around it: fields of that may be written in many ways."""
    draw = random.Random(seed)
    reader, viewer = Raw(server, "reader"), Raw(server, "viewer")
    mine, theirs = (session.info("SELECT 1 AS n").endpoint[0].ticket.ticket for session in (reader, viewer))
    head = mine[: mine.index(b"\x0a", 30) + 2]
    sealed, other = (ticket[len(head) :] for ticket in (mine, theirs))
    assert packed(sql.TicketStatementQuery(statement_handle=sealed)) == mine
    for number in range(ON_THE_WIRE):
        changed = draw.choice((other, *[_mutated_bytes(sealed, other, draw)] * 20))
        if changed == sealed:
            continue
        ticket = wire.Ticket(ticket=packed(sql.TicketStatementQuery(statement_handle=changed)))
        code, words = reader.outcome("DoGet", ticket)
        assert code == "NOT_FOUND", f"seed {seed}, number {number}: {changed.hex()}: {code} {words}"
    assert reader.outcome("DoGet", wire.Ticket(ticket=mine))[0] == "OK"
    reader.close()
    viewer.close()
