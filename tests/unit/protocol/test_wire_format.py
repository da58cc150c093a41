"""Our .proto files against the published wire: known numbers and types, pyarrow's own bytes, and the generated code."""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as pyflight
import pytest
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor, FileDescriptor

from flightsql_server.protocol import flight_pb2 as flight
from flightsql_server.protocol import flight_sql_pb2 as sql

ROOT = Path(__file__).parents[3]
PROTOCOL = ROOT / "flightsql_server" / "protocol"

# Read from the published format: every field's number and type; "?" has presence, "*" repeats.
FLIGHT_FIELDS = {
    "HandshakeRequest": "protocol_version=1:uint64 payload=2:bytes",
    "HandshakeResponse": "protocol_version=1:uint64 payload=2:bytes",
    "BasicAuth": "username=2:string password=3:string",
    "Empty": "",
    "ActionType": "type=1:string description=2:string",
    "Criteria": "expression=1:bytes",
    "Action": "type=1:string body=2:bytes",
    "Result": "body=1:bytes",
    "SchemaResult": "schema=1:bytes",
    "FlightDescriptor": "type=1:DescriptorType cmd=2:bytes path=3:string*",
    "FlightInfo": (
        "schema=1:bytes flight_descriptor=2:FlightDescriptor endpoint=3:FlightEndpoint* "
        "total_records=4:int64 total_bytes=5:int64 ordered=6:bool app_metadata=7:bytes"
    ),
    "PollInfo": "info=1:FlightInfo flight_descriptor=2:FlightDescriptor progress=3:double? expiration_time=4:Timestamp",
    "CancelFlightInfoRequest": "info=1:FlightInfo",
    "CancelFlightInfoResult": "status=1:CancelStatus",
    "Ticket": "ticket=1:bytes",
    "Location": "uri=1:string",
    "FlightEndpoint": "ticket=1:Ticket location=2:Location* expiration_time=3:Timestamp app_metadata=4:bytes",
    "RenewFlightEndpointRequest": "endpoint=1:FlightEndpoint",
    "FlightData": "flight_descriptor=1:FlightDescriptor data_header=2:bytes app_metadata=3:bytes data_body=1000:bytes",
    "PutResult": "app_metadata=1:bytes",
    "SessionOptionValue": (
        "string_value=1:string bool_value=2:bool int64_value=3:sfixed64 double_value=4:double "
        "string_list_value=5:StringListValue"
    ),
    "SessionOptionValue.StringListValue": "values=1:string*",
    "SetSessionOptionsRequest": "session_options=1:map:SessionOptionValue",
    "SetSessionOptionsResult": "errors=1:map:Error",
    "SetSessionOptionsResult.Error": "value=1:ErrorValue",
    "GetSessionOptionsRequest": "",
    "GetSessionOptionsResult": "session_options=1:map:SessionOptionValue",
    "CloseSessionRequest": "",
    "CloseSessionResult": "status=1:Status",
}
SQL_FIELDS = {
    "CommandGetSqlInfo": "info=1:uint32*",
    "CommandGetXdbcTypeInfo": "data_type=1:int32?",
    "CommandGetCatalogs": "",
    "CommandGetDbSchemas": "catalog=1:string? db_schema_filter_pattern=2:string?",
    "CommandGetTables": (
        "catalog=1:string? db_schema_filter_pattern=2:string? table_name_filter_pattern=3:string? "
        "table_types=4:string* include_schema=5:bool"
    ),
    "CommandGetTableTypes": "",
    "CommandGetPrimaryKeys": "catalog=1:string? db_schema=2:string? table=3:string",
    "CommandGetExportedKeys": "catalog=1:string? db_schema=2:string? table=3:string",
    "CommandGetImportedKeys": "catalog=1:string? db_schema=2:string? table=3:string",
    "CommandGetCrossReference": (
        "pk_catalog=1:string? pk_db_schema=2:string? pk_table=3:string fk_catalog=4:string? "
        "fk_db_schema=5:string? fk_table=6:string"
    ),
    "ActionCreatePreparedStatementRequest": "query=1:string transaction_id=2:bytes?",
    "SubstraitPlan": "plan=1:bytes version=2:string",
    "ActionCreatePreparedSubstraitPlanRequest": "plan=1:SubstraitPlan transaction_id=2:bytes?",
    "ActionCreatePreparedStatementResult": (
        "prepared_statement_handle=1:bytes dataset_schema=2:bytes parameter_schema=3:bytes is_update=4:bool?"
    ),
    "ActionClosePreparedStatementRequest": "prepared_statement_handle=1:bytes",
    "ActionBeginTransactionRequest": "",
    "ActionBeginSavepointRequest": "transaction_id=1:bytes name=2:string",
    "ActionBeginTransactionResult": "transaction_id=1:bytes",
    "ActionBeginSavepointResult": "savepoint_id=1:bytes",
    "ActionEndTransactionRequest": "transaction_id=1:bytes action=2:EndTransaction",
    "ActionEndSavepointRequest": "savepoint_id=1:bytes action=2:EndSavepoint",
    "CommandStatementQuery": "query=1:string transaction_id=2:bytes?",
    "CommandStatementSubstraitPlan": "plan=1:SubstraitPlan transaction_id=2:bytes?",
    "TicketStatementQuery": "statement_handle=1:bytes",
    "CommandPreparedStatementQuery": "prepared_statement_handle=1:bytes",
    "CommandStatementUpdate": "query=1:string transaction_id=2:bytes?",
    "CommandPreparedStatementUpdate": "prepared_statement_handle=1:bytes",
    "CommandStatementIngest": (
        "table_definition_options=1:TableDefinitionOptions table=2:string schema=3:string? "
        "catalog=4:string? temporary=5:bool transaction_id=6:bytes? options=1000:map:string"
    ),
    "CommandStatementIngest.TableDefinitionOptions": "if_not_exist=1:TableNotExistOption if_exists=2:TableExistsOption",
    "DoPutUpdateResult": "record_count=1:int64",
    "DoPutPreparedStatementResult": "prepared_statement_handle=1:bytes?",
    "ActionCancelQueryRequest": "info=1:bytes",
    "ActionCancelQueryResult": "result=1:CancelResult",
}
# Count of the enum values there, and a hash over them in sorted "package.Enum.NAME=number" lines.
FLIGHT_ENUMS = (15, "0ecdc5f0330fcdb24360057d78bf27ea755eb0efd769e14d21cb53d82420c617")
SQL_ENUMS = (244, "092895397888fbae900e5909255b56b3b29288004d005c6588446e528208cd98")
RPCS = {
    "Handshake": ("HandshakeRequest", "HandshakeResponse", True, True),
    "ListFlights": ("Criteria", "FlightInfo", False, True),
    "GetFlightInfo": ("FlightDescriptor", "FlightInfo", False, False),
    "PollFlightInfo": ("FlightDescriptor", "PollInfo", False, False),
    "GetSchema": ("FlightDescriptor", "SchemaResult", False, False),
    "DoGet": ("Ticket", "FlightData", False, True),
    "DoPut": ("FlightData", "PutResult", True, True),
    "DoExchange": ("FlightData", "FlightData", True, True),
    "DoAction": ("Action", "Result", False, True),
    "ListActions": ("Empty", "ActionType", False, True),
}
_TYPE_NAMES = {
    getattr(FieldDescriptor, name): name[5:].lower() for name in dir(FieldDescriptor) if name.startswith("TYPE_")
}


