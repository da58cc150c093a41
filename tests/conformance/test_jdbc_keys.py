"""JDBC connections, by password and by service token, over rotations of the keys and checks for idle sessions."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.commands import run
from tests.conformance.clients import Cases, metric
from tests.conformance.java import login, program
from tests.running import CONFIG, RunningServer, running_server

pytestmark = pytest.mark.slow

IDLE_SECONDS = 6
ROTATIONS = ("EdDSA", "ES256", "RS256")
ROUNDS = ("at first", *(f"after {algorithm}" for algorithm in ROTATIONS))
WAYS = {"password": "reader", "token": "token:dbeaver", "token as password": "token:dbeaver"}


class Kept(NamedTuple):
    """What the program found, the logins that it took, and what the server showed as its keys at the end."""

    cases: Cases
    logins: float
    seconds: float
    algorithms: list[str]


def _round(process: subprocess.Popen[str], name: str) -> str:
    """Has the program ask on every connection; what it printed."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(name + "\n")
    process.stdin.flush()
    printed = ""
    for line in process.stdout:
        if line.strip() == "done":
            return printed
        printed += line
    raise AssertionError(f"the program ended:\n{printed}")


def _rotate(server: RunningServer, algorithm: str) -> None:
    """Rotates as an administrator would, and waits until the server publishes the new key."""
    said = run("keys", "rotate", "--algorithm", algorithm, "--data-dir", str(server.data_dir))
    found = re.fullmatch(rf"Key (\S+) \({algorithm}\) signs from now on.\n", said.stdout)
    assert found, said.stderr
    deadline = time.monotonic() + 10
    while found[1] not in _published(server):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _published(server: RunningServer) -> str:
    with urllib.request.urlopen(f"{server.http}/.well-known/jwks.json", timeout=10) as answer:
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    command = program(tmp_path_factory.mktemp("jdbc"), "Keep")
    folder: Path = tmp_path_factory.mktemp("keys")
    file = folder / "test.toml"
    file.write_text(CONFIG.replace("[login]", f"[login]\nidle_seconds = {IDLE_SECONDS}"), encoding="utf-8")
    with running_server(folder) as server:
        made = run("token", "create", "dbeaver", "--role", "reader", "--data-dir", str(folder))
        process = subprocess.Popen(
            [*command, *login(server, "reader")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "FLIGHT_TOKEN": made.stdout.strip()},
        )
        too_long = threading.Timer(90, process.kill)
        too_long.start()
        try:
            printed = _round(process, ROUNDS[0])
            started = time.monotonic()
            for algorithm in ROTATIONS:
                _rotate(server, algorithm)
                time.sleep(IDLE_SECONDS / 2.5)
                printed += _round(process, f"after {algorithm}")
            seconds = time.monotonic() - started
            logins = metric(server, 'flightsql_logins_total{outcome="ok"}')
            yield Kept(Cases(printed), logins, seconds, re.findall(r'"alg": "(\w+)"', _published(server)))
        finally:
            too_long.cancel()
            process.kill()
            process.wait(10)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ROUNDS)
def test_a_connection_goes_on(kept: Kept, name: str, way: str) -> None:
    assert kept.cases.value(f"{name}, {way}") == [{"name": WAYS[way]}]
    assert kept.cases.value(f"{name}, {way}, valid") is True


def test_none_has_logged_in_again(kept: Kept) -> None:
    """Although more time has passed than a session may be idle."""
    assert kept.seconds > IDLE_SECONDS
    assert kept.logins == len(WAYS)


def test_every_key_that_verifies_is_published(kept: Kept) -> None:
    assert kept.algorithms == ["EdDSA", *ROTATIONS]
