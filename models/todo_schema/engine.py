"""The engine: pool, connecting again, and transactions that begin with their user.

Connections are the driver's in autocommit mode, and this module sends BEGIN itself: so the user's
context travels in the same message. Everything else is SQLAlchemy's as always.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar, Unpack

import psycopg
import sqlalchemy
from psycopg import sql
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import AdaptedConnection, ExceptionContext
from sqlalchemy.util import await_only

from todo_schema.errors import (
    FAILED,
    ConfigurationError,
    ConflictError,
    InvalidError,
    UnknownUserError,
    logger,
    translate,
    translated,
)
from todo_schema.operation import Query
from todo_schema.schemas import storable
from todo_schema.settings import Address, address
from todo_schema.statements.conversations import EXISTS
from todo_schema.tables import metadata

T = TypeVar("T")

TENANT = "todo_schema_tenant"
CONNECTIONS = "todo_schema_connections"
CURSOR_KEY = "todo_schema_cursor_key"
QUERY = "todo_schema_query"
"""The execution option that names the statement, for listeners."""

_CONNECT_TIMEOUT = 10
"""Seconds for one attempt to connect."""

_HOPELESS = re.compile(
    r"password|pg_hba\.conf|does not exist|not permitted|certificate|does not support SSL|sslmode"
    r"|channel binding"
)
"""What the server says where trying again does not help."""


class EngineOptions(TypedDict, total=False):
    """Options of `create_engine`; times are seconds.

    Parameters
    ----------
    pool_size, max_overflow : connections that stay open, and that may be opened besides (5, 10)
    pool_timeout : how long to wait for a connection of a full pool (10)
    pool_recycle : age at which a connection is replaced; Neon suspends after 300 idle (240)
    connect_retry : how long to try where the server may be waking up (15)
    prepared_statements : None means: not through a host named `…-pooler`
    echo : log every statement with its values
    """

    pool_size: int
    max_overflow: int
    pool_timeout: float
    pool_recycle: int
    connect_retry: float
    prepared_statements: bool | None
    echo: bool


@dataclass(frozen=True)
class Tenant:
    """Whose a transaction is.

    Parameters
    ----------
    user_id : the user
    required : whether the user has to exist
    """

    user_id: str
    required: bool


def arguments(url: str | None, options: EngineOptions) -> dict[str, Any]:
    """Return what SQLAlchemy's functions that make an engine are given, sync and async alike.

    Raises
    ------
    ConfigurationError : there is no address, it is malformed, or it allows no TLS
    TypeError : there is no such option
    ValueError : the pool cannot have that size
    """
    if unknown := options.keys() - EngineOptions.__annotations__.keys():
        raise TypeError(f"create_engine() has no option {', '.join(sorted(unknown))}")
    where: Address = address(url)
    prepared = options.get("prepared_statements")
    if prepared is None:
        prepared = not where.is_pooled
    echo = options.get("echo", False)
    pool_size, max_overflow = options.get("pool_size", 5), options.get("max_overflow", 10)
    if pool_size < 1 or max_overflow < 0:
        raise ValueError("pool_size must be at least 1, and max_overflow at least 0")
    return {
        "url": "postgresql+psycopg://",
        "connect_args": {
            "connect_timeout": _CONNECT_TIMEOUT,
            # A server that is gone without a word is noticed within a minute.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
            "application_name": "todo_schema",
            **where.parameters,
            "client_encoding": "utf8",
            "autocommit": True,
            "prepare_threshold": 5 if prepared else None,
        },
        "pool_size": pool_size,
        "max_overflow": max_overflow,
        "pool_timeout": options.get("pool_timeout", 10.0),
        "pool_recycle": options.get("pool_recycle", 240),
        "echo": echo,
        "hide_parameters": not echo,
        "execution_options": {CURSOR_KEY: where.secret, CONNECTIONS: pool_size + max_overflow},
    }


def create_engine(url: str | None = None, **options: Unpack[EngineOptions]) -> Engine:
    """Return an engine for `user_session`; nothing connects yet.

    Parameters
    ----------
    url : the address; DATABASE_URL of the environment or of `.env` by default
    options : see `EngineOptions`

    Raises
    ------
    ConfigurationError : there is no address, it is malformed, or it allows no TLS
    """
    engine = sqlalchemy.create_engine(**arguments(url, options))
    listen(engine, options)
    return engine


def listen(engine: Engine, options: EngineOptions) -> None:
    """Make an engine connect with patience, and begin its transactions with their user."""
    retry = options.get("connect_retry", 15.0)
    stale: int = engine.get_execution_options()[CONNECTIONS]

    @event.listens_for(engine, "do_connect")
    def on_connect(
        dialect: Any, record: Any, args: Sequence[Any], parameters: dict[str, Any]
    ) -> Any:
        end = time.monotonic() + retry
        delay = 0.1
        while True:
            try:
                return dialect.connect(*args, **parameters)
            except psycopg.OperationalError as error:
                if _HOPELESS.search(str(error)):
                    logger.error("the database refuses the address or the role of DATABASE_URL")
                    raise ConfigurationError(
                        "The database refuses the address or the role of DATABASE_URL."
                    ) from error
                wait = delay * random.uniform(0.5, 1)  # noqa: S311 - not for secrets
                if time.monotonic() + wait > end:
                    raise
                logger.warning("no connection to the database yet; trying again in %.1f s", wait)
            if dialect.is_async:
                await_only(asyncio.sleep(wait))
            else:
                time.sleep(wait)
            delay = min(2 * delay, 4)

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # A connection that died in the pool is noticed here, where nothing was done yet: it is
        # replaced, and so may be all the others.
        for attempt in range(stale + 1):
            raw: Any = connection.connection.dbapi_connection
            try:
                with translated():
                    _begin(connection)
                return
            except Exception as error:
                if not raw.closed or attempt == stale:
                    raise
                logger.info("a connection of the pool was closed by the server; taking another")
                connection.invalidate(error)

    @event.listens_for(engine, "commit")
    def on_commit(connection: Connection) -> None:
        # PostgreSQL answers the COMMIT of a failed transaction by a rollback, without an error; and
        # one that somebody ended by SQL has lost its user.
        raw: Any = connection.connection.driver_connection
        status = raw.info.transaction_status
        ended = status == TransactionStatus.IDLE and _is_ours(connection)
        if ended or status == TransactionStatus.INERROR:
            raise ConflictError(FAILED)

    @event.listens_for(engine, "handle_error")
    def on_error(context: ExceptionContext) -> None:
        if found := translate(context.sqlalchemy_exception or context.original_exception):
            raise found from context.original_exception


def tenant_options(engine: Any, user_id: str, *, required: bool) -> dict[str, Any]:
    """Return a connection's execution options for transactions of one user.

    Parameters
    ----------
    engine : of `create_engine`, sync or async
    user_id : 1 to 255 characters
    required : whether the user has to exist

    Raises
    ------
    InvalidError : that is no id
    UnknownUserError : that is no id, and the user has to exist
    ConfigurationError : the engine was made otherwise
    """
    if not isinstance(user_id, str):
        raise InvalidError("user_id", "type")
    if not (1 <= len(user_id) <= 255 and storable(user_id)):
        if required:
            raise UnknownUserError
        raise InvalidError("user_id", "length" if storable(user_id) else "characters")
    if CURSOR_KEY not in engine.get_execution_options():
        raise ConfigurationError("The engine was not made by create_engine() of todo_schema.")
    return {TENANT: Tenant(user_id, required)}


def run(connection: Connection, query: Query[T]) -> T:
    """Send one query in the connection's transaction, which the first one begins."""
    with translated():
        begin(connection)
        options = {QUERY: query.name}
        rows = connection.exec_driver_sql(
            query.sql, query.parameters, execution_options=options
        ).all()
    return query.decode(rows)


