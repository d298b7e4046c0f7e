"""Loads designs with the same reference data, row by row, each into a database of its own."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import psycopg
from psycopg import sql

from scripts.address import Address
from scripts.database import connect
from scripts.errors import refuse
from scripts.runner.run import migrate
from scripts.scratch import scratch_database
from scripts.server import LocalServer
from scripts.settings import project
from scripts.workload.designs import Design
from scripts.workload.seed import Load

SETTINGS = {
    # Pages count where they are touched, not where they are written back; what a checkpoint happens
    # to write in full would drown a statement's own WAL.
    "full_page_writes": "off",
    "autovacuum": "off",
    "fsync": "off",
    "synchronous_commit": "off",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "shared_buffers": "1GB",
    "maintenance_work_mem": "256MB",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}
"""Of the bench's own server."""

CHUNK = 50_000
"""Tasks in a transaction of a load: what an interruption loses."""

BYTES_PER_TASK = 1_300
"""Disk that one design takes while it is loaded, the most of those tried."""

TASKS_PER_USER = 129.7
"""1% of the users with 10,000 tasks, the rest with 30."""

REFERENCE = """
create {0}table "{1}user" (
    id text primary key, name text, email text, "emailVerified" boolean
);
create {0}table {1}tasks (
    id bigint primary key generated always as identity, user_id text, title text, description text,
    status text, priority text, due_date date, tags text[], created_at timestamptz,
    updated_at timestamptz
)
"""
"""The bare tables of the reference data, and those that a design's load reads: `incoming_…`."""

PROGRESS = """
create table bench_load as
select 0::bigint as done, 0::float8 as rate, 0::float8 as wal, 0::float8 as grown
"""
"""A load's record in its own database, written with each chunk."""

ANY_VALUES = {
    **dict.fromkeys(("user", "title", "description", "typed"), "x"),
    **dict.fromkeys(("id", "newest_after", "priority_after", "undated_after"), 1),
    **dict.fromkeys(("limit", "offset", "priority_after_rank"), 1),
}
"""What every statement may ask for."""


@dataclass(frozen=True)
class Loaded:
    """A loaded design: where it is; of its last chunk the rate and WAL per task; bytes as grown."""

    address: Address
    rows_per_second: float
    wal: float
    grown: float


@dataclass(frozen=True)
class Loader:
    """Loads designs with the same reference data, each into a database of its own.

    Parameters
    ----------
    server : the bench's own server, running, with SETTINGS
    tasks : how many, in all; the users follow from it
    progress : told what is loaded, how many tasks more of it there are, and how many it will be
    """

    server: LocalServer
    tasks: int
    progress: Callable[[str, int, int], None]

    @cached_property
    def load(self) -> Load:
        """The reference data: the demo data of seed 1, its tasks alone."""
        address = self.server.address(project().local_owner, f"reference_{self.tasks}")
        users = max(1, round(self.tasks / TASKS_PER_USER))
        return Load.of(address, users=users, tasks=self.tasks, seed=1)

    def need(self, designs: int) -> int:
        """Return the bytes of disk that loading takes, at the most, beyond what is there."""
        there = f"""
            select coalesce(sum(pg_database_size(oid)), 0)::bigint
            from pg_database
            where datname ~ '_{self.tasks}$'
        """
        with connect(self.server.superuser, purpose="bench") as connection:
            (present,) = _row(connection, there)
        return max(0, self.tasks * BYTES_PER_TASK * (designs + 1) - int(present))

    def check_disk(self, designs: int) -> str:
        """Return what loading needs and what there is, in words; ToolError `disk`: too little."""
        need, free = self.need(designs), shutil.disk_usage(self.server.home).free
        told = f"needs up to {need / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free"
        if need > free:
            raise refuse(
                "disk", told, fix="fewer --tasks or --against; clean removes what earlier runs kept"
            )
        return told

    def reference(self) -> Address:
        """Load the reference data into bare tables, from where an earlier run stopped."""
        load = self.load

        def make(connection: psycopg.Connection) -> None:
            connection.execute(REFERENCE.format("", "").encode())
            with load.session() as session:
                session.execute(load.queries["users"], load.plan)

        self._database("reference", "".join([REFERENCE, *load.queries.values()]), make)
        load.slices(
            {"tasks": 0}, lambda count: self.progress("reference", count, self.tasks), resume=True
        )
        with connect(load.address, purpose="bench") as connection:
            connection.execute(load.queries["analyze"])
        return load.address

    def design(self, design: Design) -> Loaded:
        """Load a design in the order of the tasks' ids, with all its indexes; then rebuild them.

        Every chunk commits with its record, so that the next run goes on from there.
        """
        files = sorted(project().migrations.glob("*.sql")) if design.migrated else []
        made_by = [f.read_text("utf-8") for f in files if not f.name.endswith(".rollback.sql")]
        made_by += [design.schema, design.parts["load users"], design.parts["load tasks"]]
        made_by += [REFERENCE, *self.load.queries.values()]

        def make(connection: psycopg.Connection) -> None:
            _make_tables(design, connection)
            with connect(self.load.address, purpose="bench") as reference:
                _copy(reference, "user", "true", connection)
            connection.execute(design.parts["load users"].encode())
            connection.execute(PROGRESS)

        address = self._database(design.name, "".join(made_by), make)
        with (
            connect(address, purpose="bench") as connection,
            connect(self.load.address, purpose="bench") as reference,
        ):
            connection.execute("vacuum")  # what an interrupted chunk left would stay as a hole
            done, grown = _row(connection, "select done, grown from bench_load")
            self.progress(design.name, done, self.tasks)
            while done < self.tasks:
                began = time.monotonic()
                upto = min(done + CHUNK, self.tasks)
                with connection.transaction():
                    _copy(reference, "tasks", f"id > {done} and id <= {upto}", connection)
                    (position,) = _row(connection, "select pg_current_wal_insert_lsn()")
                    connection.execute(design.parts["load tasks"].encode())
                    connection.execute(
                        "update bench_load set done = %s, rate = %s, "
                        "wal = (pg_current_wal_insert_lsn() - %s) / %s",
                        [upto, (upto - done) / (time.monotonic() - began), position, upto - done],
                    )
                self.progress(design.name, upto - done, self.tasks)
                done = upto
            if not grown:
                next_id = "select setval(pg_get_serial_sequence('tasks', 'id'), %s)"
                connection.execute(next_id, [self.tasks])
                grown = sum(size for _, size in sizes(connection)) / self.tasks
                connection.execute("update bench_load set grown = %s", [grown])
            # Each run begins with the same pages, whatever an earlier one has split.
            connection.execute("reindex database")
            # With few dead rows a vacuum leaves their index entries, and pages not all-visible.
            connection.execute("vacuum (analyze, index_cleanup on)")
            rate, wal, grown = _row(connection, "select rate, wal, grown from bench_load")
        self.server.allow_logins()
        return Loaded(address, rate, wal, grown)

    def _database(
        self, name: str, made_by: str, make: Callable[[psycopg.Connection], None]
    ) -> Address:
        """Return the database of that name and size, made anew where other SQL made it.

        Its comment tells which SQL did, and is written when all of it has.
        """
        owner, name = project().local_owner, f"{name}_{self.tasks}"
        address = self.server.address(owner, name)
        digest = hashlib.sha256(made_by.encode()).hexdigest()
        with connect(self.server.superuser, purpose="bench") as connection:
            known = connection.execute(
                "select shobj_description(oid, 'pg_database') from pg_database where datname = %s",
                [name],
            ).fetchone()
            if known != (digest,):
                self.server.recreate_database(name, owner)
                with connect(address, purpose="bench") as inside:
                    make(inside)
                comment = sql.SQL("comment on database {} is {}")
                connection.execute(comment.format(sql.Identifier(name), sql.Literal(digest)))
        return address


