"""Every migration up, down and up again: the same catalog, and no row lost that is not named."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from scripts.address import Address
from scripts.catalog.diff import diff
from scripts.catalog.model import Catalog
from scripts.catalog.read import read_catalog
from scripts.database import connect
from scripts.runner.files import read_migrations
from scripts.runner.run import migrate, rollback
from scripts.settings import project
from tests.schema.acting import ROWS

MIGRATIONS = read_migrations(project().migrations)


def up(connection: psycopg.Connection[Any], target: str) -> None:
    options = {"roles": project().roles, "target": target, "check_seal": False}
    migrate(connection, project().migrations, **options)


def down(connection: psycopg.Connection[Any]) -> None:
    rollback(connection, project().migrations, accept_data_loss=True, check_seal=False)


def rows(connection: psycopg.Connection[Any]) -> dict[str, list[Any]]:
    """Return every table's rows, without the runner's own tables."""
    tables = [name for kind, name in read_catalog(connection) if kind == "table"]
    return {
        table: connection.execute(f"select t::text from {table} as t order by 1").fetchall()
        for table in tables
    }


@pytest.mark.row("R7", "R12")
@pytest.mark.parametrize("database", ["scratch", "weak_owner"])
def test_each_rollback_restores_the_catalog_before_its_migration(
    request: pytest.FixtureRequest, database: str
) -> None:
    with connect(request.getfixturevalue(database), purpose="test") as connection:
        catalogs: list[Catalog] = [read_catalog(connection)]
        for migration in MIGRATIONS:
            up(connection, migration.id)
            catalogs.append(read_catalog(connection))
            assert diff(catalogs[-2], catalogs[-1]), f"{migration.id} changes nothing"
        for migration, before in zip(reversed(MIGRATIONS), catalogs[-2::-1], strict=True):
            down(connection)
            assert diff(before, read_catalog(connection)) == [], migration.id
        for migration, after in zip(MIGRATIONS, catalogs[1:], strict=True):
            up(connection, migration.id)
            assert diff(after, read_catalog(connection)) == [], migration.id


@pytest.mark.row("R12")
def test_rollbacks_lose_only_the_rows_they_name(migrated: Address) -> None:
    with connect(migrated, purpose="test") as connection:
        connection.execute(ROWS)
        before = rows(connection)
        assert all(before.values()), "a table without rows proves nothing"
        for migration in reversed(MIGRATIONS):
            down(connection)
            after = rows(connection)
            lost = {table for table in before if after.get(table) != before[table]}
            assert migration.rollback
            assert lost == before.keys() - after.keys(), f"{migration.id} loses rows it keeps"
            assert bool(lost) == ("data-loss" in migration.rollback.directives), migration.id
            before = after


@pytest.mark.row("R11")
def test_the_committed_snapshot_makes_what_the_migrations_make(
    scratch: Address, migrated: Address
) -> None:
    with connect(migrated, purpose="test") as connection:
        expected = read_catalog(connection)
    with connect(scratch, purpose="test") as connection:
        connection.execute(project().snapshot.read_bytes())
        assert diff(expected, read_catalog(connection)) == []
