"""``policy``: what a policy makes of a statement, looked at without a server."""

from __future__ import annotations

import json
from pathlib import Path

import click
from flightsql_auth.policies import Policies, PolicyError
from rich.console import Console
from rich.table import Table

from flightsql_server import config as settings
from flightsql_server import planner
from flightsql_server.cli.user import DATA_DIR, claims_of, store_of
from flightsql_server.config import ConfigError
from flightsql_server.data.datasets import catalog_of
from flightsql_server.data.declared import DatasetError, declared_datasets
from flightsql_server.errors import ServerError
from flightsql_server.service import policy_check


@click.group()
def policy() -> None:
    """Look at what a policy does."""


@policy.command()
@click.argument("statement")
@click.option("--as", "name", help="A user of the data directory, with the roles and claims of that user.")
@click.option("--role", "roles", multiple=True, help="A role; may be repeated.")
@click.option("--claim", "claims", multiple=True, metavar="NAME=VALUE", help="Something claimed; may be repeated.")
@click.option("--dialect", type=click.Choice(planner.dialects()), metavar="NAME", default="duckdb", show_default=True)
@click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file with the roles.")
@DATA_DIR
def test(
    statement: str,
    name: str | None,
    roles: tuple[str, ...],
    claims: tuple[str, ...],
    dialect: str,
    file: Path | None,
    data_dir: Path,
) -> None:
    """Show what a statement on the datasets becomes for somebody, and why; nothing is run."""
    if not name and not roles:
        raise click.ClickException("Say for whom: --as a user, or --role a role.")
    claimed = claims_of(claims)
    if name:
        known_roles, known_claims = _user(data_dir, name)
        roles, claimed = (*known_roles, *roles), {**known_claims, **claimed}
    try:
        config = settings.load(file)
        catalog = catalog_of(declared_datasets(config.datasets))
        policies = Policies.from_toml(config.roles)
        policy_check.check(policies, catalog)
        for role in roles:
            if role not in policies.roles:
                raise click.ClickException(f"There is no role {role}. There are: {', '.join(sorted(policies.roles))}.")
        grants = policies.grants(roles, name or "nobody", "", claimed)
        steps = planner.translation(planner.Request(statement, dialect, name or "nobody", grants, catalog))
    except (ConfigError, DatasetError, PolicyError, ServerError) as error:
        raise click.ClickException(str(error)) from error
    table = Table("what", "text")
    for what, text in steps:
        table.add_row(what, text)
    Console().print(table)


def _user(data_dir: Path, name: str) -> tuple[tuple[str, ...], dict[str, object]]:
    store = store_of(data_dir)
    try:
        user = store.get_user(name)
    finally:
        store.close()
    if user is None:
        raise click.ClickException(f"There is no user {name} in {data_dir}.")
    return user.roles, json.loads(user.options.get("claims", "{}"))
