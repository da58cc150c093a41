"""Ends calls that run for somebody who may no longer be served: a stream can outlive the look at its credential.

Each second the login door is brought up to date and asked about every watched call. It is asked from memory, so a
thousand streams cost a thousand look-ups; what blocks is done in a thread that nobody else can keep busy.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from flightsql_auth.authenticator import Authenticator
from flightsql_auth.errors import AuthError
from flightsql_auth.principals import Principal

from flightsql_server.metrics import Metrics

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0

Call = asyncio.Task[Any]


class Watch:
    """The calls that run, and for whom. Belongs to the event loop; ``run`` is a task that whoever started it cancels.

    A call that may not go on is cancelled; its handler asks ``refusal`` why, and tells its client.
    """

    def __init__(self, authenticator: Authenticator, metrics: Metrics, every_seconds: float = EVERY_SECONDS) -> None:
        self._authenticator = authenticator
        self._metrics = metrics
        self._every_seconds = every_seconds
        self._calls: dict[Call, Principal] = {}
        self._refused: dict[Call, AuthError] = {}
        self._refreshing: asyncio.Future[None] | None = None
        self._complaint = ""

    def add(self, call: Call, principal: Principal) -> None:
        """From now on the call is watched, until ``forget``."""
        self._calls[call] = principal

    def forget(self, call: Call) -> None:
        """The call has ended."""
        self._calls.pop(call, None)
        self._refused.pop(call, None)

    def refusal(self, call: Call) -> AuthError | None:
        """Why the call was cancelled, if that was done here."""
        return self._refused.get(call)

    def look(self) -> None:
        """Cancels every call that may not go on, as far as the login door knows by now."""
        for call, principal in list(self._calls.items()):
            refused = self._authenticator.refusal(principal)
            if refused is not None:
                del self._calls[call]
                self._refused[call] = refused
                self._metrics.ended_calls.labels(refused.outcome).inc()
                call.cancel()

    async def run(self) -> None:
        """Looks every second, for ever."""
        while True:
            await asyncio.sleep(self._every_seconds)
            try:
                await self._refresh()
                self.look()
            except Exception:
                log.exception("the calls that run could not be looked at")

    async def _refresh(self) -> None:
        """Has the login door look at store and keys. A disk that hangs holds up news, not the look itself."""
        if self._refreshing is None:
            # The loop's own pool: workers may be busy with statements, the door's threads with passwords.
            self._refreshing = asyncio.get_running_loop().run_in_executor(None, self._authenticator.refresh)
        await asyncio.wait((self._refreshing,), timeout=self._every_seconds)
        if self._refreshing.done():
            done, self._refreshing = self._refreshing, None
            self._complain(done.exception())

    def _complain(self, error: BaseException | None) -> None:
        """Logs what is wrong once, not every second."""
        complaint = "" if error is None else str(error)
        if complaint and complaint != self._complaint:
            log.error("users and keys stay as they are known: %s", complaint)
        self._complaint = complaint
