"""The command line: one module for each group of commands."""

from __future__ import annotations

import os

# Read by gRPC when it is loaded: the demo's process is started without a fork of this one's threads.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import click

from flightsql_server import __version__
from flightsql_server.cli.backup import backup, restore
from flightsql_server.cli.client import load, sql
from flightsql_server.cli.complete import completion
from flightsql_server.cli.serve import check_config, serve
from flightsql_server.cli.tail import tail
from flightsql_server.cli.user import user


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flightsql-server")
def main() -> None:
    """A Flight SQL server for trading desks."""


for command in (serve, check_config, user, sql, load, tail, backup, restore, completion):
    main.add_command(command)
