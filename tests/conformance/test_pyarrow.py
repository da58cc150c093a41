"""pyarrow's Flight client: logins, plain Flight, rows in and out, session options, and that all answers agree."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import grpc
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.flight as flight
import pytest
from flightsql_auth.credentials import PasswordHasher
from flightsql_auth.store import StateStore

from flightsql_server.data.datasets import DATASETS
from flightsql_server.protocol import actions
from flightsql_server.protocol import flight_pb2 as plain_wire
from flightsql_server.protocol import flight_sql_pb2 as wire
from tests.conformance.clients import arrow, basic, metric, token_of
from tests.running import RunningServer, running_server

Headers = Sequence[tuple[bytes, bytes]]
FOUR_MEBIBYTES = 4 * 1024 * 1024
CONTRACT = ["symbol", "bid_price", "ask_price", "last_price", "volume", "timestamp"]


class PayloadLogin(flight.ClientAuthHandler):  # type: ignore[misc]
    """The older login: credentials and token travel in the handshake's messages."""

    def __init__(self, user: str, password: str) -> None:
        super().__init__()
        self._content = flight.BasicAuth(user, password).serialize()
        self._token = b""

    def authenticate(self, outgoing: flight.ClientAuthSender, incoming: flight.ClientAuthReader) -> None:
        outgoing.write(self._content)
        self._token = incoming.read()

    def get_token(self) -> bytes:
        return self._token


def options(*headers: tuple[bytes, bytes]) -> flight.FlightCallOptions:
    return flight.FlightCallOptions(headers=list(headers))


@contextmanager
def client_of(
    server: RunningServer, user: str = "reader", *more: tuple[bytes, bytes]
) -> Iterator[tuple[flight.FlightClient, flight.FlightCallOptions]]:
    """A client that has logged in by Basic, and what its calls need."""
    with flight.FlightClient(server.url) as client:
        yield client, options(client.authenticate_basic_token(user, user), *more)


def statement(sql: str) -> flight.FlightDescriptor:
    return flight.FlightDescriptor.for_command(actions.packed(wire.CommandStatementQuery(query=sql)))


def ask(client: flight.FlightClient, call: flight.FlightCallOptions, sql: str) -> pa.Table:
    info = client.get_flight_info(statement(sql), call)
    (endpoint,) = info.endpoints
    return client.do_get(endpoint.ticket, call).read_all()


def who(server: RunningServer, *headers: tuple[bytes, bytes]) -> str:
    """The user that the server takes a call with these headers for."""
    with flight.FlightClient(server.url) as client:
        (found,) = ask(client, options(*headers), "SELECT current_user AS who").to_pydict()["who"]
    return str(found)


def words(error: BaseException) -> str:
    """What the server said, without what pyarrow wrote around it."""
    found = re.search(r"\[\w{5}\] [^\n]*?(?=\. Detail|\. gRPC|\. Client|$)", str(error))
    assert found, error
    return found[0]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of these tests' own, which they write to."""
    with running_server(tmp_path_factory.mktemp("written")) as running:
        yield running


# ---- login


def test_handshake_by_header(server: RunningServer) -> None:
    with flight.FlightClient(server.url) as client:
        name, value = client.authenticate_basic_token("reader", "reader")
    assert name == b"authorization"
    assert value.startswith(b"Bearer ")
    assert who(server, (name, value)) == "reader"


@pytest.mark.covers("pyarrow", "StatementQuery", "TicketStatementQuery")
def test_handshake_by_payload(server: RunningServer) -> None:
    with flight.FlightClient(server.url) as client:
        client.authenticate(PayloadLogin("reader", "reader"))
        assert ask(client, options(), "SELECT current_user AS who").to_pydict() == {"who": ["reader"]}


