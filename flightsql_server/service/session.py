"""Sessions: the options that a caller has chosen and the statements it has prepared; from both a Call is made.

A session of ours is named by the ``jti`` of its token, and its options are kept in the state store, so that a restart
doesn't silently put anybody elsewhere. Callers without such a token (repeated Basic, anonymous) have one session for
each principal and peer, kept in memory as long as there is room.
"""

from __future__ import annotations

import json
import secrets
import zoneinfo
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Protocol

from flightsql_auth.principals import Principal

from flightsql_server import planner
from flightsql_server.errors import InvalidParameter, InvalidStatementHandle, ResultTooLarge
from flightsql_server.metrics import Metrics
from flightsql_server.model import CATALOG, Call, Entry, SessionOptions
from flightsql_server.service.parameters import Bound
from flightsql_server.service.profiles import STANDARD, checked_profile, profile_of_agent

DIALECT_HEADER = "x-sql-dialect"
PROFILE_HEADER = "x-wire-profile"
COMPRESSION_HEADER = "x-compression"
COMPRESSIONS = ("none", "lz4", "zstd")
_NUMBERS: dict[str, type[float] | type[int]] = {
    "statement_timeout_seconds": float,
    "max_rows": int,
    "max_staleness_ms": int,
}
# Sessions without a token of ours whose options are kept; the one used longest ago is forgotten first.
_KEPT_IN_MEMORY = 10_000


class SessionStore(Protocol):
    """Where the options of sessions with a token outlive the process. Both may block for a moment on disk."""

    def session_options(self, jti: str) -> str: ...
    def set_session_options(self, jti: str, text: str) -> None: ...
    def user_options(self, name: str) -> Mapping[str, str]: ...


@dataclass(slots=True)
class PreparedText:
    """A text that a session has prepared, in which transaction, and the rows of values that were bound to it last."""

    text: str
    transaction_id: bytes | None = None
    rows: tuple[Bound, ...] | None = None


