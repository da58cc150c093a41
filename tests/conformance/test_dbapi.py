"""flightsql-dbapi, its DB-API and its SQLAlchemy 1.4 dialect: what Superset and older notebooks bring along.

``dbapi/client.py`` runs the cases, in a virtual environment with the versions of ``dbapi/requirements.txt``, since
those clash with ours; each test reads lines of it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from flightsql_server.data.datasets import DATASETS
from tests.components import absent
from tests.conformance.clients import Cases, arrow, metric, plain_rows, run
from tests.running import RunningServer, running_server
from tests.test_client_pages import Target, encrypted
from tests.test_examples import Example, examples

__all__ = ["encrypted"]  # a fixture

HERE = Path(__file__).parent / "dbapi"
pytestmark = pytest.mark.timeout(300)  # the first test waits for what pip brings


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the client."""
    made = tmp_path_factory.mktemp("dbapi")
    run([sys.executable, "-m", "venv", made])
    python = made / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"]
    install += ["--no-deps", "--only-binary", ":all:", "--requirement", HERE / "requirements.txt"]
    done = subprocess.run(install, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        *_, last = done.stderr.splitlines() or ["it said nothing"]
        absent("flightsql-dbapi", f"pip can't install it ({last})")
    return python


PAGE = [one for one in examples("docs/clients/sqlalchemy.md") if one.how.startswith("dbapi")]


@pytest.mark.parametrize("example", PAGE, ids=lambda example: example.where)
def test_the_page_does_what_it_says(
    example: Example, python: Path, server: RunningServer, encrypted: Target, tmp_path: Path
) -> None:
    if "tls" in example.how:
        encrypted.bring(tmp_path)
        text, said = encrypted.placed(example.text), example.output
    else:
        text, said = example.text.replace("50052", str(server.port)).replace("trader", "reader"), "reader"
    done = subprocess.run([python, "-c", text], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(said).strip()


@pytest.fixture(scope="module")
def cases(server: RunningServer, python: Path) -> Cases:
    return Cases(run([python, HERE / "client.py", "127.0.0.1", str(server.port), "reader", "reader", "reading"]))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture(scope="module")
def changes(own: RunningServer, python: Path) -> Cases:
    return Cases(run([python, HERE / "client.py", "127.0.0.1", str(own.port), "maker", "maker", "changing"]))


def _zoned(table: pa.Table) -> list[list[object]]:
    """The rows as they are written, but the last column, a time, with its zone, which this client tells."""
    return [[*values, f"{at}+00:00"] for *values, at in plain_rows(table)]


# ---- reading by the DB-API


def test_login(cases: Cases) -> None:
    assert cases.value("login") == [["reader"]]
    assert "[28P01]" in cases.error("wrong password")


def test_values_of_each_type_are_exact(cases: Cases) -> None:
    """A day comes as midnight, which is how the client reads one."""
    found, nothing = cases.value("types")
    assert found == [
        *(True, 2, -3, 4, 9_007_199_254_740_993, 1.5, 0.1),
        *("12345678901234567890.12345678", "Grüße", "00ff", "2026-03-29T00:00:00.000000", "01:02:03.000004"),
        *("2026-01-02T03:04:05.000006", "2026-01-02T02:04:05.000006+00:00"),
    ]
    assert nothing == [None] * 14


def test_columns_are_described(cases: Cases) -> None:
    assert [name for name, _ in cases.value("description")][:3] == ["yes", "i8", "i16"]
    assert [kind for _, kind in cases.value("description")] == [
        *("BOOLEAN", "INTEGER", "INTEGER", "INTEGER", "BIGINT", "FLOAT", "FLOAT"),
        *("DECIMAL", "TEXT", "BINARY", "DATE", "TIME", "TIMESTAMP", "TIMESTAMP"),
    ]


@pytest.mark.covers("dbapi", "StatementQuery", "TicketStatementQuery")
def test_rows_are_those_of_arrow(server: RunningServer, cases: Cases) -> None:
    sql = "SELECT symbol, bid_price, ask_price, last_price, volume, timestamp FROM market_data ORDER BY symbol"
    assert cases.value("select") == _zoned(arrow(server, sql))
    assert len(cases.value("select")) == 500


def test_results_of_any_size(cases: Cases) -> None:
    assert cases.value("million") == [1_000_000, 499_999_500_000]
    assert cases.value("in parts") == [[0], [[1], [2], [3]], 6, None]
    assert cases.value("no rows") == []


@pytest.mark.parametrize(("case", "sqlstate"), [("bad sql", "[42601]"), ("unknown table", "[42P01]")])
def test_errors_have_a_sqlstate(cases: Cases, case: str, sqlstate: str) -> None:
    assert sqlstate in cases.error(case)
    assert cases.value("after errors") == [[1]]


@pytest.mark.covers("dbapi", "GetCatalogs", "GetTableTypes", "GetSqlInfo")
def test_metadata(cases: Cases) -> None:
    assert cases.value("catalogs") == [["desk"]]
    assert ["BASE TABLE"] in cases.value("table types")
    (_, name), *others = cases.value("sql info")
    assert "flightsql-server" in name
    assert others == [[3, True], [504, '"']]  # this user may only read


@pytest.mark.covers("dbapi", "CreatePreparedStatement", "PreparedStatementQuery")
def test_values_are_bound(server: RunningServer, cases: Cases) -> None:
    """The client sends each value as a union of the types it knows, and the server takes what is held."""
    sql = "SELECT count(*) AS n FROM market_data WHERE volume > 10 AND symbol <> 'ADG'"
    assert cases.value("bound") == plain_rows(arrow(server, sql))
    assert cases.value("bound types") == [[9_007_199_254_740_993, 0.1, "Grüße", True, "00ff"]]
    assert cases.value("bound text") == [[2]]


def test_the_client_can_t_bind_null(cases: Cases) -> None:
    assert "NoneType" in cases.error("bound null")


# ---- the dialect


@pytest.mark.covers("dbapi", "GetDbSchemas", "GetTables", "GetPrimaryKeys")
def test_inspector(cases: Cases) -> None:
    assert "main" in cases.value("schemas")
    assert {"market_data", "orders", "positions"} <= set(cases.value("tables"))
    assert cases.value("has table") == [True, False]
    kinds = ["TEXT", "TEXT", "TEXT", "DECIMAL", "DECIMAL", "DECIMAL", "TEXT", "TIMESTAMP"]
    fields = DATASETS["positions"].schema
    assert cases.value("columns") == [
        [field.name, kind, field.nullable] for field, kind in zip(fields, kinds, strict=True)
    ]
    assert cases.value("key of a dataset")["constrained_columns"] == ["symbol"]


def test_expressions_over_a_reflected_table(server: RunningServer, cases: Cases) -> None:
    sql = """
        SELECT symbol[1] AS letter, count(*) AS n, max(last_price) FROM market_data
        WHERE volume > 0 AND (bid_price IS NULL OR bid_price > 0.5)
        GROUP BY letter HAVING n > 1 ORDER BY n DESC, letter LIMIT 3 OFFSET 1
    """
    assert cases.value("expressions") == plain_rows(arrow(server, sql))
    assert len(cases.value("expressions")) == 3


def test_values_that_the_dialect_writes_into_the_text(cases: Cases) -> None:
    assert cases.value("values") == [[5, "0.25", "it's", True, None]]
    assert len(cases.value("text")) == 2


def test_the_dialect_repeats_values_that_it_wrote(cases: Cases) -> None:
    """SQLAlchemy keeps the text that they stand in, so it must be told not to, or the dialect to bind them."""
    assert cases.value("twice") == [[[1]], [[1]]]
    assert cases.value("twice uncached") == cases.value("twice bound") == [[[1]], [[2]]]


def test_a_header_of_the_url_chooses_the_dialect_of_the_sql(cases: Cases) -> None:
    assert cases.value("dialect") == [[7]]


def test_pandas_reads_through_the_engine(server: RunningServer, cases: Cases) -> None:
    sql = "SELECT account, symbol, average_price, updated_at FROM positions ORDER BY account, symbol"
    found = cases.value("pandas")
    assert found["types"] == ["object", "object", "object", "datetime64[ns, UTC]"]
    assert found["rows"] == _zoned(arrow(server, sql))
    assert cases.value("pandas table") == [["symbol", "quantity"], len(found["rows"])]


# ---- changing


def test_changes_happen_once_and_are_counted(changes: Cases) -> None:
    """Each goes out as a query and is fetched; the table has no key, so a row put in twice would be seen."""
    assert changes.value("create") == [[0]]
    assert [changes.value(name) for name in ("insert", "update", "delete")] == [[[3]], [[2]], [[1]]]
    first, second, third = [1, "a", "1.5000"], [2, None, "2.2500"], [3, "c", None]
    assert changes.value("after insert") == [first, second, third]
    assert changes.value("after update") == [first, [2, "z", "2.2500"], [3, "z", None]]
    assert changes.value("after delete") == [[2, "z", "2.2500"], [3, "z", None]]
    assert changes.value("returning") == [[4, "0.2000"]]
    assert changes.value("after returning")[2:] == [[4, "d", "0.1000"]]


@pytest.mark.covers("dbapi", "StatementUpdate")
def test_an_update_by_put_is_counted(changes: Cases) -> None:
    """The client reads the count before it ends its stream, so the answer must not wait for that."""
    assert changes.value("counted") == 2


def test_the_client_s_row_count_is_of_the_rows_it_fetched(changes: Cases) -> None:
    """The change's own count is the one value in the row that it fetched."""
    assert changes.value("row count") == 1


def test_transactions_are_statements(changes: Cases) -> None:
    """The client's own rollback does nothing at all."""
    changes.value("rolled back")
    changes.value("not rolled back")
    assert changes.value("rows") == [[2, "z", "9.0000"], [3, "z", "9.0000"], [5, "e", "0.0000"]]


def test_what_is_not_granted_is_refused(changes: Cases) -> None:
    assert "[42501]" in changes.error("not granted")


def test_a_prepared_change_runs_once_for_each_row(changes: Cases) -> None:
    assert changes.value("many") == [[20, 20, "n0"]]


def test_the_dialect_changes_tables(changes: Cases) -> None:
    for case in ("create all", "create again", "insert rows", "insert bound", "drop all"):
        assert changes.value(case) is None
    assert changes.value("update where") == [[1]]
    assert changes.value("delete where") == [[1]]
    held = [[2, None, "2.0625"], [3, "n3", "3.0625"]]
    assert changes.value("held") == held
    assert changes.value("held again") == [*held, [8, "n8", "8.0625"], [9, "n9", "9.0625"]]
    assert changes.value("key")["constrained_columns"] == ["id"]
    assert {"trades", "notes"} <= set(changes.value("own tables"))


@pytest.mark.parametrize("case", ["insert written", "insert lists"])
def test_the_dialect_can_t_write_many_rows_into_one_text(changes: Cases, case: str) -> None:
    """It refuses before anything is sent; with bound values it can."""
    assert "CompileError" in changes.error(case)


def test_pandas_writes_through_the_engine(own: RunningServer, changes: Cases) -> None:
    """Row by row where there are nulls, else bound; either by a ``method`` that asks for no row count."""
    assert changes.value("frame written") == [[1, "it's", 0.1], [2, None, None]]
    assert changes.value("frame bound") == [[1, "it's", 0.1], [2, "b", 0.25]]
    assert "NoneType" in changes.error("frame bound with null")


def test_pandas_asks_a_closed_cursor_of_the_client_for_its_row_count(own: RunningServer, changes: Cases) -> None:
    """What it asks about has been stored once all the same."""
    assert "Cursor already closed" in changes.error("frame by itself")
    assert plain_rows(arrow(own, "SELECT * FROM frames ORDER BY id", "maker")) == [[1, "it's", 0.1], [2, "b", 0.25]]


def test_the_server_met_no_defect(own: RunningServer, changes: Cases) -> None:
    assert changes.value("rows")
    assert metric(own, "flightsql_incidents_total") == 0
