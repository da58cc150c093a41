"""The pairs of fixtures/policy: under these grants, this text becomes that one."""

from __future__ import annotations

from pathlib import Path

import pytest
from flightsql_auth.policies import Grants

from flightsql_server.errors import ServerError
from tests.unit.planner import world

FOLDER = Path(__file__).parents[2] / "fixtures" / "policy"


def pairs() -> list[tuple[str, str, str]]:
    """(grants, input, expected) of every file."""
    found = []
    for path in sorted(FOLDER.glob("*.sql")):
        for block in path.read_text(encoding="utf-8").split("\n\n")[1:]:
            grants, text, expected = block.strip().split("\n")
            found.append((grants.removeprefix("-- grants:"), text, expected))
    return found


@pytest.mark.parametrize(("grants", "text", "expected"), pairs())
def test_pair(grants: str, text: str, expected: str) -> None:
    try:
        written = world.planned(text, grants=Grants(select=frozenset(grants.split()))).sql
    except ServerError as error:
        written = str(error).partition("\n")[0]
    assert written == expected


def test_there_are_pairs() -> None:
    assert len(pairs()) >= 10


@pytest.mark.parametrize(
    ("dialect", "text", "tables"),
    [
        ("postgres", "SELECT (SELECT count(*) FROM orders) / 2", {"orders"}),
        ("snowflake", "SELECT 7 / (SELECT max(volume) FROM market_data)", {"market_data"}),
        ("postgres", "UPDATE notes SET id = id / 2 WHERE id IN (SELECT count(*) / 2 FROM orders)", {"orders"}),
    ],
)
def test_a_rewrite_that_copies_a_table_loses_none(dialect: str, text: str, tables: set[str]) -> None:
    """What a rewrite for a dialect moves or doubles is still under the policy, and read under the table's name."""
    plan = world.planned(text, dialect, world.TRADER)
    assert {name.name for name in plan.tables} == tables
    with pytest.raises(ServerError):
        world.planned(text.replace("orders", "hidden").replace("market_data", "hidden"), dialect, world.TRADER)
