"""The audit trail without a server around it: what is written, what is refused, what is lost and told."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flightsql_auth.principals import Principal

from flightsql_server.audit import AuditError, AuditOptions, AuditTrail, Outcome, files, open_key, verify
from flightsql_server.audit.files import trail_files
from flightsql_server.errors import DiskFull
from flightsql_server.metrics import Metrics
from flightsql_server.model import Entry, TableName
from tests.faults.watching import wait_until

KEY = bytes(32)
TRADER = Principal("trader", ("trader",), "token", "session-1")


@contextmanager
def trail(folder: Path, redact: Any = None, **options: Any) -> Iterator[AuditTrail]:
    one = AuditTrail(AuditOptions(folder, **options), KEY, Metrics(), redact or (lambda text, *rest: "redacted"))
    one.start("1.0")
    try:
        yield one
    finally:
        one.stop()


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for _, path in trail_files(folder) for line in path.read_text().splitlines()]


def entry(text: str = "SELECT 1", **fields: Any) -> Entry:
    made = Entry("DoGet", "ipv4:127.0.0.1:1", principal=TRADER, dialect="duckdb", statement=text, **fields)
    made.happens("statement")
    return made


def call(one: AuditTrail, text: str = "SELECT 1", code: str = "OK") -> None:
    made = entry(text)
    made.reserve = one.reserve
    made.claim()
    one.end(made, Outcome(code))


class FullDisk:
    """Lets writes to the trail fail, after the first half of them has been written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self._write = os.write
        monkeypatch.setattr(files.os, "write", self.write)

    def write(self, file: int, content: bytes) -> int:
        if self.full:
            self._write(file, bytes(content[: len(content) // 2]))
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(file, content)


def value(one: AuditTrail, name: str) -> float:
    return one._metrics.registry.get_sample_value(name) or 0.0


def test_a_line_says_who_did_what(tmp_path: Path) -> None:
    with trail(tmp_path) as one:
        made = entry("SELECT symbol FROM positions", reads=(TableName("main", "positions"),), policy="v1", rows=3)
        one.reserve(made)
        one.end(made, Outcome("OK", seconds=0.0125, sent_bytes=99))
        one.note("key rotated", TRADER, key="k2")
    first, second, third, last = lines(tmp_path)
    assert (first["event"], first["version"], last["event"]) == ("start", "1.0", "stop")
    assert first["time"] < second["time"] < third["time"]
    assert second["time"].endswith("Z")
    for name in ("time", "hash", "previous"):
        del second[name], third[name]
    assert second == {
        "sequence": 2,
        "event": "statement",
        "user": "trader",
        "method": "token",
        "roles": ["trader"],
        "session": "session-1",
        "peer": "ipv4:127.0.0.1:1",
        "command": "DoGet",
        "dialect": "duckdb",
        "statement": "SELECT symbol FROM positions",
        "reads": ["main.positions"],
        "policy": "v1",
        "rows": 3,
        "received_bytes": 0,
        "sent_bytes": 99,
        "milliseconds": 12.5,
        "outcome": "OK",
    }
    assert (third["event"], third["user"], third["key"]) == ("key rotated", "trader", "k2")


def test_what_was_only_planned_has_no_line_unless_it_was_refused(tmp_path: Path) -> None:
    with trail(tmp_path) as one:
        for code in ("OK", "NOT_FOUND"):
            made = Entry("GetFlightInfo", event="statement", dialect="duckdb", statement="SELECT 1")
            one.reserve(made)
            one.end(made, Outcome(code, "42P01"))
    assert [line.get("outcome") for line in lines(tmp_path)] == [None, "NOT_FOUND", None]


@pytest.mark.parametrize(("statements", "told"), [("full", "SELECT 'x'"), ("redacted", "redacted"), ("none", None)])
def test_statements_are_told_as_asked(tmp_path: Path, statements: str, told: str | None) -> None:
    with trail(tmp_path, statements=statements) as one:
        call(one, "SELECT 'x'")
    assert lines(tmp_path)[1].get("statement") == told


def test_others_can_not_read_it_and_long_texts_are_cut(tmp_path: Path) -> None:
    folder = tmp_path / "trail"
    with trail(folder, statement_bytes=100) as one:
        call(one, "x" * 1_000_000)
        one.note(
            "session_end", Principal("\ud800\n" + "u" * 10_000, ("r" * 1_000,) * 1_000, "token"), reason="y" * 10_000
        )
    said = lines(folder)[1]
    assert (said["statement"], said["statement_length"]) == ("x" * 100, 1_000_000)
    assert len(trail_files(folder)[0][1].read_bytes()) < 32_000
    assert verify(folder, KEY).problems == []
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_line_that_can_not_be_made_is_written_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*given: object) -> str:
        raise ValueError("a defect")

    with trail(tmp_path, broken, statements="redacted") as one:
        call(one)
        call(one)
    assert [line.get("what") for line in lines(tmp_path)[1:3]] == ["the line could not be made"] * 2
    assert "a defect" in caplog.text


def test_lines_of_many_threads_are_numbered_without_a_gap(tmp_path: Path) -> None:
    with trail(tmp_path, rotate_bytes=20_000, keep_files=0, queue_lines=100_000) as one:
        threads = [threading.Thread(target=lambda: [call(one) for _ in range(250)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [line["sequence"] for line in lines(tmp_path)] == list(range(1, 2_003))
    report = verify(tmp_path, KEY)
    assert (report.problems, report.notes, report.lines) == ([], [], 2_002)
    assert report.files > 2


def test_old_files_are_forgotten_and_that_is_no_loss_but_by_hand_it_is(tmp_path: Path) -> None:
    for _ in range(10):
        with trail(tmp_path, rotate_bytes=500, keep_files=3) as one:
            call(one)
    assert len(trail_files(tmp_path)) == 3
    report = verify(tmp_path, KEY)
    assert (report.problems, report.notes) == ([], [])
    assert report.first > 20
    trail_files(tmp_path)[0][1].unlink()
    assert f"Lines {report.first} to" in verify(tmp_path, KEY).problems[0]


def test_one_trail_at_a_time(tmp_path: Path) -> None:
    with trail(tmp_path), pytest.raises(AuditError, match=r"Another server .* audit\.folder"), trail(tmp_path):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditError, match="can't be written to"), trail(tmp_path / "file" / "folder"):
        pass
    (tmp_path / "key").write_text("short")
    with pytest.raises(AuditError, match="no key"):
        open_key(tmp_path / "key")


def test_a_trail_that_was_restored_without_its_note_or_cut_goes_on(tmp_path: Path) -> None:
    with trail(tmp_path) as one:
        call(one)
    path = trail_files(tmp_path)[0][1]
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:1]))
    with trail(tmp_path):
        pass
    assert lines(tmp_path)[1]["what"] == "lines are missing"
    assert any("lines 2 to 3 are missing" in problem for problem in verify(tmp_path, KEY).problems)
    path.write_bytes(whole)
    assert verify(tmp_path, KEY).problems == [], "what comes back is where it was"


def test_stop_refuses_calls_while_the_disk_is_full_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch)
    with trail(tmp_path, when_full="stop") as one:
        call(one)
        running = entry("SELECT 'ran while the disk filled'")
        one.reserve(running)
        one.recent()
        disk.full = True
        one.end(running, Outcome("OK"))
        wait_until(lambda: bool(one.wrong), 10, "the trail fails")
        for _ in range(3):
            with pytest.raises(DiskFull, match="audit trail"):
                one.reserve(entry())
        assert verify(tmp_path, KEY).problems == []
        disk.full = False
        wait_until(lambda: not one.wrong, 10, "the trail recovers")
        call(one)
        assert value(one, "flightsql_audit_lost_lines_total") == 0
        assert value(one, "flightsql_audit_write_errors_total") >= 1
    report = verify(tmp_path, KEY)
    assert (report.problems, report.notes) == ([], [])
    assert [line["event"] for line in lines(tmp_path)] == ["start", *["statement"] * 3, "stop"]


