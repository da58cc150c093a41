"""DuckDB's file is closed with the engine, whoever still holds what was read from it, and can be opened again at once.

DuckDB waits busily and for ever where a file is opened while results of the database before are held in the process.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flightsql_server.engine import DuckDBOptions, open_engine
from flightsql_server.errors import EngineUnavailable, ServerError
from flightsql_server.model import Engine, SessionOptions

pytestmark = pytest.mark.timeout(60)
PLAIN = SessionOptions()
LONG = "SELECT * FROM range(100_000)"


def _opened(folder: Path) -> Engine:
    return open_engine(folder, DuckDBOptions(threads=1))


def test_what_nobody_has_let_go_of_does_not_hold_up_the_next_start(tmp_path: Path) -> None:
    """Here a reader in a circle, as frames of an exception make."""
    gc.disable()
    try:
        first = _opened(tmp_path)
        connection = first._file.cursor()  # type: ignore[attr-defined]
        circle: list[Any] = [connection.sql("SELECT * FROM range(100_000)").to_arrow_reader(1_000)]
        circle[0].read_next_batch()
        connection.close()
        circle.append(circle)
        del circle
        first.close()
        _opened(tmp_path).close()
    finally:
        gc.enable()


def _stream(engine: Engine) -> Callable[[], object]:
    stream = engine.open(LONG, PLAIN, 1_000)
    stream.read()
    return stream.read


def _transaction(engine: Engine) -> Callable[[], object]:
    batches = engine.begin(PLAIN).read(LONG, (), 1_000)
    next(batches)
    return lambda: next(batches)


@pytest.mark.parametrize("begin", [_stream, _transaction])
def test_what_is_still_read_when_the_engine_closes_does_not_hold_up_the_next_start(
    tmp_path: Path, begin: Callable[[Engine], Callable[[], object]]
) -> None:
    first = _opened(tmp_path)
    goes_on = begin(first)
    first.close()
    _opened(tmp_path).close()
    with pytest.raises(ServerError) as refused:
        goes_on()
    assert isinstance(refused.value, EngineUnavailable)


def test_a_transaction_that_is_closed_lets_go_of_what_was_read_in_it(tmp_path: Path) -> None:
    first = _opened(tmp_path)
    work = first.begin(PLAIN)
    batches = work.read(LONG, (), 1_000)
    next(batches)
    work.close()
    del work
    first._held.clear()  # type: ignore[attr-defined]
    first.close()
    _opened(tmp_path).close()
    with pytest.raises(EngineUnavailable):
        next(batches)
