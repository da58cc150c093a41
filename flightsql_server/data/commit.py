"""One group of updates in one transaction: numbers, history, the latest rows, how far each publisher has got.

Nothing here remembers anything: what will hold once the transaction is committed is handed back as a ``Change``.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flightsql_server.data import tables
from flightsql_server.data.datasets import CHANGE, DELETE, HISTORY_COLUMNS, UPSERT, Dataset, day_table
from flightsql_server.data.feed import ChangeSet, integers
from flightsql_server.data.latest import Flags, Integers, resolve
from flightsql_server.data.tables import Producer, State, quoted, store_sql, table_sql
from flightsql_server.errors import LimitReached, ServerError
from flightsql_server.model import Transaction

Step = Callable[[str], None]
# So many are noted one by one; more in one statement, which costs what three or four of these do.
_FEW_PRODUCERS = 3


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one batch: its rows stand in history under these numbers; ``late`` of them changed nothing else.

    A ``duplicate`` was stored when it came first; of it there are no rows, and its numbers are None.
    """

    first_seq: int | None
    last_seq: int | None
    rows: int
    late: int
    duplicate: bool = False


class Lane:
    """One publisher's stream. Once a batch of it was not stored, none that follows is: its order has no holes."""

    __slots__ = ("failure",)

    def __init__(self) -> None:
        self.failure: ServerError | None = None


