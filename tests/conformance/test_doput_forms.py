"""DoPut in other forms: deletes, columns in any order, dictionaries, and messages that no honest client sends."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pytest

from flightsql_server.data.datasets import CHANGE, DELETE, MARKET_DATA
from flightsql_server.protocol import flight_pb2 as wire
from tests.conformance.clients import arrow, metric
from tests.conformance.putting import Stream, changes, descriptor, latest, message, messages, put, quotes, stored
from tests.running import RunningServer, running_server

BARE = pa.schema([MARKET_DATA.change_schema.field(name) for name in ("symbol", "timestamp", CHANGE)])


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of these tests' own, which they write to."""
    with running_server(tmp_path_factory.mktemp("forms")) as running:
        yield running


# ---- deletes -------------------------------------------------------------------------------------------------------


def test_upserts_and_deletes_in_one_batch(own: RunningServer) -> None:
    """Row by row, in their order; an older delete is late and ends nothing."""
    with Stream(own, schema=MARKET_DATA.change_schema) as stream:
        first = stream.send(changes(("DEL1", 1.0, 0), ("DEL2", 2.0, 0), ("DEL1", None, 1), ("DEL3", None, 1)))
        assert (first["rows"], first["late_rows"]) == (4, 0)
        assert latest(own, "DEL") == {"DEL2": 2.0}
        second = stream.send(changes(("DEL2", None, -1), ("DEL1", 1.5, 0), ("DEL3", 3.0, 1)))
        assert (second["rows"], second["late_rows"]) == (3, 2)
    assert latest(own, "DEL") == {"DEL2": 2.0, "DEL3": 3.0}
    assert stored(own, "DEL") == [
        ("DEL1", 1.0, "upsert"),
        ("DEL2", 2.0, "upsert"),
        ("DEL1", None, "delete"),
        ("DEL3", None, "delete"),
        ("DEL2", None, "delete"),
        ("DEL1", 1.5, "upsert"),
        ("DEL3", 3.0, "upsert"),
    ]


def test_deletes_alone_need_key_and_order_column_only(own: RunningServer) -> None:
    with Stream(own) as stream:
        stream.send(quotes(("BARE1", 1.0, 0), ("BARE2", 2.0, 0)))
    with Stream(own, schema=BARE) as stream:
        found = stream.send(changes(("BARE1", None, 1), ("BARE9", None, 1)).select(BARE.names))
        assert (found["rows"], found["late_rows"]) == (2, 0)
    assert latest(own, "BARE") == {"BARE2": 2.0}
    assert stored(own, "BARE")[2:] == [("BARE1", None, "delete"), ("BARE9", None, "delete")]


def test_the_change_may_be_a_dictionary(own: RunningServer) -> None:
    batch = changes(("DICT1", 1.0, 0), ("DICT2", 2.0, 0), ("DICT1", None, 1))
    words = batch.column(CHANGE).dictionary_encode()
    batch = batch.set_column(batch.schema.get_field_index(CHANGE), CHANGE, words)
    with Stream(own, schema=batch.schema) as stream:
        assert stream.send(batch)["rows"] == 3
    assert latest(own, "DICT") == {"DICT2": 2.0}


def _with_change(values: list[str | None]) -> pa.RecordBatch:
    batch = quotes(*((f"BADC{n}", 1.0, n) for n in range(len(values))))
    return batch.append_column(CHANGE, pa.array(values, pa.string()))