def type_of(field: FieldDescriptor) -> str:
    named = field.message_type or field.enum_type
    text = named.name if named else _TYPE_NAMES[field.type]
    if field.is_repeated:
        if field.message_type and field.message_type.GetOptions().map_entry:
            return "map:" + type_of(field.message_type.fields_by_name["value"])
        return text + "*"
    own = field.containing_oneof
    return text + "?" if own is not None and own.name == "_" + field.name else text


def messages(holder: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    types = holder.message_types_by_name if isinstance(holder, FileDescriptor) else holder.nested_types_by_name
    for name, message in types.items():
        if not message.GetOptions().map_entry:
            yield prefix + name, message
            yield from messages(message, f"{prefix}{name}.")


def enums(file: FileDescriptor) -> list[str]:
    found: list[EnumDescriptor] = list(file.enum_types_by_name.values())
    for _, message in messages(file):
        found.extend(message.enum_types)
    return sorted(f"{enum.full_name}.{value.name}={value.number}" for enum in found for value in enum.values)


@pytest.mark.parametrize(
    ("file", "package", "fields", "values"),
    [
        (flight.DESCRIPTOR, "arrow.flight.protocol", FLIGHT_FIELDS, FLIGHT_ENUMS),
        (sql.DESCRIPTOR, "arrow.flight.protocol.sql", SQL_FIELDS, SQL_ENUMS),
    ],
    ids=["flight", "flight_sql"],
)
def test_every_field_and_enum_value_is_the_published_one(
    file: FileDescriptor, package: str, fields: dict[str, str], values: tuple[int, str]
) -> None:
    assert file.package == package
    ours = {name: " ".join(f"{f.name}={f.number}:{type_of(f)}" for f in m.fields) for name, m in messages(file)}
    assert ours == fields
    lines = enums(file)
    assert (len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()) == values


def test_the_service_has_the_ten_calls() -> None:
    service = flight.DESCRIPTOR.services_by_name["FlightService"]
    assert service.full_name == "arrow.flight.protocol.FlightService"
    assert {
        m.name: (m.input_type.name, m.output_type.name, m.client_streaming, m.server_streaming) for m in service.methods
    } == RPCS


def endpoint() -> pyflight.FlightEndpoint:
    expires = pa.scalar(1_700_000_000_123_456_789, pa.timestamp("ns", "UTC"))
    return pyflight.FlightEndpoint(b"ticket", ["grpc://host:1", "grpc+tls://other:2"], expires, b"extra")


SCHEMA = pa.schema([pa.field("a", pa.int32(), nullable=False)])
PYARROW = [
    (flight.Ticket, pyflight.Ticket(b"abc")),
    (flight.FlightDescriptor, pyflight.FlightDescriptor.for_command(b"cmd")),
    (flight.FlightDescriptor, pyflight.FlightDescriptor.for_path("a", "b")),
    (flight.FlightEndpoint, endpoint()),
    (
        flight.FlightInfo,
        pyflight.FlightInfo(
            SCHEMA, pyflight.FlightDescriptor.for_path("p"), [endpoint()], 7, 70, ordered=True, app_metadata=b"m"
        ),
    ),
    (flight.SchemaResult, pyflight.SchemaResult(SCHEMA)),
    (flight.Action, pyflight.Action("CloseSession", b"body")),
    (flight.Result, pyflight.Result(b"body")),
    (flight.BasicAuth, pyflight.BasicAuth("name", "word")),
]


@pytest.mark.parametrize(("ours", "theirs"), PYARROW, ids=lambda value: type(value).__name__)
def test_pyarrow_and_we_read_each_other(ours: Any, theirs: Any) -> None:
    parsed = ours.FromString(theirs.serialize())
    # Without what we don't know, it must still be all that pyarrow wrote.
    parsed.DiscardUnknownFields()
    again = type(theirs).deserialize(parsed.SerializeToString())
    assert again.serialize() == theirs.serialize()


def test_values_of_a_flight_info_arrive() -> None:
    _, theirs = PYARROW[4]
    info = flight.FlightInfo.FromString(theirs.serialize())
    place = info.endpoint[0]
    assert (info.total_records, info.total_bytes, info.ordered, info.app_metadata) == (7, 70, True, b"m")
    assert (info.flight_descriptor.type, list(info.flight_descriptor.path)) == (flight.FlightDescriptor.PATH, ["p"])
    assert pa.ipc.read_schema(pa.py_buffer(info.schema)) == SCHEMA
    assert (place.ticket.ticket, place.app_metadata) == (b"ticket", b"extra")
    assert [location.uri for location in place.location] == ["grpc://host:1", "grpc+tls://other:2"]
    assert (place.expiration_time.seconds, place.expiration_time.nanos) == (1_700_000_000, 123_456_789)


def test_the_generated_code_is_that_of_the_proto_files(tmp_path: Path) -> None:
    names = ("flight", "flight_sql")
    paths = [f"flightsql_server/protocol/{name}.proto" for name in names]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([*command, *paths], check=True, cwd=ROOT, timeout=60)
    for name in names:
        for suffix in ("_pb2.py", "_pb2.pyi"):
            made = (tmp_path / "flightsql_server" / "protocol" / f"{name}{suffix}").read_text()
            assert (PROTOCOL / f"{name}{suffix}").read_text() == made, f"{name}{suffix} is stale: run make proto"
        module = importlib.import_module(f"flightsql_server.protocol.{name}_pb2")
        assert module.DESCRIPTOR.name == f"flightsql_server/protocol/{name}.proto"
