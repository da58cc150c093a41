"""Flight SQL's commands as frozen dataclasses: what rides in ``FlightDescriptor.cmd`` and ``Ticket.ticket``.

A command is a message of FlightSql.proto packed in a ``google.protobuf.Any``. Bytes that are no ``Any`` at all (the
ticket ``market_data`` of plain Flight) become a ``PlainCommand``, without an exception on the way. In every command an
absent optional field is None and an empty one is empty: the two mean different things to metadata calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NoReturn

from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message

from flightsql_server.errors import InvalidParameter
from flightsql_server.protocol import flight_sql_pb2 as wire

SQL_PACKAGE = "arrow.flight.protocol.sql."
TYPE_URL = "type.googleapis.com/" + SQL_PACKAGE
_MARK = b"/" + SQL_PACKAGE.encode()


@dataclass(frozen=True, slots=True)
class PlainCommand:
    """Bytes that are no Flight SQL message: a ticket or command of plain Flight, for the service to look up."""

    content: bytes


@dataclass(frozen=True, slots=True)
class StatementQuery:
    """CommandStatementQuery: run a text that yields rows; without a transaction it commits by itself."""

    query: str
    transaction_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class StatementUpdate:
    """CommandStatementUpdate: run a text that yields a count (DoPut)."""

    query: str
    transaction_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class StatementSubstraitPlan:
    """CommandStatementSubstraitPlan: run a Substrait plan; ``version`` is the release it was made for."""

    plan: bytes
    version: str
    transaction_id: bytes | None = None


class IfNotExist(IntEnum):
    """What an ingest does about an absent table (CommandStatementIngest.TableDefinitionOptions)."""

    CREATE = 1
    FAIL = 2


class IfExists(IntEnum):
    """What an ingest does about a table that is there (CommandStatementIngest.TableDefinitionOptions)."""

    FAIL = 1
    APPEND = 2
    REPLACE = 3


@dataclass(frozen=True, slots=True)
class StatementIngest:
    """CommandStatementIngest: the rows of this DoPut become rows of ``table``."""

    table: str
    if_not_exist: IfNotExist
    if_exists: IfExists
    schema: str | None = None
    catalog: str | None = None
    temporary: bool = False
    transaction_id: bytes | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PreparedStatementQuery:
    """CommandPreparedStatementQuery: run a prepared statement for its rows, or (DoPut) bind its parameters."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class PreparedStatementUpdate:
    """CommandPreparedStatementUpdate: run a prepared statement for its count, once per row of the DoPut."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class TicketStatementQuery:
    """TicketStatementQuery: fetch the rows of a statement that GetFlightInfo planned."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class GetCatalogs:
    """CommandGetCatalogs."""


@dataclass(frozen=True, slots=True)
class GetDbSchemas:
    """CommandGetDbSchemas; the pattern is one of LIKE."""

    catalog: str | None = None
    schema_pattern: str | None = None


@dataclass(frozen=True, slots=True)
class GetTables:
    """CommandGetTables; no types: all of them. Both patterns are those of LIKE."""

    catalog: str | None = None
    schema_pattern: str | None = None
    table_pattern: str | None = None
    table_types: tuple[str, ...] = ()
    include_schema: bool = False


@dataclass(frozen=True, slots=True)
class GetTableTypes:
    """CommandGetTableTypes."""


@dataclass(frozen=True, slots=True)
class GetPrimaryKeys:
    """CommandGetPrimaryKeys; the names are names, not patterns."""

    catalog: str | None
    db_schema: str | None
    table: str


@dataclass(frozen=True, slots=True)
class GetExportedKeys:
    """CommandGetExportedKeys: foreign keys of other tables that point to this one."""

    catalog: str | None
    db_schema: str | None
    table: str


@dataclass(frozen=True, slots=True)
class GetImportedKeys:
    """CommandGetImportedKeys: the foreign keys of this table."""

    catalog: str | None
    db_schema: str | None
    table: str


@dataclass(frozen=True, slots=True)
class GetCrossReference:
    """CommandGetCrossReference: the foreign keys by which ``fk_table`` points to ``pk_table``."""

    pk_catalog: str | None
    pk_db_schema: str | None
    pk_table: str
    fk_catalog: str | None
    fk_db_schema: str | None
    fk_table: str


@dataclass(frozen=True, slots=True)
class GetXdbcTypeInfo:
    """CommandGetXdbcTypeInfo; None: every type."""

    data_type: int | None = None


@dataclass(frozen=True, slots=True)
class GetSqlInfo:
    """CommandGetSqlInfo; no codes: all of them."""

    codes: tuple[int, ...] = ()


SqlCommand = (
    StatementQuery
    | StatementUpdate
    | StatementSubstraitPlan
    | StatementIngest
    | PreparedStatementQuery
    | PreparedStatementUpdate
    | TicketStatementQuery
    | GetCatalogs
    | GetDbSchemas
    | GetTables
    | GetTableTypes
    | GetPrimaryKeys
    | GetExportedKeys
    | GetImportedKeys
    | GetCrossReference
    | GetXdbcTypeInfo
    | GetSqlInfo
)
Command = SqlCommand | PlainCommand


def optional(message: Any, name: str) -> Any:
    """The field's value, or None where the sender left it out."""
    return getattr(message, name) if message.HasField(name) else None


def _ingest(message: wire.CommandStatementIngest) -> StatementIngest:
    definition = message.table_definition_options
    try:
        if_not_exist, if_exists = IfNotExist(definition.if_not_exist), IfExists(definition.if_exists)
    except ValueError:
        raise InvalidParameter(
            "The ingest doesn't say what to do about an absent or an existing table.",
            hint="Set both fields of table_definition_options.",
        ) from None
    if not message.table:
        raise InvalidParameter("The ingest names no table.")
    return StatementIngest(
        table=message.table,
        if_not_exist=if_not_exist,
        if_exists=if_exists,
        schema=optional(message, "schema"),
        catalog=optional(message, "catalog"),
        temporary=message.temporary,
        transaction_id=optional(message, "transaction_id"),
        options=dict(message.options),
    )