def test_wrong_password(server: RunningServer) -> None:
    with flight.FlightClient(server.url) as client:
        with pytest.raises(flight.FlightUnauthenticatedError, match=r"\[28P01\]"):
            client.authenticate_basic_token("reader", "wrong")
        with pytest.raises(flight.FlightUnauthenticatedError, match=r"\[28P01\]"):
            client.authenticate(PayloadLogin("reader", "wrong"))


def test_unknown_user_is_refused_in_the_same_words(server: RunningServer) -> None:
    texts = []
    with flight.FlightClient(server.url) as client:
        for user in ("reader", "nobody"):
            with pytest.raises(flight.FlightUnauthenticatedError) as refused:
                client.authenticate_basic_token(user, "wrong")
            texts.append(words(refused.value))
    assert texts[0]
    assert texts[0] == texts[1]


PATH = flight.FlightDescriptor.for_path("market_data")
CALLS: dict[str, Callable[[flight.FlightClient], object]] = {
    "list_flights": lambda client: list(client.list_flights()),
    "get_flight_info": lambda client: client.get_flight_info(PATH),
    "get_schema": lambda client: client.get_schema(PATH),
    "do_get": lambda client: client.do_get(flight.Ticket(b"market_data")).read_all(),
    "do_put": lambda client: client.do_put(PATH, DATASETS["market_data"].schema)[0].close(),
    "do_action": lambda client: list(client.do_action("GetSessionOptions")),
    "list_actions": lambda client: list(client.list_actions()),
}


@pytest.mark.parametrize("rpc", CALLS)
def test_no_credentials(server: RunningServer, rpc: str) -> None:
    # For this one call pyarrow makes an OSError of whatever the status is.
    error = OSError if rpc == "get_schema" else flight.FlightUnauthenticatedError
    with flight.FlightClient(server.url) as client, pytest.raises(error, match=r"unauthenticated.*\[28000\]"):
        CALLS[rpc](client)


@pytest.mark.parametrize("scheme", [b"Basic", b"basic", b"BASIC"])
@pytest.mark.parametrize("padded", [True, False])
def test_basic_on_every_call(server: RunningServer, scheme: bytes, padded: bool) -> None:
    value = basic("viewer", "viewer", padded=padded).replace(b"Basic", scheme)
    assert value.endswith(b"=") is padded
    assert who(server, (b"authorization", value)) == "viewer"


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER"])
def test_bearer_in_any_case(server: RunningServer, scheme: bytes) -> None:
    assert who(server, (b"authorization", scheme + b" " + token_of(server).encode())) == "reader"


@pytest.mark.parametrize(
    "value", [b"Bearer not.a.token", b"Basic !!!", b"Digest abc", b"Bearer", b"Basic cmVhZGVy", b"x"]
)
def test_what_is_no_credential(server: RunningServer, value: bytes) -> None:
    with pytest.raises(flight.FlightUnauthenticatedError, match=r"\[28"):
        who(server, (b"authorization", value))


def test_colon_in_a_password(own: RunningServer) -> None:
    store = StateStore(own.data_dir / "state.sqlite")
    try:
        if store.get_user("colon") is None:
            store.add_user("colon", PasswordHasher(memory_kib=64, time_cost=1).hash("a:b::c"), ("reader",))
    finally:
        store.close()
    with flight.FlightClient(own.url) as client:
        assert who(own, client.authenticate_basic_token("colon", "a:b::c")) == "colon"
        client.authenticate(PayloadLogin("colon", "a:b::c"))
        assert ask(client, options(), "SELECT 1 AS n").num_rows == 1
    assert who(own, (b"authorization", basic("colon", "a:b::c"))) == "colon"


def test_handshake_with_a_bearer_gives_another_token(server: RunningServer) -> None:
    """pyarrow has no such call, so the handshake goes over a bare channel."""
    first = token_of(server)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        handshake = channel.stream_stream("/arrow.flight.protocol.FlightService/Handshake")
        call = handshake(iter(()), metadata=(("authorization", f"Bearer {first}"),), timeout=20)
        (message,) = list(call)
        told = dict(call.initial_metadata())["authorization"]
    second = plain_wire.HandshakeResponse.FromString(message).payload.decode()
    assert told == f"Bearer {second}"
    assert second != first
    assert who(server, (b"authorization", told.encode())) == "reader"
    assert who(server, (b"authorization", f"Bearer {first}".encode())) == "reader"


