"""SqlInfo: what the server says of itself and its SQL (CommandGetSqlInfo and enum SqlInfo of FlightSql.proto).

``CODES`` is the one table: code, kind of the answer, and how the answer follows from ``SqlInfoFacts``. A constant there
is a property of the dialect, DuckDB's; whatever may differ between servers, engines or principals is a fact. Zero means
"no limit, or not known" for every maximum.

Three kinds are not what the comments of the specification suggest. The union has no plain int32, and for the case of
identifiers, the order of nulls and the default isolation the stock drivers (JDBC, ODBC) and the servers built on the
C++ and Java libraries all use ``bigint_value``; JDBC throws a ClassCastException on anything else for the isolation.
The level of outer joins is documented as a value, but those same drivers read it as bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import pyarrow as pa

from flightsql_server.protocol import flight_sql_pb2 as wire
from flightsql_server.protocol.reference import SQL_INFO, SQL_INFO_VALUE

_INT32_MAX = 2**31 - 1


class Kind(IntEnum):
    """The child of the value union that an answer goes into; the numbers are the union's type codes."""

    STRING = 0
    BOOL = 1
    BIGINT = 2
    INT32_BITMASK = 3
    STRING_LIST = 4
    INT32_LIST_MAP = 5


@dataclass(frozen=True, slots=True)
class SqlInfoFacts:
    """Everything an answer depends on. Hashable, so answers are kept per set of facts.

    From the build: ``server_version``, ``arrow_version``. From the principal: ``read_only`` (no grant to write
    anything), ``create_tables``. From engine and server together: the supports and lists. ``transactions`` is a value
    of SqlSupportedTransaction (0 none, 1 transactions, 2 savepoints too). From the configuration: limits and timeouts;
    0 is "none".
    """

    server_version: str
    arrow_version: str = pa.__version__
    server_name: str = "flightsql-server"
    read_only: bool = True
    create_tables: bool = False
    batch_updates: bool = False
    transactions: int = 0
    cancel: bool = False
    bulk_ingestion: bool = False
    substrait: bool = False
    substrait_min_version: str = ""
    substrait_max_version: str = ""
    keywords: tuple[str, ...] = ()
    numeric_functions: tuple[str, ...] = ()
    string_functions: tuple[str, ...] = ()
    system_functions: tuple[str, ...] = ()
    datetime_functions: tuple[str, ...] = ()
    identifier_quote: str = '"'
    search_escape: str = "\\"
    max_statement_length: int = 0
    max_connections: int = 0
    max_statements: int = 0
    max_row_bytes: int = 0
    max_name_length: int = 0
    max_user_name_length: int = 0
    statement_timeout_seconds: float = 0
    transaction_timeout_seconds: float = 0


Value = str | bool | int | Sequence[str] | dict[int, list[int]]


@dataclass(frozen=True, slots=True)
class SqlInfoCode:
    """One code of SqlInfo: where its answer goes and what it is."""

    code: int
    name: str
    kind: Kind
    value: Callable[[SqlInfoFacts], Value]


def _bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


def _milliseconds(seconds: float) -> int:
    return min(round(seconds * 1000), _INT32_MAX)


def _conversions() -> dict[int, list[int]]:
    """What CAST takes in DuckDB, in types of SqlSupportsConvert; a test asks DuckDB for each pair.

    Types that DuckDB doesn't tell apart (CHAR, VARCHAR, LONGVARCHAR …) stand for each other.
    """
    w = wire
    text = [w.SQL_CONVERT_CHAR, w.SQL_CONVERT_VARCHAR, w.SQL_CONVERT_LONGVARCHAR]
    binary = [w.SQL_CONVERT_BINARY, w.SQL_CONVERT_VARBINARY, w.SQL_CONVERT_LONGVARBINARY]
    interval = [w.SQL_CONVERT_INTERVAL_DAY_TIME, w.SQL_CONVERT_INTERVAL_YEAR_MONTH]
    number = [
        *(w.SQL_CONVERT_BIT, w.SQL_CONVERT_TINYINT, w.SQL_CONVERT_SMALLINT, w.SQL_CONVERT_INTEGER),
        *(w.SQL_CONVERT_BIGINT, w.SQL_CONVERT_REAL, w.SQL_CONVERT_FLOAT, w.SQL_CONVERT_DECIMAL, w.SQL_CONVERT_NUMERIC),
    ]
    date, time, timestamp = w.SQL_CONVERT_DATE, w.SQL_CONVERT_TIME, w.SQL_CONVERT_TIMESTAMP
    groups = (
        (text, [*text, *binary, *interval, *number, date, time, timestamp]),
        (number, [*number, *text]),
        (binary, [*binary, *text]),
        (interval, [*interval, *text]),
        ([date], [date, timestamp, *text]),
        ([time], [time, *text]),
        ([timestamp], [timestamp, date, time, *text]),
    )
    return {int(source): sorted(int(target) for target in targets) for sources, targets in groups for source in sources}


