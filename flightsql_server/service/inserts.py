"""INSERT into a live dataset: the rows of its query, as the dataset has them."""

from __future__ import annotations

import pyarrow as pa

from flightsql_server.data.datasets import Dataset, engine_type
from flightsql_server.errors import UnsupportedFeature
from flightsql_server.service.plans import Prepared


def fitting(prepared: Prepared, dataset: Dataset) -> str:
    """The query for a dataset's rows under the dataset's names, cast where SQL would cast and nothing is lost.

    A text becomes what it stands for, and a number a float; all else stays as it is, for ``conform`` to judge.
    """
    columns, schema = prepared.plan.columns, prepared.schema
    if len(columns) != len(schema):
        raise UnsupportedFeature(
            f"The INSERT gives {len(schema)} values for {len(columns)} columns.", hint="Give one for each column."
        )
    given = [f"c{i}" for i in range(len(columns))]
    parts = []
    for column in dataset.columns:
        name = '"' + column.name + '"'
        sql_type = engine_type(column.type)
        if column.name not in columns:
            parts.append(f"CAST(NULL AS {sql_type}) AS {name}")
            continue
        place = columns.index(column.name)
        type_ = schema.field(place).type
        text = pa.types.is_string(type_) and not pa.types.is_string(column.type)
        number = pa.types.is_floating(column.type) and (pa.types.is_decimal(type_) or pa.types.is_integer(type_))
        null = pa.types.is_null(type_)
        naive = pa.types.is_date(type_) and pa.types.is_timestamp(column.type)
        parts.append(f"CAST({given[place]} AS {sql_type}) AS {name}" if text or number or null or naive
                     else f"{given[place]} AS {name}")  # fmt: skip
    return f"SELECT {', '.join(parts)} FROM ({prepared.sql}) AS given({', '.join(given)})"
