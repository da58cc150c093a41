"""EXPLAIN TRANSLATION, answered here: what each rule made of a statement. EXPLAIN and EXPLAIN ANALYZE: the engine's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from flightsql_auth import restrictions
from sqlglot.errors import SqlglotError

from flightsql_server.errors import AccessDenied, SqlSyntaxError, UnsupportedFeature
from flightsql_server.model import EXPLAIN, EXPLAIN_ANALYZE, Plan
from flightsql_server.planner.dialect import keep_qualified
from flightsql_server.planner.information import Row, View
from flightsql_server.planner.names import fold, shown
from flightsql_server.planner.request import Draft, Request

TRANSLATION = "translation"
BLANK = r"\s*(?:(?:--[^\n]*(?:\n|\Z)|/\*(?:(?!\*/).)*\*/)\s*)*"
_PREFIX = re.compile(
    rf"{BLANK}(?P<word>EXPLAIN\b)(?:{BLANK}(?P<kind>TRANSLATION|ANALYZE)\b)?", re.IGNORECASE | re.DOTALL
)
Run = Callable[[Request, Callable[[Callable[[Draft], None], Draft], None]], Plan]
"""Plans a request, and calls what it is given after each rule."""
_OF_KIND = {None: EXPLAIN, "analyze": EXPLAIN_ANALYZE, TRANSLATION: TRANSLATION}
_STEPS = View((("step", "INTEGER"), ("what", "VARCHAR"), ("text", "VARCHAR")), ("step", "what", "text"))
_LONGEST = 20_000


class Explained(NamedTuple):
    """What is asked of a statement, and its text, in which every character stands where it stood."""

    kind: str
    text: str


def split(text: str) -> Explained | None:
    """What an EXPLAIN asks, of which statement; None for any other text."""
    found = _PREFIX.match(text)
    if found is None:
        return None
    kind = found["kind"]
    start = found.start("word")
    words = "".join(" " if letter != "\n" else letter for letter in text[start : found.end()])
    return Explained(_OF_KIND[fold(kind) if kind else None], text[:start] + words + text[found.end() :])


def of_engine(request: Request, kind: str, run: Callable[[Request], Plan]) -> Plan:
    """The plan of a query, to be explained by the engine and not to be run, or run and its answer dropped."""
    if not request.grants.explain:
        raise AccessDenied(
            "You may not see how the engine runs a statement, since that tells of rows that you may not see.",
            hint="Ask for a role with explain; EXPLAIN TRANSLATION is for everybody.",
        )
    plan = run(request)
    if plan.effect or plan.set_schema is not None:
        raise UnsupportedFeature("EXPLAIN takes a query.", hint="Explain the SELECT of the statement.")
    return replace(plan, effect=kind, volatile=True, values=frozenset())


@dataclass
class Trace:
    """What the rules left behind, one after the other."""

    steps: list[tuple[str, str]] = field(default_factory=list)
    _last: str = ""

    def watch(self, rule: Callable[[Draft], None], draft: Draft) -> None:
        """Notes what a rule has changed."""
        if draft.tree is None:
            return
        try:
            tree = draft.tree.copy()
            keep_qualified(tree)
            text = tree.sql(dialect="duckdb", comments=False)
        except (SqlglotError, ValueError, TypeError, AttributeError, KeyError, IndexError, AssertionError):
            text = "not yet what the engine's dialect could say"
        if text != self._last:
            what = (rule.__doc__ or "").partition("\n")[0].removeprefix("Rule: ").rstrip(".")
            self.steps.append((what, text))
            self._last = text


def of_translation(request: Request, run: Run, dialect: str) -> Plan:
    """A query that yields the way of a statement."""
    rows: list[Row] = [
        (step, shown(what, 200), text[:_LONGEST]) for step, (what, text) in enumerate(steps(request, run, dialect))
    ]
    return Plan(sql=_STEPS.select(rows), volatile=True)


def steps(request: Request, run: Run, dialect: str) -> list[tuple[str, str]]:
    """The way of a statement: its text, what each rule made of it, what the engine would get."""
    if split(request.text) is not None:
        raise SqlSyntaxError("EXPLAIN can't be explained.", hint="Explain the statement itself.")
    trace = Trace()
    plan = run(request, trace.watch)
    read = [str(name) for name in plan.tables]
    return [
        ("input", request.text.strip()),
        ("dialect", dialect),
        *trace.steps,
        ("backend SQL", plan.sql or "none: it is the session's affair"),
        ("tables read", ", ".join(read) or "none"),
        ("changes", " ".join(filter(None, (plan.effect, str(plan.target or "")))) or "nothing"),
        ("policy", _policy(request, plan)),
        ("parameters", ", ".join(map(str, plan.parameters)) or "none"),
        ("answer", "may differ from run to run" if plan.volatile else "the same for the same rows"),
        ("plan", request.kept or "is made anew"),
    ]


def _policy(request: Request, plan: Plan) -> str:
    """Which grant lets the caller read each of the tables."""
    if not plan.tables:
        return "no table is read"
    own = (request.grants.own, request.grants.temporary)
    told = []
    for name in plan.tables:
        table = request.catalog.tables[name]
        how = "your own" if name.schema in own else "select is granted"
        views = request.grants.views(schema=name.schema, name=name.name, dataset=table.dataset)
        told.append(f"{name}: {how}, {_shown(views)}")
    return "; ".join(told)


def _shown(views: Sequence[restrictions.View] | None) -> str:
    """How much of a table is shown, in the words of the roles."""
    if views is None:
        return "all rows, all columns"
    parts = []
    for view in views:
        rows = f"rows where {' and '.join(view.predicates)}" if view.predicates else "all rows"
        masks = ", ".join(f"{column} masked by {mask}" for column, mask in view.masks)
        parts.append(f"{rows}, {masks}" if masks else rows)
    return " or ".join(parts) or "no rows"
