"""Mirrors against the database: their tables and columns, types and nullability."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, MetaData, create_engine
from sqlalchemy.exc import SAWarning
from sqlalchemy.pool import StaticPool

from scripts.catalog.model import BOOKKEEPING
from scripts.errors import Finding
from scripts.settings import project


def compare_mirrors(connection: psycopg.Connection, mirrors: str) -> list[Finding]:
    """Return a finding for each table or column that mirrors and database do not agree on.

    Parameters
    ----------
    connection : to the database; nothing is written, and the connection stays open
    mirrors : where SQLAlchemy's metadata is, `module:attribute`
    """
    module, _, attribute = mirrors.partition(":")
    try:
        metadata: MetaData = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        return [
            Finding(
                "mirror",
                f"the mirrors {mirrors} cannot be imported: {error}",
                fix="mend the module, or `mirrors` of [tool.schema] in pyproject.toml",
            )
        ]
    file = project().relative(Path(sys.modules[module].__file__ or module))
    fix = "mend the mirror, or write the migration that is missing"
    return [
        Finding("mirror", f"{kind} {name}: {words}", object=name, file=file, fix=fix)
        for kind, name, words in sorted(_disagreements(_compare(connection, metadata)))
    ]


def _compare(connection: psycopg.Connection, metadata: MetaData) -> list[Any]:
    # The session's own connection, so that TLS and roles are the same.
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool
    )
    options = {
        "compare_type": True,
        "compare_server_default": False,
        "include_name": lambda name, kind, parents: kind != "table" or name not in BOOKKEEPING,
    }
    with warnings.catch_warnings(), engine.connect() as session:
        # SQLAlchemy does not know all that a table may have, such as a CHECK that is NOT VALID.
        warnings.simplefilter("ignore", SAWarning)
        context = MigrationContext.configure(session, opts=options)
        return list(compare_metadata(context, metadata))


def _disagreements(changes: Iterable[Any]) -> Iterator[tuple[str, str, str]]:
    """Tell what, which one and how, of the changes that would make the database the mirrors'."""
    here, there = (
        "the mirrors have it, the database does not",
        "the database has it, the mirrors do not",
    )
    for change in changes:
        match change:
            case list():  # the changes of one column
                yield from _disagreements(change)
            case ("add_table" | "remove_table" as what, table):
                yield "table", table.name, here if what == "add_table" else there
            case ("add_column" | "remove_column" as what, _, table, column):
                words = here if what == "add_column" else there
                yield "column", f"{table}.{column.name}", words
            case ("modify_type" | "modify_nullable", _, table, column, _, database, mirror):
                words = f"the mirrors say {_sql(mirror)}, the database says {_sql(database)}"
                yield "column", f"{table}.{column}", words


def _sql(value: Any) -> str:
    """The type, or what being nullable is in SQL."""
    if isinstance(value, bool):
        return "NULL" if value else "NOT NULL"
    return str(value.compile(dialect=URL.create("postgresql+psycopg").get_dialect()()))
