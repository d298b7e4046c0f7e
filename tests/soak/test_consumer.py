"""The wheel in a clean environment: what it holds, that it imports, and how it is typed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest
from todo_schema import corpus

from scripts.address import Address
from scripts.server import LocalServer
from scripts.settings import ROOT

pytestmark = pytest.mark.soak

TOOLS = Path(sys.executable).parent
PYRIGHT = ROOT / "tests" / "node" / "node_modules" / ".bin" / "pyright"

GOOD = """
from __future__ import annotations

import asyncio
from typing import assert_type

from sqlmodel import Session, col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from todo_schema import (
    ConversationRead,
    InvalidError,
    MessageCreate,
    MessageRead,
    NotFoundError,
    Page,
    Slice,
    Task,
    TaskCounts,
    TaskCreate,
    TaskFilter,
    TaskRead,
    TaskUpdate,
    TodoError,
    UserRead,
    UserSession,
    aio,
    check_schema,
    create_engine,
    unrestricted_session,
    user_session,
)


def sync() -> None:
    engine = create_engine("postgresql://localhost/todo", pool_size=2)
    assert_type(check_schema(engine), str)
    with user_session(engine, "alice", require_user=True) as session:
        assert_type(session, UserSession)
        assert_type(session.user(), UserRead)
        assert_type(session.orm, Session)
        assert_type(session.tasks.create(TaskCreate(title="x", tags=["a"])), TaskRead)
        assert_type(session.tasks.get(1), TaskRead)
        assert_type(session.tasks.get(task_id=1), TaskRead)
        assert_type(session.tasks.list(), Slice[TaskRead])
        assert_type(session.tasks.list(TaskFilter(completed=False)).items, list[TaskRead])
        assert_type(session.tasks.list(sort="title", order="desc").next_cursor, str | None)
        assert_type(session.tasks.page(page=2, total="exact"), Page[TaskRead])
        assert_type(session.tasks.page().total, int | None)
        assert_type(session.tasks.search("milk"), Slice[TaskRead])
        assert_type(session.tasks.counts(), TaskCounts)
        assert_type(session.tasks.counts().open, int)
        assert_type(session.tasks.update(1, TaskUpdate(due_date=None)), TaskRead)
        assert_type(session.tasks.update_many([1], TaskUpdate(title="x")), list[TaskRead])
        assert_type(session.tasks.delete_many([1]), int)
        session.tasks.delete(1)
        assert_type(session.conversations.get(1), ConversationRead)
        assert_type(session.conversations.list(), Slice[ConversationRead])
        message = MessageCreate(role="user", content="x")
        assert_type(session.messages.create(1, message), MessageRead)
        assert_type(session.messages.list(1, order="desc"), Slice[MessageRead])
        assert_type(session.orm.exec(select(Task).where(col(Task.title) == "x")).one(), Task)
    with unrestricted_session(engine) as plain:
        assert_type(plain, Session)


async def asynchronous() -> None:
    engine = aio.create_engine(pool_timeout=1.0)
    assert_type(await aio.check_schema(engine, exact=True), str)
    async with aio.user_session(engine, "alice") as session:
        assert_type(session, aio.UserSession)
        assert_type(await session.user(), UserRead)
        assert_type(session.orm, AsyncSession)
        assert_type(await session.tasks.get(1), TaskRead)
        assert_type(asyncio.create_task(session.tasks.get(1)), asyncio.Task[TaskRead])
        assert_type(await session.tasks.list(sort="priority"), Slice[TaskRead])
        assert_type(await session.tasks.update_many([1], TaskUpdate(title="x")), list[TaskRead])
        assert_type(await session.messages.list(1), Slice[MessageRead])
        await session.tasks.delete(1)
        await session.commit()
    async with aio.unrestricted_session(engine) as plain:
        assert_type(plain, AsyncSession)


try:
    asyncio.run(asynchronous())
except NotFoundError as error:
    assert_type(error.ids, list[int])
except InvalidError as error:
    assert_type(error.field, str | None)
    assert_type(error.rule, str)
except TodoError as error:
    assert_type(error.message, str)
