"""The datasets: schema, key, order column. Tables, metadata, Flight endpoints and ingest all derive from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa

from flightsql_server.model import MAIN_SCHEMA, Catalog, Column, Table

TIMESTAMP = pa.timestamp("us", tz="UTC")
QUANTITY = pa.decimal128(18, 4)
PRICE = pa.decimal128(18, 6)
MONEY = pa.decimal128(18, 2)

HISTORY_COLUMNS = (
    Column("_seq", pa.int64(), False, "Number of the update in this dataset, without gaps."),
    Column("_received_at", TIMESTAMP, False, "When the server committed the update."),
    Column("_change", pa.string(), False, "upsert or delete."),
)

CHANGE = "_change"
UPSERT, DELETE = "upsert", "delete"

_ENGINE_TYPES = {
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
}
COLUMN_TYPES = tuple(_ENGINE_TYPES)
"""The types that a column of a dataset can have, beside decimals of up to 38 digits."""


@dataclass(frozen=True)
class Dataset:
    """One live dataset: the latest row of each key under its name, every update under ``<name>_history``.

    ``order_column`` tells which of two rows of a key is newer; an older row enters history only. A deleted key keeps
    its place in that order.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    order_column: str
    comment: str = ""
    delivery: str = "conflate"
    """What subscribers who don't choose are told: ``conflate`` the newest row of each key, ``buffer`` every row."""

    @property
    def history_name(self) -> str:
        return f"{self.name}_history"

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of an update and of the latest rows: names, order, nullability."""
        return pa.schema([pa.field(c.name, c.type, c.nullable) for c in self.columns])

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that say which row is meant and when it held: all that a delete must tell."""
        return tuple(dict.fromkeys((*self.key, self.order_column)))

    @cached_property
    def history_columns(self) -> tuple[Column, ...]:
        """The columns of history; of a deleted row only key and order column are sure to be there."""
        identity = self.identity
        columns = [column if column.name in identity else replace(column, nullable=True) for column in self.columns]
        return (*columns, *HISTORY_COLUMNS)

    @cached_property
    def change_schema(self) -> pa.Schema:
        """The Arrow schema of updates among which are deletes: the columns as history has them, and ``_change``."""
        fields = [pa.field(c.name, c.type, c.nullable) for c in self.history_columns[: len(self.columns)]]
        return pa.schema([*fields, pa.field(CHANGE, pa.string(), False)])

    @cached_property
    def tables(self) -> tuple[Table, Table]:
        """The latest and the history table, as the catalog shows them."""
        latest = Table(MAIN_SCHEMA, self.name, self.columns, key=self.key, dataset=self.name, comment=self.comment)
        history = Table(
            MAIN_SCHEMA,
            self.history_name,
            self.history_columns,
            key=("_seq",),
            dataset=self.name,
            comment=f"Every update of {self.name}, in the order of its commits.",
            parts=day_table(self, ""),
        )
        return latest, history


def day_table(dataset: Dataset, day: str) -> str:
    """The name, in the schema ``STORE_SCHEMA``, of the table that holds one day (``YYYYMMDD``, UTC) of history."""
    return f"{dataset.name}_history_{day}"


def engine_type(type_: pa.DataType) -> str:
    """The SQL type that stores an Arrow type without loss."""
    if pa.types.is_decimal128(type_):
        return f"DECIMAL({type_.precision},{type_.scale})"
    return _ENGINE_TYPES[type_]


def _text(name: str, comment: str) -> Column:
    return Column(name, pa.string(), False, comment)


MARKET_DATA = Dataset(
    "market_data",
    (
        _text("symbol", "Instrument."),
        Column("bid_price", pa.float64(), True, "Best bid; null when there is none."),
        Column("ask_price", pa.float64(), True, "Best ask; null when there is none."),
        Column("last_price", pa.float64(), True, "Price of the last trade."),
        Column("volume", pa.int64(), True, "Traded since the session day began."),
        Column("timestamp", TIMESTAMP, False, "When the market said so, UTC."),
    ),
    ("symbol",),
    "timestamp",
    "The latest quote of each symbol.",
)

POSITIONS = Dataset(
    "positions",
    (
        _text("account", "Account that holds the position."),
        _text("symbol", "Instrument."),
        _text("strategy", "Strategy that the position belongs to."),
        Column("quantity", QUANTITY, False, "Signed; negative is short."),
        Column("average_price", PRICE, False, "Average entry price, in the currency."),
        Column("realized_pnl", MONEY, False, "Realised profit and loss, in the currency."),
        _text("currency", "ISO 4217 code."),
        Column("updated_at", TIMESTAMP, False, "When the position changed, UTC."),
    ),
    ("account", "symbol"),
    "updated_at",
    "The position of each account in each symbol.",
)

ORDERS = Dataset(
    "orders",
    (
        _text("order_id", "The venue's or gateway's id."),
        _text("client_order_id", "The client's own id."),
        _text("account", "Account that the order is for."),
        _text("symbol", "Instrument."),
        _text("strategy", "Strategy that sent the order."),
        _text("side", "buy or sell."),
        _text("order_type", "market, limit, stop or stop_limit."),
        _text("time_in_force", "day, gtc, ioc or fok."),
        Column("quantity", QUANTITY, False, "Ordered."),
        Column("limit_price", PRICE, True, "In the currency; null for market orders."),
        Column("stop_price", PRICE, True, "In the currency; null without a stop."),
        Column("filled_quantity", QUANTITY, False, "Executed so far."),
        Column("average_fill_price", PRICE, True, "Of what was executed; null before the first fill."),
        _text("currency", "ISO 4217 code."),
        _text("status", "new, partially_filled, filled, cancelled or rejected."),
        Column("created_at", TIMESTAMP, False, "When the order was made, UTC."),
        Column("updated_at", TIMESTAMP, False, "When the order last changed, UTC."),
    ),
    ("order_id",),
    "updated_at",
    "The latest state of each order.",
    "buffer",
)

DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in (MARKET_DATA, POSITIONS, ORDERS)}


def catalog_of(datasets: Mapping[str, Dataset], version: int = 1) -> Catalog:
    """The catalog that holds the tables of these datasets."""
    tables = [table for dataset in datasets.values() for table in dataset.tables]
    return Catalog({table.table_name: table for table in tables}, version)
