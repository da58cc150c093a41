"""Plays the market on a server until standard input ends: ``python -m flightsql_server.demo grpc://127.0.0.1:50052``."""

from __future__ import annotations

import sys
import threading
import time

from flightsql_server.client import Publisher, PublishError
from flightsql_server.demo.market import Market

_STEP_SECONDS = 0.1
# The demo's users have their names as passwords.
_USER = "admin"


def _stopped() -> threading.Event:
    stop = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    return stop


def play(url: str, stop: threading.Event) -> None:
    """Publishes the opening, says so in one line, and then a step every 100 ms until ``stop`` is set."""
    market = Market()
    publishers = {
        name: Publisher(url, name, user=_USER, password=_USER) for name in ("market_data", "orders", "positions")
    }
    updates = market.open()
    due = time.monotonic()
    opened = False
    try:
        while not stop.is_set():
            for name, batch in updates.batches().items():
                publishers[name].publish(batch)
            if not opened:
                opened = True
                sys.stdout.write("open\n")
                sys.stdout.flush()
            due += _STEP_SECONDS
            stop.wait(max(0.0, due - time.monotonic()))
            updates = market.step()
    finally:
        for publisher in publishers.values():
            publisher.close()


if __name__ == "__main__":
    try:
        play(sys.argv[1], _stopped())
    except PublishError as error:
        sys.exit(f"The demo market stopped: {error}")
    except KeyboardInterrupt:
        pass
