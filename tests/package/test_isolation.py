"""Users are kept apart by two locks; each holds by itself, and its loss would be noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from types import NoneType
from typing import Any, get_args

import psycopg
import pytest
import sqlalchemy as sa
import todo_schema as todo
from sqlalchemy.orm import joinedload, selectinload, with_loader_criteria
from sqlmodel import Session, select
from todo_schema import Conversation, Message, Task, TaskCreate, TaskFilter, TaskSearch, User
from todo_schema.corpus import statements
from todo_schema.session import restrict

from scripts.address import Address
from scripts.server import LocalServer
from scripts.settings import project
from tests.package import probes
from tests.package.probes import BOBS, SHARED, STALE, TASKS, Door, done, entered, opened, rows_of
from tests.schema.acting import Connection, value
from tests.support.pgbouncer import pgbouncer

pytestmark = [pytest.mark.anyio, pytest.mark.row("R7")]

OWNED = [User, Task, TaskSearch, Conversation, Message]
USERS = [f"user {number:02}" for number in range(20)]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def owner(server: LocalServer, module_database: Address) -> Iterator[Connection]:
    """Whom row security does not bind, in a database with rows."""
    server.allow_logins()
    with psycopg.connect(module_database.url, autocommit=True) as connection:
        probes.add_alice(connection)
        probes.add_bob(connection)
        named = 'insert into "user" (id, name, email) select u, u, u from unnest(%s::text[]) as u'
        connection.execute(named, [USERS])
        yield connection


@pytest.fixture(scope="module")
def pooled(module_database: Address) -> Iterator[Address]:
    """The same database through PgBouncer, whose clients share one connection."""
    with pgbouncer(module_database.with_(user="todo_app"), default_pool_size=1) as address:
        yield address


@pytest.fixture(params=["sync", "async", "sync by PgBouncer", "async by PgBouncer"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(
    kind: str, owner: Connection, module_database: Address, request: pytest.FixtureRequest
) -> str:
    if "PgBouncer" in kind:
        return str(request.getfixturevalue("pooled").url)
    return module_database.with_(user="todo_app").url


@pytest.fixture
def options(kind: str) -> dict[str, Any]:
    """Of an engine with one connection."""
    prepared = False if "PgBouncer" in kind else None
    return {"pool_size": 1, "max_overflow": 0, "prepared_statements": prepared}


@pytest.fixture
async def door(kind: str, url: str, options: dict[str, Any]) -> AsyncIterator[Door]:
    async with opened(kind, url, **options) as door:
        yield door


async def leftovers(door: Door) -> tuple[int, str | None, int]:
    """Return what a session of nobody finds: how many rows, whose context, which connection."""
    rows = sum(select(sa.func.count()).select_from(each).scalar_subquery() for each in OWNED)
    context = sa.func.nullif(sa.func.current_setting("app.user_id", True), "")
    async with door.plain() as session:
        query = sa.select(rows, context, sa.func.pg_backend_pid())
        return tuple((await done(session.exec(query))).one())


async def slices(read: Callable[..., Any], **arguments: Any) -> list[Any]:
    """Return a whole list, slice by slice."""
    found, cursor = [], None
    while True:
        part = await done(read(**arguments, limit=30, cursor=cursor))
        found += part.items
        if (cursor := part.next_cursor) is None:
            return found


async def loaded(session: Any, statement: Any, *path: str) -> list[Any]:
    """Return the rows of a statement, or the objects at the end of a path of relationships."""
    found = list((await done(session.orm.exec(statement))).unique().all())
    for name in path:
        found = [child for each in found for child in getattr(each, name)]
    return found


async def stored(session: Any, row: Any) -> None:
    """Store an object."""
    session.orm.add(row)
    await done(session.orm.flush())


SORTS = list(product(get_args(todo.TaskSort), ("asc", "desc")))
MILK = TASKS - 1 - STALE
THREADS = joinedload(User.conversations).selectinload(Conversation.messages)

# What Alice reads in lists, and how many rows of hers there are.
READS: list[tuple[int, Callable[[Any], Any]]] = [
    *((TASKS, lambda s, a=a, b=b: slices(s.tasks.list, sort=a, order=b)) for a, b in SORTS),
    (TASKS - 1, lambda s: slices(s.tasks.list, filter=TaskFilter(contains="milk"))),
    (MILK, lambda s: slices(s.tasks.list, filter=TaskFilter(search="milk"))),
    (MILK, lambda s: slices(s.tasks.search, text="milk")),
    (2, lambda s: slices(s.conversations.list)),
    (2, lambda s: slices(s.messages.list, conversation_id=SHARED)),
    (2, lambda s: slices(s.messages.list, conversation_id=SHARED, order="desc")),
    (TASKS, lambda s: loaded(s, select(Task))),
    (TASKS - 1, lambda s: loaded(s, select(TaskSearch))),
    (2, lambda s: loaded(s, select(Message).join(Message.conversation))),
    (TASKS, lambda s: loaded(s, select(User).options(selectinload(User.tasks)), "tasks")),
    (2, lambda s: loaded(s, select(User).options(THREADS), "conversations", "messages")),
    (TASKS, lambda s: loaded(s, sa.text("select distinct id, user_id from tasks"))),
]


async def test_what_a_user_reads(door: Door) -> None:
    async with door.session("alice") as session:
        for index, (count, read) in enumerate(READS):
            assert [each.user_id for each in await read(session)] == ["alice"] * count, index
        for sort, order in SORTS:
            page = await done(session.tasks.page(sort=sort, order=order, limit=100))
            assert [each.user_id for each in page.items] == ["alice"] * TASKS
            assert page.total == TASKS
        counts = await done(session.tasks.counts())
        assert (counts.pending, counts.in_progress, counts.completed) == (25, 24, 24)
        assert (await done(session.user())).id == "alice"
        for kind in session.tasks, session.conversations, session.messages:
            assert (await done(kind.get(SHARED))).user_id == "alice"
        for mirror in Task, Conversation, Message:
            assert await done(session.orm.get(mirror, ("bob", SHARED))) is None
        assert await done(session.orm.get(User, "bob")) is None


def message(user: str) -> Message:
    return Message(user_id=user, conversation_id=BOBS, role="user", content="x")


IN_SQL = sa.text("insert into tasks (user_id, title) values ('bob', 'x')")
MINE = todo.TaskUpdate(title="Mine")
TALK = todo.MessageCreate(role="user", content="x")
RENAMED = todo.ConversationUpdate(title="Mine")
DENIED = todo.PermissionDeniedError

# What Alice tries with what is Bob's, and what she is told: which ids are not hers, or an error.
ATTEMPTS: list[tuple[list[int] | type[todo.TodoError], Callable[[Any], Any]]] = [
    ([BOBS], lambda s: s.tasks.get(BOBS)),
    ([BOBS], lambda s: s.tasks.update(BOBS, MINE)),
    ([BOBS], lambda s: s.tasks.toggle(BOBS)),
    ([BOBS], lambda s: s.tasks.delete(BOBS)),
    ([BOBS, 999], lambda s: s.tasks.update_many([SHARED, BOBS, 102, 999], MINE)),
    ([BOBS, 999], lambda s: s.tasks.delete_many([SHARED, BOBS, 102, 999])),
    ([BOBS], lambda s: s.conversations.get(BOBS)),
    ([BOBS], lambda s: s.conversations.update(BOBS, RENAMED)),
    ([BOBS], lambda s: s.conversations.delete(BOBS)),
    ([BOBS], lambda s: s.messages.create(BOBS, TALK)),
    ([BOBS], lambda s: s.messages.list(BOBS)),
    ([BOBS], lambda s: s.messages.get(BOBS)),
    ([BOBS], lambda s: s.messages.delete(BOBS)),
    (todo.NotFoundError, lambda s: stored(s, message("alice"))),
    (DENIED, lambda s: stored(s, message("bob"))),
    (DENIED, lambda s: stored(s, Task(user_id="bob", title="x"))),
    (DENIED, lambda s: s.orm.exec(sa.insert(Task).values(user_id="bob", title="x"))),
    (DENIED, lambda s: s.orm.exec(IN_SQL)),
    (DENIED, lambda s: s.orm.exec(sa.update(Task).values(user_id="bob"))),
    (DENIED, lambda s: s.orm.exec(sa.update(User).values(name="Mine"))),
]


async def test_what_is_refused_changes_nothing(door: Door, owner: Connection) -> None:
    before = [rows_of(owner, user) for user in ("alice", "bob")]
    for index, (told, attempt) in enumerate(ATTEMPTS):
        with pytest.raises(todo.TodoError) as caught:
            async with door.session("alice") as session:
                try:
                    await done(attempt(session))
                except todo.NotFoundError:
                    if isinstance(told, list):  # the package's own check: one may go on
                        await done(session.commit())
                    raise
        found = caught.value.ids if isinstance(told, list) else type(caught.value)
        assert found == told, index
        assert [rows_of(owner, user) for user in ("alice", "bob")] == before, index


# Each changes rows of Alice's and has the same to change of Bob's.
WRITES: list[Callable[[Any], Any]] = [
    lambda s: s.tasks.update(SHARED, MINE),
    lambda s: s.tasks.toggle(SHARED),
    lambda s: s.tasks.delete(SHARED),
    lambda s: s.tasks.update_many([102, 103], MINE),
    lambda s: s.tasks.delete_many([102, 103]),
    lambda s: s.conversations.update(SHARED, RENAMED),
    lambda s: s.messages.create(SHARED, TALK),
    lambda s: s.messages.delete(SHARED),
    lambda s: s.conversations.delete(SHARED),
    lambda s: s.orm.exec(sa.update(Conversation).values(title="y")),
    lambda s: s.orm.exec(sa.text("update tasks set title = 'y'")),
    lambda s: s.orm.exec(sa.update(Task).where(Task.user_id != "alice").values(title="z")),
    lambda s: s.orm.exec(sa.delete(Task)),
    lambda s: s.orm.exec(sa.text("delete from conversations")),
]


async def test_what_a_user_writes(door: Door, owner: Connection) -> None:
    bobs = rows_of(owner, "bob")
    seen = {rows_of(owner, "alice")}
    try:
        async with door.session("alice") as session:
            for index, write in enumerate(WRITES):
                await done(write(session))
                await done(session.commit())
                assert rows_of(owner, "bob") == bobs, index
                seen.add(rows_of(owner, "alice"))
        assert len(seen) == len(WRITES)  # all but the one for rows that are not hers
    finally:
        owner.execute("""delete from "user" where id = 'alice'""")
        probes.add_alice(owner)


async def savepoint(session: Any) -> None:
    tenant = sa.text("select set_tenant('alice')")
    async with entered(session.orm.begin_nested()):
        await done(session.orm.exec(tenant))
    async with entered(session.orm.begin_nested()) as inner:
        await done(session.orm.exec(tenant))
        await done(inner.rollback())


async def fail(session: Any) -> None:
    raise RuntimeError


async def cancel(session: Any) -> None:
    """Cancel the session's own task in the middle of a statement, where there is one to cancel."""
    await done(session.tasks.create(TaskCreate(title="cancelled")))
    running = asyncio.current_task()
    assert running
    asyncio.get_running_loop().call_later(0.1, running.cancel)
    await session.orm.exec(sa.text("select pg_sleep(10)"))


