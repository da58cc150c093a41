"""The reference pages that are made from the code: ``python -m tests.reference_pages`` writes them anew."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

from flightsql_server import errors
from flightsql_server.config import SETTINGS, Setting
from flightsql_server.errors import ServerError
from flightsql_server.protocol import routes
from tests import client_coverage

ROOT = Path(__file__).parents[1]

_SECTIONS = {
    "server": "Ports, folder, threads and the limits of the wire",
    "tls": "Encryption of both ports, and client certificates",
    "login": "Who comes in, and for how long",
    "sql": "Statements as text",
    "query": "Statements that run",
    "transaction": "Transactions",
    "cache": "What is kept to answer faster",
    "engine": "DuckDB",
    "live": "Subscriptions",
    "ingest": "Rows on their way in",
    "audit": "The audit trail",
}

_CONFIGURATION = """\
# Configuration

A setting has a default. A TOML file given by `--config` goes over it, an environment variable over the file, and an
option of the command line over all of them. `flightsql-server check-config` prints every setting with its value and
where that came from, and ends with an error when one can't be used.

```toml
[server]
port = 50052
drain_seconds = 10.0

[sql]
dialect = "postgres"

[roles.desk]            # a role: what its users may read and write
select = ["market_data", "positions"]
ingest = ["market_data"]
```

Datasets beside the built-in ones are declared in `[datasets.<name>]` tables: see [ingest.md](ingest.md). Identity
providers are named in `[providers.<name>]` tables: see [federation.md](federation.md).

`ARROW_FLIGHT_PORT` is an older name for `FLIGHTSQL_SERVER_PORT` and yields to it. Passwords, tokens and keys are never
settings: they live in files of the data directory, which only its owner can read. `tls.key` is the path of a key.
"""

_ERRORS = """\
# Errors

The message of every error begins with its SQLSTATE in brackets, `[42P01] There is no table …`, and says what can be
done about it. The gRPC status is the one below; drivers show both in the text of their exception. Nothing in a message
comes from the data, from the server's files or from a log. What the server itself did wrong is answered by XX000 with
an incident number, under which its log holds the cause.
"""

_FAMILIES = {
    errors.UserError: "The call is wrong",
    errors.ResourceError: "A limit of the server",
    errors.ExternalError: "Something beside the server, or its own stop",
    errors.InternalError: "A defect",
}


def configuration_page() -> str:
    """docs/reference/configuration.md"""
    lines = [_CONFIGURATION]
    for section, title in _SECTIONS.items():
        lines += [f"## {title}", "", f"`[{section}]`", ""]
        lines += ["| setting | default | environment | meaning |", "| --- | --- | --- | --- |"]
        lines += [_setting_line(setting) for setting in SETTINGS if setting.section == section]
        lines.append("")
    return "\n".join(lines)


def _setting_line(setting: Setting) -> str:
    default = f'"{setting.default}"' if isinstance(setting.default, str) else str(setting.default)
    meaning = setting.meaning
    if setting.choices:
        meaning += f" One of {', '.join(setting.choices)}."
    if setting.minimum:
        meaning += f" At least {setting.minimum:g}."
    if setting.maximum:
        meaning += f" At most {setting.maximum:.0f}."
    return f"| `{setting.key}` | `{default}` | `{setting.environment}` | {meaning} |"


def error_classes() -> list[type[ServerError]]:
    """The classes that a client can meet, in the order in which errors.py defines them."""
    found = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ServerError)]
    leaves = [kind for kind in found if not kind.__subclasses__()]
    return sorted(leaves, key=lambda kind: inspect.getsourcelines(kind)[1])


def _error_lines(family: type[ServerError]) -> Iterator[str]:
    for kind in error_classes():
        if issubclass(kind, family):
            meaning = " ".join((kind.__doc__ or "").split()).replace("``", "`")
            yield f"| `{kind.sqlstate}` | {kind.__name__} | `{kind.status}` | {meaning} |"


def errors_page() -> str:
    """docs/reference/errors.md"""
    lines = [_ERRORS]
    for family, title in _FAMILIES.items():
        lines += [f"## {title}", ""]
        if family is not errors.InternalError:
            lines += [" ".join((family.__doc__ or "").split()), ""]
        lines += ["| SQLSTATE | error | gRPC status | meaning |", "| --- | --- | --- | --- |"]
        lines += [*_error_lines(family), ""]
    return "\n".join(lines)


_FLIGHT_SQL = """\
# Flight SQL coverage

