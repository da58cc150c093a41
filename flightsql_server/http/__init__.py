"""The HTTP port: metrics, health, public keys, and tokens for passwords or other tokens."""

from flightsql_server.http.app import HttpServer
from flightsql_server.http.oauth import TokenEndpoint

__all__ = ["HttpServer", "TokenEndpoint"]
