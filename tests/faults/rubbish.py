"""What a stranger might send: made systematically, the same in every run of one seed."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa
from google.protobuf import any_pb2
from google.protobuf.message import Message

from flightsql_server.protocol import flight_pb2 as flight
from flightsql_server.protocol import flight_sql_pb2 as sql
from flightsql_server.protocol.framing import StreamEncoder, flight_data, varint

SQL_TEXTS = (
    "",
    " ",
    ";",
    ";;;",
    "--",
    "/*",
    "'",
    '"',
    "\0",
    "\ufeffSELECT 1",
    "SELECT",
    "SELECT *",
    "SELECT 1; SELECT 2",
    "SELECT 1 FROM",
    "DROP TABLE market_data",
    "COPY market_data TO '/etc/passwd'",
    "ATTACH '/etc/passwd'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT CAST(symbol AS INTEGER) FROM market_data",
    "SELECT CAST(symbol AS DATE) FROM market_data ORDER BY 1",
    "SELECT 1 / 0, CAST('x' AS INTEGER)",
    "SELECT sum(symbol) FROM market_data",
    "SELECT nothing FROM market_data",
    "SELECT * FROM nothing",
    "SELECT nothing(1)",
    "SELECT error('x')",
    "SELECT (SELECT symbol FROM market_data)",
    "SELECT CAST(9999999999999999999999 AS BIGINT)",
    "SELECT 9223372036854775807 + 1",
    "SELECT length(repeat('x', 20000000))",
    "SELECT regexp_matches(symbol, '(') FROM market_data",
    "SELECT strptime(symbol, '%Y') FROM market_data",
    "SELECT 'a' COLLATE nothing",
    "SELECT date '99999999-01-01'",
    "SELECT INTERVAL '1' FORTNIGHT",
    "SELECT $1, ?, :a",
    "SELECT * FROM market_data LIMIT -1",
    "SELECT * FROM market_data LIMIT 'x'",
    "SELECT * FROM range(-1, 'x')",
    "USE nothing",
    "USE information_schema; DROP TABLE x",
    "SET threads = 1",
    "BEGIN",
    "DESCRIBE nothing",
    "SHOW nothing",
    "EXPLAIN ANALYZE SELECT 1",
    "WITH RECURSIVE r AS (SELECT 1) SELECT * FROM r, r, r",
    "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
    "SELECT " + "-" * 3_001 + "1",
    "SELECT " + " + ".join(["1"] * 15_000),
    "SELECT " + ", ".join(f"{n} AS c{n}" for n in range(3_000)),
    "x" * 300_000,
    "SELECT '" + "ü" * 100_000 + "'",
    "SELECT 🦆 FROM market_data",
    "\u202eSELECT 1",
    "SELECT \ud83d".encode("utf-8", "surrogatepass").decode("latin-1"),
)
FOREIGN_URLS = (
    "",
    "/",
    "x",
    "type.googleapis.com/",
    "type.googleapis.com/google.protobuf.Struct",
    "type.googleapis.com/arrow.flight.protocol.sql.",
    "type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery/",
    "type.googleapis.com/arrow.flight.protocol.sql.commandstatementquery",
    "type.googleapis.com/arrow.flight.protocol.sql.NoSuchThing",
    "type.googleapis.com/arrow.flight.protocol.sql.SqlInfo",
    "type.googleapis.com/arrow.flight.protocol.Ticket",
    "type.googleapis.com/" + "a" * 10_000,
    "http://127.0.0.1:1/arrow.flight.protocol.sql.CommandStatementQuery",
)
ACTION_NAMES = ("", "x", "CreatePreparedStatement", "ClosePreparedStatement", "SetSessionOptions", "CloseNothing")
ACTION_NAMES += ("BeginTransaction", "CancelFlightInfo", "CancelQuery", "RenewFlightEndpoint", "GetSessionOptions")
TYPE_URL = "type.googleapis.com/arrow.flight.protocol.sql."


class Kind(NamedTuple):
    """One kind of rubbish for one RPC: the messages of the call, and headers beside the credential."""

    method: str
    label: str
    messages: tuple[bytes, ...]
    headers: tuple[tuple[str, str | bytes], ...] = ()


def _packed(url: str, value: bytes) -> bytes:
    return any_pb2.Any(type_url=url, value=value).SerializeToString()


def packed(message: Message) -> bytes:
    """The Flight SQL message as it goes into a descriptor, a ticket or an action."""
    return _packed(TYPE_URL + message.DESCRIPTOR.name, message.SerializeToString())


def commands(noise: random.Random) -> Iterator[tuple[str, bytes]]:
    """Contents for a descriptor's cmd or a ticket: Flight SQL messages and what looks like them."""
    for number, text in enumerate(SQL_TEXTS):
        yield f"SQL {number}", packed(sql.CommandStatementQuery(query=text))
    for url in FOREIGN_URLS:
        yield f"type {url[:60]}", _packed(url, b"\x0a\x08SELECT 1")
    for name, kind in sorted(sql.DESCRIPTOR.message_types_by_name.items()):
        yield f"{name}, empty", _packed(TYPE_URL + name, b"")
        yield f"{name}, of noise", _packed(TYPE_URL + name, noise.randbytes(30))
        yield f"{name}, of bad UTF-8", _packed(TYPE_URL + name, b"\x0a\x04\xff\xfe\xfd\xfc\x12\x02\xc3\x28")
        yield f"{name}, longer than it is", _packed(TYPE_URL + name, b"\x0a\xff\xff\xff\xff\x7fx")
        yield f"{name}, numbers", _packed(TYPE_URL + kind.name, b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" * 3)
    yield "a transaction", packed(sql.CommandStatementQuery(query="SELECT 1", transaction_id=b"\xff\0"))
    for size in (0, 1, 12, 13, 29, 300):
        yield (
            f"a ticket of {size} bytes",
            packed(sql.TicketStatementQuery(statement_handle=b"\x01" + noise.randbytes(size))),
        )
        yield (
            f"a handle of {size} bytes",
            packed(sql.CommandPreparedStatementQuery(prepared_statement_handle=noise.randbytes(size))),
        )
    for pattern in ("%" * 2_000, "_" * 2_000, "\\", "a\\", "%\\_%" * 300, "(", "[a-", "*+?", "\0", "\uffff"):
        yield (
            f"pattern {pattern[:8]!r}",
            packed(
                sql.CommandGetTables(
                    db_schema_filter_pattern=pattern, table_name_filter_pattern=pattern, include_schema=True
                )
            ),
        )
    yield "every code", packed(sql.CommandGetSqlInfo(info=[0, 2**32 - 1, 7, 7, 7, *range(1_000)]))
    for plain in (
        b"market_data\0",
        b"nothing",
        b"../../etc/passwd",
        b'market_data"; DROP',
        b"\xff\xfe",
        b"orders_history",
    ):
        yield f"plain {plain!r}", plain
    yield "a long name", b"x" * 100_000


def raw(noise: random.Random) -> Iterator[tuple[str, bytes]]:
    """Bytes that are no message of any kind."""
    yield "nothing", b""
    for size in (1, 2, 3, 5, 8, 16, 64, 256, 1_024, 16_384):
        yield f"{size} bytes of noise", noise.randbytes(size)
        yield f"{size} zeros", bytes(size)
        yield f"{size} ones", b"\xff" * size
    for field in (1, 2, 3, 15, 1000):
        for length in (1, 2**20, 2**31, 2**35, 2**62):
            yield f"field {field} of {length} bytes", varint(field << 3 | 2) + varint(length) + b"x"
    yield "an endless number", b"\x08" + b"\xff" * 50
    yield "groups in groups", b"\x0b" * 500
    yield "messages in messages", _nested(400)
    yield "a million empty fields", b"\x22\x00" * 500_000
    yield "an unknown wire type", b"\x0f\x0e\x0d"


def _nested(depth: int) -> bytes:
    message = b""
    for _ in range(depth):
        message = b"\x0a" + varint(len(message)) + message
    return message


def spoiled(label: str, message: bytes, noise: random.Random) -> Iterator[tuple[str, bytes]]:
    """A good message, cut and changed."""
    for at in sorted({noise.randrange(len(message)) for _ in range(6)} if message else {0}):
        yield f"{label}, cut at {at}", message[:at]
    for number in range(6):
        changed = bytearray(message)
        for _ in range(1 + number):
            changed[noise.randrange(len(changed))] = noise.randrange(256)
        yield f"{label}, changed {number}", bytes(changed)
    yield f"{label}, twice", message + message
    yield f"{label} and noise", message + noise.randbytes(20)


def every_kind(seed: int) -> list[Kind]:
    """All the kinds, the same for the same seed."""
    noise = random.Random(seed)
    return [*unary(noise), *streams(noise)]


def unary(noise: random.Random) -> Iterator[Kind]:
    """Rubbish for the RPCs that take one message."""
    descriptor = flight.FlightDescriptor(
        type=flight.FlightDescriptor.CMD, cmd=packed(sql.CommandStatementQuery(query="SELECT * FROM market_data"))
    ).SerializeToString()
    path = flight.FlightDescriptor(type=flight.FlightDescriptor.PATH, path=["market_data"]).SerializeToString()
    ticket = flight.Ticket(ticket=b"market_data").SerializeToString()
    action = flight.Action(
        type="CreatePreparedStatement", body=packed(sql.ActionCreatePreparedStatementRequest(query="SELECT 1"))
    ).SerializeToString()
    good = {"GetFlightInfo": (descriptor, path), "GetSchema": (descriptor,), "PollFlightInfo": (descriptor,)}
    good |= {"DoGet": (ticket,), "DoAction": (action,), "ListFlights": (b"\x0a\x01x",), "ListActions": (b"\x0a\x00",)}
    for method, messages in good.items():
        for label, message in raw(noise):
            yield Kind(method, label, (message,))
        for message in messages:
            for label, changed in spoiled("a good message", message, noise):
                yield Kind(method, label, (changed,))
    for label, command in commands(noise):
        for method in ("GetFlightInfo", "GetSchema"):
            message = flight.FlightDescriptor(type=flight.FlightDescriptor.CMD, cmd=command).SerializeToString()
            yield Kind(method, label, (message,))
        yield Kind("DoGet", label, (flight.Ticket(ticket=command).SerializeToString(),))
        for name in ("CreatePreparedStatement", "SetSessionOptions"):
            yield Kind("DoAction", f"{name}: {label}", (flight.Action(type=name, body=command).SerializeToString(),))
    for parts in ([], [""], ["a", "b"], ["market_data", ""], ["x"] * 10_000, ["\0"], ["../etc/passwd"], ["é" * 5_000]):
        message = flight.FlightDescriptor(type=flight.FlightDescriptor.PATH, path=parts).SerializeToString()
        yield Kind("GetFlightInfo", f"path of {len(parts)}", (message,))
    for number in (0, 3, 2**31 - 1):
        yield Kind("GetFlightInfo", f"type {number}", (b"\x08" + varint(number),))
    for name in ACTION_NAMES:
        for label, body in (("empty", b""), ("noise", noise.randbytes(40)), ("any", _packed(TYPE_URL + "X", b"y"))):
            yield Kind("DoAction", f"{name}, {label}", (flight.Action(type=name, body=body).SerializeToString(),))
    for text in SQL_TEXTS:
        body = packed(sql.ActionCreatePreparedStatementRequest(query=text))
        yield Kind("DoAction", f"prepare {text[:20]!r}", (_action("CreatePreparedStatement", body),))
    yield from _options(noise)


def _action(name: str, body: bytes) -> bytes:
    return flight.Action(type=name, body=body).SerializeToString()


def _options(noise: random.Random) -> Iterator[Kind]:
    values = (
        flight.SessionOptionValue(),
        flight.SessionOptionValue(string_value="\0nothing"),
        flight.SessionOptionValue(bool_value=True),
        flight.SessionOptionValue(int64_value=-(2**63)),
        flight.SessionOptionValue(double_value=float("nan")),
        flight.SessionOptionValue(string_list_value=flight.SessionOptionValue.StringListValue(values=["a"] * 1_000)),
        flight.SessionOptionValue(string_value="x" * 50_000),
    )
    for name in ("catalog", "schema", "dialect", "wire_profile", "nothing", "", "x" * 10_000):
        for number, value in enumerate(values):
            request = flight.SetSessionOptionsRequest(session_options={name: value})
            yield Kind(
                "DoAction", f"option {name[:20]} {number}", (_action("SetSessionOptions", request.SerializeToString()),)
            )


def streams(noise: random.Random) -> Iterator[Kind]:
    """Rubbish for the RPCs that take a stream."""
    for method in ("DoPut", "DoExchange", "Handshake"):
        yield Kind(method, "no message", ())
        for label, message in raw(noise):
            yield Kind(method, label, (message,))
            yield Kind(method, f"{label}, thrice", (message,) * 3)
    for version in (0, 2**63):
        for label, payload in raw(noise):
            message = flight.HandshakeRequest(protocol_version=version, payload=payload).SerializeToString()
            yield Kind("Handshake", f"payload: {label}", (message,))
    for label, command in commands(noise):
        descriptor = flight.FlightDescriptor(type=flight.FlightDescriptor.CMD, cmd=command)
        yield Kind("DoPut", label, (flight.FlightData(flight_descriptor=descriptor).SerializeToString(),))
    yield from _puts(noise)


def _described(message: bytes, descriptor: flight.FlightDescriptor) -> bytes:
    content = descriptor.SerializeToString()
    return b"\x0a" + varint(len(content)) + content + message


def _quotes(rows: int = 3) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "symbol": pa.array([f"S{n}" for n in range(rows)]),
            "bid_price": pa.array([1.0] * rows),
            "ask_price": pa.array([1.0] * rows),
            "last_price": pa.array([1.0] * rows),
            "volume": pa.array([1] * rows),
            "timestamp": pa.array([0] * rows, pa.timestamp("us", tz="UTC")),
        }
    )