_CONVERSIONS = _conversions()
_SNAPSHOT = wire.SQL_TRANSACTION_REPEATABLE_READ
_READ_ONLY_CURSOR = _bits(wire.SQL_RESULT_SET_CONCURRENCY_READ_ONLY)

_STRINGS: dict[str, Callable[[SqlInfoFacts], str]] = {
    "FLIGHT_SQL_SERVER_NAME": lambda f: f.server_name,
    "FLIGHT_SQL_SERVER_VERSION": lambda f: f.server_version,
    "FLIGHT_SQL_SERVER_ARROW_VERSION": lambda f: f.arrow_version,
    # The specification asks for null without Substrait, but its schema declares the string as never null.
    "FLIGHT_SQL_SERVER_SUBSTRAIT_MIN_VERSION": lambda f: f.substrait_min_version if f.substrait else "",
    "FLIGHT_SQL_SERVER_SUBSTRAIT_MAX_VERSION": lambda f: f.substrait_max_version if f.substrait else "",
    "SQL_IDENTIFIER_QUOTE_CHAR": lambda f: f.identifier_quote,
    "SQL_SEARCH_STRING_ESCAPE": lambda f: f.search_escape,
    "SQL_EXTRA_NAME_CHARACTERS": lambda f: "",
    "SQL_SCHEMA_TERM": lambda f: "schema",
    "SQL_PROCEDURE_TERM": lambda f: "procedure",
    "SQL_CATALOG_TERM": lambda f: "catalog",
}

_BOOLEANS: dict[str, Callable[[SqlInfoFacts], bool]] = {
    "FLIGHT_SQL_SERVER_READ_ONLY": lambda f: f.read_only,
    "FLIGHT_SQL_SERVER_SQL": lambda f: True,
    "FLIGHT_SQL_SERVER_SUBSTRAIT": lambda f: f.substrait,
    "FLIGHT_SQL_SERVER_CANCEL": lambda f: f.cancel,
    "FLIGHT_SQL_SERVER_BULK_INGESTION": lambda f: f.bulk_ingestion,
    "FLIGHT_SQL_SERVER_INGEST_TRANSACTIONS_SUPPORTED": lambda f: f.bulk_ingestion and f.transactions > 0,
    # Catalog and schemas are the server's: a user gets a schema, but doesn't make one.
    "SQL_DDL_CATALOG": lambda f: False,
    "SQL_DDL_SCHEMA": lambda f: False,
    "SQL_DDL_TABLE": lambda f: f.create_tables,
    # What may not be selected from is not listed either.
    "SQL_ALL_TABLES_ARE_SELECTABLE": lambda f: True,
    "SQL_SUPPORTS_COLUMN_ALIASING": lambda f: True,
    "SQL_NULL_PLUS_NULL_IS_NULL": lambda f: True,
    "SQL_SUPPORTS_TABLE_CORRELATION_NAMES": lambda f: True,
    # JDBC and ODBC ask by this whether a correlation name must differ from every table's name. It needn't.
    "SQL_SUPPORTS_DIFFERENT_TABLE_CORRELATION_NAMES": lambda f: False,
    "SQL_SUPPORTS_EXPRESSIONS_IN_ORDER_BY": lambda f: True,
    "SQL_SUPPORTS_ORDER_BY_UNRELATED": lambda f: True,
    "SQL_SUPPORTS_LIKE_ESCAPE_CLAUSE": lambda f: True,
    "SQL_SUPPORTS_NON_NULLABLE_COLUMNS": lambda f: True,
    # Keys, checks and defaults of the tables that somebody creates.
    "SQL_SUPPORTS_INTEGRITY_ENHANCEMENT_FACILITY": lambda f: f.create_tables,
    "SQL_CATALOG_AT_START": lambda f: True,
    "SQL_SELECT_FOR_UPDATE_SUPPORTED": lambda f: False,
    "SQL_STORED_PROCEDURES_SUPPORTED": lambda f: False,
    "SQL_CORRELATED_SUBQUERIES_SUPPORTED": lambda f: True,
    "SQL_MAX_ROW_SIZE_INCLUDES_BLOBS": lambda f: True,
    "SQL_TRANSACTIONS_SUPPORTED": lambda f: f.transactions > 0,
    "SQL_DATA_DEFINITION_CAUSES_TRANSACTION_COMMIT": lambda f: False,
    "SQL_DATA_DEFINITIONS_IN_TRANSACTIONS_IGNORED": lambda f: False,
    "SQL_BATCH_UPDATES_SUPPORTED": lambda f: f.batch_updates,
    "SQL_SAVEPOINTS_SUPPORTED": lambda f: f.transactions == wire.SQL_SUPPORTED_TRANSACTION_SAVEPOINT,
    "SQL_NAMED_PARAMETERS_SUPPORTED": lambda f: False,
    # There are no locators: a large object that somebody changes is a copy by nature.
    "SQL_LOCATORS_UPDATE_COPY": lambda f: True,
    "SQL_STORED_FUNCTIONS_USING_CALL_SYNTAX_SUPPORTED": lambda f: False,
}

