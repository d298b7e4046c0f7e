"""The check when an application starts: is the database as new as the package?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import psycopg
import pytest
from todo_schema import (
    SCHEMA_VERSION,
    PermissionDeniedError,
    SchemaVersionError,
    aio,
    check_schema,
    create_engine,
)

from scripts.address import Address
from scripts.database import connect
from scripts.runner.files import read_migrations
from scripts.runner.run import rollback
from scripts.server import LocalServer
from scripts.settings import project

pytestmark = pytest.mark.row("R24")

Check = Callable[..., str]
NEWER = "9999.made-up"


def check_sync(address: Address, *, exact: bool = False) -> str:
    engine = create_engine(address.url)
    try:
        return check_schema(engine, exact=exact)
    finally:
        engine.dispose()


def check_async(address: Address, *, exact: bool = False) -> str:
    async def run() -> str:
        engine = aio.create_engine(address.url)
        try:
            return await aio.check_schema(engine, exact=exact)
        finally:
            await engine.dispose()

    return asyncio.run(run())


@pytest.fixture(params=[check_sync, check_async], ids=["sync", "async"])
def check(request: pytest.FixtureRequest) -> Check:
    found: Check = request.param
    return found


@pytest.fixture
def app(server: LocalServer, migrated: Address) -> Address:
    """The migrated database, for the application."""
    server.allow_logins()
    return migrated.with_(user="todo_app")


def as_owner(address: Address, statement: str) -> None:
    with psycopg.connect(address.with_(user="todo_owner").url) as connection:
        connection.execute(statement)


def refused(check: Check, address: Address, *, exact: bool = False) -> str:
    with pytest.raises(SchemaVersionError) as caught:
        check(address, exact=exact)
    return caught.value.message


def test_the_package_needs_the_newest_migration() -> None:
    assert read_migrations(project().migrations)[-1].id == SCHEMA_VERSION


@pytest.mark.parametrize("exact", [False, True])
def test_a_current_database_is_accepted(
    caplog: pytest.LogCaptureFixture, check: Check, app: Address, exact: bool
) -> None:
    with caplog.at_level(logging.DEBUG, "todo_schema"):
        assert check(app, exact=exact) == SCHEMA_VERSION
    assert not caplog.records


def test_an_older_database_is_refused(check: Check, app: Address) -> None:
    owner = app.with_(user="todo_owner")
    with connect(owner, purpose="test") as connection:
        rollback(connection, project().migrations, check_seal=False)
    before = read_migrations(project().migrations)[-2].id
    assert refused(check, app) == (
        f"The database is at {before}, this release needs {SCHEMA_VERSION}; "
        "run: python -m scripts migrate"
    )


def test_a_newer_database_is_accepted_with_a_warning_but_not_where_exactly_one_is_wanted(
    caplog: pytest.LogCaptureFixture, check: Check, app: Address
) -> None:
    row = f"insert into _yoyo_migration (migration_hash, migration_id) values ('x', '{NEWER}')"
    as_owner(app, row)
    told = f"The database is at {NEWER}, newer than {SCHEMA_VERSION} of this release"
    assert check(app) == NEWER
    records = [each for each in caplog.records if each.name == "todo_schema"]
    assert [(each.levelno, each.getMessage()) for each in records] == [(logging.WARNING, told)]
    assert refused(check, app, exact=True) == f"{told}; install a newer todo-schema"


def test_a_database_without_migrations_is_refused(check: Check, scratch: Address) -> None:
    assert "python -m scripts migrate" in refused(check, scratch)


@pytest.mark.parametrize("exact", [False, True])
def test_bookkeeping_without_rows_is_refused(check: Check, app: Address, exact: bool) -> None:
    as_owner(app, "delete from _yoyo_migration")
    assert refused(check, app, exact=exact) == (
        "The database has no migrations; run: python -m scripts migrate"
    )


def test_lost_bookkeeping_is_refused(check: Check, app: Address) -> None:
    as_owner(app, "drop table _yoyo_migration")
    assert "python -m scripts migrate" in refused(check, app)


def test_a_role_that_may_not_ask_is_told(check: Check, app: Address) -> None:
    as_owner(app, "revoke execute on function schema_version() from todo_app")
    with pytest.raises(PermissionDeniedError) as caught:
        check(app)
    assert isinstance(caught.value.__cause__, psycopg.errors.InsufficientPrivilege)
