"""Nobody's claims, zone, profile or dialect change what another is answered, however their statements interleave.

The same statements are asked of a desk that keeps plans and results, and of one that keeps nothing, as if it had just
been started: every answer must be the same to the byte, every error to the letter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from flightsql_auth.policies import Grants, LivePolicies, Policies
from flightsql_auth.principals import Principal
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flightsql_server import config as configuration
from flightsql_server.data.datasets import DATASETS, ORDERS, catalog_of
from flightsql_server.engine.duckdb import DuckDBEngine
from flightsql_server.errors import ServerError
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call, SessionOptions
from flightsql_server.protocol.answers import make_encoder
from flightsql_server.rooms import statement_rooms
from flightsql_server.service import plans
from flightsql_server.service.catalog import CurrentCatalog
from flightsql_server.service.profiles import PROFILES
from flightsql_server.service.statements import Statements
from tests.conftest import examples
from tests.desk import Desk, open_desk

_NOW = datetime(2026, 1, 5, 22, 30, tzinfo=UTC)
_CATALOG = catalog_of(DATASETS)
_ACCOUNTS = ("A1", "A2", "A3")
_TRADER: dict[str, Any] = {"select": ["orders"], "filters": {"orders": "account IN (claims.accounts)"}}
POLICIES = Policies.from_toml(
    {
        "trader": _TRADER,
        "few": {**_TRADER, "limits": {"rows": 2}},
        "small": {**_TRADER, "limits": {"bytes": 1200}},
        "own": {"select": ["orders"], "filters": {"orders": "strategy = current_user"}},
        "masked": {"select": ["orders"], "masks": {"orders": {"account": "hash", "quantity": "round(-1)"}}},
    }
)
_ROLES = (("trader",), ("few",), ("small",), ("own",), ("masked",), ("trader", "masked"), ("trader", "own"))
_STATEMENTS = """
SELECT order_id, account, quantity, updated_at FROM orders ORDER BY order_id
SELECT account, quantity FROM orders WHERE account = '{account}' ORDER BY order_id
SELECT order_id FROM orders WHERE symbol = 'AAA' AND account <> '{account}' ORDER BY order_id
SELECT quantity FROM orders ORDER BY quantity
SELECT CAST(updated_at AS VARCHAR) AS text FROM orders ORDER BY order_id
SELECT CAST(updated_at AS DATE) AS day, count(*) AS n FROM orders GROUP BY CAST(updated_at AS DATE) ORDER BY 1
SELECT extract(hour FROM updated_at) AS hour, sum(quantity) AS total FROM orders GROUP BY 1 ORDER BY 1
SELECT 7 / 2 AS ratio, count(*) AS n FROM orders
SELECT count(*) AS n, max(account) AS last FROM orders WHERE updated_at > TIMESTAMP '2026-01-05 23:00:00'
SELECT current_user AS who, count(*) AS n FROM orders
SELECT max(symbol) AS a, max(account) AS b FROM orders HAVING max(symbol) = 'aaa'
""".strip().splitlines()


@dataclass(frozen=True)
class Asked:
    """One statement, and who asks it in which way."""

    call: Call
    text: str


@dataclass(frozen=True)
class Stored:
    """One row for the dataset: whatever was answered before may be wrong from now on."""

    number: int
    account: str


@st.composite
def _asked(draw: st.DrawFn) -> Asked:
    accounts = draw(st.lists(st.sampled_from(_ACCOUNTS), max_size=2, unique=True))
    principal = Principal(
        draw(st.sampled_from(("ann", "ben"))),
        draw(st.sampled_from(_ROLES)),
        "password",
        claims={"accounts": accounts},
    )
    options = SessionOptions(
        time_zone=draw(st.sampled_from(("UTC", "Europe/Vienna", "America/New_York"))),
        max_rows=draw(st.sampled_from((0, 0, 1))),
    )
    call = Call(
        principal,
        "session",
        options,
        draw(st.sampled_from(("duckdb", "duckdb", "postgres", "mysql", "spark"))),
        draw(st.sampled_from(PROFILES)),
        draw(st.sampled_from((None, "lz4", "zstd"))),
    )
    return Asked(call, draw(st.sampled_from(_STATEMENTS)).format(account=draw(st.sampled_from(_ACCOUNTS))))


_stored = st.builds(Stored, st.integers(1, 6), st.sampled_from(_ACCOUNTS))


_PARTS = ("name", "roles", "claims", "time_zone", "max_rows", "dialect", "wire_profile", "compression")


@st.composite
def _variants(draw: st.DrawFn) -> list[Asked]:
    """The same statement in ways that differ in one thing: what a careless key would take for one."""
    first = draw(_asked())
    found = [first]
    for part in draw(st.lists(st.sampled_from(_PARTS), min_size=1, max_size=3)):
        call, other = first.call, draw(_asked()).call
        if part in ("name", "roles", "claims"):
            call = replace(call, principal=replace(call.principal, **{part: getattr(other.principal, part)}))
        elif part in ("time_zone", "max_rows"):
            call = replace(call, options=call.options.with_(**{part: getattr(other.options, part)}))
        else:
            call = replace(call, **{part: getattr(other, part)})
        found.append(Asked(call, first.text))
    return found


_steps = st.lists(st.one_of(_variants(), _variants(), st.lists(_asked(), min_size=1, max_size=3), _stored), max_size=12)


def _order(stored: Stored, at: int) -> dict[str, Any]:
    return {
        "order_id": f"o{stored.number}", "client_order_id": "c", "account": stored.account,
        "symbol": ("AAA", "BBB")[stored.number % 2], "strategy": ("ann", "ben")[stored.number % 2], "side": "BUY",
        "order_type": "LIMIT", "time_in_force": "DAY", "quantity": Decimal(17 * stored.number), "limit_price": None,
        "stop_price": None, "filled_quantity": Decimal(0), "average_fill_price": None, "currency": "USD",
        "status": "NEW", "created_at": _NOW, "updated_at": _NOW + timedelta(minutes=25 * stored.number, seconds=at),
    }  # fmt: skip


class World:
    """Two desks with the same rows, and the means to make rooms over them."""

    def __init__(self, desk: Desk, fresh: Desk, folder: Path, pool: ThreadPoolExecutor) -> None:
        self._desk, self._fresh, self._folder, self._pool = desk, fresh, folder, pool
        self._catalogs = {id(one): CurrentCatalog(_CATALOG, one.engine) for one in (desk, fresh)}
        self._stored = 0

    def keeping(self) -> Statements:
        return self._rooms(self._desk)

    def forgetting(self) -> Statements:
        """Rooms that have seen nothing, over an engine that remembers nothing."""
        engine = self._fresh.engine
        assert isinstance(engine, DuckDBEngine)
        engine._arrow_types.clear()
        engine._idle.close()
        return self._rooms(self._fresh, plans=0, result_bytes=0, result_entry_bytes=0)

    def _rooms(self, desk: Desk, **cache: int) -> Statements:
        config = configuration.load(None, {}, {f"cache.{name}": value for name, value in cache.items()})

        async def nothing() -> Mapping[str, Any]:
            return {}

        statements, _, _ = statement_rooms(
            config, Metrics(), desk.engine, self._catalogs[id(desk)], LivePolicies(POLICIES), self._pool,
            desk.writer, DATASETS, nothing, lambda: 1 << 40, self._folder, b"secret", "one life",
        )  # fmt: skip
        return statements

    def store(self, stored: Stored) -> None:
        self._stored += 1
        for desk in (self._desk, self._fresh):
            desk.put(ORDERS, [_order(stored, self._stored)])


async def _answer(rooms: Statements, asked: Asked) -> bytes | str:
    """The very messages, one after the other, or the error's text."""
    sent: list[bytes] = []

    async def send(message: bytes) -> None:
        sent.append(message)

    try:
        prepared = await rooms.prepare(asked.call, asked.text)
        await rooms.run(asked.call, prepared, make_encoder, send)
    except ServerError as error:
        return str(error)
    return b"".join(sent)


