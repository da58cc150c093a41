"""The command line: one module for each group of commands."""

from __future__ import annotations

import os

# Read by gRPC when it is loaded: the demo's process is started without a fork of this one's threads.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# Else anybody who can reach a port with TLS writes a line into the log for each handshake that fails.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import click

from flightsql_server import __version__
from flightsql_server.cli.audit import audit
from flightsql_server.cli.backup import backup, restore
from flightsql_server.cli.client import load, sql
from flightsql_server.cli.complete import completion
from flightsql_server.cli.keys import keys
from flightsql_server.cli.kill import kill
from flightsql_server.cli.policy import policy
from flightsql_server.cli.serve import check_config, serve
from flightsql_server.cli.tail import tail
from flightsql_server.cli.token import token
from flightsql_server.cli.user import user


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flightsql-server")
def main() -> None:
    """A Flight SQL server for trading desks."""


for command in (
    *(serve, check_config, user, token, keys, policy, sql, load, tail, kill, backup, restore, audit, completion),
):
    main.add_command(command)