def check(server: LocalServer, design: Design) -> None:
    """Make a design's tables and plan its statements, in a database that is dropped again.

    Raises
    ------
    ToolError : PostgreSQL refuses the tables or a statement (code `bad-design`)
    """
    part = "schema.sql"
    with (
        scratch_database(server) as address,
        connect(address, purpose="bench") as connection,
    ):
        try:
            _make_tables(design, connection)
            connection.execute(REFERENCE.format("temporary ", "incoming_").encode())
            cursor = psycopg.ClientCursor(connection)
            for name, statement in design.parts.items():
                part = f"bench.sql, part {name}"
                cursor.execute(f"explain {statement}".encode(), ANY_VALUES)
        except psycopg.Error as error:
            message = error.diag.message_primary or str(error)
            raise refuse(
                "bad-design",
                f"{design.name}/{part}: {message}",
                fix="mend it; scripts/README.md tells what a part is given",
            ) from None


def sizes(connection: psycopg.Connection) -> list[tuple[str, int]]:
    """Return every table with rows and its indexes, with their bytes; not the users' table."""
    return connection.execute(
        """
        select
            c.relname,
            case c.relkind when 'r' then pg_table_size(c.oid) else pg_relation_size(c.oid) end
        from pg_class as c
        left join pg_index as i on i.indexrelid = c.oid
        join pg_class as t on t.oid = coalesce(i.indrelid, c.oid)
        where
            c.relnamespace = 'public'::regnamespace
            and c.relkind in ('r', 'i')
            and t.relname !~ '^(user$|bench_load$|migration|_?yoyo)'
            and pg_relation_size(t.oid) > 0
        order by t.relname, c.relname
        """
    ).fetchall()


def _make_tables(design: Design, connection: psycopg.Connection) -> None:
    if design.migrated:
        migrate(connection, project().migrations, roles=project().roles, check_seal=False)
    connection.execute(design.schema.encode())


def _copy(
    source: psycopg.Connection, table: str, condition: str, target: psycopg.Connection
) -> None:
    """Copy rows of the reference into the temporary tables, which are made anew."""
    target.execute('drop table if exists pg_temp."incoming_user", pg_temp.incoming_tasks')
    target.execute(REFERENCE.format("temporary ", "incoming_").encode())
    reader = f'copy (select * from "{table}" where {condition}) to stdout (format binary)'
    writer = f'copy "incoming_{table}" from stdin (format binary)'
    with (
        source.cursor().copy(reader.encode()) as incoming,
        target.cursor().copy(writer.encode()) as outgoing,
    ):
        for data in incoming:
            outgoing.write(data)
    target.execute(f'analyze "incoming_{table}"'.encode())


def _row(connection: psycopg.Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row
    return row
