"""Mirrors against the database: their tables and columns, types and nullability."""

from __future__ import annotations

import sys
import warnings
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
    return [
        Finding(
            "mirror",
            f"{what} {name}: {disagreement}",
            object=name,
            file=file,
            fix="mend the mirror, or write the migration that is missing",
        )
        for what, name, disagreement in _disagreements(_compare(connection, metadata))
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


def _disagreements(changes: list[Any]) -> list[tuple[str, str, str]]:
    """Tell what, which one and how, of the changes that would make the database the mirrors'."""
    found = []
    # Alembic lists the changes of one column together.
    for change in (c for entry in changes for c in (entry if isinstance(entry, list) else [entry])):
        match change:
            case ("add_table", table):
                found.append(("table", table.name, "the mirrors have it, the database does not"))
            case ("remove_table", table):
                found.append(("table", table.name, "the database has it, the mirrors do not"))
            case ("add_column", _, table, column):
                name = f"{table}.{column.name}"
                found.append(("column", name, "the mirror has it, the database does not"))
            case ("remove_column", _, table, column):
                name = f"{table}.{column.name}"
                found.append(("column", name, "the database has it, the mirror does not"))
            case ("modify_type", _, table, column, _, there, here):
                words = f"the mirror says {_sql(here)}, the database says {_sql(there)}"
                found.append(("column", f"{table}.{column}", words))
            case ("modify_nullable", _, table, column, _, _, here):
                mirror, database = ("NULL", "NOT NULL") if here else ("NOT NULL", "NULL")
                words = f"the mirror says {mirror}, the database says {database}"
                found.append(("column", f"{table}.{column}", words))
    return sorted(found)


def _sql(type_: Any) -> str:
    return str(type_.compile(dialect=URL.create("postgresql+psycopg").get_dialect()()))
