"""What the database refuses is one small tree, told without a name or a value of the database's."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import psycopg.errors as pg
import pytest
import sqlalchemy as sa
import todo_schema as todo
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
    with psycopg.connect(**server.superuser.parameters) as connection:
        soon = f"alter database {module_database.database} set deadlock_timeout = '50ms'"
        connection.execute(soon)
    server.allow_logins()
    return module_database


@pytest.fixture
def owner(place: Address) -> Iterator[Connection]:
    with psycopg.connect(place.url, autocommit=True) as connection:
        yield connection


@contextmanager
def engine(place: Address, user: str, query: str = "", **options: Any) -> Iterator[sa.Engine]:
    url = f"postgresql://{user}:{SECRET}@127.0.0.1:{place.port}/{place.database}{query}"
    made = todo.create_engine(url, connect_retry=0.0, **options)
    try:
        yield made
    finally:
        made.dispose()


@contextmanager
def alice(
    place: Address, user: str = "todo_app", query: str = "", send: str = ""
) -> Iterator[todo.UserSession]:
    """A session of Alice's, on a connection of its own, that has sent a statement."""
    with engine(place, user, query) as made, todo.user_session(made, "alice") as session:
        if send:
            session.orm.connection().exec_driver_sql(send)
        yield session


@contextmanager
def refused(
    caplog: pytest.LogCaptureFixture, kind: type[todo.TodoError], cause: Any
) -> Iterator[list[Any]]:
    """Expect an error of the tree, its cause, and one line in the log; neither tells anything."""
    caught: list[Any] = []
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "todo_schema"), pytest.raises(todo.TodoError) as error:
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
# constraint: the error, then the columns and the values of a row that breaks it
SAYS = "conversation_id, role, content"
KEYS = {
    "tasks_user_id_fkey": (todo.UnknownUserError, "title", "'x'"),
    "conversations_user_id_fkey": (todo.UnknownUserError, "title", "'x'"),
    "messages_conversation_id_fkey": (todo.NotFoundError, SAYS, f"9101, 'user', '{SECRET}'"),
    "tasks_pkey": (todo.ConflictError, "id, title", f"9001, '{SECRET}'"),
    "conversations_pkey": (todo.ConflictError, "id", "9001"),
    "messages_pkey": (todo.ConflictError, f"id, {SAYS}", f"9001, 9001, 'user', '{SECRET}'"),
}


def test_every_constraint_is_provoked(owner: Connection) -> None:
    query = "select conname from pg_constraint where conrelid = %s::regclass and contype <> 'n'"
    found = [name for table in TABLES for name in column(owner, query, [table])]
    assert set(found) == {*CHECKS, *KEYS}


def as_owner(place: Address, *statements: str) -> None:
    """Send statements in one transaction, which the error of the last rolls back."""
    with engine(place, "todo_owner") as made, todo.unrestricted_session(made) as session:
        for statement in statements:
            session.connection().exec_driver_sql(statement)


# A distributed table's constraints have the shard's number at their end.
@pytest.mark.parametrize("suffix", ["", "_102008"])
@pytest.mark.parametrize("constraint", [*CHECKS, *KEYS])
def test_a_constraint_is_told_as_field_and_rule(
    caplog: pytest.LogCaptureFixture, place: Address, constraint: str, suffix: str
) -> None:
    kind, table = todo.InvalidError, constraint.partition("_")[0]
    if constraint in CHECKS:
        value, field, rule = CHECKS[constraint]
        statement = f"update {table} set {field} = {value} where id = 9001"
    else:
        kind, columns, values = KEYS[constraint]
        user = SECRET if kind is todo.UnknownUserError else "alice"
        statement = f"insert into {table} (user_id, {columns}) overriding system value"
        statement += f" values ('{user}', {values})"
    rename = f"alter table {table} rename constraint {constraint} to {constraint}{suffix}"
    with refused(caplog, kind, psycopg.IntegrityError) as errors:
        as_owner(place, *([rename] if suffix else []), statement)
    (error,) = errors
    assert error.__cause__.diag.constraint_name == constraint + suffix
    if constraint in CHECKS:
        assert (error.field, error.rule) == (field, rule)
        assert error.message == f"{field} {RULES[rule]}."
    if kind is todo.NotFoundError:
        told = (error.kind, error.ids, error.message)
        assert told == ("conversation", [], "No such conversation.")


