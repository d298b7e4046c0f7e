"""Lists, pages, searches and bulk operations find and change exactly what they should."""

from __future__ import annotations

import asyncio
import base64
import datetime
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, get_args

import psycopg
import pytest
import todo_schema as todo
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from todo_schema import MessageCreate, NotFoundError, TaskCreate, TaskFilter, TaskUpdate, aio

from scripts.address import Address
from scripts.server import LocalServer

DAY = datetime.date(2026, 5, 1)
STATUSES = get_args(todo.Status)
SORTS = get_args(todo.TaskSort)

# Alice's tasks meet in every sort key: of each state, priority and date there are two, with one
# title, one text and one time. Bob's are the same.
TASKS = """
insert into tasks (user_id, title, description, status, priority, due_date, tags)
select
    owner,
    (array['Zebra', 'apple', '10 apples', '9 zebras, 50% off_'])[1 + (length(priority) + n) % 4],
    (array[null, 'Report the broken violin', 'reports'])[1 + (length(status) + n) % 3],
    status,
    priority,
    due,
    (array['{}', '{home}', '{home,work}'])[1 + n % 3]::text[]
from unnest('{alice,bob}'::text[]) as owner
cross join unnest('{pending,in_progress,completed}'::text[]) as status
cross join unnest('{low,medium,high}'::text[]) as priority
cross join unnest('{2026-05-01,2026-05-02,null}'::date[]) as due
cross join generate_series(1, 2) as n
order by md5(owner || status || priority || coalesce(due::text, '') || n)
"""

# Before, at, and after the keys of those.
MORE = """
insert into tasks (user_id, title, status, due_date)
select 'alice', title, status, due
from unnest('{Apple,zebra}'::text[]) as title
cross join unnest('{pending,completed}'::text[]) as status
cross join unnest('{null,2026-05-01}'::date[]) as due
returning id
"""

# What a list is compared with: the same in plain SQL, by the owner.
PLAIN = {
    **{name: f"{name} = %({name})s" for name in ("status", "priority", "due_date")},
    "completed": "(status = 'completed') = %(completed)s",
    "due_before": "due_date < %(due_before)s",
    "due_after": "due_date > %(due_after)s",
    "has_due_date": "(due_date is not null) = %(has_due_date)s",
    "tags": "%(tags)s::text[] <@ tags",
    "contains": "position(lower(%(contains)s) in lower(concat(title, chr(1), description))) > 0",
    "search": "task_vector(title, description) @@ search_query(%(search)s)",
}
ORDERS = {
    "created": "id {}",
    "updated": "updated_at {}, id {}",
    "title": 'lower(title) collate "C" {}, id {}',
    "priority": "array_position('{{low,medium,high}}', priority) {}, id {}",
    "due_date": "due_date {} nulls last, id {}",
    "relevance": "ts_rank(task_vector(title, description), search_query(%(search)s)) {}, id {}",
}
NATURAL = {"created": "desc", "updated": "desc", "priority": "desc"}


@pytest.fixture(scope="module")
def owner(module_database: Address) -> Iterator[psycopg.Connection]:
    with psycopg.connect(module_database.url, autocommit=True) as connection:
        users = "('alice', '', 'a@b'), ('bob', '', 'b@b')"
        connection.execute(f'insert into "user" (id, name, email) values {users}')
        connection.execute(TASKS)
        # A second time of change: the times have ties and differ.
        connection.execute("update tasks set tags = tags || 'x'::text where id % 3 = 0")
        yield connection


@pytest.fixture(scope="module")
def url(server: LocalServer, module_database: Address, owner: psycopg.Connection) -> str:
    server.allow_logins()
    return module_database.with_(user="todo_app").url


@pytest.fixture(scope="module")
def engine(url: str) -> Iterator[Engine]:
    engine = todo.create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def alice(engine: Engine) -> Iterator[todo.UserSession]:
    with todo.user_session(engine, "alice") as session:
        yield session
        session.rollback()


