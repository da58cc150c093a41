"""The answer to a subscription as it stands: what it has told, applied."""

from __future__ import annotations

from typing import Any

from flightsql_server.client.subscribing import Update


class Mirror:
    """Rows by key, kept up to date by ``apply``. A convenience for answers of some thousand rows: it works row by row.

    ``rows``: by the tuple of its key's values each row, as a dict without ``_seq`` and ``_change``.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}

    def apply(self, update: Update) -> None:
        """Takes an update over; the first of a new snapshot empties the mirror."""
        if update.reset:
            self.rows.clear()
        for number, row in enumerate(update.rows.to_pylist()):
            change = row.pop("_change")
            row.pop("_seq")
            key = tuple(row[name] for name in update.key) if update.key else (len(self.rows), number)
            if change == "delete":
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
