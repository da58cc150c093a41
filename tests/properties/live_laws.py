"""What must hold of every subscriber: snapshot and updates are the table, nothing is missing, nothing comes twice."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from flightsql_server.data.datasets import Dataset
from tests.properties.live_oracle import Change, Key, Policy, Query, Row, Sight, answer_at, changes, sight
from tests.properties.live_world import Follower, Rooms, Stretch


async def table_is_told(rooms: Rooms, follower: Follower) -> str:
    """Empty if the follower's rows are those that a plain statement gives; else what is wrong."""
    expected = await rooms.asked(follower.text)
    names = list(expected[0]) if expected else []
    found = [tuple(row[name] for name in names) for row in follower.mirror.values()]
    if sorted(map(repr, found)) == sorted(repr(tuple(row.values())) for row in expected):
        return ""
    return f"{follower.text} ({follower.mode}): was told {found}, and the table is {expected}"


def check_told(follower: Follower, history: Sequence[Row], queries: list[Query], policies: list[Policy]) -> None:
    """AssertionError where what was told is not what one of the queries, under one of the policies, had to tell.

    Between two places it is one of them: which, the follower can't know while they change.
    """
    assert not follower.wrong, (follower.text, follower.mode, follower.wrong)
    if follower.kind != "rows" or not queries:
        return
    dataset = queries[0].dataset
    looks = [sight(query, policy) for query, policy in itertools.product(queries, policies) if policy.by_row]
    for what, told in (("snapshot", follower.snapshots), ("move", follower.moves)):
        for seq, answer in told:
            possible = [answer_at(dataset, history, look, seq) for look in looks]
            assert any(answer == one for one in possible), (what, follower.text, seq, answer, possible)
    for stretch in follower.stretches:
        reasons = [_unlike(follower.mode, dataset, history, look, stretch) for look in looks]
        assert not looks or "" in reasons, (follower.text, follower.mode, stretch, reasons)


def settle_told(follower: Follower) -> None:
    """What was told so far has been looked at; what comes is a stretch of its own."""
    follower.snapshots.clear()
    follower.moves.clear()
    follower.stretches.clear()
    if follower.seq is not None:
        follower.stretches.append(Stretch(follower.seq, last=follower.seq))


def _unlike(mode: str, dataset: Dataset, history: Sequence[Row], looks: Sight, stretch: Stretch) -> str:
    due = [change for change in changes(dataset, history, looks) if stretch.start < change.seq <= stretch.last]
    told = [
        Change(seq, key, row if change == "upsert" else None)
        for one in stretch.told
        for seq, change, key, row in one.rows
    ]
    if mode == "buffer":
        return "" if told == due else f"every change is told: {due}"
    if any(one not in due for one in told):
        return f"only what changed is told: {due}"
    if stretch.broken:
        return ""
    if {one.key: one for one in told} != _newest(due):
        return f"the newest of each key is told: {due}"
    if len(told) + sum(one.merged for one in stretch.told) != len(due):
        return f"what is left out is counted: {due}"
    return ""


def _newest(due: Sequence[Change]) -> dict[Key, Change]:
    return {one.key: one for one in due}