_BIGINTS: dict[str, Callable[[SqlInfoFacts], int]] = {
    # DuckDB keeps the case that a name was created with and compares without it, quoted or not.
    "SQL_IDENTIFIER_CASE": lambda f: wire.SQL_CASE_SENSITIVITY_CASE_INSENSITIVE,
    "SQL_QUOTED_IDENTIFIER_CASE": lambda f: wire.SQL_CASE_SENSITIVITY_CASE_INSENSITIVE,
    # NULLS LAST, ascending or descending.
    "SQL_NULL_ORDERING": lambda f: wire.SQL_NULLS_SORTED_AT_END,
    "SQL_MAX_BINARY_LITERAL_LENGTH": lambda f: f.max_statement_length,
    "SQL_MAX_CHAR_LITERAL_LENGTH": lambda f: f.max_statement_length,
    "SQL_MAX_COLUMN_NAME_LENGTH": lambda f: f.max_name_length,
    "SQL_MAX_COLUMNS_IN_GROUP_BY": lambda f: 0,
    "SQL_MAX_COLUMNS_IN_INDEX": lambda f: 0,
    "SQL_MAX_COLUMNS_IN_ORDER_BY": lambda f: 0,
    "SQL_MAX_COLUMNS_IN_SELECT": lambda f: 0,
    "SQL_MAX_COLUMNS_IN_TABLE": lambda f: 0,
    "SQL_MAX_CONNECTIONS": lambda f: f.max_connections,
    "SQL_MAX_CURSOR_NAME_LENGTH": lambda f: 0,
    "SQL_MAX_INDEX_LENGTH": lambda f: 0,
    "SQL_DB_SCHEMA_NAME_LENGTH": lambda f: f.max_name_length,
    "SQL_MAX_PROCEDURE_NAME_LENGTH": lambda f: 0,
    "SQL_MAX_CATALOG_NAME_LENGTH": lambda f: f.max_name_length,
    "SQL_MAX_ROW_SIZE": lambda f: f.max_row_bytes,
    "SQL_MAX_STATEMENT_LENGTH": lambda f: f.max_statement_length,
    "SQL_MAX_STATEMENTS": lambda f: f.max_statements,
    "SQL_MAX_TABLE_NAME_LENGTH": lambda f: f.max_name_length,
    "SQL_MAX_TABLES_IN_SELECT": lambda f: 0,
    "SQL_MAX_USERNAME_LENGTH": lambda f: f.max_user_name_length,
    # DuckDB's snapshots: nothing read changes under a transaction, but two may each write what the other read.
    "SQL_DEFAULT_TRANSACTION_ISOLATION": lambda f: _SNAPSHOT if f.transactions else wire.SQL_TRANSACTION_NONE,
}

