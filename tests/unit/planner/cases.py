"""The statements of ``tests/fixtures/sql``: what each means in its dialect, and what is made of it.

A folder holds one dialect, a file one subject. A case reads::

    -- case: what it shows
    -- source: where the expected answer comes from: the system's documentation, or a run of that system
    SELECT the statement, over as many lines as it likes
    -- backend
    SELECT the text that the engine gets
    -- result: names, of, the, columns
    -- ["one", 1, "2.50", null]

or ends with ``-- refused: SQLSTATE word`` in the place of the last three, or with ``-- fails: word`` after the text
for the backend. A row is JSON: decimals, dates and times are texts as Python writes them. Rows are compared in any
order unless the statement ends in an order of its own. Names may be left out (``-- result``) where the dialect promises
none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "fixtures" / "sql"


@dataclass
class Case:
    """One statement; exactly one of ``rows``, ``refused`` and ``fails`` says how it ends."""

    dialect: str
    file: str
    name: str
    source: str = ""
    text: str = ""
    backend: str = ""
    columns: list[str] | None = None
    rows: list[list[object]] | None = None
    refused: tuple[str, str] | None = None
    fails: str = ""
    _lines: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.dialect}/{self.file}: {self.name}"


def cases(dialect: str) -> list[Case]:
    """Every case of a dialect."""
    found = []
    for path in sorted((FOLDER / dialect).glob("*.sql")):
        found += list(_read(path))
    return found


def dialects() -> list[str]:
    """The dialects that have cases, but for the engine's own, whose statements are compared with the engine."""
    return sorted(folder.name for folder in FOLDER.iterdir() if folder.name != "duckdb")


def _read(path: Path) -> Iterator[Case]:
    case: Case | None = None
    into = "text"
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        mark, _, rest = line.partition(": ")
        if mark == "-- case":
            if case is not None:
                yield _done(case)
            case, into = Case(path.parent.name, path.stem, rest), "text"
            continue
        if case is None:
            assert not line.strip(), f"{path}:{number}: a line before the first case"
            continue
        if mark == "-- source":
            case.source = rest
        elif line == "-- backend":
            into = "backend"
        elif line == "-- result" or mark == "-- result":
            into, case.rows = "result", []
            case.columns = rest.split(", ") if rest else None
        elif mark == "-- refused":
            state, _, word = rest.partition(" ")
            case.refused = (state, word)
        elif mark == "-- fails":
            case.fails = rest
        elif into == "result" and line.startswith("-- "):
            assert case.rows is not None
            case.rows.append(json.loads(line[3:]))
        elif into == "backend" and line.strip():
            case.backend += line + "\n"
        elif into == "text":
            case.text += line + "\n"
    if case is not None:
        yield _done(case)


def _done(case: Case) -> Case:
    case.text, case.backend = case.text.strip(), case.backend.strip()
    ends = (case.rows is not None) + (case.refused is not None) + bool(case.fails)
    assert ends == 1, f"{case}: it ends in {ends} ways"
    assert case.source, f"{case}: no source"
    assert case.text, f"{case}: no text"
    return case
