"""What the database refuses is one small tree, told without a name or a value of the database's."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy as sa
import todo_schema
from todo_schema import (
    ConfigurationError,
    ConflictError,
    CursorError,
    InvalidError,
    NotFoundError,
    PermissionDeniedError,
    SchemaVersionError,
    Task,
    TodoError,
    UnavailableError,
    UnknownUserError,
    UserSession,
    create_engine,
    unrestricted_session,
    user_session,
)
from todo_schema.errors import RULES

from scripts.address import Address
from scripts.server import LocalServer
from tests.schema.acting import ROWS, Connection, column

pytestmark = pytest.mark.row("R23")

# A value, a password and a user's id: where it is told, something was told that must not be.
SECRET = "hunter2"  # pragma: allowlist secret
TABLES = ["tasks", "conversations", "messages"]
UNTOLD = re.compile(
    rf"{SECRET}|alice|900\d|127\.0\.0\.1|todo_app|tasks|conversations|messages|_check|_fkey|_pkey"
    r"|_not_null|\b(select|insert|update)\b|psycopg\.|sqlalchemy",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def place(server: LocalServer, module_database: Address) -> Address:
    """The module's database with `ROWS`, where a deadlock is noticed soon; for its owner."""
    with psycopg.connect(module_database.url) as connection:
        connection.execute(ROWS)
    soon = f"alter database {module_database.database} set deadlock_timeout = '50ms'"
    with psycopg.connect(**server.superuser.parameters) as connection:
        connection.execute(soon)
    server.allow_logins()
    return module_database


@pytest.fixture
def owner(place: Address) -> Iterator[Connection]:
    with psycopg.connect(place.url, autocommit=True) as connection:
        yield connection


@contextmanager
def engine(place: Address, user: str, options: Any = None, **settings: str) -> Iterator[sa.Engine]:
    """An engine of a role, with settings of the server and with options of its own."""
    words = quote(" ".join(f"-c {name}={value}" for name, value in settings.items()), safe="")
    url = f"postgresql://{user}:{SECRET}@127.0.0.1:{place.port}/{place.database}?options={words}"
    made = create_engine(url, **{"connect_retry": 0.0, **(options or {})})
    try:
        yield made
    finally:
        made.dispose()


@contextmanager
def alice(place: Address, user: str = "todo_app", **settings: str) -> Iterator[UserSession]:
    """A session of Alice's, on a connection of its own."""
    with engine(place, user, **settings) as made, user_session(made, "alice") as session:
        yield session


def send(session: UserSession, statement: str) -> Any:
    return session.orm.connection().exec_driver_sql(statement).scalar()


@contextmanager
def refused(
    caplog: pytest.LogCaptureFixture, kind: type[TodoError], cause: type[BaseException]
) -> Iterator[list[Any]]:
    """Expect an error of the tree, its cause, and one line in the log; neither tells anything."""
    caught: list[Any] = []
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "todo_schema"), pytest.raises(TodoError) as error:
        yield caught
    assert type(error.value) is kind
    assert isinstance(error.value.__cause__, cause)
    assert str(error.value) == error.value.message
    (record,) = [each for each in caplog.records if each.name == "todo_schema"]
    assert record.getMessage().startswith(f"{kind.__name__}: ")
    assert record.exc_info is None
    told = {error.value.message, record.getMessage()}
    assert not [each for each in told if UNTOLD.search(each)]
    caught.append(error.value)


# constraint: what breaks it, then the field and the rule
CHECKS = {
    "tasks_title_length_check": (f"repeat('{SECRET}', 99)", "title", "length"),
    "tasks_title_blank_check": ("U&' \\3000'", "title", "blank"),
    "tasks_description_length_check": (f"repeat('{SECRET}', 999)", "description", "length"),
    "tasks_status_check": (f"'{SECRET}'", "status", "choice"),
    "tasks_priority_check": (f"'{SECRET}'", "priority", "choice"),
    "tasks_due_date_check": ("'infinity'", "due_date", "range"),
    "tasks_tags_count_check": (f"array_fill('{SECRET}'::text, array[21])", "tags", "count"),
    "tasks_tags_items_check": (f"array['{SECRET}', '{SECRET}']", "tags", "items"),
    "tasks_tags_shape_check": (f"array[['{SECRET}', 'x']]", "tags", "type"),
    "conversations_title_length_check": (f"repeat('{SECRET}', 99)", "title", "length"),
    "conversations_title_blank_check": ("''", "title", "blank"),
    "messages_role_check": (f"'{SECRET}'", "role", "choice"),
    "messages_content_length_check": (f"repeat('{SECRET}', 9999)", "content", "length"),
}
KEYS: dict[str, tuple[str, type[TodoError]]] = {
    "tasks_user_id_fkey": (f"(user_id, title) values ('{SECRET}', 'x')", UnknownUserError),
    "conversations_user_id_fkey": (f"(user_id) values ('{SECRET}')", UnknownUserError),
    "messages_conversation_id_fkey": (
        f"(user_id, conversation_id, role, content) values ('alice', 9101, 'user', '{SECRET}')",
        NotFoundError,
    ),
    "tasks_pkey": (
        f"(user_id, id, title) overriding system value values ('alice', 9001, '{SECRET}')",
        ConflictError,
    ),
    "conversations_pkey": (
        "(user_id, id) overriding system value values ('alice', 9001)",
        ConflictError,
    ),
    "messages_pkey": (
        "(user_id, id, conversation_id, role, content) overriding system value"
        f" values ('alice', 9001, 9001, 'user', '{SECRET}')",
        ConflictError,
    ),
}


