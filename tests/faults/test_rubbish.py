"""Whatever is sent: the answer is a proper status, it tells nothing of the inside, and the server lives."""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest

from flightsql_server.protocol import flight_pb2 as flight
from flightsql_server.protocol import flight_sql_pb2 as sql
from flightsql_server.protocol.interceptors import SERVICE
from flightsql_server.protocol.service import METHODS
from tests.conftest import FULL
from tests.faults.caller import Caller, assert_alive, hostile_ground, resident
from tests.faults.rubbish import SQL_TEXTS, Kind, choices, every_kind, headers, packed
from tests.running import RunningServer

SEED = random.randrange(2**32)
# These read well, bind well, and fail on the rows.
FAILING = (
    "SELECT CAST(symbol AS INTEGER) FROM market_data",
    "SELECT CAST(symbol AS DATE) FROM market_data ORDER BY 1",
    "SELECT CAST(symbol AS DECIMAL(4, 2)) FROM market_data WHERE symbol LIKE 'ZZ-%'",
    "SELECT CAST(symbol AS TIMESTAMP) FROM market_data WHERE symbol LIKE 'ZZ-%'",
    "SELECT (SELECT symbol FROM market_data)",
    "SELECT sum(CAST(range AS TINYINT)) FROM range(100000)",
    "SELECT CAST(CASE WHEN range = 300000 THEN 'ZZ-4711-' || 'SECRET' ELSE '1' END AS INTEGER) FROM range(400000)",
    "SELECT regexp_matches(symbol, '(' || symbol) FROM market_data",
    "SELECT strptime(symbol, '%Y') FROM market_data",
)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One that has met all of it before: what a first time fills (caches, the allocators of threads) is no leak."""
    with hostile_ground(tmp_path_factory.mktemp("rubbish")) as server:
        first = Caller(server)
        bearer = (("authorization", f"Bearer {first.token()}"),)
        for kind in every_kind(SEED):
            first.send(kind, bearer)
        first.close()
        yield server


@pytest.fixture
def caller(target: RunningServer) -> Iterator[Caller]:
    made = Caller(target)
    yield made
    made.close()


def _some(kinds: list[Kind], share: int) -> list[Kind]:
    """All of them in the full run, else every so many-th of each method."""
    return kinds if FULL else [kind for number, kind in enumerate(kinds) if number % share == SEED % share]


def test_there_are_many_kinds_for_every_call() -> None:
    kinds = every_kind(SEED)
    assert len({kind.label for kind in kinds}) > 500
    count = Counter(kind.method for kind in kinds)
    assert count.keys() == METHODS.keys()
    assert min(count.values()) > 60


def test_rubbish_from_one_who_may_do_everything(target: RunningServer, caller: Caller) -> None:
    """An admin's calls get past every door, so they reach the deepest."""
    bearer = (("authorization", f"Bearer {caller.token()}"),)
    before = resident(target)
    for kind in every_kind(SEED):
        caller.send(kind, bearer)
    assert not caller.wrong, f"seed {SEED}\n" + "\n".join(caller.wrong[:40])
    expected = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"}
    assert {code.name for code in caller.codes} >= expected, caller.codes
    assert_alive(target, before)


def test_sql_that_fails_while_it_runs(target: RunningServer, caller: Caller) -> None:
    """What the planner takes is run, and what fails then says nothing of the rows that it failed on."""
    bearer = (("authorization", f"Bearer {caller.token()}"),)
    before, failed = resident(target), 0
    for text in (*SQL_TEXTS, "ROLLBACK", *FAILING):
        content = packed(sql.CommandStatementQuery(query=text))
        descriptor = flight.FlightDescriptor(type=flight.FlightDescriptor.CMD, cmd=content).SerializeToString()
        if caller.send(Kind("GetFlightInfo", text[:60], (descriptor,)), bearer) is grpc.StatusCode.OK:
            ticket = flight.FlightInfo.FromString(caller.answer).endpoint[0].ticket.SerializeToString()
            code = caller.send(Kind("DoGet", text[:60], (ticket,)), bearer)
            failed += code is not grpc.StatusCode.OK
    assert failed >= len(FAILING), "they are meant to fail late"
    assert not caller.wrong, "\n".join(caller.wrong[:40])
    assert_alive(target, before)


def test_rubbish_from_a_stranger(target: RunningServer, caller: Caller) -> None:
    """Without a credential nothing is looked at: every answer is the same."""
    before = resident(target)
    for kind in _some(every_kind(SEED), 3):
        caller.send(kind, ())
    assert not caller.wrong, f"seed {SEED}\n" + "\n".join(caller.wrong[:40])
    assert caller.codes.keys() <= {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT}, caller.codes
    assert_alive(target, before)


def test_rubbish_instead_of_a_credential(target: RunningServer, caller: Caller) -> None:
    before, noise = resident(target), random.Random(SEED)
    good = {kind.method: kind for kind in every_kind(SEED) if kind.messages}
    for label, more in headers(caller.token(), noise):
        for method in METHODS:
            code = caller.send(good[method]._replace(method=method, label=label), more)
            refused = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED)
            assert code in refused, (label, method, code)
    assert not caller.wrong, f"seed {SEED}\n" + "\n".join(caller.wrong[:40])
    assert_alive(target, before)


def test_rubbish_in_other_headers(target: RunningServer, caller: Caller) -> None:
    before, token = resident(target), caller.token()
    for label, more in choices():
        for method in METHODS:
            caller.send(Kind(method, label, (b"",)), (("authorization", f"Bearer {token}"), *more))
    assert not caller.wrong, f"seed {SEED}\n" + "\n".join(caller.wrong[:40])
    assert_alive(target, before)


def test_headers_beyond_the_limit_and_messages_beyond_it(target: RunningServer, caller: Caller) -> None:
    """What grpc itself refuses is told in grpc's own words: a status, and nothing of ours."""
    bearer = (("authorization", f"Bearer {caller.token()}"),)
    before = resident(target)
    huge = tuple((f"x-{n}", "y" * 8_000) for n in range(40))
    assert caller.send(Kind("ListFlights", "huge headers", (b"",)), (*bearer, *huge)) in (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
    )
    assert caller.send(Kind("GetFlightInfo", "huge message", (bytes(65 * 1024 * 1024),)), bearer) is (
        grpc.StatusCode.RESOURCE_EXHAUSTED
    )
    assert not [text for text in caller.wrong if "no SQLSTATE" not in text], caller.wrong
    assert_alive(target, before)


def test_methods_that_do_not_exist(target: RunningServer) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{target.port}") as channel:
        for path in (f"/{SERVICE}/Nothing", "/nothing/Nothing", f"/{SERVICE}/", "/", f"/{SERVICE}/handshake"):
            with pytest.raises(grpc.RpcError) as failure:
                channel.unary_unary(path)(b"", timeout=20)
            assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


def test_bytes_that_are_no_http2(target: RunningServer) -> None:
    before, noise = resident(target), random.Random(SEED)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for start in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", preface, b"\x16\x03\x01", bytes(9)):
        for size in (0, 9, 1_000, 100_000):
            with socket.create_connection(("127.0.0.1", target.port), timeout=5) as connection:
                try:
                    connection.sendall(start + noise.randbytes(size))
                except OSError:
                    continue
    assert_alive(target, before)
