"""The wheel in a clean environment: what it holds, that it imports, and how it is typed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from todo_schema import corpus

from scripts.address import Address
from scripts.server import LocalServer
from scripts.settings import ROOT

pytestmark = pytest.mark.soak

TOOLS = Path(sys.executable).parent
PYRIGHT = ROOT / "tests" / "node" / "node_modules" / ".bin" / "pyright"

#: The types of results, the same from both kinds of sessions.
RESULTS = {
    "user()": "todo.UserRead",
    "tasks.create(todo.TaskCreate(title='x', tags=['a']))": "todo.TaskRead",
    "tasks.get(1)": "todo.TaskRead",
    "tasks.get(task_id=1)": "todo.TaskRead",
    "tasks.list()": "todo.Slice[todo.TaskRead]",
    "tasks.list(todo.TaskFilter(completed=False))": "todo.Slice[todo.TaskRead]",
    "tasks.list(sort='title', order='desc')": "todo.Slice[todo.TaskRead]",
    "tasks.page(page=2, total='exact')": "todo.Page[todo.TaskRead]",
    "tasks.search('milk')": "todo.Slice[todo.TaskRead]",
    "tasks.counts()": "todo.TaskCounts",
    "tasks.update(1, todo.TaskUpdate(due_date=None))": "todo.TaskRead",
    "tasks.update_many([1], todo.TaskUpdate(title='x'))": "list[todo.TaskRead]",
    "tasks.delete_many([1])": "int",
    "conversations.get(1)": "todo.ConversationRead",
    "conversations.list()": "todo.Slice[todo.ConversationRead]",
    "messages.create(1, todo.MessageCreate(role='user', content='x'))": "todo.MessageRead",
    "messages.list(1, order='desc')": "todo.Slice[todo.MessageRead]",
}


def asserted(call: str) -> str:
    """Return the assertions of `RESULTS`, where `call` is how a session is called."""
    lines = [f"assert_type({call}.{each}, {result})" for each, result in RESULTS.items()]
    return "\n        ".join(lines)


GOOD = f"""
from __future__ import annotations

import asyncio
from typing import assert_type

import todo_schema as todo
from sqlmodel import Session, col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from todo_schema import aio


def sync() -> None:
    engine = todo.create_engine("postgresql://localhost/todo", pool_size=2)
    assert_type(todo.check_schema(engine), str)
    with todo.user_session(engine, "alice", require_user=True) as session:
        assert_type(session, todo.UserSession)
        assert_type(session.orm, Session)
        {asserted("session")}
        session.tasks.delete(1)
        assert_type(session.tasks.list().items, list[todo.TaskRead])
        assert_type(session.tasks.list().next_cursor, str | None)
        assert_type(session.tasks.page().total, int | None)
        assert_type(session.tasks.counts().open, int)
        wanted = select(todo.Task).where(col(todo.Task.title) == "x")
        assert_type(session.orm.exec(wanted).one(), todo.Task)
    with todo.unrestricted_session(engine) as plain:
        assert_type(plain, Session)


async def asynchronous() -> None:
    engine = aio.create_engine(pool_timeout=1.0)
    assert_type(await aio.check_schema(engine, exact=True), str)
    async with aio.user_session(engine, "alice") as session:
        assert_type(session, aio.UserSession)
        assert_type(session.orm, AsyncSession)
        {asserted("await session")}
        assert_type(asyncio.create_task(session.tasks.get(1)), asyncio.Task[todo.TaskRead])
        await session.tasks.delete(1)
        await session.commit()
    async with aio.unrestricted_session(engine) as plain:
        assert_type(plain, AsyncSession)


try:
    asyncio.run(asynchronous())
except todo.NotFoundError as error:
    assert_type(error.ids, list[int])
except todo.InvalidError as error:
    assert_type(error.field, str | None)
    assert_type(error.rule, str)
except todo.TodoError as error:
    assert_type(error.message, str)
"""

BAD = """
from todo_schema import TaskCreate, TaskFilter, TaskRead, aio, create_engine, user_session
from todo_schema.fastapi import add_error_handlers, async_session_dependency, session_dependency

add_error_handlers("app")  # error
session_dependency(aio.create_engine(), lambda: "alice")  # error
session_dependency(create_engine(), "alice")  # error
async_session_dependency(create_engine(), lambda: "alice")  # error

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
from todo_schema.fastapi import add_error_handlers, async_session_dependency, session_dependency

app = FastAPI()
add_error_handlers(app)


def current_user() -> str:
    return "alice"


Tasks = Annotated[UserSession, session_dependency(create_engine(), current_user)]
AsyncTasks = Annotated[aio.UserSession, async_session_dependency(aio.create_engine(), current_user)]


@app.get("/tasks")
def tasks(session: Tasks) -> Slice[TaskRead]:
    return session.tasks.list()


@app.get("/tasks/{task_id}")
async def task(session: AsyncTasks, task_id: int) -> TaskRead:
    return await session.tasks.get(task_id)
"""


def output(*command: str | Path, cwd: Path, status: int = 0, database: str = "") -> str:
    """Run a program apart from this checkout's environment, and return what it prints."""
    hidden = ("PYTHON", "VIRTUAL_ENV", "MYPY")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    environment = {**inherited, "DATABASE_URL": database}
    done = subprocess.run(command, cwd=cwd, env=environment, timeout=600, check=False, **pipes)
    assert done.returncode == status, f"{command}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [TOOLS / "uv", "build", "--wheel", "--no-build-isolation", "--python", sys.executable]
    output(*build, "--out-dir", folder, ROOT, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make an environment with the package and an extra, of locked versions; return its Python."""

    @cache
    def install(extra: str) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        python = folder / "venv" / "bin" / "python"
        output(TOOLS / "uv", "venv", "--python", sys.executable, folder / "venv", cwd=folder)
        # Constraints, not requirements: what the lock has for development alone stays away.
        to = ["--python", python, "--constraint", ROOT / "requirements.lock"]
        requirement = f"todo-schema{extra} @ {wheel.as_uri()}"
        output(TOOLS / "uv", "pip", "install", *to, requirement, cwd=folder)
        return python

    return install


@pytest.fixture
def bare(install: Callable[[str], Path]) -> Path:
    """A Python with the package and what it needs at run time, and nothing else."""
    return install("")


def mypy(python: Path, file: Path, status: int) -> set[int]:
    """Check a file as an application does, and return the lines with errors."""
    options = ["--strict", "--config-file=", f"--cache-dir={file.parent / 'cache'}"]
    command = [TOOLS / "mypy", *options, "--python-executable", python, file]
    told = output(*command, cwd=file.parent, status=status)
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
    print(told)
    return {each["range"]["start"]["line"] + 1 for each in document["generalDiagnostics"]}


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
    names = [each["name"] for each in document["statements"]]
    assert names == [each.name for each in corpus.statements()]
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


DOCUMENT = (ROOT / "models" / "README.md").read_text("utf-8")
README = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)[0]
PROGRAMS = {"good": GOOD, "bad": BAD, "readme": README, "service": SERVICE}


@pytest.mark.parametrize("check", [mypy, pyright])
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_errors_are_where_the_comments_say_and_nowhere_else(
    install: Callable[[str], Path], tmp_path: Path, check: Any, program: str
) -> None:
    python = install("[fastapi]" if "todo_schema.fastapi" in program else "")
    file = tmp_path / "program.py"
    file.write_text(program)
    lines = {n for n, line in enumerate(program.splitlines(), 1) if line.endswith("# error")}
    assert check(python, file, 1 if lines else 0) == lines
