"""A server that is killed while it stores: what it acknowledged is there afterwards, whole, once and in its order."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest

from tests.faults.promises import Acknowledged, Publishers, Stored, check_kept, stored
from tests.faults.publisher import AHEAD, Row, rows_of
from tests.faults.restarting import BrokenServer, attempt, free_port, server_on

# A short log, so that kills meet the folding of the log into the file as well as commits.
SHORT_LOG = {"FLIGHTSQL_ENGINE_LOG_BYTES": "200000"}
STEPS = ("latest", "commit", "committed", "noted", "acknowledged")


def dice() -> random.Random:
    """The moments of the kills; the seed follows from the one that the test run prints."""
    seed = random.randrange(2**32)
    print(f"seed of the kills: {seed}")
    return random.Random(seed)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_loses_nothing_acknowledged_and_stores_nothing_twice(tmp_path: Path, kills: int) -> None:
    """Three publishers in processes of their own go on over every kill, sending again what was not acknowledged."""
    moments, port, data_dir = dice(), free_port(), tmp_path / "data"
    said: list[str] = []
    server = server_on(port, data_dir, **SHORT_LOG)
    try:
        with Publishers(server.url, tmp_path / "publishers") as publishers:
            publishers.wait_for(10)
            for number in range(kills):
                moment = moments.uniform(0.01, 1.0)
                print(f"kill {number + 1} after {moment:.3f} s")
                time.sleep(moment)
                server.kill()
                said += server.output
                server = server_on(port, data_dir, **SHORT_LOG)
            publishers.wait_for(10)
            journals = publishers.finish()
        check_kept(stored(server.url), journals)
        assert server.stop() == 0
        assert "Traceback" not in "".join([*said, *server.output])
        server = server_on(port, data_dir)
        check_kept(stored(server.url), journals)
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_death_at_each_step_of_a_commit(tmp_path: Path, step: str) -> None:
    port, data_dir = free_port(), tmp_path / "data"
    broken = BrokenServer(f"dies:{step}:40", port, data_dir)
    with broken, Publishers(broken.url, tmp_path / "publishers") as publishers:
        assert broken.process.wait(60) == -signal.SIGKILL
        server = server_on(port, data_dir)
        try:
            publishers.wait_for(10)
            journals = publishers.finish()
            check_kept(stored(server.url), journals)
        finally:
            server.stop()


# ---- the check notices what it is for --------------------------------------------------------------------------------


def test_check_notices_commits_that_never_were(tmp_path: Path) -> None:
    """Without commits acknowledged rows are missing, in the running server already; the next one refuses to start."""
    data_dir = tmp_path / "data"
    with BrokenServer("forgets:20", free_port(), data_dir) as broken:
        with Publishers(broken.url, tmp_path / "publishers") as publishers:
            publishers.wait_for(30)
            journals = publishers.finish()
        found = stored(broken.url)
    assert found.history, "what was committed is there"
    with pytest.raises(AssertionError, match="acknowledged and lost"):
        check_kept(found, journals)
    refused = attempt(data_dir)
    assert refused.returncode == 1
    assert "were acknowledged" in refused.stderr


@pytest.mark.slow
def test_check_notices_batches_stored_twice(tmp_path: Path) -> None:
    """The kill comes between a commit and its acknowledgement, so the batch is sent again."""
    port, data_dir = free_port(), tmp_path / "data"
    dying = BrokenServer("dies:committed:20", port, data_dir)
    with dying, Publishers(dying.url, tmp_path / "publishers", (AHEAD,)) as publishers:
        assert dying.process.wait(60) == -signal.SIGKILL
        with BrokenServer("doubles:0", port, data_dir) as broken:
            publishers.wait_for(5)
            journals = publishers.finish()
            found = stored(broken.url)
    with pytest.raises(AssertionError, match="stored twice"):
        check_kept(found, journals)


def _whole() -> tuple[Stored, dict[int, list[Acknowledged]]]:
    """Rows and journals in order: what a server would hold of eight batches of one publisher."""
    history: list[Row] = []
    latest: dict[str, Row] = {}
    journal = []
    for number in range(8):
        rows = rows_of(0, number)
        first = len(history) + 1
        history += [{**row, "_seq": first + place, "_received_at": number} for place, row in enumerate(rows)]
        journal.append(Acknowledged(number, first, len(history), len(rows), False))
    for row in sorted(history, key=lambda row: (row["timestamp"], row["_seq"])):
        latest[row["symbol"]] = row
    shown = [
        {name: value for name, value in row.items() if not name.startswith("_")}
        for row in latest.values()
        if row["_change"] == "upsert"
    ]
    return Stored(history, shown), {0: journal}


def _renumber(found: Stored) -> None:
    for place, row in enumerate(found.history):
        row["_seq"] = place + 1


def _lose_the_end(found: Stored) -> None:
    del found.history[-1]


def _lose_in_the_middle(found: Stored) -> None:
    del found.history[len(found.history) // 2]
    _renumber(found)


def _lose_a_batch(found: Stored) -> None:
    found.history[:] = [row for row in found.history if row["_received_at"] != 3]
    _renumber(found)


def _leave_a_gap(found: Stored) -> None:
    found.history[-1]["_seq"] += 1


def _repeat(found: Stored) -> None:
    found.history.append({**found.history[-1], "_seq": len(found.history) + 1})


def _change_a_value(found: Stored) -> None:
    found.history[5]["ask_price"] += 1e-9


def _keep_an_old_row(found: Stored) -> None:
    found.latest[0]["volume"] -= 1


def _forget_a_key(found: Stored) -> None:
    del found.latest[0]


def _keep_a_deleted_key(found: Stored) -> None:
    found.latest.append({**found.latest[0], "symbol": "deleted"})


@pytest.mark.parametrize(
    "spoil",
    [
        _lose_the_end,
        _lose_in_the_middle,
        _lose_a_batch,
        _leave_a_gap,
        _repeat,
        _change_a_value,
        _keep_an_old_row,
        _forget_a_key,
        _keep_a_deleted_key,
    ],
)
def test_check_notices(spoil: Callable[[Stored], None]) -> None:
    found, journals = _whole()
    check_kept(found, journals)
    spoilt = deepcopy(found)
    spoil(spoilt)
    with pytest.raises(AssertionError):
        check_kept(spoilt, journals)
