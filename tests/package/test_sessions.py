"""Sessions: one user's transaction, in three round trips, whole or not at all."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import Engine
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import selectinload
from sqlmodel import Session, select
from todo_schema import (
    ConfigurationError,
    ConflictError,
    Conversation,
    ConversationCreate,
    InvalidError,
    Message,
    MessageCreate,
    NotFoundError,
    Task,
    TaskCreate,
    TaskFilter,
    TaskUpdate,
    TodoError,
    UnavailableError,
    UnknownUserError,
    User,
    UserSession,
    aio,
    create_engine,
    unrestricted_session,
    user_session,
)

from scripts.address import Address
from scripts.server import LocalServer
from tests.support.proxy import Proxy, proxy

pytestmark = pytest.mark.row("R16")


@pytest.fixture(scope="module")
def owner(server: LocalServer, module_database: Address) -> Iterator[psycopg.Connection]:
    server.allow_logins()
    with psycopg.connect(module_database.url, autocommit=True) as connection:
        connection.execute(
            """
            insert into "user" (id, name, email) values ('alice', '', 'a@b'), ('bob', '', 'b@b')
            """
        )
        connection.execute(
            "insert into tasks (user_id, title) select u, 'Task ' || n"
            " from unnest('{alice,bob}'::text[]) as u, generate_series(1, 30) as n"
        )
        yield connection


@pytest.fixture
def network(owner: psycopg.Connection, module_database: Address) -> Iterator[Proxy]:
    """The server behind a proxy."""
    with proxy(module_database) as running:
        yield running


@pytest.fixture
def url(network: Proxy, module_database: Address) -> str:
    return module_database.with_(user="todo_app", port=network.port).url


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url, connect_retry=2)
    yield engine
    engine.dispose()


def count(owner: psycopg.Connection, title: str) -> int:
    (found,) = owner.execute("select count(*) from tasks where title = %s", [title]).fetchone() or (
        0,
    )
    return found


READS: dict[str, Callable[[Any], Any]] = {
    "get": lambda session: session.tasks.get(1),
    "list": lambda session: session.tasks.list(limit=20),
    "filtered": lambda s: s.tasks.list(TaskFilter(completed=False, search="task"), sort="due_date"),
    "page": lambda session: session.tasks.page(total="exact"),
    "search": lambda session: session.tasks.search("task"),
    "counts": lambda session: session.tasks.counts(),
    "toggle": lambda session: session.tasks.toggle(1),
    "update": lambda session: session.tasks.update(1, TaskUpdate(title="Task 1")),
    "update many": lambda session: session.tasks.update_many([1, 2], TaskUpdate(priority="low")),
    "conversations": lambda session: session.conversations.list(),
    "user": lambda session: session.user(),
}


@pytest.mark.row("R15")
@pytest.mark.parametrize("require_user", [False, True])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_operation_is_three_round_trips(
    network: Proxy, url: str, mode: str, require_user: bool
) -> None:
    counted: dict[str, int] = {}

    def measure_sync() -> None:
        engine = create_engine(url)
        for name, call in [("warm", READS["counts"]), *READS.items()]:
            before = network.round_trips
            with user_session(engine, "alice", require_user=require_user) as session:
                call(session)
            counted[name] = network.round_trips - before
        engine.dispose()

    async def measure_async() -> None:
        engine = aio.create_engine(url)
        for name, call in [("warm", READS["counts"]), *READS.items()]:
            before = network.round_trips
            async with aio.user_session(engine, "alice", require_user=require_user) as session:
                await call(session)
            counted[name] = network.round_trips - before
        await engine.dispose()

    if mode == "sync":
        measure_sync()
    else:
        asyncio.run(measure_async())
    assert counted.pop("warm") > 3, "the first connection has to be made"
    assert counted == dict.fromkeys(READS, 3)

    # The counter sees what it should: a plain driver's transaction takes four.
    with psycopg.connect(url) as plain:
        before = network.round_trips
        plain.execute("select set_tenant('alice')")
        plain.execute("select from tasks where id = 1")
        plain.commit()
        assert network.round_trips - before == 4


def test_a_block_is_one_transaction(engine: Engine, owner: psycopg.Connection) -> None:
    with user_session(engine, "alice") as session:
        session.tasks.create(TaskCreate(title="whole"))
        assert count(owner, "whole") == 0
    assert count(owner, "whole") == 1
    with pytest.raises(ZeroDivisionError), user_session(engine, "alice") as session:
        session.tasks.create(TaskCreate(title="whole"))
        session.orm.add(Task(user_id="alice", title="whole"))
        session.orm.flush()
        _ = 1 / 0
    assert count(owner, "whole") == 1
    with user_session(engine, "alice") as session:
        task = session.tasks.create(TaskCreate(title="whole"))
        session.commit()
        session.tasks.update(task.id, TaskUpdate(title="part"))
        session.rollback()
        assert session.tasks.get(task.id).title == "whole"
        session.tasks.delete(task.id)
    assert count(owner, "whole") == 1
    owner.execute("delete from tasks where title = 'whole'")


def test_own_refusals_leave_the_transaction_as_it_was(
    engine: Engine, owner: psycopg.Connection
) -> None:
    with user_session(engine, "alice") as session:
        session.tasks.create(TaskCreate(title="kept"))
        for refused in (
            lambda: session.tasks.get(10**9),
            lambda: session.tasks.delete_many([10**9]),
            lambda: session.tasks.list(limit=0),
            lambda: session.messages.create(10**9, MessageCreate(role="user", content="x")),
            lambda: session.tasks.search("the"),
        ):
            with pytest.raises((NotFoundError, InvalidError)):
                refused()
    assert count(owner, "kept") == 1
    owner.execute("delete from tasks where title = 'kept'")


def fail_by_package(session: UserSession) -> None:
    # As if the schema had not refused it.
    session.tasks.create(
        TaskCreate.model_construct(**{**TaskCreate(title="x").model_dump(), "title": ""})
    )


def fail_by_flush(session: UserSession) -> None:
    session.orm.add(Task(user_id="bob", title="x"))
    session.orm.flush()


def fail_by_statement(session: UserSession) -> None:
    session.orm.exec(sa.text("select 1 / 0"))  # type: ignore[call-overload]


def commit_first(session: UserSession) -> None:
    session.commit()
    session.orm.exec(select(Task)).first()


BEGUN: dict[str, Callable[[UserSession], Any]] = {
    "package": lambda session: session.tasks.counts(),
    "orm": lambda session: session.orm.exec(select(Task)).first(),
    "orm after a commit": commit_first,
}


@pytest.mark.row("R23")
@pytest.mark.parametrize("ends", ["block", "commit"])
@pytest.mark.parametrize("fail", [fail_by_package, fail_by_flush, fail_by_statement])
@pytest.mark.parametrize("begun", BEGUN)
def test_nothing_is_lost_silently_after_the_database_refused(
    engine: Engine,
    owner: psycopg.Connection,
    begun: str,
    fail: Callable[[UserSession], None],
    ends: str,
) -> None:
    with (
        pytest.raises(ConflictError, match="roll it back"),
        user_session(engine, "alice") as session,
    ):
        BEGUN[begun](session)
        session.tasks.create(TaskCreate(title="lost"))
        with pytest.raises(TodoError):
            fail(session)
        for refused in (session.tasks.counts, lambda: session.orm.exec(select(Task)).first()):
            with pytest.raises((ConflictError, sa.exc.PendingRollbackError)):
                refused()
        if ends == "commit":
            session.commit()
            pytest.fail("it was stored, or not")
    assert count(owner, "lost") == 0
    with user_session(engine, "alice") as session:
        BEGUN[begun](session)
        with pytest.raises(TodoError):
            fail(session)
        session.rollback()
        session.tasks.create(TaskCreate(title="after"))
    assert count(owner, "after") == 1
    owner.execute("delete from tasks where title = 'after'")


@pytest.mark.parametrize("begun", BEGUN)
def test_the_orm_neither_begins_nor_ends_the_transaction(
    engine: Engine, owner: psycopg.Connection, begun: str
) -> None:
    with user_session(engine, "alice") as session:
        BEGUN[begun](session)
        session.tasks.create(TaskCreate(title="kept"))
        for end in (session.orm.commit, session.orm.rollback):
            with pytest.raises(InvalidRequestError, match="of the user's session"):
                end()
        session.orm.close()
    assert count(owner, "kept") == 1
    owner.execute("delete from tasks where title = 'kept'")


def test_a_transaction_that_sql_ended_is_not_gone_on_with(engine: Engine) -> None:
    with pytest.raises(ConflictError), user_session(engine, "alice") as session:
        session.tasks.create(TaskCreate(title="x"))
        session.orm.exec(sa.text("rollback"))  # type: ignore[call-overload]


def test_a_session_refuses_after_its_block(engine: Engine) -> None:
    with user_session(engine, "alice") as session:
        orm = session.orm
        orm.exec(select(Task)).first()
    for use in (
        session.tasks.counts,
        session.commit,
        session.rollback,
        lambda: session.orm,
        lambda: orm.exec(select(Task)),
    ):
        with pytest.raises(TodoError, match="block has ended"):
            use()


def test_a_begin_that_fails_can_be_rolled_back(engine: Engine, owner: psycopg.Connection) -> None:
    with user_session(engine, "alice", require_user=True) as session:
        session.orm.exec(sa.text("set lock_timeout = '50ms'"))  # type: ignore[call-overload]
        session.commit()
        with owner.transaction():
            owner.execute('lock table "user"')
            with pytest.raises(ConflictError, match="Somebody else"):
                session.tasks.counts()
        session.rollback()
        assert session.tasks.counts().total == 30
        session.orm.exec(sa.text("reset lock_timeout"))  # type: ignore[call-overload]


def test_errors_of_the_application_stay_its_own(engine: Engine) -> None:
    other = sa.create_engine("sqlite://")
    with pytest.raises(UnicodeEncodeError), user_session(engine, "alice"):
        "é".encode("ascii")
    with (
        pytest.raises(sa.exc.OperationalError),
        user_session(engine, "alice"),
        other.connect() as c,
    ):
        c.exec_driver_sql("select * from nothing")


def test_a_setting_of_the_whole_connection_gives_no_rows_to_the_next(url: str) -> None:
    engine = create_engine(url, pool_size=1, max_overflow=0)
    with user_session(engine, "alice") as session:
        session.orm.exec(sa.text("select set_config('app.user_id', 'bob', false)"))  # type: ignore[call-overload]
    with unrestricted_session(engine) as plain:
        assert plain.exec(select(Task)).all() == []
    engine.dispose()


def test_a_plain_session_loses_nothing_silently(engine: Engine) -> None:
    with (
        pytest.raises(ConflictError, match="roll it back"),
        unrestricted_session(engine) as session,
        pytest.raises(TodoError),
    ):
        session.exec(sa.text("select 1 / 0"))  # type: ignore[call-overload]


def test_the_asynchronous_block_is_the_same(url: str, owner: psycopg.Connection) -> None:
    async def work() -> None:
        engine = aio.create_engine(url)
        async with aio.user_session(engine, "alice") as session:
            await session.tasks.create(TaskCreate(title="stored"))
            session.orm.add(Task(user_id="alice", title="stored"))
        with pytest.raises(ConflictError):
            async with aio.user_session(engine, "alice") as session:
                await session.tasks.create(TaskCreate(title="lost"))
                session.orm.add(Task(user_id="bob", title="x"))
                with pytest.raises(TodoError):
                    await session.orm.flush()
        with pytest.raises(ZeroDivisionError):
            async with aio.user_session(engine, "alice") as session:
                await session.tasks.create(TaskCreate(title="lost"))
                _ = 1 / 0
        with pytest.raises(UnknownUserError):
            async with aio.user_session(engine, "nobody", require_user=True):
                pytest.fail("the block was entered")
        async with aio.user_session(engine, "alice") as session:
            await session.tasks.create(TaskCreate(title="lost"))
            await session.rollback()
            assert (await session.orm.exec(select(User))).one().id == "alice"
        async with aio.unrestricted_session(engine) as plain:
            assert (await plain.exec(select(Task))).all() == []
        assert engine.sync_engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        await engine.dispose()

    asyncio.run(work())
    assert (count(owner, "stored"), count(owner, "lost")) == (2, 0)
    owner.execute("delete from tasks where title = 'stored'")


def test_a_user_has_to_exist_where_that_is_asked(engine: Engine) -> None:
    with (
        pytest.raises(UnknownUserError),
        user_session(engine, "nobody", require_user=True),
    ):
        pytest.fail("the block was entered")
    with user_session(engine, "nobody") as session:
        assert session.tasks.list().items == []
        with pytest.raises(UnknownUserError):
            session.user()
    with pytest.raises(UnknownUserError), user_session(engine, "nobody") as session:
        session.tasks.create(TaskCreate(title="x"))


@pytest.mark.parametrize("user_id", ["", "x" * 256, "a\0b", "\ud800", None, 7])
def test_what_is_no_user_id_is_told(engine: Engine, user_id: Any) -> None:
    with pytest.raises(InvalidError) as caught, user_session(engine, user_id):
        pytest.fail("the block was entered")
    assert caught.value.field == "user_id"


@pytest.mark.parametrize("user_id", ["o'brien", "a\\'; select 1 --", "ü🙂", "%s", "x" * 255])
def test_any_user_id_is_only_an_id(engine: Engine, owner: psycopg.Connection, user_id: str) -> None:
    owner.execute('insert into "user" (id, name, email) values (%s, %s, %s)', [user_id, "", "o@o"])
    with user_session(engine, user_id, require_user=True) as session:
        session.tasks.create(TaskCreate(title="x"))
        assert [task.user_id for task in session.tasks.list().items] == [user_id]
    owner.execute('delete from "user" where id = %s', [user_id])


def test_an_engine_that_was_made_otherwise_is_refused(url: str) -> None:
    other = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with pytest.raises(ConfigurationError, match="create_engine"), user_session(other, "alice"):
        pytest.fail("the block was entered")


@pytest.mark.row("R15")
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_connections_that_died_in_the_pool_are_replaced_unnoticed(
    network: Proxy, url: str, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "todo_schema")

    def sync() -> None:
        engine = create_engine(url, pool_size=4, max_overflow=0)
        hold(engine, 4)
        network.drop()
        for _ in range(8):
            with user_session(engine, "alice") as session:
                assert session.tasks.list().items
        engine.dispose()

    async def asynchronous() -> None:
        engine = aio.create_engine(url, pool_size=4, max_overflow=0)

        async def use() -> None:
            async with aio.user_session(engine, "alice") as session:
                assert (await session.tasks.list()).items

        await asyncio.gather(*(use() for _ in range(4)))
        network.drop()
        await asyncio.gather(*(use() for _ in range(8)))
        await engine.dispose()

    if mode == "sync":
        sync()
    else:
        asyncio.run(asynchronous())
    assert "closed by the server" in caplog.text


def hold(engine: Engine, number: int) -> None:
    """Use so many connections at once, so that the pool has them."""
    barrier = threading.Barrier(number)

    def use() -> None:
        with user_session(engine, "alice") as session:
            session.tasks.counts()
            barrier.wait(10)

    threads = [threading.Thread(target=use) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.row("R15", "R23")
def test_a_statement_is_never_repeated(
    network: Proxy, engine: Engine, owner: psycopg.Connection
) -> None:
    with pytest.raises(UnavailableError), user_session(engine, "alice") as session:
        session.tasks.create(TaskCreate(title="once"))
        network.drop()
        session.tasks.create(TaskCreate(title="once"))
    assert count(owner, "once") == 0
    with pytest.raises(UnavailableError), user_session(engine, "alice") as session:
        session.tasks.create(TaskCreate(title="once"))
        network.drop()
        # Nothing but the commit is left, and it has nowhere to go.
    assert count(owner, "once") == 0
    with user_session(engine, "alice") as session:
        session.tasks.create(TaskCreate(title="once"))
        network.drop()
        with pytest.raises(UnavailableError):
            session.tasks.counts()
        with pytest.raises(ConflictError, match="roll it back"):
            session.tasks.counts()
        session.rollback()
        assert session.tasks.counts().total == 30
    assert count(owner, "once") == 0


@pytest.mark.row("R15", "R23")
def test_a_full_pool_is_told_in_time(url: str) -> None:
    engine = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.2)
    with user_session(engine, "alice"):
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="in use"), user_session(engine, "bob"):
            pytest.fail("the block was entered")
        assert time.monotonic() - started < 5
    engine.dispose()


def test_a_task_that_is_cancelled_gives_its_connection_back(
    url: str, owner: psycopg.Connection
) -> None:
    async def work() -> None:
        engine = aio.create_engine(url, pool_size=1, max_overflow=0)

        async def sleep() -> None:
            async with aio.user_session(engine, "alice") as session:
                await session.tasks.create(TaskCreate(title="cancelled"))
                connection = await session.orm.connection()
                await connection.exec_driver_sql("select pg_sleep(30)")

        running = asyncio.create_task(sleep())
        while not owner.execute(
            "select 1 from pg_stat_activity"
            " where query like 'select pg_sleep%' and state = 'active'"
        ).fetchone():
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        async with aio.user_session(engine, "bob") as session:
            assert (await session.tasks.counts()).total == 30
        await engine.dispose()

    asyncio.run(work())
    assert count(owner, "cancelled") == 0


def test_a_session_of_no_user_is_plain(
    engine: Engine, owner: psycopg.Connection, module_database: Address
) -> None:
    with unrestricted_session(engine) as session:
        assert isinstance(session, Session)
        assert session.exec(select(Task)).all() == []
    everything = create_engine(module_database.url)
    with unrestricted_session(everything) as session:
        assert len(session.exec(select(Task)).all()) == 60
        session.add(Task(user_id="bob", title="by the owner"))
    assert count(owner, "by the owner") == 1
    with pytest.raises(ZeroDivisionError), unrestricted_session(everything) as session:
        session.add(Task(user_id="bob", title="by the owner"))
        session.flush()
        _ = 1 / 0
    assert count(owner, "by the owner") == 1
    owner.execute("delete from tasks where title = 'by the owner'")
    # SQLAlchemy's own isolation levels keep their meaning.
    with everything.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("vacuum tasks")
    with everything.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
        level = connection.exec_driver_sql("show transaction_isolation").scalar()
        assert level == "serializable"
    with everything.begin() as connection:
        assert connection.exec_driver_sql("show transaction_isolation").scalar() == "read committed"
    everything.dispose()


@pytest.fixture
def talk(owner: psycopg.Connection, module_database: Address) -> Iterator[Engine]:
    """An engine without the proxy; Alice has five conversations of four messages each."""
    engine = create_engine(module_database.with_(user="todo_app").url)
    with user_session(engine, "alice") as session:
        for _ in range(5):
            conversation = session.conversations.create(ConversationCreate())
            for n in range(4):
                session.messages.create(conversation.id, MessageCreate(role="user", content=f"{n}"))
    yield engine
    engine.dispose()
    owner.execute("delete from conversations")


PATHS: dict[str, tuple[Any, Callable[[Any], Any], int]] = {
    "user to tasks": (
        select(User).options(selectinload(User.tasks)),  # type: ignore[arg-type]
        lambda users: [task.title for user in users for task in user.tasks],
        30,
    ),
    "user to conversations": (
        select(User).options(selectinload(User.conversations)),  # type: ignore[arg-type]
        lambda users: [each.id for user in users for each in user.conversations],
        5,
    ),
    "conversation to messages": (
        select(Conversation).options(selectinload(Conversation.messages)),  # type: ignore[arg-type]
        lambda found: [message.content for each in found for message in each.messages],
        20,
    ),
    "task to user": (
        select(Task).options(selectinload(Task.user)),  # type: ignore[arg-type]
        lambda tasks: [task.user.id for task in tasks],
        30,
    ),
    "conversation to user": (
        select(Conversation).options(selectinload(Conversation.user)),  # type: ignore[arg-type]
        lambda found: [each.user.id for each in found],
        5,
    ),
    "message to conversation": (
        select(Message).options(selectinload(Message.conversation)),  # type: ignore[arg-type]
        lambda messages: [message.conversation.id for message in messages],
        20,
    ),
}


@pytest.mark.row("R13", "R22")
@pytest.mark.parametrize("path", PATHS)
def test_a_relationship_is_loaded_in_one_statement_more(talk: Engine, path: str) -> None:
    statement, follow, number = PATHS[path]
    sent = statements(talk)
    with user_session(talk, "alice") as session:
        found = session.orm.exec(statement).all()
        assert len(follow(found)) == number
        assert len(sent) == 2
        assert all("user_id = " in text or '"user".id = ' in text for text in sent), sent


@pytest.mark.row("R22")
def test_a_relationship_that_was_not_asked_for_raises(talk: Engine) -> None:
    with user_session(talk, "alice") as session:
        (first, *_) = session.orm.exec(select(Conversation)).all()
        with pytest.raises(InvalidRequestError, match="raise_on_sql"):
            _ = first.messages


def statements(engine: Engine) -> list[str]:
    """Return a list that gets every statement of this engine from now on."""
    sent: list[str] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        sent.append(statement)

    return sent


def test_the_user_is_added_to_every_statement_of_the_orm(
    talk: Engine, owner: psycopg.Connection, server: LocalServer
) -> None:
    sent = statements(talk)
    with user_session(talk, "alice") as session:
        bobs = owner.execute("select id from tasks where user_id = 'bob' limit 1").fetchone()
        assert session.orm.get(Task, ("bob", *(bobs or ()))) is None
        session.orm.exec(select(Task.title)).all()
        session.orm.exec(sa.update(Task).values(description="x"))
        session.orm.exec(sa.delete(Message))
        session.rollback()
    assert len(sent) == 4
    assert all("user_id = " in text for text in sent), sent
