"""What a server's audit trail holds, as tests read it: the files, and nothing of the server's own code."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Line = dict[str, Any]
# The disk may be busy with what other tests force to it.
_PATIENCE_SECONDS = 60
_LONG_AGO = datetime.fromtimestamp(0, UTC)


def audit_lines(data_dir: Path) -> list[Line]:
    """The whole lines that are in the files now."""
    raw = b"".join(path.read_bytes() for path in sorted((data_dir / "audit").glob("audit-*.jsonl")))
    return [json.loads(line) for line in raw.splitlines(keepends=True) if line.endswith(b"\n")]


def audit_line(
    data_dir: Path, event: str, wanted: Callable[[Line], bool] = lambda line: True, after: datetime = _LONG_AGO
) -> Line:
    """The last line of that event that is wanted, waited for since it is written a little after the call.

    ``after``: for lines that other tests of the same server may have left as well, when this one began.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        lines = audit_lines(data_dir)
        new = [line for line in lines if datetime.fromisoformat(line["time"]) >= after]
        found = [line for line in new if line["event"] == event and wanted(line)]
        if found:
            return found[-1]
        assert time.monotonic() < until, f"no such line {event} among the last: {lines[-12:]}"
        time.sleep(0.02)
