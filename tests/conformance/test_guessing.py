"""Who guesses passwords has to wait, and is counted; who knows one gets in again after the pause."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow.flight as flight
import pytest

from tests.conformance.clients import metric
from tests.faults.watching import server_with


def test_guesses_are_slowed_down(tmp_path: Path) -> None:
    with server_with(tmp_path / "data", login_free_failures=2) as server:
        for _ in range(3):
            with (
                flight.FlightClient(server.url) as client,
                pytest.raises(flight.FlightUnauthenticatedError, match="28P01"),
            ):
                client.authenticate_basic_token("reader", "guess")
        with (
            flight.FlightClient(server.url) as client,
            pytest.raises(flight.FlightUnauthenticatedError, match="try again in"),
        ):
            client.authenticate_basic_token("reader", "reader")
        assert metric(server, 'flightsql_logins_total{outcome="locked"}') == 1
        client, _ = server.flight("admin")
        client.close()
        time.sleep(1.1)
        client, _ = server.flight("reader")
        client.close()
