"""SqlInfo: every code, the right kind, answers that follow their sources, and claims that DuckDB confirms."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from flightsql_server.protocol import flight_sql_pb2 as wire
from flightsql_server.protocol import reference, sql_info
from flightsql_server.protocol.sql_info import SqlInfoFacts, sql_info_batch

FACTS = SqlInfoFacts(server_version="1.2.3", arrow_version="26.0.1")

# By the comments in FlightSql.proto and what the stock drivers cast to (the module's docstring names the three).
KINDS: dict[str, set[int]] = {
    "string_value": {0, 1, 2, 6, 7, 504, 513, 514, 529, 530, 531},
    "bool_value": {3, 4, 5, 9, 10, 11, 500, 501, 502, 506, 515, 516, 518, 519, 520, 521, 523, 524, 527, 532, 536, 537}
    | {539, 556, 563, 565, 566, 572, 573, 574, 575, 576},
    "bigint_value": {503, 505, 507, *range(541, 556), *range(557, 563)},
    "int32_bitmask": {8, 100, 101, 522, 525, 526, 528, 533, 534, 535, 538, 540, 564, *range(567, 572)},
    "string_list": {508, 509, 510, 511, 512},
    "int32_to_int32_list_map": {517},
}


def answers(facts: SqlInfoFacts, *codes: int) -> dict[int, Any]:
    found = sql_info_batch(codes, facts).to_pydict()
    return dict(zip(found["info_name"], found["value"], strict=True))


def test_every_code_is_answered_with_its_kind() -> None:
    batch = sql_info_batch([], FACTS)
    batch.validate(full=True)
    # The way over the wire and back, since drivers read the union from IPC.
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    read = pa.ipc.open_stream(sink.getvalue()).read_all().combine_chunks().to_batches()[0]
    assert read.schema.equals(reference.SQL_INFO, check_metadata=True)
    union = read.column("value")
    names = [child.name for child in reference.SQL_INFO_VALUE]
    by_kind: dict[str, set[int]] = {name: set() for name in names}
    for code, kind in zip(read.column("info_name").to_pylist(), union.type_codes.to_pylist(), strict=True):
        by_kind[names[kind]].add(code)
    assert by_kind == KINDS
    assert None not in union.to_pylist()
    assert set().union(*KINDS.values()) == set(wire.SqlInfo.values())
    assert {entry.name: entry.code for entry in sql_info.CODES} == dict(wire.SqlInfo.items())


def test_only_the_codes_asked_for_in_their_order() -> None:
    assert list(answers(FACTS, 504, 0, 3, 0)) == [504, 0, 3]
    assert answers(FACTS, 0, 2, 3, 504) == {0: "flightsql-server", 2: "26.0.1", 3: True, 504: '"'}


def test_unknown_codes_are_left_out_and_fail_nothing() -> None:
    assert list(answers(FACTS, 0, 499, 2**32 - 1)) == [0]
    empty = sql_info_batch([4711], FACTS)
    assert empty.num_rows == 0
    assert empty.schema.equals(reference.SQL_INFO, check_metadata=True)


CHANGES: dict[str, tuple[Any, dict[int, Any]]] = {
    "server_version": ("9", {1: "9"}),
    "arrow_version": ("27", {2: "27"}),
    "server_name": ("desk", {0: "desk"}),
    "read_only": (False, {3: False}),
    "create_tables": (True, {502: True, 527: True}),
    "batch_updates": (True, {572: True}),
    "transactions": (1, {8: 1, 562: 3, 563: True, 564: 8}),
    "cancel": (True, {9: True}),
    "bulk_ingestion": (True, {10: True}),
    "substrait": (True, {5: True}),
    "keywords": (("qualify",), {508: ["qualify"]}),
    "numeric_functions": (("abs", "ceil"), {509: ["abs", "ceil"]}),
    "string_functions": (("lower",), {510: ["lower"]}),
    "system_functions": (("version",), {511: ["version"]}),
    "datetime_functions": (("now",), {512: ["now"]}),
    "identifier_quote": ("`", {504: "`"}),
    "search_escape": ("!", {513: "!"}),
    "max_statement_length": (1000, {541: 1000, 542: 1000, 557: 1000}),
    "max_connections": (7, {549: 7}),
    "max_statements": (8, {558: 8}),
    "max_row_bytes": (2**40, {555: 2**40}),
    "max_name_length": (63, {543: 63, 552: 63, 554: 63, 559: 63}),
    "max_user_name_length": (64, {561: 64}),
    "statement_timeout_seconds": (1.5, {100: 1500}),
    "transaction_timeout_seconds": (10**9, {101: 2**31 - 1}),
}


@pytest.mark.parametrize("source", CHANGES)
def test_a_changed_source_changes_its_answers_and_no_other(source: str) -> None:
    value, expected = CHANGES[source]
    before, after = answers(FACTS), answers(replace(FACTS, **{source: value}))
    assert {code: after[code] for code in after if after[code] != before[code]} == expected


def test_sources_that_work_together() -> None:
    assert {field.name for field in fields(SqlInfoFacts)} == {
        *CHANGES,
        "substrait_min_version",
        "substrait_max_version",
    }
    plans = replace(FACTS, substrait=True, substrait_min_version="0.2", substrait_max_version="0.9")
    assert answers(plans, 6, 7) == {6: "0.2", 7: "0.9"}
    assert answers(replace(plans, substrait=False), 6, 7) == {6: "", 7: ""}
    savepoints = replace(FACTS, transactions=2, bulk_ingestion=True)
    assert answers(savepoints, 8, 11, 573) == {8: 2, 11: True, 573: True}
    assert answers(replace(savepoints, transactions=1), 8, 11, 573) == {8: 1, 11: True, 573: False}


DUCKDB_TYPES = {
    "BIGINT": ("BIGINT", "1::BIGINT"),
    "BINARY": ("BLOB", "'a'::BLOB"),
    "BIT": ("BOOLEAN", "true"),
    "CHAR": ("VARCHAR", "'1'"),
    "DATE": ("DATE", "DATE '2024-01-01'"),
    "DECIMAL": ("DECIMAL(18,3)", "1::DECIMAL(18,3)"),
    "FLOAT": ("DOUBLE", "1::DOUBLE"),
    "INTEGER": ("INTEGER", "1"),
    "INTERVAL_DAY_TIME": ("INTERVAL", "INTERVAL 1 DAY"),
    "INTERVAL_YEAR_MONTH": ("INTERVAL", "INTERVAL 1 MONTH"),
    "LONGVARBINARY": ("BLOB", "'a'::BLOB"),
    "LONGVARCHAR": ("VARCHAR", "'1'"),
    "NUMERIC": ("DECIMAL(38,0)", "1::DECIMAL(38,0)"),
    "REAL": ("REAL", "1::REAL"),
    "SMALLINT": ("SMALLINT", "1::SMALLINT"),
    "TIME": ("TIME", "TIME '01:02:03'"),
    "TIMESTAMP": ("TIMESTAMP", "TIMESTAMP '2024-01-01 00:00:00'"),
    "TINYINT": ("TINYINT", "1::TINYINT"),
    "VARBINARY": ("BLOB", "'a'::BLOB"),
    "VARCHAR": ("VARCHAR", "'1'"),
}


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def test_conversions_are_those_of_duckdb(connection: duckdb.DuckDBPyConnection) -> None:
    claimed = {source: set(targets) for source, targets in answers(FACTS, 517)[517]}
    numbers = {name.removeprefix("SQL_CONVERT_"): number for name, number in wire.SqlSupportsConvert.items()}
    assert numbers.keys() == DUCKDB_TYPES.keys()
    for source, (_, value) in DUCKDB_TYPES.items():
        for target, (kind, _) in DUCKDB_TYPES.items():
            try:
                connection.sql(f"SELECT CAST({value} AS {kind})").fetchall()
                possible = True
            except duckdb.ConversionException as error:
                # A value that doesn't fit (the text '1' as a date) is still a conversion that exists.
                possible = "Unimplemented" not in str(error)
            assert (numbers[target] in claimed[numbers[source]]) == possible, f"{source} to {target}"


@pytest.mark.parametrize(
    ("code", "statement", "rows"),
    [
        (503, 'SELECT ABC FROM (SELECT 1 AS "aBc")', [(1,)]),
        (505, 'SELECT "ABC" FROM (SELECT 1 AS "aBc")', [(1,)]),
        (507, "SELECT a FROM (VALUES (NULL), (1)) t(a) ORDER BY a", [(1,), (None,)]),
        (507, "SELECT a FROM (VALUES (NULL), (1)) t(a) ORDER BY a DESC", [(1,), (None,)]),
        (515, "SELECT x FROM (SELECT 1 AS x)", [(1,)]),
        (516, "SELECT 'a' || NULL", [(None,)]),
        (518, "SELECT t.a FROM (VALUES (1)) AS t(a)", [(1,)]),
        (519, "WITH t(a) AS (SELECT 1), s(a) AS (SELECT 2) SELECT t.a FROM s AS t", [(2,)]),
        (520, "SELECT a FROM (VALUES (1), (2)) t(a) ORDER BY -a", [(2,), (1,)]),
        (521, "SELECT a FROM (VALUES (1, 2), (2, 1)) t(a, b) ORDER BY b", [(2,), (1,)]),
        (522, "SELECT count(*) FROM (VALUES (1, 2)) t(a, b) GROUP BY b", [(1,)]),
        (522, "SELECT a FROM (VALUES (1, 2)) t(a, b) GROUP BY a, b", [(1,)]),
        (523, r"SELECT 'axb' LIKE 'a\_b' ESCAPE '\', 'a_b' LIKE 'a\_b' ESCAPE '\'", [(False, True)]),
        (
            528,
            "SELECT a, b FROM (VALUES (1)) t(a) FULL JOIN (VALUES (2)) s(b) ON a = b ORDER BY 1",
            [(1, None), (None, 2)],
        ),
        (538, "SELECT 1 = (SELECT 1), EXISTS (SELECT 1), 1 IN (SELECT 1), 1 <= ALL (SELECT 1)", [(True,) * 4]),
        (539, "SELECT a FROM (VALUES (1)) t(a) WHERE EXISTS (SELECT 1 WHERE a = 1)", [(1,)]),
        (540, "SELECT 1 UNION SELECT 1", [(1,)]),
        (540, "SELECT 1 UNION ALL SELECT 1", [(1,), (1,)]),
    ],
)
def test_claims_about_sql_hold_in_duckdb(
    connection: duckdb.DuckDBPyConnection, code: int, statement: str, rows: list[Any]
) -> None:
    assert connection.sql(statement).fetchall() == rows
    expected = {503: 1, 505: 1, 507: 3, 519: False, 522: 3, 528: 6, 538: 15, 540: 3}.get(code, True)
    assert answers(FACTS, code)[code] == expected


@pytest.mark.parametrize("statement", ["SAVEPOINT a", "SELECT 1 FOR UPDATE"])
def test_what_is_denied_duckdb_refuses(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    with pytest.raises(duckdb.ParserException):
        connection.sql(statement)
    assert answers(FACTS, 536, 573) == {536: False, 573: False}
