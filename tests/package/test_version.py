"""The check when an application starts: is the database as new as the package?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import psycopg
import pytest
from todo_schema import SCHEMA_VERSION, PermissionDeniedError, SchemaVersionError

from scripts.address import Address
from scripts.runner.files import read_migrations
from scripts.server import LocalServer
from scripts.settings import project
from tests.package.probes import done, opened

pytestmark = pytest.mark.row("R24")

Check = Callable[..., str]
MIGRATIONS = [each.id for each in read_migrations(project().migrations)]
MIGRATE = "run: python -m scripts migrate"
LACKS = "The database lacks something that this release needs: python -m scripts migrate"
NEWER = "9999.made-up"


@pytest.fixture(params=["sync", "async"])
def check(request: pytest.FixtureRequest, server: LocalServer, migrated: Address) -> Check:
    """Check the migrated database for the application, after a change by its owner."""
    server.allow_logins()
    url = migrated.with_(user="todo_app").url

    async def ask(exact: bool) -> str:
        async with opened(request.param, url) as door:
            found: str = await done(door.package.check_schema(door.engine, exact=exact))
            return found

    def check(change: str = "", *, exact: bool = False) -> str:
        with psycopg.connect(migrated.url) as connection:
            connection.execute(change)
        return asyncio.run(ask(exact))

    return check


def test_the_package_needs_the_newest_migration() -> None:
    assert MIGRATIONS[-1] == SCHEMA_VERSION


@pytest.mark.parametrize("exact", [False, True])
def test_a_current_database_is_accepted(
    caplog: pytest.LogCaptureFixture, check: Check, exact: bool
) -> None:
    with caplog.at_level(logging.DEBUG, "todo_schema"):
        assert check(exact=exact) == SCHEMA_VERSION
    assert not caplog.records


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            f"delete from _yoyo_migration where migration_id = '{SCHEMA_VERSION}'",
            f"The database is at {MIGRATIONS[-2]}, this release needs {SCHEMA_VERSION}; {MIGRATE}",
        ),
        ("delete from _yoyo_migration", f"The database has no migrations; {MIGRATE}"),
        ("drop table _yoyo_migration", LACKS),
        ("drop function schema_version()", LACKS),
    ],
)
def test_an_older_database_is_refused(check: Check, change: str, message: str, exact: bool) -> None:
    with pytest.raises(SchemaVersionError) as caught:
        check(change, exact=exact)
    assert caught.value.message == message


def test_a_newer_database_is_accepted_with_a_warning_but_not_where_exactly_one_is_wanted(
    caplog: pytest.LogCaptureFixture, check: Check
) -> None:
    row = f"insert into _yoyo_migration (migration_hash, migration_id) values ('x', '{NEWER}')"
    told = f"The database is at {NEWER}, newer than {SCHEMA_VERSION} of this release"
    assert check(row) == NEWER
    assert caplog.record_tuples == [("todo_schema", logging.WARNING, told)]
    with pytest.raises(SchemaVersionError) as caught:
        check(exact=True)
    assert caught.value.message == f"{told}; install a newer todo-schema"


def test_a_role_that_may_not_ask_is_told(check: Check) -> None:
    with pytest.raises(PermissionDeniedError) as caught:
        check("revoke execute on function schema_version() from todo_app")
    assert isinstance(caught.value.__cause__, psycopg.errors.InsufficientPrivilege)