# ---- plain Flight


def columns_of(name: str) -> pa.Schema:
    """The dataset's columns; a result doesn't tell which of them are never null."""
    return pa.schema([(field.name, field.type) for field in DATASETS[name].schema])


def test_list_flights(server: RunningServer) -> None:
    with client_of(server) as (client, call):
        infos = {info.descriptor.path[0].decode(): info for info in client.list_flights(options=call)}
        assert sorted(infos) == ["market_data", "orders", "positions"]
        for name, info in infos.items():
            assert info.schema == columns_of(name)
            assert client.do_get(info.endpoints[0].ticket, call).read_all().num_rows > 0


@pytest.mark.covers("pyarrow", "Plain")
@pytest.mark.parametrize("name", ["market_data", "positions", "orders"])
def test_dataset_by_path_and_by_ticket(server: RunningServer, name: str) -> None:
    path = flight.FlightDescriptor.for_path(name)
    with client_of(server) as (client, call):
        info = client.get_flight_info(path, call)
        (endpoint,) = info.endpoints
        rows = client.do_get(flight.Ticket(name.encode()), call).read_all()
        assert info.schema == client.get_schema(path, call).schema == rows.schema == columns_of(name)
        assert endpoint.locations == []
        assert client.do_get(endpoint.ticket, call).read_all().num_rows == rows.num_rows
    key = [(column, "ascending") for column in DATASETS[name].key]
    assert rows.sort_by(key) == arrow(server, f"SELECT * FROM {name}").sort_by(key).cast(rows.schema)


def test_market_data_keeps_its_contract(server: RunningServer) -> None:
    with client_of(server, "viewer") as (client, call):
        rows = client.do_get(flight.Ticket(b"market_data"), call).read_all()
    assert rows.column_names == CONTRACT
    assert rows.num_rows == 500


def test_grants_hold_for_plain_flight(server: RunningServer) -> None:
    with client_of(server, "viewer") as (client, call):
        assert [info.descriptor.path for info in client.list_flights(options=call)] == [[b"market_data"]]
        told = []
        for name in ("positions", "nothing"):
            path = flight.FlightDescriptor.for_path(name)
            with pytest.raises(KeyError, match=r"\[42P01\]") as by_info:
                client.get_flight_info(path, call)
            with pytest.raises(KeyError, match=r"\[42P01\]") as by_schema:
                client.get_schema(path, call)
            with pytest.raises(KeyError, match=r"\[42P01\]") as by_ticket:
                client.do_get(flight.Ticket(name.encode()), call).read_all()
            told.append([words(error.value).replace(name, "?") for error in (by_info, by_schema, by_ticket)])
    assert told[0] == told[1]


# ---- all answers about a statement agree

STATEMENTS = [
    "SELECT 1",
    "SELECT * FROM market_data",
    "SELECT * FROM positions",
    "SELECT * FROM orders",
    "SELECT * FROM market_data_history",
    "SELECT sum(quantity) AS q, count(*) AS n, avg(average_price) AS p FROM positions",
    "SELECT sum(volume) AS v FROM market_data",
    "SELECT [1, 2] AS l, {'a': 1} AS s",
    "SELECT CAST('buy' AS ENUM('buy', 'sell')) AS side FROM range(3)",
    "SELECT NULL AS n, TRUE AS b, DATE '2026-01-05' AS d, TIME '12:00:00' AS t, INTERVAL 1 DAY AS i",
    "SELECT CAST('2026-01-05 14:30:00' AS TIMESTAMP) AS t, CAST(1 AS HUGEINT) AS h, CAST(1 AS UTINYINT) AS u",
    "SELECT uuid() AS u, CAST('x' AS BLOB) AS b",
    "SELECT symbol AS x, symbol AS x FROM market_data LIMIT 3",
    "WITH t AS (SELECT side, count(*) AS n FROM orders GROUP BY side) SELECT * FROM t",
    "VALUES (1, 'a'), (2, 'b')",
    "SHOW TABLES",
    "DESCRIBE market_data",
    "SELECT * FROM information_schema.columns",
    "SELECT symbol FROM market_data WHERE FALSE",
]


