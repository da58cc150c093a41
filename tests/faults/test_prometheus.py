"""A real Prometheus scrapes a server under load; every query of every dashboard and rule then has an answer."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flightsql_server.client import Publisher, subscribe
from flightsql_server.demo.market import Market
from tests.components import require
from tests.conftest import MARKET_TIME
from tests.faults.watching import ENDLESS, Client, server_with, wait_until
from tests.running import RunningServer
from tests.test_grafana import RULES, all_queries, rule_expressions

pytestmark = pytest.mark.slow
LOAD_SECONDS = 20
# Queries whose answer is rightly empty as long as nothing is wrong.
EMPTY_WHEN_WELL = {"alert:FlightSqlCallsFail", "alert:FlightSqlNotReady"}


class Prometheus:
    """A Prometheus process over a temporary folder that scrapes one server each second."""

    def __init__(self, command: str, directory: Path, target: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        committed = (RULES.parent / "prometheus.yml").read_text(encoding="utf-8")
        config = committed.replace("127.0.0.1:9464", f"127.0.0.1:{target}")
        config = config.replace("scrape_interval: 5s", "scrape_interval: 1s")
        config = config.replace("evaluation_interval: 15s", "evaluation_interval: 1s")
        assert config.count(": 1s") == 2
        (directory / "prometheus.yml").write_text(config, encoding="utf-8")
        (directory / "rules.yml").write_bytes(RULES.read_bytes())
        self._log = (directory / "log").open("wb")
        arguments = [
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        self.process = subprocess.Popen([command, *arguments], stdout=self._log, stderr=subprocess.STDOUT)

    def ask(self, path: str, **parameters: str) -> Any:
        """The ``data`` of an answer of its API."""
        address = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=10) as response:
            answer = json.load(response)
        assert answer["status"] == "success"
        return answer["data"]

    def is_scraping(self) -> bool:
        """Whether its first scrape went well."""
        try:
            return any(target["health"] == "up" for target in self.ask("targets")["activeTargets"])
        except OSError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self._log.close()


class Load:
    """Threads that give the server all kinds of work until ``stop``."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._ended = threading.Event()
        self.failures: list[BaseException] = []
        login = {"user": "reader", "password": "reader"}
        queries = ("SELECT * FROM market_data", "SELECT count(*) AS n FROM market_data")  # by row, and run anew
        self._followed = [subscribe(server.url, query, **login) for query in queries]
        works = (self._drivers, self._mistakes, self._rows, self._publish, self._changes, self._follow)
        self._threads = [threading.Thread(target=self._guarded, args=(work,)) for work in works]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        for updates in self._followed:  # nothing comes any more that would let their reader look
            updates.close()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads)

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except BaseException as error:
            self.failures.append(error)

    def _drivers(self) -> None:
        while not self._ended.is_set():
            with self._server.connect() as connection, connection.cursor() as cursor:
                for symbol in ("S00001", "S00002"):
                    cursor.execute(f"SELECT last_price FROM market_data WHERE symbol = '{symbol}'")
                    cursor.fetch_arrow_table()
                connection.adbc_get_table_types()
            self._ended.wait(0.1)

    def _mistakes(self) -> None:
        with Client(self._server.url) as client, Client(self._server.url, token=(b"authorization", b"Bearer x")) as no:
            while not self._ended.is_set():
                for sql in ("SELEC 1", "SELECT * FROM nowhere", "SELECT no FROM orders"):
                    with contextlib.suppress(pa.ArrowException):
                        client.ticket(sql)
                with contextlib.suppress(flight.FlightUnauthenticatedError):
                    no.ticket("SELECT 1")
                stranger = flight.FlightClient(self._server.url)
                with contextlib.suppress(flight.FlightUnauthenticatedError):
                    stranger.authenticate_basic_token("reader", "wrong")
                stranger.close()
                self._ended.wait(0.2)

    def _rows(self) -> None:
        with Client(self._server.url) as client:
            while not self._ended.is_set():
                client.query("SELECT * FROM range(200000)").read_all()
                with contextlib.suppress(pa.ArrowException):
                    client.query(ENDLESS, seconds=0.2).read_all()
                reader = client.query(ENDLESS)
                with contextlib.suppress(pa.ArrowException):
                    while True:
                        reader.read_chunk()
                self._ended.wait(0.2)

    def _changes(self) -> None:
        """Transactions that end well and that don't, and rows that are sent compressed."""
        zstd = {"adbc.flight.sql.rpc.call_header.x-compression": "zstd"}
        with self._server.connect("maker", **zstd) as connection, connection.cursor() as cursor:
            while not self._ended.is_set():
                for end in ("COMMIT", "ROLLBACK"):
                    cursor.execute("BEGIN")
                    cursor.execute(end)
                cursor.execute("SELECT * FROM range(100000)")
                cursor.fetch_arrow_table()
                self._ended.wait(0.1)

    def _follow(self) -> None:
        rows, _ = self._followed
        for _ in rows:
            if self._ended.is_set():
                return

    def _publish(self) -> None:
        market = Market(seed=11)
        first = market.open(MARKET_TIME).batches()["market_data"]
        with Publisher(self._server.url, "market_data", user="feed", password="feed") as publisher:
            while not self._ended.is_set():
                publisher.publish(first)
                self._ended.wait(0.05)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has scraped a server under load, which goes on."""
    command = require("prometheus")
    directory = tmp_path_factory.mktemp("prometheus")
    with server_with(directory / "data-of-server", query_seconds=1) as server:
        running = Prometheus(command, directory, server.http_port)
        load = None
        try:
            wait_until(running.is_scraping, 30, "the first scrape")
            load = Load(server)
            time.sleep(LOAD_SECONDS)
            assert load.failures == []
            yield running
            assert load.failures == []
        finally:
            if load is not None:
                load.stop()
            running.stop()


def substituted(promql: str) -> str:
    """The query as Grafana would send it: all instances, four scrapes as the interval of rates."""
    return promql.replace("$instance", ".+").replace("$__rate_interval", "15s")


# What only a server has that speaks TLS, trusts a provider, is asked for tokens over HTTP, ends calls or can't write
# its trail: the load does none of it, and the instruments have no series before. Promtool tests their alerts.
WITHOUT_LOAD = (
    "flightsql_tls_",
    "flightsql_provider_key_fetches",
    "flightsql_oauth_answers",
    "flightsql_ended_calls",
    "flightsql_audit_write_errors",
)


@pytest.mark.parametrize(
    ("where", "promql"), [found for found in all_queries() if not any(name in found[1] for name in WITHOUT_LOAD)]
)
def test_every_query_returns_data(prometheus: Prometheus, where: str, promql: str) -> None:
    if "flightsql_limits_hit" in promql:
        assert "query.seconds" in str(prometheus.ask("query", query=substituted(promql)))
    result = prometheus.ask("query", query=substituted(promql))["result"]
    if where in EMPTY_WHEN_WELL:
        # An alert's condition: without its comparison it must have an answer.
        loose = substituted(promql).replace("> 0.05", ">= 0").replace("== 0", ">= 0")
        result = prometheus.ask("query", query=loose)["result"]
    assert result, promql
    values = [float(series["value"][1]) for series in result]
    assert any(value == value for value in values), promql
    if "_bucket" in promql or "calls_total" in promql:
        assert max(value for value in values if value == value) >= 0


def test_rules_are_healthy_and_alerts_quiet(prometheus: Prometheus) -> None:
    groups = prometheus.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {where.split(":", 1)[1] for where, _ in rule_expressions()}
    for rule in rules:
        assert rule["health"] == "ok", rule.get("lastError")
    assert not [alert for alert in prometheus.ask("alerts")["alerts"] if alert["state"] == "firing"]


def test_recorded_ratio_is_the_share_of_failures(prometheus: Prometheus) -> None:
    result = prometheus.ask("query", query="flightsql:calls_failed:ratio_rate5m")["result"]
    assert 0 < float(result[0]["value"][1]) < 0.5


def test_prometheus_took_every_sample(prometheus: Prometheus) -> None:
    target = prometheus.ask("targets")["activeTargets"][0]
    assert target["lastError"] == ""
    assert float(target["lastScrapeDuration"]) < 1
    samples = prometheus.ask("query", query='scrape_samples_scraped{job="flightsql"}')["result"]
    assert 200 < float(samples[0]["value"][1]) < 5000
