"""``audit``: prove that the audit trail is as it was written. Works on the files, also while a server writes them."""

from __future__ import annotations

import re
from pathlib import Path

import click

from flightsql_server import audit as trail
from flightsql_server.audit import AuditError, Report
from flightsql_server.cli.user import DATA_DIR


@click.group()
def audit() -> None:
    """Prove the audit trail."""


def _line(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, str] | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", value.strip())
    if found is None:
        raise click.BadParameter("give NUMBER:HASH, as verify has printed it")
    return int(found[1]), found[2]


@audit.command()
@DATA_DIR
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="FLIGHTSQL_AUDIT_FOLDER",
    help="Folder of the trail.  [default: audit, in the data directory]",
)
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the trail's key.  [default: audit.key, in the data directory]",
)
@click.option("--contains", callback=_line, metavar="NUMBER:HASH", help="A line that was noted elsewhere.")
def verify(data_dir: Path, folder: Path | None, key_file: Path | None, contains: tuple[int, str] | None) -> None:
    """Read every line and say what was altered, added, taken away or moved; fail if anything was."""
    folder = folder or data_dir / "audit"
    try:
        report = trail.verify(folder, trail.read_key(key_file or data_dir / "audit.key"), contains)
    except AuditError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"The audit trail in {folder} can't be read: {error.strerror}.") from error
    for note in report.notes:
        click.echo(f"Note: {note}")
    if report.problems:
        raise click.ClickException("The audit trail is not as it was written:\n  " + "\n  ".join(report.problems))
    click.echo(_summary(report))


def _summary(report: Report) -> str:
    if not report.lines:
        return "The audit trail has no lines."
    files = "1 file" if report.files == 1 else f"{report.files} files"
    return (
        f"Lines {report.first} to {report.last}, in {files}, are as they were written.\n"
        f"Last line: {report.last}:{report.last_hash}"
    )
