"""sql/roles.sql may be run again, by anyone and by several at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import psycopg
import pytest
from psycopg.errors import RaiseException

from tests.schema.acting import Connection, refused, value

FILE = (Path(__file__).resolve().parents[2] / "sql" / "roles.sql").read_text("utf-8")
LIMITS = "select array_agg(entry order by entry) from pg_roles, unnest(rolconfig) as entry"

pytestmark = pytest.mark.row("R7")


def test_runs_again_and_changes_nothing(owner: Connection) -> None:
    everything = "select * from pg_roles order by rolname"
    members = "select * from pg_auth_members order by oid"
    before = owner.execute(everything).fetchall(), owner.execute(members).fetchall()
    owner.execute(FILE)
    assert (owner.execute(everything).fetchall(), owner.execute(members).fetchall()) == before


def test_keeps_what_somebody_chose_and_adds_what_is_missing(owner: Connection) -> None:
    owner.execute(
        """
        alter role todo_app login connection limit 7;
        alter role todo_app set statement_timeout = '10s';
        alter role todo_app reset lock_timeout;
        """
    )
    owner.execute(FILE)
    role = owner.execute(
        "select rolcanlogin, rolconnlimit from pg_roles where rolname = 'todo_app'"
    ).fetchone()
    assert role == (True, 7)
    assert value(owner, f"{LIMITS} where rolname = 'todo_app'") == [
        "idle_in_transaction_session_timeout=30s",
        "lock_timeout=5s",
        "statement_timeout=10s",
    ]


def test_who_may_do_nothing_may_run_it_where_nothing_is_missing(owner: Connection) -> None:
    owner.execute("create role nobody_special")
    owner.execute("grant nobody_special to current_user with inherit false, set true")
    owner.execute("set local role nobody_special")
    owner.execute(FILE)


def test_refuses_a_role_that_bypasses_row_security(owner: Connection) -> None:
    owner.execute("alter role todo_readonly bypassrls")
    with refused(owner, RaiseException):
        owner.execute(FILE)


@pytest.mark.parametrize("existing", [False, True])
def test_several_may_run_it_at_once(database: str, existing: bool) -> None:
    file = FILE.replace("todo_", "race_")  # other roles, which no database knows
    roles = ["race_app", "race_auth", "race_readonly"]
    start = Barrier(6)

    def run(_: int) -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            start.wait()
            connection.execute(file)

    with psycopg.connect(database, autocommit=True) as connection:
        try:
            if existing:  # as another tool may have made them: without limits
                for role in roles:
                    connection.execute(f"create role {role}")
            with ThreadPoolExecutor(6) as pool:
                list(pool.map(run, range(6)))
            assert value(connection, f"{LIMITS} where rolname = 'race_app'") == [
                "idle_in_transaction_session_timeout=30s",
                "lock_timeout=5s",
                "statement_timeout=30s",
            ]
            for role in roles:  # who made them may act as them
                connection.execute(f"set role {role}; reset role")
        finally:
            for role in roles:
                connection.execute(f"drop role if exists {role}")
