"""A plan filled in from a template is letter for letter the plan that planning the text would give."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightsql_server.service.templates import Marks, Template, shape_of
from tests.conftest import examples
from tests.unit.planner import corpus, world

# A quote in a value makes it another text, with other pieces.
_LETTERS = st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs"), exclude_characters="'")
VALUES = st.text(_LETTERS, max_size=12)


def _planned(text: str) -> str:
    return world.planned(text).sql


def _template(text: str) -> tuple[Template, tuple[int, ...]] | None:
    """The template of a text, made as the statements' room makes it."""
    shape = shape_of(text)
    if shape is None:
        return None
    found = world.planned(text)
    free = tuple(slot for slot, value in enumerate(shape.values) if value in found.values)
    marks = Marks()
    marked = shape.with_values(tuple(marks.mark(n) if n in free else v for n, v in enumerate(shape.values)))
    cut = marks.cut(_planned(marked), free)
    if not free or cut is None or Template(*cut).fill(shape.values) != found.sql:
        return None
    return Template(*cut), free


TEXTS = [
    *corpus.statements(),
    "SELECT * FROM market_data WHERE symbol = 'AAA'",
    "SELECT count(*) FROM orders WHERE symbol IN ('AAA', 'BBB') AND side <> 'SELL'",
    "SELECT symbol FROM market_data WHERE timestamp >= '2026-01-01' AND date_trunc('hour', timestamp) < '2026-01-02'",
    "WITH o AS (SELECT * FROM orders WHERE side = 'BUY') SELECT m.symbol FROM market_data m JOIN o ON o.symbol = 'AAA'",
]
WITH_TEMPLATE = [text for text in TEXTS if _template(text) is not None]


def test_plain_comparisons_have_templates() -> None:
    assert set(TEXTS[-4:]) <= set(WITH_TEMPLATE)


@pytest.mark.scaled
@settings(max_examples=examples(4_000))
@given(st.data())
def test_filled_plan_is_the_plan(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(WITH_TEMPLATE))
    made = _template(text)
    assert made is not None
    template, free = made
    shape = shape_of(text)
    assert shape is not None
    values = tuple(data.draw(VALUES) if n in free else value for n, value in enumerate(shape.values))
    other = shape.with_values(values)
    again = shape_of(other)
    if again is None:  # the values made it a text that is not templated
        return
    assert (again.pieces, again.values) == (shape.pieces, values)
    assert template.fill(values) == _planned(other)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT symbol = 'AAA' FROM market_data",  # the column is named after its text
        "SELECT (SELECT max(side) FROM orders WHERE symbol = 'AAA') FROM market_data",
        "SELECT date_part('epoch', timestamp) FROM market_data",  # the type depends on it
        "SELECT 'x' AS a FROM market_data",
        "SELECT * FROM market_data WHERE strftime(timestamp, '%Y') = symbol",
        "SELECT * FROM market_data WHERE symbol = 'AAA' OR symbol = 'AAA'",
    ],
)
def test_a_literal_that_may_mean_more_is_no_value(text: str) -> None:
    assert _template(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "SELECT * FROM t WHERE a = 'it''s'",
        "SELECT * FROM t WHERE a = E'x'",
        "SELECT * FROM t WHERE a = \"x\" AND b = 'y'",
        "SELECT * FROM t WHERE a = 'x' -- 'y'",
        "SELECT * FROM t WHERE a = 'x\\'",
        "SELECT * FROM t WHERE a = 'x",
        "SELECT * FROM t WHERE a = $$x$$ AND b = 'y'",
        "SELECT * FROM t WHERE a = 'ä'",
    ],
)
def test_a_text_that_could_be_cut_otherwise_has_no_shape(text: str) -> None:
    assert shape_of(text) is None


def test_marks_can_not_be_guessed() -> None:
    assert Marks().mark(0) != Marks().mark(0)
    marks = Marks()
    assert marks.cut(f"SELECT '{marks.mark(0)}' || '{marks.mark(0)}'", (0,)) is None
    assert marks.cut(f"SELECT {marks.mark(0)}", (0,)) is None
