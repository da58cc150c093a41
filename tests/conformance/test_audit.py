"""Every kind of line in the audit trail, each made by a real client's call; and what a line must never hold."""

from __future__ import annotations

import base64
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_manager import Error as DriverError

from flightsql_server.protocol import flight_pb2 as wire
from tests.audit_lines import Line, audit_line, audit_lines
from tests.commands import as_user, refusal, run
from tests.conformance.raw import Raw
from tests.faults.power import batch, put
from tests.faults.watching import Numbers, server_with, wait_until
from tests.running import CONFIG, RunningServer, running_server

_ENDLESS = "SELECT sum(a.range * b.range) AS n FROM range(10000000) a, range(10000000) b"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("audit") / "data") as server:
        yield server


def _ask(connection: flight_sql.Connection, sql: str, *values: object) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return list(cursor.fetchall())


def _statement(own: RunningServer, text: str) -> Line:
    return audit_line(own.data_dir, "statement", lambda line: line.get("statement") == text)


def test_a_login_is_told_and_why_one_was_refused(own: RunningServer) -> None:
    began = datetime.now(UTC)
    with own.connect("maker") as connection:
        session = connection.adbc_get_info() and audit_line(
            own.data_dir, "login", lambda line: line.get("user") == "maker", began
        )
    assert (session["outcome"], session["method"], session["roles"]) == ("OK", "password", ["maker"])
    assert session["peer"].startswith("ipv4:127.0.0.1:")
    assert datetime.fromisoformat(session["time"]).utcoffset() == UTC.utcoffset(None)
    assert audit_line(own.data_dir, "logout", lambda line: line["session"] == session["session"])["outcome"] == "OK"
    ended = audit_line(own.data_dir, "session_end", lambda line: line["session"] == session["session"])
    assert (ended["user"], ended["reason"]) == ("maker", "revoked")
    with flight.FlightClient(own.url) as client:
        for user, password in (("feed", "wrong-secret"), ("wrong-secret", "wrong-secret")):
            with pytest.raises(flight.FlightUnauthenticatedError):
                client.authenticate_basic_token(user, password)
        refused = audit_line(own.data_dir, "login", lambda line: line["outcome"] != "OK" and "user" not in line)
        assert (refused["outcome"], refused["sqlstate"], refused.get("user")) == ("UNAUTHENTICATED", "28P01", None)
        wrong = audit_line(own.data_dir, "login", lambda line: line.get("user") == "feed" and line["outcome"] != "OK")
        assert wrong["reason"] == "bad_password"
        options = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer wrong-secret")])
        with pytest.raises(flight.FlightUnauthenticatedError):
            list(client.list_actions(options))
        assert (
            audit_line(own.data_dir, "login", lambda line: line.get("reason") == "bad_token")["command"]
            == "ListActions"
        )
        # Written as no driver writes it, so that no other test has had it checked already.
        basic = b"BASIC " + base64.b64encode(b"viewer:viewer")
        list(client.list_actions(flight.FlightCallOptions(headers=[(b"authorization", basic)])))
        known = audit_line(own.data_dir, "login", lambda line: line["command"] == "ListActions" and "user" in line)
        assert (known["outcome"], known["user"]) == ("OK", "viewer")
    assert "wrong-secret" not in "".join(map(str, audit_lines(own.data_dir)))


