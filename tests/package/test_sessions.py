"""Sessions: one user's transaction, in three round trips, whole or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import todo_schema as todo
from sqlalchemy.exc import InvalidRequestError, PendingRollbackError
from sqlalchemy.orm import selectinload
from sqlmodel import Session, select
from todo_schema import (
    Conversation,
    Message,
    MessageCreate,
    Task,
    TaskCreate,
    TaskFilter,
    TaskUpdate,
    User,
)

from scripts.address import Address
from scripts.server import LocalServer
from tests.package.probes import Door, done, opened
from tests.schema.acting import Connection, column, value
from tests.support.proxy import Proxy, proxy

pytestmark = [pytest.mark.anyio, pytest.mark.row("R16")]

# Each of two users has 30 tasks; Alice has five conversations of four messages each.
ROWS = """
insert into "user" (id, name, email) values ('alice', '', 'a@b'), ('bob', '', 'b@b');
insert into tasks (user_id, title)
select id, 'Task ' || n from "user", generate_series(1, 30) as n order by id, n;
insert into conversations (user_id) select 'alice' from generate_series(1, 5);
insert into messages (user_id, conversation_id, role, content)
select user_id, id, 'user', 'x' from conversations, generate_series(1, 4);
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def owner(server: LocalServer, module_database: Address) -> Iterator[Connection]:
    server.allow_logins()
    with psycopg.connect(module_database.url, autocommit=True) as connection:
        connection.execute(ROWS)
        yield connection


Stored = Callable[[str], int]


@pytest.fixture
def stored(owner: Connection) -> Iterator[Stored]:
    """A function that counts tasks by title; those that a test stored go away after it."""
    yield lambda title: value(owner, "select count(*) from tasks where title = %s", [title])
    owner.execute("delete from tasks where title not like 'Task %'")


@pytest.fixture
def network(owner: Connection, module_database: Address) -> Iterator[Proxy]:
    """The server behind a proxy."""
    with proxy(module_database) as running:
        yield running


@pytest.fixture
def url(network: Proxy, module_database: Address) -> str:
    return module_database.with_(user="todo_app", port=network.port).url


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def door(kind: str, url: str) -> AsyncIterator[Door]:
    async with opened(kind, url) as door:
        yield door


async def create(session: Any, title: str) -> Any:
    return await done(session.tasks.create(TaskCreate(title=title)))


CALLS: dict[str, Callable[[Any], Any]] = {
    "get": lambda s: s.tasks.get(1),
    "list": lambda s: s.tasks.list(limit=20),
    "filtered": lambda s: s.tasks.list(TaskFilter(completed=False, search="task"), sort="due_date"),
    "page": lambda s: s.tasks.page(total="exact"),
    "search": lambda s: s.tasks.search("task"),
    "counts": lambda s: s.tasks.counts(),
    "toggle": lambda s: s.tasks.toggle(1),
    "update": lambda s: s.tasks.update(1, TaskUpdate(title="Task 1")),
    "update many": lambda s: s.tasks.update_many([1, 2], TaskUpdate(priority="low")),
    "conversations": lambda s: s.conversations.list(),
    "user": lambda s: s.user(),
}


@pytest.mark.row("R15")
@pytest.mark.parametrize("require_user", [False, True])
async def test_an_operation_is_three_round_trips(
    network: Proxy, url: str, door: Door, require_user: bool
) -> None:
    counted: dict[str, int] = {}
    for name, call in [("warm", CALLS["counts"]), *CALLS.items()]:
        before = network.round_trips
        async with door.session("alice", require_user=require_user) as session:
            await done(call(session))
        counted[name] = network.round_trips - before
    assert counted.pop("warm") > 3, "the first connection has to be made"
    assert counted == dict.fromkeys(CALLS, 3)

    # The counter sees what it should: a plain driver's transaction takes four.
    with psycopg.connect(url) as plain:
        before = network.round_trips
        plain.execute("select set_tenant('alice')")
        plain.execute("select from tasks where id = 1")
        plain.commit()
        assert network.round_trips - before == 4