"""

BAD = """
from todo_schema import TaskCreate, TaskFilter, TaskRead, aio, create_engine, user_session

other = create_engine("postgresql://localhost/todo", pool_sise=2)  # error
engine = create_engine("postgresql://localhost/todo")
with user_session(engine):  # error
    pass
with user_session(engine, "alice") as session:
    session.tasks.get("1")  # error
    session.tasks.get()  # error
    session.tasks.list(sort="name")  # error
    session.tasks.list(TaskFilter(), "title")  # error
    session.tasks.list(order="up")  # error
    session.tasks.create({"title": "x"})  # error
    session.tasks.page(total="all")  # error
    session.tasks.update(1, TaskCreate(title="x"))  # error
    session.tasks.missing(1)  # error
    found: str = session.tasks.get(1)  # error
    session.tasks.get(1).titel  # error
    TaskCreate(title="x", status="done")  # error
    TaskCreate()  # error


async def asynchronous() -> None:
    async with aio.user_session(engine, "alice"):  # error
        pass
    async with aio.user_session(aio.create_engine(), "alice") as session:
        task: TaskRead = session.tasks.get(1)  # error
        session.tasks.get(1).title  # error
        (await session.tasks.get(1)).titel  # error
        await session.tasks.get("1")  # error
        session.tasks.delete(1)  # error
        session.commit()  # error
"""

SERVICE = """
from typing import Annotated

from fastapi import FastAPI
from todo_schema import Slice, TaskRead, UserSession, aio, create_engine
from todo_schema.fastapi import (
    add_error_handlers,
    async_session_dependency,
    session_dependency,
)

app = FastAPI()
add_error_handlers(app)


def current_user() -> str:
    return "alice"


Tasks = Annotated[UserSession, session_dependency(create_engine(), current_user)]
AsyncTasks = Annotated[
    aio.UserSession, async_session_dependency(aio.create_engine(), current_user)
]


@app.get("/tasks")
def tasks(session: Tasks) -> Slice[TaskRead]:
    return session.tasks.list()


@app.get("/tasks/{task_id}")
async def task(session: AsyncTasks, task_id: int) -> TaskRead:
    return await session.tasks.get(task_id)
"""

BAD_SERVICE = """
from todo_schema import aio, create_engine
from todo_schema.fastapi import add_error_handlers, async_session_dependency, session_dependency

