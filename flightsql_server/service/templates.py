"""Plans for texts that differ only in the values they compare with: planned once, filled in after that.

A desk's programs write values into their text (``WHERE symbol = 'ADG'``), so the plan cache alone would plan the same
statement for each symbol. A text is cut at its plain text literals; two texts with equal pieces are of one shape. The
first of a shape is planned twice, as it is and with marks for the values that may differ; only if the marked plan,
filled with the first text's values, is letter for letter the first text's plan, it serves the others of the shape.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

# A literal that means the same in every dialect: printable ASCII without quotes, backslashes and the like, not preceded
# by a letter that would make it another kind of literal, in a text without comments and other ways of quoting.
_LITERAL = re.compile(r"(?<![\w'])'([ !#-&(-\[\]-~]*)'(?!')")
_OTHER_QUOTING = re.compile(r"""["`\\$#\[]|--|/\*|//""")
_LONGEST_TEXT = 16_384
_MOST_VALUES = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """A text cut at its literals: ``pieces`` is one longer than ``values``."""

    pieces: tuple[str, ...]
    values: tuple[str, ...]

    def with_values(self, values: tuple[str, ...]) -> str:
        """The text with other values."""
        out = [self.pieces[0]]
        for value, piece in zip(values, self.pieces[1:], strict=True):
            out += ("'", value, "'", piece)
        return "".join(out)


def shape_of(text: str) -> Shape | None:
    """The text's shape; None when it has no plain literal, or quotes in any way that could be read differently."""
    if len(text) > _LONGEST_TEXT or "'" not in text or _OTHER_QUOTING.search(text):
        return None
    parts = _LITERAL.split(text)
    pieces, values = tuple(parts[::2]), tuple(parts[1::2])
    # An empty text is NULL in some dialects, so what holds one is not of the shape of the others.
    if not all(values) or not values or len(values) > _MOST_VALUES or any("'" in piece for piece in pieces):
        return None
    return Shape(pieces, values)


class Marks:
    """Values that nobody can write by chance: one for each slot, unlike any other text of this process."""

    def __init__(self) -> None:
        self._stem = "v" + secrets.token_hex(12)

    def mark(self, slot: int) -> str:
        return f"{self._stem}x{slot}x"

    def cut(self, sql: str, slots: tuple[int, ...]) -> tuple[tuple[str, ...], tuple[int, ...]] | None:
        """The written SQL cut at its marks, and the slot of each cut; None unless each stands once, as a literal."""
        parts = re.split(f"'{self._stem}x([0-9]+)x'", sql)
        order = tuple(int(part) for part in parts[1::2])
        if sorted(order) != sorted(slots) or any(self._stem in piece for piece in parts[::2]):
            return None
        return tuple(parts[::2]), order


@dataclass(frozen=True, slots=True)
class Template:
    """A written statement cut at the values that may differ. ``order``: the slot whose value goes into each cut."""

    pieces: tuple[str, ...]
    order: tuple[int, ...]

    def fill(self, values: tuple[str, ...]) -> str:
        """The written statement for these values; they hold no quote, so they need no escape."""
        out = [self.pieces[0]]
        for slot, piece in zip(self.order, self.pieces[1:], strict=True):
            out += ("'", values[slot], "'", piece)
        return "".join(out)
