"""The command line, as a newcomer meets it: what it starts, what it refuses and how it says so."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import psutil
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.flight as flight
import pyarrow.parquet as parquet
import pytest
from adbc_driver_manager import Error as DriverError

from tests.commands import CLEAN, COMMAND, as_user, refusal, run, run_apart
from tests.conftest import fill
from tests.running import RunningServer, add_users, running_server


def _until(true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.05)
    return true()


def _ask(url: str, sql: str, user: str, password: str = "") -> list[tuple[object, ...]]:
    """Asks on a connection of its own; everything is closed whatever happens."""
    options = {"username": user, "password": password or user}
    connected = flight_sql.connect(url, db_kwargs=options, autocommit=True)
    with connected as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose users and rows these tests may change."""
    with running_server(tmp_path_factory.mktemp("cli")) as server:
        fill(server)
        yield server


# ---- serve: what it refuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--port", "--http-port"])
def test_a_taken_port_names_who_has_it(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        ports = {"--port": "0", "--http-port": "0", option: str(port)}
        options = [text for pair in ports.items() for text in pair]
        said = refusal(run("serve", "--data-dir", str(tmp_path / "data"), *options))
    assert f"Port {port} of 127.0.0.1 can't be taken" in said
    assert f"process {os.getpid()}" in said
    assert option in said, "it says which option chooses another"


def test_a_taken_data_directory_names_who_has_it(running: RunningServer) -> None:
    said = refusal(run("serve", "--data-dir", str(running.data_dir), "--port", "0", "--http-port", "0"))
    assert f"{running.data_dir} is in use by process {running.process.pid}" in said
    assert f"port {running.port}" in said


def test_a_data_directory_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "VERSION").write_text("99\n")
    said = refusal(run("serve", "--data-dir", str(tmp_path), "--port", "0", "--http-port", "0"))
    assert "version '99'" in said
    assert "another directory" in said
    assert not (tmp_path / "desk.duckdb").exists(), "nothing in it was touched"


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_text("x")
    assert str(file) in refusal(run("serve", "--data-dir", str(file), "--port", "0", "--http-port", "0"))


@pytest.mark.parametrize("damaged", ["desk.duckdb", "state.sqlite"])
def test_a_damaged_data_directory_is_told(tmp_path: Path, damaged: str) -> None:
    (tmp_path / damaged).write_bytes(b"this is nothing of the kind " * 1_000)
    said = refusal(run_apart("serve", "--data-dir", str(tmp_path), "--port", "0", "--http-port", "0"))
    assert "database" in said


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.invalid"])
def test_an_address_that_is_not_loopback_needs_a_word(tmp_path: Path, host: str) -> None:
    said = refusal(run("serve", "--data-dir", str(tmp_path / "data"), "--host", host))
    assert "is not loopback" in said
    assert "--insecure" in said
    assert not (tmp_path / "data").exists()


def test_the_demo_listens_on_loopback_only() -> None:
    for more in ([], ["--insecure"]):
        said = refusal(run("serve", "--demo", "--host", "0.0.0.0", *more))
        assert "known passwords" in said


def test_callers_without_credentials_come_from_loopback_only(tmp_path: Path) -> None:
    said = refusal(
        run(
            *("serve", "--host", "0.0.0.0", "--insecure", "--data-dir", str(tmp_path / "data")),
            FLIGHTSQL_LOGIN_ANONYMOUS_ROLE="reader",
        )
    )
    assert "login.anonymous_role" in said


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"FLIGHTSQL_SERVER_PORT": "many"}, "FLIGHTSQL_SERVER_PORT: server.port must be a whole number"),
        ({"ARROW_FLIGHT_PORT": "70000"}, "ARROW_FLIGHT_PORT: server.port"),
        ({"FLIGHTSQL_SQL_DIALECT": "klingon"}, "FLIGHTSQL_SQL_DIALECT: sql.dialect can't be 'klingon'"),
    ],
)
def test_a_setting_that_can_not_be_used_stops_the_start(tmp_path: Path, environment: dict[str, str], word: str) -> None:
    assert word in refusal(run("serve", "--data-dir", str(tmp_path / "data"), **environment))
    assert not (tmp_path / "data").exists()


