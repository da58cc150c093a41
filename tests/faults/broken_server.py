"""A server with a defect, or with a moment to die at: ``python -m tests.faults.broken_server HOW serve …``.

The tests of the ingest path must notice the defects, else they would prove nothing:

- ``forgets:N`` rolls back every transaction after the first N, and acknowledges all the same;
- ``doubles:N`` knows no batch again after the first N, so that one sent twice is stored twice;
- ``dies:STEP:N`` has none, but is killed when the writer comes to that step of a commit for the N-th time.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flightsql_server.cli import main
from flightsql_server.data import commit
from flightsql_server.data.ingest import Writer
from flightsql_server.engine.duckdb import DuckDBEngine, DuckDBTransaction


class _ForgottenError(Exception):
    """Makes the engine roll back; nobody outside hears of it."""


def forget_commits(after: int) -> None:
    """Every transaction after the first ``after`` is rolled back at its end, as if that were a commit."""
    whole, seen = DuckDBEngine.transaction, Counter[str]()

    @contextmanager
    def transaction(engine: DuckDBEngine) -> Iterator[DuckDBTransaction]:
        seen["transactions"] += 1
        try:
            with whole(engine) as opened:
                yield opened
                if seen["transactions"] > after:
                    raise _ForgottenError
        except _ForgottenError:
            pass

    DuckDBEngine.transaction = transaction  # type: ignore[method-assign, assignment]


def die_at(step: str, time: int) -> None:
    """The process is killed when the writer comes to the step for the ``time``-th time."""
    whole, seen = Writer.__init__, Counter[str]()

    def at(reached: str) -> None:
        seen[reached] += 1
        if reached == step and seen[reached] == time:
            os.kill(os.getpid(), signal.SIGKILL)

    def __init__(writer: Writer, *arguments: Any, **options: Any) -> None:  # noqa: N807
        whole(writer, *arguments, **{**options, "at": at})

    Writer.__init__ = __init__  # type: ignore[method-assign, assignment]


def store_twice(after: int) -> None:
    """After the first ``after`` batches none is known again."""
    whole, seen = commit._is_fresh, Counter[str]()

    def is_fresh(update: Any, state: Any, change: Any, producers: int) -> bool:
        seen["batches"] += 1
        return whole(update, state, change, producers) or seen["batches"] > after

    commit._is_fresh = is_fresh  # type: ignore[assignment]


if __name__ == "__main__":
    how, *terms = sys.argv.pop(1).split(":")
    if how == "forgets":
        forget_commits(int(terms[0]))
    elif how == "doubles":
        store_twice(int(terms[0]))
    elif how == "dies":
        die_at(terms[0], int(terms[1]))
    else:
        raise SystemExit(f"there is no defect {how}")
    main()
