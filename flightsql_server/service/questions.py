"""What a subscription to the rows of one dataset asks of what has changed, and of the whole."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from flightsql_server.data import deltas
from flightsql_server.data.datasets import Dataset
from flightsql_server.data.feed import ChangeSet, from_history
from flightsql_server.model import CHANGED_ROW, CHANGED_ROWS, Engine, Live, UserTransaction
from flightsql_server.service.plans import Prepared


class Question:
    """What a subscription asks of the rows that a commit has changed. Every method blocks; safe for threads."""

    def __init__(self, engine: Engine, prepared: Prepared, live: Live, dataset: Dataset) -> None:
        self._engine = engine
        self._prepared = prepared
        self._live = live
        self._interrupt: Callable[[], None] | None = None
        self._texts = None if live.only is None else pa.array(sorted(live.only[1]), pa.string())
        self.dataset = dataset

    @property
    def is_plain(self) -> bool:
        """Whether it only picks columns, and rows by the texts of one: no engine has to be asked."""
        return bool(self._live.plain)

    @property
    def is_narrow(self) -> bool:
        """Whether it is about the rows alone that have certain texts in a column."""
        return self._live.only is not None

    def interrupt(self) -> None:
        """Ends what the engine is being asked, from another thread."""
        if self._interrupt is not None:
            self._interrupt()

    def delta(self, change_set: ChangeSet) -> pa.Table | None:
        """What the change set changes in the answer; None: nothing."""
        if self._live.only is not None:
            change_set = change_set.about(*self._live.only)
        if not change_set.present.num_rows:
            return None
        found = deltas.delta(change_set, self._answer(change_set), self._live.key)
        return self.sent(found) if found.num_rows else None

    def _answer(self, change_set: ChangeSet) -> pa.Table:
        """What the query says to the rows of a change set; a last column tells which row of it each is."""
        present = change_set.present
        if self._live.plain:
            return self._kept(present).select([*self._live.plain, CHANGED_ROW])
        try:
            return self._engine.answer(
                self._prepared.changes, CHANGED_ROWS, present, self._prepared.options, self._interruptible
            )
        finally:
            self._interrupt = None

    def _interruptible(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt

    def passes_by(self, change_set: ChangeSet) -> bool:
        """Whether it is plain at once that the change set changes nothing in the answer."""
        return self._live.only is not None and not change_set.touches(*self._live.only)

    def _kept(self, present: pa.Table) -> pa.Table:
        if self._live.only is None:
            return present
        wanted = pc.is_in(present.column(self._live.only[0]), self._texts)
        return present if pc.all(wanted).as_py() else present.filter(wanted)

    def sent(self, rows: pa.Table) -> pa.Table:
        """The rows of a delta in the types that are sent."""
        schema = deltas.with_extra(self._prepared.schema)
        return rows if rows.schema == schema else rows.rename_columns(schema.names).cast(schema)

    def plain(self, rows: pa.Table) -> pa.Table:
        """The rows of an answer in the types that are sent."""
        schema = pa.schema([*deltas.with_extra(self._prepared.schema)][: len(self._prepared.schema)])
        return rows if rows.schema == schema else rows.rename_columns(schema.names).cast(schema)

    def standing(self, work: UserTransaction) -> pa.Table:
        """The whole answer as it stands in a transaction."""
        batches = list(work.read(self._prepared.sql, (), self._prepared.batch_rows))
        return self.plain(pa.Table.from_batches(batches, None if batches else work.describe(self._prepared.sql)))

    def stood(self, work: UserTransaction, came: ChangeSet | None) -> pa.Table:
        """The whole answer as it stood before the changes that a transaction sees last."""
        rows = self.standing(work)
        changed = None if came is None else self.delta(came)
        if came is None or changed is None:
            return rows
        before = self.plain(deltas.known(came, self._answer(came)))
        return deltas.undone(rows, changed.select(range(len(rows.schema))), before, self._live.key)

    def since(self, work: UserTransaction, after: int, upto: int, most: int) -> pa.Table | None:
        """What history between two places changes in the answer; SequenceNoLongerKept."""
        change_set = from_history(work, self.dataset, after, upto, most)
        return None if change_set is None else self.delta(change_set)
