"""Housekeeping: what a running server does by itself, by the second and by the minute."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor

from flightsql_auth.authenticator import Authenticator
from flightsql_auth.keys import KeyFileError, KeyRing
from flightsql_auth.policies import LivePolicies

from flightsql_server.config import Config
from flightsql_server.service.changes import Changes
from flightsql_server.service.running import Queries, stale
from flightsql_server.service.session import Sessions
from flightsql_server.tls import Tls

log = logging.getLogger(__name__)

_FLUSH_SECONDS = 60


class Housekeeping:
    """The rounds of one server; what blocks goes to ``pool``. Nothing to close: cancel the task of ``run``."""

    def __init__(
        self,
        config: Config,
        authenticator: Authenticator,
        keys: KeyRing,
        policies: LivePolicies,
        queries: Queries,
        changes: Changes,
        sessions: Sessions,
        tls: Tls | None,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._authenticator = authenticator
        self._keys = keys
        self._policies = policies
        self._queries = queries
        self._changes = changes
        self._sessions = sessions
        self._tls = tls
        self._pool = pool
        self._key_days = config.number("login.key_days")
        self._tls_seconds = config.integer("tls.check_seconds")

    async def run(self) -> None:
        """Goes round until it is cancelled; a round that fails is logged, and the next one tries again."""
        seconds = 0
        while True:
            await asyncio.sleep(1)
            seconds += 1
            try:
                await self._round(seconds)
            except Exception:
                log.exception("a round of housekeeping failed")

    async def _round(self, seconds: int) -> None:
        """Each second: ends idle transactions, and what runs under a policy of before; every few: looks for a new
        certificate; each minute: writes what was last seen when, and rotates old keys.
        """
        loop = asyncio.get_running_loop()
        is_live = self._authenticator.is_live
        self._queries.end_where(lambda one: stale(one, self._policies))
        await self._changes.transactions.end_idle(lambda caller: self._authenticator.refusal(caller) is None)
        await self._changes.temporary.end_lost(is_live)
        self._sessions.forget_ended(is_live)
        if self._tls is not None and seconds % self._tls_seconds == 0:
            await loop.run_in_executor(None, self._tls.reload)
        if seconds % _FLUSH_SECONDS == 0:
            await loop.run_in_executor(self._pool, rotate_keys, self._keys, self._key_days)
            await loop.run_in_executor(self._pool, self._authenticator.flush)


def rotate_keys(keys: KeyRing, days: float) -> None:
    """Puts a new key in the place of one that has signed for so many days (0: never), and deletes those long retired.

    Blocks. A failure is logged: the keys stay as they are.
    """
    try:
        if days and time.time() - keys.active.created_at > days * 86_400:
            log.info("key %s signs from now on", keys.rotate().kid)
        for kid in keys.prune():
            log.info("key %s was deleted", kid)
    except (KeyFileError, OSError) as error:
        log.error("the keys stay as they are: %s", error)  # noqa: TRY400 - it says what to do