@pytest.mark.parametrize("profile", ["standard", "jdbc"])
@pytest.mark.parametrize("sql", STATEMENTS)
def test_schemas_agree(server: RunningServer, sql: str, profile: str) -> None:
    with client_of(server, "reader", (b"x-wire-profile", profile.encode())) as (client, call):
        info = client.get_flight_info(statement(sql), call)
        told = client.get_schema(statement(sql), call).schema
        rows = client.do_get(info.endpoints[0].ticket, call).read_all()
        rows.validate(full=True)
    assert info.schema.equals(told, check_metadata=True)
    assert info.schema.equals(rows.schema, check_metadata=True)
    if profile == "jdbc":
        kinds = (pa.types.is_nested, pa.types.is_dictionary)
        assert not any(kind(field.type) for field in rows.schema for kind in kinds)
        assert not any(getattr(field.type, "tz", None) for field in rows.schema)


def test_enum_arrives_as_dictionary(server: RunningServer) -> None:
    sides = "CASE WHEN range % 2 = 0 THEN 'buy' ELSE 'sell' END"
    sql = f"SELECT CAST({sides} AS ENUM('buy', 'sell')) AS side FROM range(300000)"
    with client_of(server) as (client, call):
        side = ask(client, call, sql).column("side")
    assert pa.types.is_dictionary(side.type)
    assert side.cast(pa.string()).to_pylist() == ["buy", "sell"] * 150_000


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compression_when_asked(server: RunningServer, codec: str) -> None:
    sql = "SELECT range % 10 AS n, CAST('a' AS ENUM('a', 'b')) AS e FROM range(500000)"
    series = 'flightsql_sent_bytes_total{command="TicketStatementQuery",method="DoGet"}'
    sizes = []
    for header in (b"none", codec.encode()):
        before = metric(server, series)
        with client_of(server, "reader", (b"x-compression", header)) as (client, call):
            rows = ask(client, call, sql)
        assert rows.num_rows == 500_000
        assert pc.sum(rows.column("n")).as_py() == 2_250_000
        sizes.append(metric(server, series) - before)
    assert 0 < sizes[1] < sizes[0] / 2


def test_unknown_compression_is_refused(server: RunningServer) -> None:
    with (
        client_of(server, "reader", (b"x-compression", b"rar")) as (client, call),
        pytest.raises(pa.ArrowInvalid, match=r"\[22023\]"),
    ):
        ask(client, call, "SELECT 1")


@pytest.mark.parametrize("profile", [b"standard", b"jdbc"])
def test_messages_stay_below_the_stock_limit(server: RunningServer, profile: bytes) -> None:
    wide = (
        "SELECT range AS n, repeat('x', CAST(range % 3000 AS INTEGER)) AS line, [range, range] AS pair"
        " FROM range(20000)"
    )
    limit = [("grpc.max_receive_message_length", FOUR_MEBIBYTES)]
    with flight.FlightClient(server.url, generic_options=limit) as client:
        call = options(client.authenticate_basic_token("reader", "reader"), (b"x-wire-profile", profile))
        rows = ask(client, call, wide)
    assert rows.num_rows == 20_000
    assert rows.nbytes > 6 * FOUR_MEBIBYTES
    assert pc.sum(rows.column("n")).as_py() == 199_990_000