async def test_a_block_is_one_transaction(door: Door, stored: Stored) -> None:
    async with door.session("alice") as session:
        await create(session, "whole")
        session.orm.add(Task(user_id="alice", title="whole"))
        assert stored("whole") == 0
    assert stored("whole") == 2
    with pytest.raises(ZeroDivisionError):
        async with door.session("alice") as session:
            await create(session, "whole")
            session.orm.add(Task(user_id="alice", title="whole"))
            await done(session.orm.flush())
            _ = 1 / 0
    assert stored("whole") == 2
    async with door.session("alice") as session:
        task = await create(session, "whole")
        await done(session.commit())
        assert stored("whole") == 3
        await done(session.tasks.update(task.id, TaskUpdate(title="part")))
        await done(session.rollback())
        assert (await done(session.tasks.get(task.id))).title == "whole"
        await done(session.tasks.delete(task.id))
    assert stored("whole") == 2


async def commit_first(session: Any) -> None:
    await done(session.commit())
    await done(session.orm.exec(select(Task)))


async def flush(session: Any) -> None:
    session.orm.add(Task(user_id="bob", title="x"))
    await done(session.orm.flush())


# What begins a transaction, what the package refuses in it, and what the database does.
BEGUN: dict[str, Callable[[Any], Any]] = {
    "package": lambda s: s.tasks.counts(),
    "orm": lambda s: s.orm.exec(select(Task)),
    "orm after a commit": commit_first,
}
REFUSED: dict[str, Callable[[Any], Any]] = {
    "No task with id 1000": lambda s: s.tasks.get(1000),
    "No task with id 1001": lambda s: s.tasks.delete_many([1001]),
    "No conversation with id 1000": lambda s: s.messages.create(1000, TALK),
    "limit must": lambda s: s.tasks.list(limit=0),
    "search ": lambda s: s.tasks.search("the"),
    "call commit\\(\\) of the user's session": lambda s: s.orm.commit(),
    "call rollback\\(\\) of the user's session": lambda s: s.orm.rollback(),
}
FAILURES: dict[str, Callable[[Any], Any]] = {
    "package": lambda s: s.tasks.create(UNCHECKED),
    "flush": flush,
    "statement": lambda s: s.orm.exec(sa.text("select 1 / 0")),
}
TALK = MessageCreate(role="user", content="x")
UNCHECKED = TaskCreate.model_construct(**{**TaskCreate(title="x").model_dump(), "title": ""})


@pytest.mark.parametrize("begun", BEGUN)
async def test_what_is_refused_by_the_package_leaves_the_transaction_as_it_was(
    door: Door, stored: Stored, begun: str
) -> None:
    async with door.session("alice") as session:
        await done(BEGUN[begun](session))
        await create(session, "kept")
        for message, refused in REFUSED.items():
            with pytest.raises((todo.TodoError, InvalidRequestError), match=message):
                await done(refused(session))
        await done(session.orm.close())
    assert stored("kept") == 1


@pytest.mark.row("R23")
@pytest.mark.parametrize("ends", ["block", "commit"])
@pytest.mark.parametrize("fails", FAILURES)
@pytest.mark.parametrize("begun", BEGUN)
async def test_nothing_is_lost_silently_after_the_database_refused(
    door: Door, stored: Stored, begun: str, fails: str, ends: str
) -> None:
    with pytest.raises(todo.ConflictError, match="roll it back"):
        async with door.session("alice") as session:
            await done(BEGUN[begun](session))
            await create(session, "lost")
            with pytest.raises(todo.TodoError):
                await done(FAILURES[fails](session))
            for goes_on in "package", "orm":
                with pytest.raises((todo.ConflictError, PendingRollbackError)):
                    await done(BEGUN[goes_on](session))
            if ends == "commit":
                await done(session.commit())
                pytest.fail("it was stored, or not")
    assert stored("lost") == 0
    async with door.session("alice") as session:
        await done(BEGUN[begun](session))
        with pytest.raises(todo.TodoError):
            await done(FAILURES[fails](session))
        await done(session.rollback())
        await create(session, "after")
    assert stored("after") == 1


