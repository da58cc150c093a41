"""The command line and what is stored: backups made and put back, updates watched, files loaded in part."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet
import pytest

from flightsql_server.client import Publisher
from flightsql_server.data.datasets import MARKET_DATA
from flightsql_server.engine import DuckDBOptions, open_engine
from flightsql_server.model import SessionOptions
from tests.commands import CLEAN, COMMAND, as_user, refusal, run, run_apart
from tests.conformance.clients import arrow
from tests.running import CONFIG, USERS, RunningServer, running_server

NOON = datetime(2026, 1, 6, 12, tzinfo=UTC)


def quotes(prefix: str, numbers: range, price: float = 1.0) -> pa.RecordBatch:
    """One quote of each symbol ``<prefix><number>``."""
    count, none = len(numbers), pa.nulls(len(numbers), pa.float64())
    times = pa.array([NOON] * count, MARKET_DATA.schema.field("timestamp").type)
    symbols, prices = pa.array([f"{prefix}{n}" for n in numbers]), pa.array([price] * count)
    columns = [symbols, none, none, prices, pa.array(numbers), times]
    return pa.RecordBatch.from_arrays(columns, schema=MARKET_DATA.schema)


def publish(server: RunningServer, *batches: pa.RecordBatch) -> None:
    with Publisher(server.url, "market_data", user="admin", password="admin") as publisher:
        list(publisher.publish_all(batches))


def one(server: RunningServer, sql: str) -> dict[str, object]:
    """The only row of the answer."""
    (row,) = arrow(server, sql, "admin").to_pylist()
    return dict(row)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose rows these tests may change."""
    with running_server(tmp_path_factory.mktemp("data")) as server:
        publish(server, quotes("FIRST", range(50)))
        yield server


# ---- backup and restore --------------------------------------------------------------------------------------------


class Feed:
    """A publisher that goes on until it is told to end; knows the last ``_seq`` that was acknowledged to it."""

    def __init__(self, server: RunningServer, prefix: str) -> None:
        self.last_seq = self.batches = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._go_on, args=(server.url, prefix))
        self._thread.start()

    def _go_on(self, url: str, prefix: str) -> None:
        with Publisher(url, "market_data", user="feed", password="feed", producer_id=prefix) as publisher:
            while not self._end.is_set():
                receipt = publisher.publish(quotes(prefix, range(5), float(self.batches)), self.batches)
                self.last_seq, self.batches = receipt.last_seq or 0, self.batches + 1

    def end(self) -> None:
        self._end.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.covers("pyarrow", "Backup")
def test_a_backup_holds_all_that_was_acknowledged_before_it(tmp_path: Path) -> None:
    """Made while two publish; put back into a new folder; history, latest and what publishers sent are as they were."""
    with running_server(tmp_path / "data") as server:
        feeds = [Feed(server, "LEFT"), Feed(server, "RIGHT")]
        try:
            until(lambda: all(feed.batches > 20 for feed in feeds))
            acknowledged = max(feed.last_seq for feed in feeds)
            sent = [feed.batches for feed in feeds]
            made = run("backup", "noon", **as_user(server, "admin"))
            until(lambda: all(feed.batches > before for feed, before in zip(feeds, sent, strict=True)))
        finally:
            for feed in feeds:
                feed.end()
        assert made.returncode == 0, made.stderr
        assert re.match(r"Backup noon, \d+ bytes, holds at least:\n", made.stdout)
        (promised,) = re.findall(r"^  market_data up to _seq (\d+)$", made.stdout, re.MULTILINE)
        assert int(promised) >= acknowledged
    backup = tmp_path / "data" / "backups" / "noon"
    said = run("restore", str(backup), "--data-dir", str(tmp_path / "new"))
    assert said.returncode == 0, said.stderr
    (held,) = re.findall(r"^  market_data up to _seq (\d+)$", said.stdout, re.MULTILINE)
    assert int(held) >= int(promised)
    with running_server(tmp_path / "new") as server:
        found = one(server, "SELECT count(*) AS n, max(_seq) AS last, min(_seq) AS first FROM market_data_history")
        assert found == {"n": int(held), "last": int(held), "first": 1}
        newest = "SELECT symbol, max(last_price) AS last_price FROM market_data_history GROUP BY symbol ORDER BY symbol"
        assert arrow(server, newest) == arrow(server, "SELECT symbol, last_price FROM market_data ORDER BY symbol")
        with Publisher(server.url, "market_data", user="feed", password="feed", producer_id="LEFT") as publisher:
            assert publisher.publish(quotes("LEFT", range(5)), sent[0] - 1).duplicate, "publishers are known as well"
            assert publisher.publish(quotes("LEFT", range(5)), 10**9).first_seq == int(held) + 1


