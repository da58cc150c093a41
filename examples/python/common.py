"""The options that the examples share."""

from __future__ import annotations

import argparse
import threading
from typing import Any


def parser(about: str) -> argparse.ArgumentParser:
    """A parser that knows where the server is and how to log in."""
    made = argparse.ArgumentParser(description=about)
    made.add_argument("--url", default="grpc://127.0.0.1:50052")
    made.add_argument("--user", default="trader")
    made.add_argument("--password", default="trader")
    made.add_argument("--seconds", type=float, default=0.0, help="end after so long; 0: never")
    return made


def login(given: argparse.Namespace) -> dict[str, str]:
    """What a subscription or publisher needs to log in."""
    return {"user": given.user, "password": given.password}


def close_after(seconds: float, subscription: Any) -> None:
    """Closes the subscription after so many seconds, from a thread of its own."""
    if seconds:
        timer = threading.Timer(seconds, subscription.close)
        timer.daemon = True
        timer.start()
