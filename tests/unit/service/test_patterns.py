"""Patterns of the metadata commands: LIKE as a plain search says it, in time that grows with the text alone."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightsql_server.service.catalog import like


def _plainly(pattern: str, name: str) -> bool:
    """LIKE, read letter by letter."""

    @cache
    def found(at: int, letter: int) -> bool:
        if at == len(pattern):
            return letter == len(name)
        if pattern[at] == "%":
            return found(at + 1, letter) or (letter < len(name) and found(at, letter + 1))
        escaped = pattern[at] == "\\" and at + 1 < len(pattern)
        wanted = pattern[at + escaped]
        same = letter < len(name) and (wanted == name[letter] or (wanted == "_" and not escaped))
        return same and found(at + 1 + escaped, letter + 1)

    return found(0, 0)


@given(pattern=st.text("ab%_\\.", max_size=12), name=st.text("ab%_\\.", max_size=12))
def test_like_is_like(pattern: str, name: str) -> None:
    assert (like(pattern).fullmatch(name) is not None) == _plainly(pattern, name)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("pattern", ["%" * 2_000 + "x", "%a" * 500 + "b", "%_" * 500 + "b", "_%" * 40 + "b"])
def test_no_pattern_takes_long(pattern: str) -> None:
    assert like(pattern).fullmatch("a" * 1_000) is None
