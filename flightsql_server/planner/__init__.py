"""The planner: a text, who wrote it and what exists become a plan, or an error of the family.

Pure and thread-safe: no state, no I/O, and no clock but the one that ends what takes too long. The only room that
imports sqlglot. ``RULES`` is the whole way in order; each rule takes a draft on, and refuses what it doesn't know. Only
text that the last rules wrote and checked reaches an engine, in the same dialect too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from flightsql_auth.policies import Grants
from sqlglot import exp

from flightsql_server.errors import PlanningTimeout, SqlSyntaxError, StatementTooComplex, UserError
from flightsql_server.model import Catalog, Plan, TableName
from flightsql_server.planner import (
    binding,
    dialect,
    explain,
    functions,
    gate,
    growth,
    introspection,
    live,
    meaning,
    parameters,
    pointing,
    policy,
    values,
    writes,
)
from flightsql_server.planner.dialect import dialects
from flightsql_server.planner.names import identifier, literal
from flightsql_server.planner.operations import tables as operations_tables
from flightsql_server.planner.parameters import sql_type
from flightsql_server.planner.pointing import pointed
from flightsql_server.planner.policy import forbidden_rows
from flightsql_server.planner.redaction import redacted
from flightsql_server.planner.request import Draft, PlannerLimits, Request

__all__ = [
    "RULES",
    "PlannerLimits",
    "Request",
    "dialects",
    "explained",
    "forbidden_rows",
    "function_names",
    "identifier",
    "literal",
    "operations_tables",
    "plan",
    "pointed",
    "redacted",
    "sql_type",
    "subscribed",
    "translation",
]

DEFAULT_LIMITS = PlannerLimits()

RULES: tuple[Callable[[Draft], None], ...] = (
    gate.check_text,
    dialect.choose,
    dialect.tokenize,
    gate.check_tokens,
    gate.check_kind,
    parameters.mark,
    introspection.answer_command,
    writes.answer_transaction,
    meaning.rewrite_tokens,
    dialect.parse,
    parameters.check,
    meaning.rewrite_syntax,
    gate.check_nodes,
    values.note,
    writes.take_target,
    binding.bind,
    introspection.unqualify,
    introspection.answer_session,
    binding.write_names,
    parameters.place,
    meaning.rewrite_typed,
    gate.check_words,
    live.consider,
    policy.enforce,
    live.derive,
    writes.finish,
    growth.check_growth,
    dialect.generate,
    gate.check_written,
)


_FUNCTION_GROUPS = {
    "numeric": functions.NUMBER,
    "string": functions.TEXT,
    "datetime": functions.TIME,
    "system": functions.SESSION,
}


def function_names(group: str) -> tuple[str, ...]:
    """The functions that statements may call, of the groups numeric, string, datetime and system, sorted."""
    return tuple(sorted(_FUNCTION_GROUPS[group]))


def plan(request: Request, limits: PlannerLimits = DEFAULT_LIMITS) -> Plan:
    """The plan of one statement.

    Raises the error family only: SqlSyntaxError, StatementTooComplex, UnsupportedFeature, UndefinedTable,
    InvalidParameter. Messages hold the user's own words and names that the principal may see, nothing else.
    """
    short = len(request.text) <= limits.sql_bytes
    query = live.split(request.text) if short else None
    if query is not None:
        return _planned(replace(request, text=query, live=True), limits)
    explained = explain.split(request.text) if short and not request.live else None
    if explained is None:
        return _planned(request, limits)
    inner = replace(request, text=explained.text)
    if explained.kind == explain.TRANSLATION:
        spoken = Draft(request=inner, limits=limits, text=inner.text)
        dialect.choose(spoken)
        return explain.of_translation(inner, lambda asked, watch: _planned(asked, limits, watch), spoken.dialect)
    return explain.of_engine(inner, explained.kind, lambda asked: _planned(asked, limits))


def translation(request: Request, limits: PlannerLimits = DEFAULT_LIMITS) -> list[tuple[str, str]]:
    """What EXPLAIN TRANSLATION tells of a request's statement, as pairs of a step and its text."""
    spoken = dialect.named(request.dialect, request.text)
    return explain.steps(request, lambda asked, watch: _planned(asked, limits, watch), spoken)


def explained(text: str) -> str | None:
    """The statement that an EXPLAIN TRANSLATION is about; None for any other text."""
    found = explain.split(text)
    return found.text.strip() if found is not None and found.kind == explain.TRANSLATION else None


def bound_condition(text: str, name: TableName, catalog: Catalog) -> exp.Expr:
    """A condition on a table's columns, from the engine's dialect: checked like a statement, its tables named in full.

    Session functions and the columns of ``claims`` are left as they are, for whoever asks to be filled in.
    """
    everything = Grants(select=frozenset({"*"}), admin=True)
    table = f"{identifier(name.schema)}.{identifier(name.name)}"
    request = Request(f"SELECT * FROM {table} WHERE ({text}\n)", "duckdb", "", everything, catalog)
    draft = Draft(request=request, limits=DEFAULT_LIMITS, text=request.text)
    for rule in RULES[: RULES.index(binding.write_names) + 1]:
        if rule is not introspection.answer_session:
            rule(draft)
    where = draft.root.args.get("where")
    if where is None or draft.parametrised or any(part for key, part in draft.root.args.items() if key not in _PLAIN):
        raise SqlSyntaxError("That is not one condition.", hint="Write a predicate over the table's columns.")
    condition: exp.Expr = where.this.copy()
    return condition


def subscribed(text: str) -> bool:
    """Whether the text asks for a subscription."""
    return live.split(text) is not None


_PLAIN = ("expressions", "from_", "where", "kind")


def _planned(
    request: Request, limits: PlannerLimits, watch: Callable[[Callable[[Draft], None], Draft], None] | None = None
) -> Plan:
    draft = Draft(request=request, limits=limits, text=request.text)
    until = time.monotonic() + limits.seconds
    try:
        for rule in RULES:
            rule(draft)
            if time.monotonic() > until:
                raise PlanningTimeout(
                    f"Planning the statement took longer than {limits.seconds:g} seconds.", hint="Make it simpler."
                )
            if watch is not None:
                watch(rule, draft)
            if draft.done is not None:
                return draft.done
    except UserError as error:
        if error.word:
            pointing.point(error, draft.tokens, draft.text)
        raise
    except RecursionError:
        raise StatementTooComplex("The statement is nested too deeply.", hint="Split it into smaller ones.") from None
    tables = tuple(sorted({bound.table.table_name for bound in draft.tables}))
    return Plan(
        sql=draft.sql,
        tables=tables,
        policy_tables=tuple(sorted(draft.policy_tables)),
        volatile=draft.volatile,
        values=draft.values,
        parameters=draft.parameters,
        effect=draft.effect,
        target=draft.target,
        columns=draft.columns,
        subscribed=request.live,
        live=None if draft.live is None else replace(draft.live, sql=dialect.written(draft, draft.changes)),
        describe=dialect.written(draft, draft.describe),
        reads=dialect.written(draft, draft.reads),
    )
