"""DoPut to a dataset: what is acknowledged, what may be asked of a batch, what is sent twice, what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flightsql_server.client import Publisher
from flightsql_server.data.datasets import POSITIONS
from tests.conformance.clients import arrow, metric
from tests.conformance.putting import Outcome, Stream, latest, messages, put, quotes, stored
from tests.running import RunningServer, running_server

CONFIG = """
[roles.feed]
select = ["market_data", "positions"]
ingest = ["market_data", "positions"]
[roles.viewer]
select = ["market_data"]
ingest = ["market_data"]
"""
FEW_IDS = "[ingest]\nproducers_per_user = 3\n"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of these tests' own; its feed and its viewer may publish."""
    folder = tmp_path_factory.mktemp("doput")
    (folder / "test.toml").write_text(CONFIG, encoding="utf-8")
    with running_server(folder) as running:
        yield running


def terms(**asked: object) -> bytes:
    return json.dumps(asked).encode()


def last_seq(server: RunningServer) -> int:
    (row,) = arrow(server, "SELECT coalesce(max(_seq), 0) AS last FROM market_data_history", "admin").to_pylist()
    return int(row["last"])


# ---- acknowledgements ----------------------------------------------------------------------------------------------


def test_a_durable_batch_is_acknowledged_with_its_numbers(own: RunningServer) -> None:
    """The numbers are those of history, and the rows are there once it is acknowledged."""
    before = last_seq(own)
    with Stream(own) as stream:
        first = stream.send(quotes(("ACK1", 1.0, 5), ("ACK2", 2.0, 5)))
        assert first == {
            "first_seq": before + 1,
            "last_seq": before + 2,
            "rows": 2,
            "late_rows": 0,
            "level": "durable",
        }
        assert latest(own, "ACK") == {"ACK1": 1.0, "ACK2": 2.0}
        second = stream.send(quotes(("ACK1", 3.0, 4), ("ACK2", 3.0, 6), ("ACK2", 4.0, 5)), level="durable")
        assert second == {**first, "first_seq": before + 3, "last_seq": before + 5, "rows": 3, "late_rows": 2}
    assert latest(own, "ACK") == {"ACK1": 1.0, "ACK2": 3.0}


def test_a_batch_without_rows_is_acknowledged(own: RunningServer) -> None:
    with Stream(own) as stream:
        found = stream.send(quotes())
    assert (found["rows"], found["last_seq"] - found["first_seq"]) == (0, -1)


def test_a_batch_of_level_memory_is_acknowledged_when_it_is_queued(own: RunningServer) -> None:
    """Its numbers are not known yet; the stream ends well only when all of it was stored."""
    unknown = {"first_seq": None, "last_seq": None, "late_rows": None}
    with Stream(own) as stream:
        found = stream.send(quotes(("MEM1", 1.0, 0)), level="memory", producer_id="mem", producer_seq=3)
        assert found == {**unknown, "rows": 1, "level": "memory", "producer_seq": 3}
        for seq in range(4, 60):
            found = stream.send(quotes(("MEM1", float(seq), seq)), producer_seq=seq)
            assert found == {**unknown, "rows": 1, "level": "memory", "producer_seq": seq}, "terms go on as they were"
        back = stream.send(quotes(("MEM2", 1.0, 0)), level="durable", producer_seq=60)
        assert (back["level"], back["rows"], back["producer_seq"]) == ("durable", 1, 60)
        assert back["first_seq"] is not None
    assert len(stored(own, "MEM")) == 58
    assert latest(own, "MEM") == {"MEM1": 59.0, "MEM2": 1.0}


def test_the_python_client_tells_both_levels(own: RunningServer) -> None:
    with Publisher(own.url, "market_data", user="feed", password="feed", level="memory") as publisher:
        receipt = publisher.publish(quotes(("PYM", 1.0, 0)))
        assert (receipt.rows, receipt.first_seq, receipt.late_rows) == (1, None, None)
    assert latest(own, "PYM") == {"PYM": 1.0}