def _keys(kind: Callable[[str | None, str | None, str], Any]) -> Callable[[Any], Any]:
    return lambda m: kind(optional(m, "catalog"), optional(m, "db_schema"), m.table)


# One line per message: its class on the wire, and the way from there to the dataclass.
_DECODERS: tuple[tuple[type[Message], Callable[[Any], SqlCommand]], ...] = (
    (wire.CommandStatementQuery, lambda m: StatementQuery(m.query, optional(m, "transaction_id"))),
    (wire.CommandStatementUpdate, lambda m: StatementUpdate(m.query, optional(m, "transaction_id"))),
    (
        wire.CommandStatementSubstraitPlan,
        lambda m: StatementSubstraitPlan(m.plan.plan, m.plan.version, optional(m, "transaction_id")),
    ),
    (wire.CommandStatementIngest, _ingest),
    (wire.CommandPreparedStatementQuery, lambda m: PreparedStatementQuery(m.prepared_statement_handle)),
    (wire.CommandPreparedStatementUpdate, lambda m: PreparedStatementUpdate(m.prepared_statement_handle)),
    (wire.TicketStatementQuery, lambda m: TicketStatementQuery(m.statement_handle)),
    (wire.CommandGetCatalogs, lambda m: GetCatalogs()),
    (
        wire.CommandGetDbSchemas,
        lambda m: GetDbSchemas(optional(m, "catalog"), optional(m, "db_schema_filter_pattern")),
    ),
    (
        wire.CommandGetTables,
        lambda m: GetTables(
            catalog=optional(m, "catalog"),
            schema_pattern=optional(m, "db_schema_filter_pattern"),
            table_pattern=optional(m, "table_name_filter_pattern"),
            table_types=tuple(m.table_types),
            include_schema=m.include_schema,
        ),
    ),
    (wire.CommandGetTableTypes, lambda m: GetTableTypes()),
    (wire.CommandGetPrimaryKeys, _keys(GetPrimaryKeys)),
    (wire.CommandGetExportedKeys, _keys(GetExportedKeys)),
    (wire.CommandGetImportedKeys, _keys(GetImportedKeys)),
    (
        wire.CommandGetCrossReference,
        lambda m: GetCrossReference(
            pk_catalog=optional(m, "pk_catalog"),
            pk_db_schema=optional(m, "pk_db_schema"),
            pk_table=m.pk_table,
            fk_catalog=optional(m, "fk_catalog"),
            fk_db_schema=optional(m, "fk_db_schema"),
            fk_table=m.fk_table,
        ),
    ),
    (wire.CommandGetXdbcTypeInfo, lambda m: GetXdbcTypeInfo(optional(m, "data_type"))),
    (wire.CommandGetSqlInfo, lambda m: GetSqlInfo(tuple(m.info))),
)

_BY_NAME = {kind.DESCRIPTOR.name: (kind.FromString, build) for kind, build in _DECODERS}
_BY_URL = {TYPE_URL + name: entry for name, entry in _BY_NAME.items()}
_parse_any = any_pb2.Any.FromString


def is_flight_sql(content: bytes) -> bool:
    """Whether the bytes are, or begin like, a packed message; says nothing of the message being known or whole."""
    return not isinstance(_unpack(content), PlainCommand)


def _unpack(content: bytes) -> any_pb2.Any | PlainCommand | None:
    """The envelope; PlainCommand when it is none; None when it claims to be one and is broken."""
    try:
        packed = _parse_any(content)
    except DecodeError:
        return None if _MARK in content[:96] else PlainCommand(content)
    # Short plain texts can happen to be a valid empty message; a type URL always has a slash (any.proto).
    return packed if "/" in packed.type_url else PlainCommand(content)


def unpack_as(content: bytes, kinds: Mapping[str, Any], what: str) -> tuple[Any, bytes]:
    """The entry of ``kinds`` for the packed message's name, and the message's bytes.

    Raises InvalidParameter for anything that isn't a packed message or isn't in ``kinds``.
    """
    packed = _unpack(content)
    if packed is None or isinstance(packed, PlainCommand):
        _refuse(what)
    # Only the part behind the last slash names the type (any.proto).
    name = packed.type_url.rpartition("/")[2]
    entry = kinds.get(name.removeprefix(SQL_PACKAGE)) if name.startswith(SQL_PACKAGE) else None
    if entry is None:
        raise InvalidParameter(f"No {what} has the message type {name[:100]!r}.")
    return entry, packed.value


def _refuse(what: str) -> NoReturn:
    raise InvalidParameter(
        f"The bytes are no well-formed {what}.", hint="It is a Flight SQL message packed in a google.protobuf.Any."
    )


def decode_command(content: bytes) -> Command:
    """The command in a descriptor or ticket (FlightSql.proto, all messages but the actions').

    Bytes that aren't a packed message come back as PlainCommand. Raises InvalidParameter for a packed message of
    another type and for one that is broken.
    """
    packed = _unpack(content)
    if isinstance(packed, PlainCommand):
        return packed
    if packed is None:
        _refuse("command")
    entry, value = _BY_URL.get(packed.type_url), packed.value
    if entry is None:
        entry, value = unpack_as(content, _BY_NAME, "command")
    parse, build = entry
    try:
        message = parse(value)
    except DecodeError:
        _refuse("command")
    return build(message)
