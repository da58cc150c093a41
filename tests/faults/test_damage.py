"""Files that are torn, cut or corrupt: a server says so and what to do, and never serves fewer rows in silence."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from flightsql_server.client import Publisher, PublishError
from flightsql_server.data.watermark import WATERMARK
from tests.faults.power import FILE, LOG, batch
from tests.faults.restarting import BrokenServer, attempt, free_port, server_on
from tests.faults.watching import Client
from tests.running import RunningServer

KNOWN = (FILE, LOG, WATERMARK)
FOLDED, ROWS = 5_000, 10_000
READS = (
    "SELECT * FROM market_data_history",
    "SELECT * FROM market_data",
    "SELECT count(*) AS rows, count(DISTINCT symbol) AS symbols, sum(volume) AS volume FROM market_data_history",
)

Damage = Callable[[Path], None]
SLOW = pytest.mark.slow


def cut(name: str, part: float) -> Damage:
    """Keeps the first part of the file."""

    def damage(data_dir: Path) -> None:
        file = data_dir / name
        os.truncate(file, int(file.stat().st_size * part))

    return damage


def flip(name: str, part: float) -> Damage:
    """Turns one bit in the byte that lies so far in the file."""

    def damage(data_dir: Path) -> None:
        content = bytearray((data_dir / name).read_bytes())
        content[int(len(content) * part)] ^= 0x10
        (data_dir / name).write_bytes(content)

    return damage


def delete(*names: str) -> Damage:
    """Removes files."""

    def damage(data_dir: Path) -> None:
        for name in names:
            (data_dir / name).unlink()

    return damage


DAMAGES: dict[str, Damage] = {
    "log cut in half": cut(LOG, 0.5),
    "log cut to nothing": cut(LOG, 0),
    "log deleted": delete(LOG),
    "log with a flipped bit": flip(LOG, 0.5),
    "file with a flipped bit in its first header": flip(FILE, 0.0005),
    "file with a flipped bit in its last block": flip(FILE, 0.99),
    "file cut in half": cut(FILE, 0.5),
    "file cut at the end": cut(FILE, 0.95),
    "file cut to nothing": cut(FILE, 0),
    "file deleted": delete(FILE),
    "file and log deleted": delete(FILE, LOG),
}
IN_EACH_RUN = (
    "log cut in half",
    "log with a flipped bit",
    "file with a flipped bit in its first header",
    "file deleted",
)
EACH = [pytest.param(name, marks=() if name in IN_EACH_RUN else SLOW) for name in DAMAGES]


def publish(server: RunningServer, first: int, rows: int) -> None:
    """Publishes the rows in batches of a thousand; all are acknowledged when it returns."""
    with Publisher(server.url, "market_data", user="feed", password="feed") as publisher:
        for start in range(first, first + rows, 1_000):
            assert publisher.publish(batch(start, 1_000)).rows == 1_000


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a killed server: half of its rows are in the file, half in the log."""
    data_dir, port = tmp_path_factory.mktemp("killed") / "data", free_port()
    server = server_on(port, data_dir)
    publish(server, 0, FOLDED)
    assert server.stop() == 0
    server = server_on(port, data_dir)
    publish(server, FOLDED, ROWS - FOLDED)
    server.kill()
    assert (data_dir / LOG).stat().st_size > 100_000
    return data_dir


@pytest.fixture
def data_dir(killed: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(killed, tmp_path / "data"))


