"""yoyo's bookkeeping on the runner's own connection, so that a mark commits with its statements."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import psycopg
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.migrations import Migration, default_migration_table

from scripts.runner.origin import Origin


class Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo publishes no types
    """yoyo's psycopg backend without its own connections, lock row and probe table.

    Parameters
    ----------
    connection : in autocommit mode, its `search_path` set to public
    origin : who runs it
    """

    def __init__(self, connection: psycopg.Connection, origin: Origin) -> None:
        self._connection = connection
        self._origin = origin
        self._is_locked = True  # by the runner's lock
        self.migration_table = default_migration_table
        self.DatabaseError = psycopg.DatabaseError

    def list_tables(self, **_: Any) -> list[str]:
        """Return the tables in public, by which yoyo knows the version of its own tables."""
        query = "select tablename from pg_tables where schemaname = 'public'"
        return [name for (name,) in self._connection.execute(query)]

    def get_log_data(self, migration: Any = None, operation: str = "apply") -> dict[str, Any]:
        """Return yoyo's log entry; yoyo's own asks the name service, which may hang."""
        return {
            "id": str(uuid.uuid1()),
            "migration_id": migration.id if migration else None,
            "migration_hash": migration.hash if migration else None,
            "username": self._origin.os_user,
            "hostname": self._origin.host,
            "created_at_utc": datetime.now(UTC).replace(tzinfo=None),
            "operation": operation,
        }

    def record(self, id_: str, *, applying: bool) -> None:
        """Mark or unmark a migration and log it, in the caller's transaction."""
        migration = Migration(id_, "", "")
        (self.mark_one if applying else self.unmark_one)(migration, log=False)
        self.log_migration(migration, "apply" if applying else "rollback")