What is not served is answered UNIMPLEMENTED, with a sentence on what to do in its stead: Substrait, savepoints. An
answer's schema is the same in FlightInfo, GetSchema and the stream. A FlightInfo has one endpoint and no location.

- **A query** is planned by GetFlightInfo and runs at DoGet, as often as its ticket is redeemed, for five minutes, by
  any session of the same user. PollFlightInfo is complete at once.
- **A subscription** (`SUBSCRIBE TO SELECT …`, or DoExchange) streams until it is cancelled: see [live.md](live.md).
- **A change** runs exactly once, before GetFlightInfo or DoPut is answered; its ticket fetches what it returned
  (`RETURNING`, else one row with the count), again and again for five minutes, and runs nothing. Its count is also the
  FlightInfo's `total_records`. GetSchema and PollFlightInfo never run one.
- **Parameters** are bound by DoPut, one row for a query, any number for a change: all rows are one change with one
  count. Types are guessed from the columns beside them until values come. A union is taken as what it holds. A UUID
  comes back as text and a duration as an interval; what would be changed in value is refused.
- **Transactions** go by id. SQL `BEGIN`, `COMMIT`, `ROLLBACK` is one for each session, for drivers that know no ids. A
  statement of a transaction runs at GetFlightInfo and its result waits: in memory (`transaction.result_bytes`), then on
  disk (`transaction.spool_bytes`). After an error a transaction can only be rolled back. An idle one is rolled back
  after `transaction.idle_seconds`; so is one whose session ends. A transaction changes tables of your own or live
  datasets, not both; rows for live datasets are handed to the writer when it commits, all in one commit of its.
- **Temporary tables** (`CREATE TEMP TABLE`, an ingest with `temporary`) are their session's alone: nobody else can see
  or name them. Their names come before all others, they are listed as `LOCAL TEMPORARY`, and they go when the session
  ends or the server restarts. Callers without a session (repeated Basic) can't make any.
- **Keys**: primary and foreign keys of your own tables are kept and told of. A foreign key points to a table of the
  same schema.
- **Cancel** stops what streams for the given ticket and nothing else.

Deviations from the specification's comments: SqlInfo codes 503, 505, 507 and 562 are sent as `bigint_value` and 522 as
bits, since the stock JDBC and ODBC drivers read them so. An ingest without transaction id belongs to the session's
transaction if it has exactly one, and so does a statement that was prepared in a transaction that has ended: ADBC
leaves the id out there. ADBC sends nothing at all for an ingest of a table without rows, which is refused since nothing
says where the rows belong.
"""


_CLIENTS = """\
## Clients

In a cell stands what a test gets that sends the command or action through that client: `tested` where it is the right
answer, `UNIMPLEMENTED` where it is that refusal. In an empty cell no test does; most clients have no call for it.
"""

_PLAIN = "a dataset's name (plain Flight)"


def _mark(served: object) -> str:
    return "yes" if served else "no"


def flight_sql_page() -> str:
    """docs/reference/flight-sql.md"""
    lines = [_FLIGHT_SQL, "## Commands", ""]
    lines += ["| command | GetFlightInfo, GetSchema | DoGet | DoPut |", "| --- | --- | --- | --- |"]
    for route in sorted(routes.ROUTES.values(), key=lambda route: route.name):
        name = _PLAIN if route.name == "Plain" else f"`{route.name}`"
        lines.append(f"| {name} | {_mark(route.info)} | {_mark(route.rows)} | {_mark(route.put)} |")
    lines += ["", "## Actions", "", "| action | what it does |", "| --- | --- |"]
    lines += [f"| `{name}` | {route.description} |" for name, route in routes.ACTIONS.items()]
    refused = client_coverage.refused_actions()
    lines += ["", "Not served: " + ", ".join(f"`{name}`" for name in refused) + ".", "", _CLIENTS]
    lines += [line.replace("`Plain`", _PLAIN) for line in client_coverage.table()]
    return "\n".join([*lines, ""])


PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/flight-sql.md": flight_sql_page,
    "docs/reference/configuration.md": configuration_page,
    "docs/reference/errors.md": errors_page,
}


def main() -> None:
    """Writes every page."""
    for name, make in PAGES.items():
        file = ROOT / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(make(), encoding="utf-8")
        print(name)


if __name__ == "__main__":
    main()
