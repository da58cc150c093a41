"""FlightData messages ⇄ Arrow record batches, with one copy of the rows at most.

A ``FlightData`` (Flight.proto) holds an Arrow IPC message cut in two, its flatbuffer (``data_header``, field 2) and its
buffers (``data_body``, field 1000), beside a descriptor (field 1) and ``app_metadata`` (field 3). A generated class
would copy the rows two times more each way, so this module writes and reads these four fields itself.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from flightsql_server.errors import InvalidParameter

# 4 MiB is the limit that JavaScript's and Go's stock gRPC clients put on a message; the rest is room for headers.
MESSAGE_BYTES = 4 * 1024 * 1024 - 64 * 1024
# Below this a message is cheaper to serialise in one piece than to collect buffer by buffer.
SMALL_BATCH_BYTES = 64 * 1024

_DESCRIPTOR, _HEADER, _METADATA, _BODY = 1, 2, 3, 1000
_HEADER_TAG, _METADATA_TAG, _BODY_TAG = b"\x12", b"\x1a", b"\xc2\x3e"
_CONTINUATION = b"\xff\xff\xff\xff"
_DICTIONARY_MESSAGE, _BATCH_MESSAGE, _SCHEMA_MESSAGE = 2, 3, 1


def varint(number: int) -> bytes:
    """The protobuf base-128 form of a non-negative number."""
    if number < 128:
        return bytes((number,))
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def message_facts(header: bytes | memoryview) -> tuple[int, int]:
    """Kind and body length of the IPC message whose flatbuffer ``header`` is (Message.fbs, fields 1 and 3).

    Raises ValueError when the bytes are not such a table.
    """
    try:
        table = struct.unpack_from("<I", header, 0)[0]
        vtable = table - struct.unpack_from("<i", header, table)[0]
        if vtable < 0:
            raise ValueError("the message's table lies outside it")
        size = struct.unpack_from("<H", header, vtable)[0]
        kind_at = struct.unpack_from("<H", header, vtable + 6)[0] if size > 6 else 0
        body_at = struct.unpack_from("<H", header, vtable + 10)[0] if size > 10 else 0
        kind = header[table + kind_at] if kind_at else 0
        body = struct.unpack_from("<q", header, table + body_at)[0] if body_at else 0
    except (struct.error, IndexError) as error:
        raise ValueError("the message's header is cut short") from error
    return int(kind), int(body)


def flight_data(header: bytes | memoryview, body: list[bytes] | None = None, metadata: bytes = b"") -> bytes:
    """One serialised FlightData; ``body`` is a list of buffers that are laid end to end."""
    parts: list[bytes] = [_HEADER_TAG, varint(len(header)), header] if header else []  # type: ignore[list-item]
    if metadata:
        parts += (_METADATA_TAG, varint(len(metadata)), metadata)
    if body is not None:
        parts += (_BODY_TAG, varint(sum(map(len, body))))
        parts += body
    return b"".join(parts)


def metadata_only(metadata: bytes) -> bytes:
    """A FlightData that carries ``app_metadata`` and no rows."""
    return flight_data(b"", None, metadata)


class _Collector(io.RawIOBase):
    """A file that keeps the buffers written to it as they are; Arrow hands large ones over without a copy."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: object) -> int:
        if len(data):  # type: ignore[arg-type]
            self.parts.append(data)  # type: ignore[arg-type]
        return len(data)  # type: ignore[arg-type]

    def writable(self) -> bool:
        return True

    def take(self) -> list[bytes]:
        """The buffers since the last call."""
        parts, self.parts = self.parts, []
        return parts


