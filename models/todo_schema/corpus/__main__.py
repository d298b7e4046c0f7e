"""`python -m todo_schema.corpus list|run`: print the statements, or execute each of them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from todo_schema import corpus
from todo_schema.corpus import Statement, statements
from todo_schema.engine import create_engine, run, tenant_options
from todo_schema.errors import TodoError, UnknownUserError, translated
from todo_schema.operation import Query
from todo_schema.version import SCHEMA_VERSION, version_query

VERSION = 1
"""Of the JSON; another number means that a reader has to change."""


def main(arguments: Sequence[str] | None = None) -> int:
    """List or run the statements; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m todo_schema.corpus", description=corpus.__doc__.partition("\n")[0]
    )
    parser.add_argument("action", choices=["list", "run"])
    parser.add_argument("--all", action="store_true", help="every combination of filters")
    parser.add_argument("--user", default="corpus", help="whose rows run asks for")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    asked = parser.parse_args(arguments)
    try:
        release = version("todo-schema")
    except PackageNotFoundError:
        release = "unknown"
    known = list(statements(everything=asked.all))
    document: dict[str, Any] = {"v": VERSION, "package": release, "schema_version": SCHEMA_VERSION}
    failed = False
    if asked.action == "list":
        document["statements"] = [
            {**asdict(each), "parameters": list(each.parameters), "features": sorted(each.features)}
            for each in known
        ]
        lines = [f"-- name: {each.name}\n{each.sql}\n" for each in known]
    else:
        try:
            results = [(each.name, error) for each, error in _run(known, asked.user)]
        except TodoError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        failed = any(error for _, error in results)
        document["results"] = [
            {"name": name, "ok": error is None, "error": error} for name, error in results
        ]
        lines = [
            *(f"failed {name}: {error}" for name, error in results if error),
            f"{sum(not error for _, error in results)} of {len(results)} statements ran",
        ]
    if asked.json:
        print(json.dumps(document, default=str))
    else:
        print(*lines, sep="\n")
    return int(failed)


def _run(known: Sequence[Statement], user_id: str) -> Iterator[tuple[Statement, str | None]]:
    """Execute each statement in a transaction that is rolled back; yield what went wrong."""
    engine = create_engine()
    try:
        options = tenant_options(engine, user_id, required=False)
        with translated(), engine.connect() as connection:
            connection.execution_options(**options)
            # What is wrong with the whole is told once.
            run(connection, version_query(exact=False))
            connection.rollback()
            for each in known:
                values = {"user_id": user_id, **each.parameters}
                error = None
                try:
                    run(connection, Query(each.name, each.sql, values, lambda rows: None))
                except UnknownUserError:
                    pass  # the statement ran as far as the foreign key
                except TodoError as caught:
                    error = str(caught.__cause__ or caught).partition("\n")[0]
                connection.rollback()
                yield each, error
    finally:
        engine.dispose()


if __name__ == "__main__":
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)