# ---- serve: what it makes ------------------------------------------------------------------------------------------


def test_what_the_server_makes_is_its_owner_s_alone(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    before = os.umask(0)
    try:
        server = RunningServer(folder)
    finally:
        os.umask(before)
    try:
        made = sorted(folder.rglob("*"))
        assert {path.name for path in made} >= {"desk.duckdb", "keys", "lock", "state.sqlite", "VERSION"}
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [folder, *made]}
    finally:
        assert server.stop() == 0
    keys = [path for path in made if "key" in path.name]
    assert keys
    for path, mode in modes.items():
        if path.is_dir():
            assert mode == 0o700, path
        elif path in keys or path.name.startswith("state.sqlite"):
            assert mode == 0o600, path
        else:
            assert not mode & 0o077, f"{path} can be read by others"


def test_the_older_name_of_the_port_is_honoured(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    add_users(tmp_path)
    process = subprocess.Popen(
        [*COMMAND, "serve", "--data-dir", str(tmp_path), "--http-port", "0"],
        env={**CLEAN, "ARROW_FLIGHT_PORT": str(port)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert f"grpc://127.0.0.1:{port}" in process.stdout.readline()
        result = run("sql", "SELECT 1 AS one", "-u", "admin", FLIGHTSQL_PASSWORD="admin", ARROW_FLIGHT_PORT=str(port))
        assert "1 row" in result.stdout, result.stderr
    finally:
        process.terminate()
        assert process.wait(20) == 0
        if process.stdout is not None:
            process.stdout.close()


# ---- the demo ------------------------------------------------------------------------------------------------------


class Demo:
    """A running demo, started in ``folder`` as a newcomer would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--demo", "--port", "0", "--http-port", "0"],
            cwd=folder,
            env={**CLEAN, "TMPDIR": str(self.temporary), "HOME": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.printed = ""
        assert self.process.stdout is not None
        while "/readyz" not in self.printed:
            line = self.process.stdout.readline()
            assert line, self.printed
            self.printed += line
        found = re.search(r"grpc://127\.0\.0\.1:\d+", self.printed)
        assert found
        self.url = found[0]

    def ask(self, sql: str, user: str = "trader", password: str = "") -> list[tuple[object, ...]]:
        return _ask(self.url, sql, user, password)

    def stop(self) -> tuple[int, str]:
        self.process.terminate()
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    made = Demo(tmp_path_factory.mktemp("demo"))
    yield made
    if made.process.poll() is None:
        made.stop()


def test_the_demo_ticks_within_three_seconds(demo: Demo) -> None:
    assert _until(lambda: demo.ask("SELECT count(*) FROM market_data") == [(500,)], 5)
    before = demo.ask("SELECT count(*), max(timestamp) FROM market_data_history")
    assert _until(lambda: demo.ask("SELECT count(*), max(timestamp) FROM market_data_history")[0] > before[0], 3)


def test_orders_and_positions_appear_in_the_demo(demo: Demo) -> None:
    assert _until(lambda: bool(demo.ask("SELECT 1 FROM orders")), 10)
    assert _until(lambda: bool(demo.ask("SELECT 1 FROM positions")), 20)
    # Each position follows from the fills of its account and symbol: what was bought less what was sold.
    sql = """SELECT count(*) FROM positions p JOIN (
               SELECT account, symbol, sum(CASE side WHEN 'buy' THEN filled_quantity ELSE -filled_quantity END) AS held
               FROM orders GROUP BY account, symbol) o USING (account, symbol) WHERE p.quantity <> o.held"""
    assert _until(lambda: demo.ask(sql) == [(0,)], 5)


def test_the_demo_s_viewer_sees_quotes_only(demo: Demo) -> None:
    assert demo.ask("SHOW TABLES", "viewer") == demo.ask("SHOW TABLES", "viewer")
    assert demo.ask("SELECT count(*) FROM market_data", "viewer") == [(500,)]
    for table in ("positions", "orders", "orders_history"):
        with pytest.raises(DriverError, match="42P01"):
            demo.ask(f"SELECT * FROM {table}", "viewer")


def test_the_demo_s_users_have_the_roles_that_it_promises(demo: Demo) -> None:
    for user in ("admin", "trader", "viewer"):
        assert demo.ask("SELECT current_user", user) == [(user,)]
        with pytest.raises(DriverError, match="28P01"):
            demo.ask("SELECT 1", user, "wrong")


def test_the_demo_prints_lines_that_work_when_pasted(demo: Demo) -> None:
    printed = demo.printed
    python = re.search(r"Python, ADBC:\n((?:  .*\n)+)", printed)
    pyarrow = re.search(r"Python, pyarrow:\n((?:  .*\n)+)", printed)
    assert python
    assert pyarrow
    for block in (python[1], pyarrow[1]):
        program = "\n".join(line.strip() for line in block.splitlines())
        result = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
        )
        assert result.returncode == 0, result.stderr
        assert "symbol" in result.stdout
    shell = re.search(r"In this shell:\n((?:  .*\n)+)", printed)
    assert shell
    environment = {**CLEAN, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = subprocess.run(
        ["sh", "-ec", shell[1]], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert "5 rows" in result.stdout, result.stderr
    assert "jdbc:arrow-flight-sql://127.0.0.1:" in printed


def test_the_demo_leaves_nothing(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    assert len(list(demo.temporary.iterdir())) == 1, "its data stand in a temporary folder"
    players = psutil.Process(demo.process.pid).children(recursive=True)
    assert players, "the market is a process of its own"
    code, errors = demo.stop()
    assert code == 0
    assert errors == "", "it ends without a word of complaint"
    assert list(demo.temporary.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tmp"]
    assert _until(lambda: not any(player.is_running() for player in players), 5)


@pytest.mark.slow
def test_the_market_ends_with_a_server_that_was_killed(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    players = psutil.Process(demo.process.pid).children(recursive=True)
    demo.process.kill()
    demo.process.communicate(timeout=10)
    assert _until(lambda: not any(player.is_running() for player in players), 10)


@pytest.mark.slow
def test_demo_users_can_not_log_in_without_the_demo(tmp_path: Path) -> None:
    """A data directory on which the demo once ran keeps its rows, and none of its known passwords."""
    folder = tmp_path / "kept"
    with_demo = RunningServer(folder, "--demo")
    assert _until(lambda: _ask(with_demo.url, "SELECT count(*) FROM market_data", "trader") == [(500,)], 5)
    assert with_demo.stop() == 0
    server = RunningServer(folder)
    try:
        for user in ("admin", "trader", "viewer"):
            with pytest.raises(DriverError, match="28P01"):
                _ask(server.url, "SELECT 1", user)
    finally:
        server.stop()
    again = RunningServer(folder, "--demo")
    try:
        assert _ask(again.url, "SELECT count(*) FROM market_data", "trader") == [(500,)]
    finally:
        again.stop()


# ---- user ----------------------------------------------------------------------------------------------------------


def test_users_are_added_listed_disabled_and_enabled(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    added = run("user", "add", "ann", *data, "--role", "reader", "--role", "desk", typed="pa:ss\npa:ss\n")
    assert added.returncode == 0, added.stderr
    assert "pa:ss" not in added.stdout + added.stderr
    file = tmp_path / "password"
    file.write_text("secret\n")
    assert run("user", "add", "bob", *data, "--password-file", str(file)).returncode == 0
    assert run("user", "disable", "bob", *data).returncode == 0
    listed = run("user", "list", *data).stdout
    assert re.search(r"ann\W+reader, desk\W+active", listed)
    assert re.search(r"bob\W+reader\W+disabled", listed)
    assert run("user", "enable", "bob", *data).returncode == 0
    assert re.search(r"bob\W+reader\W+active", run("user", "list", *data).stdout)
    assert "exists" in refusal(run("user", "add", "ann", *data, typed="x\nx\n"))
    assert "no user carl" in refusal(run("user", "disable", "carl", *data))
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "data" / "state.sqlite").stat().st_mode) == 0o600


def test_a_password_that_is_none_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    data = ("--data-dir", str(tmp_path / "data"))
    assert "empty" in refusal(run("user", "add", "ann", *data, "--password-file", str(empty)))
    empty.write_bytes(b"\xff\xfe")
    refusal(run("user", "add", "ann", *data, "--password-file", str(empty)))


def test_users_change_while_the_server_runs(running: RunningServer) -> None:
    data = ("--data-dir", str(running.data_dir))
    assert run("user", "add", "dora", *data, typed="dora\ndora\n").returncode == 0
    client, options = running.flight("dora")
    with client:
        assert client.do_get(flight.Ticket(b"orders"), options).read_all().num_rows > 0
        assert run("user", "disable", "dora", *data).returncode == 0
        said: list[str] = []

        def refused() -> bool:
            try:
                client.do_get(flight.Ticket(b"orders"), options).read_all()
            except flight.FlightUnauthenticatedError as error:
                said.append(str(error))
            return bool(said)

        started = time.monotonic()
        assert _until(refused, 5)
        assert time.monotonic() - started < 1.5
        assert "[28000] " in said[0]
    with pytest.raises(DriverError, match="28P01"):
        _ask(running.url, "SELECT 1", "dora")
    assert run("user", "enable", "dora", *data).returncode == 0

    def welcome() -> bool:
        try:
            return _ask(running.url, "SELECT 1", "dora") == [(1,)]
        except DriverError:
            return False

    assert _until(welcome, 1.5)


# ---- sql -----------------------------------------------------------------------------------------------------------


def test_sql_prints_a_table(running: RunningServer) -> None:
    result = run_apart("sql", "SELECT 'Ü' AS text, 1.5 AS number, NULL AS nothing", **as_user(running, "reader"))
    assert result.returncode == 0, result.stderr
    assert re.search(r"text\W+number\W+nothing", result.stdout)
    assert re.search(r"Ü\W+1\.5", result.stdout)
    assert result.stdout.rstrip().endswith("1 row")


def test_sql_stops_at_the_rows_that_were_asked_for(running: RunningServer) -> None:
    result = run("sql", "SELECT * FROM range(1000000000000)", "--rows", "3", **as_user(running, "reader"))
    assert result.stdout.rstrip().endswith("3 rows, and more")
    exact = run("sql", "SELECT * FROM range(3)", "--rows", "3", **as_user(running, "reader"))
    assert exact.stdout.rstrip().endswith("3 rows")


def test_sql_says_what_the_server_said(running: RunningServer) -> None:
    said = refusal(run("sql", "SELECT * FROM positions", **as_user(running, "viewer")))
    assert "[42P01]" in said
    assert "[28P01]" in refusal(run("sql", "SELECT 1", **{**as_user(running, "reader"), "FLIGHTSQL_PASSWORD": "wrong"}))
    assert "dialect" in refusal(run("sql", "SELECT 1", "--dialect", "klingon", **as_user(running, "reader")))


def test_sql_speaks_other_dialects(running: RunningServer) -> None:
    result = run("sql", "SELECT TOP 2 symbol FROM market_data", "--dialect", "tsql", **as_user(running, "reader"))
    assert result.stdout.rstrip().endswith("2 rows"), result.stderr


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {"FLIGHTSQL_URL": f"grpc://127.0.0.1:{port}", "FLIGHTSQL_USER": "a", "FLIGHTSQL_PASSWORD": "a"}
    assert str(port) in refusal(run("sql", "SELECT 1", **environment))
    file = tmp_path / "rows.csv"
    file.write_text("symbol\nA\n")
    assert f"No server answers at grpc://127.0.0.1:{port}" in refusal(
        run("load", "market_data", str(file), **environment)
    )


def test_options_go_over_the_environment(running: RunningServer, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("viewer\n")
    options = ("--url", running.url, "-u", "viewer", "--password-file", str(file))
    environment = {"FLIGHTSQL_URL": "grpc://127.0.0.1:1", "FLIGHTSQL_USER": "x", "FLIGHTSQL_PASSWORD": "x"}
    result = run("sql", "SELECT current_user", *options, **environment)
    assert "viewer" in result.stdout, result.stderr


def test_who_asks_is_asked_for(running: RunningServer) -> None:
    result = run("sql", "SELECT current_user", FLIGHTSQL_URL=running.url, typed="reader\nreader\n")
    assert re.search(r"reader\W+1 row", result.stdout), result.stderr


# ---- load ----------------------------------------------------------------------------------------------------------


def _quotes(prefix: str, rows: int) -> pa.Table:
    return pa.table(
        {
            "symbol": [f"{prefix}{n}" for n in range(rows)],
            "bid_price": [None if n % 7 == 0 else n + 0.25 for n in range(rows)],
            "ask_price": [n + 0.5 for n in range(rows)],
            "last_price": [n + 0.375 for n in range(rows)],
            "volume": list(range(rows)),
            "timestamp": pa.array([datetime(2026, 1, 6, tzinfo=UTC)] * rows, pa.timestamp("us", tz="UTC")),
        }
    )


def _count(server: RunningServer, where: str) -> int:
    with server.connect("admin") as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM market_data WHERE {where}")
        row = cursor.fetchone()
        assert row is not None
        return int(row[0])


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_load_sends_every_row(running: RunningServer, tmp_path: Path, kind: str) -> None:
    table, file = _quotes(f"{kind}-", 25_001), tmp_path / f"quotes.{kind}"
    if kind == "parquet":
        parquet.write_table(table, file)
    else:
        csv.write_csv(table, file)
    result = run("load", "market_data", str(file), **as_user(running, "feed"))
    assert result.returncode == 0, result.stderr
    assert result.stdout == "Loaded 25001 rows into market_data.\n"
    assert _count(running, f"symbol LIKE '{kind}-%'") == 25_001
    assert _count(running, f"symbol LIKE '{kind}-%' AND bid_price IS NULL") == 3_572
    older = table.slice(0, 10).set_column(
        5, "timestamp", pa.array([datetime(2025, 1, 6, tzinfo=UTC)] * 10, pa.timestamp("us", tz="UTC"))
    )
    parquet.write_table(older, tmp_path / "older.parquet")
    late = run("load", "market_data", str(tmp_path / "older.parquet"), **as_user(running, "feed"))
    assert late.stdout == "Loaded 10 rows into market_data, 10 of them older than what was there.\n"


@pytest.mark.parametrize("name", ["market_data", "orders", "positions"])
def test_what_was_read_can_be_loaded_again_as_csv(running: RunningServer, tmp_path: Path, name: str) -> None:
    """Texts of digits, decimals and whole seconds are no traps: a column is read as what its dataset says it is."""
    with running.connect("admin") as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {name} LIMIT 20")
        table = cursor.fetch_arrow_table()
    file = tmp_path / f"{name}.csv"
    csv.write_csv(table, file)
    result = run("load", name, str(file), **as_user(running, "admin"))
    assert result.stdout.startswith(f"Loaded {table.num_rows} rows into {name}"), result.stderr


def test_a_csv_file_whose_names_look_like_numbers_is_loaded(running: RunningServer, tmp_path: Path) -> None:
    file = tmp_path / "quotes.csv"
    file.write_text(
        "symbol,bid_price,ask_price,last_price,volume,timestamp\n"
        "0700,1,2,,100,2026-01-06T00:00:00Z\n"
        "0005,1,2,3,100,2026-01-06 00:00:00.123456Z\n"
        "NA,1,2,3,,2026-01-06T00:00:00Z\n"
    )
    result = run("load", "market_data", str(file), **as_user(running, "feed"))
    assert result.stdout == "Loaded 3 rows into market_data.\n", result.stderr
    assert _count(running, "symbol IN ('0700', '0005', 'NA')") == 3


def test_load_says_what_is_wrong_with_a_file(running: RunningServer, tmp_path: Path) -> None:
    for name, content in (("a.parquet", b"PAR1 nonsense"), ("b.csv", b"\xff\xfe\0\0"), ("c.csv", b""), ("d.txt", b"x")):
        file = tmp_path / name
        file.write_bytes(content)
        assert name in refusal(run("load", "market_data", str(file), **as_user(running, "feed")))
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("symbol,volume\n" + "A,1\n" * 300_000 + "B,1,2,3\n")
    assert "ragged.csv" in refusal(run("load", "market_data", str(ragged), **as_user(running, "feed")))
    said = refusal(run("load", "market_data", str(tmp_path / "missing.csv"), **as_user(running, "feed")))
    assert "missing.csv" in said


@pytest.mark.parametrize(
    "times",
    ["2026-01-06 00:00:00", "2026-01-06T00:00:00.5", "2026-01-06 00:00:00+02:00", "2026-01-06 00:00:00.123456Z"],
)
def test_load_reads_times_as_they_are_mostly_written(running: RunningServer, tmp_path: Path, times: str) -> None:
    file = tmp_path / "times.csv"
    file.write_text(f"symbol,bid_price,ask_price,last_price,volume,timestamp\nTIMES,1,2,3,4,{times}\n")
    result = run("load", "market_data", str(file), **as_user(running, "feed"))
    assert result.stdout.startswith("Loaded 1 rows into market_data"), result.stderr


def test_load_says_what_the_server_said_of_a_column(running: RunningServer, tmp_path: Path) -> None:
    file = tmp_path / "quotes.parquet"
    table = _quotes("wrong-", 10)
    cases = {
        "lacks the column volume": table.drop_columns(["volume"]),
        "unknown column surprise": table.append_column("surprise", pa.array([1] * 10)),
        "Column volume of market_data must be int64": table.set_column(4, "volume", pa.array(["many"] * 10)),
        "null in row 3": table.set_column(0, "symbol", pa.array([None if n == 3 else "wrong-" for n in range(10)])),
    }
    for text, wrong in cases.items():
        parquet.write_table(wrong, file)
        said = refusal(run("load", "market_data", str(file), **as_user(running, "feed")))
        assert text in said
        assert "[22023]" in said
    assert _count(running, "symbol LIKE 'wrong-%'") == 0
    parquet.write_table(table, file)
    assert "[42P01]" in refusal(run("load", "nothing", str(file), **as_user(running, "feed")))
    assert "[42501]" in refusal(run("load", "market_data", str(file), **as_user(running, "viewer")))


# ---- the rest ------------------------------------------------------------------------------------------------------


def test_completion_for_bash_knows_the_commands(tmp_path: Path) -> None:
    script = run("completion", "bash")
    assert script.returncode == 0, script.stderr
    assert "complete -o nosort -F" in script.stdout
    environment = {**CLEAN, "COMP_WORDS": "flightsql-server ch", "COMP_CWORD": "1"}
    found = subprocess.run(
        [str(Path(sys.executable).parent / "flightsql-server")],
        capture_output=True,
        text=True,
        env={**environment, "_FLIGHTSQL_SERVER_COMPLETE": "bash_complete"},
        timeout=30,
        check=False,
    )
    assert "check-config" in found.stdout


def test_help_and_version() -> None:
    said = run("--help").stdout
    for command in ("serve", "check-config", "user", "sql", "load", "completion"):
        assert re.search(rf"^  {command} ", said, re.MULTILINE)
    assert run("--version").stdout.startswith("flightsql-server, version ")