async def test_a_transaction_that_sql_ended_is_not_gone_on_with(door: Door) -> None:
    with pytest.raises(todo.ConflictError):
        async with door.session("alice") as session:
            await create(session, "x")
            await done(session.orm.exec(sa.text("rollback")))


async def test_a_session_refuses_after_its_block(door: Door) -> None:
    async with door.session("alice") as session:
        orm = session.orm
        await done(orm.exec(select(Task)))
    for use in (
        session.tasks.counts,
        session.commit,
        session.rollback,
        lambda: session.orm,
        lambda: orm.exec(select(Task)),
    ):
        with pytest.raises(todo.TodoError, match="block has ended"):
            await done(use())


async def test_a_begin_that_fails_can_be_rolled_back(door: Door, owner: Connection) -> None:
    async with door.session("alice", require_user=True) as session:
        await done(session.orm.exec(sa.text("set lock_timeout = '50ms'")))
        await done(session.commit())
        with owner.transaction():
            owner.execute('lock table "user"')
            with pytest.raises(todo.ConflictError, match="Somebody else"):
                await done(session.tasks.counts())
        await done(session.rollback())
        assert (await done(session.tasks.counts())).total == 30


async def test_errors_of_the_application_stay_its_own(door: Door) -> None:
    with pytest.raises(UnicodeEncodeError):
        async with door.session("alice"):
            "é".encode("ascii")
    with pytest.raises(sa.exc.OperationalError), sa.create_engine("sqlite://").connect() as other:
        async with door.session("alice"):
            other.exec_driver_sql("select * from nothing")


def test_a_session_of_no_user_is_plain(module_database: Address, stored: Stored) -> None:
    engine = todo.create_engine(module_database.url)
    with todo.unrestricted_session(engine) as session:
        assert isinstance(session, Session)
        assert len(session.exec(select(Task)).all()) == 60
        session.add(Task(user_id="bob", title="by the owner"))
    with pytest.raises(ZeroDivisionError), todo.unrestricted_session(engine) as session:
        session.add(Task(user_id="bob", title="by the owner"))
        session.flush()
        _ = 1 / 0
    assert stored("by the owner") == 1
    # SQLAlchemy's own isolation levels keep their meaning.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("vacuum tasks")
    for level in {"isolation_level": "SERIALIZABLE"}, {}:
        with engine.connect().execution_options(**level) as connection:
            found = connection.exec_driver_sql("show transaction_isolation").scalar()
            assert found == level.get("isolation_level", "read committed").lower()
    engine.dispose()


async def test_a_plain_session_loses_nothing_silently(door: Door) -> None:
    with pytest.raises(todo.ConflictError, match="roll it back"):
        async with door.plain() as session:
            assert (await done(session.exec(select(Task)))).all() == []
            with pytest.raises(todo.TodoError):
                await done(session.exec(sa.text("select 1 / 0")))


async def test_a_user_has_to_exist_where_that_is_asked(door: Door) -> None:
    with pytest.raises(todo.UnknownUserError):
        async with door.session("nobody", require_user=True):
            pytest.fail("the block was entered")
    with pytest.raises(todo.UnknownUserError):
        async with door.session("nobody") as session:
            assert (await done(session.tasks.list())).items == []
            with pytest.raises(todo.UnknownUserError):
                await done(session.user())
            await create(session, "x")


@pytest.mark.parametrize("user_id", ["", "x" * 256, "a\0b", "\ud800", None, 7])
async def test_what_is_no_user_id_is_told(door: Door, user_id: Any) -> None:
    with pytest.raises(todo.InvalidError) as caught:
        async with door.session(user_id):
            pytest.fail("the block was entered")
    assert caught.value.field == "user_id"


