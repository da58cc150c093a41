"""The actions of Flight and Flight SQL as frozen dataclasses, and the messages that answer actions and DoPut.

Flight SQL packs its action bodies and results in a ``google.protobuf.Any``; the actions of plain Flight (the last five)
and the results of DoPut go unpacked. Both are written down once, in ``_DECODERS`` and in the encoders below it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from google.protobuf.message import DecodeError, Message

from flightsql_server.errors import InvalidParameter, UnsupportedFeature
from flightsql_server.protocol import flight_pb2 as flight
from flightsql_server.protocol import flight_sql_pb2 as wire
from flightsql_server.protocol.commands import TYPE_URL, optional, unpack_as
from flightsql_server.protocol.framing import varint

# None: nothing is set; to SetSessionOptions that means "back to the default".
OptionValue = str | bool | int | float | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class CreatePreparedStatement:
    """ActionCreatePreparedStatementRequest."""

    query: str
    transaction_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class CreatePreparedSubstraitPlan:
    """ActionCreatePreparedSubstraitPlanRequest."""

    plan: bytes
    version: str
    transaction_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class ClosePreparedStatement:
    """ActionClosePreparedStatementRequest."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class BeginTransaction:
    """ActionBeginTransactionRequest."""


@dataclass(frozen=True, slots=True)
class EndTransaction:
    """ActionEndTransactionRequest; ``commit`` false: roll back."""

    transaction_id: bytes
    commit: bool


@dataclass(frozen=True, slots=True)
class BeginSavepoint:
    """ActionBeginSavepointRequest."""

    transaction_id: bytes
    name: str


@dataclass(frozen=True, slots=True)
class EndSavepoint:
    """ActionEndSavepointRequest; ``release`` false: roll back to it."""

    savepoint_id: bytes
    release: bool


@dataclass(frozen=True, slots=True)
class CancelQuery:
    """ActionCancelQueryRequest, the older form of CancelFlightInfo: the tickets of the query to stop."""

    tickets: tuple[bytes, ...]
    command: bytes = b""
    app_metadata: bytes = b""


@dataclass(frozen=True, slots=True)
class CancelFlightInfo:
    """CancelFlightInfoRequest: the tickets, command and app_metadata of the FlightInfo to stop."""

    tickets: tuple[bytes, ...]
    command: bytes = b""
    app_metadata: bytes = b""


@dataclass(frozen=True, slots=True)
class RenewFlightEndpoint:
    """RenewFlightEndpointRequest: the endpoint that should live longer."""

    ticket: bytes
    locations: tuple[str, ...] = ()
    app_metadata: bytes = b""


@dataclass(frozen=True, slots=True)
class SetSessionOptions:
    """SetSessionOptionsRequest; a value of None asks for the default."""

    options: Mapping[str, OptionValue]


@dataclass(frozen=True, slots=True)
class GetSessionOptions:
    """GetSessionOptionsRequest."""


@dataclass(frozen=True, slots=True)
class CloseSession:
    """CloseSessionRequest."""


@dataclass(frozen=True, slots=True)
class Backup:
    """An action of this server's own; its body is the backup's name, its result JSON."""

    name: str


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """An action that Flight services share by custom: an answer means that the server is well."""


@dataclass(frozen=True, slots=True)
class Kill:
    """An action of this server's own: ends the session or the query whose id is the body."""

    kind: str
    id: str


ActionRequest = (
    CreatePreparedStatement
    | CreatePreparedSubstraitPlan
    | ClosePreparedStatement
    | BeginTransaction
    | EndTransaction
    | BeginSavepoint
    | EndSavepoint
    | CancelQuery
    | CancelFlightInfo
    | RenewFlightEndpoint
    | SetSessionOptions
    | GetSessionOptions
    | CloseSession
    | Backup
    | HealthCheck
    | Kill
)


class CancelStatus(IntEnum):
    """What became of a cancellation (CancelStatus; ActionCancelQueryResult.CancelResult has the same numbers)."""

    UNSPECIFIED = 0
    CANCELLED = 1
    CANCELLING = 2
    NOT_CANCELLABLE = 3


class OptionError(IntEnum):
    """Why a session option was refused (SetSessionOptionsResult.ErrorValue)."""

    UNSPECIFIED = 0
    INVALID_NAME = 1
    INVALID_VALUE = 2
    ERROR = 3


class CloseStatus(IntEnum):
    """What became of the session (CloseSessionResult.Status)."""

    UNSPECIFIED = 0
    CLOSED = 1
    CLOSING = 2
    NOT_CLOSEABLE = 3


