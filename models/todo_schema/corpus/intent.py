"""How each statement is meant to be executed: what a plan of it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from todo_schema.statements.task_lists import Shape

Reads = Literal["nothing", "key", "limit", "filter", "range"]
"""How many rows a statement reads at the most.

`key`: those whose whole key is given. `limit`: as many as the limit, from each range of an index
that has them in order. `filter`: those, and the ones between them that a condition leaves out.
`range`: all of its user that an index's condition admits, in order or sorted, whichever the planner
takes for cheaper; that may change with the size of a user's data.
"""

KEY = "tasks_pkey"
BY_PRIORITY = "tasks_user_id_completed_priority_rank_id_idx"
BY_DUE_DATE = "tasks_user_id_completed_due_date_id_idx"
IN_PROGRESS = "tasks_in_progress_idx"
WORDS = "task_search_pkey"

ONE_RANGE, FEW_RANGES, ALL_STATES, COUNTS = 27, 60, 100, 130
"""Shared buffers: a list of 21 in one range of an index; in a few, or a page of 20 with its total;
in the ranges of every state or of the undated; the counts by status of 10,000 tasks."""


@dataclass(frozen=True)
class Intent:
    """How a statement is meant to be executed; the fields are `Statement`'s."""

    reads: Reads
    indexes: tuple[str, ...] = ()
    buffers: int | None = None


def of_shape(shape: Shape) -> Intent:
    """Return how a list of tasks is meant to be executed."""
    if "search" in shape.conditions:
        return Intent("range", (WORDS,))
    if shape.sort in ("updated", "title") or _is_thinned(shape):
        return Intent("range")
    undated = shape.sort == "due_date" and (shape.start == "undated" or not shape.dated)
    reads: Reads = "filter" if undated or shape.status == "pending" else "limit"
    return Intent(reads, _indexes(shape), _buffers(shape))


def _is_thinned(shape: Shape) -> bool:
    """Whether a condition leaves out rows between those of the ranges in this order.

    A page's total counts rows that no index has together, too.
    """
    if {"tags", "contains"} & {*shape.conditions}:
        return True
    if shape.numbered and (
        shape.dated is not None
        or shape.status == "pending"
        or (shape.priority and shape.state is None)
    ):
        return True
    if shape.sort == "created":
        return shape.dated is not None or (shape.status == "in_progress" and shape.priority)
    if shape.sort == "priority":
        return shape.dated is not None or shape.status is not None
    return shape.priority or shape.status is not None


def _indexes(shape: Shape) -> tuple[str, ...]:
    if shape.sort == "priority":
        return (BY_PRIORITY,)
    dated = (BY_DUE_DATE,) if shape.sort == "due_date" and shape.dated is not False else ()
    if shape.sort == "due_date" and shape.dated:
        return dated
    if shape.status == "in_progress":
        rest = IN_PROGRESS
    else:
        rest = KEY if shape.state is None and not shape.priority else BY_PRIORITY
    return (rest,) if shape.start == "undated" else (*dated, rest)


def _buffers(shape: Shape) -> int:
    if shape.numbered:
        return FEW_RANGES
    if shape.sort == "due_date" and not shape.dated:
        return ALL_STATES
    every_state = shape.state is None
    if shape.sort == "created":
        plain = shape.status == "in_progress" or (every_state and not shape.priority)
        return ONE_RANGE if plain or (not every_state and shape.priority) else FEW_RANGES
    return ALL_STATES if every_state else ONE_RANGE


def _one(*indexes: str) -> Intent:
    """Return the intent of what reads one row by its key."""
    return Intent("key", indexes, 5)


def _written(*indexes: str) -> Intent:
    return Intent("key", indexes)


NOTHING = Intent("nothing")
_OF_CONVERSATION = "messages_user_id_conversation_id_id_idx"
_CONVERSATION = "conversations_pkey"

FIXED = {
    "tasks.create": NOTHING,
    "tasks.get": _one(KEY),
    "tasks.update": _written(KEY),
    "tasks.toggle": _written(KEY),
    "tasks.delete": _written(KEY),
    "tasks.update_many": _written(KEY),
    "tasks.delete_many": _written(KEY),
    "tasks.counts": Intent("range", (KEY,), COUNTS),
    "conversations.create": NOTHING,
    "conversations.get": _one(_CONVERSATION),
    "conversations.update": _written(_CONVERSATION),
    "conversations.delete": _written(_CONVERSATION),
    "conversations.list": Intent("limit", ("conversations_user_id_updated_at_id_idx",), ONE_RANGE),
    "messages.create": _written(_CONVERSATION),
    "messages.get": _one("messages_pkey"),
    "messages.delete": _written("messages_pkey"),
    "messages.list": Intent("limit", (_OF_CONVERSATION, _CONVERSATION), ONE_RANGE + 4),
    "user": _one("user_pkey"),
    "user.exists": _one("user_pkey"),
    "schema_version": NOTHING,
}
"""By the first word of a statement's name."""