def test_continue_goes_on_while_the_disk_is_full_and_tells_how_much_it_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch)
    with trail(tmp_path, queue_lines=20) as one:
        one.recent()
        disk.full = True
        for _ in range(50):
            call(one)
        assert one.wrong == ""
        assert value(one, "flightsql_audit_lost_lines_total") == 30
        disk.full = False
        wait_until(lambda: len(lines(tmp_path)) == 22, 10, "what waited is written")
        call(one)
    said = lines(tmp_path)
    assert [line["lines"] for line in said if line.get("what") == "lines were lost"] == [30]
    assert sum(line["event"] == "statement" for line in said) == 21
    assert verify(tmp_path, KEY).problems == []


def test_stop_refuses_calls_while_as_many_lines_are_open_as_may_wait(tmp_path: Path) -> None:
    with trail(tmp_path, when_full="stop", queue_lines=16) as one:
        one.recent()
        held = [entry() for _ in range(16)]
        for made in held:
            one.reserve(made)
        refused = entry()
        with pytest.raises(DiskFull):
            one.reserve(refused)
        one.end(refused, Outcome("RESOURCE_EXHAUSTED", "53100"))
        one.note("session_end")  # nobody can refuse that, so it may go over the limit
        for made in held:
            one.end(made, Outcome("OK"))
        one.recent()
        call(one)
    assert sum(line["event"] == "statement" for line in lines(tmp_path)) == 17
    assert sum(line["event"] == "session_end" for line in lines(tmp_path)) == 1


def test_a_stop_does_not_wait_for_a_full_disk_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)
    with trail(tmp_path) as one:
        one.recent()
        disk.full = True
        call(one)
    assert value(one, "flightsql_audit_lost_lines_total") >= 1
    assert verify(tmp_path, KEY).problems == []
