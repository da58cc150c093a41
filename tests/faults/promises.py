"""What publishers were promised, and whether it was kept: their journals against the rows of a server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.faults.publisher import AHEAD, BATCHES_OF_ONE, ROWS_OF_ONE, SINGLY, Row, rows_of
from tests.faults.watching import Client, wait_until

ROOT = Path(__file__).parents[2]
STYLES = (AHEAD, AHEAD, SINGLY)
# Until a publisher has sent again what was not acknowledged, on a machine that does much else.
FINISH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What the server said of one batch; without numbers when it had been stored before."""

    number: int
    first_seq: int | None
    last_seq: int | None
    rows: int
    duplicate: bool


Journals = Mapping[int, Sequence[Acknowledged]]


class Publishers:
    """Publisher processes, one for each style, that go on over restarts of the server. Use it as a context manager."""

    def __init__(self, url: str, folder: Path, styles: Sequence[str] = STYLES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._url = url
        self._styles = styles
        self._files = [folder / f"journal-{index}" for index in range(len(styles))]
        self._errors = [folder / f"errors-{index}" for index in range(len(styles))]
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Publishers:
        for index, (style, file, errors) in enumerate(zip(self._styles, self._files, self._errors, strict=True)):
            file.touch()
            command = [sys.executable, "-m", "tests.faults.publisher", self._url, str(index), str(file), style]
            with errors.open("wb") as sink:
                # Its input ends with this process, and that ends the publisher, however this process ends.
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=sink, cwd=ROOT)
            self._processes.append(process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait(10)
            if process.stdin is not None:
                process.stdin.close()

    def journals(self) -> dict[int, list[Acknowledged]]:
        """What each publisher has written down so far."""
        return {index: _read(file) for index, file in enumerate(self._files)}

    def acknowledged(self) -> list[int]:
        """How many batches each publisher has had acknowledged so far."""
        return [len(lines) for lines in self.journals().values()]

    def wait_for(self, batches: int, seconds: float = 30) -> None:
        """Until each publisher has had so many more batches acknowledged."""
        before = self.acknowledged()

        def come() -> bool:
            assert all(process.poll() is None for process in self._processes), self.said()
            return all(now >= then + batches for now, then in zip(self.acknowledged(), before, strict=True))

        wait_until(come, seconds, f"{batches} batches of each publisher are acknowledged")

    def finish(self) -> dict[int, list[Acknowledged]]:
        """Tells them to end, waits until all they sent is acknowledged, and gives the journals."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        deadline = time.monotonic() + FINISH_SECONDS
        for process in self._processes:
            assert process.wait(max(deadline - time.monotonic(), 0.1)) == 0, self.said()
        return self.journals()

    def said(self) -> str:
        """The last lines of what each publisher complained of."""
        return "\n".join("\n".join(file.read_text(errors="replace").splitlines()[-8:]) for file in self._errors)


def _read(file: Path) -> list[Acknowledged]:
    lines = file.read_text(encoding="ascii").split("\n")[:-1]  # what has no end yet is being written
    return [Acknowledged(*json.loads(line)) for line in lines]


@dataclass(frozen=True, slots=True)
class Stored:
    """What a server holds of ``market_data``: history by ``_seq``, and the latest rows."""

    history: list[Row]
    latest: list[Row]


def stored(url: str) -> Stored:
    """Reads it while nobody publishes."""
    with Client(url) as client:
        history = client.query("SELECT * FROM market_data_history ORDER BY _seq").read_all()
        latest = client.query("SELECT * FROM market_data").read_all()
    return Stored(history.to_pylist(), latest.to_pylist())


def check_kept(found: Stored, journals: Journals) -> None:
    """AssertionError unless the rows are what was promised.

    Every acknowledged batch stands in history under the numbers it was acknowledged with. No batch stands there twice
    or in part, those of one publisher in their order. ``_seq`` is dense. The latest rows are what history makes them.
    """
    _check_numbers(found.history)
    batches = _by_batch(found.history)
    for index, lines in journals.items():
        for line in lines:
            _check_acknowledged(index, line, batches)
    for (index, number), rows in batches.items():
        expected = rows_of(index, number)
        assert [_sent(row) for row in rows] == expected, f"batch {number} of publisher {index} is not what was sent"
        seqs = [row["_seq"] for row in rows]
        assert seqs == list(range(seqs[0], seqs[0] + len(rows))), f"batch {number} of publisher {index} lies scattered"
    for index in journals:
        numbers = [number for known, number in batches if known == index]
        assert numbers == list(range(len(numbers))), f"batches of publisher {index} are missing or out of order"
    _check_latest(found)


def _check_numbers(history: Sequence[Row]) -> None:
    seqs = [row["_seq"] for row in history]
    assert seqs == list(range(1, len(seqs) + 1)), "_seq has a gap or a repeat"
    received = [row["_received_at"] for row in history]
    assert received == sorted(received), "_received_at does not rise with _seq"
    names = {row["volume"] for row in history}
    assert len(names) == len(history), f"{len(history) - len(names)} rows are stored twice"


def _by_batch(history: Sequence[Row]) -> dict[tuple[int, int], list[Row]]:
    """The rows of each publisher's batches, in the order in which they came."""
    batches: dict[tuple[int, int], list[Row]] = {}
    for row in history:
        index, number = divmod(row["volume"] // ROWS_OF_ONE, BATCHES_OF_ONE)
        batches.setdefault((index, number), []).append(row)
    return batches


def _check_acknowledged(index: int, line: Acknowledged, batches: Mapping[tuple[int, int], Sequence[Row]]) -> None:
    rows = batches.get((index, line.number))
    assert rows, f"acknowledged and lost: batch {line.number} of publisher {index}"
    if not line.duplicate:
        found = (rows[0]["_seq"], rows[-1]["_seq"], len(rows))
        said = (line.first_seq, line.last_seq, line.rows)
        assert found == said, f"batch {line.number} of publisher {index} is not where it was acknowledged"


def _sent(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("_seq", "_received_at")}


def _check_latest(found: Stored) -> None:
    """A row replaces the row of its key unless it is older; a delete takes the row away and keeps its place."""
    standing: dict[str, Row] = {}
    for row in found.history:
        before = standing.get(row["symbol"])
        if before is None or row["timestamp"] >= before["timestamp"]:
            standing[row["symbol"]] = row
    expected = {symbol: row for symbol, row in standing.items() if row["_change"] == "upsert"}
    latest = {row["symbol"]: row for row in found.latest}
    assert len(latest) == len(found.latest), "a key has two latest rows"
    assert latest.keys() == expected.keys(), "the latest rows are of other keys than history makes them"
    for symbol, row in latest.items():
        assert row == {name: expected[symbol][name] for name in row}, f"the latest row of {symbol} is another"
