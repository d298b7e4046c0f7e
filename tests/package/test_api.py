"""The public interface is what models/README.md says: names, parameters, documents, examples."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Iterator
from itertools import product
from operator import attrgetter
from types import ModuleType
from typing import Any, get_type_hints

import httpx
import psycopg
import pytest
import todo_schema
from todo_schema import TodoError, aio, errors, fastapi, session, testing
from todo_schema.engine import EngineOptions
from todo_schema.operation import Namespace, operation

from scripts.address import Address
from scripts.server import LocalServer
from scripts.settings import ROOT

DOCUMENT = (ROOT / "models" / "README.md").read_text("utf-8")
MODULES = (todo_schema, aio, fastapi)
SESSIONS = (session.UserSession, aio.UserSession)

#: Every operation of the namespaces, as `tasks.get`.
OPERATIONS: dict[str, Callable[..., Any]] = {
    f"{namespace.__name__.lower()}.{name}": value.build
    for namespace in Namespace.__subclasses__()
    for name, value in vars(namespace).items()
    if isinstance(value, operation)
}


def section(title: str) -> str:
    """Return a section of the document, without those below it."""
    found = re.search(rf"^##+ {title}\n(.*?)(?=^##|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def first_cells(title: str) -> list[str]:
    """Return the first column of a section's table, its head left out."""
    cells = re.findall(r"^\| ([^|]+) \|", section(title), re.MULTILINE)
    return [cell for cell in cells if "`" in cell]


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(function).parameters.values() if p.name != "self"]


def members(of: type) -> dict[str, Any]:
    return {name: value for name, value in vars(of).items() if not name.startswith("_")}


def test_every_public_name_is_in_the_document_and_no_other() -> None:
    names = set(re.findall(r"`(\w+)", " ".join(first_cells("Public names"))))
    tree = set(re.findall(r"\w+", " ".join(first_cells("Errors"))))
    tree |= set(re.findall(r"`(\w+Error)` is one", section("Errors")))
    assert sorted(todo_schema.__all__) == sorted(names | tree)
    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    assert tree == {each.__name__ for each in classes if issubclass(each, TodoError)}


@pytest.mark.parametrize("module", [aio, fastapi], ids=lambda module: module.__name__)
def test_every_name_of_a_module_is_in_the_document(module: ModuleType) -> None:
    sentence = re.search(rf"`{module.__name__}` has\s([^.]+)\.", section("Public names"))
    assert sentence
    assert sorted(re.findall(r"`(\w+)`", sentence[1])) == module.__all__


def test_every_operation_is_in_the_document_with_its_parameters() -> None:
    cells = " ".join(first_cells("What a user's session does"))
    group, shown = "", {}
    for before, name, arguments in re.findall(r"`(\w*)(\.?\w*)(?:\((.*?)\))?`", cells):
        group = before or group  # `.get(id)` is of the namespace that was named last
        shown[group + name] = arguments
    assert set(shown) - {"orm", "user"} == set(OPERATIONS) - {"users.get"}
    for name in set(shown) - {"orm", "user"}:
        positional, _, named = shown[name].partition("*, ")
        wanted = parameters(OPERATIONS[name])
        options = [p for p in wanted if p.kind is p.KEYWORD_ONLY]
        assert len(wanted) - len(options) == len([*filter(None, positional.split(", "))]), name
        defaults = ", ".join(f"{p.name}={p.default!r}" for p in options)
        assert defaults.replace("'", '"') == named, name


def test_the_engines_options_are_in_the_document() -> None:
    call = re.search(r"`create_engine\(url=None, \*, ([^)]+)\)`", section("The engine"))
    assert call
    assert re.findall(r"(\w+)=", call[1]) == list(get_type_hints(EngineOptions))


def shape(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in parameters(function)]


def test_asynchronous_code_has_the_same_with_the_same_parameters() -> None:
    for name in set(aio.__all__) - {"UserSession"}:
        assert shape(getattr(aio, name)) == shape(getattr(todo_schema, name)), name
    assert shape(fastapi.async_session_dependency) == shape(fastapi.session_dependency)
    ours, theirs = map(members, SESSIONS)
    assert set(ours) == set(theirs)
    for name, method in ours.items():
        if inspect.isfunction(method):
            assert shape(theirs[name]) == shape(method), name
            assert inspect.iscoroutinefunction(theirs[name]), name
        else:
            assert isinstance(theirs[name], property), name


