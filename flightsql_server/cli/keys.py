"""``keys``: the keys that sign tokens. Works on the data directory, also while a server runs on it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click
from flightsql_auth.keys import KeyFile, KeyFileError, KeyRing
from flightsql_auth.signing import ALGORITHMS, Algorithm
from rich.console import Console
from rich.table import Table

from flightsql_server import config as settings
from flightsql_server.cli.user import DATA_DIR
from flightsql_server.config import ConfigError


def _keys_options(command: Callable[..., None]) -> Callable[..., None]:
    config = click.option(
        "--config", "file", type=click.Path(path_type=Path), help="The server's TOML file, for login.session_seconds."
    )
    return config(DATA_DIR(command))


def _ring(data_dir: Path, file: Path | None) -> KeyRing:
    folder = data_dir / "keys"
    if not folder.is_dir():
        raise click.ClickException(f"{data_dir} has no keys: a server makes them at its first start.")
    try:
        return KeyRing.open(folder, token_seconds=settings.load(file).number("login.session_seconds"))
    except (ConfigError, KeyFileError) as error:
        raise click.ClickException(str(error)) from error


@click.group()
def keys() -> None:
    """List and rotate the keys that sign tokens; a running server takes notice within a second or two."""


@keys.command("list")
@_keys_options
def list_(data_dir: Path, file: Path | None) -> None:
    """List the keys, the oldest first, and until when each verifies."""
    ring = _ring(data_dir, file)
    table = Table("key", "algorithm", "since", "state")
    for one in ring.files():
        table.add_row(one.key.kid, one.key.algorithm, _time(one.key.created_at), _state(ring, one))
    Console().print(table)


@keys.command()
@click.option("--algorithm", type=click.Choice(ALGORITHMS), help="Of the new key.  [default: that of the last one]")
@click.option(
    "--overlap-seconds",
    type=click.IntRange(0),
    help="How long older keys verify; 0 ends their tokens now.  [default: as long as their tokens can live]",
)
@_keys_options
def rotate(algorithm: Algorithm | None, overlap_seconds: int | None, data_dir: Path, file: Path | None) -> None:
    """Make a new key that signs from now on."""
    ring = _ring(data_dir, file)
    try:
        made = ring.rotate(algorithm, overlap_seconds=overlap_seconds)
    except KeyFileError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Key {made.kid} ({made.algorithm}) signs from now on.")


def _state(ring: KeyRing, one: KeyFile) -> str:
    if one.verifies_until is None:
        return "signs"
    return "retired" if ring.is_retired(one) else f"verifies until {_time(one.verifies_until)}"


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
