"""What can go wrong, as a small tree: raised by the package, mapped from what PostgreSQL says.

A message is fit for users: it names no table, statement, value or address. The cause is kept in
`__cause__`, for the log and for debugging.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import DBAPIError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from todo_schema.tables import metadata

logger: logging.Logger = logging.getLogger("todo_schema")

FAILED: str = "The transaction failed before; roll it back."


class TodoError(Exception):
    """The operation failed.

    Parameters
    ----------
    message : what happened, fit for users; the class's own first sentence by default
    """

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").partition("\n")[0]
        super().__init__(self.message)


class ConfigurationError(TodoError):
    """The application is not configured to reach its database safely."""


class SchemaVersionError(TodoError):
    """The database's schema is not the one that this release needs."""


class UnavailableError(TodoError):
    """The database cannot answer now; try again."""


class PermissionDeniedError(TodoError):
    """This is not allowed."""


class ConflictError(TodoError):
    """Something else changed at the same time; try again."""


class UnknownUserError(TodoError):
    """There is no such user."""


class NotFoundError(TodoError):
    """There is no such thing of this user's.

    Parameters
    ----------
    kind : `task`, `conversation` or `message`
    ids : those that are not the user's, ascending
    """

    def __init__(self, kind: str, ids: Sequence[int]) -> None:
        self.kind = kind
        self.ids = list(ids)
        more = f" and {len(self.ids) - 10} more" if len(self.ids) > 10 else ""
        shown = ", ".join(str(id_) if id_.bit_length() < 65 else "…" for id_ in self.ids[:10])
        which = f"No {kind} with id {shown}{more}."
        super().__init__(which if self.ids else f"No such {kind}.")


class InvalidError(TodoError):
    """A value is not valid.

    Parameters
    ----------
    field : the argument or the column, or None where the database does not tell
    rule : which rule it breaks, the same word from a schema and from the database: `required`,
        `type`, `length`, `blank`, `characters`, `choice`, `range`, `count`, `items`,
        `contradiction`
    message : what is wrong, fit for users
    """

    def __init__(self, field: str | None, rule: str, message: str | None = None) -> None:
        self.field = field
        self.rule = rule
        super().__init__(message or f"{field or 'A value'} {RULES.get(rule, 'is not valid')}.")


class CursorError(InvalidError):
    """The cursor is not good for this list; ask for its first page.

    Parameters
    ----------
    message : why it is not
    """

    def __init__(self, message: str) -> None:
        super().__init__("cursor", "cursor", f"{message}; ask for the first page")


#: What a value that breaks a rule is told, after the field's name.
RULES: dict[str, str] = {
    "required": "must not be null",
    "type": "has the wrong type",
    "length": "is too short or too long",
    "blank": "must not be blank",
    "characters": "has characters that cannot be stored",
    "choice": "is none of the possible values",
    "range": "is out of range",
    "count": "has too many items",
    "items": "has an item that is blank, too long or there twice",
    "contradiction": "contradicts status",
    "unknown": "is not a field",
}

# A constraint is named table_column_rule_check, or table_column_check for the one rule of a column.
_ONLY_RULE = {"due_date": "range"}


def translate(error: BaseException) -> TodoError | None:
    """Return the error of the tree for one of SQLAlchemy's or the driver's; log what it was.

    Decided by SQLSTATE first and the constraint's name second, by its beginning: a distributed
    table adds a suffix to it.

    Parameters
    ----------
    error : what was raised

    Returns
    -------
    The error to raise from it, or None where it is not the database's.
    """
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, PoolTimeoutError):
        found: TodoError = UnavailableError("All connections are in use; try again.")
    elif isinstance(original, psycopg.Error):
        found = _of_driver(original)
    elif isinstance(original, UnicodeEncodeError):
        found = InvalidError(None, "characters")
    elif isinstance(error, PendingRollbackError):
        found = ConflictError(FAILED)
    elif isinstance(error, SQLAlchemyError):
        found = TodoError()
    else:
        return None
    state = getattr(original, "sqlstate", None)
    logger.log(
        logging.INFO if isinstance(found, InvalidError | UnknownUserError) else logging.WARNING,
        "%s: %s%s",
        type(found).__name__,
        type(original).__name__,
        f" ({state})" if state else "",
    )
    return found


@contextmanager
def translated() -> Iterator[None]:
    """Raise what the database refuses inside the block as an error of the tree."""
    try:
        yield
    except Exception as error:
        if found := translate(error):
            raise found from (error.orig if isinstance(error, DBAPIError) else error)
        raise


def _of_driver(error: psycopg.Error) -> TodoError:
    state = error.sqlstate or ""
    constraint = error.diag.constraint_name or ""
    found: TodoError
    if state == "23503":
        found = _of_foreign_key(constraint)
    elif state == "23514":
        found = InvalidError(*_of_check(constraint))
    elif state == "23502":
        found = InvalidError(error.diag.column_name, "required")
    elif isinstance(error, psycopg.DataError):
        # Without a state it is the driver that cannot send it.
        found = InvalidError(None, "type" if state else "characters")
    elif isinstance(error, psycopg.OperationalError) and not state:
        found = UnavailableError()
    else:
        kinds = (kind for states, kind in _BY_STATE.items() if state.startswith(states))
        error_class, message = next(kinds, (TodoError, None))
        found = error_class(message)
    return found


#: What is raised for SQLSTATEs that begin so; None for the class's own message.
_BY_STATE: dict[tuple[str, ...], tuple[type[TodoError], str | None]] = {
    ("23505",): (ConflictError, "This exists already."),
    ("40",): (ConflictError, None),
    ("25P02",): (ConflictError, FAILED),
    ("55P03",): (ConflictError, "Somebody else is changing this; try again."),
    ("57014",): (UnavailableError, "This took too long; try again."),
    ("42501",): (PermissionDeniedError, None),
    ("42P01", "42703", "42883", "3F000"): (
        SchemaVersionError,
        "The database lacks something that this release needs: python -m scripts migrate",
    ),
    # Of the classes: connection, resources, operator's intervention, a read-only server, its files.
    ("08", "53", "57P", "25006", "58"): (UnavailableError, None),
}


def _of_foreign_key(constraint: str) -> TodoError:
    if constraint.startswith("messages_conversation_id_fkey"):
        return NotFoundError("conversation", [])
    if re.match(r"(tasks|conversations)_user_id_fkey", constraint):
        return UnknownUserError()
    return ConflictError()


def _of_check(constraint: str) -> tuple[str | None, str]:
    """Return the field and the rule that a constraint's name tells."""
    for table in metadata.tables.values():
        for column in table.columns:
            prefix = f"{table.name}_{column.name}_"
            if constraint.startswith(prefix):
                rule = constraint.removeprefix(prefix).partition("_")[0]
                if rule == "check":
                    rule = _ONLY_RULE.get(column.name, "choice")
                return column.name, "type" if rule == "shape" else rule
    return None, "type"
