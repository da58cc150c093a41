"""``user``: who may log in. Works on the data directory, also while a server runs on it."""

from __future__ import annotations

import json
from pathlib import Path

import click
from flightsql_auth.credentials import PasswordHasher
from flightsql_auth.store import StateStore, StateStoreError
from rich.console import Console
from rich.table import Table

from flightsql_server import planner
from flightsql_server.cli.password import read_password
from flightsql_server.cli.serve import open_store
from flightsql_server.service.profiles import PROFILES

DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("flightsql-data"),
    envvar="FLIGHTSQL_SERVER_DATA_DIR",
    show_default="./flightsql-data",
    help="Folder of the server's data.",
)


def store_of(data_dir: Path) -> StateStore:
    """The users of a data directory; a friendly error where they can't be read. The caller closes it."""
    try:
        return open_store(data_dir)
    except (OSError, StateStoreError) as error:
        raise click.ClickException(f"The users of {data_dir} can't be read: {error}") from error


@click.group()
def user() -> None:
    """Add, list and disable users; a running server takes notice within a second."""


@user.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, default=("reader",), show_default=True, help="May be repeated.")
@click.option("--password-file", type=click.Path(path_type=Path, exists=True), help="File that holds the password.")
@click.option("--dialect", type=click.Choice(planner.dialects()), metavar="NAME", help="SQL dialect of the user.")
@click.option("--wire-profile", type=click.Choice(PROFILES), help="Types that the user's programs can read.")
@click.option("--claim", "claims", multiple=True, metavar="NAME=VALUE", help="For row filters; repeated, it is a list.")
@DATA_DIR
def add(
    name: str,
    roles: tuple[str, ...],
    claims: tuple[str, ...],
    password_file: Path | None,
    dialect: str | None,
    wire_profile: str | None,
    data_dir: Path,
) -> None:
    """Add a user; asks for the password, or reads it from a file."""
    if password_file is not None:
        password = read_password(password_file)
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    if not password:
        raise click.ClickException("The password is empty.")
    store = store_of(data_dir)
    try:
        chosen = {"dialect": dialect, "wire_profile": wire_profile}
        options = {key: value for key, value in chosen.items() if value}
        if claims:
            options["claims"] = json.dumps(claims_of(claims))
        store.add_user(name, PasswordHasher().hash(password), roles, options)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    finally:
        store.close()
    click.echo(f"Added {name} with the roles {', '.join(roles)}.")


def claims_of(given: tuple[str, ...]) -> dict[str, object]:
    """``accounts=A1`` twice is a list of two; a name given once is a list as well if it ends in ``s``."""
    found: dict[str, list[str]] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise click.ClickException(f"{text} is not NAME=VALUE.")
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 or name.endswith("s") else values[0] for name, values in found.items()}


@user.command("list")
@DATA_DIR
def list_(data_dir: Path) -> None:
    """List the users, their roles and whether they may log in."""
    store = store_of(data_dir)
    try:
        users = store.list_users()
    finally:
        store.close()
    table = Table("user", "roles", "state")
    for found in users:
        table.add_row(found.name, ", ".join(found.roles), "disabled" if found.disabled else "active")
    Console().print(table)


def _set_disabled(name: str, data_dir: Path, disabled: bool) -> None:
    store = store_of(data_dir)
    try:
        store.set_disabled(name, disabled)
    except (KeyError, ValueError) as error:
        raise click.ClickException(f"There is no user {name}.") from error
    finally:
        store.close()


@user.command()
@click.argument("name")
@DATA_DIR
def disable(name: str, data_dir: Path) -> None:
    """End a user's sessions and refuse new ones."""
    _set_disabled(name, data_dir, True)
    click.echo(f"Disabled {name}.")


@user.command()
@click.argument("name")
@DATA_DIR
def logout(name: str, data_dir: Path) -> None:
    """End all sessions of a user and what they have running; the user may log in again."""
    store = store_of(data_dir)
    try:
        if store.get_user(name) is None:
            raise click.ClickException(f"There is no user {name}.")
        ended = store.end_sessions_of(name)
    finally:
        store.close()
    click.echo(f"Ended {ended} session{'' if ended == 1 else 's'} of {name}.")


@user.command()
@click.argument("name")
@DATA_DIR
def enable(name: str, data_dir: Path) -> None:
    """Let a disabled user log in again."""
    _set_disabled(name, data_dir, False)
    click.echo(f"Enabled {name}.")
