"""The example programs, against a real server; and that they need pyarrow alone."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from flightsql_server.client import publish
from flightsql_server.data.datasets import MARKET_DATA
from tests.conftest import fill
from tests.running import RunningServer, running_server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "python"
TIMES = itertools.count(1_800_000_000_000_000)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("examples")) as server:
        fill(server)
        yield server


def started(
    server: RunningServer, program: str, *arguments: str, python: str = sys.executable
) -> subprocess.Popen[str]:
    command = [python, str(EXAMPLES / program), "--url", server.url, "--user", "admin", "--password", "admin"]
    path = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*command, *arguments], env=path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    deadline = time.monotonic() + 30
    with server.connect("admin") as connection, connection.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute("SELECT count(*) FROM ops.subscriptions WHERE position > 0")
            if cursor.fetchone() != (0,):
                return process
            time.sleep(0.05)
    raise AssertionError("it did not subscribe")


def quote(server: RunningServer, *bids: float) -> None:
    with publish(server.url, "market_data", user="admin", password="admin") as publisher:
        for bid in bids:
            row = {"symbol": "TICK", "bid_price": bid, "timestamp": next(TIMES)}
            publisher.send(pa.RecordBatch.from_pylist([row], MARKET_DATA.schema))


def test_the_tick_recorder_goes_on_where_it_was(desk: RunningServer, tmp_path: Path) -> None:
    for seconds, bids in ((3, (1.0, 2.0)), (3, (3.0, 4.0, 5.0))):
        recorder = started(desk, "tick_recorder.py", "--seconds", str(seconds), str(tmp_path))
        quote(desk, *bids)
        recorder.communicate(timeout=30)
        assert recorder.returncode == 0
        quote(desk, 10.0)  # nobody records just now
    recorder = started(desk, "tick_recorder.py", "--seconds", "2", str(tmp_path))
    recorder.communicate(timeout=30)
    assert recorder.returncode == 0
    rows = [row for path in sorted(tmp_path.iterdir()) for row in parquet.read_table(path).to_pylist()]
    seqs = [row["_seq"] for row in rows]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), "no gap, nothing twice"
    assert [row["bid_price"] for row in rows if row["symbol"] == "TICK"] == [1.0, 2.0, 10.0, 3.0, 4.0, 5.0, 10.0]


def test_the_ticker_prints_every_account(desk: RunningServer) -> None:
    ticker = started(desk, "pnl_ticker.py", "--seconds", "2")
    out, _ = ticker.communicate(timeout=30)
    assert ticker.returncode == 0
    assert {"ALPHA", "BETA", "GAMMA"} <= {line.split()[0] for line in out.splitlines() if line.strip()}


def test_the_bridge_stores_orders_once_and_tells_of_them(desk: RunningServer) -> None:
    order = {
        "order_id": "X1", "client_order_id": "c", "account": "ALPHA", "symbol": "ULM", "strategy": "s", "side": "buy",
        "order_type": "limit", "time_in_force": "day", "quantity": "10", "limit_price": "1.25", "filled_quantity": 0,
        "currency": "USD", "status": "new", "created_at": "2030-01-01T00:00:00+00:00",
        "updated_at": "2030-01-01T00:00:00+00:00",
    }  # fmt: skip
    lines = [json.dumps(order), json.dumps({**order, "status": "filled", "filled_quantity": 10})]
    for expected in (["new", "filled"], []):  # the second time all of it is known
        bridge = started(desk, "order_bridge.py", "--seconds", "4", "--producer", "gateway", "--first", "1")
        out, _ = bridge.communicate("\n".join(lines) + "\n", timeout=30)
        told = [json.loads(line) for line in out.splitlines()]
        assert [row["status"] for row in told] == expected


@pytest.mark.slow
def test_pyarrow_is_all_that_the_client_needs(desk: RunningServer, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", f"pyarrow=={pa.__version__}"]
    subprocess.run(install, check=True, timeout=300)
    package = tmp_path / "package" / "flightsql_server"
    package.mkdir(parents=True)
    shutil.copy(ROOT / "flightsql_server" / "__init__.py", package)
    shutil.copytree(ROOT / "flightsql_server" / "client", package / "client")
    command = [python, str(EXAMPLES / "pnl_ticker.py"), "--url", desk.url, "--user", "admin", "--password", "admin"]
    done = subprocess.run(
        [*command, "--seconds", "2"],
        env={"PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "ALPHA" in done.stdout
