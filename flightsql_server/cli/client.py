"""``sql`` and ``load``: talk to a running server, as any client does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet
from adbc_driver_manager import Error as DriverError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from flightsql_server.cli.password import read_password
from flightsql_server.client import Publisher, PublishError

_LOAD_ROWS = 10_000
_ADBC_OPTIONS = {
    "tls_root_certs": "adbc.flight.sql.client_option.tls_root_certs",
    "cert_chain": "adbc.flight.sql.client_option.mtls_cert_chain",
    "private_key": "adbc.flight.sql.client_option.mtls_private_key",
}


def connection_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--url", default=None, envvar="FLIGHTSQL_URL", help="[default: grpc://127.0.0.1:50052]"),
        click.option("--user", "-u", envvar="FLIGHTSQL_USER", help="User name; asked for when missing."),
        click.option("--password-file", type=click.Path(path_type=Path, exists=True), help="Else FLIGHTSQL_PASSWORD."),
        *_file_options,
    ):
        command = option(command)
    return command


def _keep_content(context: click.Context, option: click.Parameter, file: Path | None) -> None:
    try:
        context.meta[f"tls.{option.name}"] = None if file is None else file.read_bytes()
    except OSError as error:
        raise click.ClickException(f"{file} can't be read: {error.strerror}.") from error


# Kept beside the command's own arguments: only what connects asks for them, by ``tls_files``.
_file_options = [
    click.option(
        name, type=click.Path(path_type=Path), envvar=variable, expose_value=False, callback=_keep_content, help=text
    )
    for name, variable, text in (
        ("--ca-file", "FLIGHTSQL_CA_FILE", "PEM file of who issued the server's certificate; the url is grpc+tls://…"),
        ("--certificate", "FLIGHTSQL_CERTIFICATE_FILE", "PEM file of a client certificate; it may stand for a user."),
        ("--certificate-key", "FLIGHTSQL_CERTIFICATE_KEY_FILE", "PEM file of its key."),
    )
]


def tls_files() -> dict[str, Any]:
    """What the command was given for TLS, as pyarrow's clients call it."""
    meta = click.get_current_context().meta
    names = {"ca_file": "tls_root_certs", "certificate": "cert_chain", "certificate_key": "private_key"}
    found = {name: meta.get(f"tls.{option}") for option, name in names.items()}
    if bool(found["cert_chain"]) != bool(found["private_key"]):
        raise click.ClickException("--certificate and --certificate-key go together.")
    return {name: content for name, content in found.items() if content}


def credentials(url: str | None, user: str | None, password_file: Path | None) -> tuple[str, str, str]:
    """Where to connect, and as whom; user and password are empty where a client certificate stands for them."""
    port = os.environ.get("ARROW_FLIGHT_PORT", "50052")
    url = url or f"grpc://127.0.0.1:{port}"
    if not user and "cert_chain" in tls_files():
        return url, "", ""
    name: str = user or click.prompt("User")
    if password_file is not None:
        password = read_password(password_file)
    else:
        password = os.environ.get("FLIGHTSQL_PASSWORD") or click.prompt("Password", hide_input=True)
    return url, name, password


@contextmanager
def _driver_errors() -> Iterator[None]:
    try:
        yield
    except DriverError as error:
        raise click.ClickException(str(error)) from error


@click.command()
@click.argument("statement")
@connection_options
@click.option("--dialect", help="SQL dialect of the statement, such as postgres or snowflake.")
@click.option("--rows", default=100, show_default=True, help="Most rows to print.")
def sql(
    statement: str, url: str | None, user: str | None, password_file: Path | None, dialect: str | None, rows: int
) -> None:
    """Ask a running server and print the answer as a table."""
    with connected(url, user, password_file, dialect) as cursor:
        cursor.execute(statement)
        if not cursor.description:
            click.echo(f"{max(cursor.rowcount, 0)} row{'' if cursor.rowcount == 1 else 's'} changed")
            return
        reader = cursor.fetch_record_batch()
        shown, more = _first_rows(reader, rows)
    console = Console()
    console.print(table_of(shown))
    console.print(f"{shown.num_rows} row{'' if shown.num_rows == 1 else 's'}{', and more' if more else ''}")


