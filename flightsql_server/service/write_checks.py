"""Whether rows may be written: a role that is shown some rows of a dataset writes such rows only.

A batch is looked at where it comes in, so that what may not be written never waits for the writer; and once more by the
writer inside of its commit, since others may have stored rows of the same keys between the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
from flightsql_auth.policies import LivePolicies
from flightsql_auth.restrictions import Writing

from flightsql_server import planner
from flightsql_server.data.datasets import Dataset
from flightsql_server.errors import AccessDenied
from flightsql_server.model import MAIN_SCHEMA, Call, Engine, TableName, Transaction
from flightsql_server.service.catalog import CurrentCatalog

_INCOMING, _EARLIER = "incoming", "earlier"


@dataclass(frozen=True)
class Check:
    """The check of one caller on one dataset; two are equal that let the same rows through. Both ways of asking block
    and raise AccessDenied.
    """

    sql: str
    dataset: str
    engine: Engine = field(compare=False, repr=False)
    schema: pa.Schema = field(compare=False, repr=False)

    def at_the_door(self, batch: pa.RecordBatch) -> None:
        """Looks at the batch and at what is stored now; in any thread."""
        nothing = self.schema.empty_table()
        self._tell(self.engine.count(self.sql, {_INCOMING: pa.Table.from_batches([batch]), _EARLIER: nothing}))

    def in_commit(self, transaction: Transaction, batch: pa.RecordBatch, earlier: pa.Table) -> None:
        """Looks at the batch, at what is stored, and at the rows that the same commit stores before it."""
        transaction.lend(_INCOMING, pa.Table.from_batches([batch]))
        transaction.lend(_EARLIER, earlier)
        self._tell(int(str(transaction.execute(self.sql)[0][0])))

    def _tell(self, forbidden: int) -> None:
        if forbidden:
            raise AccessDenied(
                f"{forbidden} rows for {self.dataset} are outside of what you may write.",
                hint="A row, and the one that it replaces, must be among those that your role shows you.",
            )


class WriteChecks:
    """Makes the check of a caller under the policies in force."""

    def __init__(
        self, engine: Engine, catalog: CurrentCatalog, policies: LivePolicies, datasets: Mapping[str, Dataset]
    ) -> None:
        self._engine = engine
        self._catalog = catalog
        self._policies = policies
        self._datasets = datasets

    def of(self, call: Call, dataset: str, writing: Writing) -> Check | None:
        """The check of what the caller writes in this way; None where every row may be written.

        AccessDenied when nothing may be.
        """
        principal = call.principal
        grants = self._policies.grants(principal.roles, principal.name, "", principal.claims)
        if not grants.allows(writing, schema=MAIN_SCHEMA, name=dataset, dataset=dataset):
            raise AccessDenied(f"You may not write to {dataset}.", hint=f"Ask for a role with {writing} on it.")
        catalog = self._catalog.current
        table = catalog.tables[TableName(MAIN_SCHEMA, dataset)]
        request = planner.Request("", "duckdb", principal.name, grants, catalog)
        sql = planner.forbidden_rows(request, table, _INCOMING, _EARLIER, writing)
        return None if sql is None else Check(sql, dataset, self._engine, self._datasets[dataset].schema)
