"""Servers that end badly and come back on the same port over the same data, and starts that are refused."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
from pathlib import Path

from tests.faults.promises import ROOT
from tests.running import CONFIG, RunningServer, add_users
from tests.running import _end_with_parent as end_with_parent

# How long a start may take before it is given up, on a machine that does much else.
START_SECONDS = 60.0


def free_port() -> int:
    """A port that nobody listens on now.

    It lies below those that the system hands out: a client that knocks at one of its own may be answered by itself.
    """
    for port in random.sample(range(20_000, 30_000), 50):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def arguments(data_dir: Path) -> list[str]:
    """What ``serve`` needs for a data directory with the test users, which are added."""
    add_users(data_dir)
    config = data_dir / "test.toml"
    config.write_text(CONFIG, encoding="utf-8")
    return ["--config", str(config)]


def server_on(port: int, data_dir: Path, *more: str, **environment: str) -> RunningServer:
    """A server on that port; ``environment`` is added to the test's own. The caller stops or kills it."""
    given = [*arguments(data_dir), "--port", str(port), *more]
    return RunningServer(data_dir, *given, environment={**os.environ, **environment})


def attempt(data_dir: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """A start that must be refused: its exit code and what it says. A server that serves is killed, and that fails."""
    command = [sys.executable, "-m", "flightsql_server", "serve", "--data-dir", str(data_dir), *arguments(data_dir)]
    command += ["--port", "0", "--http-port", "0", *more]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=end_with_parent
    )
    assert process.stdout is not None
    too_long = threading.Timer(START_SECONDS, process.kill)
    too_long.start()
    try:
        serving = process.stdout.readline()
        if serving:
            process.kill()
        output, errors = process.communicate()
    finally:
        too_long.cancel()
        too_long.join()
    assert not serving, f"the server started: {serving}{errors}"
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


class BrokenServer:
    """A server that ``broken_server`` spoils: see there for ``how``. Use it as a context manager; it is killed."""

    def __init__(self, how: str, port: int, data_dir: Path) -> None:
        command = [sys.executable, "-m", "tests.faults.broken_server", how, "serve", "--data-dir", str(data_dir)]
        command += [*arguments(data_dir), "--port", str(port), "--http-port", "0"]
        self.url = f"grpc://127.0.0.1:{port}"
        self._log = (data_dir.parent / "broken-server-log").open("ab")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._log, cwd=ROOT, preexec_fn=end_with_parent
        )
        assert self.process.stdout is not None
        too_long = threading.Timer(START_SECONDS, self.process.kill)
        too_long.start()
        line = self.process.stdout.readline()
        too_long.cancel()
        too_long.join()
        assert line.startswith(b"Serving"), Path(self._log.name).read_text(errors="replace")

    def __enter__(self) -> BrokenServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
