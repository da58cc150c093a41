"""How far each dataset had got when it was last acknowledged: the proof, after a crash, that nothing is missing.

A log that is cut off or gone looks to the engine like one that ends there. The writer therefore notes each commit in a
small file of its own after it is durable; a database that stands behind the note has lost acknowledged rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from flightsql_server.errors import EngineUnavailable

WATERMARK = "acknowledged"
"""The name of the file in a data directory."""

_SIZE = 64 * 1024
_LIMIT = 2**63


class Watermark:
    """The note beside the data. Its writes reach the operating system, not always the disk: it may lag, never lead."""

    def __init__(self, path: Path) -> None:
        """Opens the file or makes it; EngineUnavailable when it can't be had. Whoever made it closes it."""
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EngineUnavailable(
                f"The note of what was acknowledged can't be opened: {error.strerror}.",
                hint=f"See what {WATERMARK!r} in the data directory is.",
            ) from error
        self._length = os.fstat(self._file).st_size

    def read(self) -> dict[str, int] | None:
        """The last ``_seq`` of each dataset; empty for a new file, None for one that can't be read."""
        content = os.pread(self._file, _SIZE, 0)
        if not content.strip(b"\0 \n"):
            return {}
        try:
            known = json.loads(content)
            found = {str(name): int(seq) for name, seq in known.items()}
            return found if all(0 <= seq < _LIMIT for seq in found.values()) else None
        except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
            return None

    def write(self, versions: Mapping[str, int]) -> None:
        """Notes the last ``_seq`` of each dataset; a process killed in the middle leaves the old note or the new."""
        content = json.dumps(versions).encode() + b"\n"
        self._length = max(self._length, len(content))
        os.pwrite(self._file, content.ljust(self._length), 0)

    def close(self) -> None:
        os.close(self._file)
