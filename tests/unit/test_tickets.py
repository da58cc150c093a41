"""Tickets: sealed, bound to a principal, expiring; whatever else is shown instead of one is refused alike."""

from __future__ import annotations

import dataclasses
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightsql_server.errors import InvalidStatementHandle
from flightsql_server.model import SessionOptions
from flightsql_server.protocol.tickets import QueryTicket, TicketSeal
from tests.conftest import examples

KEY = bytes(range(32))
SECRET = "SELECT last_price FROM market_data WHERE symbol = 'SECRET'"
TICKET = QueryTicket(SECRET, "duckdb", "standard", SessionOptions(schema="main"))
_TEXT = st.text(max_size=20)
_TICKETS = st.builds(
    QueryTicket, _TEXT, _TEXT, _TEXT, st.builds(SessionOptions, schema=_TEXT, dialect=_TEXT, wire_profile=_TEXT)
)


class Clock:
    """A clock that stands where it is set."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def _refused(seal: TicketSeal, principal: str, sealed: bytes) -> None:
    with pytest.raises(InvalidStatementHandle) as failure:
        seal.open(principal, sealed)
    assert "SECRET" not in str(failure.value)


@pytest.mark.scaled
@settings(max_examples=examples(2_000))
@given(_TEXT, _TICKETS)
def test_what_is_sealed_can_be_opened(principal: str, ticket: QueryTicket) -> None:
    sealed, expires = TicketSeal(KEY, 300, Clock()).seal(principal, ticket)
    assert TicketSeal(KEY, 300, Clock()).open(principal, sealed) == ticket, "by another process with the same key, too"
    assert expires == 1_300.0


def test_every_option_of_the_session_is_kept() -> None:
    options = SessionOptions(**{field.name: f"<{field.name}>" for field in dataclasses.fields(SessionOptions)})
    seal = TicketSeal(KEY, 300)
    assert seal.open("ann", seal.seal("ann", QueryTicket("q", "d", "p", options))[0]).options == options


def test_the_statement_can_not_be_read_from_it() -> None:
    seal = TicketSeal(KEY, 300)
    one, other = seal.seal("ann", TICKET)[0], seal.seal("ann", TICKET)[0]
    assert b"SELECT" not in one
    assert b"market_data" not in one
    assert one != other, "two tickets for the same query tell nobody that it is the same"


@pytest.mark.scaled
@settings(max_examples=examples(10_000))
@given(st.data())
def test_no_altered_ticket_is_accepted(data: st.DataObject) -> None:
    seal = TicketSeal(KEY, 300, Clock())
    sealed = bytearray(seal.seal("ann", TICKET)[0])
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    _refused(seal, "ann", bytes(sealed))


def test_no_shortened_or_lengthened_ticket_is_accepted() -> None:
    seal = TicketSeal(KEY, 300)
    sealed = seal.seal("ann", TICKET)[0]
    for length in range(len(sealed)):
        _refused(seal, "ann", sealed[:length])
        _refused(seal, "ann", sealed[len(sealed) - length :])
    _refused(seal, "ann", sealed + b"\0")


@pytest.mark.scaled
@settings(max_examples=examples(2_000))
@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    seal = TicketSeal(KEY, 300)
    _refused(seal, "ann", noise)
    _refused(seal, "ann", b"\x01" + noise)


@pytest.mark.scaled
@settings(max_examples=examples(2_000))
@given(st.text(), st.text())
def test_nobody_opens_the_ticket_of_another(one: str, other: str) -> None:
    if one != other:
        seal = TicketSeal(KEY, 300)
        _refused(seal, other, seal.seal(one, TICKET)[0])


def test_a_ticket_of_another_key_is_refused() -> None:
    _refused(TicketSeal(os.urandom(32), 300), "ann", TicketSeal(KEY, 300).seal("ann", TICKET)[0])


def test_a_ticket_expires() -> None:
    clock = Clock()
    seal = TicketSeal(KEY, 300, clock)
    sealed, expires = seal.seal("ann", TICKET)
    clock.now = expires
    assert seal.open("ann", sealed) == TICKET
    clock.now = expires + 0.001
    _refused(seal, "ann", sealed)
