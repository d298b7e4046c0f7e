"""The fixture for applications' suites: run as an application runs it, on servers that differ."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import pytest
from psycopg import sql
from todo_schema import aio

from scripts.address import Address
from scripts.binaries import embedded_binaries
from scripts.server import LocalServer
from scripts.settings import ROOT, project
from tests.conftest import FAST
from tests.support.postgres import binaries

pytest_plugins = ["pytester"]

pytestmark = [pytest.mark.row("R25"), pytest.mark.matrix]

# What the outer suite has not loaded, every inner one loads anew.
assert aio

#: The roles that sql/roles.sql makes belong to the cluster, and no rollback drops them either.
ROLES = {"todo_app", "todo_auth", "todo_readonly"}

CONFTEST = """
from pytest_postgresql.factories import postgresql_noproc, postgresql_proc
pytest_plugins = ["todo_schema.testing"]
"""

SUITE = """
import asyncio

import psycopg
import pytest
from todo_schema import TaskCreate, aio, check_schema, unrestricted_session, user_session

seen = set()


@pytest.mark.parametrize("number", range(5))
def test_each_has_an_empty_database(todo_database, number):
    seen.add(todo_database.url)
    assert len(seen) == number + 1
    check_schema(todo_database.engine, exact=True)
    for user in ("alice", "bob"):
        todo_database.add_user(user)
        with user_session(todo_database.engine, user) as session:
            assert session.user().email == f"{user}@example.com"
            assert session.tasks.list().items == []
            session.tasks.create(TaskCreate(title="Buy milk"))
            rows = session.orm.connection().exec_driver_sql("select user_id from tasks").all()
            assert rows == [(user,)], "row security alone hides the others' rows"
    with unrestricted_session(todo_database.engine) as session:
        assert session.connection().exec_driver_sql("select from tasks").all() == []
    with psycopg.connect(todo_database.owner_url) as connection:
        assert connection.execute("select count(*) from tasks").fetchone() == (2,)


def test_it_serves_asynchronous_code(todo_database):
    async def use():
        engine = aio.create_engine(todo_database.url)
        async with aio.user_session(engine, "alice") as session:
            created = await session.tasks.create(TaskCreate(title="Buy milk"))
        await engine.dispose()
        return created

    todo_database.add_user("alice")
    assert asyncio.run(use()).user_id == "alice"
"""

FAILING = """
import psycopg
import pytest
from todo_schema import user_session

kept = []


@pytest.fixture(scope="module", autouse=True)
def closed_when_the_database_is_long_gone():
    yield
    kept[0].close()


def test_that_fails_in_a_session(todo_database):
    with user_session(todo_database.engine, "alice") as session:
        session.tasks.counts()
        raise RuntimeError


def test_that_leaves_a_connection(todo_database):
    kept.append(psycopg.connect(todo_database.url))
    kept[0].execute("select from tasks")
    raise RuntimeError


@pytest.fixture
def broken(todo_database):
    raise RuntimeError


def test_that_does_not_begin(broken):
    pass
"""


def chosen(request: pytest.FixtureRequest) -> Path | None:
    version = request.config.getoption("--postgres")
    return binaries(version) if version else None


@pytest.fixture(scope="module")
def guarded(request: pytest.FixtureRequest, module_folder: Path) -> Iterator[Address]:
    """A fresh cluster that asks everybody for a password; a superuser with awkward names."""
    guarded = LocalServer(module_folder / "guarded", binaries=chosen(request), settings=FAST)
    guarded.start()
    try:
        user, password = "Ann Ö'Hara", "p@ss:w/rd%?#&+ ü"
        with psycopg.connect(**guarded.superuser.parameters, autocommit=True) as connection:
            create = sql.SQL("create role {} superuser login password {}")
            connection.execute(create.format(sql.Identifier(user), sql.Literal(password)))
            (guarded.home / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
            connection.execute("select pg_reload_conf()")
        yield guarded.superuser.with_(user=user, password=password)
    finally:
        guarded.remove()


@pytest.fixture
def owned(server: LocalServer) -> Address:
    """The suite's own server, as a role that is no superuser."""
    return server.address(project().local_owner, "postgres")


