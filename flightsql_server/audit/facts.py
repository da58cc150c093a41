"""From what a call was found to do to what its line says: bounded, without values, tokens or passwords."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flightsql_auth.principals import Principal

from flightsql_server.model import Entry

Redact = Callable[[str, str, bool, bool], str]
"""A statement without its literals, from the text, its dialect, whether it was read in full and whether planned."""

FULL, REDACTED, NONE = "full", "redacted", "none"
# What the planner says only of a text that it has read as one statement of the dialect.
_REFUSED_AFTER_READING = frozenset({"42P01", "42P07", "42501", "42702", "42703", "42803", "42883", "25006"})
_LONGEST_NAME = 256
_MOST_NAMES = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended. ``code`` is the name of its gRPC status."""

    code: str = "OK"
    sqlstate: str = ""
    incident: str = ""
    seconds: float = 0.0
    received_bytes: int = 0
    sent_bytes: int = 0


def time_text(seconds: float) -> str:
    """A moment as RFC 3339 writes it, in UTC with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def short(text: str) -> str:
    """A name that may be anybody's, cut to a bounded length."""
    return text if len(text) <= _LONGEST_NAME else text[:_LONGEST_NAME] + "…"


def who(principal: Principal) -> dict[str, Any]:
    """The fields that say who did it."""
    return {
        "user": short(principal.name),
        "method": principal.method,
        "roles": names(principal.roles),
        "session": principal.session_id,
    }


def names(found: Iterable[object]) -> list[str]:
    """The names as text, not more than a line should hold."""
    listed = [short(str(name)) for name in found]
    return listed if len(listed) <= _MOST_NAMES else [*listed[:_MOST_NAMES], "…"]


class Facts:
    """Makes the facts of a line. ``statements`` is full, redacted or none."""

    def __init__(self, statements: str, redact: Redact) -> None:
        self._statements = statements
        self._redact = redact

    def of(self, entry: Entry, time: float, outcome: Outcome) -> dict[str, Any]:
        """What the line of one call says; fields that have nothing to say are left out."""
        principal = entry.principal
        facts: dict[str, Any] = {"time": time_text(time), "event": entry.event or "call"}
        facts |= {"user": short(entry.user)} if principal is None else who(principal)
        facts |= {"peer": short(entry.peer), "command": short(entry.command)}
        if entry.dialect:
            facts |= {"dialect": entry.dialect, **self._statement(entry, outcome)}
        if entry.parameter_types:
            facts["parameters"] = {"rows": entry.parameter_rows, "types": names(entry.parameter_types)}
        facts |= {
            "reads": names(entry.reads),
            "writes": names(entry.writes),
            "policy": entry.policy,
            "rows": entry.rows,
            "received_bytes": outcome.received_bytes,
            "sent_bytes": outcome.sent_bytes,
            "milliseconds": round(outcome.seconds * 1_000, 3),
            "outcome": outcome.code,
            "sqlstate": outcome.sqlstate,
            "incident": outcome.incident,
            "reason": entry.reason,
        }
        facts |= {name: short(value) if isinstance(value, str) else value for name, value in entry.details.items()}
        return {name: value for name, value in facts.items() if value not in (None, "", [])}

    def _statement(self, entry: Entry, outcome: Outcome) -> dict[str, Any]:
        if self._statements == NONE:
            return {}
        if self._statements == REDACTED:
            cut = "statement_length" in entry.details
            read, planned = outcome.sqlstate in _REFUSED_AFTER_READING and not cut, entry.understood and not cut
            return {"statement": self._redact(entry.statement, entry.dialect, read, planned)}
        return {"statement": entry.statement}