def _puts(noise: random.Random) -> Iterator[Kind]:
    quotes = _quotes()
    coded = quotes.set_column(0, "symbol", quotes.column(0).dictionary_encode())
    market = flight.FlightDescriptor(type=flight.FlightDescriptor.PATH, path=["market_data"])
    for name, batch, compression in (("plain", quotes, None), ("coded", coded, None), ("zstd", quotes, "zstd")):
        encoder = StreamEncoder(batch.schema, compression)
        schema, *rest = encoder.schema_message(), *encoder.encode(batch)
        first = _described(schema, market)
        yield Kind("DoPut", f"{name} without a descriptor", (schema, *rest))
        yield Kind("DoPut", f"{name} without a schema", (_described(rest[0], market), *rest[1:]))
        yield Kind("DoPut", f"{name}, a schema twice", (first, schema, *rest))
        yield Kind("DoPut", f"{name}, metadata without end", (first, flight_data(b"", None, b"x" * 3_000_000)))
        for number, message in enumerate((schema, *rest)):
            for label, changed in spoiled(f"{name} {number}", message, noise):
                sent = [*(schema, *rest)[:number], changed, *(schema, *rest)[number + 1 :]]
                yield Kind("DoPut", label, (_described(sent[0], market), *sent[1:]))
        yield Kind("DoPut", f"{name}, bad UTF-8 in a name", (first.replace(b"bid_price", b"bid\xff\xfe\xfdice"), *rest))
        yield Kind(
            "DoPut",
            f"{name}, bad UTF-8 in a value",
            (first, *(part.replace(b"S0S1", b"\xff\xfe\xfdx") for part in rest)),
        )
    yield from _misfits(quotes, market)


