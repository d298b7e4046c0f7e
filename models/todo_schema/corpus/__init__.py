"""Every statement that the package can send: to read, and to run against a database.

A later release of the schema runs an earlier release's corpus, to see that it still works.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import combinations, product
from typing import Any, get_args

from todo_schema.corpus.intent import FIXED, Intent, Reads, of_shape
from todo_schema.schemas import TaskSort
from todo_schema.statements import conversations, tasks
from todo_schema.statements.task_lists import CONDITIONS, Shape, Start

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
    indexes : by which every plan of it reads; others may serve besides
    reads : how many rows at the most, see `Reads`
    buffers : how many pages of shared memory it touches at the most, with these parameters, for a
        user of many tasks; None where that follows from how many there are
    features : what it combines, such as an order and a filter; none for one of its own kind
    """

    name: str
    sql: str
    parameters: dict[str, Any]
    indexes: tuple[str, ...]
    reads: Reads
    buffers: int | None
    features: frozenset[str] = frozenset()


def statements(*, everything: bool = False) -> Iterator[Statement]:
    """Yield the statements.

    Parameters
    ----------
    everything : every combination of filters, some 25,000, instead of each filter by itself in
        every order
    """
    for name, sql in _FIXED.items():
        yield _statement(name, sql, FIXED[name.split()[0]], _AFTER["updated"])
    for shape in shapes(everything=everything):
        after = _AFTER.get(shape.sort)
        yield _statement(shape.name, shape.sql(), of_shape(shape), after, shape.features)


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
    "user.exists": conversations.EXISTS,
    "schema_version": "select schema_version()",
}


def _statement(
    name: str, sql: str, intent: Intent, after_key: Any, features: frozenset[str] = frozenset()
) -> Statement:
    wanted = sorted(set(re.findall(r"%\((\w+)\)s", sql)) - {"user_id"})
    values = {**VALUES, "after_key": after_key}
    parameters = {each: values[each] for each in wanted}
    return Statement(name, sql, parameters, intent.indexes, intent.reads, intent.buffers, features)