async def _compare(world: World, steps: list[list[Asked] | Stored]) -> None:
    keeping = world.keeping()
    for step in steps:
        if isinstance(step, Stored):
            await asyncio.to_thread(world.store, step)
            continue
        found = await asyncio.gather(*(_answer(keeping, asked) for asked in step))
        for asked, answer in zip(step, found, strict=True):
            assert answer == await _answer(world.forgetting(), asked), asked
            assert await _answer(keeping, asked) == answer, "asked once more"


@contextmanager
def _world(folder: Path) -> Iterator[World]:
    (folder / "fresh").mkdir()
    with open_desk(folder) as desk, open_desk(folder / "fresh") as fresh, ThreadPoolExecutor(4) as pool:
        world = World(desk, fresh, folder / "spool", pool)
        for number in range(1, 7):
            world.store(Stored(number, _ACCOUNTS[number % 3]))
        yield world


def check(folder: Path, cases: int, planted: bool = False) -> None:
    """``planted``: the cases are the same in every run, so that a planted hole is found in all or in none."""
    with _world(folder) as world, asyncio.Runner() as runner:

        @settings(
            max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.generate,),
            derandomize=planted,
        )  # fmt: skip
        @given(steps=_steps)
        def compare(steps: list[list[Asked] | Stored]) -> None:
            runner.run(_compare(world, steps))

        compare()


@pytest.mark.scaled
@pytest.mark.timeout(600)
def test_nobody_s_settings_change_what_another_is_answered(tmp_path: Path) -> None:
    check(tmp_path, examples(400))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_engine_that_takes_one_zone_s_types_for_another_s_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = DuckDBEngine._schema_of
    monkeypatch.setattr(DuckDBEngine, "_schema_of", lambda self, bound: whole(self, replace(bound, time_zone="UTC")))
    with pytest.raises((AssertionError, pa.ArrowInvalid)):
        check(tmp_path, 400, planted=True)


# Where they stand in the keys. The name is left out: what is granted to it names its own schema, and so tells it too.
_PLAN = {"dialect": 0, "zone": 2, "most rows": 3, "profile": 4}
_RESULT = {"zone": 1, "most rows": 2, "profile": 4, "compression": 5, "versions": 7}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("hole", ["claims", *(f"plan {name}" for name in _PLAN)])
def test_a_key_of_plans_that_lacks_something_is_found(
    hole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = plans.plan_key

    def lacking(call: Call, grants: Grants) -> tuple[Any, ...]:
        key = list(whole(call, grants))
        if hole == "claims":
            key[-1] = replace(grants, claims=())
        else:
            key[_PLAN[hole.removeprefix("plan ")]] = None
        return tuple(key)

    monkeypatch.setattr(plans, "plan_key", lacking)
    with pytest.raises(AssertionError):
        check(tmp_path, 400, planted=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", _RESULT)
def test_a_key_of_results_that_lacks_something_is_found(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Statements._result_key

    def lacking(self: Statements, *asked: Any) -> tuple[Any, ...] | None:
        key = whole(self, *asked)
        return None if key is None else tuple(one for at, one in enumerate(key) if at != _RESULT[part])

    monkeypatch.setattr(Statements, "_result_key", lacking)
    with pytest.raises(AssertionError):
        check(tmp_path, 400, planted=True)
