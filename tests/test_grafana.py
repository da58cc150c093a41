"""Dashboards, rules and their documentation: each names only what the server counts, and Prometheus accepts them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase

from flightsql_server.metrics import Metrics
from grafana import dashboards
from tests.components import require

ROOT = Path(__file__).parents[1]
GRAFANA = ROOT / "grafana"
RULES = GRAFANA / "prometheus" / "rules.yml"
# What Prometheus itself adds to what it scrapes.
ADDED = {"up": ("job", "instance")}
TARGET_LABELS = {"job", "instance"}

_NAME = re.compile(r"(?<![\w:$.\"'])([a-z_][a-z0-9_:]*)(?=\s*(?:\{|\[|==|>|<|\)|$))")
_SELECTOR = re.compile(r"([a-z_][a-z0-9_:]*)\{([^}]*)\}")
_LABEL = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


def instruments() -> list[MetricWrapperBase]:
    """Every instrument of ours, in the order of metrics.py."""
    return [value for value in vars(Metrics()).values() if isinstance(value, MetricWrapperBase)]


def known_series() -> dict[str, tuple[str, ...]]:
    """The series that a scrape can bring, by name, with their labels."""
    series: dict[str, tuple[str, ...]] = dict(ADDED)
    for one in instruments():
        name, labels = one._name, tuple(one._labelnames)
        if one._type == "histogram":
            series |= {f"{name}_bucket": (*labels, "le"), f"{name}_sum": labels, f"{name}_count": labels}
        else:
            series[name + {"counter": "_total", "info": "_info"}.get(one._type, "")] = labels
    collected = {sample.name for family in Metrics().registry.collect() for sample in family.samples}
    series |= {name: () for name in collected if name.startswith("process_")}
    return series


def rule_expressions() -> list[tuple[str, str]]:
    """Kind and expression of each rule of the file; the indented lines after ``expr: >-`` are the expression."""
    found: list[tuple[str, str]] = []
    lines = iter(RULES.read_text(encoding="utf-8").splitlines())
    kind = ""
    line = next(lines, None)
    while line is not None:
        opened = re.match(r"\s+- (record|alert): (\S+)", line)
        if opened:
            kind = opened[1]
            name = opened[2]
        if line.strip() == "expr: >-":
            indent = len(line) - len(line.lstrip())
            words: list[str] = []
            line = next(lines, None)
            while line is not None and line.strip() and len(line) - len(line.lstrip()) > indent:
                words.append(line.strip())
                line = next(lines, None)
            found.append((f"{kind}:{name}", " ".join(words)))
            continue
        line = next(lines, None)
    return found


def all_queries() -> list[tuple[str, str]]:
    """Where it stands, and the PromQL, of every query of every committed dashboard and of every rule."""
    found = []
    for path in sorted((GRAFANA / "dashboards").glob("*.json")):
        for panel in panels(json.loads(path.read_text(encoding="utf-8"))):
            found += [(f"{path.stem}: {panel['title']}", target["expr"]) for target in panel["targets"]]
    return found + rule_expressions()


def panels(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels that show something."""
    return (panel for panel in document["panels"] if panel["type"] != "row")


@pytest.mark.parametrize("name", dashboards.DASHBOARDS)
def test_committed_dashboard_is_the_generated_one(name: str) -> None:
    committed = (GRAFANA / "dashboards" / f"{name}.json").read_text(encoding="utf-8")
    assert committed == dashboards.text(dashboards.DASHBOARDS[name]), "run .venv/bin/python grafana/dashboards.py"


def test_no_dashboard_is_left_over() -> None:
    assert {path.stem for path in (GRAFANA / "dashboards").iterdir()} == set(dashboards.DASHBOARDS)