def _misfits(quotes: pa.RecordBatch, market: flight.FlightDescriptor) -> Iterator[Kind]:
    """Whole and valid streams that are not what the dataset wants."""
    columns = {name: quotes.column(name) for name in quotes.schema.names}
    wrong = {
        "a column less": quotes.drop_columns(["volume"]),
        "a column more": quotes.append_column("surprise", pa.array([1, 2, 3])),
        "a column twice": quotes.append_column("symbol", quotes.column(0)),
        "no columns": pa.RecordBatch.from_arrays([], schema=pa.schema([])),
        "null keys": pa.RecordBatch.from_pydict({**columns, "symbol": pa.array([None, "A", "B"])}),
        "nothing but nulls": pa.RecordBatch.from_pydict({name: pa.nulls(3) for name in columns}),
        "lists": pa.RecordBatch.from_pydict({**columns, "symbol": pa.array([["A"], [], None])}),
        "a hundred columns": pa.RecordBatch.from_pydict({f"c{n}": [1] for n in range(100)}),
        "lossy times": pa.RecordBatch.from_pydict(
            {**columns, "timestamp": pa.array([1, 2, 3], pa.timestamp("ns", tz="UTC"))}
        ),
        "a zone that does not exist": pa.RecordBatch.from_pydict(
            {**columns, "timestamp": pa.array([1, 2, 3], pa.timestamp("us", tz="Mars/Olympus"))}
        ),
    }
    for label, batch in wrong.items():
        encoder = StreamEncoder(batch.schema)
        yield Kind("DoPut", label, (_described(encoder.schema_message(), market), *encoder.encode(batch)))
    for table, mode in (("market_data", 0), ("nothing", 2), ("", 2), ("market_data", 3), ("orders", 9)):
        command = sql.CommandStatementIngest(table=table)
        command.table_definition_options.if_not_exist = 2  # type: ignore[assignment]
        command.table_definition_options.if_exists = mode  # type: ignore[assignment]
        descriptor = flight.FlightDescriptor(type=flight.FlightDescriptor.CMD, cmd=packed(command))
        encoder = StreamEncoder(quotes.schema)
        yield Kind(
            "DoPut",
            f"ingest {table} {mode}",
            (_described(encoder.schema_message(), descriptor), *encoder.encode(quotes)),
        )


