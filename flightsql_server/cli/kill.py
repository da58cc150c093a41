"""``kill``: end a session or a statement of a running server; and how the command line asks for an action."""

from __future__ import annotations

from pathlib import Path

import click
import pyarrow as pa
import pyarrow.flight as flight

from flightsql_server.cli.client import connection_options, credentials, tls_files


def act(action: str, body: str, url: str | None, user: str | None, password_file: Path | None) -> list[bytes]:
    """Asks the server for an action and gives its results; what it refuses is told without a traceback."""
    url, user, password = credentials(url, user, password_file)
    with flight.FlightClient(url, **tls_files()) as client:
        try:
            headers = [client.authenticate_basic_token(user, password)] if user else []
            options = flight.FlightCallOptions(headers=headers)
            results = client.do_action(flight.Action(action, body.encode()), options)
            return [result.body.to_pybytes() for result in results]
        except (pa.ArrowException, OSError) as error:
            raise click.ClickException(str(error).split(". gRPC client debug context", 1)[0]) from error


@click.group()
def kill() -> None:
    """End a session or a statement; ops.sessions and ops.queries list them."""


@kill.command()
@click.argument("session_id")
@connection_options
def session(session_id: str, url: str | None, user: str | None, password_file: Path | None) -> None:
    """End a session and revoke its token."""
    act("KillSession", session_id, url, user, password_file)
    click.echo(f"Session {session_id} has ended.")


@kill.command()
@click.argument("query_id", type=int)
@connection_options
def query(query_id: int, url: str | None, user: str | None, password_file: Path | None) -> None:
    """Stop a statement; its session goes on."""
    act("KillQuery", str(query_id), url, user, password_file)
    click.echo(f"Query {query_id} was stopped.")
