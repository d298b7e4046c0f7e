"""The corpus has every statement that the package sends, and runs on a database that fits."""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections.abc import Callable, Iterator
from datetime import date
from itertools import product
from typing import Any, get_args

import psycopg
import pytest
from sqlalchemy import Engine, event
from sqlalchemy.util import await_only, greenlet_spawn
from todo_schema import (
    SCHEMA_VERSION,
    ConversationCreate,
    ConversationUpdate,
    MessageCreate,
    Slice,
    TaskCreate,
    TaskFilter,
    TaskSort,
    TaskUpdate,
    UserSession,
    aio,
    check_schema,
    corpus,
    create_engine,
    user_session,
)
from todo_schema.corpus import __main__ as command
from todo_schema.engine import QUERY
from todo_schema.operation import Namespace, operation

from scripts.address import Address
from scripts.server import LocalServer

pytestmark = pytest.mark.row("R30")

DAY = date(2026, 5, 1)

# Of the ids that the corpus names.
ROWS = """
insert into "user" (id, name, email) values ('corpus', 'Corpus', 'corpus@example.com');
insert into tasks (user_id, title) values ('corpus', 'One'), ('corpus', 'Two');
insert into conversations (user_id) values ('corpus');
insert into messages (user_id, conversation_id, role, content) values ('corpus', 1, 'user', 'x');
"""

TASKS = [
    TaskCreate(title="Buy milk", description="Two bottles", tags=["home"], due_date=DAY),
    TaskCreate(title="Sell milk", status="in_progress", priority="high", due_date=DAY),
    TaskCreate(title="Old milk", completed=True, priority="low"),
    TaskCreate(title="Drink milk", priority="high", tags=["home"]),
]

FILTERS: list[dict[str, Any]] = [
    {},
    *({"status": each} for each in ("pending", "in_progress", "completed")),
    *({"completed": each} for each in (True, False)),
    {"priority": "high"},
    *({each: DAY} for each in ("due_date", "due_before", "due_after")),
    *({"has_due_date": each} for each in (True, False)),
    {"tags": ["home"]},
    {"contains": "milk"},
    {"search": "milk"},
    {"completed": False, "priority": "high", "has_due_date": False, "search": "milk"},
    {"status": "pending", "priority": "medium", "due_before": DAY, "tags": ["home"]},
]


def everywhere(list_: Callable[..., Slice[Any]], *arguments: Any, **options: Any) -> None:
    """Ask for a list, one item at a time: its first slice, what follows, and its last segment."""
    slice_ = list_(*arguments, limit=1, **options)
    while slice_.next_cursor:
        slice_ = list_(*arguments, limit=1, cursor=slice_.next_cursor, **options)


def lists(session: UserSession) -> None:
    for sort, order, wanted in product(get_args(TaskSort), (None, "asc", "desc"), FILTERS):
        everywhere(session.tasks.list, TaskFilter(**wanted), sort=sort, order=order)


def pages(session: UserSession) -> None:
    for sort, wanted in product(get_args(TaskSort), FILTERS):
        session.tasks.page(TaskFilter(**wanted), sort=sort, page=2, limit=1)
        session.tasks.page(TaskFilter(**wanted), sort=sort, order="asc", total="none")


def searches(session: UserSession) -> None:
    for wanted in FILTERS:
        everywhere(session.tasks.search, "milk", TaskFilter(**{**wanted, "search": None}))


def messages(session: UserSession) -> None:
    everywhere(session.messages.list, talk(session))
    everywhere(session.messages.list, talk(session), order="desc")


def talk(session: UserSession) -> int:
    return session.conversations.list().items[0].id


def task(session: UserSession) -> int:
    return session.tasks.list().items[0].id


def message(session: UserSession) -> int:
    return session.messages.list(talk(session)).items[0].id