def contents(data_dir: Path) -> dict[str, bytes]:
    """What the files of the database hold."""
    return {name: (data_dir / name).read_bytes() for name in KNOWN if (data_dir / name).exists()}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A start that was refused, and the files that it changed or removed."""

    said: subprocess.CompletedProcess[str]
    changed: set[str]


@pytest.fixture(scope="module")
def refusal(killed: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Refusal]:
    """Tries to start a server on files with that damage, once for all tests that ask."""
    known: dict[str, Refusal] = {}

    def try_it(name: str) -> Refusal:
        if name not in known:
            data_dir = Path(shutil.copytree(killed, tmp_path_factory.mktemp("damaged") / "data"))
            DAMAGES[name](data_dir)
            before = contents(data_dir)
            said, after = attempt(data_dir), contents(data_dir)
            # A new file where none was, or none where an empty one was, takes nothing from anybody.
            changed = {file for file, content in before.items() if content and content != after.get(file)}
            known[name] = Refusal(said, changed)
        return known[name]

    return try_it


@pytest.mark.parametrize("damage", EACH)
def test_damage_is_refused_with_what_to_do(refusal: Callable[[str], Refusal], damage: str) -> None:
    said = refusal(damage).said
    assert said.returncode == 1
    last = said.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: [")
    assert "Restore a backup" in last
    assert "damaged" in last
    assert "Traceback" not in said.stderr
    if "nothing of it was changed" in last:
        assert not refusal(damage).changed


@pytest.mark.parametrize("damage", EACH)
def test_refused_start_changes_nothing(refusal: Callable[[str], Refusal], damage: str) -> None:
    """Who finds the right file after all can put it back, and what is left can be looked at."""
    assert refusal(damage).changed == set()


@pytest.mark.parametrize(
    "damage", ["log cut in half", *(pytest.param(name, marks=SLOW) for name in ("log deleted", "file and log deleted"))]
)
def test_loss_can_be_accepted(data_dir: Path, damage: str) -> None:
    """The rows that are left are served; the numbers of those that are lost are given to none."""
    DAMAGES[damage](data_dir)
    server = server_on(free_port(), data_dir, "--accept-loss")
    try:
        with Client(server.url) as client:
            seqs = client.query("SELECT _seq FROM market_data_history ORDER BY _seq").read_all()["_seq"].to_pylist()
        assert seqs == list(range(1, len(seqs) + 1))
        assert len(seqs) < ROWS
        with Publisher(server.url, "market_data", user="feed", password="feed") as publisher:
            assert publisher.publish(batch(0, 10)).first_seq == ROWS + 1
        assert any("are given up" in line for line in server.output)
    finally:
        server.stop()


@pytest.mark.parametrize("part", [0.3, *(pytest.param(n / 16 + 0.01, marks=SLOW) for n in range(16))])
def test_flipped_bit_anywhere_never_gives_fewer_rows(data_dir: Path, whole: list[pa.Table | None], part: float) -> None:
    """DuckDB reads a block when it is needed: a read of a damaged one fails, and every other gives all its rows."""
    flip(FILE, part)(data_dir)
    try:
        server = server_on(free_port(), data_dir)
    except AssertionError:
        return  # it refused to start, as the tests above want it
    try:
        for sql, right in zip(READS, whole, strict=True):
            answer = _answer(server, sql)
            assert answer is None or answer.equals(right)
    finally:
        server.kill()


@pytest.fixture(scope="module")
def whole(killed: Path, tmp_path_factory: pytest.TempPathFactory) -> list[pa.Table | None]:
    """What the statements give while nothing is damaged."""
    server = server_on(free_port(), Path(shutil.copytree(killed, tmp_path_factory.mktemp("whole") / "data")))
    try:
        answers = [_answer(server, sql) for sql in READS]
    finally:
        server.stop()
    assert [None if answer is None else answer.num_rows for answer in answers] == [ROWS, ROWS, 1]
    return answers


def _answer(server: RunningServer, sql: str) -> pa.Table | None:
    with Client(server.url) as client:
        try:
            table = client.query(sql).read_all()
        except pa.ArrowException:
            return None
    return table.sort_by(table.schema.names[0])


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\xff\x00 no note {", id="bytes"),
        pytest.param(b'{"market_data": 5', id="torn", marks=SLOW),
        pytest.param(b"[]", id="a list", marks=SLOW),
        pytest.param(b'{"market_data": null}', id="no number", marks=SLOW),
        pytest.param(b'{"market_data": 1e999}', id="no finite number", marks=SLOW),
        pytest.param(b"[" * 60_000, id="deep", marks=SLOW),
    ],
)
def test_note_that_can_not_be_read_is_told_in_the_log(data_dir: Path, garbage: bytes) -> None:
    """The rows are there, so they are served; only that they are all can't be known this once."""
    (data_dir / WATERMARK).write_bytes(garbage)
    server = server_on(free_port(), data_dir)
    try:
        assert any("note of acknowledged rows can't be read" in line for line in server.output)
        assert _count(server) == ROWS
        publish(server, ROWS, 1_000)
        server.kill()
    finally:
        server.stop()
    delete(LOG)(data_dir)
    assert f"rows up to {ROWS + 1_000} were acknowledged" in attempt(data_dir).stderr, "it is written anew"


@pytest.mark.parametrize("part", [pytest.param(0.0, marks=SLOW), 0.5, pytest.param(1.0, marks=SLOW)])
def test_commit_that_was_cut_off_unacknowledged_is_no_damage(tmp_path: Path, part: float) -> None:
    """A log may end in the middle of the last commit; what follows it is kept all the same."""
    data_dir, port = tmp_path / "data", free_port()
    with BrokenServer("dies:committed:4", port, data_dir) as dying:
        publisher = Publisher(dying.url, "market_data", user="feed", password="feed")
        for number in range(3):
            publisher.publish(batch(1_000 * number, 1_000))
        acknowledged = (data_dir / LOG).stat().st_size
        with pytest.raises(PublishError):
            publisher.publish(batch(3_000, 1_000))
        assert dying.process.wait(10) == -signal.SIGKILL
    with suppress(PublishError):
        publisher.close()
    written = (data_dir / LOG).stat().st_size
    assert written > acknowledged + 2
    os.truncate(data_dir / LOG, acknowledged + 1 + int(part * (written - acknowledged - 2)))
    server = server_on(port, data_dir)
    try:
        assert _count(server) == 3_000
        publish(server, 3_000, 2_000)
        server.kill()
        server = server_on(port, data_dir)
        assert _count(server) == 5_000
    finally:
        server.stop()


def _count(server: RunningServer) -> int:
    """The rows of history, each once, and as many latest ones: every row has a symbol of its own."""
    sql = "SELECT count(*) AS n, count(DISTINCT _seq) AS s, max(_seq) AS m FROM market_data_history"
    with Client(server.url) as client:
        history = client.query(sql).read_all().to_pylist()[0]
        latest: int = client.query("SELECT count(DISTINCT symbol) AS n FROM market_data").read_all()["n"][0].as_py()
    assert history == {"n": latest, "s": latest, "m": latest}
    return latest
