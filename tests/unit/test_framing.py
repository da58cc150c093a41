"""FlightData ⇄ Arrow: what goes in comes out, messages stay small, and bytes of strangers do no harm."""

from __future__ import annotations

import random
from itertools import pairwise

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flightsql_server.errors import InvalidParameter
from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol.framing import (
    MESSAGE_BYTES,
    StreamDecoder,
    StreamEncoder,
    flight_data,
    metadata_only,
    split_flight_data,
    varint,
)
from tests.arrow_data import batches, schemas
from tests.conftest import examples


def _run(full: int) -> settings:
    return settings(
        max_examples=examples(full), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
    )


FOUR_MIB = 4 * 1024 * 1024


def _decoded(messages: list[bytes]) -> tuple[pa.Schema | None, list[pa.RecordBatch]]:
    decoder = StreamDecoder()
    found = [decoder.decode(split_flight_data(message)) for message in messages]
    return decoder.schema, [batch for batch in found if batch is not None]


def _encoded(schema: pa.Schema, sent: list[pa.RecordBatch], compression: str | None = None, **more: int) -> list[bytes]:
    encoder = StreamEncoder(schema, compression, **more)
    return [encoder.schema_message(), *(message for batch in sent for message in encoder.encode(batch))]


def _table(schema: pa.Schema, found: list[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(found, schema)


@pytest.mark.scaled
@_run(2_000)
@given(st.data(), schemas(), st.sampled_from([None, "lz4", "zstd"]))
def test_what_is_encoded_is_decoded(data: st.DataObject, schema: pa.Schema, compression: str | None) -> None:
    sent = data.draw(st.lists(batches(schema), max_size=4))
    found_schema, found = _decoded(_encoded(schema, sent, compression))
    assert found_schema is not None
    assert found_schema.equals(schema, check_metadata=True)
    assert [batch.num_rows for batch in found] == [batch.num_rows for batch in sent]
    for one, other in zip(found, sent, strict=True):
        assert one.schema.equals(schema)
        assert one.to_pylist() == other.to_pylist() if len(set(schema.names)) == len(schema) else one.equals(other)


@pytest.mark.scaled
@_run(500)
@given(st.data(), schemas())
def test_arrow_reads_what_the_encoder_writes(data: st.DataObject, schema: pa.Schema) -> None:
    """Arrow's own reader, fed with the same flatbuffers and bodies, finds the same rows."""
    sent = data.draw(st.lists(batches(schema), max_size=3))
    stream = bytearray()
    for message in _encoded(schema, sent):
        parsed = wire.FlightData.FromString(message)
        padding = -len(parsed.data_header) % 8
        stream += b"\xff\xff\xff\xff" + (len(parsed.data_header) + padding).to_bytes(4, "little")
        stream += parsed.data_header + b"\0" * padding + parsed.data_body
    table = pa.ipc.open_stream(bytes(stream)).read_all()
    assert table.schema.equals(schema)
    assert table.num_rows == sum(batch.num_rows for batch in sent)
    table.validate(full=True)


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_big_batches_are_cut_below_four_mebibytes(compression: str | None) -> None:
    rows = 900_000
    noise = random.Random(5).randbytes(rows)
    batch = pa.RecordBatch.from_pydict(
        {
            "n": pa.array(range(rows)),
            "text": pa.array([f"{byte:x}" * (byte % 40) for byte in noise]),
            "kind": pa.array([str(byte % 7) for byte in noise]).dictionary_encode(),
        }
    )
    messages = _encoded(batch.schema, [batch], compression)
    assert len(messages) > 4
    assert max(map(len, messages)) < FOUR_MIB
    _, found = _decoded(messages)
    assert _table(batch.schema, found).cast(pa.table(batch).schema).equals(pa.table(batch))


def test_a_batch_of_uneven_rows_is_cut_by_size_not_by_count() -> None:
    """Nine tenths of the bytes stand in the last tenth of the rows."""
    batch = pa.RecordBatch.from_pydict({"text": ["x"] * 9_000 + ["y" * 20_000] * 1_000})
    messages = _encoded(batch.schema, [batch])
    assert max(map(len, messages)) < FOUR_MIB
    assert _table(batch.schema, _decoded(messages)[1]).equals(pa.table(batch))


def test_one_row_that_is_too_big_goes_whole() -> None:
    batch = pa.RecordBatch.from_pydict({"text": ["x" * (FOUR_MIB + 1), "y"]})
    messages = _encoded(batch.schema, [batch])
    assert _table(batch.schema, _decoded(messages)[1]).equals(pa.table(batch))
    assert sum(len(message) > FOUR_MIB for message in messages) == 1


@pytest.mark.parametrize("rows", [0, 1, 5_000])
def test_metadata_goes_with_the_first_rows(rows: int) -> None:
    batch = pa.RecordBatch.from_pydict({"n": pa.array(range(rows), pa.int64())})
    encoder = StreamEncoder(batch.schema, message_bytes=16_384)
    parts = [split_flight_data(message) for message in encoder.encode(batch, b"note")]
    assert parts[0].metadata == b"note"
    assert all(not part.metadata for part in parts[1:])
    assert split_flight_data(encoder.schema_message(b"first")).metadata == b"first"


def test_metadata_of_dictionary_columns_goes_with_the_rows() -> None:
    batch = pa.RecordBatch.from_pydict({"kind": pa.array(["a", "b"]).dictionary_encode()})
    parts = [split_flight_data(message) for message in StreamEncoder(batch.schema).encode(batch, b"note")]
    assert [part.metadata for part in parts] == [b"", b"note"]


def test_a_message_of_metadata_alone_carries_no_rows() -> None:
    parts = split_flight_data(metadata_only(b"beat"))
    assert (parts.metadata, bytes(parts.header), bytes(parts.body)) == (b"beat", b"", b"")
    assert StreamDecoder().decode(parts) is None


@pytest.mark.scaled
@_run(1_000)
@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=50))
def test_messages_are_those_of_the_generated_class(header: bytes, body: bytes, metadata: bytes) -> None:
    made = wire.FlightData.FromString(flight_data(header, [body], metadata))
    assert (made.data_header, made.data_body, made.app_metadata) == (header, body, metadata)
    descriptor = wire.FlightDescriptor(type=wire.FlightDescriptor.PATH, path=["orders"])
    message = wire.FlightData(flight_descriptor=descriptor, data_header=header, data_body=body, app_metadata=metadata)
    parts = split_flight_data(message.SerializeToString())
    assert (bytes(parts.header), bytes(parts.body), parts.metadata) == (header, body, metadata)
    assert wire.FlightDescriptor.FromString(parts.descriptor) == descriptor


