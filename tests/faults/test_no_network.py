"""Without a network: the server starts, and does all it does, where there is nothing to download from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.components import require
from tests.faults.promises import ROOT

# In a network of its own, whose only device is the loopback one, brought up here.
_ALONE = """
import fcntl, socket, struct, sys
from pathlib import Path

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
    up = struct.pack("16sh", b"lo", 0x1 | 0x40)
    fcntl.ioctl(asking, 0x8914, up)
try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except OSError as error:
    print("alone:", error.strerror)

from tests.running import running_server

with running_server(Path(sys.argv[1])) as server, server.connect() as connection, connection.cursor() as cursor:
    connection.adbc_connection.set_options(**{"adbc.flight.sql.session.option.time_zone": "Asia/Tokyo"})
    cursor.execute("SELECT CAST(TIMESTAMPTZ '2026-01-01 00:00:00+00' AS VARCHAR), CAST('[1]' AS JSON)")
    print("answer:", *cursor.fetchone())
"""


def test_the_server_starts_and_answers_without_a_network(tmp_path: Path) -> None:
    """With time zones and JSON, which the engine has in extensions, and with a home that holds none."""
    command = [require("unshare"), "--map-root-user", "--net", sys.executable, "-c", _ALONE, str(tmp_path / "data")]
    able = subprocess.run([*command[:3], "true"], capture_output=True, check=False, timeout=10)
    if able.returncode:
        pytest.skip("this system gives its users no networks of their own")
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
        cwd=ROOT,
        env={"HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / 'auth'}", "PATH": "/usr/bin:/bin"},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines() == ["alone: Network is unreachable", "answer: 2026-01-01 09:00:00+09 [1]"]