def _choice(value: int, action: str) -> bool:
    """Both End… actions number the good end 1 and the way back 2; 0 and the rest are no choice."""
    if value not in (1, 2):
        raise InvalidParameter(f"{action} doesn't say how to end it.", hint="Set its field 'action' to one of the two.")
    return value == 1


def _cancelled(info: flight.FlightInfo) -> tuple[tuple[bytes, ...], bytes, bytes]:
    tickets = tuple(endpoint.ticket.ticket for endpoint in info.endpoint)
    return tickets, info.flight_descriptor.cmd, info.app_metadata


def _renew(message: flight.RenewFlightEndpointRequest) -> RenewFlightEndpoint:
    endpoint = message.endpoint
    return RenewFlightEndpoint(
        endpoint.ticket.ticket, tuple(place.uri for place in endpoint.location), endpoint.app_metadata
    )


def _option(value: flight.SessionOptionValue) -> OptionValue:
    kind = value.WhichOneof("option_value")
    if kind is None:
        return None
    if kind == "string_list_value":
        return tuple(value.string_list_value.values)
    found: OptionValue = getattr(value, kind)
    return found


_SQL_DECODERS: tuple[tuple[str, type[Message], Callable[[Any], ActionRequest]], ...] = (
    (
        "CreatePreparedStatement",
        wire.ActionCreatePreparedStatementRequest,
        lambda m: CreatePreparedStatement(m.query, optional(m, "transaction_id")),
    ),
    (
        "CreatePreparedSubstraitPlan",
        wire.ActionCreatePreparedSubstraitPlanRequest,
        lambda m: CreatePreparedSubstraitPlan(m.plan.plan, m.plan.version, optional(m, "transaction_id")),
    ),
    (
        "ClosePreparedStatement",
        wire.ActionClosePreparedStatementRequest,
        lambda m: ClosePreparedStatement(m.prepared_statement_handle),
    ),
    ("BeginTransaction", wire.ActionBeginTransactionRequest, lambda m: BeginTransaction()),
    (
        "EndTransaction",
        wire.ActionEndTransactionRequest,
        lambda m: EndTransaction(m.transaction_id, _choice(m.action, "EndTransaction")),
    ),
    ("BeginSavepoint", wire.ActionBeginSavepointRequest, lambda m: BeginSavepoint(m.transaction_id, m.name)),
    (
        "EndSavepoint",
        wire.ActionEndSavepointRequest,
        lambda m: EndSavepoint(m.savepoint_id, _choice(m.action, "EndSavepoint")),
    ),
    (
        "CancelQuery",
        wire.ActionCancelQueryRequest,
        lambda m: CancelQuery(*_cancelled(flight.FlightInfo.FromString(m.info))),
    ),
)
_FLIGHT_DECODERS: tuple[tuple[str, type[Message], Callable[[Any], ActionRequest]], ...] = (
    ("CancelFlightInfo", flight.CancelFlightInfoRequest, lambda m: CancelFlightInfo(*_cancelled(m.info))),
    ("RenewFlightEndpoint", flight.RenewFlightEndpointRequest, _renew),
    (
        "SetSessionOptions",
        flight.SetSessionOptionsRequest,
        lambda m: SetSessionOptions({name: _option(value) for name, value in m.session_options.items()}),
    ),
    ("GetSessionOptions", flight.GetSessionOptionsRequest, lambda m: GetSessionOptions()),
    ("CloseSession", flight.CloseSessionRequest, lambda m: CloseSession()),
)
_PACKED = {
    action: ({kind.DESCRIPTOR.name: kind.FromString}, build)  # the one message that this action's body may be
    for action, kind, build in _SQL_DECODERS
}
_BARE = {action: (kind.FromString, build) for action, kind, build in _FLIGHT_DECODERS}

ACTION_TYPES: tuple[str, ...] = (*_PACKED, *_BARE)
"""The actions of the published format; ``Backup`` is this server's own."""


def decode_action(action: str, body: bytes) -> ActionRequest:
    """The request of a DoAction call (Action.type and Action.body).

    Raises InvalidParameter for a body that isn't the action's message, UnsupportedFeature for an unknown action.
    """
    if action == "Backup":
        return Backup(body.decode("utf-8", "replace"))
    if action == "HealthCheck":
        return HealthCheck()
    if action in ("KillSession", "KillQuery"):
        return Kill(action.removeprefix("Kill").lower(), body.decode("utf-8", "replace").strip())
    try:
        if action in _PACKED:
            kinds, build = _PACKED[action]
            parse, body = unpack_as(body, kinds, f"body of {action}")
        elif action in _BARE:
            parse, build = _BARE[action]
        else:
            raise UnsupportedFeature(f"There is no action {action[:100]!r}.", hint="ListActions names those there are.")
        return build(parse(body))
    except DecodeError:
        raise InvalidParameter(f"The body of {action} is no well-formed message of its type.") from None