def test_statements_say_what_they_read_and_wrote_and_how_they_ended(own: RunningServer) -> None:
    with own.connect("maker") as connection:
        assert _ask(connection, "SELECT 1 AS one") == [(1,)]
        line = _statement(own, "SELECT 1 AS one")
        assert (line["outcome"], line["rows"], line["dialect"]) == ("OK", 1, "duckdb")
        assert line["command"] == "DoGet TicketStatementQuery"
        assert line["sent_bytes"] > 100
        assert line["milliseconds"] > 0
        _ask(connection, "SELECT count(*) FROM market_data AS m JOIN orders AS o ON m.symbol = o.symbol")
        line = audit_line(own.data_dir, "statement", lambda line: len(line.get("reads", ())) == 2)
        assert sorted(line["reads"]) == ["main.market_data", "main.orders"]
        assert line["policy"] == audit_line(own.data_dir, "policy")["policy"]
        assert _ask(connection, "SELECT ? || 'x' AS t, ? + 1 AS n", "bound-secret", 715) == [("bound-secretx", 716)]
        line = _statement(own, "SELECT ? || 'x' AS t, ? + 1 AS n")
        assert line["parameters"] == {"rows": 1, "types": ["string", "int64"]}
        for text, rows in (("CREATE TABLE t AS SELECT 7 AS a", 1), ("INSERT INTO t VALUES (8), (9)", 2)):
            _ask_nothing(connection, text)
            line = _statement(own, text)
            assert (line["writes"], line["rows"]) == (["u_maker.t"], rows)
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO t VALUES (?)", [(71_500 + n,) for n in range(5)])
        line = _statement(own, "INSERT INTO t VALUES (?)")
        assert line["rows"] == 5
        assert line["parameters"] == {"rows": 5, "types": ["int64"]}
        for text, state in (("SELECT * FROM positions", "42P01"), ("SELEC 1", "42601"), ("DROP TABLE orders", "25006")):
            with pytest.raises(DriverError, match=state):
                _ask(connection, text)
            line = _statement(own, text)
            assert line["sqlstate"] == state
            assert line["outcome"] != "OK"
        with pytest.raises(DriverError):
            _ask(connection, "SELECT CAST('abc' AS INTEGER) AS i")
        assert _statement(own, "SELECT CAST('abc' AS INTEGER) AS i")["command"] == "DoGet TicketStatementQuery"
    text = "".join(map(str, audit_lines(own.data_dir)))
    assert "bound-secret" not in text
    assert "71503" not in text