def test_every_constraint_is_provoked(owner: Connection) -> None:
    query = """
    select conname from pg_constraint
    where conrelid::regclass::text = any(%s) and contype <> 'n'
    """
    assert set(column(owner, query, [TABLES])) == {*CHECKS, *KEYS}


def as_owner(place: Address, *statements: str) -> None:
    """Send statements in one transaction, which the error of the last rolls back."""
    with engine(place, "todo_owner") as made, unrestricted_session(made) as session:
        for statement in statements:
            session.connection().exec_driver_sql(statement)


# A distributed table's constraints have the shard's number at their end.
@pytest.mark.parametrize("suffix", ["", "_102008"])
@pytest.mark.parametrize("constraint", [*CHECKS, *KEYS])
def test_a_constraint_is_told_as_field_and_rule(
    caplog: pytest.LogCaptureFixture, place: Address, constraint: str, suffix: str
) -> None:
    table = constraint.partition("_")[0]
    rename = f"alter table {table} rename constraint {constraint} to {constraint}{suffix}"
    if constraint in CHECKS:
        value, field, rule = CHECKS[constraint]
        kind: type[TodoError] = InvalidError
        statement = f"update {table} set {field} = {value} where id = 9001"
    else:
        values, kind = KEYS[constraint]
        statement = f"insert into {table} {values}"
    with refused(caplog, kind, psycopg.IntegrityError) as errors:
        as_owner(place, *([rename] if suffix else []), statement)
    (error,) = errors
    assert error.__cause__.diag.constraint_name == constraint + suffix
    if constraint in CHECKS:
        assert (error.field, error.rule) == (field, rule)
        assert error.message == f"{field} {RULES[rule]}."
    if kind is NotFoundError:
        assert (error.kind, error.ids, error.message) == (
            "conversation",
            [],
            "No such conversation.",
        )


REQUIRED = """
select attname, attidentity::text, attgenerated::text from pg_attribute
where attnotnull and attnum > 0 and attrelid = %s::regclass
"""


@pytest.mark.parametrize("table", TABLES)
def test_a_null_is_told_as_required(
    caplog: pytest.LogCaptureFixture, place: Address, owner: Connection, table: str
) -> None:
    required = owner.execute(REQUIRED, [table]).fetchall()
    assert len(required) >= 4
    for name, identity, generated in required:
        # What the database sets has the rule all the same.
        kind = "identity" if identity else "expression" if generated else ""
        free = [f"alter table {table} alter {name} drop {kind}"] if kind else []
        free.append(f"alter table {table} disable trigger user")
        with refused(caplog, InvalidError, psycopg.errors.NotNullViolation) as errors:
            as_owner(place, *free, f"update {table} set {name} = null where id = 9001")
        assert (errors[0].field, errors[0].rule) == (name, "required")


def deadlock(place: Address) -> None:
    with alice(place) as one, alice(place) as two, ThreadPoolExecutor(1) as other:
        one.tasks.toggle(9001)
        two.tasks.toggle(9002)
        waiting = other.submit(one.tasks.toggle, 9002)
        two.tasks.toggle(9001)
        waiting.result()


def serialization_failure(place: Address) -> None:
    with alice(place, default_transaction_isolation="serializable") as one:
        one.tasks.get(9001)
        with alice(place) as two:
            two.tasks.toggle(9001)
        one.tasks.toggle(9001)


def lock_timeout(place: Address) -> None:
    with alice(place) as one, alice(place, lock_timeout="50ms") as two:
        one.tasks.toggle(9001)
        two.tasks.toggle(9001)


def statement_timeout(place: Address) -> None:
    with alice(place, statement_timeout="50ms") as session:
        send(session, "select pg_sleep(10)")


def admin_shutdown(place: Address) -> None:
    with alice(place) as session:
        pid = send(session, "select pg_backend_pid()")
        with psycopg.connect(place.url) as owner:
            owner.execute("select pg_terminate_backend(%s, 10000)", [pid])
        session.tasks.counts()


def too_many_connections(place: Address) -> None:
    with psycopg.connect(place.url, autocommit=True) as owner:
        owner.execute("create role narrow login connection limit 1 in role todo_app")
        try:
            with alice(place, "narrow"), alice(place, "narrow"):
                raise AssertionError("the second is one too many")
        finally:
            owner.execute("drop role narrow")