add_error_handlers("app")  # error
session_dependency(aio.create_engine(), lambda: "alice")  # error
session_dependency(create_engine(), "alice")  # error
async_session_dependency(create_engine(), lambda: "alice")  # error
"""


def output(*command: str | Path, cwd: Path, status: int = 0, database: str = "") -> str:
    """Run a program apart from this checkout's environment, and return what it prints."""
    hidden = ("PYTHON", "VIRTUAL_ENV", "MYPY")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**inherited, "DATABASE_URL": database},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == status, f"{command}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [TOOLS / "uv", "build", "--wheel", "--no-build-isolation", "--python", sys.executable]
    output(*build, "--out-dir", folder, ROOT, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


def install(requirement: str, folder: Path) -> Path:
    """Make an environment with the locked versions of what is required; return its Python."""
    python = folder / "venv" / "bin" / "python"
    output(TOOLS / "uv", "venv", "--python", sys.executable, folder / "venv", cwd=folder)
    # Constraints, not requirements: what the lock has for development alone stays away.
    to = ["--python", python, "--constraint", ROOT / "requirements.lock"]
    output(TOOLS / "uv", "pip", "install", *to, requirement, cwd=folder)
    return python


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the package and what it needs at run time, and nothing else."""
    return install(str(wheel), tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def with_fastapi(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(f"todo-schema[fastapi] @ {wheel.as_uri()}", tmp_path_factory.mktemp("extra"))


def mypy(python: Path, file: Path, status: int) -> set[int]:
    """Check a file as an application does, and return the lines with errors."""
    options = ["--strict", "--config-file=", f"--cache-dir={file.parent / 'cache'}"]
    told = output(
        TOOLS / "mypy",
        *options,
        "--python-executable",
        python,
        file,
        cwd=file.parent,
        status=status,
    )
    found = re.findall(r"^(.+?):(\d+): error", told, re.MULTILINE)
    assert {name for name, _ in found} <= {file.name}, told
    print(told)
    return {int(line) for _, line in found}


def pyright(python: Path, file: Path, status: int) -> set[int]:
    """Check a file, the good ones strictly, and return the lines with errors."""
    if not PYRIGHT.exists():
        pytest.skip("pyright is not installed: make node")
    settings = {"include": [file.name], "typeCheckingMode": "standard" if status else "strict"}
    (file.parent / "pyrightconfig.json").write_text(json.dumps(settings))
    told = output(PYRIGHT, "--outputjson", "--pythonpath", python, cwd=file.parent, status=status)
    document = json.loads(told)
    assert document["summary"]["filesAnalyzed"] == 1
    for each in document["generalDiagnostics"]:
        print(each["range"]["start"]["line"] + 1, each["message"])
    return {each["range"]["start"]["line"] + 1 for each in document["generalDiagnostics"]}


CHECKERS = pytest.mark.parametrize("check", [mypy, pyright], ids=["mypy", "pyright"])
Check = Callable[[Path, Path, int], set[int]]


def verdict(check: Check, python: Path, program: str, folder: Path) -> None:
    """A program's errors are where its comments say, and nowhere else."""
    file = folder / "program.py"
    file.write_text(program)
    lines = {n for n, line in enumerate(program.splitlines(), 1) if line.endswith("# error")}
    assert check(python, file, 1 if lines else 0) == lines


def examples() -> list[str]:
    document = (ROOT / "models" / "README.md").read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```", document, re.MULTILINE | re.DOTALL)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        for name in ("schema.sql", "roles.sql"):
            assert archive.read(f"todo_schema/{name}") == (ROOT / "sql" / name).read_bytes()
    assert "todo_schema/py.typed" in names
    assert {re.split(r"/|-", name)[0] for name in names} == {"todo_schema"}
    ours = {str(path.relative_to(ROOT / "models")) for path in (ROOT / "models").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == ours


def test_it_works_with_its_run_time_dependencies_alone(
    wheel: Path, bare: Path, tmp_path: Path, server: LocalServer, migrated: Address
) -> None:
    look = "import importlib.util as u; print([u.find_spec(n) for n in ('fastapi', 'pytest')])"
    assert output(bare, "-c", look, cwd=tmp_path) == "[None, None]\n"
    output(bare, "-W", "error", "-c", "import todo_schema, todo_schema.aio", cwd=tmp_path)
    document = json.loads(output(bare, "-m", "todo_schema.corpus", "list", "--json", cwd=tmp_path))
    assert document["package"] == wheel.name.split("-")[1]
    assert [each["name"] for each in document["statements"]] == [
        each.name for each in corpus.statements()
    ]
    server.allow_logins()
    url = migrated.with_(user="todo_app").url
    told = output(bare, "-m", "todo_schema.corpus", "run", cwd=tmp_path, database=url)
    assert re.fullmatch(r"(\d+) of \1 statements ran\n", told)
    told = output(bare, "-m", "todo_schema.corpus", "run", cwd=tmp_path, status=1)
    assert told.startswith("error: DATABASE_URL is not set")


@pytest.mark.parametrize("extra", ["fastapi", "testing"])
def test_a_missing_extra_is_told(bare: Path, tmp_path: Path, extra: str) -> None:
    told = output(bare, "-c", f"import todo_schema.{extra}", cwd=tmp_path, status=1)
    assert f"todo-schema[{extra}]" in told.splitlines()[-1]


@CHECKERS
@pytest.mark.parametrize("program", [GOOD, BAD, examples()[0]], ids=["good", "bad", "readme"])
def test_types_of_sessions(bare: Path, tmp_path: Path, check: Check, program: str) -> None:
    verdict(check, bare, program, tmp_path)


@CHECKERS
@pytest.mark.parametrize("program", [SERVICE, BAD_SERVICE], ids=["good", "bad"])
def test_types_of_services(with_fastapi: Path, tmp_path: Path, check: Check, program: str) -> None:
    verdict(check, with_fastapi, program, tmp_path)