def _ask_nothing(connection: flight_sql.Connection, sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def test_metadata_and_plans_leave_no_line(own: RunningServer) -> None:
    with own.connect("reader") as connection:
        _ask(connection, "SELECT 'before' AS x")
        _statement(own, "SELECT 'before' AS x")
        before = [line["sequence"] for line in audit_lines(own.data_dir)]
        connection.adbc_get_objects(depth="all").read_all()
        with connection.cursor() as cursor:
            cursor.adbc_execute_schema("SELECT 2 AS only_planned")
            cursor.adbc_prepare("SELECT 3 AS only_planned")
        _ask(connection, "SELECT 'after' AS x")
        after = _statement(own, "SELECT 'after' AS x")
    assert after["sequence"] == before[-1] + 1


def test_transactions_are_told_with_their_statements(own: RunningServer) -> None:
    with flight_sql.connect(own.url, db_kwargs={"username": "maker", "password": "maker"}) as connection:
        _ask_nothing(connection, "CREATE TABLE in_one AS SELECT 1 AS a")
        assert _ask(connection, "SELECT a FROM in_one") == [(1,)]
        connection.commit()
        _ask_nothing(connection, "DROP TABLE in_one")
        connection.rollback()
    begun = audit_line(own.data_dir, "transaction", lambda line: line["what"] == "begin")
    assert len(begun["transaction"]) == 12
    committed = audit_line(own.data_dir, "transaction", lambda line: line["what"] == "commit")
    assert _statement(own, "CREATE TABLE in_one AS SELECT 1 AS a")["transaction"] == committed["transaction"]
    rolled = audit_line(own.data_dir, "transaction", lambda line: line["what"] == "rollback")
    assert _statement(own, "DROP TABLE in_one")["transaction"] != committed["transaction"]
    assert rolled["outcome"] == "OK"
    assert audit_line(own.data_dir, "fetch")["rows"] == 1


def test_rows_that_come_in_are_counted(own: RunningServer) -> None:
    put(own, 0, 1_000)
    line = audit_line(own.data_dir, "ingest", lambda line: line["command"] == "DoPut Path")
    assert (line["writes"], line["rows"], line["outcome"]) == (["main.market_data"], 1_000, "OK")
    assert line["received_bytes"] > 30_000
    with own.connect("maker") as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("brought", pa.table({"a": [1, 2, 3]}), mode="create")
        line = audit_line(own.data_dir, "ingest", lambda line: line["user"] == "maker")
        assert (line["writes"], line["rows"]) == (["u_maker.brought"], 3)
        with pytest.raises(DriverError, match="42501"):
            cursor.adbc_ingest("market_data", pa.Table.from_batches([batch(0, 1)]), mode="append")
    line = audit_line(own.data_dir, "ingest", lambda line: line["outcome"] == "PERMISSION_DENIED")
    assert (line["user"], line["writes"], line["sqlstate"]) == ("maker", ["main.market_data"], "42501")
    client, options = own.flight("maker")
    with client:
        client.do_get(flight.Ticket(b"orders"), options).read_all()
    assert audit_line(own.data_dir, "statement", lambda line: line["command"] == "DoGet Plain")["reads"] == [
        "main.orders"
    ]


def test_administrators_and_callers_who_end_something_are_told_of(own: RunningServer) -> None:
    raw = Raw(own)
    info, failed = raw.info(_ENDLESS), []

    def fetch() -> None:
        try:
            raw.fetch(info)
        except grpc.RpcError as error:
            failed.append(error)

    def started() -> threading.Thread:
        thread = threading.Thread(target=fetch)
        thread.start()
        wait_until(lambda: Numbers(own).total("flightsql_queries_running") == 1, 20, "it runs")
        return thread

    thread = started()
    raw.act("CancelFlightInfo", wire.CancelFlightInfoRequest(info=info).SerializeToString())
    thread.join(20)
    line = audit_line(own.data_dir, "cancel")
    assert (line["user"], line["stopped"]) == ("reader", 1)
    assert _statement(own, _ENDLESS)["sqlstate"] == "57014"
    thread = started()
    with own.connect("admin") as admin:
        ((number, session),) = _ask(admin, "SELECT query_id, session_id FROM ops.queries WHERE user_name = 'reader'")
    run("kill", "query", str(number), **as_user(own, "admin"))
    thread.join(20)
    line = audit_line(own.data_dir, "kill", lambda line: line["kind"] == "query")
    assert (line["user"], line["target"], line["outcome"]) == ("admin", str(number), "OK")
    run("kill", "session", str(session), **as_user(own, "admin"))
    assert audit_line(own.data_dir, "kill", lambda line: line["kind"] == "session")["target"] == session
    assert audit_line(own.data_dir, "session_end", lambda line: line["session"] == session)["user"] == "reader"
    refusal(run("kill", "query", "1", **as_user(own, "viewer")))
    assert audit_line(own.data_dir, "kill", lambda line: line["user"] == "viewer")["sqlstate"] == "42501"
    run("backup", "first", **as_user(own, "admin"))
    line = audit_line(own.data_dir, "backup")
    assert (line["user"], line["target"], line["bytes"] > 1_000) == ("admin", "first", True)
    assert len(failed) == 2
    raw.close()


def test_changes_of_policy_are_told_with_both_versions_and_so_are_those_refused(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with running_server(data_dir) as server:
        first = audit_line(data_dir, "policy")["policy"]
        config = data_dir / "test.toml"
        config.write_text(CONFIG + '[roles.late]\nselect = ["orders"]\n', encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        changed = audit_line(data_dir, "policy", lambda line: line["policy"] != first)
        assert (changed["outcome"], changed["before"]) == ("OK", first)
        config.write_text(
            CONFIG + '[roles.late]\nselect = ["orders"]\nfilters = { orders = "nothing" }\n', encoding="utf-8"
        )
        server.process.send_signal(signal.SIGHUP)
        refused = audit_line(data_dir, "policy", lambda line: line["outcome"] == "refused")
        assert refused["policy"] == changed["policy"]
        assert refused["reason"]
    lines = audit_lines(data_dir)
    assert [lines[0]["event"], lines[-1]["event"]] == ["start", "stop"]
    assert [line["sequence"] for line in lines] == list(range(1, len(lines) + 1))
    said = run("audit", "verify", "--data-dir", str(data_dir))
    assert said.stdout.endswith(f"Last line: {lines[-1]['sequence']}:{lines[-1]['hash']}\n")


def test_ops_audit_shows_it_to_administrators_and_to_roles_that_name_it(tmp_path: Path) -> None:
    config = CONFIG + '[roles.maker2]\nselect = ["ops.audit"]\n'
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with running_server(data_dir) as server:
        (data_dir / "test.toml").write_text(
            config.replace('select = ["market_data", "orders"]', 'select = ["market_data", "ops.audit"]'),
            encoding="utf-8",
        )
        server.process.send_signal(signal.SIGHUP)
        audit_line(data_dir, "policy", lambda line: line.get("before") != line["policy"])
        with server.connect("maker") as maker, server.connect("viewer") as viewer:
            _ask(viewer, "SELECT 'it''s\n\ttext ' || chr(31) AS \"a\"")
            sql = (
                "SELECT statement, user_name, rows, outcome FROM ops.audit WHERE event = 'statement' ORDER BY sequence"
            )
            assert _ask(maker, sql) == [("SELECT 'it''s\n\ttext ' || chr(31) AS \"a\"", "viewer", 1, "OK")]
            found = _ask(maker, "SELECT sequence, time, hash FROM ops.audit")
            lines = {line["sequence"]: line for line in audit_lines(data_dir)}
            assert [row[0] for row in found] == sorted(lines, reverse=True)[-len(found) :]
            for sequence, moment, hash_ in found:
                assert isinstance(moment, datetime)
                assert lines[sequence]["hash"] == hash_
                assert datetime.fromisoformat(lines[sequence]["time"]) == moment
            with pytest.raises(DriverError, match="42P01"):
                _ask(viewer, "SELECT * FROM ops.audit")


def test_literals_stay_out_where_that_is_asked(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with server_with(data_dir, audit_statements="redacted") as server, server.connect("maker") as connection:
        _ask(connection, "SELECT 'secret1' AS a, 81726354 AS b -- secret2")
        for text in ("SELECT * FROM gone WHERE a = 'secret3'", "SELECT 'secret4", 'SELECT "secret5" FROM orders'):
            with pytest.raises(DriverError):
                _ask(connection, text)
    told = [line.get("statement") for line in audit_lines(data_dir) if line["event"] == "statement"]
    assert told == ["SELECT ? AS a, ? AS b", "SELECT * FROM gone WHERE a = ?", "SELECT ?", "SELECT ? FROM orders"]


def test_what_a_client_writes_can_not_forge_a_line(own: RunningServer) -> None:
    forged = '"}\n{"sequence":1,"event":"login","user":"admin","hash":"' + "0" * 64
    texts = [f"SELECT '{forged}' AS x", "SELECT '\x00\x1b[2J\r\n\u2028é😀' AS y", "SELECT '" + "z" * 100_000 + "' AS w"]
    with own.connect("reader") as connection:
        for text in texts:
            try:
                _ask(connection, text)
            except DriverError:
                continue
        _ask(connection, "SELECT 'last' AS last")
    _statement(own, "SELECT 'last' AS last")
    client, options = own.flight("reader")
    with client, pytest.raises(pa.ArrowException):
        client.do_get(flight.Ticket(b"\xff\xfe" + forged.encode()), options).read_all()
    audit_line(own.data_dir, "statement", lambda line: line.get("statement_length", 0) > 100_000)
    time.sleep(0.2)
    said = run("audit", "verify", "--data-dir", str(own.data_dir))
    assert said.returncode == 0, said
    assert any(forged in line.get("statement", "") for line in audit_lines(own.data_dir))


def test_a_trail_that_is_not_asked_for_is_not_written(tmp_path: Path) -> None:
    with server_with(tmp_path / "data", audit_enabled="false") as server, server.connect("admin") as connection:
        assert _ask(connection, "SELECT count(*) FROM ops.audit") == [(0,)]
    assert not (tmp_path / "data" / "audit").exists()
