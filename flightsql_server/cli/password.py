"""Passwords on their way in: from a file or from the keyboard, never from the command line."""

from __future__ import annotations

from pathlib import Path

import click


def read_password(file: Path) -> str:
    """The text of the file, without the newline at its end."""
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise click.ClickException(f"The password file {file} can't be read: {why}.") from error
