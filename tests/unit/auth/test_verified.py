"""Credentials that were verified: how many are kept, and which leave."""

from __future__ import annotations

from flightsql_auth.live import LiveSession
from flightsql_auth.principals import Principal
from flightsql_auth.store import Session
from flightsql_auth.verified import Verified, VerifiedCache

_ANN = Principal("ann", (), "token")


def _of(session: LiveSession | None) -> Verified:
    return Verified(_ANN, None, session)


def _session(jti: str) -> LiveSession:
    return LiveSession(Session(jti, "ann", created_at=0.0, expires_at=1e12, last_seen=0.0, peer="", parent_jti=None))


def test_the_least_recently_used_leaves_first() -> None:
    cache = VerifiedCache(2)
    for key in (b"a", b"b"):
        cache.put(key, _of(None))
    assert cache.get(b"a") is not None
    cache.put(b"c", _of(None))
    assert [cache.get(key) is not None for key in (b"a", b"b", b"c")] == [True, False, True]


def test_sessions_that_have_ended_make_room() -> None:
    cache, sessions = VerifiedCache(1_000), [_session(str(number)) for number in range(4)]
    for number, session in enumerate(sessions[:3]):
        cache.put(bytes([number]), _of(session))
    sessions[0].ended = sessions[1].ended = "revoked"
    cache.put(b"\x03", _of(sessions[3]))
    assert [cache.get(bytes([number])) is not None for number in range(4)] == [False, False, True, True]
