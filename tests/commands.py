"""The command line as tests run it: what a command said, in this process or in one of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import NamedTuple

from click.testing import CliRunner

from flightsql_server.cli import main
from tests.running import RunningServer

COMMAND = [sys.executable, "-m", "flightsql_server"]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("FLIGHTSQL_", "ARROW_FLIGHT_"))}
# What a terminal would give, so that tables are not folded.
CLEAN["COLUMNS"] = "160"


class Said(NamedTuple):
    """What a command said, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str, typed: str = "", **environment: str) -> Said:
    """Runs one command to its end in this process; nobody sits at its keyboard but what is ``typed``."""
    foreign = {name: None for name in os.environ if name.startswith(("FLIGHTSQL_", "ARROW_FLIGHT_"))}
    before = os.umask(0o022)
    try:
        result = CliRunner(env={**foreign, "COLUMNS": "160", **environment}).invoke(main, arguments, input=typed)
    finally:
        os.umask(before)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.exit_code, result.stdout, result.stderr)


def run_apart(*arguments: str, **environment: str) -> Said:
    """Runs one command to its end in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        env={**CLEAN, **environment},
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def refusal(result: Said) -> str:
    """What a refused command said: a friendly text, no traceback, an exit code that scripts see."""
    assert result.returncode != 0, result.stdout
    assert "Traceback" not in result.stderr + result.stdout, result.stderr
    assert re.search(r"^(?:Error|Usage): ", result.stderr, re.MULTILINE), result.stderr
    return result.stderr


def as_user(server: RunningServer, user: str) -> dict[str, str]:
    """The environment in which a command talks to the server as one of the test users."""
    return {"FLIGHTSQL_URL": server.url, "FLIGHTSQL_USER": user, "FLIGHTSQL_PASSWORD": user}
