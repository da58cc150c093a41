"""The DuckDB statements of ``corpus.sql``."""

from __future__ import annotations

from pathlib import Path


def statements() -> list[str]:
    """Every statement; a line that begins with blanks goes on with the one before."""
    found: list[str] = []
    for line in Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            found[-1] += "\n" + line
        elif line and not line.startswith("--"):
            found.append(line)
    return found