#: What is done for every operation of every namespace, in this order.
CALLS: dict[str, Callable[[UserSession], object]] = {
    "users.get": lambda s: s.user(),
    "tasks.create": lambda s: [s.tasks.create(each) for each in TASKS],
    "tasks.get": lambda s: s.tasks.get(task(s)),
    "tasks.update": lambda s: [
        s.tasks.update(task(s), TaskUpdate(due_date=None)),
        s.tasks.update(task(s), TaskUpdate()),
    ],
    "tasks.toggle": lambda s: s.tasks.toggle(task(s)),
    "tasks.counts": lambda s: s.tasks.counts(),
    "tasks.list": lists,
    "tasks.page": pages,
    "tasks.search": searches,
    "tasks.update_many": lambda s: s.tasks.update_many([task(s)], TaskUpdate(title="x")),
    "tasks.delete": lambda s: s.tasks.delete(task(s)),
    "tasks.delete_many": lambda s: s.tasks.delete_many([task(s)]),
    "conversations.create": lambda s: [
        s.conversations.create(ConversationCreate(title=each)) for each in ("x", "y")
    ],
    "conversations.get": lambda s: s.conversations.get(talk(s)),
    "conversations.list": lambda s: everywhere(s.conversations.list),
    "conversations.update": lambda s: [
        s.conversations.update(talk(s), ConversationUpdate(title=None)),
        s.conversations.update(talk(s), ConversationUpdate()),
    ],
    "messages.create": lambda s: [
        s.messages.create(talk(s), MessageCreate(role="user", content=each)) for each in "xy"
    ],
    "messages.get": lambda s: s.messages.get(message(s)),
    "messages.list": messages,
    "messages.delete": lambda s: s.messages.delete(message(s)),
    "conversations.delete": lambda s: s.conversations.delete(talk(s)),
}


@pytest.fixture
def application(server: LocalServer, migrated: Address, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a migrated database for the application's role; DATABASE_URL names it."""
    server.allow_logins()
    with psycopg.connect(**migrated.parameters) as connection:
        connection.execute(ROWS)
    url = migrated.with_(user="todo_app").url
    monkeypatch.setenv("DATABASE_URL", url)
    return url


@pytest.fixture
def engine(application: str) -> Iterator[Engine]:
    engine = create_engine(application)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def everything() -> list[corpus.Statement]:
    return list(corpus.statements(everything=True))


@pytest.fixture(scope="module")
def known(everything: list[corpus.Statement]) -> dict[str, corpus.Statement]:
    return {each.name: each for each in everything}


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status = command.main([*arguments, "--json"])
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    return status, json.loads(text)


def test_every_operation_is_called_here() -> None:
    found = {
        f"{namespace.__name__.lower()}.{name}"
        for namespace in Namespace.__subclasses__()
        for name, value in vars(namespace).items()
        if isinstance(value, operation)
    }
    assert set(CALLS) == found


Sent = dict[str, tuple[str, set[str]]]


def listen(engine: Engine) -> Sent:
    """Return what the engine will have sent: by the statement's name its SQL and parameters."""
    sent: Sent = {}

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, sql: str, values: Any, context: Any, *_: Any) -> None:
        sent[context.execution_options[QUERY]] = (sql, set(values))

    return sent


def in_corpus(sent: Sent, known: dict[str, corpus.Statement]) -> None:
    for name, (sql, parameters) in sent.items():
        assert known[name].sql == sql
        assert set(known[name].parameters) <= parameters, name


def test_whatever_is_sent_is_in_the_corpus(
    engine: Engine, known: dict[str, corpus.Statement]
) -> None:
    """By its name, too; and what no operation sends is not in it."""
    sent = listen(engine)
    check_schema(engine)
    for name, call in CALLS.items():
        before = len(sent)
        with user_session(engine, "corpus") as opened:
            call(opened)
        assert len(sent) > before or name in ("tasks.page", "tasks.search"), name
    in_corpus(sent, known)
    by_begin = {"user.exists"}
    assert {name for name in known if not name.startswith("tasks.list ")} - by_begin <= set(sent)
    starts = {name.split()[1] for name in sent if name.startswith("tasks.list ")}
    assert starts == {"first", "later", "undated", "page"}
    assert len(sent) > 400


def test_an_asynchronous_session_sends_the_same(
    application: str, known: dict[str, corpus.Statement]
) -> None:
    async def send() -> Sent:
        engine = aio.create_engine(application)
        sent = listen(engine.sync_engine)
        await aio.check_schema(engine)
        for call in CALLS.values():
            async with aio.user_session(engine, "corpus") as opened:
                await greenlet_spawn(call, Awaited(opened))
        await engine.dispose()
        return sent

    sent = asyncio.run(send())
    in_corpus(sent, known)
    assert len(sent) > 400


