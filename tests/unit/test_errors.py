"""The error family: each member has a status that gRPC knows, a SQLSTATE, and its place in the picture."""

from __future__ import annotations

import re

import grpc
import pytest

from flightsql_server import errors
from flightsql_server.errors import InternalError, ServerError
from tests.reference_pages import error_classes

# "    │   ├── SqlSyntaxError             42601  INVALID_ARGUMENT"
_DRAWN = re.compile(r"^[ │]*[├└]── (?P<name>\w+)(?:\s+(?P<sqlstate>[0-9A-Z]{5})  (?P<status>[A-Z_]+))?", re.MULTILINE)


def _made(kind: type[ServerError]) -> ServerError:
    return InternalError() if kind is InternalError else kind("What happened.", hint="What to do.")


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_each_error_leaves_with_sqlstate_and_status(kind: type[ServerError]) -> None:
    assert re.fullmatch(r"[0-9A-Z]{5}", kind.sqlstate)
    assert kind.status in grpc.StatusCode.__members__
    assert kind.status not in ("OK", "UNKNOWN")
    assert str(_made(kind)).startswith(f"[{kind.sqlstate}] ")
    assert (kind.__doc__ or "").strip().endswith("."), "it says what the caller can do"


def test_only_a_defect_is_internal() -> None:
    assert [kind for kind in error_classes() if kind.status == "INTERNAL" or kind.sqlstate == "XX000"] == [
        InternalError
    ]


def test_the_picture_shows_every_class_and_nothing_else() -> None:
    drawn = {match["name"]: match for match in _DRAWN.finditer(errors.__doc__ or "")}
    members = {kind.__name__: kind for kind in vars(errors).values() if isinstance(kind, type)}
    assert drawn.keys() == members.keys() - {"ServerError"}
    for kind in error_classes():
        assert (drawn[kind.__name__]["sqlstate"], drawn[kind.__name__]["status"]) == (kind.sqlstate, kind.status)


def test_the_picture_shows_who_belongs_to_whom() -> None:
    family = ""
    for line in (errors.__doc__ or "").splitlines():
        found = _DRAWN.match(line)
        if found and not line.startswith("    │   "):
            family = found["name"]
            assert getattr(errors, family).__mro__[1] is ServerError
        elif found:
            assert getattr(errors, found["name"]).__mro__[1].__name__ == family


def test_the_hint_follows_the_message() -> None:
    assert str(errors.UndefinedTable("No such table.", hint="SHOW TABLES lists them.")) == (
        "[42P01] No such table. SHOW TABLES lists them."
    )
    assert str(errors.UndefinedTable("No such table.")) == "[42P01] No such table."


def test_incidents_have_numbers_of_their_own() -> None:
    one, other = InternalError(), InternalError()
    assert one.incident != other.incident
    assert one.incident in str(one)
    assert InternalError("abc").incident == "abc"
