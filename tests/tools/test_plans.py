"""Every statement is planned as it is meant to be, at any size; the proof itself is proven."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest

from scripts.address import Address
from scripts.catalog.model import BOOKKEEPING
from scripts.cli.plans import SIZES
from scripts.database import connect
from scripts.plans import survey as surveying
from scripts.plans.corpus import Statement, read_corpus
from scripts.plans.explain import GENERIC, HEAVY
from scripts.plans.mutate import mutate, unneeded
from scripts.plans.reading import Reach
from scripts.plans.statistics import Statistics, read_statistics
from scripts.plans.survey import SESSIONS, faults, planner, survey
from scripts.plans.twin import twin
from scripts.runner.build import build
from scripts.server import LocalServer
from scripts.settings import project
from tests.support.real import User, agree, buffers, exact_twin, loaded, shapes, users

pytestmark = [pytest.mark.row("R6", "R30"), pytest.mark.usefixtures("server")]

ROLE = "todo_app"


@pytest.fixture(scope="module")
def corpus() -> list[Statement]:
    return read_corpus()


@pytest.fixture(scope="module")
def statistics() -> Statistics:
    return read_statistics(project().statistics)


@pytest.fixture(scope="module")
def billion(server: LocalServer, statistics: Statistics) -> Iterator[Address]:
    assert server.is_running
    with twin(build, statistics.scaled(10**9)) as address:
        yield address


@pytest.fixture(scope="module")
def real(server: LocalServer) -> Iterator[Address]:
    """A hundred thousand tasks: seven heavy users, the adversarial ones among them."""
    with loaded(server, 100_000) as address:
        yield address


@pytest.fixture(scope="module")
def people(real: Address) -> list[User]:
    return users(real)


def test_every_statement_is_planned_as_it_is_meant_to_be(
    corpus: list[Statement], statistics: Statistics
) -> None:
    outcomes = survey(build, statistics, corpus, SIZES)
    assert len(outcomes) == 3 * 3 * len(corpus) > 4_000
    assert list(faults(outcomes)) == []


@pytest.mark.parametrize(
    ("sql", "reach"),
    [
        ("where user_id = %(user_id)s and id = 5", Reach.KEY),
        ("where user_id = %(user_id)s and id = any('{5,6}')", Reach.KEY),
        ("where user_id = %(user_id)s order by id desc limit 20", Reach.LIMIT),
        ("where user_id = %(user_id)s and id < 5 order by id desc limit 20", Reach.LIMIT),
        (
            "where user_id = %(user_id)s and not completed and (priority_rank, id) < (2, 5)"
            " order by priority_rank desc, id desc limit 20",
            Reach.LIMIT,
        ),
        (
            "where user_id = %(user_id)s and not completed and id > 5"
            " order by priority_rank, id limit 20",
            Reach.FILTER,
        ),
        ("where user_id = %(user_id)s and title > 'x' order by id limit 20", Reach.FILTER),
        (
            "cross join lateral (select from task_search as s where s.user_id = tasks.user_id"
            " and s.task_id = tasks.id limit 1) as s where user_id = %(user_id)s"
            " order by id desc limit 20",
            Reach.FILTER,
        ),
        ("where user_id = %(user_id)s order by id desc", Reach.RANGE),
        ("where user_id = %(user_id)s order by title limit 20", Reach.RANGE),
        ("where user_id = %(user_id)s order by updated_at limit 20", Reach.RANGE),
        ("where user_id = %(user_id)s order by id limit 20 offset 1000000", Reach.RANGE),
        ("where user_id = %(user_id)s order by id offset 10", Reach.RANGE),
        (
            "where user_id = %(user_id)s and not completed order by priority_rank"
            " fetch first 20 rows with ties",
            Reach.RANGE,
        ),
        (
            "where user_id = %(user_id)s and not completed and priority_rank < 3 and id < 5"
            " order by priority_rank desc, id desc limit 20",
            Reach.FILTER,
        ),
        (
            "where user_id = %(user_id)s and id in (select x.id from generate_series(1, 9) as n,"
            " lateral (select id from tasks where user_id = %(user_id)s and id > n limit 1) as x)",
            Reach.RANGE,
        ),
        ("where user_id = any('{a,b}') order by user_id, id limit 20", Reach.TABLE),
        ("where id = 5", Reach.TABLE),
        ("where user_id = '(id = 5)' limit 20", Reach.LIMIT),
        ("where user_id > %(user_id)s order by user_id, id limit 20", Reach.TABLE),
        ("order by id desc limit 20", Reach.TABLE),
        ("", Reach.TABLE),
    ],
)
def test_what_a_plan_reads_is_told_by_its_structure(
    billion: Address, sql: str, reach: Reach
) -> None:
    expect(billion, f"select * from tasks {sql}", reach)


@pytest.mark.parametrize(
    ("sql", "reach"),
    [
        ('select * from session where length("userAgent") > 5 order by id limit 1', Reach.TABLE),
        ("select * from session order by id limit 20", Reach.LIMIT),
        (
            "with recursive t as ((select id from tasks where user_id = %(user_id)s order by id"
            " limit 1) union all select x.id from t, lateral (select id from tasks where"
            " user_id = %(user_id)s and id > t.id order by id limit 1) as x) select * from t",
            Reach.RANGE,
        ),
        (
            'select t.* from "user" as u join tasks as t on t.user_id = u.id'
            " where u.email = 'x' order by t.id limit 20",
            Reach.TABLE,
        ),
        ("insert into tasks (user_id, title) values (%(user_id)s, 'x')", Reach.NOTHING),
    ],
)
def test_joins_recursion_and_tables_without_tenants_are_told_alike(
    billion: Address, sql: str, reach: Reach
) -> None:
    expect(billion, sql, reach)


def expect(billion: Address, sql: str, reach: Reach) -> None:
    # Of the owner, without row security: that would add the tenant's condition.
    statement = Statement("x", sql, {}, "todo_owner", (), Reach.NOTHING)
    with planner(billion) as asked:
        for tenant in (HEAVY, GENERIC):
            plan = asked.plans([statement], tenant)[0]
            assert plan.reading.reach == reach, asked.text(statement, tenant)
            assert plan.fault == (f"reads {reach}, not nothing" if reach else None)


@pytest.mark.parametrize(("tenant", "value"), [(HEAVY, "'heavy 1'::text"), (GENERIC, "($1)::text")])
def test_a_plan_is_for_one_tenant_or_any_and_under_row_security(
    corpus: list[Statement], billion: Address, tenant: str, value: str
) -> None:
    (get,) = [each for each in corpus if each.name == "tasks.get"]
    with planner(billion) as asked:
        text = "\n".join(asked.text(get, tenant))
    assert f"Index Cond: ((user_id = {value}" in text
    assert "One-Time Filter: (" in text
    assert "current_setting('app.user_id'::text, true)" in text


def test_a_role_that_is_missing_spoils_no_other_plan(billion: Address) -> None:
    known = Statement("x", "select 1", {}, ROLE, (), Reach.NOTHING)
    with planner(billion) as asked:
        asked.plans([known], HEAVY)
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            asked.plans([replace(known, role="nobody_here")], HEAVY)
        assert asked.plans([known], HEAVY)[0].fault is None


def test_a_bitmap_reads_its_range_below_a_limit_too(billion: Address) -> None:
    sql = "select * from tasks where user_id = %(user_id)s limit 20"
    statement = Statement("x", sql, {}, ROLE, (), Reach.LIMIT)
    with planner(billion, "set local enable_indexscan = off") as asked:
        assert asked.plans([statement], HEAVY)[0].fault == "reads range, not limit"


def test_a_database_without_rows_takes_no_disk(server: LocalServer, billion: Address) -> None:
    with connect(billion, purpose="test") as connection:
        query = "select oid from pg_database where datname = current_database()"
        (oid,) = connection.execute(query).fetchone() or ("",)
    files = [file.stat() for file in (server.home / "data" / "base" / str(oid)).iterdir()]
    assert sum(file.st_size for file in files) > 800 * 2**30
    assert sum(file.st_blocks * 512 for file in files) < 50 * 2**20


def test_a_fault_is_told_by_name(
    corpus: list[Statement], statistics: Statistics, billion: Address
) -> None:
    few = [each for each in corpus if each.name.startswith("conversations.")]
    index = "conversations_user_id_updated_at_id_idx"

    def lacking(address: Address) -> None:
        build(address)
        with connect(address, purpose="test") as connection:
            connection.execute(f"drop index {index}".encode())
            connection.execute("alter table conversations rename column title to heading")

    told = {each.object: each for each in faults(survey(lacking, statistics, few, SIZES[:1]))}
    assert set(told) == {each.name for each in few} - {"conversations.delete"}
    assert "is refused: column" in told["conversations.get"].message
    with planner(billion, f"drop index {index}") as asked:
        (first,) = [each for each in few if each.name.endswith("first")]
        assert asked.plans([first], GENERIC)[0].fault == "reads range, not limit"
        assert asked.plans([replace(first, reads=Reach.RANGE)], HEAVY)[0].fault == (
            f"does not read by {index}"
        )
    with planner(billion) as asked:  # where nothing was dropped for good
        assert asked.plans([first], GENERIC)[0].fault is None
    outcomes = survey(build, statistics, [first], SIZES[:2], tenants=(HEAVY,))
    (changed,) = faults([outcomes[0], replace(outcomes[1], shape=1)])
    assert (changed.code, changed.object) == ("plan-changes", first.name)


def test_what_fails_in_one_session_ends_the_others(
    corpus: list[Statement], statistics: Statistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ctrl-C does: each finishes the batch it is at."""
    asked: list[str] = []

    def outcomes(_planner: object, statements: list[Statement], *_: object) -> list[object]:
        asked.append(statements[0].name)
        if statements[0] is corpus[0]:
            raise KeyboardInterrupt
        time.sleep(0.1)
        return []

    monkeypatch.setattr(surveying, "_outcomes", outcomes)
    with pytest.raises(KeyboardInterrupt):
        survey(build, statistics, corpus, SIZES[:1])
    assert len(asked) <= 3 * SESSIONS  # of some forty batches


