"""``serve`` and ``check-config``: start a server, or say what it would start with."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import psutil
import uvloop
from flightsql_auth.keys import KeyFileError
from flightsql_auth.policies import Policies, PolicyError
from flightsql_auth.providers import ProviderError, providers_of
from flightsql_auth.store import StateStore, StateStoreError

from flightsql_server import config as settings
from flightsql_server import planner
from flightsql_server.audit import AuditError
from flightsql_server.cli import demo
from flightsql_server.config import Config, ConfigError
from flightsql_server.data.datasets import catalog_of
from flightsql_server.data.declared import DatasetError, declared_datasets
from flightsql_server.data_dir import DataDir, DataDirError
from flightsql_server.errors import ServerError
from flightsql_server.server import Server, StartError
from flightsql_server.service import policy_check
from flightsql_server.tls import OPTIONAL, certificate_users, files_of

log = logging.getLogger(__name__)

_EXPOSED = (
    "{host} is reached over the network and nothing is encrypted: whoever can listen there reads passwords, tokens and "
    "data, can use them in their owner's name, and can answer in the server's stead."
)
_NEW_OBJECTS = 10_000
"""So many more objects than before make Python look for unreachable ones among the newest."""


def _config_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--data-dir", help="Folder for data, users and keys.  [default: ./flightsql-data]"),
        click.option("--host", help="Address to listen on.  [default: 127.0.0.1]"),
        click.option("--port", type=int, help="Port of the Flight service.  [default: 50052]"),
        click.option("--http-port", type=int, help="Port for metrics and health.  [default: 9464]"),
        click.option("--tls-certificate", help="PEM file of the server's certificate: TLS on both ports."),
        click.option("--tls-key", help="PEM file of its key."),
        click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file with settings and roles."),
    ):
        command = option(command)
    return command


def _load(file: Path | None, given: dict[str, Any]) -> Config:
    try:
        return settings.load(file, command_line={_setting_of(option): value for option, value in given.items()})
    except ConfigError as error:
        raise click.ClickException(str(error)) from error


def _setting_of(option: str) -> str:
    section, _, key = option.partition("_")
    return f"tls.{key}" if section == "tls" else f"server.{option}"


def _check_tls(config: Config) -> None:
    """That the certificate and its key can be used now, and that client certificates can name users."""
    try:
        certificate_users(config)
        files = files_of(config)
        if files is not None:
            files.load(time.time())
    except KeyFileError as error:
        raise click.ClickException(str(error)) from error


def _check(config: Config) -> None:
    """What the table alone can't know: the dialects there are, and the roles."""
    try:
        policies = Policies.from_toml(config.roles)
        policy_check.check(policies, catalog_of(declared_datasets(config.datasets)))
        providers_of(config.providers, policies.roles, config.text("login.issuer"))
    except (PolicyError, DatasetError, ProviderError) as error:
        raise click.ClickException(str(error)) from error
    known = {"sql.dialect": planner.dialects(), "login.anonymous_role": ("", *policies.roles)}
    for name, choices in known.items():
        value = config.text(name)
        if value not in choices:
            there_are = ", ".join(sorted(choice for choice in choices if choice))
            raise click.ClickException(f"{config.origins[name]}: {name} can't be {value!r}. There are: {there_are}.")


@click.command()
@_config_options
@click.option("--demo", "with_demo", is_flag=True, help="Start with demo users and a market that ticks.")
@click.option("--accept-loss", is_flag=True, help="Start although acknowledged rows are missing, and give them up.")
@click.option("--insecure", is_flag=True, help="Allow an address other than loopback without TLS.")
def serve(file: Path | None, with_demo: bool, accept_loss: bool, insecure: bool, **given: Any) -> None:
    """Run the server until it is told to stop."""
    config = _configured(file, given, with_demo)
    exposed = _check_host(config, with_demo, insecure)
    _check_tls(config)
    _start_log(config)
    if exposed:
        log.warning("%s", _EXPOSED.format(host=config.text("server.host")))
    os.umask(0o077)  # whatever is written from here on, no other user reads
    with ExitStack() as stack:
        if with_demo and config.origins["server.data_dir"] == "default":
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flightsql-demo-")))
        else:
            path = config.data_dir
        try:
            _check_ports(config)
            directory = DataDir(path, config.integer("server.port"))
            server = Server(config, directory, accept_loss=accept_loss)
            if not with_demo:
                demo.retire_users(server)
        except (AuditError, DataDirError, KeyFileError, PolicyError, StartError, StateStoreError, ServerError) as error:
            raise click.ClickException(str(error)) from error
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(server, path, with_demo, lambda: _configured(file, given, with_demo).roles))


