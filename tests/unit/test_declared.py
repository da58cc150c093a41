"""Datasets of the TOML file: what may be declared, what is refused and how, and that a declared one lacks nothing."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.flight as flight
import pytest

from flightsql_server.client import Publisher, PublishError
from flightsql_server.data.datasets import DATASETS, TIMESTAMP, Dataset, catalog_of
from flightsql_server.data.declared import TYPES, DatasetError, declared_datasets
from flightsql_server.model import Column, TableName
from flightsql_server.protocol import actions
from flightsql_server.protocol import flight_sql_pb2 as wire
from tests.commands import as_user, refusal, run
from tests.conformance.clients import arrow
from tests.running import CONFIG, RunningServer, running_server

FX_RATES = """
[datasets.fx_rates]
comment = "The latest rate of each pair."
key = ["pair"]
order_column = "updated_at"

[datasets.fx_rates.columns]
pair = { type = "utf8", comment = "Such as EURUSD." }
rate = "decimal(18,6)"
source = "utf8?"
desk = { type = "int32?", optional = true }
updated_at = "timestamp"
"""


def declared(toml: str) -> Dataset:
    """The one dataset that the text declares."""
    datasets = declared_datasets(tomllib.loads(toml)["datasets"])
    (name,) = datasets.keys() - DATASETS.keys()
    return datasets[name]


def refused(name: str = "fx", **changes: Any) -> str:
    """What is said of a dataset that is good but for the changes; None takes a key away."""
    table = {"columns": {"pair": "utf8", "at": "timestamp"}, "key": ["pair"], "order_column": "at", **changes}
    with pytest.raises(DatasetError) as failure:
        declared_datasets({name: {key: value for key, value in table.items() if value is not None}})
    return str(failure.value)


# ---- what may be declared ------------------------------------------------------------------------------------------


def test_a_dataset_as_the_documentation_shows_it() -> None:
    fx = declared(FX_RATES)
    assert (fx.name, fx.key, fx.order_column) == ("fx_rates", ("pair",), "updated_at")
    assert fx.comment == "The latest rate of each pair."
    assert fx.columns == (
        Column("pair", pa.string(), False, "Such as EURUSD."),
        Column("rate", pa.decimal128(18, 6), False),
        Column("source", pa.string(), True),
        Column("desk", pa.int32(), True, optional=True),
        Column("updated_at", TIMESTAMP, False),
    )


def test_the_built_in_ones_are_always_there() -> None:
    assert declared_datasets({}) == DATASETS
    assert declared_datasets(tomllib.loads(FX_RATES)["datasets"]).keys() == {*DATASETS, "fx_rates"}


def test_it_gets_a_table_and_a_history_in_the_catalog() -> None:
    fx = declared(FX_RATES)
    tables = catalog_of({"fx_rates": fx}).tables
    latest, history = (tables[TableName("main", name)] for name in ("fx_rates", "fx_rates_history"))
    assert latest.key == ("pair",)
    assert [column.name for column in latest.columns] == ["pair", "rate", "source", "desk", "updated_at"]
    assert history.key == ("_seq",)
    assert [column.name for column in history.columns[5:]] == ["_seq", "_received_at", "_change"]


@pytest.mark.parametrize("type_", TYPES)
def test_every_type_with_and_without_null(type_: str) -> None:
    for written, nullable in ((type_, False), (f"{type_}?", True)):
        table = {"columns": {"k": "utf8", "at": "int64", "c": written}, "key": ["k"], "order_column": "at"}
        assert declared_datasets({"fx": table})["fx"].columns[2] == Column("c", TYPES[type_], nullable)


@pytest.mark.parametrize(
    ("written", "type_"),
    [
        ("decimal(1,0)", pa.decimal128(1, 0)),
        ("decimal(38,38)", pa.decimal128(38, 38)),
        ("decimal(18, 6)?", pa.decimal128(18, 6)),
        ("decimal(05,02)", pa.decimal128(5, 2)),
    ],
)
def test_decimals(written: str, type_: pa.DataType) -> None:
    fx = declared(f'[datasets.fx]\nkey=["k"]\norder_column="at"\ncolumns={{k="utf8", at="date", c="{written}"}}')
    assert fx.columns[2].type == type_


@pytest.mark.parametrize("type_", [name for name in TYPES if not name.startswith("float")] + ["decimal(9,2)"])
def test_every_type_but_floats_can_be_a_key(type_: str) -> None:
    columns = {"k": type_, "also": "utf8", "at": "int64"}
    fx = declared_datasets({"fx": {"columns": columns, "key": ["k", "also"], "order_column": "at"}})["fx"]
    assert fx.key == ("k", "also")


@pytest.mark.parametrize("type_", ["timestamp", "int64", "date"])
def test_what_can_be_the_order(type_: str) -> None:
    fx = declared_datasets({"fx": {"columns": {"k": "utf8", "at": type_}, "key": ["k"], "order_column": "at"}})["fx"]
    assert fx.order_column == "at"


def test_the_order_column_may_be_part_of_the_key() -> None:
    fx = declared_datasets({"fx": {"columns": {"k": "utf8", "at": "date"}, "key": ["k", "at"], "order_column": "at"}})
    assert fx["fx"].identity == ("k", "at")


# ---- what is refused -----------------------------------------------------------------------------------------------

COLUMNS = {"pair": "utf8", "at": "timestamp"}
_A_NAME = "a name is a letter and up to 62 letters, digits and '_', all small"
_A_COLUMN = "a column has type, comment and optional."
_A_KEY = "must be a column that is never null, and no float."
_AN_ORDER = "order_column must be a column that is never null, of type timestamp, int64, date."
_A_TYPE = "its type is one of utf8, binary, bool"

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no columns": ({"columns": None}, "columns is a table of names and types"),
    "an empty table of columns": ({"columns": {}}, "columns is a table of names and types"),
    "columns as a list": ({"columns": ["pair"]}, "columns is a table of names and types"),
    "an unknown key": (
        {"colums": {}},
        "unknown key 'colums'; a dataset has columns, key, order_column, comment, delivery.",
    ),
    "a comment that is no text": ({"comment": 5}, "comment is text."),
    "a delivery that is none": ({"delivery": "often"}, "delivery is one of conflate, buffer."),
    "no key": ({"key": None}, "key is a list of one or more of its columns."),
    "an empty key": ({"key": []}, "key is a list of one or more of its columns."),
    "a key that is no list": ({"key": "pair"}, "key is a list of one or more of its columns."),
    "a key twice": ({"key": ["pair", "pair"]}, "key is a list of one or more of its columns."),
    "a key that is no column": ({"key": ["pear"]}, f"the key 'pear' {_A_KEY}"),
    "a key that is a number": ({"key": [1]}, "key"),
    "a key that is a list": ({"key": [["pair"]]}, "key"),
    "a key that may be null": ({"columns": {**COLUMNS, "pair": "utf8?"}}, f"the key 'pair' {_A_KEY}"),
    "a key of float32": ({"columns": {**COLUMNS, "pair": "float32"}}, f"the key 'pair' {_A_KEY}"),
    "a key of float64": ({"columns": {**COLUMNS, "pair": "float64"}}, f"the key 'pair' {_A_KEY}"),
    "no order": ({"order_column": None}, _AN_ORDER),
    "an order that is no column": ({"order_column": "on"}, _AN_ORDER),
    "an order that is a list": ({"order_column": ["at"]}, _AN_ORDER),
    "an order that may be null": ({"columns": {**COLUMNS, "at": "timestamp?"}}, _AN_ORDER),
    **{
        f"an order of {type_}": ({"columns": {**COLUMNS, "at": type_}}, _AN_ORDER)
        for type_ in ("utf8", "int32", "float64", "time", "decimal(18,0)")
    },
    **{
        f"the column name {name!r}": ({"columns": {**COLUMNS, name: "utf8"}}, f"column {name!r}: {_A_NAME}")
        for name in ("", "Bid", "_seq", "1st", "bid-price", "bid price", "geb\u00fchr", "x" * 64, 'a"b', "bid\n")
    },
    **{
        f"the type {written!r}": ({"columns": {**COLUMNS, "c": written}}, f"column 'c': {_A_TYPE}")
        for written in (
            *("", "?", "text", "utf8??", "?utf8", "UTF8", "int128", "timestamp[us]", 5, ["utf8"], True),
            *(
                "decimal",
                "decimal(0,0)",
                "decimal(39,0)",
                "decimal(5,6)",
                "decimal(5)",
                "decimal(5,-1)",
                "decimal(100,1)",
            ),
        )
    },
    "a column without a type": ({"columns": {**COLUMNS, "c": {"comment": "x"}}}, f"column 'c': {_A_TYPE}"),
    "a column's comment that is no text": (
        {"columns": {**COLUMNS, "c": {"type": "utf8", "comment": 5}}},
        f"column 'c': {_A_TYPE}",
    ),
    "a column's unknown key": (
        {"columns": {**COLUMNS, "c": {"type": "utf8", "unit": "EUR"}}},
        f"column 'c': {_A_COLUMN}",
    ),
    "optional without null": (
        {"columns": {**COLUMNS, "c": {"type": "utf8", "optional": True}}},
        "column 'c': optional is true or false; true needs a type with ?.",
    ),
    "optional that is text": (
        {"columns": {**COLUMNS, "c": {"type": "utf8?", "optional": "yes"}}},
        "column 'c': optional is true or false; true needs a type with ?.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_named(name: str) -> None:
    changes, words = REFUSED[name]
    said = refused(**changes)
    assert said.startswith("Dataset 'fx'")
    assert words in said


@pytest.mark.parametrize("name", ["market_data", "positions", "orders"])
def test_a_built_in_dataset_can_not_be_declared(name: str) -> None:
    assert refused(name) == f"Dataset {name!r} is built in and can't be declared: choose another name."


_BAD_NAMES = ("", "FX", "_fx", "1fx", "fx-rates", "fx.rates", "x" * 64, "f\u00fc")


@pytest.mark.parametrize("name", [*_BAD_NAMES, "fx_history", "market_data_history", "fx_deleted"])
def test_a_name_that_a_dataset_can_not_have(name: str) -> None:
    said = refused(name)
    assert said.startswith(f"Dataset {name!r}: {_A_NAME}")
    assert said.endswith("does not end in _history or _deleted.")


@pytest.mark.parametrize("table", [1, "fx", [], [{"columns": {}}]])
def test_what_is_no_table(table: object) -> None:
    with pytest.raises(DatasetError, match=r"Dataset 'fx': write it as a table \[datasets.fx\]."):
        declared_datasets({"fx": table})


# ---- through a server ----------------------------------------------------------------------------------------------

ROLES = """
[roles.viewer]
select = ["market_data"]
[roles.feed]
select = ["fx_rates_history"]
ingest = ["fx_rates"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("declared")
    (folder / "test.toml").write_text(ROLES + FX_RATES, encoding="utf-8")
    with running_server(folder) as running:
        yield running


def rates(*rows: tuple[str, str, int]) -> pa.RecordBatch:
    """Pair, rate and seconds since 1970; without the optional column."""
    fields = [field for field in declared(FX_RATES).schema if field.name != "desk"]
    return pa.record_batch(
        {
            "pair": [pair for pair, _, _ in rows],
            "rate": pa.array([Decimal(rate) for _, rate, _ in rows], pa.decimal128(18, 6)),
            "source": pa.array([None] * len(rows), pa.string()),
            "updated_at": pa.array([seconds * 10**6 for _, _, seconds in rows], TIMESTAMP),
        },
        schema=pa.schema(fields),
    )


def test_rows_go_in_and_come_out(server: RunningServer) -> None:
    """DoPut, the table, its history, and plain Flight by its name."""
    with Publisher(server.url, "fx_rates", user="feed", password="feed") as publisher:
        publisher.publish(rates(("EURUSD", "1.1", 1), ("EURUSD", "1.2", 2), ("EURCHF", "0.95", 1)))
        assert publisher.publish(rates(("EURUSD", "1.0", 1))).late_rows == 1
    found = arrow(server, "SELECT pair, rate, desk FROM fx_rates WHERE starts_with(pair, 'EUR') ORDER BY pair")
    assert found.to_pylist() == [
        {"pair": "EURCHF", "rate": Decimal("0.95"), "desk": None},
        {"pair": "EURUSD", "rate": Decimal("1.2"), "desk": None},
    ]
    history = arrow(server, "SELECT rate FROM fx_rates_history WHERE pair = 'EURUSD' ORDER BY _seq")
    assert history.to_pydict() == {"rate": [Decimal("1.1"), Decimal("1.2"), Decimal("1.0")]}
    client, call = server.flight()
    with client:
        table = client.do_get(flight.Ticket(b"fx_rates"), call).read_all()
    assert {"EURCHF", "EURUSD"} <= set(table["pair"].to_pylist())
    assert table.schema.names == declared(FX_RATES).schema.names


def test_plain_flight_knows_it(server: RunningServer) -> None:
    path = flight.FlightDescriptor.for_path("fx_rates")
    wanted = pa.schema([(field.name, field.type) for field in declared(FX_RATES).schema])
    client, call = server.flight()
    with client:
        assert b"fx_rates" in [info.descriptor.path[0] for info in client.list_flights(options=call)]
        assert client.get_flight_info(path, call).schema == client.get_schema(path, call).schema == wanted


def test_metadata_tells_its_tables_columns_and_key(server: RunningServer) -> None:
    client, call = server.flight()

    def answer(command: Any) -> list[dict[str, Any]]:
        info = client.get_flight_info(flight.FlightDescriptor.for_command(actions.packed(command)), call)
        rows: list[dict[str, Any]] = client.do_get(info.endpoints[0].ticket, call).read_all().to_pylist()
        return rows

    with client:
        found = answer(wire.CommandGetTables(table_name_filter_pattern="fx\\_rates%", include_schema=True))
        assert [row["table_name"] for row in found] == ["fx_rates", "fx_rates_history"]
        columns = pa.ipc.read_schema(pa.py_buffer(found[0]["table_schema"]))
        assert columns.equals(declared(FX_RATES).schema), "with what may be null"
        assert columns.field("pair").metadata[b"ARROW:FLIGHT:SQL:REMARKS"] == b"Such as EURUSD."
        keys = answer(wire.CommandGetPrimaryKeys(catalog="desk", db_schema="main", table="fx_rates"))
        assert [(row["column_name"], row["key_sequence"]) for row in keys] == [("pair", 1)]
    rows = arrow(server, "SELECT column_name FROM information_schema.columns WHERE table_name = 'fx_rates'")
    assert rows["column_name"].to_pylist() == declared(FX_RATES).schema.names


def test_grants_hold_for_it_by_role(server: RunningServer) -> None:
    """viewer was granted another dataset; feed may write and read its history; reader may read all."""
    with (
        pytest.raises(PublishError, match=r"\[42P01\]"),
        Publisher(server.url, "fx_rates", user="viewer", password="viewer") as publisher,
    ):
        publisher.publish(rates(("XX", "1", 1)))
    with (
        pytest.raises(PublishError, match=r"\[42501\]"),
        Publisher(server.url, "fx_rates", user="reader", password="reader") as publisher,
    ):
        publisher.publish(rates(("XX", "1", 1)))
    assert arrow(server, "SELECT count(*) AS n FROM fx_rates_history", "feed").num_rows == 1
    for user in ("feed", "viewer"):
        with pytest.raises(Exception, match="42P01"):
            arrow(server, "SELECT * FROM fx_rates", user)
    assert arrow(server, "SELECT * FROM fx_rates WHERE pair = 'XX'").num_rows == 0


def test_what_was_read_can_be_loaded_again_as_csv(server: RunningServer, tmp_path: Path) -> None:
    """A text that is null and one that is empty stay two, and a pair may look like a number."""
    rest = {"rate": Decimal("1.25"), "updated_at": datetime(2026, 1, 6, tzinfo=UTC)}
    rows = [
        {"pair": pair, "source": source, "desk": desk, **rest}
        for pair, source, desk in (("0700", "bank", 7), ("NA", "", None), ("GBPUSD", None, None))
    ]
    file = tmp_path / "rates.csv"
    csv.write_csv(pa.Table.from_pylist(rows, schema=declared(FX_RATES).schema), file)
    said = run("load", "fx_rates", str(file), **as_user(server, "admin"))
    assert said.stdout == "Loaded 3 rows into fx_rates.\n", said.stderr
    found = arrow(server, "SELECT * FROM fx_rates WHERE pair IN ('0700', 'NA', 'GBPUSD')").to_pylist()
    assert {row["pair"]: row for row in found} == {row["pair"]: row for row in rows}


# ---- check-config --------------------------------------------------------------------------------------------------


def test_check_config_shows_it(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text(CONFIG + FX_RATES)
    said = run("check-config", "--config", str(file))
    assert said.returncode == 0, said.stderr
    (line,) = [line.split() for line in said.stdout.splitlines() if line.startswith("datasets.")]
    assert line == ["datasets.fx_rates", "(table)", str(file)]


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        (FX_RATES.replace('"timestamp"', '"utf8"'), _AN_ORDER),
        (FX_RATES.replace("fx_rates", "orders"), "Dataset 'orders' is built in"),
        (FX_RATES.replace('key = ["pair"]', 'key = [["pair"]]'), "Dataset 'fx_rates': key"),
        (FX_RATES.replace('"updated_at"', '["updated_at"]'), "Dataset 'fx_rates': order_column"),
        ("[datasets]\nfx_rates = 1", "write it as a table"),
        ("datasets = 1", "datasets must be tables such as"),
    ],
)
def test_check_config_and_serve_refuse_a_bad_one(tmp_path: Path, toml: str, words: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(toml)
    assert words in refusal(run("check-config", "--config", str(file)))
    assert words in refusal(run("serve", "--config", str(file), "--data-dir", str(tmp_path / "data")))
    assert not (tmp_path / "data").exists()
