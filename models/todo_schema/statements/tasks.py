"""Tasks: every statement, and the operations that send them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

from todo_schema.errors import InvalidError, NotFoundError
from todo_schema.operation import Mode, Namespace, Query, Row, operation
from todo_schema.schemas import (
    Order,
    Page,
    Slice,
    TaskCounts,
    TaskCreate,
    TaskFilter,
    TaskRead,
    TaskSort,
    TaskUpdate,
    Total,
)
from todo_schema.statements.common import (
    by_id,
    checked_choice,
    checked_ids,
    checked_limit,
    sliced,
    valid,
)
from todo_schema.statements.cursor import decode
from todo_schema.statements.task_lists import COLUMNS, CONDITIONS, Shape, read, shape

REACH = 10_000
"""The last task that a numbered page can show: it reads all those before it."""

BOUND = 1_000
"""How far a bounded total counts."""

_WIDTH = len(TaskRead.model_fields)

GET = f"select {COLUMNS}\nfrom tasks\nwhere user_id = %(user_id)s and id = %(id)s::bigint"

CREATE = f"""\
insert into tasks (user_id, title, description, status, priority, due_date, tags)
values (
    %(user_id)s, %(title)s, %(description)s, %(status)s, %(priority)s, %(due_date)s::date,
    %(tags)s::text[]
)
returning {COLUMNS}"""

# One statement for every choice of fields: what is not given stays as it is. completed = false
# opens a completed task again and leaves one in progress alone.
_SET = """\
set
    title = case when %(set_title)s then %(title)s::text else title end,
    description = case when %(set_description)s then %(description)s::text else description end,
    status = case
        when %(set_status)s then %(status)s::text
        when %(set_open)s and completed then 'pending'
        else status
    end,
    priority = case when %(set_priority)s then %(priority)s::text else priority end,
    due_date = case when %(set_due_date)s then %(due_date)s::date else due_date end,
    tags = case when %(set_tags)s then %(tags)s::text[] else tags end"""

UPDATE = f"""\
update tasks
{_SET}
where user_id = %(user_id)s and id = %(id)s::bigint
returning {COLUMNS}"""

TOGGLE = f"""\
update tasks
set status = case when completed then 'pending' else 'completed' end
where user_id = %(user_id)s and id = %(id)s::bigint
returning {COLUMNS}"""

DELETE = "delete from tasks\nwhere user_id = %(user_id)s and id = %(id)s::bigint\nreturning id"

# All or nothing, in one statement: the rows are locked in the order of their ids, which spares
# deadlocks, and changed only if none is missing.
_LOCKED = """\
with locked as (
    select id
    from tasks
    where user_id = %(user_id)s and id = any(%(ids)s::bigint[])
    order by id
    for update
),
missing as (
    select id from unnest(%(ids)s::bigint[]) as asked (id)
    except
    select id from locked
),
changed as (
    {change}
        user_id = %(user_id)s
        and id = any(array(select id from locked))
        and not exists (select from missing)
    returning {columns}
)
select true, {columns} from changed
union all
select false, {missing} from missing
order by 1, 2"""

UPDATE_MANY = _LOCKED.format(
    change=f"update tasks\n{_SET}\nwhere".replace("\n", "\n    "),
    columns=COLUMNS,
    missing=", ".join(["id"] + ["null"] * (_WIDTH - 1)),
)

DELETE_MANY = _LOCKED.format(change="delete from tasks\n    where", columns="id", missing="id")

# Sorted by id, so that it reads the key: the visibility map's pages come in order.
COUNTS = """\
select status, count(*)
from (select status from tasks where user_id = %(user_id)s order by id offset 0) as every
group by status"""


def _values(changes: TaskUpdate) -> dict[str, Any]:
    """Return the parameters of `_SET`."""
    given = changes.given()
    completed = given.pop("completed", None)
    if completed:
        given["status"] = "completed"
    fields = ["title", "description", "status", "priority", "due_date", "tags"]
    return {
        "set_open": completed is False,
        **{f"set_{name}": name in given for name in fields},
        **{name: given.get(name) for name in fields},
    }


TaskList = list[TaskRead]

_FILTERS = set(TaskFilter.model_fields)  # a subclass may have others

_RANKS = {"low": 1, "medium": 2, "high": 3}


class Tasks(Namespace[Mode]):
    """A user's tasks."""

    @operation
    def create(self, task: TaskCreate) -> Query[TaskRead]:
        """Store a new task.

        Parameters
        ----------
        task : its values

        Returns
        -------
        The task as it is stored.

        Raises
        ------
        UnknownUserError : the session's user does not exist
        """
        values = task.model_dump()
        if values.pop("completed"):
            values["status"] = "completed"
        return Query("tasks.create", CREATE, self._with(values), lambda rows: read(rows[0]))

    @operation
    def get(self, task_id: int) -> Query[TaskRead]:
        """Return one task.

        Parameters
        ----------
        task_id : which task

        Raises
        ------
        NotFoundError : the user has no task with this id
        InvalidError : the id is no integer
        """
        return by_id(self, "tasks.get", GET, task_id, read)

    @operation
    def update(self, task_id: int, changes: TaskUpdate) -> Query[TaskRead]:
        """Change the fields that are given; with none, return the task as it is.

        Parameters
        ----------
        task_id : which task
        changes : new values; None empties a field

        Raises
        ------
        NotFoundError : the user has no task with this id
        """
        if not changes.given():
            return by_id(self, "tasks.get", GET, task_id, read)
        return by_id(self, "tasks.update", UPDATE, task_id, read, values=_values(changes))

    @operation
    def toggle(self, task_id: int) -> Query[TaskRead]:
        """Complete a task, or make a completed one pending.

        Parameters
        ----------
        task_id : which task

        Raises
        ------
        NotFoundError : the user has no task with this id
        InvalidError : the id is no integer
        """
        return by_id(self, "tasks.toggle", TOGGLE, task_id, read)

    @operation
    def delete(self, task_id: int) -> Query[None]:
        """Delete a task.

        Parameters
        ----------
        task_id : which task

        Raises
        ------
        NotFoundError : the user has no task with this id
        InvalidError : the id is no integer
        """
        return by_id(self, "tasks.delete", DELETE, task_id, lambda row: None)

    @operation
    def update_many(self, ids: Sequence[int], changes: TaskUpdate) -> Query[TaskList]:
        """Change the given fields of several tasks, of all or of none.

        Parameters
        ----------
        ids : 1 to 1,000; repeated ones count once
        changes : the new values, the same for all; at least one field

        Returns
        -------
        The tasks, by id.

        Raises
        ------
        NotFoundError : some are not the user's; `ids` lists them, and nothing was changed
        InvalidError : there are no ids, too many, or no changes
        """
        if not changes.given():
            raise InvalidError("changes", "required", "changes must have at least one field.")
        unique = checked_ids("task", ids)

        def decode(rows: Sequence[Row]) -> TaskList:
            return [read(row[1:]) for row in _all_found(rows)]

        values = self._with({"ids": unique, **_values(changes)})
        return Query("tasks.update_many", UPDATE_MANY, values, decode)

    @operation
    def delete_many(self, ids: Sequence[int]) -> Query[int]:
        """Delete several tasks, all or none.

        Parameters
        ----------
        ids : 1 to 1,000; repeated ones count once

        Returns
        -------
        The number of tasks.

        Raises
        ------
        NotFoundError : some are not the user's; `ids` lists them, and nothing was deleted
        InvalidError : there are no ids, or too many
        """
        unique = checked_ids("task", ids)
        return Query(
            "tasks.delete_many",
            DELETE_MANY,
            self._with({"ids": unique}),
            lambda rows: len(_all_found(rows)),
        )

    @operation
    def counts(self) -> Query[TaskCounts]:
        """Return how many tasks there are of each status."""

        def decode(rows: Sequence[Row]) -> TaskCounts:
            return TaskCounts(**dict(map(tuple, rows)))

        return Query("tasks.counts", COUNTS, self._with({}), decode)

    @operation
    def list(
        self,
        filter: TaskFilter | None = None,
        *,
        sort: TaskSort = "created",
        order: Order | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Query[Slice[TaskRead]]:
        """Return tasks in order, and the cursor of what follows.

        Pages by cursor cost the same however far one goes, and show no row twice and lose none
        while others are added.

        Parameters
        ----------
        filter : which tasks; all by default
        sort : `created`, `updated`, `title`, `priority` or `due_date`
        order : `asc` or `desc`; by default each sort's own (newest, latest, a, high, earliest)
        limit : 1 to 100
        cursor : the last slice's `next_cursor`, with the same arguments otherwise

        Raises
        ------
        InvalidError : an argument is out of its bounds, or the search has no word to look for
        CursorError : the cursor is not one of this user's for this list
        """
        checked_choice("sort", sort, get_args(TaskSort))
        return self._slice(filter or TaskFilter(), sort, order, limit, cursor)

    @operation
    def search(
        self,
        text: str,
        filter: TaskFilter | None = None,
        *,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Query[Slice[TaskRead]]:
        """Return the tasks that match, best first.

        Parameters
        ----------
        text : words, `"a phrase"`, `-without`, `OR`; the last word may be unfinished
        filter : which tasks besides
        limit : 1 to 100
        cursor : the last slice's `next_cursor`, with the same arguments otherwise

        Raises
        ------
        InvalidError : the text has no word to look for, or an argument is out of its bounds
        CursorError : the cursor is not one of this user's for this search
        """
        if not isinstance(text, str):
            raise InvalidError("search", "type")
        both = {**(filter.model_dump(include=_FILTERS) if filter else {}), "search": text}
        return self._slice(valid(TaskFilter, both), "relevance", None, limit, cursor)

    @operation
    def page(
        self,
        filter: TaskFilter | None = None,
        *,
        sort: TaskSort = "created",
        order: Order | None = None,
        page: int = 1,
        limit: int = 20,
        total: Total = "bounded",
    ) -> Query[Page[TaskRead]]:
        """Return a page by its number, and how many tasks there are.

        It reads all that come before it, so it reaches to the 10,000th task; `list` goes on.

        Parameters
        ----------
        filter, sort, order : as in `list`
        page : from 1
        limit : tasks on a page, 1 to 100
        total : `exact`, `bounded` (counts to 1,000) or `none`

        Raises
        ------
        InvalidError : an argument is out of its bounds, or the search has no word to look for
        """
        checked_choice("sort", sort, get_args(TaskSort))
        checked_choice("total", total, get_args(Total))
        checked_limit(limit)
        last = -(-REACH // limit)
        if type(page) is not int or not 1 <= page <= last:
            raise InvalidError("page", "range", f"page must be 1 to {last}.")
        given = filter or TaskFilter()
        offset = (page - 1) * limit
        values = {
            "limit": limit,
            "offset": offset,
            "reach": offset + limit,
            "most": {"exact": None, "bounded": BOUND + 1, "none": 0}[total],
        }
        wanted = replace(self._shape(given, sort, order), numbered=True)

        def decode(rows: Sequence[Row]) -> Page[TaskRead]:
            _has_words(rows, wanted)
            counted = int(rows[0][-1])
            exact = total == "exact" or (total == "bounded" and counted <= BOUND)
            return Page[TaskRead](
                items=[read(row) for row in rows if row[0] is not None],
                page=page,
                limit=limit,
                total=None if total == "none" else min(counted, BOUND) if not exact else counted,
                total_is_exact=exact,
            )

        return Query(wanted.name, wanted.sql(), self._filtered(given, values), decode)

    def _slice(
        self, filter: TaskFilter, sort: str, order: str | None, limit: int, cursor: str | None
    ) -> Query[Slice[TaskRead]]:
        wanted = self._shape(filter, sort, order)
        values: dict[str, Any] = {"limit": checked_limit(limit) + 1}
        given = filter.model_dump_json(include=_FILTERS, exclude_defaults=True)
        listing = f"tasks {sort} {wanted.descending} {given}"
        if cursor is not None:
            position = decode(self.secret, self.user_id, listing, cursor)
            wanted = replace(wanted, start="undated" if position.undated else "later")
            values |= {"after_key": position.key, "after_id": position.id}
        nullable = sort == "due_date"
        slice_ = sliced(self, Slice[TaskRead], read, listing, limit, key=_WIDTH, nullable=nullable)

        def decode_(rows: Sequence[Row]) -> Slice[TaskRead]:
            _has_words(rows, wanted)
            return slice_(rows)

        return Query(wanted.name, wanted.sql(), self._filtered(filter, values), decode_)

    def _shape(self, filter: TaskFilter, sort: str, order: str | None) -> Shape:
        if order is not None:
            checked_choice("order", order, get_args(Order))
        return shape(filter, sort, order)

    def _filtered(self, filter: TaskFilter, values: dict[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = {name: getattr(filter, name) for name in CONDITIONS}
        rank = _RANKS.get(filter.priority or "")
        return self._with({**given, "priority_rank": rank, **values})


def _all_found(rows: Sequence[Row]) -> Sequence[Row]:
    missing = [row[1] for row in rows if not row[0]]
    if missing:
        raise NotFoundError("task", missing)
    return rows


def _has_words(rows: Sequence[Row], wanted: Shape) -> None:
    if "search" in wanted.conditions and not rows[0][_WIDTH + 1]:
        raise InvalidError("search", "blank", "The search has no word to look for.")
