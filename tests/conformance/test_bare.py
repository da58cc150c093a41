"""Commands and actions on a bare channel, message by message: what they answer does not hang on any driver's help."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from google.protobuf import any_pb2

from flightsql_server.protocol import flight_pb2 as wire
from flightsql_server.protocol import flight_sql_pb2 as sql
from flightsql_server.protocol import reference
from flightsql_server.protocol.actions import packed
from tests.conformance.clients import arrow
from tests.conformance.raw import Raw
from tests.running import RunningServer, running_server

_ENDLESS = "SELECT sum(a.range * b.range) AS n FROM range(10000000) a, range(10000000) b"


@pytest.fixture
def raw(server: RunningServer) -> Iterator[Raw]:
    made = Raw(server)
    yield made
    made.close()


@pytest.fixture
def admin(server: RunningServer) -> Iterator[Raw]:
    made = Raw(server, "admin")
    yield made
    made.close()


class Fetching:
    """A thread that fetches a statement; ``outcome`` waits for its end and gives the status, OK where it ended well."""

    def __init__(self, raw: Raw, text: str) -> None:
        self.info = raw.info(text)
        self._found = ("running", "")
        self._thread = threading.Thread(target=self._fetch, args=(raw,))
        self._thread.start()

    def _fetch(self, raw: Raw) -> None:
        self._found = raw.outcome("DoGet", self.info.endpoint[0].ticket)

    def outcome(self) -> tuple[str, str]:
        self._thread.join(30)
        return self._found


def _told(server: RunningServer, text: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = arrow(server, text, "admin").to_pylist()
    return rows


def _running(server: RunningServer, mark: str) -> dict[str, Any]:
    """The statement that runs and holds this mark, as administrators see it."""
    text = f"SELECT * FROM ops.queries WHERE starts_with(statement, '/* {mark}')"
    deadline = time.monotonic() + 10
    while not (rows := _told(server, text)):
        assert time.monotonic() < deadline, "it does not run"
        time.sleep(0.05)
    (row,) = rows
    return row


def _unpacked(body: bytes, kind: Any) -> Any:
    found = kind()
    assert any_pb2.Any.FromString(body).Unpack(found)
    return found


# ---- ends


@pytest.mark.covers("grpc", "CancelQuery")
def test_the_older_form_of_cancel_stops_one_statement(raw: Raw) -> None:
    """Its answer is a message of its own, also where there is nothing to stop."""
    endless, beside = Fetching(raw, _ENDLESS), Fetching(raw, "SELECT * FROM range(1000000)")
    request = packed(sql.ActionCancelQueryRequest(info=endless.info.SerializeToString()))
    status = 0
    deadline = time.monotonic() + 10
    while status != sql.ActionCancelQueryResult.CANCEL_RESULT_CANCELLED and time.monotonic() < deadline:
        (body,) = raw.act("CancelQuery", request)
        status = _unpacked(body, sql.ActionCancelQueryResult).result
        time.sleep(0.05)
    code, words = endless.outcome()
    assert (code, words[:7]) == ("CANCELLED", "[57014]")
    assert beside.outcome() == ("OK", "")
    (body,) = raw.act("CancelQuery", request)
    nothing = sql.ActionCancelQueryResult.CANCEL_RESULT_NOT_CANCELLABLE
    assert _unpacked(body, sql.ActionCancelQueryResult).result == nothing


@pytest.mark.covers("grpc", "KillQuery")
def test_an_administrator_stops_a_statement_by_its_number(server: RunningServer, raw: Raw, admin: Raw) -> None:
    """The session that ran it goes on."""
    fetching = Fetching(raw, f"/* to be stopped */ {_ENDLESS}")
    row = _running(server, "to be stopped")
    assert row["user_name"] == "reader"
    number = str(row["query_id"]).encode()
    assert raw.outcome("DoAction", wire.Action(type="KillQuery", body=number))[0] == "PERMISSION_DENIED"
    assert admin.act("KillQuery", number) == []
    code, words = fetching.outcome()
    assert (code, words[:7]) == ("CANCELLED", "[57014]")
    assert raw.fetch(raw.info("SELECT 1 AS n")) == 2
    for body in (number, b"", b"x", b"9" * 30):
        assert admin.outcome("DoAction", wire.Action(type="KillQuery", body=body))[0] == "INVALID_ARGUMENT"


@pytest.mark.covers("grpc", "KillSession")
def test_an_administrator_ends_a_session_and_what_it_runs(server: RunningServer, raw: Raw, admin: Raw) -> None:
    """Its token is worth nothing from then on; the same user's other sessions go on."""
    other = Raw(server)
    fetching = Fetching(raw, f"/* to be ended */ {_ENDLESS}")
    session = _running(server, "to be ended")["session_id"]
    assert session in {row["session_id"] for row in _told(server, "SELECT session_id FROM ops.sessions")}
    assert other.outcome("DoAction", wire.Action(type="KillSession", body=session.encode()))[0] == "PERMISSION_DENIED"
    assert admin.act("KillSession", session.encode()) == []
    # Because somebody asked for it, or because its session is over: whichever is seen first.
    assert fetching.outcome()[0] in ("CANCELLED", "UNAUTHENTICATED")
    with pytest.raises(grpc.RpcError) as ended:
        raw.info("SELECT 1 AS n")
    assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert session not in {row["session_id"] for row in _told(server, "SELECT session_id FROM ops.sessions")}
    assert other.fetch(other.info("SELECT 1 AS n")) == 2
    other.close()
    for body in (session.encode(), b"", b"nobody"):
        assert admin.outcome("DoAction", wire.Action(type="KillSession", body=body))[0] == "INVALID_ARGUMENT"


