"""Lists, pages, searches and bulk operations find and change exactly what they should."""

from __future__ import annotations

import asyncio
import base64
import datetime
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, get_args

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from todo_schema import (
    ConversationCreate,
    ConversationUpdate,
    CursorError,
    InvalidError,
    MessageCreate,
    NotFoundError,
    TaskCreate,
    TaskFilter,
    TaskSort,
    TaskUpdate,
    TodoError,
    UserSession,
    aio,
    create_engine,
    user_session,
)

from scripts.address import Address
from scripts.server import LocalServer

DAY = datetime.date(2026, 5, 1)

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

# What a list is compared with: the same in plain SQL, by the owner.
PLAIN = {
    "status": "status = %(status)s",
    "completed": "(status = 'completed') = %(completed)s",
    "priority": "priority = %(priority)s",
    "due_date": "due_date = %(due_date)s",
    "due_before": "due_date < %(due_before)s",
    "due_after": "due_date > %(due_after)s",
    "has_due_date": "(due_date is not null) = %(has_due_date)s",
    "tags": "%(tags)s::text[] <@ tags",
    "contains": (
        "(position(lower(%(contains)s) in lower(title)) > 0"
        " or position(lower(%(contains)s) in lower(coalesce(description, ''))) > 0)"
    ),
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
        connection.execute(
            """
            insert into "user" (id, name, email) values ('alice', '', 'a@b'), ('bob', '', 'b@b')
            """
        )
        connection.execute(TASKS)
        # A second time of change, so that the times have ties and differ.
        connection.execute("update tasks set tags = tags || 'x'::text where id % 3 = 0")
        yield connection


@pytest.fixture(scope="module")
def url(server: LocalServer, module_database: Address, owner: psycopg.Connection) -> str:
    server.allow_logins()
    return module_database.with_(user="todo_app").url


@pytest.fixture(scope="module")
def engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def alice(engine: Engine) -> Iterator[UserSession]:
    with user_session(engine, "alice") as session:
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
    """Return the items of all slices."""
    items, cursor = [], None
    while True:
        slice_ = fetch(cursor)
        items += slice_.items
        if (cursor := slice_.next_cursor) is None:
            return items


SEARCHES = ["report", "zebra OR apple", "-zebra", '"broken violin"', "vio"]

FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.sampled_from(["low", "medium", "high"]),
        "tags": st.lists(st.sampled_from(["home", "work", "none"]), unique=True),
        "contains": st.sampled_from(["APPLE", "9", "%", "_", "\\", "report", "e | r", "violin"]),
        "search": st.sampled_from(SEARCHES),
    },
).flatmap(
    lambda known: st.tuples(
        st.sampled_from(
            [
                {},
                {},
                *({"status": each} for each in ("pending", "in_progress", "completed")),
                {"completed": True},
                {"completed": False},
                {"completed": False, "status": "pending"},
            ]
        ),
        st.sampled_from(
            [
                {},
                {},
                {"has_due_date": True},
                {"has_due_date": False},
                {"due_date": DAY},
                {"due_before": datetime.date(2026, 5, 2)},
                {"due_after": DAY, "has_due_date": True},
            ]
        ),
    ).map(lambda others: TaskFilter(**known, **others[0], **others[1]))
)


@pytest.mark.row("R18", "R19")
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    filter=FILTERS,
    sort=st.sampled_from(get_args(TaskSort)),
    order=st.sampled_from([None, "asc", "desc"]),
    limit=st.integers(1, 25),
    page=st.integers(1, 4),
)
def test_every_list_is_the_plain_querys(
    engine: Engine, owner: psycopg.Connection, limit: int, page: int, **asked: Any
) -> None:
    order = asked["order"] or NATURAL.get(asked["sort"], "asc")
    wanted = expected(owner, asked["filter"], asked["sort"], order)
    with user_session(engine, "alice") as session:
        found = every(lambda cursor: session.tasks.list(**asked, limit=limit, cursor=cursor))
        assert [task.id for task in found] == wanted
        numbered = session.tasks.page(**asked, page=page, limit=limit, total="exact")
        assert [task.id for task in numbered.items] == wanted[(page - 1) * limit : page * limit]
        assert (numbered.total, numbered.total_is_exact) == (len(wanted), True)