def expected(owner: psycopg.Connection, filter: TaskFilter, sort: str, order: str) -> list[int]:
    """Return the ids of Alice's tasks in a plain query's order."""
    values = {name: value for name, value in filter.model_dump().items() if value not in (None, [])}
    conditions = ["user_id = 'alice'", *(PLAIN[name] for name in values)]
    by = ORDERS[sort].format(order, order)
    query = f"select id from tasks where {' and '.join(conditions)} order by {by}"
    return [row[0] for row in owner.execute(query, values)]


def every(fetch: Callable[[str | None], Any]) -> list[Any]:
    """Return the items of all slices, of which there are not many."""
    items, cursor = [], None
    for _ in range(200):
        slice_ = fetch(cursor)
        items += slice_.items
        if (cursor := slice_.next_cursor) is None:
            return items
    raise AssertionError("the list has no end")


SEARCHES = ["report", "zebra OR apple", "-zebra", '"broken violin"', "vio"]
STATES: list[dict[str, Any]] = [
    *({"status": each} for each in STATUSES),
    *({"completed": each} for each in (True, False)),
    {"completed": False, "status": "pending"},
]
DUE: list[dict[str, Any]] = [
    *({"has_due_date": each} for each in (True, False)),
    {"due_date": DAY},
    {"due_before": datetime.date(2026, 5, 2)},
    {"due_after": DAY, "has_due_date": True},
]
OTHERS = {
    "priority": st.sampled_from(["low", "medium", "high"]),
    "tags": st.lists(st.sampled_from(["home", "work", "none"]), unique=True),
    "contains": st.sampled_from(["APPLE", "9", "%", "_", "\\", "report", "e | r", "violin"]),
    "search": st.sampled_from(SEARCHES),
}
FILTERS = st.builds(
    lambda state, due, others: TaskFilter(**state, **due, **others),
    st.sampled_from([{}, {}, *STATES]),
    st.sampled_from([{}, {}, *DUE]),
    st.fixed_dictionaries({}, optional=OTHERS),
)


@pytest.mark.row("R18", "R19")
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    filter=FILTERS,
    sort=st.sampled_from(SORTS),
    order=st.sampled_from([None, "asc", "desc"]),
    limit=st.integers(1, 25),
    page=st.integers(1, 4),
    text=st.sampled_from(SEARCHES),
)
def test_every_list_and_search_is_the_plain_querys(
    engine: Engine, owner: psycopg.Connection, limit: int, page: int, text: str, **asked: Any
) -> None:
    order = asked["order"] or NATURAL.get(asked["sort"], "asc")
    wanted = expected(owner, asked["filter"], asked["sort"], order)
    with todo.user_session(engine, "alice") as session:
        found = every(lambda cursor: session.tasks.list(**asked, limit=limit, cursor=cursor))
        assert [task.id for task in found] == wanted
        numbered = session.tasks.page(**asked, page=page, limit=limit, total="exact")
        assert [task.id for task in numbered.items] == wanted[(page - 1) * limit : page * limit]
        assert (numbered.total, numbered.total_is_exact) == (len(wanted), True)
        both = asked["filter"].model_copy(update={"search": text})
        found = every(
            lambda cursor: session.tasks.search(text, asked["filter"], limit=limit, cursor=cursor)
        )
        assert [task.id for task in found] == expected(owner, both, "relevance", "desc")


@pytest.mark.row("R18")
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", SORTS)
def test_no_task_comes_twice_and_none_is_lost_while_others_are_added(
    engine: Engine, owner: psycopg.Connection, sort: Any, order: Any
) -> None:
    before = expected(owner, TaskFilter(), sort, order)
    added: list[int] = []

    def fetch(cursor: str | None) -> Any:
        with todo.user_session(engine, "alice") as session:
            found = session.tasks.list(sort=sort, order=order, limit=7, cursor=cursor)
        if len(added) < 12 * 8:  # more than a slice has: without an end it would go on for ever
            added.extend(id_ for (id_,) in owner.execute(MORE))
        return found

    seen = [task.id for task in every(fetch)]
    owner.execute("delete from tasks where id = any(%s)", [added])
    assert len(seen) == len(set(seen))
    assert set(before) <= set(seen)