def test_every_index_is_needed(
    corpus: list[Statement],
    statistics: Statistics,
    record_property: Callable[[str, object], None],
) -> None:
    def with_another(address: Address) -> None:
        build(address)
        with connect(address, purpose="test") as connection:
            connection.execute("create index spare on tasks (user_id, updated_at)")
            connection.execute('create unique index one_name on "user" (lower(name))')

    found = list(mutate(with_another, statistics.scaled(10**9), corpus, ignored=[*BOOKKEEPING]))
    assert [finding.object for finding in unneeded(found)] == ["spare"]
    kept = {each.index: each.kept for each in found}
    assert (kept["one_name"], kept["tasks_pkey"]) == ("unique rows", "its constraint")
    assert kept["account_user_id_idx"] == "its foreign key"
    without = ("its constraint", "unique rows")
    needed = {each.index: len(each.worse) for each in found if each.kept not in without}
    assert needed.pop("spare") == 0
    assert len(needed) == 9
    assert min(needed.values()) >= 2
    told = ", ".join(f"{index} {count}" for index, count in needed.items())
    record_property("score", f"statements that need an index: {told}")


def test_a_twin_plans_as_the_real_database_does(
    server: LocalServer,
    corpus: list[Statement],
    real: Address,
    people: list[User],
    record_property: Callable[[str, object], None],
) -> None:
    heavy, typical = people[0], people[-1]
    expected = shapes(real, corpus, heavy, typical)
    with exact_twin(server, real) as address:
        found = shapes(address, corpus, heavy, typical)
    agree(expected, found, record_property)


