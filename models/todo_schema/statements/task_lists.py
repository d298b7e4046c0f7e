"""The lists of tasks: every combination of order, filter and start, as one statement each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Literal

from todo_schema.schemas import TaskFilter, TaskRead
from todo_schema.statements.common import reader
from todo_schema.statements.listing import Ordering, ranges, segments, statement

COLUMNS, read = reader(TaskRead)

ORDERINGS = {
    "created": Ordering(None, "bigint", True),
    "updated": Ordering("updated_at", "timestamptz", True),
    "title": Ordering('lower(title) collate "C"', "text", False),
    "priority": Ordering("priority_rank", "smallint", True),
    "due_date": Ordering("due_date", "date", False),
    "relevance": Ordering("ts_rank(vector, query)", "real", True),
}

#: Conditions by the filter's field; state and priority are ranges of an index instead.
CONDITIONS = {
    "due_date": "due_date = %(due_date)s::date",
    "due_before": "due_date < %(due_before)s::date",
    "due_after": "due_date > %(due_after)s::date",
    "tags": "tags @> %(tags)s::text[]",
    "contains": (
        "(strpos(lower(title), lower(%(contains)s::text)) > 0"
        " or strpos(lower(description), lower(%(contains)s::text)) > 0)"
    ),
    "search": "id = any((select ids from found)::bigint[])",
}

_STATES = {False: "not completed", True: "completed"}
_RANK = "priority_rank = %(priority_rank)s::smallint"

# The vector is made once for each candidate, to match and to rank.
_RANKED = """\
tasks
cross join wanted
cross join lateral (
    select task_vector(title, description) as vector offset 0
) as v"""
_MATCH = "task_vector(title, description) @@ (select query from wanted)"

# Words find candidates, the task's own text decides. The words lie in a key of their own, since
# under row security no index can answer @@.
SEARCH = [
    "wanted as materialized (\n    select search_query(%(search)s::text) as query\n)",
    "found as materialized (\n"
    "    select array(\n"
    "        select task_id\n"
    "        from task_search\n"
    "        where\n"
    "            user_id = %(user_id)s\n"
    "            and words like any ((select search_patterns(query) from wanted)::text[])\n"
    "    ) as ids\n"
    ")",
]

Start = Literal["first", "later", "undated"]


@dataclass(frozen=True)
class Shape:
    """What decides the text of a list's statement; everything else is a parameter.

    Parameters
    ----------
    sort, descending : the order
    start : the first rows, those after one in the first segment, or in the second
    numbered : a page by its number, with a total, instead of rows after a cursor
    state : completed, or None for both
    status : pending or in_progress where only those are wanted
    priority : whether one priority is wanted
    dated : whether dated tasks are wanted, undated ones, or (None) both
    conditions : the filter's other fields, in the order of `CONDITIONS`
    """

    sort: str = "created"
    descending: bool = True
    start: Start = "first"
    numbered: bool = False
    state: bool | None = None
    status: str | None = None
    priority: bool = False
    dated: bool | None = None
    conditions: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the corpus calls the statement."""
        order = "desc" if self.descending else "asc"
        return " ".join(["tasks.list", self._start, self.sort, order, *self._filters])

    @property
    def features(self) -> frozenset[str]:
        """What the statement combines: its start, its order and each filter."""
        order = "desc" if self.descending else "asc"
        return frozenset([self._start, f"by {self.sort}", order, *self._filters])

    @property
    def _start(self) -> str:
        return "page" if self.numbered else self.start

    @property
    def _filters(self) -> list[str]:
        state = {None: "", True: "completed", False: "open"}[self.state]
        words = [
            f"status={self.status}" if self.status else state,
            "priority" if self.priority else "",
            {None: "", True: "dated", False: "undated"}[self.dated],
            *self.conditions,
        ]
        return [word for word in words if word]

    @lru_cache(maxsize=1024)  # noqa: B019 - shapes are few, small values
    def sql(self) -> str:
        """Return the statement."""
        ordering = replace(ORDERINGS[self.sort], descending=self.descending)
        head = {"words": "(select numnode(query) from wanted)"} if self._searches else {}
        window = ""
        if self.numbered:
            head["total"] = f"({self._total()})"
            window = "\nlimit %(limit)s\noffset %(offset)s"
        return statement(
            self._rows(ordering),
            ordering,
            common=SEARCH if self._searches else (),
            head=head,
            window=window,
        )

    def _rows(self, ordering: Ordering) -> str:
        limit = "%(reach)s" if self.numbered else "%(limit)s"
        if self.sort != "due_date":
            return self._merged(ordering, limit, self._dated())
        undated = replace(ordering, key=None)
        if self.start == "undated" or self.dated is False:
            return self._merged(undated, limit, ["due_date is null"])
        dated = self._merged(ordering, limit, ["due_date is not null"])
        if self.dated:
            return dated
        first = replace(self, start="first")
        return segments(dated, first._merged(undated, limit, ["due_date is null"]), limit)

    def _merged(self, ordering: Ordering, limit: str, also: list[str]) -> str:
        """Return the rows of the ranges that hold them in this order."""
        ranked = self.sort == "relevance"
        match = ["vector @@ query" if ranked else _MATCH] if self._searches else []
        after = [] if self.start == "first" else [ordering.before]
        conditions = [
            ["user_id = %(user_id)s", *part, *also, *self._others(), *match, *after]
            for part in self._ranges(ordering)
        ]
        return ranges(_RANKED if ranked else "tasks", COLUMNS, ordering, conditions, limit)

    def _ranges(self, ordering: Ordering) -> list[list[str]]:
        """Return the condition of each range of an index that has the rows in this order."""
        rank = [_RANK] if self.priority else []
        wanted = [f"status = '{self.status}'"] if self.status else []
        states = [False, True] if self.state is None else [self.state]
        any_order = self._searches or self.sort in ("updated", "title")
        if ordering.key is not None and not any_order:
            return [[_STATES[state], *wanted, *rank] for state in states]
        if any_order or self.status == "in_progress" or not self._state():
            return [self._state()]
        levels = rank or [f"priority_rank = {level}" for level in (3, 2, 1)]
        return [[_STATES[state], level, *wanted] for state, level in product(states, levels)]

    @property
    def _searches(self) -> bool:
        return "search" in self.conditions

    def _state(self) -> list[str]:
        """Return the conditions of state and priority; `in_progress` has an index of its own."""
        status = f"status = '{self.status}'" if self.status else ""
        state = "" if self.state is None or self.status == "in_progress" else _STATES[self.state]
        return [each for each in (state, status, _RANK if self.priority else "") if each]

    def _dated(self) -> list[str]:
        return [] if self.dated is None else [f"due_date is {'not ' if self.dated else ''}null"]

    def _others(self) -> list[str]:
        return [CONDITIONS[name] for name in self.conditions]

    def _total(self) -> str:
        match = [_MATCH] if self._searches else []
        parts = [
            "user_id = %(user_id)s",
            *self._state(),
            *self._dated(),
            *self._others(),
            *match,
        ]
        where = " and ".join(parts)
        return f"select count(*) from (select from tasks where {where} limit %(most)s) as counted"


def shape(filter: TaskFilter, sort: str, order: str | None) -> Shape:
    """Return the shape of a filtered list's first rows."""
    descending = ORDERINGS[sort].descending if order is None else order == "desc"
    state, status = filter.completed, filter.status
    if status is not None:
        state = status == "completed"
        status = None if state else status
    days = [filter.due_date, filter.due_before, filter.due_after]
    dated = True if filter.has_due_date is None and any(days) else filter.has_due_date
    return Shape(
        sort,
        descending,
        state=state,
        status=status,
        priority=filter.priority is not None,
        dated=dated,
        conditions=tuple(name for name in CONDITIONS if getattr(filter, name)),
    )
