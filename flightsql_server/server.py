"""The composition root: builds the rooms, starts, drains and stops them. The only module that knows them all."""

from __future__ import annotations

import asyncio
import logging
import platform
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import grpc
import grpc.aio
import pyarrow as pa
from flightsql_auth.authenticator import Authenticator
from flightsql_auth.keys import KeyRing
from flightsql_auth.policies import Policies
from flightsql_auth.store import StateStore
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from flightsql_server import __version__, backup, planner
from flightsql_server.config import Config
from flightsql_server.data.datasets import Dataset, catalog_of
from flightsql_server.data.declared import declared_datasets
from flightsql_server.data.ingest import Writer
from flightsql_server.data.watermark import WATERMARK, Watermark
from flightsql_server.data_dir import DataDir
from flightsql_server.engine import DuckDBOptions, open_engine
from flightsql_server.errors import EngineUnavailable, InternalError, ServerError
from flightsql_server.http import HttpServer
from flightsql_server.metrics import Metrics
from flightsql_server.model import Call, SessionOptions
from flightsql_server.protocol.metadata import Question
from flightsql_server.protocol.reflection import add_reflection
from flightsql_server.protocol.service import FlightService, Rooms
from flightsql_server.protocol.sql_info import SqlInfoFacts
from flightsql_server.protocol.tickets import TicketSeal
from flightsql_server.rooms import statement_rooms
from flightsql_server.service.catalog import CurrentCatalog
from flightsql_server.service.operations import OperationsTables
from flightsql_server.service.running import Queries
from flightsql_server.service.session import Sessions

log = logging.getLogger(__name__)

_FLUSH_SECONDS = 60


def check_data(path: Path, datasets: Mapping[str, Dataset]) -> dict[str, int]:
    """Opens the data of a directory that no server holds, and gives the last ``_seq`` of each dataset.

    EngineUnavailable when the database is damaged, RowsLost when it lacks what was acknowledged.
    """
    engine = open_engine(path, DuckDBOptions())
    try:
        writer = Writer(engine, datasets, Metrics(CollectorRegistry()), watermark=Watermark(path / WATERMARK))
        try:
            writer.open()
        finally:
            writer.stop()
        # A block that was damaged shows only when it is read.
        for dataset in datasets.values():
            for name in (dataset.name, dataset.history_name):
                rows = engine.open(f'SELECT * FROM main."{name}"', SessionOptions(), 100_000)
                try:
                    while rows.read() is not None:
                        pass
                finally:
                    rows.close()
        return dict(writer.versions)
    except InternalError as error:
        raise EngineUnavailable("The database is damaged.", hint="Use another backup.") from error
    finally:
        engine.close()


class StartError(Exception):
    """The server can't start; the text says why and what to do."""


