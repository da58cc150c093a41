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
import pyarrow as pa
from flightsql_auth.keys import KeyRing
from flightsql_auth.policies import LivePolicies, Policies, PolicyError
from flightsql_auth.store import StateStore
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from flightsql_server import __version__, backup
from flightsql_server.config import Config
from flightsql_server.data.datasets import Dataset, catalog_of
from flightsql_server.data.declared import declared_datasets
from flightsql_server.data.feed import ChangeSet
from flightsql_server.data.ingest import Writer
from flightsql_server.data.watermark import WATERMARK, Watermark
from flightsql_server.data_dir import DataDir
from flightsql_server.engine import DuckDBOptions, open_engine
from flightsql_server.errors import EngineUnavailable, InternalError, ServerError
from flightsql_server.housekeeping import Housekeeping, rotate_keys
from flightsql_server.http import HttpServer
from flightsql_server.metrics import Metrics
from flightsql_server.model import TEMPORARY_SCHEMA, SessionOptions
from flightsql_server.protocol import transport
from flightsql_server.protocol.reflection import add_reflection
from flightsql_server.protocol.service import FlightService, Rooms
from flightsql_server.protocol.tickets import TicketSeal
from flightsql_server.protocol.watch import Watch
from flightsql_server.rooms import (
    audit_trail,
    federation,
    login_door,
    login_threads,
    question,
    statement_rooms,
    token_endpoint,
)
from flightsql_server.service import policy_check
from flightsql_server.service.catalog import CurrentCatalog
from flightsql_server.service.operations import OperationsTables
from flightsql_server.service.running import Queries
from flightsql_server.service.session import Sessions
from flightsql_server.service.subscriptions import Subscriptions
from flightsql_server.tls import OPTIONAL, REQUIRED, Tls, files_of