@pytest.mark.row("R19")
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(filter=FILTERS, text=st.sampled_from(SEARCHES), limit=st.integers(1, 25))
def test_a_search_is_the_plain_querys_best_first(
    engine: Engine, owner: psycopg.Connection, filter: TaskFilter, text: str, limit: int
) -> None:
    both = filter.model_copy(update={"search": text})
    with user_session(engine, "alice") as session:
        found = every(lambda cursor: session.tasks.search(text, filter, limit=limit, cursor=cursor))
    assert [task.id for task in found] == expected(owner, both, "relevance", "desc")


@pytest.mark.row("R18")
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", get_args(TaskSort))
def test_no_task_comes_twice_and_none_is_lost_while_others_are_added(
    engine: Engine, owner: psycopg.Connection, sort: TaskSort, order: Any
) -> None:
    before = set(expected(owner, TaskFilter(), sort, order))
    added: list[int] = []

    def fetch(cursor: str | None) -> Any:
        with user_session(engine, "alice") as session:
            slice_ = session.tasks.list(sort=sort, order=order, limit=7, cursor=cursor)
        # Among the keys of those that are there: before, at, and after the cursor.
        for title, status, due in product(
            ("Apple", "zebra"), ("pending", "completed"), (None, DAY)
        ):
            row = owner.execute(
                "insert into tasks (user_id, title, status, due_date) values ('alice', %s, %s, %s)"
                " returning id",
                [title, status, due],
            ).fetchone()
            added.extend(row or ())
        return slice_

    seen: list[int] = []
    cursor = None
    for _ in range(12):
        slice_ = fetch(cursor)
        seen += [task.id for task in slice_.items]
        if (cursor := slice_.next_cursor) is None:
            break
    with user_session(engine, "alice") as session:
        while cursor is not None:  # as more are added than a slice has, now without
            slice_ = session.tasks.list(sort=sort, order=order, limit=100, cursor=cursor)
            seen += [task.id for task in slice_.items]
            cursor = slice_.next_cursor
        session.tasks.delete_many(added)
    assert len(seen) == len(set(seen))
    assert before <= set(seen)


@pytest.mark.row("R18")
def test_a_cursor_is_good_for_its_user_list_sort_order_and_filter_alone(
    engine: Engine, url: str, alice: UserSession
) -> None:
    wanted = TaskFilter(completed=False)
    cursor = alice.tasks.list(wanted, sort="title", limit=5).next_cursor
    assert cursor
    assert alice.tasks.list(wanted, sort="title", limit=9, cursor=cursor).items
    for arguments in (
        {"filter": wanted, "sort": "updated"},
        {"filter": wanted, "sort": "title", "order": "desc"},
        {"filter": TaskFilter(completed=False, priority="low"), "sort": "title"},
        {"filter": None, "sort": "title"},
    ):
        with pytest.raises(CursorError, match="of another list"):
            alice.tasks.list(**arguments, cursor=cursor)
    for refused in (
        lambda: alice.tasks.search("apple", wanted, cursor=cursor),
        lambda: alice.conversations.list(cursor=cursor),
    ):
        with pytest.raises(CursorError):
            refused()
    with user_session(engine, "bob") as bob, pytest.raises(CursorError, match="not this user's"):
        bob.tasks.list(wanted, sort="title", cursor=cursor)
    other = create_engine(url.replace("todo_app@", "todo_app:other@"))
    with user_session(other, "alice") as session, pytest.raises(CursorError, match="stale"):
        session.tasks.list(wanted, sort="title", cursor=cursor)
    other.dispose()


@pytest.mark.row("R18")
def test_a_cursor_that_was_touched_is_refused(alice: UserSession) -> None:
    cursor = alice.tasks.list(limit=5).next_cursor
    assert cursor
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    forged = [
        base64.urlsafe_b64encode(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]).decode()
        for at in range(len(raw))
    ]
    odd: list[Any] = ["", "x", "é", "\0", "a" * 100_000, cursor[:-4], cursor + "AAAA", 7, b"AAAA"]
    for each in [*forged, *odd]:
        with pytest.raises(CursorError) as caught:
            alice.tasks.list(limit=5, cursor=each)
        assert caught.value.field == "cursor"
    assert alice.tasks.list(limit=5).items, "the session is still good"


