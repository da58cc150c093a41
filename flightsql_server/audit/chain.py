"""Lines of the audit trail: one JSON object each, which holds the hash of the line before it and, last, its own.

A hash is HMAC-SHA256 over the line's bytes up to it, under the trail's key. Everything is written as printable ASCII,
so that no text can end a line or look like another one.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BEGINNING = "0" * 64
"""What the first line of a trail names as the hash before it."""

_MARK, _END = b',"hash":"', b'"}\n'
_TAIL = len(_MARK) + 64 + len(_END)
_ENCODE = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False).encode


@dataclass(frozen=True, slots=True)
class Line:
    """One line that was written under the trail's key. ``facts`` is all that it says, sequence and hash among it."""

    sequence: int
    previous: str
    hash: str
    facts: Mapping[str, Any]


def seal(key: bytes, sequence: int, previous: str, facts: Mapping[str, Any]) -> tuple[bytes, str]:
    """The line as it goes to the file, with its newline, and its hash."""
    body = _ENCODE({"sequence": sequence, "previous": previous, **facts})[:-1].encode("ascii")
    digest = hmac.digest(key, body, "sha256").hex()
    return b"".join((body, _MARK, digest.encode("ascii"), _END)), digest


def unseal(key: bytes, raw: bytes) -> Line | None:
    """What a line with its newline says; None when it is not, to the last byte, one that was written under the key."""
    body, tail = raw[:-_TAIL], raw[-_TAIL:]
    digest = hmac.digest(key, body, "sha256").hex()
    if not hmac.compare_digest(tail, b"".join((_MARK, digest.encode("ascii"), _END))):
        return None
    facts = json.loads(body + b"}")
    return Line(facts["sequence"], facts["previous"], digest, {**facts, "hash": digest})


def head_key(key: bytes) -> bytes:
    """The key of the note that says how far the trail goes: that note can't be passed off as a line of it."""
    return hmac.digest(key, b"head", "sha256")


def key_id(key: bytes) -> str:
    """A short name of the key, which tells nothing of it."""
    return hmac.digest(key, b"id", "sha256").hex()[:16]
