"""A disk that is full: batches are refused, reads go on, and once there is room so do batches, without a restart.

The disk is a small one of its own, mounted for the test, so these tests need root.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import duckdb
import pyarrow.flight as flight
import pytest

from flightsql_server.client import PublishError
from flightsql_server.data.datasets import MARKET_DATA
from flightsql_server.engine.duckdb import DuckDBEngine
from flightsql_server.errors import DiskFull, EngineUnavailable
from tests.desk import Desk, open_desk
from tests.faults.power import LOG, batch, numbers, put
from tests.faults.restarting import free_port, server_on
from tests.faults.watching import Numbers, http

MEGABYTE = 1024**2
DISK_BYTES, RESERVE_BYTES = 64 * MEGABYTE, 8 * MEGABYTE


class SmallDisk:
    """A mounted disk of 64 MiB; a file on it can take the room away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def free(self) -> int:
        """The bytes that are left."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int) -> None:
        """Takes all room but so many bytes."""
        with self._filler.open("ab", buffering=0) as file, suppress(OSError):
            while (wanted := self.free() - leave) > 0:
                file.write(bytes(min(wanted, MEGABYTE)))
        assert self.free() <= leave + 4_096

    def clear(self) -> None:
        """Gives the room back."""
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk, mounted; skipped where that is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("a small disk can be mounted by root alone")
    command = [mount, "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


def test_batches_are_refused_while_the_reserve_is_touched(disk: SmallDisk) -> None:
    data_dir = disk.folder / "data"
    server = server_on(free_port(), data_dir, FLIGHTSQL_INGEST_RESERVE_BYTES=str(RESERVE_BYTES))
    try:
        for number in range(3):
            assert put(server, 1_000 * number, 1_000) == 1_000 * number + 1
        disk.fill(RESERVE_BYTES - MEGABYTE)
        for _ in range(2):
            with pytest.raises(PublishError, match=r"^\[53100\].*nearly full.*made room"):
                put(server, 3_000, 1_000)
            assert numbers(server) == list(range(3_000))
        seen = Numbers(server)
        assert seen.total("flightsql_limits_hit_total", limit="ingest.reserve_bytes") == 2
        assert seen.total("flightsql_calls_total", method="DoPut", code="RESOURCE_EXHAUSTED") == 2
        assert 0 < seen.total("flightsql_disk_free_bytes") < RESERVE_BYTES
        assert http(server, "/readyz") == (200, "ok\n")
        disk.clear()
        assert put(server, 3_000, 1_000) == 3_001
        assert numbers(server) == numbers(server, "market_data") == list(range(4_000))
        disk.fill(RESERVE_BYTES - MEGABYTE)
        server.kill()
        server = server_on(free_port(), data_dir, FLIGHTSQL_INGEST_RESERVE_BYTES=str(RESERVE_BYTES))
        assert numbers(server) == list(range(4_000)), "a start needs no room"
        with pytest.raises(PublishError, match=r"^\[53100\]"):
            put(server, 4_000, 1)
        disk.clear()
        assert put(server, 4_000, 1) == 4_001
        assert "Traceback" not in "".join(server.output)
    finally:
        server.stop()


def test_login_on_a_full_disk_is_told_of_it_and_those_who_are_logged_in_go_on(disk: SmallDisk) -> None:
    server = server_on(free_port(), disk.folder / "data", FLIGHTSQL_INGEST_RESERVE_BYTES=str(RESERVE_BYTES))
    try:
        put(server, 0, 100)
        client, options = server.flight("reader")
        with client:
            disk.fill(0)
            refused = ""
            for _ in range(200):  # the store's log may still have room in its last page
                try:
                    server.flight("reader")[0].close()
                except Exception as error:
                    refused = str(error)
                    break
            assert "[53100] the server's disk is full" in refused
            assert client.do_get(flight.Ticket(b"market_data"), options).read_all().num_rows == 100
        disk.clear()
        assert numbers(server) == list(range(100))
        assert "Traceback" not in "".join(server.output)
    finally:
        server.stop()


def test_file_that_may_not_grow_is_a_full_disk(tmp_path: Path) -> None:
    """Without a reserve, and with a limit in place of a full disk: the engine's own write fails. Needs no root."""
    server = server_on(free_port(), tmp_path / "data", FLIGHTSQL_INGEST_RESERVE_BYTES="0")
    try:
        assert put(server, 0, 5_000) == 1
        hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)[1]
        length = (server.data_dir / LOG).stat().st_size
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (length + 10_000, hard))
        for _ in range(2):
            with pytest.raises(PublishError, match=r"^\[53100\]"):
                put(server, 5_000, 1_000)
            assert numbers(server) == list(range(5_000))
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert put(server, 5_000, 1_000) == 5_001
        server.kill()
        server = server_on(free_port(), tmp_path / "data")
        assert numbers(server) == numbers(server, "market_data") == list(range(6_000))
    finally:
        server.stop()