BAD_CHANGES: dict[str, tuple[pa.RecordBatch, str]] = {
    "an unknown word": (_with_change(["upsert", "insert"]), "is neither upsert nor delete in row 1."),
    "capitals": (_with_change(["DELETE"]), "is neither upsert nor delete in row 0."),
    "null": (_with_change(["delete", None]), f"Column {CHANGE} of market_data is null in row 1."),
    "a number": (
        quotes(("BADC", 1.0, 0)).append_column(CHANGE, pa.array([1])),
        f"Column {CHANGE} of market_data must be string",
    ),
    "a bare batch with an upsert": (
        changes(("BADC", 1.0, 0), ("BADC", None, 1)).select(BARE.names),
        "lacks the column",
    ),
    "a delete without its time": (changes(("BADC", None, 0)).select(["symbol", CHANGE]), "lacks the column timestamp"),
    "a delete whose key is null": (
        pa.RecordBatch.from_pylist([{"symbol": None, "timestamp": 0, CHANGE: DELETE}], schema=BARE),
        "Column symbol of market_data is null in row 0.",
    ),
}


@pytest.mark.parametrize("name", BAD_CHANGES)
def test_a_change_that_is_none_is_refused(own: RunningServer, name: str) -> None:
    batch, words = BAD_CHANGES[name]
    outcome = put(own, messages([batch]))
    assert (outcome.code, outcome.acknowledged) == ("INVALID_ARGUMENT", [])
    assert outcome.words.startswith("[22023]")
    assert words in outcome.words
    assert stored(own, "BADC") == []


# ---- forms ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(7))
def test_columns_come_in_any_order(own: RunningServer, turn: int) -> None:
    batch = changes((f"TURN{turn}", 1.0, 0), (f"TURN{turn}x", None, 0))
    names = [*batch.schema.names[turn:], *batch.schema.names[:turn]][::-1]
    with Stream(own, schema=batch.select(names).schema) as stream:
        assert stream.send(batch.select(names))["rows"] == 2
    assert latest(own, f"TURN{turn}") == {f"TURN{turn}": 1.0}


@pytest.mark.parametrize("values", [pa.string_view(), pa.binary_view()], ids=str)
def test_a_dictionary_of_views_is_taken_or_refused_by_its_column(own: RunningServer, values: pa.DataType) -> None:
    """Arrow can't look values up in such a dictionary; that is nobody's defect, and no incident."""
    symbols = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), pa.array(["VIEWED"]).cast(values))
    batch = quotes(("?", 1.0, 0)).set_column(0, "symbol", symbols)
    before = metric(own, "flightsql_incidents_total")
    if values == pa.string_view():
        with Stream(own, schema=batch.schema) as stream:
            assert stream.send(batch)["rows"] == 1
    else:
        words = r"\[22023\] Column symbol of market_data must be string, not binary_view"
        with pytest.raises(pa.ArrowInvalid, match=words), Stream(own, schema=batch.schema) as stream:
            stream.push(batch)
    assert metric(own, "flightsql_incidents_total") == before


def test_a_dictionary_may_grow_and_be_replaced(own: RunningServer) -> None:
    """Symbols as dictionaries, as most feeds send them: each batch has its own."""
    batches = []
    for n in range(3):
        batch = quotes(*((f"GROW{m}", float(n), n) for m in range(n + 1)))
        batches.append(batch.set_column(0, "symbol", batch.column("symbol").dictionary_encode()))
    with Stream(own, schema=batches[0].schema) as stream:
        assert [stream.send(batch)["rows"] for batch in batches] == [1, 2, 3]
    assert latest(own, "GROW") == {"GROW0": 2.0, "GROW1": 2.0, "GROW2": 2.0}


# ---- what no honest client sends -----------------------------------------------------------------------------------

GOOD = quotes(("HOSTILE", 1.0, 0), ("HOSTILE too", 2.0, 0))
SCHEMA = message(GOOD.schema.serialize().to_pybytes(), name="market_data")
BATCH = message(GOOD.serialize().to_pybytes())


def _changed(change: Callable[[wire.FlightData], None]) -> wire.FlightData:
    made = wire.FlightData.FromString(BATCH.SerializeToString())
    change(made)
    return made


def _cut_body(made: wire.FlightData) -> None:
    made.data_body = made.data_body[:-8]


def _long_body(made: wire.FlightData) -> None:
    made.data_body += b"\0" * 8


def _no_body(made: wire.FlightData) -> None:
    made.data_body = b""