@pytest.mark.row("R18")
def test_a_cursor_is_good_for_its_user_list_sort_order_and_filter_alone(
    engine: Engine, url: str, alice: todo.UserSession
) -> None:
    wanted, low = TaskFilter(completed=False), TaskFilter(completed=False, priority="low")
    tasks, cursor = alice.tasks, alice.tasks.list(wanted, sort="title", limit=5).next_cursor
    assert tasks.list(wanted, sort="title", limit=9, cursor=cursor).items
    other = todo.create_engine(url.replace("todo_app@", "todo_app:other@"))
    with todo.user_session(engine, "bob") as bob, todo.user_session(other, "alice") as elsewhere:
        for call, reason in (
            (lambda: tasks.list(wanted, sort="updated", cursor=cursor), "another list"),
            (lambda: tasks.list(wanted, sort="title", order="desc", cursor=cursor), "another list"),
            (lambda: tasks.list(low, sort="title", cursor=cursor), "another list"),
            (lambda: tasks.list(sort="title", cursor=cursor), "another list"),
            (lambda: tasks.search("apple", wanted, cursor=cursor), "another list"),
            (lambda: alice.conversations.list(cursor=cursor), "another list"),
            (lambda: bob.tasks.list(wanted, sort="title", cursor=cursor), "not this user's"),
            (lambda: elsewhere.tasks.list(wanted, sort="title", cursor=cursor), "stale"),
        ):
            with pytest.raises(todo.CursorError, match=reason):
                call()
    other.dispose()


@pytest.mark.row("R18")
def test_a_cursor_that_was_touched_is_refused(alice: todo.UserSession) -> None:
    cursor = alice.tasks.list(limit=5).next_cursor
    assert cursor
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    forged = [
        base64.urlsafe_b64encode(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]).decode()
        for at in range(len(raw))
    ]
    odd: list[Any] = ["", "x", "é", "\0", "a" * 100_000, cursor[:-4], cursor + "AAAA", 7, b"AAAA"]
    for each in [*forged, *odd]:
        with pytest.raises(todo.CursorError) as caught:
            alice.tasks.list(limit=5, cursor=each)
        assert caught.value.field == "cursor"
    assert alice.tasks.list(limit=5).items, "the session is still good"


# A call, the field that its refusal names, and what is out of its bounds.
BOUNDS: list[tuple[Callable[[Any, Any], Any], str, list[Any]]] = [
    (lambda alice, odd: alice.tasks.list(sort=odd), "sort", ["colour", ["id"]]),
    (lambda alice, odd: alice.tasks.list(order=odd), "order", ["up"]),
    (lambda alice, odd: alice.messages.list(1, order=odd), "order", ["up"]),
    (lambda alice, odd: alice.tasks.list(limit=odd), "limit", [0, 101, "20", True]),
    (lambda alice, odd: alice.conversations.list(limit=odd), "limit", [-1]),
    (lambda alice, odd: alice.tasks.page(page=odd), "page", [0, -1, 501]),
    (lambda alice, odd: alice.tasks.page(total=odd), "total", ["all"]),
    (lambda alice, odd: alice.tasks.search(odd), "search", ["", "x" * 1001, "nul \0", None]),
    (lambda alice, odd: alice.tasks.search(odd), "search", ["the", "| & ! ( )", '"" - OR']),
    (lambda alice, odd: alice.tasks.list(TaskFilter(search=odd)), "search", ["the"]),
    (lambda alice, odd: alice.tasks.page(TaskFilter(search=odd), page=3), "search", ["the"]),
    (lambda alice, odd: alice.tasks.get(odd), "id", ["1"]),
    (lambda alice, odd: alice.tasks.delete_many(odd), "ids", [[], range(1, 1002), [1, "2"], "12"]),
    (lambda alice, odd: alice.tasks.update_many(odd, TaskUpdate()), "changes", [[1]]),
]
NO_IDS = [0, -1, 2**63, 10**30, 10**9]
BY_ID: list[Callable[[Any, int], Any]] = [
    lambda alice, id_: alice.tasks.get(id_),
    lambda alice, id_: alice.tasks.update(id_, TaskUpdate(title="x")),
    lambda alice, id_: alice.tasks.delete_many([id_]),
    lambda alice, id_: alice.conversations.get(id_),
    lambda alice, id_: alice.messages.list(id_),
    lambda alice, id_: alice.messages.create(id_, MessageCreate(role="user", content="x")),
    lambda alice, id_: alice.messages.delete(id_),
]


