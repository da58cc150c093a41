"""How long one statement may take and how large its result may be: the server's limits and those of the caller's roles.

Whichever is lower holds, and is the one that is counted and told of when it bites.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from flightsql_auth.limits import Limits

from flightsql_server.errors import ResultTooLarge
from flightsql_server.metrics import Metrics
from flightsql_server.model import SessionOptions


@dataclass(frozen=True, slots=True)
class StatementLimits:
    """See the ``query`` and ``cache`` sections of the settings; 0 rows or bytes: no limit."""

    seconds: float = 600.0
    result_rows: int = 0
    result_bytes: int = 0
    row_bytes: int = 64 * 1024 * 1024
    cached_result_bytes: int = 256 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """What holds for one statement; 0 rows or bytes: no limit. Each with the name under which it is counted."""

    seconds: float
    seconds_name: str
    rows: int
    rows_name: str
    bytes: int
    bytes_name: str

    def check(self, metrics: Metrics, rows: int, size: int) -> None:
        """ResultTooLarge for a result that has come to so many rows and bytes."""
        if self.rows and rows > self.rows:
            metrics.limit(self.rows_name)
            raise ResultTooLarge(f"The result has more than {self.rows} rows.", hint="Add a LIMIT.")
        if self.bytes and size > self.bytes:
            metrics.limit(self.bytes_name)
            raise ResultTooLarge(f"The result has more than {self.bytes} bytes.", hint="Ask for less.")

    def checked(
        self, metrics: Metrics, batches: Iterable[pa.RecordBatch], max_rows: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """The batches as far as ``max_rows`` rows (0: all), as long as they keep to this."""
        rows = size = 0
        for batch in batches:
            part = batch.slice(0, max_rows - rows) if max_rows else batch
            rows, size = rows + part.num_rows, size + part.nbytes
            self.check(metrics, rows, size)
            yield part
            if max_rows and rows >= max_rows:
                return


def bounds(limits: StatementLimits, role: Limits, options: SessionOptions) -> Bounds:
    """What holds for a statement under these settings, for a caller of these roles who has chosen these options."""
    seconds = _lower(limits.seconds, "query.seconds", role.seconds, "role.seconds")
    rows = _lower(limits.result_rows, "query.result_rows", role.rows, "role.rows")
    size = _lower(limits.result_bytes, "query.result_bytes", role.bytes, "role.bytes")
    chosen = options.statement_timeout_seconds
    return Bounds(min(seconds[0], chosen or seconds[0]), seconds[1], int(rows[0]), rows[1], int(size[0]), size[1])


def _lower(server: float, name: str, role: float, role_name: str) -> tuple[float, str]:
    return (role, role_name) if role and (not server or role < server) else (server, name)
