"""Under a policy a statement answers as if the rows and values that it hides were not there: results and errors alike.

The oracle knows nothing of the planner: it filters and masks rows in Python, fills a second database with what is left,
and asks that one, where everything may be read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from flightsql_auth.policies import Grants, Policies
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlglot import exp

from flightsql_server.engine.duckdb_errors import translate
from flightsql_server.errors import ServerError
from flightsql_server.model import VIEW, Catalog, Column, Table
from flightsql_server.planner import Request, plan, policy
from tests.conftest import examples

Row = dict[str, Any]
_FILLS = (("id", pa.int64()), ("symbol", pa.string()), ("lots", pa.int64()), ("note", pa.string()))
_POSITIONS = (("account", pa.string()), ("symbol", pa.string()), ("quantity", pa.int64()))


def _table(name: str, columns: tuple[tuple[str, pa.DataType], ...], definition: str = "") -> Table:
    made = tuple(Column(column, type_) for column, type_ in columns)
    return Table("main", name, made, VIEW if definition else "BASE TABLE", definition=definition)


_BIG = 'CREATE VIEW desk.main.big AS SELECT id, symbol, lots FROM "desk"."main"."fills" WHERE lots > 1'
TABLES = (_table("fills", _FILLS), _table("positions", _POSITIONS), _table("big", _FILLS[:3], _BIG))
CATALOG = Catalog({table.table_name: table for table in TABLES})
EVERYTHING = Grants(select=frozenset({"*"}))


# ---- policies, and what they mean in Python

World = dict[str, list[Row]]
Holds = Callable[[Row, World, dict[str, Any]], bool]

FILLS_FILTERS: list[tuple[str, Holds]] = [
    ("lots > 1", lambda r, w, c: r["lots"] is not None and r["lots"] > 1),
    ("symbol IN (claims.symbols)", lambda r, w, c: r["symbol"] in c["symbols"]),
    ("note IS NULL OR length(note) < 3", lambda r, w, c: r["note"] is None or len(r["note"]) < 3),
    ("fills.id % 2 = 0", lambda r, w, c: r["id"] % 2 == 0),
    (
        "symbol IN (SELECT symbol FROM positions WHERE account = claims.account)",
        lambda r, w, c: any(p["symbol"] == r["symbol"] for p in w["positions"] if p["account"] == c["account"]),
    ),
    (
        "EXISTS (SELECT 1 FROM positions p WHERE p.symbol = fills.symbol AND p.quantity > 2)",
        lambda r, w, c: any(p["symbol"] == r["symbol"] and p["quantity"] > 2 for p in w["positions"]),
    ),
    (
        "lots >= (SELECT min(quantity) FROM positions)",
        lambda r, w, c: (
            r["lots"] is not None and bool(w["positions"]) and r["lots"] >= min(p["quantity"] for p in w["positions"])
        ),
    ),
]
POSITIONS_FILTERS: list[tuple[str, Holds]] = [
    ("account = claims.account", lambda r, w, c: r["account"] == c["account"]),
    ("quantity <> 3", lambda r, w, c: r["quantity"] != 3),
]
Shows = Callable[[Any], Any]
FILLS_MASKS: list[tuple[str, str, Shows]] = [
    ("note", "null", lambda v: None),
    ("note", "last4", lambda v: None if v is None else "****" + v[-4:]),
    ("note", "= upper(note)", lambda v: None if v is None else v.upper()),
    ("lots", "null", lambda v: None),
    ("lots", "= lots % 2", lambda v: None if v is None else (abs(v) % 2) * (1 if v >= 0 else -1)),
    ("symbol", "hash", lambda v: hashlib.sha256(v.encode()).hexdigest()),
]


@dataclass
class Role:
    """One role of a case: what it shows, as text for the server and as Python for the oracle."""

    fills: tuple[str, Holds] | None
    positions: tuple[str, Holds] | None
    masks: list[tuple[str, str, Shows]]

    def toml(self) -> dict[str, Any]:
        filters = {name: given[0] for name, given in (("fills", self.fills), ("positions", self.positions)) if given}
        masks = {"fills": {column: text for column, text, _ in self.masks}} if self.masks else {}
        return {"select": ["fills", "positions", "big"], "filters": filters, "masks": masks}


@st.composite
def roles(draw: st.DrawFn) -> Role:
    masks = draw(st.lists(st.sampled_from(FILLS_MASKS), max_size=2, unique_by=lambda mask: mask[0]))
    return Role(
        draw(st.one_of(st.none(), st.sampled_from(FILLS_FILTERS))),
        draw(st.one_of(st.none(), st.sampled_from(POSITIONS_FILTERS))),
        masks,
    )


def seen(world: World, claims: dict[str, Any], given_roles: list[Role]) -> World:
    """What the principal is shown: a row that any role shows, bare where any of those shows it bare."""
    fills = []
    for row in world["fills"]:
        showing = [role for role in given_roles if role.fills is None or role.fills[1](row, world, claims)]
        if not showing:
            continue
        shown = dict(row)
        for column in row:
            masks = [{name: show for name, _, show in role.masks}.get(column) for role in showing]
            first = masks[0]
            if all(mask is not None for mask in masks) and first is not None:
                shown[column] = first(row[column])
        fills.append(shown)
    positions = [
        row
        for row in world["positions"]
        if any(role.positions is None or role.positions[1](row, world, claims) for role in given_roles)
    ]
    return {"fills": fills, "positions": positions}


# ---- rows and statements

_symbols = st.sampled_from(["A", "B", "C"])
_rows = st.fixed_dictionaries(
    {
        "fills": st.lists(
            st.fixed_dictionaries(
                {
                    "id": st.integers(0, 9),
                    "symbol": _symbols,
                    "lots": st.one_of(st.none(), st.integers(-2, 7)),
                    "note": st.one_of(st.none(), st.sampled_from(["7", "42", "SECRET", "x", "", "2026-01-01"])),
                }
            ),
            max_size=8,
        ),
        "positions": st.lists(
            st.fixed_dictionaries(
                {"account": st.sampled_from(["A1", "A2"]), "symbol": _symbols, "quantity": st.integers(0, 5)}
            ),
            max_size=6,
        ),
    }
)
_claims = st.fixed_dictionaries(
    {"account": st.sampled_from(["A1", "A2", "none"]), "symbols": st.lists(_symbols, max_size=2, unique=True)}
)
# The last of each line fail on some values: an error must not tell of a row that is hidden.
_VALUES = """
    id; symbol; lots; note; lots + 1; length(note); upper(symbol); lots IS NULL; coalesce(note, 'none')
    CAST(note AS INT); CAST(note AS DATE); 7 // (lots - 2)
