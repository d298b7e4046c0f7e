"""The asynchronous form: the same names, the same arguments, results and errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar, Unpack

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import greenlet_spawn
from sqlmodel.ext.asyncio.session import AsyncSession

from todo_schema.engine import (
    CURSOR_KEY,
    EngineOptions,
    arguments,
    begin,
    listen,
    run,
    tenant_options,
)
from todo_schema.errors import translated
from todo_schema.operation import Async, Query
from todo_schema.schemas import UserRead
from todo_schema.session import ORM_OPTIONS, JoinedSession, pending, restrict, still_open
from todo_schema.statements.conversations import Conversations, Messages, Users
from todo_schema.statements.tasks import Tasks
from todo_schema.version import version_query

__all__ = ["UserSession", "check_schema", "create_engine", "unrestricted_session", "user_session"]

T = TypeVar("T")


def create_engine(url: str | None = None, **options: Unpack[EngineOptions]) -> AsyncEngine:
    """Return an engine for `user_session`; nothing connects yet.

    Parameters
    ----------
    url : the address; DATABASE_URL of the environment or of `.env` by default
    options : see `todo_schema.engine.EngineOptions`

    Raises
    ------
    ConfigurationError : there is no address, it is malformed, or it allows no TLS
    """
    engine = create_async_engine(**arguments(url, options))
    listen(engine.sync_engine, options)
    return engine


class UserSession:
    """One user's rows, in one transaction at a time; made by `user_session`.

    Parameters
    ----------
    connection : of the engine of that user
    user_id : the user

    Attributes
    ----------
    tasks, conversations, messages : the operations
    """

    def __init__(self, connection: AsyncConnection, user_id: str) -> None:
        self._connection = connection
        self._orm: AsyncSession | None = None
        self.user_id = user_id
        assert connection.sync_connection is not None
        self._sync = connection.sync_connection
        secret: bytes = self._sync.get_execution_options()[CURSOR_KEY]
        namespace = (user_id, secret, self._run)
        self.tasks: Tasks[Async] = Tasks(*namespace)
        self.conversations: Conversations[Async] = Conversations(*namespace)
        self.messages: Messages[Async] = Messages(*namespace)
        self._users: Users[Async] = Users(*namespace)

    async def user(self) -> UserRead:
        """Return the session's user.

        Raises
        ------
        UnknownUserError : there is no such user, or no more
        """
        return await self._users.get()

    @property
    def orm(self) -> AsyncSession:
        """SQLModel's session in the same transaction, for statements on the mirrors.

        Statements get the user's condition added. End the transaction by this session's own
        `commit` and `rollback`.
        """
        still_open(self._sync)
        if self._orm is None:
            self._orm = AsyncSession(
                self._connection, sync_session_class=JoinedSession, **ORM_OPTIONS
            )
            restrict(self._orm.sync_session, self.user_id)
        return self._orm

    async def commit(self) -> None:
        """Store what was done; the next statement begins a new transaction.

        Raises
        ------
        ConflictError : a statement failed before, and the transaction with it
        UnavailableError : the server went away; whether it was stored is not known
        """
        still_open(self._sync)
        with translated():
            if self._joined is not None:
                await greenlet_spawn(self._joined.leave, keep=True)
            await self._connection.commit()

    async def rollback(self) -> None:
        """Undo what was done; the next statement begins a new transaction."""
        still_open(self._sync)
        with translated():
            if self._joined is not None:
                await greenlet_spawn(self._joined.leave, keep=False)
            await self._connection.rollback()

    @property
    def _joined(self) -> JoinedSession | None:
        sync = self._orm and self._orm.sync_session
        return sync if isinstance(sync, JoinedSession) else None

    async def _run(self, query: Query[T]) -> T:
        still_open(self._sync)
        if self._joined is not None:
            self._joined.still_good()
        return await self._connection.run_sync(run, query)

    async def _close(self) -> None:
        if self._orm is not None:
            await self._orm.close()


@asynccontextmanager
async def user_session(
    engine: AsyncEngine, user_id: str, *, require_user: bool = False
) -> AsyncIterator[UserSession]:
    """Open a session of one user: commits at the end of the block, rolls back on an error.

    Parameters
    ----------
    engine : of `create_engine`
    user_id : whose rows it sees; the application knows who that is
    require_user : look for the user when the transaction begins, in the same round trip

    Raises
    ------
    UnknownUserError : with `require_user`, there is no such user
    ConfigurationError : the role of the engine is not bound by row security
    UnavailableError : no connection, or all are in use
    TodoError : one of its subclasses, for what the database refuses inside the block
    """
    options = tenant_options(engine, user_id, required=require_user)
    async with connected(engine) as connection:
        await connection.execution_options(**options)
        session = UserSession(connection, user_id)
        try:
            if require_user:
                await connection.run_sync(begin)
            with pending():
                yield session
            await session.commit()
        finally:
            await session._close()


@asynccontextmanager
async def unrestricted_session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Open SQLModel's session for no user: row security alone decides what its role sees.

    Parameters
    ----------
    engine : of `create_engine`, or any other

    Raises
    ------
    TodoError : one of its subclasses, for what the database refuses inside the block
    """
    async with AsyncSession(engine, expire_on_commit=False) as session:
        with pending():
            yield session
            await session.commit()


async def check_schema(engine: AsyncEngine, *, exact: bool = False) -> str:
    """Return the database's version, the id of its newest migration.

    Parameters
    ----------
    engine : of `create_engine`
    exact : refuse a newer one, too

    Raises
    ------
    SchemaVersionError : the database has no migrations, or older ones than this release needs
    UnavailableError : no connection
    """
    async with connected(engine) as connection:
        return await connection.run_sync(run, version_query(exact=exact))


@asynccontextmanager
async def connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Give a connection of the pool; what the block raises stays as it is."""
    async with AsyncExitStack() as stack:
        with translated():
            connection = await stack.enter_async_context(engine.connect())
        yield connection