class Guard(Protocol):
    """Whether a publisher may write what it sends. Two are equal that let the same rows through."""

    def in_commit(self, transaction: Transaction, batch: pa.RecordBatch, earlier: pa.Table) -> None:
        """Raises AccessDenied unless the batch may be stored after these rows of the same commit."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """A conformed batch on its way. ``done`` gives its receipt after the commit.

    ``producer`` with its rising ``producer_seq`` names the batch, so that a second copy of it is known as one.
    ``guard``: is asked inside of the commit; None: all may be stored.
    """

    dataset: Dataset
    batch: pa.RecordBatch
    lane: Lane = field(default_factory=Lane)
    producer: Producer | None = None
    producer_seq: int = 0
    guard: Guard | None = None
    done: Future[Receipt] = field(default_factory=Future)


@dataclass
class Change:
    """What becomes true of a dataset with the commit; ``rows`` are what subscribers are told of it."""

    last_seq: int
    last_received: int
    days: set[str] = field(default_factory=set)
    deleted: int = 0
    producers: dict[Producer, int] = field(default_factory=dict)
    rows: ChangeSet | None = None

    def apply(self, state: State) -> None:
        """Brings the state to where it stands after the commit."""
        state.last_seq, state.last_received = self.last_seq, self.last_received
        state.days |= self.days
        state.deleted += self.deleted
        state.producers.update(self.producers)


def day_of(received_at: int) -> str:
    """The UTC day of a time in microseconds, as day tables are named."""
    return datetime.fromtimestamp(received_at // 1_000_000, UTC).strftime("%Y%m%d")


def write(
    transaction: Transaction,
    dataset: Dataset,
    state: State,
    updates: Sequence[Update],
    received_at: int,
    producers_per_user: int,
    at: Step,
) -> tuple[list[Receipt], Change]:
    """Writes the updates of one dataset; gives a receipt for each, and the change that the commit will make true."""
    change = Change(state.last_seq, received_at)
    fresh = [update for update in updates if _is_fresh(update, state, change, producers_per_user)]
    _ask_guards(transaction, dataset, fresh)
    rows = _stamped(dataset, [update.batch for update in fresh], state.last_seq + 1, received_at)
    change.last_seq += rows.num_rows
    late = np.zeros(0, np.bool_)
    if rows.num_rows:
        day = day_of(received_at)
        if day not in state.days:
            tables.create_day(transaction, dataset, day, state.days)
            change.days = {day}
        transaction.lend("incoming", rows)
        _copy(transaction, store_sql(day_table(dataset, day)), rows.schema.names, "incoming")
        at("history")
        late = _bring_forward(transaction, dataset, state, rows, change)
        at("latest")
    if change.producers:
        _note_producers(transaction, dataset, change.producers, state.producers)
        at("producers")
    return _receipts(updates, fresh, state.last_seq + 1, late), change


def _ask_guards(transaction: Transaction, dataset: Dataset, updates: Sequence[Update]) -> None:
    """AccessDenied when the guard of an update refuses it.

    Rows that come before it in the group count as stored, those under an equal guard apart: it lets them through. Some
    of them may be late and will never be stored as the latest; the group is then tried again one by one, and right.
    """
    for number, update in enumerate(updates):
        if update.guard is not None:
            others = [one.batch for one in updates[:number] if one.guard != update.guard]
            earlier = pa.Table.from_batches([batch.select(dataset.schema.names) for batch in others], dataset.schema)
            update.guard.in_commit(transaction, update.batch, earlier)


def _is_fresh(update: Update, state: State, change: Change, producers_per_user: int) -> bool:
    """Whether the update has not been stored before; notes its number."""
    producer = update.producer
    if producer is None:
        return True
    last = change.producers.get(producer, state.producers.get(producer))
    if last is not None and update.producer_seq <= last:
        return False
    if last is None:
        known = {*state.producers, *change.producers}
        if sum(owner == producer[0] for owner, _ in known) >= producers_per_user:
            raise LimitReached(
                f"You have {producers_per_user} producer ids on {update.dataset.name} already.",
                hint="Use one id for each publisher and keep it over restarts.",
            )
    change.producers[producer] = update.producer_seq
    return True


def _stamped(dataset: Dataset, batches: Sequence[pa.RecordBatch], first_seq: int, received_at: int) -> pa.Table:
    """The batches one after the other, in the columns of history."""
    columns = [
        pa.chunked_array([batch.column(i) for batch in batches], column.type).combine_chunks()
        for i, column in enumerate(dataset.columns)
    ]
    count = sum(batch.num_rows for batch in batches)
    upsert = pa.scalar(UPSERT, HISTORY_COLUMNS[2].type)
    if any(CHANGE in batch.schema.names for batch in batches):
        change = pa.chunked_array(
            [b.column(CHANGE) if CHANGE in b.schema.names else pa.repeat(upsert, b.num_rows) for b in batches]
        ).combine_chunks()
    else:
        change = pa.repeat(upsert, count)
    seq = pa.array(np.arange(first_seq, first_seq + count))
    received = pa.repeat(pa.scalar(received_at, HISTORY_COLUMNS[1].type), count)
    return pa.table([*columns, seq, received, change], names=[column.name for column in dataset.history_columns])


def _bring_forward(transaction: Transaction, dataset: Dataset, state: State, rows: pa.Table, change: Change) -> Flags:
    """Makes the latest rows what they are after these; gives which of the rows are late.

    The rows that stand under the same keys are taken out, with their deleted keys, and those that stand after the
    group are put in: one way for few keys that change often and many that change seldom, without an index to keep.
    """
    names, identity = dataset.schema.names, list(dataset.identity)
    known = _take_out(transaction, table_sql(dataset.name), dataset.key, names)
    gone = None
    if state.deleted:
        gone = _take_out(transaction, tables.deleted_sql(dataset), dataset.key, identity)
    parts = [known.select(identity), *([] if gone is None else [gone]), rows.select(identity)]
    together = pa.Table.from_arrays(
        [
            pa.chunked_array([c for part in parts for c in part.column(name).chunks], rows.schema.field(name).type)
            for name in identity
        ],
        names=identity,
    )
    taken_out = together.num_rows - rows.num_rows
    resolution = resolve(
        [together.column(name) for name in dataset.key], integers(together.column(dataset.order_column)), taken_out
    )
    stays = np.ones(together.num_rows, np.bool_)
    stays[known.num_rows : taken_out] = False
    if pc.any(pc.equal(rows.column(CHANGE), DELETE)).as_py():
        stays[taken_out:] = pc.equal(rows.column(CHANGE), UPSERT).to_numpy(zero_copy_only=False)
    latest = resolution.standing[stays[resolution.standing]]
    _put_in(transaction, table_sql(dataset.name), known.num_rows, taken_out, latest, known, rows, names)
    dead = resolution.standing[~stays[resolution.standing]]
    if len(dead):
        _insert(transaction, tables.deleted_sql(dataset), together.take(pa.array(dead)))
    change.deleted = len(dead) - (0 if gone is None else gone.num_rows)
    standing = np.concatenate([resolution.codes[: known.num_rows], resolution.codes[taken_out:]])
    absent = np.concatenate([np.zeros(known.num_rows, np.bool_), ~stays[taken_out:]])
    change.rows = ChangeSet(dataset, known, rows, standing, absent, resolution.late)
    return resolution.late


def _take_out(transaction: Transaction, table: str, key: Sequence[str], names: Sequence[str]) -> pa.Table:
    """Deletes the rows under the keys that come in, and gives them."""
    columns = ", ".join(map(quoted, key))
    match = " AND ".join(f"old.{quoted(name)} = given.{quoted(name)}" for name in key)
    returned = ", ".join(f"old.{quoted(name)}" for name in names)
    return transaction.returned(
        f"DELETE FROM {table} AS old USING (SELECT DISTINCT {columns} FROM incoming) AS given "
        f"WHERE {match} RETURNING {returned}"
    )


def _put_in(
    transaction: Transaction,
    table: str,
    known_rows: int,
    taken_out: int,
    positions: Integers,
    known: pa.Table,
    rows: pa.Table,
    names: Sequence[str],
) -> None:
    """Inserts the rows at these positions, of which the first ``known_rows`` stood before."""
    old, new = positions[positions < known_rows], positions[positions >= taken_out] - taken_out
    if len(old):
        _insert(transaction, table, known.select(list(names)).take(pa.array(old)))
    if len(new) == rows.num_rows:
        _copy(transaction, table, names, "incoming")
    elif len(new):
        _insert(transaction, table, rows.select(list(names)).take(pa.array(new)))


def _insert(transaction: Transaction, table: str, rows: pa.Table) -> None:
    transaction.lend("given", rows)
    _copy(transaction, table, rows.schema.names, "given")


def _copy(transaction: Transaction, table: str, names: Sequence[str], lent: str) -> None:
    columns = ", ".join(map(quoted, names))
    transaction.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {lent}")


def _note_producers(
    transaction: Transaction, dataset: Dataset, producers: dict[Producer, int], known: Container[Producer]
) -> None:
    table = store_sql("producers")
    if len(producers) <= _FEW_PRODUCERS and all(one in known for one in producers):
        update = f"UPDATE {table} SET last = ? WHERE dataset = ? AND owner = ? AND id = ?"
        for (owner, id_), last in producers.items():
            transaction.execute(update, (last, dataset.name, owner, id_))
        return
    noted = pa.table(
        {
            "dataset": pa.repeat(dataset.name, len(producers)),
            "owner": [owner for owner, _ in producers],
            "id": [id_ for _, id_ in producers],
            "last": pa.array(producers.values(), pa.int64()),
        }
    )
    match = "old.dataset = new.dataset AND old.owner = new.owner AND old.id = new.id"
    transaction.lend("noted", noted)
    transaction.execute(f"DELETE FROM {table} AS old USING noted AS new WHERE {match}")
    _insert(transaction, table, noted)


def _receipts(updates: Sequence[Update], fresh: Sequence[Update], first_seq: int, late: Flags) -> list[Receipt]:
    stored, at, receipts = set(map(id, fresh)), 0, []
    for update in updates:
        if id(update) not in stored:
            receipts.append(Receipt(None, None, 0, 0, duplicate=True))
            continue
        count = update.batch.num_rows
        late_rows = int(np.count_nonzero(late[at : at + count]))
        receipts.append(Receipt(first_seq + at, first_seq + at + count - 1, count, late_rows))
        at += count
    return receipts
