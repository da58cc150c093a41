"""One logged-in connection, and what an error of it means: whether to come back, and from where."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.flight as flight

FAILURES = (pa.ArrowException, OSError)
"""What a call of pyarrow's Flight client raises."""

# A connection whose other end has gone without a word is noticed by these, in milliseconds.
_OPTIONS = [("grpc.keepalive_time_ms", 10_000), ("grpc.keepalive_timeout_ms", 5_000)]
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class ClientError(Exception):
    """The server refused, or can't be reached; the text is the server's where it said something."""


def connect(url: str, user: str, password: str, token: str) -> tuple[flight.FlightClient, flight.FlightCallOptions]:
    """A client and the options of its calls; raises one of ``FAILURES``. Whoever asked closes the client."""
    client = flight.connect(url, generic_options=_OPTIONS)
    try:
        if token:
            header = (b"authorization", f"Bearer {token}".encode())
        else:
            header = client.authenticate_basic_token(user, password)
    except BaseException:
        client.close()
        raise
    return client, flight.FlightCallOptions(headers=[header])


def said(error: BaseException) -> str:
    """The server's own words: what gRPC and Arrow wrap around them is cut off."""
    text = str(error)
    start = text.find("[")
    return text[start:].split(". gRPC client debug context", 1)[0] if start >= 0 else text


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, or the server for a moment, so that coming back may help."""
    text = said(error)
    if text.startswith(("[57P01]", "[08006]")):
        return True
    return not text.startswith("[") and isinstance(
        error, (flight.FlightUnavailableError, flight.FlightCancelledError, flight.FlightInternalError, OSError)
    )


def pauses() -> Iterator[float]:
    """Seconds to wait, longer each time, by chance up to twice as long: many clients must not come back at once."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * (1 + random.random())
        pause = min(pause * 2, _LONGEST_PAUSE)
