"""Every statement that the package can send: to read, and to run against a database.

A later release of the schema runs an earlier release's corpus, to see that it still works.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from itertools import combinations, product
from typing import Any, get_args

from todo_schema.engine import create_engine, run, tenant_options
from todo_schema.errors import TodoError, UnknownUserError, translated
from todo_schema.operation import Query
from todo_schema.schemas import TaskSort
from todo_schema.statements import conversations, tasks
from todo_schema.statements.task_lists import CONDITIONS, Shape, Start
from todo_schema.version import SCHEMA_VERSION, version_query

VERSION = 1
"""Of the JSON; another number means that a reader has to change."""

#: A value for each parameter, such as an application may send.
VALUES: dict[str, Any] = {
    "id": 1,
    "ids": [1, 2],
    "conversation_id": 1,
    "title": "Buy milk",
    "description": "Two bottles",
    "status": "pending",
    "priority": "high",
    "priority_rank": 3,
    "due_date": date(2026, 5, 1),
    "due_before": date(2026, 5, 1),
    "due_after": date(2026, 5, 1),
    "tags": ["home"],
    "contains": "milk",
    "search": "milk",
    "role": "user",
    "content": "What is due today?",
    "limit": 21,
    "offset": 0,
    "reach": 20,
    "most": 1001,
    "after_id": 1,
    **{f"set_{name}": True for name in ("title", "description", "priority", "due_date", "tags")},
    "set_status": False,
    "set_open": True,
}

_AFTER = {
    "updated": "2026-05-01T12:00:00+00:00",
    "title": "buy milk",
    "priority": 3,
    "due_date": "2026-05-01",
    "relevance": 0.5,
}


@dataclass(frozen=True)
class Statement:
    """One statement.

    Parameters
    ----------
    name : unique, and the same from release to release
    sql : with `%(name)s` for each parameter
    parameters : a value for each, `user_id` aside
    """

    name: str
    sql: str
    parameters: dict[str, Any]


def statements(*, everything: bool = False) -> Iterator[Statement]:
    """Yield the statements.

    Parameters
    ----------
    everything : every combination of filters, some 25,000, instead of each filter by itself in
        every order
    """
    for name, sql in _FIXED.items():
        yield _statement(name, sql)
    for shape in shapes(everything=everything):
        yield _statement(shape.name, shape.sql(), after_key=_AFTER.get(shape.sort))


def shapes(*, everything: bool = False) -> Iterator[Shape]:
    """Yield the shapes of the lists of tasks; for `everything` see `statements`."""
    for sort, descending in product(get_args(TaskSort), (True, False)):
        for filtered in _filters(everything):
            yield from (
                Shape(sort, descending, start, **filtered) for start in _starts(sort, filtered)
            )
            yield Shape(sort, descending, numbered=True, **filtered)
    for filtered in _filters(everything):
        if "search" in filtered["conditions"]:
            yield Shape("relevance", True, "first", **filtered)
            yield Shape("relevance", True, "later", **filtered)


def _starts(sort: str, filtered: dict[str, Any]) -> tuple[Start, ...]:
    if sort != "due_date":
        return "first", "later"
    starts: tuple[Start, ...] = ("first",)
    starts += () if filtered["dated"] is False else ("later",)
    return starts + (() if filtered["dated"] else ("undated",))


def _filters(everything: bool) -> Iterator[dict[str, Any]]:
    """Yield each filter: what it wants in each respect, in one at a time or in all."""
    states = [(None, None), (True, None), (False, None), (False, "pending"), (False, "in_progress")]
    names = list(CONDITIONS)
    for (state, status), priority, dated in product(states, (False, True), (None, True, False)):
        for count in range(len(names) + 1):
            for conditions in combinations(names, count):
                days = any(name.startswith("due_") for name in conditions)
                respects = [state is not None, priority, dated is not None and not days]
                if (days and not dated) or (not everything and sum(respects) + count > 1):
                    continue
                yield {
                    "state": state,
                    "status": status,
                    "priority": priority,
                    "dated": dated,
                    "conditions": conditions,
                }


_FIXED = {
    "tasks.create": tasks.CREATE,
    "tasks.get": tasks.GET,
    "tasks.update": tasks.UPDATE,
    "tasks.toggle": tasks.TOGGLE,
    "tasks.delete": tasks.DELETE,
    "tasks.update_many": tasks.UPDATE_MANY,
    "tasks.delete_many": tasks.DELETE_MANY,
    "tasks.counts": tasks.COUNTS,
    "conversations.create": conversations.CREATE,
    "conversations.get": conversations.GET,
    "conversations.update": conversations.UPDATE,
    "conversations.delete": conversations.DELETE,
    "conversations.list first": conversations.listing(later=False),
    "conversations.list later": conversations.listing(later=True),
    "messages.create": conversations.CREATE_MESSAGE,
    "messages.get": conversations.GET_MESSAGE,
    "messages.delete": conversations.DELETE_MESSAGE,
    **{
        f"messages.list {'later' if later else 'first'} {'desc' if descending else 'asc'}": (
            conversations.message_listing(descending=descending, later=later)
        )
        for later, descending in product((False, True), (False, True))
    },
    "user": conversations.USER,
    "schema_version": "select schema_version()",
}


def _statement(name: str, sql: str, after_key: Any = _AFTER["updated"]) -> Statement:
    wanted = sorted(set(re.findall(r"%\((\w+)\)s", sql)) - {"user_id"})
    values = {**VALUES, "after_key": after_key}
    return Statement(name, sql, {each: values[each] for each in wanted})


def main(arguments: Sequence[str] | None = None) -> int:
    """List or run the statements; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m todo_schema.corpus", description=__doc__.partition("\n")[0]
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
            {"name": each.name, "sql": each.sql, "parameters": list(each.parameters)}
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
