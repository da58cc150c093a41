"""Keys and constraints of users' own tables: kept, told of by name, and shown by the metadata commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow.flight as flight
import pytest
from adbc_driver_manager import Error as DriverError

from flightsql_server.protocol import flight_sql_pb2 as wire
from flightsql_server.protocol.actions import packed
from tests.running import RunningServer, running_server

_PARENT = """
    CREATE TABLE books (id INT, part INT, title TEXT NOT NULL, price DECIMAL(9,2) CHECK (price > 0),
                        UNIQUE (title), PRIMARY KEY (id, part))
"""
_CHILD = (
    "CREATE TABLE notes (n INT PRIMARY KEY, book INT, part INT, FOREIGN KEY (book, part) REFERENCES books (id, part))"
)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("keys")) as server:
        with server.connect("maker") as connection, connection.cursor() as cursor:
            for sql in (
                _PARENT,
                _CHILD,
                "INSERT INTO books VALUES (1, 1, 'one', 5)",
                "INSERT INTO notes VALUES (1, 1, 1)",
            ):
                cursor.execute(sql)
        yield server


@pytest.fixture
def cursor(own: RunningServer) -> Iterator[flight_sql.Cursor]:
    with own.connect("maker") as connection, connection.cursor() as made:
        yield made


@pytest.mark.parametrize(
    ("sql", "state"),
    [
        ("INSERT INTO books VALUES (1, 1, 'other', 5)", "23505"),
        ("INSERT INTO books VALUES (2, 1, 'one', 5)", "23505"),
        ("INSERT INTO books VALUES (2, 1, NULL, 5)", "23502"),
        ("INSERT INTO books VALUES (2, 1, 'two', -5)", "23514"),
        ("INSERT INTO notes VALUES (2, 77, 1)", "23503"),
        ("DELETE FROM books", "23503"),
        ("DROP TABLE books", "2BP01"),
        ("CREATE OR REPLACE TABLE books (a INT)", "2BP01"),
        ("CREATE TABLE more (s TEXT REFERENCES market_data (symbol))", "0A000"),
        ("CREATE TABLE more (a INT REFERENCES nothing (id))", "42P01"),
        ("CREATE TABLE more (a INT REFERENCES u_admin.secret (id))", "42P01"),
        ("CREATE TABLE more (a INT REFERENCES books (id) ON DELETE CASCADE)", "0A000"),
        ("CREATE TEMP TABLE more (a INT, b INT, FOREIGN KEY (a, b) REFERENCES books (id, part))", "0A000"),
    ],
)
def test_what_breaks_one_is_refused_by_its_kind(cursor: flight_sql.Cursor, sql: str, state: str) -> None:
    with pytest.raises(DriverError, match=rf"\[{state}\]") as caught:
        cursor.execute(sql)
    assert "77" not in str(caught.value), "the row's values are not told"


def test_a_table_may_refer_to_itself(cursor: flight_sql.Cursor) -> None:
    cursor.execute("CREATE OR REPLACE TABLE desks (id INT PRIMARY KEY, above INT REFERENCES desks (id))")
    for row in ("(1, NULL)", "(2, 1)"):
        cursor.execute(f"INSERT INTO desks VALUES {row}")
    with pytest.raises(DriverError, match="23503"):
        cursor.execute("INSERT INTO desks VALUES (3, 99)")


def _asked(server: RunningServer, command: Any, user: str = "maker") -> list[dict[str, Any]]:
    client, options = server.flight(user)
    with client:
        info = client.get_flight_info(flight.FlightDescriptor.for_command(packed(command)), options)
        found = client.do_get(info.endpoints[0].ticket, options).read_all()
    return list(found.to_pylist())


_BOOKS, _NOTES = {"catalog": "desk", "db_schema": "u_maker", "table": "books"}, {"table": "notes"}


@pytest.mark.covers("pyarrow", "GetExportedKeys", "GetImportedKeys", "GetCrossReference")
@pytest.mark.parametrize(
    "command",
    [
        wire.CommandGetExportedKeys(**_BOOKS),
        wire.CommandGetExportedKeys(table="books"),
        wire.CommandGetImportedKeys(**_NOTES),
        wire.CommandGetCrossReference(pk_table="books", fk_table="notes"),
        wire.CommandGetCrossReference(pk_db_schema="u_maker", pk_table="books", fk_table="%"),
    ],
)
def test_foreign_keys_are_told_column_by_column(own: RunningServer, command: Any) -> None:
    rows = _asked(own, command)
    assert [(row["pk_column_name"], row["fk_column_name"], row["key_sequence"]) for row in rows] == [
        ("id", "book", 1),
        ("part", "part", 2),
    ]
    for row in rows:
        assert (row["pk_table_name"], row["fk_table_name"]) == ("books", "notes")
        assert row["pk_db_schema_name"] == row["fk_db_schema_name"] == "u_maker"
        assert row["pk_catalog_name"] == row["fk_catalog_name"] == "desk"
        assert (row["update_rule"], row["delete_rule"]) == (3, 3), "no action"
        assert row["fk_key_name"]


@pytest.mark.parametrize(
    "command",
    [
        wire.CommandGetExportedKeys(table="notes"),
        wire.CommandGetExportedKeys(catalog="other", table="books"),
        wire.CommandGetImportedKeys(db_schema="main", table="notes"),
        wire.CommandGetCrossReference(pk_table="notes", fk_table="books"),
    ],
)
def test_none_is_told_where_there_is_none(own: RunningServer, command: Any) -> None:
    assert _asked(own, command) == []


def test_those_of_others_do_not_exist(own: RunningServer) -> None:
    assert _asked(own, wire.CommandGetImportedKeys(**_NOTES), "viewer") == []
    assert _asked(own, wire.CommandGetPrimaryKeys(**_BOOKS), "viewer") == []


@pytest.mark.covers("pyarrow", "GetPrimaryKeys")
def test_primary_keys_stand_in_their_order(own: RunningServer) -> None:
    rows = _asked(own, wire.CommandGetPrimaryKeys(**_BOOKS))
    assert [(row["column_name"], row["key_sequence"]) for row in rows] == [("id", 1), ("part", 2)]
