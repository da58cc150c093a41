"""Rows that take several messages: each says how far a reader has come who gets no more."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightsql_server.service.channels import parts_of
from flightsql_server.service.readers import described
from flightsql_server.service.ring import Piece


def _piece(seqs: list[int]) -> Piece:
    rows = pa.table({"a": pa.array(seqs, pa.int64()), "_seq": pa.array(seqs, pa.int64())})
    return Piece(5, 60, rows, merged=3)


@given(seqs=st.lists(st.integers(5, 60), min_size=1, unique=True).map(sorted), count=st.integers(1, 9))
def test_parts_of_changes_join_without_gap_or_overlap(seqs: list[int], count: int) -> None:
    parts = list(parts_of(_piece(seqs), count))
    assert pa.concat_tables([part.rows for part in parts]).column("a").to_pylist() == seqs
    assert len(parts) <= count
    assert (parts[0].first, parts[-1].last) == (5, 60)
    for one, following in itertools.pairwise(parts):
        assert following.first == one.last + 1
    for part in parts:
        assert all(part.first <= seq <= part.last for seq in part.rows.column("_seq").to_pylist())
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert [part.merged for part in parts] == [0] * (len(parts) - 1) + [3]


@pytest.mark.parametrize("kind", [{"whole": True}, {"moved": True, "plan": "p"}, {"snapshot": True}])
def test_what_holds_only_as_a_whole_says_that_more_comes(kind: dict[str, object]) -> None:
    parts = list(parts_of(replace(_piece([7, 8, 9]), **kind), 3))  # type: ignore[arg-type]
    told = [json.loads(described(part)) for part in parts]
    assert [one.get("more", False) for one in told] == [True, True, False]
    if "moved" in kind:
        assert [one["seq"] for one in told] == [[5, 4], [5, 4], [5, 60]], "only with the last one has it gone over"
        assert [one["plan"] for one in told] == ["p"] * 3
    if "whole" in kind:
        assert [one.get("end", False) for one in told] == [False, False, True]