log = logging.getLogger(__name__)


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

    ``port`` and ``http_port`` are the ports that were taken, also when any free one was asked for;
    ``certificate_port`` is 0 unless client certificates are optional. ``tls`` is None where nothing is encrypted.
    """

    def __init__(self, config: Config, data_dir: DataDir, *, accept_loss: bool = False) -> None:
        """Opens users, keys and data. ServerError, or the KeyFileError, AuditError, PolicyError or ProviderError of one
        that can't be used.

        ``accept_loss``: start although acknowledged rows are missing, and give them up.
        """
        self.config = config
        self._accept_loss = accept_loss
        self.metrics = Metrics()
        files = files_of(config)
        self.tls = None if files is None else Tls(files, self.metrics)
        self._directory = data_dir
        self._pool = ThreadPoolExecutor(config.integer("server.worker_threads"), thread_name_prefix="worker")
        self._door = login_threads(config)
        policies = Policies.from_toml(config.roles)
        self._policies = LivePolicies(policies)
        self._keys = KeyRing.open(data_dir.path / "keys", token_seconds=config.number("login.session_seconds"))
        self._federation = federation(config, policies, self.metrics)
        self._store = StateStore(data_dir.path / "state.sqlite")
        self._audit = audit_trail(config, data_dir.path, self.metrics)
        self._authenticator = login_door(
            config,
            self._store,
            self._keys,
            self._federation,
            in_use=lambda jti: self._sessions.is_busy(jti) or self._transactions.has(jti),
            ended=lambda jti, user, how: self._audit.note("session_end", session=jti, user=user, reason=how),
        )
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
            publish=self._publish,
        )
        self._subscriptions: Subscriptions | None = None
        self.metrics.free_bytes.set_function(data_dir.free_bytes)
        self._sessions = Sessions(
            self._authenticator,
            self.metrics,
            default_dialect=config.text("sql.dialect"),
            prepared_per_session=config.integer("sql.prepared_per_session"),
        )
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._http = self._http_server()
        self.metrics.sessions.set_function(self._authenticator.session_count)
        self._serving = False
        self._backing_up = threading.Lock()
        self.port = self.http_port = self.certificate_port = 0

    def _http_server(self) -> HttpServer:
        config, tls = self.config, self.tls
        return HttpServer(
            self.metrics.registry,
            self._keys.jwks,
            self.wrong,
            token_endpoint(config, self._authenticator, self._door, self._audit, self.metrics),
            certificate=None if tls is None else lambda: tls.current,
            client_certificates=config.text("tls.client_certificates"),
        )

    async def start(self) -> None:
        """Takes both ports and serves; StartError when one is taken, AuditError when the trail can't be kept."""
        config = self.config
        self._audit.start(__version__)
        self._writer.start(accept_loss=self._accept_loss)
        self._engine.drop_schemas(TEMPORARY_SCHEMA)  # what sessions had in the last process has ended with it
        self._catalog.refresh()
        rotate_keys(self._keys, config.number("login.key_days"))
        self.reload_policies(self.config.roles)
        self._federation.prefetch()
        self._service = FlightService(self._rooms())
        self._grpc = transport.new_server(
            message_bytes=config.integer("server.message_bytes"), metadata_bytes=config.integer("server.metadata_bytes")
        )
        self._grpc.add_generic_rpc_handlers((self._service.handlers(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        add_reflection(self._grpc, self._authenticator, self._policies, self._door)
        host = config.text("server.host")
        asked = config.text("tls.client_certificates")
        self.port = self._listen("server.port", asked == REQUIRED)
        if asked == OPTIONAL:
            self.certificate_port = self._listen("tls.certificate_port", True)
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
        self._housekeeping = asyncio.create_task(self._rounds.run())
        self._watching = asyncio.create_task(self._service.watch.run())

    def _listen(self, setting: str, ask_certificate: bool) -> int:
        """Takes the port of that setting for Flight; StartError when it is taken."""
        host, port, tls = self.config.text("server.host"), self.config.integer(setting), self.tls
        certificate = None if tls is None else lambda: tls.current
        try:
            return transport.listen(self._grpc, host, port, certificate, ask_certificate=ask_certificate)
        except RuntimeError as error:
            raise StartError(f"Port {port} of {host} can't be taken.") from error

    def _rooms(self) -> Rooms:
        config, metrics = self.config, self.metrics
        queries = Queries(metrics, self._policies)
        statements, changes, self._subscriptions = statement_rooms(
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
            self._directory.path / "spool",
            self._keys.sealing_key(),
            self._directory.life(anew=self._accept_loss),
        )
        self._transactions = changes.transactions
        self._rounds = Housekeeping(
            config,
            self._authenticator,
            self._keys,
            self._policies,
            queries,
            changes,
            self._sessions,
            self.tls,
            self._pool,
        )
        operations = OperationsTables(
            queries,
            self._sessions,
            changes.transactions,
            self._subscriptions,
            self._store.live_sessions,
            self._pool,
            self._audit.recent,
        )
        return Rooms(
            authenticator=self._authenticator,
            sessions=self._sessions,
            statements=statements,
            changes=changes,
            queries=queries,
            subscriptions=self._subscriptions,
            writer=self._writer,
            datasets=self._datasets,
            metadata=lambda call: question(config, call, self._catalog, self._policies, self._engine),
            watch=Watch(self._authenticator, metrics),
            seal=TicketSeal(self._keys.sealing_key(), config.number("sql.ticket_seconds")),
            metrics=metrics,
            pool=self._pool,
            door=self._door,
            backup=self.backup,
            handshake_seconds=config.number("login.handshake_seconds"),
            parameter_rows=config.integer("sql.parameter_rows"),
            audit=self._audit,
        )

    def _publish(self, dataset: str, last_seq: int, rows: ChangeSet | None) -> None:
        if self._subscriptions is not None:
            self._subscriptions.publish(dataset, last_seq, rows)

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
        if self._audit.wrong:
            return {"audit": self._audit.wrong}
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.run_in_executor(self._pool, self._engine.ping), 5)
        except TimeoutError:
            return {"engine": "busy"}
        except ServerError as error:
            return {"engine": error.message}
        return {} if self._writer.is_alive() else {"writer": "stopped"}

    @property
    def users(self) -> StateStore:
        """The users, sessions and revocations."""
        return self._store

    def reload_policies(self, roles: Mapping[str, object]) -> str:
        """Puts these roles in force for every call from then on, and gives their version; blocks.

        PolicyError when they don't fit what there is: then those of before stay.
        """
        before = self._policies.version
        try:
            policies = Policies.from_toml(roles)
            policy_check.check(policies, self._catalog.current, self._engine)
        except (PolicyError, ServerError) as error:
            self.refuse_policies(str(error))
            raise
        self._policies.replace(policies)
        self._audit.note("policy", outcome="OK", policy=policies.version, before=before)
        self.metrics.policy_loads.labels("taken").inc()
        return policies.version

    def refuse_policies(self, reason: str) -> None:
        """Counts and notes that policies were not taken; those of before stay."""
        self.metrics.policy_loads.labels("refused").inc()
        self._audit.note("policy", outcome="refused", policy=self._policies.version, reason=reason)

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
            self._watching.cancel()
            self._service.refuse_new_calls()
            if self._subscriptions is not None:
                self._subscriptions.stop()
            if (running := self._service.running) and grace > 0:
                await asyncio.wait(set(running), timeout=grace)
            await self._grpc.stop(0.5)
            await self._transactions.end_all()
        await self._http.stop()
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    def close(self) -> None:
        """Commits what the writer holds and closes data, users and directory; ``stop`` has done so already."""
        self._writer.stop()
        for pool in (self._pool, self._door):
            pool.shutdown(wait=True, cancel_futures=True)
        self._authenticator.close()
        self._store.close()
        self._engine.close()
        self._audit.stop()
        self._directory.close()