@given(st.integers(1, 2**63 - 1))
def test_numbers_are_those_of_protobuf(number: int) -> None:
    assert wire.FlightInfo(total_records=number).SerializeToString()[1:] == varint(number)


def test_unknown_fields_are_skipped() -> None:
    """A newer client may send fields that this server has not heard of."""
    message = b"\x28\x96\x01" + b"\x31" + b"\0" * 8 + b"\x3d" + b"\0" * 4 + b"\x42\x02hi" + metadata_only(b"beat")
    assert split_flight_data(message).metadata == b"beat"


# ---- bytes of strangers --------------------------------------------------------------------------------------------


def _samples() -> list[list[bytes]]:
    plain = pa.RecordBatch.from_pydict(
        {
            "n": [1, None, 3],
            "text": ["a", "bc", None],
            "list": [[1], [], None],
            "when": pa.array([0, 1, None], pa.timestamp("us", tz="UTC")),
            "flag": [True, None, False],
            "view": pa.array(["short", "long enough to stand elsewhere", None], pa.string_view()),
        }
    )
    encoded = pa.RecordBatch.from_pydict({"kind": pa.array(["a", "b", "a"]).dictionary_encode(), "n": [1, 2, 3]})
    return [
        _encoded(batch.schema, [batch, batch], compression)
        for batch in (plain, encoded)
        for compression in (None, "lz4", "zstd")
    ]


SAMPLES = _samples()


def _harmless(messages: list[bytes]) -> bool:
    """Whether the stream was taken; every batch that was is valid, and nothing but InvalidParameter is raised."""
    try:
        for batch in _decoded(messages)[1]:
            batch.validate(full=True)
            # Every value is read, but not made one of Python's, which has no such dates as bytes can say.
            assert pa.concat_batches([batch, batch]).slice(0, batch.num_rows).equals(batch) or _has_nan(batch)
    except InvalidParameter:
        return False
    return True


def _has_nan(batch: pa.RecordBatch) -> bool:
    """Changed bytes can turn a number's type into a float's, and NaN is equal to nothing."""
    return any(pa.types.is_floating(column.type) or pa.types.is_nested(column.type) for column in batch.columns)


