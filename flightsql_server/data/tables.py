"""The tables behind the datasets, as the engine has them: made, compared with what is declared, migrated, read.

::

    main.<dataset>                       the latest rows
    main.<dataset>_history               a view over the day tables
    store.<dataset>_history_<YYYYMMDD>   the updates received on that day, UTC
    store.<dataset>_deleted              deleted keys with their place in the order of updates
    store.datasets                       each dataset as it was declared when its tables were made
    store.producers                      how far each publisher that numbers its batches has got
    store.losses                         numbers of rows that were lost and given up by an administrator
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flightsql_server.data.datasets import Dataset, day_table, engine_type
from flightsql_server.errors import EngineUnavailable
from flightsql_server.model import MAIN_SCHEMA, STORE_SCHEMA, Column, Transaction

Producer = tuple[str, str]
"""A publisher's user and the id it chose."""


class SchemaChanged(EngineUnavailable):
    """A dataset is declared otherwise than its stored rows are, in a way that could lose something."""


@dataclass
class State:
    """Where one dataset stands: its last ``_seq``, when that came (µs), its days with a table, its deleted keys."""

    last_seq: int = 0
    last_received: int = 0
    days: set[str] = field(default_factory=set)
    deleted: int = 0
    producers: dict[Producer, int] = field(default_factory=dict)


def quoted(name: str) -> str:
    """The name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def table_sql(name: str) -> str:
    """The full SQL name of a table of the main schema."""
    return f"{MAIN_SCHEMA}.{quoted(name)}"


def store_sql(name: str) -> str:
    """The full SQL name of a table that statements can't name."""
    return f"{STORE_SCHEMA}.{quoted(name)}"


def deleted_sql(dataset: Dataset) -> str:
    """The full SQL name of the table of deleted keys."""
    return store_sql(f"{dataset.name}_deleted")


def prepare(transaction: Transaction, datasets: Iterable[Dataset]) -> dict[str, State]:
    """Makes what is missing, migrates what may be, and tells where each dataset stands.

    SchemaChanged when a dataset is declared otherwise than it is stored, and the difference is not a new nullable
    column or a column that may now be null.
    """
    transaction.execute(f"CREATE SCHEMA IF NOT EXISTS {STORE_SCHEMA}")
    for name, columns in (
        ("datasets", "name VARCHAR NOT NULL, declared VARCHAR NOT NULL"),
        ("producers", "dataset VARCHAR NOT NULL, owner VARCHAR NOT NULL, id VARCHAR NOT NULL, last BIGINT NOT NULL"),
        ("losses", "dataset VARCHAR NOT NULL, after_seq BIGINT NOT NULL, last_seq BIGINT NOT NULL"),
    ):
        transaction.execute(f"CREATE TABLE IF NOT EXISTS {store_sql(name)} ({columns})")
    stored = dict(_pairs(transaction.execute(f"SELECT name, declared FROM {store_sql('datasets')}")))
    tables = transaction.execute(
        f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{STORE_SCHEMA}'"
    )
    names = {str(row[0]) for row in tables}
    states = {}
    for dataset in datasets:
        prefix = day_table(dataset, "")
        days = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        state = State(days={day for day in days if day.isdecimal()})
        _prepare_one(transaction, dataset, stored.get(dataset.name), state)
        states[dataset.name] = _read_state(transaction, dataset, state)
    return states


def _prepare_one(transaction: Transaction, dataset: Dataset, stored: str | None, state: State) -> None:
    declared = _declaration(dataset)
    if stored is None:
        transaction.execute(f"CREATE TABLE {table_sql(dataset.name)} ({_columns_sql(dataset.columns)})")
        identity = [column for column in dataset.columns if column.name in dataset.identity]
        transaction.execute(f"CREATE TABLE {deleted_sql(dataset)} ({_columns_sql(identity)})")
        create_view(transaction, dataset, state.days)
        transaction.execute(f"INSERT INTO {store_sql('datasets')} VALUES (?, ?)", [dataset.name, declared])
    elif stored != declared:
        _migrate(transaction, dataset, json.loads(stored), state.days)
        transaction.execute(f"UPDATE {store_sql('datasets')} SET declared = ? WHERE name = ?", [declared, dataset.name])


