"""Datasets that are declared in the TOML file: ``[datasets.<name>]`` tables → ``Dataset``.

::

    [datasets.fx_rates]
    comment = "The latest rate of each pair."
    key = ["pair"]
    order_column = "updated_at"
    columns = { pair = "utf8", rate = "decimal(18,6)", source = "utf8?", updated_at = "timestamp" }

A type that ends in ``?`` may be null. In the place of a type may stand a table with ``type``, ``comment`` and
``optional``: true lets publishers leave the column out, so that it can be added before they know of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from flightsql_server.data.datasets import DATASETS, TIMESTAMP, Dataset
from flightsql_server.model import Column

TYPES: dict[str, pa.DataType] = {
    "utf8": pa.string(),
    "binary": pa.binary(),
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": TIMESTAMP,
}
"""The names of the types; beside them ``decimal(precision,scale)`` with up to 38 digits."""

_ORDER_TYPES = ("timestamp", "int64", "date")
_NOT_KEYS = ("float32", "float64")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_DECIMAL = re.compile(r"decimal\((\d{1,2}), ?(\d{1,2})\)")
_RESERVED_ENDINGS = ("_history", "_deleted")
_KEYS = ("columns", "key", "order_column", "comment", "delivery")
_DELIVERIES = ("conflate", "buffer")


class DatasetError(ValueError):
    """A dataset that can't be declared so; the message names it and what would be right."""


def declared_datasets(tables: Mapping[str, object]) -> dict[str, Dataset]:
    """The built-in datasets and those of the tables, as ``tomllib`` gives them; DatasetError says what is wrong."""
    datasets = dict(DATASETS)
    for name, table in tables.items():
        if name in DATASETS:
            raise DatasetError(f"Dataset {name!r} is built in and can't be declared: choose another name.")
        if not _NAME.fullmatch(name) or name.endswith(_RESERVED_ENDINGS):
            raise DatasetError(
                f"Dataset {name!r}: a name is a letter and up to 62 letters, digits and '_', all small, and does not "
                f"end in {' or '.join(_RESERVED_ENDINGS)}."
            )
        if not isinstance(table, Mapping):
            raise DatasetError(f"Dataset {name!r}: write it as a table [datasets.{name}].")
        datasets[name] = _dataset(name, table)
    return datasets


def _dataset(name: str, table: Mapping[str, Any]) -> Dataset:
    def wrong(what: str) -> DatasetError:
        return DatasetError(f"Dataset {name!r}: {what}")

    unknown = [key for key in table if key not in _KEYS]
    if unknown:
        raise wrong(f"unknown key {unknown[0]!r}; a dataset has {', '.join(_KEYS)}.")
    columns, key, order, comment, delivery = (table.get(word) for word in _KEYS)
    if not isinstance(columns, Mapping) or not columns:
        raise wrong('columns is a table of names and types, such as { pair = "utf8", rate = "float64?" }.')
    made = tuple(_column(name, column, form) for column, form in columns.items())
    types = {column.name: column for column in made}
    if not isinstance(key, list) or not key or not all(isinstance(column, str) for column in key):
        raise wrong("key is a list of one or more of its columns.")
    if len(set(key)) != len(key):
        raise wrong("key is a list of one or more of its columns.")
    for column in key:
        if column not in types or types[column].nullable or types[column].type in map(TYPES.get, _NOT_KEYS):
            raise wrong(f"the key {column!r} must be a column that is never null, and no float.")
    order_types = map(TYPES.get, _ORDER_TYPES)
    placed = types.get(order) if isinstance(order, str) else None
    if placed is None or placed.nullable or placed.type not in order_types:
        raise wrong(f"order_column must be a column that is never null, of type {', '.join(_ORDER_TYPES)}.")
    if not isinstance(comment, (str, type(None))):
        raise wrong("comment is text.")
    if delivery not in (None, *_DELIVERIES):
        raise wrong(f"delivery is one of {', '.join(_DELIVERIES)}.")
    return Dataset(name, made, tuple(key), str(order), comment or "", str(delivery or _DELIVERIES[0]))


def _column(dataset: str, name: str, form: object) -> Column:
    parts: Mapping[str, object] = form if isinstance(form, Mapping) else {"type": form}
    if not parts.keys() <= {"type", "comment", "optional"}:
        raise DatasetError(f"Dataset {dataset!r}, column {name!r}: a column has type, comment and optional.")
    written, comment, optional = parts.get("type"), parts.get("comment", ""), parts.get("optional", False)
    if not _NAME.fullmatch(name):
        raise DatasetError(
            f"Dataset {dataset!r}, column {name!r}: a name is a letter and up to 62 letters, digits and '_', all small."
        )
    text = written if isinstance(written, str) else ""
    type_ = _type(text.removesuffix("?"))
    if type_ is None or not isinstance(comment, str):
        raise DatasetError(
            f"Dataset {dataset!r}, column {name!r}: its type is one of {', '.join(TYPES)}, decimal(precision,scale), "
            "with a ? behind it where it may be null."
        )
    nullable = text.endswith("?")
    if not isinstance(optional, bool) or (optional and not nullable):
        raise DatasetError(
            f"Dataset {dataset!r}, column {name!r}: optional is true or false; true needs a type with ?."
        )
    return Column(name, type_, nullable, comment, optional)


def _type(text: str) -> pa.DataType | None:
    found = _DECIMAL.fullmatch(text)
    if found is None:
        return TYPES.get(text)
    precision, scale = int(found[1]), int(found[2])
    return pa.decimal128(precision, scale) if 1 <= precision <= 38 and scale <= precision else None
