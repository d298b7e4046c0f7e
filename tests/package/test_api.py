"""The public interface is what models/README.md says: names, parameters, documents, examples."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Iterator
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


def section(title: str) -> str:
    """Return a section of the document, without those below it."""
    found = re.search(rf"^##+ {title}\n(.*?)(?=^##|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def first_cells(text: str) -> list[str]:
    """Return the first column of a table, its head left out."""
    return [cell for cell in re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE) if "`" in cell]


def operations() -> dict[str, Callable[..., Any]]:
    """Return every operation of the namespaces, as `tasks.get`."""
    return {
        f"{namespace.__name__.lower()}.{name}": value.build
        for namespace in Namespace.__subclasses__()
        for name, value in vars(namespace).items()
        if isinstance(value, operation)
    }


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(function).parameters.values() if p.name != "self"]


def test_every_public_name_is_in_the_document_and_no_other() -> None:
    names = {
        name
        for cell in first_cells(section("Public names"))
        for name in re.findall(r"`(\w+)", cell)
    }
    tree = {name for cell in first_cells(section("Errors")) for name in re.findall(r"\w+", cell)}
    tree |= set(re.findall(r"`(\w+Error)` is one", section("Errors")))
    assert tree == {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, TodoError)
    }
    assert set(todo_schema.__all__) == names | tree
    assert len(set(todo_schema.__all__)) == len(todo_schema.__all__)


@pytest.mark.parametrize("module", [aio, fastapi], ids=lambda module: module.__name__)
def test_every_name_of_a_module_is_in_the_document(module: ModuleType) -> None:
    sentence = re.search(rf"`{module.__name__}` has\s([^.]+)\.", section("Public names"))
    assert sentence
    assert sorted(re.findall(r"`(\w+)`", sentence[1])) == module.__all__


def test_every_public_name_is_there() -> None:
    for module in (todo_schema, aio, fastapi):
        for name in module.__all__:
            assert getattr(module, name) is not None


def listed() -> Iterator[tuple[str, str]]:
    """Yield each operation of the document's table and the arguments that it shows."""
    group = ""
    for cell in first_cells(section("What a user's session does")):
        for call in re.findall(r"`([^`]+)`", cell):
            name, _, arguments = call.partition("(")
            before, dot, name = name.partition(".")
            group = before or group
            yield (f"{group}.{name}" if dot else before), arguments.removesuffix(")")


def test_every_operation_is_in_the_document_with_its_parameters() -> None:
    shown = dict(listed())
    known = operations()
    assert set(shown) - {"orm", "user"} == set(known) - {"users.get"}
    for name, function in known.items():
        if name == "users.get":
            continue
        positional, _, named = shown[name].partition("*, ")
        wanted = parameters(function)
        assert len([p for p in wanted if p.kind is not p.KEYWORD_ONLY]) == len(
            [each for each in positional.split(", ") if each]
        ), name
        assert [
            f"{p.name}={p.default!r}".replace("'", '"') for p in wanted if p.kind is p.KEYWORD_ONLY
        ] == [each for each in named.split(", ") if each], name


def test_the_engines_options_are_in_the_document() -> None:
    call = re.search(r"`create_engine\(url=None, \*, ([^)]+)\)`", section("The engine"))
    assert call
    shown = [each.partition("=")[0] for each in re.split(r",\s+", call[1])]
    assert shown == list(get_type_hints(EngineOptions))


def shape(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in parameters(function)]


def members(of: type) -> dict[str, Any]:
    return {name: value for name, value in vars(of).items() if not name.startswith("_")}


def test_asynchronous_code_has_the_same_with_the_same_parameters() -> None:
    for name in aio.__all__:
        if name != "UserSession":
            assert shape(getattr(aio, name)) == shape(getattr(todo_schema, name)), name
    assert shape(fastapi.async_session_dependency) == shape(fastapi.session_dependency)
    ours, theirs = members(session.UserSession), members(aio.UserSession)
    assert set(ours) == set(theirs)
    for name, method in ours.items():
        if inspect.isfunction(method):
            assert shape(theirs[name]) == shape(method), name
            assert inspect.iscoroutinefunction(theirs[name]), name
        else:
            assert isinstance(theirs[name], property), name


def documented() -> dict[str, Any]:
    """Return everything public that may have parameters, by name."""
    found: dict[str, Any] = dict(operations())
    for module in (todo_schema, aio, fastapi):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                found[f"{module.__name__}.{name}"] = value
    for of in (session.UserSession, aio.UserSession, testing.TodoDatabase):
        for name, value in members(of).items():
            if inspect.isfunction(value):
                found[f"{of.__module__}.{of.__name__}.{name}"] = value
    return found


def part(text: str, title: str) -> set[str]:
    """Return the names that a section of a docstring lists."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^([\w., ]+?) :", found[1], re.MULTILINE) if found else []
    return {name.strip() for line in lines for name in line.split(",")}


def wanted(value: Any) -> set[str]:
    """Return the names of what a function takes, or a class that says itself how it is made."""
    if inspect.isclass(value):
        value = value.__dict__.get("__init__")
    ours = inspect.isfunction(value) and value.__module__.startswith("todo_schema")
    return {p.name for p in parameters(value)} if ours else set()


#: Parameters without a line in their docstring; none may be added.
def test_everything_public_is_documented_and_so_is_each_parameter() -> None:
    gaps = set()
    for name, value in documented().items():
        text = inspect.cleandoc(value.__doc__ or "")
        assert text.partition("\n\n")[0].endswith("."), name
        gaps |= {f"{name}: {each}" for each in wanted(value) - part(text, "Parameters")}
    assert not gaps


#: What an argument of this name may be refused with.
REFUSED = {
    **dict.fromkeys(("task_id", "conversation_id", "message_id", "ids"), "NotFoundError"),
    **dict.fromkeys(("limit", "page", "sort", "order", "total", "text"), "InvalidError"),
    "cursor": "CursorError",
    "require_user": "UnknownUserError",
    "url": "ConfigurationError",
    "exact": "SchemaVersionError",
}


def test_what_is_raised_is_documented() -> None:
    tree = {name for name in todo_schema.__all__ if name.endswith("Error")}
    for name, value in documented().items():
        told = part(inspect.cleandoc(value.__doc__ or ""), "Raises")
        assert told <= tree | {"pydantic.ValidationError"}, name
        if inspect.isfunction(value):
            assert {REFUSED[each] for each in wanted(value) & set(REFUSED)} <= told, name
    for module in (todo_schema, aio):
        for name in ("UserSession.user", "UserSession.commit", "unrestricted_session"):
            value = attrgetter(name)(module)
            assert part(inspect.cleandoc(value.__doc__), "Raises"), name


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
    exec(compile(text, "models/README.md", "exec", dont_inherit=True), names)  # noqa: S102
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
