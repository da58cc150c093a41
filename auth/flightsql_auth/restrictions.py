"""What a role shows of a table that it grants: which rows, and which columns masked. Data only: no SQL is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

MAIN_SCHEMA: Final = "main"
EVERYTHING: Final = "*"
Writing = Literal["insert", "ingest"]


def covers(pattern: str, *, schema: str, name: str, dataset: str | None) -> bool:
    """Whether a pattern of a policy means this table; ``*`` means every one."""
    return (
        pattern == EVERYTHING
        or (pattern == name and schema == MAIN_SCHEMA)
        or (pattern == dataset and dataset is not None)
        or pattern in (f"{schema}.{name}", f"{schema}.*")
    )


@dataclass(frozen=True, slots=True)
class Restriction:
    """Of the tables that ``pattern`` means: the rows for which ``predicate`` is true (empty: all of them), and columns
    with the masks that they wear.
    """

    pattern: str
    predicate: str = ""
    masks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Reader:
    """One role: what it may select, ingest and insert, and how much of that it is shown."""

    select: frozenset[str]
    restrictions: tuple[Restriction, ...] = ()
    ingest: frozenset[str] = frozenset()
    insert: frozenset[str] = frozenset()

    def view(
        self, private: bool, writing: Writing | None = None, *, schema: str, name: str, dataset: str | None
    ) -> View | None:
        """What the role shows of a table, or lets be written; None: it does not grant it.

        ``*`` grants nothing that is ``private``.
        """
        granted = self.select if writing is None else self.ingest
        if writing == "insert":
            granted = self.ingest | self.insert
        patterns = (pattern for pattern in granted if not (private and pattern == EVERYTHING))
        if not any(covers(pattern, schema=schema, name=name, dataset=dataset) for pattern in patterns):
            return None
        mine = [one for one in self.restrictions if covers(one.pattern, schema=schema, name=name, dataset=dataset)]
        predicates = tuple(sorted({one.predicate for one in mine if one.predicate}))
        masks = dict(pair for one in mine for pair in one.masks)
        return View(predicates, tuple(sorted(masks.items())))


@dataclass(frozen=True, slots=True)
class View:
    """The rows for which every predicate holds, with these columns masked. No predicates and no masks: the table."""

    predicates: tuple[str, ...] = ()
    masks: tuple[tuple[str, str], ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether nothing is kept back."""
        return not self.predicates and not self.masks


def restrictions(filters: Mapping[str, str], masks: Mapping[str, Mapping[str, str]]) -> tuple[Restriction, ...]:
    """Those of a role, from its tables ``filters`` and ``masks``, by pattern."""
    return tuple(
        Restriction(pattern, filters.get(pattern, ""), tuple(sorted(masks.get(pattern, {}).items())))
        for pattern in sorted({*filters, *masks})
    )
