"""``backup`` and ``restore``: copy what a running server holds, and make a data directory of a copy."""

from __future__ import annotations

import json
from pathlib import Path

import click
from flightsql_auth.keys import KeyFileError, KeyRing
from flightsql_auth.store import StateStore, StateStoreError

from flightsql_server import backup as backups
from flightsql_server import config as settings
from flightsql_server.backup import BackupError
from flightsql_server.cli.client import connection_options
from flightsql_server.cli.kill import act
from flightsql_server.config import ConfigError
from flightsql_server.data.declared import DatasetError, declared_datasets
from flightsql_server.errors import ServerError
from flightsql_server.server import check_data


@click.command()
@click.argument("name")
@connection_options
def backup(name: str, url: str | None, user: str | None, password_file: Path | None) -> None:
    """Have a running server copy all it holds, while it goes on, into its folder of backups."""
    (result,) = act("Backup", name, url, user, password_file)
    made = json.loads(result)
    click.echo(f"Backup {made['name']}, {made['bytes']} bytes, holds at least:")
    for dataset, last in made["last_seq"].items():
        click.echo(f"  {dataset} up to _seq {last}")


@click.command()
@click.argument("backup", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), required=True, help="A new folder.")
@click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file that declares datasets.")
def restore(backup: Path, data_dir: Path, file: Path | None) -> None:
    """Make a new data directory of a backup, after a look into it."""
    held: dict[str, int] = {}
    try:
        datasets = declared_datasets(settings.load(file).datasets)

        def check(folder: Path) -> None:
            if not (folder / "state.sqlite").is_file():
                raise BackupError(f"{backup} is damaged: it has no users.")
            KeyRing.open(folder / "keys")
            store = StateStore(folder / "state.sqlite")
            try:
                store.check()
            finally:
                store.close()
            held.update(check_data(folder, datasets))

        backups.put_back(backup, data_dir, check)
    except (ConfigError, DatasetError, BackupError, KeyFileError, StateStoreError, ServerError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{data_dir} can't be made: {error.strerror}.") from error
    click.echo(f"Restored {data_dir}:")
    for dataset, last in held.items():
        click.echo(f"  {dataset} up to _seq {last}")
