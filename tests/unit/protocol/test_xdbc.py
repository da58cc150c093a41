"""SQL types of Arrow types, and the type list, held against DuckDB itself."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from flightsql_server.protocol import flight_sql_pb2 as wire
from flightsql_server.protocol import xdbc

SAMPLES = {
    "VARCHAR": "it",
    "JSON": "[1]",
    "UUID": "123e4567-e89b-12d3-a456-426614174000",
    "BLOB": "\\xAA",
    "DATE": "2024-05-06",
    "TIME": "01:02:03.5",
    "INTERVAL": "3 days",
}


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


@pytest.mark.parametrize(
    "declared",
    [
        *("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"),
        *("FLOAT", "DOUBLE", "DECIMAL(18,4)", "DECIMAL(38,0)", "VARCHAR", "BLOB", "DATE", "TIME", "TIME_NS"),
        *("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE", "INTERVAL"),
        *("INTEGER[]", "DECIMAL(4,2)[3]", "MAP(VARCHAR, INTEGER)", 'STRUCT("a b" INTEGER, "c" VARCHAR[])'),
    ],
)
def test_duckdbs_types_come_back_under_their_names(connection: duckdb.DuckDBPyConnection, declared: str) -> None:
    arrow = connection.sql(f"SELECT CAST(NULL AS {declared}) AS x").to_arrow_table().schema.field("x").type
    found = xdbc.sql_type(arrow)
    named, ours = connection.sql(
        f"SELECT typeof(CAST(NULL AS {declared})), typeof(CAST(NULL AS {found.declaration}))"
    ).fetchall()[0]
    assert ours == named


@pytest.mark.parametrize(
    ("arrow", "name", "code", "precision", "scale"),
    [
        (pa.int64(), "BIGINT", wire.XDBC_BIGINT, 19, 0),
        (pa.uint64(), "UBIGINT", wire.XDBC_NUMERIC, 20, 0),
        (pa.float32(), "FLOAT", wire.XDBC_REAL, 24, None),
        (pa.float64(), "DOUBLE", wire.XDBC_DOUBLE, 53, None),
        (pa.decimal128(18, 6), "DECIMAL", wire.XDBC_DECIMAL, 18, 6),
        (pa.decimal256(50, 2), "DECIMAL", wire.XDBC_DECIMAL, 50, 2),
        (pa.large_string(), "VARCHAR", wire.XDBC_VARCHAR, None, None),
        (pa.string_view(), "VARCHAR", wire.XDBC_VARCHAR, None, None),
        (pa.dictionary(pa.int8(), pa.string()), "VARCHAR", wire.XDBC_VARCHAR, None, None),
        (pa.binary(16), "BLOB", wire.XDBC_VARBINARY, None, None),
        (pa.uuid(), "UUID", wire.XDBC_CHAR, 36, None),
        (pa.bool8(), "BOOLEAN", wire.XDBC_BIT, 1, None),
        (pa.date64(), "DATE", wire.XDBC_DATE, 10, None),
        (pa.time32("ms"), "TIME", wire.XDBC_TIME, 12, 3),
        (pa.timestamp("us"), "TIMESTAMP", wire.XDBC_TIMESTAMP, 26, 6),
        (pa.timestamp("s"), "TIMESTAMP_S", wire.XDBC_TIMESTAMP, 19, 0),
        (pa.timestamp("us", "UTC"), "TIMESTAMP WITH TIME ZONE", wire.XDBC_TIMESTAMP, 32, 6),
        (pa.duration("ms"), "INTERVAL", wire.XDBC_INTERVAL, None, None),
        (pa.large_list(pa.json_()), "JSON[]", wire.XDBC_UNKNOWN_TYPE, None, None),
        (pa.null(), '"NULL"', wire.XDBC_UNKNOWN_TYPE, None, None),
    ],
    ids=str,
)
def test_codes_and_sizes(arrow: pa.DataType, name: str, code: int, precision: int | None, scale: int | None) -> None:
    found = xdbc.sql_type(arrow)
    assert (found.name, found.xdbc_code, found.precision, found.scale) == (name, code, precision, scale)


def test_the_type_list_is_sorted_and_filtered() -> None:
    rows = xdbc.xdbc_type_info_batch().to_pylist()
    assert len(rows) == len(xdbc.TYPES)
    order = [(row["data_type"], row["type_name"]) for row in rows]
    assert order == sorted(order)
    assert len({name for _, name in order}) == len(order)
    times = xdbc.xdbc_type_info_batch(wire.XDBC_TIMESTAMP).to_pylist()
    assert times == [row for row in rows if row["data_type"] == wire.XDBC_TIMESTAMP]
    assert {(row["sql_data_type"], row["datetime_subcode"]) for row in times} == {(9, 3), (9, 5)}
    assert xdbc.xdbc_type_info_batch(4711).num_rows == 0
    assert xdbc.xdbc_type_info_batch(0).num_rows == 0


def test_rows_agree_with_column_metadata() -> None:
    by_name = {row["type_name"]: row for row in xdbc.xdbc_type_info_batch().to_pylist()}
    for arrow in (pa.int8(), pa.uint32(), pa.float64(), pa.string(), pa.timestamp("ns"), pa.uuid(), pa.date32()):
        found = xdbc.sql_type(arrow)
        row = by_name[found.name]
        assert (row["data_type"], row["column_size"]) == (found.xdbc_code, found.precision)
    decimal = by_name["DECIMAL"]
    assert (decimal["create_params"], decimal["minimum_scale"], decimal["maximum_scale"]) == (
        ["precision", "scale"],
        0,
        38,
    )
    assert (decimal["num_prec_radix"], by_name["DOUBLE"]["num_prec_radix"], by_name["DATE"]["num_prec_radix"]) == (
        10,
        2,
        None,
    )
    assert (by_name["UBIGINT"]["unsigned_attribute"], by_name["BIGINT"]["unsigned_attribute"]) == (True, False)


def test_every_listed_type_and_literal_is_taken_by_duckdb(connection: duckdb.DuckDBPyConnection) -> None:
    for row in xdbc.xdbc_type_info_batch().to_pylist():
        name = row["type_name"]
        connection.sql(f"SELECT CAST(NULL AS {name})").fetchall()
        if row["literal_prefix"] is not None:
            text = SAMPLES.get(name, "2024-05-06 01:02:03")
            literal = f"{row['literal_prefix']}{text}{row['literal_suffix']}"
            kind = connection.sql(f"SELECT typeof(CAST({literal} AS {name})), typeof({literal})").fetchall()[0]
            # JSON has no literal of its own: text stands for it.
            assert kind[1] in (name, "VARCHAR" if name == "JSON" else name), literal
