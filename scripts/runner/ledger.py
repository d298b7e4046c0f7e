"""What the database knows of migrations: yoyo's tables, and our append-only history beside them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row, dict_row

from scripts import TOOL_VERSION
from scripts.runner.files import Migration, Script
from scripts.runner.origin import read_origin

OPERATIONS = "check (operation in ('apply', 'rollback', 'restore-point'))"

# `lsn` is where the next record of the WAL goes: all that is committed by then comes before it, and
# nothing else does.
HISTORY = f"""
create table if not exists public.migration_history (
    id bigint generated always as identity,
    migration_id text not null,
    operation text not null,
    started_at timestamptz not null,
    duration_ms bigint not null,
    os_user text not null,
    role text not null default current_user,
    host text not null,
    application text not null default current_setting('application_name'),
    git_commit text,
    git_clean boolean,
    checksum text not null,
    tool_version text not null,
    server_version text not null default current_setting('server_version'),
    lsn pg_lsn default pg_current_wal_insert_lsn(),
    constraint migration_history_pkey primary key (id),
    constraint migration_history_operation_check {OPERATIONS}
);
"""

# The owner gives up changing it: a record that can be rewritten proves nothing.
APPEND_ONLY = """
revoke update, delete, truncate on public.migration_history from current_user;
"""

# Of a table that was made before there were restore points; older entries have no LSN.
UPGRADE = f"""
alter table public.migration_history add column lsn pg_lsn;
alter table public.migration_history alter column lsn set default pg_current_wal_insert_lsn();
alter table public.migration_history drop constraint migration_history_operation_check;
alter table public.migration_history add constraint migration_history_operation_check {OPERATIONS};
"""

# An apply that yoyo itself made after a rollback of ours has no checksum of ours.
APPLIED = """
select
    m.migration_id as id,
    m.applied_at_utc at time zone 'UTC' as applied_at,
    case h.operation when 'apply' then h.checksum end as checksum
from public._yoyo_migration as m
left join (
    select distinct on (migration_id) migration_id, operation, checksum
    from public.migration_history
    where operation <> 'restore-point'
    order by migration_id, id desc
) as h using (migration_id)
order by m.migration_id
"""

APPLIED_BY_YOYO = """
select migration_id as id, applied_at_utc at time zone 'UTC' as applied_at, null as checksum
from public._yoyo_migration
order by migration_id
"""


@dataclass(frozen=True)
class Applied:
    """An applied migration; the checksum is None where another tool applied it."""

    id: str
    applied_at: datetime
    checksum: str | None


def read_applied(connection: psycopg.Connection) -> dict[str, Applied]:
    """Return the applied migrations by id, in order; writes nothing."""
    if not _exists(connection, "_yoyo_migration"):
        return {}
    query = APPLIED if _exists(connection, "migration_history") else APPLIED_BY_YOYO
    with connection.cursor(row_factory=class_row(Applied)) as cursor:
        return {row.id: row for row in cursor.execute(query)}


def read_history(connection: psycopg.Connection, limit: int) -> list[dict[str, Any]]:
    """Return the newest entries of the history, at most `limit`, newest first."""
    if not _exists(connection, "migration_history"):
        return []
    with connection.cursor(row_factory=dict_row) as cursor:
        query = "select * from public.migration_history order by id desc limit %s"
        return cursor.execute(query, [limit]).fetchall()


def protect_history(connection: psycopg.Connection) -> None:
    """Make the history append-only for its owner, where a restore has made it."""
    if _exists(connection, "migration_history"):
        connection.execute(APPEND_ONLY)


class Ledger:
    """Writes what the runner did; one for a run.

    Parameters
    ----------
    connection : the run's connection; marks and entries join its transaction
    """

    def __init__(self, connection: psycopg.Connection) -> None:
        # Here, for only writers need it: importing it costs the readers 0.2 s.
        from scripts.runner.yoyo_backend import Backend  # noqa: PLC0415

        self._connection = connection
        self._origin = read_origin()
        self._yoyo = Backend(connection, self._origin)

    def prepare(self) -> None:
        """Make the tables that are missing, yoyo's by yoyo's own code."""
        self._yoyo.ensure_internal_schema_updated()
        if not _exists(self._connection, "migration_history"):
            self._connection.execute(HISTORY + APPEND_ONLY)
        query = "select from pg_attribute where attrelid = %s::regclass and attname = 'lsn'"
        if not self._connection.execute(query, ["public.migration_history"]).rowcount:
            with self._connection.transaction():
                self._connection.execute(UPGRADE)

    def record_restore_point(self, newest: str) -> tuple[datetime, str]:
        """Record the moment before a run; return its time and its LSN.

        Parameters
        ----------
        newest : the newest applied migration; empty where nothing is applied
        """
        row = self._connection.execute(
            "select clock_timestamp(), pg_current_wal_insert_lsn()"
        ).fetchone()
        assert row
        at, lsn = row
        about = {"migration_id": newest or "none", "operation": "restore-point", "checksum": ""}
        self._insert({**about, "started_at": at, "duration_ms": 0, "lsn": lsn})
        return at, lsn

    def record(
        self, migration: Migration, script: Script, started_at: datetime, duration_ms: int
    ) -> None:
        """Mark and log one file that has run, in the caller's transaction.

        Parameters
        ----------
        migration, script : the migration, and its forward or its rollback file
        started_at, duration_ms : when it began, and how long its statements took
        """
        applying = script is migration.forward
        self._yoyo.record(migration.id, applying=applying)
        self._insert(
            {
                "migration_id": migration.id,
                "operation": "apply" if applying else "rollback",
                "started_at": started_at,
                "duration_ms": duration_ms,
                "checksum": script.checksum,
            }
        )

    def _insert(self, entry: dict[str, Any]) -> None:
        row = {**entry, "tool_version": TOOL_VERSION, **asdict(self._origin)}
        names = ", ".join(row)
        values = ", ".join(["%s"] * len(row))
        query = f"insert into public.migration_history ({names}) values ({values})"
        self._connection.execute(query, list(row.values()))


def _exists(connection: psycopg.Connection, table: str) -> bool:
    row = connection.execute("select to_regclass(%s) is not null", [f"public.{table}"]).fetchone()
    return bool(row and row[0])
