"""The proof of an audit trail: reads every line under the key and says what is not as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flightsql_server.audit.chain import BEGINNING, Line, unseal
from flightsql_server.audit.files import read_head, trail_files

_MOST_PROBLEMS = 100


@dataclass
class Report:
    """What was found. ``problems`` are signs of change or loss; ``notes`` are what a kill or a reader may leave."""

    files: int = 0
    lines: int = 0
    first: int = 0
    last: int = 0
    last_hash: str = BEGINNING
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def wrong(self, text: str) -> None:
        """Adds a problem, as long as there are not too many."""
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(text)


def verify(folder: Path, key: bytes, contains: tuple[int, str] | None = None) -> Report:
    """Reads the whole trail; OSError when that can't be done. ``contains``: a line noted elsewhere and its hash.

    A server may go on writing meanwhile.
    """
    for _ in range(3):
        try:
            return _Reading(folder, key, contains).report()
        except FileNotFoundError:
            continue  # a file that is no longer kept went away meanwhile
    return _Reading(folder, key, contains).report()


class _Reading:
    def __init__(self, folder: Path, key: bytes, contains: tuple[int, str] | None) -> None:
        self._folder = folder
        self._key = key
        self._known = {} if contains is None else {contains[0]: contains[1]}
        self._contains = contains
        self._found = Report()
        self._before: Line | None = None
        self._unreadable = 0
        self._kept_from = 1

    def report(self) -> Report:
        head = read_head(self._folder, self._key)  # first: a server may add lines while they are read
        found = self._found
        noted = head.previous if head is not None and head.sequence else ""
        if head is not None and noted and self._known.setdefault(head.sequence, noted) != noted:
            found.wrong(f"Line {head.sequence} is not the one that was noted elsewhere.")
        files = trail_files(self._folder)
        for number, path in files:
            found.files += 1
            self._read(number, path, is_last=path == files[-1][1])
        self._close(head)
        return found

    def _read(self, number: int, path: Path, *, is_last: bool) -> None:
        raw = b""
        for count, raw in enumerate(_lines(path), 1):
            if not raw.endswith(b"\n"):
                self._torn(path, len(raw), is_last=is_last)
                return
            line = unseal(self._key, raw)
            if line is None:
                self._found.wrong(f"{path.name}, line {count}: not as it was written.")
                self._unreadable += 1
                continue
            if count == 1 and line.sequence != number:
                self._found.wrong(f"{path.name} begins with line {line.sequence}: a file of another name, or cut.")
            self._follow(path, line)
        if not raw and not is_last:
            self._found.wrong(f"{path.name} is empty.")

    def _torn(self, path: Path, size: int, *, is_last: bool) -> None:
        stopped = self._before is not None and self._before.facts.get("event") == "stop"
        text = f"{path.name} ends in {size} bytes that are no whole line"
        if not is_last or stopped:
            self._found.wrong(f"{text}.")
        else:
            self._found.notes.append(f"{text}: it is being written, or its server was killed.")

    def _follow(self, path: Path, line: Line) -> None:
        found, before = self._found, self._before
        if before is None:
            found.first = line.sequence - self._unreadable
            if line.sequence == 1 and line.previous != BEGINNING:
                found.wrong(f"{path.name}: line 1 is not the first one.")
        else:
            expected = before.sequence + 1 + self._unreadable
            if line.sequence > expected:
                found.wrong(f"{path.name}: lines {expected} to {line.sequence - 1} are missing.")
            elif line.sequence < expected:
                found.wrong(f"{path.name}: line {line.sequence} stands where line {expected} should.")
            elif line.previous != before.hash and not self._unreadable:
                found.wrong(f"{path.name}: line {line.sequence} does not follow the line before it.")
        if self._known.get(line.sequence, line.hash) != line.hash:
            found.wrong(f"{path.name}: line {line.sequence} is not the one that was noted.")
        if line.facts.get("event") == "trail":
            self._kept_from = max(self._kept_from, int(line.facts.get("kept_from", 1)))
        self._before, self._unreadable = line, 0
        found.lines += 1
        found.last, found.last_hash = line.sequence, line.hash

    def _close(self, head: Line | None) -> None:
        found = self._found
        if found.lines and found.first > self._kept_from:
            found.wrong(f"Lines {self._kept_from} to {found.first - 1} are missing: nothing says that they may be.")
        if head is None and (found.files or found.lines):
            found.wrong("The note of the last line is missing or not as it was written: the end can't be proved.")
        reached = found.last + self._unreadable
        if head is not None and head.sequence > reached:
            found.wrong(f"Lines {reached + 1} to {head.sequence} are missing at the end.")
        if self._contains is not None and not found.first <= self._contains[0] <= found.last:
            found.wrong(f"Line {self._contains[0]}, which was noted elsewhere, is not there.")


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file