def test_what_the_server_does_is_shown_to_administrators_alone(server: RunningServer, raw: Raw) -> None:
    with pytest.raises(grpc.RpcError) as hidden:
        raw.info("SELECT * FROM ops.queries")
    assert hidden.value.code() is grpc.StatusCode.NOT_FOUND


# ---- changes, prepared statements, sessions


@pytest.mark.covers("grpc", "BeginTransaction", "EndTransaction", "StatementUpdate", "StatementIngest")
@pytest.mark.covers("grpc", "CreatePreparedStatement", "PreparedStatementUpdate", "ClosePreparedStatement")
def test_every_kind_of_change_is_part_of_its_transaction(tmp_path: Path) -> None:
    """Each is counted at once, and none is seen from outside before the end."""
    with running_server(tmp_path) as own:
        raw = Raw(own, "maker")
        update = sql.CommandStatementUpdate(query="CREATE TABLE notes (id BIGINT, note VARCHAR)")
        assert raw.put(update) == 0
        for action, kept in ((2, 0), (1, 5)):
            (body,) = raw.act("BeginTransaction", packed(sql.ActionBeginTransactionRequest()))
            id_ = _unpacked(body, sql.ActionBeginTransactionResult).transaction_id
            text = "INSERT INTO notes VALUES (1, 'a')"
            assert raw.put(sql.CommandStatementUpdate(query=text, transaction_id=id_)) == 1
            assert raw.put(_prepared(raw, id_), _NOTES) == 2
            bulk = sql.CommandStatementIngest(table="notes", table_definition_options=_MODES, transaction_id=id_)
            assert raw.put(bulk, _NOTES) == 2
            assert arrow(own, "SELECT * FROM notes", "maker").num_rows == 0
            end = sql.ActionEndTransactionRequest(transaction_id=id_, action=action)  # type: ignore[arg-type]
            assert raw.act("EndTransaction", packed(end)) == []
            assert arrow(own, "SELECT * FROM notes", "maker").num_rows == kept
        raw.close()


_MODES = sql.CommandStatementIngest.TableDefinitionOptions(if_not_exist=2, if_exists=2)  # type: ignore[arg-type]
_NOTES = pa.record_batch({"id": pa.array([2, 3]), "note": pa.array(["b", None])})


