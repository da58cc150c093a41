"""``tail``: the newest updates of a dataset as they come, as a table that changes in place or as lines for a pipe."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
from rich.console import Console
from rich.live import Live

from flightsql_server.cli.client import connected, connection_options, table_of

# Rows asked for at a time; a feed that is faster than the screen is caught up with in several steps.
_STEP_ROWS = 5_000


@click.command()
@click.argument("dataset")
@connection_options
@click.option("--rows", type=click.IntRange(1), default=20, show_default=True, help="Updates to show.")
@click.option(
    "--every", "seconds", type=click.FloatRange(0.05), default=0.5, show_default=True, help="Seconds between two looks."
)
@click.option("--for", "duration", type=float, help="Seconds after which to end; else Ctrl-C ends it.")
def tail(
    dataset: str,
    url: str | None,
    user: str | None,
    password_file: Path | None,
    rows: int,
    seconds: float,
    duration: float | None,
) -> None:
    """Watch the updates of a dataset on a running server as they come."""
    console = Console()
    end = time.monotonic() + duration if duration is not None else float("inf")
    with connected(url, user, password_file, None) as cursor:
        updates = _updates(cursor, dataset, rows)
        if not console.is_terminal:
            _print_lines(updates, seconds, end)
            return
        kept: deque[dict[str, Any]] = deque(maxlen=rows)
        with Live(console=console, auto_refresh=False) as live:
            for batch in updates:
                kept.extend(batch.slice(max(0, batch.num_rows - rows)).to_pylist())
                live.update(table_of(pa.Table.from_pylist(list(kept), schema=batch.schema)), refresh=True)
                if not _wait(seconds, end):
                    break


def _updates(cursor: Any, dataset: str, rows: int) -> Iterator[pa.Table]:
    """What has come since the last look, also when that is nothing; first the newest updates of before."""
    name = '"' + (dataset + "_history").replace('"', '""') + '"'
    cursor.execute(f"SELECT max(_seq) FROM {name}")
    last = max(0, (cursor.fetchone()[0] or 0) - rows)
    while True:
        cursor.execute(f"SELECT * FROM {name} WHERE _seq > {last} ORDER BY _seq LIMIT {_STEP_ROWS}")
        found = cursor.fetch_arrow_table()
        if found.num_rows:
            last = found.column("_seq")[-1].as_py()
        yield found


def _print_lines(updates: Iterator[pa.Table], seconds: float, end: float) -> None:
    heads = False
    for batch in updates:
        if not heads:
            click.echo("\t".join(batch.schema.names))
            heads = True
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            click.echo("\t".join("" if value is None else _escaped(str(value)) for value in row))
        if not _wait(seconds, end):
            return


def _escaped(text: str) -> str:
    """On one line and in one column, whatever the text holds."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _wait(seconds: float, end: float) -> bool:
    """Waits for the next look; False when it is time to end."""
    try:
        time.sleep(max(0.0, min(seconds, end - time.monotonic())))
    except KeyboardInterrupt:
        return False
    return time.monotonic() < end
