"""What a subscriber must be told, worked out row by row in Python: nothing of the server's is used.

History says what happened to a dataset; a ``Sight`` says which rows somebody sees, and how. From both follows what an
answer was at any ``_seq``, and what every update changed in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from flightsql_server.data.datasets import TIMESTAMP, Dataset
from flightsql_server.model import Column

Row = dict[str, Any]
Key = tuple[Any, ...]
Sight = Callable[[Row], Row | None]
"""The row as it is shown; None: it is not."""

TICKS = Dataset(
    "ticks",
    (
        Column("symbol", pa.string(), False),
        Column("lots", pa.int64()),
        Column("note", pa.string()),
        Column("at", TIMESTAMP, False),
    ),
    ("symbol",),
    "at",
)
FILLS = Dataset(
    "fills",
    (
        Column("symbol", pa.string(), False),
        Column("number", pa.int32(), False),
        Column("lots", pa.int64()),
        Column("note", pa.string()),
        Column("at", pa.date32(), False),
    ),
    ("symbol", "number"),
    "at",
    delivery="buffer",
)
DATASETS = {dataset.name: dataset for dataset in (TICKS, FILLS)}


# ---- queries: as text for the server, as Python for the oracle


@dataclass(frozen=True)
class Part:
    """A piece of SQL, and what it means."""

    text: str
    means: Callable[[Row], Any]


COLUMNS = (
    Part("*", lambda row: dict(row)),
    Part("lots, note", lambda row: {"lots": row["lots"], "note": row["note"]}),
    Part(
        "lots * 2 AS twice, symbol, upper(note) AS loud",
        lambda row: {
            "twice": None if row["lots"] is None else row["lots"] * 2,
            "symbol": row["symbol"],
            "loud": None if row["note"] is None else row["note"].upper(),
        },
    ),
)
WHERES = (
    Part("TRUE", lambda row: True),
    Part("lots > 1", lambda row: row["lots"] is not None and row["lots"] > 1),
    Part("lots IS NULL OR lots <= 2", lambda row: row["lots"] is None or row["lots"] <= 2),
    Part("note IS NOT NULL AND length(note) < 3", lambda row: row["note"] is not None and len(row["note"]) < 3),
    Part("symbol <> 'B'", lambda row: row["symbol"] != "B"),
)
ANEW = (
    ("SELECT note, count(*) AS n, sum(lots) AS lots FROM ticks GROUP BY note", ("note",)),
    ("SELECT t.symbol, f.number, t.lots AS a, f.lots AS b FROM ticks t JOIN fills f USING (symbol)",
     ("symbol", "number")),
    ("SELECT DISTINCT lots FROM fills", ()),
    ("SELECT symbol, lots FROM ticks ORDER BY lots DESC NULLS LAST, symbol LIMIT 2", ("symbol",)),
    ("SELECT symbol, lots, row_number() OVER (ORDER BY symbol) AS place FROM ticks", ()),
)  # fmt: skip


@dataclass(frozen=True)
class Query:
    """Some columns of the rows of one dataset, and which rows."""

    dataset: Dataset
    columns: int
    where: int

    @property
    def text(self) -> str:
        where = f" WHERE {WHERES[self.where].text}" if self.where else ""
        return f"SELECT {COLUMNS[self.columns].text} FROM {self.dataset.name}{where}"

    def shows(self, row: Row) -> Row | None:
        """The row of the answer, with the columns of the key behind those asked for."""
        if not WHERES[self.where].means(row):
            return None
        shown: Row = COLUMNS[self.columns].means(row)
        return shown | {name: row[name] for name in self.dataset.key}


# ---- policies

FILTERS = (
    None,
    Part("lots > 0", lambda row: row["lots"] is not None and row["lots"] > 0),
    Part("note IS NULL OR note <> 'SECRET'", lambda row: row["note"] != "SECRET"),
    Part("symbol IN (claims.symbols)", lambda row: row["symbol"] in CLAIMS["symbols"]),
    # One that can't be told by the row alone: such a subscription is run anew.
    Part("lots >= (SELECT min(number) FROM fills)", lambda row: None),
)
CLAIMS = {"symbols": ["A", "C"]}
MASKS = (
    None,
    ("note", Part("null", lambda row: None)),
    ("note", Part("last4", lambda row: None if row["note"] is None else "****" + row["note"][-4:])),
    ("lots", Part("= lots * 10", lambda row: None if row["lots"] is None else row["lots"] * 10)),
    # The key itself: rows can't be told apart by it, and such a subscription is run anew.
    ("symbol", Part("hash", lambda row: None)),
)


@dataclass(frozen=True)
class Policy:
    """What the subscribers' role lets them see of both datasets."""

    filter: int = 0
    mask: int = 0
    tables: tuple[str, ...] = ("ticks", "fills")

    def toml(self) -> dict[str, Any]:
        made: dict[str, Any] = {"select": list(self.tables), "subscribe": list(self.tables)}
        given, mask = FILTERS[self.filter], MASKS[self.mask]
        if given is not None:
            made["filters"] = dict.fromkeys(self.tables, given.text)
        if mask is not None:
            made["masks"] = {table: {mask[0]: mask[1].text} for table in self.tables}
        return {"desk": made}

    @property
    def by_row(self) -> bool:
        """Whether what is seen follows from each row alone."""
        return self.filter < 4 and self.mask < 4

    def sees(self, row: Row) -> Row | None:
        given, mask = FILTERS[self.filter], MASKS[self.mask]
        if given is not None and not given.means(row):
            return None
        return dict(row) if mask is None else row | {mask[0]: mask[1].means(row)}


def sight(query: Query, policy: Policy) -> Sight:
    """What the query shows to who stands under the policy."""

    def look(row: Row) -> Row | None:
        seen = policy.sees(row)
        return None if seen is None else query.shows(seen)

    return look


# ---- what happened, and what it means


@dataclass(frozen=True)
class Change:
    """What one update changes in an answer; ``row`` None: the row of the key leaves it."""

    seq: int
    key: Key
    row: Row | None


def answer_at(dataset: Dataset, history: Sequence[Row], looks: Sight, upto: int) -> dict[Key, Row]:
    """The answer after the update ``upto``."""
    answer: dict[Key, Row] = {}
    for change in changes(dataset, history, looks):
        if change.seq > upto:
            break
        if change.row is None:
            del answer[change.key]
        else:
            answer[change.key] = change.row
    return answer


def changes(dataset: Dataset, history: Sequence[Row], looks: Sight) -> list[Change]:
    """What all of history changes in an answer that begins empty, update by update."""
    newest: dict[Key, Row] = {}
    shown: set[Key] = set()
    found = []
    for row in history:
        key = tuple(row[name] for name in dataset.key)
        before = newest.get(key)
        if before is not None and row[dataset.order_column] < before[dataset.order_column]:
            continue
        newest[key] = row
        bare = {name: row[name] for name in dataset.schema.names}
        now = looks(bare) if row["_change"] == "upsert" else None
        if now is not None:
            found.append(Change(row["_seq"], key, now))
            shown.add(key)
        elif key in shown:
            found.append(Change(row["_seq"], key, None))
            shown.remove(key)
    return found
