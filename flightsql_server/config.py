"""The settings: one table, and where each value came from.

Sources, weakest first: the default below, the TOML file (``[section] key = value``), the environment
(``FLIGHTSQL_<SECTION>_<KEY>``), the command line. ``ARROW_FLIGHT_PORT`` is an older name for ``FLIGHTSQL_SERVER_PORT``
and yields to it. Secrets are never settings: they live in files of the data directory.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Value = str | int | float | bool


class ConfigError(Exception):
    """A setting that can't be used; the text names the setting, its source and what would be right."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the table. The type of ``default`` is the type of the setting.

    ``minimum`` and ``maximum`` bound a number; a text is one of ``choices``, or of the ``form`` of its example, where
    these are given.
    """

    section: str
    key: str
    default: Value
    meaning: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    form: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}"

    @property
    def environment(self) -> str:
        return f"FLIGHTSQL_{self.section}_{self.key}".upper()


_SIZE = (r"(?:\d+(?:\.\d+)? ?[KMGT]i?B)?", "a size such as 4GB, or empty")

SETTINGS: tuple[Setting, ...] = (
    Setting("server", "host", "127.0.0.1", "Address that both ports listen on; others than loopback need --insecure."),
    Setting("server", "port", 50052, "Port of the Flight service; 0 takes any free one.", 0, 65_535),
    Setting("server", "http_port", 9464, "Port for metrics, health and public keys; 0 takes any free one.", 0, 65_535),
    Setting("server", "data_dir", "flightsql-data", "Folder for data, users and keys."),
    Setting("server", "backup_dir", "", "Folder for backups; empty: backups, in the data directory."),
    Setting("server", "worker_threads", 8, "Threads for engine work and encoding.", 1),
    Setting("server", "drain_seconds", 10.0, "How long running calls may go on after a stop was asked for.", 0),
    Setting("server", "message_bytes", 64 * 1024 * 1024, "Largest message taken from a client.", 1024, 2**31 - 1),
    Setting("server", "metadata_bytes", 64 * 1024, "Largest set of call headers taken from a client.", 1024, 2**30 - 1),
    Setting("server", "log_level", "info", "How much is logged.", choices=("debug", "info", "warning", "error")),
    Setting("tls", "certificate", "", "PEM file: the server's certificate, then each one's issuer; empty: no TLS."),
    Setting("tls", "key", "", "PEM file of its key, which nobody else may read."),
    Setting("tls", "client_ca", "", "PEM file of the authorities whose client certificates are believed."),
    Setting(
        "tls",
        "client_certificates",
        "none",
        "Whether clients show a certificate; optional: those who do use tls.certificate_port.",
        choices=("none", "optional", "required"),
    ),
    Setting("tls", "certificate_port", 50053, "Second Flight port, if certificates are optional.", 0, 65_535),
    Setting(
        "tls",
        "user_from",
        "common_name",
        "The part of a client certificate that names its user.",
        choices=("common_name", "dns", "uri", "email"),
    ),
    Setting("tls", "user_pattern", "(.+)", "What that part looks like as a whole; the group is the user's name."),
    Setting("tls", "check_seconds", 5, "How often the files are looked at for new ones.", 1),
    Setting("login", "issuer", "flightsql-server", "The iss claim of tokens made here."),
    Setting("login", "audience", "flightsql-server", "The aud claim of tokens made here."),
    Setting("login", "session_seconds", 43_200, "Longest life of a session, whatever it does.", 1),
    Setting("login", "idle_seconds", 7_200, "A session that asks nothing for so long ends.", 1),
    Setting("login", "sessions_per_user", 64, "At the cap the longest-idle session without a running call ends.", 1),
    Setting("login", "free_failures", 5, "Wrong passwords of a user from one place before pauses; 0: no pauses.", 0),
    Setting("login", "parallel_hashes", 2, "Password checks at one time.", 1),
    Setting("login", "basic_cache_seconds", 60, "How long a checked Basic credential is believed.", 0),
    Setting("login", "handshake_seconds", 10.0, "How long a handshake may take to send its credential.", 0.001),
    Setting("login", "key_days", 90, "Age at which the key that signs tokens is replaced; 0: never.", 0),
    Setting("login", "anonymous_role", "", "Role of callers without credentials; empty refuses them. Loopback only."),
    Setting("sql", "dialect", "duckdb", "Dialect of statements when neither call, session nor user names one."),
    Setting("sql", "statement_bytes", 262_144, "Longest statement.", 1),
    Setting("sql", "statement_tokens", 20_000, "Most tokens in a statement.", 1),
    Setting("sql", "statement_depth", 200, "Deepest nesting of a statement.", 1),
    Setting("sql", "planning_seconds", 5.0, "Longest planning of a statement, looked at between its steps.", 0.001),
    Setting("sql", "parameter_rows", 100_000, "Most rows of parameters bound to one change.", 1),
    Setting("sql", "prepared_per_session", 256, "Most open prepared statements of one session.", 1),
    Setting("sql", "ticket_seconds", 300, "How long a ticket of a query can be redeemed.", 1),
    Setting("query", "concurrent", 64, "Statements that run or stream at one time.", 1),
    Setting("query", "queue", 256, "Statements that may wait for their turn.", 0),
    Setting("query", "queue_seconds", 30.0, "How long a statement may wait for its turn.", 0),
    Setting("query", "seconds", 600.0, "Longest life of a statement, from its start to its last row sent.", 0.001),
    Setting("query", "result_rows", 0, "Most rows of a result; 0: no limit.", 0),
    Setting("query", "result_bytes", 0, "Most bytes of a result, as sent; 0: no limit.", 0),
    Setting("query", "row_bytes", 64 * 1024 * 1024, "Longest row sent.", 4 * 1024 * 1024),
    Setting(
        "transaction", "idle_seconds", 60.0, "A transaction that is asked nothing for so long is rolled back.", 0.1
    ),
    Setting("transaction", "per_user", 16, "Most open transactions of one user.", 1),
    Setting("transaction", "staged_rows", 1_000_000, "Rows for live datasets that a transaction may hold back.", 0),
    Setting(
        "transaction",
        "result_bytes",
        256 * 1024**2,
        "Memory for results that wait to be fetched: of transactions, and of changes sent as queries.",
        0,
    ),
    Setting("transaction", "spool_bytes", 4 * 1024**3, "Disk for such results where memory is not enough.", 0),
    Setting("cache", "plans", 2_000, "Statements whose plan and schema are kept.", 0),
    Setting("cache", "result_bytes", 64 * 1024 * 1024, "Memory for encoded small results; 0 keeps none.", 0),
    Setting("cache", "result_entry_bytes", 256 * 1024, "Largest result that is kept.", 0),
    Setting("engine", "threads", 0, "Threads of the engine; 0: one for each core.", 0),
    Setting("engine", "memory_limit", "", "Memory such as 4GB; empty: the engine's own default.", form=_SIZE),
    Setting("engine", "temp_bytes", 16 * 1024**3, "Disk the engine may spill to.", 0),
    Setting("engine", "log_bytes", 32 * 1024**2, "Length of the engine's log at which it is folded into its file.", 0),
    Setting("ingest", "queue_batches", 1_000, "Record batches that may wait for the writer.", 1),
    Setting("ingest", "queue_bytes", 256 * 1024**2, "Memory of record batches that may wait for the writer.", 1),
    Setting("ingest", "group_rows", 1_000_000, "Rows after which a commit of the writer takes no more.", 1),
    Setting("ingest", "producers_per_user", 1_000, "Ids under which a user may number batches to a dataset.", 0),
    Setting("live", "total", 10_000, "Most open subscriptions.", 1),
    Setting("live", "per_user", 1_000, "Most open subscriptions of one user.", 1),
    Setting("live", "heartbeat_seconds", 10.0, "A subscriber hears that all is well after so long a silence.", 0.1),
    Setting(
        "live",
        "pace_us",
        100,
        "With n subscribers to a query those who conflate are told each n of these µs, or less often.",
        0,
    ),
    Setting("live", "share", 0.25, "Part of a core for working out what commits change in answers; 0: no bound.", 0, 1),
    Setting("live", "evaluation_seconds", 5.0, "Longest run of a query over the rows that a commit has changed.", 0.01),
    Setting("live", "buffer_batches", 1_024, "Changes of an answer that wait for slow readers, as batches.", 1),
    Setting("live", "buffer_bytes", 16 * 1024**2, "The same, in bytes of memory for each different query.", 1),
    Setting("live", "backlog_bytes", 256 * 1024**2, "Commits that wait to be worked out for a query; then history.", 1),
    Setting("live", "snapshot_bytes", 4 * 1024**2, "Largest snapshot that is kept for the next subscriber.", 0),
    Setting("live", "resume_rows", 1_000_000, "Most updates that a subscriber who comes back is sent.", 1),
    Setting("live", "refresh_rows", 100_000, "Most rows of an answer that is worked out again and again.", 1),
    Setting("ingest", "reserve_bytes", 256 * 1024**2, "Free disk below which batches are refused; 0: never.", 0),
    Setting("audit", "enabled", True, "Whether an audit trail is written."),
    Setting("audit", "folder", "", "Folder of the audit trail; empty: audit, in the data directory."),
    Setting("audit", "statements", "full", "What the trail tells of statements.", choices=("full", "redacted", "none")),
    Setting("audit", "statement_bytes", 16_384, "Characters of a statement in the trail; the rest is cut.", 1, 65_536),
    Setting("audit", "rotate_bytes", 64 * 1024**2, "Length at which a file of the trail is followed by the next.", 1),
    Setting("audit", "keep_files", 64, "Files of the trail that are kept; 0 keeps all.", 0),
    Setting("audit", "sync", "never", "Whether each group of lines is forced to the disk.", choices=("never", "group")),
    Setting(
        "audit",
        "when_full",
        "continue",
        "When the trail can't be written: refuse what belongs there, or go on and count the lines that are lost.",
        choices=("stop", "continue"),
    ),
    Setting("audit", "queue_lines", 4_096, "Lines that may be open or wait to be written.", 16),
    Setting("audit", "recent_lines", 500, "Newest lines that ops.audit shows; 0: none.", 0, 5_000),
)

_BY_NAME = {setting.name: setting for setting in SETTINGS}
_OLD_ENVIRONMENT = {"server.port": "ARROW_FLIGHT_PORT"}


@dataclass(frozen=True)
class Config:
    """Every setting with its value and origin; and the tables ``[roles.<name>]``, ``[datasets.<name>]`` and
    ``[providers.<name>]`` as read.
    """

    values: Mapping[str, Value]
    origins: Mapping[str, str]
    roles: Mapping[str, Any] = field(default_factory=dict)
    datasets: Mapping[str, Any] = field(default_factory=dict)
    providers: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """The value of a text setting."""
        return str(self.values[name])

    def integer(self, name: str) -> int:
        """The value of a whole-number setting."""
        return int(self.values[name])

    def number(self, name: str) -> float:
        """The value of a number setting."""
        return float(self.values[name])

    @property
    def data_dir(self) -> Path:
        return Path(self.text("server.data_dir"))


def load(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    command_line: Mapping[str, Value | None] | None = None,
) -> Config:
    """The resolved table; ConfigError for an unknown name, a wrong type or a value out of bounds.

    ``environment`` is the process's own when None. Command-line values that are None count as not given.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Value] = {setting.name: setting.default for setting in SETTINGS}
    origins = dict.fromkeys(values, "default")
    named: dict[str, Mapping[str, Any]] = {"roles": {}, "datasets": {}, "providers": {}}
    if file is not None:
        document = _read(file)
        for kind in named:
            named[kind] = document.pop(kind, {})
            if not isinstance(named[kind], dict):
                raise ConfigError(f"{file}: {kind} must be tables such as [{kind}.desk].")
        for name, value in _flat(document, file).items():
            values[name], origins[name] = _checked(_BY_NAME[name], value, str(file)), str(file)
    for setting in SETTINGS:
        for variable in (_OLD_ENVIRONMENT.get(setting.name), setting.environment):
            if variable and variable in environment:
                values[setting.name] = _from_text(setting, environment[variable], variable)
                origins[setting.name] = variable
    for name, given in (command_line or {}).items():
        if given is not None:
            values[name], origins[name] = _checked(_BY_NAME[name], given, "command line"), "command line"
    return Config(values, origins, **named)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not a TOML file: {error}.") from error


