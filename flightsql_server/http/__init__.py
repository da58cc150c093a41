"""The HTTP port: metrics, health and public keys."""

from flightsql_server.http.app import HttpServer

__all__ = ["HttpServer"]