@pytest.mark.parametrize("user_id", ["o'brien", "a\\'; select 1 --", "ü🙂", "%s", "x" * 255])
async def test_any_user_id_is_only_an_id(door: Door, owner: Connection, user_id: str) -> None:
    owner.execute('insert into "user" (id, name, email) values (%s, %s, %s)', [user_id, "", "o@o"])
    async with door.session(user_id, require_user=True) as session:
        await create(session, "x")
        assert [each.user_id for each in (await done(session.tasks.list())).items] == [user_id]
    owner.execute('delete from "user" where id = %s', [user_id])


def test_an_engine_that_was_made_otherwise_is_refused(url: str) -> None:
    other = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    told = pytest.raises(todo.ConfigurationError, match="create_engine")
    with told, todo.user_session(other, "alice"):
        pytest.fail("the block was entered")


TERMINATE = """
select pg_terminate_backend(pid, 10000) from pg_stat_activity
where usename = 'todo_app' and datname = current_database()
"""


@pytest.mark.row("R15", "R23")
async def test_connections_that_died_in_the_pool_are_replaced_unnoticed(
    network: Proxy, owner: Connection, kind: str, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def use() -> None:
        async with door.session("alice") as session:
            assert (await done(session.tasks.list())).items

    caplog.set_level(logging.INFO, "todo_schema")
    for die in network.drop, lambda: column(owner, TERMINATE):
        async with opened(kind, url, pool_size=4, max_overflow=0) as door:
            async with AsyncExitStack() as all_of_them:
                for _ in range(4):
                    session = await all_of_them.enter_async_context(door.session("alice"))
                    await done(session.tasks.counts())
            assert die() in (None, [True] * 4)
            await asyncio.gather(*(use() for _ in range(8)))
        assert "closed by the server" in caplog.text
        caplog.clear()


@pytest.mark.row("R15", "R23")
async def test_a_statement_is_never_repeated(network: Proxy, door: Door, stored: Stored) -> None:
    async def create_and_drop(session: Any) -> None:
        await create(session, "once")
        network.drop()

    with pytest.raises(todo.UnavailableError):
        async with door.session("alice") as session:
            await create_and_drop(session)
            await create(session, "once")
    with pytest.raises(todo.UnavailableError):
        async with door.session("alice") as session:
            await create_and_drop(session)
            # Nothing but the commit is left, and it has nowhere to go.
    async with door.session("alice") as session:
        await create_and_drop(session)
        with pytest.raises(todo.UnavailableError):
            await done(session.tasks.counts())
        with pytest.raises(todo.ConflictError, match="roll it back"):
            await done(session.tasks.counts())
        await done(session.rollback())
        assert (await done(session.tasks.counts())).total == 30
    assert stored("once") == 0


# What is selected, what it leads to, and how many objects that are.
PATHS: dict[str, tuple[type[Any], Any, int]] = {
    "user to tasks": (User, User.tasks, 30),
    "user to conversations": (User, User.conversations, 5),
    "conversation to messages": (Conversation, Conversation.messages, 20),
    "task to user": (Task, Task.user, 30),
    "conversation to user": (Conversation, Conversation.user, 5),
    "message to conversation": (Message, Message.conversation, 20),
}


@pytest.mark.row("R13", "R22")
@pytest.mark.parametrize("path", PATHS)
async def test_a_relationship_is_loaded_in_one_statement_more_where_it_is_asked_for(
    door: Door, path: str
) -> None:
    mirror, relationship, number = PATHS[path]
    async with door.session("alice") as session:
        row = (await done(session.orm.exec(select(mirror)))).first()
        with pytest.raises(InvalidRequestError, match="raise_on_sql"):
            getattr(row, relationship.key)
    sent: list[str] = []
    sa.event.listen(door.sync_engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    async with door.session("alice") as session:
        query = select(mirror).options(selectinload(relationship))
        ends = [getattr(row, relationship.key) for row in await done(session.orm.exec(query))]
        rows = [row for end in ends for row in (end if isinstance(end, list) else [end])]
        assert len([row.model_dump() for row in rows]) == number
    assert len(sent) == 2
    assert all("user_id = " in text or '"user".id = ' in text for text in sent), sent