def _flat(document: Mapping[str, Any], file: Path) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, table in document.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{file}: {section} must be a table such as [server].")
        for key, value in table.items():
            name = f"{section}.{key}"
            if name not in _BY_NAME:
                raise ConfigError(f"{file}: there is no setting {name}. `flightsql-server check-config` lists them.")
            flat[name] = value
    return flat


def _from_text(setting: Setting, text: str, source: str) -> Value:
    kind = type(setting.default)
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()]
        return _checked(setting, kind(text), source)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{source}: {setting.name} must be {_wanted(setting)}.") from error


def _checked(setting: Setting, value: Any, source: str) -> Value:
    kind = type(setting.default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    wrong = not isinstance(value, kind) or (kind is not bool and isinstance(value, bool))
    if not wrong and kind is float:
        wrong = not math.isfinite(value)
    if not wrong and setting.minimum is not None:
        wrong = not value >= setting.minimum
    if not wrong and setting.maximum is not None:
        wrong = not value <= setting.maximum
    if not wrong and setting.choices:
        wrong = value not in setting.choices
    if not wrong and setting.form:
        wrong = re.fullmatch(setting.form[0], value) is None
    if wrong:
        raise ConfigError(f"{source}: {setting.name} must be {_wanted(setting)}.")
    checked: Value = value
    return checked


def _wanted(setting: Setting) -> str:
    if setting.choices:
        return "one of " + ", ".join(setting.choices)
    if setting.form:
        return setting.form[1]
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[type(setting.default)]
    words += "" if setting.minimum is None else f", at least {setting.minimum:.12g}"
    return words if setting.maximum is None else f"{words} and at most {setting.maximum:.12g}"
