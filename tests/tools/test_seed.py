"""Demo data: the reference distribution, the same rows for the same seed, and refusals."""

from __future__ import annotations

import signal
from itertools import combinations
from threading import main_thread
from typing import Any

import psycopg
import pytest

from scripts.address import Address
from scripts.database import connect
from scripts.errors import ToolError
from scripts.workload import seed as workload
from scripts.workload.seed import seed
from tests.support.commands import run_json

pytestmark = pytest.mark.row("R26")

Connection = psycopg.Connection[Any]
USERS, TASKS = 900, 20_000
HEAVY = 9

CONTENT = """
select md5(string_agg(row::text, '' order by row::text))
from (
    select to_jsonb(t) from tasks as t
    union all select to_jsonb(s) from task_search as s
    union all select to_jsonb(m) from messages as m
    union all select to_jsonb(c) - 'updated_at' from conversations as c
    union all select to_jsonb(u) - '{createdAt,updatedAt}'::text[] from "user" as u
) as every (row)
"""
ORDINARY = """
tasks where user_id in (select user_id from tasks group by user_id having count(*) < 100)
"""
HEAVIEST = "select user_id from tasks group by user_id order by count(*) desc limit 1"


def value(connection: Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row
    return row[0]


@pytest.fixture(scope="module")
def seeded(module_database: Address) -> Any:
    seed(module_database, users=USERS, tasks=TASKS, seed=1)
    with connect(module_database, purpose="test") as connection:
        yield connection


def test_every_user_and_task_is_there(seeded: Connection) -> None:
    tables = ('"user"', "tasks", "task_search", "conversations", "messages")
    counts = [value(seeded, f"select count(*) from {table}") for table in tables]
    assert counts == [USERS, TASKS, TASKS, counts[3], 8 * counts[3]]


def test_one_user_of_a_hundred_is_heavy(seeded: Connection) -> None:
    query = "select count(*) from tasks group by user_id order by 1 desc"
    counts = [count for (count,) in seeded.execute(query)]
    heavy, other = counts[:HEAVY], counts[HEAVY:]
    average = sum(other) / (USERS - HEAVY)
    assert max(heavy) - min(heavy) <= 1
    assert 300 < heavy[0] / average < 367  # 10,000 to 30


def test_the_shares_are_those_of_the_reference(seeded: Connection) -> None:
    for condition, share in {
        "completed": 0.6,
        "description is null": 0.4,
        "due_date is null": 0.4,
        "tags = '{}'": 0.5,
        "priority = 'medium'": 0.5,
    }.items():
        found = value(seeded, f"select avg(({condition})::int)::float8 from {ORDINARY}")
        assert abs(found - share) < 0.03, condition


def test_columns_are_not_correlated(seeded: Connection) -> None:
    nulls = [f"({column} is null)::int" for column in ("description", "due_date")]
    for one, other in combinations(["completed::int", "priority_rank", *nulls], 2):
        correlation = value(seeded, f"select corr({one}, {other}) from {ORDINARY}")
        assert abs(correlation) < 0.05, (one, other)


def test_adversarial_users_are_among_the_heavy(seeded: Connection) -> None:
    kinds = """
        select
            count(*) filter (where open = 3 and newest_open < oldest_other) as oldest_open,
            count(*) filter (where in_progress = 5) as few_in_progress,
            count(*) filter (where priorities = 1) as one_priority,
            count(*) filter (where dated = 0) as undated,
            count(*)
        from (
            select
                count(*) filter (where not completed) as open,
                max(id) filter (where not completed) as newest_open,
                min(id) filter (where completed) as oldest_other,
                count(*) filter (where status = 'in_progress') as in_progress,
                count(distinct priority) as priorities,
                count(due_date) as dated
            from tasks
            group by user_id
            having count(*) > 1000
        ) as heavy
    """
    assert seeded.execute(kinds.encode()).fetchone() == (1, 1, 1, 1, HEAVY)


def test_a_heavy_users_rows_are_scattered(seeded: Connection) -> None:
    pages = "select count(distinct (ctid::text::point)[0]) from tasks"
    mine = value(seeded, f"{pages} where user_id = ({HEAVIEST})")
    assert mine > 0.95 * value(seeded, pages)


def test_newest_is_highest_and_the_next_row_finds_a_free_id(seeded: Connection) -> None:
    late = "select created_at < lag(created_at) over (order by id) as late from tasks"
    assert value(seeded, f"select count(*) from ({late}) as t where late") == 0
    with seeded.transaction(force_rollback=True):
        new = "insert into tasks (user_id, title) select id, 'x' from \"user\" limit 1 returning id"
        assert value(seeded, new) > TASKS


def test_the_same_seed_gives_the_same_rows_in_every_time_zone(
    migrated: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload, "SLICE", 700)  # many slices, of two sessions
    contents = []
    with connect(migrated, purpose="test") as connection:
        for number, zone in ((1, "UTC"), (1, "UTC"), (1, "Asia/Kolkata"), (2, "UTC")):
            monkeypatch.setenv("PGTZ", zone)
            connection.execute('truncate "user", tasks, conversations restart identity cascade')
            seed(migrated, users=50, tasks=2000, seed=number)
            contents.append(value(connection, CONTENT))
    first, again, elsewhere, other = contents
    assert first == again
    assert first == elsewhere
    assert first != other


def test_a_seed_that_is_there_is_refused_and_nothing_is_added(migrated: Address) -> None:
    seed(migrated, users=5, tasks=50, seed=1)
    with pytest.raises(ToolError) as error:
        seed(migrated, users=5, tasks=50, seed=1)
    assert error.value.findings[0].code == "not-empty"
    seed(migrated, users=5, tasks=50, seed=2)
    with connect(migrated, purpose="test") as connection:
        assert value(connection, "select count(*) from tasks") == 100


@pytest.mark.parametrize(("users", "tasks"), [(1, 0), (1, 1), (7, 3), (3, 1000)])
def test_small_numbers_are_exact(migrated: Address, users: int, tasks: int) -> None:
    rows = seed(migrated, users=users, tasks=tasks, seed=1).rows
    assert (rows["user"], rows["tasks"]) == (users, tasks)


def test_an_interrupted_load_stops_soon(migrated: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "SLICE", 100)

    ctrl_c = iter([signal.SIGINT])

    def interrupt(_: int) -> None:
        for number in ctrl_c:
            signal.pthread_kill(main_thread().ident, number)

    with pytest.raises(KeyboardInterrupt):
        seed(migrated, users=50, tasks=20_000, seed=1, progress=interrupt)
    with connect(migrated, purpose="test") as connection:
        assert value(connection, "select count(*) from tasks") < 2000


def test_a_database_without_the_schema_is_told(scratch: Address) -> None:
    with pytest.raises(ToolError) as error:
        seed(scratch, users=1, tasks=1, seed=1)
    assert error.value.findings[0].fix == "python -m scripts migrate"


def test_the_command_tells_rows_and_rate(migrated: Address) -> None:
    arguments = ("seed", "--users", "10", "--tasks", "100")
    document = run_json(*arguments, MIGRATION_DATABASE_URL=migrated.url)
    assert document["rows"]["tasks"] == 100
    assert document["rows_per_second"] > 0
