"""The benchmark of subscriptions runs: its client, its yardsticks, and what it counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import live
from tests.components import require


@pytest.mark.slow
def test_all_that_is_sent_is_told(tmp_path: Path) -> None:
    require("go")
    client = live.build(tmp_path)
    found = live.fan_out(client, 5, 1, seconds=0.5, connections=2)
    assert set(found) == {live.OURS, live.GRPC, live.FLIGHT}
    filtered = live.fan_out(client, 5, 1, seconds=0.5, query=live.FILTERED, symbols=5)
    for values in (*found.values(), *filtered.values()):
        assert values["failed"] == 0
        assert values["rows"] + values["merged"] == values["rows_expected"] > 0
