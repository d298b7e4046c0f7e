"""One runner at a time, by an advisory lock that goes with its session."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row

from scripts.errors import refuse

KEY = 0x6D69_6772_6174_6500
"""Of the advisory lock: "migrate" in ASCII. Advisory locks are per database."""

POLL = 0.2
"""Seconds between attempts. A waiting pg_advisory_lock would hold a snapshot, for which the other
run's CREATE INDEX CONCURRENTLY waits: a deadlock."""

HOLDER = """
select a.pid, a.application_name as application, a.usename as role, a.backend_start as since
from pg_locks as l
join pg_stat_activity as a using (pid)
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
    and l.database = (select oid from pg_database where datname = current_database())
    and (l.classid::bigint << 32) | l.objid::bigint = %s
"""


@contextmanager
def migration_lock(
    connection: psycopg.Connection, *, wait: float, emit: Callable[..., None]
) -> Iterator[None]:
    """Hold the database's migration lock.

    Parameters
    ----------
    connection : direct; the lock goes when it closes
    wait : seconds to wait for another run
    emit : told once, by the event `waiting`, that another run holds the lock

    Raises
    ------
    ToolError : another run held it all that time (code `locked`)
    """
    end = time.monotonic() + wait
    told = False
    while not _try(connection):
        holder = _holder(connection)
        if time.monotonic() >= end:
            raise refuse(
                "locked",
                f"another run holds the migration lock: {describe(holder)}",
                fix="wait for it to end, or raise --lock-wait",
            )
        if not told:
            emit("waiting", **{"for": "the migration lock", "holder": holder})
            told = True
        time.sleep(min(POLL, max(0.0, end - time.monotonic())))
    try:
        yield
    finally:
        if not connection.closed and connection.info.transaction_status == 0:
            connection.execute("select pg_advisory_unlock(%s)", [KEY])


def describe(holder: dict[str, Any] | None) -> str:
    """Return the holder in words."""
    if holder is None:
        return "it has just gone"
    return "process {pid}, {application}, role {role}, connected since {since:%H:%M:%S}".format(
        **holder
    )


def _try(connection: psycopg.Connection) -> bool:
    row = connection.execute("select pg_try_advisory_lock(%s)", [KEY]).fetchone()
    return bool(row and row[0])


def _holder(connection: psycopg.Connection) -> dict[str, Any] | None:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(HOLDER, [KEY]).fetchone()