class Server:
    """One server over one data directory. ``start`` once, then ``stop`` once; both on the same event loop.

    ``port`` and ``http_port`` are the ports that were taken, also when any free one was asked for.
    """

    def __init__(self, config: Config, data_dir: DataDir, *, accept_loss: bool = False) -> None:
        """Opens users, keys and data. ServerError, KeyFileError or PolicyError when one of them can't be used.

        ``accept_loss``: start although acknowledged rows are missing, and give them up.
        """
        self.config = config
        self._accept_loss = accept_loss
        self.metrics = Metrics()
        self._directory = data_dir
        self._pool = ThreadPoolExecutor(config.integer("server.worker_threads"), thread_name_prefix="worker")
        self._door = ThreadPoolExecutor(config.integer("login.parallel_hashes") + 2, thread_name_prefix="login")
        self._policies = Policies.from_toml(config.roles)
        self._keys = KeyRing.open(data_dir.path / "keys")
        self._store = StateStore(data_dir.path / "state.sqlite")
        self._authenticator = self._open_door()
        self._engine = open_engine(
            data_dir.path,
            DuckDBOptions(
                threads=config.integer("engine.threads"),
                memory_limit=config.text("engine.memory_limit"),
                temp_bytes=config.integer("engine.temp_bytes"),
                log_bytes=config.integer("engine.log_bytes"),
            ),
        )
        self._datasets = declared_datasets(config.datasets)
        self._catalog = CurrentCatalog(catalog_of(self._datasets), self._engine)
        self._writer = Writer(
            self._engine,
            self._datasets,
            self.metrics,
            queue_batches=config.integer("ingest.queue_batches"),
            queue_bytes=config.integer("ingest.queue_bytes"),
            group_rows=config.integer("ingest.group_rows"),
            reserve_bytes=config.integer("ingest.reserve_bytes"),
            producers_per_user=config.integer("ingest.producers_per_user"),
            free_bytes=data_dir.free_bytes,
            watermark=Watermark(data_dir.path / WATERMARK),
        )
        self.metrics.free_bytes.set_function(data_dir.free_bytes)
        self._sessions = Sessions(
            self._authenticator,
            self.metrics,
            default_dialect=config.text("sql.dialect"),
            prepared_per_session=config.integer("sql.prepared_per_session"),
        )
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._http = HttpServer(self.metrics.registry, self._keys.jwks, self.wrong)
        self.metrics.sessions.set_function(self._authenticator.session_count)
        self._serving = False
        self._backing_up = threading.Lock()
        self.port = self.http_port = 0

    def _open_door(self) -> Authenticator:
        config = self.config
        return Authenticator(
            self._store,
            self._keys,
            issuer=config.text("login.issuer"),
            audience=config.text("login.audience"),
            session_seconds=config.number("login.session_seconds"),
            idle_seconds=config.number("login.idle_seconds"),
            max_sessions_per_user=config.integer("login.sessions_per_user"),
            basic_cache_seconds=config.number("login.basic_cache_seconds"),
            max_parallel_hashes=config.integer("login.parallel_hashes"),
            anonymous_role=config.text("login.anonymous_role") or None,
            in_use=lambda jti: self._sessions.is_busy(jti) or self._transactions.has(jti),
        )

    async def start(self) -> None:
        """Takes both ports and serves; StartError when one is taken."""
        config = self.config
        self._writer.start(accept_loss=self._accept_loss)
        self._service = FlightService(self._rooms())
        self._grpc = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", config.integer("server.message_bytes")),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", config.integer("server.metadata_bytes")),
                ("grpc.absolute_max_metadata_size", 2 * config.integer("server.metadata_bytes")),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ]
        )
        self._grpc.add_generic_rpc_handlers((self._service.handlers(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        add_reflection(self._grpc, self._authenticator, self._policies, self._door)
        host = config.text("server.host")
        address = f"[{host}]" if ":" in host else host
        try:
            self.port = self._grpc.add_insecure_port(f"{address}:{config.integer('server.port')}")
        except RuntimeError as error:
            raise StartError(f"Port {config.integer('server.port')} of {host} can't be taken.") from error
        try:
            await self._http.start(host, config.integer("server.http_port"))
        except OSError as error:
            raise StartError(f"Port {config.integer('server.http_port')} of {host} can't be taken.") from error
        self.http_port = self._http.port
        self._directory.announce(self.port)
        await self._grpc.start()
        self._serving = True
        self._announce_ready(True)
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        self._housekeeping = asyncio.create_task(self._keep_house())

    def _rooms(self) -> Rooms:
        config, metrics = self.config, self.metrics
        queries = Queries(metrics)
        statements, changes = statement_rooms(
            config,
            metrics,
            self._engine,
            self._catalog,
            self._policies,
            self._pool,
            self._writer,
            self._datasets,
            lambda: operations.rows(),
            self._directory.free_bytes,
        )
        self._transactions = changes.transactions
        operations = OperationsTables(
            queries, self._sessions, changes.transactions, self._store.live_sessions, self._pool
        )
        return Rooms(
            authenticator=self._authenticator,
            sessions=self._sessions,
            statements=statements,
            changes=changes,
            queries=queries,
            writer=self._writer,
            datasets=self._datasets,
            metadata=self._question,
            seal=TicketSeal(self._keys.sealing_key(), config.number("sql.ticket_seconds")),
            metrics=metrics,
            pool=self._pool,
            door=self._door,
            backup=self.backup,
            handshake_seconds=config.number("login.handshake_seconds"),
            parameter_rows=config.integer("sql.parameter_rows"),
        )

    def _question(self, call: Call) -> Question:
        """What the metadata commands answer from: this catalog, these grants, these facts."""
        grants = self._policies.grants(call.principal.roles, call.principal.name)
        capabilities = self._engine.capabilities
        facts = SqlInfoFacts(
            server_version=__version__,
            arrow_version=pa.__version__,
            read_only=not grants.ingest and not grants.create,
            bulk_ingestion=bool(grants.ingest) or grants.create,
            create_tables=grants.create,
            transactions=int(capabilities.transactions),
            keywords=capabilities.keywords,
            numeric_functions=planner.function_names("numeric"),
            string_functions=planner.function_names("string"),
            system_functions=planner.function_names("system"),
            datetime_functions=planner.function_names("datetime"),
            max_statement_length=self.config.integer("sql.statement_bytes"),
            max_connections=self.config.integer("login.sessions_per_user"),
            max_statements=self.config.integer("sql.prepared_per_session"),
            statement_timeout_seconds=self.config.number("query.seconds"),
        )
        return Question(self._catalog.current, grants, facts)

    def _announce_ready(self, ready: bool) -> None:
        self.metrics.ready.set(int(ready))
        self.metrics.build.info(
            {
                "version": __version__,
                "python": platform.python_version(),
                "engine": f"{self._engine.capabilities.name} {self._engine.capabilities.version}",
                "pyarrow": pa.__version__,
                "sqlglot": metadata.version("sqlglot"),
                "grpc": grpc.__version__,
            }
        )

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", "arrow.flight.protocol.FlightService"):
            await self._health.set(name, status)

    async def wrong(self) -> Mapping[str, str]:
        """What keeps the server from serving, by part; empty when it serves. The engine is really asked."""
        if not self._serving:
            return {"server": "starting or stopping"}
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.run_in_executor(self._pool, self._engine.ping), 5)
        except TimeoutError:
            return {"engine": "busy"}
        except ServerError as error:
            return {"engine": error.message}
        return {} if self._writer.is_alive() else {"writer": "stopped"}

    async def _keep_house(self) -> None:
        """Each second: ends idle transactions; each minute: writes down when sessions were last seen."""
        loop = asyncio.get_running_loop()
        seconds = 0
        while True:
            await asyncio.sleep(1)
            seconds += 1
            try:
                await self._transactions.end_idle(self._authenticator.is_live)
                self._sessions.forget_ended(self._authenticator.is_live)
                if seconds % _FLUSH_SECONDS == 0:
                    await loop.run_in_executor(self._pool, self._authenticator.flush)
            except Exception:
                log.exception("a round of housekeeping failed")

    @property
    def users(self) -> StateStore:
        """The users, sessions and revocations."""
        return self._store

    def backup(self, name: str) -> tuple[int, Mapping[str, int]]:
        """Makes a backup of that name; gives its size and the last ``_seq`` of each dataset that is sure to be in it.

        Blocks; statements and commits go on meanwhile. Raises the error family.
        """
        path = self._directory.path
        folder = Path(self.config.text("server.backup_dir") or path / "backups")
        versions, noted = dict(self._writer.versions), self._writer.noted()

        def fill(target: Path) -> None:
            note = Watermark(target / WATERMARK)
            note.write(noted)
            note.close()
            self._engine.backup(target)
            self._store.backup(target / "state.sqlite")
            check_data(target, self._datasets)

        with self._backing_up:
            try:
                return backup.make(folder, name, path, fill), versions
            except OSError as error:
                raise InternalError() from error

    def running_calls(self) -> set[asyncio.Task[object]]:
        """The tasks of the calls that run now."""
        return self._service.running

    async def stop(self, grace: float | None = None) -> None:
        """Refuses new calls, waits ``grace`` seconds (None: the setting) for running ones, cancels the rest, closes."""
        self._serving = False
        self._announce_ready(False)
        grace = self.config.number("server.drain_seconds") if grace is None else grace
        if self.port:
            await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
            self._housekeeping.cancel()
            self._service.refuse_new_calls()
            running = self._service.running
            if running and grace > 0:
                await asyncio.wait(set(running), timeout=grace)
            await self._grpc.stop(0.5)
            await self._transactions.end_all()
        await self._http.stop()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.close)

    def close(self) -> None:
        """Commits what the writer holds and closes data, users and directory; ``stop`` has done so already."""
        self._writer.stop()
        for pool in (self._pool, self._door):
            pool.shutdown(wait=True, cancel_futures=True)
        self._authenticator.close()
        self._store.close()
        self._engine.close()
        self._directory.close()