def _configured(file: Path | None, given: dict[str, Any], with_demo: bool) -> Config:
    """The settings and roles as they are now, checked."""
    config = _load(file, given)
    if with_demo:
        config = replace(config, roles={**demo.ROLES, **config.roles})
    _check(config)
    return config


def _reload(server: Server, roles: Callable[[], Mapping[str, object]]) -> None:
    """Reads the certificate and the roles again; what can't be used is told, and what was before stays."""
    if server.tls is not None:
        server.tls.reload()
    try:
        found = roles()
    except click.ClickException as error:
        server.refuse_policies(error.message)
        log.warning("the policies stay as they are: %s", error.message)
        return
    try:
        log.info("policies of version %s are in force", server.reload_policies(found))
    except (PolicyError, ServerError) as error:
        log.warning("the policies stay as they are: %s", error)


async def _run(server: Server, path: Path, with_demo: bool, roles: Callable[[], Mapping[str, object]]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        stop.set()
        if signals > 1:  # asked twice: what runs is cut off now
            for task in set(server.running_calls()):
                task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, _reload, server, roles))
    try:
        await server.start()
    except (AuditError, StartError, ServerError) as error:
        await server.stop(0)
        raise click.ClickException(str(error)) from error
    player = None
    try:
        host = server.config.text("server.host")
        if with_demo:
            player = await demo.start(server, path)
            click.echo(demo.welcome(host, server.port, server.http_port))
        else:
            click.echo(_announcement(server, host))
        sys.stdout.flush()
        _spare_collector()
        await stop.wait()
    finally:
        if player is not None:
            await player.stop()
        await server.stop()
        gc.unfreeze()  # at the end everything is taken apart


def _spare_collector() -> None:
    """Python's collector need not look again and again at what stays as long as the server: its modules, its rooms.

    By its defaults it looks after every 700 new objects, which took a third of what a message to a subscriber costs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 10, 10)


def _announcement(server: Server, host: str) -> str:
    flight, http = ("grpc+tls", "https") if server.tls is not None else ("grpc", "http")
    second = f", for client certificates on {flight}://{host}:{server.certificate_port}" * bool(server.certificate_port)
    return (
        f"Serving Flight SQL on {flight}://{host}:{server.port}{second}, metrics on {http}://{host}:{server.http_port}"
    )


def _check_host(config: Config, with_demo: bool, insecure: bool) -> bool:
    """Refuses an address that the server must not have; whether others reach it, and without TLS."""
    if with_demo and config.text("tls.certificate"):
        raise click.ClickException("--demo speaks no TLS: leave tls.certificate empty, or run a server of your own.")
    host = config.text("server.host")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if loopback:
        return False
    if with_demo:
        raise click.ClickException(
            f"--demo has users with known passwords, so it listens on loopback only, not {host}."
        )
    if config.text("login.anonymous_role"):
        raise click.ClickException(f"login.anonymous_role serves loopback only, not {host}.")
    if config.text("tls.certificate"):
        return False
    if not insecure:
        raise click.ClickException(
            f"{host} is not loopback, and there is no TLS. {_EXPOSED.format(host=host)} Set --tls-certificate and "
            "--tls-key, or say --insecure if everybody on this network may do that."
        )
    return True


def _check_ports(config: Config) -> None:
    """Says who holds a port before anything is opened."""
    host = config.text("server.host")
    ports = [("server.port", "--port"), ("server.http_port", "--http-port")]
    if config.text("tls.client_certificates") == OPTIONAL:
        ports.append(("tls.certificate_port", "the setting tls.certificate_port"))
    for name, option in ports:
        port = config.integer(name)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise StartError(
                    f"Port {port} of {host} can't be taken: {_holder(port) or error.strerror}. "
                    f"Choose another by {option}."
                ) from error


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                if connection.pid is None:
                    return "another user's process listens there"
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid}) listens there"
    except psutil.Error:
        pass
    return ""


def _start_log(config: Config) -> None:
    logging.basicConfig(
        level=config.text("server.log_level").upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


@click.command("check-config")
@_config_options
def check_config(file: Path | None, **given: Any) -> None:
    """Print every setting with its value and where that came from; fail on an error."""
    config = _load(file, given)
    width = max(len(name) for name in config.values)
    for name, value in config.values.items():
        click.echo(f"{name:{width}}  {value!s:<24} {config.origins[name]}")
    tables_of = {"roles": config.roles, "datasets": config.datasets, "providers": config.providers}
    for kind, tables in tables_of.items():
        for name in tables:
            click.echo(f"{kind + '.' + name:{width}}  {'(table)':<24} {file}")
    _check(config)
    _check_tls(config)


def open_store(data_dir: Path) -> StateStore:
    """The users of a data directory; also while a server runs on it."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return StateStore(data_dir / "state.sqlite")
