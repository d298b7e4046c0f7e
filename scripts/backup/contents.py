"""What tables hold at one moment: how many rows, and a hash of them in whatever order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row

from scripts.errors import Finding, ToolError

Progress = Callable[[str, int, int | None], None]
"""Told what advances, by how much, and of how much; None where nobody knows."""

# Values as text are the same on every server, and nothing ends a session that works for long.
SETTINGS = """
select set_config(name, wanted, false)
from (
    values
        ('quote_all_identifiers', 'off'),
        ('DateStyle', 'ISO, MDY'),
        ('IntervalStyle', 'postgres'),
        ('TimeZone', 'UTC'),
        ('bytea_output', 'hex'),
        ('extra_float_digits', '1'),
        ('lc_monetary', 'C'),
        ('statement_timeout', '0'),
        ('idle_in_transaction_session_timeout', '0'),
        ('transaction_timeout', '0') -- since PostgreSQL 17
) as setting (name, wanted)
join pg_settings using (name)
"""

# An extension's own tables come with CREATE EXTENSION. Columns are in the order of their names:
# an inherited table may have another order once it is restored.
TABLES = """
select
    c.oid::regclass::text as name,
    nspname as schema,
    relname as bare,
    array(
        select format('t.%I', attname)
        from pg_attribute
        where attrelid = c.oid and attnum > 0 and not attisdropped
        order by attname
    ) as columns,
    row_security_active(c.oid) as hidden
from pg_class as c
join pg_namespace as n on n.oid = relnamespace
where relkind = 'r' and nspname !~ '^pg_' and nspname <> 'information_schema'
    and not exists (
        select from pg_depend
        where classid = 'pg_class'::regclass and objid = c.oid and deptype = 'e'
    )
order by nspname, relname
"""

# Not `t::text`, which would be a column of the name t.
CONTENT = """
select
    count(*),
    coalesce(sum(('x' || left(md5(convert_to(row, 'UTF8')), 16))::bit(64)::bigint), 0)::text
from (select row({columns})::text from only {name} as t) as texts (row)
"""


@dataclass(frozen=True)
class Table:
    """A table with rows of its own: an ordinary one, or a partition.

    Parameters
    ----------
    name : in SQL, without the schema public
    schema, bare : of the schema and of the table, not quoted
    columns : in SQL, as columns of `t`
    hidden : whether row security hides rows from the session's role
    """

    name: str
    schema: str
    bare: str
    columns: list[str]
    hidden: bool


@contextmanager
def one_moment(connection: psycopg.Connection) -> Iterator[list[Table]]:
    """Hold a read-only transaction that sees one moment, and give the tables that there are.

    No table is truncated or rewritten while it lasts: both would empty it for this transaction.

    Parameters
    ----------
    connection : of the owner, from `database.connect`, used for nothing that comes before

    Raises
    ------
    ToolError : row security hides rows (code `needs-bypassrls`)
    """
    connection.execute(SETTINGS)
    tables = _tables(connection)
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        if tables:  # locking does not take the snapshot yet, so there is no gap before it
            names = ", ".join(f"only {table.name}" for table in tables)
            connection.execute(f"lock table {names} in access share mode".encode())
        yield _tables(connection)


def measure(
    connection: psycopg.Connection, tables: list[Table], progress: Progress
) -> list[dict[str, Any]]:
    """Return `{table, rows, hash}` of each table, computed by the server, within `one_moment`."""
    measured = []
    for table in tables:
        query = CONTENT.format(columns=", ".join(table.columns), name=table.name)
        rows, hash_ = connection.execute(query.encode()).fetchone() or (0, "")
        measured.append({"table": table.name, "rows": rows, "hash": hash_})
        progress("tables hashed", 1, len(tables))
    return measured


def differences(wanted: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[Finding]:
    """Return a finding (code `differs`) for each table that is not what a backup says."""
    ours = {each["table"]: each for each in found}
    theirs = {each["table"]: each for each in wanted}
    findings = []
    for name in sorted({*ours, *theirs}):
        is_, was = ours.get(name), theirs.get(name)
        if is_ == was:
            continue
        if is_ is None or was is None:
            what = "is in the backup only" if is_ is None else "is in the database only"
        elif is_["rows"] != was["rows"]:
            what = f"has {is_['rows']:,} rows, and {was['rows']:,} in the backup"
        else:
            what = "has other content than in the backup"
        fix = "do not use the database; check the file where it came from"
        findings.append(Finding("differs", f"table {name} {what}", object=name, fix=fix))
    return findings


def _tables(connection: psycopg.Connection) -> list[Table]:
    with connection.cursor(row_factory=class_row(Table)) as cursor:
        tables = cursor.execute(TABLES).fetchall()
    if hidden := [table.name for table in tables if table.hidden]:
        raise ToolError(
            Finding(
                "needs-bypassrls",
                f"row security hides rows of {', '.join(hidden)} from {connection.info.user}",
                fix="connect as a role with BYPASSRLS",
            )
        )
    return tables
