"""Commands and actions: bytes as clients send them, and what is made of rubbish."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from flightsql_server.errors import InvalidParameter, UnsupportedFeature
from flightsql_server.protocol import actions, commands
from flightsql_server.protocol import flight_pb2 as flight
from flightsql_server.protocol import flight_sql_pb2 as wire

URL = "type.googleapis.com/arrow.flight.protocol.sql."


def field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field, written without the library under test; short values only."""
    assert len(value) < 128
    return bytes((number << 3 | 2, len(value))) + value


def envelope(name: str, value: bytes, prefix: str = URL) -> bytes:
    return field(1, (prefix + name).encode()) + (field(2, value) if value else b"")


COMMANDS: list[tuple[str, bytes, commands.Command]] = [
    ("CommandStatementQuery", field(1, b"SELECT 1"), commands.StatementQuery("SELECT 1")),
    ("CommandStatementQuery", field(1, b"x") + field(2, b""), commands.StatementQuery("x", b"")),
    ("CommandStatementUpdate", field(1, b"DELETE") + field(2, b"tx"), commands.StatementUpdate("DELETE", b"tx")),
    (
        "CommandStatementSubstraitPlan",
        field(1, field(1, b"plan") + field(2, b"0.12")),
        commands.StatementSubstraitPlan(b"plan", "0.12"),
    ),
    (
        "CommandStatementIngest",
        field(1, b"\x08\x01\x10\x03") + field(2, b"t") + field(4, b"desk") + b"\x28\x01" + field(6, b"tx"),
        commands.StatementIngest(
            "t",
            commands.IfNotExist.CREATE,
            commands.IfExists.REPLACE,
            catalog="desk",
            temporary=True,
            transaction_id=b"tx",
        ),
    ),
    (
        "CommandStatementIngest",
        field(1, b"\x08\x02\x10\x02") + field(2, b"t") + b"\xc2\x3e\x06" + field(1, b"k") + field(2, b"v"),
        commands.StatementIngest("t", commands.IfNotExist.FAIL, commands.IfExists.APPEND, options={"k": "v"}),
    ),
    ("CommandPreparedStatementQuery", field(1, b"h"), commands.PreparedStatementQuery(b"h")),
    ("CommandPreparedStatementUpdate", field(1, b"h"), commands.PreparedStatementUpdate(b"h")),
    ("TicketStatementQuery", field(1, b"h"), commands.TicketStatementQuery(b"h")),
    ("CommandGetCatalogs", b"", commands.GetCatalogs()),
    ("CommandGetDbSchemas", b"", commands.GetDbSchemas()),
    ("CommandGetDbSchemas", field(1, b"") + field(2, b"%"), commands.GetDbSchemas("", "%")),
    ("CommandGetTables", b"", commands.GetTables()),
    (
        "CommandGetTables",
        field(2, b"main") + field(3, b"m\\_%") + field(4, b"VIEW") + field(4, b"BASE TABLE") + b"\x28\x01",
        commands.GetTables(None, "main", "m\\_%", ("VIEW", "BASE TABLE"), True),
    ),
    ("CommandGetTableTypes", b"", commands.GetTableTypes()),
    ("CommandGetPrimaryKeys", field(3, b"orders"), commands.GetPrimaryKeys(None, None, "orders")),
    ("CommandGetExportedKeys", field(1, b"") + field(3, b"t"), commands.GetExportedKeys("", None, "t")),
    ("CommandGetImportedKeys", field(2, b"main") + field(3, b"t"), commands.GetImportedKeys(None, "main", "t")),
    (
        "CommandGetCrossReference",
        b"".join(field(number, f"n{number}".encode()) for number in range(1, 7)),
        commands.GetCrossReference("n1", "n2", "n3", "n4", "n5", "n6"),
    ),
    ("CommandGetXdbcTypeInfo", b"", commands.GetXdbcTypeInfo()),
    ("CommandGetXdbcTypeInfo", b"\x08\x00", commands.GetXdbcTypeInfo(0)),
    ("CommandGetSqlInfo", b"", commands.GetSqlInfo()),
    ("CommandGetSqlInfo", field(1, b"\x00\x02\x03\xf8\x03"), commands.GetSqlInfo((0, 2, 3, 504))),
]


@pytest.mark.parametrize(("name", "value", "expected"), COMMANDS)
def test_commands_as_clients_write_them(name: str, value: bytes, expected: commands.Command) -> None:
    content = envelope(name, value)
    assert commands.is_flight_sql(content)
    assert commands.decode_command(content) == expected
    # Only what follows the last slash names the type; and the order of an envelope's fields is free.
    assert commands.decode_command(envelope(name, value, "example.com/x/arrow.flight.protocol.sql.")) == expected
    assert commands.decode_command(field(2, value) + envelope(name, b"")) == expected


