"""Which schema this release needs, and whether a database has it."""

from __future__ import annotations

from collections.abc import Sequence

from todo_schema.errors import SchemaVersionError, logger
from todo_schema.operation import Query, Row

SCHEMA_VERSION = "0017.index-conversations-messages"
"""The newest migration that this release was made for."""

_MIGRATE = "run: python -m scripts migrate"


def version_query(*, exact: bool) -> Query[str]:
    """Return the query of `check_schema`.

    A newer database is accepted unless `exact`: a release has to run on the schema of the next one
    while that is deployed.
    """

    def decode(rows: Sequence[Row]) -> str:
        found: str | None = rows[0][0]
        if found is None:
            raise SchemaVersionError(f"The database has no migrations; {_MIGRATE}")
        if found < SCHEMA_VERSION:
            raise SchemaVersionError(
                f"The database is at {found}, this release needs {SCHEMA_VERSION}; {_MIGRATE}"
            )
        if found > SCHEMA_VERSION:
            message = f"The database is at {found}, newer than {SCHEMA_VERSION} of this release"
            if exact:
                raise SchemaVersionError(f"{message}; install a newer todo-schema")
            logger.warning("%s", message)
        return found

    return Query("schema_version", "select schema_version()", {}, decode)