@pytest.mark.parametrize("table", TABLES)
def test_a_null_is_told_as_required(
    caplog: pytest.LogCaptureFixture, place: Address, owner: Connection, table: str
) -> None:
    query = """
    select attname, attidentity::text, attgenerated::text from pg_attribute
    where attnotnull and attnum > 0 and attrelid = %s::regclass
    """
    required = owner.execute(query, [table]).fetchall()
    assert len(required) >= 4
    for name, identity, generated in required:
        # What the database sets has the rule all the same.
        kind = "identity" if identity else "expression" if generated else ""
        free = [f"alter table {table} alter {name} drop {kind}"] if kind else []
        free.append(f"alter table {table} disable trigger user")
        with refused(caplog, todo.InvalidError, pg.NotNullViolation) as errors:
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
    with alice(place, query="?options=-c%20default_transaction_isolation%3Dserializable") as one:
        one.tasks.get(9001)
        with alice(place) as two:
            two.tasks.toggle(9001)
        one.tasks.toggle(9001)


def lock_timeout(place: Address) -> None:
    with alice(place) as one, alice(place, send="set local lock_timeout = '50ms'") as two:
        one.tasks.toggle(9001)
        two.tasks.toggle(9001)


def failed_transaction(place: Address) -> None:
    with alice(place) as session:
        with pytest.raises(psycopg.Error):
            session.orm.connection().connection.dbapi_connection.execute("select 1 / 0")
        session.tasks.counts()


def admin_shutdown(place: Address) -> None:
    with alice(place) as session, psycopg.connect(place.url) as owner:
        pid = session.orm.connection().connection.driver_connection.info.backend_pid
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
    with engine(place, "todo_app", **options) as made, todo.user_session(made, "alice"):
        todo.user_session(made, "alice").__enter__()


# What goes wrong, or the statement that does, and the error's cause.
PROVOKED: dict[type[todo.TodoError], list[tuple[Callable[[Address], None] | str, Any]]] = {
    todo.ConflictError: [
        (deadlock, pg.DeadlockDetected),
        (serialization_failure, pg.SerializationFailure),
        (lock_timeout, pg.LockNotAvailable),
        (failed_transaction, pg.InFailedSqlTransaction),
    ],
    todo.UnavailableError: [
        (admin_shutdown, pg.AdminShutdown),
        (too_many_connections, psycopg.OperationalError),
        (full_pool, sa.exc.TimeoutError),
        ("set local statement_timeout = '50ms'; select pg_sleep(10)", pg.QueryCanceled),
        ("set transaction read only; delete from tasks", pg.ReadOnlySqlTransaction),
    ],
    todo.SchemaVersionError: [
        (f"select from {SECRET}", pg.UndefinedTable),
        (f"select {SECRET} from tasks", pg.UndefinedColumn),
        (f"select {SECRET}()", pg.UndefinedFunction),
        (f"select {SECRET}.f()", pg.InvalidSchemaName),
    ],
    todo.PermissionDeniedError: [
        (f"update tasks set user_id = '{SECRET}'", pg.InsufficientPrivilege),
        (f"insert into tasks (user_id, title) select 'bob', '{SECRET}'", pg.InsufficientPrivilege),
    ],
    todo.InvalidError: [(f"select '{SECRET}'::date", pg.InvalidDatetimeFormat)],
    todo.TodoError: [
        (f"do $$ begin raise exception '{SECRET}'; end $$", pg.RaiseException),
        (f"selec '{SECRET}'", pg.SyntaxError),
    ],
}


@pytest.mark.parametrize(
    ("kind", "provoke", "cause"),
    [(kind, *each) for kind, cases in PROVOKED.items() for each in cases],
)
def test_a_failure_is_told_as_one_of_the_tree(
    caplog: pytest.LogCaptureFixture, place: Address, kind: Any, provoke: Any, cause: Any
) -> None:
    with refused(caplog, kind, cause):
        if callable(provoke):
            provoke(place)
        else:
            with alice(place, send=provoke):
                pass


@pytest.mark.parametrize("odd", ["\0", "\ud800"])
def test_text_that_cannot_be_sent_has_a_rule_and_no_field(
    caplog: pytest.LogCaptureFixture, place: Address, odd: str
) -> None:
    causes = (psycopg.DataError, UnicodeEncodeError)
    with refused(caplog, todo.InvalidError, causes) as errors, alice(place) as session:
        session.orm.add(todo.Task(user_id="alice", title=f"{SECRET}{odd}"))
        session.orm.flush()
    assert (errors[0].field, errors[0].rule) == (None, "characters")


def test_the_tree() -> None:
    """Its names are those of the document: tests/package/test_api.py."""
    errors = {getattr(todo, name) for name in todo.__all__ if name.endswith("Error")}
    assert todo.TodoError.__bases__ == (Exception,)
    assert todo.CursorError.__bases__ == (todo.InvalidError,)
    others = errors - {todo.TodoError, todo.CursorError}
    assert {each.__bases__ for each in others} == {(todo.TodoError,)}


def test_a_message_names_ten_ids_at_most() -> None:
    error = todo.NotFoundError("task", range(1, 13))
    assert error.ids == [*range(1, 13)]
    assert error.message == "No task with id 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more."
    assert todo.NotFoundError("task", [7]).message == "No task with id 7."
