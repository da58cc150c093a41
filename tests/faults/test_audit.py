"""The audit trail of a server that is killed, or whose disk is full: what is in it is proved, and it goes on."""

from __future__ import annotations

import random
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pytest
from adbc_driver_manager import Error as DriverError

from flightsql_server.audit import read_key, verify
from tests.audit_lines import audit_line, audit_lines
from tests.commands import refusal, run
from tests.conftest import FULL
from tests.faults.restarting import free_port, server_on
from tests.faults.test_disk_full import SmallDisk, disk
from tests.faults.watching import Client, Numbers, http, wait_until
from tests.running import RunningServer

__all__ = ["disk"]


def _asking(server: RunningServer, user: str, stop: threading.Event, answered: list[str]) -> threading.Thread:
    """Asks numbered questions until told to stop, and notes which were answered."""

    def ask() -> None:
        with suppress(pa.ArrowException, OSError), Client(server.url, user) as client:
            number = 0
            while not stop.is_set():
                text = f"SELECT '{user} {number}' AS x"
                client.query(text, 20).read_all()
                answered.append(text)
                number += 1

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def _proved(data_dir: Path) -> list[str]:
    report = verify(data_dir / "audit", read_key(data_dir / "audit.key"))
    assert report.problems == []
    return report.notes


@pytest.mark.scaled
def test_a_killed_server_leaves_a_trail_that_is_proved_and_gone_on_with(tmp_path: Path) -> None:
    """Concurrent callers, small files, kills at any moment; what was answered just before the kill may be missing."""
    data_dir, seed = tmp_path / "data", random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    kept: set[str] = set()
    for _ in range(20 if FULL else 2):
        server = server_on(free_port(), data_dir, FLIGHTSQL_AUDIT_ROTATE_BYTES="20000", FLIGHTSQL_AUDIT_KEEP_FILES="0")
        stop = threading.Event()
        answered: list[str] = []
        threads = [_asking(server, user, stop, answered) for user in ("reader", "viewer", "feed", "maker")]
        try:
            time.sleep(0.3 + chance.random())
            kept.update(answered)
            time.sleep(0.2)
        finally:
            server.kill()
            stop.set()
            for thread in threads:
                thread.join(20)
        _proved(data_dir)
        lines = audit_lines(data_dir)
        assert [line["sequence"] for line in lines] == list(range(1, len(lines) + 1))
        told = {line["statement"] for line in lines if line["event"] == "statement"}
        assert kept <= told, "what was answered a fifth of a second before the kill is in the trail"
    assert len(kept) > 50
    assert sum(line["event"] == "start" for line in lines) == (20 if FULL else 2)


@pytest.mark.slow
def test_a_tail_that_was_cut_off_is_found_before_and_after_the_next_start(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    server = server_on(free_port(), data_dir)
    try:
        with server.connect() as connection:
            assert _select(connection, "SELECT 1 AS x") == [(1,)]
        audit_line(data_dir, "statement")
    finally:
        server.stop()
    (path,) = (data_dir / "audit").glob("audit-*.jsonl")
    last = len(audit_lines(data_dir))
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-3]))
    said = refusal(run("audit", "verify", "--data-dir", str(data_dir)))
    assert f"Lines {last - 2} to {last} are missing at the end" in said
    server = server_on(free_port(), data_dir)
    server.stop()
    said = refusal(run("audit", "verify", "--data-dir", str(data_dir)))
    assert f"lines {last - 2} to {last} are missing" in said


def _select(connection: flight_sql.Connection, text: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchall()


def test_a_full_disk_stops_all_calls_where_that_is_the_setting(disk: SmallDisk, tmp_path: Path) -> None:
    """The trail has the small disk to itself; everything else has room."""
    folder = disk.folder / "audit"
    server = server_on(
        free_port(), tmp_path / "data", FLIGHTSQL_AUDIT_FOLDER=str(folder), FLIGHTSQL_AUDIT_WHEN_FULL="stop"
    )
    try:
        with server.connect("maker") as connection:
            _select(connection, "CREATE TABLE t AS SELECT 0 AS a")
            disk.fill(0)
            changed, refused = 0, ""
            for number in range(10_000):  # until the last page of the file is full, too
                try:
                    _select(connection, f"INSERT INTO t VALUES ({number}) -- {'x' * 500}")
                    changed += 1
                except DriverError as error:
                    refused = str(error)
                    break
            assert "[53100]" in refused
            assert "audit trail" in refused
            with pytest.raises(DriverError, match="53100"):
                _select(connection, "SELECT 1 AS x")
            with pytest.raises(DriverError, match="53100"):
                server.connect("reader").close()
            form = b"grant_type=client_credentials&client_id=reader&client_secret=reader"
            with pytest.raises(urllib.error.HTTPError, match="503"):
                urllib.request.urlopen(f"{server.http}/oauth/token", form, timeout=10)
            assert http(server, "/readyz")[0] == 503
            assert "audit" in http(server, "/readyz")[1]
            seen = Numbers(server)
            assert seen.total("flightsql_limits_hit_total", limit="audit.when_full") >= 3
            assert seen.total("flightsql_audit_write_errors_total") >= 1
            disk.clear()
            wait_until(lambda: http(server, "/readyz")[0] == 200, 20, "it serves again")
            assert _select(connection, "SELECT count(*) FROM t") == [(changed + 1,)]
            assert Numbers(server).total("flightsql_audit_lost_lines_total") == 0
    finally:
        server.stop()
    report = verify(folder, read_key(tmp_path / "data" / "audit.key"))
    assert (report.problems, report.notes) == ([], [])
    text = b"".join(path.read_bytes() for path in folder.glob("audit-*.jsonl")).decode()
    assert text.count('"statement":"INSERT INTO t') == changed, "whatever was done has its line"
    assert "Traceback" not in "".join(server.output)


@pytest.mark.slow
def test_a_full_disk_costs_lines_and_no_calls_where_that_is_the_setting(disk: SmallDisk, tmp_path: Path) -> None:
    folder = disk.folder / "audit"
    server = server_on(
        free_port(), tmp_path / "data", FLIGHTSQL_AUDIT_FOLDER=str(folder), FLIGHTSQL_AUDIT_QUEUE_LINES="50"
    )
    try:
        with server.connect("reader") as connection:
            disk.fill(0)
            asked = 0
            while not Numbers(server).total("flightsql_audit_lost_lines_total"):
                assert asked < 2_000
                for _ in range(20):
                    assert _select(connection, f"SELECT 1 AS x -- {'x' * 500}") == [(1,)]
                    asked += 1
            assert http(server, "/readyz")[0] == 200
            disk.clear()
            wait_until(lambda: Numbers(server).total("flightsql_audit_waiting_lines") == 0, 20, "all is written")
            lost = Numbers(server).total("flightsql_audit_lost_lines_total")
    finally:
        server.stop()
    report = verify(folder, read_key(tmp_path / "data" / "audit.key"))
    assert (report.problems, report.notes) == ([], [])
    text = b"".join(path.read_bytes() for path in folder.glob("audit-*.jsonl")).decode()
    assert f'"what":"lines were lost","lines":{lost:.0f}' in text
    assert text.count('"statement":"SELECT 1 AS x') == asked - lost


def test_a_trail_that_can_not_be_written_at_the_start_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    data_dir = tmp_path / "data"
    with pytest.raises(AssertionError, match="audit trail can't be written to") as caught:
        server_on(free_port(), data_dir, FLIGHTSQL_AUDIT_FOLDER=str(tmp_path / "file" / "audit"))
    assert "Traceback" not in str(caught.value)