def _prepared(raw: Raw, transaction: bytes) -> sql.CommandPreparedStatementUpdate:
    """An INSERT by a handle, after another that was closed, and once more: that one is known no more."""
    text = "INSERT INTO notes VALUES (?, ?)"
    request = packed(sql.ActionCreatePreparedStatementRequest(query=text, transaction_id=transaction))
    closed, kept = (
        _unpacked(raw.act("CreatePreparedStatement", request)[0], sql.ActionCreatePreparedStatementResult)
        for _ in range(2)
    )
    assert pa.ipc.read_schema(pa.py_buffer(kept.parameter_schema)).types == [pa.int64(), pa.string()]
    assert (kept.dataset_schema, kept.is_update) == (b"", True)
    handle = closed.prepared_statement_handle
    close = packed(sql.ActionClosePreparedStatementRequest(prepared_statement_handle=handle))
    for _ in range(2):
        assert raw.act("ClosePreparedStatement", close) == []
    gone = packed(sql.CommandPreparedStatementUpdate(prepared_statement_handle=handle))
    descriptor = wire.FlightDescriptor(type=wire.FlightDescriptor.CMD, cmd=gone)
    assert raw.outcome("DoPut", wire.FlightData(flight_descriptor=descriptor))[0] == "NOT_FOUND"
    return sql.CommandPreparedStatementUpdate(prepared_statement_handle=kept.prepared_statement_handle)


@pytest.mark.covers("grpc", "CreatePreparedStatement", "PreparedStatementQuery", "TicketStatementQuery")
def test_a_prepared_query_takes_the_values_that_were_bound_last(raw: Raw) -> None:
    text = "SELECT symbol FROM market_data WHERE symbol = ?"
    (body,) = raw.act("CreatePreparedStatement", packed(sql.ActionCreatePreparedStatementRequest(query=text)))
    handle = _unpacked(body, sql.ActionCreatePreparedStatementResult).prepared_statement_handle
    command = sql.CommandPreparedStatementQuery(prepared_statement_handle=handle)
    descriptor = wire.FlightDescriptor(type=wire.FlightDescriptor.CMD, cmd=packed(command))
    known = raw.rows(raw.info("SELECT symbol FROM market_data ORDER BY symbol LIMIT 2"))["symbol"].to_pylist()
    for symbol in (*known, "no such symbol"):
        raw.put(command, pa.record_batch({"1": pa.array([symbol])}))
        found = raw.rows(raw.call("GetFlightInfo", descriptor, wire.FlightInfo))["symbol"].to_pylist()
        assert found == [symbol] * (symbol in known)


@pytest.mark.covers("grpc", "CloseSession")
def test_a_closed_session_is_worth_nothing(server: RunningServer) -> None:
    raw, other = Raw(server), Raw(server)
    (body,) = raw.act("CloseSession", b"")
    assert wire.CloseSessionResult.FromString(body).status == wire.CloseSessionResult.CLOSED
    assert raw.outcome("DoAction", wire.Action(type="GetSessionOptions"))[0] == "UNAUTHENTICATED"
    assert other.outcome("DoAction", wire.Action(type="GetSessionOptions"))[0] == "OK"
    raw.close()
    other.close()


