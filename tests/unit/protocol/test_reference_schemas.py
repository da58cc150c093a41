"""Reference schemas: exact fields, row order, nulls, and the column metadata that drivers read."""

from __future__ import annotations

import pyarrow as pa
import pytest

from flightsql_server.protocol import reference

# As the comments of FlightSql.proto state them; "!" is not null.
SCHEMAS = {
    "CATALOGS": "catalog_name: string!",
    "DB_SCHEMAS": "catalog_name: string, db_schema_name: string!",
    "TABLES": "catalog_name: string, db_schema_name: string, table_name: string!, table_type: string!",
    "TABLES_WITH_SCHEMA": "catalog_name: string, db_schema_name: string, table_name: string!, table_type: string!, "
    "table_schema: binary!",
    "TABLE_TYPES": "table_type: string!",
    "PRIMARY_KEYS": "catalog_name: string, db_schema_name: string, table_name: string!, column_name: string!, "
    "key_name: string, key_sequence: int32!",
    "FOREIGN_KEYS": "pk_catalog_name: string, pk_db_schema_name: string, pk_table_name: string!, "
    "pk_column_name: string!, fk_catalog_name: string, fk_db_schema_name: string, fk_table_name: string!, "
    "fk_column_name: string!, key_sequence: int32!, fk_key_name: string, pk_key_name: string, update_rule: uint8!, "
    "delete_rule: uint8!",
    "XDBC_TYPE_INFO": "type_name: string!, data_type: int32!, column_size: int32, literal_prefix: string, "
    "literal_suffix: string, create_params: list<item: string not null>, nullable: int32!, case_sensitive: bool!, "
    "searchable: int32!, unsigned_attribute: bool, fixed_prec_scale: bool!, auto_increment: bool, "
    "local_type_name: string, minimum_scale: int32, maximum_scale: int32, sql_data_type: int32!, "
    "datetime_subcode: int32, num_prec_radix: int32, interval_precision: int32",
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_the_published_ones(name: str) -> None:
    schema = getattr(reference, name)
    assert ", ".join(f"{f.name}: {f.type}{'' if f.nullable else '!'}" for f in schema) == SCHEMAS[name]
    assert schema.metadata is None


def test_the_value_of_sql_info_is_a_dense_union_of_six() -> None:
    name = reference.SQL_INFO.field("info_name")
    assert (name.name, str(name.type), name.nullable) == ("info_name", "uint32", False)
    value = reference.SQL_INFO.field("value")
    assert not value.nullable
    assert value.type.mode == "dense"
    assert value.type.type_codes == [0, 1, 2, 3, 4, 5]
    assert [(f.name, str(f.type), f.nullable) for f in value.type] == [
        ("string_value", "string", False),
        ("bool_value", "bool", False),
        ("bigint_value", "int64", False),
        ("int32_bitmask", "int32", False),
        ("string_list", "list<item: string>", False),
        ("int32_to_int32_list_map", "map<int32, list<item: int32>>", False),
    ]


def test_catalogs_schemas_and_types_are_sorted() -> None:
    assert reference.catalogs_batch(["b", "a"]).column(0).to_pylist() == ["a", "b"]
    assert reference.table_types_batch(["VIEW", "BASE TABLE"]).column(0).to_pylist() == ["BASE TABLE", "VIEW"]
    row = reference.DbSchemaRow
    found = reference.db_schemas_batch([row("b", "x"), row("a", "z"), row(None, "q"), row("a", "y")])
    assert list(zip(*found.to_pydict().values(), strict=True)) == [(None, "q"), ("a", "y"), ("a", "z"), ("b", "x")]
    assert found.schema.equals(reference.DB_SCHEMAS, check_metadata=True)


def test_tables_with_and_without_schemas() -> None:
    inner = pa.schema([pa.field("p", pa.float64(), metadata={"k": "v"})])
    rows = [
        reference.TableRow("desk", "main", "b", "VIEW"),
        reference.TableRow("desk", "main", "a", "VIEW", inner),
        reference.TableRow("desk", None, "c", "BASE TABLE"),
    ]
    plain = reference.tables_batch(rows, include_schema=False)
    assert plain.schema.equals(reference.TABLES, check_metadata=True)
    assert plain.column("table_name").to_pylist() == ["c", "a", "b"]
    full = reference.tables_batch(iter(rows), include_schema=True)
    assert full.schema.equals(reference.TABLES_WITH_SCHEMA, check_metadata=True)
    read = [pa.ipc.read_schema(pa.py_buffer(value)) for value in full.column("table_schema").to_pylist()]
    assert read[1].equals(inner, check_metadata=True)
    assert (read[0], read[2]) == (pa.schema([]), pa.schema([]))


def test_keys_are_sorted_by_the_side_that_the_command_names() -> None:
    primary = reference.primary_keys_batch(
        [
            reference.PrimaryKeyRow("desk", "main", "t", "b", "pk", 2),
            reference.PrimaryKeyRow("desk", "main", "t", "a", "pk", 1),
            reference.PrimaryKeyRow(None, None, "z", "c", None, 1),
        ]
    )
    assert primary.column("column_name").to_pylist() == ["c", "a", "b"]
    rows = [
        reference.ForeignKeyRow("d", "s", "p2", "x", "d", "s", "f1", "y", 1, "fk", "pk"),
        reference.ForeignKeyRow("d", "s", "p1", "x", "d", "s", "f2", "y", 2, "fk", "pk", 0, 4),
        reference.ForeignKeyRow("d", "s", "p1", "x", "d", "s", "f2", "z", 1, "fk", "pk"),
    ]
    exported, imported = reference.exported_keys_batch(rows), reference.imported_keys_batch(rows)
    assert exported.column("fk_table_name").to_pylist() == ["f1", "f2", "f2"]
    assert imported.column("pk_table_name").to_pylist() == ["p1", "p1", "p2"]
    assert imported.column("key_sequence").to_pylist() == [1, 2, 1]
    assert (imported.column("update_rule").to_pylist(), imported.column("delete_rule").to_pylist()) == (
        [3, 0, 3],
        [3, 4, 3],
    )


def test_empty_answers_keep_their_schema() -> None:
    for batch, schema in (
        (reference.catalogs_batch([]), reference.CATALOGS),
        (reference.tables_batch([], include_schema=True), reference.TABLES_WITH_SCHEMA),
        (reference.exported_keys_batch([]), reference.FOREIGN_KEYS),
    ):
        assert batch.num_rows == 0
        assert batch.schema.equals(schema, check_metadata=True)


def test_column_metadata() -> None:
    key = "ARROW:FLIGHT:SQL:"
    found = reference.flight_sql_column_metadata(
        "desk", "main", "orders", "DECIMAL", 18, 0, "lots", auto_increment=False, read_only=True
    )
    assert {name.decode().removeprefix(key): value for name, value in found.items()} == {
        "CATALOG_NAME": b"desk",
        "DB_SCHEMA_NAME": b"main",
        "SCHEMA_NAME": b"main",
        "TABLE_NAME": b"orders",
        "TYPE_NAME": b"DECIMAL",
        "PRECISION": b"18",
        "SCALE": b"0",
        "IS_AUTO_INCREMENT": b"0",
        "IS_READ_ONLY": b"1",
        "REMARKS": b"lots",
    }
    assert reference.flight_sql_column_metadata() == {}
    assert reference.flight_sql_column_metadata(case_sensitive=True, searchable=False) == {
        b"ARROW:FLIGHT:SQL:IS_CASE_SENSITIVE": b"1",
        b"ARROW:FLIGHT:SQL:IS_SEARCHABLE": b"0",
    }