class Awaited:
    """An asynchronous session or namespace whose methods are awaited where they are called."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return Awaited(found)
        return lambda *arguments, **options: await_only(found(*arguments, **options))


def test_names_are_unique_and_of_one_form(
    everything: list[corpus.Statement], known: dict[str, corpus.Statement]
) -> None:
    form = re.compile(r"(tasks|conversations|messages)\.[a-z_]+( [a-z_]+(=[a-z_]+)?)*")
    odd = [name for name in known if not form.fullmatch(name)]
    assert odd == ["user", "user.exists", "schema_version"]
    assert len(known) == len(everything) > 20_000
    few = [each.name for each in corpus.statements()]
    assert len(few) == len(set(few)) < 1_000
    assert set(few) < set(known)


def test_every_parameter_has_a_value(known: dict[str, corpus.Statement]) -> None:
    for each in known.values():
        wanted = set(re.findall(r"%\((\w+)\)s", each.sql)) - {"user_id"}
        assert {name for name, value in each.parameters.items() if value is not None} == wanted


def test_list_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    status, document = printed(capsys, "list")
    assert status == 0
    assert list(document) == ["v", "package", "schema_version", "statements"]
    assert (document["v"], document["schema_version"]) == (1, SCHEMA_VERSION)
    assert document["statements"] == [
        {
            "name": each.name,
            "sql": each.sql,
            "parameters": sorted(each.parameters),
            "indexes": list(each.indexes),
            "reads": each.reads,
            "buffers": each.buffers,
            "features": sorted(each.features),
        }
        for each in corpus.statements()
    ]


def test_list_prints_sql_that_tells_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list"]) == 0
    names = re.findall(r"^-- name: (.+)$", capsys.readouterr().out, re.MULTILINE)
    assert names == [each.name for each in corpus.statements()]


def everything_stored(address: Address) -> list[Any]:
    tables = ('"user"', "tasks", "task_search", "conversations", "messages")
    with psycopg.connect(**address.parameters) as connection:
        return [
            connection.execute(f"select t from {table} as t order by 1".encode()).fetchall()
            for table in tables
        ]


@pytest.mark.matrix
@pytest.mark.parametrize("user", ["corpus", "nobody"])
def test_run_executes_each_and_stores_nothing(
    application: str, migrated: Address, capsys: pytest.CaptureFixture[str], user: str
) -> None:
    assert application
    before = everything_stored(migrated)
    status, document = printed(capsys, "run", "--user", user)
    assert list(document) == ["v", "package", "schema_version", "results"]
    names = [each.name for each in corpus.statements()]
    assert document["results"] == [{"name": name, "ok": True, "error": None} for name in names]
    assert status == 0
    assert everything_stored(migrated) == before


def test_run_tells_what_fails_where_a_column_is_missing(
    application: str, migrated: Address, capsys: pytest.CaptureFixture[str]
) -> None:
    assert application
    with psycopg.connect(**migrated.parameters) as connection:
        connection.execute("alter table conversations drop column title cascade")
    status, document = printed(capsys, "run")
    assert status == 1
    failed = {each["name"]: each["error"] for each in document["results"] if not each["ok"]}
    assert set(failed) == {
        each.name for each in corpus.statements() if re.search(r"\btitle, created_at\b", each.sql)
    }
    assert all('column "title"' in error and "\n" not in error for error in failed.values())

    assert command.main(["run"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(failed) + 1
    assert lines[0].startswith("failed conversations.create: ")
    ran = len(document["results"])
    assert lines[-1] == f"{ran - len(failed)} of {ran} statements ran"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "DATABASE_URL is not set"),
        ("mysql://localhost/todo", "DATABASE_URL is not a PostgreSQL address"),
        ("postgresql://todo_app@{host}:{port}/nowhere", "refuses the address or the role"),
        ("postgresql://todo_app@127.0.0.1:1/todo", "The database cannot answer now"),
        ("postgresql://{user}@{host}:{port}/{dbname}", "Row security does not bind the role"),
        ("postgresql://todo_app@{host}:{port}/postgres", "The database lacks something"),
    ],
)
def test_run_tells_in_one_line_why_it_cannot(
    migrated: Address,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    url: str,
    message: str,
) -> None:
    monkeypatch.chdir("/")  # where no .env is
    monkeypatch.setenv("DATABASE_URL", url.format(**migrated.parameters))
    without_patience = functools.partial(create_engine, connect_retry=0.0)
    monkeypatch.setattr(command, "create_engine", without_patience)
    assert command.main(["run"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["walk"], ["list", "--sort"], ["run", "--user"]])
def test_wrong_use_is_status_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        command.main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m todo_schema.corpus")