def begin(connection: Connection) -> None:
    """Begin a transaction where there is none.

    By itself, since SQLAlchemy takes the connection for a statement before it begins: a dead one is
    replaced here.
    """
    if not connection.in_transaction():
        connection.begin()


def _is_ours(connection: Connection) -> bool:
    """Return whether this module begins the transactions, not the driver nor each statement."""
    raw: Any = connection.connection.driver_connection
    level = connection.get_execution_options().get("isolation_level")
    return bool(raw.autocommit) and level != "AUTOCOMMIT"


def _begin(connection: Connection) -> None:
    """Begin the transaction, with its user if it has one, in one message."""
    raw: Any = connection.connection.driver_connection
    parts = ["begin"] if _is_ours(connection) else []
    if raw.info.transaction_status != TransactionStatus.IDLE:
        parts.insert(0, "rollback")  # a begin that failed, of which SQLAlchemy does not know
    tenant: Tenant | None = connection.get_execution_options().get(TENANT)
    if tenant is None:
        if parts:
            # A setting that somebody made for the whole connection must not count.
            _send(connection, [*parts, "set local app.user_id = ''"])
        return
    user = sql.quote(tenant.user_id, raw)
    parts.append(f"select set_tenant({user})")
    if unknown := "todo_schema_bound" not in connection.info:
        parts.append(_IS_BOUND)
    if tenant.required:
        parts.append(EXISTS % {"user_id": user})
    results = _send(connection, parts)
    if tenant.required and results.pop().ntuples != 1:
        raise UnknownUserError
    if unknown:
        if results.pop().get_value(0, 0) != b"t":
            raise ConfigurationError(
                "Row security does not bind the role of DATABASE_URL: it is a superuser, has "
                "BYPASSRLS, or row security is off. Connect as todo_app or a member of it."
            )
        connection.info["todo_schema_bound"] = True


_IS_BOUND = "select " + " and ".join(
    f"row_security_active('\"{table.name}\"')"
    for table in metadata.tables.values()
    if "user_id" in table.columns or table.name == "user"
)


def _send(connection: Connection, statements: Sequence[str]) -> list[Any]:
    """Send statements in one message, and return a libpq result for each."""
    message = "; ".join(statements).encode()
    adapted: Any = connection.connection.dbapi_connection
    if isinstance(adapted, AdaptedConnection):
        cursor: Any = adapted.run_async(lambda raw: raw.execute(message))
    else:
        cursor = adapted.execute(message)
    results = [cursor.pgresult]
    while cursor.nextset():
        results.append(cursor.pgresult)
    return results
