"""A database that plans like a big one: its statistics, files of its size, and no rows."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from scripts.address import Address
from scripts.catalog.model import BOOKKEEPING
from scripts.database import connect
from scripts.errors import refuse
from scripts.plans.statistics import Statistics, restore_indexes, restore_tables
from scripts.scratch import scratch_database
from scripts.server import local_server

BLOCK = 8192
SEGMENT = 131_072
"""Blocks of a relation's file before it goes on in the next one: a gigabyte."""

INNER = 1.45
"""Entries of a B-tree's inner page for each of a leaf's, whose entries are whole: measured on ten
indexes of the reference data."""

BTREES = """
select relname, reltuples, relpages
from pg_class
where
    relnamespace = 'public'::regnamespace
    and relkind = 'i'
    and relam = (select oid from pg_am where amname = 'btree')
"""

EVICT = """
select pg_relation_filepath(oid), count(twin.pg_buffercache_evict(bufferid))
from pg_class
left join twin.pg_buffercache as b
    on b.relfilenode = pg_relation_filenode(oid)
    and b.reldatabase = (select oid from pg_database where datname = current_database())
    and b.relblocknumber = 0
where relnamespace = 'public'::regnamespace and relname = %s
group by oid
"""

TABLES = """
select relname
from pg_class
where relnamespace = 'public'::regnamespace and relkind = 'r' and not relname = any (%s)
order by 1
"""

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
def twin(build: Callable[[Address], object], statistics: Statistics) -> Iterator[Address]:
    """Give an empty database that the planner takes for one with these statistics; drop it then.

    It is the superuser's address, who may become every role that sends a statement.

    The planner takes a table's size from its files' lengths: they grow by holes, which take no
    disk, and planning reads nothing of them but an index's first page. Nothing may execute a
    statement there.

    Parameters
    ----------
    build : makes the schema, without rows
    statistics : what the database shall look like

    Raises
    ------
    ToolError : the local server is older than PostgreSQL 18 (code `local-server`), `build` fails,
        or the statistics tell nothing of one of its tables (code `bad-statistics`)
    """
    with scratch_database() as address:
        build(address)
        superuser = local_server().superuser.with_(dbname=address.database)
        with connect(superuser, purpose="plans") as connection:
            if connection.info.server_version < 180_000:
                raise refuse(
                    "local-server",
                    "restoring statistics needs PostgreSQL 18 on the local server",
                    fix="make clean, then make up",
                )
            known = connection.execute(TABLES, [[*BOOKKEEPING, *statistics.tables]]).fetchall()
            if known:
                raise refuse(
                    "bad-statistics",
                    f"the statistics tell nothing of table {known[0][0]}",
                    fix="describe it, in sql/statistics.json or what --statistics names",
                )
            connection.execute(QUIET)
            restore_tables(connection, statistics)
            grow(connection)
            restore_indexes(connection, statistics)
            grow(connection)
            plant(connection, estimated_heights(connection))
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


def estimated_heights(connection: psycopg.Connection) -> dict[str, int]:
    """Return how high the B-trees of a database should be, by name; a leaf alone is 0."""
    heights = {}
    for name, rows, pages in connection.execute(BTREES).fetchall():
        if pages > 2:
            heights[name] = math.ceil(math.log(pages) / math.log(max(2, INNER * rows / pages)))
    return heights


def plant(connection: psycopg.Connection, heights: Mapping[str, int]) -> None:
    """Make empty B-trees of a local database as high as the planner shall take them for.

    It reads the height from an index's first page, and it decides between plans that cost nearly
    the same. The root, the second page, becomes an empty leaf of that height: what looks into the
    index while planning finds nothing.

    Parameters
    ----------
    connection : of the superuser, after `grow`
    heights : levels above the leaves, by the index's name
    """
    connection.execute("create schema twin; create extension pg_buffercache schema twin")
    connection.execute("checkpoint")
    (folder,) = connection.execute("show data_directory").fetchone() or ("",)
    for name, height in heights.items():
        (file, _) = connection.execute(EVICT, [name]).fetchone() or ("", 0)
        with (Path(folder) / file).open("r+b") as index:
            page = bytearray(index.read(BLOCK))
            # BTMetaPageData: after magic number and version root, level, fast root and its level.
            struct.pack_into("<4I", page, 32, 1, height, 1, height)
            index.seek(0)
            index.write(page + _empty_leaf(height))


def _empty_leaf(level: int) -> bytes:
    """Return a B-tree's page without entries, as PageHeaderData and BTPageOpaqueData have it."""
    special = BLOCK - 16
    header = struct.pack("<Q6HI", 0, 0, 0, 24, special, special, BLOCK | 4, 0)
    leaf_and_root = 3
    return header + bytes(special - 24) + struct.pack("<3I2H", 0, 0, level, leaf_and_root, 0)
