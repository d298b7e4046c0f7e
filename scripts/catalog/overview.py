"""What is there, in a table for people."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import dict_row

from scripts.catalog.model import BOOKKEEPING

OVERVIEW_COLUMNS = ("table", "columns", "indexes", "constraints", "policies", "rows")

QUERY = """
select
    c.oid::regclass::text as "table",
    (select count(*) from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped)
        as columns,
    (select count(*) from pg_index where indrelid = c.oid) as indexes,
    (select count(*) from pg_constraint where conrelid = c.oid and contype <> 'n') as constraints,
    (select count(*) from pg_policy where polrelid = c.oid) as policies,
    greatest(c.reltuples, 0)::bigint as rows
from pg_class as c
where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace
    and c.relname <> all (%s)
order by c.relname
"""


def overview(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """Return a row per table of the schema public; `rows` is the planner's estimate."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(QUERY, [list(BOOKKEEPING)]).fetchall()