def test_every_command_of_the_format_is_decoded() -> None:
    names = {m for m in wire.DESCRIPTOR.message_types_by_name if m.startswith(("Command", "Ticket"))}
    assert {name for name, _, _ in COMMANDS} == names


@pytest.mark.parametrize("content", [b"market_data", b"positions", b"", b"\x00\xff", b"{}", b"\n\x03abc", b"x" * 500])
def test_bytes_of_plain_flight_are_no_error(content: bytes) -> None:
    assert commands.decode_command(content) == commands.PlainCommand(content)
    assert not commands.is_flight_sql(content)


@pytest.mark.parametrize(
    "content",
    [
        envelope("CommandStatementQuery", field(1, b"SELECT 1"))[:-2],
        envelope("CommandStatementQuery", b"\x0a\x7fshort"),
        envelope("CommandStatementQuery", field(1, b"\xff\xfe")),
        envelope("CommandGetTables", b"\x2d\x00"),
        envelope("CommandNobodyKnows", b""),
        envelope("ActionBeginTransactionRequest", b""),
        envelope("Ticket", field(1, b"x"), "type.googleapis.com/arrow.flight.protocol."),
        envelope("Any", b"", "type.googleapis.com/google.protobuf."),
        envelope("CommandStatementIngest", field(2, b"t")),
        envelope("CommandStatementIngest", field(1, b"\x08\x01\x10\x07") + field(2, b"t")),
        envelope("CommandStatementIngest", field(1, b"\x08\x01\x10\x01")),
    ],
)
def test_broken_and_foreign_messages_are_refused(content: bytes) -> None:
    with pytest.raises(InvalidParameter):
        commands.decode_command(content)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_messages_decode_or_are_refused(data: st.DataObject) -> None:
    name, value, _ = data.draw(st.sampled_from(COMMANDS))
    content = bytearray(envelope(name, value))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position : position + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        if not content:
            break
    try:
        found = commands.decode_command(bytes(content))
    except InvalidParameter:
        return
    assert isinstance(found, commands.Command)


def info() -> flight.FlightInfo:
    return flight.FlightInfo(
        flight_descriptor=flight.FlightDescriptor(type=flight.FlightDescriptor.CMD, cmd=b"c"),
        endpoint=[flight.FlightEndpoint(ticket=flight.Ticket(ticket=t)) for t in (b"t1", b"t2")],
        app_metadata=b"m",
    )


def option_entry(name: bytes, value: bytes) -> bytes:
    return field(1, field(1, name) + field(2, value))


ACTIONS: list[tuple[str, bytes, actions.ActionRequest]] = [
    (
        "CreatePreparedStatement",
        envelope("ActionCreatePreparedStatementRequest", field(1, b"SELECT ?") + field(2, b"tx")),
        actions.CreatePreparedStatement("SELECT ?", b"tx"),
    ),
    (
        "CreatePreparedSubstraitPlan",
        envelope("ActionCreatePreparedSubstraitPlanRequest", field(1, field(1, b"p"))),
        actions.CreatePreparedSubstraitPlan(b"p", ""),
    ),
    (
        "ClosePreparedStatement",
        envelope("ActionClosePreparedStatementRequest", field(1, b"h")),
        actions.ClosePreparedStatement(b"h"),
    ),
    ("BeginTransaction", envelope("ActionBeginTransactionRequest", b""), actions.BeginTransaction()),
    (
        "EndTransaction",
        envelope("ActionEndTransactionRequest", field(1, b"tx") + b"\x10\x01"),
        actions.EndTransaction(b"tx", commit=True),
    ),
    (
        "BeginSavepoint",
        envelope("ActionBeginSavepointRequest", field(1, b"tx") + field(2, b"s")),
        actions.BeginSavepoint(b"tx", "s"),
    ),
    (
        "EndSavepoint",
        envelope("ActionEndSavepointRequest", field(1, b"s") + b"\x10\x02"),
        actions.EndSavepoint(b"s", release=False),
    ),
    (
        "CancelQuery",
        envelope("ActionCancelQueryRequest", field(1, info().SerializeToString())),
        actions.CancelQuery((b"t1", b"t2"), b"c", b"m"),
    ),
    ("CancelFlightInfo", field(1, info().SerializeToString()), actions.CancelFlightInfo((b"t1", b"t2"), b"c", b"m")),
    (
        "RenewFlightEndpoint",
        field(1, field(1, field(1, b"t")) + field(2, field(1, b"grpc://h")) + field(4, b"m")),
        actions.RenewFlightEndpoint(b"t", ("grpc://h",), b"m"),
    ),
    (
        "SetSessionOptions",
        option_entry(b"s", field(1, b"text"))
        + option_entry(b"b", b"\x10\x01")
        + option_entry(b"i", b"\x19" + struct.pack("<q", -5))
        + option_entry(b"d", b"\x21" + struct.pack("<d", 1.5))
        + option_entry(b"l", field(5, field(1, b"x") + field(1, b"y")))
        + option_entry(b"e", field(1, b""))
        + option_entry(b"n", b""),
        actions.SetSessionOptions({"s": "text", "b": True, "i": -5, "d": 1.5, "l": ("x", "y"), "e": "", "n": None}),
    ),
    ("GetSessionOptions", b"", actions.GetSessionOptions()),
    ("CloseSession", b"", actions.CloseSession()),
]