_BITMASKS: dict[str, Callable[[SqlInfoFacts], int]] = {
    "FLIGHT_SQL_SERVER_TRANSACTION": lambda f: f.transactions,
    "FLIGHT_SQL_SERVER_STATEMENT_TIMEOUT": lambda f: _milliseconds(f.statement_timeout_seconds),
    "FLIGHT_SQL_SERVER_TRANSACTION_TIMEOUT": lambda f: _milliseconds(f.transaction_timeout_seconds),
    "SQL_SUPPORTED_GROUP_BY": lambda f: _bits(wire.SQL_GROUP_BY_UNRELATED, wire.SQL_GROUP_BY_BEYOND_SELECT),
    # ODBC's extended grammar would need positioned updates and procedure calls.
    "SQL_SUPPORTED_GRAMMAR": lambda f: _bits(wire.SQL_MINIMUM_GRAMMAR, wire.SQL_CORE_GRAMMAR),
    "SQL_ANSI92_SUPPORTED_LEVEL": lambda f: _bits(wire.ANSI92_ENTRY_SQL),
    "SQL_OUTER_JOINS_SUPPORT_LEVEL": lambda f: _bits(wire.SQL_LIMITED_OUTER_JOINS, wire.SQL_FULL_OUTER_JOINS),
    # Neither procedures nor indexes nor GRANT are part of the SQL that the server takes.
    "SQL_SCHEMAS_SUPPORTED_ACTIONS": lambda f: 0,
    "SQL_CATALOGS_SUPPORTED_ACTIONS": lambda f: 0,
    "SQL_SUPPORTED_POSITIONED_COMMANDS": lambda f: 0,
    "SQL_SUPPORTED_SUBQUERIES": lambda f: _bits(
        wire.SQL_SUBQUERIES_IN_COMPARISONS,
        wire.SQL_SUBQUERIES_IN_EXISTS,
        wire.SQL_SUBQUERIES_IN_INS,
        wire.SQL_SUBQUERIES_IN_QUANTIFIEDS,
    ),
    "SQL_SUPPORTED_UNIONS": lambda f: _bits(wire.SQL_UNION, wire.SQL_UNION_ALL),
    "SQL_SUPPORTED_TRANSACTIONS_ISOLATION_LEVELS": lambda f: _bits(
        _SNAPSHOT if f.transactions else wire.SQL_TRANSACTION_NONE
    ),
    # Results are streams.
    "SQL_SUPPORTED_RESULT_SET_TYPES": lambda f: _bits(wire.SQL_RESULT_SET_TYPE_FORWARD_ONLY),
    "SQL_SUPPORTED_CONCURRENCIES_FOR_RESULT_SET_UNSPECIFIED": lambda f: _READ_ONLY_CURSOR,
    "SQL_SUPPORTED_CONCURRENCIES_FOR_RESULT_SET_FORWARD_ONLY": lambda f: _READ_ONLY_CURSOR,
    "SQL_SUPPORTED_CONCURRENCIES_FOR_RESULT_SET_SCROLL_SENSITIVE": lambda f: 0,
    "SQL_SUPPORTED_CONCURRENCIES_FOR_RESULT_SET_SCROLL_INSENSITIVE": lambda f: 0,
}

_LISTS: dict[str, Callable[[SqlInfoFacts], Sequence[str]]] = {
    "SQL_KEYWORDS": lambda f: f.keywords,
    "SQL_NUMERIC_FUNCTIONS": lambda f: f.numeric_functions,
    "SQL_STRING_FUNCTIONS": lambda f: f.string_functions,
    "SQL_SYSTEM_FUNCTIONS": lambda f: f.system_functions,
    "SQL_DATETIME_FUNCTIONS": lambda f: f.datetime_functions,
}

_MAPS: dict[str, Callable[[SqlInfoFacts], dict[int, list[int]]]] = {"SQL_SUPPORTS_CONVERT": lambda f: _CONVERSIONS}


def _table() -> tuple[SqlInfoCode, ...]:
    kinds = (
        (Kind.STRING, _STRINGS),
        (Kind.BOOL, _BOOLEANS),
        (Kind.BIGINT, _BIGINTS),
        (Kind.INT32_BITMASK, _BITMASKS),
        (Kind.STRING_LIST, _LISTS),
        (Kind.INT32_LIST_MAP, _MAPS),
    )
    found = [
        SqlInfoCode(int(wire.SqlInfo.Value(name)), name, kind, value)
        for kind, values in kinds
        for name, value in values.items()
    ]
    return tuple(sorted(found, key=lambda entry: entry.code))


CODES: tuple[SqlInfoCode, ...] = _table()
_BY_CODE = {entry.code: entry for entry in CODES}


def sql_info_batch(codes: Sequence[int], facts: SqlInfoFacts) -> pa.RecordBatch:
    """The answer to CommandGetSqlInfo: a row per code asked for, in that order; no codes: a row for every code.

    A code that isn't known gets no row: clients ask for codes of later versions and take what comes.
    """
    # Unknown and repeated codes go first, so that nobody fills the cache with long lists.
    return _batch(tuple(dict.fromkeys(code for code in codes or _BY_CODE if code in _BY_CODE)), facts)


@lru_cache(maxsize=256)
def _batch(codes: tuple[int, ...], facts: SqlInfoFacts) -> pa.RecordBatch:
    entries = [_BY_CODE[code] for code in codes]
    children: list[list[object]] = [[] for _ in Kind]
    kinds, offsets = [], []
    for entry in entries:
        value = entry.value(facts)
        kinds.append(entry.kind)
        offsets.append(len(children[entry.kind]))
        children[entry.kind].append(list(value.items()) if isinstance(value, dict) else value)
    # Built from buffers, since the constructor for dense unions makes children nullable, unlike the reference.
    values = pa.Array.from_buffers(
        SQL_INFO_VALUE,
        len(entries),
        [None, pa.array(kinds, pa.int8()).buffers()[1], pa.array(offsets, pa.int32()).buffers()[1]],
        children=[pa.array(child, SQL_INFO_VALUE.field(index).type) for index, child in enumerate(children)],
    )
    names = pa.array([entry.code for entry in entries], pa.uint32())
    return pa.RecordBatch.from_arrays([names, values], schema=SQL_INFO)