def _cut_header(made: wire.FlightData) -> None:
    made.data_header = made.data_header[:20]


def _noisy_header(made: wire.FlightData) -> None:
    noise = np.random.default_rng(7).integers(0, 256, len(made.data_header), np.uint8)
    made.data_header = noise.tobytes()


def _wild_offsets(made: wire.FlightData) -> None:
    """The text's offsets point far behind its bytes."""
    body = bytearray(made.data_body)
    at = bytes(body).index(np.array([0, 7, 18], np.int32).tobytes())
    body[at + 4 : at + 8] = (2**30).to_bytes(4, "little")
    made.data_body = bytes(body)


def _no_text(made: wire.FlightData) -> None:
    made.data_body = made.data_body.replace(b"HOSTILE", b"HOST\xff\xfeE")


_OTHER = pa.record_batch({"symbol": pa.array([1.5, 2.5]), "more": pa.array(["a", "b"])})
HOSTILE: dict[str, list[wire.FlightData | bytes]] = {
    "a body that was cut off": [SCHEMA, _changed(_cut_body)],
    "a body that is too long": [SCHEMA, _changed(_long_body)],
    "no body": [SCHEMA, _changed(_no_body)],
    "a header that was cut off": [SCHEMA, _changed(_cut_header)],
    "a header of noise": [SCHEMA, _changed(_noisy_header)],
    "offsets behind the end": [SCHEMA, _changed(_wild_offsets)],
    "text that is no UTF-8": [SCHEMA, _changed(_no_text)],
    "a batch of another schema": [SCHEMA, message(_OTHER.serialize().to_pybytes())],
    "a second schema": [SCHEMA, BATCH, message(_OTHER.schema.serialize().to_pybytes())],
    "no schema": [wire.FlightData(flight_descriptor=descriptor()), BATCH],
    "a batch first": [message(GOOD.serialize().to_pybytes(), name="market_data")],
    "a body without a header": [SCHEMA, BATCH, wire.FlightData(data_body=b"x" * 100, data_header=b"\1")],
    "no FlightData": [SCHEMA, b"\xff" * 50],
    "a FlightData that was cut off": [SCHEMA, BATCH.SerializeToString()[:-30]],
    "no descriptor": [message(GOOD.schema.serialize().to_pybytes()), BATCH],
    "a schema without columns": [message(pa.schema([]).serialize().to_pybytes(), name="market_data"), BATCH],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_stream_of_arrow_is_refused(own: RunningServer, name: str) -> None:
    """By the status of the sender's own fault, with nothing stored of it, and no incident of the server's."""
    before = metric(own, "flightsql_incidents_total")
    count = len(stored(own, "HOSTILE"))
    outcome = put(own, HOSTILE[name])
    assert (outcome.code, outcome.words.partition(" ")[0]) == ("INVALID_ARGUMENT", "[22023]")
    acknowledged = sum(found["rows"] for found in outcome.acknowledged)
    assert acknowledged == (2 if BATCH in HOSTILE[name][1:-1] else 0)
    assert len(stored(own, "HOSTILE")) == count + acknowledged
    assert metric(own, "flightsql_incidents_total") == before


def test_any_byte_of_a_batch_may_be_another(own: RunningServer) -> None:
    """Whatever was changed on the way is stored as valid rows or refused; the server goes on and counts no incident."""
    before = metric(own, "flightsql_incidents_total")
    whole = BATCH.SerializeToString()
    random_ = np.random.default_rng(11)
    for _ in range(60):
        spoilt = bytearray(whole)
        for at in random_.integers(0, len(whole), random_.integers(1, 4)):
            spoilt[at] ^= 1 << int(random_.integers(0, 8))
        outcome = put(own, [SCHEMA, bytes(spoilt)])
        assert outcome.code in ("OK", "INVALID_ARGUMENT"), outcome
    assert metric(own, "flightsql_incidents_total") == before
    assert arrow(own, "SELECT count(*) AS n FROM market_data_history").num_rows == 1
