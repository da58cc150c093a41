"""No change to the files of an audit trail goes unseen, whatever its lines say; none is seen where there is none."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flightsql_server.audit import verify
from flightsql_server.audit.chain import seal
from flightsql_server.audit.files import HEAD, TrailFiles, trail_files
from tests.conftest import examples

KEY = bytes(range(32))
_TEXT = st.text(st.characters(codec=None), max_size=40) | st.sampled_from(
    ["a\nb", '"}\n{"sequence":1', '","hash":"', "\x00\r\x1b[2J", "\ud800 half a letter", "é😀", "x" * 5_000]
)
_FACTS = st.lists(st.dictionaries(st.sampled_from(["user", "statement", "peer"]), _TEXT), min_size=3, max_size=12)


def _written(folder: Path, facts: Sequence[Mapping[str, Any]], rotate_bytes: int) -> None:
    files = TrailFiles(folder, KEY, rotate_bytes=rotate_bytes, keep_files=0, sync=False)
    for one in facts:
        files.append([{"event": "statement", **one}])
    files.append([{"event": "stop"}])
    files.close()


@contextmanager
def _trail(facts: Sequence[Mapping[str, Any]], rotate_bytes: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _written(folder, facts, rotate_bytes)
        yield folder


@settings(max_examples=examples(400))
@given(facts=_FACTS, rotate_bytes=st.sampled_from([1, 700, 10**9]))
def test_what_was_written_is_read_back_and_proved(facts: list[dict[str, str]], rotate_bytes: int) -> None:
    with _trail(facts, rotate_bytes) as folder:
        report = verify(folder, KEY)
        assert (report.problems, report.notes) == ([], [])
        assert (report.first, report.last, report.lines) == (1, len(facts) + 1, len(facts) + 1)
        raw = [line for _, path in trail_files(folder) for line in path.read_bytes().splitlines(keepends=True)]
        assert [json.loads(line)["sequence"] for line in raw] == list(range(1, len(facts) + 2))
        for line, one in zip(raw, facts, strict=False):
            assert line.isascii()
            assert line[:-1].decode().isprintable()
            assert {name: json.loads(line).get(name) for name in one} == one
        assert verify(folder, KEY, (report.last, report.last_hash)).problems == []
        assert verify(folder, KEY, (report.last, "0" * 64)).problems != []
        assert verify(folder, KEY, (report.last + 1, "0" * 64)).problems != []
        assert verify(folder, b"another key, also 32 bytes long.").problems != []


def _change(data: st.DataObject, folder: Path) -> None:
    """One change of the files; never one that leaves them as they were."""
    paths = [path for _, path in trail_files(folder)]
    path = data.draw(st.sampled_from(paths))
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 1))
    kinds = ["byte", "remove", "duplicate", "forge", "insert bytes", "truncate", "cut from the front", "drop the file"]
    kinds += ["swap"] if len(lines) > 1 else []
    kinds += ["swap files", "copy of another file"] if len(paths) > 1 else []
    kind = data.draw(st.sampled_from([*kinds, "head byte", "head gone"]))
    if kind == "byte":
        place, value = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(1, 255))
        path.write_bytes(content[:place] + bytes([content[place] ^ value]) + content[place + 1 :])
    elif kind == "remove":
        path.write_bytes(b"".join(lines[:at] + lines[at + 1 :]))
    elif kind == "duplicate":
        path.write_bytes(b"".join(lines[: at + 1] + lines[at:]))
    elif kind == "forge":
        known = json.loads(lines[at])
        forged, _ = seal(b"not the key", known["sequence"], known["previous"], {"event": "statement"})
        keep = data.draw(st.booleans())
        path.write_bytes(b"".join([*lines[:at], forged, *lines[at + (not keep) :]]))
    elif kind == "insert bytes":
        place = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:place] + data.draw(st.binary(min_size=1, max_size=9)) + content[place:])
    elif kind == "truncate":
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    elif kind == "cut from the front":
        path.write_bytes(content[data.draw(st.integers(1, len(content))) :])
    elif kind == "drop the file":
        path.unlink()
    elif kind == "swap":
        other = data.draw(st.integers(0, len(lines) - 1).filter(lambda number: number != at))
        lines[at], lines[other] = lines[other], lines[at]
        path.write_bytes(b"".join(lines))
    elif kind == "head gone":
        (folder / HEAD).unlink()
    elif kind == "head byte":
        head = (folder / HEAD).read_bytes().rstrip()
        place, value = data.draw(st.integers(0, len(head) - 1)), data.draw(st.integers(1, 255))
        (folder / HEAD).write_bytes(head[:place] + bytes([head[place] ^ value]) + head[place + 1 :])
    else:
        other_path = data.draw(st.sampled_from([one for one in paths if one != path]))
        if kind == "swap files":
            path.write_bytes(other_path.read_bytes())
            other_path.write_bytes(content)
        else:
            path.write_bytes(other_path.read_bytes())


@settings(max_examples=examples(3_000))
@given(facts=_FACTS, rotate_bytes=st.sampled_from([1, 700, 10**9]), data=st.data())
def test_any_change_is_found(facts: list[dict[str, str]], rotate_bytes: int, data: st.DataObject) -> None:
    with _trail(facts, rotate_bytes) as folder:
        _change(data, folder)
        assert verify(folder, KEY).problems != []


@settings(max_examples=examples(400))
@given(facts=_FACTS, rotate_bytes=st.sampled_from([1, 700, 10**9]), data=st.data())
def test_a_trail_that_was_changed_is_gone_on_with_and_stays_found_out(
    facts: list[dict[str, str]], rotate_bytes: int, data: st.DataObject
) -> None:
    """The next start neither fails nor covers up; but for the note of the end, which it writes anew and says so."""
    with _trail(facts, rotate_bytes) as folder:
        _change(data, folder)
        files = TrailFiles(folder, KEY, rotate_bytes=rotate_bytes, keep_files=0, sync=False)
        found = files.append([*files.found, {"event": "start"}])
        files.close()
        report = verify(folder, KEY)
        assert report.problems != [] or [one for one in found if one["event"] == "trail"] != []
        files = TrailFiles(folder, KEY, rotate_bytes=rotate_bytes, keep_files=0, sync=False)
        assert files.found == []
        assert files.sequence >= report.last
        files.close()


@settings(max_examples=examples(600))
@given(facts=_FACTS, rotate_bytes=st.sampled_from([700, 10**9]), data=st.data())
def test_a_line_that_a_kill_cut_off_is_taken_away_and_told(
    facts: list[dict[str, str]], rotate_bytes: int, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = TrailFiles(folder, KEY, rotate_bytes=rotate_bytes, keep_files=0, sync=False)
        files.append([{"event": "statement", **one} for one in facts])
        last, hash_ = files.sequence, files.hash
        files.close()
        line, _ = seal(KEY, last + 1, hash_, {"event": "statement", "statement": "SELECT 1"})
        torn = data.draw(st.integers(1, len(line) - 1))
        with trail_files(folder)[-1][1].open("ab") as file:
            file.write(line[:torn])
        before = verify(folder, KEY)
        assert before.problems == []
        assert len(before.notes) == 1
        files = TrailFiles(folder, KEY, rotate_bytes=rotate_bytes, keep_files=0, sync=False)
        assert [(one["what"], one["bytes"]) for one in files.found] == [("torn line taken away", torn)]
        files.append([*files.found, {"event": "start"}])
        files.close()
        after = verify(folder, KEY)
        assert (after.problems, after.notes, after.last) == ([], [], last + 2)