# ---- terms ---------------------------------------------------------------------------------------------------------

UNREADABLE = "The app_metadata of a batch can't be read."
NO_LEVEL = "There is no such level."
BAD_ID = "producer_id can't be taken."
BAD_SEQ = "producer_seq can't be taken."
TOGETHER = "producer_id and producer_seq belong together."
BAD_TERMS: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{", UNREADABLE),
    "words": (b"durable", UNREADABLE),
    "no UTF-8": (b'{"level": "\xff"}', UNREADABLE),
    "bytes": (bytes(range(256)), UNREADABLE),
    "a list": (b"[]", UNREADABLE),
    "a text": (b'"durable"', UNREADABLE),
    "null": (b"null", UNREADABLE),
    "an unknown word": (terms(levle="durable"), UNREADABLE),
    "depth": (b"[" * 100_000, UNREADABLE),
    "depth inside": (b'{"level": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", UNREADABLE),
    "a number of 5000 digits": (b'{"producer_id": "a", "producer_seq": ' + b"9" * 5_000 + b"}", UNREADABLE),
    "an unknown level": (terms(level="disk"), NO_LEVEL),
    "a level that is a number": (terms(level=1), NO_LEVEL),
    "a level that is a list": (terms(level=["durable"]), NO_LEVEL),
    "no level": (terms(level=None), NO_LEVEL),
    "an id that is a number": (terms(producer_id=5, producer_seq=1), BAD_ID),
    "an id of 201 letters": (terms(producer_id="x" * 201, producer_seq=1), BAD_ID),
    "an id with a zero in it": (terms(producer_id="a\0b", producer_seq=1), BAD_ID),
    "an id that is no text": (b'{"producer_id": "\\ud800", "producer_seq": 1}', BAD_ID),
    "no number": (terms(producer_id="a"), TOGETHER),
    "a number that is null": (terms(producer_id="a", producer_seq=None), TOGETHER),
    "a number alone": (terms(producer_seq=1), TOGETHER),
    "an empty id": (terms(producer_id="", producer_seq=1), TOGETHER),
    "a number below 0": (terms(producer_id="a", producer_seq=-1), BAD_SEQ),
    "a number of 64 bits": (terms(producer_id="a", producer_seq=2**63), BAD_SEQ),
    "a huge number": (terms(producer_id="a", producer_seq=10**400), BAD_SEQ),
    "a number with a point": (terms(producer_id="a", producer_seq=1.5), BAD_SEQ),
    "a number that is true": (terms(producer_id="a", producer_seq=True), BAD_SEQ),
    "a number that is text": (terms(producer_id="a", producer_seq="1"), BAD_SEQ),
    "no number at all": (b'{"producer_id": "a", "producer_seq": NaN}', BAD_SEQ),
}


@pytest.mark.covers("grpc", "Plain")
@pytest.mark.parametrize("name", BAD_TERMS)
def test_terms_that_can_not_be_taken_refuse_the_batch(own: RunningServer, name: str) -> None:
    """Nothing of it is stored, nor of what follows; what came before was acknowledged and stays."""
    metadata, words = BAD_TERMS[name]
    prefix = f"T{list(BAD_TERMS).index(name)} "
    batches = [quotes((prefix + kind, 1.0, 0)) for kind in ("kept", "bad", "behind")]
    outcome = put(own, messages(batches, {1: metadata}))
    assert (outcome.code, outcome.words.partition(" ")[0]) == ("INVALID_ARGUMENT", "[22023]")
    assert words in outcome.words
    assert [found["rows"] for found in outcome.acknowledged] == [1]
    assert stored(own, prefix) == [(prefix + "kept", 1.0, "upsert")]


def test_a_producer_must_number_every_batch(own: RunningServer) -> None:
    """The id goes on for the whole stream, so a batch without a number is refused."""
    batches = [quotes(("EVERY", 1.0, 0)), quotes(("EVERY", 2.0, 1))]
    outcome = put(own, messages(batches, {0: terms(producer_id="every", producer_seq=1)}))
    assert (outcome.code, len(outcome.acknowledged)) == ("INVALID_ARGUMENT", 1)
    assert TOGETHER in outcome.words
    assert latest(own, "EVERY") == {"EVERY": 1.0}


@pytest.mark.parametrize("id_", ["x", "x" * 200, "Händler ☃ 😀", " ", "'; DROP TABLE market_data --", '"'])
def test_ids_and_numbers_at_the_edge_are_taken(own: RunningServer, id_: str) -> None:
    with Stream(own) as stream:
        assert stream.send(quotes(("EDGE", 1.0, 0)), producer_id=id_, producer_seq=0)["producer_seq"] == 0
        assert "duplicate" not in stream.send(quotes(("EDGE", 1.0, 0)), producer_seq=2**63 - 1)
        assert stream.send(quotes(("EDGE", 1.0, 0)), producer_seq=2**63 - 1)["duplicate"]


# ---- exactly once --------------------------------------------------------------------------------------------------


def test_a_batch_that_is_sent_again_is_stored_once(own: RunningServer) -> None:
    """In the same stream, in another, and with a smaller number than the last: acknowledged as a duplicate."""
    series = 'flightsql_duplicate_batches_total{dataset="market_data"}'
    before = metric(own, series)
    named: dict[str, Any] = {"producer_id": "once"}
    again = {"first_seq": None, "last_seq": None, "rows": 0, "late_rows": 0, "level": "durable", "duplicate": True}
    with Stream(own) as stream:
        for seq in (7, 8):
            found = stream.send(quotes((f"ONCE{seq}", 1.0, 0)), **named, producer_seq=seq)
            assert (found["rows"], found["producer_seq"], "duplicate" in found) == (1, seq, False)
        assert stream.send(quotes(("ONCE8", 9.0, 9)), **named, producer_seq=8) == {**again, "producer_seq": 8}
    with Stream(own) as stream:
        for seq in (7, 8, 3):
            found = stream.send(quotes((f"ONCE{seq}", 9.0, 9)), **named, producer_seq=seq)
            assert found == {**again, "producer_seq": seq}
        assert stream.send(quotes(("ONCE12", 1.0, 0)), **named, producer_seq=12)["rows"] == 1, "numbers may be left out"
        assert stream.send(quotes(("ONCE13", 1.0, 0)), **named, producer_seq=13)["rows"] == 1
    assert stored(own, "ONCE") == [(f"ONCE{seq}", 1.0, "upsert") for seq in (7, 8, 12, 13)]
    assert metric(own, series) == before + 4


def test_ids_belong_to_a_user_and_a_dataset(own: RunningServer) -> None:
    """The same id and number from another user, or to another dataset, is another batch."""
    for user in ("viewer", "admin", "feed"):
        with Stream(own, user) as stream:
            found = stream.send(quotes((f"WHOSE {user}", 1.0, 0)), producer_id="whose", producer_seq=1)
            assert (found["rows"], "duplicate" in found) == (1, False)
    fixed = {"symbol": pa.array(["WHOSE"]), "updated_at": quotes(("A", 1.0, 0)).column("timestamp")}
    row = pa.RecordBatch.from_arrays(
        [fixed.get(field.name, pa.array(["1"])).cast(field.type) for field in POSITIONS.schema], schema=POSITIONS.schema
    )
    with Stream(own, "feed", "positions", POSITIONS.schema) as stream:
        assert stream.send(row, producer_id="whose", producer_seq=1)["rows"] == 1
        assert stream.send(row, producer_seq=1)["duplicate"]
    assert len(stored(own, "WHOSE")) == 3
    assert len(stored(own, "WHOSE", "positions")) == 1


def test_what_was_sent_before_a_restart_is_known_after_it(tmp_path: Path) -> None:
    """By the number alone, whoever restarts; and a batch that was not stored is."""
    sent = [quotes((f"R{n}", 1.0, n)) for n in range(6)]
    with (
        running_server(tmp_path) as server,
        Publisher(server.url, "market_data", user="feed", password="feed", producer_id="r") as publisher,
    ):
        assert [receipt.rows for receipt in publisher.publish_all(sent[:4])] == [1] * 4
    with running_server(tmp_path) as server:
        with Publisher(server.url, "market_data", user="feed", password="feed", producer_id="r") as publisher:
            receipts = list(publisher.publish_all(sent))
        assert [receipt.duplicate for receipt in receipts] == [True] * 4 + [False] * 2
        assert [receipt.producer_seq for receipt in receipts] == list(range(6))
        assert (publisher.rows, receipts[4].first_seq, receipts[5].last_seq) == (2, 5, 6)
        assert [row[0] for row in stored(server, "R")] == [f"R{n}" for n in range(6)]


def test_a_user_has_so_many_ids_and_no_more(tmp_path: Path) -> None:
    """What is over the limit is refused by its name; ids that are known go on, also after a restart."""
    (tmp_path / "test.toml").write_text(CONFIG + FEW_IDS, encoding="utf-8")

    def one(server: RunningServer, id_: str, seq: int, user: str = "feed") -> Outcome:
        return put(server, messages([quotes(("MANY", 1.0, 0))], {0: terms(producer_id=id_, producer_seq=seq)}), user)

    with running_server(tmp_path) as server:
        assert [one(server, f"id {n}", 1).code for n in range(3)] == ["OK"] * 3
    with running_server(tmp_path) as server:
        refused = one(server, "id 3", 1)
        assert (refused.code, refused.acknowledged) == ("RESOURCE_EXHAUSTED", [])
        assert refused.words.startswith("[53400] You have 3 producer ids on market_data already.")
        assert one(server, "id 2", 2).code == "OK"
        assert one(server, "id 3", 1, "viewer").code == "OK", "another user has ids of its own"
        assert put(server, messages([quotes(("MANY", 1.0, 0))])).code == "OK", "who numbers nothing needs no id"
        assert len(stored(server, "MANY")) == 6
        assert metric(server, 'flightsql_limits_hit_total{limit="ingest.producers_per_user"}') == 1


# ---- order and failure ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["durable", "memory"])
def test_after_a_bad_batch_nothing_that_follows_is_stored(own: RunningServer, level: str) -> None:
    """All before it is stored and acknowledged, none behind it, however many were on their way."""
    prefix = f"HOLE {level} "
    batches = [quotes((f"{prefix}{n}", 1.0, 0)) for n in range(20)]
    batches[12] = quotes((prefix + "12", 1.0, 0), (None, 1.0, 0))
    outcome = put(own, messages(batches, {0: terms(level=level)}))
    assert outcome.code == "INVALID_ARGUMENT"
    assert outcome.words.startswith("[22023] Column symbol of market_data is null in row 1.")
    assert len(outcome.acknowledged) == 12
    assert [row[0] for row in stored(own, prefix)] == [f"{prefix}{n}" for n in range(12)]


def test_after_a_commit_that_fails_nothing_that_follows_is_stored(tmp_path: Path) -> None:
    """Too many ids is found out by the writer only, when more of the stream is on its way already."""
    (tmp_path / "test.toml").write_text(CONFIG + FEW_IDS, encoding="utf-8")
    with running_server(tmp_path) as server:
        for n in range(3):
            put(server, messages([quotes(("FILL", 1.0, 0))], {0: terms(producer_id=f"fill {n}", producer_seq=1)}))
        for level in ("durable", "memory"):
            numbered = {n: terms(producer_id="full", producer_seq=n, level=level) for n in range(20)}
            outcome = put(server, messages([quotes((f"FULL{n}", 1.0, 0)) for n in range(20)], numbered))
            assert (outcome.code, outcome.words.partition(" ")[0]) == ("RESOURCE_EXHAUSTED", "[53400]")
            assert not outcome.acknowledged or level == "memory"
        assert stored(server, "FULL") == []
