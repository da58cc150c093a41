"""An acknowledgement means that the rows are on the disk: a machine that loses its power keeps them.

A library loaded into the server notes what was synced of DuckDB's files. The server is killed, its files are made what
they would be without everything else, and the next server must have all that was acknowledged.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from tests.faults.power import FILE, LOG, compiled, lose_power, numbers, put
from tests.faults.promises import Publishers, check_kept, stored
from tests.faults.publisher import SINGLY
from tests.faults.restarting import attempt, free_port, server_on
from tests.faults.watching import wait_until


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, compiled."""
    return compiled(tmp_path_factory.mktemp("power"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("losses", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_power_loss_under_load_loses_nothing_acknowledged(tmp_path: Path, library: Path, losses: int) -> None:
    port, data_dir = free_port(), tmp_path / "data"
    seed = random.randrange(2**32)
    print(f"seed of the moments: {seed}")
    moments = random.Random(seed)
    options = {"LD_PRELOAD": str(library), "FLIGHTSQL_ENGINE_LOG_BYTES": "200000"}
    server = server_on(port, data_dir, **options)
    try:
        with Publishers(server.url, tmp_path / "publishers") as publishers:
            publishers.wait_for(10)
            for _ in range(losses):
                time.sleep(moments.uniform(0.01, 1.0))
                server.kill()
                lose_power(data_dir, removal_lost=moments.random() < 0.5)
                server = server_on(port, data_dir, **options)
            publishers.wait_for(10)
            journals = publishers.finish()
        check_kept(stored(server.url), journals)
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("removal_lost", [False, True])
@pytest.mark.parametrize("moment", [10 + half / 2 for half in range(10)])
def test_power_loss_at_each_sync(tmp_path: Path, library: Path, moment: float, removal_lost: bool) -> None:
    """Every commit is followed by a folding of the log here, so these moments are all that there are."""
    port, data_dir = free_port(), tmp_path / "data"
    options = {"LD_PRELOAD": str(library), "FLIGHTSQL_ENGINE_LOG_BYTES": "0"}
    server = server_on(port, data_dir, **options, POWER_LOSS_AT=str(moment))
    try:
        with Publishers(server.url, tmp_path / "publishers", (SINGLY,)) as publishers:
            assert server.process.wait(60) == -signal.SIGKILL
            server.kill()
            lose_power(data_dir, removal_lost=removal_lost)
            server = server_on(port, data_dir, **options)
            publishers.wait_for(5)
            journals = publishers.finish()
        check_kept(stored(server.url), journals)
    finally:
        server.stop()


@pytest.mark.slow
def test_batch_that_is_written_past_the_log_is_on_the_disk_too(tmp_path: Path, library: Path) -> None:
    """DuckDB writes so many rows into its file at once; its log only says where."""
    port, data_dir, rows = free_port(), tmp_path / "data", 200_000
    server = server_on(port, data_dir, LD_PRELOAD=str(library))
    try:
        assert put(server, 0, rows) == 1
        server.kill()
        assert (data_dir / LOG).stat().st_size < 1_000_000 < (data_dir / FILE).stat().st_size
        lose_power(data_dir)
        server = server_on(port, data_dir)
        assert numbers(server) == numbers(server, "market_data") == list(range(rows))
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("unsynced", "log_bytes"), [("log", "200000"), pytest.param("file", "0", marks=pytest.mark.slow)]
)
def test_without_syncs_rows_are_lost_and_the_server_says_so(
    tmp_path: Path, library: Path, unsynced: str, log_bytes: str
) -> None:
    """The control: were a file not synced, the tests above would see it, and so does the server."""
    port, data_dir = free_port(), tmp_path / "data"
    server = server_on(port, data_dir, LD_PRELOAD=str(library))
    try:
        assert put(server, 0, 100) == 1
        assert server.stop() == 0
        options = {"LD_PRELOAD": str(library), "FLIGHTSQL_ENGINE_LOG_BYTES": log_bytes}
        server = server_on(port, data_dir, **options, POWER_LOSS_SWALLOW=unsynced)
        assert put(server, 100, 50) == 101
        wait_until(lambda: (data_dir / LOG).exists() == (unsynced == "log"), 10, "the log is there, or folded in")
        server.kill()
        lose_power(data_dir)

        refused = attempt(data_dir)
        assert refused.returncode == 1
        assert "market_data up to _seq 100, but rows up to 150 were acknowledged" in refused.stderr
        assert "--accept-loss" in refused.stderr
        assert "Traceback" not in refused.stderr

        server = server_on(port, data_dir, "--accept-loss")
        assert numbers(server) == list(range(100))
        assert put(server, 200, 10) == 151, "a lost row's number is never another's"
        assert server.stop() == 0
        server = server_on(port, data_dir)
        assert numbers(server) == [*range(100), *range(200, 210)]
        assert put(server, 300, 1) == 161
    finally:
        server.stop()


@pytest.mark.slow
def test_log_that_is_back_after_it_was_folded_in_counts_once(tmp_path: Path, library: Path) -> None:
    """The removal of a file reaches the disk when the system likes."""
    port, data_dir = free_port(), tmp_path / "data"
    server = server_on(port, data_dir, LD_PRELOAD=str(library), FLIGHTSQL_ENGINE_LOG_BYTES="0")
    try:
        put(server, 0, 1_000)
        wait_until(lambda: not (data_dir / LOG).exists(), 10, "the log is folded in")
        server.kill()
        assert (data_dir / f"{LOG}.unlinked").stat().st_size > 0
        lose_power(data_dir, removal_lost=True)
        assert (data_dir / LOG).stat().st_size > 0
        server = server_on(port, data_dir)
        assert numbers(server) == numbers(server, "market_data") == list(range(1_000))
        assert put(server, 1_000, 1) == 1_001
    finally:
        server.stop()