_NO_ID = b"0123456789abcdef"
_STRAY: dict[str, Any] = {
    "query": sql.CommandStatementQuery(query="SELECT 1", transaction_id=_NO_ID),
    "update": sql.CommandStatementUpdate(query="DELETE FROM nothing", transaction_id=_NO_ID),
    "ingest": sql.CommandStatementIngest(table="stray", transaction_id=_NO_ID, table_definition_options=_MODES),
    "prepare": sql.ActionCreatePreparedStatementRequest(query="SELECT 1", transaction_id=_NO_ID),
    "commit": sql.ActionEndTransactionRequest(transaction_id=_NO_ID, action=1),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", _STRAY)
def test_a_transaction_that_is_none_is_named_whoever_speaks_of_it(raw: Raw, name: str) -> None:
    """It is never taken for another transaction, nor for none."""
    message = _STRAY[name]
    if name in ("prepare", "commit"):
        action = {"prepare": "CreatePreparedStatement", "commit": "EndTransaction"}[name]
        found = raw.outcome("DoAction", wire.Action(type=action, body=packed(message)))
    else:
        descriptor = wire.FlightDescriptor(type=wire.FlightDescriptor.CMD, cmd=packed(message))
        if name == "query":
            found = raw.outcome("GetFlightInfo", descriptor)
        else:
            found = raw.outcome("DoPut", wire.FlightData(flight_descriptor=descriptor))
    assert (found[0], found[1][:7]) == ("NOT_FOUND", "[25P01]")


# ---- what is not served

_PLAN = sql.SubstraitPlan(plan=b"\x0a\x00", version="0.50.0")
_REFUSED_ACTIONS = {
    "BeginSavepoint": sql.ActionBeginSavepointRequest(transaction_id=b"t", name="here"),
    "EndSavepoint": sql.ActionEndSavepointRequest(savepoint_id=b"s", action=1),
    "CreatePreparedSubstraitPlan": sql.ActionCreatePreparedSubstraitPlanRequest(plan=_PLAN),
}


@pytest.mark.covers("grpc", "BeginSavepoint", "EndSavepoint", "CreatePreparedSubstraitPlan")
@pytest.mark.parametrize("name", _REFUSED_ACTIONS)
def test_actions_that_are_not_served_say_which_are(raw: Raw, name: str) -> None:
    """Whether their body can be read or not."""
    for body in (packed(_REFUSED_ACTIONS[name]), b"", b"\xff"):
        code, words = raw.outcome("DoAction", wire.Action(type=name, body=body))
        assert (code, words[:7]) == ("UNIMPLEMENTED", "[0A000]")
        assert "BeginTransaction" in words


@pytest.mark.covers("grpc", "StatementSubstraitPlan")
@pytest.mark.parametrize("method", ["GetFlightInfo", "GetSchema", "PollFlightInfo", "DoGet", "DoPut"])
def test_a_plan_of_substrait_is_refused_with_what_to_send(server: RunningServer, raw: Raw, method: str) -> None:
    command = packed(sql.CommandStatementSubstraitPlan(plan=_PLAN))
    descriptor = wire.FlightDescriptor(type=wire.FlightDescriptor.CMD, cmd=command)
    messages = {"DoGet": wire.Ticket(ticket=command), "DoPut": wire.FlightData(flight_descriptor=descriptor)}
    code, words = raw.outcome(method, messages.get(method, descriptor))
    assert (code, words[:7]) == ("UNIMPLEMENTED", "[0A000]")
    assert "SQL text" in words


def test_an_exchange_says_first_what_it_is_about(raw: Raw) -> None:
    for asked in (b"", b"{", b"[1]", b'{"subscribe": 1}', b'{"mode": "buffer"}', b'{"subscribe": "SELECT 1", "x": 1}'):
        descriptor = wire.FlightDescriptor(type=wire.FlightDescriptor.CMD, cmd=asked)
        code, words = raw.outcome("DoExchange", wire.FlightData(flight_descriptor=descriptor))
        assert code == "INVALID_ARGUMENT", asked
        assert re.match(r"\[(22023|42601)\] ", words), asked
    code, words = raw.outcome("DoExchange", wire.FlightData())
    assert (code, words[:7]) == ("INVALID_ARGUMENT", "[22023]")


def test_every_action_that_is_listed_is_served(server: RunningServer) -> None:
    """To each there is an answer, or a reason why not that is not its absence."""
    listing = Raw(server)
    listed = [wire.ActionType.FromString(one).type for one in listing.call("ListActions", wire.Empty())]
    listing.close()
    assert len(listed) > 10
    for name in listed:
        raw = Raw(server)  # one of them ends the session
        code, words = raw.outcome("DoAction", wire.Action(type=name))
        raw.close()
        assert code not in ("INTERNAL", "UNKNOWN"), name
        assert "There is no action" not in words, name


def test_statements_of_no_rows_and_of_rows_are_told_apart(raw: Raw) -> None:
    """A query that is sent as a change is refused with the way to send it, and not run as one."""
    descriptor = wire.FlightDescriptor(
        type=wire.FlightDescriptor.CMD, cmd=packed(sql.CommandStatementUpdate(query="SELECT 1"))
    )
    code, words = raw.outcome("DoPut", wire.FlightData(flight_descriptor=descriptor))
    assert (code, words[:7]) == ("UNIMPLEMENTED", "[0A000]")
    assert "as a query" in words


# ---- tickets and channels


def test_a_ticket_is_a_message_of_the_format(raw: Raw) -> None:
    """Some clients take tickets apart before they send them."""
    ticket = raw.info("SELECT 1 AS n").endpoint[0].ticket.ticket
    assert len(_unpacked(ticket, sql.TicketStatementQuery).statement_handle) > 30
    assert b"SELECT" not in ticket


def test_a_long_header_is_taken(raw: Raw) -> None:
    """Tokens of some identity providers are longer than the 8 KiB that gRPC takes unasked."""
    long = (("x-claims", "y" * 12_000),)
    assert raw.outcome("DoAction", wire.Action(type="GetSessionOptions"), long) == ("OK", "")


def test_one_channel_carries_hundreds_of_calls_at_once(raw: Raw) -> None:
    outcomes: list[tuple[str, str]] = []

    def ask() -> None:
        outcomes.append(raw.outcome("DoAction", wire.Action(type="GetSessionOptions")))

    threads = [threading.Thread(target=ask) for _ in range(300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes == [("OK", "")] * 300


# ---- metadata

_REFERENCES = sql.CommandGetCrossReference(pk_table="orders", fk_table="positions")
_METADATA: dict[str, tuple[Any, pa.Schema, int]] = {
    "catalogs": (sql.CommandGetCatalogs(), reference.CATALOGS, 1),
    "schemas": (sql.CommandGetDbSchemas(catalog="desk", db_schema_filter_pattern="m%"), reference.DB_SCHEMAS, 1),
    "all schemas": (sql.CommandGetDbSchemas(), reference.DB_SCHEMAS, 2),
    "tables": (sql.CommandGetTables(table_name_filter_pattern="market\\_data"), reference.TABLES, 1),
    "tables with schemas": (
        sql.CommandGetTables(table_types=["BASE TABLE"], include_schema=True),
        reference.TABLES_WITH_SCHEMA,
        6,
    ),
    "table types": (sql.CommandGetTableTypes(), reference.TABLE_TYPES, 3),
    "primary keys": (sql.CommandGetPrimaryKeys(table="positions"), reference.PRIMARY_KEYS, 2),
    "exported keys": (sql.CommandGetExportedKeys(table="orders"), reference.FOREIGN_KEYS, 0),
    "imported keys": (sql.CommandGetImportedKeys(table="orders"), reference.FOREIGN_KEYS, 0),
    "cross reference": (_REFERENCES, reference.FOREIGN_KEYS, 0),
    "type info": (sql.CommandGetXdbcTypeInfo(data_type=sql.XDBC_DECIMAL), reference.XDBC_TYPE_INFO, 1),
    "sql info": (sql.CommandGetSqlInfo(info=[0, 2, 3, 504, 99_999]), reference.SQL_INFO, 4),
}


@pytest.mark.covers("grpc", "GetCatalogs", "GetDbSchemas", "GetTables", "GetTableTypes", "GetSqlInfo")
@pytest.mark.covers("grpc", "GetPrimaryKeys", "GetExportedKeys", "GetImportedKeys", "GetCrossReference")
@pytest.mark.covers("grpc", "GetXdbcTypeInfo")
@pytest.mark.parametrize("name", _METADATA)
def test_metadata_has_one_schema_wherever_it_is_told(raw: Raw, name: str) -> None:
    """In FlightInfo, GetSchema and the stream: the specification's, down to what may be null."""
    command, schema, rows = _METADATA[name]
    descriptor = wire.FlightDescriptor(type=wire.FlightDescriptor.CMD, cmd=packed(command))
    info = raw.call("GetFlightInfo", descriptor, wire.FlightInfo)
    told = raw.call("GetSchema", descriptor, wire.SchemaResult)
    table = raw.rows(info)
    for found in (pa.ipc.read_schema(pa.py_buffer(info.schema)), pa.ipc.read_schema(pa.py_buffer(told.schema))):
        assert found.equals(schema, check_metadata=True)
    assert table.schema.equals(schema, check_metadata=True)
    assert (table.num_rows, info.total_records) == (rows, rows)
