"""What the documents tell a reader to type is typed here, and what they say it prints is what it prints.

A block after ``<!-- test: … -->`` is run, on a demo server; the block that follows it, if any, is its output. Numbers
are compared as numbers that may differ: the market ticks.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.running import RunningServer

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(
    r"<!-- test: (?P<how>[^>]*) -->\n```\w+\n(?P<text>.*?)```\n(?:\n```\n(?P<output>.*?)```)?", re.DOTALL
)


@dataclass(frozen=True)
class Example:
    """One block of a document."""

    where: str
    how: str
    text: str
    output: str | None


def examples(*names: str) -> list[Example]:
    found = []
    for name in names:
        page = (ROOT / name).read_text(encoding="utf-8")
        for match in _BLOCK.finditer(page):
            line = page[: match.start()].count("\n") + 1
            found.append(Example(f"{name}:{line}", match["how"], match["text"], match["output"]))
    return found


EXAMPLES = examples(
    "README.md",
    "docs/reference/identity.md",
    "docs/reference/sql.md",
    "docs/reference/ingest.md",
    "docs/reference/live.md",
    "docs/operating/durability.md",
    "docs/operating/audit.md",
    "docs/reference/federation.md",
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    server = RunningServer(tmp_path_factory.mktemp("demo"), "--demo")
    try:
        with server.connect("trader") as connection, connection.cursor() as cursor:
            for _ in range(100):
                cursor.execute("SELECT (SELECT count(*) FROM market_data), (SELECT count(*) FROM positions)")
                quotes, positions = cursor.fetchone()
                if quotes == 500 and positions:
                    break
        yield server
    finally:
        server.stop()


def shape(text: str) -> str:
    """The text without what may differ between two runs: numbers, widths, rules."""
    text = re.sub(r"-?\d+(\.\d+)?", "0", text)
    text = re.sub(r"[━─┳┬╇┼┻┴]+", "─", text)
    return re.sub(r"[ \t]+", " ", text).strip()


def _run(example: Example, demo: RunningServer, folder: Path) -> subprocess.CompletedProcess[str]:
    commands = str(Path(sys.executable).parent)
    text = example.text.replace(".venv/bin", commands)
    if "own server" not in example.how:
        text = text.replace(":50052", f":{demo.port}").replace(":9464", f":{demo.http_port}")
        text = text.replace("--data-dir flightsql-data", f"--data-dir {demo.data_dir}")
    kind = example.how.split(",")[0]
    command = {"shell": ["bash", "-e", "-c", text], "python": [sys.executable, "-c", text]}[kind]
    environment = dict(os.environ, COLUMNS="200", FLIGHTSQL_USER="trader", FLIGHTSQL_PASSWORD="trader")
    if "own server" not in example.how:
        environment["ARROW_FLIGHT_PORT"] = str(demo.port)
        environment["FLIGHTSQL_SERVER_DATA_DIR"] = str(demo.data_dir)
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=60, check=False)


@pytest.mark.parametrize(
    "example", [one for one in EXAMPLES if not one.how.startswith("sql")], ids=lambda example: example.where
)
def test_example_does_what_the_page_says(example: Example, demo: RunningServer, tmp_path: Path) -> None:
    done = _run(example, demo, tmp_path)
    if "fails" in example.how:
        assert done.returncode != 0
        assert example.output is not None
        assert shape(done.stderr) == shape(example.output)
        return
    assert done.returncode == 0, done.stderr
    if example.output is not None:
        assert shape(done.stdout) == shape(example.output)


@pytest.mark.parametrize(
    "example", [one for one in EXAMPLES if one.how.startswith("sql")], ids=lambda example: example.where
)
def test_sql_example_runs(example: Example, demo: RunningServer) -> None:
    said = dict(part.split() for part in example.how.split(", ")[1:])
    options = {"adbc.flight.sql.rpc.call_header.x-sql-dialect": said.get("dialect", "duckdb")}
    with demo.connect(said.get("user", "trader"), **options) as connection, connection.cursor() as cursor:
        for statement in filter(str.strip, example.text.split(";")):
            cursor.execute(statement)
            if cursor.description:
                assert cursor.fetch_arrow_table().num_rows > 0, statement


def test_the_pages_have_examples() -> None:
    assert len(EXAMPLES) >= 10
