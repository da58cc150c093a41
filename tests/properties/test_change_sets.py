"""Commits that are told together mean what they mean one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flightsql_server.data import deltas
from flightsql_server.data import feed as feed_room
from flightsql_server.data.datasets import DATASETS, Dataset
from flightsql_server.data.feed import SEQ, ChangeSet, joined
from tests.conftest import examples
from tests.desk import Desk, open_desk
from tests.properties.test_ingest import apart, batch_of, few_keys

_NUMBERS = count(1)
Told = list[ChangeSet]


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Told]]:
    told: Told = []
    with open_desk(tmp_path_factory.mktemp("feed"), publish=lambda name, seq, rows: told.append(rows)) as desk:
        yield desk, told


def _told(feed: tuple[Desk, Told], dataset: Dataset, data: st.DataObject) -> Told:
    """What became of some commits of rows under few keys."""
    desk, told = feed
    told.clear()
    sent: list[list[dict[str, Any]]] = apart(data.draw(few_keys(dataset)), dataset, next(_NUMBERS))
    for rows in sent:
        if rows:
            desk.send(dataset, batch_of(dataset, rows)).result(30)
    return list(told)


def _half(row: dict[str, Any]) -> bool:
    return len(str(sorted(row.items()))) % 2 == 0


def _delta(change_set: ChangeSet, holds: Callable[[dict[str, Any]], bool] = _half) -> pa.Table:
    """What a query over the rows makes of it: one that holds for about half of them, whatever their columns."""
    present = change_set.present
    held = [holds(row) for row in present.drop([present.column_names[-1]]).to_pylist()]
    dataset = change_set.dataset
    key = [dataset.schema.names.index(name) for name in dataset.key]
    return deltas.delta(change_set, present.filter(pa.array(held, pa.bool_())), key)


@pytest.mark.parametrize("name", DATASETS)
@settings(max_examples=examples(200), suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_together_they_change_what_they_change_one_by_one(
    feed: tuple[Desk, Told], name: str, data: st.DataObject
) -> None:
    dataset = DATASETS[name]
    told = _told(feed, dataset, data)
    for first in range(len(told)):
        for last in range(first + 1, len(told) + 1):
            sets = told[first:last]
            together = joined(sets)
            assert (together.first_seq, together.last_seq) == (sets[0].first_seq, sets[-1].last_seq)
            # As text, for NaN is no other NaN.
            assert str(_delta(together).to_pylist()) == str([row for one in sets for row in _delta(one).to_pylist()])
            before = {tuple(row[k] for k in dataset.key) for row in together.known.to_pylist()}
            assert len(before) == together.known.num_rows, "of each key one row at most stood before"
            assert together.rows.column(SEQ).to_pylist() == list(range(sets[0].first_seq, sets[-1].last_seq + 1))


@pytest.mark.parametrize("name", DATASETS)
@settings(max_examples=examples(100), suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_a_part_of_them_says_the_same_to_who_asks_for_no_more(
    feed: tuple[Desk, Told], monkeypatch: pytest.MonkeyPatch, name: str, data: st.DataObject
) -> None:
    """Also where a row has taken another text since, or none at all."""
    monkeypatch.setattr(feed_room, "_FEW_ROWS", 0)
    dataset = DATASETS[name]
    told = _told(feed, dataset, data)
    for change_set in [*told, *([joined(told)] if told else [])]:
        for column in (field.name for field in dataset.schema if pa.types.is_string(field.type)):
            known = {text for text in change_set.rows.column(column).to_pylist() if text is not None}
            for texts in ({*sorted(known)[:1]}, {*sorted(known)[1:], "nowhere"}, set[str]()):

                def holds(row: dict[str, Any], column: str = column, texts: set[str] = texts) -> bool:
                    return row[column] in texts

                part = change_set.about(column, frozenset(texts))
                assert str(_delta(part, holds).to_pylist()) == str(_delta(change_set, holds).to_pylist())
