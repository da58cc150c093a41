"""Good messages and rubbish, mutated ten thousand times: a right status each time, a server that lives, flat memory."""

from __future__ import annotations

import random
from collections.abc import Iterator

import grpc
import pytest

from flightsql_server.protocol import flight_pb2 as flight
from flightsql_server.protocol import flight_sql_pb2 as sql
from flightsql_server.protocol.framing import varint
from tests.conftest import examples
from tests.faults.caller import Caller, assert_alive, hostile_ground, resident
from tests.faults.rubbish import Kind, every_kind, packed
from tests.running import RunningServer

SEED = random.randrange(2**32)
GROWTH_BYTES = 64_000_000  # the caches of plans fill, up to their bounds
LONGEST = 20_000  # longer ones take time and find nothing more


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with hostile_ground(tmp_path_factory.mktemp("fuzz")) as server:
        yield server


def _good() -> Iterator[Kind]:
    """Calls that are answered with OK, or would be with a handle that lives."""
    schema = flight.FlightDescriptor(type=flight.FlightDescriptor.PATH, path=["market_data"]).SerializeToString()
    for message in (
        sql.CommandGetTables(table_name_filter_pattern="m%", include_schema=True, table_types=["TABLE"]),
        sql.CommandGetDbSchemas(catalog="desk", db_schema_filter_pattern="m%"),
        sql.CommandGetXdbcTypeInfo(data_type=4),
        sql.CommandGetSqlInfo(info=[0, 1, 500, 574]),
        sql.CommandGetPrimaryKeys(table="orders"),
        sql.CommandGetCrossReference(pk_table="orders", fk_table="positions"),
        sql.CommandStatementQuery(query="SELECT symbol, volume FROM market_data WHERE volume > 3 LIMIT 5"),
        sql.CommandPreparedStatementQuery(prepared_statement_handle=b"0123456789abcdef"),
    ):
        descriptor = flight.FlightDescriptor(type=flight.FlightDescriptor.CMD, cmd=packed(message))
        for method in ("GetFlightInfo", "GetSchema", "PollFlightInfo"):
            yield Kind(method, message.DESCRIPTOR.name, (descriptor.SerializeToString(),))
        yield Kind("DoGet", message.DESCRIPTOR.name, (flight.Ticket(ticket=packed(message)).SerializeToString(),))
    for method in ("GetFlightInfo", "GetSchema"):
        yield Kind(method, "a path", (schema,))
    cancel = flight.CancelFlightInfoRequest(info=flight.FlightInfo(total_records=-1)).SerializeToString()
    bodies = {
        "CreatePreparedStatement": packed(sql.ActionCreatePreparedStatementRequest(query="SELECT ?::INTEGER + 1")),
        "BeginTransaction": packed(sql.ActionBeginTransactionRequest()),
        "EndTransaction": packed(sql.ActionEndTransactionRequest(transaction_id=b"0123456789abcdef", action=1)),
        "CancelFlightInfo": cancel,
        "HealthCheck": b"",
    }
    for name, body in bodies.items():
        yield Kind("DoAction", name, (flight.Action(type=name, body=body).SerializeToString(),))


def _mutated(message: bytes, others: list[bytes], noise: random.Random) -> bytes:
    """The message with one change to its bytes."""
    start, end = sorted(noise.randrange(len(message) + 1) for _ in range(2))
    match noise.randrange(7):
        case 0:
            changed = bytearray(message)
            for _ in range(noise.randint(1, 8)):
                if changed:
                    changed[noise.randrange(len(changed))] ^= 1 << noise.randrange(8)
            return bytes(changed)
        case 1:
            return message[:end]
        case 2:
            return message[:start] + message[end:]
        case 3:
            return message[:start] + noise.randbytes(noise.randint(1, 40)) + message[start:]
        case 4:
            return message[:start] + varint(2 ** noise.randint(20, 63)) + message[start:]
        case 5:
            return message[:start] + message[start:end] * noise.randint(2, 4) + message[end:]
        case _:
            other = noise.choice(others)
            return message[:start] + other[noise.randrange(len(other) + 1) :]


def _mutations(count: int, noise: random.Random) -> Iterator[Kind]:
    """So many calls, each a good or a bad one with a change to one of its messages, or to their order."""
    known = [kind for kind in every_kind(SEED) if kind.messages and sum(map(len, kind.messages)) < LONGEST]
    good, others = list(_good()), [message for kind in known for message in kind.messages]
    for number in range(count):
        kind = noise.choice(good if noise.random() < 0.5 else known)
        messages = list(kind.messages)
        at = noise.randrange(len(messages))
        if len(messages) > 1 and noise.random() < 0.3:
            noise.shuffle(messages)
        else:
            messages[at] = _mutated(messages[at], others, noise)
        yield kind._replace(label=f"mutation {number} of {kind.label}", messages=tuple(messages))


@pytest.mark.scaled
@pytest.mark.timeout(900)
def test_mutations(target: RunningServer) -> None:
    noise, caller, count = random.Random(SEED), Caller(target), examples(10_000)
    print(f"seed {SEED}")
    bearer = (("authorization", f"Bearer {caller.token()}"),)
    try:
        warm = resident(target)
        for number, kind in enumerate(_mutations(count, noise)):
            if number == count // 4:
                warm = resident(target)
            if caller.send(kind, bearer) is grpc.StatusCode.UNAUTHENTICATED and kind.method != "Handshake":
                bearer = (("authorization", f"Bearer {caller.token()}"),)  # a mutation may have closed the session
        assert not caller.wrong, f"seed {SEED}\n" + "\n".join(caller.wrong[:40])
        expected = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"}
        assert {code.name for code in caller.codes} >= expected, caller.codes
        grown = resident(target) - warm
        print(f"{count} inputs: {dict(caller.codes)}, memory grew by {grown / 2**20:.1f} MiB after the first quarter")
        assert grown < GROWTH_BYTES
        assert_alive(target, warm)
    finally:
        caller.close()
