"""The error family: what went wrong, whose fault it is, and what the caller can do.

::

    ServerError
    ├── UserError                      the statement or the call is wrong; repeating it won't help
    │   ├── SqlSyntaxError             42601  INVALID_ARGUMENT
    │   ├── UndefinedColumn            42703  INVALID_ARGUMENT
    │   ├── AmbiguousColumn            42702  INVALID_ARGUMENT
    │   ├── GroupingError              42803  INVALID_ARGUMENT
    │   ├── UndefinedFunction          42883  INVALID_ARGUMENT
    │   ├── InvalidParameter           22023  INVALID_ARGUMENT
    │   ├── DataError                  22000  INVALID_ARGUMENT
    │   ├── DivisionByZero             22012  INVALID_ARGUMENT
    │   ├── ConstraintViolation        23000  INVALID_ARGUMENT
    │   ├── NotNullViolation           23502  INVALID_ARGUMENT
    │   ├── ForeignKeyViolation        23503  INVALID_ARGUMENT
    │   ├── UniqueViolation            23505  INVALID_ARGUMENT
    │   ├── CheckViolation             23514  INVALID_ARGUMENT
    │   ├── DependentObjects           2BP01  FAILED_PRECONDITION
    │   ├── StatementTooComplex        54001  INVALID_ARGUMENT
    │   ├── PlanningTimeout            54001  INVALID_ARGUMENT
    │   ├── InvalidTransaction         25000  FAILED_PRECONDITION
    │   ├── ReadOnlyViolation          25006  FAILED_PRECONDITION
    │   ├── DuplicateTable             42P07  ALREADY_EXISTS
    │   ├── SequenceNoLongerKept       22003  OUT_OF_RANGE
    │   ├── UndefinedTable             42P01  NOT_FOUND (also: not permitted to see it)
    │   ├── InvalidStatementHandle     26000  NOT_FOUND
    │   ├── UnknownTransaction         25P01  NOT_FOUND
    │   ├── UnsupportedFeature         0A000  UNIMPLEMENTED
    │   ├── InvalidCredentials         28P01  UNAUTHENTICATED
    │   ├── InvalidToken               28000  UNAUTHENTICATED
    │   └── AccessDenied               42501  PERMISSION_DENIED
    ├── ResourceError                  a limit of the server bit; wait, or ask for less
    │   ├── QueueFull                  53300  RESOURCE_EXHAUSTED
    │   ├── SessionLimit               53300  RESOURCE_EXHAUSTED
    │   ├── DiskFull                   53100  RESOURCE_EXHAUSTED
    │   ├── LimitReached               53400  RESOURCE_EXHAUSTED
    │   ├── ResultTooLarge             54000  RESOURCE_EXHAUSTED
    │   ├── SlowReader                 54000  RESOURCE_EXHAUSTED
    │   ├── StatementTimeout           57014  DEADLINE_EXCEEDED
    │   ├── StatementCancelled         57014  CANCELLED
    │   ├── PolicyChanged              57000  ABORTED
    │   └── SerializationFailure       40001  ABORTED
    ├── ExternalError                  something this server depends on, or the server's own stop
    │   ├── EngineUnavailable          08006  UNAVAILABLE
    │   ├── ProviderUnavailable        08001  UNAVAILABLE
    │   ├── RowsLost                   XX001  UNAVAILABLE
    │   └── ServerShuttingDown         57P01  UNAVAILABLE
    └── InternalError                  XX000  INTERNAL; carries an incident number, the cause goes to the log

``status`` is the *name* of a gRPC status, so that no room but ``protocol`` needs grpc to raise one.
Engines translate their driver's exceptions at their own door; the login door's ``AuthError`` is translated in
``protocol``. A message never holds a data value, a path of the server or a secret.
"""

from __future__ import annotations

import secrets


