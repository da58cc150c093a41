"""The systemd unit of the documents: systemd takes it, its command is ours, and a server lives behind its filter."""

from __future__ import annotations

import ctypes
import platform
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pyarrow as pa
import pytest

from flightsql_server.cli import main
from flightsql_server.client import Publisher
from flightsql_server.config import SETTINGS
from flightsql_server.demo.market import Market
from tests.commands import CLEAN
from tests.components import absent, require
from tests.conftest import MARKET_TIME
from tests.running import CONFIG, RunningServer, add_users

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "docs" / "operating" / "flightsql-server.service"


def _lines(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)


def _analyze(*arguments: str | Path) -> str:
    command = [require("systemd-analyze"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with this interpreter's command in the place of the one below /opt, which isn't there."""
    text = UNIT.read_text(encoding="utf-8")
    assert "/opt/flightsql-server/bin/flightsql-server serve" in text
    text = text.replace("ExecStart=/opt/flightsql-server/bin/flightsql-server", f"ExecStart={sys.executable}")
    file = tmp_path / UNIT.name
    file.write_text(text, encoding="utf-8")
    return file


def test_systemd_takes_it(unit: Path) -> None:
    assert _analyze("verify", unit).strip() == ""


def test_it_is_shut_in(unit: Path) -> None:
    said = _analyze("security", "--offline=true", "--threshold=15", "--no-pager", unit)
    exposure = re.search(r"Overall exposure level for \S+ (\d+\.\d+)", said)
    assert exposure
    assert float(exposure[1]) <= 1.5


def test_its_command_is_one_of_ours() -> None:
    (line,) = _lines("ExecStart")
    _, command, *arguments = shlex.split(line)
    made = main.commands[command].make_context(command, arguments)
    assert made.params["host"] == "0.0.0.0"
    assert {"tls_certificate", "tls_key", "file", "data_dir"} <= {
        name for name, value in made.params.items() if value is not None
    }
    assert not made.params["insecure"]
    (drain,) = (setting.default for setting in SETTINGS if setting.name == "server.drain_seconds")
    (stop,) = _lines("TimeoutStopSec")
    assert float(stop) > float(drain) + 10


@cache
def _calls(group: str) -> frozenset[str]:
    """The system calls of a set of systemd's, with those of the sets in it."""
    found: set[str] = set()
    for line in _analyze("syscall-filter", "--no-pager", group).splitlines()[1:]:
        name = line.strip()
        if name.startswith("@"):
            found |= _calls(name)
        elif name and not name.startswith("#"):
            found.add(name)
    return frozenset(found)


def _allowed() -> list[str]:
    """What the unit's lines leave, and what systemd always does."""
    allowed = set(_calls("@default"))
    for line in _lines("SystemCallFilter"):
        named = {name for group in line.removeprefix("~").split() for name in _calls(group)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return sorted(allowed | {"execve"})


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the sets of system calls are those of one machine")
def test_a_server_lives_behind_the_filter(tmp_path: Path) -> None:
    require("systemd-analyze")
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        absent("libseccomp", "libseccomp.so.2 is not installed")
    names = _allowed()
    assert 250 < len(names) < 400
    assert not {"mount", "ptrace", "setuid", "chown", "bpf", "reboot", "kexec_load", "setpriority"} & set(names)
    add_users(tmp_path / "data")
    (tmp_path / "test.toml").write_text(CONFIG, encoding="utf-8")
    wrapper = [sys.executable, str(Path(__file__).parent / "sandboxed.py"), ",".join(names)]
    server = RunningServer(
        tmp_path / "data", "--config", str(tmp_path / "test.toml"), environment=CLEAN, wrapper=wrapper
    )
    try:
        status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
        assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
        quotes = Market(seed=7).open(MARKET_TIME).batches()["market_data"]
        with Publisher(server.url, "market_data", user="admin", password="admin") as publisher:
            assert publisher.publish(quotes).rows == quotes.num_rows
        with server.connect("maker") as connection, connection.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE sums AS SELECT range % 1000 AS k, sum(range) AS s FROM range(3000000) GROUP BY k"
            )
            cursor.execute("SELECT count(*), max(s) FROM sums")
            assert cursor.fetchone() == (1000, 4_501_497_000)
            cursor.execute("SELECT * FROM range(300000) ORDER BY hash(range)")
            assert isinstance(cursor.fetch_arrow_table(), pa.Table)
        log = "".join(server.output)
        assert "Traceback" not in log
        assert "ermission" not in log
    finally:
        assert server.stop() == 0
