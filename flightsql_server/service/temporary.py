"""Temporary tables: real tables in a schema of their session's own, dropped when the session ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from flightsql_server.errors import ServerError
from flightsql_server.metrics import Metrics
from flightsql_server.model import TEMPORARY_SCHEMA, Engine
from flightsql_server.service.catalog import CurrentCatalog

log = logging.getLogger(__name__)


class TemporaryTables:
    """Knows which sessions have a schema of their own. Belongs to the event loop; engine work goes to ``pool``."""

    def __init__(self, engine: Engine, catalog: CurrentCatalog, pool: ThreadPoolExecutor, metrics: Metrics) -> None:
        self._engine = engine
        self._catalog = catalog
        self._pool = pool
        self._metrics = metrics
        self._schemas: dict[str, str] = {}

    def note(self, session_id: str | None, schema: str) -> None:
        """Called before something is made in ``schema``, whichever it is."""
        if session_id is not None and schema.startswith(TEMPORARY_SCHEMA):
            self._schemas[session_id] = schema
            self._metrics.temporary_schemas.set(len(self._schemas))

    async def end_session(self, session_id: str) -> None:
        """Drops what the session has; its transactions have ended before. What fails is tried again by ``end_lost``."""
        schema = self._schemas.get(session_id)
        if schema is None:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, self._drop, schema)
        except ServerError as error:
            log.warning("the temporary tables of a session could not be dropped yet: %s", error.message)
            return
        self._schemas.pop(session_id, None)
        self._metrics.temporary_schemas.set(len(self._schemas))

    async def end_lost(self, is_live: Callable[[str], bool]) -> None:
        """Drops what sessions have that are over."""
        for session_id in [known for known in self._schemas if not is_live(known)]:
            await self.end_session(session_id)

    def _drop(self, schema: str) -> None:
        self._engine.drop_schemas(schema)
        self._catalog.refresh()
