"""One who sends bytes and notes what should never be in an answer."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
import pyarrow as pa

from flightsql_server.client import Publisher
from flightsql_server.protocol.interceptors import SERVICE
from flightsql_server.protocol.service import METHODS
from tests.conftest import fill
from tests.faults.rubbish import Kind
from tests.running import RunningServer, running_server

SECRET = "ZZ-4711-SECRET"
ROOT = Path(__file__).parents[2]
INSIDE = re.compile(
    r"Traceback|\bFile \"|\.py\b|site-packages|(?i:duckdb|sqlglot|pyarrow|asyncio)|/home/|/root/|/usr/|LINE \d+:"
    rf"|{re.escape(SECRET)}|{re.escape(str(ROOT))}"
)
# The default dialect bears the engine's name, and the server names the dialects that it knows.
_DIALECTS = re.compile(r"There are: (?:[a-z0-9_]+, )+[a-z0-9_]+\.|does not read as duckdb")
NEVER = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS}
GROWTH_BYTES = 100_000_000


@contextmanager
def hostile_ground(folder: Path) -> Iterator[RunningServer]:
    """A server with rows, one of them a secret that no answer may hold."""
    with running_server(folder) as server:
        fill(server)
        row = {"symbol": SECRET, "bid_price": 1.0, "ask_price": None, "last_price": None, "volume": 1, "timestamp": 0}
        with Publisher(server.url, "market_data", user="admin", password="admin") as publisher:
            schema = pa.schema([("symbol", pa.string()), *((n, pa.float64()) for n in ("bid_price", "ask_price"))])
            schema = schema.append(pa.field("last_price", pa.float64())).append(pa.field("volume", pa.int64()))
            schema = schema.append(pa.field("timestamp", pa.timestamp("us", tz="UTC")))
            publisher.publish(pa.RecordBatch.from_pylist([row], schema=schema))
        yield server


class Caller:
    """A bare channel: bytes out, bytes in."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.port}", options)
        make = {
            "unary": self._channel.unary_stream,  # one answer or many: the wire is the same
            "server_stream": self._channel.unary_stream,
            "bidi_stream": self._channel.stream_stream,
        }
        self._calls = {name: make[kind](f"/{SERVICE}/{name}") for name, (kind, _) in METHODS.items()}
        self.codes: Counter[grpc.StatusCode] = Counter()
        self.wrong: list[str] = []
        self.answer = b""  # the first message of the last call's answer

    def token(self) -> str:
        call = self._calls["Handshake"](iter(()), metadata=(("authorization", "Basic YWRtaW46YWRtaW4="),), timeout=20)
        list(call)
        found = dict(call.initial_metadata())["authorization"]
        return str(found).removeprefix("Bearer ")

    def send(self, kind: Kind, more: tuple[tuple[str, str | bytes], ...]) -> grpc.StatusCode:
        """Makes the call, reads a bounded part of the answer, and notes what should not be in it."""
        bidi = METHODS[kind.method][0] == "bidi_stream"
        request = iter(kind.messages) if bidi else kind.messages[0]
        call = self._calls[kind.method](request, metadata=(*more, *kind.headers), timeout=20)
        self.answer = b""
        try:
            for number, message in enumerate(call):
                self.answer = self.answer or message
                if number > 20:
                    call.cancel()
        except grpc.RpcError:
            pass
        code = call.code()
        told = "\n".join(
            [call.details() or "", *(f"{key}: {value!r}" for key, value in call.trailing_metadata() or ())]
        )
        self.codes[code] += 1
        where = f"{kind.method}, {kind.label}: {code.name} {told[:300]}"
        if code in NEVER:
            self.wrong.append(where)
        if INSIDE.search(_DIALECTS.sub("", told).replace(str(self._server.data_dir), "/root/")):
            self.wrong.append(f"tells of the inside: {where}")
        if code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED) and not re.match(r"\[[0-9A-Z]{5}\] ", told):
            self.wrong.append(f"no SQLSTATE: {where}")
        return code

    def close(self) -> None:
        self._channel.close()


def resident(server: RunningServer) -> int:
    """The bytes of memory that the server holds."""
    return int(psutil.Process(server.process.pid).memory_info().rss)


def assert_alive(server: RunningServer, before: int) -> None:
    """It answers, holds hardly more memory than before, and printed no traceback."""
    with server.connect("admin") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) > 500 FROM market_data")
        assert cursor.fetchone() == (True,)
    deadline = time.monotonic() + 5
    while resident(server) - before > GROWTH_BYTES and time.monotonic() < deadline:
        time.sleep(0.2)
    assert resident(server) - before < GROWTH_BYTES, f"{(resident(server) - before) >> 20} MiB more"
    printed = "".join(server.output)
    assert "Traceback" not in printed, printed[printed.index("Traceback") - 500 :][:3_000]