SLEEP = "set local statement_timeout = 1; select pg_sleep(9)"

# What happened to a connection before the next user gets it, and with what it ends.
INCIDENTS: list[tuple[type[Any], Callable[[Any], Any]]] = [
    (NoneType, lambda s: None),
    (NoneType, lambda s: s.commit()),
    (NoneType, lambda s: s.rollback()),
    (NoneType, savepoint),
    (todo.NotFoundError, lambda s: s.tasks.get(999)),
    (todo.TodoError, lambda s: s.orm.exec(sa.text("select 1 / 0"))),
    (todo.TodoError, lambda s: s.orm.exec(sa.text("select set_tenant('')"))),
    (todo.TodoError, lambda s: s.orm.exec(sa.text(SLEEP))),
    (RuntimeError, fail),
    (NoneType, lambda s: s.orm.exec(sa.text("select set_config('app.user_id', 'bob', false)"))),
    (asyncio.CancelledError, cancel),
]


@pytest.mark.row("R15", "R16")
async def test_the_next_user_of_a_connection(door: Door, owner: Connection) -> None:
    before = rows_of(owner, "alice")

    async def use(incident: Callable[[Any], Any]) -> None:
        async with door.session("alice") as session:
            await done(incident(session))
            await done(session.tasks.counts())

    for index, (error, incident) in enumerate(INCIDENTS if door.is_async else INCIDENTS[:-1]):
        *_, before_it = await leftovers(door)
        (ended,) = await asyncio.gather(use(incident), return_exceptions=True)
        assert isinstance(ended, error), (index, ended)
        rows, context, connection = await leftovers(door)
        assert (rows, context) == (0, None), index
        # Cancelled, a connection is closed; all others are used again.
        assert (connection == before_it) is (incident is not cancel), index
        assert rows_of(owner, "alice") == before, index
        async with door.session("bob") as session:
            assert (await done(session.tasks.counts())).total == TASKS + 1, index
            assert (await done(session.user())).id == "bob", index


