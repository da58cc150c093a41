"""A real server in a process of its own, for tests to talk to."""

from __future__ import annotations

import ctypes
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow.flight as flight
from flightsql_auth.credentials import PasswordHasher
from flightsql_auth.store import StateStore

_ANNOUNCED = re.compile(r"\b(?:on|at) grpc(?:\+tls)?://[^:]+:(\d+)")
_HTTP = re.compile(r"https?://[^:]+:(\d+)")
USERS = {"admin": ("admin",), "reader": ("reader",), "viewer": ("viewer",), "feed": ("feed",), "maker": ("maker",)}
CONFIG = """
[login]
free_failures = 100000
[roles.viewer]
select = ["market_data"]
subscribe = ["market_data"]
[roles.feed]
select = ["market_data"]
ingest = ["market_data"]
subscribe = ["market_data"]
[roles.maker]
select = ["market_data", "orders"]
subscribe = ["market_data", "orders"]
create = true
"""


def _end_with_parent() -> None:
    """A test run that is killed leaves no server behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class RunningServer:
    """A server process; ``stop`` or ``kill`` ends it. ``output`` holds the lines it has printed so far."""

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
    ) -> None:
        """``wrapper`` is a command that starts the one it is given."""
        command = [*wrapper, sys.executable, "-m", "flightsql_server", "serve", "--data-dir", str(data_dir)]
        command += ["--port", "0", "--http-port", "0", *arguments]
        self.data_dir = data_dir
        self.output: list[str] = []
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_end_with_parent,
            env=None if environment is None else dict(environment),
        )
        self._found = threading.Event()
        self.port = self.http_port = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._found.wait(30) or not self.port:
            self.kill()
            raise AssertionError("the server did not start:\n" + "".join(self.output))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            port, http_port = _ANNOUNCED.search(line), _HTTP.search(line)
            self.port = int(port[1]) if port and not self.port else self.port
            self.http_port = int(http_port[1]) if http_port and not self.http_port else self.http_port
            if self.port and self.http_port:
                self._found.set()
        self._found.set()

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def connect(self, user: str = "reader", **options: str) -> flight_sql.Connection:
        """An ADBC connection; every test user's password is its name. The caller closes it."""
        known = {"username": user, "password": user, **options}
        return flight_sql.connect(self.url, db_kwargs=known, autocommit=True)

    def flight(self, user: str = "reader") -> tuple[flight.FlightClient, flight.FlightCallOptions]:
        """A plain Flight client, logged in, and the options that each of its calls needs."""
        client = flight.FlightClient(self.url)
        return client, flight.FlightCallOptions(headers=[client.authenticate_basic_token(user, user)])

    def stop(self, seconds: float = 30) -> int:
        """Asks the server to stop and gives its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        self._close()
        return code

    def kill(self) -> None:
        """Ends the process without a chance to say goodbye."""
        self.process.kill()
        self.process.wait(10)
        self._close()

    def _close(self) -> None:
        self._reader.join(10)  # to the last word
        if self.process.stdout is not None:
            self.process.stdout.close()


def add_users(data_dir: Path, users: Mapping[str, tuple[str, ...]] = USERS) -> None:
    """Adds users with these roles, cheap hashes and their names as passwords to a data directory."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = StateStore(data_dir / "state.sqlite")
    hasher = PasswordHasher(memory_kib=64, time_cost=1)
    try:
        for name, roles in users.items():
            if store.get_user(name) is None:
                store.add_user(name, hasher.hash(name), roles)
    finally:
        store.close()


@contextmanager
def running_server(data_dir: Path, *arguments: str) -> Iterator[RunningServer]:
    """A server with the test users and roles; stopped at the end of the block."""
    add_users(data_dir)
    config = data_dir / "test.toml"
    if not config.exists():
        config.write_text(CONFIG, encoding="utf-8")
    server = RunningServer(data_dir, "--config", str(config), *arguments)
    try:
        yield server
    finally:
        server.stop()
