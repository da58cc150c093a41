"""Wire profiles: which Arrow types a kind of client gets. Chosen at plan time, so that every answer about a
statement (FlightInfo, GetSchema, the stream) gives the same schema.

``standard`` sends what the engine gives. ``jdbc`` is for the stock Java driver, which can't read dictionaries, nested
types or zoned timestamps: those arrive as text, and as timestamps without zone in UTC.
"""

from __future__ import annotations

import pyarrow as pa

from flightsql_server.errors import InvalidParameter

STANDARD, JDBC = "standard", "jdbc"
PROFILES = (STANDARD, JDBC)
# The driver names itself only since version 19; before, all that tells it is the gRPC library for Java.
_AGENTS = (("jdbc flight sql driver", JDBC), ("grpc-java", JDBC))


def profile_of_agent(user_agent: str) -> str:
    """The profile of a known client, from its user agent; empty for others."""
    lowered = user_agent.lower()
    return next((profile for word, profile in _AGENTS if word in lowered), "")


def checked_profile(name: str) -> str:
    """The name, or InvalidParameter listing those that exist."""
    if name not in PROFILES:
        raise InvalidParameter(
            f"There is no wire profile {name[:40]!r}.", hint="There are: " + ", ".join(PROFILES) + "."
        )
    return name


def wrap_sql(profile: str, sql: str, schema: pa.Schema) -> str:
    """The statement, with those columns turned into text by the engine that only it can write as SQL does."""
    if profile != JDBC or not any(_is_nested(field.type) for field in schema):
        return sql
    aliases = [f"c{i}" for i in range(len(schema))]
    columns = [
        f"CAST({alias} AS VARCHAR) AS {_quoted(field.name)}"
        if _is_nested(field.type)
        else f"{alias} AS {_quoted(field.name)}"
        for alias, field in zip(aliases, schema, strict=True)
    ]
    return f"SELECT {', '.join(columns)} FROM ({sql}) AS wire({', '.join(aliases)})"


def wire_schema(profile: str, schema: pa.Schema) -> pa.Schema:
    """The schema that the profile sends for rows of ``schema``."""
    if profile != JDBC:
        return schema
    return pa.schema([field.with_type(_jdbc_type(field.type)) for field in schema])


def _jdbc_type(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(type_) and type_.tz is not None:
        return pa.timestamp(type_.unit)
    if _is_nested(type_) or pa.types.is_dictionary(type_) or pa.types.is_null(type_):
        return pa.string()
    if isinstance(type_, pa.BaseExtensionType):
        return pa.string()
    return type_


def _is_nested(type_: pa.DataType) -> bool:
    return bool(pa.types.is_nested(type_) or isinstance(type_, pa.BaseExtensionType))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