def test_a_backup_is_its_owner_s_alone_and_a_second_copy_of_itself(running: RunningServer, tmp_path: Path) -> None:
    assert run("backup", "own", **as_user(running, "admin")).returncode == 0
    folder = running.data_dir / "backups" / "own"
    for file in (folder.parent, folder, *folder.rglob("*")):
        assert file.stat().st_mode & 0o077 == 0, file
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert run("restore", str(copy), "--data-dir", str(tmp_path / "new")).returncode == 0
    for file in (tmp_path / "new", *(tmp_path / "new").rglob("*")):
        assert file.stat().st_mode & 0o077 == 0, file


@pytest.mark.parametrize("user", ["feed", "reader", "viewer"])
def test_only_an_administrator_makes_a_backup(running: RunningServer, user: str) -> None:
    assert "[42501]" in refusal(run("backup", f"by-{user}", **as_user(running, user)))
    assert not (running.data_dir / "backups" / f"by-{user}").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../out", "/tmp/out", ".hidden", "a/b", "a b", "ä", "a\n", "x" * 101])
def test_a_name_that_a_backup_can_not_have(running: RunningServer, name: str) -> None:
    folders = (running.data_dir.parent, running.data_dir / "backups")
    before = [sorted(folder.glob("*")) for folder in folders]
    said = refusal(run("backup", "--", name, **as_user(running, "admin")))
    assert "[22023] A backup can't be called so. Use letters, digits, '.', '_' and '-'." in said
    assert [sorted(folder.glob("*")) for folder in folders] == before


def test_a_name_that_is_taken(running: RunningServer) -> None:
    assert run("backup", "twice", **as_user(running, "admin")).returncode == 0
    folder = running.data_dir / "backups" / "twice"
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    said = refusal(run("backup", "twice", **as_user(running, "admin")))
    assert "[22023] There is a backup twice already." in said
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before


