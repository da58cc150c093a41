"""A Flight SQL server for trading desks: live market data, positions and orders, in any SQL dialect."""

__version__ = "0.1.0"
