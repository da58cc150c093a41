"""No literal of a statement is in what is told of it with literals redacted, in any dialect, well written or broken."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightsql_server import planner
from tests.conftest import examples

SECRET, NUMBER = "Zqvx", "94857"
# Ways to write a text or a number that holds the secret, by dialect.
_TEXTS = {
    "": ["'{0}'", "'a''{0}''b'", "'-- {0}'", "'/* {0}'", "'\"{0}'", "'{0} é😀'"],
    "duckdb": ["E'\\\\{0}'", "$${0}$$", "$x${0}'$x$"],
    "postgres": ["E'it\\'s {0}'", "$${0}$$", "$x$ '{0}$x$", "U&'{0}'"],
    "mysql": ['"{0}"', "'it\\'s {0}'", '"it\'s {0}"', "N'{0}'"],
    "bigquery": ['"{0}"', "'''it's {0}'''", "r'{0}'", 'b"{0}"'],
    "snowflake": ["$${0}$$", "'it\\'s {0}'"],
    "tsql": ["N'{0}'"],
    "oracle": ["q'[it's {0}]'", "N'{0}'"],
    "clickhouse": ["'it\\'s {0}'"],
    "spark": ['"{0}"', "r'{0}'"],
    "trino": [],
    "sqlite": [],
}
_NUMBERS = ["{0}", "-{0}", "{0}.5", "1.{0}", ".{0}", "{0}e3", "1e{0}", "{0}.5e-2"]
_SOME = {"duckdb": ["{0}_000", "0x{0}"], "hive": ["{0}L"], "spark": ["{0}L"], "postgres": ["{0}::text"]}
_GAPS = [" ", "\n", "  ", " /* {text} {number} */ ", " -- {text} {number}\n"]
_FORMS = [
    "SELECT{gap}a,{0}{gap}FROM{gap}t1 WHERE{gap}b={1} AND c2 IN ({2},{gap}{3})",
    "INSERT INTO t1 (a, b2){gap}VALUES ({0},{1}),({2}{gap},{3})",
    "UPDATE t1 SET a={0}{gap}WHERE b2 BETWEEN {1} AND{gap}{2} OR c LIKE {3}",
    "WITH q AS (SELECT {0} AS a1{gap}) SELECT CASE WHEN{gap}a1>{1} THEN {2} ELSE {3} END FROM q",
]


def _literals(dialect: str) -> st.SearchStrategy[str]:
    texts = [form.format(SECRET) for form in [*_TEXTS[""], *_TEXTS[dialect]]]
    numbers = [form.format(NUMBER) for form in [*_NUMBERS, *_SOME.get(dialect, [])]]
    return st.sampled_from(texts + numbers)


@st.composite
def statements(draw: st.DrawFn) -> tuple[str, str]:
    """A dialect, and a statement in it whose literals hold the secrets."""
    dialect = draw(st.sampled_from([name for name in _TEXTS if name]))
    gap = draw(st.sampled_from(_GAPS)).format(text=SECRET, number=NUMBER)
    values = [draw(_literals(dialect)) for _ in range(4)]
    return dialect, draw(st.sampled_from(_FORMS)).format(*values, gap=gap)


def _tells(text: str) -> bool:
    return SECRET.lower() in text.lower() or NUMBER in text


@settings(max_examples=examples(6_000))
@given(statement=statements(), planned=st.booleans())
def test_no_literal_is_told_of_a_statement_that_was_read(statement: tuple[str, str], planned: bool) -> None:
    dialect, text = statement
    told = planner.redacted(text, dialect, True, planned)
    assert not _tells(told)
    assert "t1" in told or "a1" in told


@settings(max_examples=examples(6_000))
@given(statement=statements(), data=st.data())
def test_no_literal_is_told_of_a_text_that_was_not_read(statement: tuple[str, str], data: st.DataObject) -> None:
    """Cut off anywhere, signs taken out, in a dialect that it was not written in."""
    _, text = statement
    text = text[: data.draw(st.integers(0, len(text)))]
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, max(len(text) - 1, 0)))
        if text[at : at + 1] in ("(", ")", ",", " "):
            text = text[:at] + text[at + 1 :]
    assert not _tells(planner.redacted(text, data.draw(st.sampled_from(planner.dialects())), False, False))


@settings(max_examples=examples(1_000))
@given(text=st.text(st.characters(codec=None), max_size=200), read=st.booleans(), planned=st.booleans())
def test_any_text_can_be_redacted(text: str, read: bool, planned: bool) -> None:
    for dialect in ("duckdb", "mysql", "oracle", "no dialect"):
        assert isinstance(planner.redacted(text, dialect, read, planned), str)


@pytest.mark.parametrize(
    ("dialect", "text", "told"),
    [
        ("duckdb", "SELECT a FROM \"T 1\" WHERE b = 'x' AND c > 1.5", 'SELECT a FROM "T 1" WHERE b = ? AND c > ?'),
        ("mysql", 'SELECT `b` FROM t WHERE a = "x" # note', "SELECT `b` FROM t WHERE a = ?"),
        ("duckdb", '-- dialect: mysql\nSELECT "x", y', "SELECT ?, y"),
        ("tsql", "SELECT [col 1], $5.00 FROM t", "SELECT [col 1], ? FROM t"),
    ],
)
def test_what_is_left_can_still_be_read(dialect: str, text: str, told: str) -> None:
    assert planner.redacted(text, dialect, True, True) == told