def noproc(address: Address) -> str:
    names = {name: address.parameters.get(name) for name in ("host", "port", "user", "password")}
    given = ", ".join(f"{name}={value!r}" for name, value in names.items() if value)
    return f"todo_server = postgresql_noproc({given}, dbname='fixture_{os.getpid()}')"


NOPROC = "todo_schema_server = todo_server"


def play(pytester: pytest.Pytester, fixture: str, option: str, **suites: str) -> Any:
    """Run an application's suite in files of these names, with the fixture of its server."""
    pytester.makeini(f"[pytest]\n{option}\n")
    pytester.makeconftest(CONFTEST + fixture)
    pytester.makepyfile(**suites)
    # This plugin collects garbage, all of the outer suite's, after every run.
    return pytester.runpytest_inprocess("-p", "no:unraisableexception", "-p", "no:cacheprovider")


def objects(address: Address) -> set[str]:
    """Return the databases and the roles of a cluster."""
    query = "select datname from pg_database union all select rolname from pg_roles"
    with psycopg.connect(**{**address.parameters, "dbname": "postgres"}) as connection:
        return {name for (name,) in connection.execute(query)}


def example() -> str:
    """Return the test that models/README.md shows, with something to see in its last line."""
    section = (ROOT / "models" / "README.md").read_text("utf-8").partition("### Tests of an app")[2]
    plugins, _, test = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0].partition("\n\n")
    assert plugins == CONFTEST.splitlines()[-1]
    test = test.replace("...", "assert session.user().id == 'alice'")
    return f"from todo_schema import user_session\n{test}"


def per_test(result: Any) -> float:
    """Return the median seconds that a test waits for the fixture, after the first."""
    seconds: Counter[str] = Counter()
    for report in result.reprec.getreports("pytest_runtest_logreport"):
        seconds[report.nodeid] += report.duration if report.when != "call" else 0
    # The first makes the template, the last drops it.
    return median([*seconds.values()][1:-1])


def per_copy(address: Address) -> float:
    """Return the median seconds of CREATE DATABASE and DROP DATABASE."""
    seconds = []
    with psycopg.connect(**address.parameters, autocommit=True) as connection:
        for _ in range(5):
            started = time.monotonic()
            connection.execute(f"create database copy_{os.getpid()}".encode())
            connection.execute(f"drop database copy_{os.getpid()}".encode())
            seconds.append(time.monotonic() - started)
    return median(seconds)


def test_each_test_has_a_database_of_its_own_and_waits_little_for_it(
    pytester: pytest.Pytester, owned: Address
) -> None:
    before = objects(owned)
    result = play(pytester, noproc(owned), NOPROC, test_mine=SUITE, test_readme=example())
    result.assert_outcomes(passed=7)
    assert objects(owned) - before <= ROLES
    fixture, copy = per_test(result), per_copy(owned)
    print(f"{fixture * 1e3:.0f} ms for a test, {copy * 1e3:.0f} ms for an empty database")
    assert fixture < 5 * copy + 0.1  # 0.3 s, where a copy of a database takes its usual 40 ms


@pytest.mark.parametrize(
    ("suite", "outcomes"), [(SUITE, {"passed": 6}), (FAILING, {"failed": 2, "errors": 1})]
)
def test_a_cluster_is_as_it_was_afterwards(
    pytester: pytest.Pytester, guarded: Address, suite: str, outcomes: dict[str, int]
) -> None:
    """Whatever template1 holds: one without even the roles; and again, with tests that fail."""
    before = objects(guarded)
    with psycopg.connect(**{**guarded.parameters, "dbname": "template1"}) as connection:
        connection.execute("create table if not exists tasks ()")
    play(pytester, noproc(guarded), NOPROC, test_mine=suite).assert_outcomes(**outcomes)
    assert before <= objects(guarded) <= before | ROLES


# Not as root: pg_ctl refuses it, and pytest-postgresql runs pg_ctl as whoever runs pytest.
if os.geteuid() != 0:

    def test_it_takes_the_process_that_pytest_postgresql_starts(
        request: pytest.FixtureRequest, pytester: pytest.Pytester
    ) -> None:
        program = (chosen(request) or embedded_binaries()) / "pg_ctl"
        fixture = f"postgresql_proc = postgresql_proc({str(program)!r}, port=None)"
        play(pytester, fixture, "", test_mine=SUITE).assert_outcomes(passed=6)