@pytest.mark.row("R18")
@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda s: s.tasks.list(sort="colour"), "sort"),
        (lambda s: s.tasks.list(sort=["id"]), "sort"),
        (lambda s: s.tasks.list(order="up"), "order"),
        (lambda s: s.tasks.list(limit=0), "limit"),
        (lambda s: s.tasks.list(limit=101), "limit"),
        (lambda s: s.tasks.list(limit="20"), "limit"),
        (lambda s: s.tasks.list(limit=True), "limit"),
        (lambda s: s.tasks.page(page=0), "page"),
        (lambda s: s.tasks.page(page=-1), "page"),
        (lambda s: s.tasks.page(page=501), "page"),
        (lambda s: s.tasks.page(total="all"), "total"),
        (lambda s: s.tasks.search(""), "search"),
        (lambda s: s.tasks.search("x" * 1001), "search"),
        (lambda s: s.tasks.search("nul \0"), "search"),
        (lambda s: s.tasks.search(None), "search"),
        (lambda s: s.tasks.search("the"), "search"),
        (lambda s: s.tasks.search("| & ! ( )"), "search"),
        (lambda s: s.tasks.search('"" - OR'), "search"),
        (lambda s: s.tasks.list(TaskFilter(search="the")), "search"),
        (lambda s: s.tasks.page(TaskFilter(search="the"), page=3), "search"),
        (lambda s: s.tasks.get("1"), "id"),
        (lambda s: s.tasks.delete_many([]), "ids"),
        (lambda s: s.tasks.delete_many(range(1, 1002)), "ids"),
        (lambda s: s.tasks.delete_many([1, "2"]), "ids"),
        (lambda s: s.tasks.delete_many("12"), "ids"),
        (lambda s: s.tasks.update_many([1], TaskUpdate()), "changes"),
        (lambda s: s.messages.list(1, order="up"), "order"),
        (lambda s: s.conversations.list(limit=-1), "limit"),
    ],
)
def test_an_argument_out_of_its_bounds_is_told(
    alice: UserSession, call: Callable[[Any], Any], field: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        call(alice)
    assert caught.value.field == field
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
    with user_session(engine, "bob") as bob:
        totals = {}
        for total in ("exact", "bounded", "none"):
            page = bob.tasks.page(many, total=total, limit=1)
            totals[total] = (page.total, page.total_is_exact)
        assert totals == {"exact": (1001, True), "bounded": (1000, False), "none": (None, False)}
        beyond = bob.tasks.page(many, page=100, limit=100, total="exact")
        assert (beyond.items, beyond.total) == ([], 1001)
        bob.tasks.delete(bob.tasks.list(many, limit=1).items[0].id)
        page = bob.tasks.page(many, limit=1)
        assert (page.total, page.total_is_exact) == (1000, True)
        bob.rollback()
    owner.execute("delete from tasks where 'many' = any(tags)")


@pytest.mark.row("R17")
def test_only_what_is_given_changes(alice: UserSession) -> None:
    task = alice.tasks.create(
        TaskCreate(title="a", description="b", due_date=DAY, tags=["c"], priority="high")
    )
    changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"title": "z"}, {"title": "z"}),
        ({"description": None}, {"description": None}),
        ({"due_date": None}, {"due_date": None}),
        ({"tags": []}, {"tags": []}),
        ({"priority": "low"}, {"priority": "low"}),
        ({"status": "in_progress"}, {"status": "in_progress"}),
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


@pytest.mark.row("R17")
@pytest.mark.parametrize("id_", [0, -1, 2**63, 10**30, 10**9])
def test_an_id_that_cannot_be_is_not_found(alice: UserSession, id_: int) -> None:
    for call in (
        lambda: alice.tasks.get(id_),
        lambda: alice.tasks.update(id_, TaskUpdate(title="x")),
        lambda: alice.tasks.delete_many([id_]),
        lambda: alice.conversations.get(id_),
        lambda: alice.messages.list(id_),
        lambda: alice.messages.create(id_, MessageCreate(role="user", content="x")),
        lambda: alice.messages.delete(id_),
    ):
        with pytest.raises(NotFoundError):
            call()


@pytest.mark.row("R20")
def test_counts_are_of_each_status(alice: UserSession) -> None:
    counts = alice.tasks.counts()
    listed = {
        status: len(alice.tasks.list(TaskFilter(status=status), limit=100).items)
        for status in ("pending", "in_progress", "completed")
    }
    assert {name: getattr(counts, name) for name in listed} == listed
    assert counts.open == listed["pending"] + listed["in_progress"]
    assert counts.total == sum(listed.values())


