"""The documents say what the code does: pages made from it are compared, and nothing lacks its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flightsql_auth.policies import Policies

from flightsql_server import config
from flightsql_server.config import SETTINGS
from tests.reference_pages import PAGES, ROOT, error_classes


@pytest.mark.parametrize("name", PAGES)
def test_page_is_up_to_date(name: str) -> None:
    written = (ROOT / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), f"{name} is out of date: run `make docs`"


def _lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if line.startswith("| `")]


def test_every_setting_is_documented() -> None:
    lines = _lines("docs/reference/configuration.md")
    assert len(lines) == len(SETTINGS)
    for setting in SETTINGS:
        assert setting.meaning.endswith("."), setting.name
        found = [line for line in lines if f"| `{setting.key}` |" in line and f"`{setting.environment}`" in line]
        assert len(found) == 1, setting.name


def test_the_example_file_can_be_used(tmp_path: Path) -> None:
    page = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
    example = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert example
    file = tmp_path / "example.toml"
    file.write_text(example[1], encoding="utf-8")
    loaded = config.load(file, environment={})
    assert loaded.origins["sql.dialect"] == str(file)
    assert (
        Policies.from_toml(loaded.roles)
        .grants(("desk",))
        .allows("ingest", schema="main", name="market_data", dataset=None)
    )


def test_every_error_is_documented() -> None:
    lines = _lines("docs/reference/errors.md")
    assert len(lines) == len(error_classes())
    for kind in error_classes():
        start = f"| `{kind.sqlstate}` | {kind.__name__} | `{kind.status}` |"
        assert len([line for line in lines if line.startswith(start)]) == 1, kind.__name__
