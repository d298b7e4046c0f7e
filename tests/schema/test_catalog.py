"""What a reader of the catalog finds: comments, names, fixed search paths, the schema's version."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.schema.acting import Connection, act_as, column, refused, value

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
INSUFFICIENT_PRIVILEGE = "42501"

# The runner's and yoyo's tables are not of this schema.
OURS = """
    relnamespace = 'public'::regnamespace and relkind = 'r'
    and relname not like '%yoyo%' and relname <> 'migration_history'
"""


@pytest.mark.row("R8")
def test_every_table_and_column_has_a_comment(owner: Connection) -> None:
    without = column(
        owner,
        f"""
        select oid::regclass::text from pg_class
        where {OURS} and obj_description(oid, 'pg_class') is null
        union all
        select format('%s.%s', attrelid::regclass, attname)
        from pg_attribute
        join pg_class on pg_class.oid = attrelid
        where
            {OURS} and attnum > 0 and not attisdropped
            and col_description(attrelid, attnum) is null
        """,
    )
    assert without == []


@pytest.mark.row("R8")
def test_every_function_has_a_comment_and_a_fixed_meaning(owner: Connection) -> None:
    loose = column(
        owner,
        """
        select oid::regprocedure::text from pg_proc
        where
            pronamespace = 'public'::regnamespace
            and (
                obj_description(oid, 'pg_proc') is null
                or (prosqlbody is null and proconfig is distinct from array['search_path=""'])
            )
        """,
    )
    assert loose == []


@pytest.mark.row("R7")
def test_only_the_version_runs_with_its_owners_rights(owner: Connection) -> None:
    definers = column(
        owner,
        "select proname from pg_proc where pronamespace = 'public'::regnamespace and prosecdef",
    )
    assert definers == ["schema_version"]


@pytest.mark.row("R9")
@pytest.mark.parametrize("role", ["todo_app", "todo_auth", "todo_readonly"])
def test_every_role_may_ask_for_the_version(owner: Connection, role: str) -> None:
    newest = max(
        path.stem for path in MIGRATIONS.glob("*.sql") if not path.name.endswith(".rollback.sql")
    )
    act_as(owner, role)
    assert value(owner, "select schema_version()") == newest
    with refused(owner, INSUFFICIENT_PRIVILEGE):
        owner.execute("select from _yoyo_migration")


@pytest.mark.row("R8")
def test_triggers_run_as_whoever_writes(owner: Connection) -> None:
    assert not value(
        owner,
        """
        select bool_or(prosecdef) from pg_trigger
        join pg_proc on pg_proc.oid = tgfoid
        where not tgisinternal
        """,
    )


@pytest.mark.row("R5", "R8")
def test_every_trigger_is_enabled(database: str) -> None:
    with psycopg.connect(database) as connection:  # not `owner`: its rows turn one off and on
        disabled = column(connection, "select tgname from pg_trigger where tgenabled <> 'O'")
    assert disabled == []
