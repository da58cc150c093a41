"""A bridge between an order gateway and the server, in JSON lines.

Orders come in on standard input and are stored once each, in their order; what becomes of every order, by whomever it
was changed, goes out on standard output. Started again with the same ``--producer`` it may send lines again: those that
are stored already are known by their number.
"""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from common import close_after, login, parser

from flightsql_server.client import Publishing, publish, subscribe


def fitting(order: dict[str, Any], schema: pa.Schema) -> pa.RecordBatch:
    """One order as a batch: times are ISO 8601, decimals may be text; what is missing is null."""
    columns = []
    for field in schema:
        value = order.get(field.name)
        if value is None and field.name in ("created_at", "updated_at"):
            value = datetime.now(UTC).isoformat()
        if pa.types.is_timestamp(field.type) and value is not None:
            columns.append(pa.array([datetime.fromisoformat(value)], field.type))
        elif pa.types.is_decimal(field.type) and value is not None:
            columns.append(pa.array([str(value)]).cast(field.type))
        else:
            columns.append(pa.array([value], field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def forward(publisher: Publishing, schema: pa.Schema) -> None:
    """Stores the lines of standard input, one after the other."""
    for line in sys.stdin:
        if line.strip():
            publisher.send(fitting(json.loads(line), schema))


def main() -> int:
    """See the module."""
    asked = parser("Store orders from standard input, and print what becomes of orders.")
    asked.add_argument("--producer", default="", help="name under which lines are numbered; empty: a new one")
    asked.add_argument("--first", type=int, default=None, help="number of the first line")
    given = asked.parse_args()
    with (
        subscribe(given.url, "SELECT * FROM orders", **login(given)) as updates,
        publish(given.url, "orders", producer_id=given.producer, first_seq=given.first, **login(given)) as publisher,
    ):
        close_after(given.seconds, updates)
        schema = pa.schema([field for field in updates.schema if not field.name.startswith("_")])
        threading.Thread(target=forward, args=(publisher, schema), daemon=True).start()
        try:
            for update in updates:
                if update.type == "changes":
                    for order in update.rows.to_pylist():
                        print(json.dumps(order, default=str), flush=True)
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