def test_a_ticket_is_its_users_alone(server: RunningServer) -> None:
    with client_of(server) as (client, call):
        ticket = client.get_flight_info(statement("SELECT 1 AS one"), call).endpoints[0].ticket
    with client_of(server) as (client, call):
        assert client.do_get(ticket, call).read_all().to_pydict() == {"one": [1]}
    with client_of(server, "viewer") as (client, call), pytest.raises(KeyError, match=r"\[26000\]"):
        client.do_get(ticket, call).read_all()


# ---- session options


def act(client: flight.FlightClient, call: flight.FlightCallOptions, name: str, body: bytes = b"") -> bytes:
    (result,) = list(client.do_action(flight.Action(name, body), call))
    return bytes(result.body.to_pybytes())


def set_options(
    client: flight.FlightClient, call: flight.FlightCallOptions, **values: str | int | None
) -> dict[str, int]:
    request = plain_wire.SetSessionOptionsRequest()
    for name, value in values.items():
        entry = request.session_options[name]
        if isinstance(value, str):
            entry.string_value = value
        elif value is not None:
            entry.int64_value = value
    answer = act(client, call, "SetSessionOptions", request.SerializeToString())
    result = plain_wire.SetSessionOptionsResult.FromString(answer)
    return {name: error.value for name, error in result.errors.items()}


def get_options(client: flight.FlightClient, call: flight.FlightCallOptions) -> dict[str, object]:
    result = plain_wire.GetSessionOptionsResult.FromString(act(client, call, "GetSessionOptions"))
    options = result.session_options.items()
    return {name: getattr(value, str(value.WhichOneof("option_value"))) for name, value in options}


@pytest.mark.covers("pyarrow", "SetSessionOptions", "GetSessionOptions")
def test_session_options(server: RunningServer) -> None:
    with client_of(server) as (client, call):
        assert get_options(client, call) == {
            "catalog": "desk",
            "schema": "main",
            "dialect": "duckdb",
            "wire_profile": "standard",
            "time_zone": "UTC",
            "compression": "none",
            "statement_timeout_seconds": 0.0,
            "max_rows": 0,
            "max_staleness_ms": 0,
        }
        assert set_options(client, call, catalog="desk", schema="main", dialect="mysql", wire_profile="jdbc") == {}
        assert get_options(client, call)["dialect"] == "mysql"
        assert ask(client, call, "SELECT `symbol` FROM `market_data` LIMIT 1").num_rows == 1
        assert ask(client, call, "SELECT `timestamp` FROM market_data").schema.field(0).type == pa.timestamp("us")
        assert set_options(client, call, dialect=None, wire_profile=None) == {}
        assert get_options(client, call)["dialect"] == "duckdb"


def test_session_options_that_are_refused(server: RunningServer) -> None:
    with client_of(server) as (client, call):
        refused = set_options(
            client, call, catalog="nope", schema="nope", dialect="klingon", wire_profile="x", colour="red"
        )
        assert refused == {
            "catalog": actions.OptionError.INVALID_VALUE,
            "schema": actions.OptionError.INVALID_VALUE,
            "dialect": actions.OptionError.INVALID_VALUE,
            "wire_profile": actions.OptionError.INVALID_VALUE,
            "colour": actions.OptionError.INVALID_NAME,
        }
        assert get_options(client, call)["dialect"] == "duckdb"


def test_sessions_do_not_share_options(server: RunningServer) -> None:
    with client_of(server) as (one, first), client_of(server) as (two, second):
        assert set_options(one, first, dialect="mysql") == {}
        assert get_options(two, second)["dialect"] == "duckdb"


@pytest.mark.covers("pyarrow", "CloseSession")
def test_close_session_ends_its_token(server: RunningServer) -> None:
    with client_of(server) as (client, call):
        answer = plain_wire.CloseSessionResult.FromString(act(client, call, "CloseSession"))
        assert answer.status == plain_wire.CloseSessionResult.CLOSED
        with pytest.raises(flight.FlightUnauthenticatedError, match=r"\[28000\]"):
            ask(client, call, "SELECT 1")