# ---- the engine itself meets the end of the disk ---------------------------------------------------------------------


def _send(desk: Desk, first: int, rows: int) -> int | None:
    return desk.send(MARKET_DATA, batch(first, rows)).result(60).first_seq


def _volumes(desk: Desk, table: str = "market_data_history") -> list[int]:
    found: list[int] = desk.table(f"SELECT volume FROM {table} ORDER BY volume")["volume"].to_pylist()
    return found


def _killed_now(desk: Desk, files: Path, copy: Path) -> list[int]:
    """What the next server would find if this process were killed now."""
    shutil.copytree(files, copy)
    with open_desk(copy) as found:
        assert _volumes(found) == _volumes(found, "market_data")
        return _volumes(found)


@pytest.mark.parametrize(("rows", "leave"), [(1_000, 0), (1_000, 64 * 1024), (150_000, 2 * MEGABYTE)])
def test_commit_that_meets_a_full_disk_is_no_commit(disk: SmallDisk, tmp_path: Path, rows: int, leave: int) -> None:
    """In the log, at its first byte or in the middle; in the file itself, where a large batch goes."""
    files = disk.folder / "data"
    files.mkdir()
    with open_desk(files) as desk:
        assert _send(desk, 0, 2_000) == 1
        disk.fill(leave)
        for _ in range(2):
            waiting = [desk.send(MARKET_DATA, batch(2_000 + rows * number, rows)) for number in range(2)]
            for future in waiting:
                assert isinstance(future.exception(60), DiskFull)
            assert _volumes(desk) == _volumes(desk, "market_data") == list(range(2_000))
        assert _killed_now(desk, files, tmp_path / "full") == list(range(2_000))
        disk.clear()
        assert _send(desk, 2_000, rows) == 2_001
        expected = list(range(2_000 + rows))
        assert _volumes(desk) == _volumes(desk, "market_data") == expected
        assert _killed_now(desk, files, tmp_path / "room") == expected
    with open_desk(files) as desk:
        assert _volumes(desk) == expected


def test_engine_opens_its_file_anew_after_a_fatal_error(disk: SmallDisk, tmp_path: Path) -> None:
    """Folding the log into the file meets the end of the disk: DuckDB then refuses all that follows, until reopened."""
    files = disk.folder / "data"
    files.mkdir()
    with open_desk(files) as desk:
        for number in range(10):
            assert _send(desk, 1_000 * number, 1_000) == 1_000 * number + 1
        disk.fill(0)
        _fold_in_vain(desk)
        assert _after_at_most_one_failure(desk) == list(range(10_000)), "reads go on while the disk is full"
        with pytest.raises(DiskFull):
            _send(desk, 10_000, 1_000)
        assert _killed_now(desk, files, tmp_path / "full") == list(range(10_000))
        _fold_in_vain(desk)
        disk.clear()
        assert _after_at_most_one_failure(desk) == list(range(10_000))
        assert _send(desk, 10_000, 1_000) == 10_001
        desk.engine.tidy()
        assert _send(desk, 11_000, 1_000) == 11_001
        assert _volumes(desk) == _volumes(desk, "market_data") == list(range(12_000))
        assert _killed_now(desk, files, tmp_path / "room") == list(range(12_000))
    with open_desk(files) as desk:
        assert _volumes(desk) == list(range(12_000))


def _fold_in_vain(desk: Desk) -> None:
    """What ``tidy`` does when it believes that there is room."""
    assert isinstance(desk.engine, DuckDBEngine)
    connection = desk.engine._file.cursor()
    try:
        with pytest.raises(duckdb.FatalException, match="No space left"):
            connection.execute("CHECKPOINT")
    finally:
        connection.close()


def _after_at_most_one_failure(desk: Desk) -> list[int]:
    """The call that finds the database refusing everything may fail; the next one is served."""
    try:
        return _volumes(desk)
    except (EngineUnavailable, DiskFull):
        return _volumes(desk)
