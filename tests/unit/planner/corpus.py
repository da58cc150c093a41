"""The DuckDB statements of ``tests/fixtures/sql/duckdb``: planned, they must answer like the engine itself."""

from __future__ import annotations

from tests.unit.planner.cases import FOLDER


def statements() -> list[str]:
    """Every statement, one a line; a line that begins with blanks goes on with the one before."""
    found: list[str] = []
    for path in sorted((FOLDER / "duckdb").glob("*.sql")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):
                found[-1] += "\n" + line
            elif line and not line.startswith("--"):
                found.append(line)
    return found
