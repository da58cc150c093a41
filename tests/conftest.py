"""What every test may use: one server with quotes, orders and positions in it, and the versions in the report."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version

import pytest
from hypothesis import settings

from flightsql_server.client import Publisher
from flightsql_server.demo.market import Market
from tests.running import RunningServer, running_server

# `make test` runs long properties at a twentieth of their number, `make test-all` at full.
FULL = os.environ.get("FULL") == "1"
settings.register_profile("here", deadline=None, print_blob=True)
settings.load_profile("here")


def examples(full: int) -> int:
    """How many examples a property runs now, of the number it promises."""
    return full if FULL else max(full // 20, 10)


def pytest_report_header() -> list[str]:
    names = ("pyarrow", "duckdb", "sqlglot", "grpcio", "adbc-driver-flightsql", "protobuf", "hypothesis")
    return ["versions: " + ", ".join(f"{name} {version(name)}" for name in names)]


class _AtOnce:
    """Prints a failure when it happens: a run that is cut off from outside has told of it."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.write_line(f"\n{report.nodeid} ({report.when}) failed after {report.duration:.0f} s:")
            self._terminal.write_line("\n".join(report.longreprtext.splitlines()[-_LAST_LINES:]))


_LAST_LINES = 40


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_AtOnce(terminal))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is long gets the time for it, also on a machine that others use too."""
    for item in items:
        long = item.get_closest_marker("slow") or (FULL and item.get_closest_marker("scaled"))
        if long and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_LONG_SECONDS))


def pytest_collection_finish() -> None:
    """What was collected stays, so that looking for garbage, as opening a file again does, need not look at it."""
    gc.collect()
    gc.freeze()


_LONG_SECONDS = 600
MARKET_TIME = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


def fill(server: RunningServer) -> None:
    """Plays 50 steps of the seeded market into the server: the same rows in every run."""
    market = Market(seed=7)
    updates = [market.open(MARKET_TIME)]
    updates += [market.step(now=datetime.fromtimestamp(MARKET_TIME.timestamp() + n, UTC)) for n in range(1, 51)]
    for name in ("market_data", "orders", "positions"):
        batches = [step.batches()[name] for step in updates if name in step.batches()]
        with Publisher(server.url, name, user="admin", password="admin") as publisher:
            list(publisher.publish_all(batches))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with the seeded market in it; for tests that change nothing others could see."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        fill(running)
        yield running