@pytest.mark.row("R21")
def test_a_bulk_operation_does_all_or_nothing(
    alice: UserSession, owner: psycopg.Connection
) -> None:
    ids = [alice.tasks.create(TaskCreate(title=f"bulk {n}")).id for n in range(5)]
    (bobs,) = owner.execute("select max(id) from tasks where user_id = 'bob'").fetchone() or (0,)
    changes = TaskUpdate(priority="high", due_date=DAY)
    for wrong in ([bobs], [bobs, 10**9], [10**9, bobs, bobs]):
        for call in (
            lambda wrong=wrong: alice.tasks.update_many([*ids, *wrong], changes),
            lambda wrong=wrong: alice.tasks.delete_many([*wrong, *ids]),
        ):
            with pytest.raises(NotFoundError) as caught:
                call()
            assert caught.value.ids == sorted(set(wrong))
            assert {alice.tasks.get(id_).priority for id_ in ids} == {"medium"}
    done = alice.tasks.update_many([*reversed(ids), ids[0]], changes)
    assert [(task.id, task.priority, task.due_date) for task in done] == [
        (id_, "high", DAY) for id_ in ids
    ]
    assert alice.tasks.delete_many([*ids, ids[0]]) == 5
    with pytest.raises(NotFoundError):
        alice.tasks.delete_many(ids)


@pytest.mark.row("R21")
def test_bulk_operations_at_once_do_not_deadlock(url: str, owner: psycopg.Connection) -> None:
    (ids,) = owner.execute(
        "select array_agg(id) from tasks where user_id = 'alice'"
    ).fetchone() or ([],)

    async def work() -> None:
        engine = aio.create_engine(url)

        async def change(n: int) -> None:
            for _ in range(5):
                async with aio.user_session(engine, "alice") as session:
                    mixed = ids[n:] + ids[:n] if n % 2 else ids[::-1]
                    await session.tasks.update_many(mixed, TaskUpdate(description=f"by {n}"))

        await asyncio.gather(*(change(n) for n in range(8)))
        await engine.dispose()

    before = owner.execute("select id, description from tasks").fetchall()
    asyncio.run(work())
    assert owner.execute(
        "select count(distinct description) from tasks where user_id = 'alice'"
    ).fetchone() == (1,)
    with owner.cursor() as cursor:
        cursor.executemany(
            "update tasks set description = %s where id = %s", [b[::-1] for b in before]
        )


@pytest.mark.row("R3", "R17")
def test_conversations_and_messages(alice: UserSession, engine: Engine) -> None:
    first = alice.conversations.create(ConversationCreate(title="Cows"))
    second = alice.conversations.create(ConversationCreate())
    said = [
        alice.messages.create(first.id, MessageCreate(role=role, content=f"{n}"))
        for n, role in enumerate(["user", "assistant"] * 4)
    ]
    listed = every(lambda cursor: alice.messages.list(first.id, limit=3, cursor=cursor))
    assert listed == said
    back = every(lambda c: alice.messages.list(first.id, order="desc", limit=3, cursor=c))
    assert back == said[::-1]
    assert alice.messages.list(second.id).items == []
    with pytest.raises(CursorError):
        alice.messages.list(second.id, cursor=alice.messages.list(first.id, limit=3).next_cursor)

    assert alice.conversations.update(first.id, ConversationUpdate()).title == "Cows"
    assert alice.conversations.update(first.id, ConversationUpdate(title=None)).title is None
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
        with user_session(engine, "bob") as bob:
            ids.append(bob.conversations.create(ConversationCreate()).id)
    with user_session(engine, "bob") as bob:
        bob.messages.create(ids[2], MessageCreate(role="user", content="x"))
    with user_session(engine, "bob") as bob:
        found = every(lambda cursor: bob.conversations.list(limit=3, cursor=cursor))
        assert [each.id for each in found] == [ids[2], *(i for i in reversed(ids) if i != ids[2])]
        for id_ in ids:
            bob.conversations.delete(id_)


@pytest.mark.row("R17")
def test_the_asynchronous_form_gives_the_same(url: str, alice: UserSession) -> None:
    def calls(session: Any) -> list[Any]:
        return [
            session.user(),
            session.tasks.list(TaskFilter(completed=False), sort="due_date", limit=30),
            session.tasks.page(sort="title", total="exact"),
            session.tasks.search("report"),
            session.tasks.counts(),
        ]

    async def collect() -> list[Any]:
        engine = aio.create_engine(url)
        results = []
        async with aio.user_session(engine, "alice") as session:
            for call in calls(session):
                results.append(await call)
            with pytest.raises(TodoError):
                await session.tasks.get(10**9)
        await engine.dispose()
        return results

    assert asyncio.run(collect()) == calls(alice)
