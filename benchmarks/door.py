"""What the login door costs a call: a credential seen before, one that is new, and the grants of its roles.

``python benchmarks/door.py`` prints microseconds of processor time per call: the median of rounds of many calls.
"""

from __future__ import annotations

import base64
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from flightsql_auth.authenticator import Authenticator
from flightsql_auth.credentials import PasswordHasher
from flightsql_auth.keys import KeyRing
from flightsql_auth.policies import LivePolicies, Policies
from flightsql_auth.service_tokens import ServiceTokens
from flightsql_auth.signing import ALGORITHMS
from flightsql_auth.store import StateStore
from flightsql_auth.tokens import Tokens

PEER = "ipv4:127.0.0.1:50000"
CLAIMS = {"accounts": ["ALPHA", "BETA"]}
ROLES = {
    "trader": {"select": ["*"], "filters": {"orders": "account IN (claims.accounts)"}},
    "viewer": {"select": ["market_data"], "masks": {"market_data": {"volume": "round(-3)"}}},
}


def _microseconds(step: Callable[[], object], calls: int, rounds: int = 30) -> float:
    """The median of the rounds' means."""
    step()
    means = []
    for _ in range(rounds):
        started = time.thread_time()
        for _ in range(calls):
            step()
        means.append((time.thread_time() - started) / calls * 1e6)
    return statistics.median(means)


def _show(what: str, microseconds: float) -> None:
    print(f"{what:56} {microseconds:8.2f} microseconds")


def _seen_before(door: Authenticator, headers: dict[str, str]) -> None:
    for what, header in headers.items():
        door.authenticate(header, PEER)
        principal = door.cached(header, PEER)
        assert principal is not None
        _show(f"seen before: {what}", _microseconds(lambda header=header: door.cached(header, PEER), 5_000))
        _show("  may a running call of it go on", _microseconds(lambda one=principal: door.refusal(one), 5_000))


def _new(folder: Path) -> None:
    for algorithm in ALGORITHMS:
        keys = KeyRing.open(folder / algorithm)
        keys.rotate(algorithm)
        tokens = Tokens(keys, issuer="i", audience="a")
        now = time.time()
        token = tokens.issue(subject="trader", jti="id", issued_at=now, expires_at=now + 3_600)
        _show(f"new: a token signed with {algorithm}", _microseconds(lambda t=token, v=tokens: v.verify(t), 100))


def _grants() -> None:
    policies = LivePolicies(Policies.from_toml(ROLES))
    _show("grants of a role with masks", _microseconds(lambda: policies.grants(("viewer",), "viewer"), 5_000))
    _show(
        "grants of a role whose rows depend on claims",
        _microseconds(lambda: policies.grants(("trader",), "trader", "", CLAIMS), 5_000),
    )


def main() -> None:
    """Prints every line."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        store = StateStore(folder / "state.sqlite")
        store.add_user("trader", PasswordHasher().hash("secret"), ["trader"])
        service_token = ServiceTokens(store).create(
            "grafana", ["viewer"], now=time.time(), expires_at=time.time() + 3_600
        )
        door = Authenticator(store, KeyRing.open(folder / "keys"), issuer="i", audience="a", anonymous_role=None)
        password = "Basic " + base64.b64encode(b"trader:secret").decode()
        token = door.login(password, b"", PEER, "benchmark").token
        headers = {
            "a session's token": f"Bearer {token}",
            "a service token": f"Bearer {service_token}",
            "user and password": password,
        }
        _seen_before(door, headers)
        _new(folder)
        _grants()
        door.close()
        store.close()


if __name__ == "__main__":
    main()