@contextmanager
def connected(url: str | None, user: str | None, password_file: Path | None, dialect: str | None) -> Iterator[Any]:
    """A cursor of the stock driver; what the driver raises within the block is told without a traceback."""
    # Here, because it brings pandas along where that is installed, and no other command should wait for that.
    import adbc_driver_flightsql.dbapi as flight_sql

    url, name, password = credentials(url, user, password_file)
    options: dict[str, Any] = {"username": name, "password": password} if name else {}
    options |= {_ADBC_OPTIONS[part]: content.decode("utf-8", "replace") for part, content in tls_files().items()}
    if dialect:
        options["adbc.flight.sql.rpc.call_header.x-sql-dialect"] = dialect
    with (
        _driver_errors(),
        flight_sql.connect(url, db_kwargs=options, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        yield cursor


def _first_rows(reader: pa.RecordBatchReader, rows: int) -> tuple[pa.Table, bool]:
    batches, count = [], 0
    for batch in reader:
        batches.append(batch)
        count += batch.num_rows
        if count > rows:
            break
    table = pa.Table.from_batches(batches, reader.schema)
    return table.slice(0, rows), count > rows


def table_of(table: pa.Table) -> Table:
    """The rows as a table for the terminal."""
    shown = Table()
    for field in table.schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)
        shown.add_column(field.name, justify="right" if numeric else "left", overflow="fold")
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        shown.add_row(*("" if value is None else str(value) for value in row))
    return shown


@click.command()
@click.argument("dataset")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@connection_options
def load(dataset: str, file: Path, url: str | None, user: str | None, password_file: Path | None) -> None:
    """Send the rows of a Parquet or CSV file to a dataset of a running server."""
    if file.suffix.lower() not in (".parquet", ".csv"):
        raise click.ClickException(f"{file} is neither .parquet nor .csv.")
    url, name, password = credentials(url, user, password_file)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    stored = 0
    try:
        with Publisher(url, dataset, user=name, password=password, **tls_files()) as publisher:
            try:
                total, batches = _read(file, publisher)
                with Progress(*columns, console=Console(stderr=True)) as progress:
                    task = progress.add_task(dataset, total=total)
                    for receipt in publisher.publish_all(batches):
                        progress.advance(task, receipt.rows)
            finally:
                stored = publisher.rows
    except (PublishError, click.ClickException) as error:
        before = f" Of the file, {stored} rows were stored before that." if stored else ""
        raise click.ClickException(f"{error}{before}") from error
    late = f", {publisher.late_rows} of them older than what was there" if publisher.late_rows else ""
    click.echo(f"Loaded {stored} rows into {dataset}{late}.")


def _read(file: Path, publisher: Publisher) -> tuple[int | None, Iterator[pa.RecordBatch]]:
    """The number of rows, where the file tells it, and the rows."""
    with _file_errors(file):
        if file.suffix.lower() == ".csv":
            return None, _rows(file, csv.open_csv(file, convert_options=_column_types(publisher)))
        content = parquet.ParquetFile(file)
        return content.metadata.num_rows, _rows(file, content.iter_batches(_LOAD_ROWS))


def _rows(file: Path, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    reading = iter(batches)
    while True:
        with _file_errors(file):  # what is wrong behind the first rows shows only here
            batch = next(reading, None)
        if batch is None:
            return
        yield batch


@contextmanager
def _file_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file} can't be read: {error}") from error


def _column_types(publisher: Publisher) -> csv.ConvertOptions:
    """A column of text is read as what the dataset says it is: a symbol may look like a number, a decimal like a float.

    Times are left to be found out, since some are written with a zone and some without. Who may write to the dataset
    but not read it gets what the text looks like.
    """
    try:
        fields = [field for field in publisher.schema() if not pa.types.is_timestamp(field.type)]
    except PublishError:
        fields = []
    # Nothing between two commas is null; what is quoted, or reads NA, is a text.
    return csv.ConvertOptions(
        column_types={field.name: field.type for field in fields},
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