@pytest.mark.row("R17", "R18")
@pytest.mark.parametrize(
    ("call", "field", "values"), [*BOUNDS, *((call, None, NO_IDS) for call in BY_ID)]
)
def test_an_argument_out_of_its_bounds_is_told(
    alice: todo.UserSession, call: Callable[[Any, Any], Any], field: str | None, values: list[Any]
) -> None:
    for odd in values:
        with pytest.raises(todo.InvalidError if field else NotFoundError) as caught:
            call(alice, odd)
        assert getattr(caught.value, "field", None) == field
        assert alice.tasks.counts().total > 0, "the session is still good"


@pytest.mark.row("R18")
def test_a_total_is_exact_or_bounded_or_not_asked_for(
    engine: Engine, owner: psycopg.Connection
) -> None:
    owner.execute(
        "insert into tasks (user_id, title, tags)"
        " select 'bob', 'x', '{many}' from generate_series(1, 1001)"
    )
    many = TaskFilter(tags=["many"])
    with todo.user_session(engine, "bob") as bob:

        def total(**asked: Any) -> tuple[int | None, bool]:
            page = bob.tasks.page(many, limit=1, **asked)
            return page.total, page.total_is_exact

        assert total(total="exact") == (1001, True)
        assert total(total="bounded") == (1000, False)
        assert total(total="none") == (None, False)
        beyond = bob.tasks.page(many, page=100, limit=100, total="exact")
        assert (beyond.items, beyond.total) == ([], 1001)
        bob.tasks.delete(bob.tasks.list(many, limit=1).items[0].id)
        assert total() == (1000, True)
        bob.rollback()
    owner.execute("delete from tasks where 'many' = any(tags)")


@pytest.mark.row("R17")
def test_only_what_is_given_changes(alice: todo.UserSession) -> None:
    task = alice.tasks.create(
        TaskCreate(title="a", description="b", due_date=DAY, tags=["c"], priority="high")
    )
    changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        *((each, each) for each in ({"title": "z"}, {"description": None}, {"due_date": None})),
        *((each, each) for each in ({"tags": []}, {"priority": "low"}, {"status": "in_progress"})),
        ({"completed": False}, {}),
        ({"completed": True}, {"status": "completed", "completed": True}),
        ({"completed": False}, {"status": "pending", "completed": False}),
        ({"status": "completed", "completed": True}, {"status": "completed", "completed": True}),
        ({}, {}),
    ]
    for given_, changed in changes:
        wanted = {**task.model_dump(), **changed}
        task = alice.tasks.update(task.id, TaskUpdate(**given_))
        assert task.model_dump() == wanted
        assert alice.tasks.get(task.id) == task
    assert alice.tasks.toggle(task.id).status == "pending"
    assert alice.tasks.toggle(task.id).status == "completed"
    alice.tasks.delete(task.id)
    for call in (alice.tasks.get, alice.tasks.toggle, alice.tasks.delete):
        with pytest.raises(NotFoundError) as caught:
            call(task.id)
        assert (caught.value.kind, caught.value.ids) == ("task", [task.id])


@pytest.mark.row("R20")
def test_counts_are_of_each_status(alice: todo.UserSession, owner: psycopg.Connection) -> None:
    counts = alice.tasks.counts()
    query = "select status, count(*) from tasks where user_id = 'alice' group by status"
    plain = dict(owner.execute(query).fetchall())
    assert {name: getattr(counts, name) for name in STATUSES} == plain
    assert counts.open == plain["pending"] + plain["in_progress"]
    assert counts.total == sum(plain.values())