def headers(token: str, noise: random.Random) -> Iterator[tuple[str, tuple[tuple[str, str | bytes], ...]]]:
    """Headers that no good client sends; with each a list of what else must not help."""
    head, claims, signature = token.split(".")
    none = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).rstrip(b"=").decode()
    altered = claims[:-2] + ("AA" if not claims.endswith("AA") else "BB")
    values = (
        "",
        " ",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic " + base64.b64encode(b"nocolon").decode(),
        "Basic " + base64.b64encode(b":").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:\xfd").decode(),
        "Basic " + base64.b64encode(b"admin:\0").decode(),
        "Basic " + base64.b64encode(b"a" * 30_000 + b":x").decode(),
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer a.b.c",
        "Bearer ..",
        f"Bearer {none}.{claims}.",
        f"Bearer {none}.{claims}.{signature}",
        f"Bearer {head}.{altered}.{signature}",
        f"Bearer {head}.{claims}.{signature[:-4]}AAAA",
        f"Bearer {head}.{claims}",
        f"Bearer {token}x",
        "Bearer " + "x" * 40_000,
        "Negotiate " + base64.b64encode(noise.randbytes(40)).decode(),
        "Digest username=admin",
        token,
    )
    for number, value in enumerate(values):
        yield f"authorization {number}", (("authorization", value),)
    yield "an old token header of noise", (("auth-token-bin", noise.randbytes(60)),)
    yield "two authorizations", (("authorization", "Bearer x"), ("authorization", f"Bearer {token}y"))


def choices() -> Iterator[tuple[str, tuple[tuple[str, str | bytes], ...]]]:
    """Headers beside a good credential."""
    for name in ("x-sql-dialect", "x-wire-profile", "x-compression"):
        for value in ("nothing", "x" * 20_000, "' OR 1=1", "../../etc/passwd", "None"):
            yield f"{name} {value[:10]}", ((name, value),)
    yield "many headers", tuple((f"x-header-{n}", "y" * 50) for n in range(300))
    yield "noise", (("x-noise-bin", bytes(range(256)) * 20), ("cookie", "a=b; " * 500))