"""
_CONDITIONS = """
    lots > 0; note LIKE '%E%'; lots IN (1, 2, 3); note IS NOT NULL; TRUE
    CAST(note AS INT) = 7; 7 // (lots - 2) > 0; note::DATE > DATE '2025-01-01'
"""
_AGGREGATES = """
    count(*); sum(lots); min(note); max(lots); bool_or(lots > 1); avg(lots); count(note)
    sum(CAST(note AS INT))
"""
_STATEMENTS = """
SELECT {value}, {other} FROM fills WHERE {where}
SELECT f.*, {aggregate} OVER (PARTITION BY symbol) FROM fills f
SELECT symbol, {aggregate} FROM fills WHERE {where} GROUP BY symbol HAVING {having}
SELECT symbol, string_agg(symbol, ',' ORDER BY symbol, id), count(DISTINCT note) FROM fills GROUP BY symbol
SELECT {aggregate} FROM fills
SELECT f.id, p.account FROM fills f JOIN positions p USING (symbol) WHERE {where}
SELECT f.id, x.k FROM fills f JOIN (VALUES (7), (42)) x(k) ON f.note::INT = x.k
SELECT p.account, f.id FROM positions p LEFT JOIN fills f ON f.symbol = p.symbol AND f.lots > p.quantity
SELECT account FROM positions WHERE symbol IN (SELECT symbol FROM fills WHERE {where})
SELECT account FROM positions p WHERE EXISTS (FROM fills f WHERE f.symbol = p.symbol AND f.note::INT > 0)
SELECT count(*) FROM fills f WHERE f.lots IN (SELECT quantity FROM positions) AND f.note::INT > 0
SELECT count(*) FROM fills f, LATERAL (SELECT 1 FROM positions p WHERE p.quantity >= f.lots) WHERE f.note::INT > 0
SELECT account, (SELECT {aggregate} FROM fills) AS n FROM positions
WITH c AS (SELECT {value} AS v, symbol FROM fills) SELECT symbol, v FROM c
WITH fills AS (SELECT * FROM fills WHERE lots > 0) SELECT symbol, count(*) FROM fills GROUP BY ALL
SELECT symbol, {value} FROM fills QUALIFY row_number() OVER (PARTITION BY symbol ORDER BY id, lots, note) = 1
SELECT symbol FROM fills EXCEPT SELECT symbol FROM positions
SELECT symbol FROM fills UNION SELECT symbol FROM positions WHERE quantity > 1
SELECT symbol FROM fills INTERSECT ALL SELECT symbol FROM positions
SELECT DISTINCT {value} FROM fills
SELECT * FROM big JOIN positions USING (symbol)
SELECT b.symbol, sum(lots), max(id) FROM big b GROUP BY ALL
SELECT p.account, l.id FROM positions p, LATERAL (SELECT id FROM fills f WHERE f.symbol = p.symbol) l
FROM fills SELECT main.fills.symbol, count(*) GROUP BY ALL
PIVOT positions ON account IN ('A1', 'A2') USING sum(quantity) GROUP BY symbol
UNPIVOT (SELECT id, symbol, note FROM fills) ON symbol, note INTO NAME what VALUE text
SELECT max(id), count(note) FROM (TABLE fills)
SELECT a.id FROM fills a, fills b WHERE a.id < b.id AND a.note::INT = b.lots
""".strip().splitlines()


def _one_of(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from([part.strip() for part in re.split(r"[;\n]", text) if part.strip()])


@st.composite
def statements(draw: st.DrawFn) -> str:
    return draw(st.sampled_from(_STATEMENTS)).format(
        value=draw(_one_of(_VALUES)),
        other=draw(_one_of(_VALUES)),
        where=draw(_one_of(_CONDITIONS)),
        aggregate=draw(_one_of(_AGGREGATES)),
        having=draw(st.sampled_from(["count(*) > 1", "max(lots) > 1", "TRUE"])),
    )


# ---- the comparison


@contextmanager
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(
        ":memory:", config={"threads": 2, "disabled_optimizers": "statistics_propagation"}
    ) as connection:
        connection.execute("ATTACH ':memory:' AS desk; USE desk")
        connection.execute("CREATE TABLE fills (id BIGINT, symbol VARCHAR, lots BIGINT, note VARCHAR)")
        connection.execute("CREATE TABLE positions (account VARCHAR, symbol VARCHAR, quantity BIGINT)")
        yield connection


def fill(connection: duckdb.DuckDBPyConnection, world: World) -> None:
    for name, columns in (("fills", _FILLS), ("positions", _POSITIONS)):
        rows = pa.Table.from_pylist(world[name], pa.schema(list(columns)))
        connection.execute(f"DELETE FROM {name}")
        connection.register("incoming", rows)
        connection.execute(f"INSERT INTO {name} SELECT * FROM incoming")
        connection.unregister("incoming")


def answer(connection: duckdb.DuckDBPyConnection, text: str, grants: Grants) -> tuple[str, object]:
    """Rows in some order, or the error that a client would be told."""
    try:
        planned = plan(Request(text, "duckdb", "alice", grants, CATALOG))
    except ServerError as error:
        return "refused", str(error)
    try:
        rows = connection.sql(planned.sql).fetchall()
    except duckdb.Error as error:
        return "failed", str(translate(error))
    return "rows", sorted(map(repr, rows))


_FAILING = (
    (re.compile(r"note::INT|CAST\(note AS INT\)"), "CAST(note AS INT)"),
    (re.compile(r"note::DATE|CAST\(note AS DATE\)"), "CAST(note AS DATE)"),
    (re.compile(r"// \((?:\w\.)?lots - 2\)"), "7 // (lots - 2)"),
)


def _fails_on_what_is_seen(left: duckdb.DuckDBPyConnection, text: str) -> bool:
    """Whether something that the statement computes fails on a row that may be seen."""
    probes = [probe for pattern, probe in _FAILING if pattern.search(text)]
    return any(answer(left, f"SELECT {probe} FROM fills", EVERYTHING)[0] == "failed" for probe in probes)


def _may_fail(text: str) -> bool:
    return any(pattern.search(text) for pattern, _ in _FAILING)


def _hides(role: Role) -> bool:
    return role.fills is not None


def _lenient(text: str) -> str:
    """The statement with NULL in the place of every failure."""
    text = re.sub(r"(?<!TRY_)CAST\(", "TRY_CAST(", text)
    text = re.sub(r"((?:\w\.)?note)::(INT|DATE)", r"TRY_CAST(\1 AS \2)", text)
    return re.sub(r"// \(((?:\w\.)?lots - \d)\)", r"// nullif(\1, 0)", text)


def _grants(given_roles: list[Role], claims: dict[str, Any]) -> Grants:
    names = [f"r{number}" for number in range(len(given_roles))]
    policies = Policies.from_toml({name: role.toml() for name, role in zip(names, given_roles, strict=True)})
    return policies.grants(names, "alice", "", claims)


def check(
    cases: int, role: st.SearchStrategy[Role] | None = None, texts: st.SearchStrategy[str] | None = None,
    *, hole: bool = False,
) -> None:  # fmt: skip
    """``hole``: the same cases each time, and the first that fails is enough."""
    chosen = settings(
        max_examples=cases,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=hole,
        phases=[Phase.generate] if hole else list(Phase),
    )
    given_roles = st.lists(roles() if role is None else role, min_size=1, max_size=2)
    statement = statements() if texts is None else texts
    with database() as full, database() as left:

        @chosen
        @given(world=_rows, claims=_claims, given_roles=given_roles, text=statement)
        def compare(world: World, claims: dict[str, Any], given_roles: list[Role], text: str) -> None:
            fill(full, world)
            fill(left, seen(world, claims, given_roles))
            found = answer(full, text, _grants(given_roles, claims))
            expected = answer(left, text, EVERYTHING)
            assert expected[0] != "refused", expected
            if expected[0] == "failed" and found[0] == "rows":
                # The engine may never come to the row that fails, where a filter lets it join in another order. Then
                # the answer is that of the statement whose failures are NULL.
                expected = answer(left, _lenient(text), EVERYTHING)
            if found[0] == "failed" and expected[0] == "rows" and _fails_on_what_is_seen(left, text):
                return  # the same the other way about: a row that may be seen fails
            assert found == expected, [role.toml() for role in given_roles]

        compare()


@pytest.mark.scaled
@pytest.mark.timeout(900)
def test_what_is_hidden_makes_no_difference() -> None:
    check(examples(5_000))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("hole", ["filter", "mask", "barrier"])
def test_a_planted_hole_is_found(hole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that is dropped, a mask that is skipped: the comparison above must notice."""
    if hole == "mask":
        monkeypatch.setattr(policy, "_masked", lambda request, table, column, views, conditions: policy.bare(column))
    elif hole == "filter":
        monkeypatch.setattr(policy.predicates, "condition", lambda request, table, view: exp.true())
    else:
        monkeypatch.setattr(policy, "barrier", lambda select: select)
    with pytest.raises(BaseException, match=r"rows|failed") as caught:
        _seek(hole)
    assert isinstance(caught.value, (AssertionError, BaseExceptionGroup))


def _seek(hole: str) -> None:
    if hole == "barrier":  # shows only where something fails on a row that a filter hides
        check(2_000, roles().filter(_hides), statements().filter(_may_fail), hole=True)
    else:
        check(400, hole=True)