@pytest.mark.row("R21")
def test_a_bulk_operation_does_all_or_nothing(
    alice: todo.UserSession, owner: psycopg.Connection
) -> None:
    ids = [alice.tasks.create(TaskCreate(title=f"bulk {n}")).id for n in range(5)]
    (bobs,) = owner.execute("select max(id) from tasks where user_id = 'bob'").fetchone() or (0,)
    changes = TaskUpdate(priority="high", due_date=DAY)
    for wrong in ([bobs], [bobs, 10**9], [10**9, bobs, bobs]):
        for call, asked in (
            (lambda ids: alice.tasks.update_many(ids, changes), [*ids, *wrong]),
            (alice.tasks.delete_many, [*wrong, *ids]),
        ):
            with pytest.raises(NotFoundError) as caught:
                call(asked)
            assert caught.value.ids == sorted(set(wrong))
            assert {alice.tasks.get(id_).priority for id_ in ids} == {"medium"}
    done = alice.tasks.update_many([*reversed(ids), ids[0]], changes)
    found = [(task.id, task.priority, task.due_date) for task in done]
    assert found == [(id_, "high", DAY) for id_ in ids]
    assert alice.tasks.delete_many([*ids, ids[0]]) == 5
    with pytest.raises(NotFoundError):
        alice.tasks.delete_many(ids)


@pytest.mark.row("R21")
def test_bulk_operations_at_once_do_not_deadlock(url: str, owner: psycopg.Connection) -> None:
    before = owner.execute("select description, id from tasks where user_id = 'alice'").fetchall()
    ids = [id_ for _, id_ in before]

    async def work() -> None:
        engine = aio.create_engine(url)

        async def change(n: int) -> None:
            for _ in range(5):
                async with aio.user_session(engine, "alice") as session:
                    mixed = ids[n:] + ids[:n] if n % 2 else ids[::-1]
                    await session.tasks.update_many(mixed, TaskUpdate(description=f"by {n}"))

        await asyncio.gather(*(change(n) for n in range(8)))
        await engine.dispose()

    asyncio.run(work())
    query = "select count(distinct description) from tasks where user_id = 'alice'"
    assert owner.execute(query).fetchone() == (1,)
    owner.cursor().executemany("update tasks set description = %s where id = %s", before)


@pytest.mark.row("R3", "R17")
def test_conversations_and_messages(alice: todo.UserSession) -> None:
    first = alice.conversations.create(todo.ConversationCreate(title="Cows"))
    second = alice.conversations.create(todo.ConversationCreate())
    said = [
        alice.messages.create(first.id, MessageCreate(role=role, content=f"{n}"))
        for n, role in enumerate(["user", "assistant"] * 4)
    ]
    said_in = partial(alice.messages.list, first.id, limit=3)
    assert every(lambda cursor: said_in(cursor=cursor)) == said
    assert every(lambda cursor: said_in(cursor=cursor, order="desc")) == said[::-1]
    assert alice.messages.list(second.id).items == []
    with pytest.raises(todo.CursorError):
        alice.messages.list(second.id, cursor=said_in().next_cursor)

    assert alice.conversations.update(first.id, todo.ConversationUpdate()).title == "Cows"
    assert alice.conversations.update(first.id, todo.ConversationUpdate(title=None)).title is None
    assert alice.messages.get(said[0].id) == said[0]
    alice.messages.delete(said[0].id)
    alice.conversations.delete(first.id)
    for call in (alice.messages.list, alice.conversations.get):
        with pytest.raises(NotFoundError) as caught:
            call(first.id)
        assert caught.value.kind == "conversation"
    with pytest.raises(NotFoundError):
        alice.messages.get(said[1].id)


@pytest.mark.row("R3")
def test_conversations_list_by_last_activity(engine: Engine) -> None:
    ids = []
    for _ in range(7):  # one transaction each: its time is the activity's
        with todo.user_session(engine, "bob") as bob:
            ids.append(bob.conversations.create(todo.ConversationCreate()).id)
    with todo.user_session(engine, "bob") as bob:
        bob.messages.create(ids[2], MessageCreate(role="user", content="x"))
    with todo.user_session(engine, "bob") as bob:
        found = every(lambda cursor: bob.conversations.list(limit=3, cursor=cursor))
        assert [each.id for each in found] == [ids[2], *(i for i in reversed(ids) if i != ids[2])]
        for id_ in ids:
            bob.conversations.delete(id_)
