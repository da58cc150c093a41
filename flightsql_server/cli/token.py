"""``token``: fixed credentials for programs. Works on the data directory, also while a server runs on it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import click
from flightsql_auth.service_tokens import ServiceToken, ServiceTokens
from rich.console import Console
from rich.table import Table

from flightsql_server import planner
from flightsql_server.cli.user import DATA_DIR, claims_of, store_of
from flightsql_server.service.profiles import PROFILES

_DAY = 86_400


@click.group()
def token() -> None:
    """Make, list and revoke tokens of services; a running server takes notice within a second."""


@token.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True, help="May be repeated.")
@click.option("--days", type=click.IntRange(1, 3_650), default=365, show_default=True, help="How long it is good.")
@click.option("--claim", "claims", multiple=True, metavar="NAME=VALUE", help="For row filters; repeated, it is a list.")
@click.option("--dialect", type=click.Choice(planner.dialects()), metavar="NAME", help="SQL dialect of the service.")
@click.option("--wire-profile", type=click.Choice(PROFILES), help="Types that the service can read.")
@DATA_DIR
def create(
    name: str,
    roles: tuple[str, ...],
    days: int,
    claims: tuple[str, ...],
    dialect: str | None,
    wire_profile: str | None,
    data_dir: Path,
) -> None:
    """Make a token and print it, alone on standard output: it is shown this once and kept nowhere."""
    chosen = {"dialect": dialect, "wire_profile": wire_profile}
    options = {key: value for key, value in chosen.items() if value}
    if claims:
        options["claims"] = json.dumps(claims_of(claims))
    now = time.time()
    store = store_of(data_dir)
    try:
        made = ServiceTokens(store).create(name, roles, now=now, expires_at=now + days * _DAY, options=options)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    finally:
        store.close()
    click.echo(f"Token {name} with the roles {', '.join(roles)}, good until {_day(now + days * _DAY)}:", err=True)
    click.echo(made)


@token.command("list")
@DATA_DIR
def list_(data_dir: Path) -> None:
    """List the tokens: roles, end, last use, state; never the token itself."""
    store = store_of(data_dir)
    try:
        found = ServiceTokens(store).all()
    finally:
        store.close()
    table = Table("token", "roles", "expires", "last used", "state")
    for one in found:
        used = "never" if one.last_used is None else f"{datetime.fromtimestamp(one.last_used, UTC):%Y-%m-%d %H:%M} UTC"
        table.add_row(one.name, ", ".join(one.roles), _day(one.expires_at), used, _state(one))
    Console().print(table)


@token.command()
@click.argument("name")
@DATA_DIR
def revoke(name: str, data_dir: Path) -> None:
    """End a token for good, the sessions made with it, and what they have running."""
    store = store_of(data_dir)
    try:
        ServiceTokens(store).revoke(name, now=time.time())
    except KeyError as error:
        raise click.ClickException(f"There is no token {name}.") from error
    finally:
        store.close()
    click.echo(f"Revoked {name}.")


def _state(one: ServiceToken) -> str:
    if one.disabled:
        return "revoked"
    return "expired" if time.time() >= one.expires_at else "active"


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
