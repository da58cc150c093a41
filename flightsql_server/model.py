"""The nouns that rooms hand each other: what exists (Catalog), who asks (Call), what will run (Plan), and the Engine.

Everything here is frozen and knows nothing of wire, SQL text or engines, so every room may import it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import pyarrow as pa
from flightsql_auth.principals import Principal

CATALOG = "desk"
MAIN_SCHEMA = "main"
INFORMATION_SCHEMA = "information_schema"
STORE_SCHEMA = "store"
"""Where an engine keeps tables that no statement can name: the parts that a view of the catalog is made of."""
LIVE_TABLE = "BASE TABLE"
TEMPORARY_TABLE = "LOCAL TEMPORARY"
# How the names of schemas begin that hold what users make: for good, or for the time of a session.
USER_SCHEMA, TEMPORARY_SCHEMA = "u_", "temp_"
# What running a statement does, beside giving rows.
ROWS, TABLES, DATASET, BEGIN, COMMIT, ROLLBACK = "rows", "tables", "dataset", "begin", "commit", "rollback"
EXPLAIN, EXPLAIN_ANALYZE = "explain", "explain analyze"
VIEW = "VIEW"
# Under which name an engine reads the rows that a commit has changed, and the column that numbers them. No statement
# can name either: a table by that name does not exist for the planner.
CHANGED_ROWS, CHANGED_ROW = "changed rows", "row of the change"


class TableName(NamedTuple):
    """Schema and name of a table inside the catalog; the form in which rooms pass table names on."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column as Arrow sees it; ``comment`` is what metadata calls say of it (unit, meaning).

    ``optional``: rows that are sent in may leave it out, and then it is null.
    """

    name: str
    type: pa.DataType
    nullable: bool = True
    comment: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """The columns of a table that name a row of another one by its columns ``referenced``, in the same order."""

    name: str
    columns: tuple[str, ...]
    table: TableName
    referenced: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table or view that SQL can name.

    ``key`` is the primary key (empty: none). ``dataset`` is the dataset it shows, or None. Tables of datasets are
    versioned: the writer counts their commits, which lets results be cached. ``parts``: the engine keeps the rows in
    tables of ``STORE_SCHEMA`` whose names are this and a day. ``definition``: of a user's view, the statement that made
    it, in the engine's dialect; it is read in its place, under the rights of who asks.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    kind: str = LIVE_TABLE
    key: tuple[str, ...] = ()
    dataset: str | None = None
    comment: str = ""
    parts: str = ""
    definition: str = ""
    foreign_keys: tuple[ForeignKey, ...] = ()

    def is_part(self, name: TableName) -> bool:
        """Whether the engine's table of that name holds rows of this one."""
        day = name.name.removeprefix(self.parts)
        return bool(self.parts) and name.schema == STORE_SCHEMA and name.name == self.parts + day and day.isdecimal()

    @property
    def table_name(self) -> TableName:
        return TableName(self.schema, self.name)

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema of the rows, names and nullability as declared."""
        return pa.schema([pa.field(c.name, c.type, c.nullable) for c in self.columns])


@dataclass(frozen=True)
class Catalog:
    """Every table that exists, whoever may see it; a new one with a higher ``version`` replaces it on change."""

    tables: Mapping[TableName, Table]
    version: int = 1
    name: str = CATALOG

    @cached_property
    def schemas(self) -> tuple[str, ...]:
        """The schemas that hold tables, and ``main``, sorted."""
        return tuple(sorted({name.schema for name in self.tables} | {MAIN_SCHEMA}))

    @cached_property
    def temporary_schemas(self) -> frozenset[str]:
        """The schemas of sessions that have temporary tables."""
        return frozenset(schema for schema in self.schemas if schema.startswith(TEMPORARY_SCHEMA))


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a session has chosen; empty text means: not chosen, ask the next source.

    ``statement_timeout_seconds`` and ``max_rows``: 0 leaves it to the server. ``max_staleness_ms``: how old an answer
    may be although its tables have changed since.
    """

    schema: str = ""
    dialect: str = ""
    time_zone: str = "UTC"
    wire_profile: str = ""
    compression: str = ""
    statement_timeout_seconds: float = 0.0
    max_rows: int = 0
    max_staleness_ms: int = 0

    def with_(self, **changes: str | float | int) -> SessionOptions:
        """The same options with some replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(eq=False, slots=True)
class Entry:
    """What the audit trail will say of one call: the rooms fill it in on its way. The one noun here that changes.

    ``event`` is the kind of decision; ``done`` is whether more happened than planning. ``user`` is whom a refused
    login claimed to be, where there is such a user. ``understood``: the statement was planned. Parameters are told by
    number and type, never by value. ``reserve`` is asked, once, for a place in the trail: see ``claim``.
    """

    command: str
    peer: str = ""
    reserve: Callable[[Entry], None] = field(default=lambda entry: None, repr=False)
    event: str = ""
    done: bool = False
    reserved: bool = False
    turned_away: bool = False
    principal: Principal | None = None
    user: str = ""
    dialect: str = ""
    statement: str = ""
    understood: bool = False
    parameter_rows: int = 0
    parameter_types: tuple[pa.DataType, ...] = ()
    reads: tuple[TableName, ...] = ()
    writes: tuple[TableName, ...] = ()
    policy: str = ""
    rows: int | None = None
    reason: str = ""
    details: dict[str, object] = field(default_factory=dict)

    def claim(self) -> None:
        """Makes sure that there will be a line; raises the error family when there can't, and then nothing is done."""
        if not self.reserved:
            self.reserve(self)

    def happens(self, event: str, **details: object) -> None:
        """Claims a line for what is done from here on; it is written whatever comes of it."""
        self.claim()
        self.event, self.done = event, True
        self.details.update(details)


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks, and how: one RPC after login.

    ``session_key`` names the session whose options hold (a session of ours, or one per credential and peer).
    ``compression`` is ``lz4``, ``zstd`` or None. ``peer`` is gRPC's name of the other end. ``entry`` takes what the
    audit trail will say of the call.
    """

    principal: Principal
    session_key: str
    options: SessionOptions
    dialect: str
    wire_profile: str
    compression: str | None = None
    peer: str = ""
    entry: Entry = field(default_factory=lambda: Entry(""), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Live:
    """How a subscription learns what a commit changes in its answer.

    ``sql`` asks the rows of ``dataset`` that have changed, under the name ``CHANGED_ROWS``; its last column is their
    number ``CHANGED_ROW``, the others are those of the plan. ``key``: the places of the dataset's key among them.
    ``only``: a column of text, and what it has to say in a row of the answer. ``plain``: where nothing is computed, and
    no row left out but by ``only``, the columns that are shown, which needs no engine.
    """

    sql: str
    dataset: str
    key: tuple[int, ...]
    plain: tuple[str, ...] = ()
    only: tuple[str, frozenset[str]] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What the planner made of a text.

    ``sql``: the statement in the engine's dialect, the only text an engine ever sees. ``tables``: the catalog's
    tables that it reads. ``volatile``: the answer may differ between two runs on the same data (random(), now()).
    ``policy_tables`` are read by the caller's row filters: they count for the answer, and are none of the caller's.
    ``set_schema``: the statement is ``USE``; running it sets the session's schema to this and yields no rows.
    ``values``: the text literals that are only compared with columns, so that the plan is the same whatever they say.
    ``parameters``: the types of the values to bind, in order: those given, or guessed.
    ``effect``: what running it changes: ``rows`` or ``tables`` of the user's own, ``dataset`` (``sql`` is then a query
    for the rows of ``target``, in the order of ``columns``), the transaction; or the engine is asked to ``explain`` the
    query in its stead; empty: nothing. ``describe`` is a query
    with the columns that a change returns, empty: none. ``reads`` is one that reads what a change reads.
    ``subscribed``: the statement is to be answered again and again, by ``live`` where that says how.
    """

    sql: str
    tables: tuple[TableName, ...] = ()
    policy_tables: tuple[TableName, ...] = ()
    volatile: bool = False
    set_schema: str | None = None
    values: frozenset[str] = frozenset()
    parameters: tuple[pa.DataType, ...] = ()
    effect: str = ""
    target: TableName | None = None
    columns: tuple[str, ...] = ()
    describe: str = ""
    reads: str = ""
    subscribed: bool = False
    live: Live | None = None

    @property
    def is_explained(self) -> bool:
        """Whether the engine is asked how it would run the query, or has run it."""
        return self.effect in (EXPLAIN, EXPLAIN_ANALYZE)

    @property
    def gives_rows(self) -> bool:
        """Whether running it gives rows, rather than a count of them."""
        return self.set_schema is None and (not self.effect or bool(self.describe) or self.is_explained)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do; SqlInfo and the planner ask here instead of asking which engine it is."""

    name: str
    dialect: str
    version: str
    transactions: bool = False
    savepoints: bool = False
    interrupt: bool = True
    keywords: tuple[str, ...] = ()


class ResultStream(Protocol):
    """One statement, started by the first ``read``. One thread at a time reads; ``cancel`` may come from any thread.

    Whoever opened it closes it. ``read`` gives the next batch, None at the end, and raises the error family. A
    ``cancel`` can miss a statement that is just starting: repeat it until the ``read`` returns.
    """

    def read(self) -> pa.RecordBatch | None: ...
    def cancel(self) -> None: ...
    def close(self) -> None: ...


class Transaction(Protocol):
    """One write transaction of the writer: its methods run in it; leaving it commits, an exception rolls back."""

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]: ...
    def returned(self, sql: str) -> pa.Table:
        """Runs a change that returns rows, and gives them."""
        ...

    def lend(self, name: str, rows: pa.Table) -> None:
        """Lets the statements that follow read these rows under that name."""
        ...


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change did: how many rows it touched, and those that it returns."""

    count: int
    returned: pa.Table | None = None


