"""Wire profiles: which Arrow types a kind of client gets. Chosen at plan time, so that every answer about a
statement (FlightInfo, GetSchema, the stream) gives the same schema.

``standard`` sends what the engine gives. ``jdbc`` is for the stock Java driver, which can't read dictionaries, nested
types or zoned timestamps: those arrive as text, and as timestamps without zone in UTC. ``grafana`` is for dashboards,
which show text, numbers, booleans and times only, and read every time as nanoseconds.
"""

from __future__ import annotations

import pyarrow as pa

from flightsql_server.errors import DataError, InvalidParameter

STANDARD, JDBC, GRAFANA = "standard", "jdbc", "grafana"
PROFILES = (STANDARD, JDBC, GRAFANA)
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
    as_text = [_is_text(profile, field.type) for field in schema]
    if not any(as_text):
        return sql
    aliases = [f"c{i}" for i in range(len(schema))]
    columns = [
        f"CAST({alias} AS VARCHAR) AS {_quoted(field.name)}" if text else f"{alias} AS {_quoted(field.name)}"
        for alias, field, text in zip(aliases, schema, as_text, strict=True)
    ]
    return f"SELECT {', '.join(columns)} FROM ({sql}) AS wire({', '.join(aliases)})"


def wire_schema(profile: str, schema: pa.Schema) -> pa.Schema:
    """The schema that the profile sends for rows of ``schema``."""
    if profile == JDBC:
        return pa.schema([_jdbc_field(field) for field in schema])
    if profile == GRAFANA:
        return pa.schema([field.with_type(_grafana_type(field.type)) for field in schema])
    return schema


def in_profile(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch in the types of its profile; DataError for a time that those can't hold."""
    try:
        return batch.cast(schema)
    except pa.ArrowInvalid as error:
        raise DataError(
            "A time lies outside of 1677 to 2262, which is all that the wire profile can show.",
            hint="Leave it out, or choose the profile standard.",
        ) from error


def _jdbc_field(field: pa.Field) -> pa.Field:
    """Of a decimal's type the driver shows no precision and no scale, but those that the column's metadata name."""
    type_ = _jdbc_type(field.type)
    if not pa.types.is_decimal(type_):
        return field.with_type(type_)
    sizes = {"PRECISION": type_.precision, "SCALE": type_.scale}
    return field.with_metadata({f"ARROW:FLIGHT:SQL:{name}": str(size) for name, size in sizes.items()})


def _jdbc_type(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(type_) and type_.tz is not None:
        return pa.timestamp(type_.unit)
    if _is_nested(type_) or pa.types.is_dictionary(type_) or pa.types.is_null(type_):
        return pa.string()
    if isinstance(type_, pa.BaseExtensionType):
        return pa.string()
    return type_


def _grafana_type(type_: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_decimal(type_) or types.is_float16(type_):
        return pa.float64()
    if types.is_timestamp(type_) or types.is_date(type_):
        return pa.timestamp("ns")
    if types.is_dictionary(type_) or types.is_null(type_) or types.is_time(type_):
        return pa.string()
    return type_


def _is_text(profile: str, type_: pa.DataType) -> bool:
    """Whether the engine is to write the column as text."""
    if profile == GRAFANA and (pa.types.is_binary(type_) or pa.types.is_interval(type_)):
        return True
    return profile != STANDARD and _is_nested(type_)


def _is_nested(type_: pa.DataType) -> bool:
    return bool(pa.types.is_nested(type_) or isinstance(type_, pa.BaseExtensionType))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
