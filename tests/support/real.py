"""Real rows, to hold the databases without rows against: loaded, planned, measured."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from scripts.address import Address
from scripts.binaries import embedded_binaries
from scripts.database import connect
from scripts.plans.corpus import Statement
from scripts.plans.explain import HEAVY, TYPICAL, Planner
from scripts.plans.survey import TENANTS
from scripts.plans.twin import BTREES, grow, plant
from scripts.runner.build import build
from scripts.scratch import scratch_database
from scripts.server import LocalServer
from scripts.workload.seed import seed

# Where a user's lists are cut for a later page: in the middle.
MIDDLE = """
select
    percentile_disc(0.5) within group (order by id) as after_id,
    percentile_disc(0.5) within group (order by updated_at) as updated,
    percentile_disc(0.5) within group (order by lower(title) collate "C") as title,
    percentile_disc(0.5) within group (order by priority_rank) as priority,
    coalesce(percentile_disc(0.5) within group (order by due_date), '2025-06-01') as due_date,
    c.*
from tasks
cross join lateral (
    select
        percentile_disc(0.5) within group (order by c.id) as conversation,
        percentile_disc(0.5) within group (order by c.updated_at) as active,
        percentile_disc(0.5) within group (order by m.id) as message
    from conversations as c
    join messages as m on m.user_id = c.user_id and m.conversation_id = c.id
    where c.user_id = %(u)s
) as c
where user_id = %(u)s
group by c.conversation, c.active, c.message
"""


@dataclass(frozen=True)
class User:
    """A user, how many tasks there are, and the middle of each list."""

    id: str
    tasks: int
    middle: dict[str, Any]

    def fitted(self, statement: Statement) -> Statement:
        """Return the statement with parameters from the middle of this user's rows."""
        if statement.role != "todo_app":
            return statement
        of = statement.name.split(".")[0]
        middle = self.middle
        id_ = {"conversations": middle["conversation"], "messages": middle["message"]}
        sort = next((each[3:] for each in statement.features if each.startswith("by ")), "")
        fitting = {
            **dict.fromkeys(("id", "after_id"), id_.get(of, middle["after_id"])),
            **dict.fromkeys(("due_date", "due_before", "due_after"), middle["due_date"]),
            "conversation_id": middle["conversation"],
            "after_key": middle.get(sort, 0.5) if sort else middle["active"],
        }
        changed = {name: fitting.get(name, old) for name, old in statement.parameters.items()}
        return replace(statement, parameters=changed)


@contextmanager
def loaded(server: LocalServer, tasks: int) -> Iterator[Address]:
    """Give a database of the reference distribution, its indexes rebuilt, vacuumed and analysed."""
    with scratch_database(server) as address:
        build(address)
        seed(address, users=round(tasks / 129.7), tasks=tasks, seed=1)
        with connect(address, purpose="test") as connection:
            connection.execute("reindex database")
            connection.execute("vacuum (analyze)")
        yield server.superuser.with_(dbname=address.database)


def users(address: Address) -> list[User]:
    """Return the heavy users, most tasks first, and one of few tasks as the last."""
    with connect(address, purpose="test") as connection:
        connection.row_factory = psycopg.rows.dict_row
        known = connection.execute(
            "select user_id, count(*) as tasks from tasks group by 1 order by 2 desc, 1"
        ).fetchall()
        heavy = [each for each in known if each["tasks"] > known[0]["tasks"] / 2]
        few = next(each for each in known if each["tasks"] <= 45)
        return [
            User(
                each["user_id"],
                each["tasks"],
                connection.execute(MIDDLE.encode(), {"u": each["user_id"]}).fetchone() or {},
            )
            for each in (*heavy, few)
        ]


def shapes(
    address: Address, statements: Sequence[Statement], heavy: User, typical: User
) -> dict[tuple[str, str], str]:
    """Return the shape of each statement's plan, for each kind of tenant."""
    tenants = {HEAVY: heavy.id, TYPICAL: typical.id}
    with (
        connect(address, purpose="test") as connection,
        closing(Planner(connection, tenants)) as asked,
    ):
        connection.execute("set ignore_checksum_failure = on")
        return {
            (statement.name, tenant): asked.plans([heavy.fitted(statement)], tenant)[0].shape
            for tenant in TENANTS
            for statement in statements
        }


def heights(connection: psycopg.Connection) -> dict[str, int]:
    """Return how high the B-trees of a database really are."""
    connection.execute("create schema inspect; create extension pageinspect schema inspect")
    names = [name for name, *_ in connection.execute(BTREES).fetchall()]
    metapage = "select level from inspect.bt_metap(%s)"
    found = {name: connection.execute(metapage, [f"public.{name}"]).fetchone() for name in names}
    return {name: row[0] for name, row in found.items() if row and row[0]}


def agree(
    expected: dict[tuple[str, str], str],
    found: dict[tuple[str, str], str],
    record: Callable[[str, object], None],
) -> None:
    """Record how many plans of a real database and of its twin are the same, and require all."""
    other = [each for each in expected if found[each] != expected[each]]
    same = len(expected) - len(other)
    record("score", f"plans that are the real database's {same:,}/{len(expected):,}")
    assert other[:5] == []
    assert set(expected) == set(found)
    assert len(set(expected.values())) > 100


@contextmanager
def exact_twin(server: LocalServer, real: Address) -> Iterator[Address]:
    """Give an empty database with all statistics of a real one, files and trees of its size."""
    dump = subprocess.run(
        [embedded_binaries() / "pg_dump", "--statistics-only", "--no-sync", real.url],
        env={"PGPASSWORD": str(real.parameters["password"])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    text = "\n".join(line for line in dump.splitlines() if not line.startswith("\\"))
    with scratch_database(server) as address:
        build(address)
        superuser = server.superuser.with_(dbname=address.database)
        with connect(superuser, purpose="test") as connection:
            connection.execute(text.encode())
            grow(connection)
            with connect(server.superuser.with_(dbname=real.database), purpose="test") as original:
                plant(connection, heights(original))
        yield superuser


def buffers(
    connection: psycopg.Connection, statements: Sequence[Statement], user: User, role: str
) -> Iterator[tuple[Statement, int]]:
    """Yield each statement with the pages it touches for a user, planning aside; none is kept."""
    cursor = psycopg.RawCursor(connection)
    for statement in statements:
        sql, names = statement.numbered
        values = {**user.fitted(statement).parameters, "user_id": user.id}
        with connection.transaction(force_rollback=True):
            cursor.execute(f"set local role {role}".encode())
            cursor.execute("set local row_security = on")
            cursor.execute("select set_tenant($1)", [user.id])
            explain = f"explain (analyze, buffers, timing off, format json) {sql}"
            row = cursor.execute(explain.encode(), [values[name] for name in names]).fetchone()
        assert row
        plan = row[0][0]["Plan"]
        yield statement, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
