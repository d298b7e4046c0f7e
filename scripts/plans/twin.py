"""A database that plans like a big one: its statistics, files of its size, and no rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from scripts.address import Address
from scripts.database import connect
from scripts.errors import refuse
from scripts.plans.statistics import Statistics, restore_indexes, restore_tables
from scripts.scratch import scratch_database
from scripts.server import LocalServer, local_server

BLOCK = 8192
SEGMENT = 131_072
"""Blocks of a relation's file before it goes on in the next one: a gigabyte."""

RELATIONS = """
select pg_relation_filepath(oid), relpages
from pg_class
where relnamespace = 'public'::regnamespace and relkind in ('r', 'i') and relpages > 0
"""

QUIET = """
do $$
declare
    name regclass;
begin
    for name in
        select oid from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
    loop
        execute format('alter table %s set (autovacuum_enabled = off)', name);
    end loop;
end $$
"""


@contextmanager
def twin(
    build: Callable[[Address], object],
    statistics: Statistics,
    server: LocalServer | None = None,
) -> Iterator[Address]:
    """Give an empty database that the planner takes for one with these statistics; drop it then.

    It is the superuser's address, who may become every role that sends a statement.

    The planner takes a table's size from its files' lengths: they grow by holes, which take no
    disk, and planning never reads them. Nothing may execute a statement there.

    Parameters
    ----------
    build : makes the schema, without rows
    statistics : what the database shall look like
    server : the local one by default; PostgreSQL 18 or newer

    Raises
    ------
    ToolError : the server is older (code `local-server`), or `build` fails
    """
    server = server or local_server()
    with scratch_database(server) as address:
        build(address)
        superuser = server.superuser.with_(dbname=address.database)
        with connect(superuser, purpose="plans") as connection:
            if connection.info.server_version < 180_000:
                raise refuse(
                    "local-server",
                    "restoring statistics needs PostgreSQL 18 on the local server",
                    fix="make clean, then make up",
                )
            connection.execute(QUIET)
            restore_tables(connection, statistics)
            grow(connection)
            restore_indexes(connection, statistics)
            grow(connection)
        yield superuser


def grow(connection: psycopg.Connection) -> None:
    """Make the files of a local database as long as its statistics say, by holes.

    Parameters
    ----------
    connection : of the superuser
    """
    # What the server has not written yet would be written over the holes, or cut them off.
    connection.execute("checkpoint")
    (folder,) = connection.execute("show data_directory").fetchone() or ("",)
    for name, pages in connection.execute(RELATIONS).fetchall():
        first = Path(folder) / name
        owner = first.stat()
        for number in range(-(-pages // SEGMENT)):
            path = first.with_name(f"{first.name}.{number}") if number else first
            size = min(SEGMENT, pages - number * SEGMENT) * BLOCK
            with path.open("ab") as file:
                if file.tell() < size:
                    file.truncate(size)
            if number:
                os.chown(path, owner.st_uid, owner.st_gid)
                path.chmod(0o600)