def reads(corpus: list[Statement]) -> list[Statement]:
    """Return what the application reads with."""
    writes = re.compile(r"\b(insert into|update|delete from) ")
    return [
        each
        for each in corpus
        if each.role == ROLE and each.reads != Reach.NOTHING and not writes.search(each.sql)
    ]


def test_every_statement_stays_within_its_budget(
    corpus: list[Statement], real: Address, people: list[User]
) -> None:
    *heavy, typical = people
    over = []
    with connect(real, purpose="test") as connection:
        for user in people:
            # What reads a user's rows takes its time: it is measured for two of the heavy users.
            some = [each for each in reads(corpus) if each.buffers or user in (*heavy[:2], typical)]
            for statement, touched in buffers(connection, some, user, ROLE):
                # What reads a range may touch each row once, and again for the total of a page.
                rows = user.tasks * (2 if "page" in statement.features else 1) * 1.05 + 100
                most = rows if user is typical else statement.buffers or rows
                if touched > most:
                    over.append((statement.name, user.tasks, touched, most))
    assert over == []
    assert len(heavy) == 7
    assert len(reads(corpus)) > 440


def test_small_tables_are_planned_otherwise_without_harm(
    server: LocalServer,
    corpus: list[Statement],
    statistics: Statistics,
    record_property: Callable[[str, object], None],
) -> None:
    """With ten thousand tasks, most of them one user's, whatever is read otherwise is cheap."""
    mine = reads(corpus)
    with loaded(server, 10_000) as small:
        heavy, *_, typical = users(small)
        assert heavy.tasks > 5_000
        found = shapes(small, mine, heavy, typical)
        with twin(build, statistics.scaled(10**9)) as big:
            of_big = replace(heavy, id="heavy 1"), replace(typical, id="nobody")
            expected = shapes(big, mine, *of_big)
        changed = {
            name for name, tenant in expected if found[name, tenant] != expected[name, tenant]
        }
        bounded = [each for each in mine if each.name in changed and each.buffers]
        with connect(small, purpose="test") as connection:
            for statement, touched in buffers(connection, bounded, heavy, ROLE):
                assert touched <= (statement.buffers or 0), statement.name
    record_property("score", f"planned otherwise with 10,000 rows {len(changed)}/{len(mine)}")
    assert bounded
