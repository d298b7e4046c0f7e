"""One migrated database for the folder; each test has a transaction of it, which is rolled back."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from scripts.database import connect
from scripts.runner.run import migrate
from scripts.scratch import scratch_database
from scripts.server import LocalServer
from scripts.settings import project
from tests.schema.acting import ROWS, Connection


@pytest.fixture(scope="session")
def database(server: LocalServer) -> Iterator[str]:
    """The address of a migrated database, for its owner, who has BYPASSRLS."""
    with scratch_database(server) as address:
        with connect(address, purpose="test") as connection:
            migrate(connection, project().migrations, roles=project().roles, check_seal=False)
        yield address.url


@pytest.fixture
def empty(database: str) -> Iterator[Connection]:
    """The owner, in a transaction."""
    with psycopg.connect(database) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def owner(empty: Connection) -> Connection:
    """The owner, in a transaction with `ROWS`."""
    empty.execute(ROWS)
    return empty
