"""Physical designs under test: plain SQL, each loaded with the same reference data, row by row."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from scripts.address import Address
from scripts.database import connect
from scripts.errors import refuse
from scripts.runner.run import migrate
from scripts.server import LocalServer
from scripts.settings import ROOT, project
from scripts.workload.seed import Load, read_parts

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
create table if not exists "user" (id text, name text, email text, "emailVerified" boolean);
create table if not exists tasks (
    user_id text, id bigint primary key generated always as identity, title text, description text,
    status text, priority text, due_date date, tags text[], created_at timestamptz,
    updated_at timestamptz
)
"""


ON_TOP = "-- on: migrations\n"
"""First line of a `schema.sql` that changes this project's design; its parts change ours, too."""


@dataclass(frozen=True)
class Design:
    """A physical design: the statements of its `bench.sql` by name, and what makes its tables.

    `migrated` says that the migrations come first; `schema` is the SQL that follows.
    """

    name: str
    parts: dict[str, str]
    migrated: bool
    schema: str


def own_design() -> Design:
    """Return the design of this project's migrations, with the statements of `sql/bench.sql`."""
    return Design("ours", read_parts(ROOT / "sql" / "bench.sql"), True, "")


def read_design(folder: Path) -> Design:
    """Read a folder with `schema.sql` and `bench.sql`; the latter may be missing on top of ours.

    Raises
    ------
    ToolError : a file or a part that loads the data is missing (code `bad-design`)
    """
    file = folder / "bench.sql"
    try:
        schema = (folder / "schema.sql").read_text("utf-8")
        migrated = schema.startswith(ON_TOP)
        parts = read_parts(file) if file.exists() or not migrated else {}
    except (OSError, UnicodeDecodeError) as error:
        raise refuse(
            "bad-design",
            f"{getattr(error, 'filename', folder)}: {getattr(error, 'strerror', error)}",
            fix="a design is a folder with schema.sql and bench.sql, as in tests/baselines",
        ) from None
    if migrated:
        parts = {**own_design().parts, **parts}
    for part in ("load users", "load tasks"):
        if part not in parts:
            raise refuse(
                "bad-design",
                f"{file}: there is no part `-- name: {part}`",
                fix="write it; tests/baselines has examples",
            )
    return Design(folder.resolve().name, parts, migrated, schema)


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

    @property
    def load(self) -> Load:
        """The reference data: the demo data of seed 1, its tasks alone."""
        address = self.server.address(project().local_owner, f"reference_{self.tasks}")
        users = max(1, round(self.tasks / TASKS_PER_USER))
        return Load.of(address, users=users, tasks=self.tasks, seed=1)

    def need(self, designs: int) -> int:
        """Return the bytes of disk that loading takes, at the most, beyond what is there."""
        with connect(self.server.superuser, purpose="bench") as connection:
            row = connection.execute(
                "select coalesce(sum(pg_database_size(oid)), 0) from pg_database "
                "where datname ~ %s",
                [f"_{self.tasks}$"],
            ).fetchone()
        assert row
        return max(0, self.tasks * BYTES_PER_TASK * (designs + 1) - int(row[0]))

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
        self._database("reference", REFERENCE + "".join(load.queries.values()))
        with connect(load.address, purpose="bench") as connection:
            connection.execute(REFERENCE)
            (users,) = _row(connection, 'select count(*) from "user"')
        if not users:
            with load.session() as session:
                session.execute(load.queries["users"], load.plan)
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
        made_by = [file.read_text("utf-8") for file in files]
        made_by += [design.schema, design.parts["load users"], design.parts["load tasks"]]
        address = self._database(design.name, "".join(made_by))
        with (
            connect(address, purpose="bench") as connection,
            connect(self.load.address, purpose="bench") as reference,
        ):
            if not _row(
                connection, "select count(*) from pg_tables where tablename = 'bench_load'"
            )[0]:
                self._make(design, connection, reference)
            done, grown = _row(connection, "select done, grown from bench_load")
            self.progress(design.name, done, self.tasks)
            while done < self.tasks:
                began = time.monotonic()
                upto = min(done + CHUNK, self.tasks)
                with connection.transaction():
                    where = sql.SQL("select * from tasks where id > {} and id <= {}")
                    rows = where.format(sql.Literal(done), sql.Literal(upto))
                    _copy(reference, rows, connection, "incoming_tasks")
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
                connection.execute("reindex database")
                connection.execute("update bench_load set grown = %s", [grown])
            connection.execute("vacuum (analyze)")
            rate, wal, grown = _row(connection, "select rate, wal, grown from bench_load")
        self.server.allow_logins()
        return Loaded(address, rate, wal, grown)

    def _database(self, name: str, made_by: str) -> Address:
        """Return the database of that name and size; an empty one where other SQL made it."""
        owner, name = project().local_owner, f"{name}_{self.tasks}"
        digest = hashlib.sha256(made_by.encode()).hexdigest()
        with connect(self.server.superuser, purpose="bench") as connection:
            if not connection.execute(
                "select from pg_database where datname = %s "
                "and shobj_description(oid, 'pg_database') = %s",
                [name, digest],
            ).rowcount:
                self.server.recreate_database(name, owner)
                comment = sql.SQL("comment on database {} is {}")
                connection.execute(comment.format(sql.Identifier(name), sql.Literal(digest)))
        return self.server.address(owner, name)

    def _make(
        self, design: Design, connection: psycopg.Connection, reference: psycopg.Connection
    ) -> None:
        """Make a design's tables, its users, and the record of its load."""
        if design.migrated:
            migrate(connection, project().migrations, roles=project().roles, check_seal=False)
        connection.execute(design.schema.encode())
        with connection.transaction():
            _copy(reference, sql.SQL('select * from "user"'), connection, "incoming_users")
            connection.execute(design.parts["load users"].encode())
            connection.execute(
                "create table bench_load as "
                "select 0::bigint as done, 0::float8 as rate, 0::float8 as wal, 0::float8 as grown"
            )


def sizes(connection: psycopg.Connection) -> list[tuple[str, int]]:
    """Return the tables and indexes that hold tasks, with their bytes: all but the users'."""
    return connection.execute(
        """
        select c.relname, pg_relation_size(c.oid)
        from pg_class as c
        left join pg_index as i on i.indexrelid = c.oid
        join pg_class as t on t.oid = coalesce(i.indrelid, c.oid)
        where
            c.relnamespace = 'public'::regnamespace
            and c.relkind in ('r', 'i')
            and t.relname ~ '^task'
        order by t.relname, c.relname
        """
    ).fetchall()


def _copy(
    source: psycopg.Connection, query: sql.Composable, target: psycopg.Connection, name: str
) -> None:
    """Copy a query's rows into a temporary table that lives until the transaction's end."""
    columns = ", ".join(
        f'"{column.name}" {_type(source, column)}'
        for column in source.execute(sql.SQL("{} limit 0").format(query)).description or ()
    )
    target.execute(f"create temporary table {name} ({columns}) on commit drop".encode())
    reader = sql.SQL("copy ({}) to stdout (format binary)").format(query)
    writer = sql.SQL("copy {} from stdin (format binary)").format(sql.Identifier(name))
    with source.cursor().copy(reader) as incoming, target.cursor().copy(writer) as outgoing:
        for data in incoming:
            outgoing.write(data)
    target.execute(sql.SQL("analyze {}").format(sql.Identifier(name)))


def _type(connection: psycopg.Connection, column: Any) -> str:
    row = connection.execute("select format_type(%s, null)", [column.type_code]).fetchone()
    assert row
    return str(row[0])


def _row(connection: psycopg.Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row
    return row
