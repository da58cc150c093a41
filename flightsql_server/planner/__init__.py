"""The planner: a text, who wrote it and what exists become a plan, or an error of the family.

Pure and thread-safe: no state, no clock, no I/O. The only room that imports sqlglot. ``RULES`` is the whole way in
order; each rule takes a draft on, and refuses what it doesn't know. Only text that the last rules wrote and checked
reaches an engine, in the same dialect too.
"""

from __future__ import annotations

from collections.abc import Callable

from flightsql_server.errors import StatementTooComplex
from flightsql_server.model import Plan
from flightsql_server.planner import (
    binding,
    dialect,
    functions,
    gate,
    introspection,
    parameters,
    policy,
    values,
    writes,
)
from flightsql_server.planner.dialect import dialects
from flightsql_server.planner.names import identifier, literal
from flightsql_server.planner.parameters import sql_type
from flightsql_server.planner.request import Draft, PlannerLimits, Request

__all__ = [
    "RULES",
    "PlannerLimits",
    "Request",
    "dialects",
    "function_names",
    "identifier",
    "literal",
    "plan",
    "sql_type",
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
    dialect.parse,
    parameters.check,
    gate.check_nodes,
    values.note,
    writes.take_target,
    binding.bind,
    introspection.unqualify,
    introspection.answer_session,
    binding.write_names,
    policy.enforce,
    parameters.place,
    writes.finish,
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
    draft = Draft(request=request, limits=limits, text=request.text)
    try:
        for rule in RULES:
            rule(draft)
            if draft.done is not None:
                return draft.done
    except RecursionError:
        raise StatementTooComplex("The statement is nested too deeply.", hint="Split it into smaller ones.") from None
    tables = tuple(sorted({bound.table.table_name for bound in draft.tables}))
    return Plan(
        sql=draft.sql,
        tables=tables,
        volatile=draft.volatile,
        values=draft.values,
        parameters=draft.parameters,
        effect=draft.effect,
        target=draft.target,
        columns=draft.columns,
        describe=dialect.written(draft, draft.describe),
        reads=dialect.written(draft, draft.reads),
    )
