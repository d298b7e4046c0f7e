"""Sessions: a transaction of one user, committed at the end of its block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import InvalidRequestError, PendingRollbackError
from sqlalchemy.orm import ORMExecuteState, with_loader_criteria
from sqlalchemy.orm import Session as AnySession
from sqlmodel import Session

from todo_schema.engine import CURSOR_KEY, begin, run, tenant_options
from todo_schema.errors import FAILED, ConflictError, TodoError, translated
from todo_schema.operation import Query, Sync
from todo_schema.schemas import UserRead
from todo_schema.statements.conversations import Conversations, Messages, Users
from todo_schema.statements.tasks import Tasks
from todo_schema.tables import Conversation, Message, Task, TaskSearch, User
from todo_schema.version import version_query

T = TypeVar("T")


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

    def __init__(self, connection: Connection, user_id: str) -> None:
        self._connection = connection
        self._orm: JoinedSession | None = None
        self.user_id = user_id
        secret: bytes = connection.get_execution_options()[CURSOR_KEY]
        namespace = (user_id, secret, self._run)
        self.tasks: Tasks[Sync] = Tasks(*namespace)
        self.conversations: Conversations[Sync] = Conversations(*namespace)
        self.messages: Messages[Sync] = Messages(*namespace)
        self._users: Users[Sync] = Users(*namespace)

    def user(self) -> UserRead:
        """Return the session's user.

        Raises
        ------
        UnknownUserError : there is no such user, or no more
        """
        return self._users.get()

    @property
    def orm(self) -> Session:
        """SQLModel's session in the same transaction, for statements on the mirrors.

        Statements get the user's condition added. The transaction ends by this session's own
        `commit` and `rollback`.
        """
        still_open(self._connection)
        if self._orm is None:
            self._orm = JoinedSession(self._connection, **ORM_OPTIONS)
            restrict(self._orm, self.user_id)
        return self._orm

    def commit(self) -> None:
        """Store what was done; the next statement begins a new transaction.

        Raises
        ------
        ConflictError : a statement failed before, and the transaction with it
        UnavailableError : the server went away; whether it was stored is not known
        """
        still_open(self._connection)
        with translated():
            if self._orm is not None:
                self._orm.leave(keep=True)
            self._connection.commit()

    def rollback(self) -> None:
        """Undo what was done; the next statement begins a new transaction."""
        still_open(self._connection)
        with translated():
            if self._orm is not None:
                self._orm.leave(keep=False)
            self._connection.rollback()

    def _run(self, query: Query[T]) -> T:
        still_open(self._connection)
        if self._orm is not None:
            self._orm.still_good()
        return run(self._connection, query)

    def _close(self) -> None:
        if self._orm is not None:
            self._orm.close()


@contextmanager
def user_session(
    engine: Engine, user_id: str, *, require_user: bool = False
) -> Iterator[UserSession]:
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
    with connected(engine) as connection:
        connection.execution_options(**options)
        session = UserSession(connection, user_id)
        try:
            if require_user:
                begin(connection)
            with pending():
                yield session
            session.commit()
        finally:
            session._close()


@contextmanager
def unrestricted_session(engine: Engine) -> Iterator[Session]:
    """Open SQLModel's session for no user: row security alone decides what its role sees.

    Parameters
    ----------
    engine : of `create_engine`, or any other

    Raises
    ------
    TodoError : one of its subclasses, for what the database refuses inside the block
    """
    with Session(engine, expire_on_commit=False) as session, pending():
        yield session
        session.commit()


def check_schema(engine: Engine, *, exact: bool = False) -> str:
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
    with connected(engine) as connection:
        return run(connection, version_query(exact=exact))


#: Of the session that `orm` is: it joins the transaction and leaves its end to the user's session.
ORM_OPTIONS: dict[str, Any] = {
    "expire_on_commit": False,
    "join_transaction_mode": "rollback_only",
}


class JoinedSession(Session):
    """SQLModel's session within a user's: it never begins nor ends the transaction itself.

    Otherwise what its end means would depend on who sent the first statement.
    """

    def get_bind(self, *args: Any, **kwargs: Any) -> Connection:
        """Return the connection, in a transaction."""
        connection = super().get_bind(*args, **kwargs)
        assert isinstance(connection, Connection)
        still_open(connection)
        begin(connection)
        return connection

    def commit(self) -> NoReturn:
        """Refuse: the user's session does it."""
        raise InvalidRequestError("call commit() of the user's session, not of its orm")

    def rollback(self) -> NoReturn:
        """Refuse: the user's session does it."""
        raise InvalidRequestError("call rollback() of the user's session, not of its orm")

    def leave(self, *, keep: bool) -> None:
        """Write what is pending, or forget it, before the transaction ends."""
        if keep:
            super().commit()
        else:
            super().rollback()

    def still_good(self) -> None:
        """Refuse to go on after a failed flush, which has rolled back what was done before it.

        Raises
        ------
        ConflictError : a flush failed
        """
        if not self.is_active:
            raise ConflictError(FAILED)


def restrict(orm: AnySession, user_id: str) -> None:
    """Add the user's condition to every statement of an ORM session and to what it loads."""
    owned: list[Any] = [Task, TaskSearch, Conversation, Message]
    options = [
        *(with_loader_criteria(each, each.user_id == user_id) for each in owned),
        # To the type checker an attribute of the class is a str, and the comparison a bool.
        with_loader_criteria(User, User.id == user_id),  # type: ignore[arg-type]
    ]

    @event.listens_for(orm, "do_orm_execute")
    def add(state: ORMExecuteState) -> None:
        if not state.is_column_load and not state.is_relationship_load:
            state.statement = state.statement.options(*options)


@contextmanager
def connected(engine: Engine) -> Iterator[Connection]:
    """Give a connection of the pool; what the block raises stays as it is."""
    with translated():
        connection = engine.connect()
    with connection:
        yield connection


@contextmanager
def pending() -> Iterator[None]:
    """Raise SQLAlchemy's own word for a transaction that failed before as the tree's."""
    try:
        yield
    except PendingRollbackError as error:
        raise ConflictError(FAILED) from error


def still_open(connection: Connection) -> None:
    """Refuse to go on after the session's block has ended.

    Raises
    ------
    TodoError : it has
    """
    if connection.closed:
        raise TodoError("The session's block has ended; open a session where the work is done.")
