"""The engines that answer SQL, one module for each; only this room imports their drivers."""

from __future__ import annotations

from pathlib import Path

from flightsql_server.engine.duckdb import DuckDBEngine
from flightsql_server.engine.duckdb_file import DuckDBOptions
from flightsql_server.model import Engine

__all__ = ["DuckDBOptions", "open_engine"]


def open_engine(data_dir: Path, options: DuckDBOptions) -> Engine:
    """The engine over the data directory; the caller closes it. EngineUnavailable when its file can't be opened."""
    return DuckDBEngine(data_dir, options)
