"""What a server's audit trail holds, as tests read it: the files, and nothing of the server's own code."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Line = dict[str, Any]
# The disk may be busy with what other tests force to it.
_PATIENCE_SECONDS = 60


def audit_lines(data_dir: Path) -> list[Line]:
    """The whole lines that are in the files now."""
    raw = b"".join(path.read_bytes() for path in sorted((data_dir / "audit").glob("audit-*.jsonl")))
    return [json.loads(line) for line in raw.splitlines(keepends=True) if line.endswith(b"\n")]


def audit_line(data_dir: Path, event: str, wanted: Callable[[Line], bool] = lambda line: True) -> Line:
    """The last line of that event that is wanted, waited for since it is written a little after the call."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        lines = audit_lines(data_dir)
        found = [line for line in lines if line["event"] == event and wanted(line)]
        if found:
            return found[-1]
        assert time.monotonic() < until, f"no such line {event} among the last: {lines[-12:]}"
        time.sleep(0.02)