def _messages(parts: list[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
    """Cuts what an Arrow stream writer wrote into (flatbuffer, body buffers) pairs."""
    at = 0
    while at < len(parts):
        prefix = b""
        while len(prefix) < 8:
            prefix += bytes(parts[at])
            at += 1
        length = struct.unpack_from("<i", prefix, 4)[0]
        header = prefix[8:]
        while len(header) < length:
            header += bytes(parts[at])
            at += 1
        remaining = message_facts(header)[1]
        body: list[bytes] = []
        while remaining > 0:
            piece = parts[at]
            body.append(piece)
            remaining -= len(piece)
            at += 1
        yield header, body


class StreamEncoder:
    """Record batches of one schema → serialised FlightData messages. Not for two threads at once.

    ``compression`` is ``lz4``, ``zstd`` or None. No message is longer than ``message_bytes`` unless a single row is.
    """

    def __init__(self, schema: pa.Schema, compression: str | None = None, message_bytes: int = MESSAGE_BYTES) -> None:
        self.schema = schema
        self._message_bytes = message_bytes
        self._sink = _Collector()
        self._compression = compression
        self._plain = compression is None and not any(_has_dictionary(field.type) for field in schema)
        self._writer: pa.RecordBatchStreamWriter | None = None

    def schema_message(self, metadata: bytes = b"") -> bytes:
        """The first message of a stream."""
        encapsulated = self.schema.serialize().to_pybytes()
        return flight_data(encapsulated[8:], None, metadata)

    def encode(self, batch: pa.RecordBatch, metadata: bytes = b"") -> Iterator[bytes]:
        """The batch's messages; ``metadata`` goes with the first one that has rows."""
        size = pa.ipc.get_record_batch_size(batch)
        if size <= self._message_bytes or batch.num_rows < 2:
            yield from self._encode_one(batch, size, metadata)
            return
        # Rows differ in width, so a piece may still be too large and is then cut again.
        rows = max(1, batch.num_rows // -(-size // self._message_bytes))
        for start in range(0, batch.num_rows, rows):
            yield from self.encode(batch.slice(start, rows), metadata)
            metadata = b""

    def _encode_one(self, batch: pa.RecordBatch, size: int, metadata: bytes) -> Iterator[bytes]:
        if self._plain and size < SMALL_BATCH_BYTES:
            view = memoryview(batch.serialize())
            length = struct.unpack_from("<i", view, 4)[0]
            yield flight_data(view[8 : 8 + length], [view[8 + length :]], metadata)  # type: ignore[list-item]
            return
        if self._writer is None:
            options = pa.ipc.IpcWriteOptions(compression=self._compression, emit_dictionary_deltas=True)
            self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, "w"), self.schema, options=options)
        self._writer.write_batch(batch)
        for header, body in _messages(self._sink.take()):
            kind = message_facts(header)[0]
            if kind != _SCHEMA_MESSAGE:  # the writer starts with its schema, which the stream has had already
                yield flight_data(header, body, metadata if kind == _BATCH_MESSAGE else b"")


def _has_dictionary(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        return True
    return any(_has_dictionary(type_.field(i).type) for i in range(type_.num_fields))


@dataclass(frozen=True, slots=True)
class FlightDataParts:
    """The four fields of one FlightData; header and body are views into the received bytes."""

    descriptor: bytes
    header: memoryview
    metadata: bytes
    body: memoryview


_EMPTY = memoryview(b"")


def split_flight_data(message: bytes) -> FlightDataParts:
    """Reads one serialised FlightData without copying its rows; InvalidParameter when it is malformed."""
    descriptor, metadata, header, body = b"", b"", _EMPTY, _EMPTY
    view, at, end = memoryview(message), 0, len(message)
    try:
        while at < end:
            tag, at = _read_varint(view, at)
            number, wire = tag >> 3, tag & 7
            if wire == 2:
                size, at = _read_varint(view, at)
                if size > end - at:
                    raise ValueError("a field is longer than the message")
                piece = view[at : at + size]
                at += size
                if number == _BODY:
                    body = piece
                elif number == _HEADER:
                    header = piece
                elif number == _METADATA:
                    metadata = bytes(piece)
                elif number == _DESCRIPTOR:
                    descriptor = bytes(piece)
            else:
                at = _skip(view, at, wire)
    except (ValueError, IndexError) as error:
        raise InvalidParameter("The message is not a FlightData.", hint="Send the messages of Flight.proto.") from error
    return FlightDataParts(descriptor, header, metadata, body)


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _skip(view: memoryview, at: int, wire: int) -> int:
    if wire == 0:
        return _read_varint(view, at)[1]
    if wire not in (1, 5) or at + (8 if wire == 1 else 4) > len(view):
        raise ValueError("a field of an unknown kind")
    return at + (8 if wire == 1 else 4)


class _Feed(io.RawIOBase):
    """A file from which Arrow reads the messages that have arrived so far."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def feed(self, header: memoryview, body: memoryview) -> None:
        padding = -len(header) % 8
        self._waiting += _CONTINUATION + struct.pack("<i", len(header) + padding)
        self._waiting += header
        self._waiting += b"\0" * padding
        self._waiting += body

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        size = len(self._waiting) if size is None or size < 0 else size
        out = bytes(self._waiting[:size])
        del self._waiting[:size]
        return out


class StreamDecoder:
    """FlightData messages of one stream → validated record batches. Not for two threads at once.

    Every batch is checked in full (offsets, UTF-8, dictionary indices) before it is handed on, since a message is
    bytes of a stranger: InvalidParameter says which message of the stream was wrong.
    """

    def __init__(self) -> None:
        self.schema: pa.Schema | None = None
        self._feed: _Feed | None = None
        self._reader: pa.RecordBatchStreamReader | None = None
        self._count = 0

    def decode(self, parts: FlightDataParts) -> pa.RecordBatch | None:
        """The message's batch, or None for one that carries none (schema, dictionary, metadata only)."""
        self._count += 1
        if not parts.header:
            return None
        try:
            return self._decode(parts)
        except (pa.ArrowException, ValueError, OSError, MemoryError) as error:
            raise InvalidParameter(
                f"Message {self._count} of the stream is not a valid Arrow IPC message.",
                hint="Send a schema first, then record batches of that schema.",
            ) from error

    def _decode(self, parts: FlightDataParts) -> pa.RecordBatch | None:
        kind, length = message_facts(parts.header)
        if kind == _SCHEMA_MESSAGE:
            if self.schema is not None:
                raise ValueError("a second schema")
            self._open(parts)
            return None
        if self.schema is None or length != len(parts.body) or kind not in (_DICTIONARY_MESSAGE, _BATCH_MESSAGE):
            raise ValueError("no schema yet, or a body of another length")
        if self._reader is None or self._feed is None:
            batch = pa.ipc.read_record_batch(_encapsulated(parts.header, parts.body), self.schema)
        else:
            self._feed.feed(parts.header, parts.body)
            if kind == _DICTIONARY_MESSAGE:
                return None
            batch = self._reader.read_next_batch()
        batch.validate(full=True)
        return batch

    def _open(self, parts: FlightDataParts) -> None:
        schema = pa.ipc.read_schema(_encapsulated(parts.header, _EMPTY))
        for field in schema:
            _check_text(field)
        self.schema = schema
        if any(_has_dictionary(field.type) for field in self.schema):
            self._feed = _Feed()
            self._feed.feed(parts.header, _EMPTY)
            self._reader = pa.ipc.open_stream(pa.PythonFile(self._feed, "r"))


def _check_text(field: pa.Field) -> None:
    """Arrow believes names and time zones to be UTF-8; a stranger's may not be: UnicodeDecodeError here, not later."""
    _ = field.name, field.metadata, getattr(field.type, "tz", None)
    for i in range(field.type.num_fields):
        _check_text(field.type.field(i))


def _encapsulated(header: memoryview, body: memoryview) -> pa.Buffer:
    padding = -len(header) % 8
    prefix = _CONTINUATION + struct.pack("<i", len(header) + padding)
    return pa.py_buffer(b"".join((prefix, header, b"\0" * padding, body)))
