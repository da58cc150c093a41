"""How much one principal may take at a time, as its roles say. Data only: whoever serves the principal holds to it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

_MOST = 2**53


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one principal; 0: none by role.

    ``seconds`` of one statement, ``rows`` and ``bytes`` of one result, ``concurrent`` statements at one time,
    ``subscriptions`` open at one time.
    """

    seconds: float = 0.0
    rows: int = 0
    bytes: int = 0
    concurrent: int = 0
    subscriptions: int = 0

    @classmethod
    def from_table(cls, table: object) -> Limits:
        """The limits of a role's table ``limits``; ValueError says what can't be taken."""
        if not isinstance(table, Mapping):
            raise ValueError("write it as a table of numbers, such as { seconds = 30, rows = 1000000 }")  # noqa: TRY004
        known = [field.name for field in fields(cls)]
        for name, value in table.items():
            if name not in known:
                raise ValueError(f"there is no limit {name!r}; there are {', '.join(known)}")
            whole = name != "seconds"
            fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            if not fits or not math.isfinite(value) or not 0 < value <= _MOST:
                form = "a whole number above 0" if whole else "a number above 0"
                raise ValueError(f"{name} is {form}; leave it out for no limit")
        return cls(**table)


NO_LIMITS = Limits()


def most_generous(several: Iterable[Limits]) -> Limits:
    """Of each limit the highest, and none where one of them has none."""
    found = list(several)
    if not found:
        return NO_LIMITS
    highest = {}
    for field in fields(Limits):
        values = [getattr(limits, field.name) for limits in found]
        highest[field.name] = max(values) if all(values) else 0
    return Limits(**highest)
