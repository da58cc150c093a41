"""What the tests of clients in other languages share: their processes, and the lines these print."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pyarrow as pa

from tests.running import RunningServer


def run(command: Sequence[str | Path], *, seconds: float = 90, **environment: str) -> str:
    """What the process printed; one that fails or goes on too long fails the test with its last words."""
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    with process:
        try:
            printed, said = process.communicate(timeout=seconds)
            ended = f"ended with {process.returncode}"
        except subprocess.TimeoutExpired:
            process.kill()
            printed, said = process.communicate()
            ended = f"went on for {seconds} seconds"
    assert process.returncode == 0, f"{command[0]} {ended}:\n{printed[-2000:]}\n{said[-4000:]}"
    return printed


class Cases:
    """The lines of one client, by the name of their case."""

    def __init__(self, printed: str) -> None:
        lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        self._lines: dict[str, dict[str, Any]] = {line["case"]: line for line in lines}
        assert len(self._lines) == len(lines), "two cases of one name"

    def value(self, case: str) -> Any:
        """What the case found; an error instead fails the test."""
        line = self._lines[case]
        assert "error" not in line, line
        return line["value"]

    def error(self, case: str) -> str:
        """The text that the case failed with; a success fails the test."""
        line = self._lines[case]
        assert "error" in line, line
        return str(line["error"])

    def code(self, case: str) -> str:
        """The name of the gRPC status that the case failed with, from a client that tells it."""
        self.error(case)
        return str(self._lines[case]["code"])


def token_of(server: RunningServer, user: str = "reader") -> str:
    """A token that pyarrow got by a handshake."""
    client, _ = server.flight(user)
    with client:
        _, bearer = client.authenticate_basic_token(user, user)
    return str(bearer.decode().split()[1])


def plain(value: object) -> object:
    """A value of Arrow's as the other clients' programs write it: decimals and times as text, times in UTC."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime):
        naive = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
        return naive.isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    return value


def plain_rows(table: pa.Table) -> list[list[object]]:
    """The table's rows in that form."""
    columns = [[plain(value) for value in column.to_pylist()] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def arrow(server: RunningServer, sql: str, user: str = "reader") -> pa.Table:
    """The answer as the Python driver reads it, to compare others with."""
    with server.connect(user) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table()


def basic(user: str, password: str, *, padded: bool = True) -> bytes:
    """The value of a Basic authorization header."""
    encoded = base64.b64encode(f"{user}:{password}".encode())
    return b"Basic " + (encoded if padded else encoded.rstrip(b"="))


def metric(server: RunningServer, line: str) -> float:
    """The value of the series whose name and labels are ``line``; 0 when there is none yet."""
    with urlopen(f"{server.http}/metrics", timeout=10) as response:
        for text in response.read().decode().splitlines():
            if text.startswith(line + " "):
                return float(text.rsplit(" ", 1)[1])
    return 0.0
