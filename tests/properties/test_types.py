"""Any table of the types that a dataset can have comes back as it was sent, in whatever lossless form it was sent."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flightsql_server.client import Publisher
from flightsql_server.data.conform import conform
from flightsql_server.data.datasets import Dataset
from flightsql_server.data.declared import declared_datasets
from flightsql_server.data.tables import table_sql
from tests.conftest import examples
from tests.desk import Desk, open_desk
from tests.encodings import COLUMN_TYPES, arrays, bits, encoded, forms
from tests.running import CONFIG, RunningServer, running_server

_NAMES = {f"c{number}": type_ for number, type_ in enumerate(COLUMN_TYPES)}
_TABLE = {
    "key": ["row"],
    "order_column": "at",
    "columns": {"row": "int64", "at": "int64", **{name: f"{type_}?" for name, type_ in _NAMES.items()}},
}
ALL_TYPES: Dataset = declared_datasets({"all_types": _TABLE})["all_types"]
_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
_ROWS = count(1)


@st.composite
def batches(draw: st.DrawFn) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """A batch in the dataset's own types, and the same rows in other forms and another order of columns."""
    rows = draw(st.integers(1, 4))
    plain = {"row": pa.array([next(_ROWS) for _ in range(rows)]), "at": pa.array([0] * rows)}
    plain |= {name: draw(arrays(COLUMN_TYPES[type_], rows)) for name, type_ in _NAMES.items()}
    sent = {}
    for name, array in plain.items():
        found = encoded(array, draw(st.sampled_from(forms(array.type))), draw(st.booleans()))
        sent[name] = array if found is None else found
    names = draw(st.permutations(list(sent)))
    return (
        pa.RecordBatch.from_arrays(list(plain.values()), schema=ALL_TYPES.schema),
        pa.RecordBatch.from_arrays([sent[name] for name in names], names=names),
    )


def assert_same(found: pa.Table, plain: pa.RecordBatch) -> None:
    assert found.schema.names == plain.schema.names
    assert found.schema.types == plain.schema.types
    for name, column in zip(plain.schema.names, found.combine_chunks().columns, strict=True):
        array = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        assert bits(array) == bits(plain.column(name)), (name, array, plain.column(name))


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("types")
    columns = ", ".join(f'{name} = "{type_}"' for name, type_ in _TABLE["columns"].items())  # type: ignore[attr-defined]
    declared = f'[datasets.all_types]\nkey = ["row"]\norder_column = "at"\ncolumns = {{ {columns} }}\n'
    (folder / "test.toml").write_text(CONFIG + declared, encoding="utf-8")
    with running_server(folder) as server:
        yield server


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("desk"), {"all_types": ALL_TYPES}) as made:
        yield made


@pytest.mark.scaled
@pytest.mark.timeout(400)
@settings(max_examples=examples(500), suppress_health_check=_CHECKS)
@given(drawn=batches())
def test_any_table_passes_the_wire_exactly(wired: RunningServer, drawn: tuple[pa.RecordBatch, pa.RecordBatch]) -> None:
    """DoPut in any lossless form, then SELECT from the latest rows and from history: the same values and types."""
    plain, sent = drawn
    with Publisher(wired.url, "all_types", user="admin", password="admin") as publisher:
        receipt = publisher.publish(sent)
    assert (receipt.rows, receipt.late_rows) == (plain.num_rows, 0)
    names = ", ".join(plain.schema.names)
    with wired.connect("admin") as connection, connection.cursor() as cursor:
        for table, where, order in (
            ("all_types", f"row BETWEEN {plain['row'][0]} AND {plain['row'][-1]}", "row"),
            ("all_types_history", f"_seq BETWEEN {receipt.first_seq} AND {receipt.last_seq}", "_seq"),
        ):
            cursor.execute(f"SELECT {names} FROM {table} WHERE {where} ORDER BY {order}")
            assert_same(cursor.fetch_arrow_table(), plain)


@pytest.mark.scaled
@pytest.mark.timeout(400)
@settings(max_examples=examples(500), suppress_health_check=_CHECKS)
@given(drawn=batches())
def test_any_table_is_kept_exactly_when_its_rows_are_replaced(
    desk: Desk, drawn: tuple[pa.RecordBatch, pa.RecordBatch]
) -> None:
    """What stands goes through the writer's hands again whenever an older update comes; it comes out unchanged."""
    plain, sent = drawn
    assert conform(sent, ALL_TYPES).schema == ALL_TYPES.schema
    assert desk.send(ALL_TYPES, sent).result(30).late == 0
    older = plain.set_column(1, ALL_TYPES.schema.field("at"), pa.array([-1] * plain.num_rows))
    assert desk.send(ALL_TYPES, older).result(30).late == plain.num_rows
    where = f"row BETWEEN {plain['row'][0]} AND {plain['row'][-1]}"
    assert_same(desk.table(f"SELECT * FROM {table_sql('all_types')} WHERE {where} ORDER BY row"), plain)