def _read_state(transaction: Transaction, dataset: Dataset, state: State) -> State:
    last = transaction.execute(
        f"SELECT greatest((SELECT max(_seq) FROM {table_sql(dataset.history_name)}), "
        f"(SELECT max(last_seq) FROM {store_sql('losses')} WHERE dataset = ?), 0)",
        [dataset.name],
    )
    state.last_seq = int(str(last[0][0]))
    if state.days:
        newest = store_sql(day_table(dataset, max(state.days)))
        received = transaction.execute(f"SELECT coalesce(epoch_us(max(_received_at)), 0) FROM {newest}")
        state.last_received = int(str(received[0][0]))
    state.deleted = int(str(transaction.execute(f"SELECT count(*) FROM {deleted_sql(dataset)}")[0][0]))
    producers = transaction.execute(
        f"SELECT owner, id, last FROM {store_sql('producers')} WHERE dataset = ?", [dataset.name]
    )
    state.producers = {(str(owner), str(id_)): int(str(last)) for owner, id_, last in producers}
    return state


def give_up(transaction: Transaction, name: str, after_seq: int, last_seq: int) -> None:
    """Notes that the rows behind ``after_seq`` up to ``last_seq`` are lost, so that no other row gets their numbers."""
    transaction.execute(f"INSERT INTO {store_sql('losses')} VALUES (?, ?, ?)", [name, after_seq, last_seq])


def create_day(transaction: Transaction, dataset: Dataset, day: str, days: Iterable[str]) -> None:
    """Makes the table of a new day and the view over it and those that were there, in the writer's transaction."""
    transaction.execute(f"CREATE TABLE {store_sql(day_table(dataset, day))} ({_columns_sql(dataset.history_columns)})")
    create_view(transaction, dataset, {*days, day})


def create_view(transaction: Transaction, dataset: Dataset, days: Iterable[str]) -> None:
    """The view that shows all days as one table, the newest last; without any day it has no rows."""
    names = ", ".join(quoted(column.name) for column in dataset.history_columns)
    parts = [f"SELECT {names} FROM {store_sql(day_table(dataset, day))}" for day in sorted(days)]
    if not parts:
        empty = ", ".join(
            f"CAST(NULL AS {engine_type(column.type)}) AS {quoted(column.name)}" for column in dataset.history_columns
        )
        parts = [f"SELECT {empty} WHERE false"]
    transaction.execute(f"CREATE OR REPLACE VIEW {table_sql(dataset.history_name)} AS {' UNION ALL '.join(parts)}")


def _columns_sql(columns: Iterable[Column]) -> str:
    return ", ".join(f"{quoted(c.name)} {engine_type(c.type)}{'' if c.nullable else ' NOT NULL'}" for c in columns)


# ---- what was declared, and what is declared now --------------------------------------------------------------------


def _declaration(dataset: Dataset) -> str:
    return json.dumps(
        {
            "key": dataset.key,
            "order_column": dataset.order_column,
            "columns": [[column.name, engine_type(column.type), column.nullable] for column in dataset.columns],
        }
    )


def _migrate(transaction: Transaction, dataset: Dataset, stored: Mapping[str, object], days: Iterable[str]) -> None:
    """Adds new nullable columns and lets columns be null that may be now; SchemaChanged for anything else."""

    def refuse(what: str) -> SchemaChanged:
        return SchemaChanged(
            f"The dataset {dataset.name} is stored otherwise than it is declared: {what}.",
            hint="Declare it as it was (new columns must be nullable), or choose another name for the new form.",
        )

    for what, now in (("key", list(dataset.key)), ("order_column", dataset.order_column)):
        if stored[what] != now:
            raise refuse(f"its {what} was {stored[what]!r}")
    before = {name: (type_, nullable) for name, type_, nullable in stored["columns"]}  # type: ignore[attr-defined]
    now_there = {column.name for column in dataset.columns}
    for name in before:
        if name not in now_there:
            raise refuse(f"the column {name} is gone")
    if [column.name for column in dataset.columns][: len(before)] != list(before):
        raise refuse("its columns come in another order, or new ones do not come last")
    latest, history = table_sql(dataset.name), [store_sql(day_table(dataset, day)) for day in sorted(days)]
    for column in dataset.columns:
        sql_type = engine_type(column.type)
        if column.name not in before:
            if not column.nullable:
                raise refuse(f"the new column {column.name} can't be null")
            for table in (latest, *history):
                transaction.execute(f"ALTER TABLE {table} ADD COLUMN {quoted(column.name)} {sql_type}")
            continue
        type_, nullable = before[column.name]
        if type_ != sql_type:
            raise refuse(f"the column {column.name} was {type_} and is now {sql_type}")
        if nullable and not column.nullable:
            raise refuse(f"the column {column.name} may be null in what is stored")
        if column.nullable and not nullable:
            transaction.execute(f"ALTER TABLE {latest} ALTER COLUMN {quoted(column.name)} DROP NOT NULL")
    create_view(transaction, dataset, days)


def _pairs(rows: Iterable[tuple[object, ...]]) -> Iterable[tuple[str, str]]:
    return ((str(one), str(other)) for one, other in rows)