@pytest.mark.parametrize("path", sorted((GRAFANA / "dashboards").glob("*.json")), ids=lambda path: path.stem)
def test_dashboard_is_whole(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    ids = [panel["id"] for panel in document["panels"]]
    assert len(ids) == len(set(ids))
    assert re.fullmatch(r"[a-z-]{1,40}", document["uid"])
    assert {variable["name"] for variable in document["templating"]["list"]} == {"datasource", "instance"}
    titles = [panel["title"] for panel in panels(document)]
    assert len(titles) == len(set(titles)) > 10
    for panel in panels(document):
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        references = [target["refId"] for target in panel["targets"]]
        assert references
        assert len(references) == len(set(references))
        for target in panel["targets"]:
            assert 'instance=~"$instance"' in target["expr"], panel["title"]
    _check_places(document)


def _check_places(document: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_each_dashboard_has_its_own_uid() -> None:
    uids = [dashboard.uid for dashboard in dashboards.DASHBOARDS.values()]
    assert len(uids) == len(set(uids))


@pytest.mark.parametrize(("where", "promql"), all_queries())
def test_queries_name_what_the_server_counts(where: str, promql: str) -> None:
    known = known_series()
    recorded = {where.split(":", 1)[1] for where, _ in rule_expressions() if where.startswith("record:")}
    bare = re.sub(r'"[^"]*"', '""', promql)
    bare = _GROUPING.sub("", bare)
    names = {name for name in _NAME.findall(bare) if not re.fullmatch(r"or|and|unless|bool", name)}
    assert names, promql
    for name in names - recorded:
        assert name in known, f"{where}: {name}"
    labels = {label for name in names for label in known.get(name, ())} | TARGET_LABELS
    for name, selector in _SELECTOR.findall(promql):
        for label in _LABEL.findall(selector):
            assert label in TARGET_LABELS | set(known.get(name, ())), f"{where}: {name}{{{label}}}"
    for group in _GROUPING.findall(promql):
        for label in filter(None, re.split(r"[\s,]+", group)):
            assert label in labels, f"{where}: by {label}"


@pytest.mark.parametrize(
    ("where", "legend"),
    [
        (panel.title, query)
        for dashboard in dashboards.DASHBOARDS.values()
        for row in dashboard.rows
        for panel in row.panels
        for query in panel.queries
    ],
)
def test_legends_name_labels_that_the_query_keeps(where: str, legend: dashboards.Query) -> None:
    kept = {label for group in _GROUPING.findall(legend.promql) for label in re.split(r"[\s,]+", group)}
    for label in re.findall(r"\{\{(\w+)\}\}", legend.legend):
        assert label in kept, where


def test_every_instrument_is_shown() -> None:
    """An instrument that no panel shows is one that nobody looks at; those few are named here."""
    shown = " ".join(query for _, query in all_queries())
    beside = {
        "flightsql_build",
        "flightsql_dataset_sequence",
        "flightsql_cache_entries",
        # The stock names serve stock dashboards; ours say more.
        "grpc_server_started",
        "grpc_server_handling_seconds",
    }
    hidden = {one._name for one in instruments() if not re.search(rf"\b{one._name}(_|\b)", shown)}
    assert hidden == beside


def test_data_source_and_paths_are_provisioned() -> None:
    source = (GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text(encoding="utf-8")
    assert re.search(r"^ +type: prometheus$", source, re.MULTILINE)
    assert re.search(r"^ +url: http://127\.0\.0\.1:9090$", source, re.MULTILINE)
    interval = re.search(r"scrape_interval: (\w+)", (GRAFANA / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert interval
    assert f"timeInterval: {interval[1]}" in source
    provider = (GRAFANA / "provisioning" / "dashboards" / "flightsql.yaml").read_text(encoding="utf-8")
    assert re.search(r"^ +type: file$", provider, re.MULTILINE)


def test_promtool_accepts_everything() -> None:
    promtool = require("promtool")
    for arguments in (
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
    ):
        done = subprocess.run(
            [promtool, *arguments], cwd=GRAFANA / "prometheus", capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout + done.stderr


def documented_line(one: MetricWrapperBase) -> str:
    """The line of the table in monitoring.md."""
    name = one._name + {"counter": "_total", "info": "_info"}.get(one._type, "")
    labels = ", ".join(f"`{label}`" for label in one._labelnames) or "none"
    return f"| `{name}` | {one._type} | {labels} | {one._documentation} |"


def test_every_instrument_is_documented() -> None:
    page = (ROOT / "docs" / "operating" / "monitoring.md").read_text(encoding="utf-8")
    written = [line for line in page.splitlines() if line.startswith(("| `flightsql_", "| `grpc_"))]
    assert written == [documented_line(one) for one in instruments()]


def test_every_alert_is_documented() -> None:
    page = (ROOT / "docs" / "operating" / "monitoring.md").read_text(encoding="utf-8")
    for where, _ in rule_expressions():
        assert f"`{where.split(':', 1)[1]}`" in page, where