class ServerError(Exception):
    """What a client is told: ``[SQLSTATE] message``, under the gRPC status named by ``status``.

    ``hint`` is one sentence on what the caller can do; it follows the message. ``word`` is what the error is about, as
    it stands in the user's text; ``where`` says at which place that is, once somebody has looked.
    """

    sqlstate = "XX000"
    status = "INTERNAL"

    def __init__(self, message: str, *, hint: str = "", word: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.word = word
        self.where = ""

    def __str__(self) -> str:
        text = f"[{self.sqlstate}] {self.message}"
        return (f"{text} {self.hint}" if self.hint else text) + self.where


class UserError(ServerError):
    """The call is wrong and will stay wrong: change it before repeating it."""

    status = "INVALID_ARGUMENT"


class ResourceError(ServerError):
    """A limit was reached: wait and repeat, or ask for less."""

    status = "RESOURCE_EXHAUSTED"


class ExternalError(ServerError):
    """Something beside this server is away: repeat later."""

    status = "UNAVAILABLE"


class SqlSyntaxError(UserError):
    """The text is not one statement of the dialect, or not a kind of statement this server takes."""

    sqlstate = "42601"


class UndefinedColumn(UserError):
    """A column that the statement names does not exist for this principal."""

    sqlstate = "42703"


class AmbiguousColumn(UserError):
    """Several tables have a column of that name: say which one is meant."""

    sqlstate = "42702"


class GroupingError(UserError):
    """A column or an aggregate stands where the grouping doesn't allow it."""

    sqlstate = "42803"


class UndefinedFunction(UserError):
    """No function of that name takes these arguments."""

    sqlstate = "42883"


class InvalidParameter(UserError):
    """A value, option, descriptor or message that can't be taken as it is."""

    sqlstate = "22023"


class DataError(UserError):
    """The statement is well formed, but failed on the data (a cast, a division, an overflow)."""

    sqlstate = "22000"


class DivisionByZero(UserError):
    """A number was divided by zero, which the statement's dialect takes for an error."""

    sqlstate = "22012"


class ConstraintViolation(UserError):
    """A row breaks a constraint of its table that is of no kind named here."""

    sqlstate = "23000"


class NotNullViolation(UserError):
    """A column that must have a value got none."""

    sqlstate = "23502"


class ForeignKeyViolation(UserError):
    """A row refers to none, or others refer to a row that would go."""

    sqlstate = "23503"


class UniqueViolation(UserError):
    """Another row has this key."""

    sqlstate = "23505"


class CheckViolation(UserError):
    """A row fails a CHECK."""

    sqlstate = "23514"


class DependentObjects(UserError):
    """Other tables depend on this one: change them first."""

    sqlstate = "2BP01"
    status = "FAILED_PRECONDITION"


class StatementTooComplex(UserError):
    """The text is longer or nested deeper than the server's limits: make it smaller.

    ``limit`` is the setting that it exceeds.
    """

    sqlstate = "54001"

    def __init__(self, message: str, *, hint: str = "", limit: str = "sql.statement_depth") -> None:
        super().__init__(message, hint=hint)
        self.limit = limit


class PlanningTimeout(UserError):
    """The statement takes too long to be understood: make it simpler."""

    sqlstate = "54001"


class InvalidTransaction(UserError):
    """The transaction's state doesn't allow this: end it and start another."""

    sqlstate = "25000"
    status = "FAILED_PRECONDITION"


class ReadOnlyViolation(UserError):
    """The object can't be written this way."""

    sqlstate = "25006"
    status = "FAILED_PRECONDITION"


class DuplicateTable(UserError):
    """A table of that name exists: choose another name or mode."""

    sqlstate = "42P07"
    status = "ALREADY_EXISTS"


class SequenceNoLongerKept(UserError):
    """The position asked for has left the history: start from a snapshot."""

    sqlstate = "22003"
    status = "OUT_OF_RANGE"


class UndefinedTable(UserError):
    """No such table for this principal; says the same of an absent one and of one that may not be seen."""

    sqlstate = "42P01"
    status = "NOT_FOUND"


class InvalidStatementHandle(UserError):
    """The handle or ticket is unknown, expired or another principal's: prepare or plan again."""

    sqlstate = "26000"
    status = "NOT_FOUND"


class UnknownTransaction(UserError):
    """The transaction id is unknown, ended or another session's: begin a new one."""

    sqlstate = "25P01"
    status = "NOT_FOUND"


class UnsupportedFeature(UserError):
    """The server does not do this; the message names what to do in its stead where there is something."""

    sqlstate = "0A000"
    status = "UNIMPLEMENTED"


class InvalidCredentials(UserError):
    """User name or password is wrong: log in with others."""

    sqlstate = "28P01"
    status = "UNAUTHENTICATED"


class InvalidToken(UserError):
    """No credential, or a token that is malformed, expired or revoked: log in again."""

    sqlstate = "28000"
    status = "UNAUTHENTICATED"


class AccessDenied(UserError):
    """The principal sees the object but may not do this to it: ask for the grant."""

    sqlstate = "42501"
    status = "PERMISSION_DENIED"


class QueueFull(ResourceError):
    """Too many statements wait already: repeat after a pause."""

    sqlstate = "53300"


class SessionLimit(ResourceError):
    """The user has as many sessions as allowed: close one."""

    sqlstate = "53300"


class DiskFull(ResourceError):
    """The server's disk takes no more: nothing of this call was stored."""

    sqlstate = "53100"


class LimitReached(ResourceError):
    """The caller has as many of something as its administrator allows: use what there is, or ask for a higher limit."""

    sqlstate = "53400"


class ResultTooLarge(ResourceError):
    """A result, row or message is larger than the server sends or takes: ask for less."""

    sqlstate = "54000"


class SlowReader(ResourceError):
    """A subscriber reads more slowly than rows come: read faster, or ask for less."""

    sqlstate = "54000"


class StatementTimeout(ResourceError):
    """The statement ran longer than it may: ask for less, or for a longer limit."""

    sqlstate = "57014"
    status = "DEADLINE_EXCEEDED"


class StatementCancelled(ResourceError):
    """Somebody who may do so cancelled the statement."""

    sqlstate = "57014"
    status = "CANCELLED"


class PolicyChanged(ResourceError):
    """What the caller may do has changed while the answer was on its way: ask again, under the policy as it is now."""

    sqlstate = "57000"
    status = "ABORTED"


class SerializationFailure(ResourceError):
    """Two transactions met on the same rows: repeat the whole transaction."""

    sqlstate = "40001"
    status = "ABORTED"


class EngineUnavailable(ExternalError):
    """The engine behind the server does not answer: repeat later."""

    sqlstate = "08006"


class ProviderUnavailable(ExternalError):
    """The keys of the identity provider that issued the token can't be had: repeat later."""

    sqlstate = "08001"


class RowsLost(ExternalError):
    """The stored data lacks rows that were acknowledged: restore a backup."""

    sqlstate = "XX001"


class ServerShuttingDown(ExternalError):
    """The server is stopping: connect to another, or later."""

    sqlstate = "57P01"


class InternalError(ServerError):
    """A defect of the server. ``incident`` is the number under which its log holds the cause."""

    def __init__(self, incident: str | None = None) -> None:
        self.incident = incident or secrets.token_hex(6)
        super().__init__(
            f"The server failed on this call (incident {self.incident}).",
            hint="Its administrator finds the cause in the server's log under this number.",
        )