class UserTransaction(Protocol):
    """One transaction on users' own tables, one statement at a time; ``close`` rolls back what was not committed.

    Every method blocks and raises the error family; after an error only ``close`` makes sense. ``cancel`` may come
    from any thread.
    """

    def describe(self, sql: str) -> pa.Schema: ...
    def tables_of(self, sql: str) -> frozenset[TableName]: ...
    def read(self, sql: str, parameters: Sequence[object], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """The rows of a query, all of which are to be read before the next call."""
        ...

    def change(self, sql: str, rows: Sequence[Sequence[object]], *, returning: bool) -> Changed:
        """Runs a change once for each row of parameters."""
        ...

    def explain(self, sql: str, parameters: Sequence[object], *, analyze: bool) -> pa.Table:
        """How the engine would run a query; ``analyze``: how it has run it."""
        ...

    def make_schema(self, schema: str) -> None: ...
    def append(self, table: TableName, rows: pa.Table) -> int: ...
    def user_tables(self) -> list[Table]:
        """The tables in users' schemas, with what this transaction has changed."""
        ...

    def commit(self) -> None: ...
    def cancel(self) -> None: ...
    def close(self) -> None: ...


class Engine(Protocol):
    """What answers SQL. Every method blocks: call it from the thread pool. All raise the error family."""

    @property
    def capabilities(self) -> Capabilities: ...
    def describe(self, sql: str, options: SessionOptions) -> pa.Schema:
        """The schema of the statement's rows, without running it; its parameters count as NULL of their type."""
        ...

    def tables_of(self, sql: str) -> frozenset[TableName]:
        """The base tables that the engine itself says the statement reads: a check on the planner's own list."""
        ...

    def open(
        self, sql: str, options: SessionOptions, batch_rows: int, parameters: Sequence[object] = ()
    ) -> ResultStream:
        """The statement, ready to run; ``parameters`` are the values of $1, $2 …, each cast in the text."""
        ...

    def transaction(self) -> AbstractContextManager[Transaction]: ...
    def begin(self, options: SessionOptions) -> UserTransaction: ...
    def user_tables(self) -> list[Table]: ...
    def count(self, sql: str, rows: Mapping[str, pa.Table]) -> int:
        """The number that a query gives which reads these rows under their names."""
        ...

    def answer(
        self, sql: str, name: str, rows: pa.Table, options: SessionOptions,
        interruptible: Callable[[Callable[[], None]], None],
    ) -> pa.Table:  # fmt: skip
        """The rows of a query which reads these rows under that name.

        ``interruptible`` is handed what another thread may call to end it; it may come too early, or too late.
        """
        ...

    def drop_schemas(self, prefix: str) -> None:
        """Drops every schema whose name begins so, with all that is in it."""
        ...

    def tidy(self) -> None:
        """Folds the engine's log into its file where it has grown long; called between commits."""
        ...

    def backup(self, folder: Path) -> None:
        """Copies the data into an empty folder while statements and commits go on, and opens the copy to check it."""
        ...

    def ping(self) -> None: ...
    def close(self) -> None: ...


BatchIterator = Iterator[pa.RecordBatch]
