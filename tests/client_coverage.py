"""Which command is proven through which client: read from the ``covers`` marks in the tests' source.

``@pytest.mark.covers("adbc", "StatementQuery", "BeginTransaction")`` says of a test: when it passes, this client got
from these commands and actions what is promised, the right answer or, where they are not served, UNIMPLEMENTED. A
module says it of all its tests by ``pytestmark``. The names are those of ``ROUTES`` and ``ACTION_TYPES``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from flightsql_server.protocol import routes
from flightsql_server.protocol.actions import ACTION_TYPES

TESTS = Path(__file__).parent

CLIENTS = {
    "adbc": "ADBC (Python)",
    "jdbc": "JDBC",
    "go": "Go",
    "pyarrow": "pyarrow",
    "npm": "npm",
    "dbapi": "flightsql-dbapi",
    "frames": "pandas, polars",
    "grpc": "bare gRPC",
}
"""The clients by the names that marks use, with the titles of their columns."""


class Claim(NamedTuple):
    """One mark: what it says of which client, and where it stands."""

    place: str
    client: str
    names: tuple[str, ...]


def served() -> dict[str, bool]:
    """Every command and action that a client can send, in the table's order, and whether the server serves it."""
    commands = {
        route.name: any((route.info, route.rows, route.put))
        for route in sorted(routes.ROUTES.values(), key=lambda route: route.name)
    }
    return commands | dict.fromkeys(routes.ACTIONS, True) | dict.fromkeys(refused_actions(), False)


def refused_actions() -> list[str]:
    """The actions of the published format that are answered UNIMPLEMENTED."""
    return sorted(set(ACTION_TYPES) - set(routes.ACTIONS))


def claims_of(source: str, place: str) -> list[Claim]:
    """The marks of one module's source; ValueError for one that no test carries, or that isn't plain text."""
    tree = ast.parse(source)
    tests = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_")
    ]
    found = [_claim(call, f"{place}::{test.name}") for test in tests for call in _marks(test.decorator_list)]
    if tests:
        found += [
            _claim(call, place)
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
            for call in _marks(node.value.elts if isinstance(node.value, ast.List) else [node.value])
        ]
    written = sum(isinstance(node, ast.Attribute) and node.attr == "covers" for node in ast.walk(tree))
    if written != len(found):
        raise ValueError(f"{place}: a mark `covers` stands where no test carries it")
    return found


def _marks(nodes: list[ast.expr]) -> Iterator[ast.Call]:
    for node in nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.covers":
            yield node


def _claim(call: ast.Call, place: str) -> Claim:
    words = [node.value for node in call.args if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    if call.keywords or len(words) != len(call.args) or len(words) < 2:
        raise ValueError(f"{place}: a mark `covers` names a client and its commands, as plain text")
    client, *names = words
    wrong = [name for name in names if name not in served()]
    if client not in CLIENTS or wrong:
        raise ValueError(f"{place}: there is no {', '.join(wrong) or client} to cover")
    return Claim(place, client, tuple(names))


@cache
def claims() -> tuple[Claim, ...]:
    """The marks of all tests."""
    files = sorted(TESTS.rglob("test_*.py"))
    return tuple(
        claim
        for file in files
        for claim in claims_of(file.read_text(encoding="utf-8"), file.relative_to(TESTS).as_posix())
    )


def table() -> list[str]:
    """The lines of the table: a row for each command and action, a column for each client."""
    covered: Mapping[str, set[str]] = {name: set() for name in served()}
    for claim in claims():
        for name in claim.names:
            covered[name].add(claim.client)
    lines = [f"| | {' | '.join(CLIENTS.values())} |", "| --- |" + " --- |" * len(CLIENTS)]
    for name, is_served in served().items():
        word = "tested" if is_served else "UNIMPLEMENTED"
        cells = " | ".join(word if client in covered[name] else "" for client in CLIENTS)
        lines.append(f"| `{name}` | {cells} |")
    return lines
