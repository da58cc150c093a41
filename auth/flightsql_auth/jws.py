"""Signed tokens in compact form, taken apart strictly: one text has one meaning, or none.

What two readers could understand differently is refused: base64 with spare bits, duplicated members of an object, NaN.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from .errors import BadToken

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
MAX_NUMBER: Final = 2.0**53


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A token whose signature nobody has checked yet: ``claims`` are what somebody says, not what is so."""

    header: Mapping[str, object]
    claims: Mapping[str, object]
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def parse(text: str, max_characters: int) -> SignedToken:
    """The parts of a compact JWS whose payload is an object. Raises ``BadToken`` on everything else."""
    compact = _COMPACT.fullmatch(text) if len(text) <= max_characters else None
    if compact is None:
        raise BadToken
    header, payload, signature = (decode_base64url(part) for part in compact.groups())
    signed = text[: compact.end(2)].encode("ascii")
    return SignedToken(parse_object(header), parse_object(payload), signed, signature)


def decode_base64url(text: str) -> bytes:
    """The bytes of unpadded base64url, if no other text stands for the same ones. Raises ``BadToken``."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise BadToken from None
    if encode_base64url(data) != text:
        raise BadToken
    return data


def encode_base64url(data: bytes) -> str:
    """The bytes as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def parse_object(data: bytes) -> dict[str, object]:
    """The JSON object in UTF-8, no member of it or of an object within it named twice. Raises ``BadToken``."""
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise BadToken from None
    if not isinstance(found, dict):
        raise BadToken
    return found


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member twice")
    return found


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def number(claims: Mapping[str, object], name: str) -> float:
    """The claim as a time in seconds. Raises ``BadToken`` if it is none, or no number that a clock could show."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -MAX_NUMBER < value < MAX_NUMBER:
        raise BadToken
    return float(value)


def text(claims: Mapping[str, object], name: str) -> str:
    """The claim as a text that isn't empty. Raises ``BadToken`` if it is none."""
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise BadToken
    return value