def test_list_actions(server: RunningServer) -> None:
    with client_of(server) as (client, call):
        found = {action.type: action.description for action in client.list_actions(call)}
    assert {
        "CreatePreparedStatement",
        "ClosePreparedStatement",
        "SetSessionOptions",
        "GetSessionOptions",
        "CloseSession",
    } <= set(found)
    assert all(found.values())


@pytest.mark.covers("pyarrow", "BeginSavepoint")
@pytest.mark.parametrize("name", ["NoSuchAction", "BeginSavepoint"])
def test_actions_that_are_not_offered(server: RunningServer, name: str) -> None:
    with client_of(server) as (client, call), pytest.raises(NotImplementedError, match=r"\[0A000\]"):
        act(client, call, name)


# ---- rows in

START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


def quotes(*rows: tuple[str | None, float, int]) -> pa.RecordBatch:
    """Market data: symbol, last price and seconds since the start."""
    return pa.record_batch(
        {
            "symbol": pa.array([symbol for symbol, _, _ in rows], pa.string()),
            "bid_price": pa.array([None] * len(rows), pa.float64()),
            "ask_price": pa.array([price + 0.5 for _, price, _ in rows], pa.float64()),
            "last_price": pa.array([price for _, price, _ in rows], pa.float64()),
            "volume": pa.array([100] * len(rows), pa.int64()),
            "timestamp": pa.array([START + timedelta(seconds=s) for _, _, s in rows], pa.timestamp("us", "UTC")),
        }
    )


class Put:
    """One DoPut stream, used step by step."""

    def __init__(
        self, client: flight.FlightClient, call: flight.FlightCallOptions, schema: pa.Schema, name: str = "market_data"
    ) -> None:
        self.writer, self.reader = client.do_put(flight.FlightDescriptor.for_path(name), schema, call)

    def send(self, batch: pa.RecordBatch) -> dict[str, object]:
        self.writer.write_batch(batch)
        answer = self.reader.read()
        assert answer is not None, "no acknowledgement"
        found: dict[str, object] = json.loads(answer.to_pybytes())
        return found

    def close(self) -> None:
        self.writer.close()


def latest(server: RunningServer, symbols: Sequence[str]) -> dict[str, float]:
    named = ", ".join(f"'{symbol}'" for symbol in symbols)
    rows = arrow(server, f"SELECT symbol, last_price FROM market_data WHERE symbol IN ({named})", "feed").to_pylist()
    return {row["symbol"]: row["last_price"] for row in rows}


def test_put_stores_and_replaces(own: RunningServer) -> None:
    with client_of(own, "feed") as (client, call):
        put = Put(client, call, quotes().schema)
        first = put.send(quotes(("PUTA", 1.0, 0), ("PUTB", 2.0, 0)))
        assert (first["rows"], first["late_rows"], first["level"]) == (2, 0, "durable")
        assert latest(own, ["PUTA", "PUTB"]) == {"PUTA": 1.0, "PUTB": 2.0}  # seen at once, before the stream ends
        second = put.send(quotes(("PUTA", 3.0, 1)))
        assert second["first_seq"] == second["last_seq"]
        assert second["first_seq"] > first["last_seq"]  # type: ignore[operator]
        put.close()
    assert latest(own, ["PUTA", "PUTB"]) == {"PUTA": 3.0, "PUTB": 2.0}


def test_an_older_row_is_late(own: RunningServer) -> None:
    with client_of(own, "feed") as (client, call):
        put = Put(client, call, quotes().schema)
        put.send(quotes(("LATE", 5.0, 10)))
        answer = put.send(quotes(("LATE", 4.0, 9)))
        assert (answer["rows"], answer["late_rows"]) == (1, 1)
        put.close()
    assert latest(own, ["LATE"]) == {"LATE": 5.0}
    sql = "SELECT last_price FROM market_data_history WHERE symbol = 'LATE' ORDER BY _seq"
    assert arrow(own, sql, "admin").to_pydict() == {"last_price": [5.0, 4.0]}