def packed(message: Message) -> bytes:
    """The message in a serialised ``google.protobuf.Any``, written by hand: faster than building the envelope."""
    url = (TYPE_URL + message.DESCRIPTOR.name).encode()
    value = message.SerializeToString()
    return b"\n" + varint(len(url)) + url + (b"\x12" + varint(len(value)) + value if value else b"")


def ticket_statement_query(handle: bytes) -> bytes:
    """Ticket.ticket for the rows of a statement (TicketStatementQuery, packed)."""
    return packed(wire.TicketStatementQuery(statement_handle=handle))


def prepared_statement_result(
    handle: bytes, dataset_schema: bytes = b"", parameter_schema: bytes = b"", is_update: bool | None = None
) -> bytes:
    """Result.body of CreatePreparedStatement (packed). Schemas are IPC messages; an empty dataset schema: no rows."""
    return packed(
        wire.ActionCreatePreparedStatementResult(
            prepared_statement_handle=handle,
            dataset_schema=dataset_schema,
            parameter_schema=parameter_schema,
            is_update=is_update,
        )
    )


def begin_transaction_result(transaction_id: bytes) -> bytes:
    """Result.body of BeginTransaction (packed)."""
    return packed(wire.ActionBeginTransactionResult(transaction_id=transaction_id))


def begin_savepoint_result(savepoint_id: bytes) -> bytes:
    """Result.body of BeginSavepoint (packed)."""
    return packed(wire.ActionBeginSavepointResult(savepoint_id=savepoint_id))


def cancel_query_result(status: CancelStatus) -> bytes:
    """Result.body of CancelQuery (packed)."""
    return packed(wire.ActionCancelQueryResult(result=f"CANCEL_RESULT_{status.name}"))


def cancel_result(status: CancelStatus) -> bytes:
    """Result.body of CancelFlightInfo (CancelFlightInfoResult, not packed)."""
    return flight.CancelFlightInfoResult(status=f"CANCEL_STATUS_{status.name}").SerializeToString()


def update_result(count: int) -> bytes:
    """PutResult.app_metadata after an update or ingest (DoPutUpdateResult, not packed); -1: not known."""
    return wire.DoPutUpdateResult(record_count=count).SerializeToString()


def bind_result(handle: bytes | None = None) -> bytes:
    """PutResult.app_metadata after binding a query's parameters (DoPutPreparedStatementResult, not packed)."""
    return wire.DoPutPreparedStatementResult(prepared_statement_handle=handle).SerializeToString()


def set_session_options_result(errors: Mapping[str, OptionError]) -> bytes:
    """Result.body of SetSessionOptions: the options that were refused, and why."""
    result = flight.SetSessionOptionsResult()
    for name, error in errors.items():
        result.errors[name].CopyFrom(flight.SetSessionOptionsResult.Error(value=error.name))
    return result.SerializeToString()


def renewed_endpoint(ticket: bytes, expires: float) -> bytes:
    """Result.body of RenewFlightEndpoint: a FlightEndpoint without locations."""
    endpoint = flight.FlightEndpoint()
    endpoint.ticket.ticket = ticket
    endpoint.expiration_time.FromMicroseconds(int(expires * 1e6))
    return endpoint.SerializeToString()


def backup_result(name: str, size: int, versions: Mapping[str, int]) -> bytes:
    """Result.body of Backup: its name, its bytes, and the last ``_seq`` of each dataset that is sure to be in it."""
    return json.dumps({"name": name, "bytes": size, "last_seq": dict(versions)}).encode()


def get_session_options_result(options: Mapping[str, OptionValue | Sequence[str]]) -> bytes:
    """Result.body of GetSessionOptions; None becomes a value with nothing set."""
    result = flight.GetSessionOptionsResult()
    for name, value in options.items():
        entry = result.session_options[name]
        if isinstance(value, str):
            entry.string_value = value
        elif isinstance(value, bool):
            entry.bool_value = value
        elif isinstance(value, int):
            entry.int64_value = value
        elif isinstance(value, float):
            entry.double_value = value
        elif value is not None:
            # Naming the list first keeps an empty one apart from "nothing set".
            entry.string_list_value.SetInParent()
            entry.string_list_value.values.extend(value)
    return result.SerializeToString()


def close_session_result(status: CloseStatus) -> bytes:
    """Result.body of CloseSession."""
    return flight.CloseSessionResult(status=status.name).SerializeToString()