class Sessions:
    """Options and prepared statements of every session. Belongs to the event loop's thread, but for ``save``."""

    def __init__(
        self, store: SessionStore, metrics: Metrics, *, default_dialect: str, prepared_per_session: int = 256
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._default_dialect = default_dialect
        self._prepared_per_session = prepared_per_session
        self._options: OrderedDict[str, SessionOptions] = OrderedDict()
        self._prepared: OrderedDict[str, OrderedDict[bytes, PreparedText]] = OrderedDict()
        self._busy: Counter[str] = Counter()
        self._with_token: set[str] = set()
        self._dialects = frozenset(planner.dialects())

    def call(self, principal: Principal, headers: Mapping[str, str], peer: str, entry: Entry | None = None) -> Call:
        """The call as headers, session, user and server defaults make it; InvalidParameter for an unknown choice.

        ``entry`` is the one of the audit trail for this call.
        """
        key = principal.session_id or f"{principal.name} {peer}"
        options = self.options(principal, key)
        dialect = headers.get(DIALECT_HEADER) or options.dialect
        profile = headers.get(PROFILE_HEADER) or options.wire_profile
        if not dialect or not profile:
            user = self._store.user_options(principal.name)
            dialect = dialect or user.get("dialect", "") or self._default_dialect
            profile = profile or user.get("wire_profile", "") or profile_of_agent(headers.get("user-agent", ""))
        compression = _checked_compression(headers.get(COMPRESSION_HEADER) or options.compression or "none")
        return Call(
            principal=principal,
            session_key=key,
            options=options,
            dialect=self.checked_dialect(dialect),
            wire_profile=checked_profile(profile or STANDARD),
            compression=None if compression == "none" else compression,
            peer=peer,
            entry=entry or Entry(""),
        )

    def checked_dialect(self, name: str) -> str:
        """The dialect as it is called here; InvalidParameter listing those that exist."""
        lowered = name.lower()
        if lowered not in self._dialects:
            raise InvalidParameter(f"There is no SQL dialect {name[:40]!r}.", hint=_one_of(sorted(self._dialects)))
        return lowered

    def options(self, principal: Principal, key: str) -> SessionOptions:
        """What the session has chosen so far."""
        found = self._options.get(key)
        if found is None:
            text = self._store.session_options(principal.session_id) if principal.session_id else ""
            found = SessionOptions(**json.loads(text)) if text else SessionOptions()
            self._remember(key, found)
        return found

    def changed(self, options: SessionOptions, name: str, value: str | None) -> SessionOptions:
        """The options with one replaced, None: its default. KeyError: no such option; InvalidParameter: bad value."""
        if name == "catalog":
            if value not in (None, "", CATALOG):
                raise InvalidParameter(f"There is no catalog {value[:60]!r}.", hint=f"There is {CATALOG}.")
            return options
        if name == "schema":
            return options.with_(schema=value or "")
        if name == "dialect":
            return options.with_(dialect=self.checked_dialect(value) if value else "")
        if name == "wire_profile":
            return options.with_(wire_profile=checked_profile(value) if value else "")
        if name == "compression":
            return options.with_(compression=_checked_compression(value) if value else "")
        if name == "time_zone":
            return options.with_(time_zone=_checked_zone(value) if value else "UTC")
        if name in _NUMBERS:
            return options.with_(**{name: _checked_number(name, value) if value else 0})
        raise KeyError(name)

    def shown(self, call: Call) -> dict[str, str | float | int]:
        """The options as GetSessionOptions tells them, with the defaults that hold."""
        return {
            "catalog": CATALOG,
            "schema": call.options.schema or "main",
            "dialect": call.dialect,
            "wire_profile": call.wire_profile,
            "time_zone": call.options.time_zone,
            "compression": call.compression or "none",
            "statement_timeout_seconds": call.options.statement_timeout_seconds,
            "max_rows": call.options.max_rows,
            "max_staleness_ms": call.options.max_staleness_ms,
        }

    def save(self, call: Call, options: SessionOptions) -> None:
        """Keeps the options for the session's next calls; blocks on disk where the session has a token of ours."""
        if call.principal.session_id:
            self._store.set_session_options(call.principal.session_id, json.dumps(asdict(options)))
        self._remember(call.session_key, options)

    def _remember(self, key: str, options: SessionOptions) -> None:
        self._options[key] = options
        self._options.move_to_end(key)
        while len(self._options) > _KEPT_IN_MEMORY:
            self._options.popitem(last=False)

    def add_prepared(self, call: Call, text: str, transaction_id: bytes | None = None) -> bytes:
        """Keeps the text under a new handle; ResultTooLarge when the session has too many open."""
        mine = self._prepared.setdefault(call.session_key, OrderedDict())
        if len(mine) >= self._prepared_per_session:
            self._metrics.limit("sql.prepared_per_session")
            raise ResultTooLarge(
                f"The session has {len(mine)} prepared statements open.", hint="Close those that are not needed."
            )
        if call.principal.session_id:
            self._with_token.add(call.session_key)
        elif len(self._prepared) > _KEPT_IN_MEMORY:
            self.forget(next(iter(self._prepared)))
        handle = secrets.token_bytes(16)
        mine[handle] = PreparedText(text, transaction_id or None)
        self._metrics.prepared_statements.inc()
        return handle

    def prepared_text(self, call: Call, handle: bytes) -> PreparedText:
        """The text behind a handle of this session, and its values; InvalidStatementHandle when there is none."""
        mine = self._prepared.get(call.session_key)
        text = None if mine is None else mine.get(handle)
        if text is None:
            raise InvalidStatementHandle("The prepared statement does not exist.", hint="Prepare it again.")
        return text

    def close_prepared(self, call: Call, handle: bytes) -> None:
        """Forgets a handle. One that is not there is closed already: it may have gone with the process before this."""
        mine = self._prepared.get(call.session_key, OrderedDict())
        if mine.pop(handle, None) is None:
            return
        if not mine:
            del self._prepared[call.session_key]
        self._metrics.prepared_statements.dec()

    def prepared_count(self, key: str) -> int:
        """How many statements the session has prepared."""
        return len(self._prepared.get(key, ()))

    @contextmanager
    def busy(self, call: Call) -> Iterator[None]:
        """While the block runs the session counts as in use, and is not ended to make room for another."""
        self._busy[call.session_key] += 1
        try:
            yield
        finally:
            self._busy[call.session_key] -= 1
            if not self._busy[call.session_key]:
                del self._busy[call.session_key]

    def is_busy(self, key: str) -> bool:
        """Whether a call of the session streams just now; may be asked from any thread."""
        return key in self._busy

    def forget_ended(self, is_live: Callable[[str], bool]) -> None:
        """Lets go of what sessions have left that ended without saying so."""
        for key in [key for key in self._with_token if not is_live(key)]:
            self.forget(key)

    def forget(self, key: str) -> None:
        """Lets go of all that an ended session has."""
        self._with_token.discard(key)
        self._options.pop(key, None)
        self._metrics.prepared_statements.dec(len(self._prepared.pop(key, {})))


def _checked_compression(name: str) -> str:
    if name not in COMPRESSIONS:
        raise InvalidParameter(f"There is no compression {name[:40]!r}.", hint=_one_of(COMPRESSIONS))
    return name


def _checked_zone(name: str) -> str:
    known = {zone.lower(): zone for zone in zoneinfo.available_timezones()}
    if name.lower() not in known:
        raise InvalidParameter(f"There is no time zone {name[:60]!r}.", hint="Give a name such as Europe/Vienna.")
    return known[name.lower()]


def _checked_number(name: str, text: str) -> float | int:
    kind = _NUMBERS[name]
    try:
        number = kind(text)
    except ValueError:
        number = kind(-1)
    if not 0 <= number < 2**53:
        raise InvalidParameter(f"{name} can't be {text[:40]!r}.", hint="Give a number, 0 for the server's own limit.")
    return number


def _one_of(names: object) -> str:
    return "There are: " + ", ".join(names) + "."  # type: ignore[arg-type]
