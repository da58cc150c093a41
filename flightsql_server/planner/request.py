"""What the planner is asked, its limits, and the draft that its rules pass on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from flightsql_auth.policies import Grants
from sqlglot import exp
from sqlglot.tokenizer_core import Token

from flightsql_server.model import Catalog, Live, Plan, Table, TableName


@dataclass(frozen=True, slots=True)
class PlannerLimits:
    """How large one statement may be.

    ``sql_bytes``: UTF-8 bytes of the text. ``tokens``: words, numbers and signs of it. ``depth``: levels of nesting, of
    the text (brackets, CASE, chains of prefix operators) as well as of the syntax tree without its left-leaning chains
    of binary operators. ``chain``: length of one such chain, or of one UNION. ``subscripts``: how often ``[…]`` follows
    a name or a closing bracket. ``seconds``: how long planning may take, looked at after each rule.
    """

    sql_bytes: int = 262_144
    tokens: int = 20_000
    depth: int = 200
    chain: int = 2_000
    subscripts: int = 250
    seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Request:
    """One text to plan: who wrote it, in which dialect, against which catalog and session.

    ``schema`` is the session's current schema; empty means the user's own, then ``main``. ``server_version`` is what
    ``version()`` answers.
    """

    text: str
    dialect: str
    principal_name: str
    grants: Grants
    catalog: Catalog
    schema: str = ""
    time_zone: str = "UTC"
    server_version: str = "0"
    backend_dialect: str = "duckdb"
    parameters: tuple[pa.DataType, ...] | None = None
    """The types of the values that are bound; None: not bound yet, so they are guessed."""
    kept: str = ""
    """What is known of a plan made for this text before; for EXPLAIN TRANSLATION to tell."""
    live: bool = False
    """Whether the answer is to be told again whenever it changes."""
    operations: Mapping[str, Sequence[tuple[str | int | None, ...]]] | None = None
    """The rows of the tables of ``ops``, where the statement may name them."""


@dataclass(frozen=True, slots=True)
class BoundTable:
    """A table of the catalog and the node that reads it; one entry per mention in the text."""

    node: exp.Table
    table: Table


@dataclass(slots=True)
class Draft:
    """What the rules know of a statement so far; one per call of ``plan`` and never shared.

    A rule that has the whole answer sets ``done``: no later rule runs.
    """

    request: Request
    limits: PlannerLimits
    text: str
    dialect: str = ""
    tokens: list[Token] = field(default_factory=list)
    tree: exp.Expr | None = None
    tables: list[BoundTable] = field(default_factory=list)
    session_nodes: list[exp.Expr] = field(default_factory=list)
    exposed: bool = False
    views: list[exp.Expr] = field(default_factory=list)
    """The queries of views that stand in the tree: in the engine's dialect already, whatever the statement's is."""
    view_bytes: int = 0
    transient: bool = False
    parametrised: bool = False
    values: frozenset[str] = frozenset()
    parameters: tuple[pa.DataType, ...] = ()
    effect: str = ""
    target: TableName | None = None
    target_node: exp.Table | None = None
    policy_tables: set[TableName] = field(default_factory=set)
    named: list[exp.Table] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    describe: exp.Expr | None = None
    reads: exp.Expr | None = None
    live: Live | None = None
    changes: exp.Expr | None = None
    """The query that asks the rows that have changed, of a subscription that can be told by them."""
    volatile: bool = False
    sql: str = ""
    done: Plan | None = None

    @property
    def root(self) -> exp.Expr:
        """The syntax tree; only rules after ``dialect.parse`` may ask for it."""
        if self.tree is None:
            raise RuntimeError("a rule ran before the text was parsed")
        return self.tree

    @property
    def native(self) -> bool:
        """Whether text and engine speak the same dialect, so that function names go through as they are."""
        return self.dialect == self.request.backend_dialect