#: Everything public that may have parameters, by name.
DOCUMENTED = [*OPERATIONS.items()] + [
    (f"{of.__name__}.{name}", getattr(of, name))
    for of in (*MODULES, *SESSIONS, testing.TodoDatabase)
    for name in (of.__all__ if of in MODULES else members(of))
    if inspect.isfunction(getattr(of, name)) or inspect.isclass(getattr(of, name))
]


def part(text: str | None, title: str) -> set[str]:
    """Return the names that a section of a docstring lists."""
    pattern = rf"^{title}\n-+\n(.*?)(?=\n\n|\Z)"
    found = re.search(pattern, inspect.cleandoc(text or ""), re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^([\w., ]+?) :", found[1], re.MULTILINE) if found else []
    return {name.strip() for line in lines for name in line.split(",")}


def wanted(value: Any) -> set[str]:
    """Return the names of what a function takes, or a class that says itself how it is made."""
    if inspect.isclass(value):
        value = value.__dict__.get("__init__")
    ours = inspect.isfunction(value) and value.__module__.startswith("todo_schema")
    return {p.name for p in parameters(value)} if ours else set()


#: What an argument of this name may be refused with.
REFUSED = {
    **dict.fromkeys(("task_id", "conversation_id", "message_id", "ids"), "NotFoundError"),
    **dict.fromkeys(("limit", "page", "sort", "order", "total", "text"), "InvalidError"),
    "cursor": "CursorError",
    "require_user": "UnknownUserError",
    "url": "ConfigurationError",
    "exact": "SchemaVersionError",
}
RAISES = ["UserSession.user", "UserSession.commit", "unrestricted_session"]


def test_everything_public_is_documented_with_its_parameters_and_errors() -> None:
    tree = {name for name in todo_schema.__all__ if name.endswith("Error")}
    for name, value in DOCUMENTED:
        assert inspect.cleandoc(value.__doc__ or "").partition("\n\n")[0].endswith("."), name
        assert wanted(value) <= part(value.__doc__, "Parameters"), name
        told = part(value.__doc__, "Raises")
        assert told <= tree | {"pydantic.ValidationError"}, name
        if inspect.isfunction(value):
            assert {REFUSED[each] for each in wanted(value) & set(REFUSED)} <= told, name
    for module, name in product((todo_schema, aio), RAISES):
        assert part(attrgetter(name)(module).__doc__, "Raises"), name


@pytest.fixture
def database(
    server: LocalServer, migrated: Address, monkeypatch: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection[Any]]:
    """A database with Alice, whom the examples name; DATABASE_URL names it for the application."""
    server.allow_logins()
    monkeypatch.setenv("DATABASE_URL", migrated.with_(user="todo_app").url)
    with psycopg.connect(**migrated.parameters, autocommit=True) as connection:
        connection.execute("insert into \"user\" (id, name, email) values ('alice', 'A', 'a@b')")
        yield connection


def run_example(number: int, **names: Any) -> dict[str, Any]:
    """Run a Python example of the document, and return its names."""
    text = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)[number]
    code = compile(text, "models/README.md", "exec", dont_inherit=True)
    exec(code, names)  # noqa: S102 - the document is ours
    return names


def test_the_first_example_runs(database: psycopg.Connection[Any]) -> None:
    run_example(0)["engine"].dispose()
    stored = database.execute("select user_id, title, status, due_date, tags from tasks")
    assert stored.fetchall() == [("alice", "Buy milk", "completed", None, ["home"])]


def test_the_example_of_an_application_runs(database: psycopg.Connection[Any]) -> None:
    async def post(app: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/tasks", json={"title": "Buy milk"})

    names = run_example(1, current_user=lambda: "alice")
    todo_schema.check_schema(names["engine"])
    answer = asyncio.run(post(names["app"]))
    names["engine"].dispose()
    assert (answer.status_code, answer.json()["user_id"]) == (201, "alice")
    assert database.execute("select title from tasks").fetchall() == [("Buy milk",)]