@pytest.mark.parametrize("messages", SAMPLES, ids=lambda messages: f"{len(messages)}-{len(messages[1])}")
def test_samples_are_taken_as_they_are(messages: list[bytes]) -> None:
    assert _harmless(messages)


@pytest.mark.scaled
@_run(20_000)
@given(st.sampled_from(SAMPLES), st.data())
def test_changed_bytes_are_refused_or_harmless(messages: list[bytes], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(messages) - 1))
    changed = bytearray(messages[number])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    _harmless([*messages[:number], bytes(changed), *messages[number + 1 :]])


@pytest.mark.scaled
@_run(5_000)
@given(st.sampled_from(SAMPLES), st.data())
def test_header_and_body_changed_behind_a_right_envelope(messages: list[bytes], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(messages) - 1))
    parts = split_flight_data(messages[number])
    pieces = [bytearray(parts.header), bytearray(parts.body)]
    for _ in range(data.draw(st.integers(1, 8))):
        piece = pieces[data.draw(st.integers(0, 1 if pieces[1] else 0))]
        at = data.draw(st.integers(0, len(piece) - 1))
        size = data.draw(st.sampled_from([1, 2, 4, 8]))
        piece[at : at + size] = data.draw(
            st.binary(min_size=size, max_size=size) | st.sampled_from([b"\xff" * size, b"\0" * size])
        )
        del piece[max(len(parts.header), len(parts.body)) :]
    changed = flight_data(bytes(pieces[0]), [bytes(pieces[1])])
    _harmless([*messages[:number], changed, *messages[number + 1 :]])


@pytest.mark.parametrize("messages", SAMPLES, ids=lambda messages: f"{len(messages)}-{len(messages[1])}")
def test_a_stream_cut_anywhere_is_refused_or_harmless(messages: list[bytes]) -> None:
    for number, message in enumerate(messages):
        for length in range(0, len(message), 7 if len(message) > 400 else 1):
            _harmless([*messages[:number], message[:length], *messages[number + 1 :]])


@pytest.mark.parametrize("messages", SAMPLES, ids=lambda messages: f"{len(messages)}-{len(messages[1])}")
def test_messages_out_of_order_are_refused_or_harmless(messages: list[bytes]) -> None:
    assert not _harmless(messages[1:]), "rows before their schema"
    assert not _harmless([messages[0], *messages]), "a schema twice"
    _harmless(messages[::-1])
    for one, other in pairwise(SAMPLES):
        _harmless([one[0], *other[1:]])


@pytest.mark.scaled
@_run(5_000)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4))
def test_noise_is_refused_or_harmless(messages: list[bytes]) -> None:
    _harmless(messages)


def test_giant_lengths_are_refused_at_once() -> None:
    header_tag = b"\x12"
    for length in (1 << 20, 1 << 31, 1 << 40, 1 << 62):
        with pytest.raises(InvalidParameter):
            split_flight_data(header_tag + varint(length) + b"x")


def test_a_small_message_can_not_ask_for_much_memory() -> None:
    """A compressed body says how long it will be; a lie is refused, not believed."""
    batch = pa.RecordBatch.from_pydict({"text": ["x" * 5_000]})
    messages = _encoded(batch.schema, [batch], "zstd")
    parts = split_flight_data(messages[1])
    body = bytes(parts.body)
    for length in (1 << 40, 1 << 62, (1 << 63) - 1, -5):
        for at in range(0, len(body) - 8, 8):
            changed = body[:at] + length.to_bytes(8, "little", signed=True) + body[at + 8 :]
            before = pa.total_allocated_bytes()
            _harmless([messages[0], flight_data(parts.header, [changed])])
            assert pa.total_allocated_bytes() - before < 10_000_000


def test_pyarrow_clients_are_read() -> None:
    """The descriptor rides in the first message; pyarrow's own serialisation of it is understood."""
    descriptor = flight.FlightDescriptor.for_path("market_data")
    parsed = wire.FlightDescriptor.FromString(descriptor.serialize())
    message = wire.FlightData(flight_descriptor=parsed).SerializeToString()
    assert wire.FlightDescriptor.FromString(split_flight_data(message).descriptor).path == ["market_data"]


def test_the_limit_leaves_room_for_headers() -> None:
    assert MESSAGE_BYTES <= FOUR_MIB - 32 * 1024
