"""A JDBC connection pool over a restart of the server: its sessions live on, and what ended with it says so."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conformance.clients import Cases, metric
from tests.conformance.java import login, program
from tests.faults.restarting import free_port, server_on

POOL = range(3)


class Restarted(NamedTuple):
    """What the pool's program found, and how many logins the second server saw."""

    cases: Cases
    exit_code: int
    logins: float
    sessions: float


def _until(process: subprocess.Popen[str], line: str) -> str:
    """What the program printed up to that line."""
    assert process.stdout is not None
    printed = ""
    for found in process.stdout:
        if found.strip() == line:
            return printed
        printed += found
    raise AssertionError(f"the program ended:\n{printed}")


@pytest.fixture(scope="module")
def restarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restarted]:
    command = program(tmp_path_factory.mktemp("jdbc"), "Pool")
    data_dir: Path = tmp_path_factory.mktemp("restarted") / "data"
    port = free_port()
    server = server_on(port, data_dir)
    process = subprocess.Popen(
        [*command, *login(server, "maker")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    too_long = threading.Timer(90, process.kill)
    too_long.start()
    try:
        printed = _until(process, "ready")
        exit_code = server.stop()
        server = server_on(port, data_dir)
        rest, _ = process.communicate("go on\n")
        assert process.returncode == 0, printed + rest
        logins = metric(server, 'flightsql_logins_total{outcome="ok"}')
        yield Restarted(Cases(printed + rest), exit_code, logins, metric(server, "flightsql_sessions"))
    finally:
        too_long.cancel()
        process.kill()
        process.wait(10)
        server.stop()


def test_the_server_stops_at_once_although_connections_are_open(restarted: Restarted) -> None:
    assert restarted.exit_code == 0


@pytest.mark.parametrize("number", POOL)
def test_a_connection_goes_on_where_it_was(restarted: Restarted, number: int) -> None:
    """In the schema that it had chosen, with what was stored before."""
    note = "abc"[number]
    assert restarted.cases.value(f"before {number}") == [{"note": note}]
    assert restarted.cases.value(f"schema {number}") == [{"s": "u_maker"}]
    assert restarted.cases.value(f"new handle {number}") == [{"note": note}]
    assert restarted.cases.value(f"change {number}") == 1
    assert restarted.cases.value(f"valid {number}") is True


def test_no_connection_logs_in_again(restarted: Restarted) -> None:
    """Also not when the pool hands them out anew."""
    assert restarted.cases.value("borrowed again") == [{"note": f"z{n}", "s": "u_maker"} for n in POOL]
    assert (restarted.logins, restarted.sessions) == (0, len(POOL))


def test_statements_of_before_are_closed_without_a_word(restarted: Restarted) -> None:
    """A pool closes them when a connection comes back, and would throw the connection away over an error."""
    assert restarted.cases.value("given back") == len(POOL)


@pytest.mark.parametrize("number", POOL)
def test_a_statement_prepared_before_says_that_it_is_gone(restarted: Restarted, number: int) -> None:
    assert "NOT_FOUND: [26000]" in restarted.cases.error(f"old handle {number}")
    assert "Prepare it again." in restarted.cases.error(f"old handle {number}")