def test_backups_go_where_they_are_told_to(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere" / "backups"
    config = tmp_path / "data" / "test.toml"
    config.parent.mkdir()
    config.write_text(f'{CONFIG}[server]\nbackup_dir = "{folder}"\n', encoding="utf-8")
    with running_server(tmp_path / "data") as server:
        assert run("backup", "there", **as_user(server, "admin")).returncode == 0
    assert [file.name for file in folder.iterdir()] == ["there"]


@pytest.fixture(scope="module")
def backup(running: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good backup with a few thousand rows."""
    publish(running, *(quotes("KEPT", range(1_000), float(n)) for n in range(20)))
    assert run("backup", "good", **as_user(running, "admin")).returncode == 0
    return running.data_dir / "backups" / "good"


def test_a_restore_writes_over_nothing(backup: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "note").write_text("mine")
    said = refusal(run("restore", str(backup), "--data-dir", str(taken)))
    assert f"{taken} is not empty. Move it away first: nothing is written over." in said
    assert [file.name for file in tmp_path.rglob("*")] == ["taken", "note"]


def test_a_restore_takes_an_empty_folder(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run("restore", str(backup), "--data-dir", str(tmp_path / "empty")).returncode == 0
    assert (tmp_path / "empty" / "desk.duckdb").is_file()


def test_a_folder_that_is_no_backup(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "desk.duckdb").write_bytes(b"x")
    said = refusal(run("restore", str(tmp_path / "other"), "--data-dir", str(tmp_path / "new")))
    assert f"{tmp_path / 'other'} is no backup: it has no VERSION or no keys." in said
    assert "does not exist" in refusal(run("restore", str(tmp_path / "nothing"), "--data-dir", str(tmp_path / "new")))
    assert not (tmp_path / "new").exists()


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _change_a_byte(block: int) -> Callable[[Path], None]:
    """Changes one byte of one of the database's blocks, behind its three headers."""

    def change(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[3 * 4096 + block * 256 * 1024 + 1_000] ^= 0xFF
        file.write_bytes(content)

    return change


def _take_away(file: Path) -> None:
    file.unlink()


def _another_version(file: Path) -> None:
    file.write_text("99\n")


def _rubbish(file: Path) -> None:
    file.write_bytes(b"this is nothing of the kind " * 1_000)


DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "the database was cut off": ("desk.duckdb", _cut),
    "the database is something else": ("desk.duckdb", _rubbish),
    "the database is gone": ("desk.duckdb", _take_away),
    "the users are gone": ("state.sqlite", _take_away),
    "the users are something else": ("state.sqlite", _rubbish),
    "the users were cut off": ("state.sqlite", _cut),
    "a key is something else": ("keys/signing-0001.pem", _rubbish),
    "it is of another version": ("VERSION", _another_version),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_backup_is_refused_and_leaves_nothing(backup: Path, tmp_path: Path, name: str) -> None:
    file, damage = DAMAGES[name]
    spoilt = tmp_path / "spoilt"
    shutil.copytree(backup, spoilt)
    damage(spoilt / file)
    before = sorted(tmp_path.rglob("*"))
    # What DuckDB makes of rubbish is its own affair, and should not end the tests.
    command = run_apart if file == "desk.duckdb" else run
    refusal(command("restore", str(spoilt), "--data-dir", str(tmp_path / "new")))
    assert sorted(tmp_path.rglob("*")) == before, "neither the folder nor a part of it"


def test_a_byte_that_changed_in_the_data_is_found(backup: Path, tmp_path: Path) -> None:
    """In whichever block it is: what is restored can be read, and what can't be is not restored."""
    blocks = (backup / "desk.duckdb").stat().st_size // (256 * 1024)
    refused = 0
    for block in range(blocks):
        spoilt, new = tmp_path / f"spoilt {block}", tmp_path / f"new {block}"
        shutil.copytree(backup, spoilt)
        _change_a_byte(block)(spoilt / "desk.duckdb")
        said = run("restore", str(spoilt), "--data-dir", str(new))
        if said.returncode:
            assert not new.exists()
            refused += 1
            continue
        engine = open_engine(new, DuckDBOptions())
        try:  # a block that holds no rows any more may be what it likes
            for name in ("market_data", "market_data_history"):
                rows = engine.open(f"SELECT * FROM main.{name}", SessionOptions(), 100_000)
                try:
                    while rows.read() is not None:
                        pass
                finally:
                    rows.close()
        finally:
            engine.close()
    assert refused > blocks // 2


def test_what_a_restore_makes_has_the_users(backup: Path, tmp_path: Path) -> None:
    assert run("restore", str(backup), "--data-dir", str(tmp_path / "new")).returncode == 0
    with sqlite3.connect(tmp_path / "new" / "state.sqlite") as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM users")}
    connection.close()
    assert names == set(USERS)


# ---- tail ----------------------------------------------------------------------------------------------------------


@contextmanager
def tailing(server: RunningServer, *options: str) -> Iterator[Callable[[int], list[list[str]]]]:
    """A tail of quotes in a process of its own, ended with the block; gives what reads its next lines."""
    environment = {**CLEAN, **as_user(server, "reader"), "PYTHONUNBUFFERED": "1"}
    command = [*COMMAND, "tail", "market_data", "--every", "0.05", "--for", "90", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    too_long = threading.Timer(60, process.kill)
    too_long.start()
    try:
        with process:
            assert process.stdout is not None
            lines = process.stdout
            yield lambda count: [lines.readline().rstrip("\n").split("\t") for _ in range(count)]
            process.kill()
    finally:
        too_long.cancel()


def test_tail_prints_lines_for_a_pipe_as_updates_come(running: RunningServer) -> None:
    """First the newest of before, then what comes, each once and in order."""
    publish(running, quotes("OLD", range(30)))
    with tailing(running, "--rows", "3") as read:
        head, *lines = read(4)
        for n in range(5):
            publish(running, quotes("NEW", range(2 * n, 2 * n + 2)))
            lines += read(2)
    assert head == [*MARKET_DATA.schema.names, "_seq", "_received_at", "_change"]
    assert [line[0] for line in lines] == ["OLD27", "OLD28", "OLD29", *(f"NEW{n}" for n in range(10))]
    assert [line[1] for line in lines] == [""] * 13, "null is nothing"
    numbers = [int(line[6]) for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + 13))
    assert {line[8] for line in lines} == {"upsert"}


def test_tail_catches_up_with_more_than_one_look(running: RunningServer) -> None:
    """A feed that is faster than one look can show is shown in full."""
    publish(running, quotes("FAST", range(12_000)))
    with tailing(running, "--rows", "12000") as read:
        assert [line[0] for line in read(12_001)] == ["symbol", *(f"FAST{n}" for n in range(12_000))]


def test_tail_ends_when_it_was_told_to(running: RunningServer) -> None:
    """Also of a dataset without updates."""
    started = time.monotonic()
    said = run("tail", "orders", "--for", "0.5", **as_user(running, "reader"))
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.splitlines()[1:] == []
    assert 0.5 <= time.monotonic() - started < 20


@pytest.mark.parametrize(("dataset", "user"), [("nothing", "reader"), ("orders", "viewer"), ('a"b', "reader")])
def test_tail_says_what_the_server_said(running: RunningServer, dataset: str, user: str) -> None:
    assert "[42P01]" in refusal(run("tail", dataset, "--for", "1", **as_user(running, user)))


# ---- load: what was stored before it failed ------------------------------------------------------------------------

STORED = re.compile(r"Of the file, (\d+) rows were stored before that\.")


def told_and_found(said: str, server: RunningServer, prefix: str) -> tuple[int, int]:
    """How many rows the command says were stored, and how many were."""
    told = STORED.search(said)
    count = one(server, f"SELECT count(*) AS n FROM market_data_history WHERE starts_with(symbol, '{prefix}')")["n"]
    return int(told[1]) if told else 0, int(str(count))


@pytest.mark.parametrize("bad", [1, 2, 17])
def test_load_tells_exactly_what_was_stored_before_a_bad_batch(
    running: RunningServer, tmp_path: Path, bad: int
) -> None:
    """A file is sent in batches of 10 000 rows, several ahead of their receipts; the one at fault ends the load."""
    prefix, rows = f"BAD{bad}-", 10_000 * (bad + 3)
    table = pa.Table.from_batches([quotes(prefix, range(rows))])
    symbols = table["symbol"].to_pylist()
    symbols[10_000 * bad + 77] = None
    file = tmp_path / "quotes.parquet"
    parquet.write_table(table.set_column(0, pa.field("symbol", pa.string()), pa.array(symbols)), file)
    said = refusal(run("load", "market_data", str(file), **as_user(running, "feed")))
    assert "[22023] Column symbol of market_data is null in row 77." in said
    assert told_and_found(said, running, prefix) == (10_000 * bad, 10_000 * bad)


def test_load_tells_exactly_what_was_stored_before_a_line_that_can_not_be_read(
    running: RunningServer, tmp_path: Path
) -> None:
    """The rows that were read before it have been sent, so they count, whether their receipts had come or not."""
    file = tmp_path / "quotes.csv"
    csv.write_csv(pa.Table.from_batches([quotes("LINE-", range(60_000))]), file)
    with file.open("a", encoding="utf-8") as more:
        more.write("LINE-bad,1,2\n")
    said = refusal(run("load", "market_data", str(file), **as_user(running, "feed")))
    assert "quotes.csv can't be read" in said
    told, found = told_and_found(said, running, "LINE-")
    assert told == found
    assert found > 0


def test_load_tells_nothing_of_rows_when_none_was_stored(running: RunningServer, tmp_path: Path) -> None:
    file = tmp_path / "quotes.parquet"
    table = pa.Table.from_batches([quotes("NONE-", range(30_000))])
    parquet.write_table(table.set_column(0, pa.field("symbol", pa.string()), pa.nulls(30_000, pa.string())), file)
    said = refusal(run("load", "market_data", str(file), **as_user(running, "feed")))
    assert "null in row 0" in said
    assert STORED.search(said) is None
    assert told_and_found(said, running, "NONE-") == (0, 0)
