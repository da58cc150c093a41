"""A disk that can't confirm what was written: nothing is acknowledged, and the engine's file is opened anew."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from flightsql_server.client import PublishError
from tests.faults.power import LOG, compiled, lose_power, numbers, put
from tests.faults.restarting import free_port, server_on
from tests.faults.watching import ENDLESS, Client, running, wait_until
from tests.running import RunningServer

# Longer than any wait below, so that no reader ends by itself.
READER_SECONDS = 60.0


@pytest.fixture
def server(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose log can be made to fail, with a hundred rows."""
    library = compiled(tmp_path_factory.mktemp("power"))
    options = {"LD_PRELOAD": str(library), "FLIGHTSQL_QUERY_SECONDS": str(READER_SECONDS)}
    made = server_on(free_port(), tmp_path / "data", **options)
    try:
        assert put(made, 0, 100) == 1
        yield made
    finally:
        made.kill()


class Failing:
    """Within the block every sync of the log fails."""

    def __init__(self, server: RunningServer) -> None:
        self._sign = server.data_dir / f"{LOG}.failing"

    def __enter__(self) -> None:
        self._sign.touch()

    def __exit__(self, *error: object) -> None:
        self._sign.unlink()


def test_sync_that_fails_is_no_acknowledgement(server: RunningServer) -> None:
    """What was refused is not there, what was acknowledged is, also after a power loss; no restart is needed."""
    with Failing(server):
        for _ in range(2):
            with pytest.raises(PublishError, match=r"\[08006\]"):
                put(server, 100, 50)
        assert numbers(server) == list(range(100))
    assert put(server, 200, 50) == 101
    expected = [*range(100), *range(200, 250)]
    assert numbers(server) == numbers(server, "market_data") == expected
    server.kill()
    lose_power(server.data_dir)
    again = server_on(free_port(), server.data_dir)
    try:
        assert numbers(again) == numbers(again, "market_data") == expected
    finally:
        again.stop()


def test_stalled_reader_does_not_keep_the_file_closed(server: RunningServer) -> None:
    """Its statement reads a database that is no more; nobody else waits for it to go."""
    with Client(server.url) as client:
        reader = client.query(ENDLESS)
        reader.read_chunk()
        wait_until(lambda: running(server) == 1, 10, "the statement runs")
        started = time.monotonic()
        with Failing(server), pytest.raises(PublishError, match=r"\[08006\]"):
            put(server, 100, 50)
        assert put(server, 100, 50) == 101
        assert numbers(server) == list(range(150))
        assert time.monotonic() - started < READER_SECONDS / 3
        reader.cancel()
    wait_until(lambda: running(server) == 0, 10, "the statement ends")


@pytest.mark.slow
def test_statements_in_flight_end_when_the_file_is_opened_anew(server: RunningServer) -> None:
    """They fail or reach their end; none hangs, and those that come later are served."""
    ended: list[str] = []

    def ask() -> None:
        with Client(server.url) as client:
            for _ in range(50):
                try:
                    client.query("SELECT sum(volume) AS n FROM market_data_history").read_all()
                except pa.ArrowException as error:
                    ended.append(str(error))

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    for number in range(3):
        with Failing(server), pytest.raises(PublishError, match=r"\[08006\]"):
            put(server, 1_000, 10)
        assert put(server, 100 + 10 * number, 10) == 101 + 10 * number
    for thread in asking:
        thread.join(30)
        assert not thread.is_alive()
    assert all("[08006]" in text for text in ended), ended
    assert numbers(server) == list(range(130))


def test_value_that_reads_like_a_failure_is_none(server: RunningServer) -> None:
    """What a statement's values say is not what happened to the engine: only its own statement fails."""
    with Client(server.url) as client:
        for words in ("database has been invalidated", "FATAL Error: Failed", "No space left on device"):
            with pytest.raises(pa.ArrowInvalid, match=r"\[22000\]"):
                client.query(f"SELECT CAST('{words}' AS INTEGER) AS n").read_all()
    assert not any("fatal error" in line for line in server.output)
