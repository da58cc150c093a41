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
    if isinstance(error, (duckdb.CatalogException, duckdb.DependencyException)) and text.startswith(_DEPENDED):
        return errors.DependentObjects("Other tables depend on this one.", hint="Drop or change them first.")
    if "division by zero" in text[:60].lower():
        return errors.DivisionByZero("A number was divided by zero.", hint="NULLIF(divisor, 0) gives NULL instead.")
    if isinstance(error, duckdb.ConstraintException):
        for start, violation, message in _VIOLATIONS:
            if text.startswith(start):
                return violation(message)
    if isinstance(error, duckdb.ConnectionException):
        return errors.EngineUnavailable("The database had to be opened again.", hint="Repeat the call.")
    if isinstance(error, duckdb.BinderException):
        for pattern, kind_of, message in _BOUND:
            found = pattern.match(text)
            if found:
                return kind_of(message.format(*found.groups()), hint=_BIND_HINT, word=found[1])
    for kinds, family, message, hint in _KINDS:
        if isinstance(error, kinds):
            return family(message, hint=hint)
    for word, family, message, hint in _WORDS:
        if word in text:
            return family(message, hint=hint)
    log.error("DuckDB failed: %s", text)
    return errors.InternalError()


# What DuckDB says of names, which are those of the statement; the first group is the name.
_BOUND: tuple[tuple[re.Pattern[str], type[errors.UserError], str], ...] = tuple(
    (re.compile("Binder Error: " + pattern), family, message)
    for pattern, family, message in (
        (r'Referenced column "([^"]+)" not found', errors.UndefinedColumn, 'Column "{0}" does not exist.'),
        (
            r'Table "[^"]+" does not have a column named "([^"]+)"',
            errors.UndefinedColumn,
            'Column "{0}" does not exist.',
        ),
        (r'Column "([^"]+)" in \w+ list not found', errors.UndefinedColumn, 'Column "{0}" does not exist.'),
        (r'Could not find key "([^"]+)" in struct', errors.UndefinedColumn, 'The struct has no field "{0}".'),
        (
            r'Referenced table "(?:[^".]+\.)*([^".]+)" not found',
            errors.UndefinedTable,
            'FROM has no table or alias "{0}".',
        ),
        (r'Ambiguous reference to column name "([^"]+)"', errors.AmbiguousColumn, 'Column "{0}" is ambiguous.'),
        (
            r'column "([^"]+)" must appear in the GROUP BY',
            errors.GroupingError,
            'Column "{0}" must stand in GROUP BY or in an aggregate.',
        ),
        (r"(WHERE) clause cannot contain aggregates", errors.GroupingError, "WHERE can't hold aggregates; HAVING can."),
        (
            r"No function matches the given name and argument types '(\w+)\(([\w\[\], ()]*)\)'",
            errors.UndefinedFunction,
            "No function {0} takes ({1}).",
        ),
    )
)
_FATAL = "FATAL Error:"
_DEPENDED = ("Catalog Error: Could not drop the table because", "Dependency Error:", "Catalog Error: Cannot drop")
# How DuckDB's words begin; the values of the row come after.
_VIOLATIONS: tuple[tuple[str, type[errors.ServerError], str], ...] = (
    ("Constraint Error: Duplicate key", errors.UniqueViolation, "Another row of the table has this key."),
    ("Constraint Error: PRIMARY KEY or UNIQUE", errors.UniqueViolation, "Another row of the table has this key."),
    ("Constraint Error: NOT NULL", errors.NotNullViolation, "A column that must have a value got none."),
    ("Constraint Error: CHECK", errors.CheckViolation, "A row fails a CHECK of its table."),
    ("Constraint Error: Violates foreign key", errors.ForeignKeyViolation, "A foreign key would point to no row."),
)
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
    ((duckdb.ConstraintException,), errors.ConstraintViolation, "A row breaks a constraint of its table.", ""),
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
    ("Cannot perform list_reduce", errors.DataError, "A function was given a value that it can't take.", ""),
)
