"""Measurements: the server beside a bare Flight server and beside DuckDB in process, in one run on one machine."""