async def live(door: Door, user: str) -> None:
    """Do ten operations, each in its own transaction, and see nobody else's rows in any."""

    async def operate(operation: Callable[[Any], Any]) -> Any:
        async with door.session(user) as session:
            result = await done(operation(session))
            await asyncio.sleep(0)
            assert {each.user_id for each in await loaded(session, select(Task))} <= {user}
            return result

    new = TaskCreate(title="new")
    created = [(await operate(lambda s: s.tasks.create(new))).id for _ in range(3)]
    talk = await operate(lambda s: s.conversations.create(todo.ConversationCreate(title=user)))
    await operate(lambda s: s.messages.create(talk.id, TALK))
    await operate(lambda s: s.tasks.update_many(created, MINE))
    with pytest.raises(todo.NotFoundError):
        await operate(lambda s: s.tasks.delete_many([*created, BOBS]))
    assert sorted(each.id for each in await operate(lambda s: slices(s.tasks.list))) == created
    assert [each.id for each in await operate(lambda s: slices(s.conversations.list))] == [talk.id]
    assert await operate(lambda s: s.tasks.delete_many(created)) == 3


@pytest.mark.row("R16")
async def test_many_users_at_once(
    kind: str, url: str, options: dict[str, Any], owner: Connection
) -> None:
    async with opened(kind, url, **{**options, "pool_size": 4}) as door:
        if door.is_async:
            await asyncio.gather(*(live(door, user) for user in USERS))
        else:
            with ThreadPoolExecutor(len(USERS)) as threads:
                list(threads.map(lambda user: asyncio.run(live(door, user)), USERS))
    query = "delete from conversations where user_id = any(%s) returning user_id, title"
    assert sorted(owner.execute(query, [USERS])) == [(user, user) for user in USERS]