def full_pool(place: Address) -> None:
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.05}
    with engine(place, "todo_app", options) as made, user_session(made, "alice"):
        user_session(made, "alice").__enter__()


def read_only(place: Address) -> None:
    with alice(place, default_transaction_read_only="on") as session:
        session.tasks.toggle(9001)


def failed_transaction(place: Address) -> None:
    with alice(place) as session:
        driver = session.orm.connection().connection.dbapi_connection
        with pytest.raises(psycopg.Error):
            driver.execute("select 1 / 0")
        session.tasks.counts()


def raw(statement: str) -> Callable[[Address], None]:
    def provoke(place: Address) -> None:
        with alice(place) as session:
            send(session, statement)

    return provoke


Provoked = tuple[Callable[[Address], None], type[TodoError], type[BaseException]]
E = psycopg.errors
PROVOKED: dict[str, Provoked] = {
    "deadlock": (deadlock, ConflictError, E.DeadlockDetected),
    "serialization": (serialization_failure, ConflictError, E.SerializationFailure),
    "lock timeout": (lock_timeout, ConflictError, E.LockNotAvailable),
    "failed transaction": (failed_transaction, ConflictError, E.InFailedSqlTransaction),
    "statement timeout": (statement_timeout, UnavailableError, E.QueryCanceled),
    "admin shutdown": (admin_shutdown, UnavailableError, E.AdminShutdown),
    "too many connections": (too_many_connections, UnavailableError, psycopg.OperationalError),
    "full pool": (full_pool, UnavailableError, sa.exc.TimeoutError),
    "read-only": (read_only, UnavailableError, E.ReadOnlySqlTransaction),
    "table": (raw(f"select from {SECRET}"), SchemaVersionError, E.UndefinedTable),
    "column": (raw(f"select {SECRET} from tasks"), SchemaVersionError, E.UndefinedColumn),
    "function": (raw(f"select {SECRET}()"), SchemaVersionError, E.UndefinedFunction),
    "schema": (raw(f"select {SECRET}.f()"), SchemaVersionError, E.InvalidSchemaName),
    "column's privilege": (
        raw(f"update tasks set user_id = '{SECRET}'"),
        PermissionDeniedError,
        E.InsufficientPrivilege,
    ),
    "row security": (
        raw(f"insert into tasks (user_id, title) values ('bob', '{SECRET}')"),
        PermissionDeniedError,
        E.InsufficientPrivilege,
    ),
    "type": (raw(f"select '{SECRET}'::date"), InvalidError, E.InvalidDatetimeFormat),
    "another": (
        raw(f"do $$ begin raise exception '{SECRET}'; end $$"),
        TodoError,
        E.RaiseException,
    ),
    "syntax": (raw(f"selec '{SECRET}'"), TodoError, E.SyntaxError),
}


@pytest.mark.parametrize("case", PROVOKED)
def test_a_failure_is_told_as_one_of_the_tree(
    caplog: pytest.LogCaptureFixture, place: Address, case: str
) -> None:
    provoke, kind, cause = PROVOKED[case]
    with refused(caplog, kind, cause):
        provoke(place)


@pytest.mark.parametrize("odd", ["\0", "\ud800"])
def test_text_that_cannot_be_sent_has_a_rule_and_no_field(
    caplog: pytest.LogCaptureFixture, place: Address, odd: str
) -> None:
    with (
        refused(caplog, InvalidError, (psycopg.DataError, UnicodeEncodeError)) as errors,
        alice(place) as session,
    ):
        session.orm.add(Task(user_id="alice", title=f"{SECRET}{odd}"))
        session.orm.flush()
    assert (errors[0].field, errors[0].rule) == (None, "characters")


def test_an_error_of_the_applications_own_is_left_alone(
    caplog: pytest.LogCaptureFixture, place: Address
) -> None:
    own = ValueError(SECRET)
    with pytest.raises(ValueError, match=SECRET) as caught, alice(place):
        raise own
    assert caught.value is own
    assert not [each for each in caplog.records if each.name == "todo_schema"]


def test_the_tree() -> None:
    public = {getattr(todo_schema, name) for name in todo_schema.__all__}
    errors = {each for each in public if isinstance(each, type) and issubclass(each, Exception)}
    assert errors == {
        TodoError,
        ConfigurationError,
        ConflictError,
        CursorError,
        InvalidError,
        NotFoundError,
        PermissionDeniedError,
        SchemaVersionError,
        UnavailableError,
        UnknownUserError,
    }
    assert all(issubclass(each, TodoError) for each in errors)
    assert CursorError.__bases__ == (InvalidError,)
    assert {each.__bases__ for each in errors - {TodoError, CursorError}} == {(TodoError,)}


def test_a_message_names_ten_ids_at_most() -> None:
    error = NotFoundError("task", range(1, 13))
    assert error.ids == [*range(1, 13)]
    assert error.message == "No task with id 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more."
    assert NotFoundError("task", [7]).message == "No task with id 7."
