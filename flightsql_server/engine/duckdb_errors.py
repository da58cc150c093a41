"""DuckDB's exceptions as the error family. Its texts can hold data values and paths, so none is passed on."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from flightsql_server import errors

log = logging.getLogger(__name__)


@contextmanager
def translated(on_fatal: Callable[[], None]) -> Iterator[None]:
    """Within the block, what DuckDB raises leaves as a member of the family; ``on_fatal`` hears of a fatal error."""
    try:
        yield
    except errors.ServerError:
        raise
    except (duckdb.Error, pa.ArrowException, OSError, RuntimeError, UnicodeDecodeError) as error:
        if str(error).startswith(_FATAL):
            on_fatal()
        raise translate(error) from error


def translate(error: BaseException) -> errors.ServerError:
    """The member of the family that says what DuckDB's exception means to the caller."""
    text = str(error)
    kind = text.partition(":")[0]  # what follows can hold values of the caller's, and so any word at all
    if isinstance(error, duckdb.InterruptException) or kind.startswith("INTERRUPT") or "nterrupted" in kind:
        return errors.StatementCancelled("The statement was stopped.")
    if isinstance(error, (duckdb.OutOfMemoryException, MemoryError)) or kind == "Out of Memory Error":
        return errors.ResultTooLarge("The statement needs more memory than the server gives it.", hint="Ask for less.")
    if kind in _OF_THE_SYSTEM and any(words in text for words in _FULL):
        return errors.DiskFull("The server's disk is full.", hint="Try again when its administrator has made room.")
    if text.startswith(_FATAL):
        log.error("DuckDB failed: %s", text)
        return errors.EngineUnavailable("The database had to be opened again.", hint="Repeat the call.")
    if text.startswith(_DAMAGED):
        log.error("DuckDB can't read its file: %s", text)
        return errors.RowsLost(
            "The database file is damaged where this needs it.",
            hint="Restore a backup with `flightsql-server restore`; the server's log says what is wrong with the file.",
        )
    if isinstance(error, duckdb.CatalogException) and "already exists" in text:
        return errors.DuplicateTable("A table of that name exists already.", hint="Choose another name, or drop it.")
    if isinstance(error, duckdb.ConnectionException):
        return errors.EngineUnavailable("The database had to be opened again.", hint="Repeat the call.")
    named = _NAMED_COLUMN.search(text) if isinstance(error, duckdb.BinderException) else None
    if named:  # the name comes from the statement itself
        return errors.UndefinedColumn(f'Column "{named[1] or named[2]}" does not exist.', hint=_BIND_HINT)
    for kinds, family, message, hint in _KINDS:
        if isinstance(error, kinds):
            return family(message, hint=hint)
    for word, family, message, hint in _WORDS:
        if word in text:
            return family(message, hint=hint)
    log.error("DuckDB failed: %s", text)
    return errors.InternalError()


_NAMED_COLUMN = re.compile(r'Referenced column "([^"]+)" not found|does not have a column named "([^"]+)"')
_FATAL = "FATAL Error:"
_OF_THE_SYSTEM = ("IO Error", "FATAL Error", "TransactionContext Error", "Out of Memory Error")
_FULL = ("No space left on device", "Disk quota exceeded", "File too large", "max_temp_directory_size")
_DAMAGED = ("Corrupt database file:", "IO Error: Corrupt database file:", "IO Error: Could not read enough bytes")
_CAST = "A value can't be converted to the type that the statement asks for."
_CAST_HINT = "TRY_CAST gives NULL in such places."
_RANGE = "A number is out of the range of its type."
_RANGE_HINT = "Cast to a wider type first."
_BIND = "The statement doesn't fit the columns and functions it names."
_BIND_HINT = "Check the names and types of its columns and the arguments of its functions."
_KINDS: tuple[tuple[tuple[type[BaseException], ...], type[errors.ServerError], str, str], ...] = (
    ((duckdb.ConversionException,), errors.DataError, _CAST, _CAST_HINT),
    ((duckdb.OutOfRangeException,), errors.DataError, _RANGE, _RANGE_HINT),
    ((duckdb.ConstraintException,), errors.DataError, "A row breaks a constraint of its table.", ""),
    ((duckdb.ParserException, duckdb.SyntaxException), errors.SqlSyntaxError, "The engine can't read this.", ""),
    ((duckdb.CatalogException, duckdb.BinderException), errors.UndefinedColumn, _BIND, _BIND_HINT),
    ((duckdb.NotImplementedException,), errors.UnsupportedFeature, "The engine can't do this.", ""),
    ((duckdb.TypeMismatchException,), errors.DataError, _CAST, _CAST_HINT),
    ((duckdb.PermissionException,), errors.AccessDenied, "The engine does not allow this.", ""),
    ((duckdb.TransactionException,), errors.SerializationFailure, "Two changes met.", "Repeat the call."),
    ((duckdb.InvalidInputException,), errors.DataError, "A function was given a value that it can't take.", ""),
)
# While rows stream, Arrow hands DuckDB's errors on as plain ones: only the text's first words tell them apart.
_WORDS = (
    ("Conversion Error", errors.DataError, _CAST, _CAST_HINT),
    ("Out of Range", errors.DataError, _RANGE, _RANGE_HINT),
    ("Invalid Input", errors.DataError, "A function was given a value that it can't take.", ""),
    ("Mismatch Type", errors.DataError, _CAST, _CAST_HINT),
)
