"""What holds for the rewrites of every dialect: views stay apart, changes have types, plans can be filled in."""

from __future__ import annotations

import pyarrow as pa
import pytest
from flightsql_auth.policies import Grants

from flightsql_server.errors import StatementTooComplex
from flightsql_server.model import VIEW, Catalog, Column, Table
from flightsql_server.service.templates import Marks, Template, shape_of
from tests.unit.planner import world

_OWN = Grants(select=frozenset({"*"}), create=True, own="u_alice")
_VIEW = Table(
    "main",
    "halves",
    (Column("half", pa.float64()), Column("note", pa.string())),
    VIEW,
    definition="CREATE VIEW main.halves AS SELECT lots / 2 AS half, CAST(note AS VARCHAR) AS note FROM fills",
)


@pytest.mark.parametrize("dialect", ["tsql", "postgres", "oracle"])
def test_a_view_means_what_it_meant_to_its_maker(dialect: str) -> None:
    catalog = Catalog({**world.CATALOG.tables, _VIEW.table_name: _VIEW})
    plan = world.planned("SELECT half FROM halves WHERE half > 7 / 2", dialect, catalog=catalog)
    assert "SELECT lots / 2 AS half, CAST(note AS " in plan.sql


@pytest.mark.parametrize(
    ("dialect", "text", "written"),
    [
        (
            "tsql",
            "UPDATE notes SET note = 'a' + note, id = id / 2 WHERE note = 'x'",
            "SET note = 'a' || note, id = (id // 2) WHERE RTRIM(note, ' ') = RTRIM('x', ' ')",
        ),
        ("tsql", "DELETE FROM notes WHERE note = 'x '", "WHERE RTRIM(note, ' ') = RTRIM('x ', ' ')"),
        ("postgres", "UPDATE notes SET id = id / 2", "SET id = (id // 2)"),
        ("oracle", "INSERT INTO notes VALUES (1, '')", "VALUES (1, CAST(NULL AS TEXT))"),
        ("oracle", "INSERT INTO notes SELECT id, note FROM hidden", "NULLIF(\"note\", '')"),
    ],
)
def test_changes_are_rewritten_like_queries(dialect: str, text: str, written: str) -> None:
    assert written in world.planned(text, dialect, grants=_OWN).sql


@pytest.mark.parametrize("dialect", ["tsql", "oracle", "mysql", "exasol", "teradata"])
@pytest.mark.parametrize("value", ["AAA", "AAA  ", " ", "a%", "7", "2026-01-01", "[x]"])
def test_a_plan_is_filled_in_with_other_values(dialect: str, value: str) -> None:
    def text(other: str) -> str:
        return f"SELECT fill_id FROM fills WHERE symbol = '{other}' OR note <> '{other}x' AND note IN ('{other}y')"

    shape = shape_of(text("BUY"))
    assert shape is not None
    marks = Marks()
    values = tuple(marks.mark(slot) for slot in range(3))
    cut = marks.cut(world.planned(shape.with_values(values), dialect).sql, (0, 1, 2))
    assert cut is not None
    filled = Template(*cut).fill((value, value + "x", value + "y"))
    assert filled == world.planned(text(value), dialect).sql


def test_an_empty_text_has_a_plan_of_its_own() -> None:
    assert shape_of("SELECT 1 FROM fills WHERE note <> ''") is None
    assert "CAST(NULL AS TEXT)" in world.planned("SELECT 1 FROM fills WHERE note <> ''", "oracle").sql


@pytest.mark.parametrize(
    ("dialect", "first", "more"),
    [("postgres", "lots", " / lots"), ("tsql", "note", " + note"), ("oracle", "traded_on", " + 1")],
)
def test_a_long_chain_of_operators_is_refused_at_once(dialect: str, first: str, more: str) -> None:
    assert world.planned(f"SELECT {first}{more * 90} AS a FROM fills", dialect)
    with pytest.raises(StatementTooComplex, match="chain"):
        world.planned(f"SELECT {first}{more * 900} AS a FROM fills", dialect)