# Who row security does not bind, and what makes it so in a database of its own.
UNBOUND = {
    "a superuser": ("postgres", ""),
    "BYPASSRLS": (project().local_owner, ""),
    "a table's owner": (
        "todo_app",
        "grant create on schema public to todo_app; alter table messages owner to todo_app;"
        "alter table messages no force row level security",
    ),
    "row security off": ("todo_app", "alter table task_search disable row level security"),
}


@pytest.fixture
def superuser(server: LocalServer, migrated: Address) -> Iterator[Connection]:
    """Whom row security does not bind, in a transaction of a database of its own."""
    address = server.superuser.with_(dbname=migrated.database)
    with psycopg.connect(**address.parameters) as connection:
        yield connection
        connection.rollback()


@pytest.fixture(params=UNBOUND)
def unbound(
    request: pytest.FixtureRequest,
    superuser: Connection,
    server: LocalServer,
    migrated: Address,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The address of a database with rows, for a role that sees them all."""
    role, change = UNBOUND[request.param]
    server.allow_logins()
    probes.add_alice(superuser)
    superuser.execute(change)
    superuser.commit()
    monkeypatch.setenv("PGPASSWORD", server.superuser.parameters["password"])
    return migrated.with_(user=role).url


@pytest.mark.row("R15", "R16")
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_role_that_sees_everything_is_refused(
    kind: str, unbound: str, superuser: Connection
) -> None:
    number = "select (last_value, is_called)::text from tasks_id_seq"
    before = value(superuser, number)
    async with opened(kind, unbound) as door:
        for act in (
            lambda s: s.tasks.create(TaskCreate(title="x")),
            lambda s: stored(s, Task(user_id="alice", title="x")),
            lambda s: loaded(s, select(Task)),
        ):
            for _ in range(2):  # what was refused once is refused again
                with pytest.raises(todo.ConfigurationError):
                    async with door.session("alice") as session:
                        await done(act(session))
        rows, context, _ = await leftovers(door)
        assert (rows > 0, context) == (True, None)
    assert value(superuser, number) == before  # a row that was undone would have taken one


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_row_security_turned_off_shows_nothing(kind: str, url: str) -> None:
    async with opened(kind, f"{url}?options=-c%20row_security%3Doff") as door:
        with pytest.raises(DENIED):
            async with door.session("alice") as session:
                await done(session.tasks.counts())
        with pytest.raises(DENIED):
            await leftovers(door)


# Each lock by itself, and its mutants.


@pytest.fixture
def both(superuser: Connection) -> Connection:
    """The superuser, with the rows of both users."""
    probes.add_alice(superuser)
    probes.add_bob(superuser)
    return superuser


@pytest.fixture
def score(record_property: Callable[[str, object], None]) -> Callable[[str, int, list[str]], None]:
    """A function that tells how many mutants were noticed, and fails if some were not."""

    def tell(what: str, count: int, alive: list[str]) -> None:
        record_property("score", f"{what} {count - len(alive):,}/{count:,}")
        assert count
        assert alive == []

    return tell


@pytest.mark.matrix
@pytest.mark.parametrize("what", probes.MUTANTS)
def test_of_row_security_and_the_privileges_all_is_needed(
    both: Connection, what: str, score: Callable[..., None]
) -> None:
    score(what, *probes.survivors(both, *probes.MUTANTS[what]))


@pytest.mark.matrix
@pytest.mark.row("R17")
@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_statements_by_themselves(
    superuser: Connection, everything: bool, score: Callable[..., None]
) -> None:
    score("filters", *probes.filters(superuser, list(statements(everything=everything))))


@pytest.mark.row("R16")
def test_the_orm_by_itself(
    owner: Connection,
    module_database: Address,
    score: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = todo.create_engine(module_database.url)

    def leaks(opened: Any = None) -> bool:
        """Tell whether a session shows or changes Bob's rows, without the condition on one."""

        def criteria(mirror: Any, condition: Any) -> Any:
            return with_loader_criteria(mirror, sa.true() if mirror is opened else condition)

        monkeypatch.setattr("todo_schema.session.with_loader_criteria", criteria)
        found = False
        with Session(engine) as session:
            restrict(session, "alice")
            for mirror in OWNED:
                who = User.id if mirror is User else mirror.user_id
                count = len(session.exec(select(mirror)).all())
                users = set(session.exec(select(who)).all())
                changed = session.exec(sa.update(mirror).values({who.key: who})).rowcount
                other = session.get(mirror, "bob" if mirror is User else ("bob", BOBS))
                deleted = session.exec(sa.delete(mirror)).rowcount
                session.rollback()
                found |= users != {"alice"} or bool(other) or not count == changed == deleted > 0
        return found

    try:
        assert not leaks()
        alive = [mirror.__name__ for mirror in OWNED if not leaks(mirror)]
    finally:
        engine.dispose()
    score("conditions of the ORM", len(OWNED), alive)