@pytest.mark.parametrize(("action", "body", "expected"), ACTIONS)
def test_actions_as_clients_write_them(action: str, body: bytes, expected: actions.ActionRequest) -> None:
    assert actions.decode_action(action, body) == expected


def test_every_action_of_the_format_is_decoded() -> None:
    assert {action for action, _, _ in ACTIONS} == set(actions.ACTION_TYPES)
    requests = [m for m in wire.DESCRIPTOR.message_types_by_name if m.startswith("Action") and m.endswith("Request")]
    assert {name.removeprefix("Action").removesuffix("Request") for name in requests} <= set(actions.ACTION_TYPES)


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("BeginTransaction", b""),
        ("BeginTransaction", b"rubbish"),
        ("BeginTransaction", envelope("ActionEndTransactionRequest", b"")),
        ("CreatePreparedStatement", envelope("ActionCreatePreparedStatementRequest", b"\x0a\x7f")),
        ("EndTransaction", envelope("ActionEndTransactionRequest", field(1, b"tx"))),
        ("EndSavepoint", envelope("ActionEndSavepointRequest", field(1, b"s") + b"\x10\x09")),
        ("CancelQuery", envelope("ActionCancelQueryRequest", field(1, b"\x0a\x7f"))),
        ("CloseSession", b"\x0a\x7f"),
        ("SetSessionOptions", b"\xff"),
    ],
)
def test_broken_action_bodies_are_refused(action: str, body: bytes) -> None:
    with pytest.raises(InvalidParameter):
        actions.decode_action(action, body)


def test_an_unknown_action_is_unimplemented() -> None:
    with pytest.raises(UnsupportedFeature):
        actions.decode_action("DropEverything", b"")


def unpacked(content: bytes, kind: Any) -> Message:
    packed = any_pb2.Any.FromString(content)
    message: Message = kind()
    assert packed.type_url == URL + kind.DESCRIPTOR.name
    assert packed.Unpack(message)
    assert packed.SerializeToString() == content
    return message


def test_packed_results() -> None:
    # Long enough for two-byte lengths; empty for a field that isn't there.
    for handle in (b"", b"h", b"h" * 300):
        assert unpacked(actions.ticket_statement_query(handle), wire.TicketStatementQuery) == (
            wire.TicketStatementQuery(statement_handle=handle)
        )
    found: Any = unpacked(
        actions.prepared_statement_result(b"h", b"rows", b"parameters", is_update=False),
        wire.ActionCreatePreparedStatementResult,
    )
    assert (found.prepared_statement_handle, found.dataset_schema, found.parameter_schema) == (
        b"h",
        b"rows",
        b"parameters",
    )
    assert found.HasField("is_update")
    assert not found.is_update
    found = unpacked(actions.prepared_statement_result(b"h"), wire.ActionCreatePreparedStatementResult)
    assert not found.HasField("is_update")
    found = unpacked(actions.begin_transaction_result(b"t"), wire.ActionBeginTransactionResult)
    assert found.transaction_id == b"t"
    found = unpacked(actions.begin_savepoint_result(b"s"), wire.ActionBeginSavepointResult)
    assert found.savepoint_id == b"s"
    for status in actions.CancelStatus:
        found = unpacked(actions.cancel_query_result(status), wire.ActionCancelQueryResult)
        assert found.result == status


def test_unpacked_results() -> None:
    assert actions.update_result(3) == b"\x08\x03"
    assert wire.DoPutUpdateResult.FromString(actions.update_result(-1)).record_count == -1
    assert actions.bind_result(b"h") == field(1, b"h")
    assert actions.bind_result() == b""
    assert actions.cancel_result(actions.CancelStatus.CANCELLING) == b"\x08\x02"
    assert actions.close_session_result(actions.CloseStatus.CLOSED) == b"\x08\x01"
    refused = actions.set_session_options_result({"a": actions.OptionError.INVALID_NAME})
    assert refused == field(1, field(1, b"a") + field(2, b"\x08\x01"))
    assert actions.set_session_options_result({}) == b""


def test_session_options_come_back_as_they_were_set() -> None:
    *_, expected = next(entry for entry in ACTIONS if entry[0] == "SetSessionOptions")
    assert isinstance(expected, actions.SetSessionOptions)
    # Both messages have the same one field, so one reads the other's bytes.
    again = actions.get_session_options_result({**expected.options, "none": ()})
    assert actions.decode_action("SetSessionOptions", again) == actions.SetSessionOptions(
        {**expected.options, "none": ()}
    )