def test_a_bad_batch_stores_nothing(own: RunningServer) -> None:
    with client_of(own, "feed") as (client, call):
        put = Put(client, call, quotes().schema)
        put.send(quotes(("KEPT", 1.0, 0)))
        put.writer.write_batch(quotes(("LOST", 1.0, 0), (None, 2.0, 0)))
        with pytest.raises(pa.ArrowInvalid, match=r"\[22023\] Column symbol of market_data is null in row 1"):
            put.close()
    assert latest(own, ["KEPT", "LOST"]) == {"KEPT": 1.0}
    assert (
        arrow(own, "SELECT count(*) AS n FROM market_data_history WHERE symbol = 'LOST'", "admin")["n"][0].as_py() == 0
    )


def test_lossless_types_are_taken(own: RunningServer) -> None:
    batch = quotes(("CAST", 1.5, 0))
    batch = batch.set_column(0, "symbol", batch.column("symbol").dictionary_encode())
    batch = batch.set_column(4, "volume", batch.column("volume").cast(pa.int32()))
    batch = batch.set_column(5, "timestamp", batch.column("timestamp").cast(pa.timestamp("s", "UTC")))
    with client_of(own, "feed") as (client, call):
        put = Put(client, call, batch.schema)
        assert put.send(batch)["rows"] == 1
        put.close()
    assert latest(own, ["CAST"]) == {"CAST": 1.5}


@pytest.mark.parametrize(
    ("column", "type_", "text"),
    [
        ("volume", pa.float64(), "Column volume of market_data must be int64, not double"),
        ("symbol", None, "lacks the column symbol"),
    ],
)
def test_other_schemas_are_refused(own: RunningServer, column: str, type_: pa.DataType | None, text: str) -> None:
    batch = quotes(("BADT", 1.0, 0))
    at = batch.schema.get_field_index(column)
    batch = batch.remove_column(at) if type_ is None else batch.set_column(at, column, batch.column(at).cast(type_))
    with client_of(own, "feed") as (client, call):
        put = Put(client, call, batch.schema)
        put.writer.write_batch(batch)
        with pytest.raises(pa.ArrowInvalid, match=rf"\[22023\].*{text}"):
            put.close()
    assert latest(own, ["BADT"]) == {}


@pytest.mark.parametrize(
    ("user", "name", "error", "sqlstate"),
    [
        ("viewer", "market_data", flight.FlightUnauthorizedError, "42501"),
        ("reader", "market_data", flight.FlightUnauthorizedError, "42501"),
        ("reader", "positions", flight.FlightUnauthorizedError, "42501"),
        ("feed", "positions", KeyError, "42P01"),
        ("viewer", "orders", KeyError, "42P01"),
        ("admin", "nothing", KeyError, "42P01"),
    ],
)
def test_who_may_not_write(own: RunningServer, user: str, name: str, error: type[Exception], sqlstate: str) -> None:
    with client_of(own, user) as (client, call):
        put = Put(client, call, quotes().schema, name)
        with pytest.raises(error, match=rf"\[{sqlstate}\]"):
            put.close()


def test_admin_may_write_everything(own: RunningServer) -> None:
    now = pa.array([START], pa.timestamp("us", "UTC"))
    values: dict[str, pa.Array] = {}
    for field in DATASETS["positions"].schema:
        values[field.name] = now if field.name == "updated_at" else pa.array(["1"]).cast(field.type)
    batch = pa.record_batch(values, schema=DATASETS["positions"].schema)
    with client_of(own, "admin") as (client, call):
        put = Put(client, call, batch.schema, "positions")
        assert put.send(batch)["rows"] == 1
        put.close()
    assert arrow(own, "SELECT * FROM positions", "admin").to_pylist() == batch.to_pylist()
