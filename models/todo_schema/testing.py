"""A pytest plugin for applications: a database of this schema for each test.

Write `pytest_plugins = ["todo_schema.testing"]` into the top conftest.py. The server is that of
pytest-postgresql's fixture `postgresql_proc`, or of the one that the option `todo_schema_server` of
pytest's configuration names. Its user has to be a superuser, as pytest-postgresql's own is, or to
have CREATEDB, CREATEROLE and BYPASSRLS.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql
from sqlalchemy import Engine

from todo_schema.engine import create_engine
from todo_schema.version import SCHEMA_VERSION

try:
    import pytest
except ImportError as error:
    raise ImportError("todo_schema.testing needs: pip install 'todo-schema[testing]'") from error


@dataclass(frozen=True)
class TodoDatabase:
    """A database of this schema.

    Parameters
    ----------
    url : for the application, as a role that row security binds
    owner_url : for what a test has to see or do besides
    """

    url: str = field(repr=False)
    owner_url: str = field(repr=False)

    @cached_property
    def engine(self) -> Engine:
        """A sync engine of the application; asynchronous tests make one of `url`."""
        return create_engine(self.url)

    def add_user(self, user_id: str) -> None:
        """Store an account, as Better Auth would.

        Parameters
        ----------
        user_id : 1 to 255 characters
        """
        with psycopg.connect(self.owner_url) as connection:
            connection.execute(
                'insert into "user" (id, name, email) values (%s, %s, lower(%s))',
                [user_id, user_id, f"{user_id[:200]}@example.com"],
            )


@dataclass(frozen=True)
class _Server:
    host: str
    port: int
    owner: tuple[str, str | None]
    application: tuple[str, str]
    template: str

    def url(self, database: str, role: tuple[str, str | None]) -> str:
        user, password = (quote(each or "", safe="") for each in role)
        place = f"/{quote(database, safe='')}?host={quote(self.host, safe='')}&port={self.port}"
        return f"postgresql://{user}{':' + password if password else ''}@{place}"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the server's fixture."""
    parser.addini(
        "todo_schema_server",
        "the process or noproc fixture of pytest-postgresql whose server has the databases",
        default="postgresql_proc",
    )


@pytest.fixture(scope="session")
def _todo_server(request: pytest.FixtureRequest) -> Iterator[_Server]:
    """A template of the schema on the server, and a login role for the application."""
    server: Any = request.getfixturevalue(request.config.getini("todo_schema_server"))
    name = f"todo_schema_{secrets.token_hex(6)}"
    made = _Server(
        str(server.host),
        server.port,
        (server.user, server.password or None),
        (name, secrets.token_urlsafe()),
        name,
    )
    with _maintenance(made) as connection:
        (powerful,) = connection.execute(
            "select rolsuper or (rolcreatedb and rolcreaterole and rolbypassrls)"
            " from pg_roles where rolname = current_user"
        ).fetchone() or (False,)
        if not powerful:
            pytest.fail(
                f"todo_schema.testing: {server.user} has to be a superuser, or to have CREATEDB, "
                "CREATEROLE and BYPASSRLS",
                pytrace=False,
            )
        # Not of template1, which may hold anything and be in use.
        connection.execute(
            sql.SQL("create database {} template template0").format(sql.Identifier(name))
        )
        try:
            with psycopg.connect(made.url(name, made.owner), autocommit=True) as template:
                _load(template)
            connection.execute(
                sql.SQL("create role {} login password {} in role todo_app").format(
                    sql.Identifier(name), sql.Literal(made.application[1])
                )
            )
            yield made
        finally:
            _drop(connection, name)
            connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(name)))


@pytest.fixture
def todo_database(_todo_server: _Server) -> Iterator[TodoDatabase]:
    """A database of this schema for one test, empty."""
    name = f"todo_test_{secrets.token_hex(6)}"
    with _maintenance(_todo_server) as connection:
        connection.execute(
            sql.SQL("create database {} template {}").format(
                sql.Identifier(name), sql.Identifier(_todo_server.template)
            )
        )
        database = TodoDatabase(
            _todo_server.url(name, _todo_server.application),
            _todo_server.url(name, _todo_server.owner),
        )
        try:
            yield database
        finally:
            database.engine.dispose()
            _drop(connection, name)


@contextmanager
def _maintenance(server: _Server) -> Iterator[psycopg.Connection]:
    url = server.url("postgres", server.owner)
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def _load(connection: psycopg.Connection) -> None:
    package = files("todo_schema")
    for name in ("roles.sql", "schema.sql"):
        connection.execute(package.joinpath(name).read_bytes())
    # What schema_version() reads; the runner's own tables are not part of the schema.
    connection.execute("create table public._yoyo_migration (migration_id text)")
    connection.execute("insert into public._yoyo_migration values (%s)", [SCHEMA_VERSION])


def _drop(connection: psycopg.Connection, name: str) -> None:
    connection.execute(
        sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
    )
