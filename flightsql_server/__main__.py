"""``python -m flightsql_server`` is the command line."""

from flightsql_server.cli import main

main()
