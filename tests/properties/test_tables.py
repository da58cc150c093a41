"""Any table comes out of a bulk ingest as it went in, any value is echoed as it was bound; else an error says why."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pytest
from adbc_driver_manager import NotSupportedError, ProgrammingError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import arrow_data
from tests.conftest import examples
from tests.running import running_server

_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[flight_sql.Connection]:
    with running_server(tmp_path_factory.mktemp("tables")) as server, server.connect("maker") as made:
        yield made


@contextmanager
def _unless_refused() -> Iterator[list[bool]]:
    """A type or value that is refused by name is as good as one that comes back; any other error is not."""
    try:
        yield []
    except (NotSupportedError, ProgrammingError) as refused:
        if "[0A000]" not in str(refused) and "[22023]" not in str(refused):
            raise


def _plain(value: Any) -> Any:
    """A value without what the engine has no type for: which kind of list it was, a duration's own type."""
    if isinstance(value, pa.MonthDayNano):
        return ("interval", value.months, value.days, value.nanoseconds)
    if hasattr(value, "total_seconds") and not hasattr(value, "hour"):
        return ("interval", 0, 0, round(value.total_seconds() * 1_000_000) * 1_000)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if hasattr(value, "nanosecond"):  # pandas' own time, for nanoseconds
        return ("ns", value.value)
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return value


def _same(found: pa.ChunkedArray | pa.Array, sent: pa.ChunkedArray | pa.Array) -> bool:
    return [_plain(one) for one in found.to_pylist()] == [_plain(one) for one in sent.to_pylist()]


@st.composite
def _tables(draw: st.DrawFn) -> pa.Table:
    types = draw(st.lists(arrow_data.types(), min_size=1, max_size=3))
    schema = pa.schema([pa.field(f"c{i}", type_) for i, type_ in enumerate(types)])
    return pa.table(draw(arrow_data.batches(schema)))


@pytest.mark.scaled
@settings(max_examples=examples(500), suppress_health_check=_CHECKS)
@given(table=_tables())
def test_a_table_comes_back_as_it_went_in(connection: flight_sql.Connection, table: pa.Table) -> None:
    if not table.num_rows:
        return  # the driver sends nothing for it
    with connection.cursor() as cursor:
        with _unless_refused() as taken:
            assert cursor.adbc_ingest("anything", table, mode="replace") == table.num_rows
            taken.append(True)
        if not taken:
            return
        cursor.execute("SELECT * FROM anything")
        found = cursor.fetch_arrow_table()
    assert found.num_rows == table.num_rows
    for name in table.schema.names:
        assert _same(found.column(name), table.column(name)), (table.schema.field(name), found.schema.field(name))


@pytest.mark.scaled
@settings(max_examples=examples(1_000), suppress_health_check=_CHECKS)
@given(data=st.data())
def test_a_value_is_echoed_as_it_was_bound(connection: flight_sql.Connection, data: st.DataObject) -> None:
    type_ = data.draw(arrow_data.types())
    value = data.draw(arrow_data.values(type_))
    array = pa.array([value], type_)
    with connection.cursor() as cursor:
        with _unless_refused() as taken:
            cursor.execute("SELECT ? AS v", pa.record_batch([array], names=["0"]))
            taken.append(True)
        if not taken:
            return
        found = cursor.fetch_arrow_table()
    assert _same(found.column("v"), array), (type_, found.schema.field(0).type)
